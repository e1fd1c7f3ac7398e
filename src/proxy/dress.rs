//! The last touch on every final answer of a door: refusals, hits and fallbacks included.
//!
//! A field that the app or the provider has set stays. The proxy adds its own value beside it, or none.

use super::{
    ask::Ask,
    exchange::{CacheNotes, Exchange},
    gate,
    timing::server_timing,
};
use crate::{
    arrival::Door,
    cause,
    clock::http_date,
    config::Mode,
    http1::Id,
    message::AnswerHead,
    policy::{cache::status, cors, preflight},
};

const CACHE_STATUS: Id = Id::CacheStatus;
const SERVER_TIMING: &str = "server-timing";
const SHOULD_RETRY: &str = "x-should-retry";
/// Outbound: provider and model of a fallback that answered.
const ANSWERED_BY: &str = "outrigger-answered-by";

/// Completes the head of a final answer.
pub fn dress(exchange: &Exchange, head: &mut AnswerHead) {
    let ask = &*exchange.ask;
    // Appended: the app, or a refusal of a later stage, may have set these fields for other limits.
    exchange.tell_limits(&mut head.headers);
    name_request(ask, head);
    name_bypass(ask, &exchange.cache, head);
    name_fallback(ask, head);
    stop_retries(ask, head);
    let_pages_read(exchange, head);
    if ask.live_door().is_some_and(|door| door.server_timing) {
        let (own, tries) = (exchange.answer.own.unwrap_or_default(), &ask.tries);
        if let Some(value) = server_timing(own, tries.waited.get(), tries.made.get(), exchange.cache.outcome) {
            head.headers.append(SERVER_TIMING, value);
        }
    }
    // By hand last: what an operator sets is what the client gets.
    super::fields::of_response(exchange, &mut head.headers);
    if !head.headers.has(Id::Date) {
        // RFC 9110 section 6.6.1.
        // The time of the head is known: no clock is looked at.
        head.headers.append_plain(Id::Date, http_date(ask.at + exchange.answer.head_after));
    }
}

/// Lets pages of other origins read the answer: as the route says, and refusals always.
fn let_pages_read(exchange: &Exchange, head: &mut AnswerHead) {
    let ask = &*exchange.ask;
    let refused = exchange.answer.reject.is_some();
    if !refused {
        gate::watch_answer(ask, &head.headers);
    }
    match gate::dressing(ask) {
        Some(_) if !refused && preflight::is_preflight(&ask.arrival.method, &ask.arrival.headers) => {}
        Some(policy) => cors::dress(policy, ask.arrival.header(Id::Origin), preflight::EXPOSED, &mut head.headers),
        None if refused && ask.door() == Door::Inbound => preflight::let_read(&mut head.headers, ask.arrival.headers.get(Id::Origin)),
        None => {}
    }
}

/// `x-request-id`, if the answer has none: the id finds the line in the log.
fn name_request(ask: &Ask, head: &mut AnswerHead) {
    if !head.headers.has(cause::REQUEST_ID) {
        head.headers.append_plain(cause::REQUEST_ID, ask.request_id().bytes(&mut [0; 32]));
    }
}

/// `Cache-Status` with the reason, if the cache had no part in the answer.
fn name_bypass(ask: &Ask, cache: &CacheNotes, head: &mut AnswerHead) {
    let enforces = ask.route().and_then(|route| route.policies.cache.as_ref()).is_some_and(|policy| policy.mode == Mode::Enforce);
    if let (Some(reason), true) = (cache.bypass, enforces) {
        head.headers.append(CACHE_STATUS, status::bypassed(reason));
    }
}

/// Names the fallback that answered in place of the target that was asked.
fn name_fallback(ask: &Ask, head: &mut AnswerHead) {
    let fallback = ask.tries.fallback.borrow();
    let Some(fallen) = fallback.as_ref().filter(|_| ask.door() == Door::Outbound) else { return };
    let text = match &fallen.model {
        Some(model) => format!("{}/{model}", fallen.to),
        None => fallen.to.to_string(),
    };
    head.headers.insert(ANSWERED_BY, text);
}

/// Tells an SDK that the call was retried already: its own retries would multiply the proxy's. Nothing is said if no retry could be
/// made.
fn stop_retries(ask: &Ask, head: &mut AnswerHead) {
    let failed = head.status.is_client_error() || head.status.is_server_error();
    if failed && ask.door() == Door::Outbound && ask.tries.policy_ran.get() {
        head.headers.insert(SHOULD_RETRY, "false");
    }
}
