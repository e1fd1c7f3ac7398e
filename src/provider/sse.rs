//! Server-sent events, split out of bytes as they come. No byte is changed, and few are copied.
//!
//! The framing is that of the WHATWG HTML standard, section 9.2.6: lines end with CR, LF or CRLF, also mixed; an event ends
//! at an empty line; a byte order mark is ignored once; several `data` lines are joined by LF. Pieces may be cut anywhere.
//!
//! [`Splitter`] promises the same events for every way of cutting the input. Its ranges follow each other without a gap from the
//! first byte to the last: whole events can be cut out, and the other bytes pass unchanged.

use std::ops::Range;

pub use crate::body::events::MAX_EVENT;
pub(super) use crate::body::events::{Boundary, fields};

/// Whether a `Content-Type` is that of an event stream: server-sent events, or Amazon's binary format.
pub fn is_stream(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("text/event-stream") || essence.eq_ignore_ascii_case("application/vnd.amazon.eventstream")
}

/// One event, or another stretch of the stream.
#[derive(Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The `event` field; empty if there is none.
    pub name: &'a [u8],
    /// The `data` field; `None` if there is none (comments, blank lines, oversized events).
    pub data: Option<&'a [u8]>,
    /// The bytes of a part of an oversized event; empty otherwise.
    pub part: &'a [u8],
    /// The range of the bytes, counted from the first byte of the stream.
    pub range: Range<u64>,
    /// How the stretch ended.
    pub end: End,
}

/// How a stretch of the stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With its empty line.
    Complete,
    /// The LF of a CRLF whose CR ended the stretch before, in an earlier piece.
    LineFeed,
    /// Part of an event larger than the bound; more of it follows.
    Part,
    /// The last part of an event larger than the bound.
    Oversized,
    /// The stream ended without an empty line.
    Cut,
}

/// Splits a stream into events.
#[derive(Debug)]
pub struct Splitter {
    boundary: Boundary,
    /// The beginning of an event that is not complete yet.
    held: Vec<u8>,
    /// Joined `data` lines; the buffer is kept for its capacity.
    joined: Vec<u8>,
    max: usize,
    oversized: bool,
    first: bool,
    /// Position of the first byte not yet given out.
    at: u64,
}

impl Splitter {
    /// A splitter that holds events of up to `max` bytes.
    pub fn new(max: usize) -> Self {
        Self { boundary: Boundary::default(), held: Vec::new(), joined: Vec::new(), max, oversized: false, first: true, at: 0 }
    }

    /// Gives every stretch that ends in `piece` to `each`. Copies only the beginning of an event that a later piece will complete.
    pub fn feed(&mut self, piece: &[u8], mut each: impl FnMut(Event<'_>)) {
        let mut rest = piece;
        if self.boundary.take_line_feed(rest) {
            each(Event { name: b"", data: None, part: b"", range: self.advance(1), end: End::LineFeed });
            rest = &rest[1..];
        }
        while let Some(len) = self.boundary.find(rest) {
            let (event, after) = rest.split_at(len);
            rest = after;
            if self.oversized || self.held.len() + len > self.max {
                self.part(event, End::Oversized, &mut each);
                self.oversized = false;
                self.first = false;
            } else if self.held.is_empty() {
                self.complete(event, End::Complete, &mut each);
            } else {
                let mut held = std::mem::take(&mut self.held);
                held.extend_from_slice(event);
                self.complete(&held, End::Complete, &mut each);
                held.clear();
                self.held = held;
            }
        }
        if self.oversized || self.held.len() + rest.len() > self.max {
            self.oversized = true;
            self.part(rest, End::Part, &mut each);
        } else {
            self.held.extend_from_slice(rest);
        }
    }

    /// Gives a part of an oversized event: its held bytes, then `bytes`, which end with `end`.
    fn part(&mut self, bytes: &[u8], end: End, each: &mut impl FnMut(Event<'_>)) {
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            let end = if bytes.is_empty() { end } else { End::Part };
            each(Event { name: b"", data: None, part: &held, range: self.advance(held.len()), end });
        }
        if !bytes.is_empty() {
            each(Event { name: b"", data: None, part: bytes, range: self.advance(bytes.len()), end });
        }
    }

    /// Gives the last event if the stream ended without its empty line. The standard discards such an event; accounting must not.
    pub fn finish(&mut self, mut each: impl FnMut(Event<'_>)) {
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            self.complete(&held, End::Cut, &mut each);
        }
    }

    /// Whether an event has begun and not ended.
    pub fn mid_event(&self) -> bool {
        self.oversized || !self.held.is_empty()
    }

    fn complete(&mut self, raw: &[u8], end: End, each: &mut impl FnMut(Event<'_>)) {
        let range = self.advance(raw.len());
        let raw = if std::mem::take(&mut self.first) { raw.strip_prefix(b"\xef\xbb\xbf").unwrap_or(raw) } else { raw };
        self.joined.clear();
        let (name, data) = fields(raw, &mut self.joined);
        each(Event { name, data, part: b"", range, end });
    }

    fn advance(&mut self, len: usize) -> Range<u64> {
        let start = self.at;
        self.at += len as u64;
        start..self.at
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Seen = (Vec<u8>, Vec<u8>);

    fn split(pieces: &[&[u8]], max: usize) -> (Vec<Seen>, Vec<(Range<u64>, End)>) {
        let (mut events, mut ranges) = (Vec::new(), Vec::new());
        let mut splitter = Splitter::new(max);
        let mut see = |event: Event<'_>| {
            if let Some(data) = event.data {
                events.push((event.name.to_vec(), data.to_vec()));
            }
            ranges.push((event.range, event.end));
        };
        for piece in pieces {
            splitter.feed(piece, &mut see);
        }
        splitter.finish(&mut see);
        (events, ranges)
    }

    fn events(text: &str) -> Vec<(String, String)> {
        let utf8 = |bytes| String::from_utf8(bytes).expect("text");
        split(&[text.as_bytes()], MAX_EVENT).0.into_iter().map(|(name, data)| (utf8(name), utf8(data))).collect()
    }

    #[test]
    fn events_of_every_shape() {
        let one = |name: &str, data: &str| vec![(name.to_owned(), data.to_owned())];
        assert_eq!(events("data: x\n\n"), one("", "x"));
        assert_eq!(events("data:x\r\n\r\n"), one("", "x"));
        assert_eq!(events("data:  x\r\r"), one("", " x"));
        assert_eq!(events("event: e\r\ndata: x\n\r"), one("e", "x"));
        assert_eq!(events("\u{feff}data: x\n\n"), one("", "x"));
        assert_eq!(events(": ping\n\ndata: a\ndata: b\n\n"), one("", "a\nb"));
        assert_eq!(events("data\n\n"), one("", ""));
        assert_eq!(events("data: a\ndata:\ndata: b\n\n"), one("", "a\n\nb"));
        assert_eq!(events("database: x\n\nid: 1\nretry: 2\n\n\n\n"), vec![]);
        assert_eq!(events("data: no end"), one("", "no end"));
    }

    #[test]
    fn a_line_feed_in_the_next_piece_belongs_to_the_event_before() {
        let (events, ranges) = split(&[b"data: a\r\n\r", b"\ndata: b\r\n", b"\r\n"], MAX_EVENT);
        assert_eq!(events.len(), 2);
        assert_eq!(ranges, [(0..10, End::Complete), (10..11, End::LineFeed), (11..22, End::Complete)]);
    }

    #[test]
    fn an_event_that_lies_in_one_piece_is_not_copied() {
        let piece = b"event: e\ndata: {\"a\":1}\n\ndata: 2\n\n";
        let within = |part: &[u8]| piece.as_ptr_range().contains(&part.as_ptr());
        let mut splitter = Splitter::new(MAX_EVENT);
        let mut seen = 0;
        splitter.feed(piece, |event| {
            assert!(event.data.is_some_and(within));
            seen += 1;
        });
        assert_eq!((seen, splitter.held.capacity(), splitter.joined.capacity()), (2, 0, 0));
    }

    #[test]
    fn an_oversized_event_comes_in_parts_and_the_next_is_seen() {
        let (events, ranges) = split(&[b"data: aaaa", b"aaaaaaaaaa", b"a\n\ndata: b\n\n"], 12);
        assert_eq!(events, [(vec![], b"b".to_vec())]);
        let ends: Vec<_> = ranges.iter().map(|(_, end)| *end).collect();
        assert_eq!(ends, [End::Part, End::Part, End::Oversized, End::Complete]);
        let (events, _) = split(&[b"data: aaaaaaaaaaaaaa\n\ndata: b\n\n"], 12);
        assert_eq!(events.len(), 1, "also when it lies in one piece");
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_events(
            tokens in prop::collection::vec(prop::sample::select(vec![
                "data", ":", " ", "x", "é", "event", "\r", "\n", "\r\n", "\n\n", "\r\n\r\n", "\u{feff}", "data: y\n", "id",
            ]), 0..60),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let text = tokens.concat().into_bytes();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            at.extend([0, text.len()]);
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|w| &text[w[0]..w[1]]).collect();
            let (whole, _) = split(&[&text], MAX_EVENT);
            let (cut, ranges) = split(&pieces, MAX_EVENT);
            prop_assert_eq!(whole, cut);
            let mut end = 0;
            for (range, _) in ranges {
                prop_assert_eq!(range.start, end);
                end = range.end;
            }
            prop_assert_eq!(end, text.len() as u64);
        }

        #[test]
        fn a_small_bound_never_loses_a_byte(text in prop::collection::vec(prop::sample::select(b"da:\r\n ".to_vec()), 0..80), size in 1usize..9, max in 1usize..20) {
            let pieces: Vec<&[u8]> = text.chunks(size).collect();
            let (_, ranges) = split(&pieces, max);
            let mut end = 0;
            for (range, _) in ranges {
                prop_assert_eq!(range.start, end);
                end = range.end;
            }
            prop_assert_eq!(end, text.len() as u64);
        }
    }
}
