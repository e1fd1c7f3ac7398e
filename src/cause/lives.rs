//! The exchanges that are running, and those that ended lately. A token names the place of its exchange here.
//!
//! A place is taken when an exchange begins and given back when it ends. Two kinds stay known after their end, each in the
//! order of their ends: exchanges that ran longer than a token alone proves, and short ones with a given request id, for the
//! log. When there are too many of a kind, the first to end goes. A running exchange never goes.
//!
//! Each worker begins its exchanges in a shard of its own: the shard's lock is free unless a call is being joined.

use std::{array, sync::Arc};

use parking_lot::Mutex;

use super::token::{INDEX_BITS, Place, Tick};

/// Shards; a slot's low bits are its shard.
const SHARDS: u32 = 16;
const SHARD_BITS: u32 = SHARDS.ilog2();

/// The slot within a shard that no exchange has: it stands for exchanges that found no room.
const NOWHERE: u32 = (1 << (INDEX_BITS - SHARD_BITS)) - 1;

/// Most ended exchanges of each [`Keep`] that one shard keeps.
pub(super) const KEPT: [u32; 2] = [16_384, 8_192];

/// Most places looked at under one lock while sweeping.
const SLICE: usize = 512;

const NONE: u32 = u32::MAX;

/// The lives of all workers' exchanges.
#[derive(Debug)]
pub(super) struct Lives {
    shards: [Arc<Mutex<Shard>>; SHARDS as usize],
}

/// The life of one exchange.
#[derive(Debug, Clone)]
pub(super) struct LifeOf {
    shard: Arc<Mutex<Shard>>,
    pub place: Place,
    pub begun: Tick,
}

/// The lives of one worker's exchanges.
#[derive(Debug, Default)]
pub(super) struct Shard {
    lives: Vec<Life>,
    /// Places that were given back; the last one is used next: it is still in the processor's cache.
    free: Vec<u32>,
    kept: [Queue; 2],
    running: u32,
    pressed_out: u64,
    /// Serial of the last exchange that found no room.
    nowhere: u16,
}

/// Ended exchanges, in the order of their ends.
#[derive(Debug, Default)]
struct Queue {
    oldest: Option<u32>,
    newest: Option<u32>,
    length: u32,
}

/// Why an exchange stays known after its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// The exchange ran long.
    Long,
    /// The exchange has a given request id.
    Named,
}

#[derive(Debug)]
struct Life {
    given: Option<Arc<str>>,
    /// Nano-dollars that its calls have cost.
    spent: u64,
    begun: Tick,
    ended: Tick,
    /// Of a kept exchange: the one that ended after it.
    next: u32,
    serial: u16,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Free,
    Running,
    Kept,
}

/// The known facts of an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// The tick of its end; `None`: the exchange is running.
    pub ended: Option<Tick>,
    /// The exchange's request id, if that is not its token.
    pub given: Option<Arc<str>>,
}

impl Lives {
    pub fn new() -> Self {
        Self { shards: array::from_fn(|_| Arc::default()) }
    }

    /// The shard in which a worker begins its exchanges, and the shard's number.
    pub fn home(&self, worker: usize) -> (Arc<Mutex<Shard>>, u32) {
        let number = worker % self.shards.len();
        (self.shards[number].clone(), number as u32)
    }

    /// The facts of the exchange that began at `begun` in `place`; `None`: the exchange has ended and is not kept.
    pub fn see(&self, place: Place, begun: Tick) -> Option<Seen> {
        let mut shard = self.shard(place).lock();
        let life = shard.find(place, begun)?;
        Some(Seen { ended: (life.stage == Stage::Kept).then_some(life.ended), given: life.given.clone() })
    }

    /// Whether the exchange is running.
    pub fn is_running(&self, place: Place, begun: Tick) -> bool {
        self.shard(place).lock().find(place, begun).is_some_and(|life| life.stage == Stage::Running)
    }

    /// The life of the exchange that began at `begun` in `place`.
    pub fn of(&self, place: Place, begun: Tick) -> LifeOf {
        LifeOf { shard: self.shards[(place.slot % SHARDS) as usize].clone(), place, begun }
    }

    /// Forgets the exchanges that ended before `horizon`.
    pub fn sweep(&self, horizon: Tick) {
        for shard in &self.shards {
            loop {
                let mut shard = shard.lock();
                let mut left = SLICE;
                for keep in [Keep::Long, Keep::Named] {
                    while left > 0 && shard.kept[keep as usize].oldest.is_some_and(|at| shard.lives[at as usize].ended < horizon) {
                        shard.drop_oldest(keep);
                        left -= 1;
                    }
                }
                if left > 0 {
                    break;
                }
            }
        }
    }

    /// The numbers of running and kept exchanges, and the bytes of all places.
    pub fn census(&self) -> (usize, usize, usize) {
        self.shards.iter().fold((0, 0, 0), |(running, kept, bytes), shard| {
            let shard = shard.lock();
            let room = shard.lives.capacity() * size_of::<Life>() + shard.free.capacity() * size_of::<u32>();
            (running + shard.running as usize, kept + shard.kept.iter().map(|kept| kept.length as usize).sum::<usize>(), bytes + room)
        })
    }

    /// Exchanges that ran long and were forgotten before their time.
    pub fn pressed_out(&self) -> u64 {
        self.shards.iter().map(|shard| shard.lock().pressed_out).sum()
    }

    fn shard(&self, place: Place) -> &Mutex<Shard> {
        &self.shards[(place.slot % SHARDS) as usize]
    }
}

impl LifeOf {
    /// Begins an exchange in the shard of its worker.
    pub fn begin(home: &(Arc<Mutex<Shard>>, u32), begun: Tick, given: Option<Arc<str>>) -> Self {
        let place = home.0.lock().begin(home.1, begun, given);
        Self { shard: home.0.clone(), place, begun }
    }

    /// Ends the exchange; with `keep`, it stays known. Returns the cost of its calls.
    pub fn end(&self, now: Tick, keep: Option<Keep>) -> u64 {
        self.shard.lock().end(self.place, self.begun, now, keep)
    }

    /// Adds to the cost of the exchange's calls, if it is still known.
    pub fn spend(&self, nano_usd: u64) {
        if let Some(life) = self.shard.lock().find(self.place, self.begun) {
            life.spent = life.spent.saturating_add(nano_usd);
        }
    }

    /// The cost of the exchange's calls so far, in nano-dollars.
    pub fn spent(&self) -> u64 {
        self.shard.lock().find(self.place, self.begun).map_or(0, |life| life.spent)
    }
}

impl Shard {
    /// Takes a place for an exchange that begins. The shard's own number stands in the place's low bits.
    fn begin(&mut self, number: u32, begun: Tick, given: Option<Arc<str>>) -> Place {
        let Some(at) = self.room() else {
            self.nowhere = self.nowhere.wrapping_add(1);
            return Place { slot: NOWHERE << SHARD_BITS | number, serial: self.nowhere };
        };
        let life = &mut self.lives[at as usize];
        *life = Life { given, spent: 0, begun, ended: 0, next: NONE, serial: life.serial.wrapping_add(1), stage: Stage::Running };
        self.running += 1;
        Place { slot: at << SHARD_BITS | number, serial: life.serial }
    }

    fn end(&mut self, place: Place, begun: Tick, now: Tick, keep: Option<Keep>) -> u64 {
        let at = place.slot >> SHARD_BITS;
        let Some(life) = self.find(place, begun).filter(|life| life.stage == Stage::Running) else { return 0 };
        let spent = life.spent;
        life.ended = now;
        self.running -= 1;
        let Some(keep) = keep else {
            self.give_back(at);
            return spent;
        };
        self.lives[at as usize].stage = Stage::Kept;
        let kept = &mut self.kept[keep as usize];
        match kept.newest.replace(at) {
            Some(before) => self.lives[before as usize].next = at,
            None => kept.oldest = Some(at),
        }
        kept.length += 1;
        if kept.length > KEPT[keep as usize] {
            self.press_out(keep);
        }
        spent
    }

    fn room(&mut self) -> Option<u32> {
        if let Some(at) = self.free.pop() {
            return Some(at);
        }
        if self.lives.len() < NOWHERE as usize {
            self.lives.push(Life { given: None, spent: 0, begun: 0, ended: 0, next: NONE, serial: 0, stage: Stage::Free });
            return Some(self.lives.len() as u32 - 1);
        }
        let keep = if self.kept[Keep::Named as usize].length > 0 { Keep::Named } else { Keep::Long };
        self.press_out(keep);
        self.free.pop()
    }

    fn press_out(&mut self, keep: Keep) {
        self.pressed_out += u64::from(keep == Keep::Long && self.kept[keep as usize].length > 0);
        self.drop_oldest(keep);
    }

    fn drop_oldest(&mut self, keep: Keep) {
        let kept = &mut self.kept[keep as usize];
        let Some(at) = kept.oldest else { return };
        let next = self.lives[at as usize].next;
        kept.oldest = (next != NONE).then_some(next);
        if kept.oldest.is_none() {
            kept.newest = None;
        }
        kept.length -= 1;
        self.give_back(at);
    }

    fn give_back(&mut self, at: u32) {
        let life = &mut self.lives[at as usize];
        life.stage = Stage::Free;
        life.given = None;
        self.free.push(at);
    }

    fn find(&mut self, place: Place, begun: Tick) -> Option<&mut Life> {
        let life = self.lives.get_mut((place.slot >> SHARD_BITS) as usize)?;
        (life.stage != Stage::Free && life.serial == place.serial && life.begun == begun).then_some(life)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended_at(lives: &Lives, life: &LifeOf) -> Option<Option<Tick>> {
        lives.see(life.place, life.begun).map(|seen| seen.ended)
    }

    #[test]
    fn one_that_ended_is_gone_unless_it_is_kept() {
        let lives = Lives::new();
        let home = lives.home(3);
        let (short, long) = (LifeOf::begin(&home, 1, None), LifeOf::begin(&home, 1, Some("lb-1".into())));
        assert_eq!(lives.see(long.place, 1), Some(Seen { ended: None, given: Some("lb-1".into()) }));
        short.spend(5);
        lives.of(short.place, 1).spend(2);
        lives.of(short.place, 2).spend(100);
        assert_eq!((short.spent(), short.end(9, None), short.spent()), (7, 7, 0), "what its own calls cost");
        assert_eq!(long.end(9, Some(Keep::Long)), 0);
        long.end(99, Some(Keep::Long));
        assert_eq!((ended_at(&lives, &short), ended_at(&lives, &long)), (None, Some(Some(9))), "it ends once");
        let next = LifeOf::begin(&home, 1, None);
        assert_eq!((next.place.slot, next.place.serial), (short.place.slot, short.place.serial + 1), "the place is used again");
        assert_eq!((ended_at(&lives, &short), ended_at(&lives, &next)), (None, Some(None)));
        lives.sweep(9);
        assert_eq!(ended_at(&lives, &long), Some(Some(9)));
        lives.sweep(10);
        assert_eq!(ended_at(&lives, &long), None);
        assert_eq!((lives.census().0, lives.pressed_out()), (1, 0));
    }

    #[test]
    fn too_many_that_ended_go_in_the_order_of_their_ends_each_kind_by_itself() {
        for keep in [Keep::Long, Keep::Named] {
            let lives = Lives::new();
            let home = lives.home(0);
            let other = LifeOf::begin(&home, 1, None);
            other.end(2, Some(if keep == Keep::Long { Keep::Named } else { Keep::Long }));
            let first = LifeOf::begin(&home, 1, None);
            let most = KEPT[keep as usize];
            let all: Vec<LifeOf> = (0..most).map(|_| LifeOf::begin(&home, 1, None)).collect();
            // The first to begin is the last to end.
            for (at, life) in all.iter().chain([&first]).enumerate() {
                life.end(10 + at as u32, Some(keep));
            }
            assert_eq!((ended_at(&lives, &all[0]), ended_at(&lives, &all[1])), (None, Some(Some(11))), "the first to end is gone, alone");
            assert_eq!((ended_at(&lives, &first), ended_at(&lives, &other)), (Some(Some(10 + most)), Some(Some(2))));
            assert_eq!((lives.census().1, lives.pressed_out()), (most as usize + 1, u64::from(keep == Keep::Long)));
        }
    }

    #[test]
    fn without_room_an_exchange_is_nowhere_and_the_running_ones_stay() {
        let lives = Lives::new();
        let home = lives.home(0);
        let all: Vec<LifeOf> = (0..NOWHERE).map(|_| LifeOf::begin(&home, 1, None)).collect();
        let nowhere = [LifeOf::begin(&home, 1, None), LifeOf::begin(&home, 1, None)];
        assert_ne!(nowhere[0].place, nowhere[1].place);
        assert_eq!(nowhere.each_ref().map(|life| ended_at(&lives, life)), [None, None]);
        nowhere[0].end(2, Some(Keep::Long));
        assert!(all.iter().all(|life| lives.is_running(life.place, 1)));
        assert!(lives.census().2 <= 3 << 20, "a worker's lives take {} bytes", lives.census().2);
        all[7].end(2, Some(Keep::Long));
        let fresh = LifeOf::begin(&home, 1, None);
        assert_eq!(fresh.place.slot, all[7].place.slot, "an ended one makes room");
    }
}
