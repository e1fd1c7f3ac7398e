//! Shares by weight, least load, stickiness, tiers and slow starts.

use proptest::prelude::*;

use super::*;
use crate::config::{Breaker, Member, Mode, Origin};

const HEALTH: Breaker = Breaker {
    mode: Mode::Enforce,
    consecutive: 3,
    ratio: None,
    open_base: Duration::from_secs(5),
    open_max: Duration::from_secs(60),
    jitter: 0.0,
    successes: 1,
};

/// Weight, zone, backup.
type Terms = (u32, Option<&'static str>, bool);

fn members(choose: Choose, list: &[Terms]) -> Members {
    let member = |(n, (weight, zone, backup)): (usize, &Terms)| Member {
        name: format!("m{n}").into(),
        url: Origin::parse(&format!("http://m{n}:80")).expect("valid"),
        weight: *weight,
        zone: zone.map(Into::into),
        backup: *backup,
    };
    let list = list.iter().enumerate().map(member).collect();
    Members { list, choose, zone: None, slow_start: Duration::ZERO, health: HEALTH }
}

fn balancer(terms: &Members, now: Instant) -> Balancer {
    Balancer::new(terms, terms.list.iter().map(|member| Arc::new(MemberState::new(&member.name, now))).collect())
}

fn equal(n: usize) -> Vec<Terms> {
    vec![(1, None, false); n]
}

fn sticky() -> Choose {
    Choose::Sticky(Vec::new())
}

fn shares(of: &Balancer, times: usize, now: Instant, chance: &Chance) -> Vec<usize> {
    let mut shares = vec![0; of.members.len()];
    for _ in 0..times {
        shares[of.next(0, None, now, chance).expect("one is left")] += 1;
    }
    shares
}

#[test]
fn in_turn_is_exact_and_leaves_out_what_is_passed() {
    let (now, chance) = (Instant::now(), Chance::seeded(1));
    let of = balancer(&members(Choose::InTurn, &[(3, None, false), (1, None, false)]), now);
    assert_eq!(shares(&of, 40, now, &chance), [30, 10]);
    assert_eq!(of.next(0b01, None, now, &chance), Some(1));
    assert_eq!(of.next(0b11, None, now, &chance), None);
    assert_eq!(of.all(), 0b11);
}

#[test]
fn idle_members_share_by_weight_and_a_busy_one_gets_less() {
    let (now, chance) = (Instant::now(), Chance::seeded(2));
    let of = balancer(&members(Choose::LeastLoaded, &[(9, None, false), (1, None, false)]), now);
    let seldom = shares(&of, 10_000, now, &chance)[1];
    assert!((500..1_500).contains(&seldom), "a tenth: {seldom}");
    let even = balancer(&members(Choose::LeastLoaded, &equal(4)), now);
    (0..4).for_each(|place| even.took(place, Duration::from_millis(10), false, now));
    let works: Vec<_> = (0..20).filter_map(|_| even.begin(2, now)).collect();
    let busy = shares(&even, 10_000, now, &chance);
    assert!(busy[2] < 1_000, "only where chance names it twice: {busy:?}");
    assert_eq!(even.state(2).map(|state| state.underway()), Some(20));
    drop(works);
    assert_eq!(even.state(2).map(|state| state.underway()), Some(0), "all of it is over");
    assert!(shares(&even, 10_000, now, &chance)[2] > 2_000);
}

#[test]
fn a_slow_member_is_avoided_until_its_slowness_is_forgotten() {
    let (now, chance) = (Instant::now(), Chance::seeded(3));
    let of = balancer(&members(Choose::LeastLoaded, &equal(3)), now);
    (0..3).for_each(|place| of.took(place, Duration::from_millis(if place == 1 { 400 } else { 20 }), false, now));
    assert!(shares(&of, 9_000, now, &chance)[1] < 1_300);
    let later = now + DECAY * 5;
    [0, 2].into_iter().for_each(|place| of.took(place, Duration::from_millis(20), false, later));
    assert!(shares(&of, 9_000, later, &chance)[1] > 2_500, "it is asked again");
}

#[test]
fn a_member_that_has_answered_nothing_yet_or_hangs_is_not_taken_for_a_fast_one() {
    let (start, chance) = (Instant::now(), Chance::seeded(9));
    let of = balancer(&members(Choose::LeastLoaded, &equal(2)), start);
    of.took(0, Duration::from_millis(10), false, start);
    let hangs = of.begin(1, start);
    assert!(shares(&of, 1_000, start, &chance)[1] < 350, "one answers in 10 ms, of the other nothing is known");
    let later = start + Duration::from_secs(60);
    of.took(0, Duration::from_secs(2), false, later);
    assert!(shares(&of, 1_000, later, &chance)[1] < 350, "a minute of silence is worse than two seconds");
    drop(hangs);
    assert!(shares(&of, 1_000, later, &chance)[1] > 650, "nobody waits there");
}

#[test]
fn measured_members_that_idle_share_by_weight() {
    let (now, chance) = (Instant::now(), Chance::seeded(10));
    let of = balancer(&members(Choose::LeastLoaded, &[(9, None, false), (1, None, false)]), now);
    [0, 1].into_iter().for_each(|place| of.took(place, Duration::from_millis(20), false, now));
    let seldom = shares(&of, 10_000, now, &chance)[1];
    assert!((800..1_200).contains(&seldom), "a tenth: {seldom}");
}

#[test]
fn a_latency_rises_at_once_and_falls_slowly() {
    let now = Instant::now();
    let of = balancer(&members(Choose::LeastLoaded, &equal(2)), now);
    let latency = |at: Instant| of.state(0).expect("there").latency(at);
    of.took(0, Duration::from_millis(10), false, now);
    of.took(0, Duration::from_millis(500), false, now);
    assert_eq!(latency(now), 0.5);
    of.took(0, Duration::from_millis(10), false, now + Duration::from_secs(1));
    let after = latency(now + Duration::from_secs(1));
    assert!((0.44..0.46).contains(&after), "{after}");
    of.took(0, Duration::from_millis(1), true, now + DECAY * 3);
    assert_eq!(latency(now + DECAY * 3), 1.0, "a fast failure is not fast");
}

#[test]
fn a_tier_serves_where_no_earlier_one_is_left() {
    let (now, chance) = (Instant::now(), Chance::seeded(4));
    let list = [(1, Some("a"), false), (1, Some("b"), false), (1, Some("a"), true), (1, None, true)];
    let of = balancer(&Members { zone: Some("a".into()), ..members(Choose::LeastLoaded, &list) }, now);
    assert_eq!(shares(&of, 100, now, &chance), [100, 0, 0, 0], "its own zone");
    let next = |passed| of.next(passed, None, now, &chance);
    assert_eq!([next(0b0001), next(0b0011), next(0b0111), next(0b1111)], [Some(1), Some(2), Some(3), None]);
}

#[test]
fn a_member_that_begins_again_comes_up_to_its_share() {
    let (start, chance) = (Instant::now(), Chance::seeded(5));
    let terms = Members { slow_start: Duration::from_secs(100), ..members(Choose::LeastLoaded, &equal(2)) };
    let of = balancer(&terms, start);
    let now = start + Duration::from_secs(100);
    of.begins(1, now);
    let first = shares(&of, 10_000, now, &chance)[1];
    assert!((600..1_300).contains(&first), "a tenth against the whole: {first}");
    let half = shares(&of, 10_000, now + Duration::from_secs(50), &chance)[1];
    assert!((2_900..3_800).contains(&half), "{half}");
    let whole = shares(&of, 10_000, now + Duration::from_secs(100), &chance)[1];
    assert!((4_600..5_400).contains(&whole), "{whole}");
}

#[test]
fn without_a_key_a_sticky_choice_goes_by_load() {
    let (now, chance) = (Instant::now(), Chance::seeded(6));
    let of = balancer(&members(sticky(), &equal(2)), now);
    assert!(shares(&of, 1_000, now, &chance).iter().all(|share| *share > 400));
}

#[test]
fn keys_share_by_weight_and_the_keys_of_a_lost_member_alone_move() {
    let (now, chance) = (Instant::now(), Chance::seeded(7));
    let of = balancer(&members(sticky(), &[(1, None, false), (2, None, false), (1, None, false)]), now);
    let mut shares = [0; 3];
    for key in 0..20_000_u64 {
        let key = mixed(key);
        let place = of.next(0, Some(key), now, &chance).expect("one is left");
        assert_eq!(of.next(0, Some(key), now, &chance), Some(place), "the same member for the same key");
        shares[place] += 1;
        let without = of.next(0b001, Some(key), now, &chance);
        assert!(place == 0 || without == Some(place), "the others' keys stay");
    }
    assert!((9_500..10_500).contains(&shares[1]) && (4_600..5_400).contains(&shares[0]), "{shares:?}");
}

#[test]
fn the_same_members_stick_to_the_same_keys_in_every_process() {
    let (now, chance) = (Instant::now(), Chance::seeded(8));
    let of = balancer(&members(sticky(), &equal(5)), now);
    let places: Vec<_> = [1, 2, 3, 4, 5, 6].map(|key| of.next(0, Some(key), now, &chance)).into();
    assert_eq!(places, [0, 3, 4, 4, 2, 0].map(Some), "as fixed when this was written");
}

proptest! {
    #[test]
    fn a_choice_is_never_one_that_was_passed_over(
        list in prop::collection::vec((1_u32..100, prop::option::of(prop::sample::select(vec!["a", "b"])), any::<bool>()), 1..64),
        passed: u64,
        key: Option<u64>,
        seed: u64,
        way in 0..3,
    ) {
        let (now, chance) = (Instant::now(), Chance::seeded(seed));
        let choose = [Choose::LeastLoaded, Choose::InTurn, sticky()][way as usize].clone();
        let of = balancer(&Members { zone: Some("a".into()), ..members(choose, &list) }, now);
        match of.next(passed, key, now, &chance) {
            Some(place) => prop_assert!(place < list.len() && passed & 1 << place == 0),
            None => prop_assert_eq!(of.all() & !passed, 0),
        }
    }
}
