//! The acts of a spent limit that does not simply refuse: a cheaper model, stored answers alone, or a person's yes.

use std::{rc::Rc, sync::Arc};

use super::{
    Proxy,
    ask::{Ask, Origin},
    demands::Demands,
    exchange::Exchange,
    model::ModelCall,
};
use crate::{
    clock::Instant,
    config::{Applies, AskPerson, Degrade, Mode, OnLimit, Unit, human},
    http1::Id,
    policy::limits::{About, Plea},
    provider::Billed,
    reject::{Limited, Reject, Why},
    telemetry::metrics::Family,
};

/// The target of a call that a spent limit has sent to a cheaper model.
#[derive(Debug, Clone)]
pub struct Degraded {
    /// Index into the live providers.
    pub provider_at: usize,
    /// The model that replaces the one that was asked for.
    pub model: Arc<str>,
}

/// Acts as the spent limits say, one after the other, and asks the limits again after each act. An act is the act of one limit: every
/// other limit still holds, and acts in its turn.
///
/// # Errors
/// The refusal of a limit, or no yes in time.
pub(super) async fn act(proxy: &Rc<Proxy>, exchange: &mut Exchange, stage: Applies, limited: Box<Limited>) -> Result<(), Reject> {
    let ask = exchange.ask.clone();
    let mut limited = limited;
    // Each round lets one more limit pass: no limit acts twice.
    loop {
        match limited.act.clone() {
            // The proxy's own refresh of a stored answer takes no act: no person is asked, and no other model answers.
            _ if ask.origin != Origin::Client => break,
            OnLimit::Refuse => break,
            OnLimit::CacheOnly => {
                let caches = ask.route().and_then(|route| route.policies.cache.as_ref()).is_some_and(|cache| cache.mode == Mode::Enforce);
                if stage != Applies::All || !caches {
                    break;
                }
                count(&ask, &limited, "cache_only");
                exchange.spent.get_or_insert_with(|| limited.clone());
            }
            OnLimit::Degrade(to) => {
                if !degrade(&ask, &to) {
                    break;
                }
                count(&ask, &limited, "degraded");
            }
            OnLimit::Ask(terms) => person(proxy, &ask, &limited, &terms).await?,
        }
        let mut over = ask.over.borrow().as_deref().cloned().unwrap_or_default();
        over.add(&limited);
        ask.over.replace(Some(Rc::new(over)));
        let route = ask.route().ok_or_else(|| Reject::Internal("the route is gone".into()))?;
        match Demands::of(&ask, route).ask_limits(proxy, exchange, stage).await {
            Err(Reject::Limited(again)) => limited = again,
            done => return done,
        }
    }
    Err(refuse(&ask, limited))
}

/// Whether the request may go on without a stored answer.
///
/// # Errors
/// A spent limit lets stored answers alone through.
pub(super) fn unless_spent(exchange: &mut Exchange) -> Result<(), Reject> {
    exchange.spent.take().map_or(Ok(()), |limited| Err(refuse(&exchange.ask, limited)))
}

/// The refusal of a limit that has not acted, or whose act has not helped.
pub(super) fn refuse(ask: &Ask, limited: Box<Limited>) -> Reject {
    if limited.act != OnLimit::Refuse {
        ask.proxy.shared.limits.count_refused(&limited.limit);
    }
    Reject::Limited(limited)
}

/// Sends the call to a cheaper model from now on; `false`: the call cannot go there.
fn degrade(ask: &Ask, to: &Degrade) -> bool {
    let Some(call) = ask.call() else { return false };
    let providers = &ask.worker.live.providers;
    let provider_at = match &to.provider {
        None => Some(call.provider_at),
        Some(name) => providers.iter().position(|provider| provider.name == *name),
    };
    let Some(provider_at) = provider_at.filter(|at| providers[*at].api == call.shape.api) else { return false };
    if !can_be_named(ask, call) {
        return false;
    }
    match ask.degraded.get() {
        // Two limits may name the same model.
        Some(degraded) => degraded.provider_at == provider_at && degraded.model == to.model,
        None if provider_at == call.provider_at && call.model.as_ref() == Some(&to.model) => true,
        None => ask.degraded.set(Degraded { provider_at, model: to.model.clone() }).is_ok(),
    }
}

/// Whether the cheaper model's name can take the place of the one that is asked for: in the path, or as a member of the JSON body. A
/// batch has its models elsewhere, and a form is not written anew: both would go on to the dear model.
fn can_be_named(ask: &Ask, call: &ModelCall) -> bool {
    let is_form = ask.arrival.header(Id::ContentType).is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("multipart/"));
    call.shape.billed == Billed::ByAnswer
        && (call.shape.model_in_path.is_some() || (call.facts.is_some() && call.model.is_some() && !is_form))
}

/// Holds the request until a person says yes.
async fn person(proxy: &Proxy, ask: &Ask, limited: &Limited, terms: &AskPerson) -> Result<(), Reject> {
    let refused = |why| refuse(ask, Box::new(Limited { why, ..limited.clone() }));
    let (about, since) = (about(ask, limited), proxy.shared.clock.wall());
    let Some(pending) = proxy.shared.approvals.hold(about.clone(), terms, since) else {
        count(ask, limited, "not_held");
        return Err(refused(Why::NotApproved));
    };
    count(ask, limited, "asked");
    tracing::warn!(
        id = pending.id(),
        limit = &*about.limit,
        caller = about.caller.as_deref().unwrap_or_default(),
        what = about.what,
        "a request waits for a yes because its limit is spent: `outrigger approve {}`",
        pending.id()
    );
    let began = Instant::now();
    let wait = ask.deadline().left(began).map_or(terms.wait, |left| left.min(terms.wait));
    if let Some(hook) = &terms.webhook {
        let plea = Plea { id: pending.id().to_owned(), about, hook: hook.clone(), since, wait };
        if !proxy.shared.approvals.plead(plea) {
            // The admin door can still answer: the request waits on.
            ask.proxy.telemetry.metrics.counter(Family::LimitPleas, &[ask.door().as_str(), &limited.limit, "lost"]).inc();
            tracing::error!(id = pending.id(), "too many held requests wait for their webhook; it is not told of this one");
        }
    }
    let answer = pending.answered(wait).await;
    ask.tries.wait(began.elapsed());
    count(
        ask,
        limited,
        match answer {
            Some(true) => "approved",
            Some(false) => "declined",
            None => "unanswered",
        },
    );
    if answer != Some(true) {
        return Err(refused(Why::NotApproved));
    }
    Ok(())
}

/// The request for the person who decides.
fn about(ask: &Ask, limited: &Limited) -> About {
    let demands = ask.route().map(|route| Demands::of(ask, route));
    About {
        door: ask.door(),
        route: ask.route_name(),
        limit: limited.limit.clone(),
        terms: human::limit(Unit::of_word(limited.unit), limited.amount, limited.window),
        caller: ask.caller().map(|caller| caller.name.clone()).or_else(|| ask.call()?.join.recorded_caller().cloned()),
        what: what(ask),
        model: ask.call().map(|call| (call.provider.clone(), call.model.clone())),
        nano_usd: demands.and_then(|demands| demands.expected_nano_usd()),
    }
}

/// The request in words.
fn what(ask: &Ask) -> String {
    let text = match ask.call() {
        Some(call) => format!("{} {}", call.provider, call.model.as_deref().unwrap_or_default()),
        None => format!("{} {}", ask.arrival.method, ask.arrival.path()),
    };
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

fn count(ask: &Ask, limited: &Limited, action: &str) {
    let labels = [ask.door().as_str(), &*limited.limit, action];
    ask.proxy.telemetry.metrics.counter(Family::LimitActions, &labels).inc();
}
