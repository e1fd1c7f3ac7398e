//! Each rule that goes by time or by a sample, on a clock of its own: when it begins, when it ends, and what is no incident.

use super::{Counts, Engine, Facts, Gauge, Route, Standing, Totals, What};
use crate::config::{AlertRule, Measure, Severity};

/// 2027-01-15T08:00:00Z.
const BEGIN: u64 = 1_800_000_000;

/// The rule of a measure; thresholds of a usual one are kept if none is given.
fn rule(of: Measure, warning: Option<f64>) -> AlertRule {
    let usual = AlertRule::usual(of).unwrap_or_else(|| AlertRule { of, ..AlertRule::usual(Measure::Spike).expect("usual") });
    let thresholds = warning.map_or(usual.thresholds, |at| [None, Some(at), None]);
    AlertRule { name: of.as_str().into(), thresholds, ..usual }
}

/// What happens in these seconds, one look each: second, change, severity.
fn play(engine: &mut Engine, seconds: std::ops::Range<u64>, facts: impl Fn(u64) -> Facts) -> Vec<(u64, What, Severity)> {
    let look = |second: u64| {
        let now = (BEGIN + second) * 1_000;
        let changes = engine.step(&Facts { wall: now, steady: now, ..facts(second) });
        changes.into_iter().map(move |change| (second, change.what, change.incident.severity))
    };
    seconds.flat_map(look).collect()
}

fn gauge(of: Measure, value: f64) -> Facts {
    Facts { gauges: vec![Gauge { of, subject: "one".into(), value, says: "v".into(), ..Gauge::default() }], ..Facts::default() }
}

/// Seconds of `part` before `second`.
fn within(second: u64, part: std::ops::Range<u64>) -> u64 {
    second.clamp(part.start, part.end) - part.start
}

#[test]
fn hit_rate_is_about_lookups_and_needs_enough_of_them() {
    let of = |lookups: u64, hits: u64| {
        // Requests that are not looked up count for nothing.
        let counts = Counts { requests: 1_000 + lookups * 9, lookups, hits, ..Counts::default() };
        Facts { routes: vec![Route { door: "inbound".into(), name: "a".into(), counts }], ..Facts::default() }
    };
    // Ten lookups a second: nine of them are answered, from second 100 to 400 two.
    let facts = |second: u64| of(second * 10, second * 9 - within(second, 100..400) * 7);
    let told = play(&mut Engine::new(vec![rule(Measure::HitRate, Some(0.5))]), 0..600, facts);
    let [(began, What::Opened, Severity::Warning), (over, What::Recovered, _)] = told[..] else { panic!("{told:?}") };
    assert!((130..145).contains(&began) && (430..445).contains(&over), "{told:?}");
    // Ten lookups in ten minutes, all in vain, and a few more of which six in ten are answered: nothing is proved.
    let told = |facts: &dyn Fn(u64) -> Facts| play(&mut Engine::new(vec![rule(Measure::HitRate, Some(0.5))]), 0..600, facts);
    assert_eq!(told(&|second| of(second / 60, 0)), []);
    assert_eq!(told(&|second| of(second, second * 6 / 10)), []);
}

#[test]
fn spike_is_ten_times_the_usual_hour_and_no_small_change() {
    /// Nano-dollars of a second at this many dollars an hour.
    fn a_second(dollars: f64) -> f64 {
        dollars * 1e9 / 3_600.0
    }
    let spent = |usual: Option<u64>, dollars: f64| {
        move |second: u64| {
            let nano = a_second(0.5) * second as f64 + a_second(dollars) * within(second, 1_000..2_000) as f64;
            Facts { usual, totals: Totals { nano_usd: nano as u64, ..Totals::default() }, ..Facts::default() }
        }
    };
    let alarms = |usual, dollars| play(&mut Engine::new(vec![rule(Measure::Spike, None)]), 0..3_000, spent(usual, dollars));
    let told = alarms(Some(1_000_000_000), 12.0);
    let [(began, What::Opened, Severity::Warning), (over, What::Recovered, _)] = told[..] else { panic!("{told:?}") };
    assert!((1_030..1_330).contains(&began) && (2_030..2_340).contains(&over), "{told:?}");
    assert_eq!(alarms(Some(1_000_000_000), 9.0), [], "nine and a half times as much is none");
    assert_eq!(alarms(None, 12.0), [], "nobody knows what is usual");
    assert_eq!(alarms(Some(1_000_000), 0.5), [], "a thousand times as much, but cents");
}

#[test]
fn unattributed_is_a_share_of_the_calls() {
    let facts = |calls: u64, share: f64| {
        move |second: u64| {
            let calls = calls * second;
            let unattributed = (calls as f64 * share) as u64;
            Facts { totals: Totals { calls, unattributed, ..Totals::default() }, ..Facts::default() }
        }
    };
    let told = |calls, share| play(&mut Engine::new(vec![rule(Measure::Unattributed, None)]), 0..600, facts(calls, share));
    let [(began, What::Opened, Severity::Low)] = told(10, 0.9)[..] else { panic!("{:?}", told(10, 0.9)) };
    assert!((60..75).contains(&began), "{began}");
    assert_eq!(told(10, 0.4), []);
    assert_eq!(told(0, 0.0), [], "no call is no share");
}

/// A share of `rate` a second: `bad` from second 100 on, `near` from 400 on, `good` before and after 700.
fn shares(rate: u64, [good, bad, near]: [f64; 3], second: u64) -> (u64, u64) {
    let part = |from, to, share: f64| (within(second, from..to) * rate) as f64 * share;
    let some = part(0, 100, good) + part(100, 400, bad) + part(400, 700, near) + part(700, 1_000, good);
    (second * rate, some.round() as u64)
}

#[test]
fn a_hit_rate_begins_an_incident_only_if_chance_cannot_explain_it_and_ends_it_when_it_is_good_itself() {
    let play_with = |rate: u64, of: [f64; 3]| {
        let facts = move |second: u64| {
            let (lookups, hits) = shares(rate, of, second);
            let counts = Counts { requests: lookups, lookups, hits, ..Counts::default() };
            Facts { routes: vec![Route { door: "inbound".into(), name: "a".into(), counts }], ..Facts::default() }
        };
        play(&mut Engine::new(vec![rule(Measure::HitRate, Some(0.5))]), 0..1_000, facts)
    };
    assert_eq!(play_with(1, [0.9, 0.4, 0.4]), [], "two in five of sixty may be chance");
    let told = play_with(10, [0.9, 0.1, 0.45]);
    let [(began, What::Opened, _), (over, What::Recovered, _)] = told[..] else { panic!("{told:?}") };
    assert!((130..150).contains(&began) && (730..750).contains(&over), "45% begin nothing, and end nothing: {told:?}");
}

#[test]
fn an_unattributed_share_begins_an_incident_only_if_chance_cannot_explain_it_and_ends_it_when_it_is_good_itself() {
    let play_with = |rate: u64, of: [f64; 3]| {
        let facts = move |second: u64| {
            let (calls, unattributed) = shares(rate, of, second);
            Facts { totals: Totals { calls, unattributed, ..Totals::default() }, ..Facts::default() }
        };
        play(&mut Engine::new(vec![rule(Measure::Unattributed, None)]), 0..1_000, facts)
    };
    assert_eq!(play_with(1, [0.1, 0.6, 0.6]), [], "three in five of sixty may be chance");
    let told = play_with(10, [0.1, 0.9, 0.55]);
    let [(began, What::Opened, Severity::Low), (over, What::Recovered, _)] = told[..] else { panic!("{told:?}") };
    assert!((160..180).contains(&began) && (730..750).contains(&over), "55% begin nothing, and end nothing: {told:?}");
}

#[test]
fn certificate_and_projection_are_times_that_are_left() {
    const DAY: f64 = 86_400.0;
    let days = |second: u64| match second {
        0..10 => 20.0,
        10..20 => 13.9,
        20..30 => 2.9,
        30..40 => -1.0,
        _ => 90.0,
    };
    let told =
        play(&mut Engine::new(vec![rule(Measure::Certificate, None)]), 0..100, |second| gauge(Measure::Certificate, days(second) * DAY));
    assert_eq!(
        told,
        [(10, What::Opened, Severity::Warning), (20, What::Worse, Severity::Critical), (70, What::Recovered, Severity::Critical)],
        "one that has expired stays an incident"
    );
    let left = |scope: f64, most: Option<Severity>| {
        move |second: u64| {
            let mut facts = gauge(Measure::Projection, if (100..400).contains(&second) { 1_800.0 } else { 50_000.0 });
            (facts.gauges[0].scope, facts.gauges[0].most) = (scope, most);
            facts
        }
    };
    let told = |scope, most| play(&mut Engine::new(vec![rule(Measure::Projection, None)]), 0..600, left(scope, most));
    assert_eq!(told(DAY, None), [(160, What::Opened, Severity::Warning), (430, What::Recovered, Severity::Warning)]);
    assert_eq!(told(DAY, Some(Severity::Low))[0], (160, What::Opened, Severity::Low), "a user's own limit");
    assert_eq!(told(3.9 * 3_600.0, None), [], "an hour is nothing special for a limit of less than four hours");
    assert_eq!(told(4.0 * 3_600.0, None).len(), 2);
}

#[test]
fn reload_and_memory_are_told_at_their_thresholds() {
    let refused = Standing { of: Measure::Reload, subject: "configuration".into(), says: "refused".into(), most: None };
    let standing =
        |second: u64| Facts { standing: if (10..50).contains(&second) { vec![refused.clone()] } else { Vec::new() }, ..Facts::default() };
    let told = play(&mut Engine::new(vec![rule(Measure::Reload, None)]), 0..200, standing);
    assert_eq!(told, [(10, What::Opened, Severity::Warning), (80, What::Recovered, Severity::Warning)]);
    let held = |second: u64| gauge(Measure::Memory, [0.87, 0.9, 0.96, 0.5][(second / 100) as usize]);
    let told = play(&mut Engine::new(vec![rule(Measure::Memory, None)]), 0..400, held);
    assert_eq!(
        told,
        [(102, What::Opened, Severity::Warning), (200, What::Worse, Severity::Critical), (330, What::Recovered, Severity::Critical)]
    );
}

#[test]
fn the_list_of_rules_is_whole_and_all_but_two_are_usual() {
    let words: Vec<&str> = Measure::ALL.iter().map(|of| of.as_str()).collect();
    let wanted = "p95 error_rate spike hit_rate memory spend projection breaker keys unattributed certificate redis dropped no_traffic";
    assert!(wanted.split(' ').all(|word| words.contains(&word)), "{words:?}");
    let unusual = Measure::ALL.iter().filter(|of| AlertRule::usual(**of).is_none()).map(|of| of.as_str());
    assert_eq!(unusual.collect::<Vec<_>>(), ["p95", "hit_rate"]);
}
