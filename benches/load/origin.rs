//! The far end of the load bench: an origin that costs as little as an HTTP/1.1 origin can.
//!
//! One thread, one port (printed as `port N`), fixed answers by path:
//! `/1k`, `/64k`: that many bytes, cacheable for a minute; `.../chat/completions`: a chat completion with usage, or, when the
//! body has `"stream":true`, a stream of chunks of `--rate` events a second whose `id` is the time of sending in
//! nanoseconds since 1970. Streams share one clock tick a millisecond, so that 1,000 of them cost writes and no timers.
//! It ends when its standard input does.

use std::{cell::RefCell, io, io::Write as _, rc::Rc, time::Duration};

use memchr::memmem;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::LocalSet,
    time::MissedTickBehavior,
};

/// Streams are spread over this many ticks of a period, so that they do not write all at once.
type Slots = Rc<RefCell<Vec<Vec<TcpStream>>>>;

const TICK: Duration = Duration::from_millis(1);

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut rate = 50;
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.next().and_then(|value| value.parse().ok())) {
            ("--rate", Some(value)) => rate = value,
            _ => return Err(io::Error::other("usage: load-origin [--rate EVENTS_PER_SECOND]")),
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve(rate))
}

async fn serve(rate: u32) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    writeln!(io::stdout(), "port {}", listener.local_addr()?.port())?;
    io::stdout().flush()?;

    let ticks = (1000 / rate.clamp(1, 1000)) as usize;
    let slots: Slots = Rc::new(RefCell::new((0..ticks).map(|_| Vec::new()).collect()));
    tokio::task::spawn_local(tick(Rc::clone(&slots)));
    let answers = Rc::new(Answers::new());
    let accept = async {
        let mut next = 0;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            next = (next + 1) % ticks;
            let (answers, slots, slot) = (Rc::clone(&answers), Rc::clone(&slots), next);
            tokio::task::spawn_local(async move {
                if let Ok(Some(stream)) = converse(stream, &answers).await {
                    slots.borrow_mut()[slot].push(stream);
                }
            });
        }
    };
    tokio::select! {
        failed = accept => failed,
        () = parent_gone() => Ok(()),
    }
}

/// Standard input is a pipe of the bench; its end is the end of the bench, however that came.
async fn parent_gone() {
    let (tell, told) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        drop(tell);
    });
    let _ = told.await;
}

/// Answers requests until the connection ends (`None`) or becomes a stream of events.
async fn converse(mut stream: TcpStream, answers: &Answers) -> io::Result<Option<TcpStream>> {
    let mut held = Vec::with_capacity(16 * 1024);
    loop {
        while let Some((head, body)) = complete(&held) {
            let request = &held[..head + body];
            let path = request.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
            if path.ends_with(b"/completions") && memmem::find(&request[head..], b"\"stream\":true").is_some() {
                stream.write_all(EVENTS_HEAD).await?;
                return Ok(Some(stream));
            }
            let answer = answers.to(path);
            held.drain(..head + body);
            stream.write_all(answer).await?;
        }
        if stream.read_buf(&mut held).await? == 0 {
            return Ok(None);
        }
    }
}

/// Lengths of the head and body of the first request held, once it is there in full.
fn complete(held: &[u8]) -> Option<(usize, usize)> {
    let head = memmem::find(held, b"\r\n\r\n")? + 4;
    let body = held[..head]
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split_at_checked(15))
        .find(|(name, _)| name.eq_ignore_ascii_case(b"content-length:"))
        .and_then(|(_, value)| std::str::from_utf8(value).ok()?.trim().parse().ok())
        .unwrap_or(0);
    (held.len() >= head + body).then_some((head, body))
}

const EVENTS_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Writes one event to every stream of one slot a tick. A stream whose buffer is full, or whose reader left, is dropped:
/// the client then counts fewer events than it should and says so.
async fn tick(slots: Slots) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut at = 0;
    loop {
        interval.tick().await;
        let mut slots = slots.borrow_mut();
        at = (at + 1) % slots.len();
        if slots[at].is_empty() {
            continue;
        }
        let event = event();
        slots[at].retain(|stream| stream.try_write(&event).is_ok_and(|written| written == event.len()));
    }
}

/// One chunk of a chat completion as an HTTP/1.1 chunk.
fn event() -> Vec<u8> {
    let data = format!(
        "data: {{\"id\":\"chatcmpl-{}\",\"object\":\"chat.completion.chunk\",\"created\":1790000000,\"model\":\"gpt-4o-mini\",\
         \"system_fingerprint\":\"fp_bench\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" token\"}},\"logprobs\":null,\
         \"finish_reason\":null}}]}}\n\n",
        wall_nanos()
    );
    format!("{:x}\r\n{data}\r\n", data.len()).into_bytes()
}

#[expect(clippy::disallowed_methods, reason = "two processes of the bench compare the machine's clock")]
fn wall_nanos() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}

/// Whole answers, ready to write.
struct Answers {
    one: Vec<u8>,
    sixty_four: Vec<u8>,
    chat: Vec<u8>,
    none: Vec<u8>,
}

impl Answers {
    fn new() -> Self {
        let cacheable = |size: usize| {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nCache-Control: public, max-age=600\r\nContent-Length: {size}\r\n\r\n"
            );
            [head.into_bytes(), vec![b'x'; size]].concat()
        };
        let words = "word ".repeat(300);
        let chat = format!(
            "{{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1790000000,\"model\":\"gpt-4o-mini\",\"choices\":\
             [{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{words}\"}},\"finish_reason\":\"stop\"}}],\
             \"usage\":{{\"prompt_tokens\":200,\"completion_tokens\":300,\"total_tokens\":500}}}}"
        );
        let chat = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{chat}", chat.len());
        Self {
            one: cacheable(1024),
            sixty_four: cacheable(64 * 1024),
            chat: chat.into_bytes(),
            none: b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(),
        }
    }

    fn to(&self, path: &[u8]) -> &[u8] {
        match path {
            path if path.ends_with(b"/1k") => &self.one,
            path if path.ends_with(b"/64k") => &self.sixty_four,
            path if path.ends_with(b"/completions") => &self.chat,
            _ => &self.none,
        }
    }
}
