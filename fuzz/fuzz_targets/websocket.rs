//! WebSocket frames: the same messages, the same fault and the same ends however the connection is cut; what a session makes of them
//! depends on the messages alone.
#![no_main]

mod cut;

use libfuzzer_sys::fuzz_target;
use outrigger::{
    body::websocket::{Deflate, Lost, Part, Reader},
    provider::session::{FromApp, FromProvider, Session, Told},
};

/// The messages, the rest of the one under way, the fault, and whether a frame and a message end at the end.
type Seen = (Vec<Vec<u8>>, Vec<u8>, Option<Lost>, [bool; 2]);

fn read(pieces: &[&[u8]], deflate: Option<Deflate>) -> (Seen, Vec<u64>) {
    let (mut whole, mut under_way, mut charged) = (Vec::new(), Vec::new(), Vec::new());
    let (mut reader, mut asked, mut heard) = (Reader::new(deflate), FromApp::new(Session::Realtime), FromProvider::new());
    for piece in pieces {
        reader.feed(piece, |part| {
            match part {
                Part::Text(text) => under_way.extend_from_slice(text),
                Part::End => whole.push(std::mem::take(&mut under_way)),
            }
            asked.feed(part);
            if let Some(Told::Ended(observed)) = heard.feed(part, &mut || 7) {
                charged.push(observed.usage.total());
            }
        });
    }
    charged.extend(heard.finish().map(|observed| observed.usage.total()));
    let ends = [reader.is_between_frames(), reader.is_between_messages()];
    assert!(ends[0] || !ends[1], "a message ends where a frame ends");
    let rest = if reader.lost().is_some() { Vec::new() } else { under_way };
    ((whole, rest, reader.lost(), ends), charged)
}

fuzz_target!(|input: &[u8]| {
    let Some((bytes, pieces)) = cut::cut(input) else { return };
    for deflate in [None, Some(Deflate { takeover: true }), Some(Deflate { takeover: false })] {
        let (one, many) = (read(&[bytes], deflate), read(&pieces, deflate));
        assert_eq!(one.0, many.0);
        assert_eq!(one.1, many.1);
    }
});
