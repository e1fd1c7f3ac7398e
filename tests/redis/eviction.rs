//! A Redis that may evict what counts is told to the operator. One that does not say its policy serves as any other.

use outrigger::admin::State;

use super::{
    server::{Server, free_port},
    world::{Origin, Replica, eventually, redis, redis_cli},
};

const SHARED: &str = "limits and cached answers are shared";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_may_evict_what_counts_is_told() {
    let origin = Origin::start().await;
    for (bytes, policy, told) in [
        ("64mb", "allkeys-lru", true),
        ("64mb", "volatile-ttl", true),
        ("64mb", "noeviction", false),
        // Without a bound nothing is evicted.
        ("0", "allkeys-lru", false),
    ] {
        let Some(server) = Server::start_with(free_port(), &["--maxmemory", bytes, "--maxmemory-policy", policy]) else { return };
        let replica = Replica::up(&origin, &server).await;
        let (state, detail) = replica.health();
        assert_eq!(state, if told { State::Degraded } else { State::Ok }, "{policy}, {bytes}: {detail}");
        assert_eq!(detail == SHARED, !told, "{policy}, {bytes}: {detail}");
        assert_eq!(detail.contains(policy) && detail.contains("noeviction"), told, "{policy}, {bytes}: {detail}");
        assert!(replica.get("/limited").await.status.is_success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_was_corrected_is_no_longer_told_once_redis_is_joined_again() {
    let Some(server) = Server::start_with(free_port(), &["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"]) else { return };
    let origin = Origin::start().await;
    let replica = Replica::up(&origin, &server).await;
    assert_eq!(replica.health().0, State::Degraded);
    let port = server.kill();
    eventually("away", || !replica.0.redis.as_ref().is_some_and(|redis| redis.is_up())).await;
    let Some(_server) = Server::start_with(port, &["--maxmemory", "64mb", "--maxmemory-policy", "noeviction"]) else { return };
    eventually("joined again", || replica.health().0 == State::Ok).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_does_not_say_its_policy_serves_as_any_other() {
    let origin = Origin::start().await;
    let evicting = ["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"];
    let without = [&evicting[..], &["--rename-command", "CONFIG", "HIDDEN"]].concat();
    for (what, line, rule) in [("no such command", &without[..], None), ("no permission", &evicting[..], Some("-config"))] {
        let Some(server) = Server::start_with(free_port(), line) else { return };
        if let Some(rule) = rule {
            eventually("the rule", || redis_cli(&server, &["ACL", "SETUSER", "default", rule]).trim() == "OK").await;
        }
        let replica = Replica::start(&origin, &redis(&server.url())).await;
        replica.until_ready().await;
        let store = replica.0.redis.as_ref().expect("a store");
        // The server may not have listened at the first try.
        let before = store.errors();
        assert!(replica.get("/limited").await.status.is_success(), "{what}");
        assert_eq!((replica.health(), store.evicts()), ((State::Ok, SHARED.to_owned()), None), "{what}");
        assert!(store.is_up() && store.errors() == before, "{what}: {:?}", store.errors());
    }
}
