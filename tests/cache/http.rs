//! What is stored, for whom, and what answers say about it.

use http::Method;

use crate::world::{Act, World, answer, said};

const PLAIN: &str = "{match: {path: /**}, cache: {}}";
const FORCED: &str = "{match: {path: /**}, cache: {ttl: 1h}}";

fn numbered(fields: &'static [(&'static str, &'static str)]) -> impl Fn(&crate::world::Seen) -> Act {
    move |seen| answer(200, fields, format!("answer {}", seen.nth))
}

#[tokio::test]
async fn age_and_cache_status_are_true() {
    let world = World::new(PLAIN, "", |seen| {
        let age = if seen.path == "/aged" { "7" } else { "0" };
        answer(200, &[("cache-control", "max-age=60"), ("age", age)], "x")
    })
    .await;
    let first = world.get("/aged", &[]).await;
    assert_eq!(said(&first), "outrigger; fwd=uri-miss; fwd-status=200; stored");
    let second = world.get("/aged", &[]).await;
    let age: u64 = second.header("age").expect("an age").parse().expect("a number");
    assert!((7..7 + 60).contains(&age), "{age}");
    let ttl: u64 = said(&second).strip_prefix("outrigger; hit; ttl=").expect("a hit").parse().expect("a number");
    // Both are rounded down, and what is left is never said to be more than it is.
    assert!((59..=60).contains(&(ttl + age)), "ttl {ttl} + age {age}");
    assert_eq!(second.header("date"), first.header("date"), "the origin's date, not ours");
    assert_eq!(world.origin.count(), 1);
}

#[tokio::test]
async fn head_ranges_and_conditions_are_answered_from_a_stored_get() {
    let world = World::new(PLAIN, "", |_| {
        answer(200, &[("cache-control", "max-age=60"), ("etag", "\"e\""), ("last-modified", "Wed, 01 Jan 2020 00:00:00 GMT")], "0123456789")
    })
    .await;
    world.get("/file", &[]).await;
    let head = world.send(Method::HEAD, "/file", &[]).await;
    assert_eq!((head.status.as_u16(), head.header("content-length"), head.body.len()), (200, Some("10"), 0));
    for (range, status, body, says) in [
        ("bytes=2-4", 206, "234", "bytes 2-4/10"),
        ("bytes=7-", 206, "789", "bytes 7-9/10"),
        ("bytes=-2", 206, "89", "bytes 8-9/10"),
        ("bytes=10-", 416, "", "bytes */10"),
    ] {
        let part = world.get("/file", &[("range", range)]).await;
        assert_eq!((part.status.as_u16(), part.text().as_str(), part.header("content-range")), (status, body, Some(says)), "{range}");
    }
    let guarded = world.get("/file", &[("range", "bytes=2-4"), ("if-range", "\"other\"")]).await;
    assert_eq!((guarded.status.as_u16(), guarded.text().as_str()), (200, "0123456789"));
    for condition in [("if-none-match", "W/\"e\""), ("if-modified-since", "Wed, 01 Jan 2020 00:00:00 GMT")] {
        let known = world.get("/file", &[condition]).await;
        assert_eq!((known.status.as_u16(), known.body.len(), known.header("etag")), (304, 0, Some("\"e\"")), "{condition:?}");
    }
    assert_eq!(world.origin.count(), 1);
}

#[tokio::test]
async fn variants_live_side_by_side() {
    let world = World::new(PLAIN, "", |seen| {
        let language = seen.header("accept-language").unwrap_or("none").to_owned();
        answer(200, &[("cache-control", "max-age=60"), ("vary", "Accept-Language")], language)
    })
    .await;
    for _ in 0..2 {
        for language in ["de", "en"] {
            assert_eq!(world.get("/page", &[("accept-language", language)]).await.text(), language);
        }
        assert_eq!(world.get("/page", &[]).await.text(), "none");
    }
    assert_eq!(world.origin.count(), 3);
    let never = World::new(PLAIN, "", |_| answer(200, &[("cache-control", "max-age=60"), ("vary", "*")], "x")).await;
    never.get("/page", &[]).await;
    never.get("/page", &[]).await;
    assert_eq!(never.origin.count(), 2);
}

/// Asks `path` twice with `fields`; whether the second answer came from the store.
async fn is_kept(world: &World, path: &str, fields: &[(&str, &str)]) -> bool {
    let first = world.get(path, fields).await;
    let second = world.get(path, fields).await;
    let kept = said(&second).contains("; hit");
    assert_eq!(kept, first.text() == second.text(), "what is said is what was done: {}", said(&second));
    kept
}

#[tokio::test]
async fn a_forced_lifetime_refuses_what_is_for_one() {
    let play = |seen: &crate::world::Seen| {
        let fields: &[(&str, &str)] = match seen.path.as_str() {
            "/set-cookie" => &[("set-cookie", "session=1")],
            "/private" => &[("cache-control", "private")],
            "/no-store" => &[("cache-control", "no-store")],
            "/error" => return answer(500, &[], format!("answer {}", seen.nth)),
            "/missing" => return answer(404, &[], format!("answer {}", seen.nth)),
            _ => &[],
        };
        answer(200, fields, format!("answer {}", seen.nth))
    };
    let world = World::new(FORCED, "", play).await;
    assert!(is_kept(&world, "/plain", &[]).await);
    for path in ["/set-cookie", "/private", "/no-store", "/error", "/missing"] {
        assert!(!is_kept(&world, path, &[]).await, "{path}");
    }
    assert!(!is_kept(&world, "/authorized", &[("authorization", "Bearer a")]).await);
    assert!(!is_kept(&world, "/with-cookie", &[("cookie", "session=1")]).await);
    // What was stored for all is not for a request that may mean somebody, and the other way round.
    assert!(!said(&world.get("/plain", &[("cookie", "session=1")]).await).contains("; hit"));
    assert!(!said(&world.get("/plain", &[("authorization", "Bearer a")]).await).contains("; hit"));

    let unsafe_ = World::new("{match: {path: /**}, cache: {ttl: 1h, unsafe: true, cookies: ignore}}", "", play).await;
    for path in ["/set-cookie", "/private", "/no-store"] {
        assert!(is_kept(&unsafe_, path, &[]).await, "{path}");
    }
    assert!(is_kept(&unsafe_, "/authorized", &[("authorization", "Bearer a"), ("cookie", "session=1")]).await);
    let keyed = World::new("{match: {path: /**}, cache: {ttl: 1h, key: [cookie:session]}}", "", play).await;
    assert!(is_kept(&keyed, "/plain", &[("cookie", "session=1; other=2")]).await);
    let other = keyed.get("/plain", &[("cookie", "session=2")]).await;
    assert!(!said(&other).contains("; hit"), "{}", said(&other));
}

#[tokio::test]
async fn what_a_client_asks_of_the_cache_is_done() {
    let world = World::new(PLAIN, "", numbered(&[("cache-control", "max-age=60"), ("age", "20")])).await;
    let asked = async |directive: &'static str| world.get("/page", &[("cache-control", directive)]).await;
    assert_eq!(asked("only-if-cached").await.status.as_u16(), 504);
    assert_eq!(asked("no-store").await.text(), "answer 0");
    assert_eq!(asked("max-age=60").await.text(), "answer 1", "no-store has stored nothing");
    assert_eq!(asked("only-if-cached").await.text(), "answer 1");
    assert_eq!(asked("max-age=60").await.text(), "answer 1");
    assert_eq!(asked("max-age=10").await.text(), "answer 2", "it is 20 s old");
    assert_eq!(asked("min-fresh=50").await.text(), "answer 3", "only 40 s are left");
    assert_eq!(asked("no-cache").await.text(), "answer 4");
    assert_eq!(world.get("/page", &[]).await.text(), "answer 4", "no-cache is no no-store");
    assert_eq!(asked("no-store").await.text(), "answer 5", "the client wants no cache to see it");
    assert_eq!(world.get("/page", &[]).await.text(), "answer 4");
}

#[tokio::test]
async fn an_incomplete_body_is_not_stored() {
    let (response, pieces) = crate::world::streamed(&[("cache-control", "max-age=60"), ("content-length", "10")]);
    let first = parking_lot::Mutex::new(Some(response));
    let world = World::new(PLAIN, "", move |_| match first.lock().take() {
        Some(broken) => Act::Answer(broken),
        None => answer(200, &[("cache-control", "max-age=60")], "0123456789"),
    })
    .await;
    pieces.try_send(Ok("01234".into())).expect("read");
    let mut opened = world.client(&[]).open(Method::GET, "/file", bytes::Bytes::new()).await.expect("a head");
    assert_eq!(opened.next().await.expect("a piece").expect("a piece"), "01234");
    pieces.try_send(Err(std::io::Error::other("broken"))).expect("read");
    assert!(opened.next().await.is_err(), "a broken body must not end cleanly");
    assert_eq!(world.get("/file", &[]).await.text(), "0123456789");
    assert_eq!(world.origin.count(), 2);
}

#[tokio::test]
async fn observing_answers_nothing_and_counts_what_it_would_have() {
    let world = World::new("{match: {path: /**}, cache: {ttl: 1h, mode: observe}}", "", numbered(&[])).await;
    for nth in 0..3 {
        let seen = world.get("/page", &[]).await;
        assert_eq!((seen.text(), said(&seen)), (format!("answer {nth}"), ""));
    }
    world.until_metric("outrigger_cache_requests_total{door=\"inbound\",route=\"/**\",result=\"observed_hit\"}", 2.0).await;
    assert_eq!(world.app.shared.cache.stats().memory.entries, 0);
}

#[tokio::test]
async fn an_answer_made_here_is_never_stored() {
    let routes = "{match: {path: /**}, cache: {ttl: 1h}, fallback: [{respond: {status: 200, body: resting}}]}";
    let world = World::new(routes, "", |seen| if seen.nth == 0 { Act::Close } else { answer(200, &[], "awake") }).await;
    assert_eq!(world.get("/page", &[]).await.text(), "resting");
    assert_eq!(world.get("/page", &[]).await.text(), "awake");
}
