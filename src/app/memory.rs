//! The process's memory, watched outside the path of requests, and its file descriptors; the operator's view of both.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use super::App;
use crate::{
    admin::{Dependency, State},
    config::{Bounds, Config},
    pressure::{self, Level, Pressure, descriptors},
    telemetry::metrics::Family,
};

/// How often the process's size is read: a burst must not outrun the last tenth of the budget.
const LOOK: Duration = Duration::from_millis(250);

/// Connections that a door without a configured number should be able to have.
const FEW: usize = 2_000;

/// Raises the limit of file descriptors as far as possible, and reports a limit that is too low.
pub fn raise_descriptors(config: &Config) {
    let bounds = [config.inbound.as_ref().map(|door| &door.bounds), config.outbound.as_ref().map(|door| &door.bounds)];
    // A door without a configured number does not count on the default one.
    let wanted = |bounds: &Bounds| match bounds.max_connections {
        usual if usual == Bounds::default().max_connections => usual.min(FEW),
        said => said,
    };
    let connections: usize = bounds.into_iter().flatten().map(wanted).sum();
    if let Some(complaint) = descriptors::raise().and_then(|limit| limit.complaint(connections as u64)) {
        tracing::warn!("{complaint}");
    }
}

/// Notes the process's size as long as `pressure` is held. Without a budget there is nothing to watch.
pub fn watch(pressure: &Arc<Pressure>) {
    if pressure.budget().is_some() {
        if !cfg!(feature = "jemalloc") {
            // Cargo.toml has the figures.
            tracing::warn!("this build has no jemalloc: after a burst, free memory counts as used, and memory_limit goes on refusing");
        }
        tokio::spawn(look(Arc::downgrade(pressure)));
    }
}

async fn look(pressure: Weak<Pressure>) {
    let mut every = tokio::time::interval(LOOK);
    loop {
        every.tick().await;
        let (Some(pressure), Some(resident)) = (pressure.upgrade(), pressure::resident()) else { return };
        if let Some(level) = pressure.note(resident) {
            let (resident_mib, budget_mib) = (resident >> 20, pressure.budget().unwrap_or_default() >> 20);
            tracing::warn!(resident_mib, budget_mib, "memory: {}", words(level));
        }
    }
}

fn words(level: Level) -> &'static str {
    match level {
        Level::Easy => "within the budget",
        Level::Tight => "nothing new is cached and connections end with their answers",
        Level::Full => "new requests are refused",
    }
}

/// Registers the memory's numbers, read at every scrape.
pub fn register(app: &Arc<App>) {
    let asked = Arc::downgrade(app);
    let read = move || {
        let Some(app) = asked.upgrade() else { return Vec::new() };
        let memory = app.shared.cache.stats().memory;
        let all = [
            ("rss", pressure::resident()),
            ("budget", app.shared.pressure.budget()),
            ("cache", Some(memory.bytes + memory.in_flight)),
            ("bodies", Some(app.shared.bodies.used())),
        ];
        all.into_iter().filter_map(|(kind, bytes)| Some((vec![kind.to_owned()], bytes? as f64))).collect()
    };
    app.telemetry.metrics().register(Family::MemoryBytes, Box::new(read));
}

/// For `/health`: a process that is short of memory serves on as long as it can.
pub fn dependency(pressure: &Pressure) -> Option<Dependency> {
    let budget = pressure.budget()?;
    let level = pressure.level();
    let state = if level == Level::Easy { State::Ok } else { State::Degraded };
    let detail = format!("{} MiB of {} MiB: {}", pressure.resident() >> 20, budget >> 20, words(level));
    Some(Dependency { name: "memory".to_owned(), state, detail })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_says_how_memory_is_and_what_follows() {
        let pressure = Pressure::new(Some(100 << 20));
        let said = |mib: u64| {
            pressure.note(mib << 20);
            dependency(&pressure).map(|memory| (memory.state, memory.detail)).expect("there is a budget")
        };
        assert_eq!(said(50), (State::Ok, "50 MiB of 100 MiB: within the budget".to_owned()));
        assert_eq!(said(92).0, State::Degraded);
        assert_eq!(said(97), (State::Degraded, "97 MiB of 100 MiB: new requests are refused".to_owned()));
        assert_eq!(said(10).0, State::Ok);
        assert!(dependency(&Pressure::new(None)).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_size_of_the_process_is_noted_until_nobody_cares() {
        let pressure = Arc::new(Pressure::new(Some(1)));
        watch(&pressure);
        tokio::time::sleep(LOOK).await;
        assert!(pressure.resident() > 1 << 20);
        assert_eq!(pressure.level(), Level::Full);
        let weak = Arc::downgrade(&pressure);
        drop(pressure);
        tokio::time::sleep(2 * LOOK).await;
        assert_eq!(weak.strong_count(), 0);
    }
}
