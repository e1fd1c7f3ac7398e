//! A stored response, ready to send: head without the fields of a connection, body in pieces that are never copied again.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::{freshness::Freshness, vary::Variance};
use crate::{
    body::{Body, BodyError},
    clock::Moment,
    http1::Fields,
    store::memory::Stored,
    usage::Usage,
};

/// A stored response.
#[derive(Debug)]
pub struct Entry {
    /// The number of its content in this process: another answer has another one, the same answer made fresh keeps it.
    pub content: u64,
    /// The status, as received.
    pub status: StatusCode,
    /// Fields to send; no `Age`, no fields of a connection.
    pub headers: Fields,
    /// The body, in the pieces in which it is sent.
    pub body: Arc<[Bytes]>,
    /// Bytes of the body.
    pub len: u64,
    /// Trailer fields.
    pub trailers: Option<Fields>,
    /// Milliseconds of pause before each piece, for streams that may be replayed as they came.
    pub pauses: Option<Arc<[u32]>>,
    /// Whether its `Last-Modified` names these bytes and no others; see [`date_names_bytes`](super::validate::date_names_bytes).
    pub dated: bool,
    /// Age and lifetime.
    pub fresh: Freshness,
    /// The requests it answers.
    pub variance: Variance,
    /// The route that stored it.
    pub route: Arc<str>,
    /// Path and query, for purges by prefix.
    pub path: Box<str>,
    /// The request in words, for people: method, host and path, or provider, operation and model. No query, no prompt.
    pub what: Arc<str>,
    /// Milliseconds from the request to the last byte of the origin's answer.
    pub took_millis: u32,
    /// Purge tags, each once.
    pub tags: Box<[Arc<str>]>,
    /// The savings of one hit.
    pub savings: Option<Savings>,
    /// When it was stored or last freshened.
    pub stored_at: Moment,
    softly_purged: AtomicBool,
    told: AtomicU64,
}

static CONTENTS: AtomicU64 = AtomicU64::new(0);

/// The savings of an answer from the store in place of the provider's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Savings {
    /// Tokens the provider would have counted.
    pub usage: Usage,
    /// Nano-dollars the provider would have billed.
    pub nano_usd: u64,
}

/// The parts of an [`Entry`] that are not computed from the others.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct NewEntry {
    pub status: StatusCode,
    pub headers: Fields,
    pub body: Arc<[Bytes]>,
    pub trailers: Option<Fields>,
    pub pauses: Option<Arc<[u32]>>,
    pub dated: bool,
    pub fresh: Freshness,
    pub variance: Variance,
    pub route: Arc<str>,
    pub path: Box<str>,
    pub what: Arc<str>,
    pub took_millis: u32,
    pub tags: Box<[Arc<str>]>,
    pub savings: Option<Savings>,
    pub stored_at: Moment,
}

impl Entry {
    /// Puts an entry together. Pauses that do not fit the pieces are dropped.
    pub fn new(new: NewEntry) -> Self {
        let len = new.body.iter().map(|piece| piece.len() as u64).sum();
        let pauses = new.pauses.filter(|pauses| pauses.len() == new.body.len());
        let NewEntry { status, headers, body, trailers, dated, fresh, variance, route, path, what, .. } = new;
        let NewEntry { took_millis, tags, savings, stored_at, .. } = new;
        Self {
            content: CONTENTS.fetch_add(1, Ordering::Relaxed),
            status,
            headers,
            body,
            len,
            trailers,
            pauses,
            dated,
            fresh,
            variance,
            route,
            path,
            what,
            took_millis,
            tags,
            savings,
            stored_at,
            softly_purged: AtomicBool::new(false),
            told: AtomicU64::new(0),
        }
    }

    /// The same response with other fields and numbers: freshened by a 304 or by an answer to HEAD. The body is shared.
    pub fn freshened(&self, headers: Fields, fresh: Freshness, variance: Variance, now: Moment) -> Self {
        let entry = Self::new(NewEntry {
            status: self.status,
            headers,
            body: self.body.clone(),
            trailers: self.trailers.clone(),
            pauses: self.pauses.clone(),
            dated: self.dated,
            fresh,
            variance,
            route: self.route.clone(),
            path: self.path.clone(),
            what: self.what.clone(),
            took_millis: self.took_millis,
            tags: self.tags.clone(),
            savings: self.savings,
            stored_at: now,
        });
        Self { content: self.content, ..entry }
    }

    /// The whole body; with its recorded pauses if `paced`.
    pub fn whole(&self, paced: bool) -> Body {
        let pauses = self.pauses.clone().filter(|_| paced);
        match &*self.body {
            [] if self.trailers.is_none() => Body::Empty,
            [one] if self.trailers.is_none() && pauses.is_none() => Body::Full(one.clone()),
            _ => Body::stream(Replay::new(self.body.clone(), self.trailers.clone(), pauses)),
        }
    }

    /// The bytes `first..=last` of the body, which must lie inside it; no bytes are copied.
    pub fn part(&self, first: u64, last: u64) -> Body {
        let mut pieces = Vec::new();
        let mut begin = 0u64;
        for piece in self.body.iter() {
            let end = begin + piece.len() as u64;
            if end > first && begin <= last && !piece.is_empty() {
                let from = first.saturating_sub(begin) as usize;
                let to = (last + 1 - begin).min(piece.len() as u64) as usize;
                pieces.push(piece.slice(from..to));
            }
            begin = end;
        }
        match pieces.len() {
            0 => Body::Empty,
            1 => Body::full(pieces.swap_remove(0)),
            _ => Body::stream(Replay::new(pieces.into(), None, None)),
        }
    }

    /// Sets `told`: the number of changes and purges told in this process before the entry was requested. Call before storing the entry.
    pub fn asked_after(&self, told: u64) {
        self.told.store(told, Ordering::Relaxed);
    }

    /// The number of changes and purges told before the entry was requested.
    pub fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }

    /// Remaining lifetime in whole seconds; never above 0 once a soft purge has made the entry stale, negative once it is old.
    pub fn ttl(&self, now: Moment) -> i64 {
        self.ttl_at(self.fresh.age(now))
    }

    /// The same at an age that is known.
    pub fn ttl_at(&self, age: Duration) -> i64 {
        let ttl = self.fresh.ttl(age);
        if self.is_softly_purged() { ttl.min(0) } else { ttl }
    }

    /// Whether a soft purge has marked it stale.
    pub fn is_softly_purged(&self) -> bool {
        self.softly_purged.load(Ordering::Relaxed)
    }
}

impl Stored for Entry {
    fn weight(&self) -> u64 {
        let varied: usize =
            self.variance.fields.iter().map(|(name, value)| 64 + name.as_str().len() + value.as_ref().map_or(0, |value| value.len())).sum();
        let pieces = self.body.len() * (size_of::<Bytes>() + 32);
        let pauses = self.pauses.as_ref().map_or(0, |pauses| pauses.len() * 4);
        let head = size_of::<Self>()
            + self.headers.capacity()
            + self.trailers.as_ref().map_or(0, Fields::capacity)
            + self.path.len()
            + self.what.len();
        self.len + (head + varied + pieces + pauses) as u64
    }

    fn tags(&self) -> &[Arc<str>] {
        &self.tags
    }

    fn route(&self) -> &str {
        &self.route
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn stored_at(&self) -> Moment {
        self.stored_at
    }

    fn soften(&self) {
        self.softly_purged.store(true, Ordering::Relaxed);
    }

    fn is_beyond_use(&self, now: Moment) -> bool {
        self.fresh.is_beyond_use(now) && !super::storable::has_validator(&self.headers)
    }
}

/// Most milliseconds of pauses in a replay; a longer recording is replayed faster in proportion.
const LONGEST_REPLAY: u64 = 60_000;

/// Sends stored pieces, with or without pauses.
struct Replay {
    pieces: Arc<[Bytes]>,
    at: usize,
    left: u64,
    trailers: Option<Fields>,
    pauses: Option<Arc<[u32]>>,
    /// Milliseconds of all pauses together.
    recorded: u64,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Replay {
    fn new(pieces: Arc<[Bytes]>, trailers: Option<Fields>, pauses: Option<Arc<[u32]>>) -> Self {
        let left = pieces.iter().map(|piece| piece.len() as u64).sum();
        let recorded = pauses.iter().flat_map(|pauses| pauses.iter()).map(|pause| u64::from(*pause)).sum();
        Self { recorded, pieces, at: 0, left, trailers, pauses, pause: None }
    }
}

impl HttpBody for Replay {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Some(piece) = this.pieces.get(this.at).cloned() else {
            return Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(HeaderMap::from(&trailers)))));
        };
        if let Some(pause) = this.pauses.as_ref().and_then(|pauses| pauses.get(this.at)).filter(|pause| **pause > 0) {
            let mut pause = Duration::from_millis(u64::from(*pause));
            if this.recorded > LONGEST_REPLAY {
                pause = pause.mul_f64(LONGEST_REPLAY as f64 / this.recorded as f64);
            }
            let sleep = this.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            this.pause = None;
        }
        this.at += 1;
        this.left -= piece.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.at == self.pieces.len() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
