//! The counts and the bans of one process. Both are bounded: a flood of addresses takes no more memory than these bounds.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use parking_lot::{Mutex, RwLock};
use quick_cache::unsync::Cache;

use crate::{clock::Instant, config::Mode};

/// Parts of a window: refusals that are older than a window never make a ban, and those younger than seven eighths of one always count.
pub(super) const SLOTS: u64 = 8;
/// Most clients whose refusals are counted; about 4 MiB.
const MOST_COUNTED: usize = 1 << 15;
/// Most bans; about 8 MiB.
pub(super) const MOST_BANS: usize = 1 << 16;

/// Somebody who can be banned.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Who {
    /// An address; of IPv6 the first of its /64.
    Address(IpAddr),
    /// A caller.
    Caller(Arc<str>),
}

impl Who {
    /// The client of an address.
    pub fn of(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) >> 64 << 64)),
            v4 => v4,
        })
    }

    /// Reads what [`fmt::Display`] writes, or any address of its net.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("caller:") {
            Some(name) => (!name.is_empty()).then(|| Self::Caller(name.into())),
            None => text.strip_suffix("/64").unwrap_or(text).parse().ok().map(Self::of),
        }
    }

    /// Sixteen bytes that stand for it.
    pub(super) fn digest(&self) -> [u8; 16] {
        let mut out = [0; 16];
        out.copy_from_slice(&blake3::hash(self.to_string().as_bytes()).as_bytes()[..16]);
        out
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address @ IpAddr::V6(_)) => write!(f, "{address}/64"),
            Self::Address(address) => write!(f, "{address}"),
            Self::Caller(name) => write!(f, "caller:{name}"),
        }
    }
}

/// A refusal of somebody, and the terms by which it counts.
#[derive(Debug, Clone)]
pub(super) struct Strike {
    pub(super) who: Who,
    pub(super) id: u64,
    pub(super) after: u32,
    pub(super) window: Duration,
    pub(super) time: Duration,
    pub(super) mode: Mode,
}

/// A ban.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Whether it keeps anybody out.
    pub mode: Mode,
    /// Its end.
    pub until: Instant,
    /// When this process has made it or heard of it.
    pub since: SystemTime,
    /// The reason of the last refusal; `replica`: another process has made it.
    pub why: &'static str,
    /// The route of the last refusal; empty: another process knows it.
    pub route: Arc<str>,
    /// Whether Redis knows it.
    pub(super) shared: bool,
    /// When this process has made it or heard of it, for what Redis says later.
    pub(super) heard: Instant,
}

impl Standing {
    pub(super) fn new(strike: &Strike, now: Instant) -> Self {
        Self {
            mode: strike.mode,
            until: now + strike.time,
            since: SystemTime::UNIX_EPOCH,
            why: "replica",
            route: Arc::default(),
            shared: false,
            heard: now,
        }
    }
}

/// Numbers since the start, and how many are out now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Counts {
    pub enforced_now: usize,
    pub observed_now: usize,
    pub made: u64,
    pub observed: u64,
    pub lifted: u64,
    /// Bans that ended early because there were too many.
    pub forgotten: u64,
    /// Clients whose refusals are counted now.
    pub counted_now: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    slots: [u16; SLOTS as usize],
    /// Number of the newest slot.
    newest: u64,
}

pub(super) struct Table {
    begun: Instant,
    counted: Mutex<Cache<([u8; 16], u64), Counted>>,
    bans: RwLock<HashMap<Who, Standing>>,
    /// The number of `bans`: most requests need to know no more.
    any: AtomicUsize,
    /// Whether a route has bans: other replicas are asked about theirs.
    needed: AtomicBool,
    made: AtomicU64,
    observed: AtomicU64,
    lifted: AtomicU64,
    forgotten: AtomicU64,
}

impl Table {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            begun: now,
            counted: Mutex::new(Cache::new(MOST_COUNTED)),
            bans: RwLock::default(),
            any: AtomicUsize::new(0),
            needed: AtomicBool::new(false),
            made: AtomicU64::new(0),
            observed: AtomicU64::new(0),
            lifted: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
        }
    }

    pub(super) fn is_needed(&self) -> bool {
        self.needed.load(Relaxed)
    }

    pub(super) fn need(&self) {
        self.needed.store(true, Relaxed);
    }

    pub(super) fn is_any(&self) -> bool {
        self.any.load(Relaxed) > 0
    }

    /// Counts a refusal; `true`: it is the one that makes a ban. The count then begins again.
    pub(super) fn strike(&self, strike: &Strike, now: Instant) -> bool {
        let width = (strike.window / SLOTS as u32).as_nanos().max(1);
        let present = u64::try_from((now - self.begun).as_nanos() / width).unwrap_or(u64::MAX);
        let key = (strike.who.digest(), strike.id);
        let mut all = self.counted.lock();
        let mut counted = all.get(&key).copied().unwrap_or_default();
        // Slots that have left the window are empty again.
        for gone in (counted.newest + 1..=present).take(SLOTS as usize) {
            counted.slots[(gone % SLOTS) as usize] = 0;
        }
        counted.newest = present.max(counted.newest);
        let slot = &mut counted.slots[(counted.newest % SLOTS) as usize];
        *slot = slot.saturating_add(1);
        let is_last = counted.slots.iter().map(|n| u32::from(*n)).sum::<u32>() >= strike.after;
        match is_last {
            true => drop(all.remove(&key)),
            false => all.insert(key, counted),
        }
        is_last
    }

    /// Puts somebody out; `false`: they are out already.
    pub(super) fn ban(&self, strike: &Strike, standing: Standing) -> bool {
        let mut bans = self.bans.write();
        let now = standing.heard;
        if let Some(known) = bans.get(&strike.who).filter(|known| known.until > now)
            && (known.mode == Mode::Enforce || standing.mode == Mode::Observe)
        {
            return false;
        }
        let count = if standing.mode == Mode::Enforce { &self.made } else { &self.observed };
        count.fetch_add(1, Relaxed);
        bans.insert(strike.who.clone(), standing);
        self.bound(&mut bans, now);
        true
    }

    /// Forgets what is over and, where there are too many, those that end first.
    fn bound(&self, bans: &mut HashMap<Who, Standing>, now: Instant) {
        if bans.len() > MOST_BANS {
            bans.retain(|_, standing| standing.until > now);
        }
        if bans.len() > MOST_BANS {
            // Many at once: the next thousand bans need not look at all of them.
            let mut ends: Vec<Instant> = bans.values().map(|standing| standing.until).collect();
            let (_, first, _) = ends.select_nth_unstable(MOST_BANS / 16);
            let (first, before) = (*first, bans.len());
            let mut spare = MOST_BANS / 16;
            bans.retain(|_, standing| {
                let goes = standing.until <= first && spare > 0;
                spare -= usize::from(goes);
                !goes
            });
            self.forgotten.fetch_add((before - bans.len()) as u64, Relaxed);
        }
        self.any.store(bans.len(), Relaxed);
    }

    pub(super) fn out(&self, who: &Who, now: Instant) -> Option<(Mode, Duration)> {
        let bans = self.bans.read();
        let standing = bans.get(who).filter(|standing| standing.until > now)?;
        Some((standing.mode, standing.until - now))
    }

    pub(super) fn lift(&self, who: &Who) -> Option<Standing> {
        let mut bans = self.bans.write();
        let known = bans.remove(who)?;
        self.any.store(bans.len(), Relaxed);
        self.lifted.fetch_add(1, Relaxed);
        Some(known)
    }

    /// Takes over what all replicas know: `told` are those who are out, by what Redis said to a question of the time `asked`.
    pub(super) fn learn(&self, told: Vec<(Who, Mode, Duration)>, asked: Instant, now: Instant, wall: SystemTime) {
        let mut bans = self.bans.write();
        let listed: HashMap<Who, (Mode, Duration)> = told.into_iter().map(|(who, mode, left)| (who, (mode, left))).collect();
        // Who was put out after the question may not be in the answer.
        bans.retain(|who, standing| standing.until > now && (!standing.shared || standing.heard >= asked || listed.contains_key(who)));
        for (who, (mode, left)) in listed {
            let fresh =
                Standing { mode, until: now + left, since: wall, why: "replica", route: Arc::default(), shared: true, heard: asked };
            bans.entry(who)
                .and_modify(|known| {
                    (known.until, known.shared) = (fresh.until, true);
                    if mode == Mode::Enforce {
                        known.mode = mode;
                    }
                })
                .or_insert(fresh);
        }
        self.bound(&mut bans, now);
    }

    /// Bans that Redis does not know yet.
    pub(super) fn unshared(&self, now: Instant) -> Vec<(Who, Mode, Duration)> {
        let bans = self.bans.read();
        let own = bans.iter().filter(|(_, standing)| !standing.shared && standing.until > now);
        own.map(|(who, standing)| (who.clone(), standing.mode, standing.until - now)).collect()
    }

    /// Redis knows it now.
    pub(super) fn is_shared(&self, who: &Who) {
        if let Some(standing) = self.bans.write().get_mut(who) {
            standing.shared = true;
        }
    }

    pub(super) fn list(&self, now: Instant) -> Vec<(Who, Standing)> {
        let bans = self.bans.read();
        let mut all: Vec<_> = bans.iter().filter(|(_, ban)| ban.until > now).map(|(who, ban)| (who.clone(), ban.clone())).collect();
        all.sort_by(|a, b| b.1.until.cmp(&a.1.until).then_with(|| a.0.to_string().cmp(&b.0.to_string())));
        all
    }

    pub(super) fn counts(&self) -> Counts {
        let counted_now = self.counted.lock().len();
        let bans = self.bans.read();
        let (now, of) = (Instant::now(), |mode| move |standing: &&Standing| standing.mode == mode);
        let standing = || bans.values().filter(move |standing| standing.until > now);
        Counts {
            enforced_now: standing().filter(of(Mode::Enforce)).count(),
            observed_now: standing().filter(of(Mode::Observe)).count(),
            made: self.made.load(Relaxed),
            observed: self.observed.load(Relaxed),
            lifted: self.lifted.load(Relaxed),
            forgotten: self.forgotten.load(Relaxed),
            counted_now,
        }
    }
}
