//! The request that goes out: fields, target, credential.

use std::{rc::Rc, sync::Arc};

use http::{HeaderMap, HeaderValue, Uri, header, uri};

use super::{Proxy, exchange::Exchange, live::LiveProvider};
use crate::{
    arrival::{Arrival, Door},
    body::accept::accepts,
    cause::{self, Cause},
    config::Api,
    policy::limits::Keyed,
    upstream::headers::{self, Forwarding},
};

/// What the fields of a request are made of. Made anew for each try, so that no try has to keep a copy for the next.
#[derive(Clone)]
pub struct Source {
    arrival: Rc<Arrival>,
    request_id: Arc<str>,
    cause: Option<Arc<Cause<Keyed>>>,
    /// Codings in which the answer can be read on the side.
    codings: Codings,
    websocket: bool,
}

impl Source {
    /// The source of `exchange`'s requests.
    pub fn new(exchange: &Exchange, websocket: bool) -> Self {
        Self {
            arrival: exchange.arrival.clone(),
            request_id: exchange.request_id.clone(),
            cause: exchange.cause.as_ref().map(|running| running.cause.clone()),
            codings: match exchange.call.as_deref() {
                Some(call) if call.asks_usage => Codings::Identity,
                Some(call) if call.shape.reads_body => Codings::Gzip,
                None if exchange.looks_inside => Codings::Gzip,
                _ => Codings::Any,
            },
            websocket,
        }
    }

    /// Fields of the request as any target gets them.
    pub fn fields(&self, proxy: &Proxy) -> HeaderMap {
        let inbound = self.arrival.door == Door::Inbound;
        let forwarding =
            Forwarding { via: &proxy.shared.via[self.arrival.door as usize], forwarded: inbound, host: None, upgrade: self.websocket };
        let mut fields = headers::request(&self.arrival, &forwarding);
        if inbound && let Ok(id) = HeaderValue::from_str(&self.request_id) {
            fields.insert(cause::REQUEST_ID, id);
        }
        match &self.cause {
            Some(cause) => cause::announce(&mut fields, cause),
            None => cause::conceal(&mut fields),
        }
        narrow(&mut fields, self.codings);
        if self.codings == Codings::Identity {
            // The body was changed: its length is that of what is sent.
            fields.remove(header::CONTENT_LENGTH);
        }
        fields
    }
}

/// Which content codings an answer may have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Codings {
    /// Whatever the client accepts.
    Any,
    /// Gzip or none: decoded on the side, for metering.
    Gzip,
    /// None: an event may have to be taken out.
    Identity,
}

/// Keeps to codings that can be read on the side; never adds one that the client does not accept.
fn narrow(fields: &mut HeaderMap, codings: Codings) {
    if codings == Codings::Any || !fields.contains_key(header::ACCEPT_ENCODING) {
        return;
    }
    let narrowed = match codings {
        Codings::Gzip if accepts(fields, b"gzip") => "gzip",
        _ => "identity",
    };
    fields.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(narrowed));
}

/// A configured key replaces the app's credential, in the provider's own field. Without one the app's passes through to the
/// provider it was meant for (`own`), and to no other.
pub fn credential(fields: &mut HeaderMap, provider: &LiveProvider, own: bool, proxy: &Proxy) {
    if provider.keys.is_empty() && own {
        return;
    }
    for name in CREDENTIALS {
        fields.remove(name);
    }
    if provider.keys.is_empty() {
        return;
    }
    let key = provider.keys[proxy.next_turn(provider.keys.len())].reveal();
    let (name, value) = match provider.api {
        Api::Anthropic => ("x-api-key", HeaderValue::from_str(key)),
        Api::Gemini => ("x-goog-api-key", HeaderValue::from_str(key)),
        Api::OpenAi | Api::Bedrock | Api::Plain => ("authorization", HeaderValue::from_str(&format!("Bearer {key}"))),
    };
    if let Ok(mut value) = value {
        value.set_sensitive(true);
        fields.insert(name, value);
    }
}

/// Where a provider's credential stands; Google's may also stand in the query, as `key`.
const CREDENTIALS: [&str; 4] = ["authorization", "x-api-key", "x-goog-api-key", "api-key"];

/// A query, with its `?`, without the pairs of this name.
pub fn without(query: &str, name: &str) -> String {
    let kept: Vec<&str> = query.trim_start_matches('?').split('&').filter(|pair| pair.split('=').next() != Some(name)).collect();
    if kept.iter().all(|pair| pair.is_empty()) { String::new() } else { format!("?{}", kept.join("&")) }
}

/// The request's own target, behind the app's base path.
pub fn app_uri(asked: &Uri, base: &str) -> Result<Uri, http::Error> {
    if base.is_empty() {
        return Ok(asked.clone());
    }
    path_uri(format!("{base}{}", asked.path_and_query().map_or("/", uri::PathAndQuery::as_str)))
}

/// A target in origin-form.
pub fn path_uri(path: String) -> Result<Uri, http::Error> {
    Ok(Uri::from_maybe_shared(bytes::Bytes::from(path))?)
}
