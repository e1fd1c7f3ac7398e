//! File descriptors: the process's limit, and a reserve that clients and targets never get: the admin door, probes and a reload
//! work when all others are in use.
//!
//! The kernel gives the lowest free number: a new descriptor with a high number means that all below are in use. No count is needed.

use std::{
    os::fd::AsRawFd,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors kept from clients and targets; of a small limit a quarter is kept.
const RESERVE: u64 = 64;

/// The number at which the reserve begins; 0: not known.
static RESERVED_FROM: AtomicU64 = AtomicU64::new(0);

/// How many descriptors the process may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(u64);

/// Raises the limit as far as the process may by itself. `None`: there is no limit.
pub fn raise() -> Option<Limit> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // If the limit cannot be raised, the present one is used.
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    let limit = if raised { maximum } else { current }?;
    RESERVED_FROM.store(limit - reserve(limit), Relaxed);
    Some(Limit(limit))
}

/// Whether `new`, the descriptor opened last, leaves the reserve alone. If not, close it.
pub fn leaves_reserve(new: &impl AsRawFd) -> bool {
    let from = RESERVED_FROM.load(Relaxed);
    from == 0 || u64::try_from(new.as_raw_fd()).unwrap_or_default() < from
}

fn reserve(limit: u64) -> u64 {
    RESERVE.min(limit / 4)
}

impl Limit {
    /// A warning if `connections` clients at once, each with a connection to a target, need more than the limit.
    pub fn complaint(self, connections: u64) -> Option<String> {
        let needed = 2 * connections + RESERVE;
        (self.0 < needed).then(|| {
            let enough = (self.0 - reserve(self.0)) / 2;
            format!(
                "the process may have {} file descriptors: enough for about {enough} connections of clients at once. Raise the hard limit \
                 to {needed} (`ulimit -Hn`, systemd LimitNOFILE=, docker --ulimit nofile=)",
                self.0
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::RawFd;

    use super::*;

    struct Number(RawFd);

    impl AsRawFd for Number {
        fn as_raw_fd(&self) -> RawFd {
            self.0
        }
    }

    #[test]
    fn the_limit_is_raised_and_its_end_is_kept() {
        let limit = raise().expect("a limit");
        assert_eq!(getrlimit(Resource::Nofile).current, Some(limit.0));
        let last = i32::try_from(limit.0 - 1).unwrap_or(i32::MAX);
        assert!(leaves_reserve(&Number(3)) && !leaves_reserve(&Number(last)));
        assert_eq!((reserve(1 << 20), reserve(100)), (RESERVE, 25));
    }

    #[test]
    fn too_low_a_limit_is_said_with_a_remedy() {
        assert_eq!(Limit(20_064).complaint(10_000), None);
        let said = Limit(1_024).complaint(10_000).expect("too low");
        assert!(said.contains("about 480 connections") && said.contains("20064") && said.contains("LimitNOFILE"), "{said}");
    }
}
