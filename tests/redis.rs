//! The shared store and limits counted in it, against a real redis-server: the scripts count as the ring does, replicas together
//! keep the limit, and every way in which Redis can be away costs at most the deadline.

#[path = "redis/bounds.rs"]
mod bounds;
#[path = "redis/server.rs"]
mod server;

use std::{sync::Arc, time::Duration};

use outrigger::{
    arrival::Door,
    clock::{Clock, Instant},
    config::{self, Applies, KeyPart, Limit, OnStoreError, Secret, Unit, Unpriced},
    http1::Fields,
    policy::limits::{
        Demand, KeyFacts, Keyed, Lease, LimitSet, Limits, Question,
        ring::{Ring, Shape},
    },
    reject::Limited,
    store::{
        StoreError,
        redis::{Notice, Redis, scripts},
    },
};
use server::Server;
use tokio::{runtime::Runtime, time::timeout};

const DEADLINE: Duration = Duration::from_millis(250);
const PATIENCE: Duration = Duration::from_secs(30);

/// A runtime apart from the test's, as in the proxy.
struct Side(Option<Runtime>);

impl std::ops::Deref for Side {
    type Target = Runtime;

    fn deref(&self) -> &Runtime {
        self.0.as_ref().expect("until dropped")
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.0.take().expect("dropped once").shutdown_background();
    }
}

fn side() -> Side {
    Side(Some(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")))
}

fn store(url: &str, side: &Side) -> Arc<Redis> {
    store_within(url, side, DEADLINE)
}

fn store_within(url: &str, side: &Side, timeout: Duration) -> Arc<Redis> {
    let config =
        config::Redis { url: Secret::new(url), namespace: "test".into(), timeout, encrypt: false, tls: config::RedisTls::default() };
    Redis::start(&config, None, side.handle()).expect("a good URL")
}

async fn until(store: &Redis, up: bool) {
    let mut watch = store.watch();
    let turned = timeout(PATIENCE, watch.wait_for(|now| *now == up)).await;
    assert!(turned.is_ok(), "the store did not turn {}", if up { "up" } else { "down" });
}

fn limit(unit: Unit, amount: u64) -> Limit {
    Limit {
        key: vec![KeyPart::Caller],
        unpriced: Unpriced::Allow,
        unmetered: Unpriced::Allow,
        ..Limit::new("l", unit, amount, Duration::from_secs(3_600))
    }
}

/// One proxy among several.
struct Replica {
    store: Arc<Redis>,
    limits: Limits,
    set: LimitSet,
}

impl Replica {
    fn new(url: &str, side: &Side, limit: Limit) -> Self {
        Self::over(store(url, side), limit)
    }

    fn over(store: Arc<Redis>, limit: Limit) -> Self {
        let limits = Limits::new(1_000, &Clock::system(), Some(store.clone()));
        Self { set: limits.set(Door::Outbound, [&limit]), limits, store }
    }

    async fn up(url: &str, side: &Side, limit: Limit) -> Self {
        let replica = Self::new(url, side, limit);
        until(&replica.store, true).await;
        replica
    }

    fn keyed(&self) -> Keyed {
        let headers = Fields::new();
        self.set.keyed(&KeyFacts {
            client_ip: [127, 0, 0, 1].into(),
            caller: Some("ann"),
            proof: None,
            headers: &headers,
            query: None,
            trusted: false,
            route: "r",
            provider: None,
            model: None,
        })
    }

    async fn call(&self, tokens: u64) -> Result<Lease, Box<Limited>> {
        let keyed = self.keyed();
        self.limits.admit_shared(&[Question { keyed: &keyed, demand: Demand::call(Applies::All, tokens, 0) }], Instant::now()).await
    }

    async fn passed(&self, tries: usize) -> usize {
        let mut passed = 0;
        for _ in 0..tries {
            if let Ok(lease) = self.call(0).await {
                lease.keep();
                passed += 1;
            }
        }
        passed
    }

    async fn remaining(&self) -> Option<u64> {
        let lease = self.call(0).await.ok()?;
        let remaining = lease.states().next().map(|state| state.remaining);
        lease.refund();
        remaining
    }
}

#[tokio::test]
async fn the_scripts_count_as_the_ring_does() {
    let Some(server) = Server::start() else { return };
    let side = side();
    let store = store(&server.url(), &side);
    until(&store, true).await;
    for seed in 0..40_u64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let window = Duration::from_secs(random.u64(60..600));
        let shape = if seed % 4 == 0 { Shape::fixed(window) } else { Shape::sliding(window) };
        let limit = random.u64(1..40);
        let key = [store.tagged(&format!("equal:{seed}"))];
        let (mut ring, mut now, mut reserved) = (Ring::default(), 1_780_000_000_000_000_u64, Vec::new());
        for step in 0..80 {
            now += match random.u8(0..10) {
                0..4 => 0,
                4..7 => random.u64(0..shape.width() * 2),
                7..9 => random.u64(0..window.as_micros() as u64 / 3),
                _ => random.u64(0..window.as_micros() as u64 * 2),
            };
            let at = format!("seed {seed}, step {step}");
            let terms = [shape.width() as i64, shape.reach() as i64];
            if random.u8(0..4) == 0 && !reserved.is_empty() {
                let (slot, charge): (u64, u64) = reserved.swap_remove(random.usize(0..reserved.len()));
                let actual = random.u64(0..charge * 2 + 3);
                ring.correct(shape, now, slot, charge, actual);
                let args = [now as i64, terms[0], terms[1], slot as i64, actual as i64 - charge as i64];
                store.eval(&scripts::SETTLE, &key, &args).await.expect(&at);
            }
            let cost = random.u64(1..9);
            let used = ring.used(shape, now);
            let fits = used + cost <= limit;
            let wait = if fits { Some(0) } else { ring.first_fit(shape, now, limit, cost) };
            if fits {
                reserved.push((ring.charge(shape, now, cost), cost));
            }
            let args = [now as i64, terms[0], terms[1], limit as i64, cost as i64, cost as i64, 0];
            let answer = store.eval(&scripts::LIMITS, &key, &args).await.expect(&at);
            let expected = [
                i64::from(fits),
                i64::from(!fits),
                wait.map_or(-1, |wait| wait as i64),
                ring.used(shape, now) as i64,
                ring.resets(shape, now) as i64,
                shape.slot(now) as i64,
            ];
            assert_eq!(answer, expected, "{at}");
        }
    }
}

#[tokio::test]
async fn all_limits_of_a_request_or_none() {
    let Some(server) = Server::start() else { return };
    let side = side();
    let store = store(&server.url(), &side);
    until(&store, true).await;
    let keys = [store.tagged("a"), store.tagged("b"), store.tagged("c")];
    // Width, slots, limit, check, charge, observe.
    let ask = |b: i64| [0, 60_000_000, 1, 10, 4, 4, 0, 60_000_000, 1, b, 4, 4, 0, 60_000_000, 1, 3, 4, 4, 1];
    let refused = store.eval(&scripts::LIMITS, &keys, &ask(3)).await.expect("an answer");
    assert_eq!((refused[0], refused[1], refused[6], refused[7], refused[11]), (0, 0, 1, -1, 1));
    let admitted = store.eval(&scripts::LIMITS, &keys, &ask(9)).await.expect("an answer");
    assert_eq!((admitted[0], admitted[3], admitted[8], admitted[13]), (1, 4, 4, 0), "the refusal charged nothing, nor did observe");
}

#[tokio::test]
async fn eight_clients_at_four_replicas_never_pass_more_than_the_limit() {
    let Some(server) = Server::start() else { return };
    let side = side();
    let mut replicas = Vec::new();
    for _ in 0..4 {
        // A busy machine must not make it count alone.
        let store = store_within(&server.url(), &side, Duration::from_secs(5));
        until(&store, true).await;
        replicas.push(Arc::new(Replica::over(store, limit(Unit::Requests, 1_000))));
    }
    let mut clients = Vec::new();
    for client in 0..32 {
        let replica = replicas[client % 4].clone();
        clients.push(side.spawn(async move { replica.passed(60).await }));
    }
    let mut passed = 0;
    for client in clients {
        passed += client.await.expect("no panic");
    }
    let silent: u64 = replicas.iter().map(|replica| replica.limits.counts()[0].store_away).sum();
    assert_eq!(silent, 0, "this machine is too slow for the deadline of {DEADLINE:?}: the test says nothing");
    assert_eq!(passed, 1_000);
}

#[tokio::test]
async fn what_one_replica_settles_the_other_sees() {
    let Some(server) = Server::start() else { return };
    let side = side();
    let socket = format!("unix://{}", server.socket().display());
    let one = Replica::up(&server.url(), &side, limit(Unit::Tokens, 1_000)).await;
    let two = Replica::up(&socket, &side, limit(Unit::Tokens, 1_000)).await;
    assert_eq!(one.store.secret(), two.store.secret(), "one secret for all");
    let lease = one.call(900).await.expect("fits");
    let refused = two.call(200).await.expect_err("reserved elsewhere");
    assert!(refused.retry_after.is_some_and(|wait| wait > Duration::from_secs(3_000)), "{:?}", refused.retry_after);
    assert_eq!(two.remaining().await, Some(100));
    lease.settle(300, 0, Instant::now());
    let seen = async { while two.remaining().await != Some(700) {} };
    timeout(PATIENCE, seen).await.expect("the settlement arrives");
    two.call(600).await.expect("fits").refund();
    let seen = async { while one.remaining().await != Some(700) {} };
    timeout(PATIENCE, seen).await.expect("the refund arrives");
}

#[tokio::test]
async fn a_stopped_redis_costs_its_deadline_a_few_times_and_then_nothing() {
    let Some(server) = Server::start() else { return };
    let side = side();
    let replica = Replica::up(&server.url(), &side, limit(Unit::Requests, 10)).await;
    let other = Replica::up(&server.url(), &side, limit(Unit::Requests, 10)).await;
    assert_eq!(replica.passed(3).await, 3);
    server.signal("-STOP");
    let (began, mut worst, mut passed) = (Instant::now(), Duration::ZERO, 0);
    for _ in 0..12 {
        let one = Instant::now();
        passed += replica.passed(1).await;
        worst = worst.max(one.elapsed());
    }
    assert_eq!(passed, 7, "what this replica had used through Redis counts here too");
    assert!(worst < DEADLINE * 3, "one decision took {worst:?}");
    assert!(began.elapsed() < DEADLINE * 8, "the gate closes after five: all took {:?}", began.elapsed());
    assert!(!replica.store.is_up());
    assert!(replica.limits.counts()[0].store_away >= 7);
    assert_eq!(replica.store.get("x").await, Err(StoreError::Away));
    server.signal("-CONT");
    until(&replica.store, true).await;
    until(&other.store, true).await;
    // Up to five scripts went out before the gate closed and may have counted late; three had counted for certain.
    let left = other.passed(20).await;
    assert!((2..=7).contains(&left), "{left} left for the other replica");
    assert_eq!(replica.passed(5).await, 0);
}

#[tokio::test]
async fn a_killed_redis_is_joined_again_and_counts_are_shared_again() {
    let Some(server) = Server::start() else { return };
    let side = side();
    let one = Replica::up(&server.url(), &side, limit(Unit::Requests, 10)).await;
    let two = Replica::up(&server.url(), &side, limit(Unit::Requests, 10)).await;
    let secret = one.store.secret();
    assert_eq!(one.passed(4).await, 4);
    let port = server.kill();
    assert_eq!(two.passed(20).await, 10, "counted here alone");
    assert_eq!(one.passed(20).await, 6);
    until(&one.store, false).await;
    let Some(_again) = Server::start_at(port) else { return };
    until(&one.store, true).await;
    until(&two.store, true).await;
    assert_eq!((one.store.secret(), two.store.secret()), (secret.clone(), secret), "an emptied Redis is told the secret again");
    assert_eq!((one.passed(5).await, two.passed(5).await), (0, 0), "each had its ten in this window, whatever Redis forgot");
    let three = Replica::up(&format!("redis://127.0.0.1:{port}"), &side, limit(Unit::Requests, 10)).await;
    let four = Replica::up(&format!("redis://127.0.0.1:{port}"), &side, limit(Unit::Requests, 10)).await;
    assert_eq!((three.passed(6).await, four.passed(20).await), (6, 4), "shared again");
}

#[tokio::test]
async fn a_redis_that_comes_late_is_joined() {
    let Some(server) = Server::start() else { return };
    let port = server.kill();
    let side = side();
    let url = format!("redis://127.0.0.1:{port}");
    let one = Replica::new(&url, &side, limit(Unit::Requests, 10));
    assert_eq!(one.passed(2).await, 2);
    let Some(_server) = Server::start_at(port) else { return };
    until(&one.store, true).await;
    assert_eq!(one.passed(3).await, 3);
    let two = Replica::up(&url, &side, limit(Unit::Requests, 10)).await;
    assert_eq!(two.remaining().await, Some(6), "the first two were never shared; asking counts one");
}

#[tokio::test]
async fn without_redis_each_limit_does_what_it_was_told() {
    let Some(server) = Server::start() else { return };
    let port = server.kill();
    let side = side();
    let url = format!("redis://127.0.0.1:{port}");
    let with = |on_store_error| Replica::new(&url, &side, Limit { on_store_error, ..limit(Unit::Requests, 2) });
    let deny = with(OnStoreError::Deny);
    let refused = deny.call(0).await.expect_err("denied");
    assert_eq!(refused.retry_after, Some(Duration::from_secs(1)));
    assert_eq!((deny.limits.counts()[0].refused, deny.limits.counts()[0].store_away), (1, 1));
    assert_eq!(with(OnStoreError::Local).passed(5).await, 2);
    let allow = with(OnStoreError::Allow);
    assert_eq!(allow.passed(5).await, 5);
    assert_eq!((allow.limits.counts()[0].admitted, allow.limits.counts()[0].store_away), (5, 5));
}

#[tokio::test]
async fn values_messages_and_gaps() {
    let Some(server) = Server::start() else { return };
    let side = side();
    let store = store(&server.url(), &side);
    until(&store, true).await;
    let key = store.key("v");
    store.set(&key, "one".into(), Duration::from_secs(60)).await.expect("set");
    assert_eq!(store.get(&key).await, Ok(Some("one".into())));
    assert_eq!(store.delete(&[key.clone(), store.key("none")]).await, Ok(1));
    assert_eq!(store.get(&key).await, Ok(None));
    let wrong = store.eval(&scripts::LIMITS, &[store.tagged("w")], &[0]).await.expect_err("arguments are missing");
    assert!(matches!(wrong, StoreError::Refused(_)), "{wrong}");
    assert!(store.is_up(), "a refusal is an answer");

    let mut notices = store.subscribe("purge").expect("a subscription");
    let heard = timeout(PATIENCE, notices.recv()).await.expect("in time");
    assert_eq!(heard, Some(Notice::Gap), "what was said before is not known");
    store.publish("purge", "tag:a".into()).await.expect("published");
    assert_eq!(timeout(PATIENCE, notices.recv()).await.expect("in time"), Some(Notice::Message("tag:a".into())));
    let Some(_again) = Server::start_at(server.kill()) else { return };
    let heard = timeout(PATIENCE, notices.recv()).await.expect("in time");
    assert_eq!(heard, Some(Notice::Gap), "after an outage");
    // Subscribing and publishing have a connection each: the second may learn of the outage after the first is over it.
    let published = async {
        while store.publish("purge", "tag:b".into()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, published).await.expect("in time");
    assert_eq!(timeout(PATIENCE, notices.recv()).await.expect("in time"), Some(Notice::Message("tag:b".into())));
    assert_eq!(store.errors().iter().find(|(operation, _)| *operation == "eval"), Some(&("eval", 1)));
}

#[tokio::test]
async fn all_limits_of_a_request_lie_on_one_node_of_a_cluster() {
    let Some(server) = Server::cluster() else { return };
    let side = side();
    let url = format!("redis-cluster://127.0.0.1:{}", server.port);
    let one = Replica::up(&url, &side, limit(Unit::Requests, 10)).await;
    let two = Replica::up(&url, &side, limit(Unit::Requests, 10)).await;
    let keys = [one.store.tagged("a"), one.store.tagged("b")];
    let both = [0, 60_000_000, 1, 10, 4, 4, 0, 60_000_000, 1, 10, 4, 4, 0];
    let answer = one.store.eval(&scripts::LIMITS, &keys, &both).await.expect("no CROSSSLOT");
    assert_eq!(answer[0], 1);
    assert_eq!((one.passed(6).await, two.passed(20).await), (6, 4));
}

/// Rendering a page, a purge of everything, a configuration: what the process does beside its requests may take long.
#[tokio::test]
async fn what_goes_on_beside_requests_does_not_make_redis_late() {
    let Some(server) = Server::start() else { return };
    let beside = side();
    let store = store_within(&server.url(), &beside, Duration::from_millis(50));
    until(&store, true).await;
    let (stalled, stall) = std::sync::mpsc::channel::<()>();
    let (let_go, held) = std::sync::mpsc::channel::<()>();
    beside.spawn(async move {
        let _ = stalled.send(());
        // The one thread of the runtime takes nothing else until it is let go.
        let _ = held.recv();
    });
    stall.recv().expect("it is stalled");
    for at in 0..200 {
        store.set(&format!("k{at}"), "v".into(), PATIENCE).await.expect("Redis answers in time");
    }
    assert!(store.is_up());
    drop(let_go);
}
