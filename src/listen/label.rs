//! Answers to HTTP/1.0 carry our own version (RFC 9112 section 2.3). hyper answers in the request's version, so the first bytes of
//! such an answer are exchanged on their way out; nothing else of it changes, and no other answer is looked at.

use std::{
    io::{self, IoSlice},
    sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed},
    task::{Context, Poll},
};

use smallvec::SmallVec;
use tokio::io::AsyncWrite;

use crate::body::pieces;

const THEIRS: &[u8; 9] = b"HTTP/1.0 ";
const OURS: &[u8; 9] = b"HTTP/1.1 ";

/// What a connection's answers begin with.
#[derive(Debug, Default)]
pub struct Label {
    /// Bytes of the label that are still to be exchanged; 0: nothing is.
    left: AtomicU8,
    /// Something was handed over and has not been flushed: what is written next belongs to an earlier answer.
    unflushed: AtomicBool,
}

impl Label {
    /// A request of HTTP/1.0 is in hand: its answer is the next thing that is written, unless an earlier one is on its way.
    pub fn exchange(&self) {
        if !self.unflushed.load(Relaxed) {
            self.left.store(OURS.len() as u8, Relaxed);
        }
    }

    /// Whether the next bytes are the beginning of such an answer.
    pub fn is_due(&self) -> bool {
        self.left.load(Relaxed) != 0
    }

    /// Something is being written.
    pub fn written(&self) {
        self.unflushed.store(true, Relaxed);
    }

    /// Everything has been written.
    pub fn flushed(&self) {
        self.unflushed.store(false, Relaxed);
    }

    /// Writes the beginning of an answer.
    pub fn poll_write<S: AsyncWrite + Unpin>(&self, stream: &mut S, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let left = self.left.load(Relaxed) as usize;
        let done = OURS.len() - left;
        let at = bufs.iter().position(|buf| !buf.is_empty()).unwrap_or(0);
        let Some(rest) = bufs.get(at).and_then(|buf| buf.strip_prefix(&THEIRS[done..])) else {
            // hyper has labelled it otherwise.
            self.left.store(0, Relaxed);
            return pieces::write(stream, cx, bufs);
        };
        let mut exchanged: SmallVec<[IoSlice<'_>; 4]> = SmallVec::new();
        exchanged.extend([IoSlice::new(&OURS[done..]), IoSlice::new(rest)]);
        exchanged.extend(bufs[at + 1..].iter().map(|buf| IoSlice::new(buf)));
        let polled = pieces::write(stream, cx, &exchanged);
        if let Poll::Ready(Ok(written)) = &polled {
            self.left.store(left.saturating_sub(*written) as u8, Relaxed);
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use proptest::prelude::*;

    use super::*;

    /// Takes some bytes at a time.
    struct Narrow(Vec<u8>, usize);

    impl AsyncWrite for Narrow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let some = buf.len().min(self.1);
            self.0.extend_from_slice(&buf[..some]);
            Poll::Ready(Ok(some))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn sent(label: &Label, answer: &[u8], cut: usize, width: usize) -> Vec<u8> {
        let mut stream = Narrow(Vec::new(), width);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut at = 0;
        while at < answer.len() {
            let (one, two) = answer[at..].split_at(cut.min(answer.len() - at));
            let bufs = [IoSlice::new(one), IoSlice::new(two)];
            let polled =
                if label.is_due() { label.poll_write(&mut stream, &mut cx, &bufs) } else { pieces::write(&mut stream, &mut cx, &bufs) };
            let Poll::Ready(Ok(written)) = polled else { panic!("it takes everything") };
            at += written;
            label.written();
        }
        label.flushed();
        stream.0
    }

    proptest! {
        /// However the bytes are cut, the label alone changes, once for each request.
        #[test]
        fn the_label_is_exchanged_and_nothing_else(cut in prop_oneof![Just(0usize), 9usize..40], width in 1usize..50) {
            let answer = b"HTTP/1.0 200 OK\r\ncontent-length: 9\r\n\r\nHTTP/1.0 ";
            let ours = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nHTTP/1.0 ";
            let label = Label::default();
            prop_assert_eq!(sent(&label, answer, cut, width), answer);
            label.exchange();
            prop_assert_eq!(sent(&label, answer, cut, width), ours);
            prop_assert_eq!(sent(&label, answer, cut, width), answer);
            label.exchange();
            prop_assert_eq!(sent(&label, b"HTTP/1.1 200 OK\r\n", cut, width), b"HTTP/1.1 200 OK\r\n");
        }
    }

    #[test]
    fn an_answer_on_its_way_is_left_alone() {
        let label = Label::default();
        label.written();
        label.exchange();
        assert!(!label.is_due());
        label.flushed();
        label.exchange();
        assert!(label.is_due());
    }
}
