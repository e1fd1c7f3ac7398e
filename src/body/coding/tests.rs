//! Tests of every coding: cut, broken, repeated and inflated.

use std::io::Write;

use flate2::{
    Compression,
    write::{DeflateEncoder, GzEncoder, ZlibEncoder},
};
use proptest::prelude::*;

use super::*;
use crate::http1::{Fields, Id};

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts/coding/", $name)) as &[u8]
    };
}

const TEXT: &[u8] = fixture!("request.json");
const ROOM: u64 = 32 << 20;

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).expect("memory");
    encoder.finish().expect("memory")
}

fn zlib(text: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).expect("memory");
    encoder.finish().expect("memory")
}

fn raw_deflate(text: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).expect("memory");
    encoder.finish().expect("memory")
}

fn zstd(text: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(text, ruzstd::encoding::CompressionLevel::Fastest)
}

fn headers(values: &[&str]) -> Fields {
    values.iter().map(|value| (Id::ContentEncoding, value)).collect()
}

fn decoded(values: &[&str], body: &[u8]) -> Text {
    decode(&headers(values), body, ROOM)
}

/// The name of each coding, and `TEXT` in it; by another encoder where there is one.
fn encoded() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("gzip", gzip(TEXT)),
        ("X-Gzip", gzip(TEXT)),
        ("deflate", zlib(TEXT)),
        ("deflate", raw_deflate(TEXT)),
        ("zstd", fixture!("request.json.zst").to_vec()),
        ("ZSTD", zstd(TEXT)),
        ("br", fixture!("request.json.br").to_vec()),
    ]
}

#[test]
fn every_coding_gives_its_text() {
    for (name, body) in encoded() {
        assert_eq!(decoded(&[name], &body), Text::Decoded(TEXT.into()), "{name}");
    }
}

#[test]
fn codings_lie_over_each_other_in_the_order_of_their_names() {
    let body = gzip(&zstd(TEXT));
    for values in [&["zstd, gzip"][..], &["zstd", "gzip"], &["identity, zstd,, gzip , identity"]] {
        assert_eq!(decoded(values, &body), Text::Decoded(TEXT.into()), "{values:?}");
    }
    assert_eq!(decoded(&["gzip, zstd"], &body), Text::Broken);
    assert!(matches!(decoded(&["gzip, gzip, gzip, gzip, gzip"], &body), Text::Unknown(_)));
}

#[test]
fn what_has_no_coding_is_plain_and_what_has_another_is_named() {
    for values in [&[][..], &["identity"], &[""], &["identity", "IDENTITY"]] {
        assert_eq!(decoded(values, TEXT), Text::Plain, "{values:?}");
    }
    assert_eq!(decoded(&["gzip"], b""), Text::Plain, "an empty body");
    for name in ["compress", "aws-chunked", "dcz", "gzip2"] {
        assert_eq!(decoded(&[name], TEXT), Text::Unknown(name.into()));
        assert_eq!(decoded(&["gzip", name], &gzip(TEXT)), Text::Unknown(name.into()), "one is enough");
    }
}

#[test]
fn what_is_not_in_its_coding_or_has_no_end_is_broken() {
    for (name, body) in encoded() {
        assert_eq!(decoded(&[name], TEXT), Text::Broken, "{name}: the text itself");
        assert_eq!(decoded(&[name], &body[..body.len() - 1]), Text::Broken, "{name}: the last byte is missing");
        assert_eq!(decoded(&[name], &body[..body.len() / 2]), Text::Broken, "{name}: half");
        assert_eq!(decoded(&[name], &[&body, &b"x"[..]].concat()), Text::Broken, "{name}: something behind it");
    }
}

#[test]
fn all_members_count_and_padding_does_not() {
    let twice: Vec<u8> = [TEXT, TEXT].concat();
    assert_eq!(decoded(&["gzip"], &[gzip(TEXT), gzip(TEXT)].concat()), Text::Decoded(twice.clone().into()));
    assert_eq!(decoded(&["gzip"], &[gzip(TEXT), vec![0; 600], gzip(TEXT)].concat()), Text::Decoded(twice.clone().into()));
    assert_eq!(decoded(&["gzip"], &[gzip(TEXT), vec![0; 600]].concat()), Text::Decoded(TEXT.into()));
    assert_eq!(decoded(&["zstd"], &[zstd(TEXT), fixture!("request.json.zst").to_vec()].concat()), Text::Decoded(twice.into()));
    let skipped = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, b'a', b'b', b'c'];
    for body in [[&skipped[..], &zstd(TEXT)].concat(), [&zstd(TEXT)[..], &skipped].concat()] {
        assert_eq!(decoded(&["zstd"], &body), Text::Decoded(TEXT.into()));
    }
    assert_eq!(decoded(&["zstd"], &[&zstd(TEXT)[..], &skipped[..9]].concat()), Text::Broken);
}

#[test]
fn a_text_has_a_bound_of_its_own_and_one_by_its_encoded_size() {
    let large = vec![b' '; 8 << 20];
    for (name, body) in [("gzip", gzip(&large)), ("deflate", zlib(&large)), ("zstd", zstd(&large))] {
        let most = ALWAYS.max(body.len() as u64 * RATIO);
        assert_eq!(decoded(&[name], &body), Text::TooLarge(most), "{name}: {} bytes", body.len());
    }
    assert_eq!(decoded(&["gzip"], &gzip(&large[..1 << 20])), Text::Decoded(large[..1 << 20].to_vec().into()), "small enough for any ratio");
    let noise: Vec<u8> = (0..3u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    assert_eq!(decode(&headers(&["gzip"]), &gzip(&noise), 2 << 20), Text::TooLarge(2 << 20));
    // A zip of zips: the outer one is small, the inner one is large.
    assert!(matches!(decoded(&["gzip, gzip"], &gzip(&gzip(&vec![0; 64 << 20]))), Text::TooLarge(_)));
}

#[test]
fn a_bomb_comes_in_bounded_pieces_and_stops_when_told() {
    let large = vec![b' '; 20_000_000];
    for (coding, bomb) in [(Coding::Gzip, gzip(&large)), (Coding::Zstd, zstd(&large))] {
        let (mut most, mut sum) = (0, 0);
        let mut decoder = Decoder::new(&[coding]);
        let fed = decoder.feed(&bomb, &mut |piece| {
            (most, sum) = (most.max(piece.len()), sum + piece.len());
            sum < 1_000_000
        });
        assert_eq!(fed, Err(Stop::Asked), "{coding:?}");
        assert!(most <= PIECE && sum < 1_000_000 + PIECE, "{coding:?}: {most} {sum}");
        assert_eq!(decoder.feed(b"x", &mut |_| true), Err(Stop::Asked), "for good");
    }
}

/// Repeats a block that says "128 KiB of the same byte" in four bytes.
#[test]
fn zstd_runs_are_read_one_at_a_time() {
    let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x58];
    for _ in 0..10_000 {
        bomb.extend_from_slice(&((128u32 << 10) << 3 | 1 << 1).to_le_bytes()[..3]);
        bomb.push(b' ');
    }
    let mut sum = 0;
    let fed = Decoder::new(&[Coding::Zstd]).feed(&bomb, &mut |piece| {
        sum += piece.len();
        sum < 1 << 20
    });
    assert_eq!(fed, Err(Stop::Asked));
    assert!(matches!(decoded(&["zstd"], &bomb), Text::TooLarge(_)));
}

fn in_pieces(codings: &[Coding], body: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let mut decoder = Decoder::new(codings);
    for piece in body.chunks(size) {
        let take = &mut |piece: &[u8]| {
            text.extend_from_slice(piece);
            true
        };
        decoder.feed(piece, take).ok()?;
    }
    decoder.finish().ok()?;
    Some(text)
}

/// The text up to the end or the first fault. (Brotli's decoder withholds the text of a piece with a fault.)
fn read_up_to_a_fault(codings: &[Coding], body: &[u8], size: usize) -> Vec<u8> {
    let mut text = Vec::new();
    let mut decoder = Decoder::new(codings);
    for piece in body.chunks(size) {
        let take = &mut |piece: &[u8]| {
            text.extend_from_slice(piece);
            true
        };
        if decoder.feed(piece, take).is_err() {
            break;
        }
    }
    text
}

#[test]
fn a_wrong_checksum_takes_nothing_away_from_what_was_read() {
    for (coding, mut body) in [(Coding::Gzip, gzip(TEXT)), (Coding::Deflate, zlib(TEXT))] {
        // The last four bytes are the checksum in zlib, and the length in gzip.
        let at = body.len() - 1;
        body[at] ^= 1;
        assert_eq!(read_up_to_a_fault(&[coding], &body, body.len()), TEXT, "{coding:?}");
    }
}

proptest! {
    #[test]
    fn what_is_read_before_a_fault_does_not_depend_on_how_it_is_cut(which in 0usize..6, size in 1usize..400, at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let (name, mut body) = encoded().swap_remove(which);
        let ContentEncoding::Known(codings) = ContentEncoding::of(&headers(&[name])) else { panic!("{name}") };
        let at = at.index(body.len());
        body[at] = byte;
        let whole = read_up_to_a_fault(&codings, &body, body.len());
        prop_assert_eq!(read_up_to_a_fault(&codings, &body, size), whole, "{}", name);
    }

    #[test]
    fn cutting_changes_nothing(which in 0usize..7, size in 1usize..400) {
        let (name, body) = encoded().swap_remove(which);
        let ContentEncoding::Known(codings) = ContentEncoding::of(&headers(&[name])) else { panic!("{name}") };
        prop_assert_eq!(in_pieces(&codings, &body, size), Some(TEXT.to_vec()));
    }

    #[test]
    fn any_text_comes_back(text in prop::collection::vec(any::<u8>(), 1..3_000), repeat in 1usize..30, size in 1usize..5_000) {
        let text = text.repeat(repeat);
        for (coding, body) in [(Coding::Gzip, gzip(&text)), (Coding::Deflate, zlib(&text)), (Coding::Deflate, raw_deflate(&text)), (Coding::Zstd, zstd(&text))] {
            prop_assert_eq!(in_pieces(&[coding], &body, size), Some(text.clone()));
        }
    }

    #[test]
    fn garbage_never_panics(body in prop::collection::vec(any::<u8>(), 0..300), which in 0usize..7, at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        for name in ["gzip", "deflate", "zstd", "br"] {
            decoded(&[name], &body);
        }
        let (name, mut body) = encoded().swap_remove(which);
        let at = at.index(body.len());
        body[at] = byte;
        decoded(&[name], &body);
    }
}
