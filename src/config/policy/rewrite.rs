//! `rewrite`: the path that the app sees in place of the client's.

use serde::Deserialize;

use super::{InDefaults, Place, Policy, Rows};
use crate::config::{
    Config, PathPattern, Segment,
    build::Build,
    error::quoted,
    mode::{MODE_KEY, Mode, ModeWord},
    scalars::{W, Word},
    schema::{Elsewhere, Json, Key, Kind, Scalar, Table},
};

/// The path that the app sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// Whether it acts.
    pub mode: Mode,
    /// Leading segments that are taken away, such as `/api`. Empty: none.
    pub strip_prefix: String,
    /// Segments that come before the rest, such as `/v2`. Empty: none.
    pub add_prefix: String,
    /// The whole path in place of the client's; the query stays.
    pub path: Option<String>,
}

/// Whole segments of a path: `/api` or `/api/v1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct Prefix(String);

impl Word for Prefix {
    fn word(text: &str) -> Result<Self, String> {
        let path = text.trim_end_matches('/');
        if path.is_empty() && text.starts_with('/') {
            return Err(format!("{} is no prefix; write whole segments, such as `/api`", quoted(text)));
        }
        literal(path).map(|()| Self(path.to_owned()))
    }
}

/// A path without places and patterns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct PlainPath(String);

impl Word for PlainPath {
    fn word(text: &str) -> Result<Self, String> {
        literal(text).map(|()| Self(text.to_owned()))
    }
}

/// Whether `text` is a path that means itself alone.
fn literal(text: &str) -> Result<(), String> {
    let pattern = PathPattern::word(text)?;
    let itself = |segment: &Segment| matches!(segment, Segment::Literal(_));
    match pattern.segments().iter().all(itself) && !text.starts_with("//") && http::Uri::try_from(text).is_ok() {
        true => Ok(()),
        false => Err(format!("{} is no plain path; write one such as `/api`, without `*`", quoted(text))),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    mode: W<ModeWord>,
    strip_prefix: Option<W<Prefix>>,
    add_prefix: Option<W<Prefix>>,
    path: Option<W<PlainPath>>,
}

const PREFIX: Kind = Kind::Scalar(&Scalar::new::<Prefix>("a path prefix of whole segments", Json::Pattern("^/"), "/api"));
const PATH: Kind = Kind::Scalar(&Scalar::new::<PlainPath>("a path", Json::Pattern("^/"), "/index.html"));

static TABLE: Table = Table::new(
    "rewrite",
    "The path that the app sees. Routes, limits, the cache and the log go by the client's own path.",
    &[
        MODE_KEY,
        Key::new("strip_prefix", PREFIX, "Leading segments that the app does not see; it is told them in `X-Forwarded-Prefix`.").eg("/api"),
        Key::new("add_prefix", PREFIX, "Segments that come before the rest.").eg("/v2"),
        Key::new("path", PATH, "The whole path; the query stays.").eg("/index.html"),
    ],
)
.at_least_one(&[&["strip_prefix", "add_prefix", "path"]]);
const ROW: Key = Key::new("rewrite", Kind::Table(&TABLE), "The path that the app sees in place of the client's.");

const ELSEWHERE: &[Elsewhere] = &[
    (
        &[
            "rewrites",
            "path_rewrite",
            "url_rewrite",
            "rewrite_target",
            "strip_prefix",
            "stripprefix",
            "strip_path",
            "prefix_rewrite",
            "add_prefix",
            "replace_path",
        ],
        "write `rewrite: {strip_prefix: /api}` in a route",
    ),
    (&["try_files"], "an app of one page: write `rewrite: {path: /index.html}` in the route of its pages"),
];

impl Policy for Option<Rewrite> {
    type Written = Option<Written>;

    const ROWS: Rows = Rows { inbound: Some(ROW), outbound: None, defaults: InDefaults::Taken };

    const ELSEWHERE: &'static [Elsewhere] = ELSEWHERE;

    fn build(build: &mut Build<'_>, place: &Place<'_>, written: Self::Written, inherited: &Self) -> Self {
        let Some(written) = written else { return inherited.clone() };
        let here = place.key("rewrite");
        let strip_prefix = written.strip_prefix.map(|prefix| prefix.0.0).unwrap_or_default();
        if let (Some(pattern), false) = (&place.matches.path, strip_prefix.is_empty())
            && !begins(pattern, &strip_prefix)
        {
            let message = format!("no path of the route begins so: it matches {}", quoted(pattern.as_str()));
            build.fault(build.seen.value(&format!("{here}.strip_prefix")), message);
        }
        if written.path.is_some() && (written.add_prefix.is_some() || !strip_prefix.is_empty()) {
            build.fault(build.seen.value(&format!("{here}.path")), "the whole path leaves nothing of a prefix; write one or the other");
        }
        Some(Rewrite {
            mode: written.mode.0.meant()?,
            strip_prefix,
            add_prefix: written.add_prefix.map(|prefix| prefix.0.0).unwrap_or_default(),
            path: written.path.map(|path| path.0.0),
        })
    }

    fn told(&self, _: &Config) -> Vec<String> {
        self.iter().map(|rewrite| format!("rewrite{}", rewrite.mode.remark())).collect()
    }
}

/// Whether every path of the pattern begins with the segments of `prefix`.
fn begins(pattern: &PathPattern, prefix: &str) -> bool {
    let mut wanted = prefix.split('/').skip(1);
    let mut segments = pattern.segments().iter();
    wanted.all(|part| matches!(segments.next(), Some(Segment::Literal(literal)) if literal == part))
}

#[cfg(test)]
mod tests {
    use crate::config::testing::{good, says};

    fn route(policy: &str) -> String {
        format!("inbound: {{app: 3000, routes: [{{match: {{path: /api/v1/**}}, {policy}}}]}}\n")
    }

    #[test]
    fn prefixes_are_whole_segments_of_the_route() {
        let read = |policy: &str| good(&route(policy)).inbound.expect("open").routes.remove(0).policies.rewrite.expect("named");
        let stripped = read("rewrite: {strip_prefix: /api/, add_prefix: /v2}");
        assert_eq!((&*stripped.strip_prefix, &*stripped.add_prefix, stripped.path), ("/api", "/v2", None));
        assert_eq!(read("rewrite: {path: /index.html}").path.as_deref(), Some("/index.html"));
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let at = |policy: &str, column: usize, message: &str| says(&route(policy), &format!("1:{column}"), message);
        at("rewrite: {strip_prefix: /web}", 83, "no path of the route begins so");
        at("rewrite: {strip_prefix: /ap}", 83, "no path of the route begins so");
        at("rewrite: {strip_prefix: /api, path: /x}", 95, "one or the other");
        at("rewrite: {path: /a/*}", 75, "no plain path");
        at("rewrite: {add_prefix: //evil.example}", 81, "no plain path");
        at("rewrite: {add_prefix: /}", 81, "no prefix");
        at("strip_prefix: /api", 59, "write `rewrite: {strip_prefix: /api}`");
    }
}
