//! A reader's events do not depend on how the network cut the bytes, on masks, fragments or compression.

use flate2::{Compress, Compression, FlushCompress};
use proptest::prelude::*;

use super::*;

/// The texts of the complete messages, and the unread rest of the last one.
fn read(reader: &mut Reader, pieces: impl IntoIterator<Item = impl AsRef<[u8]>>) -> (Vec<Vec<u8>>, Vec<u8>) {
    let (mut whole, mut under_way) = (Vec::new(), Vec::new());
    for piece in pieces {
        reader.feed(piece.as_ref(), |part| match part {
            Part::Text(text) => under_way.extend_from_slice(text),
            Part::End => whole.push(std::mem::take(&mut under_way)),
        });
    }
    (whole, under_way)
}

fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let bit = if mask.is_some() { 0x80 } else { 0 };
    let mut out = vec![first];
    match payload.len() {
        short @ ..126 => out.push(short as u8 | bit),
        middle @ ..65_536 => {
            out.push(126 | bit);
            out.extend_from_slice(&(middle as u16).to_be_bytes());
        }
        long => {
            out.push(127 | bit);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask.unwrap_or_default()[..if mask.is_some() { 4 } else { 0 }]);
    out.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask.map_or(0, |mask| mask[at % 4])));
    out
}

/// Compresses a message as RFC 7692 section 7.2.1 says.
fn compress(state: &mut Compress, text: &[u8]) -> Vec<u8> {
    // Section 7.2.3.6: the library flushes nothing where nothing has come since the last flush.
    if text.is_empty() {
        return vec![0];
    }
    let mut out = Vec::with_capacity(text.len() * 2 + 64);
    state.compress_vec(text, &mut out, FlushCompress::Sync).expect("compressed");
    assert!(out.ends_with(&[0, 0, 0xff, 0xff]));
    out.truncate(out.len() - 4);
    out
}

#[derive(Debug, Clone)]
struct Said {
    text: Vec<u8>,
    binary: bool,
    compressed: bool,
    fragments: usize,
    mask: Option<[u8; 4]>,
    ping: bool,
}

fn said() -> impl Strategy<Value = Said> {
    let text = prop_oneof![prop::collection::vec(97u8..102, 0..400), prop::collection::vec(97u8..102, 60_000..70_000)];
    (text, any::<bool>(), any::<bool>(), 1usize..4, prop::option::of(any::<[u8; 4]>()), any::<bool>())
        .prop_map(|(text, binary, compressed, fragments, mask, ping)| Said { text, binary, compressed, fragments, mask, ping })
}

fn bytes(all: &[Said], takeover: bool) -> Vec<u8> {
    let mut state = Compress::new(Compression::fast(), false);
    let mut out = Vec::new();
    for said in all {
        let payload = if said.compressed { compress(&mut state, &said.text) } else { said.text.clone() };
        if !takeover {
            state.reset();
        }
        let size = payload.len().div_ceil(said.fragments).max(1);
        let mut parts: Vec<&[u8]> = payload.chunks(size).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        for (at, part) in parts.iter().enumerate() {
            let opcode = if at > 0 { 0 } else { (if said.binary { 2 } else { 1 }) | if said.compressed { 0x40 } else { 0 } };
            let last = if at + 1 == parts.len() { 0x80 } else { 0 };
            out.extend(frame(opcode | last, part, said.mask));
            if said.ping {
                out.extend(frame(0x89, b"still there?", said.mask));
            }
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn any_segmentation_gives_the_same_messages(
        all in prop::collection::vec(said(), 1..5), takeover in any::<bool>(), cuts in prop::collection::vec(1usize..5_000, 1..40),
    ) {
        let wire = bytes(&all, takeover);
        let expected: Vec<Vec<u8>> = all.iter().filter(|said| !said.binary).map(|said| said.text.clone()).collect();
        let mut at = 0;
        let mut pieces = Vec::new();
        for cut in cuts.iter().cycle() {
            if at >= wire.len() {
                break;
            }
            let end = (at + cut).min(wire.len());
            pieces.push(&wire[at..end]);
            at = end;
        }
        for pieces in [vec![&wire[..]], pieces] {
            let mut reader = Reader::new(Some(Deflate { takeover }));
            prop_assert_eq!(read(&mut reader, pieces), (expected.clone(), Vec::new()));
            prop_assert!(reader.is_between_messages() && reader.lost().is_none());
        }
    }

    #[test]
    fn garbage_never_panics(wire in prop::collection::vec(any::<u8>(), 0..300), deflate in any::<bool>()) {
        let mut reader = Reader::new(deflate.then_some(Deflate { takeover: true }));
        read(&mut reader, [wire]);
    }
}

#[test]
fn a_text_in_single_bytes() {
    let wire = [frame(0x01, b"hel", Some([1, 2, 3, 4])), frame(0x80, b"lo", None), frame(0x82, b"sound", None)].concat();
    let mut reader = Reader::new(None);
    assert_eq!(read(&mut reader, wire.chunks(1)), (vec![b"hello".to_vec()], vec![]));
    assert_eq!(read(&mut reader, [text_frame(&"x".repeat(70_000))]).0[0].len(), 70_000);
    assert_eq!(read(&mut reader, [close_frame(1008, &"ä".repeat(100), true), close_frame(1008, "", false)]), (vec![], vec![]));
    assert!(reader.is_between_messages());
}

#[test]
fn the_ends_of_frames_and_messages_are_known() {
    let mut reader = Reader::new(None);
    let first = frame(0x01, b"hel", None);
    read(&mut reader, [&first[..2]]);
    assert!(!reader.is_between_frames());
    read(&mut reader, [&first[2..]]);
    assert!(reader.is_between_frames() && !reader.is_between_messages());
    read(&mut reader, [frame(0x80, b"lo", None)]);
    assert!(reader.is_between_messages());
}

#[test]
fn a_final_block_ends_the_stream_and_not_the_message() {
    // RFC 7692 section 7.2.3.4: the message "Hello" in a final block, and one byte behind it.
    let payload = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    let mut reader = Reader::new(Some(Deflate { takeover: true }));
    let wire = [frame(0xc1, &payload, None), frame(0xc1, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], None)].concat();
    assert_eq!(read(&mut reader, [wire]).0, [b"Hello", b"Hello"]);
}

#[test]
fn what_cannot_be_read_is_lost() {
    let deflate = Some(Deflate { takeover: true });
    for (what, deflate, wire, lost) in [
        ("compressed without an agreement", None, frame(0xc1, b"x", None), Lost::Reserved),
        ("another reserved bit", deflate, frame(0xa1, b"x", None), Lost::Reserved),
        ("an unknown opcode", deflate, frame(0x83, b"x", None), Lost::Reserved),
        ("a compressed control frame", deflate, frame(0xc9, b"x", None), Lost::Reserved),
        ("a continuation of nothing", None, frame(0x80, b"x", None), Lost::Order),
        ("a message inside a message", None, [frame(0x01, b"x", None), frame(0x81, b"x", None)].concat(), Lost::Order),
        ("a fragmented control frame", None, frame(0x09, b"x", None), Lost::Order),
        ("a long control frame", None, frame(0x89, &[0; 126], None), Lost::Order),
        ("no deflate", deflate, frame(0xc1, &[0xff; 9], None), Lost::Inflate),
    ] {
        let mut reader = Reader::new(deflate);
        read(&mut reader, [wire, frame(0x81, b"later", None)]);
        assert_eq!(reader.lost(), Some(lost), "{what}");
        assert_eq!(read(&mut reader, [frame(0x81, b"later", None)]).0, Vec::<Vec<u8>>::new(), "{what}");
    }
}

#[test]
fn extensions_are_agreed_on_by_the_server() {
    let both = |client, server| Ok(Some((Deflate { takeover: client }, Deflate { takeover: server })));
    for (fields, expected) in [
        (vec![], Ok(None)),
        (vec!["permessage-deflate"], both(true, true)),
        (vec!["Permessage-Deflate; server_no_context_takeover; client_max_window_bits=12"], both(true, false)),
        (vec!["permessage-deflate;client_no_context_takeover ; server_max_window_bits=15"], both(false, true)),
        (vec!["permessage-deflate; strange"], Err(Lost::Reserved)),
        (vec!["x-own"], Err(Lost::Reserved)),
        (vec!["permessage-deflate, permessage-deflate"], Err(Lost::Reserved)),
    ] {
        assert_eq!(Deflate::agreed(fields.iter().copied()), expected, "{fields:?}");
    }
}

#[test]
fn a_turn_inflates_little_however_well_the_bytes_are_compressed() {
    let mut state = Compress::new(Compression::best(), false);
    let small: Vec<u8> = (0..40).flat_map(|_| frame(0xc1, &compress(&mut state, &[b' '; 60_000]), Some([1, 2, 3, 4]))).collect();
    let one = frame(0xc1, &compress(&mut Compress::new(Compression::best(), false), &[b' '; 8_000_000]), None);
    for (wire, texts, size) in [(small, 40, 60_000), (one, 1, 8_000_000)] {
        let (mut reader, mut read, mut turns, mut ends) = (Reader::new(Some(Deflate { takeover: true })), 0, 0, 0);
        let mut under_way = 0;
        while read < wire.len() {
            let mut given = 0;
            read += reader.feed_turn(&wire[read..], |part| match part {
                Part::Text(text) => given += text.len(),
                Part::End => ends += 1,
            });
            assert!(given <= 256 * 1024, "{given}");
            (turns, under_way) = (turns + 1, under_way + given);
        }
        assert_eq!((ends, under_way, reader.lost()), (texts, texts * size, None));
        assert!(turns >= texts * size / (256 * 1024), "{turns}");
    }
    let plain = frame(0x81, &[b' '; 60_000], None);
    assert_eq!(Reader::new(None).feed_turn(&plain, |_| {}), plain.len(), "what is not compressed is read at once");
}
