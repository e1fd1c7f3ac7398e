//! Going on with the incidents of a process before, and ending those whose rule is gone.
//!
//! An incident of the process before stays open until the first full evaluation of its rule: a share needs its sample again, silence a
//! request, and a state that stands is as old as it was.

use std::{collections::BTreeMap, sync::Arc};

use super::{Change, Engine, Incident, Track, What, steady};
use crate::{
    alert::trail::WINDOWS,
    config::{AlertRule, Measure},
};

/// Time in which no value proves nothing, in milliseconds: a sample comes together in the longest window.
fn patience(of: Measure) -> u64 {
    match of {
        Measure::ErrorRate | Measure::P95 | Measure::HitRate | Measure::Unattributed | Measure::Spike | Measure::Projection => {
            WINDOWS[WINDOWS.len() - 1]
        }
        _ => 0,
    }
}

/// Steady time at which the value of an open incident began to grow; before the start of the clock if it is older.
fn began(rule: &AlertRule, incident: &Incident, now: (u64, u64)) -> i64 {
    let first = rule.thresholds.iter().flatten().copied().fold(f64::INFINITY, f64::min);
    let grown = if first.is_finite() { (first * 1e3) as u64 } else { 0 };
    let age = now.1.saturating_sub(incident.since).saturating_add(grown);
    steady(now.0).saturating_sub(steady(age))
}

fn holds(rules: &[AlertRule], incident: &Incident) -> bool {
    rules.iter().any(|rule| rule.name == incident.rule && rule.of == incident.of)
}

fn end(mut incident: Incident, wall: u64) -> Change {
    incident.until = Some(wall.max(incident.since));
    incident.says = format!("the rule {} is gone", incident.rule);
    Change { what: What::Recovered, incident }
}

impl Engine {
    /// Goes on with incidents of a process before, at `now` (steady and wall time). Gives the ends of those whose rule is gone.
    pub fn resume(&mut self, incidents: Vec<Incident>, now: (u64, u64)) -> Vec<Change> {
        let mut ends = Vec::new();
        for incident in incidents {
            let Some(rule) = self.rules.iter().find(|rule| rule.name == incident.rule && rule.of == incident.of) else {
                ends.push(end(incident, now.1));
                continue;
            };
            let began = began(rule, &incident, now);
            match rule.of {
                Measure::NoTraffic => self.silence.resume(began),
                of => drop(self.standing.insert((of, incident.subject.clone()), began)),
            }
            let unproved = Some(patience(rule.of)).filter(|wait| *wait > 0).map(|wait| now.0 + wait);
            let key = (incident.rule.clone(), incident.subject.clone());
            self.tracks.insert(key, Track { open: Some(incident), unproved, ..Track::new() });
        }
        ends
    }

    /// Other rules from now on. Gives the ends of the incidents whose rule is gone; `wall` is wall time in milliseconds.
    pub fn set_rules(&mut self, rules: Vec<AlertRule>, wall: u64) -> Vec<Change> {
        let kept = |track: &Track, name: &Arc<str>| match &track.open {
            Some(incident) => holds(&rules, incident),
            None => rules.iter().any(|rule| rule.name == *name),
        };
        let (stay, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.tracks).into_iter().partition(|((name, _), track)| kept(track, name));
        self.tracks = stay;
        self.rules = rules;
        gone.into_values().filter_map(|track| track.open).map(|incident| end(incident, wall)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        alert::{Counts, Facts, Route, Standing, Totals},
        config::Severity,
    };

    /// The time at which the process before was last seen.
    const WALL: u64 = 1_800_000_000_000;

    fn incident(of: Measure, subject: &str, age: u64) -> Incident {
        Incident {
            id: super::super::id(of.as_str(), subject),
            rule: of.as_str().into(),
            of,
            subject: subject.into(),
            severity: Severity::Warning,
            since: WALL - age * 1_000,
            until: None,
            says: "s".into(),
        }
    }

    /// An engine that goes on with this incident, as a new process does: its clock begins at one second.
    fn resumed(of: Measure, subject: &str, age: u64) -> Engine {
        let mut engine = Engine::new(vec![AlertRule::usual(of).expect("usual")]);
        assert!(engine.resume(vec![incident(of, subject, age)], (1_000, WALL)).is_empty());
        engine
    }

    /// The changes of these seconds, each with its second.
    fn play(engine: &mut Engine, seconds: std::ops::Range<u64>, facts: impl Fn(u64) -> Facts) -> Vec<(u64, What)> {
        let look = |second| {
            let facts = Facts { wall: WALL + second * 1_000, steady: 1_000 + second * 1_000, ..facts(second) };
            engine.step(&facts).into_iter().map(move |change| (second, change.what))
        };
        seconds.flat_map(look).collect()
    }

    fn redis(away: bool) -> Facts {
        let standing = Standing { of: Measure::Redis, subject: "redis".into(), says: "away".into(), most: None };
        Facts { standing: if away { vec![standing] } else { Vec::new() }, ..Facts::default() }
    }

    #[test]
    fn what_still_stands_is_no_new_incident_and_is_as_old_as_it_was() {
        let mut engine = resumed(Measure::Redis, "redis", 500);
        // It is critical after 600 s; the warning came after 5 s.
        assert_eq!(play(&mut engine, 0..200, |_| redis(true)), [(95, What::Worse)]);
        assert_eq!(play(&mut engine, 200..300, |_| redis(false)), [(230, What::Recovered)]);
    }

    #[test]
    fn what_is_over_is_told_to_be_over() {
        let mut engine = resumed(Measure::Breaker, "openai", 60);
        assert_eq!(play(&mut engine, 0..100, |_| Facts::default()), [(30, What::Recovered)]);
        assert!(engine.open().is_empty());
    }

    #[test]
    fn a_share_waits_for_its_sample_but_not_for_ever() {
        let route = |errors: u64, requests: u64| {
            let counts = Counts { requests, errors, ..Counts::default() };
            Facts { routes: vec![Route { door: "inbound".into(), name: "a".into(), counts }], ..Facts::default() }
        };
        let of = (Measure::ErrorRate, "inbound route a");
        let mut engine = resumed(of.0, of.1, 60);
        assert_eq!(play(&mut engine, 0..120, |_| Facts::default()), [], "nobody has asked yet: nothing is known");
        assert_eq!(
            play(&mut engine, 120..240, |second| route((second - 120) * 10, (second - 120) * 10)),
            [(122, What::Worse)],
            "it goes on"
        );
        let mut engine = resumed(of.0, of.1, 60);
        assert_eq!(play(&mut engine, 0..120, |second| route(0, second * 10)), [(32, What::Recovered)], "30 s after the first sample");
        let mut engine = resumed(of.0, of.1, 60);
        assert_eq!(play(&mut engine, 0..600, |_| Facts::default()), [(330, What::Recovered)], "as after five silent minutes");
    }

    #[test]
    fn silence_goes_on_until_a_request_comes() {
        let mut engine = resumed(Measure::NoTraffic, "inbound", 900);
        let facts = |arrivals| Facts { totals: Totals { arrivals, ..Totals::default() }, ..Facts::default() };
        assert_eq!(play(&mut engine, 0..1_000, |_| facts(0)), []);
        assert_eq!(play(&mut engine, 1_000..1_100, |_| facts(1)), [(1_030, What::Recovered)]);
    }

    #[test]
    fn rules_that_go_end_their_incidents() {
        let mut engine = Engine::new(vec![AlertRule::usual(Measure::Memory).expect("usual")]);
        let ends = engine.resume(vec![incident(Measure::Breaker, "openai", 60)], (1_000, WALL));
        assert_eq!((ends.len(), ends[0].what, ends[0].incident.until), (1, What::Recovered, Some(WALL)));
        let mut engine = resumed(Measure::Breaker, "openai", 60);
        assert!(engine.set_rules(vec![AlertRule::usual(Measure::Breaker).expect("usual")], WALL).is_empty());
        let ends = engine.set_rules(vec![AlertRule::usual(Measure::Redis).expect("usual")], WALL + 5);
        assert_eq!((ends.len(), ends[0].incident.until, ends[0].incident.says.as_str()), (1, Some(WALL + 5), "the rule breaker is gone"));
        assert!(engine.open().is_empty() && play(&mut engine, 0..100, |_| redis(false)).is_empty());
    }
}
