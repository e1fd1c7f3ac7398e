//! `routes` and `defaults` of a door: matches with their policies.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};
use serde::Deserialize;

use super::provider;
use crate::config::{
    Glob, PathPattern, Policies, Provider,
    build::Build,
    error::{nearest, quoted},
    names,
    policy::{self, Block, Place},
    scalars::{Field, Host, Name, W, Word, one_of},
    schema::{
        Advice, Json, Key, Kind, Scalar, Table, join,
        kinds::{FIELD, FIELD_NAME, HOST, MODEL, NAME},
    },
    secrecy,
    written::Items,
};

/// A named match with its policies.
#[derive(Debug, Clone)]
pub struct Route {
    /// As written, or generated from the match. Unique in its door; label of metrics.
    pub name: Arc<str>,
    /// Requests that the route answers.
    pub matches: Match,
    /// Policies of those requests.
    pub policies: Policies,
}

/// Conditions of a route, which must all hold. An empty list is no condition.
#[derive(Debug, Clone, Default)]
pub struct Match {
    /// Inbound: a pattern such as `/api/**`.
    pub path: Option<PathPattern>,
    /// Inbound: methods, upper case.
    pub methods: Vec<Method>,
    /// Inbound: host names without port, lower case.
    pub hosts: Vec<Glob>,
    /// Headers that must be there, each perhaps with exactly this value.
    pub headers: Vec<(HeaderName, Option<HeaderValue>)>,
    /// Outbound: provider names.
    pub providers: Vec<Arc<str>>,
    /// Outbound: operations.
    pub operations: Vec<Operation>,
    /// Outbound: model globs (`gpt-*`).
    pub models: Vec<Glob>,
}

/// The kind of a model call, whatever the API calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Operation {
    Chat,
    Responses,
    Messages,
    Completions,
    Embeddings,
    Images,
    Audio,
    Models,
    /// Every other call that a provider offers.
    Other,
}

impl Operation {
    /// Every operation with the word used in `proxy.yaml`, metrics and logs.
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::Chat, "chat"),
        (Self::Responses, "responses"),
        (Self::Messages, "messages"),
        (Self::Completions, "completions"),
        (Self::Embeddings, "embeddings"),
        (Self::Images, "images"),
        (Self::Audio, "audio"),
        (Self::Models, "models"),
        (Self::Other, "other"),
    ];

    /// The word used in `proxy.yaml`, metrics and logs.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(op, _)| *op == self).map_or("other", |(_, word)| word)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct WrittenMatch {
    path: Option<W<PathPattern>>,
    methods: Items<W<Method>>,
    hosts: Items<W<Host>>,
    headers: Vec<(W<HeaderName>, Option<W<Field>>)>,
    provider: Items<W<Name>>,
    operation: Items<W<Operation>>,
    models: Items<W<Glob>>,
}

impl Word for Operation {
    fn word(text: &str) -> Result<Self, String> {
        let choices: Vec<(&str, Self)> = Self::ALL.iter().map(|(op, word)| (*word, *op)).collect();
        one_of(text, &choices)
    }
}

impl Word for PathPattern {
    fn word(text: &str) -> Result<Self, String> {
        if text.chars().any(|c| !c.is_ascii() || c.is_ascii_control() || c == ' ') {
            return Err(format!("{} can never match: a path on the wire is ASCII; write the characters percent-encoded", quoted(text)));
        }
        Self::parse(text).map_err(|error| match error.contains("must begin") {
            true => format!("{error}; did you mean `/{}`?", text.trim_start_matches('/')),
            false => error,
        })
    }
}

impl Word for Method {
    fn word(text: &str) -> Result<Self, String> {
        const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"];
        let upper = text.to_ascii_uppercase();
        if KNOWN.contains(&text) {
            return Self::from_bytes(text.as_bytes()).map_err(|_| String::new());
        }
        if KNOWN.contains(&upper.as_str()) {
            return Err(format!("{} is not a method; methods are upper-case: `{upper}`", quoted(text)));
        }
        match nearest(text, KNOWN) {
            // PROPFIND and its kin are far from every common method; GTE is not.
            Some(near) => Err(format!("{} is not a method; did you mean `{near}`?", quoted(text))),
            None if text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') => {
                Self::from_bytes(text.as_bytes()).map_err(|_| String::new())
            }
            None => Err(format!("{} is not a method; write GET, POST, …", quoted(text))),
        }
    }
}

pub(in crate::config) const PATH_PATTERN: Kind =
    Kind::Scalar(&Scalar::new::<PathPattern>("a path pattern", Json::Pattern(r"^/[^?# ]*$"), "/api/**"));
pub(in crate::config) const METHOD: Kind = Kind::Scalar(&Scalar::new::<Method>("a method", Json::Pattern("^[A-Z-]+$"), "GET"));
const OPERATION: Kind = Kind::Scalar(&Scalar::new::<Operation>(
    "an operation",
    Json::Words(&["chat", "responses", "messages", "completions", "embeddings", "images", "audio", "models", "other"]),
    "chat",
));

const HEADERS: Key =
    Key::new("headers", Kind::Map { key: &FIELD_NAME, of: &FIELD }, "Headers with exactly this value; `\"*\"` is any value.")
        .eg("{x-beta: \"*\"}");

static INBOUND_MATCH: Table = Table::new(
    "inbound match",
    "Which requests the route is for. All conditions must hold; the most specific route wins, whatever the order of the file.",
    &[
        Key::new("path", PATH_PATTERN, "Whole segments: `*` is one, a last `**` is the rest, also nothing.").eg("/api/products/**"),
        Key::new("methods", Kind::OneOrMany(&METHOD), "Upper-case methods.").eg("[GET, HEAD]"),
        Key::new("hosts", Kind::OneOrMany(&HOST), "Host names without port.").eg("[example.com, \"*.example.com\"]"),
        HEADERS,
    ],
)
.foreign(&[
    ("operation", "operations are for outbound routes"),
    ("models", "models are for outbound routes"),
    ("provider", "providers are for outbound routes"),
]);

static OUTBOUND_MATCH: Table = Table::new(
    "outbound match",
    "Which model calls the route is for. All conditions must hold; the most specific route wins, whatever the order of the file.",
    &[
        Key::new("provider", Kind::OneOrMany(&NAME), "Names from `outbound.providers`.").eg("[openai]"),
        Key::new("operation", Kind::OneOrMany(&OPERATION), "What is asked for, whatever the API calls it.").eg("chat"),
        Key::new("models", Kind::OneOrMany(&MODEL), "Model names; `*` is any run of characters.").eg("[\"gpt-*\"]"),
        HEADERS,
    ],
)
.foreign(&[("path", "outbound routes match operations, not paths"), ("methods", "outbound routes match operations, not methods")]);

const ROUTE_NAME: Key = Key::new("name", NAME, "Label of metrics and logs; unique in its door.").says("made from the match");
const OF_MATCH: [Advice; 4] = [
    ("path", "it is written in `match: {path: ...}`"),
    ("methods", "it is written in `match: {methods: ...}`"),
    ("models", "it is written in `match: {models: ...}`"),
    ("operation", "it is written in `match: {operation: ...}`"),
];
const ROUTE_FOREIGN: [Advice; OF_MATCH.len() + policy::PLANNED.len()] = join(&OF_MATCH, policy::PLANNED);
const NO_MATCH: [Advice; 1] = [("match", "defaults hold for every route")];
const DEFAULTS_FOREIGN: [Advice; 1 + policy::NOT_IN_DEFAULTS.len()] = join(&NO_MATCH, &policy::NOT_IN_DEFAULTS);

const INBOUND_OWN: [Key; 2] = [
    ROUTE_NAME,
    Key::new("match", Kind::Table(&INBOUND_MATCH), "Which requests it is for; `{}` is all of them.").required().eg("{path: /api/**}"),
];
pub(in crate::config) static INBOUND_ROUTE: Table = Table::new(
    "inbound route",
    "A match with its policies. A block here replaces the block of the same name in `defaults`.",
    &join::<Key, { INBOUND_OWN.len() + policy::INBOUND_ROUTE.len() }>(&INBOUND_OWN, &policy::INBOUND_ROUTE),
)
.foreign(&ROUTE_FOREIGN);
pub(in crate::config) static INBOUND_DEFAULTS: Table =
    Table::new("inbound.defaults", "Policies of every route, and of requests that match none.", &policy::INBOUND_DEFAULTS)
        .foreign(&DEFAULTS_FOREIGN);

const OUTBOUND_OWN: [Key; 2] = [
    ROUTE_NAME,
    Key::new("match", Kind::Table(&OUTBOUND_MATCH), "Which calls it is for; `{}` is all of them.").required().eg("{operation: chat}"),
];
pub(in crate::config) static OUTBOUND_ROUTE: Table = Table::new(
    "outbound route",
    "A match with its policies. A block here replaces the block of the same name in `defaults`.",
    &join::<Key, { OUTBOUND_OWN.len() + policy::OUTBOUND_ROUTE.len() }>(&OUTBOUND_OWN, &policy::OUTBOUND_ROUTE),
)
.foreign(&ROUTE_FOREIGN);
pub(in crate::config) static OUTBOUND_DEFAULTS: Table =
    Table::new("outbound.defaults", "Policies of every route, and of calls that match none.", &policy::OUTBOUND_DEFAULTS)
        .foreign(&DEFAULTS_FOREIGN);

pub(in crate::config) fn build(build: &mut Build<'_>, of: &Place<'_>, written: Items<Block>, defaults: &Policies) -> Vec<Route> {
    let door = of.door;
    let mut out: Vec<(usize, Route)> = Vec::new();
    for (n, mut block) in written.into_iter().enumerate().filter_map(|(n, block)| Some((n, block?))) {
        let path = format!("{}.routes[{n}]", door.word());
        let matches = matches_of(build, &path, block.r#match.take().unwrap_or_default(), of.providers);
        let name: Arc<str> = match block.name.take() {
            Some(name) => Arc::from(name.0.0.as_str()),
            None => Arc::from(generated_name(&matches).as_str()),
        };
        let whole_match = build.seen.written(&format!("{path}.match")) && !build.seen.broken(&format!("{path}.match"));
        let twin = out.iter().find(|(_, other)| whole_match && same(&other.matches, &matches)).map(|(n, other)| (*n, other.name.clone()));
        if let Some((twin, twin_name)) = twin {
            let first = build.seen.value(&format!("{}.routes[{twin}]", door.word())).line;
            let message = format!("the same match as route `{twin_name}` at line {first}: no request could tell them apart; merge the two");
            build.fault(build.seen.value(&format!("{path}.match")), message);
        } else if let Some((twin, _)) = out
            .iter()
            .find(|(at, other)| other.name == name && build.seen.written(&format!("{}.routes[{at}].match", door.word())) && whole_match)
        {
            let first = build.seen.value(&format!("{}.routes[{twin}]", door.word())).line;
            let at = if build.seen.written(&format!("{path}.name")) { format!("{path}.name") } else { path.clone() };
            build.fault(
                build.seen.value(&at),
                format!("there is already a route {} at line {first}; names are unique in a door", quoted(&name)),
            );
        }
        let place = Place { path: &path, name: &format!("{}/{name}", door.word()), matches: &matches, ..*of };
        let policies = Policies::build(build, &place, block, defaults);
        out.push((n, Route { name, matches, policies }));
    }
    out.into_iter().map(|(_, route)| route).collect()
}

fn matches_of(build: &mut Build<'_>, path: &str, written: WrittenMatch, providers: &[Provider]) -> Match {
    let mut names = Vec::new();
    for (n, name) in written.provider.into_iter().enumerate().filter_map(|(n, name)| Some((n, name?.0.0))) {
        match providers.iter().find(|provider| *provider.name == *name) {
            Some(provider) => names.push(Arc::clone(&provider.name)),
            None => provider::unknown(build, &name, &format!("{path}.match.provider[{n}]"), providers),
        }
    }
    Match {
        path: written.path.map(|path| path.0),
        methods: written.methods.into_iter().flatten().map(|method| method.0).collect(),
        hosts: written.hosts.into_iter().flatten().map(|host| host.0.0).collect(),
        headers: written
            .headers
            .into_iter()
            .map(|(name, value)| {
                let value = value.map(|value| value.0.0).filter(|value| value.as_bytes() != b"*");
                (name.0.clone(), value.map(|value| secrecy::marked(&name.0, value)))
            })
            .collect(),
        providers: names,
        operations: written.operation.into_iter().flatten().map(|operation| operation.0).collect(),
        models: written.models.into_iter().flatten().map(|model| model.0).collect(),
    }
}

/// Whether two matches are for exactly the same requests. The order of their lists does not matter.
fn same(a: &Match, b: &Match) -> bool {
    fn set<T: Clone, K: Ord>(list: &[T], key: impl Fn(&T) -> K) -> Vec<K> {
        let mut keys: Vec<K> = list.iter().map(key).collect();
        keys.sort();
        keys.dedup();
        keys
    }
    a.path == b.path
        && set(&a.methods, |m| m.to_string()) == set(&b.methods, |m| m.to_string())
        && set(&a.hosts, |h| h.as_str().to_owned()) == set(&b.hosts, |h| h.as_str().to_owned())
        && set(&a.headers, |(n, v)| (n.to_string(), v.as_ref().map(|v| v.as_bytes().to_owned())))
            == set(&b.headers, |(n, v)| (n.to_string(), v.as_ref().map(|v| v.as_bytes().to_owned())))
        && set(&a.providers, Arc::clone) == set(&b.providers, Arc::clone)
        && set(&a.operations, |o| *o) == set(&b.operations, |o| *o)
        && set(&a.models, |m| m.as_str().to_owned()) == set(&b.models, |m| m.as_str().to_owned())
}

/// The name of a route that has none: its match.
fn generated_name(matches: &Match) -> String {
    let mut parts = Vec::new();
    if !matches.methods.is_empty() {
        parts.push(matches.methods.iter().map(|m| m.as_str()).collect::<Vec<_>>().join("|"));
    }
    if !matches.hosts.is_empty() {
        parts.push(matches.hosts.iter().map(|h| h.as_str()).collect::<Vec<_>>().join("|"));
    }
    if let Some(path) = &matches.path {
        parts.push(path.as_str().to_owned());
    }
    if !matches.providers.is_empty() {
        parts.push(matches.providers.join("|"));
    }
    if !matches.operations.is_empty() {
        parts.push(matches.operations.iter().map(|o| o.as_str()).collect::<Vec<_>>().join("|"));
    }
    if !matches.models.is_empty() {
        parts.push(matches.models.iter().map(|m| m.as_str()).collect::<Vec<_>>().join("|"));
    }
    for (name, value) in &matches.headers {
        parts.push(match value {
            // The value may be a secret, and the name stands in metrics and logs: 24 bits of a hash tell values apart.
            Some(value) => format!("{name}=#{}", &blake3::hash(value.as_bytes()).to_hex()[..6]),
            None => name.as_str().to_owned(),
        });
    }
    if parts.is_empty() { "*".to_owned() } else { names::bounded(parts.join(" ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::scalars::tests::refused;

    #[test]
    fn paths_and_methods_name_the_cure() {
        refused::<PathPattern>("api/**", "did you mean `/api/**`");
        refused::<PathPattern>("/ä", "percent-encoded");
        refused::<Method>("get", "`GET`");
        refused::<Method>("GTE", "did you mean `GET`");
        assert!(Method::word("PROPFIND").is_ok());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_a_path_or_a_method_panic(text in "\\PC{0,40}") {
            let _ = (PathPattern::word(&text), Method::word(&text), Operation::word(&text));
        }
    }

    #[test]
    fn a_route_is_named_by_its_match() {
        let mut matches = Match { path: PathPattern::parse("/api/**").ok(), methods: vec![Method::GET, Method::HEAD], ..Match::default() };
        assert_eq!(generated_name(&matches), "GET|HEAD /api/**");
        matches.headers.push((HeaderName::from_static("x-beta"), None));
        assert_eq!(generated_name(&matches), "GET|HEAD /api/** x-beta");
        let secret = |value| {
            let field = (HeaderName::from_static("x-key"), Some(HeaderValue::from_static(value)));
            generated_name(&Match { headers: vec![field], ..Match::default() })
        };
        assert!(secret("hunter2").starts_with("x-key=#") && !secret("hunter2").contains("hunter"), "{}", secret("hunter2"));
        assert_ne!(secret("hunter2"), secret("hunter3"));
        assert_eq!(generated_name(&Match::default()), "*");
        let outbound = Match { operations: vec![Operation::Chat], models: vec![Glob::new("gpt-*")], ..Match::default() };
        assert_eq!(generated_name(&outbound), "chat gpt-*");
    }

    #[test]
    fn long_names_stay_apart() {
        let path = |end: &str| Match { path: PathPattern::parse(&format!("/{}{end}", "a".repeat(200))).ok(), ..Match::default() };
        let (one, two) = (generated_name(&path("1")), generated_name(&path("2")));
        assert!(one != two && one.len() <= names::LONGEST && two.len() <= names::LONGEST);
    }
}
