//! The keys that save most: a table of fixed size, kept by the Space-Saving rule (Metwally et al., 2005) within small sets.
//!
//! A key lies in one set of eight rows. A new key takes the place of the least row and inherits its weight: a key that saves
//! more than an eighth of all that its set saves is never missed. The savings of a row are counted from when its key was taken
//! in: never too much. A hit costs one short lock of a set and no allocation.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{entry::Entry, key::Key};

const SETS: usize = 64;
const WAYS: usize = 8;

/// The savings of answers from the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Saved {
    /// Requests that were not forwarded.
    pub requests: u64,
    /// Milliseconds that the origin took for the answer, for each of them.
    pub millis: u64,
    /// Tokens that the provider did not count.
    pub tokens: u64,
    /// Nano-dollars that the provider did not bill.
    pub nano_usd: u64,
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The key, for `explain` and `purge`.
    pub key: Key,
    /// The request in words, for people: method, host and path without the query, or provider, operation and model.
    pub what: Arc<str>,
    /// The route that stored it.
    pub route: Arc<str>,
    /// The savings since the key was taken in.
    pub saved: Saved,
    /// For the rule: milliseconds and requests saved, with the inherited weight.
    weight: u64,
}

/// The table, shared by all workers.
#[derive(Debug)]
pub struct Top(Box<[Mutex<Vec<Row>>]>);

impl Default for Top {
    fn default() -> Self {
        Self((0..SETS).map(|_| Mutex::new(Vec::with_capacity(WAYS))).collect())
    }
}

impl Top {
    /// Counts `requests` answers with `entry`.
    pub fn record(&self, key: Key, entry: &Entry, requests: u64) {
        if requests == 0 {
            return;
        }
        let savings = entry.savings.unwrap_or_default();
        let saved = Saved {
            requests,
            millis: u64::from(entry.took_millis).saturating_mul(requests),
            tokens: savings.usage.total().saturating_mul(requests),
            nano_usd: savings.nano_usd.saturating_mul(requests),
        };
        self.add(key, &entry.what, &entry.route, saved);
    }

    fn add(&self, key: Key, what: &Arc<str>, route: &Arc<str>, saved: Saved) {
        // A request is worth a millisecond even where the origin answers at once.
        let weight = saved.millis.saturating_add(saved.requests);
        let mut rows = self.0[key.bucket(SETS)].lock();
        if let Some(row) = rows.iter_mut().find(|row| row.key == key) {
            row.weight = row.weight.saturating_add(weight);
            row.saved.add(saved);
            return;
        }
        let fresh = |inherited: u64| Row { key, what: what.clone(), route: route.clone(), saved, weight: weight.saturating_add(inherited) };
        if rows.len() < WAYS {
            rows.push(fresh(0));
        } else if let Some(least) = rows.iter_mut().min_by_key(|row| row.weight) {
            *least = fresh(least.weight);
        }
    }

    /// The `count` rows with the most of `by`.
    pub fn rows(&self, by: By, count: usize) -> Vec<Row> {
        let mut all: Vec<Row> = self.0.iter().flat_map(|set| set.lock().clone()).collect();
        all.sort_by(|a, b| by.of(&b.saved).cmp(&by.of(&a.saved)).then_with(|| b.weight.cmp(&a.weight)).then_with(|| a.key.cmp(&b.key)));
        all.truncate(count);
        all
    }
}

impl Saved {
    fn add(&mut self, more: Self) {
        self.requests = self.requests.saturating_add(more.requests);
        self.millis = self.millis.saturating_add(more.millis);
        self.tokens = self.tokens.saturating_add(more.tokens);
        self.nano_usd = self.nano_usd.saturating_add(more.nano_usd);
    }
}

/// An order of the table's rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum By {
    /// Dollars.
    Usd,
    /// Time of the origin.
    #[default]
    Time,
    /// Requests.
    Requests,
    /// Tokens.
    Tokens,
}

impl By {
    /// Every order with its word.
    pub const ALL: [(Self, &'static str); 4] =
        [(Self::Time, "time"), (Self::Usd, "usd"), (Self::Requests, "requests"), (Self::Tokens, "tokens")];

    fn of(self, saved: &Saved) -> u64 {
        match self {
            Self::Usd => saved.nano_usd,
            Self::Time => saved.millis,
            Self::Requests => saved.requests,
            Self::Tokens => saved.tokens,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Chance;

    fn add(top: &Top, number: u64, millis: u64) {
        let what: Arc<str> = format!("GET /{number}").into();
        top.add(Key::numbered(number), &what, &"r".into(), Saved { requests: 1, millis, tokens: millis, nano_usd: 3 });
    }

    #[test]
    fn what_saves_most_is_found_among_many() {
        let top = Top::default();
        let chance = Chance::seeded(7);
        let mut hot = [0; 20];
        for _ in 0..200_000 {
            // One in four is for the hot keys, the rest for half a million others.
            if chance.unit() < 0.25 {
                let at = (chance.unit() * hot.len() as f64) as usize;
                hot[at] += 1;
                add(&top, at as u64, 5);
            } else {
                add(&top, 1000 + (chance.unit() * 500_000.0) as u64, 5);
            }
        }
        let rows = top.rows(By::Requests, hot.len());
        for row in &rows {
            let at: usize = row.what.strip_prefix("GET /").expect("a path").parse().expect("a number");
            assert!(at < hot.len(), "{row:?}");
            assert!(row.saved.requests <= hot[at] && row.saved.requests * 10 > hot[at] * 9, "{row:?} of {}", hot[at]);
            assert_eq!((row.saved.millis, row.saved.nano_usd), (row.saved.requests * 5, row.saved.requests * 3));
        }
        assert!(top.rows(By::Time, usize::MAX).len() <= SETS * WAYS);
    }

    #[test]
    fn rows_come_in_the_order_that_was_asked_for() {
        let top = Top::default();
        for (number, requests, millis, nano_usd) in [(1, 1, 100, 5), (2, 9, 9, 1), (3, 2, 20, 500)] {
            let saved = Saved { requests, millis, tokens: 0, nano_usd };
            top.add(Key::numbered(number), &number.to_string().into(), &"r".into(), saved);
        }
        for (by, first) in [(By::Time, "1"), (By::Requests, "2"), (By::Usd, "3")] {
            assert_eq!(&*top.rows(by, 1)[0].what, first, "{by:?}");
        }
    }
}
