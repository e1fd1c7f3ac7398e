//! Who caused a call: a user's limit holds for background calls under load, for every way in which an app carries an id, and an id that
//! a provider has seen charges nobody.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use http::{Request, StatusCode};
use outrigger::{
    arrival::Door,
    cause::{self, Begin, Causes, Join},
    clock::{Clock, Instant},
    config::{self, KeyPart, Unit},
    http1::Fields,
    policy::limits::{KeyFacts, Keyed, LimitSet, Limits},
};
use serde_json::{Value, json};

use crate::world::{self, Reply, World, pass, run, secs};

const SPEND: &str = "
inbound:
  app: http://app.test
  trusted_proxies: [10.0.0.0/8]
  caller: [header:x-user-id]
  routes:
    - {name: chat, match: {path: /chat}, limits: [{name: user-spend, key: caller, usd: 0.001, window: 1d}]}
outbound:
  providers: {openai: {url: 'http://o.test'}}
";

/// So many calls are more than alice's limit allows.
const CALLS: usize = 6;

const CHAT: &str = "/openai/v1/chat/completions";

/// A request of alice to the app, with these fields; gives back what the app saw.
async fn arrive(world: &World, fields: &[(&'static str, &str)]) -> world::Seen {
    let request =
        fields.iter().fold(Request::get("/chat").header("x-user-id", "alice"), |request, (name, value)| request.header(*name, *value));
    assert_eq!(world.client().from("10.0.0.1").ask(request, "").await.status, StatusCode::OK);
    world.app.seen().pop().expect("the app was asked")
}

async fn call(world: &World, fields: &[(&'static str, &str)]) -> StatusCode {
    let asked = fields.iter().fold(world::json(CHAT), |asked, (name, value)| asked.header(*name, *value));
    let body: Value = json!({"model": "gpt-4o", "max_tokens": 40, "messages": [{"role": "user", "content": "hi"}]});
    world.caller().ask(asked, body.to_string()).await.status
}

/// Whether calls with these fields are charged to alice: after a few of them, her limit refuses.
async fn charges_alice(world: &World, fields: &[(&'static str, &str)]) -> bool {
    let mut refused = false;
    for _ in 0..CALLS {
        refused |= call(world, fields).await == StatusCode::TOO_MANY_REQUESTS;
    }
    refused
}

#[test]
fn every_way_in_which_an_app_carries_an_id_charges_the_user() {
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for way in ["baggage", "x-request-id", "x-request-id given", "traceparent"] {
        run(async {
            let world = World::new(SPEND).await;
            let fields: &[(&'static str, &str)] = match way {
                "x-request-id given" => &[("x-request-id", "lb-0001")],
                "traceparent" => &[("traceparent", PARENT)],
                _ => &[],
            };
            let seen = arrive(&world, fields).await;
            let name = way.split(' ').next().expect("a name");
            pass(secs(240)).await;
            assert!(charges_alice(&world, &[(name, seen.header(name))]).await, "{way}");
            assert_eq!(world.count("outrigger_unattributed_calls_total", &[]), 0.0, "{way}");
        });
    }
}

#[test]
fn a_call_from_within_a_request_that_takes_hours_is_charged() {
    run(async {
        let world = World::new(SPEND).await;
        world.app.script([Reply::paced(world::ms(1), &["slowly"]).stalls()]);
        let mut long = world.client().from("10.0.0.1").open(Request::get("/chat").header("x-user-id", "alice"), "").await;
        assert!(long.next().await.is_some_and(|piece| piece.is_ok()));
        pass(secs(3 * 3_600)).await;
        world.shared.causes.sweep(secs(300), Instant::now());
        let baggage = world.app.only().header("baggage").to_owned();
        assert!(charges_alice(&world, &[("baggage", &baggage)]).await);
        drop(long);
        pass(secs(301)).await;
        assert_eq!(call(&world, &[("baggage", &baggage)]).await, StatusCode::OK, "long over, it enforces nothing");
    });
}

#[test]
fn an_app_that_says_for_whom_it_asks_is_believed_on_the_same_host_alone() {
    run(async {
        let limit = "  limits: [{name: callers, key: caller, requests: 5, window: 1d}]\n";
        let world = World::new(&format!("{SPEND}{limit}")).await;
        for at in 0..6 {
            let said = world.caller().ask(world::json(CHAT).header("outrigger-caller", "dan"), world::chat("gpt-4o").to_string()).await;
            assert_eq!(said.status == StatusCode::OK, at < 5, "dan's five calls");
        }
        assert_eq!(world.count("outrigger_unattributed_calls_total", &[]), 0.0);
        let elsewhere = world.caller().from("10.0.0.9");
        for _ in 0..7 {
            let asked = world::json(CHAT).header("host", "localhost").header("outrigger-caller", "dan");
            assert_eq!(elsewhere.ask(asked, world::chat("gpt-4o").to_string()).await.status, StatusCode::OK, "who it is, is not known");
        }
    });
}

#[test]
fn an_id_that_reached_a_provider_is_another_and_charges_nobody() {
    for given in [None, Some("lb-0001")] {
        run(async {
            let world = World::new(SPEND).await;
            let fields: Vec<_> = given.iter().map(|id| ("x-request-id", *id)).collect();
            let seen = arrive(&world, &fields).await;
            let id = seen.header("x-request-id").to_owned();
            assert_eq!(id == "lb-0001", given.is_some());
            // Most middleware copies the id, some under another name.
            let copied = [("x-request-id", &*id), ("x-correlation-id", &*id), ("x-client-request-id", &*id)];
            assert_eq!(call(&world, &copied).await, StatusCode::OK);
            assert_eq!(call(&world, &[("x-request-id", &id), ("baggage", seen.header("baggage"))]).await, StatusCode::OK);
            let told = world.provider("openai").seen();
            let reached = told[0].header("x-request-id").expect("an id").to_owned();
            for (name, value) in told.iter().flat_map(|seen| &seen.headers) {
                assert!(!value.contains(&id) && name != "baggage", "{name}: {value}");
            }
            for name in ["x-request-id", "x-correlation-id", "x-client-request-id"] {
                assert_eq!(told[0].header(name), Some(&*reached), "{name}");
            }
            assert_eq!(told[1].header("x-request-id"), Some(&*reached), "the same id is always the same");
            let before = world.count("outrigger_unattributed_calls_total", &[]);
            let member = format!("outrigger={reached}");
            assert!(!charges_alice(&world, &[("x-request-id", &reached), ("baggage", &member)]).await);
            assert_eq!(world.count("outrigger_unattributed_calls_total", &[]), before + CALLS as f64);
            assert!(charges_alice(&world, &[("x-request-id", &id)]).await, "while the id itself still does");
            for (line, sent) in world.log().await[1..4].iter().zip([true, true, false]) {
                assert_eq!(line["sent_request_id"].as_str(), sent.then_some(&*reached), "{line:#}");
            }
        });
    }
}

#[test]
fn what_is_not_ours_reaches_the_provider_as_it_is() {
    run(async {
        let world = World::new(SPEND).await;
        arrive(&world, &[("x-request-id", "lb-0001")]).await;
        let foreign = [
            ("x-request-id", "0123456789abcdef0123456789abcdef"),
            ("x-correlation-id", "lb-0002"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("baggage", "a=1 , b=2"),
        ];
        assert_eq!(call(&world, &foreign).await, StatusCode::OK);
        let told = &world.provider("openai").seen()[0];
        for (name, value) in foreign {
            assert_eq!(told.header(name), Some(value), "{name}");
        }
    });
}

#[test]
fn a_client_cannot_choose_whom_its_calls_are_charged_to() {
    run(async {
        let world = World::new(SPEND).await;
        let alice = arrive(&world, &[]).await;
        let (token, baggage) = (alice.header("x-request-id").to_owned(), alice.header("baggage").to_owned());
        // Through the trusted proxy, which passes on what its client says.
        let mallory = Request::get("/other").header("x-user-id", "mallory").header("x-request-id", &token).header("baggage", &baggage);
        assert_eq!(world.client().from("10.0.0.1").ask(mallory, "").await.status, StatusCode::OK);
        let seen = world.app.seen().pop().expect("asked");
        assert!(seen.header("x-request-id") != token && seen.header("baggage") != baggage, "{:?}", seen.headers);
        assert!(!charges_alice(&world, &[("baggage", seen.header("baggage"))]).await);
        // From elsewhere nothing of it is believed.
        let stranger = Request::get("/other").header("x-user-id", "alice").header("x-request-id", &token).header("baggage", &baggage);
        assert_eq!(world.client().ask(stranger, "").await.status, StatusCode::OK);
        let seen = world.app.seen().pop().expect("asked");
        assert!(!charges_alice(&world, &[("x-request-id", seen.header("x-request-id"))]).await);
        // An id that two users have sent is nobody's.
        for user in ["alice", "mallory"] {
            let request = Request::get("/chat").header("x-user-id", user).header("x-request-id", "same");
            assert_eq!(world.client().from("10.0.0.1").ask(request, "").await.status, StatusCode::OK);
        }
        assert!(!charges_alice(&world, &[("x-request-id", "same")]).await);
        assert!(charges_alice(&world, &[("baggage", &baggage)]).await);
    });
}

const RATE: u64 = 20_000;
const SECONDS: u64 = 300;
const WITHIN: Duration = secs(300);

/// 20,000 inbound requests a second for five minutes, of this many callers, on two workers; one in 1,000 takes long. A call that is made
/// four minutes after its request's end is joined to it, at any time, and memory has the bound that the docs state.
fn under_load(callers: usize, most_bytes: usize) {
    let clock = Clock::system();
    let start = clock.now();
    let limits = Limits::new(callers * 2, &clock, None);
    let set = dollars(&limits);
    let causes: Arc<Causes<Keyed>> = Causes::new(start);
    let workers = [causes.worker(), causes.worker()];
    let people: Vec<(Arc<str>, Keyed)> = (0..callers).map(|at| person(&set, at)).collect();
    let route: Arc<str> = "chat".into();
    let (mut running, mut later) = (VecDeque::new(), VecDeque::new());
    let (mut most, mut joined, mut tokens) = (0, 0, HashSet::new());
    for at in 0..RATE * SECONDS {
        let now = start + Duration::from_nanos(at * (1_000_000_000 / RATE));
        let who = at as usize * 7_919 % callers;
        let (caller, keyed) = &people[who];
        let begin = Begin { request_id: None, caller: Some(caller), route: &route, charge: Some(keyed), trace_id: None };
        let request = workers[at as usize % 2].begin(&begin, now);
        let sampled = at % 1_999 == 0;
        if sampled {
            assert!(tokens.insert(request.token), "every request has its own");
        }
        // Most take 2 ms, one in a thousand 9 s.
        let takes = if at % 1_000 == 999 { secs(9) } else { Duration::from_millis(2) };
        if sampled {
            later.push_back((now + takes + secs(240), request.token, who));
        }
        if takes == secs(9) {
            running.push_back((now + takes, request));
        } else {
            request.end(now + takes);
        }
        while let Some((end, request)) = running.pop_front_if(|(end, _)| *end <= now) {
            request.end(end);
        }
        while let Some((_, token, who)) = later.pop_front_if(|(due, ..)| *due <= now) {
            let mut headers = Fields::new();
            cause::announce(&mut headers, token);
            let Join::Sure(cause) = causes.join(&headers, false, WITHIN, now) else { panic!("four minutes after {token:032x}") };
            assert_eq!((cause.caller.as_ref(), cause.charge.as_ref()), (Some(&people[who].0), Some(&people[who].1)));
            joined += 1;
        }
        if at % (2 * RATE) == 0 {
            workers.iter().for_each(|worker| worker.sweep(now));
            causes.sweep(WITHIN, now);
            most = causes.census().bytes.max(most);
        }
    }
    let census = causes.census();
    assert!(joined > 500, "{joined} calls");
    assert_eq!((census.payees, census.payees_forgotten, census.turned_away, census.ended_forgotten), (callers, 0, 0, 0));
    assert!(most <= most_bytes, "{most} bytes, {census:?}");
}

#[test]
fn join_within_holds_at_20_000_requests_a_second_of_few_callers() {
    under_load(7, 1 << 20);
}

#[test]
fn join_within_holds_at_20_000_requests_a_second_of_100_000_callers() {
    under_load(100_000, 48 << 20);
}

fn dollars(limits: &Limits) -> LimitSet {
    let limit = config::Limit {
        key: vec![KeyPart::Caller],
        unpriced: config::Unpriced::Allow,
        unmetered: config::Unpriced::Allow,
        ..config::Limit::new("user-spend", Unit::NanoUsd, 1_000_000, secs(3600))
    };
    limits.set(Door::Inbound, [&limit])
}

fn person(set: &LimitSet, at: usize) -> (Arc<str>, Keyed) {
    let name: Arc<str> = format!("user-{at:06}@example.com").into();
    let headers = Fields::new();
    let facts = KeyFacts {
        client_ip: [10, 0, 0, 1].into(),
        caller: Some(&name),
        proof: None,
        headers: &headers,
        query: None,
        trusted: false,
        route: "chat",
        provider: None,
        model: None,
    };
    let keyed = set.keyed(&facts);
    (name, keyed)
}
