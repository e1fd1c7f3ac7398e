//! Requests that a policy in `observe` would have refused, and why: the last ones, bounded.
//!
//! Nothing is kept for a request that no policy would have refused. A row has no query and no field of the request; its path and its reasons
//! are cut, and personal data that the log scrubs is scrubbed here too.

use std::{
    borrow::Cow,
    collections::VecDeque,
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{failures::moment, log::Record};
use crate::clock;

/// Most requests that are kept; with texts of their longest about 2 MiB.
const KEEP: usize = 1_000;
/// Longest text of a row, in bytes.
const LONGEST: usize = 256;
/// Rows of a page, unless the question says another number.
const ROWS: usize = 100;

/// Why a policy would have refused: its name, and a sentence.
pub type WouldRefuse = (Cow<'static, str>, Box<str>);

#[derive(Debug)]
struct Row {
    /// Milliseconds since 1970.
    at: u64,
    number: u64,
    door: &'static str,
    route: Box<str>,
    caller: Box<str>,
    address: Box<str>,
    method: Box<str>,
    path: Box<str>,
    request_id: Box<str>,
    status: u16,
    by: Box<[WouldRefuse]>,
}

/// The last such requests.
#[derive(Debug, Default)]
pub struct ObservedLog {
    rows: Mutex<(VecDeque<Arc<Row>>, u64)>,
}

/// The requests that a question means. Every condition must hold.
#[derive(Debug, Default)]
pub struct ObservedFilter {
    policy: Option<String>,
    route: Option<String>,
    caller: Option<String>,
    door: Option<String>,
    since: u64,
    until: Option<u64>,
    limit: Option<usize>,
}

impl ObservedFilter {
    /// Reads a question from pairs of words. `now`: milliseconds since 1970.
    ///
    /// # Errors
    /// A word is not known, or a value cannot be read. The text names the word and what would be right.
    pub fn read<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>, now: u64) -> Result<Self, String> {
        let mut filter = Self::default();
        for (key, value) in pairs {
            let time = || moment(value, now).ok_or_else(|| format!("`{key}={value}` is no time; try `15m` (ago), `2026-11-30` or `now`"));
            match key {
                "policy" => filter.policy = Some(value.to_owned()),
                "route" => filter.route = Some(value.to_owned()),
                "caller" => filter.caller = Some(value.to_owned()),
                "door" => filter.door = Some(value.to_owned()),
                "since" => filter.since = time()?,
                "until" => filter.until = Some(time()?),
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=KEEP).contains(limit));
                    filter.limit = Some(limit.ok_or_else(|| format!("`limit={value}` is not between 1 and {KEEP}"))?);
                }
                _ => return Err(format!("the question has `{key}`; known are policy, route, caller, door, since, until, limit")),
            }
        }
        Ok(filter)
    }

    fn fits(&self, row: &Row) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        (self.since..=self.until.unwrap_or(u64::MAX)).contains(&row.at)
            && is(&self.route, &row.route)
            && is(&self.caller, &row.caller)
            && is(&self.door, row.door)
            && self.policy.as_deref().is_none_or(|policy| row.by.iter().any(|(name, _)| name == policy))
    }
}

impl ObservedLog {
    /// Keeps a request, and lets the oldest go.
    pub fn keep(&self, record: &Record<'_>, by: Vec<WouldRefuse>) {
        let row = Row {
            at: millis(record.at),
            number: 0,
            door: record.door.as_str(),
            route: cut(record.route),
            caller: cut(record.caller),
            address: record.client.to_string().into(),
            method: cut(record.method.as_str()),
            path: cut(record.path),
            request_id: cut(record.request_id),
            status: record.status,
            by: by.into_iter().map(|(name, why)| (name, cut(&why))).collect(),
        };
        let mut rows = self.rows.lock();
        rows.1 += 1;
        let number = rows.1;
        rows.0.push_back(Arc::new(Row { number, ..row }));
        if rows.0.len() > KEEP {
            rows.0.pop_front();
        }
    }

    /// The page of those that are meant, the newest first.
    pub fn find(&self, filter: &ObservedFilter) -> Value {
        let (rows, all) = {
            let rows = self.rows.lock();
            (rows.0.iter().cloned().collect::<Vec<_>>(), rows.1)
        };
        let meant: Vec<&Arc<Row>> = rows.iter().rev().filter(|row| filter.fits(row)).collect();
        let shown: Vec<Value> = meant.iter().take(filter.limit.unwrap_or(ROWS)).map(|row| shown(row)).collect();
        json!({"observed": shown, "found": meant.len(), "kept": rows.len(), "seen": all})
    }

    /// Forgets a caller's requests. Gives their number.
    pub fn erase(&self, caller: &str) -> usize {
        let mut rows = self.rows.lock();
        let before = rows.0.len();
        rows.0.retain(|row| &*row.caller != caller);
        before - rows.0.len()
    }
}

fn shown(row: &Row) -> Value {
    let set = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let by: Vec<Value> = row.by.iter().map(|(policy, why)| json!({"policy": policy, "why": set(why)})).collect();
    json!({
        "number": row.number, "at": humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + Duration::from_millis(row.at)).to_string(),
        "door": row.door, "route": &*row.route, "caller": set(&row.caller), "address": &*row.address, "method": &*row.method,
        "path": &*row.path, "request_id": &*row.request_id, "status": row.status, "would_refuse": by,
    })
}

fn cut(text: &str) -> Box<str> {
    text[..text.floor_char_boundary(LONGEST)].into()
}

fn millis(at: SystemTime) -> u64 {
    u64::try_from(clock::unix(at).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(pairs: &[(&str, &str)]) -> ObservedFilter {
        ObservedFilter::read(pairs.iter().copied(), 100_000).expect("read")
    }

    fn keep(ring: &ObservedLog, at: u64, route: &'static str, caller: &'static str, policy: &'static str) {
        let row = Row {
            at,
            number: at,
            door: "inbound",
            route: route.into(),
            caller: caller.into(),
            address: "192.0.2.1".into(),
            method: "GET".into(),
            path: "/x".into(),
            request_id: "r".into(),
            status: 200,
            by: Box::new([(policy.into(), "because".into())]),
        };
        ring.rows.lock().0.push_back(Arc::new(row));
    }

    #[test]
    fn every_condition_must_hold_and_the_newest_come_first() {
        let ring = ObservedLog::default();
        keep(&ring, 10_000, "api", "ann", "csrf");
        keep(&ring, 50_000, "api", "bob", "auth");
        keep(&ring, 90_000, "web", "ann", "auth");
        let found = |pairs: &[(&str, &str)]| {
            let page = ring.find(&filter(pairs));
            page["observed"].as_array().expect("rows").iter().map(|row| row["number"].as_u64().expect("a number")).collect::<Vec<_>>()
        };
        assert_eq!(found(&[]), [90_000, 50_000, 10_000]);
        assert_eq!(found(&[("policy", "auth")]), [90_000, 50_000]);
        assert_eq!(found(&[("policy", "auth"), ("caller", "bob")]), [50_000]);
        assert_eq!(found(&[("since", "60s"), ("until", "20s")]), [50_000]);
        assert_eq!((found(&[("route", "api"), ("limit", "1")]), found(&[("door", "outbound")])), (vec![50_000], vec![]));
        assert_eq!((ring.erase("ann"), found(&[])), (2, vec![50_000]));
    }

    #[test]
    fn a_question_that_cannot_be_read_says_why() {
        for (pair, why) in [(("since", "soon"), "is no time"), (("limit", "0"), "between 1 and"), (("colour", "red"), "known are policy")] {
            let said = ObservedFilter::read([pair], 0).expect_err("refused");
            assert!(said.contains(why), "{said}");
        }
    }
}
