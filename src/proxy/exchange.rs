//! What is known of one request, from its arrival to the last byte of its answer.
//!
//! The exchange is the observer of its own response body: it ends when the body ends or the client leaves, and then, once,
//! writes the log line, counts the metrics, closes the span and settles what was reserved. A future that is dropped
//! half-way ends it too.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Response, StatusCode, header};

use super::{
    Proxy,
    live::{LiveDoor, Worker},
    model::{self, ModelCall, Settlement},
    read_first::Room,
    strip::Stripped,
    timing::server_timing,
};
use crate::{
    arrival::{Arrival, Door},
    body::{
        Body, BodyError,
        tap::{End, Observer, Tap, TimeBounds},
        upload::Progress,
    },
    cause::{self, Running},
    clock::Instant,
    policy::limits::{Keyed, Lease},
    reject::{Bound, Reject},
    telemetry::{
        log::{Outcome, Record},
        metrics::{CacheOutcome, Finished, GaugeGuard},
        trace::{ServerStart, Span, Trace, TraceContext},
    },
    upstream::Connection,
};

const SERVER_TIMING: header::HeaderName = header::HeaderName::from_static("server-timing");

/// The record of one request.
pub struct Exchange {
    pub(super) proxy: Rc<Proxy>,
    /// The configuration it began with, and keeps.
    pub worker: Rc<Worker>,
    /// As it came in.
    pub arrival: Rc<Arrival>,
    /// Wall time of the arrival.
    at: SystemTime,
    /// The request id, if it is a number of our own.
    own_id: Option<u128>,
    /// Finds everything about this request.
    pub request_id: Arc<str>,
    /// Index of the route in its door; `None` before one was found.
    pub route: Option<usize>,
    /// Who asked.
    pub caller: Option<Arc<str>>,
    /// What has come in of the request's body.
    pub upload: Rc<Progress>,
    /// What the tries did, also those of a task that outlives the client.
    pub tries: Rc<Tries>,
    /// What the cache did.
    pub cache: CacheOutcome,
    /// Why it had no part in it.
    pub bypass: Option<&'static str>,
    /// The operator says that this request only reads, whatever its method.
    pub only_reads: bool,
    /// Whether its answer is looked into before it is stored.
    pub looks_inside: bool,
    /// Outbound: what was understood of the request, and what it used.
    pub call: Option<Box<ModelCall>>,
    /// Inbound: outbound calls refer to it.
    pub cause: Option<Running<Keyed>>,
    /// Its place in its trace, where there is one.
    pub trace: Option<Trace>,
    span: Option<Span>,
    /// Nobody asked but we ourselves, to fill the cache: it takes nothing from anybody's limits.
    pub is_ours: bool,
    /// What limits have reserved.
    pub lease: Option<Lease>,
    /// Room that its body takes of the process's budget.
    pub room: Option<Room>,
    /// The connection to give back when the body has ended well.
    pub connection: Option<Connection>,
    /// Time to the response head that upstreams took.
    status: u16,
    reject: Option<&'static str>,
    /// The refusal is for time that passed after something was sent.
    timed_out: bool,
    own: Option<Duration>,
    first_byte: Option<Duration>,
    bytes_in: u64,
    bytes_out: u64,
    ended: bool,
    _inflight: GaugeGuard,
}

/// What the tries of one request did.
#[derive(Debug, Default)]
pub struct Tries {
    /// How many.
    pub made: Cell<u32>,
    /// Target of the last one.
    pub target: RefCell<Option<Arc<str>>>,
    /// Waiting for upstreams, pauses included.
    pub waited: Cell<Duration>,
    /// The last one, to its response head.
    pub last: Cell<Option<Duration>>,
}

impl Exchange {
    /// Begins the record of `arrival`.
    pub fn begin(proxy: &Rc<Proxy>, worker: Rc<Worker>, arrival: Rc<Arrival>) -> Box<Self> {
        let inflight = worker.door(arrival.door).inflight.enter();
        let (own_id, request_id) = request_id(&arrival);
        Box::new(Self {
            proxy: proxy.clone(),
            at: proxy.shared.clock.wall(),
            own_id,
            request_id,
            worker,
            arrival,
            route: None,
            caller: None,
            upload: Rc::default(),
            tries: Rc::default(),
            cache: CacheOutcome::None,
            bypass: None,
            only_reads: false,
            looks_inside: false,
            call: None,
            cause: None,
            trace: None,
            span: None,
            is_ours: false,
            lease: None,
            room: None,
            connection: None,
            status: 0,
            reject: None,
            timed_out: false,
            own: None,
            first_byte: None,
            bytes_in: 0,
            bytes_out: 0,
            ended: false,
            _inflight: inflight,
        })
    }

    /// Continues or begins the trace, where OTLP is on; else a trace that came in passes as it is.
    pub fn trace(&mut self, door: &LiveDoor) {
        let telemetry = &self.proxy.telemetry;
        if telemetry.tracer.is_none() {
            return;
        }
        let arrival = &*self.arrival;
        let trace = Trace::begin(TraceContext::from_headers(&arrival.headers), telemetry.sampler, &self.proxy.chance);
        let start = ServerStart {
            method: &arrival.method,
            tls: arrival.tls,
            version: arrival.version,
            host: arrival.host(),
            port: door.port,
            path: arrival.path(),
            client: arrival.client,
            user_agent: arrival.header(header::USER_AGENT),
        };
        self.span = Span::server(&trace, &start, self.at);
        self.trace = Some(trace);
    }

    /// From now on outbound calls may say that this exchange caused them, and reserve against its limits.
    pub fn caused_from_now(&mut self, keyed: Option<&Keyed>) {
        if self.arrival.door == Door::Inbound && self.worker.live.outbound.is_some() {
            let route = self.route_name().unwrap_or_default();
            let trace_id = self.trace.as_ref().map(|trace| u128::from_be_bytes(trace.context.trace_id.to_bytes()));
            let (request_id, caller) = (self.request_id.clone(), self.caller.clone());
            self.cause = Some(self.proxy.shared.causes.begin(self.own_id, request_id, caller, route, trace_id, keyed.cloned()));
        }
    }

    fn route_name(&self) -> Option<Arc<str>> {
        let door = self.worker.live.door(self.arrival.door)?;
        Some(door.routes[self.route.unwrap_or(door.routes.len() - 1)].name.clone())
    }

    /// The answer that the proxy gives by itself, in the provider's own shape where there is one.
    pub fn refuse(&mut self, reject: Reject) -> Response<Body> {
        self.reject = Some(reject.reason());
        self.timed_out = matches!(&reject, Reject::Timeout { bound, .. } if *bound != Bound::Connect && !bound.is_clients());
        match &self.call {
            Some(call) => call.refuse(reject, self.proxy.shared.clock.wall()),
            None if self.arrival.wants_grpc_status() => reject.into_grpc(),
            None if self.arrival.door == Door::Outbound => model::refuse_early(&self.worker.live, &self.arrival, reject, &self.request_id),
            None => reject.into_response(),
        }
    }

    /// Hands the exchange over to the body of `response`: its end is the exchange's end.
    pub fn end_with(mut self: Box<Self>, response: Response<Body>, bounds: TimeBounds) -> Response<Body> {
        let (mut head, body) = response.into_parts();
        if let Some(lease) = &self.lease {
            // Beside what the app or a refusal at a later stage says of other limits.
            lease.headers().into_iter().for_each(|(name, value)| {
                head.headers.append(name, value);
            });
        }
        self.status = head.status.as_u16();
        let waited = self.tries.waited.get();
        let own = self.arrival.at.elapsed().saturating_sub(waited);
        self.own = Some(own);
        if self.worker.live.door(self.arrival.door).is_some_and(|door| door.server_timing)
            && let Some(value) = server_timing(own, waited, self.tries.made.get(), self.cache)
        {
            // Beside what the app says of itself.
            head.headers.append(SERVER_TIMING, value);
        }
        if let Some(call) = &mut self.call {
            call.answered(&head);
        }
        let strips = self.call.as_ref().is_some_and(|call| call.asks_usage && call.streams);
        let tapped = Body::Tapped(Box::new(Tap::new(body, bounds, self)));
        if strips {
            head.headers.remove(header::CONTENT_LENGTH);
            return Response::from_parts(head, Body::stream(Stripped::new(tapped)));
        }
        Response::from_parts(head, tapped)
    }

    /// A tunnel has ended.
    pub fn tunnelled(&mut self, up: u64, down: u64, complete: bool) {
        self.bytes_in += up;
        self.bytes_out += down;
        self.finish(if complete { Outcome::Complete } else { Outcome::UpstreamBroken }, Instant::now());
    }

    /// The status that a tunnel answers with.
    pub fn switching(&mut self) {
        self.status = StatusCode::SWITCHING_PROTOCOLS.as_u16();
        self.own = Some(self.arrival.at.elapsed().saturating_sub(self.tries.waited.get()));
    }

    fn finish(&mut self, outcome: Outcome, now: Instant) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let total = now.saturating_duration_since(self.arrival.at);
        let door = self.arrival.door;
        let outcome = if self.reject.is_some() && outcome == Outcome::Complete { Outcome::Rejected } else { outcome };
        let finished = Finished {
            code: self.status,
            cache: self.cache,
            total,
            own: self.own,
            reject: self.reject,
            broken: outcome == Outcome::UpstreamBroken,
            at: now,
        };
        let route = self.route.or_else(|| self.worker.live.door(door).map(|d| d.routes.len() - 1));
        let name = self.route_name().unwrap_or_default();
        if let Some(route) = route {
            self.worker.route(door, route).requests.finish(&finished);
        }
        let settlement = self.call.as_mut().map(|call| call.settle(&self.proxy, &self.worker.live.prices, &name, outcome, total));
        if let Some(lease) = self.lease.take() {
            match settlement {
                // Answered from the cache: the request counts where the limit counts every one, tokens and dollars do not.
                Some(_) if self.call.as_ref().is_some_and(|call| call.cached) => drop(lease),
                // Inbound, requests count as they came; tokens and dollars were only looked at.
                None => lease.keep(),
                Some(Settlement::Used { tokens, nano_usd }) => lease.settle(tokens, nano_usd, now),
                // Whoever hangs up or runs out of time has very likely been billed for: what was sent stays charged.
                Some(Settlement::Unknown) if self.status != 0 && self.status < 400 => lease.keep(),
                Some(Settlement::Unknown) if self.tries.made.get() > 0 && (self.status == 0 || self.timed_out) => lease.keep(),
                Some(Settlement::Unknown) => lease.refund(),
            }
        }
        if let Some(running) = &self.cause {
            running.end(now);
        }
        self.end_span(&name);
        if self.proxy.telemetry.log.enabled() {
            self.write_log(&name, outcome, total);
        }
    }

    fn end_span(&mut self, route: &str) {
        let Some(mut span) = self.span.take() else { return };
        let Some(tracer) = &self.proxy.telemetry.tracer else { return };
        span.route(self.arrival.door.as_str(), route);
        if self.status != 0 {
            span.status(self.status);
        }
        if let Some(reason) = self.reject {
            span.error(reason);
        }
        span.set("outrigger.request_id", self.request_id.to_string());
        span.set("outrigger.cache", self.cache.as_str());
        span.set("outrigger.tries", i64::from(self.tries.made.get()));
        if let Some(call) = &self.call {
            call.describe(&mut span);
        }
        tracer.end(span, self.proxy.shared.clock.wall());
    }

    fn write_log(&self, route: &str, outcome: Outcome, total: Duration) {
        let arrival = &*self.arrival;
        let target = self.tries.target.borrow();
        let call = self.call.as_deref();
        self.proxy.telemetry.log.write(&Record {
            at: self.at,
            request_id: &self.request_id,
            trace_id: self.trace.as_ref().map(|trace| trace.context.trace_id),
            door: arrival.door,
            route,
            caller: self.caller.as_deref().unwrap_or_default(),
            client: arrival.client,
            method: &arrival.method,
            host: arrival.host(),
            path: arrival.path(),
            query: arrival.uri.query().unwrap_or_default(),
            status: self.status,
            reason: self.reject,
            cache: self.cache.as_str(),
            target: target.as_deref().unwrap_or_default(),
            tries: self.tries.made.get(),
            total,
            upstream: self.tries.last.get(),
            first_byte: self.first_byte,
            first_token: call.and_then(|c| c.first_token),
            bytes_in: self.bytes_in + self.upload.bytes.get(),
            bytes_out: self.bytes_out,
            provider: call.map(|c| &*c.provider).unwrap_or_default(),
            operation: call.map(|c| c.shape.operation.as_str()).unwrap_or_default(),
            model: call.and_then(|c| c.model.as_deref()).unwrap_or_default(),
            stream: call.map(|c| c.streams),
            tokens: call.and_then(ModelCall::tokens),
            cost: call.and_then(|c| c.cost),
            cause: call.and_then(|c| c.join.cause()).map(|c| &*c.request_id).unwrap_or_default(),
            outcome,
        });
    }
}

impl Observer for Exchange {
    fn data(&mut self, piece: &Bytes) {
        if self.bytes_out == 0 {
            self.first_byte = Some(self.arrival.at.elapsed());
        }
        self.bytes_out += piece.len() as u64;
        if let Some(call) = &mut self.call {
            call.data(piece, self.arrival.at);
        }
    }

    fn end(&mut self, end: End<'_>) {
        let now = Instant::now();
        let outcome = match end {
            End::Complete => Outcome::Complete,
            End::Broken(_) => Outcome::UpstreamBroken,
            End::Abandoned => Outcome::ClientGone,
        };
        if let Some(connection) = self.connection.take()
            && outcome == Outcome::Complete
            && self.upload.is_done()
        {
            connection.release(now);
        }
        self.upload.abandon();
        self.finish(outcome, now);
    }

    fn last_words(&mut self, error: &BodyError) -> Option<Bytes> {
        self.call.as_ref()?.last_words(error)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.finish(Outcome::ClientGone, Instant::now());
    }
}

/// What a trusted peer (outbound: the app) sent, or an unguessable number of our own and its digits.
fn request_id(arrival: &Arrival) -> (Option<u128>, Arc<str>) {
    let given = (arrival.door == Door::Outbound || arrival.trusted)
        .then(|| arrival.header(cause::REQUEST_ID))
        .flatten()
        .filter(|id| !id.is_empty() && id.len() <= 128 && id.bytes().all(|b| b.is_ascii_graphic()));
    match given {
        Some(id) => (None, id.into()),
        None => {
            let id = crate::clock::unguessable_id();
            (Some(id), std::str::from_utf8(&cause::hex_of(id)).unwrap_or_default().into())
        }
    }
}
