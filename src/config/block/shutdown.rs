//! `shutdown`: how the process leaves after SIGTERM.

use std::time::Duration;

use serde::Deserialize;

use crate::config::{
    build::Build,
    scalars::W,
    schema::{Key, Table, kinds::TIME_OF},
};

/// The end of the process.
#[derive(Debug, Clone)]
pub struct Shutdown {
    /// Time between the failing of readiness and the end of accepting.
    pub drain_delay: Duration,
    /// Time to the end of everything, from the signal.
    pub deadline: Duration,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    drain_delay: W<Duration>,
    deadline: W<Duration>,
}

pub(in crate::config) static TABLE: Table = Table::new(
    "shutdown",
    "How the process leaves after SIGTERM.",
    &[
        Key::new("drain_delay", TIME_OF, "Still accepting, after readiness failed.").within("0", "10m").default("5s"),
        Key::new("deadline", TIME_OF, "Everything is over by then; keep it below the orchestrator's own.")
            .within("100ms", "1h")
            .default("25s"),
    ],
);

pub(in crate::config) fn build(build: &mut Build<'_>, written: &Written) -> Shutdown {
    let (drain_delay, deadline) = (written.drain_delay.0, written.deadline.0);
    if drain_delay >= deadline {
        let at = if build.seen.written("shutdown.deadline") { "shutdown.deadline" } else { "shutdown.drain_delay" };
        let message = format!(
            "the deadline ({}) must be longer than the drain delay ({}): what is in flight would have no time",
            humantime::format_duration(deadline),
            humantime::format_duration(drain_delay)
        );
        build.fault(build.seen.value(at), message);
    }
    Shutdown { drain_delay, deadline }
}

#[cfg(test)]
mod tests {
    use crate::config::testing::{IN, good, says};

    #[test]
    fn what_is_in_flight_has_time_after_the_drain_delay() {
        let shutdown = good(IN).shutdown;
        assert!(shutdown.drain_delay < shutdown.deadline);
        says(&format!("{IN}shutdown: {{drain_delay: 30s}}\n"), "2:25", "must be longer than the drain delay");
        says(&format!("{IN}shutdown: {{deadline: 5s}}\n"), "2:22", "must be longer than the drain delay");
    }
}
