//! One exchange as one line: JSON (RFC 8259) or text. Secrets stay out: values of query parameters with secret-looking names
//! are masked, and headers and bodies have no field.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use http::Method;
use opentelemetry::TraceId;

use crate::{
    arrival::Door,
    clock::unix,
    usage::{Usage, UsageSource},
};

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
    /// What the cache did (`none`: the route has none).
    pub cache: &'a str,
    /// The target of the last try.
    pub target: &'a str,
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
            number(out, "status", u64::from(self.status));
        }
        text(out, "outcome", self.outcome.as_str());
        text(out, "reason", self.reason.unwrap_or_default());
        text(out, "detail", self.detail);
        text(out, "limit", self.limit);
        if self.cache != "none" {
            text(out, "cache", self.cache);
        }
        text(out, "target", self.target);
        number(out, "tries", u64::from(self.tries));
        if !self.thrown_away.is_empty() {
            key(out, "thrown_away");
            words(out, self.thrown_away);
        }
        text(out, "fallback", self.fallback);
        millis(out, "duration_ms", Some(self.total));
        millis(out, "upstream_ms", self.upstream);
        millis(out, "first_byte_ms", self.first_byte);
        millis(out, "first_token_ms", self.first_token);
        number(out, "bytes_in", self.bytes_in);
        number(out, "bytes_out", self.bytes_out);
        text(out, "provider", self.provider);
        text(out, "operation", self.operation);
        text(out, "model", self.model);
        text(out, "asked_model", self.asked_model);
        if let Some(stream) = self.stream {
            key(out, "stream");
            out.extend_from_slice(if stream { b"true" } else { b"false" });
        }
        if let Some(tokens) = &self.tokens {
            json_tokens(out, tokens);
        }
        if let Some(nano) = self.cost {
            key(out, "cost_usd");
            decimal(out, nano, 9);
        }
        text(out, "cause", self.cause);
        text(out, "sent_request_id", self.sent_request_id);
        out.extend_from_slice(b"}\n");
    }

    /// The request's half: the first half of the object.
    fn write_json_of_the_request(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"timestamp\":\"");
        timestamp(out, self.at);
        out.push(b'"');
        text(out, "request_id", self.request_id);
        if let Some(id) = self.trace_id.filter(|id| *id != TraceId::INVALID) {
            key(out, "trace_id");
            out.push(b'"');
            hex(out, &id.to_bytes());
            out.push(b'"');
        }
        text(out, "door", self.door.as_str());
        text(out, "route", self.route);
        text(out, "caller", self.caller);
        key(out, "client_ip");
        out.push(b'"');
        address(out, self.client);
        out.push(b'"');
        text(out, "method", self.method.as_str());
        text(out, "host", self.host);
        key(out, "path");
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
        for (name, value) in [("route", self.route), ("caller", self.caller), ("target", self.target)] {
            pair(out, name, value);
        }
        if self.tries > 1 {
            out.extend_from_slice(b" tries=");
            decimal(out, u64::from(self.tries), 0);
        }
        pair(out, "limit", self.limit);
        pair(out, "fallback", self.fallback);
        pair(out, "model", self.model);
        pair(out, "asked_model", self.asked_model);
        if let Some(tokens) = &self.tokens {
            out.extend_from_slice(b" tokens=");
            decimal(out, tokens.usage.total_input(), 0);
            out.push(b'+');
            decimal(out, tokens.usage.output, 0);
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
    key(out, "tokens");
    out.extend_from_slice(b"{\"source\":\"");
    out.extend_from_slice(tokens.source.as_str().as_bytes());
    out.push(b'"');
    number(out, "input", usage.input);
    number(out, "output", usage.output);
    let rare = [
        ("cache_read", usage.cache_read),
        ("cache_write", usage.cache_write),
        ("cache_write_1h", usage.cache_write_1h),
        ("reasoning", usage.reasoning),
    ];
    for (name, count) in rare.into_iter().filter(|(_, count)| *count > 0) {
        number(out, name, count);
    }
    out.push(b'}');
}

fn key(out: &mut Vec<u8>, name: &'static str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn text(out: &mut Vec<u8>, name: &'static str, value: &str) {
    if !value.is_empty() {
        key(out, name);
        out.push(b'"');
        escape(out, value.as_bytes());
        out.push(b'"');
    }
}

fn number(out: &mut Vec<u8>, name: &'static str, value: u64) {
    key(out, name);
    decimal(out, value, 0);
}

fn millis(out: &mut Vec<u8>, name: &'static str, value: Option<Duration>) {
    if let Some(value) = value {
        key(out, name);
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

/// Escapes the characters of RFC 8259 section 7; the input is UTF-8.
pub(super) fn escape(out: &mut Vec<u8>, value: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut done = 0;
    for (at, byte) in value.iter().enumerate() {
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x00..=0x1f | 0x7f => 0,
            _ => continue,
        };
        out.extend_from_slice(&value[done..at]);
        done = at + 1;
        if short == 0 {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        } else {
            out.extend_from_slice(&[b'\\', short]);
        }
    }
    out.extend_from_slice(&value[done..]);
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

fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
}

fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            for (at, octet) in v4.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push(b'.');
                }
                decimal(out, u64::from(octet), 0);
            }
        }
        // rare, and the short form of RFC 5952 is not worth writing again; a Vec never fails
        IpAddr::V6(v6) => {
            let _ = std::io::Write::write_fmt(out, format_args!("{v6}"));
        }
    }
}

/// `value / 10^places` as a decimal number without trailing zeros.
fn decimal(out: &mut Vec<u8>, value: u64, places: usize) {
    let mut digits = [b'0'; 32];
    let mut at = digits.len();
    let mut rest = value;
    while rest > 0 || at > digits.len() - places - 1 {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let (whole, fraction) = digits[at..].split_at(digits.len() - at - places);
    out.extend_from_slice(whole);
    let significant = fraction.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
    if significant > 0 {
        out.push(b'.');
        out.extend_from_slice(&fraction[..significant]);
    }
}

/// RFC 3339 in UTC with milliseconds. Days to a date: Howard Hinnant, "chrono-compatible low-level date algorithms".
pub(super) fn timestamp(out: &mut Vec<u8>, at: SystemTime) {
    let since = unix(at);
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    for (value, width, after) in [
        (year, 4, b'-'),
        (month, 2, b'-'),
        (day, 2, b'T'),
        (second / 3600, 2, b':'),
        (second / 60 % 60, 2, b':'),
        (second % 60, 2, b'.'),
        (u64::from(since.subsec_millis()), 3, b'Z'),
    ] {
        let mut divisor = 10_u64.pow(width - 1);
        while divisor > 0 {
            out.push(b'0' + (value / divisor % 10) as u8);
            divisor /= 10;
        }
        out.push(after);
    }
}
