//! Server-sent events: the same events however the stream is cut; ranges without a gap; the strip passes all but usage chunks.
#![no_main]

mod cut;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use outrigger::provider::{
    Strip,
    sse::{End, Event, MAX_EVENT, Splitter},
};

type Seen = (Vec<u8>, Vec<u8>);

fn split(pieces: &[&[u8]], max: usize) -> Vec<Seen> {
    let (mut events, mut at) = (Vec::new(), 0);
    let mut splitter = Splitter::new(max);
    let mut see = |event: Event<'_>| {
        assert_eq!(event.range.start, at, "ranges follow each other");
        assert!(event.range.end > at, "no stretch is empty");
        at = event.range.end;
        assert!(event.data.is_none() || matches!(event.end, End::Complete | End::Cut));
        let part = if matches!(event.end, End::Part | End::Oversized) { event.range.end - event.range.start } else { 0 };
        assert_eq!(event.part.len() as u64, part, "the parts are all of an oversized event");
        if let Some(data) = event.data {
            events.push((event.name.to_vec(), data.to_vec()));
        }
    };
    for piece in pieces {
        splitter.feed(piece, &mut see);
    }
    splitter.finish(&mut see);
    assert_eq!(at, pieces.iter().map(|piece| piece.len() as u64).sum::<u64>(), "every byte is in a stretch");
    events
}

fn strip(pieces: &[&[u8]]) -> Vec<u8> {
    let (mut out, mut strip) = (Vec::new(), Strip::new());
    for piece in pieces {
        strip.feed(&Bytes::copy_from_slice(piece), |part| out.extend_from_slice(&part));
    }
    out.extend_from_slice(&strip.finish());
    out
}

fuzz_target!(|input: &[u8]| {
    let Some((bytes, pieces)) = cut::cut(input) else { return };
    assert_eq!(split(&[bytes], MAX_EVENT), split(&pieces, MAX_EVENT));
    // A small bound may see less, and never something else.
    let all = split(&[bytes], MAX_EVENT);
    let mut few = all.iter();
    for event in split(&pieces, 16) {
        assert!(few.any(|known| *known == event), "{event:?} is no event of the stream");
    }
    let stripped = strip(&[bytes]);
    assert_eq!(stripped, strip(&pieces));
    assert!(stripped.len() <= bytes.len());
    if !bytes.windows(7).any(|window| window == b"\"usage\"") {
        assert_eq!(stripped, bytes);
    }
    let again = strip(&[&stripped]);
    assert!(again.len() <= stripped.len());
});
