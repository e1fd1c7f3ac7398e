//! The model of `oracle` through this proxy, nginx and Varnish: the same random sequences, in front of the same app, and what each got
//! wrong by kind. `tests/cache/peers.sh` runs it; it is no part of the fast tests.
//!
//! Time is real: lives of seconds, waits of seconds, and answers that are born old. All sequences run at once, each under a host of
//! its own.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use parking_lot::Mutex;
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, TestRunner},
};

use crate::oracle::{self, Answer, App, Asked, Control, Habits, Life, Reply, Step, Way};

/// How exactly time is known, in seconds.
const SLACK: u64 = 2;

/// The apps that the origin plays just now, by host.
type Lent = Arc<Mutex<HashMap<String, App>>>;

/// Head and body of a message, as they came.
struct Message {
    first: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

fn read(stream: &TcpStream, to_head: bool, is_answer: bool) -> Option<Message> {
    let mut reader = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
        Some(line.trim_end().to_owned())
    };
    let first = line()?;
    let mut headers = HeaderMap::new();
    loop {
        let line = line()?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.append(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value.trim()).ok()?);
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let mut body = Vec::new();
    if to_head || first.contains(" 304") {
    } else if text("transfer-encoding").is_some() {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size).ok()?;
            let size = usize::from_str_radix(size.trim(), 16).ok()?;
            let mut piece = vec![0; size + 2];
            reader.read_exact(&mut piece).ok()?;
            if size == 0 {
                break;
            }
            body.extend_from_slice(&piece[..size]);
        }
    } else if let Some(length) = text("content-length") {
        body = vec![0; length.parse().ok()?];
        reader.read_exact(&mut body).ok()?;
    } else if is_answer {
        reader.read_to_end(&mut body).ok()?;
    }
    Some(Message { first, headers, body })
}

/// The origin of all proxies.
fn origin(lent: Lent) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let lent = lent.clone();
            thread::spawn(move || played(&stream, &lent));
        }
    });
    port
}

fn played(mut stream: &TcpStream, lent: &Lent) -> Option<()> {
    let asked = read(stream, false, false)?;
    let mut words = asked.first.split(' ');
    let (method, path) = (Method::from_bytes(words.next()?.as_bytes()).ok()?, words.next()?.to_owned());
    let reply = {
        let mut lent = lent.lock();
        let app = lent.get_mut(asked.headers.get("host")?.to_str().ok()?)?;
        app.now = now();
        app.answer(&method, &path, &asked.headers)?
    };
    let Reply { status, fields, body } = reply;
    let mut head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n");
    for (name, value) in &fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if status != 304 && !fields.iter().any(|(name, _)| *name == "content-length") && method != Method::HEAD {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    stream.write_all(&[head.as_bytes(), b"\r\n", &body].concat()).ok()
}

fn now() -> u64 {
    outrigger::clock::Clock::system().unix_millis() / 1_000
}

/// A client of one proxy, with a host of its own.
struct Through {
    port: u16,
    host: String,
    lent: Lent,
    /// Answers that came, and those for which the app was not asked.
    answers: u64,
    hits: u64,
    /// What was not answered at all.
    broken: u64,
}

impl Through {
    fn send(&mut self, method: &Method, path: &str, fields: &HeaderMap) -> Option<Message> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.host);
        for (name, value) in fields {
            head.push_str(&format!("{name}: {}\r\n", value.to_str().ok()?));
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
        read(&stream, *method == Method::HEAD, true)
    }
}

impl Way for Through {
    fn ask(&mut self, app: &mut App, asked: &Asked) -> Answer {
        app.now = now();
        let (before, spare) = (app.events(), App::new(app.habits.clone(), now()));
        self.lent.lock().insert(self.host.clone(), std::mem::replace(app, spare));
        let got = self.send(&asked.ask.method(), &asked.ask.path(), &asked.headers);
        *app = self.lent.lock().remove(&self.host).expect("it was lent");
        app.now = now();
        self.answers += 1;
        self.hits += u64::from(app.events() == before);
        let Some(Message { first, headers, body }) = got else {
            self.broken += 1;
            return Answer { status: 599, headers: HeaderMap::new(), body: Vec::new() };
        };
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(599);
        Answer { status, headers, body }
    }

    fn overlap(&mut self, app: &mut App, asks: &[Asked], _: &mut dyn FnMut(&mut App, &mut Self)) -> Vec<(u64, Answer)> {
        asks.iter().map(|asked| (app.events(), self.ask(app, asked))).collect()
    }

    fn settle(&mut self, _: &mut App) {}

    fn pass(&mut self, _: &mut App, seconds: u64) {
        thread::sleep(Duration::from_secs(seconds)); // real time: nginx and Varnish have no clock of ours
    }

    fn post(&mut self, _: &mut App, _: u8) {}

    fn purge(&mut self, _: bool) {}
}

/// A proxy that runs until this is dropped.
struct Proxy {
    name: &'static str,
    port: u16,
    child: Child,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // SIGTERM: nginx and Varnish have children of their own.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

impl Proxy {
    fn start(name: &'static str, dir: &Path, origin: u16) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let dir = dir.join(name);
        fs::create_dir_all(&dir).expect("a directory");
        let at = dir.display();
        let write = |file: &str, text: String| fs::write(dir.join(file), text).expect("a file");
        let mut command = match name {
            "nginx" => {
                write("conf", nginx(&at.to_string(), port, origin));
                let mut command = Command::new("/usr/sbin/nginx");
                command.args(["-p", &format!("{at}/"), "-c", &format!("{at}/conf"), "-e", &format!("{at}/error.log")]);
                command
            }
            "varnish" => {
                write("vcl", format!("vcl 4.1;\nbackend app {{ .host = \"127.0.0.1\"; .port = \"{origin}\"; }}\n"));
                let mut command = Command::new("/usr/sbin/varnishd");
                command.args(["-F", "-a", &format!("127.0.0.1:{port}"), "-f", &format!("{at}/vcl"), "-n", &format!("{at}/n")]);
                command.args(["-s", "malloc,64m", "-j", "none"]);
                // As RFC 9111 has it: no ttl that nobody gave, nothing stale; codings are the app's.
                for parameter in ["default_ttl=0", "default_grace=0", "http_gzip_support=off"] {
                    command.args(["-p", parameter]);
                }
                command
            }
            _ => {
                let inbound = format!(
                    "{{listen: 127.0.0.1:{port}, app: \"http://127.0.0.1:{origin}\", routes: [{{match: {{path: /**}}, cache: {{}}}}]}}"
                );
                let admin = format!("{{listen: \"off\", probes: \"127.0.0.1:0\", socket: {at}/admin.sock}}");
                write("proxy.yaml", format!("inbound: {inbound}\nadmin: {admin}\nstore: {{memory: 64MiB}}\n"));
                let mut command = Command::new(std::env::var("OUTRIGGER").unwrap_or_else(|_| env!("CARGO_BIN_EXE_outrigger").into()));
                command.args(["run", "--config", &format!("{at}/proxy.yaml")]);
                command
            }
        };
        let log = || fs::File::create(dir.join("out.log")).expect("a file");
        let child = command.stdin(Stdio::null()).stdout(log()).stderr(log()).spawn();
        let child = child.unwrap_or_else(|error| panic!("{name}: {error}; apt-get install nginx-light varnish"));
        let proxy = Self { name, port, child };
        let began = outrigger::clock::Clock::system().now();
        let mut up = false;
        while !up && began.elapsed() < Duration::from_secs(10) {
            up = TcpStream::connect(("127.0.0.1", port)).is_ok();
            thread::yield_now();
        }
        assert!(up, "{name} has not started: {}", fs::read_to_string(dir.join("out.log")).unwrap_or_default());
        proxy
    }
}

fn nginx(at: &str, port: u16, origin: u16) -> String {
    format!(
        "user root; daemon off; pid {at}/pid; worker_processes 1; error_log {at}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; default_type \"\"; client_body_temp_path {at}/b; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f;
  uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;
  proxy_cache_path {at}/cache keys_zone=z:8m levels=1:2;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{origin}; proxy_http_version 1.1; proxy_set_header Host $host; proxy_set_header Connection \"\";
      proxy_cache z; proxy_cache_key $host$request_uri; proxy_cache_revalidate on;
    }}
  }}
}}
"
    )
}

/// One sequence: what the app does, and what happens.
fn sequence(runner: &mut TestRunner) -> (Habits, Vec<Step>) {
    let (mut habits, steps) = (oracle::habits(), oracle::steps(40)).new_tree(runner).expect("a sequence").current();
    // What no cache does unasked, or each by settings of its own.
    (habits.stale_while_revalidate, habits.stale_if_error) = (None, None);
    habits.life = match habits.life {
        Life::MaxAge(seconds) => Life::MaxAge(seconds % 8),
        Life::Expires(after) => Life::Expires(after % 8),
        Life::Forced(_) | Life::Unsaid => Life::Unsaid,
    };
    let plain = |ask: oracle::Ask| oracle::Ask { control: Control::None, ..ask };
    let steps = steps.into_iter().filter_map(|step| {
        Some(match step {
            Step::Ask(ask) => Step::Ask(plain(ask)),
            Step::Overlap(leader, others, _) => {
                Step::Overlap(plain(leader), others.into_iter().map(plain).collect(), oracle::Meanwhile::Nothing)
            }
            Step::Pass(seconds) => Step::Pass(seconds % 5),
            Step::Aged(seconds) => Step::Aged(seconds % 10),
            Step::Change(_) | Step::Fail(_) => step,
            _ => return None,
        })
    });
    (habits, steps.collect())
}

/// What is wrong, without its particulars.
fn kind(why: &str) -> &'static str {
    let why = why.split("; to Asked").next().unwrap_or(why);
    [
        ("for a client that accepts", "a coding that the client does not accept"),
        ("bytes that the app never gave", "bytes that the app never gave"),
        ("of another path", "another path"),
        ("not in ", "another language"),
        ("may not be given now", "stale, or not confirmed by what was asked"),
        ("is said to be", "its age"),
        ("Vary does not name", "Vary"),
        ("the rest of something else", "a range of other bytes than what the client holds"),
        ("a part of nothing", "a range of what may not be given now"),
        ("the fields of nothing", "HEAD"),
        ("a 304 that was not", "a 304 that was not asked for"),
        ("the length is another", "the length"),
        ("modified Some", "a tag or date of other bytes"),
        (" for Some", "a tag or date of other bytes"),
        (" for None", "a tag or date of other bytes"),
    ]
    .iter()
    .find(|(part, _)| why.contains(part))
    .map_or("another status", |(_, kind)| *kind)
}

#[derive(Default)]
struct Sum {
    answers: u64,
    hits: u64,
    broken: u64,
    wrong: BTreeMap<&'static str, (u64, String)>,
}

#[test]
#[ignore = "needs nginx and Varnish, and a minute: tests/cache/peers.sh"]
fn the_same_sequences_through_this_proxy_nginx_and_varnish() {
    let many: usize = std::env::var("SEQUENCES").ok().and_then(|many| many.parse().ok()).unwrap_or(200);
    let dir = tempfile::tempdir().expect("a directory");
    let lent = Lent::default();
    let origin = origin(lent.clone());
    let proxies = ["outrigger", "nginx", "varnish"].map(|name| Proxy::start(name, dir.path(), origin));
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let sequences: Vec<_> = (0..many).map(|_| sequence(&mut runner)).collect();
    let sums: Mutex<BTreeMap<&str, Sum>> = Mutex::default();
    thread::scope(|scope| {
        for (nth, (habits, steps)) in sequences.iter().enumerate() {
            for Proxy { name, port, .. } in &proxies {
                let (lent, sums) = (lent.clone(), &sums);
                scope.spawn(move || {
                    let mut way = Through { port: *port, host: format!("{name}{nth}.example"), lent, answers: 0, hits: 0, broken: 0 };
                    let wrong = oracle::run_on(habits, steps, now(), SLACK, &mut way);
                    let mut sums = sums.lock();
                    let sum = sums.entry(name).or_default();
                    (sum.answers, sum.hits, sum.broken) = (sum.answers + way.answers, sum.hits + way.hits, sum.broken + way.broken);
                    for why in wrong {
                        sum.wrong.entry(kind(&why)).or_insert_with(|| (0, format!("{habits:?}: {why}"))).0 += 1;
                    }
                });
            }
        }
    });
    let sums = sums.into_inner();
    println!("{many} sequences through each");
    for (name, Sum { answers, hits, broken, wrong }) in &sums {
        let all: u64 = wrong.values().map(|(times, _)| times).sum();
        println!("\n{name}: {answers} answers, {hits} without the app, {broken} never came, {all} wrong");
        for (kind, (times, example)) in wrong {
            println!("  {times:5}  {kind}");
            if std::env::var("EXAMPLES").is_ok() || *name == "outrigger" {
                println!("         {example}");
            }
        }
    }
    let ours = &sums["outrigger"];
    assert!(ours.wrong.is_empty() && ours.broken == 0 && ours.hits > 0, "see above");
}
