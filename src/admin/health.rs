//! `/health`: the state of the proxy and of its dependencies, in numbers and words.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::telemetry::metrics::{COMMIT, VERSION, Window};

/// The content of `/health`.
#[derive(Debug, Clone)]
pub struct Health {
    /// Time since the process began.
    pub uptime: Duration,
    /// The last 24 hours.
    pub window: Window,
    /// The dependencies: the app, each provider, Redis, the ledger, the collector.
    pub dependencies: Vec<Dependency>,
}

/// A dependency of the proxy.
#[derive(Debug, Clone)]
pub struct Dependency {
    /// Its name, unique.
    pub name: String,
    /// How it is.
    pub state: State,
    /// More, in words; empty for nothing.
    pub detail: String,
}

/// How a dependency is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// As it should be.
    Ok,
    /// Not as it should be; the proxy serves on without it (200).
    Degraded,
    /// Not as it should be, and a person should see to it (503).
    Down,
}

impl State {
    /// The word used in the answer.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

impl Health {
    /// The answer: 503 if any dependency is down, otherwise 200. Rates are 0..=1, and `null` before anything was counted.
    pub(super) fn answer(&self) -> (StatusCode, Value) {
        let worst = self.dependencies.iter().map(|dependency| dependency.state).max().unwrap_or(State::Ok);
        let (code, status) = match worst {
            State::Ok => (StatusCode::OK, "healthy"),
            State::Degraded => (StatusCode::OK, "degraded"),
            State::Down => (StatusCode::SERVICE_UNAVAILABLE, "unhealthy"),
        };
        let mut dependencies = Map::new();
        for dependency in &self.dependencies {
            let mut entry = json!({"state": dependency.state.as_str()});
            if !dependency.detail.is_empty() {
                entry["detail"] = dependency.detail.clone().into();
            }
            dependencies.insert(dependency.name.clone(), entry);
        }
        let millis = |latency: Duration| (latency.as_secs_f64() * 1e6).round() / 1e3;
        let body = json!({
            "status": status,
            "uptime": self.uptime.as_secs(),
            "version": VERSION,
            "commit": COMMIT,
            "cache_hit_rate": self.window.cache_hit_rate().map(rounded),
            "error_rate_24h": self.window.error_rate().map(rounded),
            "avg_latency": self.window.average_latency().map(millis),
            "requests_24h": self.window.requests,
            "units": {"uptime": "s", "avg_latency": "ms"},
            "dependencies": dependencies,
        });
        (code, body)
    }
}

/// Rounds to six places: one error in a million is still visible.
fn rounded(rate: f64) -> f64 {
    (rate * 1e6).round() / 1e6
}
