//! `csrf`: whether a page of another origin may change something in a user's name.

use serde::Deserialize;

use super::{InDefaults, Place, Policy, Rows};
use crate::config::{
    Config, PathPattern,
    block::route::PATH_PATTERN,
    build::Build,
    error::quoted,
    mode::{MODE_KEY, Mode, ModeWord},
    scalars::W,
    schema::{Elsewhere, Key, Kind, Table, kinds::WEB_ORIGIN},
    web_origin::WebOrigin,
    written::Items,
};

/// Requests that a page of another origin may not make a browser send.
#[derive(Debug, Clone, Default)]
pub struct Csrf {
    /// Whether it acts.
    pub mode: Mode,
    /// Other origins whose pages may.
    pub trusted: Vec<WebOrigin>,
    /// Paths that every page may ask.
    pub exempt: Vec<PathPattern>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    mode: W<ModeWord>,
    #[serde(default)]
    trusted_origins: Items<W<WebOrigin>>,
    #[serde(default)]
    exempt: Items<W<PathPattern>>,
}

static TABLE: Table = Table::new(
    "csrf",
    "Refuses what a page of another origin makes a browser send in a user's name: requests that change something, and WebSockets. \
     `Sec-Fetch-Site` decides, else `Origin`, else `Referer`; a client that sends none of them is no browser and passes. The app needs no \
     tokens.",
    &[
        MODE_KEY,
        Key::new("trusted_origins", Kind::OneOrMany(&WEB_ORIGIN), "Other origins whose pages may: a sign-in page, a sister site.")
            .eg("[\"https://login.example\"]"),
        Key::new("exempt", Kind::OneOrMany(&PATH_PATTERN), "Paths that every page may ask: they check by themselves.").eg("[/webhooks/**]"),
    ],
);
const ROW: Key = Key::new("csrf", Kind::Table(&TABLE), "Whether a page of another origin may change something in a user's name.");

const ELSEWHERE: &[Elsewhere] =
    &[(&["csrf_protection", "csrf_policy", "xsrf", "cross_origin_protection"], "write `csrf: {}` in a route or in the door's `defaults`")];

impl Policy for Option<Csrf> {
    type Written = Option<Written>;

    const ROWS: Rows = Rows { inbound: Some(ROW), outbound: None, defaults: InDefaults::Taken };

    const ELSEWHERE: &'static [Elsewhere] = ELSEWHERE;

    fn build(build: &mut Build<'_>, place: &Place<'_>, written: Self::Written, inherited: &Self) -> Self {
        let Some(written) = written else { return inherited.clone() };
        let here = place.key("csrf");
        let trusted: Vec<WebOrigin> = written.trusted_origins.into_iter().flatten().map(|origin| origin.0).collect();
        for (at, origin) in trusted.iter().enumerate().filter(|(_, origin)| origin.is_everybody()) {
            let message = format!(
                "{} trusts every page, so that nothing is refused; name the origins, or write `mode: off`",
                quoted(&origin.to_string())
            );
            build.fault(build.seen.value(&format!("{here}.trusted_origins[{at}]")), message);
        }
        let exempt = written.exempt.into_iter().flatten().map(|path| path.0).collect();
        Some(Csrf { mode: written.mode.0.meant()?, trusted, exempt })
    }

    fn told(&self, _: &Config) -> Vec<String> {
        self.iter().map(|csrf| format!("csrf{}", csrf.mode.remark())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{good, route, says};

    #[test]
    fn it_needs_nothing_and_trusts_nobody() {
        let policies = good(&route("csrf: {}")).inbound.expect("open").routes.remove(0).policies;
        assert!(policies.csrf.is_some_and(|csrf| csrf.mode == Mode::Enforce && csrf.trusted.is_empty()));
        says(&route("csrf: {trusted_origins: \"*\"}"), "5:31", "trusts every page");
        says(&route("xsrf: {}"), "5:7", "write `csrf: {}`");
    }
}
