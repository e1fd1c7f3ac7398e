//! What a try came to: for the client, for retry and fallback, for the breaker.
//!
//! Rare branches are boxed: their size would be carried by every request in flight.

use std::{rc::Rc, time::Duration};

use http::StatusCode;

use super::{
    Proxy,
    attempt::{Aim, Attempted, Sending},
    forward::Responded,
    hold,
    live::LiveRoute,
    model::Plan,
};
use crate::{
    body::Body,
    config::Mode,
    policy::{
        breaker,
        retry::{self, Answer, Broke, Outcome},
        timeout::Deadline,
    },
    provider::{self, ErrorClass},
    reject::{Bound, Fault, Reject},
    upstream::headers::Malformed,
};

/// One try's result, and what it means.
pub struct Tried {
    /// What the client gets, if this is kept.
    pub answer: Result<Attempted, Reject>,
    /// For retry and fallback.
    pub outcome: Outcome,
    /// For metrics.
    pub word: &'static str,
    /// What went wrong with a connection.
    pub broke: Option<Broke>,
    pub(super) class: Option<ErrorClass>,
}

impl Tried {
    /// A try that gave no answer.
    pub fn rejected(reject: Reject, outcome: Outcome) -> Self {
        Self { word: reject.reason(), answer: Err(reject), outcome, broke: None, class: None }
    }

    /// How the breaker sees it.
    pub fn for_breaker(&self) -> breaker::Outcome {
        let (failed, retry_after) = match &self.outcome {
            Outcome::Answer(answer) if answer.status == StatusCode::TOO_MANY_REQUESTS => {
                return breaker::Outcome::Throttled { retry_after: answer.hint };
            }
            Outcome::Answer(answer) => {
                (self.class.map_or_else(|| is_gateway_error(answer.status), ErrorClass::counts_for_breaker), answer.hint)
            }
            Outcome::Fault { .. } | Outcome::Timeout(_) => (true, None),
            Outcome::BrokenStream => (self.class.is_none_or(ErrorClass::counts_for_breaker), None),
            Outcome::BreakerOpen => return breaker::Outcome::Cancelled,
        };
        if failed { breaker::Outcome::Failure { retry_after } } else { breaker::Outcome::Success }
    }
}

/// Understands a response head, and, where a policy needs it, what follows: an error's body, a stream's beginning.
///
/// # Errors
/// The client's time is over.
pub async fn understand(
    proxy: &Rc<Proxy>,
    sending: &Sending,
    route: &LiveRoute,
    aim: &Aim<'_>,
    responded: Responded,
) -> Result<Tried, Reject> {
    let target = &aim.pool.target;
    if responded.head.status == StatusCode::SWITCHING_PROTOCOLS && !sending.websocket {
        let reject = Malformed("a switch of protocols that nobody asked for").into_reject(target);
        return Ok(Tried::rejected(reject, Outcome::Fault { fault: Fault::Malformed, may_be_processed: true }));
    }
    let Some(plan) = sending.plan.as_ref().filter(|_| route.judges_answers()) else {
        return Ok(plain(proxy, responded));
    };
    let timeouts = route.policies.timeouts.as_ref().filter(|timeouts| timeouts.mode == Mode::Enforce);
    let idle = timeouts.and_then(|timeouts| timeouts.idle);
    let status = responded.head.status;
    if status.is_client_error() || status.is_server_error() {
        return Ok(Box::pin(error(proxy, plan, responded, idle, sending.deadline)).await);
    }
    let bound = timeouts.and_then(|timeouts| timeouts.first_token);
    match Box::pin(hold::until_content(plan, responded, bound, idle, sending.deadline)).await {
        hold::Held::Content(attempted) => Ok(answered(attempted, Answer::new(status), None)),
        hold::Held::Error(attempted, class) => {
            let outcome = if class.retryable() { Outcome::BrokenStream } else { Outcome::Answer(of_class(status, class, None, None)) };
            Ok(Tried { answer: Ok(attempted), outcome, word: class.as_str(), broke: None, class: Some(class) })
        }
        hold::Held::Timeout(bound, after) => {
            aim.pool.cells.timed_out(bound.as_str());
            let reject = Reject::Timeout { target: target.name.clone(), bound, after };
            if bound == Bound::Total { Err(reject) } else { Ok(Tried::rejected(reject, Outcome::Timeout(bound))) }
        }
    }
}

/// An answer that is judged by its head alone.
fn plain(proxy: &Proxy, responded: Responded) -> Tried {
    let Responded { head, body, connection, .. } = responded;
    let mut answer = Answer::new(head.status);
    if head.status.as_u16() >= 400 {
        answer.hint = retry::hint(&head.headers, proxy.shared.clock.wall());
    }
    answered(Attempted { head, body, connection: Some(connection) }, answer, None)
}

/// A provider's error, understood by its body.
async fn error(proxy: &Proxy, plan: &Plan, responded: Responded, idle: Option<Duration>, deadline: Deadline) -> Tried {
    let Responded { head, body, connection, .. } = responded;
    let (body, connection) = hold::error_body(body, connection, idle, deadline).await;
    let bytes = match &body {
        Body::Full(bytes) => bytes.clone(),
        _ => bytes::Bytes::new(),
    };
    let class = provider::classify(plan.api, head.status, &head.headers, &bytes);
    let hint = provider::hint(plan.api, &head.headers, &bytes, proxy.shared.clock.wall());
    let answer = of_class(head.status, class, hint, provider::should_retry(&head.headers));
    answered(Attempted { head, body, connection }, answer, Some(class))
}

fn answered(attempted: Attempted, answer: Answer, class: Option<ErrorClass>) -> Tried {
    let word = match (class, answer.status.as_u16()) {
        (Some(class), _) => class.as_str(),
        (None, 500..) => "status_5xx",
        (None, 400..=499) => "status_4xx",
        (None, _) => "ok",
    };
    Tried { answer: Ok(attempted), outcome: Outcome::Answer(answer), word, broke: None, class }
}

fn of_class(status: StatusCode, class: ErrorClass, hint: Option<Duration>, advice: Option<bool>) -> Answer {
    Answer { status, hint, advice, spent: class == ErrorClass::QuotaSpent, elsewhere: class.is_about_the_key() }
}

fn is_gateway_error(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}
