//! The result of a try: for the client, for retry and fallback, for the breaker.
//!
//! Rare branches are boxed: otherwise every request in flight would carry their size.

use std::{rc::Rc, time::Duration};

use http::StatusCode;

use super::{
    Proxy,
    ask::Ask,
    bill::{Bill, read_on::ReadOn},
    forward::Responded,
    hold,
    live::LiveRoute,
    sending::{Aim, Attempted, Sending},
    strip::Stripped,
};
use crate::{
    body::{
        Body,
        tap::{Tap, TimeBounds},
    },
    http1::Id,
    policy::{
        breaker,
        retry::{self, Answer, Broke, TryOutcome},
    },
    provider::{self, ErrorClass},
    reject::{Fault, Reject},
    upstream::headers::Malformed,
};

/// One try's result and its meaning.
pub struct Tried {
    /// The client's answer, if this try's is kept.
    pub answer: Result<Attempted, Reject>,
    /// For retry and fallback.
    pub outcome: TryOutcome,
    /// For metrics.
    pub word: &'static str,
    /// How the connection broke.
    pub broke: Option<Broke>,
    /// The provider's error.
    pub(super) class: Option<ErrorClass>,
    /// Whether the key was refused and another key may serve.
    pub(super) another_key: bool,
    /// Whether the member was not reached and another may serve.
    pub(super) another_member: bool,
    /// Whether the target does not know the `stream_options` that the proxy has added.
    pub(super) refuses_usage: bool,
}

impl Tried {
    /// A try that gave no answer.
    pub fn rejected(reject: Reject, outcome: TryOutcome) -> Self {
        Self {
            word: reject.reason(),
            answer: Err(reject),
            outcome,
            broke: None,
            class: None,
            another_key: false,
            another_member: false,
            refuses_usage: false,
        }
    }

    /// How long the target asks to wait.
    pub fn hint(&self) -> Option<Duration> {
        match &self.outcome {
            TryOutcome::Answer(answer) => answer.hint,
            _ => None,
        }
    }

    /// The try's outcome for the breaker.
    pub fn for_breaker(&self) -> breaker::Outcome {
        let (failed, retry_after) = match &self.outcome {
            TryOutcome::Answer(answer) if answer.status == StatusCode::TOO_MANY_REQUESTS => {
                return breaker::Outcome::Throttled { retry_after: answer.hint };
            }
            TryOutcome::Answer(answer) => {
                (self.class.map_or_else(|| is_gateway_error(answer.status), ErrorClass::counts_for_breaker), answer.hint)
            }
            // The proxy's own bound: it says nothing about the target.
            TryOutcome::Fault { fault: Fault::Full, .. } => return breaker::Outcome::Cancelled,
            TryOutcome::Fault { .. } | TryOutcome::Timeout(_) => (true, None),
            TryOutcome::BrokenStream => (self.class.is_none_or(ErrorClass::counts_for_breaker), None),
            TryOutcome::BreakerOpen => return breaker::Outcome::Cancelled,
        };
        if failed { breaker::Outcome::Failure { retry_after } } else { breaker::Outcome::Success }
    }
}

/// Judges a response by its head and, if a policy needs it, by an error's body or a stream's beginning.
///
/// # Errors
/// The client's time is over.
pub async fn understand(
    proxy: &Rc<Proxy>,
    sending: &mut Sending,
    route: &LiveRoute,
    aim: &Aim<'_>,
    bill: Option<Bill>,
    responded: Responded,
) -> Result<Tried, Reject> {
    let ask = sending.ask.clone();
    let target = &aim.pool.target;
    let status = responded.head.status;
    if status == StatusCode::SWITCHING_PROTOCOLS && !sending.websocket {
        let reject = Malformed("a switch of protocols that nobody asked for").into_reject(target);
        return Ok(Tried::rejected(reject, TryOutcome::Fault { fault: Fault::Malformed, may_be_processed: true }));
    }
    let failed = status.is_client_error() || status.is_server_error();
    let bill = match bill {
        Some(bill) if failed => {
            // Providers do not bill errors.
            if let Some(funds) = &mut sending.funds {
                funds.put_back(bill.void());
            }
            None
        }
        bill => bill,
    };
    let pools_keys = aim.provider.is_some_and(|provider| provider.keys.len() > 1);
    let asks_usage = ask.call().is_some_and(|call| call.asks_usage);
    let judges = ask.call().is_some()
        && (route.judges_answers() || ask.has_next(route) || failed && (pools_keys || asks_usage || aim.among.is_some()));
    if failed && judges {
        return Ok(Box::pin(error(proxy, &ask, responded)).await);
    }
    let (attempted, hint) = open(proxy, &ask, bill, responded);
    if failed || !judges {
        return Ok(answered(attempted, Answer { hint, ..Answer::new(status) }, None));
    }
    match Box::pin(hold::until_content(&ask, attempted)).await {
        hold::Beginning::Content(attempted) => Ok(answered(attempted, Answer::new(status), None)),
        hold::Beginning::Error(attempted, class) => {
            let outcome =
                if class.retryable() { TryOutcome::BrokenStream } else { TryOutcome::Answer(of_class(status, class, None, None)) };
            Ok(Tried { outcome, word: class.as_str(), ..answered(attempted, Answer::new(status), Some(class)) })
        }
        hold::Beginning::Empty(attempted) => {
            let class = Some(ErrorClass::Transient);
            Ok(Tried { outcome: TryOutcome::BrokenStream, word: "no_answer", ..answered(attempted, Answer::new(status), class) })
        }
        hold::Beginning::Timeout(bound, after) => {
            aim.pool.cells.timed_out(bound.as_str());
            let reject = Reject::Timeout { target: target.name.clone(), bound, after };
            if bound.ends_all() { Err(reject) } else { Ok(Tried::rejected(reject, TryOutcome::Timeout(bound))) }
        }
    }
}

/// The answer for its readers: metered by its bill, without the usage that the meter alone has asked for.
fn open(proxy: &Proxy, ask: &Rc<Ask>, bill: Option<Bill>, responded: Responded) -> (Attempted, Option<Duration>) {
    let Responded { mut head, body, connection, .. } = responded;
    let hint = (head.status.as_u16() >= 400).then(|| retry::hint(&head.headers, proxy.shared.clock.wall())).flatten();
    let connection = Some(connection);
    if bill.is_none() && ask.enforced_timeouts().is_none() {
        return (Attempted { head, body, connection, bounds: TimeBounds::default(), reading: None }, hint);
    }
    let streams = head.headers.text(Id::ContentType).is_some_and(provider::is_stream);
    let bounds = ask.body_bounds(streams);
    let Some(mut bill) = bill else { return (Attempted { head, body, connection, bounds, reading: None }, hint) };
    let reading = bill.answered(&head);
    let body = Body::Tapped(Box::new(Tap::new(body, bounds, Box::new(bill))));
    let mut body = ReadOn::wrap(body, &reading, ask);
    if streams && ask.call().is_some_and(|call| call.asks_usage) {
        head.headers.remove(Id::ContentLength);
        body = Body::stream(Stripped::new(body));
    }
    (Attempted { head, body, connection, bounds: TimeBounds::default(), reading: Some(reading) }, hint)
}

/// Judges a provider's error by its body.
async fn error(proxy: &Proxy, ask: &Ask, responded: Responded) -> Tried {
    let Responded { head, body, connection, .. } = responded;
    let idle = ask.enforced_timeouts().and_then(|timeouts| timeouts.idle);
    let (body, connection) = hold::error_body(body, connection, idle, ask.deadline()).await;
    let bytes = match &body {
        Body::Full(bytes) => bytes.clone(),
        _ => bytes::Bytes::new(),
    };
    let Some(api) = ask.call().map(|call| call.shape.api) else {
        let attempted = Attempted { head, body, connection, bounds: ask.body_bounds(false), reading: None };
        let answer = Answer::new(attempted.head.status);
        return answered(attempted, answer, None);
    };
    let class = provider::classify(api, head.status, &head.headers, &bytes);
    let hint = provider::hint(api, &head.headers, &bytes, proxy.shared.clock.wall());
    let answer = of_class(head.status, class, hint, provider::should_retry(&head.headers));
    answered(Attempted { head, body, connection, bounds: ask.body_bounds(false), reading: None }, answer, Some(class))
}

fn answered(attempted: Attempted, answer: Answer, class: Option<ErrorClass>) -> Tried {
    let word = match (class, answer.status.as_u16()) {
        (Some(class), _) => class.as_str(),
        (None, 500..) => "status_5xx",
        (None, 400..=499) => "status_4xx",
        (None, _) => "ok",
    };
    Tried {
        answer: Ok(attempted),
        outcome: TryOutcome::Answer(answer),
        word,
        broke: None,
        class,
        another_key: false,
        another_member: false,
        refuses_usage: false,
    }
}

fn of_class(status: StatusCode, class: ErrorClass, hint: Option<Duration>, advice: Option<bool>) -> Answer {
    Answer { status, hint, advice, spent: class == ErrorClass::QuotaSpent, elsewhere: class.is_about_the_key() }
}

fn is_gateway_error(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}
