//! A question to the ledger as it is asked (words of a query string), and its answer as JSON.
//!
//! Dollars are decimal strings with nine places: no float is between the books and the reader.

use std::{sync::Arc, time::Duration};

use jiff::{Timestamp, ToSpan as _, ZonedDateTime, civil, tz::TimeZone};
use serde_json::{Map, Value, json};

use super::entry::{Dim, FIXED, Known, Measure, Sums};

/// Most parts of time in an answer.
const MAX_PARTS: usize = 10_000;
/// Rows of a page, unless the question says another number.
const ROWS: usize = 1_000;
/// Most rows of a page.
pub const MAX_ROWS: usize = 2_000;
/// The last minute that can be asked for: in the year 4000.
const LAST: i64 = 1_067_000_000;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The question is not valid.
    #[error("{0}")]
    Invalid(String),
    /// The file cannot be read.
    #[error("the ledger cannot be read: {0}")]
    File(#[from] super::FileError),
}

/// The parts of time of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bucket {
    /// One part.
    None,
    /// A minute each.
    Minute,
    /// An hour each.
    Hour,
    /// A day each, in the time zone of the question.
    Day,
    /// A week each, from Monday.
    Week,
    /// A month each.
    Month,
}

impl Bucket {
    const ALL: [(&'static str, Self); 6] = [
        ("none", Self::None),
        ("minute", Self::Minute),
        ("hour", Self::Hour),
        ("day", Self::Day),
        ("week", Self::Week),
        ("month", Self::Month),
    ];

    fn of(word: &str) -> Result<Self, AskError> {
        let found = Self::ALL.iter().find(|(known, _)| *known == word).map(|(_, bucket)| *bucket);
        found.ok_or_else(|| invalid(format!("`bucket={word}` is none of none, minute, hour, day, week, month")))
    }
}

/// A question.
#[derive(Debug, Clone)]
pub struct Question {
    /// Edges of the parts of the answer, in minutes since 1970: the begin of each, and the end of the last.
    pub edges: Vec<u32>,
    /// What the sums are told apart by.
    pub by: Vec<Dim>,
    /// Names that count, by dimension; several of one dimension: any of them.
    pub filters: Vec<(Dim, String)>,
    /// Most rows of this page.
    pub limit: usize,
    /// The last row of the page before: the begin of its part, and its ids.
    pub after: Option<Vec<u32>>,
    /// The time zone of times in the answer.
    pub tz: TimeZone,
}

fn invalid(why: impl Into<String>) -> AskError {
    AskError::Invalid(why.into())
}

impl Question {
    /// Reads a question from pairs of words, as a query string has them. `now`: milliseconds since 1970.
    ///
    /// # Errors
    /// A word is not known, a time cannot be read, or there would be too many parts.
    pub fn read<'a>(
        pairs: impl Iterator<Item = (std::borrow::Cow<'a, str>, std::borrow::Cow<'a, str>)>,
        now: u64,
    ) -> Result<Self, AskError> {
        let (mut from, mut to, mut bucket, mut tz, mut page) = (None, None, Bucket::None, TimeZone::UTC, None);
        let mut asked = Self { edges: Vec::new(), by: Vec::new(), filters: Vec::new(), limit: ROWS, after: None, tz: TimeZone::UTC };
        for (key, value) in pairs {
            match &*key {
                "from" => from = Some(value.into_owned()),
                "to" => to = Some(value.into_owned()),
                "bucket" => bucket = Bucket::of(&value)?,
                "tz" => tz = zone(&value)?,
                "by" => {
                    for word in value.split(',').map(str::trim).filter(|word| !word.is_empty()) {
                        let dim = Dim::of(word).ok_or_else(|| unknown_dim("by", word))?;
                        if !asked.by.contains(&dim) {
                            asked.by.push(dim);
                        }
                    }
                }
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=MAX_ROWS).contains(limit));
                    asked.limit = limit.ok_or_else(|| invalid(format!("`limit={value}` is not between 1 and {MAX_ROWS}")))?;
                }
                "cursor" => page = Some(value.into_owned()),
                word => {
                    let dim = Dim::of(word).ok_or_else(|| unknown_dim("the question has", word))?;
                    asked.filters.push((dim, value.into_owned()));
                }
            }
        }
        let now = Timestamp::from_millisecond(i64::try_from(now).unwrap_or(i64::MAX)).map_err(|error| invalid(error.to_string()))?;
        let from = moment("from", from.as_deref().unwrap_or("24h"), now, &tz)?;
        let to = moment("to", to.as_deref().unwrap_or("now"), now, &tz)?;
        let (mut from, mut to) = (minute(from), minute(to.checked_add(59.seconds()).unwrap_or(to)));
        if let Some(page) = page {
            let (of, until, after) = read_cursor(&page, asked.by.len())?;
            (from, to, asked.after) = (of, until, Some(after));
        }
        if from >= to {
            return Err(invalid("`from` is not before `to`"));
        }
        asked.edges = edges(from, to, bucket, &tz)?;
        asked.tz = tz;
        Ok(asked)
    }

    /// The time of a minute, in the question's time zone (RFC 3339).
    pub fn time(&self, minute: u32) -> String {
        let at = Timestamp::from_second(i64::from(minute) * 60).unwrap_or(Timestamp::UNIX_EPOCH);
        if self.tz == TimeZone::UTC {
            return format!("{at:.0}");
        }
        at.to_zoned_datetime(self.tz.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    }
}

/// Reads a cursor of a question with `dims` dimensions: the time of the first page, which all pages have, and the last row of the page
/// before. A relative time (`24h`) would move between two pages.
fn read_cursor(word: &str, dims: usize) -> Result<(u32, u32, Vec<u32>), AskError> {
    let numbers: Option<Vec<u32>> = word.split('.').map(|number| number.parse().ok()).collect();
    match numbers.as_deref() {
        Some([from, to, after @ ..]) if after.len() == dims + 1 && i64::from(*to) <= LAST => Ok((*from, *to, after.to_vec())),
        _ => Err(invalid(format!("`cursor={word}` is not one that an answer to this question gave"))),
    }
}

fn unknown_dim(place: &str, word: &str) -> AskError {
    let words: Vec<&str> = Dim::ALL.iter().map(|dim| dim.as_str()).collect();
    let others = if place == "by" { String::new() } else { ", from, to, bucket, tz, by, limit, cursor".to_owned() };
    invalid(format!("{place} `{word}`; known are {}{others}", words.join(", ")))
}

/// A time zone: an IANA name, or a fixed distance from UTC such as `+02:00`.
fn zone(word: &str) -> Result<TimeZone, AskError> {
    let fixed = || format!("1970-01-01T00:00:00{word}[{word}]").parse::<ZonedDateTime>().ok().map(|at| at.time_zone().clone());
    let zone = match word {
        "UTC" | "utc" | "Z" => Some(TimeZone::UTC),
        word if word.starts_with(['+', '-']) => fixed(),
        word => TimeZone::get(word).ok(),
    };
    zone.ok_or_else(|| invalid(format!("`tz={word}` is no time zone; try `Europe/Berlin`, `UTC` or `+02:00`")))
}

/// A time: `now`, a length of time before now, a date, or a date and time.
fn moment(key: &str, word: &str, now: Timestamp, tz: &TimeZone) -> Result<Timestamp, AskError> {
    if word == "now" {
        return Ok(now);
    }
    if let Ok(at) = word.parse::<Timestamp>() {
        return Ok(at);
    }
    if let Ok(date) = word.parse::<civil::DateTime>() {
        return Ok(date.to_zoned_datetime(tz.clone()).map_err(|error| invalid(error.to_string()))?.timestamp());
    }
    let ago = humantime::parse_duration(word.trim_start_matches('-')).ok();
    let ago = ago.and_then(|ago: Duration| i64::try_from(ago.as_secs()).ok());
    ago.and_then(|ago| now.checked_sub(ago.seconds()).ok())
        .ok_or_else(|| invalid(format!("`{key}={word}` is no time; try `24h` (ago), `2026-11-30`, `2026-11-30T10:00:00Z` or `now`")))
}

fn minute(at: Timestamp) -> u32 {
    at.as_second().div_euclid(60).clamp(0, LAST) as u32
}

fn edges(from: u32, to: u32, bucket: Bucket, tz: &TimeZone) -> Result<Vec<u32>, AskError> {
    let mut edges = vec![from];
    if bucket == Bucket::None {
        edges.push(to);
        return Ok(edges);
    }
    let mut last = from;
    loop {
        let next = after(last, bucket, tz).ok_or_else(|| invalid("a time is out of range"))?;
        if next >= to {
            edges.push(to);
            return Ok(edges);
        }
        if edges.len() >= MAX_PARTS {
            return Err(invalid(format!("the answer would have more than {MAX_PARTS} parts: ask for a shorter time, or a larger bucket")));
        }
        edges.push(next);
        last = next;
    }
}

/// The first edge after a minute.
fn after(at: u32, bucket: Bucket, tz: &TimeZone) -> Option<u32> {
    if bucket == Bucket::Minute {
        return Some(at + 1);
    }
    let zoned = Timestamp::from_second(i64::from(at) * 60).ok()?.to_zoned_datetime(tz.clone());
    if bucket == Bucket::Hour {
        // Zones differ from UTC by parts of an hour. An hour in which a clock is set keeps its own length.
        let past = u32::from(zoned.minute().unsigned_abs());
        return Some(at - past + 60);
    }
    let day = zoned.start_of_day().ok()?;
    let next = match bucket {
        Bucket::Week => day.checked_add((7 - i64::from(day.weekday().to_monday_zero_offset())).days()),
        Bucket::Month => day.first_of_month().and_then(|first| first.checked_add(1.month())),
        _ => day.checked_add(1.day()),
    };
    Some(minute(next.ok()?.timestamp()).max(at + 1))
}

/// One row of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Begin and end of its part of time, in minutes since 1970.
    pub part: (u32, u32),
    /// The names, in the order of the question's `by`.
    pub names: Vec<Arc<str>>,
    /// The part and the ids, as a cursor has them.
    pub(super) place: Vec<u32>,
    /// The sums.
    pub sums: Sums,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The rows of this page.
    pub rows: Vec<Group>,
    /// Whether there are more rows.
    pub more: bool,
    /// The sums over all rows of all pages.
    pub total: Sums,
    /// The sums over all rows, by how their figures are known.
    pub known: [Sums; Known::ALL.len()],
    /// The names of the classes of tokens, by place.
    pub classes: Vec<Arc<str>>,
    /// The minute from which on the ledger has recorded.
    pub since: u32,
    /// What the answer lacks, in words.
    pub gaps: Vec<String>,
    /// Whether the ledger is in a file.
    pub durable: bool,
}

impl Answer {
    /// The answer as JSON.
    pub fn to_json(&self, asked: &Question) -> Value {
        let row = |group: &Group| {
            let mut row = Map::new();
            row.insert("from".into(), asked.time(group.part.0).into());
            row.insert("to".into(), asked.time(group.part.1).into());
            for (dim, name) in asked.by.iter().zip(&group.names) {
                row.insert(dim.as_str().into(), (**name).into());
            }
            self.put_sums(&mut row, &group.sums);
            Value::Object(row)
        };
        let mut total = Map::new();
        self.put_sums(&mut total, &self.total);
        let cursor = self.rows.last().filter(|_| self.more).map(|last| {
            let time = asked.edges.first().into_iter().chain(asked.edges.last());
            let numbers: Vec<String> = time.chain(&last.place).map(u32::to_string).collect();
            numbers.join(".")
        });
        json!({
            "from": asked.time(asked.edges.first().copied().unwrap_or(0)),
            "to": asked.time(asked.edges.last().copied().unwrap_or(0)),
            "since": asked.time(self.since),
            "complete": self.gaps.is_empty(),
            "gaps": self.gaps,
            "durable": self.durable,
            "by": asked.by.iter().map(|dim| dim.as_str()).collect::<Vec<_>>(),
            "total": total,
            "known": self.shares(),
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
            "cursor": cursor,
        })
    }

    /// Calls, dollars and the share of the dollars, by how they are known.
    fn shares(&self) -> Value {
        let all = self.total.get(Measure::NanoUsd);
        let mut shares = Map::new();
        for (known, sums) in Known::ALL.into_iter().zip(&self.known) {
            let nano = sums.get(Measure::NanoUsd);
            // A share is for reading; the dollars beside it are exact.
            let share = if all == 0 { Value::Null } else { json!((nano as f64 / all as f64 * 1e6).round() / 1e6) };
            shares.insert(
                known.as_str().into(),
                json!({"calls": sums.get(Measure::Calls), "cost_usd": dollars(nano), "share_of_cost": share}),
            );
        }
        Value::Object(shares)
    }

    fn put_sums(&self, row: &mut Map<String, Value>, sums: &Sums) {
        row.insert("calls".into(), sums.get(Measure::Calls).into());
        let tokens = self.classes.iter().zip(&sums.0[FIXED..]).filter(|(_, tokens)| **tokens > 0);
        let tokens: Map<String, Value> = tokens.map(|(class, tokens)| (class.to_string(), (*tokens).into())).collect();
        row.insert("tokens".into(), Value::Object(tokens));
        row.insert("cost_usd".into(), dollars(sums.get(Measure::NanoUsd)).into());
        row.insert("saved_usd".into(), dollars(sums.get(Measure::SavedNanoUsd)).into());
        row.insert("saved_tokens".into(), sums.get(Measure::SavedTokens).into());
        row.insert("unpriced_calls".into(), sums.get(Measure::Unpriced).into());
    }
}

/// Nano-dollars as a decimal number of dollars.
pub(super) fn dollars(nano: u64) -> String {
    format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Question, AskError> {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('=')).map(|(key, value)| (key.into(), value.into()));
        // 2026-03-29T12:00:00Z, a day on which Berlin's clocks were set.
        Question::read(pairs, 1_774_785_600_000)
    }

    #[test]
    fn days_begin_where_the_zone_says() {
        let asked = read("from=2026-03-28&to=2026-03-31&bucket=day&tz=Europe/Berlin&by=caller,model,caller&caller=u-1").expect("valid");
        let times: Vec<String> = asked.edges.iter().map(|edge| asked.time(*edge)).collect();
        assert_eq!(
            times,
            ["2026-03-28T00:00:00+01:00", "2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00", "2026-03-31T00:00:00+02:00"]
        );
        assert_eq!((&asked.by[..], &asked.filters[..]), (&[Dim::Caller, Dim::Model][..], &[(Dim::Caller, "u-1".to_owned())][..]));
    }

    #[test]
    fn hours_weeks_and_months_have_their_edges() {
        let times = |query: &str| {
            let asked = read(query).expect("valid");
            asked.edges.iter().map(|edge| asked.time(*edge)).collect::<Vec<_>>()
        };
        assert_eq!(
            times("from=2026-03-01T00:10:00Z&to=2026-03-01T02:00:00Z&bucket=hour&tz=Asia/Kolkata"),
            ["2026-03-01T05:40:00+05:30", "2026-03-01T06:00:00+05:30", "2026-03-01T07:00:00+05:30", "2026-03-01T07:30:00+05:30"]
        );
        assert_eq!(
            times("from=2026-03-01&to=2026-03-10&bucket=week"),
            ["2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z", "2026-03-09T00:00:00Z", "2026-03-10T00:00:00Z"]
        );
        assert_eq!(
            times("from=2026-01-15&to=2026-03-01&bucket=month&tz=%2B02:00".replace("%2B", "+").as_str()),
            ["2026-01-15T00:00:00+02:00", "2026-02-01T00:00:00+02:00", "2026-03-01T00:00:00+02:00"]
        );
        assert_eq!(times("from=90m"), ["2026-03-29T10:30:00Z", "2026-03-29T12:00:00Z"]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (query, words) in [
            ("by=user", "`user`; known are caller, inbound"),
            ("colour=red", "the question has `colour`"),
            ("from=yesterday", "`from=yesterday` is no time"),
            ("tz=Mars/Base", "no time zone"),
            ("bucket=year", "is none of none, minute"),
            ("limit=0", "between 1 and"),
            ("cursor=x", "not one that an answer to this question gave"),
            ("by=caller&cursor=1.2.3", "not one that an answer"),
            ("cursor=5.5.5.1&by=caller", "not before"),
            ("cursor=1.4294967295.5.1&by=caller", "not one that an answer"),
            ("from=now&to=1h", "not before"),
            ("from=30d&bucket=minute", "more than 10000 parts"),
        ] {
            let said = read(query).expect_err(query).to_string();
            assert!(said.contains(words), "{query}: {said}");
        }
    }
}
