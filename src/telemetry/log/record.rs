//! One exchange as one line: JSON (RFC 8259) or text. Secrets stay out: values of query parameters with secret-looking names
//! are masked, and headers and bodies have no field.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use http::Method;
use opentelemetry::{SpanId, TraceId};

use super::write::{address, decimal, escape, hex, timestamp};
use crate::{
    arrival::Door,
    usage::{Usage, UsageSource},
};

/// A member's key with what stands around it.
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ExchangeOutcome {
    Complete,
    /// The client left before the last byte.
    ClientGone,
    /// The upstream's answer broke off.
    UpstreamBroken,
    /// The proxy answered by itself.
    Rejected,
    /// The exchange was over before its cost became known.
    ChargedLate,
    /// The proxy ended the exchange at the end of its shutdown time.
    Stopped,
}

impl ExchangeOutcome {
    /// The word used in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientGone => "client_gone",
            Self::UpstreamBroken => "upstream_broken",
            Self::Rejected => "rejected",
            Self::ChargedLate => "charged_late",
            Self::Stopped => "stopped",
        }
    }
}

/// The tokens that a model call used.
#[derive(Debug, Clone, Copy)]
pub struct Tokens {
    /// By class.
    pub usage: Usage,
    /// The source of the numbers.
    pub source: UsageSource,
}

/// The facts of an exchange at its end. `None` and empty texts are left out of the line.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Wall time of the arrival.
    pub at: SystemTime,
    /// The request id.
    pub request_id: &'a str,
    /// The trace, if one is known.
    pub trace_id: Option<TraceId>,
    /// The span of the exchange. A line for a collector has it; the line of the log names the trace alone.
    pub span_id: Option<SpanId>,
    /// The listener.
    pub door: Door,
    /// The route's name.
    pub route: &'a str,
    /// The caller; a credential is hashed before it comes here.
    pub caller: &'a str,
    /// The client's address.
    pub client: IpAddr,
    /// As sent.
    pub method: &'a Method,
    /// As sent.
    pub host: &'a str,
    /// As sent.
    pub path: &'a str,
    /// As sent, without `?`; masked when it is written.
    pub query: &'a str,
    /// Status sent to the client; 0 if none was.
    pub status: u16,
    /// The reject's reason, if the proxy answered by itself.
    pub reason: Option<&'a str>,
    /// The reason in a sentence, if that says more: clients may be told less.
    pub detail: &'a str,
    /// The limit that refused.
    pub limit: &'a str,
    /// Observing limits that would have refused, separated by spaces.
    pub would_refuse: &'a str,
    /// What the cache did (`none`: the route has none).
    pub cache: &'a str,
    /// The target of the last try.
    pub target: &'a str,
    /// The name of the key of the last try, of a provider with several keys.
    pub key: &'a str,
    /// Tries made.
    pub tries: u32,
    /// Outcomes of the tries that were thrown away, in order.
    pub thrown_away: &'a [&'static str],
    /// The fallback that answered: a provider, or `respond`.
    pub fallback: &'a str,
    /// To the last byte.
    pub total: Duration,
    /// The last try, to its response head.
    pub upstream: Option<Duration>,
    /// To the first byte of the answer's body.
    pub first_byte: Option<Duration>,
    /// Streams: to the first event with content.
    pub first_token: Option<Duration>,
    /// Body bytes from the client.
    pub bytes_in: u64,
    /// Body bytes to the client.
    pub bytes_out: u64,
    /// Provider, for model calls.
    pub provider: &'a str,
    /// Operation, for model calls.
    pub operation: &'a str,
    /// Model calls: the model asked at the target that answered.
    pub model: &'a str,
    /// Model calls: the model that the app asked for, if it is another.
    pub asked_model: &'a str,
    /// Whether the model call streamed.
    pub stream: Option<bool>,
    /// The tokens that the model call used.
    pub tokens: Option<Tokens>,
    /// Nano-dollars.
    pub cost: Option<u64>,
    /// Request id of the inbound exchange that caused this one.
    pub cause: &'a str,
    /// The request id as the provider sees it, if it is another.
    pub sent_request_id: &'a str,
    /// How it ended.
    pub outcome: ExchangeOutcome,
}

impl Record<'_> {
    /// Appends the record as one JSON object and a line feed.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        self.write_json_of_the_request(out);
        if self.status != 0 {
            number(out, key!("status"), u64::from(self.status));
        }
        word(out, key!("outcome"), self.outcome.as_str());
        text(out, key!("reason"), self.reason.unwrap_or_default());
        text(out, key!("detail"), self.detail);
        text(out, key!("limit"), self.limit);
        text(out, key!("would_refuse"), self.would_refuse);
        if self.cache != "none" {
            text(out, key!("cache"), self.cache);
        }
        text(out, key!("target"), self.target);
        text(out, key!("key"), self.key);
        number(out, key!("tries"), u64::from(self.tries));
        if !self.thrown_away.is_empty() {
            out.extend_from_slice(key!("thrown_away").as_bytes());
            words(out, self.thrown_away);
        }
        text(out, key!("fallback"), self.fallback);
        millis(out, key!("duration_ms"), Some(self.total));
        millis(out, key!("upstream_ms"), self.upstream);
        millis(out, key!("first_byte_ms"), self.first_byte);
        millis(out, key!("first_token_ms"), self.first_token);
        number(out, key!("bytes_in"), self.bytes_in);
        number(out, key!("bytes_out"), self.bytes_out);
        text(out, key!("provider"), self.provider);
        text(out, key!("operation"), self.operation);
        text(out, key!("model"), self.model);
        text(out, key!("asked_model"), self.asked_model);
        if let Some(stream) = self.stream {
            out.extend_from_slice(key!("stream").as_bytes());
            out.extend_from_slice(if stream { b"true" } else { b"false" });
        }
        if let Some(tokens) = &self.tokens {
            json_tokens(out, tokens);
        }
        if let Some(nano) = self.cost {
            out.extend_from_slice(key!("cost_usd").as_bytes());
            decimal(out, nano, 9);
        }
        text(out, key!("cause"), self.cause);
        text(out, key!("sent_request_id"), self.sent_request_id);
        out.extend_from_slice(b"}\n");
    }

    /// The request's half: the first half of the object.
    fn write_json_of_the_request(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"timestamp\":\"");
        timestamp(out, self.at);
        out.push(b'"');
        text(out, key!("request_id"), self.request_id);
        if let Some(id) = self.trace_id.filter(|id| *id != TraceId::INVALID) {
            out.extend_from_slice(key!("trace_id").as_bytes());
            out.push(b'"');
            hex(out, &id.to_bytes());
            out.push(b'"');
        }
        word(out, key!("door"), self.door.as_str());
        text(out, key!("route"), self.route);
        text(out, key!("caller"), self.caller);
        out.extend_from_slice(key!("client_ip").as_bytes());
        out.push(b'"');
        address(out, self.client);
        out.push(b'"');
        word(out, key!("method"), self.method.as_str());
        text(out, key!("host"), self.host);
        out.extend_from_slice(key!("path").as_bytes());
        out.push(b'"');
        escape(out, self.path.as_bytes());
        masked_query(out, self.query);
        out.push(b'"');
    }

    /// Appends the record as one line for a person.
    pub fn write_text(&self, out: &mut Vec<u8>) {
        timestamp(out, self.at);
        for word in [self.door.as_str(), self.method.as_str()] {
            out.push(b' ');
            out.extend_from_slice(word.as_bytes());
        }
        out.push(b' ');
        escape(out, self.path.as_bytes());
        masked_query(out, self.query);
        out.push(b' ');
        decimal(out, u64::from(self.status), 0);
        out.push(b' ');
        decimal(out, micros(self.total), 3);
        out.extend_from_slice(b"ms");
        if self.outcome != ExchangeOutcome::Complete {
            pair(out, "outcome", self.outcome.as_str());
        }
        pair(out, "reason", self.reason.unwrap_or_default());
        if self.cache != "none" {
            pair(out, "cache", self.cache);
        }
        for (name, value) in [("route", self.route), ("caller", self.caller), ("target", self.target), ("key", self.key)] {
            pair(out, name, value);
        }
        if self.tries > 1 {
            out.extend_from_slice(b" tries=");
            decimal(out, u64::from(self.tries), 0);
        }
        pair(out, "limit", self.limit);
        pair(out, "would_refuse", self.would_refuse);
        pair(out, "fallback", self.fallback);
        pair(out, "model", self.model);
        pair(out, "asked_model", self.asked_model);
        if let Some(tokens) = &self.tokens {
            out.extend_from_slice(b" tokens=");
            decimal(out, tokens.usage.total_input(), 0);
            out.push(b'+');
            decimal(out, tokens.usage.total_output(), 0);
        }
        if let Some(nano) = self.cost {
            out.extend_from_slice(b" cost=$");
            decimal(out, nano, 9);
        }
        pair(out, "cause", self.cause);
        pair(out, "request_id", self.request_id);
        if !self.detail.is_empty() {
            // Only this value has spaces.
            out.extend_from_slice(b" detail=\"");
            escape(out, self.detail.as_bytes());
            out.push(b'"');
        }
        out.push(b'\n');
    }
}

/// A list of words of our own, which need no escaping.
fn words(out: &mut Vec<u8>, words: &[&'static str]) {
    out.push(b'[');
    for (at, word) in words.iter().enumerate() {
        out.extend_from_slice(if at == 0 { b"\"" } else { b",\"" });
        out.extend_from_slice(word.as_bytes());
        out.push(b'"');
    }
    out.push(b']');
}

fn json_tokens(out: &mut Vec<u8>, tokens: &Tokens) {
    let usage = &tokens.usage;
    out.extend_from_slice(key!("tokens").as_bytes());
    out.extend_from_slice(b"{\"source\":\"");
    out.extend_from_slice(tokens.source.as_str().as_bytes());
    out.push(b'"');
    number(out, key!("input"), usage.input);
    number(out, key!("output"), usage.output);
    let rare = [
        (key!("cache_read"), usage.cache_read),
        (key!("cache_write"), usage.cache_write),
        (key!("cache_write_1h"), usage.cache_write_1h),
        (key!("audio_input"), usage.audio_input),
        (key!("audio_cache_read"), usage.audio_cache_read),
        (key!("audio_output"), usage.audio_output),
        (key!("image_input"), usage.image_input),
        (key!("image_cache_read"), usage.image_cache_read),
        (key!("image_output"), usage.image_output),
        (key!("reasoning"), usage.reasoning),
    ];
    for (name, count) in rare.into_iter().filter(|(_, count)| *count > 0) {
        number(out, name, count);
    }
    out.push(b'}');
}

/// A member's text, from any source. An empty text is left out.
fn text(out: &mut Vec<u8>, key: &'static str, value: &str) {
    if !value.is_empty() {
        out.extend_from_slice(key.as_bytes());
        out.push(b'"');
        escape(out, value.as_bytes());
        out.push(b'"');
    }
}

/// A member's word of our own, or a token: it needs no escaping.
fn word(out: &mut Vec<u8>, key: &'static str, value: &str) {
    out.extend_from_slice(key.as_bytes());
    out.push(b'"');
    out.extend_from_slice(value.as_bytes());
    out.push(b'"');
}

fn number(out: &mut Vec<u8>, key: &'static str, value: u64) {
    out.extend_from_slice(key.as_bytes());
    decimal(out, value, 0);
}

fn millis(out: &mut Vec<u8>, key: &'static str, value: Option<Duration>) {
    if let Some(value) = value {
        out.extend_from_slice(key.as_bytes());
        decimal(out, micros(value), 3);
    }
}

fn pair(out: &mut Vec<u8>, name: &'static str, value: &str) {
    if !value.is_empty() {
        out.push(b' ');
        out.extend_from_slice(name.as_bytes());
        out.push(b'=');
        escape(out, value.as_bytes());
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// `?` and the query, with `***` for the value of every parameter whose name looks secret.
fn masked_query(out: &mut Vec<u8>, query: &str) {
    for (at, part) in query.split('&').enumerate() {
        if query.is_empty() {
            return;
        }
        out.push(if at == 0 { b'?' } else { b'&' });
        match part.split_once('=') {
            Some((name, value)) if !value.is_empty() && secret_name(name) => {
                escape(out, name.as_bytes());
                out.extend_from_slice(b"=***");
            }
            _ => escape(out, part.as_bytes()),
        }
    }
}

/// Whether a query parameter's name looks like a credential's: one of its words is in the list, or its end is.
fn secret_name(name: &str) -> bool {
    const WORDS: [&str; 14] =
        ["key", "auth", "sig", "pwd", "pass", "jwt", "code", "session", "sid", "credential", "credentials", "bearer", "cookie", "otp"];
    const ENDS: [&str; 8] = ["apikey", "token", "secret", "password", "passwd", "signature", "authorization", "accesskey"];
    let mut lower: smallvec::SmallVec<[u8; 64]> =
        percent_encoding::percent_decode_str(name).map(|byte| byte.to_ascii_lowercase()).take(256).collect();
    let words = |lower: &[u8]| {
        lower
            .split(|byte| !byte.is_ascii_alphanumeric())
            .any(|word| WORDS.iter().any(|known| known.as_bytes() == word) || ENDS.iter().any(|end| word.ends_with(end.as_bytes())))
    };
    if words(&lower) {
        return true;
    }
    lower.retain(|byte| byte.is_ascii_alphanumeric());
    ENDS.iter().any(|end| lower.ends_with(end.as_bytes()))
}
