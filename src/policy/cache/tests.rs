//! Tests of the whole policy: from a look-up to the next one.

use std::time::SystemTime;

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::time::Instant;

use super::{entry::Savings, *};
use crate::{clock::Clock, http1::Fields, message::Response, store::memory::Which, usage::Usage};

const START: u64 = 1_700_000_000;

pub(super) fn at(seconds: u64) -> Moment {
    Moment::at(SystemTime::UNIX_EPOCH + Duration::from_secs(START + seconds))
}

pub(super) fn policy() -> config::Cache {
    config::Cache {
        mode: config::Mode::Enforce,
        ttl: None,
        stale_while_revalidate: None,
        stale_if_error: None,
        tags: Vec::new(),
        key: Vec::new(),
        cookies: config::Cookies::Bypass,
        unsafe_: false,
        max_body: 1 << 20,
        share: false,
        per_caller: false,
        paced: false,
        tool_calls: false,
        max_temperature: None,
        body: None,
        max_request: 1 << 20,
    }
}

fn map(lines: &[(&'static str, &str)]) -> Fields {
    let mut headers = Fields::new();
    for (name, value) in lines {
        headers.append(*name, value);
    }
    headers
}

/// A cache, its policy and its route.
struct World {
    cache: Arc<Cache>,
    policy: config::Cache,
    route: Arc<str>,
}

impl World {
    fn new(policy: config::Cache) -> Self {
        Self { cache: Cache::new(8 << 20, 1 << 20, [1; 32]), policy, route: Arc::from("r") }
    }

    fn ask_as(&self, method: &Method, path: &str, headers: &Fields, extra: &[(&str, &str)], now: u64) -> Lookup {
        let query = CacheQuery {
            route: &self.route,
            method,
            scheme: "http",
            host: "h",
            path_and_query: path,
            headers,
            extra,
            model: None,
            ttl: None,
            proved: false,
            body: None,
        };
        self.cache.look_up(&self.policy, query, at(now))
    }

    fn ask(&self, path: &str, headers: &[(&'static str, &str)], now: u64) -> Lookup {
        self.ask_as(&Method::GET, path, &map(headers), &[], now)
    }

    /// Looks up, and answers a forwarded request with this 200. Returns whether the answer was stored.
    fn fetch(&self, path: &str, asked: &[(&'static str, &str)], answer: &[(&'static str, &str)], body: &str, now: u64) -> bool {
        let fill = forwarded(self.ask(path, asked, now));
        finish(fill.on_head(StatusCode::OK, &map(answer), at(now)), body, now)
    }

    fn model(&self, body: &[u8], headers: &Fields, tenant: &[u8], now: u64) -> Lookup {
        let model = Some(ModelKey { provider: "openai", operation: "chat", model: "m", headers: &[], tenant, body });
        let query = CacheQuery {
            route: &self.route,
            method: &Method::POST,
            scheme: "http",
            host: "h",
            path_and_query: "/v1",
            headers,
            extra: &[],
            model,
            ttl: None,
            proved: false,
            body: None,
        };
        self.cache.look_up(&self.policy, query, at(now))
    }
}

fn forwarded(lookup: Lookup) -> Box<Fill> {
    match lookup {
        Lookup::Miss(fill) | Lookup::Revalidate(fill) => fill,
        other => panic!("the origin should be asked: {other:?}"),
    }
}

fn finish(decision: Decision, body: &str, now: u64) -> bool {
    match decision {
        Decision::Store(mut recorder) => {
            recorder.data(&Bytes::copy_from_slice(body.as_bytes()), Instant::now());
            recorder.complete(at(now), Worth::Store(None))
        }
        Decision::PassThrough(_) => false,
        other => panic!("a new answer: {other:?}"),
    }
}

fn response_text(response: &Response<Body>, name: &str) -> String {
    response.headers()[name].to_owned()
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.expect("complete").to_bytes().to_vec()).expect("text")
}

async fn hit(lookup: Lookup) -> String {
    match lookup {
        Lookup::Hit(response, _) => text(response).await,
        other => panic!("a hit: {other:?}"),
    }
}

#[tokio::test]
async fn a_fresh_answer_is_a_hit_with_its_age_and_another_uri_is_not() {
    let world = World::new(policy());
    assert!(world.fetch("/a", &[], &[("cache-control", "max-age=60"), ("content-length", "5")], "hello", 0));
    let Lookup::Hit(response, info) = world.ask("/a", &[], 10) else { panic!("a hit") };
    assert_eq!(&response.headers()["age"], "10");
    assert_eq!(&response.headers()["cache-status"], "outrigger; hit; ttl=50");
    assert_eq!((info.outcome, info.age.as_secs(), info.ttl), (HitKind::Hit, 10, 50));
    assert_eq!(text(response).await, "hello");
    forwarded(world.ask("/a?x", &[], 10));
    forwarded(world.ask("/a", &[], 61));
    let Lookup::Hit(head, _) = world.ask_as(&Method::HEAD, "/a", &Fields::new(), &[], 10) else { panic!("HEAD from GET") };
    assert_eq!((response_text(&head, "content-length").as_str(), text(head).await.as_str()), ("5", ""));
    assert!(matches!(world.ask_as(&Method::POST, "/a", &Fields::new(), &[], 10), Lookup::Bypass("method")));
    assert!(matches!(world.ask("/a", &[("content-length", "3")], 10), Lookup::Bypass("request body")));
    assert!(matches!(world.ask("/a", &[("cache-control", "no-store")], 10), Lookup::Bypass(_)));
    assert!(matches!(world.ask("/b", &[("cache-control", "only-if-cached")], 10), Lookup::OnlyIfCached));
}

#[tokio::test]
async fn nothing_is_fresh_for_longer_because_the_clock_was_set_back() {
    let world = World::new(config::Cache { ttl: Some(Duration::from_secs(60)), ..policy() });
    assert!(world.fetch("/a", &[], &[], "hello", 3_600));
    let look = |seconds: u64, wall: u64| {
        let (headers, now) = (Fields::new(), at(seconds).with_wall(at(wall).wall));
        let query = CacheQuery {
            route: &world.route,
            method: &Method::GET,
            scheme: "http",
            host: "h",
            path_and_query: "/a",
            headers: &headers,
            extra: &[],
            model: None,
            ttl: None,
            proved: false,
            body: None,
        };
        (world.cache.look_up(&world.policy, query, now), world.cache.sweep(now))
    };
    // An hour back, or on.
    for wall in [0, 7_200] {
        let (Lookup::Hit(response, info), 0) = look(3_659, wall) else { panic!("it is 59 s old, whatever the clock says") };
        assert_eq!((&response.headers()["age"], info.ttl), ("59", 1));
    }
    let (Lookup::Miss(_), 1) = look(3_661, 0) else { panic!("it is over a minute old") };
}

#[tokio::test]
async fn an_incomplete_body_is_never_stored() {
    let world = World::new(policy());
    assert!(!world.fetch("/a", &[], &[("cache-control", "max-age=60"), ("content-length", "6")], "hello", 0));
    let fill = forwarded(world.ask("/a", &[], 0));
    let Decision::Store(mut recorder) = fill.on_head(StatusCode::OK, &map(&[("cache-control", "max-age=60")]), at(0)) else {
        panic!("storable")
    };
    recorder.data(&Bytes::from_static(b"part"), Instant::now());
    recorder.abandon();
    forwarded(world.ask("/a", &[], 0));
    assert!(!world.fetch("/big", &[], &[("cache-control", "max-age=60"), ("content-length", "99999999")], "", 0));
    assert!(!world.fetch("/big", &[], &[("cache-control", "max-age=60")], &"x".repeat((1 << 20) + 1), 0));
    assert_eq!(world.cache.stats().memory.in_flight, 0);
}

#[tokio::test]
async fn a_confirmed_answer_goes_on_varying_by_what_it_has_varied_by() {
    let world = World::new(policy());
    assert!(world.fetch("/a", &[("foo", "1")], &[("cache-control", "max-age=2"), ("vary", "foo"), ("etag", "\"1\"")], "one", 0));
    let fill = forwarded(world.ask("/a", &[("foo", "1")], 3));
    let said = map(&[("cache-control", "max-age=60"), ("vary", "bar"), ("etag", "\"1\"")]);
    assert!(matches!(fill.on_head(StatusCode::NOT_MODIFIED, &said, at(3)), Decision::NotModified(..)));
    assert_eq!(hit(world.ask("/a", &[("foo", "1")], 4)).await, "one");
    assert!(matches!(world.ask("/a", &[("foo", "2")], 4), Lookup::Miss(_)), "it was never for this one");
}

#[tokio::test]
async fn a_stale_answer_is_validated_and_freshened() {
    let world = World::new(policy());
    assert!(world.fetch("/a", &[], &[("cache-control", "max-age=2"), ("etag", "\"1\""), ("x", "old")], "body", 0));
    let Lookup::Revalidate(fill) = world.ask("/a", &[("if-none-match", "\"1\"")], 3) else { panic!("to validate") };
    let mut request = map(&[("range", "bytes=0-1")]);
    fill.request_headers(&mut request);
    assert_eq!(request, map(&[("if-none-match", "\"1\"")]));
    let answer = map(&[("cache-control", "max-age=10"), ("etag", "\"1\""), ("x", "new")]);
    let Decision::NotModified(response, info) = fill.on_head(StatusCode::NOT_MODIFIED, &answer, at(3)) else { panic!("freshened") };
    assert_eq!((response.status(), info.outcome), (StatusCode::NOT_MODIFIED, HitKind::Revalidated), "the client has it too");
    assert_eq!(&response.headers()["cache-status"], "outrigger; fwd=stale; fwd-status=304; stored");
    let Lookup::Hit(response, _) = world.ask("/a", &[], 12) else { panic!("fresh again") };
    assert_eq!((response_text(&response, "x").as_str(), text(response).await.as_str()), ("new", "body"));
    // A 304 about something else: ask again without a condition.
    let fill = forwarded(world.ask("/a", &[], 14));
    let Decision::Refetch(fill) = fill.on_head(StatusCode::NOT_MODIFIED, &map(&[("etag", "\"2\"")]), at(14)) else { panic!("nonsense") };
    let mut request = map(&[("if-none-match", "\"x\"")]);
    fill.request_headers(&mut request);
    assert_eq!(request, Fields::new());
    assert!(finish(fill.on_head(StatusCode::OK, &answer, at(14)), "anew", 14));
    assert_eq!(hit(world.ask("/a", &[], 15)).await, "anew");
}

#[tokio::test]
async fn variants_live_side_by_side_and_none_is_asked_about_for_another() {
    let world = World::new(policy());
    let answer = |etag: &'static str| [("cache-control", "max-age=60"), ("vary", "foo"), ("etag", etag)];
    assert!(world.fetch("/a", &[("foo", "1")], &answer("\"1\""), "one", 0));
    assert!(world.fetch("/a", &[("foo", "2")], &answer("\"2\""), "two", 0));
    assert_eq!(hit(world.ask("/a", &[("foo", "1")], 1)).await, "one");
    assert_eq!(hit(world.ask("/a", &[("foo", "2")], 1)).await, "two");
    let Lookup::Miss(fill) = world.ask("/a", &[("foo", "3")], 1) else { panic!("nothing can be validated") };
    let mut request = Fields::new();
    fill.request_headers(&mut request);
    assert_eq!(request, Fields::new());
    // A 304 to an unconditional request is for the client, not for the cache.
    let passed = fill.on_head(StatusCode::NOT_MODIFIED, &map(&answer("\"1\"")), at(1));
    assert!(matches!(passed, Decision::PassThrough(_)), "{passed:?}");
    let Lookup::Revalidate(fill) = world.ask("/a", &[("foo", "1")], 61) else { panic!("its own variant is stale") };
    fill.request_headers(&mut request);
    assert_eq!(request, map(&[("if-none-match", "\"1\"")]));
}

#[tokio::test]
async fn stale_while_revalidate_refreshes_once_and_stale_if_error_stands_in() {
    let world = World::new(policy());
    assert!(world.fetch("/a", &[], &[("cache-control", "max-age=1, stale-while-revalidate=60, stale-if-error=90")], "old", 0));
    let Lookup::Stale { response, revalidate, info } = world.ask("/a", &[], 5) else { panic!("stale") };
    assert_eq!((text(response).await.as_str(), info.outcome, info.ttl), ("old", HitKind::Stale, -4));
    let fill = revalidate.expect("the first one refreshes");
    let Lookup::Stale { revalidate: None, .. } = world.ask("/a", &[], 5) else { panic!("the second one does not") };
    assert!(finish(fill.on_head(StatusCode::OK, &map(&[("cache-control", "max-age=1, stale-if-error=90")]), at(5)), "new", 5));
    assert_eq!(hit(world.ask("/a", &[], 5)).await, "new");
    let (response, _) = forwarded(world.ask("/a", &[], 20)).on_failure(at(20)).expect("allowed");
    assert_eq!((response_text(&response, "cache-status").as_str(), text(response).await.as_str()), ("outrigger; hit; ttl=-14", "new"));
    let Decision::Stale(response, _) = forwarded(world.ask("/a", &[], 20)).on_head(StatusCode::SERVICE_UNAVAILABLE, &Fields::new(), at(20))
    else {
        panic!("stands in")
    };
    assert_eq!(response.status(), StatusCode::OK);
    assert!(forwarded(world.ask("/a", &[], 200)).on_failure(at(200)).is_none());
}

#[tokio::test]
async fn a_forced_lifetime_keeps_its_hands_off_persons() {
    let world = World::new(config::Cache { ttl: Some(Duration::from_secs(60)), ..policy() });
    assert!(!world.fetch("/cookie", &[], &[("set-cookie", "s=1")], "mine", 0));
    assert!(!world.fetch("/auth", &[("authorization", "x")], &[], "mine", 0));
    assert!(!world.fetch("/private", &[], &[("cache-control", "private")], "mine", 0));
    assert!(!world.fetch("/sent", &[("cookie", "s=1")], &[], "mine", 0));
    assert!(world.fetch("/a", &[], &[], "all", 0));
    assert_eq!(hit(world.ask("/a", &[], 59)).await, "all");
    forwarded(world.ask("/a", &[("cookie", "s=1")], 1));
    forwarded(world.ask("/a", &[("authorization", "x")], 1));
    let ignoring = World::new(config::Cache { ttl: Some(Duration::from_secs(60)), cookies: config::Cookies::Ignore, ..policy() });
    assert!(ignoring.fetch("/sent", &[("cookie", "s=1")], &[], "all", 0));
    assert_eq!(hit(ignoring.ask("/sent", &[("cookie", "s=2")], 1)).await, "all");
}

#[tokio::test]
async fn requests_join_a_fetch_and_fall_through_when_it_is_not_for_them() {
    let world = World::new(policy());
    let clock = Clock::fixed(at(0).wall);
    let join = |headers: &[(&'static str, &str)]| match world.ask("/a", headers, 0) {
        Lookup::Join(join) => join,
        other => panic!("somebody fetches: {other:?}"),
    };
    let fill = forwarded(world.ask("/a", &[("foo", "1")], 0));
    let (same, other) = (join(&[("foo", "1")]), join(&[("foo", "2")]));
    let Decision::Store(recorder) = fill.on_head(StatusCode::OK, &map(&[("cache-control", "max-age=9"), ("vary", "foo")]), at(0)) else {
        panic!("storable")
    };
    let (response, info) = same.respond(clock).await.expect("the same variant");
    assert_eq!(info.outcome, HitKind::Coalesced);
    assert_eq!(&response.headers()["cache-status"], "outrigger; fwd=uri-miss; collapsed");
    assert_eq!(other.respond(clock).await.expect_err("another variant").0, flight::FallThrough::OtherVariant);
    assert!(recorder.pump(Body::full("shared"), clock, || Worth::Store(None)).await);
    assert_eq!(text(response).await, "shared");
    // A page that may not be shared is fetched by each request, and none waits for the next ten seconds.
    for answer in [map(&[("cache-control", "private")]), map(&[("etag", "\"dynamic\"")])] {
        let world = World::new(policy());
        let fill = forwarded(world.ask("/p", &[], 0));
        let Lookup::Join(waiting) = world.ask("/p", &[], 0) else { panic!("somebody fetches") };
        drop(fill.on_head(StatusCode::OK, &answer, at(0)));
        assert_eq!(waiting.respond(clock).await.expect_err("not for sharing").0, flight::FallThrough::Private);
        let (_first, _second) = (forwarded(world.ask("/p", &[], 1)), forwarded(world.ask("/p", &[], 1)));
    }
}

#[tokio::test]
async fn a_thousand_requests_of_a_cold_key_are_one_fetch_also_when_the_first_client_leaves() {
    let world = World::new(policy());
    let clock = Clock::fixed(at(0).wall);
    let local = tokio::task::LocalSet::new();
    let fill = forwarded(world.ask("/a", &[], 0));
    let first_client = fill.reader().expect("shared");
    let waiting: Vec<_> = (0..999)
        .map(|_| match world.ask("/a", &[], 0) {
            Lookup::Join(join) => local.spawn_local(async move {
                let (response, _) = join.respond(clock).await.expect("shareable");
                text(response).await
            }),
            other => panic!("only one fetches: {other:?}"),
        })
        .collect();
    local
        .run_until(async {
            let Decision::Store(mut recorder) = fill.on_head(StatusCode::OK, &map(&[("cache-control", "max-age=9")]), at(0)) else {
                panic!("storable")
            };
            recorder.data(&Bytes::from_static(b"half "), clock.now());
            tokio::task::yield_now().await;
            drop(first_client);
            recorder.data(&Bytes::from_static(b"and half"), clock.now());
            assert!(recorder.complete(at(0), Worth::Store(None)));
            for one in waiting {
                assert_eq!(one.await.expect("no panic"), "half and half");
            }
        })
        .await;
    assert_eq!(hit(world.ask("/a", &[], 1)).await, "half and half");
    let stats = world.cache.stats();
    assert_eq!((stats.answers, stats.memory.in_flight, stats.flights), ([1, 0, 999, 0], 0, 0));
}

#[tokio::test]
async fn unsafe_methods_and_purges_also_stop_fetches_under_way() {
    let world = World::new(config::Cache { tags: vec![Arc::from("catalog")], ..policy() });
    let fresh = [("cache-control", "max-age=60"), ("surrogate-key", "p1 p2")];
    let empty = Fields::new();
    let post = |path: &str, answer: &Fields, status: u16| {
        let query = CacheQuery {
            route: &world.route,
            method: &Method::POST,
            scheme: "http",
            host: "h",
            path_and_query: path,
            headers: &empty,
            extra: &[],
            model: None,
            ttl: None,
            proved: false,
            body: None,
        };
        world.cache.invalidate(query, StatusCode::from_u16(status).expect("status"), answer, at(1))
    };
    assert!(world.fetch("/a", &[], &fresh, "1", 0));
    assert_eq!(post("/a", &empty, 500), 0);
    assert_eq!(hit(world.ask("/a", &[], 1)).await, "1");
    assert_eq!(post("/list", &map(&[("location", "/a")]), 201), 1);
    let under_way = forwarded(world.ask("/a", &[], 1));
    post("/a", &empty, 200);
    assert!(!finish(under_way.on_head(StatusCode::OK, &map(&fresh), at(1)), "before", 1), "older than the change");
    // The URI's entries go, whatever other parts their keys have.
    let fill = forwarded(world.ask_as(&Method::GET, "/a", &empty, &[("caller", "u")], 1));
    assert!(finish(fill.on_head(StatusCode::OK, &map(&fresh), at(1)), "u's", 1));
    assert_eq!(post("/a", &empty, 200), 1);
    for which in [Which::Tag(Arc::from("catalog")), Which::Tag(Arc::from("p2")), Which::Prefix("/a".into()), Which::Route(Arc::from("r"))] {
        assert!(world.fetch("/a", &[], &fresh, "1", 2));
        assert_eq!(world.cache.purge(&Purge { which: which.clone(), soft: false }, at(2)), 1, "{which:?}");
    }
    assert!(world.fetch("/a", &[], &fresh, "1", 2));
    assert_eq!(world.cache.purge(&Purge { which: Which::All, soft: true }, at(2)), 1);
    forwarded(world.ask("/a", &[], 2));
    // Where a stale answer may be given, it does not say that it is fresh.
    assert!(world.fetch("/b", &[], &[("cache-control", "max-age=60, stale-while-revalidate=60")], "b", 2));
    assert_eq!(world.cache.purge(&Purge { which: Which::Prefix("/b".into()), soft: true }, at(2)), 1);
    let Lookup::Stale { response, info, .. } = world.ask("/b", &[], 3) else { panic!("stale") };
    assert_eq!((&response.headers()["cache-status"], info.ttl), ("outrigger; hit; ttl=0", 0));
}

#[tokio::test]
async fn who_comes_after_a_change_joins_no_fetch_from_before_it() {
    let clock = Clock::fixed(at(0).wall);
    let fresh = map(&[("cache-control", "max-age=60"), ("surrogate-key", "shoes")]);
    let (hard, soft) = (|which| Purge { which, soft: false }, |which| Purge { which, soft: true });
    let ours = [Which::Tag(Arc::from("catalog")), Which::Prefix("/a".into()), Which::Route(Arc::from("r")), Which::All];
    // A fetch under way may have any tag, as long as its head has not come.
    let maybe = [hard(Which::Tag(Arc::from("shoes"))), hard(Which::Tag(Arc::from("hats")))];
    let others = [hard(Which::Prefix("/b".into())), hard(Which::Route(Arc::from("other"))), soft(Which::Prefix("/b".into()))];
    let cases = ours.clone().map(hard).into_iter().map(|purge| (purge, false, false));
    let cases = cases.chain(ours.map(soft).into_iter().map(|purge| (purge, false, false)));
    let cases = cases.chain(maybe.into_iter().zip([(false, false), (false, true)]).map(|(purge, (joins, keeps))| (purge, joins, keeps)));
    for (purge, joins, keeps) in cases.chain(others.map(|purge| (purge, true, true))) {
        let world = World::new(config::Cache { tags: vec![Arc::from("catalog")], ..policy() });
        let before = forwarded(world.ask("/a", &[], 0));
        let Lookup::Join(waiting) = world.ask("/a", &[], 0) else { panic!("somebody fetches") };
        world.cache.purge(&purge, at(0));
        let after = world.ask("/a", &[], 0);
        assert_eq!(matches!(after, Lookup::Join(_)), joins, "{purge:?}");
        let Decision::Store(mut recorder) = before.on_head(StatusCode::OK, &fresh, at(0)) else { panic!("storable") };
        recorder.data(&Bytes::from_static(b"before"), Instant::now());
        assert_eq!(recorder.complete(at(0), Worth::Store(None)), keeps || purge.soft, "{purge:?}");
        let (waited, _) = waiting.respond(clock).await.expect("it asked before the purge");
        assert_eq!(text(waited).await, "before");
        let Lookup::Miss(after) = after else { continue };
        // An entry marked stale does not answer a later request; an entry fetched now does.
        let Lookup::Join(_) = world.ask("/a", &[], 0) else {
            assert!(keeps && !purge.soft, "{purge:?}");
            continue;
        };
        assert!(finish(after.on_head(StatusCode::OK, &fresh, at(0)), "after", 0), "{purge:?}");
        assert_eq!(hit(world.ask("/a", &[], 1)).await, "after", "{purge:?}");
    }
}

#[tokio::test]
async fn a_purge_by_tag_leaves_model_calls_without_it_alone() {
    let world = World::new(config::Cache { ttl: Some(Duration::from_secs(3600)), tags: vec![Arc::from("chat")], ..policy() });
    let none = Fields::new();
    for (tag, joins) in [("catalog", true), ("chat", false)] {
        let _fetching = forwarded(world.model(b"{1}", &none, b"t", 0));
        world.cache.purge(&Purge { which: Which::Tag(Arc::from(tag)), soft: false }, at(0));
        assert_eq!(matches!(world.model(b"{1}", &none, b"t", 0), Lookup::Join(_)), joins, "{tag}");
    }
}

#[tokio::test]
async fn model_calls_are_kept_by_body_and_tenant_when_found_good() {
    let world = World::new(config::Cache { ttl: Some(Duration::from_secs(3600)), ..policy() });
    let none = Fields::new();
    let savings = Savings { usage: Usage { input: 10, output: 5, ..Usage::default() }, nano_usd: 42 };
    let record = |body: &[u8], verdict| {
        let fill = forwarded(world.model(body, &map(&[("authorization", "k"), ("cookie", "c")]), b"t", 0));
        let answer = map(&[("content-type", "text/event-stream"), ("set-cookie", "cf=1"), ("x-ratelimit-limit-tokens", "9")]);
        let Decision::Store(mut recorder) = fill.on_head(StatusCode::OK, &answer, at(0)) else { panic!("storable") };
        for piece in ["data: 1\n\n", "data: 2\n\n"] {
            recorder.data(&Bytes::from_static(piece.as_bytes()), Instant::now());
        }
        recorder.complete(at(0), verdict)
    };
    assert!(record(b"{1}", Worth::Store(Some(savings))));
    let Lookup::Hit(response, info) = world.model(b"{1}", &none, b"t", 5) else { panic!("a hit") };
    assert!(!response.headers().has("set-cookie") && !response.headers().has("x-ratelimit-limit-tokens"));
    let mut body = response.into_body();
    assert_eq!(body.frame().await.expect("a piece").expect("whole").into_data().expect("data"), "data: 1\n\n", "replayed as a stream");
    assert_eq!((info.savings, world.cache.stats().saved_tokens, world.cache.stats().saved_nano_usd), (Some(savings), 15, 42));
    forwarded(world.model(b"{2}", &none, b"t", 5));
    forwarded(world.model(b"{1}", &none, b"other", 5));
    forwarded(world.model(b"{1}", &none, b"t", 3600));
    forwarded(world.model(b"{1}", &map(&[("cache-control", "no-cache")]), b"t", 5));
    forwarded(world.model(b"{1}", &map(&[("cache-control", "max-age=3")]), b"t", 5));
    assert!(matches!(world.model(b"{1}", &map(&[("cache-control", "no-store")]), b"t", 5), Lookup::Bypass(_)));
    assert!(!record(b"{3}", Worth::Discard("filtered")));
    forwarded(world.model(b"{3}", &none, b"t", 5));
    let failed = forwarded(world.model(b"{4}", &none, b"t", 5)).on_head(StatusCode::TOO_MANY_REQUESTS, &none, at(5));
    assert!(matches!(failed, Decision::PassThrough(_)));
}

#[tokio::test]
async fn observing_keeps_keys_and_no_bodies() {
    let world = World::new(config::Cache { mode: config::Mode::Observe, ttl: Some(Duration::from_secs(60)), ..policy() });
    let fill = forwarded(world.ask("/a", &[], 0));
    assert!(!fill.observed_hit());
    let Decision::Store(recorder) = fill.on_head(StatusCode::OK, &Fields::new(), at(0)) else { panic!("storable") };
    assert!(recorder.cache_status().is_none());
    assert!(!recorder.complete(at(0), Worth::Store(None)));
    assert!(forwarded(world.ask("/a", &[], 30)).observed_hit());
    assert!(!forwarded(world.ask("/a", &[], 61)).observed_hit());
    assert_eq!(world.cache.stats().memory.entries, 0);
}
