//! `purge`: cache entries are dropped by their tags.

use std::sync::Arc;

use super::{InDefaults, Place, Policy, Rows};
use crate::config::{
    build::Build,
    error::{did_you_mean, quoted},
    scalars::{Name, W},
    schema,
    written::Items,
};

impl Policy for Vec<Arc<str>> {
    type Written = Items<W<Name>>;

    const ROWS: Rows = Rows { inbound: Some(schema::PURGE), outbound: None, defaults: InDefaults::Refused("it is written in a route") };

    fn build(build: &mut Build<'_>, place: &Place<'_>, written: Self::Written, _: &Self) -> Self {
        let here = place.key("purge");
        let mut out = Vec::new();
        for (n, tag) in written.iter().enumerate().filter_map(|(n, tag)| Some((n, &tag.as_ref()?.0.0))) {
            if !build.tags.contains(tag) {
                let hint = did_you_mean(tag, build.tags.iter().map(String::as_str));
                // A cache that is wrong may give it.
                if !hint.is_empty() || !build.seen.is_broken_anywhere("cache") {
                    let message = format!("no cache gives the tag {}{hint}", quoted(tag));
                    build.fault(build.seen.value(&format!("{here}[{n}]")), message);
                }
            }
            out.push(Arc::from(tag.as_str()));
        }
        out
    }
}
