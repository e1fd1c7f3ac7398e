//! The resolved configuration: one immutable value, swapped whole on reload.
//!
//! [`Live`] is shared. Each worker keeps a [`Worker`] beside it: the same routes with the worker's own metric cells and
//! connection pools. A [`Worker`] is made anew when the generation changes; the pools of unchanged targets are kept.

use std::{
    borrow::Cow,
    cell::RefCell,
    collections::HashMap,
    rc::Rc,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use http::Method;

use super::{
    Shared,
    apps::{self, LiveApp},
    banned,
    members::{LiveMembers, Places},
    privacy,
};
use crate::{
    arrival::Door,
    config::{self, Api, Bounds, CallerSource, Config, Fallback, Match, PathPattern, Policies, Privacy, ProviderKey, Strict, Unit},
    fields::Claims,
    policy::{
        auth::issuer::Issuer,
        breaker::{Breaker, Breakers},
        keyring::Keyring,
        limits::LimitSet,
        retry::{Budget, Budgets},
    },
    provider::Prices,
    route::Table,
    telemetry::metrics::{DoorCells, RequestCells, RouteCells, WorkerMetrics},
    upstream::{Dial, Pool, Target, TargetTerms},
};

/// One generation of the configuration.
pub struct Live {
    /// The number of the generation: it grows by one with each reload.
    pub generation: u64,
    /// The configuration as read.
    pub config: Arc<Config>,
    /// The door in front of the app.
    pub inbound: Option<LiveDoor>,
    /// The door in front of the providers.
    pub outbound: Option<LiveDoor>,
    /// The app and the providers; routes hold indexes into them.
    pub targets: Vec<Arc<Target>>,
    /// Providers in the order of the configuration.
    pub providers: Vec<LiveProvider>,
    /// The apps; the first is the one of every route that names no other.
    pub apps: Vec<LiveApp>,
    /// The models' prices.
    pub prices: Prices,
    /// Finds personal data in paths and queries that are logged; `None`: no route takes any out of its calls.
    pub scrubs: Option<Privacy>,
    /// Whether any route has a cache.
    pub caches: bool,
    /// Whether an inbound limit counts the usage of calls: a call that cannot be attributed escapes such a limit.
    pub limits_callers: bool,
}

/// A door's routes.
pub struct LiveDoor {
    /// The listener.
    pub door: Door,
    /// The port that it listens on.
    pub port: u16,
    /// The bounds of its requests.
    pub bounds: Bounds,
    /// Requests that are refused beside ambiguous ones.
    pub strict: Strict,
    /// Whether answers carry `Server-Timing`.
    pub server_timing: bool,
    /// Peers whose claims about the client are believed.
    pub trusted: Vec<ipnet::IpNet>,
    /// Sources of the caller's name, in order.
    pub caller: Vec<CallerSource>,
    /// Fields that only some peers may set.
    pub claims: Arc<Claims>,
    /// Outbound: peers that may use the door. Empty: every peer that can reach it.
    pub allow: Vec<ipnet::IpNet>,
    /// Outbound with keys: `Host` names that are believed beside loopback ones. `None`: all names are believed.
    pub hosts: Option<Vec<String>>,
    /// Inbound: whether a route says which pages may use it.
    pub answers_preflights: bool,
    /// Inbound: the path of the status page, if it has one.
    pub status_page: Option<Box<str>>,
    /// Finds a request's index into `routes`.
    pub table: Table<usize>,
    /// All routes; the last one answers when none matches.
    pub routes: Vec<LiveRoute>,
}

/// A route with its policies resolved.
pub struct LiveRoute {
    /// The route's label in metrics.
    pub name: Arc<str>,
    /// The policies as configured.
    pub policies: Policies,
    /// The pattern of its paths. Absent: every path.
    pub path: Option<PathPattern>,
    /// Limits of the door and of the route; each knows whether it counts every request or only misses.
    pub limits: LimitSet,
    /// Whether browsers' preflights use up its limits: its match names OPTIONS, or it is an outbound route.
    pub counts_preflights: bool,
    /// Added to the names of breakers and budgets whose terms differ from those of the door's other routes.
    pub group: Option<Arc<str>>,
    /// The issuer of its tokens, if its keys are at a URL.
    pub issuer: Option<Arc<Issuer>>,
    /// Inbound: the place of its app among [`Live::apps`].
    pub app: usize,
    /// The targets of a request, in order. Outbound the first is the provider that was asked for.
    pub fallback: Vec<Fallback>,
}

impl LiveDoor {
    /// Index of the route that answers when none matches.
    pub fn fallthrough(&self) -> usize {
        self.routes.len() - 1
    }
}

impl LiveRoute {
    /// Whether a policy has to see the request's body before it is sent.
    pub fn reads_body(&self) -> bool {
        let policies = &self.policies;
        policies.cache.is_some()
            || policies.retry.is_some()
            || !self.fallback.is_empty()
            || self.limits.counts(Unit::Tokens)
            || self.limits.counts(Unit::NanoUsd)
            || self.limits.degrades()
            || policies.privacy.is_some()
    }

    /// Whether a policy has to understand the body: a request whose body cannot be read is refused.
    pub fn needs_text(&self) -> bool {
        let swaps_model = |fallback: &Fallback| matches!(fallback, Fallback::Provider { model: Some(_), .. });
        self.limits.counts(Unit::Tokens)
            || self.limits.counts(Unit::NanoUsd)
            || self.limits.degrades()
            || self.fallback.iter().any(swaps_model)
    }

    /// The route as the admin API shows it.
    pub fn describe(&self) -> serde_json::Value {
        // The door's limits hold on the route too.
        let holds = |(name, named): &(&'static str, bool)| *named || (*name == "limits" && !self.limits.is_empty());
        let named: Vec<&str> = self.policies.named().filter(holds).map(|(name, _)| name).collect();
        serde_json::json!({"name": &*self.name, "policies": named, "limits": self.limits.names()})
    }

    /// Whether a policy has to understand an answer before it goes to the client.
    pub fn judges_answers(&self) -> bool {
        let policies = &self.policies;
        policies.retry.is_some()
            || policies.breaker.is_some()
            || !self.fallback.is_empty()
            || policies.timeouts.as_ref().is_some_and(|timeouts| timeouts.first_token.is_some())
    }
}

/// A provider with its target.
pub struct LiveProvider {
    /// The first path segment, and the label in metrics.
    pub name: Arc<str>,
    /// Wire format.
    pub api: Api,
    /// Index into [`Live::targets`]: that of the first, if it has several members.
    pub target: usize,
    /// The members, if it has several addresses.
    pub members: Option<LiveMembers>,
    /// The prefix of its paths; that of the first member.
    pub base: String,
    /// The keys that replace the app's credential.
    pub keys: Vec<ProviderKey>,
    /// Chooses the next key.
    pub keyring: Arc<Keyring>,
    /// Whether it has refused `stream_options`: its streams are then not asked for usage any more.
    pub refuses_usage: AtomicBool,
}

impl Live {
    /// Resolves `config`. State that lives on (limits) is found in `shared` by name. The error says which setting cannot be applied.
    pub fn new(generation: u64, config: Arc<Config>, shared: &Shared) -> Result<Self, String> {
        let mut places = Places::new(shared);
        let mut apps = Vec::new();
        let inbound = match &config.inbound {
            None => None,
            Some(inbound) => {
                apps = apps::resolve(&mut places, inbound)?;
                let parts =
                    DoorParts { limits: &inbound.limits, routes: &inbound.routes, fallthrough: &inbound.fallthrough, apps: &inbound.apps };
                Some(LiveDoor {
                    port: inbound.listen.port(),
                    bounds: inbound.bounds.clone(),
                    strict: inbound.strict,
                    server_timing: inbound.server_timing,
                    trusted: inbound.trusted_proxies.clone(),
                    caller: inbound.caller.clone(),
                    claims: Arc::new(Claims::inbound(inbound.believed().cloned(), inbound.decided().cloned())),
                    status_page: config.status_page.as_ref().and_then(|page| page.path.clone()),
                    ..door(Door::Inbound, parts, shared)
                })
            }
        };
        let mut providers = Vec::new();
        let mut prices = Prices::new(&[]);
        let outbound = match &config.outbound {
            None => None,
            Some(outbound) => {
                for provider in &outbound.providers {
                    let (origin, protocol) = (&provider.url, provider.protocol);
                    let terms = TargetTerms {
                        origin,
                        tls: &provider.tls,
                        protocol,
                        keep_idle: PROVIDER_KEEP_IDLE,
                        max_connections: provider.max_connections,
                    };
                    let (target, members) = places.add(&provider.name, terms, provider.members.as_ref())?;
                    providers.push(LiveProvider {
                        name: provider.name.clone(),
                        api: provider.api,
                        target,
                        members,
                        base: provider.url.base.clone(),
                        keys: provider.keys.clone(),
                        keyring: shared.keyring(&provider.name, &provider.keys),
                        refuses_usage: AtomicBool::new(false),
                    });
                }
                prices = Prices::new(&outbound.prices);
                let (limits, routes) = (&outbound.limits, &outbound.routes);
                let parts = DoorParts { limits, routes, fallthrough: &outbound.fallthrough, apps: &[] };
                Some(LiveDoor {
                    port: outbound.listen.port(),
                    bounds: outbound.bounds.clone(),
                    server_timing: outbound.server_timing,
                    allow: outbound.allow.clone(),
                    hosts: outbound.providers.iter().any(|provider| !provider.keys.is_empty()).then(|| outbound.hosts.clone()),
                    ..door(Door::Outbound, parts, shared)
                })
            }
        };
        let caches = [&inbound, &outbound].into_iter().flatten().any(|door| door.routes.iter().any(|route| route.policies.cache.is_some()));
        let counts = |route: &LiveRoute| route.limits.counts(Unit::Tokens) || route.limits.counts(Unit::NanoUsd);
        let limits_callers = inbound.as_ref().is_some_and(|door| door.routes.iter().any(counts));
        let targets = places.targets;
        let scrubs = privacy::scrubbing(outbound.iter().flat_map(|door| &door.routes));
        Ok(Self { limits_callers, scrubs, generation, inbound, outbound, targets, providers, apps, prices, caches, config })
    }

    /// The door's routes; `None` if the configuration does not open it.
    pub fn door(&self, door: Door) -> Option<&LiveDoor> {
        match door {
            Door::Inbound => self.inbound.as_ref(),
            Door::Outbound => self.outbound.as_ref(),
        }
    }
}

struct DoorParts<'a> {
    limits: &'a [config::Limit],
    routes: &'a [config::Route],
    fallthrough: &'a Policies,
    apps: &'a [config::NamedApp],
}

fn door(door: Door, parts: DoorParts<'_>, shared: &Shared) -> LiveDoor {
    let resolve = |name: Arc<str>, policies: &Policies, matches: &Match| LiveRoute {
        path: matches.path.clone(),
        limits: shared.limits.set(door, parts.limits.iter().chain(&policies.limits)),
        counts_preflights: door == Door::Outbound || matches.methods.contains(&Method::OPTIONS),
        group: None,
        issuer: policies.auth.as_ref().and_then(|auth| shared.issuers.of(&auth.sources)),
        app: apps::place(parts.apps, policies),
        fallback: policies.fallback.clone(),
        policies: policies.clone(),
        name,
    };
    if parts.routes.iter().map(|route| &route.policies).chain([parts.fallthrough]).any(banned::are_named) {
        shared.bans.needed();
    }
    let mut routes: Vec<LiveRoute> =
        parts.routes.iter().map(|route| resolve(route.name.clone(), &route.policies, &route.matches)).collect();
    routes.push(resolve("default".into(), parts.fallthrough, &Match::default()));
    // The terms of `defaults`, which most routes have, are the target's. A route with other terms counts for itself.
    let usual = (parts.fallthrough.breaker.clone(), parts.fallthrough.retry.as_ref().map(|retry| retry.budget));
    let first = |routes: &[LiveRoute]| {
        let breaker = routes.iter().find_map(|route| route.policies.breaker.clone());
        (breaker, routes.iter().find_map(|route| route.policies.retry.as_ref().map(|retry| retry.budget)))
    };
    let known = first(&routes);
    let (breaker, budget) = (usual.0.or(known.0), usual.1.or(known.1));
    for route in &mut routes {
        let other_breaker = route.policies.breaker.is_some() && route.policies.breaker != breaker;
        let other_budget = route.policies.retry.as_ref().is_some_and(|retry| Some(retry.budget) != budget);
        route.group = (other_breaker || other_budget).then(|| route.name.clone());
    }
    let rows: Vec<(Match, usize)> = parts.routes.iter().enumerate().map(|(at, route)| (route.matches.clone(), at)).collect();
    LiveDoor {
        door,
        port: 0,
        bounds: Bounds::default(),
        strict: Strict::default(),
        server_timing: false,
        trusted: Vec::new(),
        caller: Vec::new(),
        claims: Arc::new(Claims::NONE),
        allow: Vec::new(),
        hosts: None,
        status_page: None,
        answers_preflights: routes.iter().any(|route| route.policies.cors.is_some()),
        table: Table::new(rows),
        routes,
    }
}

/// How long an idle connection to a provider is kept. Providers announce longer times; a close is noticed before reuse.
const PROVIDER_KEEP_IDLE: Duration = Duration::from_secs(55);

const DOORS: [Door; 2] = [Door::Inbound, Door::Outbound];
/// Routes that a worker resolves before it serves its requests again.
const SLICE: usize = 16;

/// The budget of a target without a retry policy.
const NO_BUDGET: config::RetryBudget = config::RetryBudget { ratio: 0.0, min_per_sec: 0.0 };
const MAX_BREAKERS: usize = 512;

/// One worker's view of a generation.
pub struct Worker {
    /// The generation.
    pub live: Arc<Live>,
    /// Connection pools, by index of the target.
    pub pools: Vec<Rc<Pool>>,
    /// Breakers by name, looked up once per generation.
    breakers: RefCell<HashMap<Box<str>, Arc<Breaker>>>,
    budgets: RefCell<HashMap<Arc<str>, Arc<Budget>>>,
    no_budget: Arc<Budget>,
    inbound: Vec<WorkerRoute>,
    outbound: Vec<WorkerRoute>,
    /// The metric cells of each door.
    pub doors: [DoorCells; 2],
}

/// What a breaker guards.
#[derive(Debug, Clone, Copy)]
pub struct BreakerOf<'a> {
    /// The app or a provider.
    pub target: &'a str,
    /// The name of the key, of a provider with several.
    pub key: Option<&'a str>,
    /// The model of a call.
    pub model: Option<&'a str>,
}

/// A route's cells on this worker.
pub struct WorkerRoute {
    /// The cells of its requests.
    pub requests: RequestCells,
    /// The cells of its policies.
    pub policies: RouteCells,
}

impl WorkerRoute {
    fn new(metrics: &WorkerMetrics, door: Door, route: &LiveRoute) -> Self {
        Self { requests: metrics.request_cells(door, &route.name), policies: metrics.route_cells(door, &route.name) }
    }
}

impl Worker {
    /// Resolves the worker's side of `live`. The pools of unchanged targets are kept.
    pub fn new(live: Arc<Live>, metrics: &WorkerMetrics, dial: &Rc<dyn Dial>, earlier: Option<&Self>) -> Self {
        let routes = DOORS.map(|door| {
            let routes = live.door(door).map_or(&[][..], |door| &door.routes);
            routes.iter().map(|route| WorkerRoute::new(metrics, door, route)).collect()
        });
        Self::with(routes, live, metrics, dial, earlier)
    }

    /// As [`Worker::new`], in slices: the worker's requests go on between them.
    pub async fn prepare(live: Arc<Live>, metrics: &WorkerMetrics, dial: &Rc<dyn Dial>, earlier: Rc<Self>) -> Self {
        let mut routes = [Vec::new(), Vec::new()];
        for door in DOORS {
            let slices = live.door(door).map_or(&[][..], |door| &door.routes).chunks(SLICE);
            for slice in slices {
                routes[door as usize].extend(slice.iter().map(|route| WorkerRoute::new(metrics, door, route)));
                tokio::task::yield_now().await;
            }
        }
        Self::with(routes, live, metrics, dial, Some(&earlier))
    }

    /// Frees a worker's side of a generation that no request holds any more, in slices too.
    pub async fn retire(self) {
        let Self { inbound, outbound, .. } = self;
        for mut routes in [inbound, outbound] {
            while !routes.is_empty() {
                routes.truncate(routes.len().saturating_sub(SLICE));
                tokio::task::yield_now().await;
            }
        }
    }

    fn with(
        [inbound, outbound]: [Vec<WorkerRoute>; 2],
        live: Arc<Live>,
        metrics: &WorkerMetrics,
        dial: &Rc<dyn Dial>,
        earlier: Option<&Self>,
    ) -> Self {
        let known = |target: &Target| earlier?.pools.iter().find(|pool| pool.target.is_same_as(target)).cloned();
        let pools = live
            .targets
            .iter()
            .map(|target| match known(target) {
                Some(pool) => pool,
                None => Rc::new(Pool::new(target.clone(), dial.clone(), Rc::new(metrics.target_cells(&target.name)))),
            })
            .collect();
        Self {
            inbound,
            outbound,
            doors: [metrics.door_cells("inbound"), metrics.door_cells("outbound")],
            breakers: RefCell::default(),
            budgets: RefCell::default(),
            no_budget: Arc::new(Budget::new(NO_BUDGET, crate::clock::Instant::now())),
            pools,
            live,
        }
    }

    /// The breaker of a target: the app, or a provider with a model and a key.
    pub fn breaker(&self, all: &Breakers, terms: &config::Breaker, group: Option<&str>, of: &BreakerOf<'_>) -> Arc<Breaker> {
        let mut known = self.breakers.borrow_mut();
        let group = group.map(|group| format!("@{group}")).unwrap_or_default();
        let target = match of.key {
            Some(key) => Cow::Owned(format!("{}#{key}", of.target)),
            None => Cow::Borrowed(of.target),
        };
        let name = match of.model.filter(|model| model.len() <= 128) {
            Some(model) => format!("{target}/{model}{group}"),
            None => format!("{target}{group}"),
        };
        if let Some(breaker) = known.get(name.as_str()) {
            return breaker.clone();
        }
        // Clients choose the model names: beyond a bound new names share their provider's breaker.
        let name = if known.len() < MAX_BREAKERS { name } else { format!("{target}{group}") };
        let breaker = all.get(&name.as_str().into(), terms, self.live.generation, crate::clock::Instant::now());
        known.insert(name.into(), breaker.clone());
        breaker
    }

    /// The retry budget of a target.
    pub fn budget(&self, all: &Budgets, policy: Option<&config::Retry>, group: Option<&str>, target: &Arc<str>) -> Arc<Budget> {
        let Some(policy) = policy else { return self.no_budget.clone() };
        let mut known = self.budgets.borrow_mut();
        let name = match group {
            Some(group) => format!("{target}@{group}").into(),
            None => target.clone(),
        };
        if let Some(budget) = known.get(&name) {
            return budget.clone();
        }
        let budget = all.get(&name, policy.budget, self.live.generation, crate::clock::Instant::now());
        known.insert(name, budget.clone());
        budget
    }

    /// The cells of a route.
    pub fn route(&self, door: Door, index: usize) -> &WorkerRoute {
        match door {
            Door::Inbound => &self.inbound[index],
            Door::Outbound => &self.outbound[index],
        }
    }

    /// The cells of a door.
    pub fn door(&self, door: Door) -> &DoorCells {
        &self.doors[door as usize]
    }
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
