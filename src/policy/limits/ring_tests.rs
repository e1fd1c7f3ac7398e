//! The ring against an exact log of timestamps.

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000;
const START: u64 = 1_780_000_000_123_457;

/// Admits like a limit does.
fn admit(ring: &mut Ring, shape: Shape, now: u64, limit: u64, cost: u64) -> bool {
    let fits = ring.used(shape, now) + cost <= limit;
    if fits {
        ring.charge(shape, now, cost);
    }
    fits
}

/// Sum of the log over `(now - span, now]`.
fn logged(log: &[(u64, u64)], now: u64, span: u64) -> u64 {
    log.iter().filter(|(at, _)| *at + span > now && *at <= now).map(|(_, cost)| cost).sum()
}

/// Pauses: none, within a slot, drips, around the window's edge, and long ones.
fn pauses() -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0), 3 => 0..2_000_u64, 4 => 0..400_000_u64, 1 => 900_000..1_100_000_u64, 1 => 0..5_000_000_u64]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn never_above_the_limit_never_stricter_than_31_of_32(
        limit in 1..60_u64,
        window in prop_oneof![Just(SECOND), 1_000..3 * SECOND],
        schedule in prop::collection::vec((pauses(), 1..9_u64), 1..400),
    ) {
        let shape = Shape::sliding(Duration::from_micros(window));
        let (mut ring, mut log, mut now) = (Ring::default(), Vec::new(), START);
        for (pause, cost) in schedule {
            now += pause;
            let wait = ring.first_fit(shape, now, limit, cost);
            if admit(&mut ring, shape, now, limit, cost) {
                prop_assert_eq!(wait, Some(0));
                log.push((now, cost));
                prop_assert!(logged(&log, now, window) <= limit, "above the limit in a window");
            } else {
                // 32 slots: no more than 32/31 of the window, and what rounding a slot up adds.
                prop_assert!(logged(&log, now, shape.width() * SLOTS) + cost > limit, "stricter than 31/32");
                if let Some(wait) = wait {
                    // The promised instant passes; the one before it does not.
                    prop_assert!(wait > 0);
                    let mut later = clone(&ring);
                    prop_assert!(later.used(shape, now + wait - 1) + cost > limit);
                    prop_assert!(later.used(shape, now + wait) + cost <= limit);
                } else {
                    prop_assert!(cost > limit);
                }
            }
        }
    }

    #[test]
    fn settling_keeps_the_books(
        schedule in prop::collection::vec((pauses(), 0..5_000_000_000_u64, prop::option::of((0..5_000_000_000_u64, pauses()))), 1..200),
    ) {
        // The model: every charge by its slot, corrected as the rule says.
        let shape = Shape::sliding(Duration::from_secs(1));
        let (mut ring, mut model, mut now) = (Ring::default(), std::collections::BTreeMap::<u64, u64>::new(), START);
        for (pause, reserved, settled) in schedule {
            now += pause;
            let slot = ring.charge(shape, now, reserved);
            prop_assert_eq!(slot, shape.slot(now));
            *model.entry(slot).or_default() += reserved;
            if let Some((actual, later)) = settled {
                now += later;
                ring.correct(shape, now, slot, reserved, actual);
                if slot + SLOTS > shape.slot(now) {
                    let held = model.get_mut(&slot).expect("charged");
                    *held = *held + actual - reserved;
                } else if actual > reserved {
                    *model.entry(shape.slot(now)).or_default() += actual - reserved;
                }
            }
            let live: u64 = model.range((shape.slot(now) + 1).saturating_sub(SLOTS)..).map(|(_, amount)| amount).sum();
            prop_assert_eq!(ring.used(shape, now), live);
            prop_assert_eq!(ring.resets(shape, now) > 0, live > 0);
        }
    }
}

fn clone(ring: &Ring) -> Ring {
    let slots = match &ring.slots {
        Slots::Lone => Slots::Lone,
        Slots::Small(slots) => Slots::Small(slots.clone()),
        Slots::Wide(slots) => Slots::Wide(slots.clone()),
    };
    Ring { head: ring.head, total: ring.total, slots }
}

#[test]
fn a_burst_over_the_edge_of_a_minute_is_never_above_the_limit() {
    let shape = Shape::sliding(Duration::from_secs(60));
    let edge = START / (60 * SECOND) * 60 * SECOND + 60 * SECOND;
    let mut ring = Ring::default();
    let passed = |ring: &mut Ring, at| (0..150).filter(|_| admit(ring, shape, at, 100, 1)).count();
    assert_eq!(passed(&mut ring, edge - 1), 100);
    for second in 0..58 {
        assert_eq!(passed(&mut ring, edge + second * SECOND), 0, "second {second}");
    }
    assert_eq!(passed(&mut ring, edge + 62 * SECOND), 100);
}

#[test]
fn a_steady_95_a_minute_is_never_refused() {
    let shape = Shape::sliding(Duration::from_secs(60));
    let mut ring = Ring::default();
    for request in 0..10_000 {
        assert!(admit(&mut ring, shape, START + request * 60 * SECOND / 95, 100, 1), "request {request}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn an_aligned_window_holds_its_limit_and_not_less(
        limit in 1..60_u64,
        schedule in prop::collection::vec((pauses(), 1..9_u64), 1..400),
    ) {
        let shape = Shape::fixed(Duration::from_secs(1));
        let (mut ring, mut log, mut now) = (Ring::default(), std::collections::BTreeMap::<u64, u64>::new(), START);
        for (pause, cost) in schedule {
            now += pause;
            let held = log.entry(now / SECOND).or_default();
            let fits = *held + cost <= limit;
            prop_assert_eq!(admit(&mut ring, shape, now, limit, cost), fits);
            *held += if fits { cost } else { 0 };
        }
    }
}

#[test]
fn the_time_at_which_a_limit_will_be_spent_is_told_ahead() {
    let hour = 3_600 * SECOND;
    let begin = START / hour * hour + hour;
    let fixed = Shape::fixed(Duration::from_secs(3_600));
    let mut ring = Ring::default();
    assert_eq!(ring.spent_in(fixed, begin + SECOND, 100), None, "nothing is used");
    ring.charge(fixed, begin + SECOND, 20);
    assert_eq!(ring.spent_in(fixed, begin + SECOND, 100), None, "too early to tell");
    assert_eq!(ring.spent_in(fixed, begin + 600 * SECOND, 100), Some(2_400 * SECOND), "20 in ten minutes: 80 more in forty");
    assert_eq!(ring.spent_in(fixed, begin + 1_200 * SECOND, 100), None, "the hour is over before");
    ring.charge(fixed, begin + 1_200 * SECOND, 80);
    assert_eq!(ring.spent_in(fixed, begin + 1_200 * SECOND, 100), Some(0));
}

proptest! {
    #[test]
    fn a_steady_use_is_spent_when_it_was_told(rate in 2..50_u64, limit in 50..200_u64) {
        // `rate` a second in a window of 31 s, told after 10 s.
        let shape = Shape::sliding(Duration::from_secs(31));
        let (mut ring, begin) = (Ring::default(), START / SECOND * SECOND);
        let mut told = None;
        for tick in 0..40 * rate {
            let now = begin + tick * SECOND / rate;
            if now >= begin + 10 * SECOND && told.is_none() {
                told = Some(ring.spent_in(shape, now, limit).map(|wait| now + wait));
            }
            if !admit(&mut ring, shape, now, limit, 1) {
                if let Some(told) = told {
                    let told = told.expect("it is spent");
                    prop_assert!(told.abs_diff(now) <= 2 * SECOND + SECOND * 4 / rate, "told {told}, is {now}");
                }
                return Ok(());
            }
        }
        prop_assert!(told.flatten().is_none_or(|told| told + 2 * SECOND > begin + 31 * SECOND), "told {told:?}, never so");
    }
}

#[test]
fn fixed_windows_are_aligned() {
    let shape = Shape::fixed(Duration::from_secs(60));
    let edge = START / (60 * SECOND) * 60 * SECOND + 60 * SECOND;
    let mut ring = Ring::default();
    assert!(admit(&mut ring, shape, edge, 10, 1));
    assert_eq!(10 - ring.used(shape, edge), 9, "the first answer says 9 remaining");
    assert_eq!((0..10).filter(|_| admit(&mut ring, shape, edge + SECOND, 10, 1)).count(), 9, "the 11th is refused");
    assert_eq!(ring.first_fit(shape, edge + SECOND, 10, 1), Some(59 * SECOND));
    assert!(admit(&mut ring, shape, edge + 60 * SECOND, 10, 1));
    assert_eq!(10 - ring.used(shape, edge + 60 * SECOND), 9, "after the window 9 again");
}

#[test]
fn a_debt_is_waited_for_and_a_late_refund_is_dropped() {
    let shape = Shape::sliding(Duration::from_secs(31));
    let now = START / SECOND * SECOND;
    let mut ring = Ring::default();
    let slot = ring.charge(shape, now, 10);
    ring.correct(shape, now + 5 * SECOND, slot, 10, 150);
    assert_eq!(ring.used(shape, now + 5 * SECOND), 150);
    assert_eq!(ring.first_fit(shape, now + 5 * SECOND, 100, 1), Some(27 * SECOND));
    let later = now + 40 * SECOND;
    ring.correct(shape, later, slot, 150, 10);
    assert_eq!(ring.used(shape, later), 0);
    ring.correct(shape, later, slot, 10, 60);
    assert_eq!(ring.used(shape, later), 50, "an overspend of a slot that left is charged now");
}

#[test]
fn time_that_stands_still_or_goes_back_frees_nothing() {
    let shape = Shape::sliding(Duration::from_secs(1));
    let mut ring = Ring::default();
    ring.charge(shape, START, 1);
    ring.charge(shape, START + SECOND / 2, 1);
    assert_eq!(ring.charge(shape, START, 1), shape.slot(START + SECOND / 2), "what comes late is counted now");
    assert_eq!(ring.used(shape, START), 3);
}
