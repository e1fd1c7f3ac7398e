//! Calls that were given up a moment ago. A client that repeats such a call by itself gets one try: its retries would multiply
//! those of the policy.
//!
//! A call is known by a hash of its path, credential and body. The memory is bounded: the oldest call is forgotten first.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, Hasher},
    time::Duration,
};

use parking_lot::Mutex;

use crate::clock::Instant;

/// How long a call is remembered: longer than the pauses of every SDK (8 s at most).
const REMEMBERED: Duration = Duration::from_secs(10);
/// Most calls that are remembered, at 24 bytes each.
const MOST: usize = 1_024;

/// Calls that were given up. Shared by all workers.
#[derive(Debug, Default)]
pub struct GivenUp {
    calls: Mutex<VecDeque<(u64, Instant)>>,
    hasher: foldhash::quality::RandomState,
}

/// The id of a call, for telling it from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallId(u64);

impl GivenUp {
    /// The id of a call to `path` with this credential and body.
    pub fn id(&self, path: &str, credential: &[u8], body: &[u8]) -> CallId {
        let mut hasher = self.hasher.build_hasher();
        for part in [path.as_bytes(), credential, body] {
            hasher.write_usize(part.len());
            hasher.write(part);
        }
        CallId(hasher.finish())
    }

    /// Remembers a call that was given up.
    pub fn remember(&self, call: CallId, now: Instant) {
        let mut calls = self.calls.lock();
        if calls.len() >= MOST {
            calls.pop_front();
        }
        calls.push_back((call.0, now));
    }

    /// Whether a call was given up a moment ago. The call is then forgotten: an equal call of another client is a call of its own.
    pub fn take(&self, call: CallId, now: Instant) -> bool {
        let mut calls = self.calls.lock();
        while calls.front().is_some_and(|(_, at)| now.saturating_duration_since(*at) > REMEMBERED) {
            calls.pop_front();
        }
        let place = calls.iter().position(|(known, _)| *known == call.0);
        place.and_then(|place| calls.remove(place)).is_some()
    }

    /// Whether no call is remembered: no call need then be hashed.
    pub fn is_empty(&self) -> bool {
        self.calls.lock().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_known_for_a_while_and_no_other_is() {
        let (given_up, start) = (GivenUp::default(), Instant::now());
        let call = given_up.id("/v1/x", b"key", b"{}");
        assert!(given_up.is_empty() && !given_up.take(call, start));
        given_up.remember(call, start);
        for (path, credential, body) in [("/v1/y", "key", "{}"), ("/v1/x", "other", "{}"), ("/v1/x", "key", "{ }"), ("/v1/xk", "ey", "{}")]
        {
            assert!(!given_up.take(given_up.id(path, credential.as_bytes(), body.as_bytes()), start));
        }
        assert!(given_up.take(call, start + REMEMBERED));
        assert!(!given_up.take(call, start + REMEMBERED), "once");
        given_up.remember(call, start);
        assert!(!given_up.take(call, start + REMEMBERED + Duration::from_millis(1)) && given_up.is_empty());
    }

    #[test]
    fn the_memory_is_bounded() {
        let (given_up, start) = (GivenUp::default(), Instant::now());
        let calls: Vec<CallId> = (0..MOST + 10).map(|at| given_up.id("/", b"", &at.to_le_bytes())).collect();
        calls.iter().for_each(|call| given_up.remember(*call, start));
        assert!(!given_up.take(calls[9], start) && given_up.take(calls[10], start));
    }
}
