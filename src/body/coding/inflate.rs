//! Gzip (RFC 1952) and both kinds of `deflate` (RFC 1950, RFC 1951).

use flate2::{Decompress, FlushDecompress, Status};

use super::{Next, PIECE, Stop};

/// The largest window of the format.
const WINDOW_BITS: u8 = 15;
const GZIP_MAGIC: u8 = 0x1f;
/// The method in the low half of zlib's first byte.
const DEFLATED: u8 = 8;

/// A stream under way.
pub(super) struct Inflate {
    state: State,
    out: Box<[u8]>,
}

enum State {
    /// The next gzip member is due, and every earlier byte was part of one.
    Member {
        /// A member has ended: more members may follow, or zeros, or nothing.
        after_one: bool,
    },
    Inside(Decompress, Kind),
    /// `deflate`: the first byte, until the second tells zlib from raw deflate.
    Undecided(Option<u8>),
    Ended,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gzip,
    Deflate,
}

impl Inflate {
    pub fn gzip() -> Self {
        Self::new(State::Member { after_one: false })
    }

    pub fn deflate() -> Self {
        Self::new(State::Undecided(None))
    }

    fn new(state: State) -> Self {
        Self { state, out: vec![0; PIECE].into() }
    }

    pub fn is_at_end(&self) -> bool {
        matches!(self.state, State::Ended | State::Member { after_one: true })
    }

    pub fn feed(&mut self, piece: &[u8], next: Next<'_>) -> Result<(), Stop> {
        let mut rest = piece;
        while let Some(&byte) = rest.first() {
            match &mut self.state {
                // Padding after the last member: tape drives left it, and readers skip it.
                State::Member { after_one: true } if byte == 0 => rest = &rest[1..],
                State::Member { .. } if byte == GZIP_MAGIC => {
                    self.state = State::Inside(Decompress::new_gzip(WINDOW_BITS), Kind::Gzip);
                }
                State::Member { .. } | State::Ended => return Err(Stop::Broken),
                State::Undecided(first @ None) => {
                    *first = Some(byte);
                    rest = &rest[1..];
                }
                State::Undecided(Some(first)) => {
                    let first = *first;
                    let zlib = first & 0x0f == DEFLATED && (u16::from(first) << 8 | u16::from(byte)).is_multiple_of(31);
                    self.state = State::Inside(Decompress::new(zlib), Kind::Deflate);
                    self.inflate(&[first], next)?;
                }
                State::Inside(..) => {
                    let read = self.inflate(rest, next)?;
                    rest = &rest[read..];
                }
            }
        }
        Ok(())
    }

    /// Decodes up to the end of the stream or of `input`; gives the number of bytes read.
    fn inflate(&mut self, input: &[u8], next: Next<'_>) -> Result<usize, Stop> {
        let State::Inside(inflate, kind) = &mut self.state else { return Err(Stop::Broken) };
        let mut at = 0;
        loop {
            let (read, written) = (inflate.total_in(), inflate.total_out());
            let status = inflate.decompress(&input[at..], &mut self.out, FlushDecompress::None);
            let (read, written) = ((inflate.total_in() - read) as usize, (inflate.total_out() - written) as usize);
            at += read;
            // Text before a fault is given too: with the fault in a later piece it would have been read.
            if written > 0 {
                next(&self.out[..written])?;
            }
            if status.map_err(|_| Stop::Broken)? == Status::StreamEnd {
                self.state = if *kind == Kind::Gzip { State::Member { after_one: true } } else { State::Ended };
                return Ok(at);
            }
            if read == 0 && written == 0 || at == input.len() && written < PIECE {
                // Without progress the rest can never be decoded.
                return if at == input.len() { Ok(at) } else { Err(Stop::Broken) };
            }
        }
    }
}
