//! The proxy's own refusals: one closed set, each with a status, a reason and a text that helps.
//!
//! A reject is not an upstream's own error. Metrics, retry and the caller tell them apart by `Proxy-Status` (RFC 9209) and by
//! the `reason` in the body.

mod coded;
mod gate;
mod invalid;
mod limited;
mod unproved;

use std::{borrow::Cow, sync::Arc, time::Duration};

use http::StatusCode;

use crate::{
    body::Body,
    config::human,
    http1::{Id, Refusal},
    message::Response,
};

pub use coded::Coded;
pub use gate::GatePolicy;
pub use invalid::{Invalid, InvalidFault, Violation};
pub use limited::{Limited, Why};
pub use unproved::{ProofFault, Unproved};

/// An answer, or the reject in its place.
pub type Answer = Result<Response<Body>, Reject>;

/// A refusal by the proxy itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Reject {
    /// The request is invalid or ambiguous.
    BadRequest(Cow<'static, str>),
    /// The bytes are no HTTP/1.1 request.
    Unreadable(Refusal),
    /// No target for this path.
    NotFound(Cow<'static, str>),
    /// No provider takes a call that names none: its model is unknown, or speaks another API than the path.
    NoModel(Cow<'static, str>),
    /// `Host` names another server.
    Misdirected(Cow<'static, str>),
    /// The address is not let in.
    Forbidden(Cow<'static, str>),
    /// The gate of the route does not let the request pass.
    Gate {
        /// The policy.
        policy: GatePolicy,
        /// Why, with the key that would let it.
        why: Cow<'static, str>,
    },
    /// `auth`: the request has not proved what its route asks for.
    Unproved(Box<Unproved>),
    /// `validate`: the request is not as its route says.
    Invalid(Box<Invalid>),
    /// The method is not proxied (CONNECT, TRACE).
    MethodNotAllowed,
    /// The request came from the proxy itself.
    Loop,
    /// The body has more than `max_body` bytes, the number given.
    BodyTooLarge(u64),
    /// A policy must read the body, but cannot for its content coding.
    BodyCoded(Coded),
    /// The client broke off its body, or its body is malformed.
    BodyBroken(Cow<'static, str>),
    /// A limit is spent.
    Limited(Box<Limited>),
    /// A dollar limit applies and this model has no price.
    Unpriced(Arc<str>),
    /// A limit in dollars or tokens applies, and no answer states the cost of this work. The text names the work.
    Unmetered(Cow<'static, str>),
    /// The process is at one of its bounds.
    Overloaded(Cow<'static, str>),
    /// The process leaves, and its time to shut down is over.
    Stopping,
    /// The target's breaker is open.
    BreakerOpen {
        /// The target's name.
        target: Arc<str>,
        /// The time until the next probe; `None`: the breaker is held open by hand.
        retry_after: Option<Duration>,
    },
    /// Every key of the provider rests.
    KeysRest {
        /// The provider's name.
        provider: Arc<str>,
        /// The time until the first key is used again.
        wait: Duration,
        /// Whether that key is throttled; else all are spent or refused.
        throttled: bool,
    },
    /// No connection to the target, or no response over it.
    Connect {
        /// The target's name.
        target: Arc<str>,
        /// The fault.
        why: Fault,
        /// The fault in words.
        detail: String,
    },
    /// A time bound passed.
    Timeout {
        /// The target's name.
        target: Arc<str>,
        /// The bound.
        bound: Bound,
        /// The length of the bound.
        after: Duration,
    },
    /// The client asked for a stored answer alone (`only-if-cached`), and there is none.
    NotCached,
    /// A fault of the proxy itself.
    Internal(Cow<'static, str>),
}

/// A fault between the proxy and a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Fault {
    Dns,
    Refused,
    Tls,
    /// The connection was closed or reset before a response head.
    Reset,
    /// The response is not valid HTTP.
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
    /// The caller's own time to wait.
    Caller,
    BodyIdle,
    BodyRate,
}

impl Bound {
    /// The key in `timeouts`; for a bound on the client's body, the key in `bounds`.
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

    /// Whether the time of the whole request is over: no other target may be tried.
    pub fn ends_all(self) -> bool {
        matches!(self, Self::Total | Self::Caller)
    }

    /// Whether the client took too long.
    pub fn is_clients(self) -> bool {
        matches!(self, Self::BodyIdle | Self::BodyRate)
    }
}

impl Reject {
    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) | Self::BodyBroken(_) => StatusCode::BAD_REQUEST,
            Self::Unreadable(refusal) => StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST),
            Self::NotFound(_) | Self::NoModel(_) => StatusCode::NOT_FOUND,
            Self::Misdirected(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::Forbidden(_) | Self::Gate { .. } | Self::Unpriced(_) | Self::Unmetered(_) => StatusCode::FORBIDDEN,
            Self::Unproved(unproved) => unproved.fault.status(),
            Self::Invalid(invalid) => invalid.fault.status(),
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::BodyTooLarge(_) | Self::BodyCoded(Coded::TooLarge(_)) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyCoded(Coded::Unknown(_)) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::BodyCoded(Coded::Broken) => StatusCode::BAD_REQUEST,
            Self::Limited(_) | Self::KeysRest { throttled: true, .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Overloaded(_)
            | Self::Stopping
            | Self::BreakerOpen { .. }
            | Self::KeysRest { throttled: false, .. }
            | Self::Connect { why: Fault::Full, .. } => StatusCode::SERVICE_UNAVAILABLE,
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
            Self::NoModel(_) => "unknown_model",
            Self::Misdirected(_) => "misdirected",
            Self::Forbidden(_) => "access_denied",
            Self::Gate { policy, .. } => policy.reason(),
            Self::Unproved(unproved) => unproved.fault.reason(),
            Self::Invalid(invalid) => invalid.fault.reason(),
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Loop => "loop",
            Self::BodyTooLarge(_) => "body_too_large",
            Self::BodyBroken(_) => "body_broken",
            Self::BodyCoded(Coded::Unknown(_)) => "coding_unknown",
            Self::BodyCoded(Coded::Broken) => "coding_broken",
            Self::BodyCoded(Coded::TooLarge(_)) => "decoded_too_large",
            Self::Limited(limited) => limited.why.reason(),
            Self::Unpriced(_) => "unpriced_model",
            Self::Unmetered(_) => "unmetered",
            Self::Overloaded(_) => "overloaded",
            Self::Stopping => "stopping",
            Self::BreakerOpen { .. } => "breaker_open",
            Self::KeysRest { .. } => "keys_rest",
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
            | Self::Invalid(_)
            | Self::MethodNotAllowed => "http_request_error",
            Self::NotFound(_) | Self::NoModel(_) | Self::Misdirected(_) => "destination_not_found",
            Self::Forbidden(_) | Self::Gate { .. } | Self::Unproved(_) | Self::Unpriced(_) | Self::Unmetered(_) | Self::Limited(_) => {
                "http_request_denied"
            }
            Self::Loop => "proxy_loop_detected",
            Self::Overloaded(_) | Self::Stopping => "proxy_internal_response",
            Self::BreakerOpen { .. } | Self::KeysRest { .. } => "destination_unavailable",
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
            Self::NoModel(why) | Self::Gate { why, .. } | Self::Overloaded(why) | Self::Internal(why) => why.to_string(),
            Self::Unproved(unproved) => unproved.why.to_string(),
            Self::Invalid(invalid) => invalid.detail(),
            Self::Unreadable(refusal) => refusal.text().into(),
            Self::Stopping => "the proxy is shutting down and cannot wait for this answer (shutdown.deadline)".into(),
            Self::MethodNotAllowed => "this method is not proxied".into(),
            Self::Loop => "the request has already passed through this proxy (Via)".into(),
            Self::BodyTooLarge(limit) => format!("the request body is larger than {limit} bytes (bounds.max_body)"),
            Self::BodyCoded(coded) => coded.detail(),
            Self::Limited(limited) => limited.detail(),
            Self::Unpriced(model) if model.is_empty() => {
                "a dollar limit applies and the request names no model, so that it has no price: is its body the JSON of a call?".into()
            }
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
            Self::KeysRest { provider, wait, throttled: true } => {
                format!("every key of {provider} is throttled or refused; the first one works again in {}", human::wait(*wait))
            }
            Self::KeysRest { provider, wait, throttled: false } => {
                format!("every key of {provider} is spent or refused; the next one is tried again in {}", human::wait(*wait))
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

    /// The finding about a target, for an operator: the text may name addresses, ports and certificates.
    pub fn finding(&self) -> Option<String> {
        match self {
            Self::Connect { target, why: Fault::Refused, .. } if **target == *"app" => {
                Some(format!("{}; does the app listen there? (inbound.app, --app)", self.detail()))
            }
            Self::Connect { .. } => Some(self.detail()),
            _ => None,
        }
    }

    /// The same refusal for strangers. Its text does not tell the target's address or protocol, nor the details of the fault.
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

    /// Seconds for `Retry-After`; `None`: a wait does not help.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Limited(limited) => limited.retry_after.map(ceil_secs),
            Self::Unproved(unproved) => unproved.fault.wait().map(ceil_secs),
            Self::BreakerOpen { retry_after, .. } => retry_after.map(|wait| ceil_secs(wait).max(1)),
            Self::KeysRest { wait, .. } => Some(ceil_secs(*wait).max(1)),
            Self::Overloaded(_) | Self::Stopping | Self::Connect { why: Fault::Full, .. } => Some(1),
            _ => None,
        }
    }

    /// Whether the request's connection must be closed: its framing can no longer be trusted, or the process leaves.
    pub fn closes(&self) -> bool {
        match self {
            Self::BadRequest(_) | Self::Unreadable(_) | Self::BodyBroken(_) | Self::BodyTooLarge(_) | Self::Stopping => true,
            Self::Timeout { bound, .. } => bound.is_clients(),
            _ => false,
        }
    }

    /// The answer as `application/problem+json` (RFC 9457). Provider routes use the provider's shape instead.
    /// `request_id` finds the request in the log; `None`: no request was read.
    pub fn into_response(self, request_id: Option<&str>) -> Response<Body> {
        let problem = self.problem(request_id).to_string();
        self.respond("application/problem+json", problem)
    }

    /// The members of the problem. `reason` and `request_id` are extension members (RFC 9457 section 3.2).
    pub fn problem(&self, request_id: Option<&str>) -> serde_json::Value {
        let status = self.status();
        let mut problem = serde_json::json!({
            "title": status.canonical_reason().unwrap_or("Error"),
            "status": status.as_u16(),
            "detail": self.detail(),
            "reason": self.reason(),
        });
        if let Self::Invalid(invalid) = self {
            invalid.add_to(&mut problem);
        }
        if let Some(id) = request_id {
            problem["request_id"] = id.into();
        }
        problem
    }

    /// The answer to a gRPC call: a status and a message in the head, and no body ("Trailers-Only").
    /// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>
    pub fn into_grpc(self) -> Response<Body> {
        let code = self.grpc_code();
        let message = percent_encoding::percent_encode(self.detail().as_bytes(), GRPC_MESSAGE).to_string();
        let mut response = self.respond("application/grpc", String::new());
        *response.status_mut() = StatusCode::OK;
        *response.body_mut() = Body::Empty;
        response.headers_mut().insert_number("grpc-status", code.into());
        response.headers_mut().insert("grpc-message", message);
        response
    }

    /// The gRPC status with the same meaning. <https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>
    fn grpc_code(&self) -> u16 {
        const DEADLINE_EXCEEDED: u16 = 4;
        const PERMISSION_DENIED: u16 = 7;
        const RESOURCE_EXHAUSTED: u16 = 8;
        const UNIMPLEMENTED: u16 = 12;
        const INTERNAL: u16 = 13;
        const UNAVAILABLE: u16 = 14;
        const UNAUTHENTICATED: u16 = 16;
        match self.status().as_u16() {
            401 => UNAUTHENTICATED,
            403 => PERMISSION_DENIED,
            404 | 405 | 421 => UNIMPLEMENTED,
            413 | 429 => RESOURCE_EXHAUSTED,
            502 | 503 => UNAVAILABLE,
            408 | 504 => DEADLINE_EXCEEDED,
            _ => INTERNAL,
        }
    }

    /// The answer with this body.
    pub fn respond(self, content_type: &'static str, body: String) -> Response<Body> {
        let mut response = Response::new(Body::full(body));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(Id::ContentType, content_type);
        headers.insert(Id::CacheControl, "no-store");
        let proxy_status = format!("outrigger; error={}; details=\"{}\"", self.proxy_status_error(), self.reason());
        headers.insert("proxy-status", proxy_status);
        if let Some(seconds) = self.retry_after() {
            headers.insert_number(Id::RetryAfter, seconds);
        }
        if self.closes() {
            headers.insert(Id::Connection, "close");
        }
        match self {
            Self::Limited(limited) => headers.extend(&limited.headers),
            Self::Invalid(invalid) => {
                // RFC 9110 section 15.5.6.
                if let InvalidFault::Method(allowed) = &invalid.fault {
                    headers.insert("allow", allowed);
                }
            }
            Self::Unproved(unproved) => unproved.challenges.iter().for_each(|one| headers.append(Id::WwwAuthenticate, one)),
            _ => {}
        }
        response
    }
}

/// Whole seconds, rounded up.
pub fn ceil_secs(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// The characters that are encoded in a `grpc-message`, beside those that are not ASCII: controls and `%`.
const GRPC_MESSAGE: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b'%');
