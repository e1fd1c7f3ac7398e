//! Outbound: what a request asks of which provider, and what its answer used.

use std::{
    collections::HashMap,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Response, Uri, header, response};
use parking_lot::Mutex;

use super::{
    Exchange, Proxy,
    live::{Live, LiveDoor, LiveProvider, LiveRoute},
    request,
};
use crate::{
    arrival::Arrival,
    body::{Body, BodyError, replay::Replay},
    cause::Join,
    clock::Instant,
    config::{Api, Operation, Unit},
    policy::limits::{Keyed, LimitSet},
    provider::{self, Facts, Meter, Observed, Shape},
    reject::Reject,
    route::Query,
    telemetry::{
        log::{Outcome, Tokens},
        metrics,
        trace::{GenAi, Span},
    },
    usage::UsageSource,
};

/// What the outbound door understood of a request, and what it used.
pub struct ModelCall {
    /// The provider's name.
    pub provider: Arc<str>,
    /// Index into the live providers.
    pub provider_at: usize,
    /// Wire format, operation, and what else the path says.
    pub shape: Shape,
    /// What follows `/{provider}`, with the query.
    pub rest: String,
    /// What the body says, if it was read.
    pub facts: Option<Facts>,
    /// The model that was asked for, or that answered.
    pub model: Option<Arc<str>>,
    /// Whether the answer streams.
    pub streams: bool,
    /// The inbound exchange that caused it.
    pub join: Join<Keyed>,
    /// To the first event with content, from the arrival.
    pub first_token: Option<Duration>,
    /// Nano-dollars.
    pub cost: Option<u64>,
    request_id: Arc<str>,
    meter: Option<Meter>,
    observed: Option<Observed>,
    /// Recorded answers cost nothing.
    pub cached: bool,
    /// The stream's usage is asked for on our account; the client does not get to see it.
    pub asks_usage: bool,
}

/// What the tries of a call need to know of it.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Plan {
    pub api: Api,
    pub operation: Operation,
    pub provider_at: usize,
    /// What follows `/{provider}`, with the query.
    pub rest: String,
    pub model: Option<Arc<str>>,
    pub model_in_path: bool,
}

impl Plan {
    /// The target at `provider`, with another model where it stands in the path.
    /// `own`: it is the one the app asked, whose credential may stand in the query.
    pub fn uri(&self, provider: &LiveProvider, model: Option<&str>, own: bool) -> Result<Uri, http::Error> {
        let (path, query) = self.rest.split_at(self.rest.find('?').unwrap_or(self.rest.len()));
        let query = if own && provider.keys.is_empty() { query.to_owned() } else { request::without(query, "key") };
        let swapped = model.filter(|_| self.model_in_path).and_then(|model| provider::with_model_in_path(self.api, path, model));
        request::path_uri(format!("{}{}{query}", provider.base, swapped.as_deref().unwrap_or(path)))
    }
}

/// Finds provider, operation and route; reads the body first when a candidate route names models or needs to see it.
///
/// # Errors
/// Unknown provider, a body over the bound, no room for it, a client that breaks off.
pub async fn understand(proxy: &Rc<Proxy>, exchange: &mut Exchange, door: &LiveDoor, body: Body) -> Result<(usize, Replay), Reject> {
    let (arrival, worker) = (exchange.arrival.clone(), exchange.worker.clone());
    let live = &worker.live;
    let (name, rest) = split(arrival.uri.path_and_query().map_or("/", |p| p.as_str()));
    let Some(provider_at) = live.providers.iter().position(|p| &*p.name == name) else {
        let known: Vec<&str> = live.providers.iter().map(|p| &*p.name).collect();
        return Err(Reject::NotFound(
            format!(
                "no provider is called `{name}`; the path begins with the provider's name, as in /{}/..., one of: {}",
                known.first().unwrap_or(&"openai"),
                known.join(", ")
            )
            .into(),
        ));
    };
    let provider = &live.providers[provider_at];
    let path = rest.split('?').next().unwrap_or_default();
    let shape = provider::recognise(provider.api, &arrival.method, path);
    let join_within = live.config.outbound.as_ref().map_or(Duration::ZERO, |o| o.join_within);
    let join = proxy.shared.causes.join(&arrival.headers, join_within, Instant::now());
    let mut call = Box::new(ModelCall {
        provider: provider.name.clone(),
        provider_at,
        model: shape.model_in_path.as_deref().map(Arc::from),
        streams: shape.stream_in_path.unwrap_or(false),
        rest: rest.to_owned(),
        shape,
        facts: None,
        join,
        first_token: None,
        cost: None,
        request_id: exchange.request_id.clone(),
        meter: None,
        observed: None,
        cached: false,
        asks_usage: false,
    });
    let needs_model = {
        let query = query(&arrival, &call);
        call.shape.reads_body
            && (door.table.needs_model(&query) || {
                let at = door.table.find(&query).copied().unwrap_or(door.routes.len() - 1);
                door.routes[at].reads_body()
            })
    };
    let replay = if needs_model && !matches!(body, Body::Empty) {
        exchange.call = Some(call);
        let bytes = proxy.shared.bodies.clone().read(exchange, door, body).await?;
        if let Some(read) = exchange.call.take() {
            call = read;
            call.read_body(&bytes);
            Replay::Whole(bytes)
        } else {
            return Err(Reject::Internal("the call was lost while its body was read".into()));
        }
    } else {
        Replay::new(body, 0)
    };
    let at = door.table.find(&query(&arrival, &call)).copied().unwrap_or(door.routes.len() - 1);
    exchange.call = Some(call);
    Ok((at, replay))
}

/// A refusal before anything was understood: in the words of the provider that the path names.
pub fn refuse_early(live: &Live, arrival: &Arrival, reject: Reject, request_id: &str) -> Response<Body> {
    let (name, _) = split(arrival.path());
    match live.providers.iter().find(|provider| &*provider.name == name) {
        Some(provider) => {
            let (content_type, body) = provider::render(provider.api, &reject, request_id);
            reject.respond(content_type, body)
        }
        None => reject.into_response(),
    }
}

/// Asks for the usage of an OpenAI stream where a limit counts it and the client did not ask: one splice, no other byte changes.
pub fn ask_for_usage(exchange: &mut Exchange, route: &LiveRoute, body: &mut Replay) {
    let Some(call) = exchange.call.as_deref_mut() else { return };
    let caused = match &call.join {
        Join::Sure(cause) => cause.charge.as_ref().map(Keyed::set),
        _ => None,
    };
    let counts = |set: &LimitSet| set.counts(Unit::Tokens) || set.counts(Unit::NanoUsd);
    let counted = counts(&route.limits) || caused.is_some_and(counts);
    let chat = call.shape.api == Api::OpenAi && matches!(call.shape.operation, Operation::Chat | Operation::Completions);
    let unasked = call.facts.as_ref().is_some_and(|facts| facts.stream && !facts.include_usage);
    if let (true, Replay::Whole(bytes)) = (counted && chat && unasked, &*body)
        && let Some(asking) = provider::with_include_usage(bytes)
    {
        *body = Replay::Whole(asking);
        call.asks_usage = true;
    }
}

fn query<'a>(arrival: &'a Arrival, call: &'a ModelCall) -> Query<'a> {
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
        // What cannot be read passes: the provider says better what is wrong with it.
        if let Ok(facts) = provider::read(self.shape.api, self.shape.operation, body) {
            if let Some(model) = facts.model.as_deref().filter(|_| self.shape.model_in_path.is_none()) {
                self.model = Some(model.into());
            }
            self.streams = self.shape.stream_in_path.unwrap_or(facts.stream);
            self.facts = Some(facts);
        }
    }

    /// The caller: that of the exchange that caused this call; from loopback also what the app says by itself.
    pub fn caller(&self, arrival: &Arrival) -> Option<Arc<str>> {
        if let Join::Sure(cause) = &self.join {
            return cause.caller.clone();
        }
        let said = arrival.peer.ip().to_canonical().is_loopback().then(|| arrival.header("outrigger-caller")).flatten();
        said.filter(|caller| !caller.is_empty() && caller.len() <= 256).map(Arc::from)
    }

    /// What the tries need to know of the call.
    pub fn plan(&self) -> Plan {
        Plan {
            api: self.shape.api,
            operation: self.shape.operation,
            provider_at: self.provider_at,
            rest: self.rest.clone(),
            model: self.model.clone(),
            model_in_path: self.shape.model_in_path.is_some(),
        }
    }

    /// A refusal in the provider's own words; one by a limit also in its header names.
    pub fn refuse(&self, reject: Reject, now: SystemTime) -> Response<Body> {
        let (content_type, body) = provider::render(self.shape.api, &reject, &self.request_id);
        let state = match &reject {
            Reject::Limited(limited) => Some(provider::LimitState {
                unit: limited.unit,
                limit: limited.amount,
                remaining: limited.remaining,
                // SDKs wait that long, so it is when this request would pass.
                reset: limited.retry_after.unwrap_or(limited.window),
            }),
            _ => None,
        };
        let mut response = reject.respond(content_type, body);
        if let Some(state) = state {
            let headers = response.headers_mut();
            headers.insert("x-should-retry", header::HeaderValue::from_static("false"));
            headers.extend(provider::limit_headers(self.shape.api, &state, now));
        }
        response
    }

    /// The answer's head is known: begin to meter its body.
    pub fn answered(&mut self, head: &response::Parts) {
        let content_type = head.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        self.streams = content_type.starts_with("text/event-stream") || content_type.starts_with("application/vnd.amazon.eventstream");
        if head.status.is_success() && self.shape.reads_body && !self.cached {
            self.meter = Some(Meter::new(self.shape.api, self.shape.operation, &head.headers));
        }
    }

    /// A piece of the answer passes.
    pub fn data(&mut self, piece: &Bytes, since: Instant) {
        if let Some(meter) = &mut self.meter
            && meter.feed(piece).first_content
            && self.streams
        {
            self.first_token = Some(since.elapsed());
        }
    }

    /// A stream breaks: says so in the protocol's own words, because no SDK notices a clean early end.
    pub fn last_words(&self, error: &BodyError) -> Option<Bytes> {
        let meter = self.meter.as_ref().filter(|_| self.streams)?;
        Some(provider::stream_error(self.shape.api, self.shape.operation, &error.to_string(), meter.mid_event()))
    }

    /// What the call used, once it has ended.
    pub fn tokens(&self) -> Option<Tokens> {
        let observed = self.observed.as_ref()?;
        (observed.source != UsageSource::Missing).then_some(Tokens { usage: observed.usage, source: observed.source })
    }

    /// The answer has ended: counts tokens and money.
    pub fn settle(&mut self, proxy: &Proxy, prices: &provider::Prices, route: &str, outcome: Outcome, total: Duration) -> Settlement {
        let Some(meter) = self.meter.take() else { return Settlement::Unknown };
        let observed = meter.finish(outcome == Outcome::Complete, self.facts.as_ref().map_or(0, |facts| facts.estimated_input));
        if self.model.is_none() {
            self.model = observed.model.as_deref().map(Arc::from);
        }
        let model = self.model.clone().unwrap_or_else(|| "unknown".into());
        self.cost = match observed.source {
            UsageSource::Missing => None,
            _ => observed
                .model
                .as_deref()
                .and_then(|model| prices.cost(model, &observed.usage))
                .or_else(|| prices.cost(&model, &observed.usage)),
        };
        proxy.telemetry.metrics.model_call(&metrics::ModelCall {
            route,
            provider: &self.provider,
            flavor: flavor(self.shape.api),
            operation: self.shape.operation.as_str(),
            model: &model,
            usage: observed.usage,
            source: observed.source,
            cost: self.cost,
            duration: total,
            first_token: self.first_token,
            error: observed.error.map(|class| class.as_str()),
            unattributed: self.join.cause().is_none(),
        });
        if let Some(cause) = self.join.cause() {
            cause.spent.fetch_add(self.cost.unwrap_or(0), Relaxed);
        }
        let caller = self.join.cause().and_then(|cause| cause.caller.clone());
        proxy.shared.spend.add(caller.as_deref().unwrap_or("unattributed"), self.cost.unwrap_or(0), observed.usage.total());
        let settlement = match observed.source {
            UsageSource::Missing => Settlement::Unknown,
            _ => Settlement::Used { tokens: observed.usage.total(), nano_usd: self.cost.unwrap_or(0) },
        };
        self.observed = Some(observed);
        settlement
    }

    /// The call's attributes.
    pub fn describe(&self, span: &mut Span) {
        let model = self.model.as_deref().unwrap_or_default();
        let observed = self.observed.as_ref();
        span.model_call(&GenAi {
            operation: self.shape.operation.as_str(),
            flavor: flavor(self.shape.api),
            request_model: model,
            response_model: observed.and_then(|observed| observed.model.as_deref()).unwrap_or(model),
            stream: self.streams,
            response_id: "",
        });
        if let Some(tokens) = self.tokens() {
            span.usage(&tokens.usage);
        }
        if let Some(cost) = self.cost {
            span.cost(cost);
        }
    }
}

/// What limits learn at the end of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// What it used.
    Used {
        /// Tokens of all classes.
        tokens: u64,
        /// Nano-dollars.
        nano_usd: u64,
    },
    /// Nothing is known.
    Unknown,
}

/// `gen_ai.provider.name` of a wire format.
fn flavor(api: Api) -> &'static str {
    match api {
        Api::OpenAi => "openai",
        Api::Anthropic => "anthropic",
        Api::Gemini => "gcp.gemini",
        Api::Bedrock => "aws.bedrock",
        Api::Plain => "_OTHER",
    }
}

/// Dollars by caller since the start. Bounded; the ledger proper is durable and comes with its own issue.
#[derive(Debug, Default)]
pub struct Spend(Mutex<HashMap<Box<str>, Spent>>);

/// What one caller's calls used.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    /// Model calls.
    pub calls: u64,
    /// Nano-dollars.
    pub nano_usd: u64,
    /// Tokens of all classes.
    pub tokens: u64,
}

const MAX_CALLERS: usize = 10_000;

impl Spend {
    fn add(&self, caller: &str, nano_usd: u64, tokens: u64) {
        let mut callers = self.0.lock();
        let name = if callers.len() < MAX_CALLERS || callers.contains_key(caller) { caller } else { metrics::OTHER };
        let spent = callers.entry(name.into()).or_default();
        spent.calls += 1;
        spent.nano_usd = spent.nano_usd.saturating_add(nano_usd);
        spent.tokens = spent.tokens.saturating_add(tokens);
    }

    /// All callers, the largest spenders first.
    pub fn by_caller(&self) -> Vec<(Box<str>, Spent)> {
        let mut all: Vec<_> = self.0.lock().iter().map(|(caller, spent)| (caller.clone(), *spent)).collect();
        all.sort_by(|a, b| b.1.nano_usd.cmp(&a.1.nano_usd).then_with(|| a.0.cmp(&b.0)));
        all
    }
}
