//! The last failures, each with the whole story of its exchange. Bodies and secrets have no place in a story: a story is a line of
//! the access log, the steps of the tries, and the limits' and the cache's words.
//!
//! The ring is bounded in entries and in bytes; the oldest failure makes room for the newest. Only an exchange that failed takes a
//! lock, that of its own thread. A story is put together before the lock is taken, and what leaves the ring is freed after the lock is
//! given back. Paths and values of queries that look like credentials are masked.

mod find;
mod mask;
mod ring;
mod step;
#[cfg(test)]
mod tests;

use std::{
    mem::size_of,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde_json::{Map, Value, json};

pub use find::{Filter, MAX_ROWS, moment};
pub use step::{RECONNECT, Then, TryStep};

use self::ring::{Numbered, Ring};
use super::log::{ExchangeOutcome, Record};
use crate::{arrival::Door, clock::unix, config::FailureBounds};

/// Longest text of one member of a story, in bytes: one client's long path must not displace the failures of others.
const LONGEST: usize = 1024;
/// Bytes behind [`LONGEST`] by which a secret at its end is recognized.
const SEEN: usize = 64;
/// Bytes of an entry beside its line: its place in the ring, and the counts of its `Arc`.
const OVERHEAD: usize = size_of::<Entry>() + size_of::<Numbered>() + 2 * size_of::<usize>();

/// What kind of failure an exchange was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The proxy refused the request.
    Refused,
    /// A time bound passed.
    Timeout,
    /// The target answered 4xx.
    ClientError,
    /// The target answered 5xx.
    ServerError,
    /// The target's answer broke off.
    UpstreamBroken,
    /// The client left before the last byte.
    ClientGone,
    /// The process ended first.
    Stopped,
    /// The client got a good answer, after a try that failed or a target that was passed over.
    Rescued,
}

impl FailureKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Refused,
        Self::Timeout,
        Self::ClientError,
        Self::ServerError,
        Self::UpstreamBroken,
        Self::ClientGone,
        Self::Stopped,
        Self::Rescued,
    ];

    /// The word of the kind.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::ClientError => "client_error",
            Self::ServerError => "server_error",
            Self::UpstreamBroken => "upstream_broken",
            Self::ClientGone => "client_gone",
            Self::Stopped => "stopped",
            Self::Rescued => "rescued",
        }
    }

    /// The kind of an exchange that ended so; `None`: it did not fail.
    pub fn of(outcome: ExchangeOutcome, status: u16, reason: Option<&str>, steps: &[TryStep]) -> Option<Self> {
        match outcome {
            ExchangeOutcome::Complete if status >= 500 => Some(Self::ServerError),
            ExchangeOutcome::Complete if status >= 400 => Some(Self::ClientError),
            ExchangeOutcome::Complete => steps.iter().any(TryStep::is_failure).then_some(Self::Rescued),
            ExchangeOutcome::Rejected if reason.is_some_and(|reason| reason.ends_with("timeout")) => Some(Self::Timeout),
            ExchangeOutcome::Rejected => Some(Self::Refused),
            ExchangeOutcome::UpstreamBroken => Some(Self::UpstreamBroken),
            ExchangeOutcome::ClientGone => Some(Self::ClientGone),
            ExchangeOutcome::Stopped => Some(Self::Stopped),
            // The exchange itself was told before.
            ExchangeOutcome::ChargedLate => None,
        }
    }
}

/// The facts of a failure beside its line of the log.
#[derive(Debug, Clone, Copy)]
pub struct FailureFacts<'a> {
    /// The kind.
    pub kind: FailureKind,
    /// The reject's reason.
    pub reason: Option<&'static str>,
    /// What the client was told, in a sentence. It stands in the story where the log has no detail.
    pub said: &'a str,
    /// The wait that the client was told.
    pub retry_after: Option<Duration>,
    /// Why the cache had no part in the request.
    pub cache_bypass: &'a str,
    /// The steps of the tries, in order.
    pub steps: &'a [TryStep],
    /// The trace that came with the request, if no tracer continues traces.
    pub trace_id: Option<u128>,
}

/// One failure in the ring.
#[derive(Debug)]
struct Entry {
    /// Milliseconds since 1970 at the arrival.
    at: u64,
    status: u16,
    kind: FailureKind,
    door: Door,
    reason: &'static str,
    /// 0: none is known.
    trace: u128,
    route: Box<str>,
    caller: Box<str>,
    /// The story as a JSON object, without its closing brace.
    line: Box<[u8]>,
}

impl Entry {
    fn bytes(&self) -> usize {
        OVERHEAD + self.line.len() + self.route.len() + self.caller.len()
    }
}

/// The last failures of the process. Shared by all workers.
#[derive(Debug)]
pub struct Failures {
    bounds: FailureBounds,
    ring: Ring,
}

impl Failures {
    /// A ring of these bounds. A ring without room keeps nothing.
    pub fn new(bounds: FailureBounds) -> Arc<Self> {
        Arc::new(Self { bounds, ring: Ring::new(bounds) })
    }

    /// Whether failures are kept at all; ask before a story is put together.
    pub fn is_on(&self) -> bool {
        self.bounds.keep > 0
    }

    /// Keeps a failure. `record` is its line of the access log.
    pub fn keep(&self, record: &Record<'_>, failure: &FailureFacts<'_>) {
        if self.is_on() {
            self.ring.push(Arc::new(story(record, failure)));
        }
    }

    /// Forgets the failures of a caller. Gives their number.
    pub fn erase(&self, caller: &str) -> usize {
        self.ring.remove(|entry| *entry.caller == *caller)
    }

    /// Failures in the ring, and their bytes.
    pub fn kept(&self) -> (usize, usize) {
        self.ring.kept()
    }

    /// Failures that newer ones have displaced.
    pub fn displaced(&self) -> u64 {
        self.ring.displaced()
    }

    /// The failures that a filter means, the newest first, as the admin door shows them. It may take milliseconds: not for a worker.
    pub fn find(&self, filter: &Filter) -> Value {
        // Before the entries are looked at: what comes later is later for whoever asks after this number.
        let newest = self.ring.newest();
        let known = self.ring.backwards(filter.before.min(newest + 1));
        let mut fits = known.take_while(|(number, _)| *number > filter.after).filter(|(_, entry)| filter.fits(entry));
        let rows: Vec<Numbered> = fits.by_ref().take(filter.limit).collect();
        let next = rows.last().map(|(number, _)| number).filter(|_| fits.next().is_some());
        let (entries, bytes) = self.kept();
        json!({
            "failures": rows.iter().map(|(number, entry)| shown(*number, entry)).collect::<Vec<_>>(),
            "next": next.map(u64::to_string),
            "newest": newest.to_string(),
            "kept": {"entries": entries, "bytes": bytes, "oldest": self.ring.oldest().map(|entry| find::time(entry.at))},
            "bounds": {"entries": self.bounds.keep, "bytes": self.bounds.bytes},
            "displaced": self.displaced(),
        })
    }
}

/// A story as JSON. A line that is not JSON would be a fault of this program: its number is shown all the same.
fn shown(number: u64, entry: &Entry) -> Value {
    let mut line = entry.line.to_vec();
    line.push(b'}');
    let mut story: Map<String, Value> = serde_json::from_slice(&line).unwrap_or_default();
    story.insert("id".to_owned(), number.to_string().into());
    Value::Object(story)
}

/// The entry of a failure.
fn story(record: &Record<'_>, failure: &FailureFacts<'_>) -> Entry {
    let own = record.trace_id.map(|id| u128::from_be_bytes(id.to_bytes()));
    let trace = own.or(failure.trace_id).unwrap_or_default();
    let detail = if record.detail.is_empty() { failure.said } else { record.detail };
    // An exchange without a reject has the reason of its last step, else the word of its kind.
    let of_step = || failure.steps.iter().rev().find(|step| step.is_failure()).map(|step| step.result);
    let reason = failure.reason.or_else(of_step).unwrap_or(failure.kind.as_str());
    // What a cut would make unrecognizable is looked at before the cut.
    let (path, query) = (mask::path(cut(record.path, LONGEST + SEEN)), mask::query(cut(record.query, LONGEST + SEEN)));
    let cut = |text| cut(text, LONGEST);
    let short = Record {
        reason: Some(reason),
        trace_id: (trace != 0).then(|| trace.into()),
        caller: cut(record.caller),
        host: cut(record.host),
        path: cut(&path),
        query: cut(&query),
        detail: cut(detail),
        limit: cut(record.limit),
        would_refuse: cut(record.would_refuse),
        model: cut(record.model),
        asked_model: cut(record.asked_model),
        ..*record
    };
    let mut line = Vec::with_capacity(LONGEST);
    short.write_json(&mut line);
    // The object goes on: its brace and the line feed go.
    line.truncate(line.len().saturating_sub(2));
    step::member(&mut line, ",\"kind\":", failure.kind.as_str());
    if !failure.cache_bypass.is_empty() {
        step::member(&mut line, ",\"cache_bypass\":", failure.cache_bypass);
    }
    if let Some(wait) = failure.retry_after {
        step::millis(&mut line, ",\"retry_after_ms\":", wait);
    }
    step::write_all(&mut line, failure.steps);
    Entry {
        at: millis(record.at),
        status: record.status,
        kind: failure.kind,
        door: record.door,
        reason,
        trace,
        route: record.route.into(),
        caller: short.caller.into(),
        line: line.into_boxed_slice(),
    }
}

fn millis(at: SystemTime) -> u64 {
    u64::try_from(unix(at).as_millis()).unwrap_or(u64::MAX)
}

/// The beginning of a text that is too long.
fn cut(text: &str, longest: usize) -> &str {
    &text[..text.floor_char_boundary(longest)]
}
