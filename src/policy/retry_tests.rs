//! Retry by table, schedules by property, budgets against a log.

use std::time::UNIX_EPOCH;

use proptest::prelude::*;

use super::*;
use crate::http1::Fields;

const PLENTY: RetryBudget = RetryBudget { ratio: 0.2, min_per_sec: 3.0 };

fn policy() -> config::Retry {
    let status = |code| RetryOn::Status(StatusCode::from_u16(code).expect("a status"));
    config::Retry {
        mode: Mode::Enforce,
        max_retries: 2,
        on: vec![RetryOn::Connect, RetryOn::Reset, status(429), status(502), status(503), status(504)],
        backoff: Backoff::Schedule(vec![Duration::from_secs(1), Duration::from_secs(2)]),
        max_hint: Duration::from_secs(30),
        budget: PLENTY,
        replay_buffer: 0,
        any_method: false,
    }
}

fn tries() -> Standing {
    Standing { made: 1, repeatable: true, replayable: true, left: None, next: Next::Nothing, repeats: false }
}

fn answer(status: u16) -> Answer {
    Answer::new(StatusCode::from_u16(status).expect("a status"))
}

fn verdict(outcome: TryOutcome, tries: Standing, policy: &config::Retry) -> Verdict {
    let now = Instant::now();
    judge(&outcome, &tries, Some(policy), &Budget::new(policy.budget, now), &Chance::seeded(1), now).verdict
}

fn again(seconds: u64) -> Verdict {
    Verdict::TryAgain { pause: Duration::from_secs(seconds) }
}

#[test]
fn what_is_tried_again_and_what_is_not() {
    let reset = |may_be_processed| TryOutcome::Fault { fault: Fault::Reset, may_be_processed };
    let refused = TryOutcome::Fault { fault: Fault::Refused, may_be_processed: false };
    let post = Standing { repeatable: false, ..tries() };
    let hinted = |seconds| TryOutcome::Answer(Answer { hint: Some(Duration::from_secs(seconds)), ..answer(503) });
    for (what, outcome, tries, expected) in [
        ("a 503", TryOutcome::Answer(answer(503)), tries(), again(1)),
        ("the second 503", TryOutcome::Answer(answer(503)), Standing { made: 2, ..tries() }, again(2)),
        ("the third 503", TryOutcome::Answer(answer(503)), Standing { made: 3, ..tries() }, Verdict::Keep),
        ("a 400", TryOutcome::Answer(answer(400)), tries(), Verdict::Keep),
        ("a 500", TryOutcome::Answer(answer(500)), tries(), Verdict::Keep),
        ("a 200", TryOutcome::Answer(answer(200)), tries(), Verdict::Keep),
        ("a POST's 503", TryOutcome::Answer(answer(503)), post, Verdict::Keep),
        ("a refused connection", refused, tries(), again(1)),
        ("a POST's refused connection", refused, post, again(1)),
        ("a reset", reset(true), tries(), again(1)),
        ("a POST's reset", reset(true), post, Verdict::Keep),
        ("a POST's reset before it was sent", reset(false), post, again(1)),
        ("a body that was not kept", TryOutcome::Answer(answer(503)), Standing { replayable: false, ..tries() }, Verdict::Keep),
        ("a timeout that `on` does not name", TryOutcome::Timeout(Bound::ResponseHeader), tries(), Verdict::Keep),
        ("a connect timeout", TryOutcome::Timeout(Bound::Connect), post, again(1)),
        ("the end of all time", TryOutcome::Timeout(Bound::Total), Standing { next: Next::Target, ..tries() }, Verdict::Keep),
        ("a hint", hinted(7), tries(), again(7)),
        ("a hint shorter than the pause", hinted(0), tries(), again(1)),
        ("a hint longer than max_hint", hinted(31), tries(), Verdict::Keep),
        ("a deadline before the pause is over", hinted(7), Standing { left: Some(Duration::from_secs(7)), ..tries() }, Verdict::Keep),
        ("a spent quota", TryOutcome::Answer(Answer { spent: true, ..answer(429) }), tries(), Verdict::Keep),
        ("x-should-retry: false", TryOutcome::Answer(Answer { advice: Some(false), ..answer(503) }), tries(), Verdict::Keep),
        ("x-should-retry: true", TryOutcome::Answer(Answer { advice: Some(true), ..answer(400) }), tries(), again(1)),
        ("an open breaker", TryOutcome::BreakerOpen, tries(), Verdict::Keep),
        ("a stream that broke at once", TryOutcome::BrokenStream, tries(), again(1)),
    ] {
        assert_eq!(verdict(outcome, tries, &policy()), expected, "{what}");
    }
    let timeouts = config::Retry { on: vec![RetryOn::Timeout], ..policy() };
    assert_eq!(verdict(TryOutcome::Timeout(Bound::ResponseHeader), tries(), &timeouts), again(1));
}

#[test]
fn what_falls_over_to_the_next_target() {
    let last = Standing { made: 3, next: Next::Target, ..tries() };
    let post = Standing { repeatable: false, ..last };
    let spent = Answer { spent: true, ..answer(429) };
    let bad_key = Answer { elsewhere: true, ..answer(401) };
    for (what, outcome, tries, expected) in [
        ("the last 503", TryOutcome::Answer(answer(503)), last, Verdict::NextTarget),
        ("a 500", TryOutcome::Answer(answer(500)), last, Verdict::NextTarget),
        ("a 400", TryOutcome::Answer(answer(400)), last, Verdict::Keep),
        ("a spent quota, at once", TryOutcome::Answer(spent), Standing { made: 1, ..last }, Verdict::NextTarget),
        ("a bad key", TryOutcome::Answer(bad_key), last, Verdict::NextTarget),
        ("an open breaker", TryOutcome::BreakerOpen, post, Verdict::NextTarget),
        ("a POST that may have been processed", TryOutcome::Answer(answer(503)), post, Verdict::Keep),
        ("the same, to a static answer", TryOutcome::Answer(answer(503)), Standing { next: Next::Answer, ..post }, Verdict::NextTarget),
        ("no time left", TryOutcome::Answer(answer(503)), Standing { left: Some(Duration::ZERO), ..last }, Verdict::Keep),
    ] {
        assert_eq!(verdict(outcome, tries, &policy()), expected, "{what}");
    }
    let now = Instant::now();
    let judged = judge(&TryOutcome::Answer(answer(503)), &last, None, &Budget::new(PLENTY, now), &Chance::seeded(1), now);
    assert_eq!(judged.verdict, Verdict::NextTarget, "fallback needs no retry policy");
}

#[test]
fn observing_and_an_empty_budget_are_told_apart() {
    let now = Instant::now();
    let judged = |policy: &config::Retry| {
        judge(&TryOutcome::Answer(answer(503)), &tries(), Some(policy), &Budget::new(policy.budget, now), &Chance::seeded(1), now)
    };
    let observing = judged(&config::Retry { mode: Mode::Observe, ..policy() });
    assert_eq!((observing.verdict, observing.observed, observing.budget_exhausted), (Verdict::Keep, true, false));
    let empty = judged(&config::Retry { budget: RetryBudget { ratio: 0.2, min_per_sec: 0.0 }, ..policy() });
    assert_eq!((empty.verdict, empty.observed, empty.budget_exhausted), (Verdict::Keep, false, true));
}

#[test]
fn idempotent_methods_and_who_says_so() {
    let none = Fields::new();
    let mut keyed = Fields::new();
    keyed.insert("idempotency-key", "1");
    let any = config::Retry { any_method: true, ..policy() };
    assert!(repeatable(Door::Inbound, &Method::GET, &none, None));
    assert!(repeatable(Door::Inbound, &Method::DELETE, &none, None));
    assert!(!repeatable(Door::Inbound, &Method::POST, &none, Some(&policy())));
    assert!(!repeatable(Door::Inbound, &Method::PATCH, &none, None));
    assert!(repeatable(Door::Inbound, &Method::POST, &keyed, None));
    assert!(repeatable(Door::Inbound, &Method::POST, &none, Some(&any)));
    assert!(repeatable(Door::Outbound, &Method::POST, &none, None));
    let of = |fault, reused, unseen, idempotent| safe_reconnect(Broke { fault, reused, unseen }, idempotent);
    assert!(of(Fault::Reset, true, false, true) && of(Fault::Reset, true, true, false) && of(Fault::Reset, false, true, false));
    assert!(!of(Fault::Reset, true, false, false) && !of(Fault::Reset, false, false, true) && !of(Fault::Refused, true, true, true));
}

#[test]
fn hints_in_all_their_formats() {
    let wall = UNIX_EPOCH + Duration::from_secs(1_780_000_000);
    let date = httpdate::fmt_http_date(wall + Duration::from_secs(90));
    for (fields, expected) in [
        (&[("retry-after", "7")][..], Some(7_000)),
        (&[("retry-after", "0.5")], Some(500)),
        (&[("retry-after", date.as_str())], Some(90_000)),
        (&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")], Some(0)),
        (&[("retry-after-ms", "250"), ("retry-after", "7")], Some(250)),
        (&[("retry-after", "soon")], None),
        (&[("retry-after", "-1")], None),
        (&[("retry-after", "inf")], None),
        (&[], None),
    ] {
        let mut headers = Fields::new();
        for (name, value) in fields {
            headers.insert(*name, value);
        }
        assert_eq!(hint(&headers, wall), expected.map(Duration::from_millis), "{fields:?}");
    }
}

proptest! {
    #[test]
    fn full_jitter_stays_under_its_ceiling(seed: u64, retry in 1..80_u32, base in 1..5_000_u64, max in 1..60_000_u64) {
        let backoff = Backoff::FullJitter { base: Duration::from_millis(base), max: Duration::from_millis(max) };
        let ceiling = Duration::from_millis(base.saturating_mul(1 << (retry - 1).min(40)).min(max));
        prop_assert!(pause(&backoff, retry, &Chance::seeded(seed)) <= ceiling);
    }

    /// In any ten seconds, retries never exceed a share of the requests of (nearly) the same ten seconds and the floor.
    #[test]
    fn a_budget_holds_in_every_window(
        ratio in 0.0..0.5_f64,
        floor in 0..4_u32,
        steps in prop::collection::vec((0..600_u64, any::<bool>()), 1..400),
    ) {
        let start = Instant::now();
        let budget = Budget::new(RetryBudget { ratio, min_per_sec: f64::from(floor) }, start);
        let (mut now, mut requests, mut retries) = (Duration::ZERO, Vec::<Duration>::new(), Vec::<Duration>::new());
        let second = |at: &Duration| at.as_secs();
        for (pause, request) in steps {
            now += Duration::from_millis(pause);
            let live = |log: &[Duration]| log.iter().filter(|at| second(at) + 10 > second(&now)).count() as f64;
            if request {
                budget.deposit(start + now);
                requests.push(now);
            } else {
                let allowed = ratio * live(&requests) + 10.0 * f64::from(floor);
                let fits = live(&retries) + 1.0 <= allowed;
                prop_assert_eq!(budget.withdraw(start + now), fits);
                if fits {
                    retries.push(now);
                }
            }
        }
    }
}

#[test]
fn threads_never_draw_more_than_there_is() {
    let now = Instant::now();
    let budget = Budget::new(RetryBudget { ratio: 0.2, min_per_sec: 3.0 }, now);
    (0..100).for_each(|_| budget.deposit(now));
    let drawn: usize = std::thread::scope(|scope| {
        let drawers: Vec<_> = (0..8).map(|_| scope.spawn(|| (0..200).filter(|_| budget.withdraw(now)).count())).collect();
        drawers.into_iter().map(|drawer| drawer.join().expect("no panic")).sum()
    });
    assert!(drawn <= 50, "{drawn}");
    let after = Budgets::default();
    let name: Arc<str> = "t".into();
    assert!(Arc::ptr_eq(&after.get(&name, PLENTY, 1, now), &after.get(&name, PLENTY, 1, now)));
}

#[test]
fn a_request_of_an_older_generation_changes_no_budget() {
    let (budgets, now) = (Budgets::default(), Instant::now());
    let (name, gone): (Arc<str>, Arc<str>) = ("t".into(), "gone".into());
    let other = RetryBudget { ratio: 0.5, min_per_sec: 1.0 };
    budgets.get(&gone, PLENTY, 1, now);
    budgets.retain(2, |name| name != "gone");
    let newest = budgets.get(&name, other, 2, now);
    assert!(Arc::ptr_eq(&newest, &budgets.get(&name, PLENTY, 1, now)), "its terms are not put back");
    let alone = budgets.get(&gone, PLENTY, 1, now);
    assert!(!Arc::ptr_eq(&alone, &budgets.get(&gone, PLENTY, 1, now)), "what is gone does not come back");
}
