//! The step of a fallback that a failure leads to.

use super::judged::Tried;
use crate::{
    config::{Fallback, FallsOn},
    policy::retry::{Next, TryOutcome},
    provider::ErrorClass,
    reject::{Bound, Fault, Reject},
};

/// The way on from a target that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Onward {
    /// How many steps of the fallback are left out before the one that follows.
    pub(super) skip: usize,
    pub(super) failure: FallsOn,
}

/// What follows a failure, and the way there; `None`: nothing follows.
pub(super) fn onward(rest: &[Fallback], failure: Option<FallsOn>) -> (Next, Option<Onward>) {
    let found = failure.and_then(|failure| Some(Onward { skip: rest.iter().position(|step| step.takes(failure))?, failure }));
    let next = match found.and_then(|onward| rest.get(onward.skip)) {
        Some(Fallback::Provider { .. }) => Next::Target,
        Some(Fallback::Respond { .. }) => Next::Answer,
        None => Next::Nothing,
    };
    (next, found)
}

/// The failure of a try; `None`: it went well, the client is at fault, or the content was filtered, which no other model should mend.
pub(super) fn failure(tried: &Tried) -> Option<FallsOn> {
    let by_status = |status: u16| match status {
        408 => Some(FallsOn::Timeout),
        429 => Some(FallsOn::Throttled),
        503 | 529 => Some(FallsOn::Overloaded),
        500.. => Some(FallsOn::Transient),
        _ => None,
    };
    match &tried.outcome {
        TryOutcome::BreakerOpen => Some(FallsOn::BreakerOpen),
        TryOutcome::Timeout(Bound::Connect) => Some(FallsOn::Connect),
        TryOutcome::Timeout(_) => Some(FallsOn::Timeout),
        TryOutcome::Fault { fault: Fault::Reset | Fault::Malformed, .. } => Some(FallsOn::Reset),
        TryOutcome::Fault { .. } => Some(FallsOn::Connect),
        TryOutcome::BrokenStream => Some(tried.class.and_then(of_class).unwrap_or(FallsOn::Reset)),
        TryOutcome::Answer(answer) => match tried.class {
            Some(ErrorClass::Filtered) => None,
            Some(class) => of_class(class).or_else(|| by_status(answer.status.as_u16())),
            None => by_status(answer.status.as_u16()),
        },
    }
}

fn of_class(class: ErrorClass) -> Option<FallsOn> {
    Some(match class {
        ErrorClass::Throttled => FallsOn::Throttled,
        ErrorClass::Overloaded => FallsOn::Overloaded,
        ErrorClass::QuotaSpent => FallsOn::QuotaSpent,
        ErrorClass::BadKey => FallsOn::BadKey,
        ErrorClass::ContextTooLong => FallsOn::ContextTooLong,
        ErrorClass::NotFound => FallsOn::NotFound,
        ErrorClass::Transient => FallsOn::Transient,
        ErrorClass::BadRequest | ErrorClass::Filtered | ErrorClass::TooLarge | ErrorClass::Other => return None,
    })
}

/// The failure of a target that could not be asked.
pub(super) fn of_reject(reject: &Reject) -> Option<FallsOn> {
    match reject {
        Reject::BreakerOpen { .. } => Some(FallsOn::BreakerOpen),
        Reject::KeysRest { throttled: true, .. } => Some(FallsOn::Throttled),
        Reject::KeysRest { throttled: false, .. } => Some(FallsOn::QuotaSpent),
        _ => None,
    }
}

/// Marks a failure that only a step that names it takes: another target may do better although the status does not tell.
pub(super) fn mark(tried: &mut Tried, onward: Option<Onward>) {
    if let (TryOutcome::Answer(answer), Some(onward)) = (&mut tried.outcome, onward) {
        answer.elsewhere |= onward.failure.must_be_named();
    }
}
