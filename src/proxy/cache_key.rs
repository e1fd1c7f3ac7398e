//! The parts of a request's cache key, for the pipeline and for `outrigger explain` alike.

use std::sync::Arc;

use super::{
    ask::Ask,
    declared::{Declared, Part},
    live::LiveRoute,
    model::ModelCall,
};
use crate::{
    arrival::Arrival,
    body::{accept::accepts, replay::Replay},
    caller::Proof,
    config::{self, KeyPart, Operation},
    http1::{Fields, Id},
    policy::{
        auth,
        cache::{CacheQuery, ModelKey},
        limits::keys::{self, credential},
    },
    provider::{self, Billed},
};

/// A request as its cache key sees it.
pub struct Asked<'a> {
    /// The request as it came in.
    pub arrival: &'a Arrival,
    /// The caller.
    pub caller: Option<&'a str>,
    /// What its credential has proved.
    pub proof: Option<&'a Proof>,
    /// What its route asks for.
    pub auth: Option<&'a config::Auth>,
    /// Name of the route.
    pub route: &'a Arc<str>,
    /// The app, if it is not the door's own: two apps have other answers to one URL.
    pub app: Option<&'a Arc<str>>,
    /// Outbound.
    pub call: Option<AskedCall<'a>>,
    /// A POST that may only read.
    pub declared: Option<&'a Declared>,
}

/// A model call as its cache key sees it; see [`ModelCall`].
#[allow(missing_docs)]
pub struct AskedCall<'a> {
    pub provider: &'a Arc<str>,
    pub shape: &'a provider::Shape,
    pub model: Option<&'a str>,
    pub facts: Option<&'a provider::Facts>,
    pub streams: bool,
    pub rest: &'a str,
    /// If it was read.
    pub body: Option<&'a [u8]>,
}

impl<'a> Asked<'a> {
    pub(super) fn of(ask: &'a Ask, route: &'a LiveRoute, body: &'a Replay, declared: Option<&'a Declared>) -> Self {
        let body = if let Replay::Whole(bytes) = body { Some(&bytes[..]) } else { None };
        let call = ask.call().map(|call: &ModelCall| AskedCall {
            provider: &call.provider,
            shape: &call.shape,
            model: call.model.as_deref(),
            facts: call.facts.as_ref(),
            streams: call.streams,
            rest: &call.rest,
            body: call.text.as_deref().or(body),
        });
        let auth = route.policies.auth.as_ref();
        Self {
            arrival: &ask.arrival,
            caller: ask.caller_name(),
            proof: ask.proof(),
            auth,
            route: &route.name,
            app: route.policies.app.as_ref(),
            call,
            declared,
        }
    }
}

/// The parts of a key beside the URI.
pub struct KeyParts {
    extra: Vec<(String, String)>,
    model: Option<ModelParts>,
    body: Option<Arc<[Part]>>,
    proved: bool,
}

struct ModelParts {
    provider: Arc<str>,
    operation: &'static str,
    model: String,
    headers: Vec<(&'static str, String)>,
    tenant: Vec<u8>,
    body: Vec<u8>,
    path: String,
}

impl KeyParts {
    /// The parts under `policy`.
    ///
    /// # Errors
    /// The reason why the cache has no part in the request: a model call whose answer is not for storing or whose body is not
    /// understood, or a POST that may change something.
    pub fn of(asked: &Asked<'_>, policy: &config::Cache) -> Result<Self, &'static str> {
        let app = asked.app.map(|app| ("app".to_owned(), app.to_string()));
        let extra = app.into_iter().chain(policy.key.iter().map(|part| part_of(part, asked))).collect();
        let model = match &asked.call {
            Some(call) if matches!(call.shape.billed, Billed::AsPolled(_)) => return Err("a poll of what may be under way"),
            Some(call) if call.shape.reads_body => Some(ModelParts::of(call, asked, policy)?),
            _ => None,
        };
        let body = asked.declared.map(|declared| declared.parts.clone()).transpose()?;
        Ok(Self { extra, model, body, proved: asked.proof.is_some() })
    }

    /// Gives the cache's view of the request to `with`.
    pub fn query<T>(&self, arrival: &Arrival, route: &Arc<str>, with: impl FnOnce(CacheQuery<'_>) -> T) -> T {
        let extra: Vec<(&str, &str)> = self.extra.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        match &self.model {
            None => with(CacheQuery { body: self.body.as_deref(), proved: self.proved, ..query(arrival, route, &extra, None) }),
            Some(model) => {
                let headers: Vec<(&str, &str)> = model.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let key = ModelKey {
                    provider: &model.provider,
                    operation: model.operation,
                    model: &model.model,
                    headers: &headers,
                    tenant: &model.tenant,
                    body: &model.body,
                };
                with(CacheQuery { path_and_query: &model.path, ..query(arrival, route, &extra, Some(key)) })
            }
        }
    }
}

impl ModelParts {
    fn of(call: &AskedCall<'_>, asked: &Asked<'_>, policy: &config::Cache) -> Result<Self, &'static str> {
        let (arrival, caller) = (asked.arrival, asked.caller);
        let (Some(bytes), Some(facts)) = (call.body, call.facts) else { return Err("the body was not read") };
        if let Some(most) = policy.max_temperature
            && call.shape.operation != Operation::Embeddings
            && facts.temperature.unwrap_or(DEFAULT_TEMPERATURE) > most
        {
            return Err("temperature above max_temperature");
        }
        provider::cacheable(call.shape.api, call.shape.operation, facts, bytes)?;
        let canonical = provider::canonical(bytes).ok_or("the body is not one plain JSON object")?;
        let mut headers: Vec<(&'static str, String)> =
            KEY_HEADERS.into_iter().filter_map(|name| Some((name, joined(&arrival.headers, name)?))).collect();
        // A stream must not answer a call without `stream`. A stream without usage must not answer a call that wants usage.
        headers.push(("stream", format!("{}/{}", call.streams, facts.include_usage)));
        headers.push(("gzip", accepts(&arrival.headers, b"gzip").to_string()));
        let mut tenant = Vec::new();
        if !policy.share {
            identify(asked, &mut tenant);
            if policy.per_caller {
                tenant.push(0);
                tenant.extend_from_slice(caller.unwrap_or_default().as_bytes());
            }
        }
        let (path, query) = call.rest.split_at(call.rest.find('?').unwrap_or(call.rest.len()));
        let path = format!("{path}{}", super::credential::without_key(query));
        Ok(Self {
            provider: call.provider.clone(),
            operation: call.shape.operation.as_str(),
            model: call.model.unwrap_or("unknown").to_owned(),
            headers,
            tenant,
            body: canonical,
            path,
        })
    }
}

/// Writes who asks into `tenant`: the credential that the request carries and, with `auth`, whom its own credential names. That
/// credential itself is no part: a caller whose key or token was renewed finds the same answers.
fn identify(asked: &Asked<'_>, tenant: &mut Vec<u8>) {
    let headers = &asked.arrival.headers;
    let mut rest = None;
    if let (Some(proof), Some(policy)) = (asked.proof, asked.auth) {
        tenant.extend_from_slice(proof.by.as_str().as_bytes());
        tenant.push(0);
        tenant.extend_from_slice(proof.name.as_bytes());
        tenant.push(0);
        auth::strip(&policy.sources, rest.insert(headers.clone()));
    }
    tenant.extend_from_slice(credential(rest.as_ref().unwrap_or(headers), asked.arrival.uri.query()).unwrap_or_default());
}

/// The providers' temperature for a call that names none.
const DEFAULT_TEMPERATURE: f64 = 1.0;

/// Request fields that change a provider's answer.
const KEY_HEADERS: [&str; 6] =
    ["anthropic-beta", "anthropic-version", "openai-beta", "openai-organization", "openai-project", "x-goog-user-project"];

fn joined(headers: &Fields, name: &str) -> Option<String> {
    let values: Vec<_> = headers.all(name).map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    (!values.is_empty()).then(|| values.join(","))
}

pub(super) fn query<'a>(
    arrival: &'a Arrival,
    route: &'a Arc<str>,
    extra: &'a [(&'a str, &'a str)],
    model: Option<ModelKey<'a>>,
) -> CacheQuery<'a> {
    let claimed = arrival.trusted.then(|| arrival.header("x-forwarded-proto")).flatten();
    CacheQuery {
        route,
        method: &arrival.method,
        scheme: claimed.unwrap_or(if arrival.tls { "https" } else { "http" }),
        host: arrival.header(Id::Host).unwrap_or_default(),
        path_and_query: arrival.uri.path_and_query().map_or("/", |path| path.as_str()),
        headers: &arrival.headers,
        extra,
        model,
        ttl: None,
        proved: false,
        body: None,
    }
}

/// A part's name and value.
pub fn part_of(part: &KeyPart, asked: &Asked<'_>) -> (String, String) {
    let arrival = asked.arrival;
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let value = match part {
        KeyPart::ClientIp => arrival.client.to_string(),
        KeyPart::Caller => asked.caller.unwrap_or_default().to_owned(),
        KeyPart::Header(name) => joined(&arrival.headers, name.as_str()).unwrap_or_default(),
        KeyPart::Cookie(name) => text(keys::cookie(&arrival.headers, name)),
        KeyPart::Query(name) => text(arrival.uri.query().and_then(|query| keys::parameter(query, name))),
        // As in limits. No value of a field has a NUL: what is only shown is never taken for what is proved.
        KeyPart::ApiKey => match asked.proof {
            Some(proof) => format!("\0{}\0{}", proof.by.as_str(), proof.key.as_ref().unwrap_or(&proof.name)),
            None => text(credential(&arrival.headers, arrival.uri.query())),
        },
        KeyPart::Route => asked.route.to_string(),
        KeyPart::Provider => asked.call.as_ref().map(|call| call.provider.to_string()).unwrap_or_default(),
        KeyPart::Model => asked.call.as_ref().and_then(|call| call.model).unwrap_or_default().to_owned(),
        KeyPart::Claim(name) => asked.proof.and_then(|proof| proof.claim(name)).unwrap_or_default().to_owned(),
        KeyPart::VerifiedTier => asked.proof.and_then(|proof| proof.tier.as_deref()).unwrap_or_default().to_owned(),
    };
    (part.written(), value)
}
