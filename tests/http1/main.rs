//! The HTTP/1.1 reader against what stood at the doors before it ([`oracle`]), and what it allocates.
//!
//! Streams of requests, and answers, are made from parts, good and bad, and then mutated, with a fixed seed. `OUTRIGGER_ROUNDS` makes more of
//! them; `fuzz/fuzz_targets/http1.rs` makes them without end.

mod allocations;
mod oracle;

use http::Method;
use outrigger::http1::Refusal;

/// How many of each a test makes.
fn rounds() -> usize {
    std::env::var("OUTRIGGER_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(6_000)
}

const REQUEST_LINES: &[&str] = &[
    "GET / HTTP/1.1",
    "POST /a/b?c=d HTTP/1.1",
    "POST / HTTP/1.1",
    "PUT /%2f/..//\\x HTTP/1.1",
    "HEAD /a HTTP/1.0",
    "POST / HTTP/1.0",
    "OPTIONS * HTTP/1.1",
    "GET http://a.example/b?c HTTP/1.1",
    "GET http://a?b HTTP/1.1",
    "odd~ /caf\u{e9} HTTP/1.1",
    "GET /\"{}|^ HTTP/1.1",
    "GET /?{}`|^ HTTP/1.1",
    "GET http://[::1]:80 HTTP/1.0",
    "OPTIONS http://a HTTP/1.1",
];

/// What is refused, or seldom.
const BAD_REQUEST_LINES: &[&str] = &[
    "GET * HTTP/1.1",
    "GET https://u@h/ HTTP/1.1",
    "GET ftp://h/ HTTP/1.1",
    "GET h:80 HTTP/1.1",
    "CONNECT h:80 HTTP/1.1",
    "CONNECT / HTTP/1.1",
    "TRACE / HTTP/1.1",
    "GET /a#b HTTP/1.1",
    "GET /a b HTTP/1.1",
    "GET  / HTTP/1.1",
    "GET /` HTTP/1.1",
    "GET /?\" HTTP/1.1",
    "GET / HTTP/1.2",
    "GET / HTTP/2.0",
    "GET /",
    "nonsense",
    "GET http://a,b/ HTTP/1.1",
    "GET http:///a HTTP/1.1",
    "GET http://a:b/ HTTP/1.1",
];

const STATUS_LINES: &[&str] = &[
    "HTTP/1.1 200 OK",
    "HTTP/1.1 404 Not Found",
    "HTTP/1.1 304 Not Modified",
    "HTTP/1.1 204 No",
    "HTTP/1.0 200 OK",
    "HTTP/1.1 200",
    "HTTP/1.1 200 ",
    "HTTP/1.1 500 caf\u{e9}",
    "HTTP/1.1 999 x",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK",
    "HTTP/1.1 103 x\r\nLink: a\r\n\r\nHTTP/1.0 200 OK",
];

/// What is refused, or seldom.
const BAD_STATUS_LINES: &[&str] =
    &["HTTP/1.1 099 x", "HTTP/1.1 20 x", "HTTP/1.1  200 OK", "HTTP/2.0 200 OK", "HTTP/1.2 200 OK", "SSH-2.0", "HTTP/1.1 101 x"];

const FIELDS: &[&str] = &[
    "X-Own: 1",
    "x-own:2",
    "Accept:  */* \t",
    "X-Empty:",
    "Cookie: a=b; c=\"d\"",
    "X-Text: caf\u{e9}",
    "Connection: close",
    "Connection: keep-alive",
    "Connection: x-own, upgrade",
    "Upgrade: websocket",
    "Upgrade: h2c",
    "Expect: 100-continue",
    "TE: trailers",
    "Trailer: x",
    "Content-Type: text/plain",
    "Date: x",
    "Keep-Alive: 5",
];

/// What is refused, or seldom.
const BAD_FIELDS: &[&str] = &[
    "Content-Length: 3",
    "Content-Length: 5",
    "Content-Length: 005",
    "Content-Length: 0",
    "Content-Length: 3, 3",
    "Content-Length: +3",
    "Content-Length:",
    "Content-Length: 99999999999999999999",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: Chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: gzip",
    "Transfer-Encoding:",
    "content_length: 3",
    "Transfer.Encoding: chunked",
    "Host: b",
    "X : a",
    "X: a\r\n b",
    " X: a",
    "nonsense",
    "X: a\x01",
    "X\x7f: a",
    ": a",
    "X: a\rb",
];

const BODIES: &[&str] = &[
    "",
    "abc",
    "abcde",
    "3\r\nabc\r\n0\r\n\r\n",
    "3\r\nabc\r\n5\r\nabcde\r\n0\r\n\r\n",
    "3;a=b\r\nabc\r\n0;c\r\nX-Sum: 1\r\n\r\n",
    "03\r\nabc\r\n000\r\n\r\n",
    "3 \r\nabc\r\n0\r\n\r\n",
    "3\nabc\r\n0\r\n\r\n",
    "4\r\nabc\r\n0\r\n\r\n",
    "2\r\nabc\r\n0\r\n\r\n",
    "0x3\r\nabc\r\n0\r\n\r\n",
    "-3\r\nabc",
    "0\r\n\r\n",
    "A\r\n0123456789\r\n0\r\n\r\n",
    "0\r\nX: y\n\r\n",
    "0\r\n\n",
    "0\r\nConnection: x\r\nX: y\r\n\r\n",
    "fffffffffffffffff\r\n",
    "3\r\nabc\r\n0\r\nnonsense\r\n\r\n",
    "3;\"\x01\"\r\nabc\r\n0\r\n\r\n",
];

fn pick<'a>(random: &mut fastrand::Rng, parts: &[&'a str]) -> &'a str {
    parts[random.usize(..parts.len())]
}

/// A bad part one time in `seldom`.
fn mostly<'a>(random: &mut fastrand::Rng, seldom: u8, good: &[&'a str], bad: &[&'a str]) -> &'a str {
    let parts = if random.u8(..seldom) == 0 { bad } else { good };
    pick(random, parts)
}

fn message(random: &mut fastrand::Rng, request: bool) -> Vec<u8> {
    let (lines, bad_lines) = if request { (REQUEST_LINES, BAD_REQUEST_LINES) } else { (STATUS_LINES, BAD_STATUS_LINES) };
    let mut text = String::new();
    let end = |random: &mut fastrand::Rng| mostly(random, 40, &["\r\n"], &["\n", "\r\r\n", " \r\n"]);
    if random.u8(..10) == 0 && request {
        text.push_str("\r\n");
    }
    text.push_str(mostly(random, 8, lines, bad_lines));
    text.push_str(end(random));
    if request && random.u8(..20) > 0 {
        text.push_str("Host: a\r\n");
    }
    for _ in 0..random.usize(..5) {
        text.push_str(mostly(random, 12, FIELDS, BAD_FIELDS));
        text.push_str(end(random));
    }
    let (framing, body) = match random.u8(..8) {
        0 => ("", ""),
        1 => ("Content-Length: 3\r\n", "abc"),
        2 => ("Content-Length: 5\r\n", "abcde"),
        3..=6 => ("Transfer-Encoding: chunked\r\n", pick(random, BODIES)),
        _ => (pick(random, &["", "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n"]), pick(random, BODIES)),
    };
    text.push_str(framing);
    text.push_str(end(random));
    text.push_str(body);
    text.into_bytes()
}

fn mutate(random: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    for _ in 0..random.usize(..3) {
        let at = random.usize(..bytes.len());
        match random.u8(..4) {
            0 => bytes[at] = random.u8(..),
            1 => bytes[at] = b"\r\n \t:,;#%0\0\x7f"[random.usize(..12)],
            2 => drop(bytes.remove(at)),
            _ => bytes.insert(at, b"\r\n :0a"[random.usize(..6)]),
        }
    }
}

#[test]
fn requests_are_understood_as_before_or_refused() {
    let (runtime, mut random) = (oracle::runtime(), fastrand::Rng::with_seed(9112));
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..rounds() {
        let mut bytes: Vec<u8> = (0..random.usize(1..4)).flat_map(|_| message(&mut random, true)).collect();
        if round % 2 == 1 {
            mutate(&mut random, &mut bytes);
        }
        let told = oracle::compare_requests(&runtime, &bytes).unwrap_or_else(|differs| panic!("round {round}: {differs}"));
        accepted += told.messages.len();
        refused += usize::from(told.refused.is_some());
    }
    // The test would be worth nothing if all were good, or all bad.
    assert!(accepted > rounds() / 3 && refused > rounds() / 8, "{accepted} messages, {refused} refusals");
}

#[test]
fn answers_are_understood_as_before_or_refused() {
    let (runtime, mut random) = (oracle::runtime(), fastrand::Rng::with_seed(9110));
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..rounds() {
        let mut bytes = message(&mut random, false);
        if round % 2 == 1 {
            mutate(&mut random, &mut bytes);
        }
        let asked = if random.u8(..6) == 0 { Method::HEAD } else { Method::GET };
        let told = oracle::compare_answers(&runtime, &bytes, &asked).unwrap_or_else(|differs| panic!("round {round}: {differs}"));
        accepted += told.messages.len();
        refused += usize::from(told.refused.is_some());
    }
    assert!(accepted > rounds() / 3 && refused > rounds() / 8, "{accepted} messages, {refused} refusals");
}

#[test]
fn every_row_has_an_example() {
    let options = (0..65).map(|n| format!("x{n}")).collect::<Vec<_>>().join(",");
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n";
    let body = "3\r\nabc\r\n0\r\n\r\n";
    let examples = [
        (Refusal::EmptyLines, format!("{}GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n".repeat(17))),
        (Refusal::BareLf, "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        (Refusal::Authority, "GET http://a,b/ HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        (Refusal::TooManyOptions, format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {options}\r\n\r\n")),
        (Refusal::ChunkTooLarge, format!("{chunked}0000000000000000{body}")),
        (Refusal::Control, format!("{chunked}3;\x01\r\nabc\r\n0\r\n\r\n")),
        (Refusal::TrailersTooLarge, format!("{chunked}0\r\nX: {}\r\n\r\n", "a".repeat(9000))),
        (Refusal::StatusLine, format!("\r\n{answer}\r\n{body}")),
        (Refusal::CodingInOldVersion, "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".into()),
        (Refusal::Length, format!("{answer}Content-Length: x\r\n\r\n{body}")),
        (Refusal::LengthsDiffer, format!("{answer}Content-Length: 1\r\nContent-Length: 2\r\n\r\n{body}")),
    ];
    let runtime = oracle::runtime();
    for (why, example) in &examples {
        let (own, old) = if example.contains("Host: a") {
            (oracle::own_requests(example.as_bytes()), runtime.block_on(oracle::old_requests(example.as_bytes())))
        } else {
            let asked = if *why == Refusal::CodingInOldVersion { Method::HEAD } else { Method::GET };
            (oracle::own_answer(example.as_bytes(), &asked), runtime.block_on(oracle::old_answer(example.as_bytes(), &asked)))
        };
        assert_eq!((own.1, own.0.messages.len()), (Some(*why), 0), "{example}");
        assert_eq!(old.messages.len(), 1, "{why:?}: {old:?}");
    }
    for (row, _) in oracle::STRICTER {
        assert!(examples.iter().any(|(why, _)| why == row), "{row:?} has no example");
    }
}
