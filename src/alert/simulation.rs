//! A thousand labelled incidents on a clock of their own: each is noticed within ten seconds and told to be over, nothing else is told,
//! and nobody is told too often.

use std::collections::HashMap;

use jiff::tz::TimeZone;

use super::{
    dispatch::{BURST, Dispatch, Terms},
    engine::Engine,
    facts::{Counts, Facts, Gauge, Route, Standing, Totals},
    notice::Kind,
};
use crate::{
    clock::Chance,
    config::{AlertRule, Measure},
};

/// Incidents, ten in each round.
const INCIDENTS: u64 = 1_000;
/// Seconds of a round.
const ROUND: u64 = 900;
/// A subject has trouble in every fourth round: its incidents are an hour apart.
const SUBJECTS: u64 = 4;
/// 2027-01-15T08:00:00Z.
const BEGIN: u64 = 1_800_000_000;
const BOUNDS: &[u64] = &[100_000_000, 500_000_000, 1_000_000_000, 2_500_000_000, 5_000_000_000, 10_000_000_000];

/// One labelled incident.
#[derive(Debug)]
struct Label {
    of: Measure,
    subject: String,
    from: u64,
    to: u64,
    noticed: Option<u64>,
    recovered: Option<u64>,
}

/// The kinds of a round, and how their subjects are called.
const KINDS: [Measure; 10] = [
    Measure::ErrorRate,
    Measure::P95,
    Measure::Breaker,
    Measure::Redis,
    Measure::Memory,
    Measure::Keys,
    Measure::Ledger,
    Measure::Spend,
    Measure::Dropped,
    Measure::NoTraffic,
];

fn subject(of: Measure, n: u64) -> String {
    match of {
        Measure::ErrorRate => format!("inbound route e{n}"),
        Measure::P95 => format!("inbound route s{n}"),
        Measure::Dropped => "proxy".into(),
        Measure::NoTraffic => "inbound".into(),
        of => format!("{}{n}", of.as_str()),
    }
}

fn labels(chance: &Chance) -> Vec<Label> {
    let within = |least: u64, most: u64| least + (chance.unit() * (most - least) as f64) as u64;
    let one = |n: u64| {
        let (round, of) = (n / KINDS.len() as u64, KINDS[(n % KINDS.len() as u64) as usize]);
        // The first hours are calm: silence means something only after them. Silence hides what routes would show, so it comes last.
        let begin = 8 * ROUND + round * ROUND + if of == Measure::NoTraffic { 600 } else { within(30, 240) };
        let lasts = if of == Measure::NoTraffic { within(20, 60) } else { within(45, 240) };
        Label { of, subject: subject(of, round % SUBJECTS), from: begin, to: begin + lasts, noticed: None, recovered: None }
    };
    (0..INCIDENTS).map(one).collect()
}

/// The world that is measured: routes with traffic, and what stands.
struct Nature {
    chance: Chance,
    routes: HashMap<String, Counts>,
    totals: Totals,
}

impl Nature {
    /// Requests of a second to a route that is hit by `trouble`.
    fn traffic(&mut self, door: &str, name: &str, rate: f64, trouble: Option<&Label>) {
        let counts =
            self.routes.entry(name.to_owned()).or_insert_with(|| Counts { buckets: vec![0; 7], bounds: BOUNDS, ..Counts::default() });
        let mut n = 0;
        // Knuth's way to draw a Poisson number.
        let (limit, mut product) = ((-rate).exp(), self.chance.unit());
        while product > limit {
            n += 1;
            product *= self.chance.unit();
        }
        for _ in 0..n {
            let failing = trouble.is_some_and(|label| label.of == Measure::ErrorRate);
            let slow = trouble.is_some_and(|label| label.of == Measure::P95);
            counts.requests += 1;
            counts.errors += u64::from(self.chance.unit() < if failing { 0.6 } else { 0.005 });
            let bucket = match self.chance.unit() {
                draw if draw < if slow { 0.5 } else { 0.004 } => 5,
                draw if draw < 0.6 => 1,
                _ => 0,
            };
            counts.buckets[bucket] += 1;
        }
        if door == "inbound" {
            self.totals.arrivals += n;
        }
    }

    fn look(&mut self, second: u64, active: &[&Label]) -> Facts {
        let label = |of: Measure, n: u64| active.iter().copied().find(|label| label.of == of && label.subject == subject(of, n));
        let silent = active.iter().any(|label| label.of == Measure::NoTraffic);
        if !silent {
            for n in 0..SUBJECTS {
                self.traffic("inbound", &format!("e{n}"), 5.0 + 10.0 * n as f64, label(Measure::ErrorRate, n));
                self.traffic("inbound", &format!("s{n}"), 5.0 + 10.0 * n as f64, label(Measure::P95, n));
            }
            // Few requests with many errors: nothing can be concluded from them.
            self.traffic("inbound", "rare", 0.05, None);
        }
        self.totals.lost += u64::from(active.iter().any(|label| label.of == Measure::Dropped));
        let (mut gauges, mut standing) = (Vec::new(), Vec::new());
        for n in 0..SUBJECTS {
            for of in [Measure::Memory, Measure::Keys, Measure::Spend] {
                let calm = if of == Measure::Keys { 0.0 } else { 0.3 + 0.5 * self.chance.unit() };
                let value = if label(of, n).is_some() { 0.96 } else { calm.min(0.79) };
                gauges.push(Gauge { of, subject: subject(of, n).into(), value, says: "v".into(), ..Gauge::default() });
            }
            for of in [Measure::Breaker, Measure::Redis, Measure::Ledger] {
                // A blink of two seconds now and then is no outage of Redis or of the disk.
                let blinks = of != Measure::Breaker && second % 700 < 2;
                if blinks || label(of, n).is_some() {
                    standing.push(Standing { of, subject: subject(of, n).into(), says: "v".into(), most: None });
                }
            }
        }
        let route =
            |(name, counts): (&String, &Counts)| Route { door: "inbound".into(), name: name.as_str().into(), counts: counts.clone() };
        let routes = self.routes.iter().map(route).collect();
        let millis = (BEGIN + second) * 1_000;
        Facts { wall: millis, steady: millis, routes, totals: self.totals, usual: None, gauges, standing }
    }
}

fn rules() -> Vec<AlertRule> {
    let mut rules: Vec<AlertRule> = Measure::ALL.iter().filter_map(|of| AlertRule::usual(*of)).collect();
    let usual = rules[0].clone();
    rules.push(AlertRule { name: "p95".into(), of: Measure::P95, thresholds: [None, Some(2.0), None], ..usual });
    for rule in &mut rules {
        if rule.of == Measure::NoTraffic {
            rule.thresholds = [None, Some(5.0), None];
        }
    }
    rules
}

#[test]
fn each_of_a_thousand_incidents_is_noticed_within_ten_seconds_and_nothing_else_is() {
    let seed = 1;
    let mut labels = labels(&Chance::seeded(seed));
    let mut nature = Nature { chance: Chance::seeded(seed + 100), routes: HashMap::new(), totals: Totals::default() };
    let mut engine = Engine::new(rules());
    let terms = Terms {
        group: 2_000,
        remind: Some(4 * 3_600_000),
        quiet: Vec::new(),
        digest: None,
        tz: TimeZone::UTC,
        service: "shop".into(),
        runbooks: None,
        instance: "i".into(),
    };
    let mut dispatch = Dispatch::new(terms);
    let (mut false_alarms, mut notices, mut minute) = (Vec::new(), 0, (0, 0));
    let end = (8 + INCIDENTS / KINDS.len() as u64 + 2) * ROUND;
    for second in 0..end {
        let active: Vec<&Label> = labels.iter().filter(|label| (label.from..label.to).contains(&second)).collect();
        let facts = nature.look(second, &active);
        let changes = engine.step(&facts);
        for notice in dispatch.step(facts.wall, changes) {
            notices += 1;
            minute = if minute.0 == second / 60 { (minute.0, minute.1 + 1) } else { (second / 60, 1) };
            assert!(minute.1 <= BURST, "a storm at {second}");
            for item in &notice.items {
                let mine = |label: &&mut Label| label.of.as_str() == item.rule && label.subject == item.subject && label.from <= second;
                match (labels.iter_mut().rev().find(mine), notice.kind) {
                    (Some(label), Kind::Firing) if label.noticed.is_none() && second < label.to + 10 => label.noticed = Some(second),
                    (Some(label), Kind::Firing) if second < label.to => {}
                    (Some(label), Kind::Resolved) if label.recovered.is_none() => label.recovered = Some(second),
                    (Some(_), Kind::Reminder) => {}
                    _ => false_alarms.push((second, notice.kind, item.rule.clone(), item.subject.clone(), item.says.clone())),
                }
            }
        }
    }
    assert!(false_alarms.is_empty(), "{} false alarms: {:?}", false_alarms.len(), &false_alarms[..false_alarms.len().min(10)]);
    let late: Vec<&Label> = labels.iter().filter(|label| label.noticed.is_none_or(|at| at > label.from + 10)).collect();
    assert!(late.is_empty(), "{} late: {:#?}", late.len(), &late[..late.len().min(5)]);
    let lasting: Vec<&Label> = labels.iter().filter(|label| label.recovered.is_none()).collect();
    assert!(lasting.is_empty(), "{} not over: {:#?}", lasting.len(), &lasting[..lasting.len().min(5)]);
    // A beginning, perhaps a worsening, an end.
    assert!(notices <= 3 * INCIDENTS, "{notices} notices");
    let worst = labels.iter().filter_map(|label| Some(label.noticed? - label.from)).max();
    println!("seed {seed}: {INCIDENTS} incidents, {notices} notices, slowest noticed after {worst:?} s");
}
