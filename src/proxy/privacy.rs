//! The policy `privacy` on the way: a call's personal data before it is counted, kept or sent, and its answer after it was kept.
//!
//! The cache and the providers see the masked call: a kept answer has placeholders, and each caller gets its own values in their place. What
//! cannot be read is refused, unless the policy lets it pass.

use std::{fmt::Write, rc::Rc};

use bytes::Bytes;

use super::{ask::Ask, exchange::Exchange, gate, live::LiveRoute, read_first};
use crate::{
    arrival::Arrival,
    body::{Body, replay::Replay},
    config::{Mode, NameSource, Operation, PersonalKind, Privacy, PrivacyAction},
    in_place,
    policy::{
        limits::keys,
        privacy::{self, CallerName, Masked, Unmaskable},
    },
    reject::{GatePolicy, Reject},
    upstream::headers,
};

/// The body that may leave. The values behind its placeholders stay with the request.
///
/// # Errors
/// The call has data that must not leave, or its body cannot be read.
pub(super) async fn guard(exchange: &mut Exchange, route: &LiveRoute, body: Replay) -> Result<Replay, Reject> {
    match route.policies.privacy.is_some() {
        false => Ok(body),
        // Long: it would be memory of every request.
        true => in_place::pinned(|| guarded(exchange, route, body)).await,
    }
}

async fn guarded(exchange: &mut Exchange, route: &LiveRoute, body: Replay) -> Result<Replay, Reject> {
    let Some(policy) = &route.policies.privacy else { return Ok(body) };
    let ask = exchange.ask.clone();
    if headers::wants_websocket(&ask.arrival) {
        unread(exchange, policy, "a WebSocket")?;
        return Ok(body);
    }
    let (body, text) = match read(&ask, body).await? {
        Readable::Text(body, text) => (body, text),
        Readable::Not(body, why) => {
            unread(exchange, policy, why)?;
            return Ok(body);
        }
    };
    if text.is_empty() {
        return Ok(body);
    }
    let names = names(&ask, policy);
    let key = ask.call().filter(|call| call.shape.operation == Operation::Responses).map(|_| naming(&ask));
    let masked = match privacy::mask(policy, &names, &text, key) {
        Ok(masked) => masked,
        Err(why) => {
            unread(exchange, policy, word_of(why))?;
            return Ok(body);
        }
    };
    count(&ask, policy, &masked);
    if policy.mode == Mode::Observe {
        if !masked.found.is_empty() {
            gate::observed(exchange, ask.route_at(), GatePolicy::Privacy.as_str(), seen(policy, &masked));
        }
        return Ok(body);
    }
    if masked.refused {
        return Err(refused(policy, &masked));
    }
    Ok(sent(&ask, policy, masked, body, text))
}

/// What goes on: the masked text, or the body as it came.
fn sent(ask: &Ask, policy: &Privacy, masked: Masked, body: Replay, text: Bytes) -> Replay {
    let was_coded = !matches!(&body, Replay::Whole(bytes) if bytes.as_ptr() == text.as_ptr() && bytes.len() == text.len());
    let changed = masked.body.is_some();
    if policy.action == PrivacyAction::Placeholder && !masked.vault.is_empty() {
        ask.guards(masked.vault);
    }
    if !(changed || was_coded && policy.changes()) {
        return body;
    }
    if let Some(call) = ask.call() {
        call.rewritten.set(true);
    }
    Replay::Whole(masked.body.map_or(text, Bytes::from))
}

/// A body, read or not.
enum Readable {
    /// The body as it goes on, and its text.
    Text(Replay, Bytes),
    /// The body, and why its text is not known.
    Not(Replay, &'static str),
}

/// Reads the text of a body that may have been read before.
async fn read(ask: &Ask, body: Replay) -> Result<Readable, Reject> {
    let Some(door) = ask.live_door() else { return Ok(Readable::Not(body, "the door is gone")) };
    let bytes = match body {
        Replay::Whole(bytes) => bytes,
        mut other => match other.take() {
            None => return Ok(Readable::Not(other, "sent already")),
            Some(stream) => match read_first::read_up_to(ask, read_first::most(door), stream).await? {
                read_first::Read::Whole(bytes) => bytes,
                read_first::Read::Partly(body, _) => return Ok(Readable::Not(Replay::new(body), "too large")),
            },
        },
    };
    if ask.call().is_some_and(|call| call.rewritten.get()) {
        return Ok(Readable::Text(Replay::Whole(bytes.clone()), bytes));
    }
    Ok(match read_first::text_of(ask, door, &bytes) {
        Ok(text) => Readable::Text(Replay::Whole(bytes.clone()), text.unwrap_or(bytes)),
        Err(Reject::BodyCoded(_)) => Readable::Not(Replay::Whole(bytes), "its content coding"),
        Err(full) => return Err(full),
    })
}

/// The text that leaves in the place of `body`, with numbers for names, as far as the body alone decides it; `None`: the body itself.
pub fn leaves(policy: &Privacy, body: &[u8]) -> Option<String> {
    privacy::mask(policy, &[], body, None).ok()?.body.filter(|_| policy.changes())
}

/// The refusal of a request, as far as its head and its body decide it.
pub fn refusal(policy: &Privacy, arrival: &Arrival, body: Option<&[u8]>) -> Option<Reject> {
    if policy.must_read() && headers::wants_websocket(arrival) {
        return Some(unreadable("a WebSocket"));
    }
    match privacy::mask(policy, &[], body?, None) {
        Err(why) => policy.must_read().then(|| unreadable(word_of(why))),
        Ok(masked) => (masked.refused && policy.mode == Mode::Enforce).then(|| refused(policy, &masked)),
    }
}

fn word_of(why: Unmaskable) -> &'static str {
    match why {
        Unmaskable::NotText => "not UTF-8",
        Unmaskable::NotJson => "not JSON",
    }
}

fn refused(policy: &Privacy, masked: &Masked) -> Reject {
    Reject::Gate { policy: GatePolicy::Privacy, why: said(policy, masked).into() }
}

fn unreadable(why: &str) -> Reject {
    let why = format!(
        "`privacy` must read this request and cannot ({why}): send JSON without a coding, ask a route without `privacy`, or set unreadable: pass \
         there"
    );
    Reject::Gate { policy: GatePolicy::Unreadable, why: why.into() }
}

/// Refuses a body that cannot be read, or notes it.
fn unread(exchange: &mut Exchange, policy: &Privacy, why: &'static str) -> Result<(), Reject> {
    let ask = exchange.ask.clone();
    ask.cells().policies.privacy_unread(why);
    match policy.mode {
        Mode::Observe => {
            if !policy.passes_unreadable {
                gate::observed(exchange, ask.route_at(), GatePolicy::Unreadable.as_str(), unreadable(why).detail());
            }
            Ok(())
        }
        Mode::Enforce if policy.passes_unreadable => Ok(()),
        Mode::Enforce => Err(unreadable(why)),
    }
}

/// The names of the caller, as far as the request's head and its credential tell them.
fn names(ask: &Ask, policy: &Privacy) -> Vec<CallerName> {
    let name = |source: &NameSource| match source {
        NameSource::Caller => ask.caller_name().map(str::to_owned),
        NameSource::Header(name) => {
            let value = ask.arrival.headers.get(name.as_str())?;
            // Names outside ASCII come as UTF-8, or percent-encoded.
            let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
            Some(percent_encoding::percent_decode_str(&text).decode_utf8().map(|text| text.into_owned()).unwrap_or(text))
        }
        NameSource::Claim(name) => ask.proof().and_then(|proof| proof.claim(name)).map(str::to_owned),
        NameSource::Field(_) => None,
    };
    policy.names.iter().filter_map(|source| CallerName::of(&name(source)?)).collect()
}

/// The key of the placeholders' names where the provider holds the conversation: the same for each request of one caller.
fn naming(ask: &Ask) -> [u8; 32] {
    let credential = keys::credential(&ask.arrival.headers, ask.arrival.uri.query()).unwrap_or_default();
    let caller = ask.caller_name().unwrap_or_default().as_bytes();
    ask.proxy.shared.cache.key_for("privacy", &[credential, &[0], caller].concat())
}

fn count(ask: &Ask, policy: &Privacy, masked: &Masked) {
    for ((kind, pattern), times) in &masked.found {
        let action = if policy.mode == Mode::Observe { "observed" } else { policy.does(*kind).as_str() };
        ask.cells().policies.personal(word(policy, *kind, *pattern), action, *times);
    }
}

fn word(policy: &Privacy, kind: PersonalKind, pattern: Option<usize>) -> &str {
    pattern.and_then(|at| policy.patterns.get(at)).map_or(kind.as_str(), |pattern| &pattern.name)
}

/// The kinds that were found. Their values stand nowhere.
fn seen(policy: &Privacy, masked: &Masked) -> String {
    let mut text = String::from("the call has personal data:");
    for (at, ((kind, pattern), times)) in masked.found.iter().enumerate() {
        let _ = write!(text, "{} {} ({times})", if at == 0 { "" } else { "," }, word(policy, *kind, *pattern));
    }
    text
}

/// The kinds for which a call is refused. Their values stand nowhere.
fn said(policy: &Privacy, masked: &Masked) -> String {
    let mut text = String::from("the call has personal data that must not leave:");
    let refused = masked.found.iter().filter(|((kind, _), _)| policy.does(*kind) == PrivacyAction::Refuse);
    for (at, ((kind, pattern), times)) in refused.enumerate() {
        let _ = write!(text, "{} {} ({times})", if at == 0 { "" } else { "," }, word(policy, *kind, *pattern));
    }
    text
}

/// The rules by which paths and queries are scrubbed before they are logged: those of every route whose policy enforces.
pub(super) fn scrubbing<'a>(routes: impl Iterator<Item = &'a LiveRoute>) -> Option<Privacy> {
    let mut all: Option<Privacy> = None;
    for policy in routes.filter_map(|route| route.policies.privacy.as_ref()).filter(|policy| policy.mode == Mode::Enforce) {
        let known = all.get_or_insert_with(|| Privacy { allow_values: Vec::new(), ..policy.clone() });
        known.find.extend(&policy.find);
        known.patterns.extend(policy.patterns.iter().cloned());
    }
    if let Some(all) = &mut all {
        all.find.sort_unstable();
        all.find.dedup();
        all.patterns.sort_by(|a, b| a.label.cmp(&b.label));
        all.patterns.dedup_by(|a, b| a.label == b.label && a.regex.as_str() == b.regex.as_str());
    }
    all
}

/// A text that is logged or told, without personal data; `None`: it has none, or no route asks for it.
pub(super) fn scrubbed(ask: &Ask, text: &str) -> Option<String> {
    ask.worker.live.scrubs.as_ref().and_then(|policy| privacy::scrub(policy, text))
}

/// A path and a query as they are logged.
#[derive(Default)]
pub(super) struct Shown {
    path: Option<String>,
    query: Option<String>,
}

impl Shown {
    /// Those of a request.
    pub(super) fn of(ask: &Ask) -> Self {
        Self { path: scrubbed(ask, ask.arrival.path()), query: ask.arrival.uri.query().and_then(|query| scrubbed(ask, query)) }
    }

    /// The path.
    pub(super) fn path<'a>(&'a self, ask: &'a Ask) -> &'a str {
        self.path.as_deref().unwrap_or(ask.arrival.path())
    }

    /// The query.
    pub(super) fn query<'a>(&'a self, ask: &'a Ask) -> &'a str {
        self.query.as_deref().or(ask.arrival.uri.query()).unwrap_or_default()
    }
}

/// The answer with the caller's own values in the place of their placeholders.
pub(super) fn restore(ask: &Rc<Ask>, head: &mut crate::message::AnswerHead, body: Body) -> Body {
    match ask.vault() {
        Some(_) => super::restored::restore(ask, head, body),
        None => body,
    }
}
