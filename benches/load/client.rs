//! The near end of the load bench: a closed loop of requests, or many streams of events, and one line of JSON.
//!
//! `load-client requests PORT PATH --connections N --seconds S [--warm-up S] [--among N] [--body FILE] [--header 'Name: value']...`
//! `load-client events   PORT PATH --connections N --seconds S --body FILE [--header ...]`
//!
//! A `#` in PATH stands for a number of eight digits that grows with each request, and begins again after `--among` of them.
//! Everything is counted between a warm-up (a tenth of the time, at least half a second) and the end; anything but a
//! complete 200 is an error and is counted as such. Latencies: a request's from its first byte written to its last byte
//! read; an event's from the time of sending in its `id`.

use std::{
    cell::{Cell, RefCell},
    io::{self, Write as _},
    rc::Rc,
    time::Duration,
};

use memchr::memmem;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::LocalSet,
    time::Instant,
};

struct Job {
    events: bool,
    port: u16,
    connections: usize,
    length: Duration,
    request: Vec<u8>,
    /// Where in the request the number stands that grows.
    number_at: Option<usize>,
    /// After so many it begins again.
    among: u64,
    next: Cell<u64>,
    warm_up: Duration,
}

/// What was counted.
struct Tally {
    counting: Cell<bool>,
    done: Cell<u64>,
    errors: Cell<u64>,
    /// Nanoseconds, of everything counted.
    latencies: RefCell<Vec<u32>>,
    last_error: RefCell<String>,
}

fn main() -> io::Result<()> {
    let job = Rc::new(arguments()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let line = LocalSet::new().block_on(&runtime, measure(job));
    writeln!(io::stdout(), "{line}")
}

fn arguments() -> io::Result<Job> {
    let wrong = |what: &str| io::Error::other(format!("{what}; see the head of benches/load/client.rs"));
    let mut words = std::env::args().skip(1);
    let mut next = |what: &str| words.next().ok_or_else(|| wrong(what));
    let events = match next("requests or events")?.as_str() {
        "requests" => false,
        "events" => true,
        _ => return Err(wrong("requests or events")),
    };
    let port = next("a port")?.parse().map_err(|_| wrong("the port is not a number"))?;
    let path = next("a path")?;
    let (mut connections, mut seconds, mut body, mut headers) = (1, 5.0_f64, None, String::new());
    let (mut warm_up, mut among) = (None, 100_000_000);
    while let Ok(flag) = next("") {
        let value = next(&flag)?;
        match flag.as_str() {
            "--connections" => connections = value.parse().map_err(|_| wrong("--connections"))?,
            "--seconds" => seconds = value.parse().map_err(|_| wrong("--seconds"))?,
            "--warm-up" => warm_up = Some(value.parse::<f64>().map_err(|_| wrong("--warm-up"))?),
            "--among" => among = value.parse().map_err(|_| wrong("--among"))?,
            "--body" => body = Some(std::fs::read(value)?),
            "--header" => headers.push_str(&format!("{value}\r\n")),
            _ => return Err(wrong(&flag)),
        }
    }
    let path = path.replace('#', "00000000");
    let number = memmem::find(path.as_bytes(), b"00000000");
    let verb = if body.is_some() { "POST " } else { "GET " };
    let number_at = number.map(|at| verb.len() + at);
    let request = match body {
        None => format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load\r\nAccept: */*\r\n{headers}\r\n").into_bytes(),
        Some(body) => {
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load\r\nAccept: */*\r\n{headers}\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            [head.into_bytes(), body].concat()
        }
    };
    let (length, next) = (Duration::from_secs_f64(seconds), Cell::new(0));
    let warm_up = warm_up.map_or((length / 10).max(Duration::from_millis(500)), Duration::from_secs_f64);
    Ok(Job { events, port, connections, length, request, number_at, among, next, warm_up })
}

async fn measure(job: Rc<Job>) -> String {
    let tally = Rc::new(Tally {
        counting: Cell::new(false),
        done: Cell::new(0),
        errors: Cell::new(0),
        latencies: RefCell::new(Vec::with_capacity(1 << 22)),
        last_error: RefCell::default(),
    });
    for _ in 0..job.connections {
        let (own, tally) = (Rc::clone(&job), Rc::clone(&tally));
        tokio::task::spawn_local(async move {
            loop {
                let ended = if own.events { listen(&own, &tally).await } else { ask(&own, &tally).await };
                // Errors are counted in the warm-up too: a proxy that refuses must not look fast.
                tally.errors.set(tally.errors.get() + 1);
                *tally.last_error.borrow_mut() = ended.map_or_else(|error| error.to_string(), |()| "closed".into());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        if job.events {
            // A thousand connections at once would only measure the accept queue.
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    }
    tokio::time::sleep(job.warm_up).await;
    // The bench reads the proxy's CPU time at this line and at the last one.
    let _ = writeln!(io::stdout(), "begin").and_then(|()| io::stdout().flush());
    tally.counting.set(true);
    let began = Instant::now();
    tokio::time::sleep(job.length).await;
    tally.counting.set(false);
    let seconds = began.elapsed().as_secs_f64();

    let mut latencies = tally.latencies.take();
    latencies.sort_unstable();
    let micros = |quantile: f64| {
        let at = ((latencies.len() as f64 * quantile) as usize).min(latencies.len().saturating_sub(1));
        latencies.get(at).map_or(0.0, |nanos| f64::from(*nanos) / 1000.0)
    };
    format!(
        "{{\"done\":{},\"seconds\":{seconds:.4},\"per_second\":{:.1},\"errors\":{},\"error\":{:?},\"p50_us\":{:.1},\"p99_us\":{:.1},\"max_us\":{:.1}}}",
        tally.done.get(),
        tally.done.get() as f64 / seconds,
        tally.errors.get(),
        tally.last_error.borrow(),
        micros(0.5),
        micros(0.99),
        micros(1.0)
    )
}

impl Tally {
    /// No latency: a proxy put a chunk boundary into the time of sending.
    fn count(&self, latency: Option<Duration>) {
        if !self.counting.get() {
            return;
        }
        self.done.set(self.done.get() + 1);
        let mut latencies = self.latencies.borrow_mut();
        // Bounded: 64 million samples are far more than any run here has.
        if let Some(latency) = latency
            && latencies.len() < 1 << 26
        {
            latencies.push(u32::try_from(latency.as_nanos()).unwrap_or(u32::MAX));
        }
    }
}

/// One keep-alive connection, one request after the other.
async fn ask(job: &Job, tally: &Tally) -> io::Result<()> {
    let mut stream = connect(job).await?;
    let mut buffer = vec![0; 128 * 1024];
    let mut request = job.request.clone();
    loop {
        if let Some(at) = job.number_at {
            let number = job.next.replace(job.next.get() + 1) % job.among.max(1);
            request[at..at + 8].copy_from_slice(format!("{number:08}").as_bytes());
        }
        let began = Instant::now();
        stream.write_all(&request).await?;
        let (mut held, mut wanted) = (0, None);
        while wanted.is_none_or(|wanted| held < wanted) {
            let read = stream.read(&mut buffer[held..]).await?;
            if read == 0 {
                return Err(io::Error::other("closed within an answer"));
            }
            held += read;
            if wanted.is_none() {
                wanted = answer_length(&buffer[..held])?;
            }
        }
        if wanted != Some(held) {
            return Err(io::Error::other("more than one answer"));
        }
        tally.count(Some(began.elapsed()));
    }
}

/// Length of the whole answer, once its head is there. Only 200 with a Content-Length or a body of one chunk is understood.
fn answer_length(held: &[u8]) -> io::Result<Option<usize>> {
    let Some(head) = memmem::find(held, b"\r\n\r\n") else { return Ok(None) };
    if held.get(9..12) != Some(b"200") {
        return Err(io::Error::other(format!("status {}", String::from_utf8_lossy(held.get(9..12).unwrap_or_default()))));
    }
    let length = held[..head]
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split_at_checked(15))
        .find(|(name, _)| name.eq_ignore_ascii_case(b"content-length:"))
        .and_then(|(_, value)| std::str::from_utf8(value).ok()?.trim().parse::<usize>().ok());
    match length {
        Some(length) => Ok(Some(head + 4 + length)),
        None => Err(io::Error::other("an answer without Content-Length")),
    }
}

/// One stream of events, from its request to the end of the bench.
async fn listen(job: &Job, tally: &Tally) -> io::Result<()> {
    let mut stream = connect(job).await?;
    stream.write_all(&job.request).await?;
    let id = memmem::Finder::new(b"chatcmpl-");
    let mut held: Vec<u8> = Vec::with_capacity(16 * 1024);
    let mut checked = false;
    loop {
        if stream.read_buf(&mut held).await? == 0 {
            return Err(io::Error::other("a stream ended"));
        }
        if !checked {
            if held.len() < 12 {
                continue;
            }
            if held.get(9..12) != Some(b"200") {
                return Err(io::Error::other(format!("status {}", String::from_utf8_lossy(&held[9..12]))));
            }
            checked = true;
        }
        let now = wall_nanos();
        let mut used = 0;
        // An event is counted when its end is there; 19 digits follow the marker.
        while let Some(end) = memmem::find(&held[used..], b"\n\n") {
            let event = &held[used..used + end];
            if let Some(at) = id.find(event) {
                let sent = event.get(at + 9..at + 28).and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u64>().ok());
                tally.count(sent.map(|sent| Duration::from_nanos(now.saturating_sub(sent))));
            }
            used += end + 2;
        }
        held.drain(..used);
        if held.len() > 64 * 1024 {
            return Err(io::Error::other("an event of more than 64 KiB"));
        }
    }
}

async fn connect(job: &Job) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", job.port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[expect(clippy::disallowed_methods, reason = "two processes of the bench compare the machine's clock")]
fn wall_nanos() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
