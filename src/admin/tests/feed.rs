//! The live feed: snapshot, ticks, resuming, and nothing when nobody looks.

use http::HeaderValue;
use http_body_util::BodyExt;

use super::*;
use crate::{
    admin::live::{Body, Hub, KEPT, KEPT_BYTES, LIFE, LINGER, TICK, VIEWERS},
    arrival::Door as Listener,
};

fn hub() -> (Arc<Fake>, Arc<Hub>) {
    let fake = Arc::new(Fake::default());
    (fake.clone(), Hub::new(fake))
}

fn look(hub: &Arc<Hub>, last: Option<&str>) -> Response<Body> {
    let id = last.map(|id| (http::HeaderName::from_static("last-event-id"), HeaderValue::from_str(id).expect("id")));
    hub.answer(&http::HeaderMap::from_iter(id))
}

/// The next event: its id, name and data.
async fn event(viewer: &mut Response<Body>) -> (String, String, Value) {
    let frame = viewer.body_mut().frame().await.expect("an event").expect("no error");
    let text = String::from_utf8(frame.into_data().expect("data").to_vec()).expect("UTF-8");
    let lines: Vec<&str> = text.lines().collect();
    assert!(text.ends_with("\n\n") && lines.len() == 4, "{text}");
    let of = |at: usize, name: &str| lines[at].strip_prefix(name).expect("a field").to_owned();
    (of(0, "id: "), of(1, "event: "), parse(&of(2, "data: ")))
}

#[tokio::test(start_paused = true)]
async fn a_viewer_gets_a_snapshot_and_then_a_tick_a_second() {
    let (fake, hub) = hub();
    assert!(fake.watched.lock().is_empty());
    let mut viewer = look(&hub, None);
    assert_eq!(viewer.headers()[http::header::CONTENT_TYPE], "text/event-stream");
    let (_, name, data) = event(&mut viewer).await;
    assert_eq!((name.as_str(), &data["at"], &data["minutes"]), ("snapshot", &json!(1_001), &json!([[0, 7, 0, 0, 0, 0]])));
    for tick in 2..5 {
        let (_, name, data) = event(&mut viewer).await;
        assert_eq!((name.as_str(), &data["at"]), ("tick", &json!(1_000 + tick)));
    }
    let mut second = look(&hub, None);
    assert_eq!(event(&mut second).await.2["at"], json!(1_004), "one reading serves all");
    assert_eq!(event(&mut second).await, event(&mut viewer).await);
    assert_eq!(*fake.watched.lock(), [true]);
}

#[tokio::test(start_paused = true)]
async fn a_viewer_that_comes_back_gets_what_it_has_missed() {
    let (_, hub) = hub();
    let mut viewer = look(&hub, None);
    event(&mut viewer).await;
    let (id, ..) = event(&mut viewer).await;
    drop(viewer);
    tokio::time::advance(TICK * 3 + TICK / 2).await;
    let mut again = look(&hub, Some(&id));
    let (next, name, data) = event(&mut again).await;
    assert_eq!((name.as_str(), &data["at"]), ("tick", &json!(1_003)));
    assert_ne!(next, id);
    for strange in ["", "x", "1.1", "zz.9", &format!("{}9", id)] {
        assert_eq!(event(&mut look(&hub, Some(strange))).await.1, "snapshot", "{strange}");
    }
    // Later than what is kept.
    for _ in 0..=KEPT {
        event(&mut again).await;
    }
    assert_eq!(event(&mut look(&hub, Some(&id))).await.1, "snapshot");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_when_nobody_looks() {
    let (fake, hub) = hub();
    tokio::time::sleep(LINGER * 100).await;
    assert_eq!((*fake.ticks.lock(), fake.watched.lock().len()), (0, 0), "nobody has looked yet");
    let mut viewer = look(&hub, None);
    let (id, ..) = event(&mut viewer).await;
    drop(viewer);
    tokio::time::sleep(LINGER + TICK).await;
    let read = *fake.ticks.lock();
    assert_eq!(*fake.watched.lock(), [true, false]);
    tokio::time::sleep(LINGER * 10).await;
    assert_eq!(*fake.ticks.lock(), read);
    assert_eq!(event(&mut look(&hub, Some(&id))).await.1, "snapshot", "the ticks of before are gone");
    assert_eq!(*fake.watched.lock(), [true, false, true]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_viewer_gets_a_snapshot_and_one_viewer_too_many_is_told_so() {
    let (_, hub) = hub();
    let mut slow = look(&hub, None);
    event(&mut slow).await;
    tokio::time::sleep(TICK * 30).await;
    assert_eq!(event(&mut slow).await.1, "snapshot");
    assert_eq!(event(&mut slow).await.1, "tick");
    let others: Vec<_> = (1..VIEWERS).map(|_| look(&hub, None)).collect();
    let refused = look(&hub, None);
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    drop(others);
    assert_eq!(look(&hub, None).status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_feed_ends_after_a_while_and_goes_on_where_it_was() {
    let (_, hub) = hub();
    let mut viewer = look(&hub, None);
    let begun = tokio::time::Instant::now();
    let mut last = event(&mut viewer).await;
    let mut next = viewer.body_mut().frame().await;
    while let Some(Ok(frame)) = next {
        let text = String::from_utf8(frame.into_data().expect("data").to_vec()).expect("UTF-8");
        last.0 = text.lines().next().and_then(|line| line.strip_prefix("id: ")).expect("an id").to_owned();
        last.2 = parse(text.lines().nth(2).and_then(|line| line.strip_prefix("data: ")).expect("data"));
        next = viewer.body_mut().frame().await;
    }
    assert!(next.is_none() && begun.elapsed() >= LIFE && begun.elapsed() < LIFE + TICK);
    drop(viewer);
    let (_, name, data) = event(&mut look(&hub, Some(&last.0))).await;
    assert_eq!((name.as_str(), data["at"].as_u64()), ("tick", last.2["at"].as_u64().map(|at| at + 1)));
    // A viewer that has a backlog ends as well.
    let mut slow = look(&hub, None);
    tokio::time::sleep(LIFE).await;
    assert!(slow.body_mut().frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn ticks_are_kept_within_their_bytes() {
    let (fake, hub) = hub();
    let flow = |n: usize| Flow {
        door: Listener::Inbound,
        caller: Some(format!("{n}-{}", "x".repeat(100)).into()),
        cause: None,
        route: "r".into(),
        target: None,
        operation: "",
        model: None,
        key: None,
    };
    *fake.flows.lock() = (0..1_000).map(|n| (flow(n), Sums { requests: 1, ..Sums::default() })).collect();
    let mut viewer = look(&hub, None);
    let (first, ..) = event(&mut viewer).await;
    let mut bytes = 0;
    for _ in 0..KEPT / 2 {
        bytes += event(&mut viewer).await.2.to_string().len();
    }
    assert!(bytes > KEPT_BYTES, "{bytes}");
    assert_eq!(event(&mut look(&hub, Some(&first))).await.1, "snapshot", "what is gone is not sent in part");
}
