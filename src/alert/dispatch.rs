//! Which changes become which notices, and when: grouping, quiet hours, reminders, the day's digest, and a bound on all of it.
//!
//! A change is told within [`Terms::group`]. More than [`BURST`] notices a minute are not sent: what happens meanwhile becomes one
//! notice of the next minute.

use std::collections::{BTreeMap, VecDeque};

use jiff::{Timestamp, civil::Weekday, tz::TimeZone};

use super::{
    carry::{Carry, OpenIncident},
    engine::{Change, Incident, What},
    notice::{Item, Kind, Notice},
};
use crate::config::{Alerts, Quiet, Severity};

/// Most notices of a minute.
pub const BURST: usize = 10;
/// Most incidents of a notice; the others are counted.
pub const LONGEST: usize = 20;
/// Most low incidents that a digest remembers.
const DIGEST: usize = 200;
const MINUTE: u64 = 60_000;

/// When somebody is told.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Time for which changes are collected, in milliseconds.
    pub group: u64,
    /// Time after which an incident is told again, in milliseconds.
    pub remind: Option<u64>,
    /// Stretches of the day in which only critical incidents are told.
    pub quiet: Vec<Quiet>,
    /// Minute of the day of the digest.
    pub digest: Option<u16>,
    /// The time zone of both.
    pub tz: TimeZone,
    /// `telemetry.service`.
    pub service: String,
    /// The URL before the anchor of a runbook.
    pub runbooks: Option<String>,
    /// Tells this process's notices from those of others.
    pub instance: String,
}

impl Terms {
    /// As configured.
    pub fn of(alerts: &Alerts, service: &str, instance: &str) -> Self {
        let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            group: millis(alerts.group),
            remind: alerts.remind.map(millis),
            quiet: alerts.quiet.clone(),
            digest: alerts.digest,
            tz: alerts.tz.clone(),
            service: service.to_owned(),
            runbooks: alerts.runbooks.clone(),
            instance: instance.to_owned(),
        }
    }
}

/// Notices on their way.
#[derive(Debug)]
pub struct Dispatch {
    terms: Terms,
    open: BTreeMap<String, OpenIncident>,
    /// Changes that wait: since when, and the incident's id.
    firing: Vec<(u64, String)>,
    resolved: Vec<(u64, Incident)>,
    /// Low incidents, and those that nobody was told of.
    low: Vec<Incident>,
    low_more: usize,
    /// Wall times of the notices of the last minute.
    sent: VecDeque<u64>,
    /// Number of the next notice.
    next: u64,
    /// The day of the last digest.
    digested: Option<jiff::civil::Date>,
}

impl Dispatch {
    /// Nothing is told yet.
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            open: BTreeMap::new(),
            firing: Vec::new(),
            resolved: Vec::new(),
            low: Vec::new(),
            low_more: 0,
            sent: VecDeque::new(),
            next: 0,
            digested: None,
        }
    }

    /// Other terms from now on.
    pub fn set_terms(&mut self, terms: Terms) {
        self.terms = terms;
    }

    /// What is handed to the process after this one.
    pub fn carry(&self) -> Carry {
        Carry {
            open: self.open.values().cloned().collect(),
            over: self.resolved.iter().map(|(_, incident)| incident.clone()).collect(),
            low: self.low.clone(),
            low_more: self.low_more,
        }
    }

    /// Goes on at `now` (wall time in milliseconds) with what a process before has left. What was told is not told again.
    pub fn resume(&mut self, now: u64, carry: Carry) {
        let untold = carry.open.iter().filter(|one| one.at.is_none() && !one.elsewhere && one.incident.severity > Severity::Low);
        self.firing.extend(untold.map(|one| (now, one.incident.id.clone())));
        self.open.extend(carry.open.into_iter().map(|one| (one.incident.id.clone(), one)));
        self.resolved.extend(carry.over.into_iter().map(|incident| (now, incident)));
        self.low.extend(carry.low);
        self.low_more += carry.low_more + self.low.len().saturating_sub(DIGEST);
        self.low.truncate(DIGEST);
    }

    /// Takes the changes of a look at `now` (wall time in milliseconds). Gives the notices that are due.
    pub fn step(&mut self, now: u64, changes: Vec<Change>) -> Vec<Notice> {
        changes.into_iter().for_each(|change| self.take(now, change));
        let quiet = self.is_quiet(now);
        self.sent.retain(|at| at + MINUTE > now);
        let mut notices = Vec::new();
        if self.due(now, quiet) {
            notices.extend(self.flush(now, quiet));
        }
        notices.extend(self.remind(now, quiet));
        notices.extend(self.digest(now));
        notices
    }

    fn take(&mut self, now: u64, change: Change) {
        let Change { what, incident } = change;
        match what {
            What::Opened | What::Worse => {
                let id = incident.id.clone();
                let at = self.open.remove(&id).and_then(|told| told.at);
                let tells = incident.severity > Severity::Low;
                self.open.insert(id.clone(), OpenIncident { incident, at, elsewhere: false });
                if tells && !self.firing.iter().any(|(_, other)| *other == id) {
                    self.firing.push((now, id));
                }
            }
            What::Elsewhere if incident.until.is_some() => {
                self.open.remove(&incident.id);
            }
            What::Taken => {
                self.open.entry(incident.id.clone()).or_insert(OpenIncident { incident, at: Some(now), elsewhere: false }).elsewhere =
                    false;
            }
            What::Elsewhere => {
                self.open.insert(incident.id.clone(), OpenIncident { incident, at: Some(now), elsewhere: true });
            }
            What::Recovered => {
                let told = self.open.remove(&incident.id);
                self.firing.retain(|(_, id)| *id != incident.id);
                match told.and_then(|told| told.at) {
                    Some(_) => self.resolved.push((now, incident)),
                    None if self.low.len() < DIGEST => self.low.push(incident),
                    None => self.low_more += 1,
                }
            }
        }
    }

    /// Whether a change has waited long enough and may be told.
    fn due(&self, now: u64, quiet: bool) -> bool {
        let may = |severity: Severity| !quiet || severity == Severity::Critical;
        let firing = self.firing.iter().filter(|(_, id)| self.open.get(id).is_some_and(|told| may(told.incident.severity)));
        let resolved = self.resolved.iter().filter(|(_, incident)| may(incident.severity));
        let oldest = firing.map(|(at, _)| at).chain(resolved.map(|(at, _)| at)).min();
        oldest.is_some_and(|at| at + self.terms.group <= now) && self.sent.len() + 1 < BURST
    }

    /// What waits, as at most two notices.
    fn flush(&mut self, now: u64, quiet: bool) -> Vec<Notice> {
        let may = |severity: Severity| !quiet || severity == Severity::Critical;
        let mut incidents = Vec::new();
        let open = &mut self.open;
        self.firing.retain(|(_, id)| match open.get_mut(id) {
            Some(told) if may(told.incident.severity) => {
                told.at = Some(now);
                incidents.push(told.incident.clone());
                false
            }
            told => told.is_some(),
        });
        let (over, waits) = std::mem::take(&mut self.resolved).into_iter().partition(|(_, incident)| may(incident.severity));
        self.resolved = waits;
        let over: Vec<Incident> = over.into_iter().map(|(_, incident)| incident).collect();
        let firing = self.notice(Kind::Firing, now, incidents, 0);
        firing.into_iter().chain(self.notice(Kind::Resolved, now, over, 0)).collect()
    }

    fn remind(&mut self, now: u64, quiet: bool) -> Option<Notice> {
        let after = self.terms.remind?;
        if self.sent.len() >= BURST {
            return None;
        }
        let may = |severity: Severity| severity == Severity::Critical || (!quiet && severity == Severity::Warning);
        let due = self
            .open
            .values_mut()
            .filter(|told| !told.elsewhere)
            .filter(|told| may(told.incident.severity) && told.at.is_some_and(|at| at + after <= now));
        let incidents = due
            .map(|told| {
                told.at = Some(now);
                told.incident.clone()
            })
            .collect();
        self.notice(Kind::Reminder, now, incidents, 0)
    }

    /// The day's digest, once after its time of day.
    fn digest(&mut self, now: u64) -> Option<Notice> {
        let at = self.terms.digest?;
        let (date, minute, _) = self.local(now)?;
        let Some(last) = self.digested else {
            // The day on which the process starts has its digest only if its time is still to come.
            self.digested = if minute >= at { Some(date) } else { date.yesterday().ok() };
            return None;
        };
        if date <= last || minute < at {
            return None;
        }
        self.digested = Some(date);
        let open =
            self.open.values().filter(|told| told.incident.severity == Severity::Low && !told.elsewhere).map(|told| told.incident.clone());
        let incidents: Vec<Incident> = std::mem::take(&mut self.low).into_iter().chain(open).collect();
        let more = std::mem::take(&mut self.low_more);
        self.notice(Kind::Digest, now, incidents, more)
    }

    fn notice(&mut self, kind: Kind, now: u64, mut incidents: Vec<Incident>, more: usize) -> Option<Notice> {
        incidents.sort_by_key(|incident| (std::cmp::Reverse(incident.severity), incident.since));
        let severity = incidents.first()?.severity;
        let more = more + incidents.len().saturating_sub(LONGEST);
        let items = incidents.iter().take(LONGEST).map(|incident| Item::of(incident, self.terms.runbooks.as_deref())).collect();
        self.sent.push_back(now);
        self.next += 1;
        let id = format!("{}-{now}-{}", self.terms.instance, self.next);
        Some(Notice { id, kind, severity, at: now, service: self.terms.service.clone(), items, more })
    }

    fn local(&self, now: u64) -> Option<(jiff::civil::Date, u16, Weekday)> {
        local(&self.terms.tz, now)
    }

    /// Whether only critical incidents are told at `now`.
    pub fn is_quiet(&self, now: u64) -> bool {
        in_window(&self.terms.quiet, &self.terms.tz, now)
    }
}

/// The day, the minute of the day and the day of the week at `now`.
fn local(tz: &TimeZone, now: u64) -> Option<(jiff::civil::Date, u16, Weekday)> {
    let at = Timestamp::from_millisecond(i64::try_from(now).ok()?).ok()?.to_zoned_datetime(tz.clone());
    Some((at.date(), u16::from(at.hour().unsigned_abs()) * 60 + u16::from(at.minute().unsigned_abs()), at.weekday()))
}

/// Whether `now` (wall time in milliseconds) lies in one of the stretches of the day.
pub fn in_window(windows: &[Quiet], tz: &TimeZone, now: u64) -> bool {
    if windows.is_empty() {
        return false;
    }
    let Some((_, minute, day)) = local(tz, now) else { return false };
    windows.iter().any(|window| {
        let on = |day: Weekday| window.days.is_empty() || window.days.contains(&day);
        match window.from < window.to {
            true => on(day) && (window.from..window.to).contains(&minute),
            false => (on(day) && minute >= window.from) || (on(day.previous()) && minute < window.to),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Measure;

    /// 2027-01-15T08:00:00Z, a Friday.
    const BEGIN: u64 = 1_800_000_000_000;
    const HOUR: u64 = 3_600_000;

    fn terms() -> Terms {
        Terms {
            group: 2_000,
            remind: Some(4 * HOUR),
            quiet: vec![Quiet { from: 22 * 60, to: 7 * 60, days: Vec::new() }],
            digest: Some(9 * 60),
            tz: TimeZone::UTC,
            service: "shop".into(),
            runbooks: None,
            instance: "i".into(),
        }
    }

    fn change(what: What, subject: &str, severity: Severity, at: u64) -> Change {
        let incident = Incident {
            id: subject.into(),
            rule: "breaker".into(),
            of: Measure::Breaker,
            subject: subject.into(),
            severity,
            since: at,
            until: (what == What::Recovered).then_some(at),
            says: "s".into(),
        };
        Change { what, incident }
    }

    /// Every second from `from` on; the changes come at their seconds.
    fn play(dispatch: &mut Dispatch, from: u64, seconds: u64, changes: &[(u64, Change)]) -> Vec<(u64, Kind, usize)> {
        let mut told = Vec::new();
        for second in 0..seconds {
            let now = from + second * 1_000;
            let due = changes.iter().filter(|(at, _)| *at == second).map(|(_, change)| change.clone()).collect();
            told.extend(dispatch.step(now, due).into_iter().map(|notice| (second, notice.kind, notice.items.len() + notice.more)));
        }
        told
    }

    #[test]
    fn what_begins_together_is_told_together_and_a_long_incident_again() {
        let mut dispatch = Dispatch::new(terms());
        let changes: Vec<(u64, Change)> = (0..30)
            .map(|n| (10 + n % 2, change(What::Opened, &format!("s{n}"), Severity::Critical, BEGIN)))
            .chain((0..30).map(|n| (5 * 3_600, change(What::Recovered, &format!("s{n}"), Severity::Critical, BEGIN))))
            .collect();
        let told = play(&mut dispatch, BEGIN, 6 * 3_600, &changes);
        assert_eq!(told, [(12, Kind::Firing, 30), (4 * 3_600 + 12, Kind::Reminder, 30), (5 * 3_600 + 2, Kind::Resolved, 30)]);
    }

    #[test]
    fn a_quiet_night_hears_of_critical_incidents_alone_and_the_morning_of_what_is_left() {
        let mut dispatch = Dispatch::new(terms());
        let night = BEGIN + 14 * HOUR;
        let changes = [
            (60, change(What::Opened, "gone by morning", Severity::Warning, night)),
            (90, change(What::Opened, "bad", Severity::Critical, night)),
            (120, change(What::Opened, "stays", Severity::Warning, night)),
            (3_600, change(What::Recovered, "gone by morning", Severity::Warning, night)),
        ];
        let told = play(&mut dispatch, night, 12 * 3_600, &changes);
        let nine = 9 * 3_600;
        assert_eq!(told[0], (92, Kind::Firing, 1));
        assert!(told.contains(&(nine, Kind::Firing, 1)), "at the end of the quiet hours: {told:?}");
        assert!(told.contains(&(11 * 3_600, Kind::Digest, 1)), "{told:?}");
        assert!(told.iter().all(|(at, kind, _)| *at >= nine || *kind != Kind::Firing || *at == 92));
    }

    #[test]
    fn low_incidents_are_told_once_a_day() {
        let mut dispatch = Dispatch::new(terms());
        let changes = [
            (10, change(What::Opened, "a", Severity::Low, BEGIN)),
            (900, change(What::Recovered, "a", Severity::Low, BEGIN)),
            (20, change(What::Opened, "b", Severity::Low, BEGIN)),
        ];
        let told = play(&mut dispatch, BEGIN, 30 * 3_600, &changes);
        assert_eq!(told, [(3_600, Kind::Digest, 2), (25 * 3_600, Kind::Digest, 1)]);
    }

    #[test]
    fn there_are_never_more_than_ten_notices_in_a_minute() {
        let mut dispatch = Dispatch::new(terms());
        let changes: Vec<(u64, Change)> =
            (0..600).map(|n| (n, change(What::Opened, &format!("s{n}"), Severity::Critical, BEGIN))).collect();
        let told = play(&mut dispatch, BEGIN, 700, &changes);
        for minute in 0..11 {
            assert!(told.iter().filter(|(at, ..)| at / 60 == minute).count() <= BURST);
        }
        assert_eq!(told.iter().map(|(_, _, n)| n).sum::<usize>(), 600, "each is told");
    }

    #[test]
    fn a_process_goes_on_where_the_one_before_has_ended() {
        let night = BEGIN + 15 * HOUR;
        let mut before = Dispatch::new(terms());
        let changes = [
            (0, change(What::Opened, "bad", Severity::Critical, night)),
            (0, change(What::Opened, "waits for the morning", Severity::Warning, night)),
            (0, change(What::Opened, "over", Severity::Low, night)),
            (5, change(What::Recovered, "over", Severity::Low, night)),
            (10, change(What::Opened, "is told by another", Severity::Critical, night)),
            (10, change(What::Elsewhere, "is told by another", Severity::Critical, night)),
        ];
        assert_eq!(play(&mut before, night, 11, &changes), [(2, Kind::Firing, 1)]);
        let text = serde_json::to_string(&before.carry()).expect("writes");
        let carry: Carry = serde_json::from_str(&text).expect("reads");
        assert_eq!(carry, before.carry());
        let mut after = Dispatch::new(terms());
        after.resume(night + 60_000, carry);
        let over = [(30, change(What::Recovered, "bad", Severity::Critical, night))];
        let told = play(&mut after, night + 60_000, 11 * 3_600, &over);
        assert_eq!(told[0], (32, Kind::Resolved, 1), "the end is told, the beginning is not: {told:?}");
        assert_eq!(told[1], (8 * 3_600 - 60, Kind::Firing, 1), "{told:?}");
        assert_eq!(told[2], (10 * 3_600 - 60, Kind::Digest, 1), "{told:?}");
    }
}
