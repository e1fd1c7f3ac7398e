//! What an operator changes while limits count: a counter begins anew, or an amount is larger for a while.
//!
//! Both are of this process and end with it. A counter is found by the words of its owner: its key is made of them as it is made of a request.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::{
    KeyFacts, Limits, keys,
    rule::Rule,
    table::{Key, Meter},
};
use crate::{arrival::Door, clock::Instant, config::KeyPart, http1::Fields};

/// Most raises of one limit at once; the one that ends first makes room.
const MOST: usize = 64;

/// An order of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByHand {
    /// The counter begins anew.
    Reset,
    /// The amount is so many hundredths for this time.
    Raise {
        /// In hundredths of the amount: 200 is twice as much.
        percent: u32,
        /// How long.
        time: Duration,
    },
}

/// What an order has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handled {
    /// The limit's door.
    pub door: Door,
    /// The limit's name.
    pub limit: Arc<str>,
    /// Whether a counter was there: an owner without one has used nothing.
    pub counted: bool,
}

/// A raise that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raised {
    /// The limit's door.
    pub door: Door,
    /// The limit's name.
    pub limit: Arc<str>,
    /// Whose counter; `None`: every one of the limit.
    pub who: Option<Arc<str>>,
    /// In hundredths of the amount.
    pub percent: u32,
    /// How long it still holds.
    pub left: Duration,
}

#[derive(Debug)]
struct Raise {
    key: Option<Key>,
    who: Option<Arc<str>>,
    percent: u32,
    until: Instant,
}

/// The raises of a limit. While there are none, a request pays one load of an atomic number for them.
#[derive(Debug, Default)]
pub(super) struct Raises {
    count: AtomicUsize,
    all: Mutex<Vec<Raise>>,
}

impl Raises {
    /// The amount that holds for a key now.
    pub(super) fn amount(&self, amount: u64, key: Key) -> u64 {
        if self.count.load(Relaxed) == 0 {
            return amount;
        }
        let now = Instant::now();
        let percent =
            self.change(now, |all| all.iter().filter(|raise| raise.key.is_none_or(|of| of == key)).map(|raise| raise.percent).max());
        let raised = u128::from(amount) * u128::from(percent.unwrap_or(100)) / 100;
        u64::try_from(raised).unwrap_or(u64::MAX)
    }

    fn add(&self, raise: Raise, now: Instant) {
        self.change(now, |all| {
            all.retain(|other| other.key != raise.key);
            if all.len() >= MOST
                && let Some(first) = all.iter().enumerate().min_by_key(|(_, raise)| raise.until).map(|(at, _)| at)
            {
                all.swap_remove(first);
            }
            all.push(raise);
        });
    }

    /// Changes the raises that have not ended.
    fn change<T>(&self, now: Instant, change: impl FnOnce(&mut Vec<Raise>) -> T) -> T {
        let mut all = self.all.lock();
        all.retain(|raise| raise.until > now);
        let done = change(&mut all);
        self.count.store(all.len(), Relaxed);
        done
    }
}

impl Rule {
    /// The key of the counter whose owner has these words, one for each part of the limit's key, with commas between them; `None`: the words
    /// make no key of this limit.
    fn key_of(&self, who: &str) -> Option<Key> {
        if let Some(key) = self.tally.near.find(who) {
            return Some(key);
        }
        let words: Vec<&str> = if self.parts.len() == 1 { vec![who] } else { who.split(',').map(str::trim).collect() };
        if words.len() != self.parts.len() {
            return None;
        }
        let mut headers = Fields::new();
        let (mut ip, mut caller, mut route, mut provider, mut model) = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), None, "", None, None);
        for (part, word) in self.parts.iter().zip(words) {
            match part {
                KeyPart::ClientIp => ip = word.parse().ok()?,
                KeyPart::Caller => caller = Some(word),
                KeyPart::Route => route = word,
                KeyPart::Provider => provider = Some(word),
                KeyPart::Model => model = Some(word),
                KeyPart::Header(name) => headers.insert(name.as_str(), word.as_bytes()),
                _ => return None,
            }
        }
        let facts = KeyFacts { client_ip: ip, caller, proof: None, headers: &headers, query: None, trusted: false, route, provider, model };
        let mut local = keys::Local::new(self.number);
        keys::feed(&mut local, self.door, &self.parts, &facts, false).then(|| local.finish())
    }

    /// Obeys an order; `Err`: it means nothing for this limit.
    fn obey(&self, who: Option<&str>, order: ByHand, now: Instant) -> Result<Handled, String> {
        let name = &self.name;
        let key = match (who, self.parts.is_empty()) {
            (None, true) => Some(self.only().key),
            (None, false) => None,
            (Some(who), true) => return Err(format!("`{name}` counts everybody together: it has no counter of `{who}`")),
            (Some(who), false) => Some(self.key_of(who).ok_or_else(|| format!("`{who}` names no counter of `{name}`"))?),
        };
        let counted = match (order, &self.meter) {
            (ByHand::Reset, Meter::Flight) => return Err(format!("`{name}` counts requests in flight: their number is what it is")),
            (ByHand::Reset, _) if self.inner.sharing.is_some() => {
                return Err(format!("`{name}` is counted in Redis with other replicas: raise it for a while instead"));
            }
            (ByHand::Reset, _) => match key {
                Some(key) => self.inner.table.forget(key),
                None => return Err(format!("`{name}` has a counter for each key: say whose")),
            },
            (ByHand::Raise { .. }, Meter::Pace(_)) => {
                return Err(format!("`{name}` paces (gcra): its amount is its pace; reset it instead"));
            }
            (ByHand::Raise { percent, time }, _) => {
                let who = who.map(Arc::from);
                self.tally.raises.add(Raise { key, who, percent, until: now + time }, now);
                true
            }
        };
        Ok(Handled { door: self.door, limit: name.clone(), counted })
    }
}

impl Limits {
    /// Obeys an order for the limit of this name, or, without a name, for every limit that has a counter of `who`.
    ///
    /// # Errors
    /// In words: there is no such limit, or the order means nothing for any that is meant.
    pub fn by_hand(&self, limit: Option<&str>, who: Option<&str>, order: ByHand, now: Instant) -> Result<Vec<Handled>, String> {
        if limit.is_none() && who.is_none() {
            return Err("say which limit, or whose counter".into());
        }
        let all = self.rules();
        let mut rules: Vec<&Arc<Rule>> = all.iter().filter(|rule| limit.is_none_or(|name| *rule.name == *name)).collect();
        if rules.is_empty() {
            let names: Vec<&str> = all.iter().map(|rule| &*rule.name).collect();
            return Err(format!("there is no limit `{}`; there are: {}", limit.unwrap_or_default(), names.join(", ")));
        }
        rules.sort_by(|a, b| (a.door, &a.name).cmp(&(b.door, &b.name)));
        let (mut done, mut why) = (Vec::new(), Vec::new());
        for rule in rules {
            match rule.obey(who, order, now) {
                Ok(handled) => done.push(handled),
                Err(refused) => why.push(refused),
            }
        }
        if done.is_empty() { Err(why.join("; ")) } else { Ok(done) }
    }

    /// The raises that hold.
    pub fn raised(&self, now: Instant) -> Vec<Raised> {
        let of = |rule: &Arc<Rule>| {
            let raised = |raise: &Raise| Raised {
                door: rule.door,
                limit: rule.name.clone(),
                who: raise.who.clone(),
                percent: raise.percent,
                left: raise.until.saturating_duration_since(now),
            };
            rule.tally.raises.change(now, |all| all.iter().map(raised).collect::<Vec<_>>())
        };
        self.rules().iter().flat_map(of).collect()
    }
}
