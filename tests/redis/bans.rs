//! Bans that replicas share through a real Redis, and what each does while Redis is away.

use super::{
    server::Server,
    world::{Origin, Replica, eventually, redis, request},
};
use outrigger::policy::bans::Who;

async fn up(origin: &Origin, server: &Server) -> Replica {
    let replica = Replica::start(origin, &redis(&server.url())).await;
    eventually("Redis is there", || replica.0.redis.as_ref().is_some_and(|redis| redis.is_up())).await;
    replica
}

async fn ask(replica: &Replica, from: &str, method: &str) -> u16 {
    replica.ask(request(method, "/guarded", &[("x-forwarded-for", from)], "")).await.status.as_u16()
}

fn is_out(replica: &Replica, who: &str) -> bool {
    replica.0.shared.bans.list(outrigger::clock::Instant::now()).iter().any(|(known, _)| known.to_string() == who)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_count_over_all_replicas_and_a_ban_holds_at_each_until_it_is_lifted() {
    let Some(server) = Server::start() else { return };
    let origin = Origin::start().await;
    let (one, two) = (up(&origin, &server).await, up(&origin, &server).await);
    for nth in 0..4 {
        let replica = if nth % 2 == 0 { &one } else { &two };
        assert_eq!(ask(replica, "198.51.100.1", "DELETE").await, 405, "{nth}");
    }
    // Neither replica has seen four by itself.
    eventually("out at both", || is_out(&one, "198.51.100.1") && is_out(&two, "198.51.100.1")).await;
    assert_eq!((ask(&one, "198.51.100.1", "GET").await, ask(&two, "198.51.100.1", "GET").await), (403, 403));
    assert_eq!(ask(&two, "198.51.100.2", "GET").await, 200);
    let three = up(&origin, &server).await;
    eventually("a replica that comes later knows it too", || is_out(&three, "198.51.100.1")).await;
    assert!(two.0.shared.bans.lift(&Who::parse("198.51.100.1").expect("an address")));
    eventually("in again everywhere", || [&one, &two, &three].iter().all(|replica| !is_out(replica, "198.51.100.1"))).await;
    assert_eq!(ask(&one, "198.51.100.1", "GET").await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_each_bans_by_itself_and_tells_later() {
    let Some(server) = Server::start() else { return };
    let origin = Origin::start().await;
    let (one, two) = (up(&origin, &server).await, up(&origin, &server).await);
    let port = server.kill();
    eventually("Redis is away", || [&one, &two].iter().all(|replica| replica.0.redis.as_ref().is_some_and(|redis| !redis.is_up()))).await;
    for _ in 0..4 {
        assert_eq!(ask(&one, "198.51.100.1", "DELETE").await, 405);
    }
    assert_eq!((ask(&one, "198.51.100.1", "GET").await, ask(&two, "198.51.100.1", "GET").await), (403, 200));
    let _server = Server::start_at(port);
    eventually("the other knows it", || is_out(&two, "198.51.100.1")).await;
    assert!(is_out(&one, "198.51.100.1"));
}
