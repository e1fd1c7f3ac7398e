//! Many like incidents as few lines: an attack must not fill the disk, nor push out what was written before it.
//!
//! The first incident of a kind from one source has a line at once. Those that follow within a minute are counted, and have one line
//! together. In a minute at most 256 sources have lines of their own; the incidents of all others are counted by kind.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use super::Incident;

/// The time in which incidents are counted together.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Most sources with lines of their own in one window.
const MOST: usize = 256;
/// Members of the first incident that say nothing of the others.
const OF_ONE: [&str; 2] = ["request_id", "method"];

/// The kind of an incident: its event and the reason, both words of this program.
pub type Sort = (&'static str, &'static str);

#[derive(Debug)]
struct Tally {
    more: u64,
    last: SystemTime,
    /// `None`: of sources that have no line of their own.
    first: Option<Incident>,
}

/// Incidents of the window that is open.
#[derive(Debug, Default)]
pub struct Flood {
    begun: Option<SystemTime>,
    sources: HashMap<(Sort, Option<u128>), Tally>,
}

impl Flood {
    /// Takes an incident of `source`; gives its line, if it has one of its own. `incident` is asked for in that case alone.
    pub fn take(&mut self, sort: Sort, source: u128, at: SystemTime, incident: impl FnOnce() -> Incident) -> Option<Incident> {
        self.begun.get_or_insert(at);
        let own = (sort, Some(source));
        if !self.sources.contains_key(&own) && self.sources.len() < MOST {
            let first = incident();
            self.sources.insert(own, Tally { more: 0, last: at, first: Some(first.clone()) });
            return Some(first);
        }
        let key = if self.sources.contains_key(&own) { own } else { (sort, None) };
        let tally = self.sources.entry(key).or_insert(Tally { more: 0, last: at, first: None });
        tally.more += 1;
        tally.last = at;
        None
    }

    /// The lines of a window that is over, or of the open one if `now` is `None`.
    pub fn over(&mut self, now: Option<SystemTime>) -> Vec<Incident> {
        let Some(begun) = self.begun else { return Vec::new() };
        // A clock that was set back closes the window too.
        if now.is_some_and(|now| now.duration_since(begun).is_ok_and(|passed| passed < WINDOW)) {
            return Vec::new();
        }
        self.begun = None;
        let counted = self.sources.drain().filter(|(_, tally)| tally.more > 0);
        let mut lines: Vec<Incident> = counted.map(|((sort, _), tally)| tally.told(sort)).collect();
        lines.sort_by_key(|line| line.at);
        lines
    }
}

impl Tally {
    fn told(self, (event, reason): Sort) -> Incident {
        let others = || Incident::new(event, self.last).with("reason", reason).with("sources", "further ones, without lines of their own");
        let mut incident = self.first.unwrap_or_else(others);
        incident.at = self.last;
        OF_ONE.iter().for_each(|member| drop(incident.members.shift_remove(*member)));
        incident.with("more", self.more)
    }
}

/// The source of an address. An IPv6 address counts by its /64, as in limits.
pub fn net(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address) >> 64 << 64 | 1 << 63,
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const SORT: Sort = ("auth.refused", "auth_invalid");

    fn one() -> Incident {
        Incident::new(SORT.0, UNIX_EPOCH).with("reason", SORT.1).with("route", "r").with("request_id", "x")
    }

    #[test]
    fn an_attack_from_many_addresses_has_few_lines_and_every_refusal_is_counted() {
        let mut flood = Flood::default();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let mut lines = Vec::new();
        for nth in 0..100_000_u128 {
            lines.extend(flood.take(SORT, nth % 1000, at(10), one));
        }
        assert_eq!((lines.len(), flood.sources.len()), (MOST, MOST + 1));
        assert!(flood.over(Some(at(69))).is_empty(), "the window is open");
        let closing = flood.over(Some(at(70)));
        let more: u64 = closing.iter().map(|line| line.members["more"].as_u64().expect("a count")).sum();
        assert_eq!((closing.len(), more + lines.len() as u64), (MOST + 1, 100_000));
        assert!(closing.iter().all(|line| !line.members.contains_key("request_id")));
        assert!(flood.over(Some(at(700))).is_empty() && flood.sources.is_empty());
    }

    #[test]
    fn what_came_once_has_one_line() {
        let mut flood = Flood::default();
        assert!(flood.take(SORT, 1, UNIX_EPOCH, one).is_some());
        assert!(flood.over(None).is_empty());
        assert!(flood.take(SORT, 1, UNIX_EPOCH, one).is_some(), "a new window");
    }
}
