//! Whole proxies over Redis in every form it is run in: with a password, over TLS, behind Sentinels, as a Cluster. In each, what
//! one fetched answers all, a purge is everywhere at once, limits hold over all; a master that dies is an error for nobody,
//! and what cannot work says what to do.

#[path = "redis/forms.rs"]
mod forms;
#[path = "redis/server.rs"]
mod server;
#[path = "redis/world.rs"]
mod world;

use std::time::Duration;

use forms::{Certificates, Cluster, Sentinels, cli};
use http::StatusCode;
use outrigger::{admin::State, clock::Instant, policy::cache::Event, store::memory::Which};
use server::Server;
use world::{Origin, Replica, eventually, redis, request};

/// Two proxies with this store, both ready.
async fn pair(origin: &Origin, store: &str) -> [Replica; 2] {
    let pair = [Replica::start(origin, store).await, Replica::start(origin, store).await];
    for replica in &pair {
        replica.until_ready().await;
    }
    pair
}

/// What every form owes: shared answers, purges within 100 ms, exact limits for `caller`.
async fn they_share(origin: &Origin, [one, two]: &[Replica; 2], caller: &str) {
    one.purge(Which::All);
    eventually("both are empty", || one.entries() + two.entries() == 0).await;
    one.until_ready().await;
    two.until_ready().await;
    let path = format!("/c/{caller}");
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let (stored, asked) = (one.events(Event::Stored), origin.asked());
        let first = one.get(&path).await;
        one.until(Event::Stored, stored + 1).await;
        let second = two.get(&path).await;
        assert!(second.is_hit() && second.body == first.body && origin.asked() == asked + 1, "{}", second.body);
        let began = Instant::now();
        one.purge(Which::Tag(caller.into()));
        eventually("purged on the other, too", || {
            assert!(began.elapsed() < Duration::from_secs(20), "{:?}, {:?}", one.health(), two.health());
            two.entries() == 0
        })
        .await;
        fastest = fastest.min(began.elapsed());
        one.until_ready().await;
        two.until_ready().await;
    }
    // The usual time; a busy machine may hold up single ones.
    assert!(fastest < Duration::from_millis(100), "{fastest:?}");

    let limited = || request("GET", "/limited", &[("x-user-id", caller)], "");
    let mut passed = 0;
    for _ in 0..60 {
        for replica in [one, two] {
            passed += usize::from(replica.ask(limited()).await.status == StatusCode::OK);
        }
    }
    let away: u64 = [one, two].iter().flat_map(|replica| replica.0.shared.limits.counts()).map(|count| count.store_away).sum();
    assert!(passed == 100 || away > 0, "{passed}");
}

/// Asks for answers that are new and for some that are stored until both have found their way back.
async fn nobody_notices(origin: &Origin, [one, two]: &[Replica; 2]) {
    let (began, mut look, mut n) = (Instant::now(), tokio::time::interval(Duration::from_millis(20)), 0);
    let away = || one.0.redis.as_ref().is_some_and(|redis| !redis.is_up());
    let mut was_away = false;
    while !(was_away && one.0.shared.cache.stats().shared.is_some_and(|shared| shared.ready)) {
        assert!(began.elapsed() < Duration::from_secs(60), "it does not come back: {:?}, {:?}", one.health(), two.health());
        was_away |= away();
        n += 1;
        for path in [format!("/c/new-{n}"), "/c/often".to_owned()] {
            assert_eq!(one.get(&path).await.status, StatusCode::OK);
        }
        let limited = request("GET", "/limited", &[("x-user-id", &format!("user-{n}"))], "");
        assert_eq!(two.ask(limited).await.status, StatusCode::OK);
        look.tick().await;
    }
    two.until_ready().await;
    assert!(origin.asked() > 0);
    eprintln!("away and back after {:?}, {n} rounds of requests without an error", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_behind_sentinels_dies_and_its_replica_takes_over() {
    let Some(mut sentinels) = Sentinels::start() else { return };
    let origin = Origin::start().await;
    let pair = pair(&origin, &redis(&sentinels.url()).replace("5s", "250ms")).await;
    they_share(&origin, &pair, "ann").await;
    sentinels.kill_sentinel();
    sentinels.kill_master();
    nobody_notices(&origin, &pair).await;
    they_share(&origin, &pair, "bob").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_spreads_the_cache_and_a_master_that_dies_is_replaced() {
    let Some(mut cluster) = Cluster::start(&[]) else { return };
    let origin = Origin::start().await;
    let pair = pair(&origin, &redis(&cluster.url()).replace("5s", "250ms")).await;
    they_share(&origin, &pair, "ann").await;
    let stored = pair[0].events(Event::Stored);
    for n in 0..60 {
        pair[0].get(&format!("/c/{n}")).await;
    }
    pair[0].until(Event::Stored, stored + 60).await;
    let by_node = cluster.cached_by_node();
    assert!(by_node.len() == 3 && by_node.iter().all(|count| *count > 5), "{by_node:?}");
    for n in 0..60 {
        assert!(pair[1].get(&format!("/c/{n}")).await.is_hit(), "{n}");
    }
    cluster.kill_the_one_with_the_limits();
    nobody_notices(&origin, &pair).await;
    they_share(&origin, &pair, "bob").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_with_an_own_authority_a_client_certificate_and_an_acl_user() {
    let certificates = Certificates::make();
    let rules = ["--user", "shop", "on", ">pw", "resetkeys", "~{test}:*", "~test:*", "resetchannels", "&test:*", "-@all"];
    let commands = ["+get", "+set", "+del", "+eval", "+evalsha", "+hget", "+hmget", "+hgetall", "+hset", "+hsetnx", "+hdel", "+hincrby"];
    let others = ["+pexpire", "+time", "+publish", "+subscribe", "+ping", "+client|id", "+info", "--user", "default", "off"];
    let acl = [&rules[..], &commands, &others].concat();
    let Some(server) = certificates.server(server::free_port(), "yes", &acl) else { return };
    let origin = Origin::start().await;
    let url = format!("rediss://shop:pw@127.0.0.1:{}", server.port);
    let pair = pair(&origin, &format!("{}, {}", redis(&url), certificates.yaml(true))).await;
    they_share(&origin, &pair, "ann").await;
    for replica in &pair {
        let failed: u64 = replica.0.redis.as_ref().expect("configured").errors().iter().map(|(_, n)| n).sum();
        assert_eq!(failed, 0, "a rule of the ACL is missing");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_over_tls() {
    let certificates = Certificates::make();
    let [ca, cert, key] = ["ca.crt", "server.crt", "server.key"].map(|name| certificates.file(name).display().to_string());
    let tls_port = server::free_port().to_string();
    let files = ["--tls-ca-cert-file", &ca, "--tls-cert-file", &cert, "--tls-key-file", &key];
    let tls = [&files[..], &["--tls-port", &tls_port, "--tls-auth-clients", "no", "--tls-cluster", "yes"]].concat();
    let Some(_node) = Server::cluster_with(&tls) else { return };
    let origin = Origin::start().await;
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("rediss-cluster://{host}:{tls_port}");
        let pair = pair(&origin, &format!("{}, {}", redis(&url), certificates.yaml(false))).await;
        they_share(&origin, &pair, host).await;
    }
}

/// The proxy is up without Redis and says in its health what to do.
async fn says(replica: &Replica, advice: &str) {
    assert_eq!(replica.get("/c/without").await.status, StatusCode::OK);
    let (began, mut look) = (Instant::now(), tokio::time::interval(Duration::from_millis(10)));
    while !replica.health().1.contains(advice) {
        assert!(began.elapsed() < Duration::from_secs(20), "`{advice}` is not in `{}`", replica.health().1);
        look.tick().await;
    }
    assert_eq!(replica.health().0, State::Degraded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_said_and_the_right_one_joins() {
    let Some(server) = Server::start_with(server::free_port(), &["--requirepass", "right"]) else { return };
    let origin = Origin::start().await;
    let wrong = Replica::start(&origin, &redis(&format!("redis://:wrong@127.0.0.1:{}", server.port))).await;
    says(&wrong, "Redis does not accept the user and password; correct them in `store.redis`").await;
    assert!(!wrong.health().1.contains("wrong"), "passwords are not shown");
    let none = Replica::start(&origin, &redis(&server.url())).await;
    says(&none, "Redis asks for a password; write it in `store.redis`").await;
    cli(server.port, &["-a", "right", "CONFIG", "SET", "requirepass", "wrong"]);
    wrong.until_ready().await;
    assert_eq!(wrong.health().0, State::Ok);
    wrong.get("/c/a").await;
    wrong.until(Event::Stored, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_tls_is_said_and_new_files_are_used_without_a_restart() {
    let (ours, others) = (Certificates::make(), Certificates::make());
    let Some(server) = ours.server(server::free_port(), "yes", &[]) else { return };
    let origin = Origin::start().await;
    let store = redis(&format!("rediss://127.0.0.1:{}", server.port));
    let unknown = Replica::start(&origin, &format!("{store}, {}", others.yaml(true))).await;
    says(&unknown, "name that authority's file in `store.redis_tls.ca`").await;
    let bare = Replica::start(&origin, &format!("{store}, {}", ours.yaml(false))).await;
    says(&bare, "Redis asks for a client certificate; name one in `store.redis_tls.cert` and `key`").await;
    let clear = Replica::start(&origin, &redis(&format!("redis://127.0.0.1:{}", server.port))).await;
    says(&clear, "no answer").await;

    let file = tempfile::NamedTempFile::new().expect("a file");
    let watched = Replica::start_from(file.path(), &origin, &format!("{store}, {}", others.yaml(true))).await;
    says(&watched, "name that authority's file in `store.redis_tls.ca`").await;
    for name in ["ca.crt", "client.crt", "client.key"] {
        std::fs::copy(ours.file(name), others.file(name)).expect("copied");
    }
    assert_eq!(watched.0.reload(false).await, Ok(true), "a new file is a new configuration");
    watched.until_ready().await;
    watched.get("/c/a").await;
    watched.until(Event::Stored, 1).await;
    std::fs::write(others.file("client.key"), "nothing").expect("written");
    let refused = watched.0.reload(false).await.expect_err("no key");
    assert!(refused.to_string().contains("holds no private key"), "{refused}");
    assert_eq!(watched.health().0, State::Ok, "what is at work is kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wrong_form_of_url_is_said() {
    let Some(server) = Server::start() else { return };
    let origin = Origin::start().await;
    let port = server.port;
    for (url, advice) in [
        (format!("redis-cluster://127.0.0.1:{port}"), "use a URL that begins with `redis://`"),
        (format!("rediss://127.0.0.1:{port}"), "its port does not speak TLS"),
        (format!("redis-sentinel://127.0.0.1:{port}?sentinelServiceName=main"), "a Redis and no Sentinel"),
    ] {
        let replica = Replica::start(&origin, &redis(&url)).await;
        says(&replica, advice).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_whose_message_got_lost_is_noticed() {
    let Some(server) = Server::start() else { return };
    let origin = Origin::start().await;
    let one = Replica::up(&origin, &server).await;
    one.get("/c/a").await;
    one.until(Event::Stored, 1).await;
    // A record that nobody was told of.
    let journal = "{test}:cache:1:journal";
    let number = cli(server.port, &["--raw", "HINCRBY", journal, "number", "1"]);
    cli(server.port, &["HSET", journal, "all", number.trim()]);
    eventually("the memory tier is given up", || one.entries() == 0).await;
    one.until_ready().await;
    assert!(!one.get("/c/a").await.is_hit());
}
