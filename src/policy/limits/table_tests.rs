//! The table against a map, at its bound, and under threads.

use std::{collections::HashMap, time::Duration};

use proptest::prelude::*;

use super::*;

const START: u64 = 1_780_000_000_000_000;

fn key(number: u64) -> Key {
    // Spread over shards and cells as a hash would.
    [number.wrapping_mul(0x9E37_79B9_7F4A_7C15), number.wrapping_mul(0xD6E8_FEB8_6659_FD93) >> 7]
}

fn item(meter: &Meter, number: u64, limit: u64) -> Item<'_> {
    Item { key: key(number), meter, limit, check: 1, charge: 1, observe: false, force: false, look: false, answer: Answer::default() }
}

fn minute() -> Meter {
    Meter::Window(Shape::sliding(Duration::from_secs(60)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Many keys in one shard: probing, moving and removing all happen.
    #[test]
    fn a_shard_finds_what_a_map_finds(steps in prop::collection::vec((0..48_u64, any::<bool>()), 1..600)) {
        let mut shard = Shard::default();
        let mut map = HashMap::new();
        for (step, (number, add)) in steps.into_iter().enumerate() {
            let key = [0, number % 11]; // many share a home
            let key = [number, key[1]];
            match (add, shard.find(key)) {
                (true, None) => {
                    let place = shard.insert(key);
                    shard.entries[place].until = step as u64;
                    map.insert(key, step as u64);
                }
                (false, Some((_, place))) => {
                    shard.remove(place);
                    map.remove(&key);
                }
                _ => {}
            }
            prop_assert_eq!(shard.entries.len(), map.len());
            for (key, until) in &map {
                let (_, place) = shard.find(*key).expect("what was put in is found");
                prop_assert_eq!(shard.entries[place].until, *until);
            }
        }
    }
}

/// A spent limit that acts lets requests through: they count, and the next ones wait for them too.
#[test]
fn what_passes_although_the_limit_is_spent_counts_in_it() {
    let pace = Meter::Pace(Pace::new(60, Duration::from_secs(60), 1));
    for (meter, limit) in [(pace, 0), (minute(), 1)] {
        let table = Table::new(100);
        let ask = |force: bool| {
            let mut items = [Item { force, ..item(&meter, 7, limit) }];
            let passed = table.decide(START, &mut items);
            (passed, items[0].answer)
        };
        assert!(ask(false).0);
        assert!(!ask(false).0);
        let waits = || table.first_fit(START, key(7), &meter, limit, 1);
        let (before, used) = (waits(), || table.outlook(START, key(7), &meter, limit).0);
        for _ in 0..2 {
            let (passed, answer) = ask(true);
            assert!(passed && !answer.refused && answer.slot > 0, "{answer:?}");
        }
        match meter {
            Meter::Pace(_) => assert_eq!((before, waits()), (Some(1_000_000), Some(3_000_000))),
            _ => assert_eq!(used(), 3),
        }
        assert!(!ask(false).0, "it is spent more than before");
    }
}

#[test]
fn eight_threads_never_pass_more_than_the_limit() {
    let table = Table::new(1_000);
    let meter = minute();
    let passed: usize = std::thread::scope(|scope| {
        let hammers: Vec<_> =
            (0..8).map(|_| scope.spawn(|| (0..2_000).filter(|_| table.decide(START, &mut [item(&meter, 7, 1_000)])).count())).collect();
        hammers.into_iter().map(|hammer| hammer.join().expect("no panic")).sum()
    });
    assert_eq!(passed, 1_000);
}

#[test]
fn threads_that_take_several_limits_neither_deadlock_nor_pass_too_many() {
    let table = Table::new(1_000);
    let meter = minute();
    let passed: usize = std::thread::scope(|scope| {
        let hammers: Vec<_> = (0..8_u64)
            .map(|thread| {
                let (table, meter) = (&table, &meter);
                scope.spawn(move || {
                    let pair = |round: u64| match (thread + round) % 2 {
                        0 => [item(meter, 1, 500), item(meter, 2, 800)],
                        _ => [item(meter, 2, 800), item(meter, 1, 500)],
                    };
                    (0..1_000).filter(|round| table.decide(START, &mut pair(*round))).count()
                })
            })
            .collect();
        hammers.into_iter().map(|hammer| hammer.join().expect("no panic")).sum()
    });
    assert_eq!(passed, 500);
    let mut other = [item(&meter, 2, 800)];
    assert!(table.decide(START, &mut other));
    assert_eq!(other[0].answer.used, 501, "a refused request charges none of its limits");
}

#[test]
fn a_full_table_forgets_the_expired_first_and_never_refuses() {
    let table = Table::new(SHARDS * 4);
    let meter = minute();
    for number in 0..200 {
        assert!(table.decide(START, &mut [item(&meter, number, 10)]));
    }
    let hour_later = START + 3_600_000_000;
    let before = table.evictions();
    for number in 1_000..1_100 {
        assert!(table.decide(hour_later, &mut [item(&meter, number, 10)]));
    }
    assert_eq!(table.evictions(), before, "only expired keys had to go");
    for number in 10_000..20_000 {
        assert!(table.decide(hour_later, &mut [item(&meter, number, 10)]));
    }
    assert!(table.keys() <= SHARDS * 4);
    assert!(table.evictions() > 9_000);
}

#[test]
fn a_key_in_use_survives_a_flood_of_others() {
    let table = Table::new(SHARDS * 64);
    let meter = minute();
    for number in 0..SHARDS as u64 * 640 {
        table.decide(START, &mut [item(&meter, number + 1, 10)]);
        table.decide(START, &mut [item(&meter, 0, 1_000_000)]);
    }
    let mut own = [item(&meter, 0, 1_000_000)];
    table.decide(START, &mut own);
    assert_eq!(own[0].answer.used, SHARDS as u64 * 640 + 1);
}

#[test]
fn the_sweep_drops_empty_keys_and_their_memory() {
    let table = Table::new(100_000);
    let meter = minute();
    for number in 0..50_000 {
        table.decide(START, &mut [item(&meter, number, 10)]);
    }
    assert_eq!(table.keys(), 50_000);
    assert_eq!(table.sweep(START + 30_000_000, &mut || {}), 0);
    assert_eq!(table.sweep(START + 120_000_000, &mut || {}), 50_000);
    assert_eq!(table.keys(), 0);
    assert!(table.shards.iter().all(|shard| shard.lock().entries.capacity() == 0 && shard.lock().index.is_empty()));
}

#[test]
fn a_sweep_holds_a_lock_for_one_slice_and_lets_requests_in_between() {
    let table = Table::new(64 * 4_096);
    let meter = minute();
    // All keys are in one shard: the sweep takes several slices.
    for at in 0..1_000 {
        assert!(table.decide(START, &mut [Item { key: [at, at], ..item(&meter, 0, 10) }]));
    }
    let (mut left, mut slices) = (table.keys(), 0);
    let gone = table.sweep(START + 120_000_000, &mut || {
        assert!(left - table.keys() <= SLICE, "{left} to {} keys in one slice", table.keys());
        assert!(table.shards.iter().all(|shard| shard.try_lock().is_some()), "no lock is held");
        left = table.keys();
        slices += 1;
    });
    assert_eq!((gone, slices), (1_000, table.shards.len() + 1_000 / SLICE));
}

#[test]
fn however_many_keys_are_allowed_a_shard_stays_small() {
    for (most, shards) in [(1_000, 64), (100_000, 64), (262_144, 64), (262_145, 128), (1_000_000, 256), (100_000_000, 32_768)] {
        let table = Table::new(most);
        assert_eq!(table.shards.len(), shards, "{most}");
        assert!(table.per_shard * shards >= most && table.per_shard <= KEYS, "{most}: {}", table.per_shard);
    }
}

#[test]
fn a_key_is_small() {
    assert!(size_of::<Entry>() <= 64, "{}", size_of::<Entry>());
}

#[test]
fn a_limit_that_observes_refuses_nothing_and_counts_no_use_it_would_have_refused() {
    let table = Table::new(100);
    let meter = minute();
    let mut used = 0;
    for _ in 0..5 {
        let mut items = [Item { observe: true, ..item(&meter, 1, 2) }, item(&meter, 2, 100)];
        assert!(table.decide(START, &mut items));
        used = items[0].answer.used;
    }
    assert_eq!(used, 2);
}

#[test]
fn a_pace_is_refunded_with_the_rest() {
    let table = Table::new(100);
    let pace = Meter::Pace(Pace::new(1, Duration::from_secs(1), 1));
    let meter = minute();
    assert!(table.decide(START, &mut [item(&pace, 1, 1)]));
    let mut refused = [item(&meter, 2, 10), item(&pace, 1, 1)];
    assert!(!table.decide(START, &mut refused));
    assert_eq!(refused[1].answer.wait, Some(1_000_000));
    table.correct(0, key(1), &pace, 0, 1, 0);
    assert!(table.decide(START, &mut [item(&meter, 2, 1), item(&pace, 1, 1)]), "given back, and the window was not charged");
}
