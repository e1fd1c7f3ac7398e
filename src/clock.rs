//! The only reader of time and chance.
//!
//! Monotonic time is `tokio::time::Instant`: a paused runtime stops it. Wall time is the system's; in tests it is a fixed start
//! that moves with the monotonic clock. All other code takes `now` as an argument.

use std::{
    cell::{Cell, RefCell},
    sync::OnceLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub use tokio::time::Instant;

/// A moment on two clocks. The steady clock tells how much time has passed: it is never set. The wall clock is for comparison
/// with times that others wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The wall time at this process' first reading, plus the monotonic time since then.
    steady: SystemTime,
    /// The wall time.
    pub wall: SystemTime,
}

impl Moment {
    /// A moment at which both clocks show the same.
    pub const fn at(wall: SystemTime) -> Self {
        Self { steady: wall, wall }
    }

    /// The same moment after the wall clock was set. For tests.
    pub const fn with_wall(self, wall: SystemTime) -> Self {
        Self { wall, ..self }
    }

    /// Time since `earlier`, whatever happened to the wall clock meanwhile; zero if `earlier` is later.
    pub fn since(&self, earlier: Self) -> Duration {
        self.steady.duration_since(earlier.steady).unwrap_or_default()
    }

    /// The moment `by` earlier.
    pub fn before(&self, by: Duration) -> Self {
        let back = |at: SystemTime| at.checked_sub(by).unwrap_or(UNIX_EPOCH);
        Self { steady: back(self.steady), wall: back(self.wall) }
    }

    /// The moment `by` later.
    pub fn after(&self, by: Duration) -> Self {
        let on = |at: SystemTime| at.checked_add(by).unwrap_or(at);
        Self { steady: on(self.steady), wall: on(self.wall) }
    }

    /// Milliseconds of the steady clock, for comparing moments of this process.
    pub fn steady_millis(&self) -> u64 {
        unix(self.steady).as_millis() as u64
    }
}

/// The start of the steady clock, on both clocks.
static BEGAN: OnceLock<(SystemTime, Instant)> = OnceLock::new();

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
    /// The system's clock; steps as that one is set.
    pub const fn system() -> Self {
        Self { source: Wall::System }
    }

    /// A clock that begins at `at` and moves with the runtime's clock. For tests.
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

    /// The present moment, on both clocks.
    pub fn moment(&self) -> Moment {
        let wall = self.wall();
        match self.source {
            Wall::System => {
                let (began, started) = *BEGAN.get_or_init(|| (wall, Instant::now()));
                Moment { steady: began + started.elapsed(), wall }
            }
            Wall::Fixed { .. } => Moment::at(wall),
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

thread_local! {
    /// The last date written, and its second since 1970.
    static DATE: Cell<(u64, [u8; DATE_LEN])> = const { Cell::new((u64::MAX, [b' '; DATE_LEN])) };
}

/// Bytes of a date as IMF-fixdate.
const DATE_LEN: usize = 29;

/// The second of `at` as a date field (RFC 9110 section 5.6.7). Each worker formats a second once.
pub fn http_date(at: SystemTime) -> [u8; DATE_LEN] {
    let second = unix(at).as_secs();
    let (known, date) = DATE.get();
    if known == second {
        return date;
    }
    let mut date = [b' '; DATE_LEN];
    for (byte, text) in date.iter_mut().zip(httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second)).bytes()) {
        *byte = text;
    }
    DATE.set((second, date));
    date
}

/// Randomness that is good enough for jitter and sampling, seeded from outside.
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

    #[tokio::test(start_paused = true)]
    async fn a_moment_knows_what_passed_whoever_sets_the_clock() {
        let (clock, second) = (Clock::fixed(UNIX_EPOCH + Duration::from_secs(100)), Duration::from_secs(1));
        let first = clock.moment();
        tokio::time::advance(second).await;
        let set_back = clock.moment().with_wall(UNIX_EPOCH);
        assert_eq!((set_back.since(first), first.since(set_back)), (second, Duration::ZERO));
        assert_eq!((first.after(second).since(first), first.since(first.before(second))), (second, second));
    }

    #[test]
    fn a_date_is_that_of_its_second_forwards_and_backwards() {
        let at = |millis| http_date(UNIX_EPOCH + Duration::from_millis(millis));
        assert_eq!(at(784_111_777_000), *b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(at(784_111_777_999), at(784_111_777_000));
        assert_eq!(at(784_111_778_000), *b"Sun, 06 Nov 1994 08:49:38 GMT");
        assert_eq!(at(784_111_777_000), *b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http_date(UNIX_EPOCH - Duration::from_secs(1)), *b"Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn ids_differ_and_chance_repeats_by_seed() {
        assert_ne!(unguessable_id(), unguessable_id());
        assert_eq!(Chance::seeded(7).unit(), Chance::seeded(7).unit());
    }
}
