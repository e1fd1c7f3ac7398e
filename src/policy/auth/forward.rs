//! Another service decides who may come in: the question, what its answer means, and answers that still count.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use quick_cache::sync::Cache;

use super::Looked;
use crate::{
    arrival::Arrival,
    caller::{KnownBy, Proof},
    clock::Instant,
    config::ForwardAuth,
    fetch::{Answer, Errand},
    http1::{Fields, Id},
};

/// Most answers that are kept.
const MOST: usize = 1 << 14;
/// Longest name of a caller, tier or scope, in bytes.
const LONGEST_NAME: usize = 256;

/// Answers of services that still count, by a hash of the question.
pub struct Rulings(Cache<[u8; 32], (Instant, Ruling)>);

/// What a service has decided.
#[derive(Debug, Clone, PartialEq)]
pub enum Ruling {
    /// The request passes, and proves this.
    Passes(Arc<Proof>),
    /// It shows no credential that the service takes, or a bad one.
    Unknown,
    /// Its caller may not do this.
    Denied,
}

impl Default for Rulings {
    fn default() -> Self {
        Self(Cache::new(MOST))
    }
}

impl Rulings {
    /// The decision on a question, if it still counts.
    pub fn known(&self, question: &[u8; 32], now: Instant) -> Option<Ruling> {
        self.0.get(question).filter(|(until, _)| now < *until).map(|(_, decision)| decision)
    }

    /// Keeps a decision for as long as it counts.
    pub fn keep(&self, question: [u8; 32], decision: Ruling, time: Duration, now: Instant) {
        if !time.is_zero() {
            self.0.insert(question, (now + time, decision));
        }
    }
}

impl From<Ruling> for Looked {
    fn from(decision: Ruling) -> Self {
        match decision {
            Ruling::Passes(proof) => Self::Good((*proof).clone()),
            Ruling::Unknown => Self::Bad("the service that decides here takes no credential of this request (auth.forward)".into()),
            Ruling::Denied => Self::Denied("the service that decides here does not let its caller do this (auth.forward)".into()),
        }
    }
}

/// Whether the request shows anything that the service could judge.
pub fn shows(terms: &ForwardAuth, fields: &Fields) -> bool {
    terms.send.iter().any(|name| fields.has(name.as_str()))
}

/// The question about a request, and its hash. `None`: the request cannot be told to the service as it is.
pub fn question(terms: &ForwardAuth, arrival: &Arrival) -> Option<(Errand, [u8; 32])> {
    let mut headers = HeaderMap::new();
    let forwarded = arrival.trusted.then(|| arrival.header(Id::XForwardedProto)).flatten();
    let target = arrival.uri.path_and_query().map_or("/", |target| target.as_str());
    let client = arrival.client.to_string();
    for (name, text) in [
        ("x-forwarded-method", arrival.method.as_str()),
        ("x-forwarded-proto", forwarded.unwrap_or(if arrival.tls { "https" } else { "http" })),
        ("x-forwarded-host", arrival.header(Id::Host).unwrap_or_default()),
        ("x-forwarded-uri", target),
        ("x-forwarded-for", &client),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_bytes(text.as_bytes()).ok()?);
    }
    for name in &terms.send {
        for value in arrival.headers.all(name.as_str()) {
            headers.append(name.clone(), HeaderValue::from_bytes(value.as_bytes()).ok()?);
        }
    }
    let mut hash = blake3::Hasher::new();
    hash.update(&terms.number.to_le_bytes());
    for (name, value) in &headers {
        for part in [name.as_str().as_bytes(), value.as_bytes()] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    let errand = Errand { headers, timeout: terms.timeout, max_body: 0, ..Errand::new(Method::GET, &*terms.url) };
    Some((errand, *hash.finalize().as_bytes()))
}

/// What an answer means; `None`: it decides nothing.
pub fn decide(terms: &ForwardAuth, answer: &Answer) -> Option<Ruling> {
    match answer.status {
        status if status.is_success() => {
            let text = |name: &HeaderName| {
                let text = answer.headers.get(name)?.to_str().ok()?.trim();
                (1..=LONGEST_NAME).contains(&text.len()).then(|| text.to_owned())
            };
            let scopes = terms.scopes.as_ref().and_then(text).unwrap_or_default();
            let scopes = scopes.split([' ', ',']).filter(|scope| !scope.is_empty()).map(Into::into).collect();
            let copied = terms.copy.iter().flat_map(|name| answer.headers.get_all(name).iter().map(|value| (name.clone(), value.clone())));
            Some(Ruling::Passes(Arc::new(Proof {
                // A service may let a request pass without saying whose it is.
                name: text(&terms.caller).unwrap_or_default().into(),
                by: KnownBy::Service,
                key: None,
                tier: terms.tier.as_ref().and_then(text).map(Into::into),
                scopes,
                claims: None,
                copied: copied.collect(),
            })))
        }
        StatusCode::FORBIDDEN => Some(Ruling::Denied),
        // Many send a browser to their page of signing in.
        status if status == StatusCode::UNAUTHORIZED || status.is_redirection() => Some(Ruling::Unknown),
        _ => None,
    }
}
