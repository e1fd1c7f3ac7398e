//! A real proxy process, the app behind it, and what they say; every wait is for an event and has an end.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        Arc, Condvar, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

use outrigger::cli::client::{Answer, Client, ClientError};
use serde_json::Value;
use tempfile::TempDir;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// The proxy as a process of its own; killed when dropped.
pub struct Proxy {
    child: Option<Child>,
    pid: u32,
    said: Receiver<Value>,
    logged: Receiver<Value>,
    ended: Receiver<ExitStatus>,
    /// Everything that it said so far, for failures.
    heard: Vec<Value>,
    /// Where the doors listen.
    pub inbound: Option<SocketAddr>,
    /// Where the app calls its providers.
    pub outbound: Option<SocketAddr>,
    /// The admin door.
    pub admin: Option<SocketAddr>,
    /// The probes.
    pub probes: Option<SocketAddr>,
    /// The status page.
    pub status_page: Option<SocketAddr>,
}

/// Whoever should read what the proxy writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// Reads all.
    Reads,
    /// Reads until it serves, and then no more, but keeps the pipe, which is full from then on.
    Stops,
    /// Reads until it serves, and then closes the pipe.
    Leaves,
}

impl Proxy {
    /// Starts `outrigger run` with these arguments and waits until it serves.
    pub fn start(arguments: &[&str], environment: &[(&str, String)]) -> Self {
        let mut command = outrigger();
        command.arg("run").args(arguments).envs(environment.iter().map(|(name, value)| (*name, value.as_str())));
        Self::start_command(command, Reader::Reads, Stdio::piped())
    }

    /// Starts a command that becomes a proxy, and waits until it serves; `said` reads its standard error.
    pub fn start_command(command: Command, said: Reader, stdout: Stdio) -> Self {
        let mut proxy = Self::spawn(command, said, stdout);
        let serving = proxy.wait_for("serving");
        let at = |door: &str| serving[door].as_str().and_then(|address| address.parse().ok());
        (proxy.inbound, proxy.outbound, proxy.admin, proxy.probes) = (at("inbound"), at("outbound"), at("admin"), at("probes"));
        proxy.status_page = at("status_page");
        proxy
    }

    fn spawn(mut command: Command, said: Reader, stdout: Stdio) -> Self {
        let (errors, own) = std::io::pipe().expect("a pipe");
        let stderr = own.try_clone().expect("cloned");
        let mut child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn().expect("starts");
        let pid = child.id();
        let said = lines(errors, said, Some(own).filter(|_| said == Reader::Stops));
        let logged = child.stdout.take().map_or_else(|| channel().1, |pipe| lines(pipe, Reader::Reads, None));
        let (_, ended) = channel();
        Self {
            child: Some(child),
            pid,
            said,
            logged,
            ended,
            heard: Vec::new(),
            inbound: None,
            outbound: None,
            admin: None,
            probes: None,
            status_page: None,
        }
    }

    /// Waits until it says a message with this in it.
    pub fn wait_for(&mut self, part: &str) -> Value {
        loop {
            match self.said.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.heard.push(line.clone());
                    if line["message"].as_str().is_some_and(|message| message.contains(part)) {
                        return line;
                    }
                }
                Err(_) => panic!("it never said `{part}`; it said {:#?}", self.heard),
            }
        }
    }

    /// How many of the messages so far have this in them.
    pub fn times_heard(&self, part: &str) -> usize {
        self.heard.iter().filter(|line| line["message"].as_str().is_some_and(|message| message.contains(part))).count()
    }

    /// The next line of the access log.
    pub fn logged(&self) -> Value {
        self.logged.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no line; it said {:#?}", self.heard))
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid.to_string()).status().expect("kill");
        assert!(sent.success());
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for its end, in a thread; see [`Self::exit`].
    pub fn watch(&mut self) {
        let (send, ended) = channel();
        let mut child = self.child.take().expect("not watched yet");
        thread::spawn(move || {
            let _ = send.send(child.wait().expect("its status"));
        });
        self.ended = ended;
    }

    /// Whether it has not ended.
    pub fn runs(&self) -> bool {
        self.ended.try_recv().is_err()
    }

    /// Its exit code.
    pub fn exit(&mut self) -> i32 {
        if self.child.is_some() {
            self.watch();
        }
        let status = self.ended.recv_timeout(PATIENCE).expect("it ends");
        self.pid = 0;
        status.code().unwrap_or_else(|| panic!("{status}; it said {:#?}", self.heard))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        } else if self.pid != 0 {
            // Ended by the thread that watches it; a test has failed before.
            let _ = Command::new("kill").arg("-KILL").arg(self.pid.to_string()).stderr(Stdio::null()).status();
        }
    }
}

/// The binary, without the environment of whoever runs the tests.
pub fn outrigger() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
    command.env_clear().env("RUST_BACKTRACE", "1");
    command
}

/// Runs the binary to its end.
pub fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = outrigger().args(arguments).stdin(Stdio::null()).output().expect("runs");
    (status.code(), String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr).into_owned())
}

/// A directory with a proxy.yaml.
pub struct Home(TempDir);

impl Home {
    /// With this file.
    pub fn new(yaml: &str) -> Self {
        let home = Self(tempfile::tempdir().expect("a directory"));
        home.write(yaml);
        home
    }

    /// Puts another file in its place, as a whole.
    pub fn write(&self, yaml: &str) {
        let fresh = self.path("fresh.yaml");
        fs::write(&fresh, yaml.replace("SOCKET", &self.text("admin.sock"))).expect("written");
        fs::rename(fresh, self.path("proxy.yaml")).expect("renamed");
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A path in it, as text.
    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Starts a proxy with its file, and waits until it serves.
    pub fn start(&self) -> Proxy {
        Proxy::start(&["--config", &self.text("proxy.yaml")], &[])
    }
}

/// A small app: `/hold` answers when it is let go, everything else at once.
pub struct App {
    /// Where it listens.
    pub address: SocketAddr,
    gate: Arc<(Mutex<bool>, Condvar)>,
    asked: Receiver<String>,
}

impl App {
    /// Listens on any port.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let gate: Arc<(Mutex<bool>, Condvar)> = Arc::default();
        let (tell, asked) = channel();
        let shared = gate.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (gate, tell) = (shared.clone(), tell.clone());
                thread::spawn(move || serve(&stream, &gate, &tell));
            }
        });
        Self { address, gate, asked }
    }

    /// Waits until a request with this in its first line has arrived.
    pub fn wait_for(&self, part: &str) {
        while !self.asked.recv_timeout(PATIENCE).expect("it is asked").contains(part) {}
    }

    /// Lets what is held go.
    pub fn let_go(&self) {
        *self.gate.0.lock().expect("unpoisoned") = true;
        self.gate.1.notify_all();
    }
}

fn serve(stream: &TcpStream, gate: &(Mutex<bool>, Condvar), tell: &Sender<String>) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    while let Some(first) = lines.next() {
        for line in lines.by_ref() {
            if line.is_empty() {
                break;
            }
        }
        let held = first.contains("/hold");
        let _ = tell.send(first);
        if held {
            drop(gate.1.wait_while(gate.0.lock().expect("unpoisoned"), |open| !*open));
        }
        let mut stream = stream;
        if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-App: 1\r\n\r\nhello").is_err() {
            return;
        }
    }
}

/// GET, over a connection of its own.
pub fn get(address: Option<SocketAddr>, path: &str) -> Answer {
    try_get(address, path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// GET, which may fail.
pub fn try_get(address: Option<SocketAddr>, path: &str) -> Result<Answer, ClientError> {
    block_on(Client::tcp(address.expect("the door is open")).get(path))
}

/// Runs a future on a runtime of its own.
pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

/// Whether a tool is there. Where `CI` is set it has to be.
pub fn has(tool: &str) -> bool {
    let found = std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(tool).exists()));
    assert!(found || std::env::var_os("CI").is_none(), "{tool} is missing");
    if !found {
        eprintln!("SKIPPED: {tool} is not installed");
    }
    found
}

/// The permissions of a file.
pub fn mode(file: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(file).expect("a file").permissions().mode() & 0o777
}

/// Lines of JSON as they come; what is none is a message. `own`: the other end of the pipe.
fn lines(pipe: impl Read + Send + 'static, reader: Reader, own: Option<std::io::PipeWriter>) -> Receiver<Value> {
    let (send, receive) = channel();
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = String::new();
        while pipe.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
            let text = line.trim_end();
            let value: Value = serde_json::from_str(text).unwrap_or_else(|_| serde_json::json!({ "message": text }));
            let serves = value["message"] == "serving";
            if send.send(value).is_err() {
                return;
            }
            match reader {
                Reader::Leaves if serves => return,
                // It waits here for as long as the test runs: nobody reads.
                Reader::Stops if serves => while own.as_ref().is_some_and(|mut own| own.write_all(&[b' '; 4096]).is_ok()) {},
                _ => line.clear(),
            }
        }
    });
    receive
}

/// Tries until something is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    #[expect(clippy::disallowed_methods, reason = "a real process takes real time")]
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        thread::yield_now();
    }
}

/// The number of a series at the admin door; `None` if it has none.
pub fn metric(admin: Option<SocketAddr>, series: &str) -> Option<f64> {
    let text = get(admin, "/metrics").text();
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}
