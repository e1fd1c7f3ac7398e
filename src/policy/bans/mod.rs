//! Clients that are refused too often, and stay out for a while. Bounded; shared through Redis where the store is Redis.
//!
//! Refusals are counted here in any case, and in Redis too where there is one: the first of the two that comes to the number makes the ban. With
//! Redis away each replica bans by what it has seen itself, and tells Redis later.

mod shared;
mod table;
#[cfg(test)]
mod tests;

use std::{net::IpAddr, sync::Arc, time::Duration};

use crate::{
    audit::{Audit, NameKind},
    clock::{Clock, Instant},
    config::{self, BanCause, Mode},
    store::redis::Redis,
};
use shared::Sharing;
pub use table::{Counts, Standing, Who};
use table::{Strike, Table};

/// The reason of the answer to somebody who is out.
pub const BANNED: &str = "banned";

/// Who is out, and who has been refused how often.
pub struct Bans {
    table: Arc<Table>,
    /// `None`: this process is alone.
    sharing: Option<Sharing>,
    audit: Arc<Audit>,
    clock: Clock,
}

/// A refusal that may count.
#[derive(Debug, Clone, Copy)]
pub struct Offence<'a> {
    /// The status of the answer.
    pub status: u16,
    /// The reason, if the answer is a refusal of this proxy.
    pub reason: Option<&'static str>,
    /// The client.
    pub address: IpAddr,
    /// The caller, if one is known by more than the address.
    pub caller: Option<&'a Arc<str>>,
    /// The route's name.
    pub route: &'a Arc<str>,
}

impl Bans {
    /// Nobody is out. `redis`: the store that replicas share, if there is one.
    pub fn new(clock: Clock, redis: Option<Arc<Redis>>, audit: Arc<Audit>) -> Self {
        let table = Arc::new(Table::new(clock.now()));
        let sharing = redis.map(|redis| Sharing::start(redis, &table, &audit, clock));
        Self { table, sharing, audit, clock }
    }

    /// A route has bans: from now on those of other replicas are looked for.
    pub fn needed(&self) {
        self.table.need();
    }

    /// Whether the client of this address is out, in which mode, and for how long yet.
    pub fn address_is_out(&self, terms: &config::Bans, address: IpAddr, now: Instant) -> Option<(Mode, Duration)> {
        let may_be = terms.by_address && self.table.is_any();
        self.out(terms, may_be.then(|| Who::of(address))?, now)
    }

    /// Whether this caller is out, in which mode, and for how long yet.
    pub fn caller_is_out(&self, terms: &config::Bans, caller: &Arc<str>, now: Instant) -> Option<(Mode, Duration)> {
        let may_be = terms.by_caller && self.table.is_any();
        self.out(terms, may_be.then(|| Who::Caller(caller.clone()))?, now)
    }

    fn out(&self, terms: &config::Bans, who: Who, now: Instant) -> Option<(Mode, Duration)> {
        if let Who::Address(address) = who
            && terms.never.iter().any(|net| net.contains(&address))
        {
            return None;
        }
        let (mode, left) = self.table.out(&who, now)?;
        // Both the terms that made the ban and those of the route must enforce.
        Some((if terms.mode == Mode::Observe { Mode::Observe } else { mode }, left))
    }

    /// Counts a refusal, if it is of the kinds that these terms name.
    pub fn count(&self, terms: &config::Bans, offence: &Offence<'_>, now: Instant) {
        if !counts(terms, offence) {
            return;
        }
        let address = offence.address.to_canonical();
        let is_spared = terms.never.iter().any(|net| net.contains(&address));
        let by_address = (terms.by_address && !is_spared).then(|| Who::of(address));
        let by_caller = offence.caller.filter(|name| terms.by_caller && name.len() <= LONGEST).map(|name| Who::Caller(name.clone()));
        for who in [by_address, by_caller].into_iter().flatten() {
            let strike = Strike { who, id: terms.id, after: terms.after, window: terms.window, time: terms.time, mode: terms.mode };
            let banned = self.table.strike(&strike, now);
            if banned {
                self.ban(&strike, offence, now);
            }
            if let Some(sharing) = &self.sharing {
                sharing.strike(strike, banned, offence.route.clone());
            }
        }
    }

    fn ban(&self, strike: &Strike, offence: &Offence<'_>, now: Instant) {
        let (since, why) = (self.clock.wall(), offence.reason.unwrap_or("status"));
        if self.table.ban(strike, Standing { since, why, route: offence.route.clone(), ..Standing::new(strike, now) }) {
            told(&self.audit, strike, why, offence.route);
        }
    }

    /// Lets somebody in again, here and at every replica; `false`: they were not out.
    pub fn lift(&self, who: &Who) -> bool {
        let known = self.table.lift(who);
        if let Some(sharing) = self.sharing.as_ref().filter(|_| known.is_some()) {
            sharing.lift(who);
        }
        known.is_some()
    }

    /// Everybody who is out, those first who are out for longest.
    pub fn list(&self, now: Instant) -> Vec<(Who, Standing)> {
        self.table.list(now)
    }

    /// The numbers since the start.
    pub fn counts(&self) -> Counts {
        self.table.counts()
    }

    /// Whether replicas share them.
    pub fn is_shared(&self) -> bool {
        self.sharing.is_some()
    }
}

/// Longest name of a caller who is banned; a longer one is not.
const LONGEST: usize = 256;

/// Whether an answer is one that counts.
fn counts(terms: &config::Bans, offence: &Offence<'_>) -> bool {
    // Who is out is not kept out by asking again.
    if offence.reason == Some(BANNED) {
        return false;
    }
    let cause = offence.reason.and_then(cause);
    terms.on.iter().any(|on| Some(*on) == cause || *on == BanCause::Status(offence.status))
}

/// The kind of a refusal of this proxy.
fn cause(reason: &str) -> Option<BanCause> {
    Some(match reason {
        "auth_invalid" | "auth_slowed" => BanCause::Auth,
        "access_denied" => BanCause::Access,
        "attack_refused" => BanCause::Attacks,
        "csrf_refused" | "cors_refused" => BanCause::Csrf,
        "limited" | "too_many_in_flight" | "queue_full" | "queue_too_long" => BanCause::Limits,
        "invalid_method" | "undocumented" | "invalid_type" | "invalid_size" | "invalid_json" | "invalid_content" => BanCause::Validate,
        _ => return None,
    })
}

/// Tells the audit log of a ban.
fn told(audit: &Audit, strike: &Strike, why: &str, route: &str) {
    if !audit.is_on() {
        return;
    }
    let event = if strike.mode == Mode::Enforce { "ban.made" } else { "ban.observed" };
    let incident = audit.incident(event).with("reason", why).with("route", route).with("seconds", strike.time.as_secs());
    let incident = incident.with("after", strike.after);
    audit.note(match &strike.who {
        Who::Address(address) => incident.named(NameKind::Address, &address.to_string()),
        Who::Caller(name) => incident.named(NameKind::Caller, name),
    });
}
