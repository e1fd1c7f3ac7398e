//! The content of a chunked body (RFC 9112 section 7.1), in pieces as it came. No content is copied.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::scrub;
use crate::http1::{Chunks, Piece, Refusal, map};

/// Takes chunks apart.
#[derive(Debug, Default)]
pub struct Dechunk {
    chunks: Chunks,
    ready: VecDeque<Bytes>,
    flaw: Option<Refusal>,
}

/// The next part of a body.
#[derive(Debug)]
pub enum Next {
    /// A piece of the content.
    Content(Bytes),
    /// The end, with the trailers if there are any.
    End(Option<HeaderMap>),
    /// More input is needed.
    Missing,
}

impl Dechunk {
    /// The next part of the body, from earlier input and `input`.
    ///
    /// # Errors
    /// The chunks are malformed: the end of the body cannot be known.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Next, Refusal> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Ok(Next::Content(piece));
            }
            if let Some(flaw) = self.flaw {
                return Err(flaw);
            }
            if self.chunks.is_done() {
                return Ok(Next::End(self.trailers()));
            }
            if input.is_empty() {
                return Ok(Next::Missing);
            }
            self.read(input);
        }
    }

    /// Whether the body has ended without trailers.
    pub fn has_ended(&self) -> bool {
        self.ready.is_empty() && self.chunks.is_done() && self.chunks.trailers().is_none()
    }

    fn read(&mut self, input: &mut BytesMut) {
        let bytes = input.split().freeze();
        let ready = &mut self.ready;
        let read = self.chunks.read(&bytes, |piece| {
            if let Piece::Content(content) = piece {
                ready.push_back(bytes.slice_ref(content));
            }
        });
        match read {
            Ok(None) => {}
            Ok(Some(end)) => input.extend_from_slice(&bytes[end..]),
            Err(flaw) => self.flaw = Some(flaw),
        }
    }

    fn trailers(&self) -> Option<HeaderMap> {
        let mut trailers = map::fields(self.chunks.trailers()?).ok()?;
        scrub(&mut trailers);
        (!trailers.is_empty()).then_some(trailers)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The content, the trailers and the next message are the same, however the bytes are cut.
        #[test]
        fn content_comes_out_as_it_went_in(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..50), 0..6),
            step in 1usize..70, trailers in any::<bool>())
        {
            let mut stream = Vec::new();
            for chunk in &chunks {
                crate::http1::write_chunk(&mut stream, chunk);
            }
            stream.extend_from_slice(if trailers { b"0\r\nx-sum: 1\r\nhost: a\r\n\r\nGET" } else { b"0\r\n\r\nGET" });
            let (mut dechunk, mut input, mut content, mut end) = (Dechunk::default(), BytesMut::new(), Vec::new(), None);
            for piece in stream.chunks(step) {
                input.extend_from_slice(piece);
                while end.is_none() {
                    match dechunk.next(&mut input).expect("in order") {
                        Next::Content(piece) => content.extend_from_slice(&piece),
                        Next::End(trailers) => end = Some(trailers),
                        Next::Missing => break,
                    }
                }
            }
            prop_assert_eq!(content, chunks.concat());
            let names: Vec<String> = end.expect("an end").iter().flat_map(|map| map.keys()).map(ToString::to_string).collect();
            prop_assert_eq!(names, if trailers { vec!["x-sum".to_owned()] } else { vec![] });
            prop_assert_eq!(&input[..], b"GET");
        }
    }

    #[test]
    fn what_comes_before_a_flaw_is_given() {
        let mut dechunk = Dechunk::default();
        let mut input = BytesMut::from(&b"5\r\nhelloX"[..]);
        assert!(matches!(dechunk.next(&mut input), Ok(Next::Content(piece)) if piece == "hello"));
        assert_eq!(dechunk.next(&mut input).expect_err("malformed"), Refusal::ChunkEnd);
    }
}
