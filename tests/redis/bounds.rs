//! The bounds that replicas keep together: a link that holds answers back, a replica that dies, a key that is spent, a limit that
//! lets through.

use outrigger::policy::limits::Over;

use super::*;

/// A link to Redis that holds what Redis says for as long as it is shut.
struct Link {
    url: String,
    open: tokio::sync::watch::Sender<bool>,
}

async fn link(server: &Server, side: &Side) -> Link {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let (url, port) = (format!("redis://{}", listener.local_addr().expect("bound")), server.port);
    let (open, gate) = tokio::sync::watch::channel(true);
    side.spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let mut gate = gate.clone();
            tokio::spawn(async move {
                let redis = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("redis");
                let ((mut asks, mut heard), (mut said, mut told)) = (client.into_split(), redis.into_split());
                let asking = tokio::io::copy(&mut asks, &mut told);
                let answering = async {
                    let mut piece = [0; 4096];
                    while let Ok(some @ 1..) = tokio::io::AsyncReadExt::read(&mut said, &mut piece).await {
                        let _ = gate.wait_for(|open| *open).await;
                        if tokio::io::AsyncWriteExt::write_all(&mut heard, &piece[..some]).await.is_err() {
                            break;
                        }
                    }
                };
                tokio::join!(asking, answering)
            });
        }
    });
    Link { url, open }
}

#[tokio::test]
async fn a_link_that_holds_answers_back_makes_limits_stricter_and_never_looser() {
    let Some(server) = Server::start() else { return };
    let side = side();
    let slow = link(&server, &side).await;
    let far = Replica::up(&slow.url, &side, limit(Unit::Requests, 10)).await;
    let near = Replica::up(&server.url(), &side, limit(Unit::Requests, 10)).await;
    assert_eq!((far.passed(2).await, near.passed(2).await), (2, 2));
    slow.open.send(false).expect("the link listens");
    let (here, there) = (far.passed(20).await, near.passed(20).await);
    assert_eq!(here, 8, "by its own count: ten in all");
    assert!(there <= 6, "what Redis has counted late counts too: {there}");
    assert!(2 + here + 2 + there <= 2 * 10, "never above the limit times the replicas");
    slow.open.send(true).expect("the link listens");
    until(&far.store, true).await;
    assert_eq!((far.passed(5).await, near.passed(5).await), (0, 0), "nothing comes back in this window");
}

#[tokio::test]
async fn a_replica_that_dies_holds_nothing_back_longer_than_the_window() {
    let Some(server) = Server::start() else { return };
    let beside = side();
    let window = Duration::from_secs(2);
    let short = || Limit { window, ..limit(Unit::Tokens, 1_000) };
    let two = Replica::up(&server.url(), &beside, short()).await;
    let dies = side();
    let one = Replica::up(&server.url(), &dies, short()).await;
    let lease = one.call(900).await.expect("fits");
    let reserved = Instant::now();
    // Nothing is settled or given back: the process is gone.
    std::mem::forget(lease);
    drop((one, dies));
    assert!(two.call(200).await.is_err(), "reserved elsewhere");
    let free = async {
        while two.call(900).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, free).await.expect("room");
    let held = reserved.elapsed();
    assert!(held >= window && held < window * 33 / 31 + DEADLINE * 2, "{held:?}");
}

#[tokio::test]
async fn a_spent_key_is_refused_from_memory_and_redis_is_not_asked() {
    let Some(server) = Server::start() else { return };
    let side = side();
    let inbound = |replica: Replica| {
        let set = replica.limits.set(Door::Inbound, [&limit(Unit::Requests, 10)]);
        Replica { set, ..replica }
    };
    let one = inbound(Replica::up(&server.url(), &side, limit(Unit::Requests, 10)).await);
    let two = inbound(Replica::up(&server.url(), &side, limit(Unit::Requests, 10)).await);
    assert_eq!((one.passed(10).await, two.passed(1).await), (10, 0));
    server.signal("-STOP");
    let (began, refused) = (Instant::now(), two.call(0).await.expect_err("spent"));
    assert_eq!(two.passed(99).await, 0);
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
    assert!(refused.retry_after.is_some_and(|wait| wait > Duration::from_secs(3_500)), "{:?}", refused.retry_after);
    let counts = two.limits.counts().into_iter().find(|count| count.door == Door::Inbound).expect("counted");
    assert_eq!((counts.spared, counts.refused, counts.store_away), (100, 101, 0));
    server.signal("-CONT");
}

#[tokio::test]
async fn a_limit_that_lets_through_is_charged_beyond_its_amount() {
    let Some(server) = Server::start() else { return };
    let side = side();
    let degrade = || Limit {
        on_limit: config::OnLimit::Degrade(config::Degrade { provider: None, model: "m".into() }),
        ..limit(Unit::Tokens, 1_000)
    };
    let one = Replica::up(&server.url(), &side, degrade()).await;
    let two = Replica::up(&server.url(), &side, degrade()).await;
    one.call(900).await.expect("fits").keep();
    let refused = two.call(200).await.expect_err("900 + 200");
    assert!(matches!(refused.act, config::OnLimit::Degrade(_)), "{refused:?}");
    let keyed = two.keyed();
    let mut over = Over::default();
    over.add(&refused);
    let demand = Demand { over: Some(&over), ..Demand::call(Applies::All, 200, 0) };
    two.limits.admit_shared(&[Question { keyed: &keyed, demand }], Instant::now()).await.expect("let through").keep();
    assert!(one.call(1).await.is_err(), "1100 of 1000 are used");
}
