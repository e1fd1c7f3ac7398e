//! The only reader of time and chance.
//!
//! Monotonic time is `tokio::time::Instant`, so a paused runtime stops it. Wall time is the system's, or, in tests,
//! a fixed start that moves with the monotonic clock. Everything else takes `now` as an argument.

use std::{
    cell::RefCell,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub use tokio::time::Instant;

/// Wall time. Cheap to copy; one is made at start and handed down.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    source: Wall,
}

#[derive(Debug, Clone, Copy)]
enum Wall {
    System,
    Fixed { at: SystemTime, started: Instant },
}

impl Clock {
    /// The system's clock; steps with it.
    pub const fn system() -> Self {
        Self { source: Wall::System }
    }

    /// Begins at `at` and moves with the runtime's clock. For tests.
    pub fn fixed(at: SystemTime) -> Self {
        Self { source: Wall::Fixed { at, started: Instant::now() } }
    }

    /// The wall time now.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    pub fn wall(&self) -> SystemTime {
        match self.source {
            Wall::System => SystemTime::now(),
            Wall::Fixed { at, started } => at + started.elapsed(),
        }
    }

    /// Wall time as whole milliseconds since 1970; 0 before it.
    pub fn unix_millis(&self) -> u64 {
        unix(self.wall()).as_millis() as u64
    }

    /// Monotonic time.
    pub fn now(&self) -> Instant {
        Instant::now()
    }
}

/// Time since 1970; zero before it.
pub fn unix(at: SystemTime) -> Duration {
    at.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Chance that is good enough for jitter and sampling, seeded from outside.
#[derive(Debug)]
pub struct Chance(RefCell<fastrand::Rng>);

impl Chance {
    /// Seeded by the operating system.
    pub fn system() -> Self {
        Self(RefCell::new(fastrand::Rng::with_seed(u64::from_le_bytes(secret_bytes()))))
    }

    /// The same sequence for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Self(RefCell::new(fastrand::Rng::with_seed(seed)))
    }

    /// Uniform in `0.0..1.0`.
    pub fn unit(&self) -> f64 {
        self.0.borrow_mut().f64()
    }

    /// Uniform in `0..=max`.
    pub fn up_to(&self, max: Duration) -> Duration {
        max.mul_f64(self.unit())
    }

    /// Random bytes that need not resist guessing (trace and span ids).
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut out = [0; N];
        self.0.borrow_mut().fill(&mut out);
        out
    }
}

const POOL: usize = 1024;

thread_local! {
    /// Unguessable bytes, drawn from the CSPRNG a block at a time.
    static UNGUESSABLE: RefCell<(usize, [u8; POOL])> = const { RefCell::new((POOL, [0; POOL])) };
}

/// An unguessable 128-bit id (request ids, cause ids).
pub fn unguessable_id() -> u128 {
    UNGUESSABLE.with_borrow_mut(|(used, pool)| {
        if *used + 16 > POOL {
            fill_secret(pool);
            *used = 0;
        }
        let mut id = [0; 16];
        id.copy_from_slice(&pool[*used..*used + 16]);
        pool[*used..*used + 16].fill(0);
        *used += 16;
        u128::from_le_bytes(id)
    })
}

/// Bytes from the operating system's CSPRNG.
pub fn secret_bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    fill_secret(&mut out);
    out
}

#[expect(clippy::expect_used, reason = "without an entropy source no secret can be made and the process must not go on")]
fn fill_secret(out: &mut [u8]) {
    aws_lc_rs::rand::fill(out).expect("the operating system gives random bytes");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_fixed_wall_clock_moves_with_the_paused_one() {
        let clock = Clock::fixed(UNIX_EPOCH + Duration::from_secs(100));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(clock.unix_millis(), 105_000);
    }

    #[test]
    fn ids_differ_and_chance_repeats_by_seed() {
        assert_ne!(unguessable_id(), unguessable_id());
        assert_eq!(Chance::seeded(7).unit(), Chance::seeded(7).unit());
    }
}
