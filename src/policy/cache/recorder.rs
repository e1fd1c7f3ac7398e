//! Records a body while it passes, and stores it when it is complete and found good.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::BodyExt;

use super::{
    Cache,
    entry::{Entry, NewEntry, Savings},
    fill::Fill,
    flight::{FlightReader, FlightWriter, Head},
    key::{Keys, uri_tag},
    status::Forwarded,
};
use crate::{
    body::{Body, BodyError},
    clock::{Clock, Instant, Moment},
    http1::Fields,
};

const ENDED_EARLY: &str = "the shared fetch ended before its end";
/// Bodies up to this many bytes are stored in one piece.
const ONE_PIECE: u64 = 256 * 1024;
/// Most tags taken from the fields of one response, and most bytes of each.
const MAX_TAGS: usize = 64;
const MAX_TAG: usize = 128;

/// Whether a complete body is worth storing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worth {
    /// Yes; with what a hit saves, if known.
    Store(Option<Savings>),
    /// No: an error inside a success, a truncated or filtered answer, a stream without its end.
    Discard(&'static str),
}

/// Feeds a passing body to the store and to the waiters. A recorder dropped before [`complete`](Self::complete) stores nothing
/// and breaks the waiters' bodies.
#[derive(Debug)]
pub struct Recorder {
    cache: Arc<Cache>,
    keys: Keys,
    expected: Option<u64>,
    seen: u64,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Observe mode keeps keys, not bodies.
    Observing {
        lifetime: Duration,
    },
    Recording(Box<Recording>),
}

#[derive(Debug)]
struct Recording {
    fill: Fill,
    head: Arc<Head>,
    writer: FlightWriter,
    pauses: Option<Vec<u32>>,
    last: Option<Instant>,
}

impl Recorder {
    pub(super) fn new(fill: Fill, head: Arc<Head>, writer: FlightWriter, expected: Option<u64>) -> Self {
        let pauses = fill.plan.model.then(Vec::new);
        let (cache, keys) = (fill.cache.clone(), fill.keys);
        let recording = Recording { fill, head, writer, pauses, last: None };
        Self { cache, keys, expected, seen: 0, kind: Kind::Recording(Box::new(recording)) }
    }

    pub(super) fn observing(fill: &Fill) -> Self {
        let lifetime = fill.plan.terms.forced.unwrap_or(Duration::from_secs(60));
        Self { cache: fill.cache.clone(), keys: fill.keys, expected: None, seen: 0, kind: Kind::Observing { lifetime } }
    }

    /// The member of `Cache-Status` for the passing answer; none in observe mode.
    pub fn cache_status(&self) -> Option<String> {
        let Kind::Recording(recording) = &self.kind else { return None };
        // Only the end of a model's answer tells whether it is worth keeping.
        let stored = !recording.fill.plan.model;
        let member = Forwarded { status: Some(recording.head.status), stored, ..recording.fill.why.into() };
        Some(member.value())
    }

    /// A reader of what is recorded, from the first byte.
    pub fn reader(&self) -> Option<FlightReader> {
        let Kind::Recording(recording) = &self.kind else { return None };
        Some(recording.writer.reader())
    }

    /// Feeds a piece that passed at `at`.
    pub fn data(&mut self, piece: &Bytes, at: Instant) {
        self.seen += piece.len() as u64;
        let Kind::Recording(recording) = &mut self.kind else { return };
        if piece.is_empty() {
            return;
        }
        if let Some(pauses) = &mut recording.pauses {
            let pause = recording.last.map(|last| at.saturating_duration_since(last)).unwrap_or_default();
            pauses.push(u32::try_from(pause.as_millis()).unwrap_or(u32::MAX));
            recording.last = Some(at);
        }
        if !recording.writer.push(piece) {
            recording.pauses = None;
        }
    }

    /// Feeds the trailers.
    pub fn trailers(&mut self, trailers: &Fields) {
        if let Kind::Recording(recording) = &self.kind {
            recording.writer.trailers(trailers.compact());
        }
    }

    /// Stores the complete body, unless `verdict`, its length, its size or a purge meanwhile forbids it. Returns whether the
    /// body is stored now.
    pub fn complete(self, now: Moment, verdict: Worth) -> bool {
        if self.expected.is_some_and(|expected| expected != self.seen) {
            self.abandon();
            return false;
        }
        let recording = match self.kind {
            Kind::Observing { lifetime } => {
                // An observed key answers no request, so a purge meanwhile does not matter: a POST that is declared to read purges its
                // own URI.
                if matches!(verdict, Worth::Store(_)) {
                    self.cache.observed.insert(self.keys.entry, now.after(lifetime));
                }
                return false;
            }
            Kind::Recording(recording) => recording,
        };
        let Recording { fill, head, writer, pauses, .. } = *recording;
        let stored = match verdict {
            Worth::Store(savings) => {
                self.cache.counts.saved(savings, writer.joined());
                writer.snapshot().is_some_and(|(pieces, trailers)| {
                    let entry = Arc::new(entry(&fill, &head, pieces, trailers, pauses, savings, now));
                    self.cache.top.record(self.keys.entry, &entry, writer.joined());
                    self.cache.store(&self.keys, fill.told, entry, fill.selected.as_ref(), now)
                })
            }
            Worth::Discard(_) => false,
        };
        // The flight ends after the storing: a request in between finds the flight or the entry, never neither.
        writer.complete();
        stored
    }

    /// Ends a broken body: nothing is stored, and the readers are told why.
    pub fn broke(self, error: &BodyError) {
        match (self.kind, error) {
            (Kind::Recording(recording), BodyError::Stopping) => recording.writer.stop(),
            (Kind::Recording(recording), _) => recording.writer.fail(ENDED_EARLY),
            (Kind::Observing { .. }, _) => {}
        }
    }

    /// Stores nothing, and tells the readers.
    pub fn abandon(self) {
        if let Kind::Recording(recording) = self.kind {
            recording.writer.fail(ENDED_EARLY);
        }
    }

    /// Followers so far; each was spared a fetch.
    pub fn joined(&self) -> u64 {
        match &self.kind {
            Kind::Observing { .. } => 0,
            Kind::Recording(recording) => recording.writer.joined(),
        }
    }

    /// Whether the body has readers beside the store.
    pub fn has_readers(&self) -> bool {
        matches!(&self.kind, Kind::Recording(recording) if recording.writer.has_readers())
    }

    /// Whether the body is too large to be stored.
    pub fn is_outgrown(&self) -> bool {
        matches!(&self.kind, Kind::Recording(recording) if recording.writer.is_outgrown())
    }

    /// Waits until the slowest reader of an outgrown body is near; returns at once for any other body.
    pub async fn ready(&self) {
        if let Kind::Recording(recording) = &self.kind {
            recording.writer.ready().await;
        }
    }

    /// Reads all of `body` for the store and the readers, at the pace of the slowest reader once the body is too large to be
    /// stored. `verdict` is asked at the end. Run it in a task of its own; drop it to give up early.
    pub async fn pump(mut self, mut body: Body, clock: Clock, verdict: impl FnOnce() -> Worth) -> bool {
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                self.abandon();
                return false;
            };
            match frame.into_data() {
                Ok(piece) => self.data(&piece, clock.now()),
                Err(frame) => {
                    if let Some(trailers) = frame.trailers_ref() {
                        self.trailers(&Fields::from(trailers));
                    }
                }
            }
            if let Kind::Recording(recording) = &self.kind {
                if recording.writer.is_outgrown() && !recording.writer.has_readers() {
                    self.abandon();
                    return false;
                }
                recording.writer.ready().await;
            }
        }
        self.complete(clock.moment(), verdict())
    }
}

fn entry(
    fill: &Fill,
    head: &Head,
    mut pieces: Vec<Bytes>,
    trailers: Option<Fields>,
    pauses: Option<Vec<u32>>,
    savings: Option<Savings>,
    now: Moment,
) -> Entry {
    let total: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
    // The pieces of a stream are its events: they are kept for its replay. A body with one pause or none is no stream.
    let stream = pauses.filter(|pauses| pauses.len() > 1 && pauses.len() == pieces.len());
    if stream.is_none() && pieces.len() > 1 && total <= ONE_PIECE {
        pieces = vec![pieces.concat().into()];
    }
    Entry::new(NewEntry {
        status: head.status,
        headers: head.headers.clone(),
        body: pieces.into(),
        trailers,
        pauses: stream.map(Arc::from),
        dated: super::validate::date_names_bytes(&head.headers),
        fresh: head.fresh.clone(),
        variance: head.variance.clone(),
        route: fill.home.route.clone(),
        path: fill.home.path.clone(),
        what: fill.home.what.clone(),
        took_millis: u32::try_from(now.since(fill.requested).as_millis()).unwrap_or(u32::MAX),
        tags: tags(fill, &head.headers),
        savings,
        stored_at: now,
    })
}

/// The policy's tags, the response's own (`Surrogate-Key`, `Cache-Tag`), and the URI's if the key has more parts than the URI.
fn tags(fill: &Fill, headers: &Fields) -> Box<[Arc<str>]> {
    let mut tags: Vec<Arc<str>> = fill.home.tags.clone();
    if !fill.plan.model {
        let own = |name: &'static str, separator: u8| {
            let lines = headers.all(name);
            lines.flat_map(move |line| line.as_bytes().split(move |byte| *byte == separator)).map(<[u8]>::trim_ascii)
        };
        let found = own("surrogate-key", b' ').chain(own("cache-tag", b','));
        let found = found.filter(|tag| !tag.is_empty() && tag.len() <= MAX_TAG).filter_map(|tag| std::str::from_utf8(tag).ok());
        // Only the cache gives out the tags of URIs.
        tags.extend(found.filter(|tag| !tag.starts_with("uri:")).take(MAX_TAGS).map(Arc::from));
    }
    if fill.keys.entry != fill.keys.uri {
        tags.push(Arc::from(uri_tag(fill.keys.uri)));
    }
    tags.sort_unstable();
    tags.dedup();
    tags.into()
}
