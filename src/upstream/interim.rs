//! Hears answers before the answer (1xx, RFC 9110 section 15.2) on a connection to a target and passes them on.
//!
//! hyper skips them. Its callback would have to be boxed and put into every request; an ear on the connection is made once and
//! costs a request two uncontended locks.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use memchr::memmem;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{headers, slots::Slot};
use crate::arrival::Informed;

/// Whom a connection's 1xx answers go to.
#[derive(Debug, Default)]
pub struct Ear {
    listening: AtomicBool,
    to: Mutex<Option<Informed>>,
}

impl Ear {
    /// A request goes out: what comes before its answer is for `to`.
    pub fn listen(&self, to: Option<Informed>) {
        self.listening.store(to.is_some(), Relaxed);
        *self.to.lock() = to;
    }

    /// The answer is there, or nobody waits for it any more.
    pub fn stop(&self) {
        self.listening.store(false, Relaxed);
        self.to.lock().take();
    }
}

/// A connection to a target, heard; it holds its place among the target's connections until it is closed.
#[derive(Debug)]
pub struct Heard<S> {
    stream: S,
    _slot: Option<Slot>,
    ear: Arc<Ear>,
    /// A 1xx head of which the end has not come.
    begun: Vec<u8>,
}

/// Longer 1xx heads are left to hyper alone.
const MAX: usize = 16 << 10;
const INTERIM: &[u8] = b"HTTP/1.1 1";

impl<S> Heard<S> {
    /// Listens on `stream` whenever `ear` does.
    pub fn new(stream: S, ear: Arc<Ear>, slot: Option<Slot>) -> Self {
        Self { stream, _slot: slot, ear, begun: Vec::new() }
    }

    fn hear(&mut self, mut new: &[u8]) {
        loop {
            if self.begun.is_empty() && !begins_interim(new) {
                return self.final_answer();
            }
            let seen = self.begun.len();
            self.begun.extend_from_slice(new);
            if !begins_interim(&self.begun) || self.begun.len() > MAX + new.len() {
                return self.final_answer();
            }
            let Some(end) = memmem::find(&self.begun, b"\r\n\r\n").map(|at| at + 4) else { return };
            match parse(&self.begun[..end]) {
                Some((status, fields)) if status != StatusCode::SWITCHING_PROTOCOLS => {
                    if let Some(to) = &*self.ear.to.lock() {
                        to.connection.interim(to.request, status, &fields);
                    }
                }
                _ => return self.final_answer(),
            }
            new = &new[end - seen..];
            self.begun.clear();
            if new.is_empty() {
                return;
            }
        }
    }

    fn final_answer(&mut self) {
        self.begun = Vec::new();
        self.ear.listening.store(false, Relaxed);
    }
}

/// Whether this may be the beginning of a 1xx head.
fn begins_interim(bytes: &[u8]) -> bool {
    let length = bytes.len().min(INTERIM.len());
    bytes[..length] == INTERIM[..length]
}

/// Status and fields that may be passed on; `None` if it is not well-formed.
fn parse(head: &[u8]) -> Option<(StatusCode, HeaderMap)> {
    let head = head.strip_suffix(b"\r\n\r\n")?;
    let mut lines = head.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let status = StatusCode::from_bytes(lines.next()?.get(9..12)?).ok()?;
    let mut fields = HeaderMap::new();
    for line in lines {
        let colon = line.iter().position(|b| *b == b':')?;
        fields.append(HeaderName::from_bytes(&line[..colon]).ok()?, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?);
    }
    headers::interim(&mut fields);
    Some((status, fields))
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if this.ear.listening.load(Relaxed) && buf.filled().len() > before {
            this.hear(&buf.filled()[before..]);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arrival::Interim;

    #[derive(Debug, Default)]
    struct Notes(Mutex<Vec<(u16, Vec<String>)>>);

    impl Interim for Notes {
        fn interim(&self, _: u32, status: StatusCode, fields: &HeaderMap) {
            let fields = fields.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap_or_default())).collect();
            self.0.lock().push((status.as_u16(), fields));
        }
    }

    fn heard(bytes: &[u8], step: usize) -> Vec<(u16, Vec<String>)> {
        let (notes, ear) = (Arc::new(Notes::default()), Arc::new(Ear::default()));
        ear.listen(Some(Informed { connection: notes.clone(), request: 1 }));
        let mut heard = Heard::new((), ear.clone(), None);
        for piece in bytes.chunks(step) {
            if ear.listening.load(Relaxed) {
                heard.hear(piece);
            }
        }
        std::mem::take(&mut *notes.0.lock())
    }

    proptest! {
        #[test]
        fn every_1xx_is_heard_however_it_is_cut_and_nothing_else(step in 1usize..80) {
            let stream = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\nlink: </b>\r\nConnection: x-y\r\nX-Y: 1\r\nContent-Length: 4\r\n\r\n\
                HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 103 Not a head\r\n\r\n";
            let links = vec!["link: </a>".to_owned(), "link: </b>".to_owned()];
            prop_assert_eq!(heard(stream, step), vec![(100, vec![]), (103, links)]);
            for other in ["HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\nHTTP/1.1 103 data\r\n\r\n", "HTTP/1.1 103\r\nbad name: x\r\n\r\n", "garbage"] {
                prop_assert_eq!(heard(other.as_bytes(), step), vec![]);
            }
        }

        #[test]
        fn no_bytes_confuse_it(bytes in proptest::collection::vec(any::<u8>(), 0..300), step in 1usize..80) {
            let mut stream = b"HTTP/1.1 1".to_vec();
            stream.extend(bytes);
            heard(&stream, step);
        }
    }
}
