//! Collapsed forwarding: one fetch, many readers, on any workers.
//!
//! The pieces of a flight are an append-only list under a lock that is held for a few instructions and never over an await. A
//! reader looks and leaves its waker under that same lock: no wake-up can be lost. A late reader begins at the first piece. The
//! bytes are copied out of the connection's buffer once: the bytes counted are the bytes held.
//!
//! A flight that outgrows the largest storable body, or the budget, takes no more readers and will not be stored: it keeps only
//! the pieces that its slowest reader still needs. The writer then waits for that reader ([`FlightWriter::ready`]). If other
//! readers wait too, a reader that does not move for [`PATIENCE`] is cut off with an error.

use std::{
    any::Any,
    collections::HashMap,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use parking_lot::Mutex;
use smallvec::SmallVec;

pub use super::head::{FallThrough, Head};
use super::{
    carried::{Carried, Carrier},
    head::CutShort,
    key::Key,
    plan::Home,
};
use crate::{
    body::{Body, BodyError},
    http1::Fields,
    store::memory::Budget,
};

/// How long one reader may hold up others once a flight has outgrown the store.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes a reader of such a flight may lag behind before the writer waits.
pub const WINDOW: u64 = 256 * 1024;

/// Bytes behind which a reader is cut off at once: some writers do not wait.
const FAR_BEHIND: u64 = 16 * WINDOW;

/// Bytes a piece costs beside its content.
const PIECE_OVERHEAD: u64 = 64;
const SHARDS: usize = 16;

/// When and where a flight began: decides whether a later purge is about it.
#[derive(Debug, Clone)]
pub struct Born {
    pub(super) told: u64,
    pub(super) home: Arc<Home>,
}

/// All flights by key.
#[derive(Debug)]
pub struct Flights {
    shards: Box<[Mutex<Listed>]>,
    budget: Arc<Budget>,
}

type Listed = HashMap<Key, Arc<Flight>, foldhash::fast::RandomState>;

/// The outcome of [`Flights::join`].
#[derive(Debug)]
pub enum Joined {
    /// This request fetches.
    Leader(FlightWriter),
    /// Another request fetches.
    Follower(FlightReader),
}

impl Flights {
    /// An empty list; the bytes of all flights together come out of `budget`.
    pub fn new(budget: Arc<Budget>) -> Arc<Self> {
        Arc::new(Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), budget })
    }

    /// Joins the flight of `key` if `may_join` it, or begins one. A flight that may not be joined any more goes on for its
    /// readers, and the new one takes its place. A body larger than `largest` outgrows the flight.
    pub fn join(self: &Arc<Self>, key: Key, largest: u64, may_join: impl FnOnce(&Born) -> bool, born: impl FnOnce() -> Born) -> Joined {
        let mut shard = self.shard(&key).lock();
        if let Some(flight) = shard.get(&key).filter(|flight| flight.born.as_ref().is_some_and(may_join)) {
            flight.state.lock().joined += 1;
            return Joined::Follower(FlightReader::new(flight.clone()));
        }
        let flight = Arc::new(Flight::new(self.budget.clone(), largest, Some(born())));
        shard.insert(key, flight.clone());
        Joined::Leader(FlightWriter { flight, listed: Some((self.clone(), key)) })
    }

    /// A flight that no request can join.
    pub fn alone(&self, largest: u64) -> FlightWriter {
        FlightWriter { flight: Arc::new(Flight::new(self.budget.clone(), largest, None)), listed: None }
    }

    /// Flights under way that can be joined.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, key: &Key) -> &Mutex<Listed> {
        &self.shards[key.bucket(SHARDS)]
    }

    fn forget(&self, key: &Key, flight: &Arc<Flight>) {
        let mut shard = self.shard(key).lock();
        if shard.get(key).is_some_and(|listed| Arc::ptr_eq(listed, flight)) {
            shard.remove(key);
        }
    }
}

#[derive(Debug)]
pub(super) struct Flight {
    state: Mutex<State>,
    budget: Arc<Budget>,
    largest: u64,
    pub(super) carried: Carried,
    /// `None`: the flight cannot be joined.
    born: Option<Born>,
}

#[derive(Debug, Default)]
struct State {
    head: Option<Result<Arc<Head>, FallThrough>>,
    pieces: Vec<Bytes>,
    /// Pieces dropped from the front; 0 unless the flight is outgrown.
    dropped: usize,
    /// Bytes pushed in all.
    pushed: u64,
    /// Bytes of the budget held.
    reserved: u64,
    outgrown: bool,
    trailers: Option<Fields>,
    end: Option<Result<(), CutShort>>,
    readers: Vec<Option<Place>>,
    /// Followers in all, also those that have left.
    joined: u64,
    writer: Option<Waker>,
}

/// A reader's place in the list.
#[derive(Debug, Default)]
struct Place {
    next: usize,
    read: u64,
    waker: Option<Waker>,
    cut: bool,
}

impl Place {
    /// Cuts off a reader that is too slow: no piece is kept for it any more.
    fn cut(&mut self) {
        self.cut = true;
        self.next = usize::MAX;
        self.read = u64::MAX;
    }
}

type Wakers = SmallVec<[Waker; 8]>;

impl Flight {
    fn new(budget: Arc<Budget>, largest: u64, born: Option<Born>) -> Self {
        Self { state: Mutex::new(State::default()), budget, largest, carried: Carried::default(), born }
    }

    /// Changes the state, and wakes all readers after the lock is released.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let result = change(&mut state);
        let wakers: Wakers = state.readers.iter_mut().flatten().filter_map(|place| place.waker.take()).collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        result
    }

    /// Drops the pieces that every reader of an outgrown flight has read.
    fn trim(&self, state: &mut State) {
        if !state.outgrown {
            return;
        }
        let needed = state.readers.iter().flatten().map(|place| place.next).min().unwrap_or(state.dropped + state.pieces.len());
        let gone = needed.saturating_sub(state.dropped).min(state.pieces.len());
        if gone > 0 {
            let bytes: u64 = state.pieces.drain(..gone).map(|piece| piece.len() as u64 + PIECE_OVERHEAD).sum();
            state.dropped += gone;
            // Pieces pushed after the budget's refusal were never reserved.
            let bytes = bytes.min(state.reserved);
            state.reserved -= bytes;
            self.budget.release(bytes);
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.budget.release(self.state.get_mut().reserved);
    }
}

/// The leader's end of a flight. A flight whose writer is dropped before [`complete`](Self::complete) has failed.
#[derive(Debug)]
pub struct FlightWriter {
    flight: Arc<Flight>,
    listed: Option<(Arc<Flights>, Key)>,
}

impl FlightWriter {
    /// A reader for the leader's own client, from the first piece on. Its body fails if the flight is already outgrown.
    pub fn reader(&self) -> FlightReader {
        FlightReader::new(self.flight.clone())
    }

    /// Hands `carried` to the followers, once.
    pub fn carry(&self, carried: Arc<dyn Any + Send + Sync>) {
        self.flight.carried.set(carried);
    }

    /// Followers so far, also those that have left.
    pub fn joined(&self) -> u64 {
        self.flight.state.lock().joined
    }

    /// Sets the head; readers may go on.
    pub fn head(&self, head: Arc<Head>) {
        self.flight.change(|state| state.head = Some(Ok(head)));
    }

    /// Appends a copy of `piece`; an empty one is ignored. `false` once the flight is outgrown and cannot be stored.
    pub fn push(&self, piece: &[u8]) -> bool {
        if piece.is_empty() {
            return !self.is_outgrown();
        }
        let (piece, len) = (Bytes::copy_from_slice(piece), piece.len() as u64);
        let outgrown = self.flight.change(|state| {
            state.pushed += len;
            if !state.outgrown && (state.pushed > self.flight.largest || !self.flight.budget.reserve(len + PIECE_OVERHEAD)) {
                state.outgrown = true;
            } else if !state.outgrown {
                state.reserved += len + PIECE_OVERHEAD;
            }
            state.pieces.push(piece);
            if state.outgrown {
                let pushed = state.pushed;
                state
                    .readers
                    .iter_mut()
                    .flatten()
                    .filter(|place| pushed.saturating_sub(place.read) > FAR_BEHIND.max(self.flight.largest))
                    .for_each(Place::cut);
            }
            self.flight.trim(state);
            state.outgrown
        });
        if outgrown {
            self.unlist();
        }
        !outgrown
    }

    /// Waits until every reader of an outgrown flight is within [`WINDOW`] or cut off; returns at once for any other flight.
    pub async fn ready(&self) {
        while tokio::time::timeout(PATIENCE, poll_fn(|cx| self.poll_ready(cx))).await.is_err() {
            self.flight.change(|state| {
                let pushed = state.pushed;
                let near = |place: &Place| pushed.saturating_sub(place.read) <= WINDOW;
                // A reader that holds up no other is waited for.
                if state.readers.iter().flatten().any(near) {
                    state.readers.iter_mut().flatten().filter(|place| !near(place)).for_each(Place::cut);
                    self.flight.trim(state);
                }
            });
        }
    }

    fn poll_ready(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.flight.state.lock();
        let pushed = state.pushed;
        let far = |place: &Place| !place.cut && pushed.saturating_sub(place.read) > WINDOW;
        if state.outgrown && state.readers.iter().flatten().any(far) {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Sets the trailer fields.
    pub fn trailers(&self, trailers: Fields) {
        self.flight.change(|state| state.trailers = Some(trailers));
    }

    /// Ends a complete flight. Returns the pieces and trailers to store, unless the flight is outgrown.
    pub fn complete(mut self) -> Option<(Vec<Bytes>, Option<Fields>)> {
        let stored = self.snapshot();
        self.finish();
        stored
    }

    /// The pieces and trailers so far, unless the flight is outgrown. Shares the bytes.
    pub fn snapshot(&self) -> Option<(Vec<Bytes>, Option<Fields>)> {
        let state = self.flight.state.lock();
        (!state.outgrown).then(|| (state.pieces.clone(), state.trailers.clone()))
    }

    /// Answers every reader with this stored response instead.
    pub fn resolve(mut self, head: Arc<Head>, body: &[Bytes], trailers: Option<Fields>) {
        self.flight.change(|state| {
            state.pushed = body.iter().map(|piece| piece.len() as u64).sum();
            state.pieces = body.to_vec();
            state.trailers = trailers;
            state.head = Some(Ok(head));
        });
        self.finish();
    }

    /// Ends a flight whose response is not for sharing: readers that have no head yet fetch for themselves.
    pub fn private(mut self) {
        self.fall(FallThrough::Private, CutShort::Failed("the response is not for sharing".to_owned()));
    }

    /// Ends a failed fetch: readers without a head fetch for themselves, the others' bodies break.
    pub fn fail(mut self, reason: &str) {
        self.fall(FallThrough::Failed, CutShort::Failed(reason.to_owned()));
    }

    /// Ends the fetch of a process that stops: every reader is told, on every worker.
    pub fn stop(mut self) {
        self.fall(FallThrough::Failed, CutShort::Stopping);
    }

    /// Whether the body is too large to be stored.
    pub fn is_outgrown(&self) -> bool {
        self.flight.state.lock().outgrown
    }

    /// Whether the flight has readers.
    pub fn has_readers(&self) -> bool {
        self.flight.state.lock().readers.iter().any(Option::is_some)
    }

    /// Takes the flight off the list: no more readers may join.
    pub fn unlist(&self) {
        if let Some((flights, key)) = &self.listed {
            flights.forget(key, &self.flight);
        }
    }

    fn finish(&mut self) {
        self.flight.change(|state| {
            state.end.get_or_insert(Ok(()));
        });
        self.unlist();
    }

    fn fall(&mut self, why: FallThrough, cut: CutShort) {
        // The flight leaves the list first: a reader that falls through cannot join it again.
        self.unlist();
        self.flight.change(|state| {
            state.head.get_or_insert(Err(why));
            state.end.get_or_insert(Err(cut));
        });
    }
}

impl Drop for FlightWriter {
    fn drop(&mut self) {
        let ended = self.flight.state.lock().end.is_some();
        if !ended {
            self.fall(FallThrough::Failed, CutShort::Failed("the shared fetch was given up".to_owned()));
        }
    }
}

/// A reader of a flight. Dropping it does not disturb the other readers.
#[derive(Debug)]
pub struct FlightReader {
    flight: Arc<Flight>,
    place: usize,
}

impl FlightReader {
    fn new(flight: Arc<Flight>) -> Self {
        let mut state = flight.state.lock();
        // The first pieces of an outgrown flight are gone: the body fails with that error.
        let place = Place { cut: state.dropped > 0, ..Place::default() };
        let free = state.readers.iter().position(Option::is_none).unwrap_or(state.readers.len());
        if free == state.readers.len() {
            state.readers.push(None);
        }
        state.readers[free] = Some(place);
        drop(state);
        Self { flight, place: free }
    }

    /// A way to the leader's value.
    pub fn carrier(&self) -> Carrier {
        Carrier::of(self.flight.clone())
    }

    /// The head, as soon as it has come.
    pub async fn head(&self) -> Result<Arc<Head>, FallThrough> {
        poll_fn(|cx| {
            let mut state = self.flight.state.lock();
            if let Some(head) = &state.head {
                return Poll::Ready(head.clone());
            }
            if let Some(place) = &mut state.readers[self.place] {
                place.waker = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// The body, from the first byte.
    pub fn into_body(self) -> Body {
        Body::stream(FlightBody { reader: self, trailed: false })
    }
}

impl Drop for FlightReader {
    fn drop(&mut self) {
        let mut state = self.flight.state.lock();
        if let Some(slot) = state.readers.get_mut(self.place) {
            *slot = None;
        }
        self.flight.trim(&mut state);
        let writer = state.writer.take();
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
    }
}

struct FlightBody {
    reader: FlightReader,
    trailed: bool,
}

impl HttpBody for FlightBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let flight = &this.reader.flight;
        let mut guard = flight.state.lock();
        let state = &mut *guard;
        let Some(place) = state.readers.get_mut(this.reader.place).and_then(Option::as_mut) else { return Poll::Ready(None) };
        if place.cut {
            return Poll::Ready(Some(Err(BodyError::Fill("this reader was too slow for the shared response".into()))));
        }
        if let Some(piece) = place.next.checked_sub(state.dropped).and_then(|at| state.pieces.get(at)).cloned() {
            place.next += 1;
            place.read += piece.len() as u64;
            flight.trim(state);
            let writer = state.writer.take();
            drop(guard);
            if let Some(writer) = writer {
                writer.wake();
            }
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match &state.end {
            None => {
                place.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(Err(CutShort::Stopping)) => Poll::Ready(Some(Err(BodyError::Stopping))),
            Some(Err(CutShort::Failed(reason))) => Poll::Ready(Some(Err(BodyError::Fill(reason.clone())))),
            Some(Ok(())) => {
                let trailers = state.trailers.clone().filter(|_| !this.trailed);
                this.trailed = true;
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(http::HeaderMap::from(&trailers)))))
            }
        }
    }
}

#[cfg(test)]
#[path = "flight_tests.rs"]
mod tests;
