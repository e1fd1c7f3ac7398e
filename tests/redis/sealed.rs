//! Cached answers are sealed in a real Redis, and keys change without a moment in which nothing can be read.

use outrigger::policy::cache::Event;

use super::{
    server::Server,
    world::{Origin, Replica, redis, redis_cli},
};

const OLD: &str = "an-old-key-of-the-house";
const NEW: &str = "a-new-key-of-the-house";

async fn replica(origin: &Origin, server: &Server, keys: &str) -> Replica {
    let store = format!("{}, secret: one-secret-for-all-replicas, encryption_keys: [{keys}]", redis(&server.url()));
    let replica = Replica::start(origin, &store).await;
    replica.until_ready().await;
    replica
}

/// Whether any value in Redis has this text.
fn shows(server: &Server, text: &str) -> bool {
    let keys = redis_cli(server, &["--scan"]);
    keys.lines().any(|key| redis_cli(server, &["GET", key]).contains(text))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_changed_in_two_steps_and_redis_never_shows_an_answer() {
    let Some(server) = Server::start() else { return };
    let origin = Origin::start().await;
    let plain = Replica::up(&origin, &server).await;
    plain.get("/c/plain").await;
    plain.until(Event::Stored, 1).await;
    assert!(shows(&server, "/c/plain 1"), "without keys it is there to read");
    let old = replica(&origin, &server, OLD).await;
    let first = old.get("/c/a").await;
    old.until(Event::Stored, 1).await;
    assert!(!first.is_hit() && !shows(&server, "/c/a 2"));
    let both = replica(&origin, &server, &format!("{NEW}, {OLD}")).await;
    let again = both.get("/c/a").await;
    assert!(again.is_hit() && again.body == first.body, "the old key opens: {}", again.body);
    let second = both.get("/c/b").await;
    both.until(Event::Stored, 1).await;
    let new = replica(&origin, &server, NEW).await;
    assert!(new.get("/c/b").await.is_hit() && new.get("/c/b").await.body == second.body, "the new key seals");
    assert!(!new.get("/c/a").await.is_hit(), "what the old key has sealed is asked anew");
    assert!(!shows(&server, "/c/b 3"));
}
