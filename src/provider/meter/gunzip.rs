//! Gzip decoded on the side (RFC 1952), a bounded piece at a time, while the client gets the bytes as they came.

use flate2::{Decompress, FlushDecompress, Status};

const BUFFER: usize = 16 * 1024;

/// A gzip stream under way.
pub struct Gunzip {
    inflate: Decompress,
    out: Vec<u8>,
    ended: bool,
}

impl Default for Gunzip {
    fn default() -> Self {
        Self::new()
    }
}

impl Gunzip {
    /// Before its first byte.
    pub fn new() -> Self {
        // 15 bits: the largest window gzip allows.
        Self { inflate: Decompress::new_gzip(15), out: vec![0; BUFFER], ended: false }
    }

    /// Decodes a piece; `false`: it is no gzip, and nothing more can be learned. What follows the first member is ignored.
    pub fn feed(&mut self, piece: &[u8], mut each: impl FnMut(&[u8])) -> bool {
        let mut rest = piece;
        while !self.ended {
            let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
            let Ok(status) = self.inflate.decompress(rest, &mut self.out, FlushDecompress::None) else {
                return false;
            };
            let (read, written) = ((self.inflate.total_in() - read) as usize, (self.inflate.total_out() - written) as usize);
            rest = &rest[read..];
            if written > 0 {
                each(&self.out[..written]);
            }
            self.ended = status == Status::StreamEnd;
            if read == 0 && written == 0 || rest.is_empty() && written < BUFFER {
                break;
            }
        }
        true
    }
}
