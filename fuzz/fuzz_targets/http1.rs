//! HTTP/1.1 of our own: the same or stricter than what stood at the doors before, the same message, however the bytes are cut; what is written
//! is what was read.
#![no_main]

mod cut;
#[path = "../../tests/http1/oracle.rs"]
#[allow(dead_code)]
mod oracle;

use http::Method;
use libfuzzer_sys::fuzz_target;
use outrigger::{
    http1::{Chunks, Head, Limits, Piece, Refusal, Scanner},
    message::{AnswerHead, RequestHead},
};

/// The verdict on a head in these pieces, and on the chunks behind it: what is known of both, and how many bytes they have.
fn read(mut scanner: Scanner, pieces: &[&[u8]]) -> (Result<bool, Refusal>, Option<(Head, Option<Head>)>, Vec<u8>) {
    let (mut head, mut chunks, mut runs) = (Head::new(), Chunks::new(), Vec::new());
    let (mut whole, mut verdict) = (false, Ok(false));
    for piece in pieces {
        let mut rest = *piece;
        if !whole {
            match scanner.scan(&mut head, rest) {
                Ok(None) => continue,
                Ok(Some(taken)) => rest = &rest[taken..],
                Err(why) => return (Err(why), None, runs),
            }
            whole = true;
        }
        if head.is_chunked() && !chunks.is_done() && verdict.is_ok() {
            let found = |piece: Piece<'_>| {
                if let Piece::Run(run) = piece {
                    runs.extend_from_slice(run);
                }
            };
            verdict = chunks.read(rest, found).map(|end| end.is_some());
        }
    }
    let told = whole.then(|| (head, chunks.trailers().cloned()));
    (verdict, told, runs)
}

fuzz_target!(|input: &[u8]| {
    let Some((bytes, pieces)) = cut::cut(input) else { return };
    for scanner in [Scanner::requests(Limits::default()), Scanner::answers(Limits::default())] {
        assert_eq!(read(scanner.clone(), &[bytes]), read(scanner, &pieces), "the verdict does not depend on the cuts");
    }
    // Fields that are written are read again as the same.
    let (mut head, mut again, mut out) = (Head::new(), Head::new(), Vec::new());
    let room = Limits { bytes: 1 << 20, ..Limits::default() };
    if let Ok(Some(_)) = Scanner::requests(Limits::default()).scan(&mut head, bytes)
        && let Some(request) = RequestHead::of(head.clone())
    {
        out.extend_from_slice(b"GET / HTTP/1.1\r\n");
        request.headers.write(&mut out);
        if request.headers.has(outrigger::http1::Id::Host) {
            out.extend_from_slice(b"\r\n");
            assert_eq!(Scanner::requests(room).scan(&mut again, &out), Ok(Some(out.len())));
            assert!(request.headers.iter().map(|(name, value)| (name.text(), value.as_bytes())).eq(again.iter()));
        }
    }
    out.clear();
    if let Ok(Some(_)) = Scanner::answers(Limits::default()).scan(&mut head, bytes) {
        AnswerHead::of(head.clone()).write(&mut out);
        out.extend_from_slice(b"\r\n");
        assert_eq!(Scanner::answers(room).scan(&mut again, &out), Ok(Some(out.len())));
        assert!(head.iter().eq(again.iter()) && head.status() == again.status() && head.reason() == again.reason());
    }
    thread_local! { static RUNTIME: tokio::runtime::Runtime = oracle::runtime(); }
    RUNTIME.with(|runtime| {
        let asked = if input[0] % 8 == 7 { Method::HEAD } else { Method::GET };
        for told in [oracle::compare_requests(runtime, bytes), oracle::compare_answers(runtime, bytes, &asked)] {
            told.unwrap_or_else(|differs| panic!("{differs}"));
        }
    });
});
