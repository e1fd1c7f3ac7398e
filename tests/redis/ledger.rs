//! One ledger for two whole proxies: each answers for both, and for what waits while Redis is away.

use std::sync::Arc;

use outrigger::{
    admin::{About, Operator, State},
    app::Desk,
    clock::Instant,
};
use serde_json::Value;

use super::{
    server::Server,
    world::{Origin, PATIENCE, Replica},
};

/// `Err`: Redis went away or came back while it was asked.
async fn usage(replica: &Replica, by: &str) -> Result<Value, String> {
    let words = [("from", "1h"), ("by", by)].map(|(key, value)| (key.to_owned(), value.to_owned()));
    Desk::new(Arc::downgrade(&replica.0)).ask(About::Usage, words.into()).await.map_err(|why| format!("{why:?}"))
}

/// Asks until the calls are these: a client has its answer a moment before its call is counted, and a replica writes once a second.
async fn until_calls(replica: &Replica, calls: u64) -> Value {
    let (began, mut look) = (Instant::now(), tokio::time::interval(std::time::Duration::from_millis(20)));
    loop {
        let answer = usage(replica, "provider,model").await;
        match answer {
            Ok(answer) if answer["total"]["calls"] == calls => return answer,
            answer => assert!(began.elapsed() < PATIENCE, "{calls} calls: {answer:#?}"),
        }
        look.tick().await;
    }
}

fn ledger(replica: &Replica) -> (State, String) {
    let health = Desk::new(Arc::downgrade(&replica.0)).health();
    let ledger = health.dependencies.into_iter().find(|dependency| dependency.name == "ledger").expect("told");
    (ledger.state, ledger.detail)
}

fn prompt(n: usize) -> String {
    format!(r#"{{"model": "gpt-4o-mini", "messages": [{{"role": "user", "content": "prompt {n}"}}]}}"#)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_share_one_ledger_and_each_answers_for_all() {
    let Some(server) = Server::start() else { return };
    let origin = Origin::start().await;
    let (one, two) = (Replica::up(&origin, &server).await, Replica::up(&origin, &server).await);
    for n in 0..6 {
        let replica = if n % 2 == 0 { &one } else { &two };
        assert_eq!(replica.chat(&prompt(n)).await.status.as_u16(), 200);
    }
    let (first, second) = (until_calls(&one, 6).await, until_calls(&two, 6).await);
    assert_eq!((&first["rows"], &first["total"]), (&second["rows"], &second["total"]));
    assert_eq!(first["total"]["tokens"]["input"], 6 * 5, "{first:#}");
    assert_eq!(ledger(&one).1, "in Redis, shared by all replicas");
    // Redis stands still: calls go on and wait, and the answer says what it lacks.
    server.signal("-STOP");
    assert_eq!(one.chat(&prompt(7)).await.status.as_u16(), 200);
    let alone = until_calls(&one, 1).await;
    assert_eq!(alone["complete"], false, "{alone:#}");
    assert_eq!(ledger(&one).0, State::Degraded);
    server.signal("-CONT");
    let (first, second) = (until_calls(&one, 7).await, until_calls(&two, 7).await);
    assert_eq!(first["total"], second["total"]);
    let (began, mut look) = (Instant::now(), tokio::time::interval(std::time::Duration::from_millis(20)));
    while ledger(&one).0 != State::Ok {
        assert!(began.elapsed() < PATIENCE, "{:?}", ledger(&one));
        look.tick().await;
    }
}
