//! Joining the doors: which inbound exchange caused an outbound call.
//!
//! Inbound adds one member to `baggage` that OpenTelemetry carries through the app; outbound finds it again, or our own
//! request id. The id is unguessable and never leaves towards a provider. A join to an exchange that is long over is a
//! claim: it is recorded and enforces nothing. What cannot be joined stays unattributed, never the nearest in time.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::clock::unguessable_id;

/// An inbound exchange, as outbound calls see it.
#[derive(Debug)]
pub struct Cause<C> {
    /// Unguessable; travels in `baggage`.
    pub id: u128,
    /// The inbound request id.
    pub request_id: Arc<str>,
    /// Who asked, if anybody trustworthy said so.
    pub caller: Option<Arc<str>>,
    /// The inbound route.
    pub route: Arc<str>,
    /// Its trace.
    pub trace_id: Option<u128>,
    /// Nano-dollars its calls have cost so far.
    pub spent: AtomicU64,
    /// What its calls must reserve against.
    pub charge: Option<C>,
    /// Milliseconds after the table's epoch at which it ended; 0 while it runs.
    ended: AtomicU64,
}

/// What an outbound call was found to be caused by.
#[derive(Debug)]
pub enum Join<C> {
    /// A running or just ended exchange.
    Sure(Arc<Cause<C>>),
    /// One that ended longer ago than `join_within`: recorded, enforces nothing.
    Claim(Arc<Cause<C>>),
    /// Nothing is known.
    Unattributed,
}

impl<C> Join<C> {
    /// The cause, if the call surely belongs to it.
    pub fn sure(&self) -> Option<&Arc<Cause<C>>> {
        match self {
            Self::Sure(cause) => Some(cause),
            _ => None,
        }
    }

    /// The cause, sure or claimed.
    pub fn cause(&self) -> Option<&Arc<Cause<C>>> {
        match self {
            Self::Sure(cause) | Self::Claim(cause) => Some(cause),
            Self::Unattributed => None,
        }
    }
}

/// Inbound exchanges that outbound calls may still refer to. Shared by all workers, bounded.
#[derive(Debug)]
pub struct Causes<C> {
    epoch: Instant,
    shards: [Mutex<Shard<C>>; SHARDS],
}

#[derive(Debug)]
struct Shard<C> {
    by_id: HashMap<u128, Arc<Cause<C>>, foldhash::fast::RandomState>,
    by_request_id: HashMap<Arc<str>, Arc<Cause<C>>, foldhash::fast::RandomState>,
}

const SHARDS: usize = 16;
/// Most exchanges remembered by each shard; beyond it the ended ones go first.
const SHARD_CAPACITY: usize = 1024;

/// Marks its exchange as ended when dropped.
#[derive(Debug)]
pub struct Running<C> {
    causes: Arc<Causes<C>>,
    /// The exchange.
    pub cause: Arc<Cause<C>>,
}

impl<C> Causes<C> {
    /// An empty table.
    pub fn new(now: Instant) -> Arc<Self> {
        Arc::new(Self {
            epoch: now,
            shards: std::array::from_fn(|_| Mutex::new(Shard { by_id: HashMap::default(), by_request_id: HashMap::default() })),
        })
    }

    /// Remembers a new inbound exchange until it has been over for a while. `id` is given where the request id is its
    /// hexadecimal form: an unguessable number of our own.
    pub fn begin(
        self: &Arc<Self>,
        id: Option<u128>,
        request_id: Arc<str>,
        caller: Option<Arc<str>>,
        route: Arc<str>,
        trace_id: Option<u128>,
        charge: Option<C>,
    ) -> Running<C> {
        let cause = Arc::new(Cause {
            id: id.unwrap_or_else(unguessable_id),
            request_id,
            caller,
            route,
            trace_id,
            spent: AtomicU64::new(0),
            charge,
            ended: AtomicU64::new(0),
        });
        {
            let mut shard = self.shard_of_id(cause.id).lock();
            if shard.by_id.len() >= SHARD_CAPACITY {
                shard.by_id.retain(|_, c| c.ended.load(Relaxed) == 0);
            }
            if shard.by_id.len() < SHARD_CAPACITY * 2 {
                shard.by_id.insert(cause.id, cause.clone());
            }
        }
        // A request id of our own making is the id itself.
        if id.is_none() {
            let mut shard = self.shard_of_name(&cause.request_id).lock();
            if shard.by_request_id.len() >= SHARD_CAPACITY {
                shard.by_request_id.retain(|_, c| c.ended.load(Relaxed) == 0);
            }
            if shard.by_request_id.len() < SHARD_CAPACITY * 2 {
                shard.by_request_id.insert(cause.request_id.clone(), cause.clone());
            }
        }
        Running { causes: self.clone(), cause }
    }

    /// What an outbound request refers to: by baggage, then by our request id.
    pub fn join(&self, headers: &HeaderMap, within: Duration, now: Instant) -> Join<C> {
        let by_baggage = member(headers).and_then(|id| self.shard_of_id(id).lock().by_id.get(&id).cloned());
        let cause = by_baggage.or_else(|| {
            let request_id = headers.get(REQUEST_ID)?.to_str().ok()?;
            if let Some(cause) = hex(request_id.as_bytes()).and_then(|id| self.shard_of_id(id).lock().by_id.get(&id).cloned()) {
                return Some(cause);
            }
            self.shard_of_name(request_id).lock().by_request_id.get(request_id).cloned()
        });
        match cause {
            None => Join::Unattributed,
            Some(cause) => {
                let ended = cause.ended.load(Relaxed);
                let over = self.millis(now).saturating_sub(ended);
                if ended != 0 && over > within.as_millis() as u64 { Join::Claim(cause) } else { Join::Sure(cause) }
            }
        }
    }

    /// Forgets exchanges that ended longer than `keep` ago. Called now and then.
    pub fn sweep(&self, keep: Duration, now: Instant) {
        let (now, keep) = (self.millis(now), keep.as_millis() as u64);
        let old = |cause: &Cause<C>| {
            let ended = cause.ended.load(Relaxed);
            ended != 0 && now.saturating_sub(ended) > keep
        };
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.by_id.retain(|_, c| !old(c));
            shard.by_request_id.retain(|_, c| !old(c));
        }
    }

    fn millis(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_millis() as u64
    }

    fn shard_of_id(&self, id: u128) -> &Mutex<Shard<C>> {
        &self.shards[(id as usize) % SHARDS]
    }

    fn shard_of_name(&self, name: &str) -> &Mutex<Shard<C>> {
        let sum = name.bytes().fold(0usize, |sum, b| sum.wrapping_mul(31).wrapping_add(b as usize));
        &self.shards[sum % SHARDS]
    }
}

impl<C> Running<C> {
    /// The exchange is over.
    pub fn end(&self, now: Instant) {
        self.cause.ended.store(self.causes.millis(now).max(1), Relaxed);
    }
}

impl<C> Drop for Running<C> {
    fn drop(&mut self) {
        if self.cause.ended.load(Relaxed) == 0 {
            self.end(Instant::now());
        }
    }
}

/// Puts the exchange's member into `baggage`: one line, any member of that name that came in replaced.
pub fn announce<C>(headers: &mut HeaderMap, cause: &Cause<C>) {
    let mut line = foreign_members(headers);
    if !line.is_empty() {
        line.extend_from_slice(b",");
    }
    line.extend_from_slice(MEMBER.as_bytes());
    line.extend_from_slice(b"=");
    line.extend_from_slice(&hex_of(cause.id));
    if let Ok(value) = HeaderValue::from_maybe_shared(line.freeze()) {
        headers.insert(BAGGAGE, value);
    }
}

/// Removes our member, leaving the others as they were; the field goes when nothing is left.
pub fn conceal(headers: &mut HeaderMap) {
    if !headers.contains_key(BAGGAGE) {
        return;
    }
    let line = foreign_members(headers);
    match HeaderValue::from_maybe_shared(line.freeze()) {
        Ok(value) if !value.is_empty() => {
            headers.insert(BAGGAGE, value);
        }
        _ => {
            headers.remove(BAGGAGE);
        }
    }
}

/// The 32 digits of an id.
pub fn hex_of(id: u128) -> [u8; 32] {
    let mut digits = [0; 32];
    for (at, digit) in digits.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(id >> (124 - 4 * at)) as usize & 15];
    }
    digits
}

/// Where a request id travels.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const BAGGAGE: HeaderName = HeaderName::from_static("baggage");
const MEMBER: &str = "outrigger";

fn members(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers.get_all(BAGGAGE).iter().flat_map(|line| line.as_bytes().split(|b| *b == b',')).map(<[u8]>::trim_ascii).filter(|m| !m.is_empty())
}

fn value_of_ours(member: &[u8]) -> Option<&[u8]> {
    let equals = member.iter().position(|b| *b == b'=')?;
    (member[..equals].trim_ascii() == MEMBER.as_bytes()).then(|| member[equals + 1..].trim_ascii())
}

fn member(headers: &HeaderMap) -> Option<u128> {
    let value = members(headers).find_map(value_of_ours)?;
    hex(value.split(|b| *b == b';').next()?)
}

fn hex(text: &[u8]) -> Option<u128> {
    (text.len() == 32).then(|| u128::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok())?
}

fn foreign_members(headers: &HeaderMap) -> BytesMut {
    let mut line = BytesMut::new();
    for member in members(headers).filter(|m| value_of_ours(m).is_none()) {
        if !line.is_empty() {
            line.extend_from_slice(b",");
        }
        line.extend_from_slice(member);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(causes: &Arc<Causes<()>>, id: &str) -> Running<()> {
        causes.begin(None, id.into(), Some("alice".into()), "chat".into(), None, None)
    }

    #[tokio::test(start_paused = true)]
    async fn an_announced_exchange_is_found_by_baggage_and_by_request_id() {
        let causes: Arc<Causes<()>> = Causes::new(Instant::now());
        let running = begin(&causes, "r1");
        let mut headers = HeaderMap::new();
        headers.append("baggage", HeaderValue::from_static("a=1;p=2, outrigger=00000000000000000000000000000001"));
        headers.append("baggage", HeaderValue::from_static("b=2"));
        announce(&mut headers, &running.cause);
        assert_eq!(headers.get_all("baggage").iter().count(), 1);
        assert!(headers["baggage"].to_str().expect("text").starts_with("a=1;p=2,b=2,outrigger="));
        let minute = Duration::from_secs(60);
        assert!(matches!(causes.join(&headers, minute, Instant::now()), Join::Sure(c) if c.caller.as_deref() == Some("alice")));
        conceal(&mut headers);
        assert_eq!(headers["baggage"], "a=1;p=2,b=2");
        assert!(matches!(causes.join(&headers, minute, Instant::now()), Join::Unattributed));
        headers.insert("x-request-id", HeaderValue::from_static("r1"));
        assert!(matches!(causes.join(&headers, minute, Instant::now()), Join::Sure(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_exchange_that_is_long_over_is_a_claim_and_then_forgotten() {
        let causes: Arc<Causes<()>> = Causes::new(Instant::now());
        let running = begin(&causes, "r1");
        let mut headers = HeaderMap::new();
        announce(&mut headers, &running.cause);
        tokio::time::advance(Duration::from_secs(1)).await;
        drop(running);
        let within = Duration::from_secs(60);
        assert!(matches!(causes.join(&headers, within, Instant::now()), Join::Sure(_)));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(matches!(causes.join(&headers, within, Instant::now()), Join::Claim(_)));
        causes.sweep(Duration::from_secs(30), Instant::now());
        assert!(matches!(causes.join(&headers, within, Instant::now()), Join::Unattributed));
    }

    #[test]
    fn an_id_of_our_own_is_found_as_a_request_id_too() {
        let causes: Arc<Causes<()>> = Causes::new(Instant::now());
        let id = unguessable_id();
        let request_id = String::from_utf8(hex_of(id).to_vec()).expect("digits");
        let _running = causes.begin(Some(id), request_id.as_str().into(), None, "chat".into(), None, None);
        let mut headers = HeaderMap::new();
        headers.insert("x-request-id", HeaderValue::from_str(&request_id).expect("valid"));
        assert!(matches!(causes.join(&headers, Duration::from_secs(1), Instant::now()), Join::Sure(_)));
    }

    #[test]
    fn a_forged_member_joins_nothing() {
        let causes: Arc<Causes<()>> = Causes::new(Instant::now());
        let _running = begin(&causes, "r1");
        for forged in ["outrigger=1", "outrigger=zz", "outrigger=00000000000000000000000000000001", "outrigger"] {
            let mut headers = HeaderMap::new();
            headers.insert("baggage", HeaderValue::from_static(forged));
            assert!(matches!(causes.join(&headers, Duration::from_secs(1), Instant::now()), Join::Unattributed));
        }
    }
}
