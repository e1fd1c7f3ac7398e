//! The payer of a try.
//!
//! The leader of a fetch, which began it, pays. A fetch that others have joined outlives its leader: then the first remaining
//! reader pays, and the leader's reservation is given back. If no reader is left, the last to leave pays for the part that has
//! come: otherwise hanging up would be free. [`caller::PROXY`] pays for the proxy's own requests.

use std::sync::Arc;

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::{ask::Ask, model::ModelCall};
use crate::{
    caller,
    cause::{Cause, Join},
    clock::Instant,
    policy::limits::{Keyed, Lease, Limits},
    usage::{Usage, UsageSource},
};

/// A payer. It holds nothing of a worker: the readers of a fetch may be on different workers.
#[derive(Debug, Clone)]
pub struct Payer {
    /// The caller, in words.
    pub caller: Option<Arc<str>>,
    /// The inbound exchange that caused the call, and whether the cause is sure.
    pub cause: Option<Arc<Cause<Keyed>>>,
    /// Limits that are charged if nothing was reserved: the route's own, and those of the cause.
    pub(super) keyed: SmallVec<[Keyed; 2]>,
    /// The payer comes from a kept book: neither a reservation nor the limits' keys outlive their process.
    pub(super) kept: bool,
    /// The cause is too old to be sure: its caller stands in the books, and no limit counts the caller.
    pub(super) claimed: bool,
    /// The charges that the exchange's log line reports.
    pub(super) account: Arc<Account>,
}

/// The charges of an exchange, over all its tries.
#[derive(Debug, Default)]
pub struct Account(Mutex<Charged>);

/// A sum of charges.
#[derive(Debug, Clone, Default)]
pub struct Charged {
    /// Tries that were charged.
    pub tries: u32,
    /// Their tokens.
    pub usage: Usage,
    /// How the tokens are known: the least certain of all.
    pub source: UsageSource,
    /// Their price in nano-dollars; `None`: no price is known.
    pub nano_usd: Option<u64>,
    /// The provider that answered last.
    pub provider: Option<Arc<str>>,
    /// The model that was asked there.
    pub model: Option<Arc<str>>,
    closed: bool,
}

/// One try's price.
#[derive(Debug, Clone)]
pub struct Charge {
    /// Tokens by class.
    pub usage: Usage,
    /// How the tokens are known.
    pub source: UsageSource,
    /// Nano-dollars; `None`: no price is known.
    pub nano_usd: Option<u64>,
    /// The provider that was asked.
    pub provider: Arc<str>,
    /// The model that was asked, or that answered.
    pub model: Arc<str>,
}

impl Account {
    /// Closes the account when the exchange is over, and gives its charges. A later charge gets a log line of its own.
    pub fn close(&self) -> Charged {
        let mut charged = self.0.lock();
        charged.closed = true;
        charged.clone()
    }

    /// The charges so far.
    pub fn so_far(&self) -> Charged {
        self.0.lock().clone()
    }

    /// Adds a charge; `false`: the exchange is over.
    fn add(&self, charge: &Charge) -> bool {
        let mut charged = self.0.lock();
        charged.source = match charged.tries {
            0 => charge.source,
            _ => charged.source.min(charge.source),
        };
        charged.tries += 1;
        charged.usage = charged.usage.plus(&charge.usage);
        charged.nano_usd = match (charged.nano_usd, charge.nano_usd) {
            (Some(sum), Some(more)) => Some(sum.saturating_add(more)),
            (sum, more) => sum.or(more),
        };
        charged.provider = Some(charge.provider.clone());
        charged.model = Some(charge.model.clone());
        !charged.closed
    }
}

impl Payer {
    /// The payer of `ask`.
    pub fn of(ask: &Ask, call: &ModelCall, own: Option<&Keyed>) -> Self {
        let caused = call.join.sure().and_then(|cause| cause.charge.as_ref());
        Self {
            caller: ask.caller().map(|caller| &caller.name).or_else(|| call.join.recorded_caller()).cloned(),
            cause: call.join.cause().cloned(),
            keyed: own.into_iter().chain(caused).cloned().collect(),
            kept: false,
            claimed: matches!(call.join, Join::Claim(_)),
            account: call.account.clone(),
        }
    }

    /// A payer of whom the name alone is known. The payer's exchange is over.
    pub fn named(caller: Option<Arc<str>>) -> Self {
        let account = Arc::<Account>::default();
        account.close();
        Self { caller, cause: None, keyed: SmallVec::new(), kept: false, claimed: false, account }
    }

    /// A payer from a kept book. `claimed`: the caller is in the books alone.
    pub fn kept(caller: Option<Arc<str>>, claimed: bool) -> Self {
        Self { kept: true, claimed, ..Self::named(caller) }
    }

    /// The payer's name in the books.
    pub fn name(&self) -> &str {
        self.caller.as_deref().unwrap_or(caller::UNATTRIBUTED)
    }
}

/// The possible payers of a fetch: its leader, then the requests that join, in order.
#[derive(Debug)]
pub struct Payers(Mutex<Seats>);

#[derive(Debug, Default)]
struct Seats {
    taken: SmallVec<[Place; 1]>,
    /// The index of the payer who left last.
    left: usize,
}

#[derive(Debug)]
struct Place {
    payer: Payer,
    reads: bool,
}

/// A payer's place. The payer reads until the seat is dropped.
#[derive(Debug)]
#[must_use = "who drops its seat does not read on"]
pub struct Seat {
    payers: Arc<Payers>,
    at: usize,
}

impl Payers {
    /// The payers of a fetch that `leader` begins.
    pub fn led_by(leader: Payer) -> (Arc<Self>, Seat) {
        let seats = Seats { taken: [Place { payer: leader, reads: true }].into_iter().collect(), left: 0 };
        let payers = Arc::new(Self(Mutex::new(seats)));
        (payers.clone(), Seat { payers, at: 0 })
    }

    /// The payer that began the fetch.
    pub fn leader(&self) -> Payer {
        self.0.lock().taken[0].payer.clone()
    }

    /// The payer that began the fetch, if a kept book names it.
    pub fn kept_leader(&self) -> Option<Payer> {
        let seats = self.0.lock();
        Some(&seats.taken[0].payer).filter(|payer| payer.kept).cloned()
    }

    /// Adds a payer that reads along from now on.
    pub fn join(self: &Arc<Self>, payer: Payer) -> Seat {
        let mut seats = self.0.lock();
        seats.taken.push(Place { payer, reads: true });
        Seat { payers: self.clone(), at: seats.taken.len() - 1 }
    }

    /// Charges a try that has ended, once. `lease` is the leader's reservation for it; `None`: nothing was reserved, and the limits are
    /// charged directly. Gives the payer, and whether its exchange was over already.
    pub fn charge(&self, charge: &Charge, lease: Option<Lease>, limits: &Limits, now: Instant) -> (Payer, bool) {
        let seats = self.0.lock();
        let at = seats.taken.iter().position(|place| place.reads).unwrap_or(seats.left);
        let payer = seats.taken[at].payer.clone();
        // Under the lock: the payer's exchange leaves its seat first and closes its account then.
        let told = payer.account.add(charge);
        drop(seats);
        let (tokens, nano_usd) = (charge.usage.total(), charge.nano_usd.unwrap_or(0));
        match lease {
            Some(lease) if at == 0 => lease.settle(tokens, nano_usd, now),
            lease => {
                if let Some(lease) = lease {
                    lease.refund();
                }
                payer.keyed.iter().for_each(|keyed| limits.charge(keyed, tokens, nano_usd, now));
            }
        }
        if let Some(cause) = &payer.cause {
            cause.spend(nano_usd);
        }
        (payer, !told)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.payers.0.lock();
        seats.taken[self.at].reads = false;
        seats.left = self.at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payer(name: &str) -> Payer {
        Payer { caller: Some(name.into()), cause: None, keyed: SmallVec::new(), kept: false, claimed: false, account: Arc::default() }
    }

    fn charge(nano_usd: u64) -> Charge {
        let usage = Usage { output: 7, ..Usage::default() };
        Charge { usage, source: UsageSource::Provider, nano_usd: Some(nano_usd), provider: "p".into(), model: "m".into() }
    }

    fn charged(payers: &Payers, nano_usd: u64) -> (String, bool) {
        let clock = crate::clock::Clock::system();
        let limits = Limits::new(10, &clock, None);
        let (payer, late) = payers.charge(&charge(nano_usd), None, &limits, clock.now());
        (payer.name().to_owned(), late)
    }

    #[test]
    fn the_first_who_still_reads_pays_and_the_last_who_left_where_nobody_does() {
        let (leader, first, second) = (payer("leader"), payer("first"), payer("second"));
        let account = leader.account.clone();
        let (payers, led) = Payers::led_by(leader);
        assert_eq!(charged(&payers, 1).0, "leader");
        let (one, two) = (payers.join(first), payers.join(second));
        drop(led);
        assert_eq!(account.close().nano_usd, Some(1));
        assert_eq!(charged(&payers, 2).0, "first");
        drop(one);
        assert_eq!(charged(&payers, 3).0, "second");
        drop(two);
        assert_eq!(charged(&payers, 4), ("second".to_owned(), false), "its account is still open");
    }

    #[test]
    fn a_charge_after_the_end_is_told_to_be_late() {
        let leader = payer("leader");
        let account = leader.account.clone();
        let (payers, seat) = Payers::led_by(leader);
        drop(seat);
        account.close();
        assert_eq!(charged(&payers, 5), ("leader".to_owned(), true));
    }
}
