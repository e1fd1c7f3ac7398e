//! The apps behind the inbound door: the one of `inbound.app`, which comes first, and those of `inbound.apps`.

use std::{sync::Arc, time::Duration};

use super::{
    live::{Live, Worker},
    members::{Among, LiveMembers, Places},
    sending::Aim,
};
use crate::{
    config::{Inbound, NamedApp, Policies},
    upstream::TargetTerms,
};

/// An app with its target.
pub struct LiveApp {
    /// `app`, or its name.
    pub name: Arc<str>,
    /// Index into [`Live::targets`]: that of the first, if it has several members.
    pub target: usize,
    /// The members, if it has several addresses.
    pub members: Option<LiveMembers>,
}

/// How long an idle connection to an app is kept. Below Node's five seconds: the app's close must not cross a request.
const KEEP_IDLE: Duration = Duration::from_secs(3);

/// Resolves the apps of the door.
///
/// # Errors
/// A setting cannot be applied.
pub(super) fn resolve(places: &mut Places<'_>, inbound: &Inbound) -> Result<Vec<LiveApp>, String> {
    let terms = TargetTerms {
        origin: &inbound.app,
        tls: &inbound.app_tls,
        protocol: inbound.app_protocol,
        keep_idle: KEEP_IDLE,
        max_connections: inbound.app_max_connections,
    };
    let (target, members) = places.add(&"app".into(), terms, inbound.members.as_ref())?;
    let mut apps = vec![LiveApp { name: "app".into(), target, members }];
    for NamedApp { name, url, members, tls, protocol, max_connections } in &inbound.apps {
        let terms = TargetTerms { origin: url, tls, protocol: *protocol, keep_idle: KEEP_IDLE, max_connections: *max_connections };
        let (target, members) = places.add(name, terms, members.as_ref())?;
        apps.push(LiveApp { name: name.clone(), target, members });
    }
    Ok(apps)
}

/// The place of a route's app among the apps of its door.
pub(super) fn place(apps: &[NamedApp], policies: &Policies) -> usize {
    policies.app.as_ref().and_then(|name| apps.iter().position(|app| app.name == *name)).map_or(0, |at| at + 1)
}

impl<'a> Aim<'a> {
    /// At the app of this place.
    pub(super) fn at_app(worker: &'a Worker, place: usize) -> Self {
        let app = &worker.live.apps[place];
        let among = Among::of(app.members.as_ref(), &worker.pools);
        Self { pool: &worker.pools[app.target], among, provider: None, model: None }
    }
}

impl Live {
    /// The app whose address, or one of whose members, this target is; `None`: a provider.
    pub fn app_at(&self, target: usize) -> Option<&LiveApp> {
        let is_its = |app: &&LiveApp| app.target == target || app.members.as_ref().is_some_and(|members| members.state(target).is_some());
        self.apps.iter().find(is_its)
    }
}
