//! The tunnel after a 101: bytes pass both ways, as they come, until both sides have ended.
//!
//! A tunnel to a model is watched. If its session is refused, the app gets an `error` event, if no message is under way, then a close
//! frame with code 1008 (RFC 6455 section 7.4.1: policy) and the reason. No frame is cut.

use std::{cell::Cell, io, rc::Rc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use super::{exchange::Exchange, session::Watch};
use crate::{
    body::websocket::{close_frame, text_frame},
    provider::session::last_words,
    reject::Reject,
    upstream::Tunnel,
};

/// Bytes that pass at once in one direction.
const PIECE: usize = 8 * 1024;
/// Longest time for a frame under way to end, and for the app to take the last words.
const PATIENCE: Duration = Duration::from_secs(5);
/// The close code of a refused session.
const POLICY: u16 = 1008;

/// Joins the two connections. The exchange ends with them.
pub async fn run(mut client: impl AsyncRead + AsyncWrite + Unpin, mut upstream: Tunnel, mut exchange: Box<Exchange>) {
    if let Some(watch) = exchange.held.watch.take() {
        return watched(client, upstream, exchange, watch).await;
    }
    match tokio::io::copy_bidirectional(&mut client, upstream.stream()).await {
        Ok((up, down)) => exchange.tunnelled(up, down, true),
        Err(error) => {
            // Most WebSockets end with a reset. The number of bytes is not known then.
            tracing::debug!(%error, "a tunnel ended");
            exchange.tunnelled(0, 0, true);
        }
    }
}

/// One direction of a watched tunnel. A piece that a cancelled write has begun is not lost.
struct Pipe<'a, R, W> {
    from: R,
    to: W,
    piece: Box<[u8]>,
    /// The part of `piece` that waits to be written.
    waits: std::ops::Range<usize>,
    /// The end of the part of `piece` that has come and was not reported.
    came: usize,
    /// The end of the part of `piece` that was reported.
    told: usize,
    total: &'a Cell<u64>,
    passed: &'a Report<'a>,
}

/// Takes the next bytes that have passed, as many as one turn's work allows, and gives how many.
type Report<'a> = dyn Fn(&[u8]) -> usize + 'a;

impl<'a, R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Pipe<'a, R, W> {
    fn new(from: R, to: W, total: &'a Cell<u64>, passed: &'a Report<'a>) -> Self {
        Self { from, to, piece: vec![0; PIECE].into(), waits: 0..0, came: 0, told: 0, total, passed }
    }

    /// Passes bytes until the end of `from`.
    async fn run(&mut self) -> io::Result<()> {
        while self.step().await? {}
        self.to.shutdown().await
    }

    /// Passes the bytes that wait, or else the next ones; `false`: `from` has ended. Cancel-safe.
    async fn step(&mut self) -> io::Result<bool> {
        if self.came == 0 {
            let came = self.from.read(&mut self.piece).await?;
            if came == 0 {
                return Ok(false);
            }
            (self.came, self.waits) = (came, 0..came);
        }
        self.finish().await?;
        Ok(true)
    }

    /// Passes the bytes that wait. They are reported once they are written.
    async fn finish(&mut self) -> io::Result<()> {
        while !self.waits.is_empty() {
            match self.to.write(&self.piece[self.waits.clone()]).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => self.waits.start += written,
            }
        }
        self.to.flush().await?;
        self.report().await;
        Ok(())
    }

    /// Reports what has passed. Others work between two turns. Cancel-safe.
    async fn report(&mut self) {
        while self.told < self.came {
            let told = (self.passed)(&self.piece[self.told..self.came]);
            self.told += told;
            self.total.set(self.total.get() + told as u64);
            if self.told < self.came {
                tokio::task::yield_now().await;
            }
        }
        (self.came, self.told) = (0, 0);
    }
}

/// `watch` is the last argument: a future that is dropped drops it first, and its charges come before the exchange's end.
async fn watched(client: impl AsyncRead + AsyncWrite + Unpin, mut upstream: Tunnel, mut exchange: Box<Exchange>, watch: Rc<Watch>) {
    let (sent, received) = (Cell::new(0), Cell::new(0));
    let (from_app, to_app) = tokio::io::split(client);
    let (from_provider, to_provider) = tokio::io::split(upstream.stream());
    let (say, hear) = (|bytes: &[u8]| watch.sent(bytes), |bytes: &[u8]| watch.heard(bytes));
    let mut up = Pipe::new(from_app, to_provider, &sent, &say);
    let mut down = Pipe::new(from_provider, to_app, &received, &hear);
    let refused = tokio::select! {
        biased;
        ended = async { tokio::try_join!(up.run(), down.run()) } => {
            ended.map_or_else(|error| tracing::debug!(%error, "a tunnel ended"), |_| ());
            None
        }
        reject = watch.refused() => Some(reject),
    };
    if let Some(reject) = refused {
        tracing::info!(reason = reject.reason(), "a WebSocket session is closed: {}", reject.detail());
        exchange.note(&reject);
        let words = last_words(&reject, &exchange.ask.request_id().to_string());
        let _ = timeout(PATIENCE, refuse(&mut up, &mut down, &watch, &reject, &words)).await;
    }
    // What the provider has said is billed, whether the app has taken it or not.
    if up.waits.is_empty() {
        up.report().await;
    }
    down.report().await;
    watch.end();
    exchange.tunnelled(sent.get(), received.get(), true);
}

/// Ends both connections at the end of a frame, with the reason.
async fn refuse<A, B, C, D>(
    up: &mut Pipe<'_, A, B>,
    down: &mut Pipe<'_, C, D>,
    watch: &Watch,
    reject: &Reject,
    words: &str,
) -> io::Result<()>
where
    A: AsyncRead + Unpin,
    B: AsyncWrite + Unpin,
    C: AsyncRead + Unpin,
    D: AsyncWrite + Unpin,
{
    down.finish().await?;
    while !watch.provider_is_between().0 && watch.is_readable() {
        if !down.step().await? {
            return down.to.shutdown().await;
        }
    }
    let (between_frames, between_messages) = watch.provider_is_between();
    if between_messages {
        down.to.write_all(&text_frame(words)).await?;
    }
    if between_frames {
        down.to.write_all(&close_frame(POLICY, &reject.detail(), false)).await?;
    }
    down.to.shutdown().await?;
    if up.finish().await.is_ok() && watch.app_is_between_frames() {
        up.to.write_all(&close_frame(POLICY, "", true)).await?;
    }
    // The provider stops at once. The app's further bytes are read: a reset would take the last words from the app.
    let _ = up.to.shutdown().await;
    while up.from.read(&mut up.piece).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[tokio::test]
    async fn others_work_while_what_has_passed_is_read() {
        let (total, read, seen) = (Cell::new(0), Cell::new(0), RefCell::new(Vec::new()));
        let report = |bytes: &[u8]| {
            let now = bytes.len().min(10);
            read.set(read.get() + now);
            now
        };
        let mut pipe = Pipe::new(&[7; 45][..], tokio::io::sink(), &total, &report);
        let other = async {
            while read.get() < 45 {
                seen.borrow_mut().push(read.get());
                tokio::task::yield_now().await;
            }
        };
        let (passed, ()) = tokio::join!(pipe.run(), other);
        passed.expect("passed");
        let seen = seen.into_inner();
        assert_eq!((total.get(), seen.len() >= 4), (45, true), "{seen:?}");
        assert!(seen.windows(2).all(|pair| pair[1] - pair[0] <= 20), "others get their turns in between: {seen:?}");
    }
}
