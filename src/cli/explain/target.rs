//! Where a request goes, in words.

use crate::{
    config::{Config, Inbound, Members, Mode, NamedApp, Origin, Policies},
    policy::rewrite,
};

/// The app of a route, if it is not the door's own.
fn named<'a>(policies: &Policies, door: &'a Inbound) -> Option<&'a NamedApp> {
    door.apps.iter().find(|app| policies.app.as_ref() == Some(&app.name))
}

/// The URL of the route's app.
pub fn app<'a>(policies: &Policies, door: &'a Inbound) -> &'a Origin {
    named(policies, door).map_or(&door.app, |app| &app.url)
}

/// The URL that the app is asked for (`asked`: path and query); or the proxy itself, where the route answers without the app.
pub fn of(policies: &Policies, door: &Inbound, asked: &str) -> String {
    let app = app(policies, door);
    if let Some(redirect) = policies.redirect.as_ref().filter(|redirect| redirect.mode == Mode::Enforce) {
        return format!("the proxy itself: redirect {}", redirect.status.as_u16());
    }
    if let Some(answer) = policies.respond.as_ref().filter(|answer| answer.mode == Mode::Enforce) {
        return format!("the proxy itself: respond {}", answer.status.as_u16());
    }
    let policy = policies.rewrite.as_ref().filter(|policy| policy.mode == Mode::Enforce);
    let (path, query) = asked.split_at(asked.find('?').unwrap_or(asked.len()));
    let name = named(policies, door).map(|app| format!(" (app {})", app.name)).unwrap_or_default();
    match policy.and_then(|policy| rewrite::path(policy, path)) {
        Some(seen) => format!("{app}{seen}{query}{name}"),
        None => format!("{app}{asked}{name}"),
    }
}

/// The members of a provider, or (`None`) of the route's app, if there are several.
pub fn members(config: &Config, policies: &Policies, provider: Option<&str>) -> Option<String> {
    let members = match provider {
        None => {
            let door = config.inbound.as_ref()?;
            named(policies, door).map_or(door.members.as_ref(), |app| app.members.as_ref())
        }
        Some(name) => config.outbound.as_ref()?.providers.iter().find(|provider| *provider.name == *name)?.members.as_ref(),
    };
    members.map(Members::told)
}
