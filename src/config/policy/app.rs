//! `app`: the app that a route's requests go to, of several behind the door.

use std::sync::Arc;

use super::{InDefaults, Place, Policy, Rows, policies_of};
use crate::config::{
    Config,
    block::apps::{APP_NAME, AppName},
    build::Build,
    error::{did_you_mean, quoted},
    scalars::W,
    schema::Key,
};

const ROW: Key = Key::new("app", APP_NAME, "The app that answers: a name of `inbound.apps`.").says("`inbound.app`").eg("web");

impl Policy for Option<Arc<str>> {
    type Written = Option<W<AppName>>;

    const ROWS: Rows =
        Rows { inbound: Some(ROW), outbound: None, defaults: InDefaults::Refused("the app of all other requests is `inbound.app`") };

    fn build(_: &mut Build<'_>, _: &Place<'_>, written: Self::Written, _: &Self) -> Self {
        written.map(|name| name.0.0.into())
    }

    fn check(build: &mut Build<'_>, config: &Config) {
        let apps = || config.inbound.iter().flat_map(|door| &door.apps).map(|app| &*app.name);
        for (path, policies) in policies_of(config) {
            let Some(name) = policies.app.as_deref().filter(|name| apps().all(|known| known != *name)) else { continue };
            if build.seen.broken(&format!("inbound.apps.{name}")) {
                continue;
            }
            let hint = did_you_mean(name, apps());
            let hint = if hint.is_empty() { "; write it under `inbound.apps`".to_owned() } else { hint };
            build.fault(build.seen.value(&format!("{path}.app")), format!("there is no app {}{hint}", quoted(name)));
        }
    }

    fn told(&self, _: &Config) -> Vec<String> {
        self.iter().map(|app| format!("app {app}")).collect()
    }
}
