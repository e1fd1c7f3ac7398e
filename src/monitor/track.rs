//! One monitor: from the results of its checks to its state.

use super::history::History;

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// All conditions hold.
    Up,
    /// Only conditions about time do not hold; why.
    Slow(String),
    /// It is not as it should be; why.
    Down(String),
}

/// The state of a monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No check was made yet.
    Unknown,
    /// The last check was well.
    Up,
    /// The last two checks were slow.
    Slow,
    /// An incident is open.
    Down,
}

impl State {
    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Slow => "slow",
            Self::Down => "down",
        }
    }
}

/// What a check has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// An incident was opened.
    Opened,
    /// The incident is over.
    Closed,
}

/// One monitor.
#[derive(Debug, Clone, Default)]
pub struct Track {
    /// What was.
    pub history: History,
    /// Checks that failed in a row: since when, and how many.
    failing: Option<(u64, u32)>,
    /// Slow checks in a row.
    slow: u32,
    /// Why the last check was not well.
    why: Option<String>,
    known: bool,
}

impl Track {
    /// With what a process before has seen.
    pub fn with(history: History) -> Self {
        let why = history.open().map(|past| past.why.clone());
        Self { history, why, ..Self::default() }
    }

    /// Takes the result of a check at `now` (wall time in milliseconds). `failures` in a row open an incident; a pause longer than `gap`
    /// was not watched.
    pub fn note(&mut self, now: u64, check: Check, failures: u32, gap: u64) -> Option<Event> {
        if !self.history.seen(now, gap) && self.history.open().is_none() {
            // What failed before a pause is not in a row with what fails after it.
            (self.failing, self.slow) = (None, 0);
        }
        self.known = true;
        match check {
            Check::Down(why) => {
                self.slow = 0;
                let (since, count) = self.failing.map_or((now, 1), |(since, count)| (since, count.saturating_add(1)));
                self.failing = Some((since, count));
                self.why = Some(why.clone());
                let opens = count >= failures.max(1) && self.history.open().is_none();
                opens.then(|| {
                    self.history.begin(since, why);
                    Event::Opened
                })
            }
            Check::Up | Check::Slow(_) => {
                (self.slow, self.why) = match check {
                    Check::Slow(why) => (self.slow.saturating_add(1), Some(why)),
                    _ => (0, None),
                };
                self.failing = None;
                self.history.open().is_some().then(|| {
                    self.history.end(now);
                    Event::Closed
                })
            }
        }
    }

    /// Its state.
    pub fn state(&self) -> State {
        match (self.history.open().is_some(), self.slow >= 2, self.known) {
            (true, ..) => State::Down,
            (_, true, _) => State::Slow,
            (_, _, true) => State::Up,
            _ => State::Unknown,
        }
    }

    /// Why the last check was not well.
    pub fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down() -> Check {
        Check::Down("refused".into())
    }

    #[test]
    fn two_failures_open_an_incident_that_began_with_the_first_and_a_success_ends_it() {
        let mut track = Track::default();
        assert_eq!(track.state(), State::Unknown);
        let mut note = |second: u64, check| (track.note(second * 1_000, check, 2, 30_000), track.state());
        assert_eq!(note(0, Check::Up), (None, State::Up));
        assert_eq!(note(10, down()), (None, State::Up));
        assert_eq!(note(20, Check::Up), (None, State::Up), "one failure is none");
        assert_eq!(note(30, down()), (None, State::Up));
        assert_eq!(note(40, down()), (Some(Event::Opened), State::Down));
        assert_eq!(note(50, down()), (None, State::Down));
        assert_eq!(note(60, Check::Up), (Some(Event::Closed), State::Up));
        let past = &track.history.incidents;
        assert_eq!((past.len(), past[0].from, past[0].to), (1, 30_000, Some(60_000)));
    }

    #[test]
    fn slow_answers_are_a_warning_and_no_incident() {
        let mut track = Track::default();
        let slow = || Check::Slow("[RESPONSE_TIME] < 5 (it is 9)".into());
        assert_eq!((track.note(0, slow(), 2, 1), track.state()), (None, State::Up));
        assert_eq!((track.note(1, slow(), 2, 1), track.state()), (None, State::Slow));
        assert!(track.why().is_some_and(|why| why.contains("it is 9")));
        assert_eq!((track.note(2, Check::Up, 2, 1), track.state()), (None, State::Up));
    }

    #[test]
    fn an_incident_outlives_the_process() {
        let mut track = Track::default();
        track.note(1_000, down(), 1, 30_000);
        let text = serde_json::to_string(&track.history).expect("writes");
        let mut track = Track::with(serde_json::from_str(&text).expect("reads"));
        assert_eq!((track.state(), track.why()), (State::Down, Some("refused")));
        assert_eq!(track.note(9_000, Check::Up, 1, 30_000), Some(Event::Closed));
    }

    #[test]
    fn failures_around_a_pause_are_not_in_a_row() {
        let mut track = Track::default();
        let mut note = |second: u64, check| (track.note(second * 1_000, check, 2, 30_000), track.state());
        assert_eq!(note(0, down()), (None, State::Up));
        // A night of maintenance.
        assert_eq!(note(30_000, down()), (None, State::Up));
        assert_eq!(note(30_010, down()), (Some(Event::Opened), State::Down));
        assert_eq!(note(60_000, down()), (None, State::Down), "one that is open stays open");
        assert_eq!(track.history.incidents[0].from, 30_000_000);
    }
}
