//! `purge`: cache entries are dropped by their tags.

use std::sync::Arc;

use super::{InDefaults, Place, Policy, Rows};
use crate::config::{
    Config,
    build::Build,
    error::{did_you_mean, quoted},
    scalars::{Name, W},
    schema::{Key, Kind, kinds::TAG},
    written::Items,
};

const ROW: Key = Key::new("purge", Kind::List(&TAG), "Tags whose entries are dropped after a success of this route.").eg("[catalog]");

/// The meaning: the tags themselves.
impl Policy for Vec<Arc<str>> {
    type Written = Items<W<Name>>;

    const ROWS: Rows = Rows { inbound: Some(ROW), outbound: None, defaults: InDefaults::Refused("it is written in a route") };

    fn build(build: &mut Build<'_>, place: &Place<'_>, written: Self::Written, _: &Self) -> Self {
        let here = place.key("purge");
        let mut out = Vec::new();
        for (n, tag) in written.iter().enumerate().filter_map(|(n, tag)| Some((n, &tag.as_ref()?.0.0))) {
            if !build.tags.contains(tag) {
                let hint = did_you_mean(tag, build.tags.iter().map(String::as_str));
                // A cache with a mistake may give the tag.
                if !hint.is_empty() || !build.seen.is_broken_anywhere("cache") {
                    let message = format!("no cache gives the tag {}{hint}", quoted(tag));
                    build.fault(build.seen.value(&format!("{here}[{n}]")), message);
                }
            }
            out.push(Arc::from(tag.as_str()));
        }
        out
    }

    fn told(&self, _: &Config) -> Vec<String> {
        if self.is_empty() { Vec::new() } else { vec![format!("purge {}", self.join(" "))] }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::testing::{good, says};

    fn routes(routes: &str) -> String {
        format!("inbound:\n  app: 3000\n  routes:\n{routes}")
    }

    #[test]
    fn a_tag_is_one_that_a_cache_gives_whatever_its_mode() {
        let misspelt = "    - {match: {path: /a}, purge: [catalgo]}\n    - {match: {path: /b}, cache: {tags: [catalog]}}\n";
        says(&routes(misspelt), "4:35", "did you mean `catalog`?");
        let config =
            good(&routes("    - {match: {path: /a}, purge: [catalog]}\n    - {match: {path: /b}, cache: {tags: [catalog], mode: off}}\n"));
        assert_eq!(&*config.inbound.expect("open").routes[0].policies.purge[0], "catalog");
        says("inbound: {app: 3000, defaults: {purge: [a]}}\n", "1:33", "it is written in a route");
    }
}
