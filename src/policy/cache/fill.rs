//! The right to store: only a miss or a revalidation yields a [`Fill`], and only a fill can store.
//!
//! `Fill` (the request) -> [`Fill::on_head`] -> [`Recorder`] (the body) -> [`Recorder::complete`]. A fill dropped anywhere on
//! the way stores nothing, and its waiters are told.

use std::{any::Any, sync::Arc, time::Duration};

use http::{Method, StatusCode};

use super::{
    Cache, HitInfo, HitKind,
    answer::{Mark, answer},
    carried::Carrier,
    entry::Entry,
    flight::{Born, FallThrough, FlightReader, FlightWriter, Head},
    freshness::{Freshness, Source, Times, age_value},
    key::Keys,
    plan::{Home, Plan},
    recorder::Recorder,
    status::{Forward, Forwarded},
    storable,
    validate::{self, About},
    vary::Variance,
};
use crate::{
    body::{Body, accept::accepts},
    clock::{Clock, Moment},
    fields::content_length,
    http1::{Fields, Id},
    message::Response,
};

/// A forwarded request that may store its answer.
#[derive(Debug)]
pub struct Fill {
    pub(super) cache: Arc<Cache>,
    pub(super) plan: Plan,
    pub(super) home: Arc<Home>,
    pub(super) keys: Keys,
    pub(super) method: Method,
    pub(super) request: Fields,
    pub(super) why: Forward,
    /// The stored response that the request selects: the only one that may be validated, freshened, or stand in for a failure.
    pub(super) selected: Option<Arc<Entry>>,
    pub(super) flight: Option<FlightWriter>,
    pub(super) requested: Moment,
    /// The number of changes and purges told before the request was sent.
    pub(super) told: u64,
    pub(super) observed_hit: bool,
    /// Whether the request must not be conditional: the origin's 304 made no sense.
    pub(super) unconditional: bool,
    /// Whether the client wants no answer from the origin.
    pub(super) only_if_cached: bool,
}

/// The decision on an upstream response head.
#[derive(Debug)]
pub enum Decision {
    /// Send the response on and feed its body to the recorder; add [`Recorder::cache_status`].
    Store(Recorder),
    /// A 304 freshened the stored response: send this instead.
    NotModified(Response<Body>, HitInfo),
    /// The origin failed and the stored response stands in: send this instead.
    Stale(Response<Body>, HitInfo),
    /// Send the response on as it is.
    PassThrough(Passed),
    /// The 304 is about another response: ask again. [`Fill::request_headers`] now asks unconditionally.
    Refetch(Box<Fill>),
}

/// An answer that is not stored.
#[derive(Debug, Clone, Default)]
pub struct Passed {
    /// Its member of `Cache-Status`; none in observe mode.
    pub member: Option<String>,
    /// Why it is not stored; `None` where nothing was to be stored (HEAD).
    pub reason: Option<&'static str>,
    /// Whether the reason lies in the request and no stored response had a part: a bypass, not a miss.
    pub bypass: bool,
}

impl Fill {
    /// Makes the request to the origin conditional, if the selected response can be validated. `Range` and the client's own
    /// conditions then go: they are answered from the store.
    pub fn request_headers(&self, headers: &mut Fields) {
        if self.unconditional {
            validate::make_conditional(headers, None);
        } else if let Some(old) = self.validated() {
            validate::make_conditional(headers, Some(&old.headers));
        }
    }

    /// Whether observe mode would have answered from the store.
    pub fn observed_hit(&self) -> bool {
        self.observed_hit
    }

    /// Whether the selected response is validated.
    pub fn is_revalidation(&self) -> bool {
        self.validated().is_some()
    }

    /// A reader of the shared fetch for this request's own client; `None` if the fetch is not shared. Only a fetch in a task of
    /// its own needs this reader.
    pub fn reader(&self) -> Option<FlightReader> {
        self.flight.as_ref().map(FlightWriter::reader)
    }

    /// Hands `carried` to the followers of the shared fetch.
    pub fn carry(&self, carried: Arc<dyn Any + Send + Sync>) {
        if let Some(flight) = &self.flight {
            flight.carry(carried);
        }
    }

    /// Whether the shared fetch has readers beside its own client.
    pub fn has_waiters(&self) -> bool {
        self.flight.as_ref().is_some_and(FlightWriter::has_readers)
    }

    /// Decides by the response head, as it came from the origin.
    pub fn on_head(mut self, status: StatusCode, headers: &Fields, now: Moment) -> Decision {
        if self.plan.observe {
            return match self.judged(status, headers, now) {
                Ok(_) if self.method != Method::HEAD => Decision::Store(Recorder::observing(&self)),
                Ok(_) => Decision::PassThrough(Passed::default()),
                Err(reason) => Decision::PassThrough(Passed { member: None, reason: Some(reason), bypass: self.is_passed_by(reason) }),
            };
        }
        if self.method == Method::HEAD {
            return self.on_head_answer(status, headers, now);
        }
        if status == StatusCode::NOT_MODIFIED
            && let Some(old) = self.validated().cloned()
        {
            return self.on_not_modified(&old, headers, now);
        }
        if matches!(status.as_u16(), 500 | 502..=504)
            && let Some((response, info)) = self.stand_in(Some(status), now)
        {
            return Decision::Stale(response, info);
        }
        let fresh = match self.judged(status, headers, now) {
            Ok(fresh) => fresh,
            Err(reason) => return self.pass_through(status, reason, now),
        };
        let length = content_length(headers).ok().flatten();
        if length.is_some_and(|length| length > self.plan.max_body) {
            return self.pass_through(status, "too large", now);
        }
        let variance = if self.plan.model { Some(Variance::default()) } else { Variance::of(headers, &self.request) };
        let Some(variance) = variance else { return self.pass_through(status, "vary", now) };
        let mut fields = storable::stored_fields(headers, now.wall);
        if self.plan.model {
            strip_of_the_call(&mut fields);
            fields = fields.compact();
        }
        let head = Arc::new(Head { status, headers: fields, variance, fresh, stand_in: false });
        if !head.fresh.is_fresh(now) {
            // The response is stored for its validator or its stale windows, but answers no other request.
            self.not_shared(now);
        }
        let writer = self.flight.take().unwrap_or_else(|| self.cache.flights.alone(self.plan.max_body));
        writer.head(head.clone());
        Decision::Store(Recorder::new(self, head, writer, length))
    }

    /// A stale answer, if one is allowed, for an origin that could not be asked (no connection, timeout, open breaker).
    pub fn on_failure(mut self, now: Moment) -> Option<(Response<Body>, HitInfo)> {
        self.stand_in(None, now)
    }

    /// The time and place at which the fetch begins.
    pub(super) fn born(&self) -> Born {
        Born { told: self.told, home: self.home.clone() }
    }

    /// The selected response, if the origin is asked about it.
    fn validated(&self) -> Option<&Arc<Entry>> {
        let asks = self.method == Method::GET && !self.unconditional && !self.plan.observe;
        self.selected.as_ref().filter(|entry| asks && storable::has_validator(&entry.headers))
    }

    fn judged(&self, status: StatusCode, headers: &Fields, now: Moment) -> Result<Freshness, &'static str> {
        let times = Times { requested: self.requested, received: now };
        if !self.plan.model {
            let fresh = storable::judge(status, headers, self.plan.asker, self.plan.terms, times)?;
            // RFC 9110 section 9.3.3: an answer to POST is kept on explicit freshness alone.
            let said = matches!(fresh.source, Source::Explicit | Source::Forced) && !fresh.lifetime.is_zero() && !fresh.no_cache;
            return if said || !self.plan.post { Ok(fresh) } else { Err("no freshness") };
        }
        let Some(ttl) = self.plan.terms.forced else { return Err("no ttl") };
        if status != StatusCode::OK {
            return Err("status");
        }
        // The key of a model call knows only whether the client accepts gzip.
        if headers.all(Id::ContentEncoding).any(|coding| !accepts(&self.request, coding.as_bytes())) {
            return Err("coding");
        }
        Ok(Freshness {
            received: now,
            initial_age: Duration::ZERO,
            lifetime: ttl,
            overdue: Duration::ZERO,
            source: Source::Forced,
            no_cache: false,
            stale_while_revalidate: self.plan.terms.stale_while_revalidate.unwrap_or_default(),
            stale_if_error: self.plan.terms.stale_if_error.unwrap_or_default(),
            may_be_stale: true,
        })
    }

    /// Whether `reason`, for which an answer is not stored, means that the request bypasses the cache.
    fn is_passed_by(&self, reason: &str) -> bool {
        self.selected.is_none() && storable::lies_in_request(reason)
    }

    fn on_not_modified(mut self, old: &Arc<Entry>, said: &Fields, now: Moment) -> Decision {
        if !validate::confirms(said, &old.headers) {
            self.forget_selected(now);
            self.unconditional = true;
            return Decision::Refetch(Box::new(self));
        }
        let mut member = Forwarded { status: Some(StatusCode::NOT_MODIFIED), ..self.why.into() };
        let entry = match self.freshened(old, said, now) {
            Ok(entry) => {
                member.stored = self.cache.store(&self.keys, self.told, entry.clone(), Some(old), now);
                if let Some(flight) = self.flight.take() {
                    flight.resolve(head_of(&entry, false), &entry.body, entry.trailers.clone());
                }
                entry
            }
            // The stored response answers this request, but may not be stored any more.
            Err(fields) => {
                self.forget_selected(now);
                if let Some(flight) = self.flight.take() {
                    flight.private();
                }
                Arc::new(old.freshened(fields, old.fresh.clone(), old.variance.clone(), now))
            }
        };
        let info = HitInfo::of(&entry, HitKind::Revalidated, now);
        self.cache.counts.answered(&info);
        Decision::NotModified(answer(&entry, &self.request, false, self.plan.paced, Mark::Forwarded(member.value()), now), info)
    }

    /// An answer to HEAD is not stored. It may freshen the stored answer to GET, or show that one to be out of date (RFC 9111
    /// section 4.3.5).
    fn on_head_answer(self, status: StatusCode, said: &Fields, now: Moment) -> Decision {
        let reason = self.judged(status, said, now).err().filter(|reason| self.is_passed_by(reason));
        let why = if reason.is_some() { Forward::Bypass } else { self.why };
        let member = Forwarded { status: Some(status), detail: reason, ..why.into() }.value();
        let old = self.selected.as_ref().filter(|old| status == StatusCode::OK && old.status == status);
        match old.map(|old| (old, validate::said_by_head(old, said))) {
            Some((old, About::Same)) => match self.freshened(old, said, now) {
                Ok(entry) => {
                    self.cache.store(&self.keys, self.told, entry, Some(old), now);
                }
                Err(_) => self.cache.forget(self.keys.entry, old, now),
            },
            Some((old, About::Other)) => self.cache.soften(self.keys.entry, old, now),
            Some((_, About::Unknown)) | None => {}
        }
        Decision::PassThrough(Passed { member: Some(member), reason, bypass: reason.is_some() })
    }

    /// The stored response with the fields and the age of an answer that confirms it. `Err`: those fields, where the response
    /// may not be stored any more.
    fn freshened(&self, old: &Entry, said: &Fields, now: Moment) -> Result<Arc<Entry>, Fields> {
        let fields = validate::updated(&old.headers, &storable::stored_fields(said, now.wall));
        let mut judged = fields.clone();
        judged.insert(Id::Age, age_value(said).as_secs().to_string());
        let variance = if self.plan.model { Some(Variance::default()) } else { Variance::of(&fields, &self.request) };
        match (self.judged(old.status, &judged, now), variance) {
            (Ok(fresh), Some(variance)) => Ok(Arc::new(old.freshened(fields, fresh, variance, now))),
            _ => Err(fields),
        }
    }

    fn pass_through(mut self, status: StatusCode, reason: &'static str, now: Moment) -> Decision {
        let bypass = self.is_passed_by(reason);
        if status != StatusCode::NOT_MODIFIED && !status.is_server_error() {
            // The origin's new answer may not be stored.
            self.forget_selected(now);
        }
        if status.is_success() {
            self.not_shared(now);
        } else if let Some(flight) = self.flight.take() {
            flight.private();
        }
        let why = if bypass { Forward::Bypass } else { self.why };
        let member = Forwarded { status: Some(status), detail: Some(reason), ..why.into() };
        Decision::PassThrough(Passed { member: Some(member.value()), reason: Some(reason), bypass })
    }

    /// The followers fetch for themselves. Later requests for the key do not wait for each other to learn the same.
    fn not_shared(&mut self, now: Moment) {
        if let Some(flight) = self.flight.take() {
            self.cache.not_shared.insert(self.keys.entry, now.after(super::NOT_SHARED_FOR));
            flight.private();
        }
    }

    fn stand_in(&mut self, said: Option<StatusCode>, now: Moment) -> Option<(Response<Body>, HitInfo)> {
        if self.plan.observe {
            return None;
        }
        let entry = self.selected.clone().filter(|entry| entry.fresh.usable_on_error(self.plan.asked_stale_if_error, now))?;
        if let Some(flight) = self.flight.take() {
            flight.resolve(head_of(&entry, true), &entry.body, entry.trailers.clone());
        }
        let info = HitInfo::of(&entry, HitKind::Stale, now);
        self.cache.count_hit(self.keys.entry, &entry, &info);
        let mark = match said {
            // RFC 9211: `hit` means that the request was not forwarded.
            Some(_) => Mark::Forwarded(Forwarded { status: said, ..self.why.into() }.value()),
            None => Mark::Hit(info),
        };
        Some((answer(&entry, &self.request, self.method == Method::HEAD, self.plan.paced, mark, now), info))
    }

    fn forget_selected(&mut self, now: Moment) {
        if let Some(old) = self.selected.take() {
            self.cache.forget(self.keys.entry, &old, now);
        }
    }
}

/// A request that waits for another one's fetch.
#[derive(Debug)]
pub struct Follower {
    pub(super) reader: FlightReader,
    pub(super) fill: Fill,
}

impl Follower {
    /// A way to the value of the fetch's leader.
    pub fn carrier(&self) -> Carrier {
        self.reader.carrier()
    }

    /// The answer, as soon as its head has come; its body streams as the fetch goes on. `Err`: the request fetches for itself,
    /// with a fill that joins no flight.
    pub async fn respond(self, clock: Clock) -> Result<(Response<Body>, HitInfo), (FallThrough, Box<Fill>)> {
        let Self { reader, fill } = self;
        let head = match reader.head().await {
            Ok(head) => head,
            Err(why) => return Err((why, Box::new(fill))),
        };
        let now = clock.moment();
        let lives = if head.stand_in {
            head.fresh.usable_on_error(fill.plan.asked_stale_if_error, now)
        } else {
            head.fresh.is_fresh(now) && !head.fresh.no_cache
        };
        if !(lives && head.variance.matches(&fill.request, &head.headers) && fill.plan.admits(head.fresh.source)) {
            return Err((FallThrough::OtherVariant, Box::new(fill)));
        }
        let mut response = Response::new(Body::sized(reader.into_body(), content_length(&head.headers).ok().flatten()));
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers.clone();
        let member = Forwarded { collapsed: true, ..fill.why.into() };
        response.headers_mut().append(super::status::CACHE_STATUS, member.value());
        super::status::mark_age(response.headers_mut(), head.fresh.age(now));
        let info = HitInfo {
            outcome: HitKind::Coalesced,
            age: head.fresh.age(now),
            ttl: head.fresh.ttl(head.fresh.age(now)),
            savings: None,
            content: None,
        };
        fill.cache.counts.answered(&info);
        Ok((response, info))
    }
}

pub(super) fn head_of(entry: &Entry, stand_in: bool) -> Arc<Head> {
    let (headers, variance, fresh) = (entry.headers.clone(), entry.variance.clone(), entry.fresh.clone());
    Arc::new(Head { status: entry.status, headers, variance, fresh, stand_in })
}

/// Removes the fields of a provider's answer that belong to one call or one client.
fn strip_of_the_call(fields: &mut Fields) {
    fields.retain(|name, _| {
        let name = &*name.lower();
        !(matches!(name, "set-cookie" | "server-timing" | "cf-ray" | "retry-after" | "retry-after-ms" | "alt-svc")
            || name.starts_with("x-ratelimit-")
            || name.starts_with("anthropic-ratelimit-"))
    });
}
