//! RFC 9112 section 7.1: what a chunked body may look like; what is passed on is the same body, whatever pieces it came in.

use proptest::prelude::*;

use super::{super::Id, *};

/// What was found in a body.
#[derive(Debug, PartialEq, Eq, Default)]
struct Read {
    content: Vec<u8>,
    runs: Vec<u8>,
    taken: Option<usize>,
    trailers: Vec<(String, String)>,
}

/// Reads `bytes` in pieces of these lengths, the last of which repeats.
fn read(bytes: &[u8], lengths: &[usize]) -> Result<Read, (Refusal, Read)> {
    let mut chunks = Chunks::new();
    let mut found = Read::default();
    let (mut at, mut piece) = (0, 0);
    while at < bytes.len() {
        let length = lengths[piece.min(lengths.len() - 1)].clamp(1, bytes.len() - at);
        piece += 1;
        let verdict = chunks.read(&bytes[at..at + length], |piece| match piece {
            Piece::Content(content) => found.content.extend_from_slice(content),
            Piece::Run(run) => found.runs.extend_from_slice(run),
        });
        match verdict {
            Err(why) => return Err((why, found)),
            Ok(Some(taken)) => {
                assert!(chunks.is_done() && taken <= length);
                found.taken = Some(at + taken);
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                found.trailers =
                    chunks.trailers().map(|head| head.iter().map(|(name, value)| (text(name), text(value))).collect()).unwrap_or_default();
                return Ok(found);
            }
            Ok(None) => assert!(!chunks.is_done()),
        }
        at += length;
    }
    Ok(found)
}

fn whole(bytes: &[u8]) -> Result<Read, Refusal> {
    read(bytes, &[usize::MAX]).map_err(|(why, _)| why)
}

fn same_in_pieces(bytes: &[u8]) {
    let expected = read(bytes, &[usize::MAX]);
    for length in 1..9 {
        assert_eq!(read(bytes, &[length]), expected, "in pieces of {length}: {:?}", String::from_utf8_lossy(bytes));
    }
    for cut in 1..bytes.len() {
        assert_eq!(read(bytes, &[cut, usize::MAX]), expected, "cut at {cut}: {:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn a_plain_body_is_passed_on_in_one_run_without_its_end() {
    let bytes = b"5\r\nhello\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\nnext";
    let mut told = Vec::new();
    let taken = Chunks::new().read(bytes, |piece| told.push(piece));
    let run = &bytes[..bytes.len() - 9];
    assert_eq!(told, [Piece::Content(b"hello"), Piece::Content(b"abcdefghijklmnopqrstuvwxyz"), Piece::Run(run)]);
    assert_eq!(taken, Ok(Some(bytes.len() - 4)));
    same_in_pieces(bytes);
}

#[test]
fn what_belongs_to_one_hop_is_not_passed_on() {
    for (bytes, runs) in [
        ("5;a=b;c=\"d;\te\" ; f\r\nhello\r\n0;last\r\n\r\n", "5\r\nhello\r\n"),
        ("0005\r\nhello\r\n000\r\n\r\n", "5\r\nhello\r\n"),
        ("5 \t\r\nhello\r\n0  \r\n\r\n", "5\r\nhello\r\n"),
        ("5 ;a\r\nhello\r\n1\r\n\r\r\n0\r\nX: y\r\n\r\n", "5\r\nhello\r\n1\r\n\r\r\n"),
    ] {
        let read = whole(bytes.as_bytes()).expect(bytes);
        assert_eq!((read.taken, String::from_utf8_lossy(&read.runs)), (Some(bytes.len()), runs.into()), "{bytes}");
        same_in_pieces(bytes.as_bytes());
    }
}

/// Section 7.1.2; RFC 9110 section 6.5.
#[test]
fn trailers_are_fields() {
    let bytes = b"2\r\nok\r\n0\r\nX-Sum: 1\r\nConnection: \xe9\r\n\r\n";
    let mut chunks = Chunks::new();
    assert_eq!(chunks.read(bytes, |_| ()), Ok(Some(bytes.len())));
    let trailers = chunks.trailers().expect("there are some");
    assert_eq!((trailers.len(), trailers.get(Id::Connection)), (2, Some(&b"\xe9"[..])));
    same_in_pieces(bytes);
    // No field there says anything about framing, or is refused for it.
    let framing = whole(b"0\r\nContent-Length: x\r\nTransfer-Encoding: y\r\nHost: ,\r\ncontent_length: 3\r\n\r\n").expect("legal");
    assert_eq!(framing.trailers.len(), 4);
}

#[test]
fn what_is_malformed_is_refused_at_its_byte() {
    for (bytes, why) in [
        ("10000000000000001\r\n", Refusal::ChunkTooLarge),
        ("00000000000000000\r\n", Refusal::ChunkTooLarge),
        ("0x5\r\n", Refusal::ChunkSize),
        ("-5\r\n", Refusal::ChunkSize),
        ("+5\r\n", Refusal::ChunkSize),
        ("\r\n", Refusal::ChunkSize),
        (" 5\r\n", Refusal::ChunkSize),
        (";a\r\n", Refusal::ChunkSize),
        ("5 a\r\n", Refusal::ChunkSize),
        ("5\n", Refusal::BareLf),
        ("5;a\n", Refusal::BareLf),
        ("5\rh", Refusal::BareCr),
        ("5;a\rb", Refusal::BareCr),
        ("5;a\0", Refusal::Control),
        ("5;\"\x7f", Refusal::Control),
        ("3\r\nhell", Refusal::ChunkEnd),
        ("5\r\nhello\n", Refusal::ChunkEnd),
        ("5\r\nhello\r\r", Refusal::ChunkEnd),
        ("5\r\nhello0", Refusal::ChunkEnd),
        ("0\n", Refusal::BareLf),
        ("0\r\r", Refusal::BareCr),
        ("0\r\n\rX", Refusal::BareCr),
        ("0\r\n\n", Refusal::BareLf),
        ("0\r\nX: y\n", Refusal::BareLf),
        ("0\r\nX: y\r\n\n", Refusal::BareLf),
        ("0\r\nX: y\0", Refusal::Control),
        ("0\r\nX: y\r\n z\r\n", Refusal::Fold),
        ("0\r\n X: y\r\n", Refusal::Fold),
        ("0\r\nnonsense\r\n", Refusal::NoColon),
    ] {
        assert_eq!(whole(bytes.as_bytes()).err(), Some(why), "{bytes:?}");
        assert!(whole(&bytes.as_bytes()[..bytes.len() - 1]).is_ok_and(|read| read.taken.is_none()) || bytes.ends_with("\r\n"), "{bytes:?}");
        same_in_pieces(bytes.as_bytes());
    }
}

#[test]
fn extensions_and_trailers_are_bounded() {
    let extension = |length: usize| format!("5;{}\r\nhello\r\n", "a".repeat(length - 1));
    assert!(whole(extension(MOST_EXTENSIONS as usize).as_bytes()).is_ok());
    assert_eq!(whole(extension(MOST_EXTENSIONS as usize + 1).as_bytes()).err(), Some(Refusal::ChunkExtensions));
    assert_eq!(whole(extension(100).repeat(164).as_bytes()).err(), Some(Refusal::ChunkExtensions), "in the whole body");
    assert!(whole(format!("0\r\nX: {}\r\n\r\n", "a".repeat((8 << 10) - 7)).as_bytes()).is_ok());
    assert_eq!(whole(format!("0\r\nX: {}\r\n\r\n", "a".repeat((8 << 10) - 6)).as_bytes()).err(), Some(Refusal::TrailersTooLarge));
    assert_eq!(whole(format!("0\r\nX: {}", "a".repeat(9 << 10)).as_bytes()).err(), Some(Refusal::TrailersTooLarge), "before its end");
    assert_eq!(whole(format!("0\r\n{}", "X: y\r\n".repeat(101)).as_bytes()).err(), Some(Refusal::TrailersTooLarge));
}

/// All sizes are read as they are written.
#[test]
fn chunks_are_written() {
    for length in [1, 9, 15, 16, 17, 255, 256, 4095, 4096, 65_535, 1 << 20] {
        let mut out = Vec::new();
        write_size(&mut out, length);
        assert_eq!(out, format!("{length:x}\r\n").into_bytes());
    }
    let mut out = Vec::new();
    write_chunk(&mut out, b"hello");
    write_chunk(&mut out, b"");
    write_last(&mut out);
    assert_eq!(out, b"5\r\nhello\r\n0\r\n\r\n");
}

/// A chunk as somebody may write it: what stands before, in and behind its size line, and its content.
fn chunk() -> impl Strategy<Value = (String, Vec<u8>)> {
    let line = ("0{0,3}", "[ \t]{0,2}", prop::option::of(";[ -~\t]{0,20}"));
    (line, prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'0'), any::<u8>()], 1..60)).prop_map(
        |((zeros, blanks, extension), content)| (format!("{zeros}{:X}{blanks}{}", content.len(), extension.unwrap_or_default()), content),
    )
}

proptest! {
    #[test]
    fn a_body_is_the_same_however_it_is_cut(
        chunks in prop::collection::vec(chunk(), 0..6), trailers in prop::collection::vec("[a-z]{1,5}: [ -~]{0,20}", 0..3),
        lengths in prop::collection::vec(1_usize..50, 1..8),
    ) {
        let mut bytes: Vec<u8> = chunks.iter().flat_map(|(line, content)| [line.as_bytes(), b"\r\n", content, b"\r\n"].concat()).collect();
        bytes.extend_from_slice(b"0\r\n");
        trailers.iter().for_each(|line| bytes.extend_from_slice(format!("{line}\r\n").as_bytes()));
        bytes.extend_from_slice(b"\r\nnext");
        let found = read(&bytes, &lengths).expect("legal");
        prop_assert_eq!(&found, &read(&bytes, &[usize::MAX]).expect("legal"));
        prop_assert_eq!(found.taken, Some(bytes.len() - 4));
        let content: Vec<u8> = chunks.iter().flat_map(|(_, content)| content.clone()).collect();
        prop_assert_eq!(&found.content, &content);
        prop_assert_eq!(found.trailers.len(), trailers.len());
        // What is passed on, with an end of our own, is the same body in its plainest form.
        let mut passed = found.runs.clone();
        write_last(&mut passed);
        let again = read(&passed, &[usize::MAX]).expect("legal");
        prop_assert_eq!((&again.content, &again.runs, again.taken), (&content, &found.runs, Some(passed.len())));
        let plain: Vec<u8> = chunks.iter().flat_map(|(_, content)| [format!("{:X}\r\n", content.len()).as_bytes(), content, b"\r\n"].concat()).collect();
        prop_assert_eq!(found.runs, plain);
    }

    /// Any bytes: the verdict, and what was told before it, do not depend on the pieces.
    #[test]
    fn a_verdict_does_not_depend_on_how_the_bytes_are_cut(
        parts in prop::collection::vec(prop::sample::select(&["\r\n", "\r\n", "\n", "\r", "0", "3", "abc", "5;x", " ", "X: y", "\0", "0\r\n"][..]), 0..30),
        lengths in prop::collection::vec(1_usize..9, 1..5),
    ) {
        let bytes = parts.concat().into_bytes();
        prop_assert_eq!(read(&bytes, &lengths), read(&bytes, &[usize::MAX]));
    }
}
