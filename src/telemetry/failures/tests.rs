//! The ring: its bounds, its questions, and what a story has.

use std::{net::IpAddr, time::UNIX_EPOCH};

use serde_json::Value;

use super::*;
use crate::telemetry::log::testing;

const NOW: u64 = 1_800_000_000_000;

fn record<'a>(path: &'a str, caller: &'a str) -> Record<'a> {
    Record {
        at: UNIX_EPOCH + Duration::from_millis(NOW),
        caller,
        client: IpAddr::from([10, 0, 0, 1]),
        path,
        query: "page=2&api_key=hunter2",
        status: 502,
        ..testing::record()
    }
}

fn failure(steps: &[TryStep]) -> FailureFacts<'_> {
    FailureFacts { kind: FailureKind::ServerError, reason: None, said: "", retry_after: None, cache_bypass: "", steps, trace_id: None }
}

fn step(result: &'static str, then: Then) -> TryStep {
    let (at, took) = (Duration::from_micros(300), Duration::from_millis(20));
    TryStep { at, target: "app".into(), model: None, result, status: 0, took, then, breaker: Some("closed"), is_try: true, own_key: false }
}

fn ask(ring: &Failures, words: &[(&str, &str)]) -> Value {
    ring.find(&Filter::read(words.iter().copied(), NOW).unwrap_or_else(|why| panic!("{why}")))
}

fn paths(page: &Value) -> Vec<String> {
    page["failures"].as_array().expect("a list").iter().map(|row| row["path"].as_str().expect("a path").to_owned()).collect()
}

fn ring(keep: usize, bytes: usize) -> Arc<Failures> {
    Failures::new(FailureBounds { keep, bytes })
}

#[test]
fn the_oldest_makes_room_and_is_counted() {
    let ring = ring(3, 1 << 20);
    for path in ["/a", "/b", "/c", "/d", "/e"] {
        ring.keep(&record(path, ""), &failure(&[]));
    }
    let page = ask(&ring, &[]);
    let query = "?page=2&api_key=***";
    assert_eq!(paths(&page), [format!("/e{query}"), format!("/d{query}"), format!("/c{query}")]);
    assert_eq!((&page["displaced"], &page["newest"], &page["next"]), (&2.into(), &"5".into(), &Value::Null));
    assert_eq!((ring.kept().0, ring.displaced()), (3, 2));
}

#[test]
fn the_ring_is_bounded_in_bytes_and_one_client_fills_little_of_it() {
    let ring = ring(1_000, 10_000);
    let long = "/x".repeat(100_000);
    for _ in 0..100 {
        ring.keep(&record(&long, &long), &failure(&[]));
        assert!(ring.kept().1 <= 10_000);
    }
    let (entries, bytes) = ring.kept();
    assert!((2..4).contains(&entries) && bytes > 5_000, "{entries} {bytes}");
    assert_eq!(ring.displaced(), 100 - entries as u64);
    assert_eq!(ask(&ring, &[])["failures"].as_array().map(Vec::len), Some(entries), "a line that is cut is JSON");
}

#[test]
fn a_ring_without_room_keeps_nothing() {
    let ring = ring(0, 1 << 20);
    ring.keep(&record("/a", ""), &failure(&[]));
    assert!(!ring.is_on() && ring.kept() == (0, 0));
}

#[test]
fn pages_follow_each_other_backwards_and_a_follower_goes_forwards() {
    let ring = ring(100, 1 << 20);
    let names: Vec<String> = (0..25).map(|n| format!("/{n}")).collect();
    names.iter().for_each(|name| ring.keep(&record(name, ""), &failure(&[])));
    let (mut seen, mut before) = (Vec::new(), "1000".to_owned());
    loop {
        let page = ask(&ring, &[("limit", "10"), ("before", &before)]);
        seen.extend(paths(&page));
        match page["next"].as_str() {
            Some(next) => before = next.to_owned(),
            None => break,
        }
    }
    let wanted: Vec<String> = names.iter().rev().map(|name| format!("{name}?page=2&api_key=***")).collect();
    assert_eq!(seen, wanted, "each failure once");
    let newest = ask(&ring, &[])["newest"].as_str().expect("a place").to_owned();
    ring.keep(&record("/late", ""), &failure(&[]));
    assert_eq!(paths(&ask(&ring, &[("after", &newest)])), ["/late?page=2&api_key=***"]);
}

#[test]
fn every_condition_must_hold() {
    let ring = ring(100, 1 << 20);
    let trace = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;
    ring.keep(&record("/a", "ann"), &FailureFacts { trace_id: Some(trace), ..failure(&[step("connect_failed", Then::GaveUp)]) });
    ring.keep(
        &Record {
            door: Door::Outbound,
            operation: "chat",
            model: "gpt-4o",
            key: "team-a",
            limit: "visits",
            status: 429,
            at: UNIX_EPOCH + Duration::from_millis(NOW - 60_000),
            ..record("/b", "bob")
        },
        &FailureFacts { kind: FailureKind::Refused, reason: Some("limited"), ..failure(&[]) },
    );
    let count = |words: &[(&str, &str)]| ask(&ring, words)["failures"].as_array().map(Vec::len).expect("a list");
    for (words, expected) in [
        (&[("caller", "ann")] as &[_], 1),
        (&[("caller", "ann"), ("status", "4xx")], 0),
        (&[("status", "4xx")], 1),
        (&[("status", "502")], 1),
        (&[("reason", "limited")], 1),
        (&[("reason", "connect_failed")], 1),
        (&[("kind", "refused")], 1),
        (&[("door", "outbound")], 1),
        (&[("route", "api")], 2),
        (&[("route", "ap")], 0),
        (&[("trace", "0af7651916cd43dd8448eb211c80319c")], 1),
        (&[("request", "r-1")], 2),
        (&[("request", "r-")], 0),
        (&[("operation", "chat")], 1),
        (&[("operation", "embeddings")], 0),
        (&[("model", "gpt-4o")], 1),
        (&[("model", "gpt-4")], 0),
        (&[("key", "team-a"), ("target", "app")], 1),
        (&[("refused_by", "visits")], 1),
        (&[("refused_by", "visit")], 0),
        (&[("target", "app")], 2),
        (&[("since", "30s")], 1),
        (&[("until", "30s")], 1),
        (&[("since", "2027-01-15T08:00:00Z")], 1),
        (&[("since", "2027-01-15")], 2),
    ] {
        assert_eq!(count(words), expected, "{words:?}");
    }
    for (key, value) in [
        ("since", "yesterday"),
        ("status", "600"),
        ("status", "9xx"),
        ("trace", "12"),
        ("kind", "bad"),
        ("door", "admin"),
        ("limit", "0"),
        ("limit", "1001"),
        ("before", "x"),
        ("colour", "red"),
    ] {
        let why = Filter::read([(key, value)], NOW).expect_err("wrong");
        assert!(why.contains(key) && (key == "colour" || why.contains(value)), "{why}");
    }
}

#[test]
fn a_story_has_the_steps_in_order() {
    let ring = ring(10, 1 << 20);
    let steps = [
        step("status_5xx", Then::Retried(Duration::from_millis(500))),
        TryStep { model: Some("m".into()), status: 503, breaker: None, ..step("connection_reset", Then::Free(RECONNECT)) },
        step("breaker_open", Then::NextTarget),
        step("response_header_timeout", Then::GaveUp),
    ];
    let wait = Some(Duration::from_millis(1_500));
    ring.keep(&record("/a", ""), &FailureFacts { said: "no answer", retry_after: wait, cache_bypass: "cookies", ..failure(&steps) });
    let page = ask(&ring, &[]);
    let story = &page["failures"][0];
    assert_eq!(
        (&story["detail"], &story["retry_after_ms"], &story["cache_bypass"]),
        (&"no answer".into(), &1500.into(), &"cookies".into())
    );
    assert_eq!((&story["reason"], &story["kind"]), (&"response_header_timeout".into(), &"server_error".into()));
    let told = |nth: usize, name: &str| story["steps"][nth][name].clone();
    assert_eq!((told(0, "then"), told(0, "pause_ms"), told(0, "at_ms")), ("retried".into(), 500.into(), 0.3.into()));
    assert_eq!((told(1, "then"), told(1, "why"), told(1, "status")), ("free_retry".into(), RECONNECT.into(), 503.into()));
    assert_eq!((told(1, "model"), told(1, "breaker"), told(2, "breaker")), ("m".into(), Value::Null, "closed".into()));
    assert_eq!((told(2, "then"), told(3, "then"), told(3, "ms")), ("next_target".into(), "gave_up".into(), 20.into()));
}

#[test]
fn a_good_exchange_is_no_failure_and_a_closed_idle_connection_makes_none() {
    let of = |outcome, status, reason, steps: &[TryStep]| FailureKind::of(outcome, status, reason, steps);
    let done = ExchangeOutcome::Complete;
    assert_eq!(of(done, 200, None, &[]), None);
    assert_eq!(of(done, 304, None, &[step("connection_reset", Then::Free(RECONNECT))]), None);
    assert_eq!(of(done, 200, None, &[step("throttled", Then::Free("another_key"))]), Some(FailureKind::Rescued));
    assert_eq!(of(done, 404, None, &[]), Some(FailureKind::ClientError));
    assert_eq!(of(done, 500, None, &[]), Some(FailureKind::ServerError));
    assert_eq!(of(ExchangeOutcome::Rejected, 504, Some("total_timeout"), &[]), Some(FailureKind::Timeout));
    assert_eq!(of(ExchangeOutcome::Rejected, 429, Some("limited"), &[]), Some(FailureKind::Refused));
    assert_eq!(of(ExchangeOutcome::ClientGone, 200, None, &[]), Some(FailureKind::ClientGone));
    assert_eq!(of(ExchangeOutcome::UpstreamBroken, 200, None, &[]), Some(FailureKind::UpstreamBroken));
    assert_eq!(of(ExchangeOutcome::ChargedLate, 0, None, &[]), None);
}

#[test]
fn an_erased_caller_is_forgotten() {
    let ring = ring(10, 1 << 20);
    for caller in ["ann", "bob", "ann"] {
        ring.keep(&record("/", caller), &failure(&[]));
    }
    let before = ring.kept().1;
    assert_eq!((ring.erase("ann"), ring.kept().0), (2, 1));
    assert!(ring.kept().1 < before);
    assert!(!ask(&ring, &[]).to_string().contains("ann"));
}

#[test]
fn secrets_in_a_path_or_a_value_are_not_in_the_ring() {
    let ring = ring(10, 1 << 20);
    let secret = "0123456789abcdef0123456789abcdef";
    let far = format!("/{}/{secret}", "x/".repeat(LONGEST / 2 - 5));
    for path in [format!("/reset/{secret}/now"), far, format!("/{}", "ab/".repeat(400))] {
        ring.keep(&Record { query: "to=sk-proj-abcdef&page=2&token=x", ..record(&path, "") }, &failure(&[]));
    }
    let page = ask(&ring, &[]);
    assert!(!page.to_string().contains("0123456789abc") && !page.to_string().contains("sk-proj"), "{page}");
    assert_eq!(paths(&page)[2], "/reset/***/now?to=***&page=2&token=***");
}

#[test]
fn threads_keep_side_by_side_and_a_follower_misses_none() {
    const EACH: usize = 2_000;
    let ring = ring(4 * EACH, 1 << 30);
    let mut seen = std::collections::HashSet::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let ring = &ring;
                scope.spawn(move || (0..EACH).for_each(|n| ring.keep(&record(&format!("/{thread}/{n}"), ""), &failure(&[]))))
            })
            .collect();
        let mut newest = "0".to_owned();
        loop {
            let over = threads.iter().all(std::thread::ScopedJoinHandle::is_finished);
            let mut before = u64::MAX.to_string();
            let after = newest.clone();
            let mut first = true;
            loop {
                let page = ask(&ring, &[("after", &after), ("before", &before), ("limit", "1000")]);
                if std::mem::take(&mut first) {
                    page["newest"].as_str().expect("a place").clone_into(&mut newest);
                }
                for path in paths(&page) {
                    assert!(seen.insert(path.clone()), "{path} twice");
                }
                match page["next"].as_str() {
                    Some(next) => before = next.to_owned(),
                    None => break,
                }
            }
            if over {
                break;
            }
        }
    });
    assert_eq!(seen.len(), 4 * EACH);
    let page = ask(&ring, &[("limit", "1000")]);
    let ids: Vec<u64> = page["failures"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| row["id"].as_str().expect("an id").parse().expect("a number"))
        .collect();
    assert!(ids.is_sorted_by(|later, earlier| later > earlier) && ids[0] == 4 * EACH as u64, "the newest first, over all threads");
}

#[test]
fn the_bounds_hold_for_all_threads_together_and_the_oldest_goes_first() {
    let ring = ring(100, 1 << 30);
    std::thread::scope(|scope| {
        let quiet = scope.spawn(|| ring.keep(&record("/quiet", ""), &failure(&[])));
        quiet.join().expect("ends");
        for thread in 0..3 {
            let ring = &ring;
            scope.spawn(move || (0..500).for_each(|n| ring.keep(&record(&format!("/{thread}/{n}"), ""), &failure(&[]))));
        }
    });
    let page = ask(&ring, &[("limit", "1000")]);
    let entries = page["failures"].as_array().map(Vec::len).expect("a list");
    // Threads that see the bound passed at the same moment may each let one go.
    assert!((97..=100).contains(&entries), "{entries}");
    assert_eq!((ring.kept().0, ring.displaced()), (entries, 1_501 - entries as u64));
    assert!(!paths(&page).iter().any(|path| path.starts_with("/quiet")));
    ring.erase("");
    assert_eq!(ring.kept(), (0, 0));
}
