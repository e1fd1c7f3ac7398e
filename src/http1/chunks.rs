//! Chunked bodies (RFC 9112 section 7.1): read byte by byte, and written.
//!
//! A reader hears of every piece twice: as content, and as the run of bytes that can be passed on as it came. Runs have what the sender
//! wrote, without chunk extensions (they belong to one hop, section 7.1.1), blanks and zeros before a size, and without the last chunk:
//! who passes runs on ends the body with [`write_last`]. So nothing is passed on that was not checked, and a plain chunk is passed on in
//! one piece.

use super::{
    head::Head,
    refusal::Refusal,
    scan::{Limits, Scanner},
};

/// What [`Chunks::read`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes of the body.
    Content(&'a [u8]),
    /// Bytes to pass on where the body stays chunked; the content in them was told before.
    Run(&'a [u8]),
}

/// Reads one chunked body.
#[derive(Debug)]
pub struct Chunks {
    state: State,
    /// The size of this chunk as far as it is read; then, what has not come of its content.
    left: u64,
    /// Hexadecimal digits of this chunk's size.
    digits: u8,
    /// Bytes of extensions in the whole body.
    extensions: u32,
    /// The trailer section, if there is one.
    trailers: Option<Box<Trailers>>,
}

#[derive(Debug)]
struct Trailers {
    scanner: Scanner,
    head: Head,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The size: its digits.
    Size,
    /// Blanks behind the size, which a `;` may follow.
    Blank,
    /// An extension.
    Extension,
    /// The LF behind the size.
    SizeEnd,
    Content,
    /// The CR behind the content.
    ContentCr,
    /// The LF behind the content.
    ContentEnd,
    /// The first byte behind the last chunk.
    Last,
    /// The LF of the empty line behind the last chunk.
    LastEnd,
    Trailers,
    Done,
}

/// Digits of a chunk size: as many as 64 bits have.
const MOST_DIGITS: u8 = 16;
/// Bytes of extensions in one body. Nobody uses any; who sends more than this wants something else.
const MOST_EXTENSIONS: u32 = 16 << 10;
/// A trailer section.
const TRAILERS: Limits = Limits { bytes: 8 << 10, fields: 100, target: 0 };

impl Default for Chunks {
    fn default() -> Self {
        Self { state: State::Size, left: 0, digits: 0, extensions: 0, trailers: None }
    }
}

impl Chunks {
    /// At the beginning of a body.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The trailer section, once the body has ended; `None` if there is none. Fields that must not stand there
    /// ([`super::NEVER_TRAILERS`]) are still in it.
    pub fn trailers(&self) -> Option<&Head> {
        self.trailers.as_ref().filter(|_| self.is_done()).map(|trailers| &trailers.head)
    }

    /// Reads on and tells `found` what there is. `Some(n)`: the body has ended with the first `n` bytes of `input`. `None`: all of it
    /// belongs to the body, and more must come.
    ///
    /// # Errors
    /// The body is malformed, and where it ends will never be known. What was told before is in order.
    pub fn read<'a>(&mut self, input: &'a [u8], mut found: impl FnMut(Piece<'a>)) -> Result<Option<usize>, Refusal> {
        let (mut at, mut run) = (0, None);
        let verdict = loop {
            if at == input.len() {
                break Ok(None);
            }
            let begun = at;
            let passes = match self.state {
                State::Content => {
                    let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len() - at);
                    found(Piece::Content(&input[at..at + length]));
                    at += length;
                    self.left -= length as u64;
                    if self.left == 0 {
                        self.state = State::ContentCr;
                    }
                    true
                }
                State::Last | State::LastEnd | State::Trailers | State::Done => {
                    break self.finish(&input[at..]).map(|end| end.map(|length| at + length));
                }
                _ => match self.frame(input[at]) {
                    Ok(passes) => {
                        at += 1;
                        passes
                    }
                    Err(why) => break Err(why),
                },
            };
            match run {
                None if passes => run = Some(begun),
                Some(from) if !passes => {
                    found(Piece::Run(&input[from..begun]));
                    run = None;
                }
                _ => {}
            }
        };
        if let Some(from) = run {
            found(Piece::Run(&input[from..at]));
        }
        verdict
    }

    /// A byte between the contents of two chunks. Whether it is passed on.
    fn frame(&mut self, byte: u8) -> Result<bool, Refusal> {
        // The last chunk is not passed on.
        let mut passes = self.left != 0;
        match (self.state, byte) {
            (State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                self.digits += 1;
                if self.digits > MOST_DIGITS {
                    return Err(Refusal::ChunkTooLarge);
                }
                self.left = self.left << 4 | u64::from((byte as char).to_digit(16).unwrap_or_default());
                passes = self.left != 0;
            }
            (State::Size, b' ' | b'\t' | b'\r' | b';') if self.digits == 0 => return Err(Refusal::ChunkSize),
            (State::Size | State::Blank | State::Extension, b'\r') => self.state = State::SizeEnd,
            (State::Size | State::Blank | State::Extension, b'\n') => return Err(Refusal::BareLf),
            (State::Size | State::Blank, b' ' | b'\t') => passes = self.extend(State::Blank)?,
            (State::Size | State::Blank, b';') => passes = self.extend(State::Extension)?,
            (State::Extension, b'\t' | b' '..=b'~' | 0x80..) => passes = self.extend(State::Extension)?,
            (State::Extension, _) => return Err(Refusal::Control),
            (State::SizeEnd, b'\n') => self.state = if self.left == 0 { State::Last } else { State::Content },
            (State::SizeEnd, _) => return Err(Refusal::BareCr),
            (State::ContentCr, b'\r') => (self.state, passes) = (State::ContentEnd, true),
            (State::ContentEnd, b'\n') => (self.state, self.digits, passes) = (State::Size, 0, true),
            (State::ContentCr | State::ContentEnd, _) => return Err(Refusal::ChunkEnd),
            _ => return Err(Refusal::ChunkSize),
        }
        Ok(passes)
    }

    /// A byte behind the size, of an extension or before one. It is never passed on.
    fn extend(&mut self, state: State) -> Result<bool, Refusal> {
        self.state = state;
        self.extensions += 1;
        if self.extensions > MOST_EXTENSIONS { Err(Refusal::ChunkExtensions) } else { Ok(false) }
    }

    /// What follows the last chunk: an empty line, or trailers that end with one. How many bytes of `input` that has.
    fn finish(&mut self, input: &[u8]) -> Result<Option<usize>, Refusal> {
        match (self.state, input) {
            (State::Done, _) => return Ok(Some(0)),
            (State::Last, [b'\r', b'\n', ..]) => {
                self.state = State::Done;
                return Ok(Some(2));
            }
            (State::Last, [b'\r']) => {
                self.state = State::LastEnd;
                return Ok(None);
            }
            (State::Last, [b'\r', ..]) => return Err(Refusal::BareCr),
            (State::LastEnd, [b'\n', ..]) => {
                self.state = State::Done;
                return Ok(Some(1));
            }
            (State::LastEnd, _) => return Err(Refusal::BareCr),
            _ => self.state = State::Trailers,
        }
        let Trailers { scanner, head } = &mut **self.trailers.get_or_insert_default();
        let end = scanner.scan(head, input).map_err(|why| match why {
            Refusal::TooManyFields => Refusal::TrailersTooLarge,
            why => why,
        })?;
        if end.is_some() {
            self.state = State::Done;
        }
        Ok(end)
    }
}

impl Default for Trailers {
    fn default() -> Self {
        Self { scanner: Scanner::trailers(TRAILERS), head: Head::new() }
    }
}

/// Writes `content` as one chunk; nothing if it is empty, because an empty chunk would be the last.
pub fn write_chunk(out: &mut Vec<u8>, content: &[u8]) {
    if !content.is_empty() {
        write_size(out, content.len());
        out.extend_from_slice(content);
        out.extend_from_slice(b"\r\n");
    }
}

/// Writes the line before a chunk of `length` bytes, which is not 0; who sends the content apart writes CR LF behind it.
pub fn write_size(out: &mut Vec<u8>, length: usize) {
    debug_assert!(length > 0, "an empty chunk is the last one");
    let digits = length.checked_ilog2().unwrap_or_default() / 4 + 1;
    out.extend((0..digits).rev().map(|digit| b"0123456789abcdef"[length >> (digit * 4) & 15]));
    out.extend_from_slice(b"\r\n");
}

/// Writes the last chunk and the end of a body without trailers.
pub fn write_last(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n\r\n");
}

#[cfg(test)]
#[path = "chunks_tests.rs"]
mod tests;
