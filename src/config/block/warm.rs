//! `inbound.warm`: requests that fill the cache.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use serde::Deserialize;

use crate::config::{
    Config, Origin,
    build::{Build, small, whole},
    error::quoted,
    scalars::{Count, Field, W, Word},
    schema::{
        Json, Key, Kind, Scalar, Table,
        kinds::{COUNT_OF, FIELD, FIELD_NAME, TIME_OF},
    },
    secrecy,
    written::Items,
};

/// Requests that fill the cache before any client asks.
#[derive(Debug, Clone)]
pub struct Warm {
    /// Paths that are asked for, in this order.
    pub targets: Vec<Uri>,
    /// Headers of every request.
    pub headers: HeaderMap,
    /// Requests under way at once.
    pub concurrency: usize,
    /// Requests a second.
    pub rate: u32,
    /// How long the first request is tried again while the app is not up yet.
    pub wait: Duration,
}

impl Default for Warm {
    fn default() -> Self {
        Self { targets: Vec::new(), headers: HeaderMap::new(), concurrency: 2, rate: 10, wait: Duration::from_secs(60) }
    }
}

impl Warm {
    /// Time between the beginnings of two requests.
    pub fn pause(&self) -> Duration {
        Duration::from_secs(1) / self.rate.max(1)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    #[serde(default)]
    paths: Items<W<Target>>,
    file: Option<W<PathBuf>>,
    #[serde(default)]
    headers: Vec<(W<HeaderName>, Option<W<Field>>)>,
    concurrency: W<Count>,
    rate: W<Count>,
    wait: W<Duration>,
}

/// What is asked for: a path, perhaps with a query.
#[derive(Debug, Clone, PartialEq)]
struct Target(Uri);

impl Word for Target {
    fn word(text: &str) -> Result<Self, String> {
        match text.parse::<Uri>() {
            Ok(uri) if text.starts_with('/') && !text.contains('#') => Ok(Self(uri)),
            _ => Err(format!("{} is not a path; write one that begins with `/`, such as /products?page=1", quoted(text))),
        }
    }
}

const TARGET: Kind = Kind::Scalar(&Scalar::new::<Target>("a path", Json::Pattern(r"^/[^# ]*$"), "/products"));
const TEXT_FILE: Kind = Kind::Scalar(&Scalar::new::<PathBuf>("the path of a file", Json::Text, "/etc/outrigger/warm.txt"));

pub(in crate::config) static TABLE: Table = Table::new(
    "inbound.warm",
    "GET requests that fill the cache after the start, and again with `outrigger warm`. They take nothing from anybody's limits, and wait while the door is busy.",
    &[
        Key::new("paths", Kind::List(&TARGET), "What is asked for, in this order.").eg("[/, \"/products?page=1\"]"),
        Key::new("file", TEXT_FILE, "A file with a path in each line; `#` begins a remark.").eg("/etc/outrigger/warm.txt"),
        Key::new("headers", Kind::Map { key: &FIELD_NAME, of: &FIELD }, "Sent with each; `host` is the name that clients ask for.")
            .required()
            .eg("{host: shop.example, accept-language: en}"),
        Key::new("concurrency", COUNT_OF, "Requests under way at once.").within("1", "64").default("2"),
        Key::new("rate", COUNT_OF, "Requests a second.").within("1", "10k").default("10"),
        Key::new("wait", TIME_OF, "How long the first one is tried again while the app is not up yet.").within("0", "1h").default("60s"),
    ],
)
.at_least_one(&[&["paths", "file"]]);

/// Largest list that is read from a file, in bytes.
const MAX_FILE: u64 = 1 << 20;

pub(in crate::config) fn build(build: &mut Build<'_>, written: Option<Written>, app: &Origin) -> Warm {
    let mut warm = Warm::default();
    let host = HeaderValue::from_str(&app.authority()).ok();
    let Some(written) = written else {
        warm.headers.extend(host.map(|host| (header::HOST, host)));
        return warm;
    };
    warm.targets = written.paths.into_iter().flatten().map(|path| path.0.0).collect();
    if let Some(file) = written.file {
        warm.targets.extend(lines(build, &file.0));
    }
    for (name, value) in written.headers.into_iter().filter_map(|(name, value)| Some((name.0, value?.0.0))) {
        let value = secrecy::marked(&name, value);
        warm.headers.append(name, value);
    }
    if !warm.headers.contains_key(header::HOST) {
        warm.headers.extend(host.map(|host| (header::HOST, host)));
        if !build.seen.broken("inbound.warm") {
            let message = "`warm` needs `headers: {host: shop.example}`, the host that clients ask for: answers are kept by host, and \
                           without one they would be kept under the app's own address, which nobody asks for";
            build.fault(build.seen.key("inbound.warm"), message);
        }
    }
    Warm { concurrency: whole(&written.concurrency), rate: small(&written.rate), wait: written.wait.0, ..warm }
}

/// Remarks that no route keeps what is asked for.
pub(in crate::config) fn check(build: &mut Build<'_>, config: &Config) {
    let Some(door) = config.inbound.as_ref().filter(|door| !door.warm.targets.is_empty()) else { return };
    if door.fallthrough.cache.is_none() && door.routes.iter().all(|route| route.policies.cache.is_none()) {
        let message = "`warm` fills the cache, and no route has one: write `cache: {}` in a route or in `defaults`";
        build.note(build.seen.key("inbound.warm"), message);
    }
}

/// The paths of a file, one per line. Empty lines and lines that begin with `#` do not count.
fn lines(build: &mut Build<'_>, file: &Path) -> Vec<Uri> {
    let shown = build.files.path(file).display().to_string();
    let at = build.seen.value("inbound.warm.file");
    let text = build.files.read(file, MAX_FILE).and_then(|text| String::from_utf8(text).map_err(|_| format!("`{shown}` is not UTF-8")));
    let text = match text {
        Ok(text) => text,
        Err(why) => {
            build.fault(at, why);
            return Vec::new();
        }
    };
    let mut targets = Vec::new();
    for (n, line) in text.lines().enumerate().map(|(n, line)| (n + 1, line.trim())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match Target::word(line) {
            Ok(target) => targets.push(target.0),
            Err(why) => build.fault(at, format!("line {n} of `{shown}`: {why}")),
        }
    }
    targets
}
