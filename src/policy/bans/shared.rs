//! Refusals and bans that replicas share through Redis, behind the requests.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{sync::mpsc, time::interval};

use super::{
    table::{MOST_BANS, SLOTS, Standing, Strike, Table, Who},
    told,
};
use crate::{
    audit::Audit,
    clock::{Clock, Instant},
    config::Mode,
    store::redis::{Redis, bans::Ban},
};

/// The time between two looks at what other replicas have done.
const LOOK: Duration = Duration::from_secs(2);
/// Most refusals that wait for Redis; further ones are counted here alone.
const WAITING: usize = 1_024;

/// The way to Redis.
pub(super) struct Sharing {
    words: mpsc::Sender<Told>,
}

enum Told {
    /// A refusal; whether it has made a ban here; its route.
    Strike(Strike, bool, Arc<str>),
    Lifted(Who),
}

impl Sharing {
    /// Begins to share what `table` knows, until this is dropped.
    pub(super) fn start(redis: Arc<Redis>, table: &Arc<Table>, audit: &Arc<Audit>, clock: Clock) -> Self {
        let (words, told) = mpsc::channel(WAITING);
        redis.handle().clone().spawn(share(redis, Arc::downgrade(table), audit.clone(), clock, told));
        Self { words }
    }

    pub(super) fn strike(&self, strike: Strike, banned: bool, route: Arc<str>) {
        // A ban that finds no place is told with the next look.
        let _ = self.words.try_send(Told::Strike(strike, banned, route));
    }

    pub(super) fn lift(&self, who: &Who) {
        let _ = self.words.try_send(Told::Lifted(who.clone()));
    }
}

async fn share(redis: Arc<Redis>, table: Weak<Table>, audit: Arc<Audit>, clock: Clock, mut words: mpsc::Receiver<Told>) {
    let mut look = interval(LOOK);
    // Told once Redis is there.
    let mut lifted: Vec<Who> = Vec::new();
    loop {
        let word = tokio::select! {
            word = words.recv() => match word {
                Some(word) => Some(word),
                None => return,
            },
            _ = look.tick() => None,
        };
        let Some(table) = table.upgrade() else { return };
        let word = match word {
            Some(Told::Lifted(who)) => {
                lifted.extend((lifted.len() < WAITING).then_some(who));
                None
            }
            word => word,
        };
        if !redis.is_up() || !table.is_needed() {
            continue;
        }
        match word {
            None => catch_up(&redis, &table, &mut lifted, clock).await,
            Some(Told::Lifted(_)) => {}
            Some(Told::Strike(strike, true, _)) => {
                if redis.change_bans(&[ban(&strike.who, strike.mode, Some(strike.time))]).await.is_ok() {
                    table.is_shared(&strike.who);
                }
            }
            Some(Told::Strike(strike, false, route)) => together(&redis, &table, &audit, clock, &strike, &route).await,
        }
    }
}

/// Counts a refusal in Redis, and bans if all replicas together have come to the number.
async fn together(redis: &Redis, table: &Table, audit: &Audit, clock: Clock, strike: &Strike, route: &Arc<str>) {
    let counter = format!("{:016x}:{}", strike.id, hex(&strike.who.digest()));
    let width = strike.window / SLOTS as u32;
    let counted = redis.strike(&counter, width, SLOTS, strike.after, &ban(&strike.who, strike.mode, Some(strike.time))).await;
    if counted == Ok(true) {
        let standing =
            Standing { since: clock.wall(), why: "together", route: route.clone(), shared: true, ..Standing::new(strike, Instant::now()) };
        if table.ban(strike, standing) {
            told(audit, strike, "together", route);
        }
    }
}

/// Tells Redis of the bans that it does not know and of those that were lifted, and takes over those that it has.
async fn catch_up(redis: &Redis, table: &Table, lifted: &mut Vec<Who>, clock: Clock) {
    let asked = Instant::now();
    let own = table.unshared(asked);
    let gone = lifted.iter().flat_map(|who| [ban(who, Mode::Enforce, None), ban(who, Mode::Observe, None)]);
    // Somebody who was let in and is out again is told last.
    let words: Vec<Ban> = gone.chain(own.iter().map(|(who, mode, left)| ban(who, *mode, Some(*left)))).collect();
    let Ok(all) = redis.change_bans(&words).await else { return };
    lifted.clear();
    own.iter().for_each(|(who, ..)| table.is_shared(who));
    let known = all.into_iter().take(MOST_BANS).filter_map(|known| {
        let (mode, who) = known.member.split_once(' ')?;
        let mode = if mode == OBSERVED { Mode::Observe } else { Mode::Enforce };
        Some((Who::parse(who)?, mode, known.time?))
    });
    // An enforced ban comes after an observed one, and wins.
    let mut known: Vec<_> = known.collect();
    known.sort_by_key(|(_, mode, _)| *mode == Mode::Enforce);
    table.learn(known, asked, Instant::now(), clock.wall());
}

const OBSERVED: &str = "observe";

fn ban(who: &Who, mode: Mode, time: Option<Duration>) -> Ban {
    let mode = if mode == Mode::Observe { OBSERVED } else { "enforce" };
    Ban { member: format!("{mode} {who}"), time }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
