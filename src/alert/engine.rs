//! The life of an incident: a value is bad for long enough, gets worse, and is good for long enough.
//!
//! An incident that comes back soon after its end must be good for twice as long as before, up to [`LONGEST_RECOVERY`]: a value that
//! goes to and fro makes one long incident and no storm. One that comes later is a new incident.

mod resume;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    carry,
    facts::{Counts, Facts, Gauge, Standing, Totals},
    findings::{self, Finding},
    trail::Trail,
};
use crate::config::{AlertRule, Measure, Severity};

/// The longest time for which a value must be good, in milliseconds: 16 minutes.
pub const LONGEST_RECOVERY: u64 = 16 * 60_000;
/// An incident that begins within this many recovery times of the end of the last one has come back.
const AGAIN: u64 = 10;
/// Most subjects of all rules that are followed; further ones are not.
const MOST: usize = 2_048;
/// Requests of an hour below which silence means nothing.
const BUSY: u64 = 60;

/// An incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// The same for the same rule and subject on every replica.
    pub id: String,
    /// The rule.
    pub rule: Arc<str>,
    /// What it measures.
    #[serde(with = "carry::measure")]
    pub of: Measure,
    /// Whose value.
    pub subject: Arc<str>,
    /// The worst so far.
    pub severity: Severity,
    /// Wall time at which it began, in milliseconds since 1970.
    pub since: u64,
    /// Wall time at which it ended.
    pub until: Option<u64>,
    /// In a sentence.
    pub says: String,
}

/// What happened to an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It began.
    Opened,
    /// It matters more than before.
    Worse,
    /// It is over.
    Recovered,
    /// Another replica tells what happens to it. The engine gives no such change.
    Elsewhere,
    /// This replica reminds of it from now on, in the place of one that is gone. The engine gives no such change.
    Taken,
    /// It is over here, and others may still see it: they tell and remind from now on. The engine gives no such change.
    Left,
}

/// A change of an incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub what: What,
    /// The incident after it.
    pub incident: Incident,
}

/// One subject of one rule.
#[derive(Debug)]
struct Track {
    /// Steady and wall time since which the value has been bad.
    bad: Option<(u64, u64)>,
    /// Steady and wall time since which the value has been good.
    good: Option<(u64, u64)>,
    open: Option<Incident>,
    /// Steady time until which no value is no proof that an incident of the process before is over.
    unproved: Option<u64>,
    /// Steady time until which an incident has come back.
    again_until: Option<u64>,
    /// How often it came back.
    again: u32,
}

/// The rules and all that they remember.
#[derive(Debug)]
pub struct Engine {
    rules: Vec<AlertRule>,
    routes: HashMap<Arc<str>, (Arc<str>, Trail<Counts>)>,
    totals: Trail<Totals>,
    /// Steady time since which it stands; before the start of the clock if a process before has seen it.
    standing: HashMap<(Measure, Arc<str>), i64>,
    silence: Silence,
    tracks: BTreeMap<(Arc<str>, Arc<str>), Track>,
}

/// How long there has been no request.
#[derive(Debug, Default)]
struct Silence {
    /// The count at the last look.
    arrivals: u64,
    /// Steady time of the last look that saw a request; before the start of the clock if a process before has seen it.
    last: Option<i64>,
    /// Whether a process before has told of the silence.
    told: bool,
    /// The minutes of the last hour with requests: steady minute and count.
    minutes: VecDeque<(u64, u64)>,
}

impl Silence {
    fn note(&mut self, now: u64, arrivals: u64) {
        let fresh = arrivals.saturating_sub(self.arrivals);
        self.arrivals = arrivals;
        if fresh == 0 {
            return;
        }
        self.last = Some(steady(now));
        self.told = false;
        match self.minutes.back_mut() {
            Some((minute, count)) if *minute == now / 60_000 => *count += fresh,
            _ => self.minutes.push_back((now / 60_000, fresh)),
        }
        while self.minutes.front().is_some_and(|(minute, _)| minute + 60 <= now / 60_000) {
            self.minutes.pop_front();
        }
    }

    /// Seconds of silence, if the hour before it was busy.
    fn seconds(&self, now: u64) -> Option<f64> {
        let busy = self.told || self.minutes.iter().map(|(_, count)| count).sum::<u64>() >= BUSY;
        self.last.filter(|_| busy).map(|last| since(now, last))
    }

    /// Goes on with a silence that a process before has told of.
    fn resume(&mut self, last: i64) {
        (self.last, self.told) = (Some(last), true);
    }
}

impl Engine {
    /// These rules, and nothing seen yet.
    pub fn new(rules: Vec<AlertRule>) -> Self {
        Self {
            rules,
            routes: HashMap::new(),
            totals: Trail::default(),
            standing: HashMap::new(),
            silence: Silence::default(),
            tracks: BTreeMap::new(),
        }
    }

    /// The incidents that are open, the worst and oldest first.
    pub fn open(&self) -> Vec<&Incident> {
        let mut open: Vec<&Incident> = self.tracks.values().filter_map(|track| track.open.as_ref()).collect();
        open.sort_by_key(|incident| (std::cmp::Reverse(incident.severity), incident.since));
        open
    }

    /// One look. Gives what has changed.
    pub fn step(&mut self, facts: &Facts) -> Vec<Change> {
        self.note(facts);
        let mut changes = Vec::new();
        for at in 0..self.rules.len() {
            let found = self.find(&self.rules[at], facts);
            let rule = &self.rules[at];
            follow(&mut self.tracks, rule, found, facts, &mut changes);
        }
        changes
    }

    /// Remembers the counts of this look.
    fn note(&mut self, facts: &Facts) {
        for route in &facts.routes {
            let subject: Arc<str> = format!("{} route {}", route.door, route.name).into();
            let (_, trail) = self.routes.entry(subject).or_insert_with(|| (route.name.clone(), Trail::default()));
            trail.push(facts.steady, route.counts.clone());
        }
        if self.routes.len() > facts.routes.len() {
            let known = |subject: &str| facts.routes.iter().any(|route| subject == format!("{} route {}", route.door, route.name));
            self.routes.retain(|subject, _| known(subject));
        }
        self.totals.push(facts.steady, facts.totals);
        self.silence.note(facts.steady, facts.totals.arrivals);
        let standing = |key: &(Measure, Arc<str>)| facts.standing.iter().any(|one| (one.of, &one.subject) == (key.0, &key.1));
        self.standing.retain(|key, _| standing(key));
        for one in &facts.standing {
            self.standing.entry((one.of, one.subject.clone())).or_insert(steady(facts.steady));
        }
    }

    fn find(&self, rule: &AlertRule, facts: &Facts) -> Vec<Finding> {
        match rule.of {
            Measure::ErrorRate | Measure::P95 | Measure::HitRate => {
                let routes = self.routes.iter().filter(|(_, (name, _))| rule.covers(name));
                routes.filter_map(|(subject, (_, trail))| findings::of_route(rule, subject, trail)).collect()
            }
            Measure::Unattributed | Measure::Dropped | Measure::Spike => {
                findings::of_totals(rule, facts, &self.totals).into_iter().collect()
            }
            Measure::NoTraffic => {
                let silent = self.silence.seconds(facts.steady);
                let says = |time| format!("no request has come for {}", findings::seconds(time));
                silent.map(|time| findings::of_value(rule, &"inbound".into(), time, &says(time))).into_iter().collect()
            }
            _ => {
                let least = rule.thresholds.iter().flatten().fold(0.0, |most: f64, at| most.max(*at)) * 4.0;
                let fits = |gauge: &&Gauge| rule.of != Measure::Projection || gauge.scope >= least;
                let gauges = facts.gauges.iter().filter(|gauge| gauge.of == rule.of && rule.covers(&gauge.subject)).filter(fits);
                let gauges = gauges.map(|gauge| {
                    let found = findings::of_value(rule, &gauge.subject, gauge.value, &gauge.says);
                    Finding { firm: at_most(found.firm, gauge.most), ..found }
                });
                let standing = facts.standing.iter().filter(|one| one.of == rule.of && rule.covers(&one.subject));
                gauges.chain(standing.map(|one| self.stands(rule, one, facts.steady))).collect()
            }
        }
    }

    fn stands(&self, rule: &AlertRule, one: &Standing, now: u64) -> Finding {
        let began = self.standing.get(&(one.of, one.subject.clone())).copied().unwrap_or(steady(now));
        let found = findings::of_value(rule, &one.subject, since(now, began), &one.says);
        Finding { firm: at_most(found.firm, one.most), says: one.says.clone(), ..found }
    }
}

/// Follows the subjects of a rule.
fn follow(
    tracks: &mut BTreeMap<(Arc<str>, Arc<str>), Track>,
    rule: &AlertRule,
    found: Vec<Finding>,
    facts: &Facts,
    changes: &mut Vec<Change>,
) {
    let now = (facts.steady, facts.wall);
    for finding in &found {
        let key = (rule.name.clone(), finding.subject.clone());
        let full = tracks.len() >= MOST;
        let track = match tracks.entry(key) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(_) if finding.firm.is_none() || full => continue,
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Track::new()),
        };
        track.look(rule, Some(finding), now, changes);
    }
    let seen = |subject: &Arc<str>| found.iter().any(|finding| finding.subject == *subject);
    let mine = tracks.range_mut((rule.name.clone(), Arc::from(""))..).take_while(|((name, _), _)| *name == rule.name);
    for ((_, subject), track) in mine {
        if !seen(subject) {
            track.look(rule, None, now, changes);
        }
    }
    tracks.retain(|(name, _), track| *name != rule.name || !track.is_forgotten(now.0));
}

impl Track {
    fn new() -> Self {
        Self { bad: None, good: None, open: None, unproved: None, again_until: None, again: 0 }
    }

    fn is_forgotten(&self, now: u64) -> bool {
        self.open.is_none() && self.bad.is_none() && self.again_until.is_none_or(|until| until <= now)
    }

    /// Takes one look; `None`: there is no value.
    fn look(&mut self, rule: &AlertRule, finding: Option<&Finding>, now: (u64, u64), changes: &mut Vec<Change>) {
        let firm = finding.and_then(|finding| finding.firm);
        if let (None, Some(severity), Some(finding)) = (&self.open, firm, finding) {
            let bad = *self.bad.get_or_insert(now);
            if now.0.saturating_sub(bad.0) >= millis(rule.hold) {
                let incident = Incident {
                    id: id(&rule.name, &finding.subject),
                    rule: rule.name.clone(),
                    of: rule.of,
                    subject: finding.subject.clone(),
                    severity,
                    since: bad.1,
                    until: None,
                    says: finding.says.clone(),
                };
                self.again = if self.again_until.is_some_and(|until| until > bad.0) { self.again + 1 } else { 0 };
                self.good = None;
                self.open = Some(incident.clone());
                changes.push(Change { what: What::Opened, incident });
            }
            return;
        }
        let Some(incident) = &mut self.open else {
            self.bad = None;
            return;
        };
        if let Some(finding) = finding.filter(|finding| finding.stays) {
            self.good = None;
            incident.says.clone_from(&finding.says);
            if firm.is_some_and(|severity| severity > incident.severity) {
                incident.severity = firm.unwrap_or(incident.severity);
                changes.push(Change { what: What::Worse, incident: incident.clone() });
            }
            return;
        }
        if finding.is_none() && self.unproved.is_some_and(|until| now.0 < until) {
            return;
        }
        let good = *self.good.get_or_insert(now);
        let needed = (millis(rule.recover) << self.again.min(16)).min(LONGEST_RECOVERY.max(millis(rule.recover)));
        if now.0.saturating_sub(good.0) >= needed {
            incident.until = Some(good.1.max(incident.since));
            changes.push(Change { what: What::Recovered, incident: incident.clone() });
            *self = Self { again_until: Some(now.0 + AGAIN * needed), again: self.again, ..Self::new() };
        }
    }
}

fn at_most(severity: Option<Severity>, most: Option<Severity>) -> Option<Severity> {
    severity.map(|severity| most.map_or(severity, |most| severity.min(most)))
}

fn steady(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}

/// Seconds from `began` to `now`, both steady milliseconds.
fn since(now: u64, began: i64) -> f64 {
    steady(now).saturating_sub(began).max(0) as f64 / 1e3
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The name of a rule's incident: the same on every replica and after a restart.
pub fn id(rule: &str, subject: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(rule.as_bytes()).update(&[0]).update(subject.as_bytes());
    hasher.finalize().to_hex()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(of: Measure) -> AlertRule {
        AlertRule::usual(of).expect("usual")
    }

    fn open_breaker(second: u64, open: bool) -> Facts {
        let standing =
            Standing { of: Measure::Breaker, subject: "openai".into(), says: "the breaker of openai is open".into(), most: None };
        Facts { wall: second * 1_000, steady: second * 1_000, standing: if open { vec![standing] } else { Vec::new() }, ..Facts::default() }
    }

    #[test]
    fn an_incident_begins_gets_worse_and_ends() {
        let mut engine = Engine::new(vec![rule(Measure::Breaker)]);
        let mut told = Vec::new();
        for second in 0..500 {
            let changes = engine.step(&open_breaker(second, (10..400).contains(&second)));
            told.extend(changes.into_iter().map(|change| (second, change.what, change.incident.severity, change.incident.until)));
        }
        assert_eq!(
            told,
            [
                (10, What::Opened, Severity::Warning, None),
                (310, What::Worse, Severity::Critical, None),
                (430, What::Recovered, Severity::Critical, Some(400_000)),
            ]
        );
        assert!(engine.open().is_empty());
    }

    #[test]
    fn a_value_that_goes_to_and_fro_is_one_long_incident() {
        let mut engine = Engine::new(vec![rule(Measure::Breaker)]);
        // Open for 20 s of each 100 s, for two hours.
        let changes: usize = (0..7_200).map(|second| engine.step(&open_breaker(second, second % 100 < 20)).len()).sum();
        assert!(changes <= 6, "{changes}");
        assert_eq!(engine.open().len(), 1);
    }

    #[test]
    fn silence_counts_only_after_a_busy_hour() {
        let mut engine = Engine::new(vec![rule(Measure::NoTraffic)]);
        let facts = |second: u64, arrivals| Facts {
            wall: second * 1_000,
            steady: second * 1_000,
            totals: Totals { arrivals, ..Totals::default() },
            ..Facts::default()
        };
        assert!((0..1_000).all(|second| engine.step(&facts(second, 10)).is_empty()), "ten requests are no busy hour");
        assert!((1_000..2_000).all(|second| engine.step(&facts(second, second)).is_empty()));
        let told: Vec<u64> = (2_000..4_000).filter(|second| !engine.step(&facts(*second, 2_000)).is_empty()).collect();
        assert_eq!(told, [2_300]);
    }
}
