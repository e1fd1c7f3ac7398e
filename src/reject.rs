//! Every answer the proxy gives by itself: one closed set, each with a status, a reason and words that help.
//!
//! A reject is not an upstream's own error: metrics, retry and the caller can tell them apart by `Proxy-Status`
//! (RFC 9209) and by the `reason` in the body.

use std::{borrow::Cow, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use crate::{
    body::Body,
    config::{Unit, human},
    http1::Refusal,
};

/// An answer, or the reason why there is none.
pub type Answer = Result<Response<Body>, Reject>;

/// An answer that the proxy gives by itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Reject {
    /// The request cannot be understood in only one way.
    BadRequest(Cow<'static, str>),
    /// What came is no request of HTTP/1.1.
    Unreadable(Refusal),
    /// No target for this path.
    NotFound(Cow<'static, str>),
    /// `Host` names somebody else.
    Misdirected(Cow<'static, str>),
    /// The address is not let in.
    Forbidden(Cow<'static, str>),
    /// A method that is not proxied (CONNECT, TRACE).
    MethodNotAllowed,
    /// The request came from ourselves.
    Loop,
    /// More than `max_body` bytes.
    BodyTooLarge(u64),
    /// A policy must read the body, and its content coding does not let it.
    BodyCoded(Coded),
    /// The client stopped sending its body, or sent it malformed.
    BodyBroken(Cow<'static, str>),
    /// A limit is spent.
    Limited(Box<Limited>),
    /// A dollar limit applies and the model has no price.
    Unpriced(Arc<str>),
    /// A limit in dollars or tokens applies, and nothing says what this would cost, in words.
    Unmetered(Cow<'static, str>),
    /// The process holds as much as it may.
    Overloaded(Cow<'static, str>),
    /// The process leaves, and its shutdown may not take longer.
    Stopping,
    /// The target's breaker is open.
    BreakerOpen {
        /// Which.
        target: Arc<str>,
        /// Until the next probe; `None`: it is held open by hand.
        retry_after: Option<Duration>,
    },
    /// No connection.
    Connect {
        /// To what.
        target: Arc<str>,
        /// What happened.
        why: Fault,
        /// In words.
        detail: String,
    },
    /// A time bound passed.
    Timeout {
        /// To what.
        target: Arc<str>,
        /// Which bound.
        bound: Bound,
        /// How long it was.
        after: Duration,
    },
    /// Only a cached answer was wanted (`only-if-cached`) and there is none.
    NotCached,
    /// The proxy's own fault.
    Internal(Cow<'static, str>),
}

/// How a content coding hides a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coded {
    /// A coding that the proxy cannot decode, as `Content-Encoding` names it.
    Unknown(Box<str>),
    /// The body is not in the coding that it names, or it is cut.
    Broken,
    /// The decoded text has more than so many bytes.
    TooLarge(u64),
}

/// A spent limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Limited {
    /// Its name.
    pub limit: Arc<str>,
    /// What it counts.
    pub unit: &'static str,
    /// How much per window, in the unit as written (USD: nano-dollars).
    pub amount: u64,
    /// The window.
    pub window: Duration,
    /// The first instant at which the same request would pass; `None`: never (it asks for more than the limit).
    pub retry_after: Option<Duration>,
    /// What may still be used now: too little for this request.
    pub remaining: u64,
    /// Header fields that tell the state of the limits.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// What went wrong between us and a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Fault {
    Dns,
    Refused,
    Tls,
    /// Closed or reset before a response head.
    Reset,
    /// What came back is not HTTP.
    Malformed,
    /// The target has as many connections as it may.
    Full,
}

/// A time bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Bound {
    Connect,
    ResponseHeader,
    FirstToken,
    PerTry,
    Total,
    /// How long the caller itself is willing to wait.
    Caller,
    BodyIdle,
    BodyRate,
}

impl Bound {
    /// The key in `timeouts`; of the client's body, in `bounds`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::ResponseHeader => "response_header",
            Self::FirstToken => "first_token",
            Self::PerTry => "per_try",
            Self::Total => "total",
            Self::Caller => "caller",
            Self::BodyIdle => "body_idle",
            Self::BodyRate => "min_rate",
        }
    }

    /// Whether no other target may be tried: the time of the whole request is over.
    pub fn ends_all(self) -> bool {
        matches!(self, Self::Total | Self::Caller)
    }

    /// Whether it is the client that took too long.
    pub fn is_clients(self) -> bool {
        matches!(self, Self::BodyIdle | Self::BodyRate)
    }
}

impl Reject {
    /// The status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) | Self::BodyBroken(_) => StatusCode::BAD_REQUEST,
            Self::Unreadable(refusal) => StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST),
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Misdirected(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::Forbidden(_) | Self::Unpriced(_) | Self::Unmetered(_) => StatusCode::FORBIDDEN,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::BodyTooLarge(_) | Self::BodyCoded(Coded::TooLarge(_)) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyCoded(Coded::Unknown(_)) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::BodyCoded(Coded::Broken) => StatusCode::BAD_REQUEST,
            Self::Limited(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Overloaded(_) | Self::Stopping | Self::BreakerOpen { .. } | Self::Connect { why: Fault::Full, .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Connect { .. } => StatusCode::BAD_GATEWAY,
            Self::Timeout { bound: Bound::BodyIdle | Bound::BodyRate, .. } => StatusCode::REQUEST_TIMEOUT,
            Self::Timeout { .. } | Self::NotCached => StatusCode::GATEWAY_TIMEOUT,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// One word for metrics, logs and the body.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BadRequest(_) | Self::Unreadable(_) => "bad_request",
            Self::NotFound(_) => "no_route",
            Self::Misdirected(_) => "misdirected",
            Self::Forbidden(_) => "access_denied",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Loop => "loop",
            Self::BodyTooLarge(_) => "body_too_large",
            Self::BodyBroken(_) => "body_broken",
            Self::BodyCoded(Coded::Unknown(_)) => "coding_unknown",
            Self::BodyCoded(Coded::Broken) => "coding_broken",
            Self::BodyCoded(Coded::TooLarge(_)) => "decoded_too_large",
            Self::Limited(_) => "limited",
            Self::Unpriced(_) => "unpriced_model",
            Self::Unmetered(_) => "unmetered",
            Self::Overloaded(_) => "overloaded",
            Self::Stopping => "stopping",
            Self::BreakerOpen { .. } => "breaker_open",
            Self::Connect { why, .. } => match why {
                Fault::Dns => "dns",
                Fault::Refused => "connect_failed",
                Fault::Tls => "tls_failed",
                Fault::Reset => "connection_reset",
                Fault::Malformed => "malformed_response",
                Fault::Full => "connections_full",
            },
            Self::Timeout { bound, .. } => match bound {
                Bound::Connect => "connect_timeout",
                Bound::ResponseHeader => "response_header_timeout",
                Bound::FirstToken => "first_token_timeout",
                Bound::PerTry => "per_try_timeout",
                Bound::Total => "total_timeout",
                Bound::Caller => "caller_timeout",
                Bound::BodyIdle => "body_idle_timeout",
                Bound::BodyRate => "body_too_slow",
            },
            Self::NotCached => "not_cached",
            Self::Internal(_) => "internal",
        }
    }

    /// The `Proxy-Status` error type (RFC 9209 section 2.3).
    pub fn proxy_status_error(&self) -> &'static str {
        match self {
            Self::BadRequest(_)
            | Self::Unreadable(_)
            | Self::BodyBroken(_)
            | Self::BodyTooLarge(_)
            | Self::BodyCoded(_)
            | Self::MethodNotAllowed => "http_request_error",
            Self::NotFound(_) | Self::Misdirected(_) => "destination_not_found",
            Self::Forbidden(_) | Self::Unpriced(_) | Self::Unmetered(_) | Self::Limited(_) => "http_request_denied",
            Self::Loop => "proxy_loop_detected",
            Self::Overloaded(_) | Self::Stopping => "proxy_internal_response",
            Self::BreakerOpen { .. } => "destination_unavailable",
            Self::Connect { why, .. } => match why {
                Fault::Dns => "dns_error",
                Fault::Refused => "connection_refused",
                Fault::Tls => "tls_protocol_error",
                Fault::Reset => "connection_terminated",
                Fault::Malformed => "http_protocol_error",
                Fault::Full => "connection_limit_reached",
            },
            Self::Timeout { bound: Bound::Connect, .. } => "connection_timeout",
            Self::Timeout { bound: Bound::BodyIdle | Bound::BodyRate, .. } => "http_request_error",
            Self::Timeout { .. } => "http_response_timeout",
            Self::NotCached => "proxy_internal_response",
            Self::Internal(_) => "proxy_internal_error",
        }
    }

    /// A sentence for a person.
    pub fn detail(&self) -> String {
        match self {
            Self::BadRequest(why) | Self::NotFound(why) | Self::Misdirected(why) | Self::Forbidden(why) | Self::BodyBroken(why) => {
                why.to_string()
            }
            Self::Overloaded(why) | Self::Internal(why) => why.to_string(),
            Self::Unreadable(refusal) => refusal.text().into(),
            Self::Stopping => "the proxy is shutting down and cannot wait for this answer (shutdown.deadline)".into(),
            Self::MethodNotAllowed => "this method is not proxied".into(),
            Self::Loop => "the request has already passed through this proxy (Via)".into(),
            Self::BodyTooLarge(limit) => format!("the request body is larger than {limit} bytes (bounds.max_body)"),
            Self::BodyCoded(coded) => coded.detail(),
            Self::Limited(limited) => limited.detail(),
            Self::Unpriced(model) => {
                format!("a dollar limit applies and the model `{model}` has no price: add it under outbound.prices, or set unpriced: allow")
            }
            Self::Unmetered(what) => format!(
                "a limit in dollars or tokens applies, and what {what} costs is said in no answer: ask a route without such a limit, or set \
                 unmetered: allow at the limit"
            ),
            Self::BreakerOpen { target, retry_after: Some(wait) } => {
                format!("the circuit breaker of {target} is open after repeated failures; next probe in {}", human::wait(*wait))
            }
            Self::BreakerOpen { target, retry_after: None } => {
                format!("the circuit breaker of {target} is held open by hand, until somebody closes it")
            }
            Self::Connect { target, detail, .. } => format!("{target}: {detail}"),
            Self::Timeout { bound: Bound::BodyRate, after, .. } => {
                format!("the request body was more than {after:?} behind its least rate (bounds.min_rate)")
            }
            Self::Timeout { target, bound: Bound::Caller, after } => {
                format!("{target}: no answer within the {after:?} that the caller is willing to wait")
            }
            Self::Timeout { target, bound, after } => format!("{target}: {} of {after:?} passed", bound.as_str()),
            Self::NotCached => "only-if-cached was asked and there is no stored answer".into(),
        }
    }

    /// What was found out about a target, in words for an operator: it may name addresses, ports and certificates.
    pub fn finding(&self) -> Option<String> {
        match self {
            Self::Connect { target, why: Fault::Refused, .. } if **target == *"app" => {
                Some(format!("{}; does the app listen there? (inbound.app, --app)", self.detail()))
            }
            Self::Connect { .. } => Some(self.detail()),
            _ => None,
        }
    }

    /// The same refusal for somebody who need not know where the target is, what is spoken with it and what is wrong with it.
    pub fn for_strangers(self) -> Self {
        match self {
            Self::Connect { target, why, .. } => {
                let detail = match why {
                    Fault::Dns | Fault::Refused | Fault::Tls => "it cannot be reached",
                    Fault::Reset => "it closed the connection before it answered",
                    Fault::Malformed => "its answer is not valid HTTP",
                    Fault::Full => "it is busy",
                };
                Self::Connect { target, why, detail: format!("{detail}; the proxy's log says more") }
            }
            other => other,
        }
    }

    /// Seconds for `Retry-After`, where waiting helps.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Limited(limited) => limited.retry_after.map(ceil_secs),
            Self::BreakerOpen { retry_after, .. } => retry_after.map(|wait| ceil_secs(wait).max(1)),
            Self::Overloaded(_) | Self::Stopping | Self::Connect { why: Fault::Full, .. } => Some(1),
            _ => None,
        }
    }

    /// Whether the request's connection must not be used again (its framing can no longer be trusted).
    pub fn closes(&self) -> bool {
        match self {
            Self::BadRequest(_) | Self::Unreadable(_) | Self::BodyBroken(_) | Self::BodyTooLarge(_) | Self::Stopping => true,
            Self::Timeout { bound, .. } => bound.is_clients(),
            _ => false,
        }
    }

    /// The answer as `application/problem+json` (RFC 9457). Provider routes replace the body by the provider's shape.
    /// `request_id`: the log has the request under it; `None`: no request was read.
    pub fn into_response(self, request_id: Option<&str>) -> Response<Body> {
        let problem = self.problem(request_id).to_string();
        self.respond("application/problem+json", problem)
    }

    /// The members of the problem; `request_id` is an extension member (RFC 9457 section 3.2).
    pub fn problem(&self, request_id: Option<&str>) -> serde_json::Value {
        let status = self.status();
        let mut problem = serde_json::json!({
            "title": status.canonical_reason().unwrap_or("Error"),
            "status": status.as_u16(),
            "detail": self.detail(),
            "reason": self.reason(),
        });
        if let Some(id) = request_id {
            problem["request_id"] = id.into();
        }
        problem
    }

    /// The answer to a gRPC call: a status and a message in the head, nothing after it ("Trailers-Only").
    /// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>
    pub fn into_grpc(self) -> Response<Body> {
        let code = self.grpc_code();
        let message = percent_encoding::percent_encode(self.detail().as_bytes(), GRPC_MESSAGE).to_string();
        let mut response = self.respond("application/grpc", String::new());
        *response.status_mut() = StatusCode::OK;
        *response.body_mut() = Body::Empty;
        response.headers_mut().insert("grpc-status", HeaderValue::from(code));
        if let Ok(message) = HeaderValue::from_str(&message) {
            response.headers_mut().insert("grpc-message", message);
        }
        response
    }

    /// The gRPC status that says the same. <https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>
    fn grpc_code(&self) -> u16 {
        const DEADLINE_EXCEEDED: u16 = 4;
        const PERMISSION_DENIED: u16 = 7;
        const RESOURCE_EXHAUSTED: u16 = 8;
        const UNIMPLEMENTED: u16 = 12;
        const INTERNAL: u16 = 13;
        const UNAVAILABLE: u16 = 14;
        match self.status().as_u16() {
            403 => PERMISSION_DENIED,
            404 | 405 | 421 => UNIMPLEMENTED,
            413 | 429 => RESOURCE_EXHAUSTED,
            502 | 503 => UNAVAILABLE,
            408 | 504 => DEADLINE_EXCEEDED,
            _ => INTERNAL,
        }
    }

    /// The answer with a body of the caller's choice.
    pub fn respond(self, content_type: &'static str, body: String) -> Response<Body> {
        let mut response = Response::new(Body::full(body));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let proxy_status = format!("outrigger; error={}; details=\"{}\"", self.proxy_status_error(), self.reason());
        if let Ok(value) = HeaderValue::from_str(&proxy_status) {
            headers.insert("proxy-status", value);
        }
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.closes() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if let Self::Limited(limited) = self {
            for (name, value) in limited.headers {
                headers.insert(name, value);
            }
        }
        response
    }
}

impl Coded {
    fn detail(&self) -> String {
        match self {
            Self::Unknown(name) => format!(
                "a policy of this route must read the body, and its content coding `{name}` is unknown: send it as gzip, deflate, zstd or br, or without a coding"
            ),
            Self::Broken => "a policy of this route must read the body, and it is not what its Content-Encoding says, or it is cut: \
                             send it again, or without a coding"
                .into(),
            Self::TooLarge(most) => format!(
                "a policy of this route must read the body, and its decoded text has more than {most} bytes: send it without a coding, send less, or raise bounds.max_body"
            ),
        }
    }
}

impl Limited {
    fn detail(&self) -> String {
        let unit = Unit::of_word(self.unit);
        let (amount, window) = (human::amount(unit, self.amount), human::per(self.window));
        let Some(wait) = self.retry_after else {
            return format!("this request alone may need more than the limit `{}` of {amount} {window}", self.limit);
        };
        let state = match self.remaining {
            0 => format!("of {amount} {window} is spent"),
            left => {
                let left = human::part_of(unit, left, self.amount);
                format!("has {left} {window} left, and this request may need more")
            }
        };
        format!("the limit `{}` {state}; try again in {}", self.limit, human::wait(wait))
    }
}

/// Whole seconds, never too few.
pub fn ceil_secs(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// What stands in a `grpc-message` as it is: printable ASCII without `%`.
const GRPC_MESSAGE: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b'%');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spent_limit_is_told_in_amounts_and_times_of_people() {
        let detail = |unit, amount, remaining, window, retry_after: Option<u64>| {
            let (window, retry_after) = (Duration::from_secs(window), retry_after.map(Duration::from_secs));
            Limited { limit: "budget".into(), unit, amount, window, retry_after, remaining, headers: Vec::new() }.detail()
        };
        for (said, expected) in [
            (
                detail("usd", 25_000_000_000, 60_000_000, 86_400, Some(88_680)),
                "the limit `budget` has $0.06 of $25 per day left, and this request may need more; try again in 24 h 38 min",
            ),
            (detail("usd", 500_000_000, 0, 3_600, Some(61)), "the limit `budget` of $0.50 per hour is spent; try again in 1 min 1 s"),
            (detail("requests", 1_000, 0, 60, Some(5)), "the limit `budget` of 1,000 requests per minute is spent; try again in 5 s"),
            (detail("tokens", 200, 200, 60, None), "this request alone may need more than the limit `budget` of 200 tokens per minute"),
        ] {
            assert_eq!(said, expected);
        }
    }
}
