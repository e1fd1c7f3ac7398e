//! The same bytes to our own HTTP/1.1 and to what stood at the doors before: hyper, the scanner beside it and the checks behind it.
//!
//! Our own verdict is the same or stricter, and what both accept is the same message. Where it is stricter, the reason is a row of
//! [`STRICTER`]; where it is not as strict, of [`LAXER`].

#[path = "framing.rs"]
mod framing;

use std::{cell::RefCell, convert::Infallible, rc::Rc};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use outrigger::{
    http1::{self, Chunks, Fields, Framing, Head, Limits, Piece, Refusal, Scanner},
    listen::strict,
    upstream::headers,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Refusals of our own where the oracle accepts, and why they stay. Each has an example in `every_row_has_an_example`.
pub const STRICTER: &[(Refusal, &str)] = &[
    (Refusal::EmptyLines, "hyper passes over any number of empty lines"),
    (Refusal::BareLf, "hyper and the scanner beside it take an empty line before a request that ends in LF"),
    (Refusal::Authority, "http::Uri takes more for an authority than a host and a port"),
    (Refusal::TooManyOptions, "nobody counted what Connection names"),
    (Refusal::ChunkTooLarge, "hyper takes any number of zeros before a size"),
    (Refusal::Control, "hyper takes control bytes in chunk extensions"),
    (Refusal::TrailersTooLarge, "hyper's bound is 16 KiB"),
    (Refusal::StatusLine, "hyper passes over empty lines before an answer"),
    (Refusal::CodingInOldVersion, "hyper does not look at the framing of an answer to HEAD"),
    (Refusal::Length, "beside chunks, nobody looked at an answer's length"),
    (Refusal::LengthsDiffer, "beside chunks, nobody looked at an answer's lengths"),
];

/// Whether a line, as [`Message`] has it, is the row's.
pub type IsRow = fn(&str) -> bool;

/// What our own reader accepts and the oracle does not, and why that is right.
pub const LAXER: &[(IsRow, &str)] = &[
    (|line| line.starts_with("CONNECT ") || line.starts_with("TRACE "), "a method is for the doors to refuse, not for the reader"),
    (|line| line.split(' ').next().is_some_and(|method| method.contains('#')), "a method may have a `#`: it is no fragment"),
];

/// A message as somebody understood it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Method and path, or status.
    pub line: String,
    pub version: Version,
    pub fields: Vec<(String, Vec<Vec<u8>>)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, Vec<Vec<u8>>)>,
}

/// A connection as somebody understood it: whole messages, and whether it ended with a refusal.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct Told {
    pub messages: Vec<Message>,
    pub refused: Option<String>,
    /// A head has begun and its end has not come. hyper refuses some of these before their line has ended, our own reader then.
    pub waits: bool,
    /// The line of a request whose body has begun and not ended.
    pub unfinished: Option<String>,
}

/// Names in their order of the alphabet, each with its values in their order.
fn sorted(map: &HeaderMap) -> Vec<(String, Vec<Vec<u8>>)> {
    let values = |name| map.get_all(name).iter().map(|value| value.as_bytes().to_vec()).collect::<Vec<_>>();
    let mut all: Vec<_> = map.keys().map(|name| (name.as_str().to_owned(), values(name))).collect();
    // hyper keeps one of a request's equal lengths.
    for (_, values) in all.iter_mut().filter(|(name, _)| name == "content-length") {
        values.dedup_by_key(|value| String::from_utf8_lossy(value).parse::<u64>().ok());
    }
    all.sort();
    all
}

/// A body of our own reader.
enum OwnBody {
    Whole { content: Vec<u8>, trailers: HeaderMap, taken: usize },
    Unfinished,
}

fn own_body(framing: Framing, bytes: &[u8]) -> Result<OwnBody, Refusal> {
    let whole = |length: usize| OwnBody::Whole { content: bytes[..length].to_vec(), trailers: HeaderMap::new(), taken: length };
    Ok(match framing {
        Framing::None => whole(0),
        Framing::Length(length) => match usize::try_from(length) {
            Ok(length) if length <= bytes.len() => whole(length),
            _ => OwnBody::Unfinished,
        },
        Framing::UntilClose | Framing::Tunnel => whole(bytes.len()),
        Framing::Chunked => {
            let (mut chunks, mut content) = (Chunks::new(), Vec::new());
            let found = |piece: Piece<'_>| {
                if let Piece::Content(piece) = piece {
                    content.extend_from_slice(piece);
                }
            };
            match chunks.read(bytes, found)? {
                Some(taken) => {
                    let trailers = chunks.trailers().map(|head| http1::map::fields(head).expect("few")).unwrap_or_default();
                    OwnBody::Whole { content, trailers, taken }
                }
                None => OwnBody::Unfinished,
            }
        }
    })
}

fn own_message(head: &Head, line: String, content: Vec<u8>, trailers: &HeaderMap) -> Message {
    let version = if head.version() == http1::Version::Http10 { Version::HTTP_10 } else { Version::HTTP_11 };
    let fields = http1::map::fields(head).expect("few");
    Message { line, version, fields: sorted(&fields), body: content, trailers: sorted(trailers) }
}

/// What our own reader makes of a client's bytes, up to the first message after which there is no other.
pub fn own_requests(bytes: &[u8]) -> (Told, Option<Refusal>) {
    let (mut scanner, mut head) = (Scanner::requests(Limits::default()), Head::new());
    let (mut told, mut at) = (Told::default(), 0);
    let refused = loop {
        match scanner.scan(&mut head, &bytes[at..]) {
            Err(why) => break Some(why),
            Ok(None) => break None,
            Ok(Some(taken)) => at += taken,
        }
        let framing = Framing::of_request(&head);
        let path = match (head.form(), head.path_and_query()) {
            // RFC 9112 section 3.2.4; http::Uri cannot tell this from the path `/`.
            (http1::Form::Absolute, b"*") => b"/",
            (_, path) => path,
        };
        let line = format!("{} {}", http1::map::method(&head), String::from_utf8_lossy(path));
        match own_body(framing, &bytes[at..]) {
            Err(why) => break Some(why),
            Ok(OwnBody::Unfinished) => {
                told.unfinished = Some(line);
                break None;
            }
            Ok(OwnBody::Whole { content, trailers, taken }) => {
                told.messages.push(own_message(&head, line, content, &trailers));
                at += taken;
            }
        }
        if !framing.may_reuse(&head) {
            break None;
        }
    };
    told.waits = scanner.has_begun();
    told.refused = refused.map(|why| why.word().to_owned());
    (told, refused)
}

/// What our own reader makes of a target's bytes: the first answer that is not interim.
pub fn own_answer(bytes: &[u8], asked: &Method) -> (Told, Option<Refusal>) {
    let (mut scanner, mut head) = (Scanner::answers(Limits::default()), Head::new());
    let (mut told, mut at) = (Told::default(), 0);
    let refused = loop {
        match scanner.scan(&mut head, &bytes[at..]) {
            Err(why) => break Some(why),
            Ok(None) => break None,
            Ok(Some(taken)) => at += taken,
        }
        let framing = match Framing::of_answer(&head, http1::Method::of(asked.as_str().as_bytes()), false) {
            Err(why) => break Some(why),
            Ok(_) if head.status() < 200 => continue,
            Ok(framing) => framing,
        };
        match own_body(framing, &bytes[at..]) {
            Err(why) => break Some(why),
            Ok(OwnBody::Unfinished) => {}
            Ok(OwnBody::Whole { content, trailers, .. }) => {
                told.messages.push(own_message(&head, head.status().to_string(), content, &trailers));
            }
        }
        break None;
    };
    told.waits = scanner.has_begun();
    told.refused = refused.map(|why| why.word().to_owned());
    (told, refused)
}

/// A refusal, or nothing where only the end has not come.
fn unless_cut(error: hyper::Error) -> String {
    let text = format!("{error:?}");
    if error.is_incomplete_message() || text.contains("UnexpectedEof") { String::new() } else { text }
}

/// What stood at the client's door makes of the same bytes.
pub async fn old_requests(bytes: &[u8]) -> Told {
    let told = Rc::new(RefCell::new(Told::default()));
    let flaw = framing::Framing::default().feed(bytes);
    let heads = Rc::new(RefCell::new(0));
    let service = hyper::service::service_fn({
        let (told, heads) = (told.clone(), heads.clone());
        move |request: Request<Incoming>| {
            let (told, heads) = (told.clone(), heads.clone());
            async move {
                *heads.borrow_mut() += 1;
                let number = *heads.borrow();
                let (head, body) = request.into_parts();
                let flawed = flaw.filter(|flaw| flaw.head <= number);
                let checked = match flawed {
                    Some(flaw) => Err(flaw.flaw.as_str().to_owned()),
                    None => strict::check(&head.method, &head.uri, head.version, &Fields::from(&head.headers))
                        .map_err(|reject| format!("{reject:?}")),
                };
                let verdict = match checked {
                    Err(why) => Err(why),
                    Ok(()) => body.collect().await.map_err(unless_cut),
                };
                let mut told = told.borrow_mut();
                let mut last = true;
                match verdict {
                    _ if told.refused.is_some() => {}
                    Err(why) => told.refused = Some(why),
                    Ok(body) => {
                        last = head.version == Version::HTTP_10;
                        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
                        // A query without a path was sent on like that, which is no origin-form.
                        let slash = if path.is_empty() || path.starts_with('?') { "/" } else { "" };
                        let line = format!("{} {slash}{path}", head.method);
                        let trailers = body.trailers().map(sorted).unwrap_or_default();
                        let (fields, body) = (sorted(&head.headers), body.to_bytes().to_vec());
                        told.messages.push(Message { line, version: head.version, fields, body, trailers });
                    }
                }
                let mut response = Response::new(Empty::<Bytes>::new());
                if last && told.refused.is_some() {
                    response.headers_mut().insert("connection", http::HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response)
            }
        }
    });
    let (mut client, server) = tokio::io::duplex(bytes.len().max(1));
    client.write_all(bytes).await.expect("there is room");
    client.shutdown().await.expect("open");
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.half_close(true).max_buf_size(1 << 20);
    let connection = builder.serve_connection(TokioIo::new(server), service);
    let mut answers = Vec::new();
    let (ended, _) = tokio::join!(connection, client.read_to_end(&mut answers));
    let mut told = Rc::try_unwrap(told).expect("the connection has ended").into_inner();
    if let Err(error) = ended
        && told.refused.is_none()
    {
        told.refused = Some(unless_cut(error));
    }
    told.refused = told.refused.filter(|why| !why.is_empty());
    told
}

/// What stood towards targets makes of the same bytes.
pub async fn old_answer(bytes: &[u8], asked: &Method) -> Told {
    let mut told = Told::default();
    let (client, mut server) = tokio::io::duplex(64 << 10);
    let (mut sender, connection) =
        hyper::client::conn::http1::Builder::new().max_buf_size(1 << 20).handshake(TokioIo::new(client)).await.expect("a connection");
    let request = Request::builder().method(asked).uri("/").header("host", "h").body(Empty::<Bytes>::new()).expect("a request");
    let serve = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(server.read_u8().await.expect("a request"));
        }
        let _ = server.write_all(bytes).await;
        let _ = server.shutdown().await;
        let mut rest = Vec::new();
        let _ = server.read_to_end(&mut rest).await;
    };
    let ask = async {
        let verdict = async {
            let answer = sender.send_request(request).await.map_err(unless_cut)?;
            let (head, body) = answer.into_parts();
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Err("a switch".to_owned());
            }
            headers::response(asked, head.status, &mut Fields::from(&head.headers)).map_err(|malformed| format!("{malformed:?}"))?;
            let body = body.collect().await.map_err(unless_cut)?;
            let trailers = body.trailers().map(sorted).unwrap_or_default();
            let (fields, body) = (sorted(&head.headers), body.to_bytes().to_vec());
            Ok(Message { line: head.status.as_u16().to_string(), version: head.version, fields, body, trailers })
        };
        let verdict = verdict.await;
        drop(sender);
        verdict
    };
    let (_, _, verdict) = tokio::join!(connection, serve, ask);
    match verdict {
        Ok(message) => told.messages.push(message),
        Err(why) => told.refused = Some(why).filter(|why| !why.is_empty()),
    }
    told
}

/// A runtime for the oracle.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

/// Compares the verdicts on a client's bytes.
///
/// # Errors
/// What differs and is no row.
pub fn compare_requests(runtime: &tokio::runtime::Runtime, bytes: &[u8]) -> Result<Told, String> {
    let (own, refused) = own_requests(bytes);
    let old = runtime.block_on(old_requests(bytes));
    compare(own, refused, &old, bytes)
}

/// Compares the verdicts on a target's bytes that answer a request with the method `asked`.
///
/// # Errors
/// What differs and is no row.
pub fn compare_answers(runtime: &tokio::runtime::Runtime, bytes: &[u8], asked: &Method) -> Result<Told, String> {
    let (own, refused) = own_answer(bytes, asked);
    let old = runtime.block_on(old_answer(bytes, asked));
    compare(own, refused, &old, bytes)
}

fn is_laxer(line: &str) -> bool {
    LAXER.iter().any(|(is_row, _)| is_row(line))
}

fn compare(own: Told, refused: Option<Refusal>, old: &Told, bytes: &[u8]) -> Result<Told, String> {
    let differs = |why: &str| Err(format!("{why}\n own: {own:?}\n old: {old:?}\nbytes: {:?}", String::from_utf8_lossy(bytes)));
    for (at, message) in own.messages.iter().enumerate() {
        match old.messages.get(at) {
            Some(other) if other == message => {}
            Some(_) => return differs("a message is understood differently"),
            None if is_laxer(&message.line) => return Ok(own),
            None => return differs("a message is accepted that was not"),
        }
    }
    // hyper does not see a `close` beside bytes that are not ASCII.
    let last = own.messages.last().and_then(|message| message.fields.iter().find(|(name, _)| name == "connection"));
    if refused.is_none() && last.is_some_and(|(_, values)| !values.concat().is_ascii()) {
        return Ok(own);
    }
    if old.messages.len() > own.messages.len() {
        match refused {
            Some(why) if STRICTER.iter().any(|(row, _)| *row == why) => {}
            Some(_) => return differs("a message is refused that was accepted, for a reason without a row"),
            None => return differs("a message is missing"),
        }
    }
    let waits = own.waits || own.unfinished.as_deref().is_some_and(is_laxer);
    if refused.is_none() && old.refused.is_some() && !waits {
        return differs("what was refused is waited for or accepted");
    }
    Ok(own)
}
