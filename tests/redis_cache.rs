//! Whole proxies that share a real redis-server: what one fetched answers all, what one purges is gone from all, limits hold over
//! all of them, and no way in which Redis can be away is an error for a client.

#[path = "redis/bans.rs"]
mod bans;
#[path = "redis/batches.rs"]
mod batches;
#[path = "redis/eviction.rs"]
mod eviction;
#[path = "redis/ledger.rs"]
mod ledger;
#[path = "redis/notices.rs"]
mod notices;
#[path = "cache/oracle/mod.rs"]
mod oracle;
#[path = "redis/random.rs"]
mod random;
#[path = "redis/sealed.rs"]
mod sealed;
#[path = "redis/server.rs"]
mod server;
#[path = "redis/works.rs"]
mod works;
#[path = "redis/world.rs"]
mod world;

use std::{path::Path, sync::Arc, time::Duration};

use http::StatusCode;
use outrigger::{
    admin::State,
    clock::{Clock, Instant},
    policy::cache::{Event, Purge, key::Key},
    store::memory::Which,
};
use server::Server;
use world::{DEADLINE, Origin, Replica, eventually, redis, redis_cli, request};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fill_on_one_is_a_hit_on_the_other_and_a_purge_is_gone_from_both() {
    let Some(server) = Server::start() else { return };
    let origin = Origin::start().await;
    let (one, two) = (Replica::up(&origin, &server).await, Replica::up(&origin, &server).await);
    let first = one.get("/c/a").await;
    assert_eq!((first.status, first.body.as_str(), first.is_hit()), (StatusCode::OK, "/c/a 1", false));
    one.until(Event::Stored, 1).await;
    let second = two.get("/c/a").await;
    assert_eq!((second.body.as_str(), second.is_hit(), origin.asked()), ("/c/a 1", true, 1));
    assert_eq!((two.entries(), two.events(Event::Hit)), (1, 1), "what was found is in memory now");
    assert!(two.get("/c/a").await.is_hit());
    assert_eq!(two.events(Event::Hit), 1, "memory answers without a look into Redis");

    let mut fastest = Duration::MAX;
    let mut asked = 1;
    let purges = [Which::Tag("things".into()), Which::Tag("a".into()), Which::Prefix("/c/".into()), Which::Route("".into()), Which::All];
    for which in purges {
        // Whatever the route is called.
        let which = if let Which::Route(_) = which {
            Which::Route(one.0.live().inbound.as_ref().expect("open").routes[0].name.clone())
        } else {
            which
        };
        let began = Instant::now();
        one.purge(which.clone());
        eventually("purged on the other, too", || two.entries() == 0).await;
        fastest = fastest.min(began.elapsed());
        two.until_ready().await;
        one.until_ready().await;
        // Redis still holds the bytes; nobody is answered with them.
        let anew = two.get("/c/a").await;
        asked += 1;
        assert_eq!((anew.is_hit(), origin.asked()), (false, asked), "{which:?}");
        two.until(Event::Stored, asked as u64 - 1).await;
        assert!(one.get("/c/a").await.is_hit(), "{which:?}: what came after the purge is shared again");
    }
    assert!(fastest < Duration::from_millis(100), "{fastest:?}");
    assert_eq!(two.health(), (State::Ok, "limits and cached answers are shared".into()));
    assert!(two.metrics().contains("outrigger_store_up{store=\"redis\"} 1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_through_one_is_seen_through_the_other_whatever_is_in_the_key() {
    let Some(server) = Server::start() else { return };
    let origin = Origin::start().await;
    let (one, two) = (Replica::up(&origin, &server).await, Replica::up(&origin, &server).await);
    for (at, path) in ["/c/x", "/keyed/x"].into_iter().enumerate() {
        let asked = origin.asked();
        one.get(path).await;
        one.until(Event::Stored, at as u64 + 1).await;
        assert!(two.get(path).await.is_hit());
        assert_eq!(two.ask(request("PUT", path, &[], "new")).await.status, StatusCode::OK);
        eventually("gone", || one.entries() == 0).await;
        one.until_ready().await;
        assert!(!one.get(path).await.is_hit(), "{path}");
        assert_eq!(origin.asked(), asked + 3);
        one.purge(Which::All);
        eventually("empty", || one.entries() + two.entries() == 0).await;
        one.until_ready().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn variants_are_shared_and_a_late_replica_finds_all() {
    let Some(server) = Server::start() else { return };
    let origin = Origin::start().await;
    let one = Replica::up(&origin, &server).await;
    let kind = |kind| request("GET", "/c/vary/v", &[("x-kind", kind)], "");
    let (red, blue) = (one.ask(kind("red")).await.body, one.ask(kind("blue")).await.body);
    assert_ne!(red, blue);
    one.until(Event::Stored, 2).await;
    let two = Replica::up(&origin, &server).await;
    assert_eq!((two.ask(kind("red")).await.body, two.ask(kind("blue")).await.body), (red, blue));
    assert_eq!((origin.asked(), two.events(Event::Hit)), (2, 1), "one look brings all variants");
    assert_eq!(two.ask(request("GET", "/c/none", &[("cache-control", "only-if-cached")], "")).await.status, StatusCode::GATEWAY_TIMEOUT);
    one.get("/c/there").await;
    one.until(Event::Stored, 3).await;
    let only = two.ask(request("GET", "/c/there", &[("cache-control", "only-if-cached")], "")).await;
    assert!(only.status == StatusCode::OK && only.is_hit(), "another replica has it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn model_calls_are_shared_and_encrypted_where_asked_for() {
    let Some(server) = Server::start() else { return };
    let origin = Origin::start().await;
    let sealed = format!("{}, secret: a-secret-of-ours, encrypt: true", redis(&server.url()));
    let (one, two) = (Replica::start(&origin, &sealed).await, Replica::start(&origin, &sealed).await);
    one.until_ready().await;
    two.until_ready().await;
    let body = r#"{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "what is new?"}]}"#;
    let first = one.chat(body).await;
    assert!(first.body.contains("answer 1"), "{}", first.body);
    one.until(Event::Stored, 1).await;
    let second = two.chat(body).await;
    assert!(second.is_hit() && second.body == first.body && origin.asked() == 1);
    assert_eq!(two.0.shared.cache.stats().saved_tokens, 7);
    let store = two.0.redis.as_ref().expect("configured");
    let dump = redis_cli(&server, &["--raw", "KEYS", "test:cache:1:*"]);
    let key = dump.lines().find(|key| !key.contains("journal")).expect("a value");
    let value = store.get(key).await.expect("an answer").expect("a value");
    assert!(memchr::memmem::find(&value, b"answer 1").is_none(), "readable in Redis");
    assert!(!two.chat(&body.replace("new", "old")).await.is_hit());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_of_another_version_is_a_miss_and_is_replaced() {
    let Some(server) = Server::start() else { return };
    let origin = Origin::start().await;
    let (one, two) = (Replica::up(&origin, &server).await, Replica::up(&origin, &server).await);
    one.get("/c/a").await;
    one.until(Event::Stored, 1).await;
    let keys = redis_cli(&server, &["--raw", "KEYS", "test:cache:1:*"]);
    let key = keys.lines().find(|key| !key.contains("journal")).expect("a value");
    assert!(redis_cli(&server, &["SETRANGE", key, "0", "x"]).trim().parse::<u64>().is_ok());
    let answer = two.get("/c/a").await;
    assert_eq!((answer.status, answer.is_hit(), two.events(Event::Unreadable)), (StatusCode::OK, false, 1));
    two.until(Event::Stored, 1).await;
    let three = Replica::up(&origin, &server).await;
    assert_eq!(three.get("/c/a").await.body, answer.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_redis_costs_its_deadline_and_no_error() {
    let Some(server) = Server::start() else { return };
    let origin = Origin::start().await;
    let store = redis(&server.url()).replace("5s", "250ms");
    let (one, two) = (Replica::start(&origin, &store).await, Replica::start(&origin, &store).await);
    one.until_ready().await;
    two.until_ready().await;
    one.get("/c/before").await;
    one.until(Event::Stored, 1).await;
    assert!(two.get("/c/before").await.is_hit());
    server.signal("-STOP");
    let (mut slow, began) = (0, Instant::now());
    for n in 0..40 {
        let asked = Instant::now();
        let answer = one.get(&format!("/c/{n}")).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(asked.elapsed() < DEADLINE * 2, "one request took {:?}", asked.elapsed());
        slow += usize::from(asked.elapsed() >= DEADLINE);
    }
    assert!(slow <= 6, "{slow} requests waited; the gate closes after five, all took {:?}", began.elapsed());
    assert!(one.get("/c/before").await.is_hit(), "memory answers");
    // A purge takes effect here at once and elsewhere when Redis is back.
    one.purge(Which::Tag("before".into()));
    assert!(!one.get("/c/before").await.is_hit() && two.get("/c/before").await.is_hit());
    let (state, detail) = one.health();
    assert!(state == State::Degraded && detail.contains("1 purges wait"), "{detail}");
    let metrics = one.metrics();
    assert!(metrics.contains("outrigger_store_up{store=\"redis\"} 0"), "{metrics}");
    let errors =
        metrics.lines().find(|line| line.starts_with("outrigger_store_errors_total{store=\"redis\",operation=\"get\"")).expect("told");
    assert!(!errors.ends_with(" 0"), "{errors}");
    server.signal("-CONT");
    one.until_ready().await;
    two.until_ready().await;
    eventually("the purge arrives", || one.0.shared.cache.stats().shared.is_some_and(|shared| shared.unsaid == 0)).await;
    two.until_ready().await;
    assert_eq!(one.health().0, State::Ok);
    eventually("hears of it", || two.0.shared.cache.stats().memory.entries == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_redis_is_joined_again_without_an_error() {
    let Some(server) = Server::start() else { return };
    let origin = Origin::start().await;
    let (one, two) = (Replica::up(&origin, &server).await, Replica::up(&origin, &server).await);
    one.get("/c/a").await;
    one.until(Event::Stored, 1).await;
    let port = server.kill();
    assert_eq!(two.get("/c/a").await.status, StatusCode::OK);
    assert!(one.get("/c/a").await.is_hit());
    let Some(server) = Server::start_at(port) else { return };
    // It forgot its journal: what was purged meanwhile cannot be known.
    eventually("memory is given up", || one.entries() == 0).await;
    one.until_ready().await;
    two.until_ready().await;
    let stored = one.events(Event::Stored);
    let anew = one.get("/c/a").await;
    one.until(Event::Stored, stored + 1).await;
    assert_eq!(two.get("/c/a").await.body, anew.body);
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_comes_late_is_joined() {
    let origin = Origin::start().await;
    let port = server::free_port();
    let store = redis(&format!("redis://127.0.0.1:{port}"));
    let (one, two) = (Replica::start(&origin, &store).await, Replica::start(&origin, &store).await);
    assert_eq!(one.get("/c/a").await.status, StatusCode::OK);
    assert!(one.get("/c/a").await.is_hit() && !two.get("/c/a").await.is_hit());
    assert_eq!(one.health().0, State::Degraded);
    let Some(_server) = Server::start_at(port) else { return };
    one.until_ready().await;
    two.until_ready().await;
    one.get("/c/b").await;
    one.until(Event::Stored, 1).await;
    assert!(two.get("/c/b").await.is_hit());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_takes_nothing_more_and_everything_goes_on() {
    let port = server::free_port();
    let Some(server) = Server::start_with(port, &["--maxmemory-policy", "noeviction"]) else { return };
    let origin = Origin::start().await;
    let (one, two) = (Replica::up(&origin, &server).await, Replica::up(&origin, &server).await);
    one.get("/c/a").await;
    one.until(Event::Stored, 1).await;
    assert!(two.get("/c/a").await.is_hit());
    redis_cli(&server, &["CONFIG", "SET", "maxmemory", "1"]);
    let answer = one.get("/c/b").await;
    assert_eq!(answer.status, StatusCode::OK);
    one.until(Event::Dropped, 1).await;
    assert!(one.get("/c/b").await.is_hit(), "here it is stored");
    let limited = one.ask(request("GET", "/limited", &[("x-user-id", "ann")], "")).await;
    assert_eq!(limited.status, StatusCode::OK);
    assert!(one.metrics().contains("outrigger_store_errors_total{store=\"redis\",operation=\"set\"} 1"), "{}", one.metrics());
    // Purges must work most of all.
    one.purge(Which::Tag("a".into()));
    eventually("purged", || two.entries() == 0).await;
    two.until_ready().await;
    assert!(!two.get("/c/a").await.is_hit());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_a_minute_are_a_hundred_over_both() {
    let Some(server) = Server::start() else { return };
    let origin = Origin::start().await;
    let (one, two) = (Replica::up(&origin, &server).await, Replica::up(&origin, &server).await);
    let replicas = [Arc::new(one), Arc::new(two)];
    let mut clients = Vec::new();
    for client in 0..8 {
        let replica = replicas[client % 2].clone();
        clients.push(tokio::spawn(async move {
            let mut passed = 0;
            for _ in 0..20 {
                let answer = replica.ask(request("GET", "/limited", &[("x-user-id", "ann")], "")).await;
                passed += usize::from(answer.status == StatusCode::OK);
                assert!(answer.headers.contains_key("ratelimit") && answer.headers.contains_key("ratelimit-policy"));
                assert_eq!(answer.status == StatusCode::TOO_MANY_REQUESTS, answer.headers.contains_key("retry-after"));
            }
            passed
        }));
    }
    let mut passed = 0;
    for client in clients {
        passed += client.await.expect("no panic");
    }
    let away: u64 = replicas.iter().flat_map(|replica| replica.0.shared.limits.counts()).map(|count| count.store_away).sum();
    assert_eq!(away, 0, "this machine is too slow for the deadline: the test says nothing");
    assert_eq!((passed, origin.asked()), (100, 100));
    let alerts: u64 =
        replicas.iter().flat_map(|replica| replica.0.shared.limits.counts()).flat_map(|count| count.alerts).map(|(_, n)| n).sum();
    assert_eq!(alerts, 1, "the replica whose request crossed the share says so");
    assert!(
        replicas
            .iter()
            .any(|replica| replica.metrics().contains("outrigger_limit_alerts_total{door=\"inbound\",limit=\"hundred\",at=\"0.5\"} 1"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_told_in_every_answer_and_in_the_providers_own_names_when_they_refuse() {
    let origin = Origin::start().await;
    let one = Replica::start(&origin, "max_keys: 1k").await;
    let answer = one.ask(request("GET", "/limited", &[("x-user-id", "ann")], "")).await;
    assert_eq!(answer.headers["ratelimit-policy"], "\"hundred\";q=100;w=60;qu=\"requests\"");
    assert!(answer.headers["ratelimit"].as_bytes().starts_with(b"\"hundred\";r=99;t="), "{:?}", answer.headers["ratelimit"]);
    assert!(!one.get("/free").await.headers.contains_key("ratelimit"));

    let body = r#"{"model": "few-1", "messages": [{"role": "user", "content": "hello"}]}"#;
    for left in ["1", "0"] {
        let answer = one.chat(body).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(answer.headers["ratelimit"].to_str().expect("text").starts_with(&format!("\"few\";r={left};")));
        assert!(!answer.headers.contains_key("x-ratelimit-limit-requests"), "the provider speaks for itself");
    }
    let refused = one.chat(body).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(
        (&refused.headers["x-ratelimit-limit-requests"], &refused.headers["x-ratelimit-remaining-requests"]),
        (&"2".parse().expect("value"), &"0".parse().expect("value"))
    );
    let reset = refused.headers["x-ratelimit-reset-requests"].to_str().expect("text");
    let wait: u64 = refused.headers["retry-after"].to_str().expect("text").parse().expect("seconds");
    assert!(wait <= 62 && (reset.ends_with('s')), "{wait} {reset}");
    assert!(refused.headers["ratelimit"].as_bytes().starts_with(b"\"few\";r=0;"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_while_redis_is_asked_does_not_scatter_those_who_wait() {
    let Some(server) = Server::start() else { return };
    let origin = Origin::start().await;
    let one = Arc::new(Replica::start(&origin, &redis(&server.url()).replace("5s", "2s")).await);
    one.until_ready().await;
    server.signal("-STOP");
    let get = || {
        let one = one.clone();
        tokio::spawn(async move { one.get("/c/a").await })
    };
    let leader = get();
    eventually("it fetches", || one.0.shared.cache.stats().flights == 1).await;
    let waiting: Vec<_> = (0..20).map(|_| get()).collect();
    eventually("they wait", || one.metrics().contains("outrigger_inflight_requests{door=\"inbound\"} 21")).await;
    leader.abort();
    eventually("it has left", || one.metrics().contains("outrigger_inflight_requests{door=\"inbound\"} 20")).await;
    for answer in waiting {
        assert_eq!(answer.await.expect("no panic").status, StatusCode::OK);
    }
    assert_eq!(origin.asked(), 1);
}

/// The key that `outrigger explain` prints.
async fn explained(file: &Path, request: &[&str]) -> Key {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_outrigger"));
    let done = command.args(["explain", "--json", "--config"]).arg(file).args(request).kill_on_drop(true).output().await.expect("run");
    let said: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"));
    said["cache_key"].as_str().unwrap_or_else(|| panic!("{said}")).parse().expect("a key")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_names_the_key_that_a_running_proxy_uses_with_and_without_redis() {
    let Some(server) = Server::start() else { return };
    let origin = Origin::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("proxy.yaml");
    let body = r#"{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "what is new?"}]}"#;
    let chat = ["POST", "/house/chat/completions", "--door", "outbound", "-H", "host: shop.example"];
    let chat = [&chat[..], &["-H", "content-type: application/json", "-H", "authorization: Bearer sk-app", "-d", body]].concat();
    let mut keys = Vec::new();
    for store in [format!("{}, secret: a-secret-of-ours", redis(&server.url())), "secret: a-secret-of-ours".into()] {
        let replica = Replica::start_from(&file, &origin, &store).await;
        if replica.0.redis.is_some() {
            replica.until_ready().await;
        }
        let purged = |key| replica.0.shared.cache.purge(&Purge { which: Which::Key(key), soft: false }, Clock::system().moment());
        for request in [&["GET", "http://shop.example/c/a", "--door", "inbound"][..], &chat] {
            if request[0] == "GET" {
                replica.get("/c/a").await
            } else {
                replica.chat(body).await
            };
            eventually("kept", || replica.entries() == 1).await;
            let key = explained(&file, request).await;
            assert_eq!(purged(key), 1, "{store}: {request:?}");
            keys.push(key);
        }
    }
    assert_eq!(keys[..2], keys[2..], "a key is the same with Redis and without");
}
