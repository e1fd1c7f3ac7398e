//! One request from its head to its answer: its API, its fault, its cost.

use std::{future, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header, request::Parts};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::Value;

use crate::{
    body::coding::{self, Text},
    clock,
    config::Api,
    http1::Fields,
    usage::Usage,
};

use super::{
    anthropic,
    call::{Answer, Ask, Content, Refusal},
    control, errors,
    faults::{Before, Fault, Within},
    gemini::{self, Form},
    hash_credential,
    ledger::{Ledger, Seen, Ticket},
    openai,
    stream::{Pieces, Reply, Severed},
    wire::Steer,
};

/// Largest request body.
const MOST_BODY: usize = 64 * 1024 * 1024;

/// The request header that names a fault.
const FAULT: &str = "x-mock-fault";

/// The meaning of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Endpoint {
    Chat,
    Completions,
    Responses,
    Embeddings,
    Messages,
    CountTokens,
    Models,
    Model(String),
    Gemini(String, Form),
    Unknown,
}

impl Endpoint {
    fn find(method: &Method, uri: &Uri) -> Self {
        let path = uri.path();
        match (method.as_str(), path) {
            ("POST", "/v1/chat/completions") => Self::Chat,
            ("POST", "/v1/completions") => Self::Completions,
            ("POST", "/v1/responses") => Self::Responses,
            ("POST", "/v1/embeddings") => Self::Embeddings,
            ("POST", "/v1/messages") => Self::Messages,
            ("POST", "/v1/messages/count_tokens") => Self::CountTokens,
            ("GET", "/v1/models") => Self::Models,
            ("POST", _) => Self::gemini(path, uri.query().unwrap_or_default()).unwrap_or(Self::Unknown),
            ("GET", _) => path.strip_prefix("/v1/models/").map_or(Self::Unknown, |id| Self::Model(id.to_owned())),
            _ => Self::Unknown,
        }
    }

    fn gemini(path: &str, query: &str) -> Option<Self> {
        let rest = path.strip_prefix("/v1beta/models/").or_else(|| path.strip_prefix("/v1/models/"))?;
        let (model, action) = rest.rsplit_once(':')?;
        let form = match action {
            "generateContent" => Form::Whole,
            "streamGenerateContent" if query.split('&').any(|pair| pair == "alt=sse") => Form::Events,
            "streamGenerateContent" => Form::Array,
            _ => return None,
        };
        Some(Self::Gemini(model.to_owned(), form))
    }

    fn api(&self, parts: &Parts) -> Api {
        match self {
            Self::Messages | Self::CountTokens => Api::Anthropic,
            Self::Gemini(..) => Api::Gemini,
            _ if parts.headers.contains_key("anthropic-version") => Api::Anthropic,
            _ if parts.headers.contains_key("x-goog-api-key") => Api::Gemini,
            _ => Api::OpenAi,
        }
    }
}

/// One request under way.
struct Exchange {
    ledger: Arc<Ledger>,
    api: Api,
    serial: u64,
    request_id: String,
    credential: String,
    fault: Fault,
}

/// Answers one request; an error closes the connection without an answer.
pub(super) async fn handle(ledger: Arc<Ledger>, steer: Steer, request: Request<Incoming>) -> Result<Response<Reply>, Severed> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, MOST_BODY).collect().await.map(|body| body.to_bytes());
    if parts.uri.path().starts_with("/mock/") {
        return Ok(control::answer(&ledger, &parts.method, parts.uri.path(), &body.unwrap_or_default()));
    }
    let endpoint = Endpoint::find(&parts.method, &parts.uri);
    let api = endpoint.api(&parts);
    let ticket = Ticket::open(&ledger);
    let serial = ledger.next_serial();
    let named = parts.headers.get(FAULT).map(|value| value.to_str().unwrap_or_default().parse::<Fault>());
    let (fault, unknown) = match named {
        Some(Ok(fault)) => (fault, None),
        Some(Err(unknown)) => (Fault::default(), Some(unknown)),
        None => (ledger.next_fault(errors::overloaded(api)).unwrap_or_default(), None),
    };
    let credential = hash_credential(credential(&parts).unwrap_or_default());
    if ledger.remembers() {
        ledger.remember(seen(serial, &parts, &fault), body.as_deref().unwrap_or_default());
    }
    let exchange = Exchange { ledger, api, serial, request_id: format!("req_mock{serial:08x}"), credential, fault };
    if let Some(unknown) = unknown {
        return Ok(exchange.refused(ticket, &Refusal::bad(unknown.to_string())));
    }
    let Ok(body) = body else {
        return Ok(exchange.refused(ticket, &Refusal { status: 413, message: "the request body is broken or too large".to_owned() }));
    };
    if exchange.fault.is_failure() {
        ticket.fault();
    }
    if let Err(severed) = exchange.before(&steer).await {
        ticket.finish();
        return Err(severed);
    }
    if let Some(failure) = exchange.failure(&body) {
        ticket.finish();
        return Ok(failure);
    }
    if let Some(refusal) = exchange.check(&endpoint, &parts) {
        return Ok(exchange.refused(ticket, &refusal));
    }
    let value = match endpoint {
        Endpoint::Models | Endpoint::Model(_) => Value::Null,
        _ => match serde_json::from_slice(&decoded(&parts.headers, &body)) {
            Ok(value @ Value::Object(_)) => value,
            _ => return Ok(exchange.refused(ticket, &Refusal::bad("We could not parse the JSON body of your request."))),
        },
    };
    match exchange.ask(&endpoint, &value, &parts) {
        Ok(Asked::Free(value)) => {
            ticket.finish();
            Ok(exchange.respond(StatusCode::OK, &value))
        }
        Ok(Asked::Billed(answer)) => Ok(exchange.deliver(answer, ticket, steer).await),
        Err(refusal) => {
            ticket.finish();
            Ok(exchange.error(refusal.status, &refusal.message))
        }
    }
}

enum Asked {
    Free(Value),
    Billed(Answer),
}

impl Exchange {
    /// The latency to the head, and the faults that replace the head.
    async fn before(&self, steer: &Steer) -> Result<(), Severed> {
        let latency = self.fault.slow.unwrap_or(self.ledger.options.latency);
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        match self.fault.before {
            None => Ok(()),
            Some(Before::Hang) => future::pending().await,
            Some(Before::Close) => Err(Severed),
            Some(Before::Reset) => {
                steer.reset();
                Err(Severed)
            }
            Some(Before::Garbage) => {
                steer.garble();
                Ok(())
            }
        }
    }

    /// The error answer that the fault asks for, if any.
    fn failure(&self, body: &[u8]) -> Option<Response<Reply>> {
        let fault = &self.fault;
        let mut response = if fault.quota {
            json_response(StatusCode::TOO_MANY_REQUESTS, &errors::quota(self.api, &self.request_id))
        } else {
            let status = match (&fault.status, &fault.within) {
                (Some(status), _) => *status,
                // Outside a stream this error type has a status.
                (None, Some((_, Within::Error(kind)))) if !wants_stream(body) => errors::status_of(self.api, kind),
                _ => return None,
            };
            if fault.html { html(status) } else { self.error(status, &format!("The mock was told to answer {status}.")) }
        };
        let headers = response.headers_mut();
        self.add_headers(headers);
        for (name, value) in &fault.headers {
            // Gemini gives the time in the body only.
            if self.api == Api::Gemini && *name == "retry-after" {
                continue;
            }
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(*name, value);
            }
        }
        Some(response)
    }

    /// The checks that the provider makes before it reads the body.
    fn check(&self, endpoint: &Endpoint, parts: &Parts) -> Option<Refusal> {
        if *endpoint == Endpoint::Unknown {
            return Some(Refusal { status: 404, message: format!("Invalid URL ({} {})", parts.method, parts.uri.path()) });
        }
        if credential(parts).is_some_and(|credential| credential.ends_with("invalid")) {
            return Some(Refusal { status: 401, message: "Incorrect API key provided.".to_owned() });
        }
        if self.api == Api::Anthropic && !parts.headers.contains_key("anthropic-version") {
            return Some(Refusal::bad("anthropic-version: header is required"));
        }
        None
    }

    fn ask(&self, endpoint: &Endpoint, body: &Value, parts: &Parts) -> Result<Asked, Refusal> {
        let ledger = &self.ledger;
        let ask = Ask {
            body,
            fault: &self.fault,
            options: &ledger.options,
            serial: self.serial,
            unix: ledger.clock.unix_millis() / 1000,
            credential: &self.credential,
            prompts: &ledger.prompts,
        };
        let anthropic = parts.headers.contains_key("anthropic-version");
        Ok(match endpoint {
            Endpoint::Chat => Asked::Billed(openai::chat(&ask)?),
            Endpoint::Completions => Asked::Billed(openai::completions(&ask)?),
            Endpoint::Responses => Asked::Billed(openai::responses(&ask)?),
            Endpoint::Embeddings => Asked::Billed(openai::embeddings(&ask)?),
            Endpoint::Messages => Asked::Billed(anthropic::messages(&ask)?),
            Endpoint::Gemini(model, form) => Asked::Billed(gemini::generate(&ask, model, *form)?),
            Endpoint::CountTokens => Asked::Free(anthropic::count_tokens(&ask)?),
            Endpoint::Models if anthropic => Asked::Free(anthropic::models()),
            Endpoint::Models => Asked::Free(openai::models(ask.unix)),
            Endpoint::Model(id) if anthropic => Asked::Free(anthropic::model(id)),
            Endpoint::Model(id) => Asked::Free(openai::model(id, ask.unix)),
            Endpoint::Unknown => return Err(Refusal { status: 404, message: "Not found".to_owned() }),
        })
    }

    /// Sends a good answer at its pace, as far as the fault allows.
    async fn deliver(&self, answer: Answer, mut ticket: Ticket, steer: Steer) -> Response<Reply> {
        let rate = self.fault.rate.unwrap_or(self.ledger.options.tokens_per_second);
        let mut response = match answer.content {
            Content::Pieces { content_type, pieces, error } => {
                ticket.charge(&answer.model, &self.credential, Usage { output: 0, ..answer.usage });
                let words = match &self.fault.within {
                    Some((_, Within::Error(kind))) => error(kind),
                    _ => Bytes::new(),
                };
                let body = Pieces::new(pieces, rate, ticket, steer).broken(self.fault.within.clone(), words);
                let mut response = Response::new(Reply::Pieces(Box::new(body)));
                response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
                response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
                response
            }
            Content::Whole(value) => {
                if rate > 0 && answer.usage.output > 0 {
                    tokio::time::sleep(Duration::from_secs_f64(answer.usage.output as f64 / f64::from(rate))).await;
                }
                ticket.charge(&answer.model, &self.credential, answer.usage);
                match &self.fault.within {
                    Some((_, within)) if *within != Within::End => half(&value, within.clone(), ticket, steer),
                    _ => {
                        ticket.finish();
                        json_response(StatusCode::OK, &value)
                    }
                }
            }
        };
        self.add_headers(response.headers_mut());
        response
    }

    fn respond(&self, status: StatusCode, value: &Value) -> Response<Reply> {
        let mut response = json_response(status, value);
        self.add_headers(response.headers_mut());
        response
    }

    fn error(&self, status: u16, message: &str) -> Response<Reply> {
        let retry_after = self.fault.headers.iter().find(|(name, _)| *name == "retry-after").map(|(_, value)| value.as_str());
        let status_code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        self.respond(status_code, &errors::body(self.api, status, message, &self.request_id, retry_after))
    }

    fn refused(&self, ticket: Ticket, refusal: &Refusal) -> Response<Reply> {
        ticket.finish();
        self.error(refusal.status, &refusal.message)
    }

    /// Adds the request id and the state of limits that are never reached, under the provider's own names.
    fn add_headers(&self, headers: &mut HeaderMap) {
        const REQUESTS: u64 = 10_000;
        const TOKENS: u64 = 2_000_000;
        let left = REQUESTS - self.serial % REQUESTS;
        let tokens_left = TOKENS - (self.serial * 100) % TOKENS;
        let mut add = |name: &'static str, value: String| {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        match self.api {
            Api::Anthropic => {
                let reset = clock::unix(self.ledger.clock.wall()) + Duration::from_secs(1);
                let reset = humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + reset).to_string();
                add("request-id", self.request_id.clone());
                add("anthropic-ratelimit-requests-limit", REQUESTS.to_string());
                add("anthropic-ratelimit-requests-remaining", left.to_string());
                add("anthropic-ratelimit-requests-reset", reset.clone());
                add("anthropic-ratelimit-tokens-limit", TOKENS.to_string());
                add("anthropic-ratelimit-tokens-remaining", (tokens_left / 1000 * 1000).to_string());
                add("anthropic-ratelimit-tokens-reset", reset);
            }
            Api::Gemini => {}
            _ => {
                add("x-request-id", self.request_id.clone());
                add("openai-version", "2020-10-01".to_owned());
                add("openai-processing-ms", self.ledger.options.latency.as_millis().to_string());
                add("x-ratelimit-limit-requests", REQUESTS.to_string());
                add("x-ratelimit-remaining-requests", left.to_string());
                add("x-ratelimit-reset-requests", "6ms".to_owned());
                add("x-ratelimit-limit-tokens", TOKENS.to_string());
                add("x-ratelimit-remaining-tokens", tokens_left.to_string());
                add("x-ratelimit-reset-tokens", "12ms".to_owned());
            }
        }
    }
}

pub(super) fn json_response(status: StatusCode, value: &Value) -> Response<Reply> {
    let mut response = Response::new(Reply::whole(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn html(status: u16) -> Response<Reply> {
    let mut response = Response::new(Reply::whole(format!("<html><head><title>{status}</title></head><body>Bad gateway</body></html>\n")));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
    response
}

/// The first half of a body with its full length announced.
fn half(value: &Value, within: Within, ticket: Ticket, steer: Steer) -> Response<Reply> {
    let whole = value.to_string();
    let piece = super::call::Piece { bytes: Bytes::copy_from_slice(&whole.as_bytes()[..whole.len() / 2]), tokens: 0 };
    let body = Pieces::new(vec![piece], 0, ticket, steer).broken(Some((1, within)), Bytes::new());
    let mut response = Response::new(Reply::Pieces(Box::new(body)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(whole.len()));
    response
}

/// The decoded body of a request; a body that cannot be decoded stays as it is, and is then no JSON.
fn decoded(headers: &HeaderMap, body: &Bytes) -> Bytes {
    const MOST: u64 = 64 << 20;
    match coding::decode(&Fields::from(headers), body, MOST) {
        Text::Decoded(text) => text,
        _ => body.clone(),
    }
}

fn wants_stream(body: &[u8]) -> bool {
    serde_json::from_slice::<Value>(body).is_ok_and(|body| body["stream"] == true)
}

/// The credential as sent: bearer token, `x-api-key`, `x-goog-api-key` or `?key=`.
fn credential(parts: &Parts) -> Option<&str> {
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = || header("authorization").map(|value| value.strip_prefix("Bearer ").unwrap_or(value));
    let query = || parts.uri.query()?.split('&').find_map(|pair| pair.strip_prefix("key="));
    header("x-api-key").or_else(|| header("x-goog-api-key")).or_else(bearer).or_else(query)
}

fn seen(serial: u64, parts: &Parts, fault: &Fault) -> Seen {
    let secret = |name: &HeaderName| ["authorization", "x-api-key", "x-goog-api-key", "cookie"].contains(&name.as_str());
    let headers = parts.headers.iter().map(|(name, value)| {
        let text = String::from_utf8_lossy(value.as_bytes());
        let text = if secret(name) { hash_credential(text.strip_prefix("Bearer ").unwrap_or(&text)) } else { text.into_owned() };
        (name.as_str().to_owned(), text)
    });
    let query = parts.uri.query().map(|query| {
        let pairs = query.split('&').map(|pair| match pair.strip_prefix("key=") {
            Some(key) => format!("key={}", hash_credential(key)),
            None => pair.to_owned(),
        });
        format!("?{}", pairs.collect::<Vec<_>>().join("&"))
    });
    Seen {
        serial,
        method: parts.method.to_string(),
        path: format!("{}{}", parts.uri.path(), query.unwrap_or_default()),
        headers: headers.collect(),
        body: String::new(),
        fault: fault.text.clone(),
    }
}
