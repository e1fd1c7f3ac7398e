//! A question to the ring of failures, in the words of a query string.

use std::time::Duration;

use jiff::{Timestamp, civil, tz::TimeZone};

use super::{Entry, FailureKind, step};
use crate::arrival::Door;

/// Most failures of a page.
pub const MAX_ROWS: usize = 1_000;
/// Failures of a page, unless the question says another number.
const ROWS: usize = 100;
/// The words of a question.
const WORDS: &str = "since, until, door, route, reason, kind, caller, status, target, operation, model, key, refused_by, trace, request, limit, before, \
     after";

/// The failures that a question means. Every condition must hold.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Milliseconds since 1970 at the arrival: the first that counts.
    since: u64,
    /// The last that counts.
    until: u64,
    door: Option<Door>,
    route: Option<String>,
    reason: Option<String>,
    kind: Option<FailureKind>,
    caller: Option<String>,
    /// The first status that counts, and the last.
    status: Option<(u16, u16)>,
    trace: Option<u128>,
    /// Members that the story must have, as bytes of its line.
    members: Vec<Vec<u8>>,
    /// Only failures with smaller numbers, and with larger ones.
    pub(super) before: u64,
    pub(super) after: u64,
    /// Most failures of the page.
    pub(super) limit: usize,
}

impl Filter {
    /// Reads a question from pairs of words. `now`: milliseconds since 1970.
    ///
    /// # Errors
    /// A word is not known, or a value cannot be read. The text names the word and what would be right.
    pub fn read<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>, now: u64) -> Result<Self, String> {
        let mut filter = Self {
            since: 0,
            until: u64::MAX,
            door: None,
            route: None,
            reason: None,
            kind: None,
            caller: None,
            status: None,
            trace: None,
            members: Vec::new(),
            before: u64::MAX,
            after: 0,
            limit: ROWS,
        };
        for (key, value) in pairs {
            filter.condition(key, value, now)?;
        }
        Ok(filter)
    }

    fn condition(&mut self, key: &str, value: &str, now: u64) -> Result<(), String> {
        let text = || Some(value.to_owned());
        let wrong = |right: &str| format!("`{key}={value}` {right}");
        match key {
            "since" => self.since = moment(value, now).ok_or_else(|| wrong(NO_TIME))?,
            "until" => self.until = moment(value, now).ok_or_else(|| wrong(NO_TIME))?,
            "door" => {
                let door = [Door::Inbound, Door::Outbound].into_iter().find(|door| door.as_str() == value);
                self.door = Some(door.ok_or_else(|| wrong("is neither inbound nor outbound"))?);
            }
            "route" => self.route = text(),
            "reason" => self.reason = text(),
            "kind" => {
                let words = FailureKind::ALL.map(FailureKind::as_str).join(", ");
                let kind = FailureKind::ALL.into_iter().find(|kind| kind.as_str() == value);
                self.kind = Some(kind.ok_or_else(|| wrong(&format!("is none of {words}")))?);
            }
            "caller" => self.caller = text(),
            "status" => self.status = Some(status(value).ok_or_else(|| wrong("is no status; try 502, or 5xx for all of a class"))?),
            "trace" => {
                let trace = u128::from_str_radix(value, 16).ok().filter(|_| value.len() == 32);
                self.trace = Some(trace.ok_or_else(|| wrong("is no trace id: it has 32 hexadecimal digits"))?);
            }
            "target" => self.members.push(written(",\"target\":", value)),
            "operation" => self.members.push(written(",\"operation\":", value)),
            "model" => self.members.push(written(",\"model\":", value)),
            "key" => self.members.push(written(",\"key\":", value)),
            "refused_by" => self.members.push(written(",\"limit\":", value)),
            "request" => self.members.push(written(",\"request_id\":", value)),
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=MAX_ROWS).contains(limit));
                self.limit = limit.ok_or_else(|| wrong(&format!("is not between 1 and {MAX_ROWS}")))?;
            }
            "before" => self.before = value.parse().map_err(|_| wrong(NO_CURSOR))?,
            "after" => self.after = value.parse().map_err(|_| wrong(NO_CURSOR))?,
            _ => return Err(format!("the question has `{key}`; known are {WORDS}")),
        }
        Ok(())
    }

    /// Whether a failure is meant, apart from its number.
    pub(super) fn fits(&self, entry: &Entry) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        (self.since..=self.until).contains(&entry.at)
            && self.door.is_none_or(|door| door == entry.door)
            && self.kind.is_none_or(|kind| kind == entry.kind)
            && self.status.is_none_or(|(first, last)| (first..=last).contains(&entry.status))
            && self.trace.is_none_or(|trace| trace == entry.trace)
            && is(&self.reason, entry.reason)
            && is(&self.route, &entry.route)
            && is(&self.caller, &entry.caller)
            && self.members.iter().all(|member| memchr::memmem::find(&entry.line, member).is_some())
    }
}

const NO_TIME: &str = "is no time; try `15m` (ago), `2026-11-30`, `2026-11-30T10:00:00Z` or `now`";
const NO_CURSOR: &str = "is not a place that an answer gave";

/// A member as its line has it. A quotation mark in a value is escaped: no value can look like a member.
fn written(key: &'static str, value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    step::member(&mut out, key, value);
    out
}

/// A status, or the class of one.
fn status(word: &str) -> Option<(u16, u16)> {
    if let Some(class) = word.strip_suffix("xx") {
        let class = class.parse::<u16>().ok().filter(|class| (1..=5).contains(class))?;
        return Some((class * 100, class * 100 + 99));
    }
    // 0: no answer was sent.
    let status = word.parse().ok().filter(|status| *status == 0 || (100..=599).contains(status))?;
    Some((status, status))
}

/// A time: `now`, a length of time before now, a date, or a date and time; in UTC unless the time says another zone.
pub fn moment(word: &str, now: u64) -> Option<u64> {
    if word == "now" {
        return Some(now);
    }
    let millis = |at: Timestamp| u64::try_from(at.as_millisecond()).ok();
    if let Ok(at) = word.parse::<Timestamp>() {
        return millis(at);
    }
    if let Ok(date) = word.parse::<civil::DateTime>() {
        return millis(date.to_zoned_datetime(TimeZone::UTC).ok()?.timestamp());
    }
    let ago: Duration = humantime::parse_duration(word.trim_start_matches('-')).ok()?;
    Some(now.saturating_sub(u64::try_from(ago.as_millis()).ok()?))
}

/// A time as the log writes it.
pub(super) fn time(millis: u64) -> String {
    let at = i64::try_from(millis).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
    format!("{:.3}", at.unwrap_or(Timestamp::UNIX_EPOCH))
}
