//! Addresses that show bad credentials, and how long each has to wait. Bounded; an IPv6 address counts by its /64.
//!
//! An address may fail ten times at once, and then once in six seconds. Only who fails is told to wait: a good credential passes at once, whoever
//! else sits behind the same address.

use std::{net::IpAddr, time::Duration};

use quick_cache::sync::Cache;

use crate::clock::Instant;

/// Failures that an address has at once.
const BURST: u32 = 10;
/// The time in which it wins one back.
const PACE: Duration = Duration::from_secs(6);
/// Most addresses that are remembered; about 4 MiB.
const MOST: usize = 1 << 15;

/// Addresses and their failures.
pub struct SlowAddresses {
    /// For each address: when it would have no failure left, after the beginning.
    clear: Cache<u128, Duration>,
    begun: Instant,
}

impl SlowAddresses {
    /// Nobody has failed yet.
    pub fn new(now: Instant) -> Self {
        Self { clear: Cache::new(MOST), begun: now }
    }

    /// Counts a bad credential; the wait, if there were too many.
    pub fn failed(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let (key, now) = (key(address), now - self.begun);
        // A flood makes the wait no longer.
        let clear = (self.clear.get(&key).unwrap_or_default().max(now) + PACE).min(now + PACE * (BURST + 1));
        self.clear.insert(key, clear);
        wait(clear, now)
    }
}

fn wait(clear: Duration, now: Duration) -> Option<Duration> {
    clear.checked_sub(now + PACE * BURST).filter(|wait| !wait.is_zero())
}

fn key(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address) >> 64 << 64 | 1 << 63,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl SlowAddresses {
        fn wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
            wait(self.clear.get(&key(address))?, now - self.begun)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ten_at_once_and_then_one_in_six_seconds() {
        let (slow, begun) = (SlowAddresses::new(Instant::now()), Instant::now());
        let (bad, good): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        for nth in 0..10 {
            assert_eq!((slow.wait(bad, begun), slow.failed(bad, begun)), (None, None), "{nth}");
        }
        assert_eq!(slow.failed(bad, begun), Some(PACE));
        for _ in 0..1000 {
            slow.failed(bad, begun);
        }
        assert_eq!((slow.wait(bad, begun), slow.wait(good, begun)), (Some(PACE), None), "a flood makes the wait no longer");
        assert_eq!(slow.wait(bad, begun + PACE), None);
        assert_eq!(slow.failed(bad, begun + PACE), Some(PACE));
        assert_eq!(slow.failed(bad, begun + PACE * 40), None);
    }

    #[test]
    fn neighbours_in_a_net_count_together_and_a_mapped_address_is_itself() {
        let of = |text: &str| key(text.parse().expect("an address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("::"), of("0.0.0.0"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let now = Instant::now();
        let slow = SlowAddresses::new(now);
        for address in 0..200_000_u32 {
            slow.failed(IpAddr::V4(address.into()), now);
        }
        assert!(slow.clear.len() <= MOST, "{}", slow.clear.len());
    }
}
