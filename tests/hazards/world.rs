//! The real proxy on port 0, a scripted origin and a client that both speak in raw bytes.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use outrigger::{
    app::{App, Source},
    clock::Instant,
    config::read::{self, Overrides},
};

/// Nothing here takes longer unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A proxy between a client and an origin.
pub struct World {
    pub app: Arc<App>,
    pub inbound: SocketAddr,
    pub origin: Origin,
}

impl World {
    /// Inbound in front of an origin that runs `script` on every connection.
    pub fn new(script: impl Fn(&mut Wire) + Send + Sync + 'static) -> Self {
        Self::with("", script)
    }

    /// The same with more keys under `inbound` (each line indented by two).
    pub fn with(inbound: &str, script: impl Fn(&mut Wire) + Send + Sync + 'static) -> Self {
        let origin = Origin::start(script);
        let app = start(&format!("inbound:\n  listen: 127.0.0.1:0\n  app: http://{}\n{inbound}", origin.address));
        Self { inbound: app.addresses.inbound.expect("open"), app, origin }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.inbound)
    }

    /// Sends `bytes` and reads until the proxy closes.
    pub fn ask(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut client = self.client();
        client.send(bytes);
        client.rest()
    }

    /// Waits until the metric that begins with `series` has this value.
    pub fn metric(&self, series: &str, value: &str) {
        let began = Instant::now();
        let wanted = format!("{series} {value}");
        loop {
            let text = self.app.telemetry.metrics().render();
            if text.lines().any(|line| line == wanted) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{wanted}; there is:\n{}", grep(&text, series.split('{').next().unwrap_or(series)));
            std::thread::yield_now();
        }
    }

    /// No connection to the app is in use any more.
    pub fn nothing_leaks(&self) {
        self.metric("outrigger_pool_connections{target=\"app\",state=\"active\"}", "0");
        self.metric("outrigger_inflight_requests{door=\"inbound\"}", "0");
    }
}

/// Waits for what must come.
#[track_caller]
pub fn until(done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "this never came");
        std::thread::yield_now();
    }
}

fn grep(text: &str, word: &str) -> String {
    text.lines().filter(|line| line.contains(word)).collect::<Vec<_>>().join("\n")
}

/// Starts a proxy with one worker and this configuration.
pub fn start(yaml: &str) -> Arc<App> {
    static SIDE: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let side = SIDE.get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("runtime"));
    let dir = tempfile::tempdir().expect("directory");
    let file = dir.path().join("proxy.yaml");
    let rest =
        "workers: 1\nadmin: {listen: off, probes: off, socket: off}\ntelemetry: {log: off}\nshutdown: {drain_delay: 0s, deadline: 2s}\n";
    std::fs::write(&file, format!("{yaml}{rest}")).expect("written");
    let overrides = Overrides { memory_limit: Some(512 << 20), ..Overrides::default() };
    let reading = read::load_reading(&file, &overrides, &|_| None).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    side.block_on(App::start(Source { file: None, overrides }, reading)).unwrap_or_else(|error| panic!("{error}"))
}

const PING: u8 = 6;

/// What has come in over one connection.
type Log = Arc<Mutex<Vec<u8>>>;

/// A server of which every byte is scripted and every byte that comes in is kept.
pub struct Origin {
    pub address: SocketAddr,
    wires: Arc<Mutex<Vec<Log>>>,
}

impl Origin {
    pub fn start(script: impl Fn(&mut Wire) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let wires: Arc<Mutex<Vec<Log>>> = Arc::default();
        let (script, all) = (Arc::new(script), wires.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let log = Log::default();
                all.lock().expect("lock").push(log.clone());
                let script = script.clone();
                std::thread::spawn(move || {
                    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
                    let mut wire = Wire { stream: Some(stream), log, unread: Vec::new() };
                    script(&mut wire);
                });
            }
        });
        Self { address, wires }
    }

    /// All that has come in, connection by connection.
    pub fn got(&self) -> Vec<String> {
        let wires = self.wires.lock().expect("lock");
        wires.iter().map(|log| String::from_utf8_lossy(&log.lock().expect("lock")).into_owned()).collect()
    }

    /// All that has come in, and forgets it.
    pub fn take(&self) -> String {
        let wires = self.wires.lock().expect("lock");
        let take = |log: &Log| String::from_utf8_lossy(&std::mem::take(&mut *log.lock().expect("lock"))).into_owned();
        wires.iter().map(take).collect()
    }
}

/// One connection at the origin.
pub struct Wire {
    stream: Option<TcpStream>,
    log: Log,
    unread: Vec<u8>,
}

impl Wire {
    fn more(&mut self) -> bool {
        let mut piece = [0; 16 << 10];
        let Some(Ok(n @ 1..)) = self.stream.as_mut().map(|stream| stream.read(&mut piece)) else { return false };
        self.log.lock().expect("lock").extend_from_slice(&piece[..n]);
        self.unread.extend_from_slice(&piece[..n]);
        true
    }

    /// Reads until `end` has come; what was read, or `None` at the connection's end.
    pub fn until(&mut self, end: &str) -> Option<String> {
        loop {
            if let Some(at) = self.unread.windows(end.len()).position(|window| window == end.as_bytes()) {
                let read: Vec<u8> = self.unread.drain(..at + end.len()).collect();
                return Some(String::from_utf8_lossy(&read).into_owned());
            }
            if !self.more() {
                return None;
            }
        }
    }

    /// A request's head.
    pub fn head(&mut self) -> Option<String> {
        self.until("\r\n\r\n")
    }

    /// A whole request; its head.
    pub fn request(&mut self) -> Option<String> {
        let head = self.head()?;
        let lower = head.to_ascii_lowercase();
        if lower.contains("transfer-encoding: chunked") {
            // Good enough for the bodies of these tests.
            self.until("0\r\n")?;
            while self.until("\r\n")? != "\r\n" {}
        } else if let Some(at) = lower.find("content-length: ") {
            let length: usize = lower[at + 16..].lines().next()?.trim().parse().ok()?;
            while self.unread.len() < length {
                if !self.more() {
                    return None;
                }
            }
            self.unread.drain(..length);
        }
        Some(head)
    }

    /// Answers every request with these bytes.
    pub fn answer_all(&mut self, answer: &[u8]) {
        while self.request().is_some() {
            self.send(answer);
        }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        if let Some(stream) = &mut self.stream {
            let _ = stream.write_all(bytes.as_ref());
        }
    }

    /// Whether more could be sent.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.as_mut().is_some_and(|stream| stream.write_all(bytes.as_ref()).is_ok())
    }

    /// How long a send may take.
    pub fn patience(&mut self, bound: Duration) {
        if let Some(stream) = &self.stream {
            stream.set_write_timeout(Some(bound)).expect("timeout");
        }
    }

    pub fn close(&mut self) {
        self.stream = None;
    }

    /// Closes with RST.
    pub fn reset(&mut self) {
        if let Some(stream) = self.stream.take() {
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("linger");
        }
    }

    /// Reads to the connection's end; false if it did not come.
    pub fn ended(&mut self) -> bool {
        let began = Instant::now();
        while self.more() {}
        began.elapsed() < PATIENCE
    }
}

/// The usual answer.
pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Answers everything in the usual way.
pub fn ok(wire: &mut Wire) {
    wire.answer_all(OK);
}

/// A client's connection.
pub struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("listening");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream.set_nodelay(true).expect("nodelay");
        Self { stream, unread: Vec::new() }
    }

    /// The proxy may have closed already: that is no fault here.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Sends a byte after each pause until an answer comes; the answer and all that follows.
    pub fn trickle(&mut self, pause: Duration) -> String {
        self.stream.set_read_timeout(Some(pause)).expect("timeout");
        let began = Instant::now();
        let mut first = [0; 1];
        while let Err(error) = self.stream.read_exact(&mut first) {
            assert!(began.elapsed() < PATIENCE && error.kind() == std::io::ErrorKind::WouldBlock, "{error}");
            self.send(b"x");
        }
        self.stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        self.unread.extend_from_slice(&first);
        self.rest()
    }

    pub fn finish_sending(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("shut down");
    }

    fn more(&mut self) -> bool {
        let mut piece = [0; 16 << 10];
        match self.stream.read(&mut piece) {
            Ok(n) => {
                self.unread.extend_from_slice(&piece[..n]);
                n > 0
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&self.unread)),
        }
    }

    /// Reads until `end` has come.
    pub fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.unread.windows(end.len()).position(|window| window == end.as_bytes()) {
                let read: Vec<u8> = self.unread.drain(..at + end.len()).collect();
                return String::from_utf8_lossy(&read).into_owned();
            }
            assert!(self.more(), "closed before {end:?}: {:?}", String::from_utf8_lossy(&self.unread));
        }
    }

    /// Everything until the proxy closes.
    pub fn rest(&mut self) -> String {
        while self.more() {}
        String::from_utf8_lossy(&std::mem::take(&mut self.unread)).into_owned()
    }

    /// An HTTP/2 frame: kind, flags, stream, payload; `None` at the end. Pings are answered.
    pub fn frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        while self.unread.len() < 9 {
            if !self.more() {
                return None;
            }
        }
        let length = u32::from_be_bytes([0, self.unread[0], self.unread[1], self.unread[2]]) as usize;
        while self.unread.len() < 9 + length {
            if !self.more() {
                return None;
            }
        }
        let head: Vec<u8> = self.unread.drain(..9).collect();
        let payload: Vec<u8> = self.unread.drain(..length).collect();
        if head[3] == PING && head[4] == 0 {
            self.send([&[0, 0, 8, PING, 1, 0, 0, 0, 0], &payload[..]].concat());
        }
        Some((head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
    }

    /// A response with a length, or with chunks.
    pub fn response(&mut self) -> String {
        let head = self.until("\r\n\r\n");
        let lower = head.to_ascii_lowercase();
        let body = match lower.find("content-length: ") {
            Some(at) => {
                let length: usize = lower[at + 16..].lines().next().and_then(|n| n.trim().parse().ok()).expect("a length");
                while self.unread.len() < length {
                    assert!(self.more(), "closed within the body of {head}");
                }
                String::from_utf8_lossy(&self.unread.drain(..length).collect::<Vec<_>>()).into_owned()
            }
            None if lower.contains("transfer-encoding: chunked") => self.until("0\r\n\r\n"),
            None => String::new(),
        };
        head + &body
    }

    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("linger");
    }
}
