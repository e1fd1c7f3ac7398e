//! Brotli (RFC 7932). A window is at most 16 MiB: the variant with larger windows is no content coding. A piece with a fault
//! gives no text, not even the text before the fault: the library withholds it.

use brotli::{BrotliDecompressStream, BrotliResult, BrotliState, enc::StandardAlloc};

use super::{Next, PIECE, Stop};

/// A stream under way.
pub(super) struct Unbrotli {
    state: Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>,
    out: Box<[u8]>,
    total: usize,
    ended: bool,
}

impl Default for Unbrotli {
    fn default() -> Self {
        let alloc = StandardAlloc::default;
        let state = Box::new(BrotliState::new_strict(alloc(), alloc(), alloc()));
        Self { state, out: vec![0; PIECE].into(), total: 0, ended: false }
    }
}

impl Unbrotli {
    pub fn is_at_end(&self) -> bool {
        self.ended
    }

    pub fn feed(&mut self, piece: &[u8], next: Next<'_>) -> Result<(), Stop> {
        if piece.is_empty() {
            return Ok(());
        }
        if self.ended {
            return Err(Stop::Broken);
        }
        let (mut left, mut at) = (piece.len(), 0);
        loop {
            let (mut room, mut written) = (self.out.len(), 0);
            let result =
                BrotliDecompressStream(&mut left, &mut at, piece, &mut room, &mut written, &mut self.out, &mut self.total, &mut self.state);
            if written > 0 {
                next(&self.out[..written])?;
            }
            match result {
                BrotliResult::NeedsMoreOutput => {}
                BrotliResult::NeedsMoreInput => return Ok(()),
                BrotliResult::ResultSuccess => {
                    self.ended = true;
                    return if left == 0 { Ok(()) } else { Err(Stop::Broken) };
                }
                BrotliResult::ResultFailure => return Err(Stop::Broken),
            }
        }
    }
}
