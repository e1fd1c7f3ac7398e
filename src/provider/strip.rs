//! Takes the usage chunk out of an OpenAI chat or completions stream whose client did not ask for it.
//!
//! It serves streams whose request got the option from [`with_include_usage`](super::rewrite::with_include_usage), and bodies
//! without a content coding. Whole events are cut; every other byte passes as it came. `"usage": null` in the other chunks
//! stays: every client ignores it.

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;

use super::{
    json,
    sse::{self, Boundary, MAX_EVENT},
};

/// A stream under way. It holds back an event until the event's end has come, and never more than [`MAX_EVENT`] bytes.
#[derive(Debug, Default)]
pub struct Strip {
    boundary: Boundary,
    /// The beginning of an event.
    held: Vec<u8>,
    /// The event under way is too large to be held and passes.
    passing: bool,
    /// The event before was cut. An LF that still belongs to it is cut too.
    cut: bool,
    joined: Vec<u8>,
}

impl Strip {
    /// A stream before its first byte.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a piece and gives the bytes to be sent on, in order. Events that lie whole in a piece are not copied.
    pub fn feed(&mut self, piece: &Bytes, mut send: impl FnMut(Bytes)) {
        let mut start = 0;
        if self.boundary.take_line_feed(piece) {
            if !self.cut {
                send(piece.slice(..1));
            }
            start = 1;
        }
        // Whole events that stay, from `whole` to `start`: they are sent in one go.
        let mut whole = start;
        while let Some(len) = self.boundary.find(&piece[start..]) {
            let end = start + len;
            if std::mem::take(&mut self.passing) {
                self.cut = false;
            } else if self.held.is_empty() {
                self.cut = self.is_usage_chunk(&piece[start..end]);
            } else {
                let mut held = std::mem::take(&mut self.held);
                held.extend_from_slice(&piece[start..end]);
                self.cut = self.is_usage_chunk(&held);
                if !self.cut {
                    send(held.into());
                }
                whole = end;
            }
            if self.cut {
                if whole < start {
                    send(piece.slice(whole..start));
                }
                whole = end;
            }
            start = end;
        }
        let rest = piece.len() - start;
        if self.passing || self.held.len() + rest > MAX_EVENT {
            self.passing = rest > 0 || self.passing;
            if !self.held.is_empty() {
                send(std::mem::take(&mut self.held).into());
            }
            start = piece.len();
        }
        if whole < start {
            send(piece.slice(whole..start));
        }
        self.held.extend_from_slice(&piece[start..]);
    }

    /// The bytes held back when the stream ended: an event without its end, which passes.
    pub fn finish(self) -> Bytes {
        self.held.into()
    }

    /// Whether the event has usage and no choice.
    fn is_usage_chunk(&mut self, raw: &[u8]) -> bool {
        if USAGE.find(raw).is_none() {
            return false;
        }
        self.joined.clear();
        let raw = raw.strip_prefix(b"\xef\xbb\xbf").unwrap_or(raw);
        let (_, data) = sse::fields(raw, &mut self.joined);
        data.and_then(json::lenient::<Chunk>)
            .is_some_and(|chunk| chunk.usage.is_some() && chunk.error.is_none() && chunk.choices.is_none_or(|choices| choices.is_empty()))
    }
}

/// The search of every event, prepared once.
static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"usage\""));

#[derive(serde::Deserialize)]
struct Chunk {
    choices: Option<Vec<serde::de::IgnoredAny>>,
    usage: Option<serde::de::IgnoredAny>,
    error: Option<serde::de::IgnoredAny>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stripped(pieces: impl IntoIterator<Item = Bytes>) -> Vec<u8> {
        let mut out = Vec::new();
        let mut strip = Strip::new();
        for piece in pieces {
            strip.feed(&piece, |bytes| out.extend_from_slice(&bytes));
        }
        out.extend_from_slice(&strip.finish());
        out
    }

    fn transcript(name: &str) -> Bytes {
        let path = format!("{}/tests/transcripts/openai/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(path).expect("a transcript").into()
    }

    /// The same stream without the event that holds the usage chunk.
    fn without_usage(text: &[u8], end: &str) -> Vec<u8> {
        let text = std::str::from_utf8(text).expect("text");
        let kept = text.split_inclusive(end).filter(|event| !event.contains("\"choices\":[],") && !event.contains("\"choices\": null"));
        kept.collect::<String>().into_bytes()
    }

    #[test]
    fn the_usage_chunk_alone_is_cut() {
        for (name, end) in [("chat_usage.sse", "\n\n"), ("chat_crlf.sse", "\r\n\r\n"), ("chat_compatible.sse", "\n\n")] {
            let text = transcript(name);
            let expected = without_usage(&text, end);
            assert!(expected.len() < text.len());
            for size in [1, 2, 3, 50, 307, text.len()] {
                let pieces = (0..text.len()).step_by(size).map(|at| text.slice(at..(at + size).min(text.len())));
                assert_eq!(stripped(pieces), expected, "{name} by {size}");
            }
        }
        for name in ["chat_plain.sse", "chat_cut.sse", "chat_error_late.sse"] {
            assert_eq!(stripped([transcript(name)]), transcript(name), "{name}");
        }
    }

    #[test]
    fn whole_events_pass_at_once_and_without_a_copy() {
        let piece = Bytes::from_static(b"data: {\"a\":1}\n\ndata: {\"b\":2}\n\n");
        let mut sent = Vec::new();
        Strip::new().feed(&piece, |bytes| sent.push(bytes));
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].as_ptr(), piece.as_ptr());
    }

    #[test]
    fn an_event_that_is_too_large_passes() {
        let large = Bytes::from(format!("data: {{\"usage\":1,\"x\":\"{}\"}}\n\ndata: [DONE]\n\n", "x".repeat(2 * MAX_EVENT)));
        let pieces = (0..large.len()).step_by(10_000).map(|at| large.slice(at..(at + 10_000).min(large.len())));
        assert_eq!(stripped(pieces), large);
    }

    proptest! {
        #[test]
        fn whatever_is_no_usage_chunk_passes(
            tokens in prop::collection::vec(prop::sample::select(vec![
                "data: ", "{\"choices\":[1],\"usage\":{}}", "\r", "\n", "\r\n", "\n\n", "\r\n\r\n", "{\"usage\":null}", ":", "x",
            ]), 0..50),
            size in 1usize..40,
        ) {
            let text = Bytes::from(tokens.concat());
            let pieces = (0..text.len()).step_by(size).map(|at| text.slice(at..(at + size).min(text.len())));
            prop_assert_eq!(stripped(pieces), text.clone());
        }

        #[test]
        fn cutting_the_input_changes_nothing(
            events in prop::collection::vec(prop::sample::select(vec![
                "data: {\"choices\":[1],\"usage\":null}", "data: {\"choices\":[],\"usage\":{}}", ": ping", "data: [DONE]",
            ]), 0..12),
            end in prop::sample::select(vec!["\n\n", "\r\n\r\n", "\r\r"]),
            size in 1usize..60,
        ) {
            let text = Bytes::from(events.iter().map(|event| format!("{event}{end}")).collect::<String>());
            let expected = without_usage(&text, end);
            let pieces = (0..text.len()).step_by(size).map(|at| text.slice(at..(at + size).min(text.len())));
            let out = stripped(pieces);
            prop_assert_eq!(String::from_utf8(out).expect("text"), String::from_utf8(expected).expect("text"));
        }
    }
}
