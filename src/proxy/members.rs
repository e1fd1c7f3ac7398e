//! A target with several addresses: the member of a try, chosen with its key and its breaker's permit, and judged by the answer.
//!
//! A member that fails is left out by its breaker: that of the route, or one with the terms of `balance`. A breaker of `balance` never
//! refuses a request: where every member is left out, all are asked. A try that found no connection goes to another member at once:
//! the member has done no work, and each is asked once. A later try avoids the members that have failed this request.

use std::{rc::Rc, sync::Arc, time::Duration};

use super::{
    Proxy, Shared,
    ask::Ask,
    demands,
    guards::Guards,
    judged::Tried,
    keyed::{self, Chosen},
    live::{Live, LiveProvider, LiveRoute},
    sending::Aim,
};
use crate::{
    clock::Instant,
    config::{self, Choose},
    policy::{
        balance::{Balancer, Begun, MemberState},
        breaker::{self, State},
        limits::keys,
        retry::TryOutcome,
    },
    reject::{Bound, Reject},
    upstream::{Pool, Target, TargetTerms, tls::SystemRoots},
};

/// Bytes of a request's body that are kept for another member, where no retry policy keeps more.
pub(super) const KEPT: u64 = 64 * 1024;

/// The members of a target.
pub struct LiveMembers {
    /// The name of the whole: `app`, or the provider's.
    pub name: Arc<str>,
    /// Index of the first one among the targets; the others follow.
    pub first: usize,
    /// Chooses the next member.
    pub balancer: Arc<Balancer>,
    /// The terms by which a member is left out, where a route has no breaker.
    health: config::Breaker,
}

impl LiveMembers {
    /// The state of the member at this index among the targets; `None`: it is none of them.
    pub fn state(&self, target: usize) -> Option<&Arc<MemberState>> {
        self.balancer.state(target.checked_sub(self.first)?)
    }
}

impl Live {
    /// The provider whose address, or one of whose members, this target is; `None`: an app.
    pub fn provider_at(&self, target: usize) -> Option<&LiveProvider> {
        let is_its = |provider: &&LiveProvider| {
            provider.target == target || provider.members.as_ref().is_some_and(|members| members.state(target).is_some())
        };
        self.providers.iter().find(is_its)
    }

    /// The names of targets with several members.
    pub fn wholes(&self) -> impl Iterator<Item = &Arc<str>> {
        self.members().map(|members| &members.name)
    }

    /// The targets with several members.
    pub fn members(&self) -> impl Iterator<Item = &LiveMembers> {
        self.apps
            .iter()
            .filter_map(|app| app.members.as_ref())
            .chain(self.providers.iter().filter_map(|provider| provider.members.as_ref()))
    }
}

/// The targets of a generation, as they are resolved.
pub(super) struct Places<'s> {
    pub(super) targets: Vec<Arc<Target>>,
    roots: SystemRoots,
    shared: &'s Shared,
}

impl<'s> Places<'s> {
    pub(super) fn new(shared: &'s Shared) -> Self {
        Self { targets: Vec::new(), roots: SystemRoots::default(), shared }
    }

    /// Adds a target, or its members; gives the index of the first one.
    ///
    /// # Errors
    /// A setting cannot be applied.
    pub(super) fn add(
        &mut self,
        name: &Arc<str>,
        terms: TargetTerms<'_>,
        members: Option<&config::Members>,
    ) -> Result<(usize, Option<LiveMembers>), String> {
        let first = self.targets.len();
        let Some(members) = members else {
            self.target(name.clone(), terms)?;
            return Ok((first, None));
        };
        for member in &members.list {
            self.target(format!("{name}:{}", member.name).into(), TargetTerms { origin: &member.url, ..terms })?;
        }
        let balancer = self.shared.balancer(name, members);
        Ok((first, Some(LiveMembers { name: name.clone(), first, balancer, health: members.health.clone() })))
    }

    fn target(&mut self, name: Arc<str>, terms: TargetTerms<'_>) -> Result<(), String> {
        let known = self.shared.reached.lock().entry(format!("{name} {}", terms.origin)).or_default().clone();
        self.targets.push(Arc::new(Target::new(name, terms, &mut self.roots)?.known_as(known)));
        Ok(())
    }
}

impl Shared {
    /// The choice among a target's members. The state of a member lives on across reloads, for as long as the target has it.
    fn balancer(&self, name: &Arc<str>, members: &config::Members) -> Arc<Balancer> {
        let (mut known, now) = (self.members.lock(), Instant::now());
        known.retain(|_, state| Arc::strong_count(state) > 1);
        let state = |member: &config::Member| {
            let mark = format!("{name} {}", member.url);
            known.entry(mark.clone()).or_insert_with(|| Arc::new(MemberState::new(&mark, now))).clone()
        };
        Arc::new(Balancer::new(members, members.list.iter().map(state).collect()))
    }
}

/// The members of an aim, and this worker's connections to them.
#[derive(Clone, Copy)]
pub(super) struct Among<'a> {
    live: &'a LiveMembers,
    pools: &'a [Rc<Pool>],
}

impl<'a> Among<'a> {
    /// `None`: the target has one address.
    pub(super) fn of(live: Option<&'a LiveMembers>, pools: &'a [Rc<Pool>]) -> Option<Self> {
        live.map(|live| Self { live, pools: &pools[live.first..] })
    }

    /// How many members there are beside one.
    pub(super) fn others(&self) -> usize {
        self.live.balancer.all().count_ones() as usize - 1
    }

    /// The name of the whole.
    pub(super) fn name(&self) -> &'a Arc<str> {
        &self.live.name
    }
}

/// The tries of one request at one target.
#[derive(Default)]
pub(super) struct MemberTries {
    /// A bit for each member that has failed.
    failed: u64,
    key: Option<Option<u64>>,
    /// The place of the member that is tried now; `None`: the target has one address.
    place: Option<usize>,
    /// Whether the next try is at the same member.
    stays: bool,
}

impl MemberTries {
    /// The try at the member begins; it counts there until the exchange with the member is over.
    pub(super) fn begin(&self, aim: &Aim<'_>) -> Option<Begun> {
        aim.among?.live.balancer.begin(self.place?, Instant::now())
    }
}

/// The member for the next try at `aim`, then its key and its breaker's permit. From now on `aim` is that member.
///
/// # Errors
/// As [`keyed::choose`]; the breaker of a route is open for every member.
pub(super) fn choose<'a>(
    proxy: &Proxy,
    ask: &Ask,
    route: &LiveRoute,
    aim: &mut Aim<'a>,
    guards: &mut Guards,
    tries: &mut MemberTries,
) -> Result<Chosen, Reject> {
    let Some(Among { live, pools }) = aim.among else { return keyed::choose(proxy, ask, route, aim, guards) };
    let balancer = &live.balancer;
    if balancer.all() & !tries.failed == 0 {
        tries.failed = 0;
    }
    let key = *tries.key.get_or_insert_with(|| sticky_key(ask, route, aim, balancer));
    let now = Instant::now();
    let (mut passed, mut held, mut soonest) = (tries.failed, 0, None);
    // A connection that was closed while idle says nothing of its member.
    let mut same = tries.place.filter(|_| std::mem::take(&mut tries.stays));
    while let Some(place) = same.take().or_else(|| balancer.next(passed, key, now, &proxy.chance)) {
        aim.pool = &pools[place];
        tries.place = Some(place);
        guards.turn_to_member(proxy, ask, route, aim, &live.health);
        match with_key(proxy, ask, route, aim, guards, false) {
            Ok(chosen) => return Ok(chosen),
            Err(Reject::BreakerOpen { retry_after, .. }) => {
                passed |= 1 << place;
                held |= if retry_after.is_none() { 1 << place } else { 0 };
                // The soonest; held open by hand is the latest.
                soonest = Some(soonest.map_or(retry_after, |least: Option<Duration>| [least, retry_after].into_iter().flatten().min()));
            }
            Err(reject) => return Err(reject),
        }
    }
    let refused = Reject::BreakerOpen { target: live.name.clone(), retry_after: soonest.flatten() };
    if route.policies.breaker.is_some() {
        return Err(refused);
    }
    // All are left out: better a member that may fail than none. What a person holds open stays out.
    let place = balancer.next(tries.failed | held, key, now, &proxy.chance).ok_or(refused)?;
    aim.pool = &pools[place];
    tries.place = Some(place);
    guards.turn_to_member(proxy, ask, route, aim, &live.health);
    with_key(proxy, ask, route, aim, guards, true)
}

/// The key for a try at the member, and its breaker's permit. The breaker of a member is asked before a key is taken: each key that is
/// taken draws on its quota. `force`: whatever the member's breaker says.
fn with_key(proxy: &Proxy, ask: &Ask, route: &LiveRoute, aim: &Aim<'_>, guards: &mut Guards, force: bool) -> Result<Chosen, Reject> {
    if route.policies.breaker.is_some() {
        return keyed::choose(proxy, ask, route, aim, guards);
    }
    let permit = guards.permit_once(&aim.pool.target.name, force)?;
    Ok(Chosen { permit, ..keyed::choose(proxy, ask, route, aim, guards)? })
}

/// The key of a sticky choice; `None`: the choice is another, or nobody is named.
fn sticky_key(ask: &Ask, route: &LiveRoute, aim: &Aim<'_>, balancer: &Balancer) -> Option<u64> {
    let Choose::Sticky(parts) = balancer.choice() else { return None };
    let call = ask.call();
    let model = aim.model.or_else(|| call?.model.as_ref()).map(|model| &**model);
    keys::stable(ask.door(), parts, &demands::facts(ask, route, call.map(|call| &*call.provider), model))
}

/// Notes how a try at a member has ended. Another member may be tried at once if this one was not reached. `reconnects`: the same
/// member is asked once more, and the try says nothing of it.
pub(super) fn judge(ask: &Ask, aim: &Aim<'_>, tries: &mut MemberTries, tried: &mut Tried, reconnects: bool) {
    let (Some(among), Some(place)) = (aim.among, tries.place) else { return };
    tries.stays = reconnects;
    if reconnects {
        return;
    }
    let failed = matches!(tried.for_breaker(), breaker::Outcome::Failure { .. });
    let now = Instant::now();
    let began = ask.tries.began.get().unwrap_or(now);
    let answered = if failed { None } else { ask.tries.last.get() };
    let took = answered.unwrap_or_else(|| now.saturating_duration_since(began));
    among.live.balancer.took(place, took, failed, now);
    if failed || matches!(tried.outcome, TryOutcome::Fault { .. }) {
        tries.failed |= 1 << place;
    }
    let unreached = matches!(tried.outcome, TryOutcome::Fault { may_be_processed: false, .. } | TryOutcome::Timeout(Bound::Connect));
    tried.another_member = unreached && among.live.balancer.all() & !tries.failed != 0;
}

/// A member's breaker has turned: one that closes lets the member begin anew.
pub(super) fn turned(aim: &Aim<'_>, tries: &MemberTries, state: State) {
    if let (Some(among), Some(place), State::Closed) = (aim.among, tries.place, state) {
        among.live.balancer.begins(place, Instant::now());
    }
}
