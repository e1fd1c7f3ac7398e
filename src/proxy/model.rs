//! Outbound: the model call of a request, from its provider to the usage of its answer.

mod expected;
mod meaning;

use std::{
    cell::Cell,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::Uri;
pub use meaning::means_one_thing;

use super::{
    Exchange, NOT_LET_IN, Proxy,
    ask::Ask,
    auth,
    by_model::{self, ByModel},
    credential, files,
    live::{Live, LiveDoor, LiveProvider, LiveRoute},
    payer::Account,
    read_first, request, session,
};
use crate::{
    arrival::{Arrival, RequestId},
    body::{Body, replay::Replay},
    caller::{Caller, KnownBy},
    cause::Join,
    clock::Instant,
    config::{Api, Metering, Operation, Privacy, Unit},
    http1::Id,
    message::Response,
    policy::{
        access,
        limits::{Keyed, LimitSet},
    },
    provider::{self, Billed, Facts, Prices, Shape, batch, choice},
    reject::Reject,
    route::Query,
    telemetry::metrics::Family,
    upstream::headers,
};

/// A model call, as the outbound door understands a request.
pub struct ModelCall {
    /// The provider's name.
    pub provider: Arc<str>,
    /// Index into the live providers.
    pub provider_at: usize,
    /// Wire format, operation, and the path's other facts.
    pub shape: Shape,
    /// The path after `/{provider}`, with the query.
    pub rest: String,
    /// The body's facts, if it was read.
    pub facts: Option<Facts>,
    /// The body's decoded text, if the body came in a content coding and was read.
    pub text: Option<Bytes>,
    /// The model that was asked for.
    pub model: Option<Arc<str>>,
    /// The most that a batch may use, if the request creates one whose requests are known.
    pub batch: Option<Arc<batch::Expected>>,
    /// The batch whose results the request fetches.
    pub results_of: Option<Arc<str>>,
    /// Whether a stream was asked for.
    pub streams: bool,
    /// The inbound exchange that caused the call.
    pub join: Join<Keyed>,
    /// The charges of its tries.
    pub account: Arc<Account>,
    request_id: RequestId,
    /// Whether the proxy has asked for the stream's usage. The client does not see that usage.
    pub asks_usage: bool,
    /// Whether personal data may be taken out of the call and put into its answer.
    pub guarded: bool,
    /// Whether other bytes are sent than came: without a content coding, and of another length.
    pub rewritten: Cell<bool>,
    /// How it got its provider, if its path names none.
    pub by_model: Option<Arc<ByModel>>,
}

impl ModelCall {
    /// Prepares the call for a route that takes personal data out of it. The text alone goes on: nothing that was read before the policy
    /// has done its work may be sent.
    fn guard(&mut self, route: &LiveRoute, body: &mut Replay) {
        self.guarded = route.policies.privacy.as_ref().is_some_and(Privacy::changes);
        if self.guarded
            && let Some(text) = self.text.take()
        {
            self.rewritten.set(true);
            *body = Replay::Whole(text);
        }
    }

    /// The same call without a cause: the proxy itself asks and pays.
    pub fn uncaused(&self) -> Self {
        Self {
            provider: self.provider.clone(),
            shape: self.shape.clone(),
            rest: self.rest.clone(),
            facts: self.facts.clone(),
            text: self.text.clone(),
            model: self.model.clone(),
            batch: self.batch.clone(),
            results_of: self.results_of.clone(),
            join: Join::Unattributed,
            account: Arc::default(),
            request_id: self.request_id.clone(),
            rewritten: self.rewritten.clone(),
            by_model: self.by_model.clone(),
            ..*self
        }
    }

    /// What a 404 most likely comes from: the app's base URL and the provider's `url` both end in `/v1`, so that it was asked for twice.
    pub fn doubled(&self, live: &Live) -> Option<String> {
        let provider = live.providers.get(self.provider_at)?;
        let (twice, name) = (provider.base.rsplit('/').next().filter(|last| !last.is_empty())?, &self.provider);
        let path = self.rest.split(['?', '#']).next().unwrap_or_default();
        let is_doubled = self.by_model.is_none() && path.split('/').nth(1) == Some(twice);
        is_doubled.then(|| {
            format!(
                "the provider was asked for {}{path}: both the url of `{name}` and the app's base URL end in /{twice}; end the app's in /{name}",
                provider.base
            )
        })
    }

    /// The provider for whom the app's own credential is meant.
    pub fn owner(&self) -> Option<usize> {
        self.by_model.as_ref().map_or(Some(self.provider_at), |by| by.owner)
    }

    /// The URI at `provider`, whose paths begin with `base`. `model` replaces the model in the path, if it stands there.
    /// `own`: the app asked this provider; the app's credential for it may stand in the query.
    pub fn uri(&self, provider: &LiveProvider, base: &str, model: Option<&str>, own: bool) -> Result<Uri, Reject> {
        let (path, query) = self.rest.split_at(self.rest.find('?').unwrap_or(self.rest.len()));
        let query = if own && provider.keys.is_empty() { query.to_owned() } else { credential::without_credentials(query) };
        let swapped = model
            .filter(|_| self.shape.model_in_path.is_some())
            .and_then(|model| provider::with_model_in_path(self.shape.api, path, model));
        let path = swapped.as_deref().unwrap_or(path);
        let path = if self.by_model.is_some() { choice::below(base, path) } else { path };
        request::below(base, path, &query)
    }
}

/// Finds provider, operation and route. Reads the body first if a candidate route names models or needs the body.
///
/// # Errors
/// An unknown provider, a path that means two calls, a body over the bound, no room for it, a client that breaks off.
pub async fn understand(proxy: &Rc<Proxy>, exchange: &Exchange, door: &LiveDoor, body: Body) -> Result<Replay, Reject> {
    let ask = &*exchange.ask;
    let (arrival, live) = (&ask.arrival, &ask.worker.live);
    let (provider_at, rest) = addressed(live, arrival)?;
    let provider = &live.providers[provider_at];
    let path = rest.split('?').next().unwrap_or_default();
    let shape = provider::recognise(provider.api, &arrival.method, path);
    let join_within = live.config.outbound.as_ref().map_or(Duration::ZERO, |o| o.join_within);
    let same_host = arrival.peer.ip().to_canonical().is_loopback();
    let join = proxy.shared.causes.join(&arrival.headers, same_host, join_within, Instant::now());
    if live.limits_callers
        && join.cause().is_none()
        && (shape.billed == Billed::ByAnswer || shape.session.is_some() && headers::wants_websocket(arrival))
    {
        escaped(proxy);
    }
    let mut call = Box::new(ModelCall {
        provider: provider.name.clone(),
        provider_at,
        model: shape.model_in_path.as_deref().map(Arc::from).or_else(|| session::model_in_query(arrival, &shape)),
        streams: shape.stream_in_path.unwrap_or(false),
        rest: rest.to_owned(),
        shape,
        facts: None,
        text: None,
        batch: None,
        results_of: None,
        join,
        account: Arc::default(),
        request_id: ask.request_id().clone(),
        asks_usage: false,
        guarded: false,
        rewritten: Cell::new(false),
        by_model: std::ptr::eq(rest, whole(arrival)).then(Arc::default),
    });
    if let Err(reject) = means_one_thing(provider.api, &call.shape, &arrival.method, path) {
        ask.understood(call);
        return Err(reject);
    }
    let mut replay = match read_as_needed(ask, door, &mut call, body).await {
        Ok(replay) => replay,
        // Nobody's call: no provider takes it.
        Err(reject @ Reject::NoModel(_)) => return Err(reject),
        Err(reject) => {
            ask.understood(call);
            return Err(reject);
        }
    };
    let at = door.table.find(&query(arrival, &call)).copied().unwrap_or(door.fallthrough());
    call.guard(&door.routes[at], &mut replay);
    ask.understood(call);
    ask.routed(at);
    Ok(replay)
}

/// Reads the body if the call's way depends on it, and gives the call its provider if the path names none.
async fn read_as_needed(ask: &Ask, door: &LiveDoor, call: &mut ModelCall, body: Body) -> Result<Replay, Reject> {
    let live = &ask.worker.live;
    if call.by_model.is_some() {
        // Before the names of models: who is not let in learns none.
        by_model::before_body(ask, door, call)?;
    }
    let needed = call.by_model.is_some()
        || needs_body(door, &query(&ask.arrival, call))
        || spends(call)
        || is_metered_exactly(live, call)
        || live.providers[call.provider_at].keys.len() > 1;
    if needed && call.shape.reads_body && !matches!(body, Body::Empty) {
        let bytes = read_call(ask, door, call, body).await?;
        return Ok(Replay::Whole(ask_for_usage(call, live, bytes)));
    }
    if call.by_model.is_some() {
        by_model::settle(live, &ask.arrival, call, Bytes::new())?;
    }
    files::know(&ask.proxy.shared.files, call, None, live.prices.steps()).await;
    Ok(Replay::new(body))
}

/// Reads the body, and its facts into `call`. Gives the bytes as they came, but for the model's name where it is another.
async fn read_call(ask: &Ask, door: &LiveDoor, call: &mut ModelCall, body: Body) -> Result<Bytes, Reject> {
    let (arrival, live) = (&ask.arrival, &ask.worker.live);
    if call.by_model.is_none() {
        if !lets_in(door, &query(arrival, call), arrival) {
            return Err(Reject::Forbidden(NOT_LET_IN.into()));
        }
        auth::before_body(ask, possible(door, &query(arrival, call)))?;
    }
    let mut bytes = read_first::read(ask, door, body).await?;
    match read_first::text_of(ask, door, &bytes) {
        Ok(text) => {
            call.read_body(text.as_ref().unwrap_or(&bytes));
            call.text = text;
            if call.by_model.is_some() {
                bytes = by_model::settle(live, arrival, call, bytes)?;
            }
            call.shape_by_facts(&live.prices);
            let body = call.text.clone().unwrap_or_else(|| bytes.clone());
            files::know(&ask.proxy.shared.files, call, Some(&body), live.prices.steps()).await;
            call.keep_prompt(body);
        }
        Err(hidden) if call.by_model.is_some() || needs_text(door, &query(arrival, call), call) => return Err(hidden),
        // The body passes unread: the cache has no part in the call.
        Err(_) => {}
    }
    Ok(bytes)
}

/// Reports a call that escapes the inbound limits: counted each time, logged once a minute.
fn escaped(proxy: &Proxy) {
    proxy.telemetry.metrics.counter(Family::EscapedCalls, &[]).inc();
    tracing::warn!(
        "a model call escapes the inbound limits in dollars or tokens: nothing tells which request caused it; start the app under \
         OpenTelemetry (Python: opentelemetry-instrument python app.py), or pass the x-request-id of its request on"
    );
}

/// The provider that the path names, and the rest of the path; or one that speaks the path's API, and the whole path.
fn addressed<'a>(live: &Live, arrival: &'a Arrival) -> Result<(usize, &'a str), Reject> {
    let (name, rest) = split(whole(arrival));
    if let Some(at) = live.providers.iter().position(|provider| &*provider.name == name) {
        return Ok((at, rest));
    }
    if by_model::is_bare(name) {
        return Ok((by_model::provisional(live, arrival)?, whole(arrival)));
    }
    let known: Vec<&str> = live.providers.iter().map(|provider| &*provider.name).collect();
    let text = format!(
        "no provider is called `{name}`; the path begins with the provider's name, as in /{}/..., one of: {}; or with /v1, and the model \
         says the provider",
        known.first().unwrap_or(&"openai"),
        known.join(", ")
    );
    Err(Reject::NotFound(text.into()))
}

fn whole(arrival: &Arrival) -> &str {
    arrival.uri.path_and_query().map_or("/", |path| path.as_str())
}

/// Whether the route depends on the model, or one of its policies needs the body.
fn needs_body(door: &LiveDoor, query: &Query<'_>) -> bool {
    door.table.needs_model(query) || {
        let at = door.table.find(query).copied().unwrap_or(door.fallthrough());
        door.routes[at].reads_body()
    }
}

/// Whether the choice of the route, one of its policies or an inbound limit needs the body's text.
fn needs_text(door: &LiveDoor, query: &Query<'_>, call: &ModelCall) -> bool {
    let at = door.table.find(query).copied().unwrap_or(door.fallthrough());
    door.table.needs_model(query) || door.routes[at].needs_text() || spends(call)
}

/// Whether limits of the inbound route that caused the call count its usage.
fn spends(call: &ModelCall) -> bool {
    call.join.sure().and_then(|cause| cause.charge.as_ref()).is_some_and(|keyed| counts(keyed.set()))
}

/// Whether one of the limits counts tokens or dollars.
fn counts(set: &LimitSet) -> bool {
    set.counts(Unit::Tokens) || set.counts(Unit::NanoUsd)
}

/// Whether one of the call's possible routes lets its address in. If none does, the body need not be read.
fn lets_in(door: &LiveDoor, query: &Query<'_>, arrival: &Arrival) -> bool {
    possible(door, query).any(|route| access::turns_away(route.policies.access.as_ref(), arrival).is_none())
}

/// The routes that may answer the call, as far as it is understood.
fn possible<'a>(door: &'a LiveDoor, query: &'a Query<'_>) -> impl Iterator<Item = &'a LiveRoute> {
    door.table.possible(query).copied().chain([door.fallthrough()]).map(|at| &door.routes[at])
}

/// A refusal before the call is understood, in the words of the provider that the path names.
pub fn refuse_early(live: &Live, arrival: &Arrival, reject: Reject, request_id: &RequestId) -> Response<Body> {
    let (name, _) = split(arrival.path());
    let named_api = live.providers.iter().find(|provider| &*provider.name == name).map(|provider| provider.api);
    match named_api.or_else(|| by_model::told_in(arrival, name)) {
        Some(api) => {
            let (content_type, body) = provider::render(api, &reject, request_id.text(&mut [0; 32]));
            named(api, reject.respond(content_type, body), request_id)
        }
        None => reject.into_response(Some(request_id.text(&mut [0; 32]))),
    }
}

/// Adds the request id to a refusal, in the field that the provider's SDKs read.
fn named(api: Api, mut refusal: Response<Body>, request_id: &RequestId) -> Response<Body> {
    if let Some(name) = provider::request_id_field(api) {
        refusal.headers_mut().insert(name, request_id.text(&mut [0; 32]));
    }
    refusal
}

/// Asks for the usage of an OpenAI stream, if the client did not: one splice, no other byte changes.
fn ask_for_usage(call: &mut ModelCall, live: &Live, bytes: Bytes) -> Bytes {
    let unasked = call.facts.as_ref().is_some_and(|facts| facts.stream && !facts.include_usage);
    if is_metered_exactly(live, call)
        && unasked
        && !live.providers[call.provider_at].refuses_usage.load(Relaxed)
        && let Some(asking) = provider::with_include_usage(call.text.as_ref().unwrap_or(&bytes))
    {
        // A changed text goes on without the content coding that it came in.
        call.text = None;
        call.asks_usage = true;
        return asking;
    }
    bytes
}

/// Whether a call's stream has to be asked for its usage: OpenAI's chat and completions do not send usage by themselves.
fn is_metered_exactly(live: &Live, call: &ModelCall) -> bool {
    let exact = live.config.outbound.as_ref().is_some_and(|outbound| outbound.metering == Metering::Exact);
    exact && call.shape.api == Api::OpenAi && matches!(call.shape.operation, Operation::Chat | Operation::Completions)
}

pub(super) fn query<'a>(arrival: &'a Arrival, call: &'a ModelCall) -> Query<'a> {
    Query {
        path: call.rest.split('?').next().unwrap_or_default(),
        method: &arrival.method,
        host: arrival.host(),
        headers: &arrival.headers,
        provider: Some(&call.provider),
        operation: Some(call.shape.operation),
        model: call.model.as_deref(),
    }
}

/// `/openai/v1/x?q` -> (`openai`, `/v1/x?q`).
pub fn split(path: &str) -> (&str, &str) {
    let inner = path.strip_prefix('/').unwrap_or(path);
    match inner.find(['/', '?']) {
        Some(end) => (&inner[..end], &inner[end..]),
        None => (inner, "/"),
    }
}

impl ModelCall {
    fn read_body(&mut self, body: &[u8]) {
        if let Some(facts) = provider::read_or_estimate(self.shape.api, self.shape.operation, body) {
            if let Some(model) = facts.model.as_deref().filter(|_| self.shape.model_in_path.is_none()) {
                self.model = Some(model.into());
            }
            self.streams = self.shape.stream_in_path.unwrap_or(facts.stream);
            self.facts = Some(facts);
        }
    }

    /// Takes what the body's facts say of the call's shape.
    fn shape_by_facts(&mut self, prices: &Prices) {
        if let Some(facts) = &self.facts {
            self.shape.asks_for(facts, |model| prices.is_free(model));
        }
    }

    /// The caller of the exchange that caused this call, or the caller that the app on this host names.
    pub fn caller(&self) -> Option<Caller> {
        let known_by = match &self.join {
            Join::Said(_) => KnownBy::App,
            _ => KnownBy::Cause,
        };
        self.join.caller().map(|name| Caller::new(name.clone(), known_by))
    }

    /// A refusal in the provider's own words. A limit's refusal has the provider's rate-limit fields too.
    pub fn refuse(&self, reject: Reject, now: SystemTime) -> Response<Body> {
        let (content_type, body) = provider::render(self.shape.api, &reject, self.request_id.text(&mut [0; 32]));
        let state = match &reject {
            Reject::Limited(limited) => Some(provider::LimitState {
                unit: limited.unit,
                limit: limited.amount,
                remaining: limited.remaining,
                // SDKs wait that long: until this request would pass.
                reset: limited.retry_after.unwrap_or(limited.window),
            }),
            _ => None,
        };
        let opens = matches!(reject, Reject::BreakerOpen { .. });
        // A wait does not help: somebody has to pay, or to give the proxy another key.
        let spent = matches!(reject, Reject::KeysRest { throttled: false, .. });
        let mut response = named(self.shape.api, reject.respond(content_type, body), &self.request_id);
        if opens {
            // With the field an SDK would sleep that long and fail late. The body says when the next probe comes.
            response.headers_mut().remove(Id::RetryAfter);
        }
        if spent {
            response.headers_mut().insert("x-should-retry", "false");
        }
        if let Some(state) = state {
            let headers = response.headers_mut();
            headers.insert("x-should-retry", "false");
            for (name, value) in provider::limit_headers(self.shape.api, &state, now) {
                headers.insert(name, value);
            }
        }
        response
    }

    /// `gen_ai.provider.name` of the wire format.
    pub fn flavor(&self) -> &'static str {
        FLAVORS[match self.shape.api {
            Api::OpenAi => 0,
            Api::Anthropic => 1,
            Api::Gemini => 2,
            Api::Bedrock => 3,
            Api::Plain => 4,
        }]
    }
}

/// All words of [`ModelCall::flavor`].
pub(super) const FLAVORS: [&str; 5] = ["openai", "anthropic", "gcp.gemini", "aws.bedrock", "_OTHER"];
