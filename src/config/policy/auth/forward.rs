//! `auth.forward`: another service decides who may come in.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::HeaderName;
use serde::Deserialize;

use crate::config::{
    Origin,
    scalars::{W, Word},
    schema::{Json, Key, Kind, Scalar, Table, kinds::TIME_OF},
    written::Items,
};

/// A service that is asked about each request: 2xx lets it pass.
#[derive(Debug)]
pub struct ForwardAuth {
    /// Tells these terms from all others of the process: what was decided under others counts for nothing here.
    pub number: u64,
    /// Where it is asked.
    pub url: Arc<str>,
    /// How long a request waits for it.
    pub timeout: Duration,
    /// How long its answer to the same question counts. Zero: it is asked each time.
    pub cache: Duration,
    /// Fields of the request that it is sent.
    pub send: Vec<HeaderName>,
    /// Fields of its answer that the app gets, and that no client may set.
    pub copy: Vec<HeaderName>,
    /// The field of its answer that names the caller.
    pub caller: HeaderName,
    /// The field of its answer that names the caller's tier.
    pub tier: Option<HeaderName>,
    /// The field of its answer that lists scopes, between blanks or commas.
    pub scopes: Option<HeaderName>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    url: Option<W<ServiceUrl>>,
    timeout: W<Duration>,
    cache: W<Duration>,
    #[serde(default)]
    send: Items<W<HeaderName>>,
    #[serde(default)]
    copy: Items<W<HeaderName>>,
    caller: W<HeaderName>,
    tier: Option<W<HeaderName>>,
    scopes: Option<W<HeaderName>>,
}

/// The URL of a service, with its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct ServiceUrl(Arc<str>);

impl Word for ServiceUrl {
    fn word(text: &str) -> Result<Self, String> {
        Origin::parse(text.split('?').next().unwrap_or_default()).map(|_| Self(text.into()))
    }
}

const URL: Kind =
    Kind::Scalar(&Scalar::new::<ServiceUrl>("a URL", Json::Pattern(r"^https?://[^ ]+$"), "\"http://127.0.0.1:4180/check\"").no_dollar());
const FIELD: Kind = Kind::Scalar(&Scalar::new::<HeaderName>("a header name", Json::Pattern("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"), "x-user"));

static TABLE: Table = Table::new(
    "auth.forward",
    "A service that decides: it is asked with the request's method and target, and 2xx lets the request pass. Where it gives no such answer, \
     nobody passes.",
    &[
        Key::new("url", URL, "Where the service is asked, by GET, with `X-Forwarded-Method`, `-Proto`, `-Host`, `-Uri` and `-For`.")
            .required(),
        Key::new("timeout", TIME_OF, "How long a request waits for the service; after that it is refused (503).")
            .within("10ms", "30s")
            .default("2s"),
        Key::new("cache", TIME_OF, "How long an answer counts for the same method, target, address and fields.")
            .within("0s", "1h")
            .default("0s"),
        Key::new("send", Kind::OneOrMany(&FIELD), "Fields of the request that the service is sent.")
            .says("`authorization` and `cookie`")
            .eg("[authorization, cookie]"),
        Key::new("copy", Kind::OneOrMany(&FIELD), "Fields of its answer that the app gets; those of a client are taken out.")
            .eg("[x-user, x-email]"),
        Key::new("caller", FIELD, "The field of its answer that names the caller.").default("x-user"),
        Key::new("tier", FIELD, "The field of its answer that names the caller's tier.").eg("x-plan"),
        Key::new("scopes", FIELD, "The field of its answer that lists scopes, between blanks or commas.").eg("x-scopes"),
    ],
);

pub(super) const KEY: Key =
    Key::new("forward", Kind::Table(&TABLE), "Another service decides.").eg("{url: \"http://127.0.0.1:4180/check\"}");

pub(super) fn build(written: Written) -> Option<ForwardAuth> {
    static NUMBERS: AtomicU64 = AtomicU64::new(0);
    let names = |list: Items<W<HeaderName>>| list.into_iter().flatten().map(|name| name.0).collect::<Vec<_>>();
    let send = names(written.send);
    Some(ForwardAuth {
        number: NUMBERS.fetch_add(1, Ordering::Relaxed),
        url: written.url?.0.0,
        timeout: written.timeout.0,
        cache: written.cache.0,
        send: if send.is_empty() { vec![http::header::AUTHORIZATION, http::header::COOKIE] } else { send },
        copy: names(written.copy),
        caller: written.caller.0,
        tier: written.tier.map(|name| name.0),
        scopes: written.scopes.map(|name| name.0),
    })
}
