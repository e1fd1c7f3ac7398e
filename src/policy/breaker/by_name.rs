//! The breakers of the process by name, and an operator's orders by hand: a whole target or one model is held open, with the
//! breakers still to come.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use parking_lot::Mutex;

use super::{Breaker, Snapshot, State};
use crate::{clock::Instant, config};

/// The breakers of the process, by name. `openai/gpt-4o` is that of a model, `openai` that of the rest of the target. `openai#team-a`
/// stands in the place of `openai` where the provider has several keys, `openai:eu` where it has several members. `@route` at the end is that of a route with terms of its own. The breakers live on across reloads.
#[derive(Debug, Default)]
pub struct Breakers(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    all: HashMap<Arc<str>, Arc<Breaker>>,
    /// The newest generation of the configuration.
    generation: u64,
    /// The orders by hand and their times: held open, or released within a held target. The longest name that fits counts.
    by_hand: BTreeMap<Arc<str>, (Hand, Instant)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hand {
    Open,
    LetGo,
}

impl Breakers {
    /// The breaker of a target, for a request of this generation of the configuration: the existing one, with these terms from
    /// now on, or a new one. A request of an older generation changes nothing: it takes the existing breaker, or one for itself
    /// alone. For load time: keep the result.
    pub fn get(&self, name: &Arc<str>, terms: &config::Breaker, generation: u64, now: Instant) -> Arc<Breaker> {
        let mut known = self.0.lock();
        let is_old = generation < known.generation;
        let breaker = match known.all.get(name) {
            Some(found) if is_old || found.terms == *terms => return found.clone(),
            Some(found) => Arc::new(found.successor(terms.clone(), now)),
            None => {
                let fresh = Arc::new(Breaker::new(terms.clone(), now));
                if known.is_held(name) {
                    fresh.open(now);
                }
                fresh
            }
        };
        if !is_old {
            known.all.insert(name.clone(), breaker.clone());
        }
        breaker
    }

    /// The breaker of this name, if there is one.
    pub fn find(&self, name: &str) -> Option<Arc<Breaker>> {
        self.0.lock().all.get(name).cloned()
    }

    /// Holds open every breaker that belongs to `name`, also breakers still to come: a target with all its models, or one
    /// model. Returns the names of the existing ones.
    pub fn hold(&self, name: &str, now: Instant) -> Vec<Arc<str>> {
        self.0.lock().steer(name, Hand::Open, |breaker| breaker.open(now), now)
    }

    /// Closes every breaker that belongs to `name` and forgets its failures; after that each works by itself. Returns their names.
    pub fn release(&self, name: &str, now: Instant) -> Vec<Arc<str>> {
        self.0.lock().steer(name, Hand::LetGo, |breaker| breaker.close(now), now)
    }

    /// Begins a generation of the configuration: forgets the breakers of targets that no longer exist, and the orders by hand for them.
    /// `keep` is asked about breakers, `means` about orders: an order may name a target of several members.
    pub fn retain(&self, generation: u64, keep: impl Fn(&str) -> bool, means: impl Fn(&str) -> bool) {
        let mut known = self.0.lock();
        known.generation = known.generation.max(generation);
        known.all.retain(|name, _| keep(name));
        known.by_hand.retain(|name, _| means(name));
    }

    /// All breakers, by name, and the names held open without a breaker of that very name.
    pub fn snapshot(&self, now: Instant) -> Vec<Snapshot> {
        let known = self.0.lock();
        let held = known.by_hand.iter().filter(|(name, (hand, _))| *hand == Hand::Open && !known.all.contains_key(*name));
        let mut all: Vec<_> = known.all.iter().map(|(name, breaker)| breaker.snapshot(name, now)).collect();
        all.extend(held.map(|(name, (_, since))| Snapshot {
            name: name.clone(),
            state: State::Open,
            since: now.saturating_duration_since(*since),
            retry_after: None,
            forced: true,
            in_a_row: 0,
            requests: 0,
            failures: 0,
            transitions: [0; 3],
            refused: 0,
        }));
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

impl Known {
    fn is_held(&self, name: &str) -> bool {
        let said = self.by_hand.iter().filter(|(of, _)| belongs(name, of)).max_by_key(|(of, _)| of.len());
        said.is_some_and(|(_, (hand, _))| *hand == Hand::Open)
    }

    fn steer(&mut self, name: &str, hand: Hand, act: impl Fn(&Breaker), now: Instant) -> Vec<Arc<str>> {
        self.by_hand.retain(|of, _| !belongs(of, name));
        if self.is_held(name) != (hand == Hand::Open) {
            self.by_hand.insert(name.into(), (hand, now));
        }
        let mut steered = Vec::new();
        for (of, breaker) in self.all.iter().filter(|(of, _)| belongs(of, name)) {
            act(breaker);
            steered.push(of.clone());
        }
        steered.sort();
        steered
    }
}

/// Whether a breaker of this name is one of `to`: `openai#team-a/gpt-4o@chat` is one of `openai#team-a`, of `openai/gpt-4o` and of
/// `openai`; `app:blue`, the breaker of a member, is one of `app`.
pub fn belongs(name: &str, to: &str) -> bool {
    let (((name, key), rest), ((to, to_key), to_rest)) = (parts(name), parts(to));
    (name == to || name.split_once(':').is_some_and(|(whole, _)| whole == to))
        && (to_key.is_none() || to_key == key)
        && rest.strip_prefix(to_rest).is_some_and(|rest| rest.is_empty() || to_rest.is_empty() || rest.starts_with(['/', '@']))
}

/// A name's target and key, then its model and route with the separator before them.
fn parts(name: &str) -> ((&str, Option<&str>), &str) {
    let (head, rest) = name.split_at(name.find(['/', '@']).unwrap_or(name.len()));
    (head.split_once('#').map_or((head, None), |(target, key)| (target, Some(key))), rest)
}
