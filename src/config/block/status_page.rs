//! `status_page`: the public page of what `monitors` found out, and where it stands.

use std::net::SocketAddr;

use serde::Deserialize;

use crate::config::{
    Inbound, PathPattern, Segment,
    build::Build,
    scalars::{W, Word},
    schema::{
        Json, Key, Kind, Scalar, Table,
        kinds::{ADDRESS, TEXT},
    },
};

/// The status page. It has a listener, a path, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusPage {
    /// The listener of its own.
    pub listen: Option<SocketAddr>,
    /// Its path at the inbound door, without a slash at the end: the app never sees it, nor what is below it.
    pub path: Option<Box<str>>,
    /// Its title.
    pub title: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    listen: Option<W<SocketAddr>>,
    path: Option<W<PagePath>>,
    title: String,
}

/// A path of literal segments.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PagePath(PathPattern);

impl Word for PagePath {
    fn word(text: &str) -> Result<Self, String> {
        let path = PathPattern::parse(text)?;
        let plain = |segment: &Segment| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            matches!(segment, Segment::Literal(word) if !word.is_empty() && word.bytes().all(plain))
        };
        match path.segments().iter().all(plain) {
            true => Ok(Self(path)),
            false => Err(format!("`{text}` must be a path of plain words, such as /status: all below it is the page's")),
        }
    }
}

const PATH: Kind = Kind::Scalar(&Scalar::new::<PagePath>("a path", Json::Pattern(r"^(/[A-Za-z0-9._~-]+)+$"), "/status"));

pub(super) static TABLE: Table = Table::new(
    "status_page",
    "A public page of what `monitors` found out, on a listener of its own or at a path of the inbound door: it answers while the app is down.",
    &[
        Key::new("listen", ADDRESS, "Where it listens; it may face the network.").eg("0.0.0.0:9903"),
        Key::new("path", PATH, "Its path at the inbound door. The app never sees this path, nor what is below it.").eg("/status"),
        Key::new("title", TEXT, "Its title.").default("Status").eg("Shop"),
    ],
)
.at_least_one(&[&["listen", "path"]]);

pub(in crate::config) fn page(build: &mut Build<'_>, written: Option<Written>, inbound: Option<&Inbound>) -> Option<StatusPage> {
    let written = written?;
    if !build.seen.written("monitors") {
        build.note(build.seen.key("status_page"), "`status_page` shows nothing without `monitors`: write `monitors: {}`");
    }
    let path = written.path.map(|path| path.0.0);
    if let Some(path) = &path {
        let at = build.seen.value("status_page.path");
        match inbound {
            None => build.fault(at, "there is no inbound door for this path: write `listen` instead, or `inbound`"),
            Some(door) => hidden(build, door, path),
        }
    }
    Some(StatusPage { listen: written.listen.map(|at| at.0), path: path.map(|path| path.as_str().into()), title: written.title })
}

/// Says what of the app the page hides. A route for such a path would never be used: that is a mistake.
fn hidden(build: &mut Build<'_>, door: &Inbound, path: &PathPattern) {
    let at = build.seen.value("status_page.path");
    let is_below = |pattern: &PathPattern| pattern.segments().starts_with(path.segments());
    let never: Vec<&str> = door
        .routes
        .iter()
        .filter_map(|route| route.matches.path.as_ref())
        .filter(|pattern| is_below(pattern))
        .map(PathPattern::as_str)
        .collect();
    let page = path.as_str();
    match never.first() {
        Some(route) => {
            build.fault(at, format!("the status page answers {page} and all below it, so the route of `{route}` would never be used"))
        }
        None => build.note(at, format!("the proxy answers {page} and all below it: requests for an app's {page} do not reach the app")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::scalars::tests::refused;

    #[test]
    fn a_path_has_plain_words_and_is_not_the_whole_app() {
        assert!(PagePath::word("/status").is_ok() && PagePath::word("/our/status-page").is_ok());
        for (path, why) in [
            ("/", "plain words"),
            ("/status/", "plain words"),
            ("/a//b", "plain words"),
            ("/%73tatus", "plain words"),
            ("/status/**", "plain words"),
            ("status", "must begin with"),
            ("/a/../b", "segments"),
            ("/a?b", "without query"),
        ] {
            refused::<PagePath>(path, why);
        }
    }
}
