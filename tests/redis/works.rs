//! Work in the background, ordered at one replica and asked about at others: charged once, to who ordered it, whichever replica hears
//! first that it has ended, and also after a restart.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use outrigger::clock::Clock;
use outrigger::store::ledger::{Measure, Question};
use serde_json::json;

use super::{
    server::Server,
    world::{Origin, Replica, eventually, origin_answer, redis, redis_cli, request},
};

/// 1,000 of input and 50,000 of output, at 10 and 40 dollars a million.
const PRICE: u64 = 2_010_000_000;
const LIMIT: u64 = 100_000_000_000;

/// A provider that begins the work that is named in the query, and tells of one whatever the query says.
fn provider(asked: &Request<Incoming>, _: usize) -> Option<Response<Full<Bytes>>> {
    let query = asked.uri().query().unwrap_or_default();
    let (id, status) = match asked.method().as_str() {
        "POST" => (query, "queued"),
        _ => (asked.uri().path().rsplit('/').next().unwrap_or_default(), query),
    };
    let usage = (status == "completed").then(|| json!({"input_tokens": 1_000, "output_tokens": 50_000, "total_tokens": 51_000}));
    let body = json!({
        "id": id, "object": "response", "background": true, "model": "o3-deep-research", "status": status, "output": [], "usage": usage,
    });
    let response = Response::builder().header("content-type", "application/json");
    Some(response.body(Full::new(body.to_string().into())).expect("a response"))
}

/// Orders a work; gives what is left of the limit.
async fn order(at: &Replica, caller: &str, id: &str) -> u64 {
    let body = json!({"model": "o3-deep-research", "input": "hi", "background": true, "max_output_tokens": 20_000}).to_string();
    let fields = [("content-type", "application/json"), ("authorization", "Bearer sk-app"), ("outrigger-caller", caller)];
    let answer =
        at.ask_at(at.0.addresses.outbound.expect("open"), request("POST", &format!("/house/responses?{id}"), &fields, &body)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let state = answer.headers["ratelimit"].to_str().expect("text").to_owned();
    state.split("r=").nth(1).expect("r").split(';').next().expect("a number").parse().expect("a number")
}

async fn poll(at: &Replica, caller: &str, id: &str) {
    let fields = [("authorization", "Bearer sk-app"), ("outrigger-caller", caller)];
    let path = format!("/house/responses/{id}?completed");
    assert_eq!(at.ask_at(at.0.addresses.outbound.expect("open"), request("GET", &path, &fields, "")).await.status, StatusCode::OK);
}

/// Nano-dollars by caller, at all of these.
fn spent(at: &[&Replica]) -> Vec<(String, u64)> {
    let all = at.iter().flat_map(|replica| replica.0.shared.spend.by_caller());
    let mut all: Vec<_> = all.filter(|(_, spent)| spent.nano_usd > 0).map(|(who, spent)| (who.to_string(), spent.nano_usd)).collect();
    all.sort();
    all
}

async fn known(server: &Server, works: usize) {
    eventually("the works are in Redis", || redis_cli(server, &["KEYS", "{test}:work:*"]).lines().count() == works).await;
}

/// What is left of the limit once `used` has arrived in Redis; each look orders one more work.
async fn left(at: &Replica, reserved: u64, used: u64, mut orders: u64) {
    let mut look = tokio::time::interval(Duration::from_millis(20));
    for _ in 0..500 {
        look.tick().await;
        orders += 1;
        if order(at, "looker", &format!("look_{orders}")).await == LIMIT - used - orders * reserved {
            return;
        }
    }
    panic!("the limit never says {used}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_work_is_charged_once_to_who_ordered_it_whichever_replica_is_asked() {
    let Some(server) = Server::start() else { return };
    let origin = Origin::playing(provider).await;
    let (one, two) = (Replica::up(&origin, &server).await, Replica::up(&origin, &server).await);
    let reserved = LIMIT - order(&one, "anna", "a").await;
    order(&one, "anna", "b").await;
    known(&server, 2).await;
    for id in ["a", "b"] {
        poll(&two, "bert", id).await;
        poll(&two, "cleo", id).await;
        poll(&one, "cleo", id).await;
    }
    // The last of the worker's queue: then all before it are done.
    poll(&two, "last", "unknown").await;
    eventually("charged", || spent(&[&two]).len() == 2).await;
    eventually("known to be charged here too", || one.0.shared.works.under_way() == 0).await;
    assert_eq!(spent(&[&one, &two]), [("anna".to_owned(), 2 * PRICE), ("last".to_owned(), PRICE)]);
    // In the limits as well, which both replicas see; of `last` no route's limit is known.
    left(&two, reserved, 2 * PRICE, 0).await;
    assert!(two.metrics().contains("outrigger_cost_usd_total{route=\"research\",provider=\"house\",model=\"o3-deep-research\"} 4.02"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_of_another_replica_names_the_inbound_route_that_caused_a_work() {
    let Some(server) = Server::start() else { return };
    let carried = Arc::new(Mutex::new(String::new()));
    let app = carried.clone();
    let origin = Origin::playing(move |asked, n| {
        if let Some(baggage) = asked.headers().get("baggage") {
            *app.lock().expect("whole") = baggage.to_str().expect("text").to_owned();
        }
        if asked.uri().path().contains("responses") { provider(asked, n) } else { Some(origin_answer(asked, n)) }
    })
    .await;
    let (one, two) = (Replica::up(&origin, &server).await, Replica::up(&origin, &server).await);
    one.ask(request("GET", "/limited", &[("x-user-id", "anna")], "")).await;
    let baggage = carried.lock().expect("whole").clone();
    let body = json!({"model": "o3-deep-research", "input": "hi", "background": true}).to_string();
    let fields = [("content-type", "application/json"), ("authorization", "Bearer sk-app"), ("baggage", &*baggage)];
    one.ask_at(one.0.addresses.outbound.expect("open"), request("POST", "/house/responses?a", &fields, &body)).await;
    known(&server, 1).await;
    poll(&two, "bert", "a").await;
    let rows = || {
        let words = [("by", "caller,inbound,outbound"), ("from", "1h")].map(|(key, value)| (key.into(), value.into()));
        let question = Question::read(words.into_iter(), two.0.shared.clock.unix_millis() + 60_000).expect("a question");
        let answer = tokio::task::block_in_place(|| two.0.shared.ledger.ask(&question)).expect("an answer");
        answer
            .rows
            .iter()
            .map(|row| (row.names.iter().map(ToString::to_string).collect(), row.sums.get(Measure::NanoUsd)))
            .collect::<Vec<_>>()
    };
    eventually("it is in the ledger", || !rows().is_empty()).await;
    let names: Vec<String> = ["anna", "/limited", "research"].map(str::to_owned).into();
    assert_eq!(rows(), [(names, PRICE)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_forgets_nobody() {
    let Some(server) = Server::start() else { return };
    let origin = Origin::playing(provider).await;
    let one = Replica::up(&origin, &server).await;
    let reserved = LIMIT - order(&one, "anna", "a").await;
    known(&server, 1).await;
    drop(one);
    let again = Replica::up(&origin, &server).await;
    poll(&again, "bert", "a").await;
    eventually("charged", || !spent(&[&again]).is_empty()).await;
    assert_eq!(spent(&[&again]), [("anna".to_owned(), PRICE)]);
    left(&again, reserved, PRICE, 0).await;
    // What was reserved before the restart is no secret of who reads Redis: only the names are.
    assert!(!redis_cli(&server, &["KEYS", "*"]).contains("resp"), "ids of the provider's are hashed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_has_just_begun_asks_who_pays_before_it_charges() {
    let Some(server) = Server::start() else { return };
    let origin = Origin::playing(provider).await;
    let one = Replica::up(&origin, &server).await;
    order(&one, "anna", "a").await;
    known(&server, 1).await;
    // While Redis is stopped, the new process is still connecting.
    server.signal("-STOP");
    let two = Replica::start(&origin, &redis(&server.url())).await;
    poll(&two, "bert", "a").await;
    server.signal("-CONT");
    eventually("charged", || !spent(&[&two]).is_empty()).await;
    assert_eq!(spent(&[&two]), [("anna".to_owned(), PRICE)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_each_replica_goes_by_its_own_book() {
    let Some(server) = Server::start() else { return };
    let origin = Origin::playing(provider).await;
    let one = Replica::up(&origin, &server).await;
    order(&one, "anna", "a").await;
    known(&server, 1).await;
    server.kill();
    let redis = one.0.redis.clone().expect("configured");
    eventually("away", || !redis.is_up()).await;
    poll(&one, "bert", "a").await;
    poll(&one, "bert", "a").await;
    eventually("charged", || !spent(&[&one]).is_empty()).await;
    assert_eq!(spent(&[&one]), [("anna".to_owned(), PRICE)]);
    let (_, told) = one.health();
    assert!(told.contains("background work"), "{told}");
}

/// A process without Redis has left a file: also replicas that never see the file know of its works, and the file is gone then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_gets_the_works_of_a_file_from_before_it() {
    let Some(server) = Server::start() else { return };
    let origin = Origin::playing(provider).await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("works-0.json");
    let since = Clock::system().unix_millis() / 1_000 - 60;
    let said = json!({
        "caller": "anna", "route": "research", "model": "o3-deep-research", "unattributed": false, "expected": [1, 1], "reserved": [],
    });
    let text = json!({
        "format": 1,
        "open": [{
            "provider": "house", "id": "a", "since": since, "operation": "responses", "flavor": "openai", "expected_cost": 1, "said": said,
        }],
        "paid": [{"provider": "house", "id": "b", "since": since}],
    });
    std::fs::write(&file, text.to_string()).expect("written");
    let two = Replica::up(&origin, &server).await;
    let reserved = LIMIT - order(&two, "looker", "look").await;
    let store = format!("{}, state_dir: '{}'", redis(&server.url()), dir.path().display());
    let one = Replica::start(&origin, &store).await;
    one.until_ready().await;
    known(&server, 3).await;
    eventually("the file is removed", || !file.exists()).await;
    poll(&two, "bert", "a").await;
    poll(&two, "bert", "b").await;
    poll(&two, "last", "unknown").await;
    eventually("charged", || spent(&[&two]).len() == 2).await;
    poll(&one, "cleo", "a").await;
    poll(&one, "last", "unknown_too").await;
    eventually("charged here too", || spent(&[&one]).len() == 1).await;
    assert_eq!(spent(&[&two]), [("anna".to_owned(), PRICE), ("last".to_owned(), PRICE)]);
    assert_eq!(spent(&[&one]), [("last".to_owned(), PRICE)]);
    // Nothing was reserved: the limit of the route that ordered it is charged by name.
    left(&two, reserved, PRICE, 1).await;
}

/// Each replica tells Redis of its own works. Whoever hears of the end charges nobody by the name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_caller_leaves_redis_with_the_works_that_the_replica_has_begun() {
    let Some(server) = Server::start() else { return };
    let origin = Origin::playing(provider).await;
    let (one, two) = (Replica::up(&origin, &server).await, Replica::up(&origin, &server).await);
    order(&one, "anna", "a").await;
    order(&one, "bert", "b").await;
    order(&two, "anna", "c").await;
    known(&server, 3).await;
    let named = |name: &str| {
        let works = redis_cli(&server, &["KEYS", "{test}:work:*"]);
        works.lines().filter(|work| redis_cli(&server, &["GET", work]).contains(name)).count()
    };
    assert_eq!((named("anna"), named("bert")), (2, 1));
    for (replica, left) in [(&one, 1), (&two, 0)] {
        let works = &replica.0.shared.works;
        assert!(works.erase_in_redis("anna").await && works.erase("anna"));
        assert_eq!((named("anna"), named("bert")), (left, 1));
    }
    let first = redis_cli(&server, &["KEYS", "{test}:work:*"]);
    assert!(
        first.lines().all(|work| redis_cli(&server, &["PTTL", work]).trim().parse::<i64>().expect("a number") > 1_000),
        "they still end"
    );
    poll(&two, "cleo", "a").await;
    poll(&two, "last", "unknown").await;
    eventually("charged", || spent(&[&two]).len() == 2).await;
    assert!(spent(&[&one, &two]).iter().all(|(who, _)| who != "anna" && who != "cleo"), "{:?}", spent(&[&one, &two]));
}
