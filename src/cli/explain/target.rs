//! Where a request goes, in words.

use crate::{
    config::{Config, Members, Mode, Origin, Policies},
    policy::rewrite,
};

/// The URL that the app is asked for (`asked`: path and query); or the proxy itself, where the route answers without the app.
pub fn of(policies: &Policies, app: &Origin, asked: &str) -> String {
    if let Some(redirect) = policies.redirect.as_ref().filter(|redirect| redirect.mode == Mode::Enforce) {
        return format!("the proxy itself: redirect {}", redirect.status.as_u16());
    }
    if let Some(answer) = policies.respond.as_ref().filter(|answer| answer.mode == Mode::Enforce) {
        return format!("the proxy itself: respond {}", answer.status.as_u16());
    }
    let policy = policies.rewrite.as_ref().filter(|policy| policy.mode == Mode::Enforce);
    let (path, query) = asked.split_at(asked.find('?').unwrap_or(asked.len()));
    match policy.and_then(|policy| rewrite::path(policy, path)) {
        Some(seen) => format!("{app}{seen}{query}"),
        None => format!("{app}{asked}"),
    }
}

/// The members of a provider, or (`None`) of the app, if there are several.
pub fn members(config: &Config, provider: Option<&str>) -> Option<String> {
    let members = match provider {
        None => config.inbound.as_ref()?.members.as_ref(),
        Some(name) => config.outbound.as_ref()?.providers.iter().find(|provider| *provider.name == *name)?.members.as_ref(),
    };
    members.map(Members::told)
}
