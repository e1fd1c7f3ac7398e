//! Work that goes on after its answer, by provider and id: the payers of open works, and the paid works.
//!
//! A background response states its usage once it has ended, in the answer to every poll. [`Works`] makes one charge of them.
//! It is bounded: paid works are forgotten first, then the oldest open work. The payer of a forgotten open work is given back:
//! no answer will state that work's usage any more, so it is charged as it was reserved.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;

use crate::clock::Instant;

/// Most works that are remembered.
const MOST: usize = 10_000;
/// How long a work is remembered: one day. Providers keep a polled response for a shorter time, and a research takes hours.
const REMEMBERED: Duration = Duration::from_secs(86_400);

/// A provider and the id of a work there.
type Name = (Arc<str>, Box<str>);

/// Open and paid works. Shared by all workers.
#[derive(Debug)]
pub struct Works<P> {
    inner: Mutex<Inner<P>>,
    most: usize,
    remembered: Duration,
}

#[derive(Debug)]
struct Inner<P> {
    works: HashMap<Name, State<P>>,
    /// Open works, oldest first; `paid` has the paid ones, in the order of payment.
    open: VecDeque<(Name, Instant)>,
    paid: VecDeque<(Name, Instant)>,
    /// Changes so far.
    version: u64,
}

#[derive(Debug)]
enum State<P> {
    Open(P),
    Paid,
}

/// The charge for the end of a work.
#[derive(Debug, PartialEq, Eq)]
pub enum Due<P> {
    /// Charge now, to this payer, who began the work.
    From(P),
    /// Charge now, to the caller who polls: this process does not know who began the work.
    FromWhoAsks,
    /// Charge nothing: the work was charged before.
    Nothing,
}

impl<P> Default for Works<P> {
    fn default() -> Self {
        Self::lasting(REMEMBERED)
    }
}

impl<P> Works<P> {
    /// Works that are remembered for so long.
    pub fn lasting(remembered: Duration) -> Self {
        let inner = Inner { works: HashMap::new(), open: VecDeque::new(), paid: VecDeque::new(), version: 0 };
        Self { inner: Mutex::new(inner), most: MOST, remembered }
    }

    #[cfg(test)]
    fn of_at_most(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    /// Records an open work, paid by `payer`. Gives the payers of the works that are forgotten to make room.
    ///
    /// # Errors
    /// The work is known already and has its payer. `payer` is given back.
    pub fn begin(&self, provider: &Arc<str>, id: &str, payer: P, now: Instant) -> Result<Vec<P>, P> {
        self.begin_at(provider, id, payer, now)?;
        Ok(self.inner.lock().forget(self.most, self.remembered, now))
    }

    /// As [`begin`](Self::begin), for a work that has begun earlier. Nothing is forgotten.
    ///
    /// # Errors
    /// The work is known already and has its payer. `payer` is given back.
    pub fn begin_at(&self, provider: &Arc<str>, id: &str, payer: P, at: Instant) -> Result<(), P> {
        let name = (provider.clone(), Box::from(id));
        let mut inner = self.inner.lock();
        if inner.works.contains_key(&name) {
            return Err(payer);
        }
        inner.works.insert(name.clone(), State::Open(payer));
        let place = inner.open.partition_point(|(_, began)| *began <= at);
        inner.open.insert(place, (name, at));
        inner.version += 1;
        Ok(())
    }

    /// A number that changes with the works.
    pub fn version(&self) -> u64 {
        self.inner.lock().version
    }

    /// Gives provider, id, time and payer of each open work, then those of each paid work, which have no payer any more.
    pub fn each(&self, mut give: impl FnMut(&str, &str, Instant, Option<&P>)) {
        let inner = self.inner.lock();
        for (name, at) in inner.open.iter().chain(&inner.paid) {
            match inner.works.get(name) {
                Some(State::Open(payer)) => give(&name.0, &name.1, *at, Some(payer)),
                Some(State::Paid) => give(&name.0, &name.1, *at, None),
                None => {}
            }
        }
    }

    /// Changes the payers of open works. `change` tells whether it has changed the payer. Gives whether any payer was changed.
    pub fn each_payer(&self, mut change: impl FnMut(&mut P) -> bool) -> bool {
        let mut inner = self.inner.lock();
        let mut changed = false;
        for state in inner.works.values_mut() {
            if let State::Open(payer) = state {
                changed |= change(payer);
            }
        }
        inner.version += u64::from(changed);
        changed
    }

    /// Ends a work whose usage is known. The first call for a work gets the payer to charge.
    pub fn end(&self, provider: &Arc<str>, id: &str, now: Instant) -> Due<P> {
        let name = (provider.clone(), Box::from(id));
        let mut inner = self.inner.lock();
        let before = inner.works.insert(name.clone(), State::Paid);
        inner.version += u64::from(!matches!(before, Some(State::Paid)));
        match before {
            Some(State::Paid) => return Due::Nothing,
            Some(State::Open(payer)) => {
                inner.open.retain(|(open, _)| *open != name);
                inner.paid.push_back((name, now));
                return Due::From(payer);
            }
            None => inner.paid.push_back((name, now)),
        }
        // Only paid works are forgotten here: their number grew by one, that of the open ones did not.
        inner.forget_paid(self.most, self.remembered, now);
        Due::FromWhoAsks
    }

    /// Whether a work is known: `Some(true)` while it goes on, `Some(false)` once it is paid.
    pub fn goes_on(&self, provider: &Arc<str>, id: &str) -> Option<bool> {
        let name = (provider.clone(), Box::from(id));
        self.inner.lock().works.get(&name).map(|state| matches!(state, State::Open(_)))
    }

    /// Forgets the works that are too old. Gives the payers of those that were open.
    pub fn sweep(&self, now: Instant) -> Vec<P> {
        self.inner.lock().forget(self.most, self.remembered, now)
    }

    /// Gives up all open works, and gives their payers.
    pub fn give_up(&self) -> Vec<P> {
        let mut inner = self.inner.lock();
        let open: Vec<_> = inner.open.drain(..).map(|(name, _)| name).collect();
        let states = open.iter().filter_map(|name| inner.works.remove(name)).collect::<Vec<_>>();
        states.into_iter().filter_map(|state| if let State::Open(payer) = state { Some(payer) } else { None }).collect()
    }

    /// The number of open works.
    pub fn under_way(&self) -> usize {
        self.inner.lock().open.len()
    }
}

impl<P> Inner<P> {
    fn forget_paid(&mut self, most: usize, remembered: Duration, now: Instant) {
        while self.paid.front().is_some_and(|(_, at)| self.works.len() > most || now.saturating_duration_since(*at) > remembered) {
            if let Some((name, _)) = self.paid.pop_front() {
                self.works.remove(&name);
            }
        }
    }

    fn forget(&mut self, most: usize, remembered: Duration, now: Instant) -> Vec<P> {
        self.forget_paid(most, remembered, now);
        let mut forgotten = Vec::new();
        while self.open.front().is_some_and(|(_, at)| self.works.len() > most || now.saturating_duration_since(*at) > remembered) {
            if let Some((name, _)) = self.open.pop_front()
                && let Some(State::Open(payer)) = self.works.remove(&name)
            {
                self.version += 1;
                forgotten.push(payer);
            }
        }
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn now() -> Instant {
        crate::clock::Clock::system().now()
    }

    #[test]
    fn a_work_is_charged_once_to_the_one_who_began_it() {
        let (works, openai, other, now) = (Works::default(), Arc::from("openai"), Arc::from("other"), now());
        assert_eq!(works.begin(&openai, "resp_1", "anna", now), Ok(vec![]));
        assert_eq!(works.begin(&openai, "resp_1", "bert", now), Err("bert"), "the id is taken");
        assert_eq!(works.end(&other, "resp_1", now), Due::FromWhoAsks, "another provider's");
        assert!(!works.each_payer(|_| false));
        let version = works.version();
        assert!(works.each_payer(|payer| std::mem::replace(payer, "anna") == "anna") && works.version() > version);
        assert_eq!(works.end(&openai, "resp_1", now), Due::From("anna"));
        let version = works.version();
        for _ in 0..3 {
            assert_eq!(works.end(&openai, "resp_1", now), Due::Nothing);
        }
        assert!(!works.each_payer(|_| true), "it is paid");
        assert_eq!(works.version(), version, "nothing has changed: nothing is written");
        assert_eq!(works.end(&openai, "from_before_the_start", now), Due::FromWhoAsks);
        assert_eq!(works.end(&openai, "from_before_the_start", now), Due::Nothing);
        assert_eq!(works.begin(&openai, "from_before_the_start", "carl", now), Err("carl"), "paid already");
    }

    #[test]
    fn what_is_forgotten_is_given_back() {
        let (works, openai, start) = (Works::of_at_most(3), Arc::from("openai"), now());
        for id in ["a", "b"] {
            works.begin(&openai, id, id, start).expect("new");
        }
        works.end(&openai, "a", start);
        works.begin(&openai, "c", "c", start).expect("new");
        assert_eq!(works.begin(&openai, "d", "d", start), Ok(vec![]), "the paid one is forgotten first");
        assert_eq!(works.begin(&openai, "e", "e", start), Ok(vec!["b"]), "then the oldest");
        let gone = Works::of_at_most(3);
        gone.begin(&openai, "a", "a", start).expect("new");
        gone.end(&openai, "b", start);
        assert_eq!((gone.give_up(), gone.under_way(), gone.end(&openai, "b", start)), (vec!["a"], 0, Due::Nothing));
        let later = start + REMEMBERED + Duration::from_secs(1);
        assert_eq!((works.sweep(start + REMEMBERED), works.sweep(later)), (vec![], vec!["c", "d", "e"]), "nobody need begin another");
        assert_eq!(works.begin(&openai, "f", "f", later), Ok(vec![]));
        assert_eq!((works.goes_on(&openai, "f"), works.goes_on(&openai, "c")), (Some(true), None));
        assert_eq!((works.under_way(), works.end(&openai, "c", later)), (1, Due::FromWhoAsks));
        assert_eq!(works.goes_on(&openai, "c"), Some(false));
    }

    proptest! {
        #[test]
        fn it_never_grows_beyond_its_bound_nor_loses_a_payer(steps in prop::collection::vec((0u8..12, any::<bool>()), 0..200)) {
            let (works, openai, now) = (Works::of_at_most(5), Arc::from("openai"), now());
            let (mut begun, mut back) = (0, 0);
            for (at, (id, begins)) in steps.into_iter().enumerate() {
                let id = format!("{id}");
                if begins {
                    begun += 1;
                    back += works.begin(&openai, &id, at, now).map_or(1, |forgotten| forgotten.len());
                } else if let Due::From(_) = works.end(&openai, &id, now) {
                    back += 1;
                }
                let inner = works.inner.lock();
                prop_assert!(inner.works.len() <= 5);
                prop_assert_eq!(inner.works.len(), inner.open.len() + inner.paid.len());
                prop_assert_eq!(begun, back + inner.open.len());
            }
        }
    }
}
