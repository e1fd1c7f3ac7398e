//! What the pure cores of the hot path cost, each alone: `cargo bench --bench policies`.

#![expect(clippy::expect_used, reason = "a bench that cannot be set up must not run")]

use std::{cell::RefCell, hint::black_box, time::Duration};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{self, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use criterion::{Criterion, criterion_group, criterion_main};
use http::Method;
use outrigger::{
    arrival::Door,
    cause::{Begin, Causes},
    clock::{Chance, Clock, Instant},
    config::{self, ApiKey, ApiKeys, Applies, AuthSources, Jwks, JwsAlgorithm, Jwt, JwtKeys, KeyPart, Match, PathPattern, Unit},
    http1::Fields,
    policy::{
        auth::{self, AtHand, Looked, key},
        breaker::{Breakers, Outcome},
        cache::{
            entry::{Entry, NewEntry},
            freshness::{Freshness, Source},
            key::Key,
            top::Top,
            vary::Variance,
        },
        limits::{Demand, KeyFacts, Limits, Question},
    },
    provider::Meter,
    route::{Query, Table},
    store::ledger::{Ledger, Terms},
};

fn routes(c: &mut Criterion) {
    let rows = (0..1000)
        .map(|at| (Match { path: Some(PathPattern::parse(&format!("/api/v{at}/**")).expect("a pattern")), ..Match::default() }, at));
    let table = Table::new(rows);
    let headers = Fields::new();
    let query = |path| Query { path, method: &Method::GET, host: "shop", headers: &headers, provider: None, operation: None, model: None };
    c.bench_function("route among 1,000, all under one segment, the last", |b| b.iter(|| table.find(&query(black_box("/api/v999/x")))));
    let spread = Table::new(
        (0..1000).map(|at| (Match { path: Some(PathPattern::parse(&format!("/s{at}/**")).expect("a pattern")), ..Match::default() }, at)),
    );
    c.bench_function("route among 1,000, each under its own", |b| {
        b.iter(|| spread.find_unambiguous(&query(black_box("/s500/x"))).map(|row| *row.expect("a row")))
    });
}

fn causes(c: &mut Criterion) {
    let start = Instant::now();
    let causes: std::sync::Arc<Causes<[u64; 4]>> = Causes::new(start);
    let worker = causes.worker();
    let callers: Vec<std::sync::Arc<str>> = (0..100_000).map(|at| format!("user-{at:06}").into()).collect();
    let route = "chat".into();
    let mut at = 0;
    let mut begin = |callers: &[std::sync::Arc<str>]| {
        at += 1;
        let begin =
            Begin { request_id: None, caller: Some(&callers[at % callers.len()]), route: &route, charge: Some(&[1; 4]), trace_id: None };
        worker.begin(&begin, start).end(start)
    };
    c.bench_function("cause: an exchange begins and ends, of 10 callers", |b| b.iter(|| begin(black_box(&callers[..10]))));
    c.bench_function("cause: an exchange begins and ends, of 100,000 callers", |b| b.iter(|| begin(black_box(&callers))));
}

fn limits(c: &mut Criterion) {
    let limits = Limits::new(100_000, &Clock::system(), None);
    let limit =
        config::Limit { key: vec![KeyPart::ClientIp], ..config::Limit::new("one", Unit::Requests, u64::MAX / 2, Duration::from_secs(60)) };
    let set = limits.set(Door::Inbound, [&limit]);
    let headers = Fields::new();
    let facts = KeyFacts {
        client_ip: [127, 0, 0, 1].into(),
        caller: None,
        proof: None,
        headers: &headers,
        query: None,
        trusted: false,
        route: "r",
        provider: None,
        model: None,
    };
    let now = Instant::now();
    c.bench_function("limit: key, admit, keep", |b| {
        b.iter(|| {
            let keyed = set.keyed(black_box(&facts));
            limits.admit(&[Question { keyed: &keyed, demand: Demand::arrival(Applies::All) }], now).expect("below the limit").keep();
        });
    });
}

/// A million keys of one limit: the memory of a key that was used once and of one that was used again later, and a check among them.
fn million(c: &mut Criterion) {
    const KEYS: u32 = 1_000_000;
    // What src/policy/limits/table.rs states of a key: its entry and its place in the index; the ring of a key with several slots.
    const STATED: [u64; 2] = [64 + 8, 144];
    let limits = Limits::new(KEYS as usize, &Clock::system(), None);
    let limit =
        config::Limit { key: vec![KeyPart::ClientIp], ..config::Limit::new("one", Unit::Requests, u64::MAX / 2, Duration::from_secs(60)) };
    let (set, headers) = (limits.set(Door::Inbound, [&limit]), Fields::new());
    let ask = |at: u32, now: Instant| {
        let client_ip = std::net::Ipv4Addr::from_bits(at).into();
        let facts = KeyFacts {
            client_ip,
            caller: None,
            proof: None,
            headers: &headers,
            query: None,
            trusted: false,
            route: "r",
            provider: None,
            model: None,
        };
        let keyed = set.keyed(&facts);
        limits.admit(&[Question { keyed: &keyed, demand: Demand::arrival(Applies::All) }], now).expect("below the limit").keep();
    };
    let (now, before) = (Instant::now(), resident());
    (0..KEYS).for_each(|at| ask(at, now));
    let once = resident().saturating_sub(before) / u64::from(KEYS);
    let later = now + Duration::from_secs(10);
    (0..KEYS).for_each(|at| ask(at, later));
    let again = (resident().saturating_sub(before) / u64::from(KEYS)).saturating_sub(once);
    println!("limit: {} keys; {once} bytes a key that was used once, {again} more if used again", limits.keys());
    let stated: u64 = STATED.iter().sum();
    println!("limit: {} bytes a key in all, stated are {stated}", once + again);
    assert!(once + again <= stated, "a key takes more than is stated");
    let mut at = 0;
    c.bench_function("limit: key, admit, keep, among a million keys", |b| {
        b.iter(|| {
            at = (at + 7_919) % KEYS;
            ask(black_box(at), later);
        });
    });
}

/// Bytes of the process that are in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).and_then(|line| line.split_whitespace().next()).expect("VmRSS");
    kib.parse::<u64>().expect("a number") * 1024
}

fn breaker(c: &mut Criterion) {
    let terms = config::Breaker {
        mode: config::Mode::Enforce,
        consecutive: 5,
        ratio: None,
        open_base: Duration::from_secs(5),
        open_max: Duration::from_secs(60),
        jitter: 0.5,
        successes: 2,
    };
    let now = Instant::now();
    let (breaker, chance) = (Breakers::default().get(&"app".into(), &terms, 1, now), Chance::seeded(1));
    c.bench_function("breaker: permit and success", |b| {
        b.iter(|| breaker.permit(now).expect("closed").settle(Outcome::Success, now, &chance))
    });
}

fn meter(c: &mut Criterion) {
    let mut headers = Fields::new();
    headers.insert("content-type", "text/event-stream");
    let event = b"data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"},\"finish_reason\":null}]}\n\n";
    let mut meter = Meter::new(config::Api::OpenAi, config::Operation::Chat, &headers);
    c.bench_function("meter: one event of a chat stream", |b| b.iter(|| meter.feed(black_box(event))));
}

/// What a hit pays for the table of keys that save most: one that is in it, and one that takes another's place.
fn top(c: &mut Criterion) {
    let entry = Entry::new(NewEntry {
        status: http::StatusCode::OK,
        headers: Fields::new(),
        body: [].into(),
        trailers: None,
        pauses: None,
        dated: false,
        fresh: Freshness {
            received: outrigger::clock::Moment::at(std::time::UNIX_EPOCH),
            initial_age: Duration::ZERO,
            lifetime: Duration::from_secs(60),
            overdue: Duration::ZERO,
            source: Source::Forced,
            no_cache: false,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            may_be_stale: false,
        },
        variance: Variance::default(),
        route: "r".into(),
        path: "/p".into(),
        what: "GET shop/p".into(),
        took_millis: 5,
        tags: [].into(),
        savings: None,
        stored_at: outrigger::clock::Moment::at(std::time::UNIX_EPOCH),
    });
    let key = |number: u64| {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        bytes[8..].copy_from_slice(&number.to_le_bytes());
        Key::from_bytes(bytes)
    };
    let table = Top::default();
    c.bench_function("cache: count a hit of a key in the table", |b| b.iter(|| table.record(key(black_box(7)), &entry, 1)));
    let mut number = 0;
    c.bench_function("cache: count a hit of a key that is not", |b| {
        b.iter(|| {
            number += 1;
            table.record(key(number), &entry, 1);
        })
    });
}

/// What a call costs the worker: its entry made and put into the batch, while the keeper takes batches and writes them.
fn ledger(c: &mut Criterion) {
    let terms = Terms {
        dir: None,
        interval: Duration::from_secs(1),
        keep: [Duration::from_secs(172_800), Duration::from_secs(5_184_000), Duration::from_secs(63_072_000)],
        callers: 10_000,
        size: 16 << 20,
        grace: Duration::from_secs(3_600),
        patience: Duration::from_secs(5),
    };
    let ledger = Ledger::new(terms, Clock::system());
    let keeper = ledger.keep().expect("a thread");
    let journal = ledger.worker();
    let callers: Vec<std::sync::Arc<str>> = (0..1_000).map(|at| format!("user-{at:04}").into()).collect();
    let [route, page, provider, model]: [std::sync::Arc<str>; 4] = ["chat".into(), "/chat".into(), "openai".into(), "gpt-4o".into()];
    let mut at = 0;
    c.bench_function("ledger: a call is put into the worker's batch", |b| {
        b.iter(|| {
            at += 1;
            journal.push(outrigger::store::ledger::Entry {
                minute: ledger.minute(),
                caller: callers[at % callers.len()].clone(),
                inbound: Some(page.clone()),
                outbound: route.clone(),
                provider: provider.clone(),
                model: model.clone(),
                tier: "",
                outcome: outrigger::store::ledger::Outcome::Complete,
                known: outrigger::store::ledger::Known::Reported,
                calls: 1,
                usage: outrigger::usage::Usage { input: 100, output: 10, ..Default::default() },
                nano_usd: Some(1_000),
                saved: (0, 0),
            });
        })
    });
    drop(keeper);
}

/// What a credential costs that is known: a key by its hash, a token that was verified before, and one that is verified now.
fn auth_cost(c: &mut Criterion) {
    let made = signature::Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("made");
    let signer = signature::Ed25519KeyPair::from_pkcs8(made.as_ref()).expect("a key");
    let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let set = format!("{{\"keys\": [{{\"kty\": \"OKP\", \"crv\": \"Ed25519\", \"x\": \"{}\"}}]}}", b64(signer.public_key().as_ref()));
    let jwt = Jwt {
        number: 0,
        keys: JwtKeys::File(Jwks::parse(set.as_bytes()).expect("a set").into()),
        algorithms: JwsAlgorithm::ALL[..9].to_vec(),
        issuers: vec!["i".into()],
        audiences: vec!["a".into()],
        leeway: Duration::ZERO,
        require: Vec::new(),
        caller: "sub".into(),
        tier: None,
        scopes: "scope".into(),
    };
    let key = key::mint([7; 32]);
    let row = ApiKey { name: "web".into(), caller: "ann".into(), tier: None, scopes: Default::default(), expires: None };
    let keys = [(key::digest(&key), row)].into_iter().collect();
    let api_keys = Some(ApiKeys { fields: vec![http::header::AUTHORIZATION], basic: false, keys });
    let sources = AuthSources { api_keys, jwt: Some(jwt), ..AuthSources::default() };
    let claims =
        format!("{{\"iss\": \"i\", \"aud\": \"a\", \"sub\": \"ann\", \"exp\": 9999999999, \"scope\": \"{}\"}}", "orders.read ".repeat(30));
    let message = format!("{}.{}", b64(b"{\"alg\": \"EdDSA\"}"), b64(claims.as_bytes()));
    let token = format!("{message}.{}", b64(signer.sign(message.as_bytes()).as_ref()));
    let bearer = |text: &str| [("authorization", format!("Bearer {text}"))].into_iter().collect::<Fields>();
    let (keyed, tokened) = (bearer(&key), bearer(&token));
    let (tokens, alone) = (RefCell::default(), AtHand::alone(Clock::system().wall()));
    let good = |fields: &Fields, at_hand: AtHand<'_>| assert!(matches!(auth::look(&sources, fields, at_hand), Looked::Good(_)));
    c.bench_function("auth: a key", |b| b.iter(|| good(black_box(&keyed), alone)));
    c.bench_function("auth: a token of 700 bytes, verified before", |b| {
        b.iter(|| good(black_box(&tokened), AtHand { tokens: Some(&tokens), ..alone }));
    });
    c.bench_function("auth: a token of 700 bytes, verified now", |b| b.iter(|| good(black_box(&tokened), alone)));
}

criterion_group!(benches, routes, causes, limits, million, breaker, meter, top, ledger, auth_cost);
criterion_main!(benches);
