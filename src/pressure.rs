//! The share of the memory budget that is in use, and the level of pressure.
//!
//! A watcher notes the process's resident size a few times a second; a request reads one number. Nothing here is sticky: the
//! level falls as soon as the size does. It falls two points below where it rose, and does not flutter.

pub mod descriptors;

use std::{
    fs,
    sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
};

/// The memory budget and the last known use. Shared by all workers.
#[derive(Debug)]
pub struct Pressure {
    budget: Option<u64>,
    resident: AtomicU64,
    level: AtomicU8,
}

/// The level of memory pressure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// No pressure.
    Easy,
    /// 90% of the budget: no work that holds memory is begun, and connections end with their answers.
    Tight,
    /// 95% of the budget: new requests are refused.
    Full,
}

/// Percent of the budget at which a level begins.
const BEGINS: [(Level, u128); 2] = [(Level::Full, 95), (Level::Tight, 90)];
/// Points below its beginning at which a level ends.
const SLACK: u128 = 2;

impl Pressure {
    /// No use is known yet. `budget` in bytes; `None`: no pressure ever.
    pub fn new(budget: Option<u64>) -> Self {
        Self { budget, resident: AtomicU64::new(0), level: AtomicU8::new(Level::Easy as u8) }
    }

    /// The present level.
    pub fn level(&self) -> Level {
        match self.level.load(Relaxed) {
            0 => Level::Easy,
            1 => Level::Tight,
            _ => Level::Full,
        }
    }

    /// Notes the present resident size in bytes. Gives the level if it has changed.
    pub fn note(&self, resident: u64) -> Option<Level> {
        self.resident.store(resident, Relaxed);
        let budget = self.budget.filter(|budget| *budget > 0)?;
        let percent = u128::from(resident) * 100 / u128::from(budget);
        let before = self.level();
        let begun = |(level, begins): &(Level, u128)| percent >= if before >= *level { begins - SLACK } else { *begins };
        let level = BEGINS.iter().find(|row| begun(row)).map_or(Level::Easy, |(level, _)| *level);
        self.level.store(level as u8, Relaxed);
        (level != before).then_some(level)
    }

    /// The budget in bytes.
    pub fn budget(&self) -> Option<u64> {
        self.budget
    }

    /// The resident size at the last look, in bytes; 0: no look yet.
    pub fn resident(&self) -> u64 {
        self.resident.load(Relaxed)
    }
}

/// The resident size of this process in bytes; `None` on systems other than Linux.
pub fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kilobytes: u64 = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kilobytes << 10)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn levels_rise_at_once_and_fall_as_soon_as_the_size_does() {
        let pressure = Pressure::new(Some(1000));
        let changes: Vec<_> = [899, 900, 949, 950, 931, 930, 929, 880, 879, 2000, 0].map(|size| pressure.note(size)).into();
        let (easy, tight, full) = (Some(Level::Easy), Some(Level::Tight), Some(Level::Full));
        assert_eq!(changes, [None, tight, None, full, None, None, tight, None, easy, full, easy]);
        assert_eq!(pressure.resident(), 0);
    }

    #[test]
    fn without_a_budget_memory_never_presses() {
        let pressure = Pressure::new(None);
        assert_eq!((pressure.note(u64::MAX), pressure.level()), (None, Level::Easy));
    }

    #[test]
    fn a_running_process_has_a_size() {
        assert!(resident().is_some_and(|size| size > 1 << 20));
    }

    proptest! {
        /// After any history, the level is right to within the slack.
        #[test]
        fn the_level_follows_the_size(sizes in proptest::collection::vec(0u64..1_200, 1..50)) {
            let pressure = Pressure::new(Some(1_000));
            for size in sizes {
                pressure.note(size);
                prop_assert!(size < 950 || pressure.level() == Level::Full);
                prop_assert!(size >= 930 || pressure.level() != Level::Full);
                prop_assert!(size < 900 || pressure.level() >= Level::Tight);
                prop_assert!(size >= 880 || pressure.level() == Level::Easy);
            }
        }
    }
}
