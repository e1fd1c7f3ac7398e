//! A body goes into its framing on its way out (RFC 9112 sections 6 and 7.1), towards clients and targets alike.

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

use super::outbox::Outbox;
use crate::http1;

/// The part of a body that is not yet in the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsent {
    /// Nothing: the body has ended.
    Nothing,
    /// So many bytes.
    Length(u64),
    /// An unknown number of bytes, in chunks.
    Chunked,
    /// An unknown number of bytes, to the end of the connection.
    UntilClose,
}

/// A body that does not have the length that its head announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WrongLength {
    /// More bytes come.
    #[error("the body is longer than was announced")]
    Longer,
    /// Fewer bytes came.
    #[error("the body is shorter than was announced")]
    Shorter,
}

impl Unsent {
    /// Puts a frame into `out`, which takes more. `last`: no frame follows. `trailers`: the receiver reads them.
    ///
    /// # Errors
    /// The body does not have its length: the message cannot be completed.
    pub fn put(&mut self, out: &mut Outbox, frame: Frame<Bytes>, last: bool, trailers: bool) -> Result<(), WrongLength> {
        let piece = match frame.into_data() {
            Ok(piece) => piece,
            Err(frame) => return self.end(out, frame.into_trailers().ok().as_ref().filter(|_| trailers)),
        };
        match self {
            Self::Nothing => return Ok(()),
            Self::Length(left) => {
                *left = left.checked_sub(piece.len() as u64).ok_or(WrongLength::Longer)?;
                let ended = *left == 0;
                out.push(piece, b"");
                if ended {
                    *self = Self::Nothing;
                    return Ok(());
                }
            }
            // An empty chunk would be the last one.
            Self::Chunked if piece.is_empty() => {}
            Self::Chunked => {
                http1::write_size(out.tail(), piece.len());
                out.push(piece, if last { b"\r\n0\r\n\r\n" } else { b"\r\n" });
                if last {
                    *self = Self::Nothing;
                    return Ok(());
                }
            }
            Self::UntilClose => out.push(piece, b""),
        }
        if last { self.end(out, None) } else { Ok(()) }
    }

    /// Ends the body.
    ///
    /// # Errors
    /// Bytes are missing.
    pub fn end(&mut self, out: &mut Outbox, trailers: Option<&HeaderMap>) -> Result<(), WrongLength> {
        match self {
            Self::Length(1..) => return Err(WrongLength::Shorter),
            Self::Chunked => super::outbox::write_last(out.tail(), trailers),
            Self::Nothing | Self::Length(0) | Self::UntilClose => {}
        }
        *self = Self::Nothing;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use proptest::prelude::*;

    use super::*;
    use crate::http1::{Chunks, Piece};

    proptest! {
        /// However large the pieces are and wherever the end is told, the receiver reads the body and its end, and nothing behind it.
        #[test]
        fn a_chunked_body_is_read_as_it_was(sizes in proptest::collection::vec(prop_oneof![0usize..40, 4_000usize..4_200, 4_200usize..20_000], 0..6),
            told in any::<bool>(), trailers in any::<bool>())
        {
            let (mut unsent, mut out, mut sent) = (Unsent::Chunked, Outbox::default(), Vec::new());
            let mut cx = Context::from_waker(Waker::noop());
            let mut flush = |out: &mut Outbox, sent: &mut Vec<u8>| while !out.is_empty() {
                assert!(matches!(out.poll_write(sent, &mut cx), Poll::Ready(Ok(1..))));
            };
            let body: Vec<u8> = (0..sizes.iter().sum::<usize>()).map(|at| at as u8).collect();
            let mut rest = &body[..];
            for (at, size) in sizes.iter().enumerate() {
                let (piece, after) = rest.split_at(*size);
                rest = after;
                let last = told && !trailers && at + 1 == sizes.len();
                if !out.takes_more() {
                    flush(&mut out, &mut sent);
                }
                unsent.put(&mut out, Frame::data(Bytes::copy_from_slice(piece)), last, true).expect("any length");
            }
            if unsent != Unsent::Nothing {
                let map = HeaderMap::from_iter([(http::header::ETAG, http::HeaderValue::from_static("x"))]);
                let frame = if trailers { Frame::trailers(map) } else { Frame::data(Bytes::new()) };
                flush(&mut out, &mut sent);
                unsent.put(&mut out, frame, true, true).expect("any length");
            }
            flush(&mut out, &mut sent);
            let (mut chunks, mut content) = (Chunks::new(), Vec::new());
            let end = chunks.read(&sent, |piece| if let Piece::Content(bytes) = piece { content.extend_from_slice(bytes) });
            prop_assert_eq!(end, Ok(Some(sent.len())));
            prop_assert!(content == body);
            prop_assert_eq!(chunks.trailers().is_some(), trailers);
        }
    }

    #[test]
    fn a_body_has_the_length_that_was_announced() {
        let put = |length, pieces: &[usize]| {
            let (mut unsent, mut out) = (Unsent::Length(length), Outbox::default());
            for (at, size) in pieces.iter().enumerate() {
                unsent.put(&mut out, Frame::data(Bytes::from(vec![0; *size])), at + 1 == pieces.len(), false)?;
            }
            Ok(unsent)
        };
        assert_eq!(put(5, &[2, 3]), Ok(Unsent::Nothing));
        assert_eq!(put(0, &[]), Ok(Unsent::Length(0)));
        assert_eq!(put(5, &[2, 4]), Err(WrongLength::Longer));
        assert_eq!(put(5, &[2, 2]), Err(WrongLength::Shorter));
    }
}
