//! The choice among keys, their rests and their quarantines.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const ANY: Wanted<'_> = Wanted { model: "m", tokens: 10 };

fn ring(weights: &[u32]) -> Keyring {
    Keyring::new(weights.iter().map(|weight| (Arc::default(), *weight)).collect())
}

fn used(ring: &Keyring, wanted: &Wanted<'_>, times: usize, now: Instant) -> Vec<usize> {
    let key = |_| match ring.next(wanted, 0, now) {
        KeyChoice::Key(place) => place,
        other => panic!("{other:?}"),
    };
    (0..times).map(key).collect()
}

const fn refusal(why: RestReason, wait: Option<Duration>) -> KeyRefusal<'static> {
    KeyRefusal { why, wait, model: None }
}

const SPENT: KeyRefusal<'_> = refusal(RestReason::Spent, None);

#[test]
fn keys_are_used_in_turn_by_weight_and_evenly_spread() {
    let now = Instant::now();
    assert_eq!(used(&ring(&[1, 1, 1]), &ANY, 4, now), [0, 1, 2, 0]);
    assert_eq!(used(&ring(&[50, 20, 10]), &ANY, 8, now), [0, 1, 0, 0, 2, 0, 1, 0], "five to two to one, none twice where it can be helped");
    assert_eq!(ring(&[]).next(&ANY, 0, now), KeyChoice::Nothing);
    assert_eq!(ring(&[1, 1]).next(&ANY, 0b11, now), KeyChoice::Nothing, "all were passed over");
    assert_eq!(ring(&[1, 1]).next(&ANY, 0b01, now), KeyChoice::Key(1));
}

#[test]
fn a_spent_key_is_tried_again_on_a_schedule_by_one_try_at_a_time_until_it_works() {
    let start = Instant::now();
    let ring = ring(&[1, 1, 1]);
    assert_eq!(ring.refused(1, &SPENT, &ANY, start), (FIRST_REST, true));
    assert!(!used(&ring, &ANY, 30, start).contains(&1));
    assert!(!used(&ring, &Wanted { model: "other", tokens: 1 }, 30, start).contains(&1), "for every model");
    let later = start + FIRST_REST;
    let tried = used(&ring, &ANY, 30, later);
    assert_eq!(tried.iter().filter(|place| **place == 1).count(), 1, "one try at a time: {tried:?}");
    assert_eq!(ring.refused(1, &SPENT, &ANY, later), (FIRST_REST * 2, true), "for longer each time");
    assert_eq!((ring.resting(later), ring.states(later)[1].rest), (1, Some((120.0, RestReason::Spent))));
    let again = later + FIRST_REST * 2;
    assert!(used(&ring, &ANY, 3, again).contains(&1));
    assert!(!ring.accepted(1, "m", start), "by no try that began before it was refused");
    assert!(ring.accepted(1, "m", again), "its quarantine ends");
    assert!(!ring.accepted(1, "m", again));
    assert_eq!((ring.resting(again), ring.states(again)[1].refusals), (0, 0));
    assert_eq!(used(&ring, &ANY, 30, again).iter().filter(|place| **place == 1).count(), 10);
    assert_eq!(ring.refused(1, &SPENT, &ANY, again).0, FIRST_REST, "it begins anew");
}

#[test]
fn a_trial_that_tells_nothing_is_followed_by_another() {
    let start = Instant::now();
    let ring = ring(&[1, 1]);
    ring.refused(0, &SPENT, &ANY, start);
    let later = start + FIRST_REST;
    assert_eq!(used(&ring, &ANY, 4, later).iter().filter(|place| **place == 0).count(), 1);
    assert_eq!(used(&ring, &ANY, 4, later + TRIAL).iter().filter(|place| **place == 0).count(), 1);
}

#[test]
fn a_throttled_key_rests_for_its_model_until_its_reset() {
    let start = Instant::now();
    let ring = ring(&[1, 1]);
    let throttled = |wait| KeyRefusal { model: Some("m"), ..refusal(RestReason::Throttled, Some(wait)) };
    assert_eq!(ring.refused(0, &throttled(SECOND * 20), &ANY, start), (SECOND * 20, true));
    assert_eq!(used(&ring, &ANY, 3, start), [1, 1, 1]);
    assert_eq!(used(&ring, &Wanted { model: "other", tokens: 1 }, 2, start).len(), 2);
    assert!(used(&ring, &Wanted { model: "other", tokens: 1 }, 2, start).contains(&0), "another model has another quota");
    assert_eq!(ring.states(start)[0].model.as_deref(), Some("m"));
    assert_eq!(ring.refused(1, &throttled(SECOND * 5), &ANY, start), (SECOND * 5, false));
    assert_eq!(ring.next(&ANY, 0, start), KeyChoice::Rests { wait: SECOND * 5, why: RestReason::Throttled }, "the earliest reset decides");
    assert_eq!(ring.next_reset(&ANY, start), Some(SECOND * 5));
    assert!(!ring.accepted(1, "m", start), "an older try that is answered now ends no throttle");
    assert_eq!((ring.next_reset(&ANY, start), ring.next_reset(&ANY, start + SECOND * 6)), (Some(SECOND * 5), None));
    assert_eq!(ring.next(&ANY, 0, start + SECOND * 5), KeyChoice::Key(1));
    assert_eq!(
        ring.refused(1, &KeyRefusal { model: Some("m"), ..refusal(RestReason::Throttled, None) }, &ANY, start),
        (THROTTLED_REST, false)
    );
}

#[test]
fn where_all_are_in_quarantine_one_is_asked_each_minute() {
    let start = Instant::now();
    let ring = ring(&[1, 1]);
    for _ in 0..5 {
        ring.refused(0, &SPENT, &ANY, start);
        ring.refused(1, &refusal(RestReason::Refused, None), &ANY, start);
    }
    assert_eq!(ring.next(&ANY, 0, start), KeyChoice::Rests { wait: FIRST_REST, why: RestReason::Spent });
    let later = start + FIRST_REST;
    assert!(matches!(ring.next(&ANY, 0, later), KeyChoice::Key(_)));
    assert!(matches!(ring.next(&ANY, 0, later), KeyChoice::Key(_)), "the other one");
    assert!(matches!(ring.next(&ANY, 0, later), KeyChoice::Rests { wait: TRIAL, why: RestReason::Spent | RestReason::Refused }));
}

#[test]
fn a_single_key_is_used_whatever_its_state() {
    let start = Instant::now();
    let ring = ring(&[1]);
    for _ in 0..40 {
        assert!(ring.refused(0, &SPENT, &ANY, start).0 <= LONGEST_REST);
    }
    assert_eq!((ring.next(&ANY, 0, start), ring.resting(start)), (KeyChoice::Key(0), 1));
    assert_eq!(ring.refused(0, &refusal(RestReason::Throttled, Some(SECOND * 90_000)), &ANY, start).0, LONGEST_REST);
}

#[test]
fn a_key_whose_quota_would_not_last_stands_back() {
    let start = Instant::now();
    let ring = ring(&[1, 1]);
    let quota = |limit, left, reset: u32| Some(Quota { limit: Some(limit), left, reset: Some(SECOND * reset) });
    ring.told(0, "m", [quota(100, 90, 60), quota(1_000, 5, 60)], start);
    assert_eq!(used(&ring, &ANY, 3, start), [1, 1, 1], "ten tokens are asked, five are left");
    assert!(used(&ring, &Wanted { model: "m", tokens: 1 }, 2, start).contains(&0), "a smaller call fits");
    assert!(used(&ring, &Wanted { model: "n", tokens: 50 }, 2, start).contains(&0), "another model has another quota");
    ring.told(1, "m", [quota(100, 0, 30), None], start);
    assert_eq!(ring.next(&ANY, 0, start), KeyChoice::Key(1), "if both stand back, the one that has room first is used: no guess refuses");
    assert!(used(&ring, &ANY, 2, start + SECOND * 2).contains(&0), "what is left grows");
    assert_eq!(ring.states(start)[0].left, [Some(90), Some(5)]);
}

#[test]
fn a_burst_is_spread_before_the_provider_says_anything_new() {
    let start = Instant::now();
    let ring = ring(&[1, 1]);
    ring.told(0, "m", [Some(Quota { limit: Some(10), left: 2, reset: Some(SECOND * 60) }), None], start);
    let tried = used(&ring, &ANY, 20, start);
    assert_eq!(tried.iter().filter(|place| **place == 0).count(), 2, "{tried:?}");
}

#[test]
fn the_turns_of_a_resting_key_are_shared_by_weight() {
    let start = Instant::now();
    let ring = ring(&[2, 2, 1]);
    ring.refused(0, &SPENT, &ANY, start);
    let tried = used(&ring, &ANY, 150, start);
    let of = |place| tried.iter().filter(|used| **used == place).count();
    assert_eq!((of(0), of(1), of(2)), (0, 100, 50), "{tried:?}");
}

#[test]
fn names_of_models_are_bounded() {
    let start = Instant::now();
    let ring = ring(&[1, 1]);
    for n in 0..2 * MOST_MODELS {
        let model = format!("m{n}");
        ring.refused(0, &KeyRefusal { why: RestReason::Throttled, wait: Some(SECOND * 9), model: Some(&model) }, &ANY, start);
    }
    assert_eq!(ring.keys[0].state.lock().models.len(), MOST_MODELS);
    assert!(!used(&ring, &Wanted { model: "m511", tokens: 1 }, 3, start).contains(&0), "beyond them the whole key rests");
}

#[test]
fn refusals_of_calls_under_way_count_once_and_slow_trials_end_a_quarantine() {
    let start = Instant::now();
    let ring = ring(&[1, 1]);
    for after in 0..6 {
        let left = FIRST_REST - SECOND * after;
        assert_eq!(ring.refused(1, &SPENT, &ANY, start + SECOND * after), (left, true), "the answer to a call that was under way");
    }
    assert_eq!(ring.states(start)[1].refusals, 1);
    // A trial takes longer than the time until the next one begins.
    let first = start + FIRST_REST;
    assert!(used(&ring, &ANY, 4, first).contains(&1));
    assert!(used(&ring, &ANY, 4, first + TRIAL).contains(&1));
    assert!(ring.accepted(1, "m", first), "the first trial was accepted, later than the second began");
    // A trial that is refused doubles the rest.
    assert_eq!(ring.refused(0, &SPENT, &ANY, start), (FIRST_REST, true));
    assert!(used(&ring, &ANY, 4, first).contains(&0));
    assert_eq!(ring.refused(0, &SPENT, &ANY, first + SECOND).0, FIRST_REST * 2);
}

#[test]
fn the_earliest_return_of_any_key_is_told() {
    let start = Instant::now();
    let ring = ring(&[1, 1]);
    ring.refused(0, &refusal(RestReason::Throttled, Some(SECOND * 900)), &ANY, start);
    ring.refused(1, &SPENT, &ANY, start);
    let soon = start + FIRST_REST - SECOND * 5;
    assert_eq!(ring.next(&ANY, 0, soon), KeyChoice::Rests { wait: SECOND * 5, why: RestReason::Throttled });
}

#[test]
fn names_that_clients_make_up_put_no_key_away() {
    let now = Instant::now();
    let ring = ring(&[1, 1]);
    for number in 0..2 * MOST_MODELS {
        let model = format!("made-up-{number}");
        ring.refused(0, &KeyRefusal { why: RestReason::Refused, wait: None, model: Some(&model) }, &ANY, now);
    }
    assert!(used(&ring, &ANY, 4, now).contains(&0), "the key serves every other model");
}

#[test]
fn a_reset_beyond_all_time_foretells_nothing() {
    let quota = Quota { left: 1, limit: Some(100), reset: Some(Duration::MAX) };
    assert!(Bucket::new(quota, Instant::now()).is_none());
}
