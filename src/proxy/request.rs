//! The outgoing request of a try: fields and target.

use std::borrow::Cow;

use http::Uri;

use super::{
    ask::Ask,
    auth, credential,
    sending::{Aim, Sending},
};
use crate::{
    arrival::Door,
    body::accept::accepts,
    cause,
    config::{Mode, Rewrite},
    fields::Claims,
    http1::{Fields, Id},
    policy::rewrite,
    reject::Reject,
    route::climbs,
    telemetry::trace::{ClientStart, Span},
    upstream::headers::{self, Forwarding},
};

/// URI and fields of a try at `aim`.
///
/// # Errors
/// The request's path and the target's URL make no valid URI, or the path leads out of the base path.
pub(super) fn addressed<'a>(ask: &'a Ask, sending: &Sending, aim: &Aim<'_>, key: Option<usize>) -> Result<(Cow<'a, Uri>, Fields), Reject> {
    let mut fields = sending.fields();
    let target = &aim.pool.target;
    let uri = match (ask.call(), aim.provider) {
        (Some(call), Some(provider)) => {
            fields.insert(Id::Host, target.authority.clone());
            if aim.model.is_some() {
                // Another model's name changes the length, and is written into the text without a coding.
                fields.remove(Id::ContentLength);
                if call.text.is_some() && call.shape.model_in_path.is_none() {
                    fields.remove(Id::ContentEncoding);
                }
            }
            let own = call.owner().is_some_and(|owner| std::ptr::eq(provider, &ask.worker.live.providers[owner]));
            credential::fit(&mut fields, provider.api, own, key.and_then(|key| provider.keys.get(key)).map(|key| &key.secret));
            Cow::Owned(call.uri(provider, &target.origin.base, aim.model.map(|model| &**model), own)?)
        }
        _ => {
            // An HTTP/1.0 request may have no `Host`; the outgoing HTTP/1.1 request must have one.
            fields.add_missing(Id::Host, &target.authority);
            match (rewriting(ask, &mut fields), &*target.origin.base) {
                (None, "") => Cow::Borrowed(&ask.arrival.uri),
                (policy, base) => Cow::Owned(app_uri(&ask.arrival.uri, base, policy)?),
            }
        }
    };
    Ok((uri, fields))
}

/// The route's policy for the path that the app sees, if it acts on this request; the app is told what it does not see.
fn rewriting<'a>(ask: &'a Ask, fields: &mut Fields) -> Option<&'a Rewrite> {
    let policy = ask.route()?.policies.rewrite.as_ref()?;
    rewrite::path(policy, ask.arrival.path())?;
    if policy.mode == Mode::Observe {
        ask.cells().policies.gate_observed("rewrite");
        return None;
    }
    if !policy.strip_prefix.is_empty() {
        // A prefix that a trusted proxy has taken away comes before.
        let before = ask.arrival.headers.text(FORWARDED_PREFIX).filter(|_| ask.arrival.trusted).unwrap_or_default();
        fields.insert(FORWARDED_PREFIX, format!("{}{}", before.trim_end_matches('/'), policy.strip_prefix));
    }
    Some(policy)
}

const FORWARDED_PREFIX: &str = "x-forwarded-prefix";

/// Begins the try's own span. The span's id is sent in `traceparent`.
pub(super) fn begin_span(ask: &Ask, aim: &Aim<'_>, uri: &Uri, fields: &mut Fields, nth: u32) -> Option<Span> {
    let trace = ask.trace()?;
    let context = trace.child(&ask.proxy.chance);
    context.write(fields);
    let origin = &aim.pool.target.origin;
    let path = super::privacy::scrubbed(ask, uri.path());
    let start = ClientStart {
        method: &ask.arrival.method,
        scheme: if aim.pool.target.tls.is_some() { "https" } else { "http" },
        host: &origin.host,
        port: origin.port,
        path: path.as_deref().unwrap_or(uri.path()),
        resend: nth - 1,
    };
    let mut span = Span::client(&context, trace.context.span_id, &start, ask.proxy.shared.clock.wall());
    if let (Some(span), Some(key)) = (&mut span, &*ask.tries.key_name.borrow()) {
        span.set("outrigger.key", key.to_string());
    }
    span
}

/// The request's fields for any target. They are made anew for each try: no try has to keep a copy for the next.
pub(super) fn fields(ask: &Ask, websocket: bool, codings: AnswerCodings) -> Fields {
    let inbound = ask.door() == Door::Inbound;
    let none = Claims::NONE;
    let claims = ask.live_door().map_or(&none, |door| &door.claims);
    let forwarding = Forwarding { via: &ask.proxy.shared.via[ask.door() as usize], claims, forwarded: inbound, upgrade: websocket };
    let mut fields = headers::request(&ask.arrival, &forwarding);
    auth::strip(ask, &mut fields);
    if inbound {
        match fields.has(cause::REQUEST_ID) {
            true => fields.insert(cause::REQUEST_ID, ask.request_id().bytes(&mut [0; 32])),
            false => fields.append_plain(cause::REQUEST_ID, ask.request_id().bytes(&mut [0; 32])),
        }
    }
    match ask.token() {
        Some(token) => cause::announce(&mut fields, token),
        None if inbound => cause::withdraw(&mut fields),
        None => {
            if let Some(id) = ask.proxy.shared.causes.conceal(&mut fields) {
                // A later try sends the same.
                let _ = ask.sent_id.set(id);
            }
        }
    }
    super::fields::of_request(ask, &mut fields);
    narrow(&mut fields, codings);
    if ask.call().is_some_and(|call| call.asks_usage || call.rewritten.get()) {
        // The body was changed: it has another length and no coding.
        fields.remove(Id::ContentLength);
        fields.remove(Id::ContentEncoding);
    }
    fields
}

/// The content codings that an answer may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerCodings {
    /// Any that the client accepts.
    Any,
    /// Gzip or none: decoded on the side, for metering.
    Gzip,
    /// None: an event may have to be taken out, or values put in.
    Identity,
}

impl AnswerCodings {
    /// The codings of the answer to `ask`. `looks_inside`: the answer is looked into before it is stored.
    pub(super) fn of(ask: &Ask, looks_inside: bool) -> Self {
        match ask.call() {
            Some(call) if call.asks_usage || call.guarded => Self::Identity,
            Some(call) if call.shape.reads_body => Self::Gzip,
            None if looks_inside => Self::Gzip,
            _ => Self::Any,
        }
    }
}

/// Narrows `Accept-Encoding` to codings that can be read on the side. Never adds one that the client does not accept.
fn narrow(fields: &mut Fields, codings: AnswerCodings) {
    if codings == AnswerCodings::Any || !fields.has(Id::AcceptEncoding) {
        return;
    }
    let narrowed = match codings {
        AnswerCodings::Gzip if accepts(fields, b"gzip") => "gzip",
        _ => "identity",
    };
    fields.insert(Id::AcceptEncoding, narrowed);
}

/// The request's own target as the app sees it: rewritten by the policy, behind the app's base path.
///
/// # Errors
/// The path leads out of the base or of the prefix that the policy adds, or the parts make no valid target.
pub fn app_uri(asked: &Uri, base: &str, policy: Option<&Rewrite>) -> Result<Uri, Reject> {
    let query = || asked.query().map(|query| format!("?{query}")).unwrap_or_default();
    if let Some((policy, path)) = policy.and_then(|policy| Some((policy, rewrite::path(policy, asked.path())?))) {
        let added = &policy.add_prefix;
        return below(&format!("{base}{added}"), path.strip_prefix(added.as_str()).unwrap_or(&path), &query());
    }
    // `*` means the whole server (RFC 9110 section 7.1).
    if base.is_empty() || asked.path() == "*" {
        return Ok(asked.clone());
    }
    below(base, asked.path(), &query())
}

/// A target in origin-form: `base`, `path`, then `query` with its `?`.
///
/// # Errors
/// The path leads out of the base, where another app may be; or base, path and query make no valid target.
pub fn below(base: &str, path: &str, query: &str) -> Result<Uri, Reject> {
    if !base.is_empty() && climbs(path) {
        return Err(Reject::BadRequest(CLIMBS.into()));
    }
    let target = bytes::Bytes::from(format!("{base}{path}{query}"));
    Uri::from_maybe_shared(target).map_err(|_| Reject::BadRequest("the request target is not valid for the target's URL".into()))
}

const CLIMBS: &str = "the path leads out of the target's base path, or of what `rewrite` puts before it (`..`, in whatever spelling)";

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
