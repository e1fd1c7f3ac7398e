//! Limits as a request meets them.

use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::{
    config::{Algorithm, KeyPart, Limit, Unpriced},
    http1::Fields,
};

fn limit(name: &str, unit: Unit, amount: u64, key: Vec<KeyPart>) -> Limit {
    Limit { key, unpriced: Unpriced::Refuse, unmetered: Unpriced::Refuse, ..Limit::new(name, unit, amount, Duration::from_secs(60)) }
}

struct World {
    limits: Limits,
    headers: Fields,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let clock = Clock::fixed(UNIX_EPOCH + Duration::from_secs(1_780_000_000));
        Self { limits: Limits::new(10_000, &clock, None), headers: Fields::new(), now: clock.now() }
    }

    fn keyed(&self, set: &LimitSet, caller: Option<&str>) -> Keyed {
        set.keyed(&KeyFacts {
            client_ip: "192.0.2.1".parse().expect("ip"),
            caller,
            proof: None,
            headers: &self.headers,
            query: None,
            trusted: false,
            route: "r",
            provider: None,
            model: None,
        })
    }

    fn admit(&self, keyed: &Keyed, demand: Demand<'_>) -> Result<Lease, Box<Limited>> {
        self.limits.admit(&[Question { keyed, demand }], self.now)
    }
}

const ARRIVAL: Demand<'_> = Demand {
    requests: 1,
    tokens: Estimate::Unknown,
    nano_usd: Estimate::Unknown,
    look: true,
    stage: Some(Applies::All),
    moves: false,
    flies: true,
    over: None,
    again: false,
};

fn fields(lease: &Lease) -> Fields {
    let mut fields = Fields::new();
    lease.tell(&mut fields);
    fields
}

#[tokio::test(start_paused = true)]
async fn ten_a_minute_fixed_and_what_the_client_is_told() {
    let world = World::new();
    let set = world.limits.set(Door::Inbound, &[Limit { algorithm: Algorithm::Fixed, ..limit("ten", Unit::Requests, 10, vec![]) }]);
    let keyed = world.keyed(&set, None);
    let told = |headers: Fields| {
        headers.iter().map(|(name, value)| format!("{}: {}", name.as_str(), value.to_str().expect("text"))).collect::<Vec<_>>()
    };
    let first = world.admit(&keyed, ARRIVAL).expect("admitted");
    // 1,780,000,000 is 40 s into a minute.
    assert_eq!(told(fields(&first)), [r#"ratelimit-policy: "ten";q=10;w=60;qu="requests""#, r#"ratelimit: "ten";r=9;t=20"#]);
    first.keep();
    (0..9).for_each(|_| world.admit(&keyed, ARRIVAL).expect("admitted").keep());
    let refused = world.admit(&keyed, ARRIVAL).expect_err("the 11th");
    assert_eq!((refused.retry_after, &*refused.limit, refused.unit), (Some(Duration::from_secs(20)), "ten", "requests"));
    assert_eq!(told(refused.headers)[1], r#"ratelimit: "ten";r=0;t=20"#);
    let after =
        world.limits.admit(&[Question { keyed: &keyed, demand: ARRIVAL }], world.now + Duration::from_secs(20)).expect("a new window");
    assert_eq!(after.states().next().map(|state| state.remaining), Some(9));
}

#[tokio::test(start_paused = true)]
async fn what_the_header_says_is_a_structured_field() {
    let world = World::new();
    let set =
        world.limits.set(Door::Inbound, &[limit("a \"b\" é", Unit::NanoUsd, u64::MAX, vec![]), limit("n", Unit::Requests, 5, vec![])]);
    let lease = world.admit(&world.keyed(&set, None), ARRIVAL).expect("admitted");
    for (name, value) in fields(&lease).iter() {
        let list = sfv::Parser::new(value.as_bytes()).parse::<sfv::List>().expect("a structured field");
        assert_eq!(list.len(), 2, "{}", name.as_str());
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_are_reserved_settled_refunded_and_owed() {
    let world = World::new();
    let set = world.limits.set(Door::Outbound, &[limit("t", Unit::Tokens, 1_000, vec![KeyPart::Caller])]);
    let keyed = world.keyed(&set, Some("ann"));
    let call = |tokens| world.admit(&keyed, Demand::call(Applies::All, tokens, 0));
    let remaining = || call(0).expect("room").states().next().map(|state| state.remaining);

    let first = call(600).expect("fits");
    assert_eq!(call(600).expect_err("600 + 600").retry_after.map(|wait| wait.as_secs()), Some(61));
    first.settle(250, 0, world.now);
    assert_eq!(remaining(), Some(750));
    call(700).expect("fits").refund();
    drop(call(700).expect("fits"));
    assert_eq!(remaining(), Some(750), "refunded and cancelled calls give back");
    call(700).expect("fits").settle(5_000, 0, world.now);
    assert!(call(0).is_err(), "a debt refuses even what costs nothing yet");
    assert_eq!(call(1_001).expect_err("above the limit").retry_after, None);
    assert!(world.admit(&world.keyed(&set, Some("bob")), Demand::call(Applies::All, 900, 0)).is_ok(), "another caller");
    assert!(world.admit(&world.keyed(&set, None), Demand::call(Applies::All, 9_000, 0)).is_ok(), "an unknown caller is skipped");
    assert_eq!(world.limits.counts()[0].skipped, 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_comes_in_only_looks_at_what_its_calls_spend() {
    let world = World::new();
    let dollars = 1_000_000_000;
    let limits = [limit("spend", Unit::NanoUsd, dollars, vec![KeyPart::Caller]), limit("rate", Unit::Requests, 3, vec![KeyPart::Caller])];
    let set = world.limits.set(Door::Inbound, &limits);
    let keyed = world.keyed(&set, Some("ann"));
    let arrival = world.admit(&keyed, ARRIVAL).expect("nothing spent");
    // The cause may be kept longer than the request.
    let cause = keyed.clone();
    let call = world.admit(&cause, Demand::caused(0, dollars / 2)).expect("half a dollar");
    call.settle(0, dollars, world.now);
    arrival.settle(0, 0, world.now);
    let refused = world.admit(&keyed, ARRIVAL).expect_err("spent");
    assert_eq!(&*refused.limit, "spend");
    let counts = world.limits.counts();
    let rate = counts.iter().find(|counts| &*counts.name == "rate").expect("counted");
    assert_eq!((rate.admitted, rate.refused), (1, 0), "a call is no request of the inbound limit; a refusal charges no other limit");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_request_stays_counted_and_a_refunded_one_does_not() {
    let world = World::new();
    let set = world.limits.set(Door::Inbound, &[limit("two", Unit::Requests, 2, vec![KeyPart::ClientIp])]);
    let keyed = world.keyed(&set, None);
    world.admit(&keyed, ARRIVAL).expect("one").refund();
    drop(world.admit(&keyed, ARRIVAL).expect("one, the client hangs up"));
    drop(world.admit(&keyed, ARRIVAL).expect("two"));
    assert!(world.admit(&keyed, ARRIVAL).is_err());
}

#[tokio::test(start_paused = true)]
async fn stages_are_asked_apart_and_counters_live_on_by_name() {
    let world = World::new();
    let misses = Limit { applies: Applies::Misses, ..limit("misses", Unit::Requests, 1, vec![]) };
    let limits = [limit("every", Unit::Requests, 5, vec![]), misses];
    let set = world.limits.set(Door::Outbound, &limits);
    assert!(set.applies(Applies::Misses) && set.counts(Unit::Requests) && !set.counts(Unit::Tokens));
    let keyed = world.keyed(&set, None);
    let every = world.admit(&keyed, Demand::call(Applies::All, 0, 0)).expect("admitted");
    assert_eq!(every.states().map(|state| state.name.to_owned()).collect::<Vec<_>>(), ["every"]);
    world.admit(&keyed, Demand::call(Applies::Misses, 0, 0)).expect("admitted").keep();

    let reloaded = world.limits.set(Door::Outbound, &limits);
    assert!(world.admit(&world.keyed(&reloaded, None), Demand::call(Applies::Misses, 0, 0)).is_err(), "still spent after a reload");
    assert_eq!(world.limits.counts().iter().map(|counts| counts.admitted).collect::<Vec<_>>(), [1, 1]);
    let other_door = world.limits.set(Door::Inbound, &limits);
    assert!(world.admit(&world.keyed(&other_door, None), Demand::call(Applies::Misses, 0, 0)).is_ok());
}

#[tokio::test(start_paused = true)]
async fn several_asks_are_decided_together() {
    let world = World::new();
    let inbound = world.limits.set(Door::Inbound, &[limit("user", Unit::Tokens, 100, vec![KeyPart::Caller])]);
    let outbound = world.limits.set(Door::Outbound, &[limit("provider", Unit::Tokens, 1_000, vec![])]);
    let (user, provider) = (world.keyed(&inbound, Some("ann")), world.keyed(&outbound, None));
    let asks = |tokens| {
        [
            Question { keyed: &provider, demand: Demand::call(Applies::All, tokens, 0) },
            Question { keyed: &user, demand: Demand::caused(tokens, 0) },
        ]
    };
    let refused = world.limits.admit(&asks(200), world.now).expect_err("above the user's");
    assert_eq!(&*refused.limit, "user");
    let lease = world.limits.admit(&asks(90), world.now).expect("fits both");
    let remaining: Vec<_> = lease.states().map(|state| state.remaining).collect();
    assert_eq!(remaining, [910, 10], "the refused one was charged nowhere");
}

#[tokio::test(start_paused = true)]
async fn an_observing_limit_is_counted_and_not_told() {
    let world = World::new();
    let set = world.limits.set(Door::Inbound, &[Limit { mode: Mode::Observe, ..limit("o", Unit::Requests, 1, vec![]) }]);
    let keyed = world.keyed(&set, None);
    for _ in 0..3 {
        let lease = world.admit(&keyed, ARRIVAL).expect("never refused");
        assert!(fields(&lease).is_empty());
        lease.keep();
    }
    let counts = &world.limits.counts()[0];
    assert_eq!((counts.admitted, counts.observed, counts.refused), (1, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn gcra_tells_what_may_still_come_at_once() {
    let world = World::new();
    let set =
        world.limits.set(Door::Inbound, &[Limit { algorithm: Algorithm::Gcra { burst: 2 }, ..limit("g", Unit::Requests, 60, vec![]) }]);
    let keyed = world.keyed(&set, None);
    let lease = world.admit(&keyed, ARRIVAL).expect("one");
    assert_eq!(lease.states().next().map(|state| state.remaining), Some(1));
    lease.keep();
    world.admit(&keyed, ARRIVAL).expect("two").keep();
    assert_eq!(world.admit(&keyed, ARRIVAL).expect_err("burst is over").retry_after, Some(Duration::from_secs(1)));
}

#[test]
fn what_is_shared_can_be() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Limits>();
    shared::<LimitSet>();
    shared::<Keyed>();
    shared::<Lease>();
}

#[tokio::test(start_paused = true)]
async fn a_share_of_a_limit_warns_once_per_key_and_window() {
    let world = World::new();
    let requests = Limit { alert_at: vec![0.5, 1.0], ..limit("requests", Unit::Requests, 4, vec![KeyPart::Caller]) };
    let set = world.limits.set(Door::Inbound, &[requests]);
    let alerts = |world: &World| world.limits.counts()[0].alerts.clone();
    let (ann, bob) = (world.keyed(&set, Some("ann")), world.keyed(&set, Some("bob")));
    assert_eq!(alerts(&world), [("0.5".into(), 0), ("1".into(), 0)], "a series that begins at 0 shows its first increase");
    world.admit(&ann, ARRIVAL).expect("passes").keep();
    assert_eq!(alerts(&world), [("0.5".into(), 0), ("1".into(), 0)]);
    world.admit(&ann, ARRIVAL).expect("passes").keep();
    assert_eq!(alerts(&world), [("0.5".into(), 1), ("1".into(), 0)]);
    (0..2).for_each(|_| world.admit(&ann, ARRIVAL).expect("passes").keep());
    world.admit(&ann, ARRIVAL).expect_err("spent");
    assert_eq!(alerts(&world), [("0.5".into(), 1), ("1".into(), 1)]);
    (0..2).for_each(|_| world.admit(&bob, ARRIVAL).expect("passes").keep());
    assert_eq!(alerts(&world)[0], ("0.5".into(), 2), "another key");
    let later = World { now: world.now + Duration::from_secs(120), ..world };
    (0..3).for_each(|_| later.admit(&ann, ARRIVAL).expect("passes").keep());
    assert_eq!(alerts(&later), [("0.5".into(), 3), ("1".into(), 1)], "another window");
}

#[tokio::test(start_paused = true)]
async fn tokens_warn_by_what_they_came_to_and_not_by_what_was_reserved() {
    let world = World::new();
    let tokens = Limit { alert_at: vec![0.8], ..limit("tokens", Unit::Tokens, 1_000, vec![]) };
    let set = world.limits.set(Door::Outbound, &[tokens]);
    let keyed = world.keyed(&set, None);
    let call = |estimate| world.admit(&keyed, Demand::call(Applies::All, estimate, 0)).expect("fits");
    call(900).settle(100, 0, world.now);
    assert_eq!(world.limits.counts()[0].alerts, [("0.8".into(), 0)]);
    // Both calls are in flight at once: neither crosses the share alone, and the warning is given all the same.
    let (one, two) = (call(400), call(400));
    one.settle(350, 0, world.now);
    two.settle(400, 0, world.now);
    assert_eq!(world.limits.counts()[0].alerts, [("0.8".into(), 1)]);
    call(0).settle(1, 0, world.now);
    assert_eq!(world.limits.counts()[0].alerts, [("0.8".into(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn the_whole_of_a_limit_is_reached_by_the_first_refusal() {
    let world = World::new();
    let alerts = |name: &str| {
        let counts = world.limits.counts();
        counts.into_iter().find(|count| &*count.name == name).map(|count| count.alerts).unwrap_or_default()
    };
    let dollars = Limit { alert_at: vec![0.5, 1.0], ..limit("dollars", Unit::NanoUsd, 1_000, vec![KeyPart::Caller]) };
    let ann = world.keyed(&world.limits.set(Door::Outbound, [&dollars]), Some("ann"));
    let call = |cost| world.admit(&ann, Demand::call(Applies::All, 0, cost));
    call(300).expect("fits").settle(0, 300, world.now);
    call(800).expect_err("300 + 800 are more than 1,000, and 300 stay used for ever if all that follow are as dear");
    assert_eq!(alerts("dollars"), [("0.5".into(), 0), ("1".into(), 1)], "half of it was never used");
    call(800).expect_err("again");
    assert_eq!(alerts("dollars"), [("0.5".into(), 0), ("1".into(), 1)], "once a window");

    let observed = Limit { mode: Mode::Observe, alert_at: vec![1.0], ..limit("observed", Unit::NanoUsd, 1_000, vec![]) };
    let keyed = world.keyed(&world.limits.set(Door::Outbound, [&observed]), None);
    for (cost, told) in [(300, 0), (800, 1), (800, 1)] {
        world.admit(&keyed, Demand::call(Applies::All, 0, cost)).expect("never refused").settle(0, cost, world.now);
        assert_eq!(alerts("observed"), [("1".into(), told)]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_known_to_use_nothing_passes_a_spent_limit_and_what_is_unknown_does_not() {
    let world = World::new();
    let set = world.limits.set(Door::Outbound, &[limit("spend", Unit::NanoUsd, 1_000, vec![]), limit("rate", Unit::Requests, 4, vec![])]);
    let keyed = world.keyed(&set, None);
    let call = |cost: Estimate| world.admit(&keyed, Demand::call(Applies::All, Estimate::Unknown, cost));
    call(1_000.into()).expect("fits").settle(0, 1_000, world.now);
    assert_eq!(&*call(0.into()).expect_err("an estimate of 0 is no knowledge").limit, "spend");
    let free = call(Estimate::Nothing).expect("it cannot add to it");
    assert_eq!(free.states().map(|state| state.name.to_owned()).collect::<Vec<_>>(), ["rate"], "requests count all the same");
    free.keep();
    let caused = world.admit(&keyed, Demand::caused(Estimate::Nothing, Estimate::Nothing)).expect("nothing is asked");
    assert!(caused.is_empty());
    (0..2).for_each(|_| call(Estimate::Nothing).expect("a request").keep());
    assert_eq!(&*call(Estimate::Nothing).expect_err("the fifth request").limit, "rate");
}

#[test]
fn a_key_past_half_of_its_limit_is_near_and_says_its_name_at_its_next_request() {
    let mut world = World::new();
    let by_caller = |name, amount| limit(name, Unit::Requests, amount, vec![KeyPart::Caller]);
    let paced = Limit { algorithm: Algorithm::Gcra { burst: 4 }, ..by_caller("paced", 60) };
    let flown = limit("flown", Unit::Concurrency, 3, vec![KeyPart::Caller]);
    let set = world.limits.set(Door::Inbound, [&by_caller("visits", 4), &limit("all", Unit::Requests, 100, Vec::new()), &paced, &flown]);
    let near = |world: &World| {
        let rows = world.limits.near(world.now).into_iter();
        rows.map(|one| format!("{} {} {}/{}", one.limit, one.who.as_deref().unwrap_or("everybody"), one.used, one.amount))
            .collect::<Vec<_>>()
    };
    let mut leases = Vec::new();
    leases.push(world.admit(&world.keyed(&set, Some("ann")), ARRIVAL).expect("admitted"));
    assert_eq!(near(&world), Vec::<String>::new());
    leases.push(world.admit(&world.keyed(&set, Some("ann")), ARRIVAL).expect("admitted"));
    let _ = world.admit(&world.keyed(&set, Some("bob")), ARRIVAL).expect("admitted");
    let keyed = world.keyed(&set, Some("bob"));
    assert!(keyed.keys.iter().flatten().all(|keys| keys.who.is_none()), "bob is not near: no name is made");
    let _ = world.keyed(&set, Some("ann"));
    assert_eq!(near(&world), ["flown caller ann 2/3", "paced caller ann 2/4", "visits caller ann 2/4"]);
    let keyed = world.keyed(&set, Some("ann"));
    assert!(keyed.keys.iter().flatten().all(|keys| keys.who.is_none()), "a name is made once");
    drop(leases);
    world.now += Duration::from_secs(70);
    assert_eq!(near(&world), Vec::<String>::new());
    world.limits.sweep(world.now);
    assert!(world.limits.rules().iter().all(|rule| !rule.tally.near.wants([0, 0])), "nothing is put down any more");
    let whole = world.limits.set(Door::Inbound, [&limit("all", Unit::Requests, 2, Vec::new())]);
    let _ = world.admit(&world.keyed(&whole, None), ARRIVAL).expect("admitted");
    assert_eq!(near(&world), ["all everybody 1/2"]);
}

#[test]
fn dollars_are_near_when_the_true_cost_passes_half() {
    let world = World::new();
    let set = world.limits.set(Door::Outbound, [&limit("budget", Unit::NanoUsd, 1_000, vec![KeyPart::Caller])]);
    let lease = world.admit(&world.keyed(&set, Some("ann")), Demand::call(Applies::All, 0, 100)).expect("admitted");
    assert_eq!(world.limits.near(world.now), []);
    lease.settle(0, 700, world.now);
    let near = world.limits.near(world.now);
    assert_eq!((near.len(), near[0].used), (1, 700));
    assert!(near[0].who.as_deref().is_some_and(|who| who.starts_with("key #")), "nobody has said the name yet: {near:?}");
    let _ = world.keyed(&set, Some("ann"));
    assert_eq!(world.limits.near(world.now)[0].who.as_deref(), Some("caller ann"));
}
