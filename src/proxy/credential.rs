//! Which of the app's own fields go to which provider.
//!
//! | target | fields | query |
//! |---|---|---|
//! | the provider that was asked, no keys configured | as they came | as it came |
//! | the provider that was asked, with keys | all but [`CREDENTIALS`]; a key in the provider's own field | without `key` and its kin |
//! | any other (a fallback) | [`ANYBODY`] alone; its own key, if it has one | without `key` and its kin |
//!
//! The app wrote its cookie, organisation, project and session token for the provider that it asked. Another provider gets the
//! fields that say how to read the call, and none that says who makes it. The list names the fields that pass: no list can name
//! all that must not.

use http::header;
use percent_encoding::percent_decode_str;

use crate::{
    config::{Api, Secret},
    http1::{Fields, Id, Name},
};

/// The fields that a configured key replaces.
static CREDENTIALS: [&str; 7] = [
    "authorization",
    "x-api-key",
    "x-goog-api-key",
    "api-key",
    // A part of an AWS signature (SigV4); the rest stands in `authorization`.
    "x-amz-security-token",
    "x-amz-date",
    "x-amz-content-sha256",
];

/// The fields that a provider that was not asked may see, beside `x-stainless-*`: the call's framing, the body's type, the API's
/// version and beta, the client library.
static ANYBODY: [&str; 27] = [
    "host",
    "via",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "content-length",
    "content-type",
    "content-encoding",
    "content-language",
    "accept",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "user-agent",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-extensions",
    "sec-websocket-protocol",
    "grpc-timeout",
    "idempotency-key",
    "openai-beta",
    "anthropic-version",
    "anthropic-beta",
    "x-goog-api-client",
    "x-server-timeout",
];

/// The member of `Sec-WebSocket-Protocol` in which browsers send a key (OpenAI's realtime API).
const PROTOCOL_KEY: &[u8] = b"openai-insecure-api-key.";
const PROTOCOL_OWNERS: [&[u8]; 2] = [b"openai-organization.", b"openai-project."];

/// Makes the fields fit for a provider. `own`: the app asked this provider; `key`: the key that is configured for it.
pub fn fit(fields: &mut Fields, api: Api, own: bool, key: Option<&Secret>) {
    if !own {
        fields.retain(|name, _| is_anybodys(name));
        keep_protocols(fields, |member| {
            !member.starts_with(PROTOCOL_KEY) && !PROTOCOL_OWNERS.iter().any(|owner| member.starts_with(owner))
        });
    } else if key.is_some() {
        for name in &CREDENTIALS {
            fields.remove(name);
        }
        keep_protocols(fields, |member| !member.starts_with(PROTOCOL_KEY));
    }
    let Some(key) = key.map(Secret::reveal) else { return };
    match api {
        Api::Anthropic => fields.insert(Id::XApiKey, key),
        Api::Gemini => fields.insert(Id::XGoogApiKey, key),
        Api::OpenAi | Api::Bedrock | Api::Plain => fields.insert(Id::Authorization, format!("Bearer {key}")),
    }
}

fn is_anybodys(name: Name<'_>) -> bool {
    let name = &*name.lower();
    ANYBODY.contains(&name) || name.starts_with("x-stainless-")
}

/// Keeps the members of `Sec-WebSocket-Protocol` for which `keep` says so.
fn keep_protocols(fields: &mut Fields, keep: impl Fn(&[u8]) -> bool) {
    if !fields.has(header::SEC_WEBSOCKET_PROTOCOL) {
        return;
    }
    let members = fields.all(header::SEC_WEBSOCKET_PROTOCOL).flat_map(|line| line.as_bytes().split(|b| *b == b',')).map(<[u8]>::trim_ascii);
    let kept = members.filter(|member| keep(member)).collect::<Vec<_>>().join(&b", "[..]);
    if kept.is_empty() {
        fields.remove(header::SEC_WEBSOCKET_PROTOCOL);
    } else {
        fields.insert(header::SEC_WEBSOCKET_PROTOCOL, kept);
    }
}

/// A query, with its `?`, without credentials: Google's `key`, tokens, and the parts of a signed URL.
pub fn without_credentials(query: &str) -> String {
    without(query, is_credential)
}

/// A query, with its `?`, without Google's `key`: the one credential in it that tells tenants apart.
pub fn without_key(query: &str) -> String {
    without(query, |pair| pair.split('=').next() == Some("key"))
}

fn without(query: &str, dropped: impl Fn(&str) -> bool) -> String {
    let kept: Vec<&str> = query.trim_start_matches('?').split('&').filter(|pair| !dropped(pair)).collect();
    if kept.iter().all(|pair| pair.is_empty()) { String::new() } else { format!("?{}", kept.join("&")) }
}

fn is_credential(pair: &str) -> bool {
    const NAMES: [&str; 9] = ["key", "api_key", "api-key", "apikey", "access_token", "oauth_token", "token", "signature", "sig"];
    let name = percent_decode_str(pair.split('=').next().unwrap_or_default()).decode_utf8_lossy().to_ascii_lowercase();
    NAMES.contains(&name.as_str()) || name.starts_with("x-amz-") || name.starts_with("x-goog-")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field, and whether it reaches the provider that was asked, that provider with keys, and another provider.
    const FIELDS: &[(&str, &str, [bool; 3])] = &[
        ("authorization", "Bearer app", [true, false, false]),
        ("x-api-key", "app", [true, false, false]),
        ("x-goog-api-key", "app", [true, false, false]),
        ("api-key", "app", [true, false, false]),
        ("x-amz-security-token", "session", [true, false, false]),
        ("x-amz-date", "20270101T000000Z", [true, false, false]),
        ("x-amz-content-sha256", "e3b0", [true, false, false]),
        ("x-amz-user-agent", "aws-sdk-js/3", [true, true, false]),
        ("amz-sdk-invocation-id", "1", [true, true, false]),
        ("x-amzn-bedrock-trace", "ENABLED", [true, true, false]),
        ("cookie", "session=1", [true, true, false]),
        ("openai-organization", "org-1", [true, true, false]),
        ("openai-project", "proj-1", [true, true, false]),
        ("x-goog-user-project", "billing", [true, true, false]),
        ("x-goog-request-params", "project=1", [true, true, false]),
        ("x-goog-iam-authorization-token", "t", [true, true, false]),
        ("helicone-auth", "Bearer h", [true, true, false]),
        ("cf-aig-authorization", "Bearer c", [true, true, false]),
        ("http-referer", "https://shop.example", [true, true, false]),
        ("referer", "https://shop.example", [true, true, false]),
        ("origin", "https://shop.example", [true, true, false]),
        ("x-title", "shop", [true, true, false]),
        ("x-request-id", "r", [true, true, false]),
        ("x-client-request-id", "r", [true, true, false]),
        ("baggage", "user=1", [true, true, false]),
        ("tracestate", "vendor=1", [true, true, false]),
        ("traceparent", "00-1-1-01", [true, true, false]),
        ("x-forwarded-for", "1.2.3.4", [true, true, false]),
        ("proxy-authorization", "Basic x", [true, true, false]),
        ("x-tenant", "7", [true, true, false]),
        ("host", "o.test", [true, true, true]),
        ("content-type", "application/json", [true, true, true]),
        ("content-length", "7", [true, true, true]),
        ("content-encoding", "gzip", [true, true, true]),
        ("accept", "text/event-stream", [true, true, true]),
        ("accept-encoding", "gzip", [true, true, true]),
        ("user-agent", "OpenAI/Python", [true, true, true]),
        ("anthropic-version", "2023-06-01", [true, true, true]),
        ("anthropic-beta", "x", [true, true, true]),
        ("openai-beta", "x", [true, true, true]),
        ("idempotency-key", "1", [true, true, true]),
        ("x-stainless-retry-count", "0", [true, true, true]),
        ("via", "1.1 outrigger-1", [true, true, true]),
    ];

    #[test]
    fn every_field_goes_to_those_it_was_meant_for() {
        let secret = Secret::new("sk-own");
        for api in [Api::OpenAi, Api::Anthropic, Api::Gemini, Api::Bedrock, Api::Plain] {
            for (column, own, key) in [(0, true, None), (1, true, Some(&secret)), (2, false, None), (2, false, Some(&secret))] {
                let mut fields: Fields = FIELDS.iter().map(|(name, value, _)| (name, value)).collect();
                fit(&mut fields, api, own, key);
                let keys: Vec<String> = fields
                    .iter()
                    .filter(|(_, value)| value.as_bytes().ends_with(b"sk-own"))
                    .map(|(name, _)| name.as_str().to_owned())
                    .collect();
                assert_eq!(keys.len(), usize::from(key.is_some()), "{api:?}");
                for (name, value, reaches) in FIELDS {
                    let arrives = fields.all(*name).any(|is| is == *value);
                    assert_eq!(arrives, reaches[column], "{name} to {api:?}, own: {own}, key: {}", key.is_some());
                }
            }
        }
    }

    #[test]
    fn a_key_among_the_websocket_protocols_is_a_credential_too() {
        let sent = "realtime, openai-insecure-api-key.sk-app, openai-organization.org-1, openai-project.p, openai-beta.realtime-v1";
        let secret = Secret::new("sk-own");
        for (own, key, wanted) in [
            (true, None, Some(sent)),
            (true, Some(&secret), Some("realtime, openai-organization.org-1, openai-project.p, openai-beta.realtime-v1")),
            (false, None, Some("realtime, openai-beta.realtime-v1")),
        ] {
            let mut fields = Fields::new();
            fields.insert(header::SEC_WEBSOCKET_PROTOCOL, sent);
            fit(&mut fields, Api::OpenAi, own, key);
            assert_eq!(fields.get(header::SEC_WEBSOCKET_PROTOCOL).and_then(|line| line.to_str().ok()), wanted);
        }
    }

    #[test]
    fn a_query_loses_its_credentials_and_nothing_else() {
        for (query, kept) in [
            ("", ""),
            ("?", ""),
            ("?key=k", ""),
            ("?alt=sse&key=k&x=1", "?alt=sse&x=1"),
            ("?api-version=2024-10-21&api-key=k", "?api-version=2024-10-21"),
            ("?k%65y=k&KEY=k&Access_Token=t&monkey=1&keys=2", "?monkey=1&keys=2"),
            ("?X-Amz-Signature=s&X-Amz-Security-Token=t&a", "?a"),
        ] {
            assert_eq!(without_credentials(query), kept, "{query}");
        }
    }
}
