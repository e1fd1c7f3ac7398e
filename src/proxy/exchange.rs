//! One request under way, from its arrival to the last byte of its answer.
//!
//! The exchange observes the body that goes to the client. It ends when that body ends, when the client leaves, or when its future is
//! dropped half-way. The end is told once, as an [`Ending`].

use std::{rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use http::StatusCode;

use super::{
    Proxy,
    ask::{Ask, Origin},
    compression,
    dress::dress,
    ending::Ending,
    live::{LiveDoor, Worker},
    model,
    payer::Seat,
    privacy,
    session::Watch,
};
use crate::{
    arrival::{Arrival, Door},
    body::{
        Body, BodyError,
        tap::{End, Observer, Tap, TimeBounds},
    },
    cause::{Begin, Running},
    clock::Instant,
    http1::{Fields, Id},
    in_place,
    message::Response,
    policy::limits::{Keyed, Lease},
    reject::{Bound, Limited, Reject},
    telemetry::{
        log::ExchangeOutcome,
        metrics::CacheOutcome,
        observed::WouldRefuse,
        trace::{ServerStart, Span, Trace, TraceContext},
    },
    upstream::Connection,
};

/// Bytes of the fields that tell the state of a few limits.
const LIMIT_FIELDS: usize = 192;

/// One request under way.
pub struct Exchange {
    /// The record of the request.
    pub ask: Rc<Ask>,
    /// The cache's part in the request.
    pub cache: CacheNotes,
    /// The answer to the client.
    pub answer: AnswerNotes,
    /// The limits' reservation for the request itself.
    pub lease: Option<Lease>,
    /// The refusal of a spent limit that lets stored answers through.
    pub spent: Option<Box<Limited>>,
    /// The seat among the payers of its tries.
    pub seat: Option<Seat>,
    /// The upstream connection, to be released when the body has ended well.
    pub connection: Option<Connection>,
    /// What a tunnel holds until it ends.
    pub(super) held: HeldByTunnel,
    running: Option<Running<Keyed>>,
    span: Option<Span>,
    ended: bool,
}

/// What a tunnel holds until it ends.
#[derive(Default)]
pub(super) struct HeldByTunnel {
    /// The watch over a WebSocket to a model.
    pub watch: Option<Rc<Watch>>,
    /// The answer that opened the tunnel. Its bill holds the try's places among the requests in flight.
    pub opening: Option<Box<Body>>,
}

/// The cache's part in a request.
#[derive(Debug, Clone, Copy)]
pub struct CacheNotes {
    /// The cache's outcome.
    pub outcome: CacheOutcome,
    /// Why the cache had no part in the request.
    pub bypass: Option<&'static str>,
    /// Whether the operator has declared that the request only reads, whatever its method.
    pub only_reads: bool,
    /// Whether the answer is looked into before it is stored.
    pub looks_inside: bool,
    /// The number of the kept content that answers.
    pub content: Option<u64>,
}

/// The answer that a client got.
#[derive(Debug, Clone, Default)]
pub struct AnswerNotes {
    /// The status; 0: none was sent.
    pub status: u16,
    /// The reason of a refusal.
    pub reject: Option<&'static str>,
    /// The refusal's detail for an operator.
    pub detail: Option<Box<str>>,
    /// What the client was told of its refusal, if failures are kept.
    pub said: Option<Box<ToldClient>>,
    /// The limit that refused.
    pub limit: Option<Arc<str>>,
    /// Observing limits that would have refused, separated by spaces.
    pub would_refuse: String,
    /// Why, in the same order.
    pub would_because: Vec<WouldRefuse>,
    /// Whether a time bound (neither `connect` nor one of the client's body) or the process's end has refused the request: a sent try
    /// may have been billed.
    pub timed_out: bool,
    /// Whether the answer streams.
    pub streams: Option<bool>,
    /// The proxy's own time up to the head.
    pub own: Option<Duration>,
    /// Time from the arrival to the head of the answer.
    pub head_after: Duration,
    /// Time from the arrival to the first byte of the body.
    pub first_byte: Option<Duration>,
    /// Body bytes from the client through a tunnel.
    pub bytes_in: u64,
    /// Body bytes to the client.
    pub bytes_out: u64,
    /// Fields that tell the state of the limits, if the exchange has given its lease away.
    pub limit_fields: Fields,
}

/// A refusal as its client was told.
#[derive(Debug, Clone)]
pub struct ToldClient {
    /// The refusal in a sentence.
    pub detail: String,
    /// The wait until the same request would pass.
    pub retry_after: Option<Duration>,
}

impl Exchange {
    /// Begins the exchange of `arrival`.
    pub fn begin(proxy: &Rc<Proxy>, worker: Rc<Worker>, arrival: Arrival) -> Box<Self> {
        Self::of(Ask::of(proxy, worker, arrival, Origin::Client))
    }

    /// The exchange of `ask`.
    pub fn of(ask: Rc<Ask>) -> Box<Self> {
        let cache = CacheNotes { outcome: CacheOutcome::None, bypass: None, only_reads: false, looks_inside: false, content: None };
        ask.worker.door(ask.door()).inflight.inc();
        in_place::boxed(|| Self {
            cache,
            answer: AnswerNotes::default(),
            lease: None,
            spent: None,
            seat: None,
            connection: None,
            held: HeldByTunnel::default(),
            running: None,
            span: None,
            ended: false,
            ask,
        })
    }

    /// Continues or begins the trace, if OTLP is on. Otherwise an incoming trace passes as it is.
    pub fn trace(&mut self, door: &LiveDoor) {
        let telemetry = &self.ask.proxy.telemetry;
        if telemetry.tracer.is_none() {
            return;
        }
        let arrival = &self.ask.arrival;
        let trace = Trace::begin(TraceContext::from_headers(&arrival.headers), telemetry.sampler, &self.ask.proxy.chance);
        let shown = privacy::Shown::of(&self.ask);
        let start = ServerStart {
            method: &arrival.method,
            tls: arrival.tls,
            version: arrival.version,
            host: arrival.host(),
            port: door.port,
            path: shown.path(&self.ask),
            client: arrival.client,
            user_agent: arrival.header(Id::UserAgent),
        };
        self.span = Span::server(&trace, &start, self.ask.at);
        self.ask.traced(trace);
    }

    /// From now on outbound calls may name this exchange as their cause, and reserve against its limits.
    pub fn caused_from_now(&mut self, keyed: Option<&Keyed>) {
        let ask = &self.ask;
        if ask.door() == Door::Inbound && ask.worker.live.outbound.is_some() {
            let trace_id = match ask.trace() {
                Some(trace) => Some(trace.context.trace_id),
                None => TraceContext::from_headers(&ask.arrival.headers).map(|context| context.trace_id),
            };
            let begin = Begin {
                request_id: ask.settled_id(),
                caller: ask.caller().map(|caller| &caller.name),
                route: &ask.route_name(),
                charge: keyed,
                trace_id: trace_id.map(|id| u128::from_be_bytes(id.to_bytes())),
            };
            let running = ask.proxy.causes.begin(&begin, Instant::now());
            ask.announced(&running);
            self.running = Some(running);
        }
    }

    /// The proxy's own answer to a refused request, in the provider's shape if the provider has one.
    pub fn refuse(&mut self, reject: Reject) -> Response<Body> {
        self.note(&reject);
        self.answer.timed_out = match &reject {
            Reject::Timeout { bound, .. } => *bound != Bound::Connect && !bound.is_clients(),
            reject => *reject == Reject::Stopping,
        };
        let ask = &self.ask;
        // The app on this host may know where its providers are. Nobody else may, least of all a client.
        let is_app = ask.door() == Door::Outbound && ask.arrival.peer.ip().to_canonical().is_loopback();
        let reject = if is_app { reject } else { reject.for_strangers() };
        match ask.call() {
            Some(call) => call.refuse(reject, ask.proxy.shared.clock.wall()),
            None if ask.arrival.wants_grpc_status() => reject.into_grpc(),
            None if ask.door() == Door::Outbound => model::refuse_early(&ask.worker.live, &ask.arrival, reject, ask.request_id()),
            None => reject.into_response(Some(ask.request_id().text(&mut [0; 32]))),
        }
    }

    pub(super) fn note(&mut self, reject: &Reject) {
        self.answer.reject = Some(reject.reason());
        if let Reject::Limited(limited) = reject {
            self.answer.limit = Some(limited.limit.clone());
        }
        self.answer.detail = reject.finding().map(Into::into);
        if self.ask.proxy.telemetry.failures.is_on() {
            self.answer.said =
                Some(Box::new(ToldClient { detail: reject.detail(), retry_after: reject.retry_after().map(Duration::from_secs) }));
        }
    }

    /// Dresses `response` and gives the exchange to its body. The body's end is the exchange's end.
    pub fn end_with(mut self: Box<Self>, response: Response<Body>, bounds: TimeBounds) -> Response<Body> {
        let (mut head, body) = response.into_parts();
        let body = privacy::restore(&self.ask, &mut head, body);
        self.head_is(head.status);
        self.answer.streams = self.ask.call().map(|_| head.headers.text(Id::ContentType).is_some_and(crate::provider::is_stream));
        dress(&self, &mut head);
        let body = compression::apply(&self, &mut head, body);
        Response::from_parts(head, Body::Tapped(in_place::boxed(|| Tap::new(body, bounds, self))))
    }

    /// Fields that tell the client the state of its limits.
    pub(super) fn tell_limits(&self, fields: &mut Fields) {
        match &self.lease {
            Some(lease) if self.answer.limit_fields.is_empty() => lease.tell(fields),
            _ => fields.extend(&self.answer.limit_fields),
        }
    }

    /// Gives away the limits' reservation for the tries. The rest stays with the request.
    pub fn take_funds(&mut self) -> Option<Lease> {
        let lease = self.lease.as_mut()?;
        self.answer.limit_fields = Fields::with_room(LIMIT_FIELDS, 2);
        lease.tell(&mut self.answer.limit_fields);
        Some(lease.take_moving())
    }

    /// Ends the exchange of a tunnel that has ended.
    pub fn tunnelled(&mut self, up: u64, down: u64, complete: bool) {
        self.answer.bytes_in += up;
        self.answer.bytes_out += down;
        self.finish(if complete { ExchangeOutcome::Complete } else { ExchangeOutcome::UpstreamBroken }, Instant::now());
    }

    /// Notes the status of a tunnel, 101.
    pub fn switching(&mut self) {
        self.head_is(StatusCode::SWITCHING_PROTOCOLS);
    }

    /// Ends the exchange of a refresh; `status` is the answer's, if one came.
    pub fn refreshed(mut self: Box<Self>, status: Option<StatusCode>, complete: bool) {
        self.answer.status = status.map_or(0, |status| status.as_u16());
        self.finish(if complete { ExchangeOutcome::Complete } else { ExchangeOutcome::UpstreamBroken }, Instant::now());
    }

    fn head_is(&mut self, status: StatusCode) {
        self.answer.status = status.as_u16();
        self.answer.head_after = self.ask.arrival.at.elapsed();
        self.answer.own = Some(self.answer.head_after.saturating_sub(self.ask.tries.waited.get()));
    }

    fn finish(&mut self, outcome: ExchangeOutcome, at: Instant) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let outcome = match outcome {
            ExchangeOutcome::Complete if self.answer.reject.is_some() => ExchangeOutcome::Rejected,
            // A bad end while the process leaves is the proxy's doing.
            ExchangeOutcome::ClientGone | ExchangeOutcome::UpstreamBroken if self.ask.proxy.stop.is_on() => ExchangeOutcome::Stopped,
            outcome => outcome,
        };
        // The seat before the account: a charge that finds the seat taken must find the account open.
        drop(self.seat.take());
        let ending = Ending {
            ask: self.ask.clone(),
            outcome,
            at,
            answer: std::mem::take(&mut self.answer),
            cache: self.cache.outcome,
            bypass: self.cache.bypass,
            charged: self.ask.call().map(|call| call.account.close()).unwrap_or_default(),
        };
        if let Some(lease) = self.lease.take() {
            ending.settle(lease);
        }
        if let Some(running) = &self.running {
            running.end(at);
        }
        ending.tell(self.span.take());
    }
}

impl Observer for Exchange {
    fn data(&mut self, piece: &Bytes) {
        self.passed(piece, Instant::now);
    }

    // One look at the clock for both: a look costs as much as a hundred instructions.
    fn last(&mut self, piece: &Bytes) {
        let now = Instant::now();
        self.passed(piece, || now);
        self.body_ended(End::Complete, now);
    }

    fn end(&mut self, end: End<'_>) {
        self.body_ended(end, Instant::now());
    }

    fn must_stop(&self) -> bool {
        self.ask.proxy.stop.is_last()
    }
}

impl Exchange {
    fn passed(&mut self, piece: &Bytes, now: impl FnOnce() -> Instant) {
        if self.answer.bytes_out == 0 {
            self.answer.first_byte = Some(now().saturating_duration_since(self.ask.arrival.at));
        }
        self.answer.bytes_out += piece.len() as u64;
    }

    fn body_ended(&mut self, end: End<'_>, now: Instant) {
        let outcome = match end {
            End::Complete => ExchangeOutcome::Complete,
            // Another worker may end a shared fetch, a moment before this worker's own stop.
            End::Broken(BodyError::Stopping) => ExchangeOutcome::Stopped,
            // An answer is cut when its client breaks the upload off.
            End::Broken(_) if self.ask.upload().failure().is_some() => ExchangeOutcome::ClientGone,
            End::Broken(_) => ExchangeOutcome::UpstreamBroken,
            End::Abandoned => ExchangeOutcome::ClientGone,
        };
        if let Some(connection) = self.connection.take()
            && outcome == ExchangeOutcome::Complete
            && self.ask.upload().is_done()
        {
            connection.release(now);
        }
        self.ask.upload().abandon();
        self.finish(outcome, now);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.ended {
            self.finish(ExchangeOutcome::ClientGone, Instant::now());
        }
        self.ask.worker.door(self.ask.door()).inflight.dec();
    }
}
