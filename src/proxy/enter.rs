//! What goes into the ledger: charges, savings of the cache, and calls that cost nothing.

use std::sync::Arc;

use super::{
    ask::{Ask, Origin},
    ending::Ending,
    model::ModelCall,
    payer::{Charge, Payer, Payers},
    pledge::Order,
};
use crate::{
    caller::UNATTRIBUTED,
    policy::cache::entry::Savings,
    provider::{Billed, Observed},
    store::ledger::{Entry, Known, OTHER, Outcome},
    telemetry::metrics::CacheOutcome,
    usage::Usage,
};

/// A try that is charged to its payer.
pub(super) fn charged(ask: &Ask, payer: &Payer, order: &Order, observed: &Observed, charge: &Charge) {
    let outcome = match (&observed.error, observed.terminal) {
        (Some(_), _) => Outcome::Failed,
        (None, true) => Outcome::Complete,
        (None, false) => Outcome::Cut,
    };
    put(
        ask,
        Entry {
            usage: charge.usage,
            nano_usd: charge.nano_usd,
            known: charge.source.into(),
            tier: observed.terms.tier.as_str(),
            outcome,
            ..of_order(ask, payer, order, charge.model.clone())
        },
    );
}

/// An answered try of unknown usage: an error before any content, or an answer without figures.
pub(super) fn unknown(ask: &Ask, payers: &Payers, order: &Order, observed: &Observed) {
    let outcome = if observed.error.is_some() { Outcome::Failed } else { Outcome::Complete };
    let model = order.model.clone().unwrap_or_else(|| observed.model.as_deref().unwrap_or_default().into());
    put(ask, Entry { outcome, ..of_order(ask, &payers.leader(), order, model) });
}

/// An answer from the store.
pub(super) fn saved(ask: &Ask, savings: &Savings) {
    if let Some(call) = ask.call() {
        let saved = (savings.nano_usd, savings.usage.total());
        put(ask, Entry { outcome: Outcome::Cached, known: Known::Reported, saved, ..of_call(ask, call) });
    }
}

/// The savings of requests that have joined this request's fetch. Each of those requests is a call of its own: see [`ended`].
pub(super) fn saved_by_joining(ask: &Ask, savings: &Savings, joined: u64) {
    if let Some(call) = ask.call().filter(|_| joined > 0) {
        let saved = (savings.nano_usd.saturating_mul(joined), savings.usage.total().saturating_mul(joined));
        put(ask, Entry { outcome: Outcome::Shared, known: Known::Reported, calls: 0, saved, ..of_call(ask, call) });
    }
}

/// A call that has ended without a charge: refused, failed, or answered by another call's fetch.
pub(super) fn ended(ending: &Ending) {
    let ask = &*ending.ask;
    let Some(call) = ask.call().filter(|call| call.shape.billed == Billed::ByAnswer && ask.origin == Origin::Client) else { return };
    if ending.charged.tries > 0 {
        return;
    }
    let outcome = match (ending.cache, ending.answer.reject) {
        (CacheOutcome::Coalesced, None) => Outcome::Shared,
        (_, None) if ending.is_cached() => return,
        (_, Some(_)) if ask.tries.made.get() == 0 => Outcome::Refused,
        (_, Some(_)) => Outcome::Failed,
        (_, None) if ending.answer.status >= 400 => Outcome::Failed,
        // The charge is made under another caller's name, or comes later.
        _ => return,
    };
    let entry = of_call(ask, call);
    // The name is the client's own, and names are kept for ever: only one that somebody sells is noted.
    let model = if ask.worker.live.prices.knows(&entry.model) { entry.model } else { OTHER.into() };
    put(ask, Entry { outcome, model, ..entry });
}

fn put(ask: &Ask, entry: Entry) {
    ask.proxy.journal.push(entry);
}

fn of_order(ask: &Ask, payer: &Payer, order: &Order, model: Arc<str>) -> Entry {
    Entry {
        caller: payer.caller.clone().unwrap_or_else(unattributed),
        inbound: payer.cause.as_ref().map(|cause| cause.route.clone()).or_else(|| order.inbound.clone()),
        outbound: order.route.clone(),
        provider: order.provider.clone(),
        model,
        ..empty(ask)
    }
}

fn of_call(ask: &Ask, call: &ModelCall) -> Entry {
    Entry {
        caller: ask.caller().map(|caller| &caller.name).or_else(|| call.join.recorded_caller()).cloned().unwrap_or_else(unattributed),
        inbound: call.join.cause().map(|cause| cause.route.clone()),
        outbound: ask.route_name(),
        provider: call.provider.clone(),
        model: call.model.clone().unwrap_or_default(),
        ..empty(ask)
    }
}

fn unattributed() -> Arc<str> {
    UNATTRIBUTED.into()
}

fn empty(ask: &Ask) -> Entry {
    Entry {
        minute: ask.proxy.shared.ledger.minute(),
        caller: Arc::default(),
        inbound: None,
        outbound: Arc::default(),
        provider: Arc::default(),
        model: Arc::default(),
        tier: "",
        outcome: Outcome::Complete,
        known: Known::Unknown,
        calls: 1,
        usage: Usage::default(),
        nano_usd: None,
        saved: (0, 0),
    }
}
