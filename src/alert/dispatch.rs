//! Which changes become which notices, and when: grouping, quiet hours, reminders, the day's digest, and a bound on all of it.
//!
//! A change is told within [`Terms::group`]. Each beginning and each end is in a notice: receivers that keep incidents open have to hear
//! of all of them. A notice has at most [`LONGEST`] incidents; what happens together becomes several. More than [`BURST`] notices a
//! minute are not sent: what is left waits for the next minute, the worst first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::{Timestamp, civil::Weekday, tz::TimeZone};

use super::{
    carry::{Carry, OpenIncident},
    engine::{Change, Incident, What},
    notice::{Item, Kind, Notice},
};
use crate::config::{Alerts, Quiet, Severity};

/// Most notices of a minute.
pub const BURST: usize = 10;
/// Most incidents of a notice. A reminder and a digest count the others; beginnings and ends become further notices.
pub const LONGEST: usize = 20;
/// Notices of a minute that are kept for critical incidents.
const SPARE: usize = 2;
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
        self.open.extend(carry.open.into_iter().map(|one| (one.incident.id.clone(), one)));
        for incident in carry.over {
            match self.open.get_mut(&incident.id) {
                // Another process has seen it come back: for those who were told it has never ended.
                Some(back) => back.at = back.at.or(Some(now)),
                None => self.resolved.push((now, incident)),
            }
        }
        let untold = self.open.values().filter(|one| one.at.is_none() && !one.elsewhere && one.incident.severity > Severity::Low);
        self.firing.extend(untold.map(|one| (now, one.incident.id.clone())));
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

    fn take(&mut self, now: u64, Change { what, incident }: Change) {
        let id = incident.id.clone();
        match what {
            What::Opened => {
                let tells = incident.severity > Severity::Low;
                // It is back before its end was told: for those who were told it has never ended.
                let end = self.take_end(&id);
                let at = self.open.remove(&id).and_then(|held| held.at).or(end.as_ref().map(|_| now));
                if tells && end.is_none_or(|end| incident.severity > end.severity) {
                    self.wait(now, &id);
                }
                self.open.insert(id, OpenIncident { incident, at, elsewhere: false });
            }
            What::Worse => {
                if incident.severity > Severity::Low {
                    self.wait(now, &id);
                }
                // Who tells that it is worse need not be who reminds.
                let (at, elsewhere) = self.open.remove(&id).map_or((None, false), |held| (held.at, held.elsewhere));
                self.open.insert(id, OpenIncident { incident, at, elsewhere });
            }
            What::Elsewhere if incident.until.is_some() => {
                self.open.remove(&id);
            }
            What::Elsewhere => {
                self.take_end(&id);
                self.firing.retain(|(_, other)| *other != id);
                // A low incident waits for the digest, here as there.
                let at = Some(now).filter(|_| incident.severity > Severity::Low);
                let elsewhere = self.open.get(&id).is_none_or(|held| held.elsewhere);
                self.open.insert(id, OpenIncident { incident, at, elsewhere });
            }
            What::Taken => {
                let at = Some(now).filter(|_| incident.severity > Severity::Low);
                self.open.entry(id).or_insert(OpenIncident { incident, at, elsewhere: false }).elsewhere = false;
            }
            What::Left => {
                self.firing.retain(|(_, other)| *other != id);
                self.open.entry(id).and_modify(|held| held.elsewhere = true);
            }
            What::Recovered => {
                let told = self.open.remove(&id);
                self.firing.retain(|(_, other)| *other != id);
                match told.and_then(|told| told.at) {
                    Some(_) => self.resolved.push((now, incident)),
                    None if self.low.len() < DIGEST => self.low.push(incident),
                    None => self.low_more += 1,
                }
            }
        }
    }

    /// Puts the beginning, or the worsening, of an incident in line.
    fn wait(&mut self, now: u64, id: &str) {
        if !self.firing.iter().any(|(_, other)| other == id) {
            self.firing.push((now, id.to_owned()));
        }
    }

    /// Takes an end that waits out of the line.
    fn take_end(&mut self, id: &str) -> Option<Incident> {
        let at = self.resolved.iter().position(|(_, incident)| incident.id == id)?;
        Some(self.resolved.remove(at).1)
    }

    /// Notices that may still be sent in this minute.
    fn room(&self) -> usize {
        BURST.saturating_sub(self.sent.len())
    }

    /// Whether a change has waited long enough and may be told. The room is for a beginning and an end.
    fn due(&self, now: u64, quiet: bool) -> bool {
        let may = |severity: Severity| !quiet || severity == Severity::Critical;
        let firing = self.firing.iter().filter(|(_, id)| self.open.get(id).is_some_and(|told| may(told.incident.severity)));
        let resolved = self.resolved.iter().filter(|(_, incident)| may(incident.severity));
        let oldest = firing.map(|(at, _)| at).chain(resolved.map(|(at, _)| at)).min();
        oldest.is_some_and(|at| at + self.terms.group <= now) && self.room() >= 2
    }

    /// What waits, the worst first, as far as there is room. The rest waits on.
    fn flush(&mut self, now: u64, quiet: bool) -> Vec<Notice> {
        let may = |severity: Severity| !quiet || severity == Severity::Critical;
        let mut notices = Vec::new();
        self.firing.retain(|(_, id)| self.open.contains_key(id));
        let begun = self.firing.iter().filter_map(|(_, id)| self.open.get(id)).map(|told| told.incident.clone());
        let begun = worst_first(begun.filter(|incident| may(incident.severity)).collect());
        let over: Vec<Incident> = self.resolved.iter().map(|(_, over)| over).filter(|over| may(over.severity)).cloned().collect();
        // A long list of beginnings does not hold up the ends.
        for part in self.parts(&begun, usize::from(!over.is_empty())) {
            let told: BTreeSet<&str> = part.iter().map(|incident| &*incident.id).collect();
            self.firing.retain(|(_, id)| !told.contains(&**id));
            self.open.values_mut().filter(|one| told.contains(&*one.incident.id)).for_each(|one| one.at = Some(now));
            notices.extend(self.notice(Kind::Firing, now, part.to_vec(), 0));
        }
        let over = worst_first(over);
        for part in self.parts(&over, 0) {
            self.resolved.retain(|(_, over)| part.iter().all(|told| told.id != over.id));
            notices.extend(self.notice(Kind::Resolved, now, part.to_vec(), 0));
        }
        notices
    }

    /// The incidents of each notice that there is room for, beside `kept` further ones. What is not critical leaves the last ones free.
    fn parts<'a>(&self, incidents: &'a [Incident], kept: usize) -> Vec<&'a [Incident]> {
        let room = self.room().saturating_sub(kept);
        let fits = |(nth, part): &(usize, &[Incident])| match part.first().map(|worst| worst.severity) {
            Some(Severity::Critical) => *nth < room,
            _ => *nth < room.saturating_sub(SPARE),
        };
        incidents.chunks(LONGEST).enumerate().take_while(fits).map(|(_, part)| part).collect()
    }

    fn remind(&mut self, now: u64, quiet: bool) -> Option<Notice> {
        let after = self.terms.remind?;
        if self.room() <= SPARE {
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
        if date <= last || minute < at || self.room() == 0 {
            return None;
        }
        self.digested = Some(date);
        let open =
            self.open.values().filter(|told| told.incident.severity == Severity::Low && !told.elsewhere).map(|told| told.incident.clone());
        let incidents: Vec<Incident> = std::mem::take(&mut self.low).into_iter().chain(open).collect();
        let more = std::mem::take(&mut self.low_more);
        self.notice(Kind::Digest, now, incidents, more)
    }

    fn notice(&mut self, kind: Kind, now: u64, incidents: Vec<Incident>, more: usize) -> Option<Notice> {
        let incidents = worst_first(incidents);
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

    /// The incidents that go on, of those that somebody was told of.
    pub fn told(&self) -> impl Iterator<Item = &Incident> {
        self.open.values().filter(|one| one.at.is_some()).map(|one| &one.incident)
    }

    /// Whether only critical incidents are told at `now`.
    pub fn is_quiet(&self, now: u64) -> bool {
        in_window(&self.terms.quiet, &self.terms.tz, now)
    }
}

fn worst_first(mut incidents: Vec<Incident>) -> Vec<Incident> {
    incidents.sort_by_key(|incident| (std::cmp::Reverse(incident.severity), incident.since));
    incidents
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
mod tests;
