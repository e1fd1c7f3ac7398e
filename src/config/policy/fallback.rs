//! `fallback`: what comes after a target that failed.

use std::sync::Arc;

use super::{InDefaults, Place, Policy, Rows};
use crate::config::{
    Fallback, Provider,
    build::{Build, Door, names},
    error::Fault,
    schema,
    written::{self, Items},
};

impl Policy for Vec<Fallback> {
    type Written = Items<written::Fallback>;

    const ROWS: Rows = Rows { inbound: Some(schema::IN_FALLBACK), outbound: Some(schema::OUT_FALLBACK), defaults: InDefaults::Taken };

    fn build(build: &mut Build<'_>, place: &Place<'_>, written: Self::Written, inherited: &Self) -> Self {
        let list = place.key("fallback");
        if !build.seen.written(&list) {
            return inherited.clone();
        }
        let mut out = Vec::new();
        let last = written.len().saturating_sub(1);
        for (n, item) in written.into_iter().enumerate().filter_map(|(n, item)| Some((n, item?))) {
            let here = format!("{list}[{n}]");
            if let Some(respond) = item.respond {
                if n < last {
                    build.fault(build.seen.value(&here), "a static answer never fails: nothing after it would be tried; put it last");
                }
                out.push(Fallback::Respond { status: respond.status.0, body: respond.body, content_type: respond.content_type.0.0 });
            } else if let Some(name) = item.provider {
                let name = name.0.0;
                match place.providers.iter().position(|provider| *provider.name == *name) {
                    Some(provider) => out.push(Fallback::Provider { provider, model: item.model.map(Arc::from) }),
                    None => build.unknown_provider(&name, &format!("{here}.provider"), place.providers),
                }
            }
        }
        if place.door == Door::Outbound {
            speaks_one_api(build, place, &out);
        }
        out
    }
}

/// A call is sent on as it is: a fallback must speak the API of every provider that the route can match.
fn speaks_one_api(build: &mut Build<'_>, place: &Place<'_>, fallbacks: &[Fallback]) {
    let (path, matches, providers) = (place.path, place.matches, place.providers);
    // What a match that is wrong or missing would have left is not known.
    let is_route = path.ends_with(']');
    if build.seen.broken(&format!("{path}.match")) || (is_route && !build.seen.written(&format!("{path}.match"))) {
        return;
    }
    let sound = |provider: &Provider| {
        !build.vague.iter().any(|name| **name == *provider.name) && !build.seen.broken(&format!("outbound.providers.{}", provider.name))
    };
    let can_match = |provider: &&Provider| {
        sound(provider)
            && (matches.providers.is_empty() || matches.providers.contains(&provider.name))
            && (matches.operations.is_empty() || matches.operations.iter().any(|operation| names::offers(provider.api, *operation)))
    };
    let mut faults = Vec::new();
    for (n, fallback) in fallbacks.iter().enumerate() {
        let Fallback::Provider { provider, .. } = fallback else { continue };
        let Some(target) = providers.get(*provider).filter(|target| sound(target)) else { continue };
        if let Some(other) = providers.iter().filter(can_match).find(|other| other.api != target.api) {
            let message = format!(
                "`{}` speaks {} and this route can match calls to `{}`, which speaks {}; a call is not translated: \
                     name the providers of the route with `match: {{provider: [...]}}`",
                target.name, target.api, other.name, other.api
            );
            faults.push(Fault::new(build.seen.value(&format!("{path}.fallback[{n}].provider")), message));
            break;
        }
    }
    build.faults.extend(faults);
}
