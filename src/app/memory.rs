//! Watching the process's memory, off the way of any request; what operators see of it.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use super::App;
use crate::{
    admin::{Dependency, State},
    pressure::{self, Level, Pressure},
    telemetry::metrics::Family,
};

/// How often the process's size is read: often enough that a burst does not outrun the last tenth of the budget.
const LOOK: Duration = Duration::from_millis(250);

/// Notes the process's size until nobody has `pressure` any more. Without a budget there is nothing to watch.
pub fn watch(pressure: &Arc<Pressure>) {
    if pressure.budget().is_some() {
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

/// The memory's numbers, asked for at every scrape.
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

/// For `/health`: a process without much memory left serves on as long as it can.
pub fn dependency(app: &App) -> Option<Dependency> {
    let pressure = &app.shared.pressure;
    let budget = pressure.budget()?;
    let level = pressure.level();
    let state = if level == Level::Easy { State::Ok } else { State::Degraded };
    let detail = format!("{} MiB of {} MiB: {}", pressure.resident() >> 20, budget >> 20, words(level));
    Some(Dependency { name: "memory".to_owned(), state, detail })
}
