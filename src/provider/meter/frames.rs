//! Amazon's event stream (`application/vnd.amazon.eventstream`): binary frames around JSON, read as they pass.
//!
//! A frame is a prelude (length of the frame, length of its headers, checksum), headers, a payload and a checksum. The
//! checksums are not verified: the client finds a broken frame itself.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html>

use super::{condense::Condensed, large::Gathered};

const PRELUDE: usize = 12;
const CHECKSUM: usize = 4;
/// Bytes of the largest frame that is read. The format allows 16 MiB of payload and 128 KiB of headers.
const LARGEST: usize = 24 * 1024 * 1024;
const MOST_HEADERS: usize = 128 * 1024;

/// A stream under way.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Prelude and headers of the frame under way.
    head: Vec<u8>,
    /// Bytes of payload still to come; `None`: the head is not complete.
    payload: Option<usize>,
    /// Bytes of the checksum still to come.
    checksum: usize,
    gathered: Gathered,
}

/// The kind of a frame, from its headers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Kind {
    /// The `:event-type`; for an exception its `:exception-type`.
    pub name: String,
    /// Whether the frame is an exception.
    pub exception: bool,
}

impl Frames {
    /// Whether a frame has begun and not ended.
    #[cfg(test)]
    pub fn mid_frame(&self) -> bool {
        !self.head.is_empty()
    }

    /// Gives every frame that ends in `piece` to `each`; `false`: the bytes are no event stream.
    pub fn feed(&mut self, piece: &[u8], mut each: impl FnMut(&Kind, &[u8], Option<&Condensed>)) -> bool {
        let mut rest = piece;
        loop {
            if self.checksum > 0 {
                let read = self.checksum.min(rest.len());
                self.checksum -= read;
                rest = &rest[read..];
                if self.checksum > 0 {
                    return true;
                }
                let kind = kind(&self.head[PRELUDE..]);
                self.gathered.give(|json, condensed| each(&kind, json, condensed));
                self.head.clear();
                self.payload = None;
            }
            let Some(left) = self.payload else {
                if rest.is_empty() {
                    return true;
                }
                match self.head(rest) {
                    Some(read) => rest = &rest[read..],
                    None => return false,
                }
                continue;
            };
            let read = left.min(rest.len());
            self.gathered.feed(&rest[..read]);
            rest = &rest[read..];
            self.payload = Some(left - read);
            if left > read {
                return true;
            }
            self.checksum = CHECKSUM;
        }
    }

    /// Reads prelude and headers. Gives the number of bytes read; `None`: the bytes are no frame.
    fn head(&mut self, rest: &[u8]) -> Option<usize> {
        let mut read = 0;
        if self.head.len() < PRELUDE {
            read = (PRELUDE - self.head.len()).min(rest.len());
            self.head.extend_from_slice(&rest[..read]);
        }
        if self.head.len() < PRELUDE {
            return Some(read);
        }
        let number = |at: usize| Some(u32::from_be_bytes(*self.head.get(at..)?.first_chunk()?) as usize);
        let (total, headers) = (number(0)?, number(4)?);
        if total > LARGEST || headers > MOST_HEADERS || PRELUDE + headers + CHECKSUM > total {
            return None;
        }
        let more = (PRELUDE + headers - self.head.len()).min(rest.len() - read);
        self.head.extend_from_slice(&rest[read..read + more]);
        if self.head.len() == PRELUDE + headers {
            self.payload = Some(total - PRELUDE - headers - CHECKSUM);
        }
        Some(read + more)
    }
}

/// Reads the kind of a frame from its headers, up to the first that cannot be read.
fn kind(headers: &[u8]) -> Kind {
    const TEXT: u8 = 7;
    const BYTES: u8 = 6;
    let mut found = Kind::default();
    let mut rest = headers;
    while let Some((name, value, after)) = header(rest) {
        rest = after;
        match (name, value) {
            (b":message-type", Some(b"exception" | b"error")) => found.exception = true,
            (b":event-type" | b":exception-type" | b":error-code", Some(value)) => found.name = String::from_utf8_lossy(value).into_owned(),
            _ => {}
        }
    }
    return found;

    type Header<'a> = (&'a [u8], Option<&'a [u8]>, &'a [u8]);

    /// The first header: its name, its value if that is a text, and the remaining bytes.
    fn header(bytes: &[u8]) -> Option<Header<'_>> {
        let (len, rest) = bytes.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(*len))?;
        let (kind, rest) = rest.split_first()?;
        let len = match *kind {
            0 | 1 => 0,
            2 => 1,
            3 => 2,
            4 => 4,
            5 | 8 => 8,
            9 => 16,
            BYTES | TEXT => {
                let (len, rest) = rest.split_first_chunk::<2>()?;
                let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
                return Some((name, (*kind == TEXT).then_some(value), rest));
            }
            _ => return None,
        };
        Some((name, None, rest.split_at_checked(len)?.1))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A frame of this kind.
    pub fn frame(message: &str, kind: &str, payload: &[u8]) -> Vec<u8> {
        let mut headers = Vec::new();
        for (name, value) in [(if message == "exception" { ":exception-type" } else { ":event-type" }, kind), (":message-type", message)] {
            headers.push(name.len() as u8);
            headers.extend_from_slice(name.as_bytes());
            headers.push(7);
            headers.extend_from_slice(&(value.len() as u16).to_be_bytes());
            headers.extend_from_slice(value.as_bytes());
        }
        let total = PRELUDE + headers.len() + payload.len() + CHECKSUM;
        let mut frame = Vec::new();
        frame.extend_from_slice(&(total as u32).to_be_bytes());
        frame.extend_from_slice(&(headers.len() as u32).to_be_bytes());
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(&headers);
        frame.extend_from_slice(payload);
        frame.extend_from_slice(&[0; 4]);
        frame
    }

    #[test]
    fn frames_however_they_are_cut() {
        let recorded: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts/bedrock/converse.eventstream"));
        let large = format!("{{\"a\":\"{}\"}}", "x ".repeat(100_000));
        let more =
            [frame("event", "chunk", b"{}"), frame("exception", "throttlingException", b""), frame("event", "large", large.as_bytes())];
        let stream = [recorded, &more.concat()].concat();
        for size in [1, 3, 50, 10_000, stream.len()] {
            let (mut frames, mut seen) = (Frames::default(), Vec::new());
            for piece in stream.chunks(size) {
                assert!(frames.feed(piece, |kind, json, condensed| {
                    seen.push((kind.name.clone(), kind.exception, condensed.is_some(), json.len().min(30)));
                }));
            }
            let names: Vec<&str> = seen.iter().map(|(name, ..)| name.as_str()).collect();
            assert_eq!(
                names,
                ["messageStart", "contentBlockDelta", "messageStop", "metadata", "chunk", "throttlingException", "large"],
                "{size}"
            );
            assert_eq!(
                seen.iter().map(|(_, exception, large, _)| (*exception, *large)).collect::<Vec<_>>()[4..],
                [(false, false), (true, false), (false, true)]
            );
            assert!(!frames.mid_frame());
        }
        assert!(!Frames::default().feed(b"{\"message\":\"no frame at all\"}", |_, _, _| {}));
    }
}
