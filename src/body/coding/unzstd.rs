//! Zstandard (RFC 8878), block by block: a block is read only when all of it has come, and gives at most 128 KiB.

use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};

use super::{Next, PIECE, Stop};

/// Largest window. RFC 9659 allows 8 MiB; a frame that is its own window may be larger.
const LARGEST_WINDOW: u64 = 32 * 1024 * 1024;
/// Magic, descriptor, window, dictionary, size.
const LONGEST_HEADER: usize = 18;
const BLOCK_HEADER: usize = 3;
const LARGEST_BLOCK: usize = 128 * 1024;
const CHECKSUM: usize = 4;
/// A block of this type has one byte, whatever its size field says.
const RUN: u32 = 1;

/// A stream under way.
#[derive(Default)]
pub(super) struct Unzstd {
    /// Input that is not read yet: less than one block.
    held: Vec<u8>,
    frame: Option<Frame>,
    /// Bytes of a skippable frame that are still to come.
    skip: u64,
    any: bool,
}

struct Frame {
    decoder: Box<FrameDecoder>,
    has_checksum: bool,
}

impl Unzstd {
    pub fn is_at_end(&self) -> bool {
        self.any && self.frame.is_none() && self.skip == 0 && self.held.is_empty()
    }

    pub fn feed(&mut self, piece: &[u8], next: Next<'_>) -> Result<(), Stop> {
        if self.held.is_empty() {
            let read = self.steps(piece, next)?;
            self.held.extend_from_slice(&piece[read..]);
            return Ok(());
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(piece);
        let read = self.steps(&held, next)?;
        held.drain(..read);
        self.held = held;
        Ok(())
    }

    /// Reads the complete parts of `input`; gives the number of bytes read.
    fn steps(&mut self, input: &[u8], next: Next<'_>) -> Result<usize, Stop> {
        let mut at = 0;
        while at < input.len() {
            match self.step(&input[at..], next)? {
                0 => break,
                read => at += read,
            }
        }
        Ok(at)
    }

    /// Reads a header, a block or a part of a skippable frame; 0: more input must come first.
    fn step(&mut self, input: &[u8], next: Next<'_>) -> Result<usize, Stop> {
        if self.skip > 0 {
            let read = self.skip.min(input.len() as u64);
            self.skip -= read;
            return Ok(read as usize);
        }
        if self.frame.is_none() {
            return self.begin(input);
        }
        self.block(input, next)
    }

    fn begin(&mut self, input: &[u8]) -> Result<usize, Stop> {
        let mut decoder = Box::new(FrameDecoder::new());
        decoder.set_max_window_size(LARGEST_WINDOW);
        let mut rest = input;
        match decoder.init(&mut rest) {
            Ok(()) => {
                self.any = true;
                // The descriptor's third bit.
                let has_checksum = input[4] & 0b100 != 0;
                self.frame = Some(Frame { decoder, has_checksum });
                Ok(input.len() - rest.len())
            }
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                self.any = true;
                self.skip = u64::from(length);
                Ok(input.len() - rest.len())
            }
            Err(FrameDecoderError::ReadFrameHeaderError(error)) if input.len() < LONGEST_HEADER && is_cut(&error) => Ok(0),
            Err(_) => Err(Stop::Broken),
        }
    }

    fn block(&mut self, input: &[u8], next: Next<'_>) -> Result<usize, Stop> {
        let Some(frame) = &mut self.frame else { return Err(Stop::Broken) };
        let Some(&[a, b, c]) = input.first_chunk::<BLOCK_HEADER>() else { return Ok(0) };
        let header = u32::from_le_bytes([a, b, c, 0]);
        let (last, kind, size) = (header & 1 == 1, header >> 1 & 0b11, (header >> 3) as usize);
        let content = if kind == RUN { 1 } else { size };
        let whole = BLOCK_HEADER + content + if last && frame.has_checksum { CHECKSUM } else { 0 };
        if content > LARGEST_BLOCK {
            return Err(Stop::Broken);
        }
        if input.len() < whole {
            return Ok(0);
        }
        let mut rest = &input[..whole];
        frame.decoder.decode_blocks(&mut rest, BlockDecodingStrategy::UptoBlocks(1)).map_err(|_| Stop::Broken)?;
        let mut out = [0; PIECE];
        while frame.decoder.can_collect() > 0 {
            let read = std::io::Read::read(&mut *frame.decoder, &mut out).map_err(|_| Stop::Broken)?;
            if read == 0 {
                break;
            }
            next(&out[..read])?;
        }
        if frame.decoder.is_finished() {
            self.frame = None;
        }
        Ok(whole)
    }
}

/// Whether a header was not understood because its end is missing.
fn is_cut(error: &ReadFrameHeaderError) -> bool {
    !matches!(error, ReadFrameHeaderError::BadMagicNumber(_) | ReadFrameHeaderError::InvalidFrameDescriptor(_))
}
