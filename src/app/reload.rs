//! A new configuration while the process runs: read, checked and prepared outside the path of requests, then put to work at once.
//!
//! A reload is all or nothing, and one at a time, whether SIGHUP, the admin door or the file itself asks for it. Files are read
//! and parsed on a thread that may block. Every worker prepares its side of the new generation in slices; the generation
//! becomes the newest when all workers have.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use tokio::sync::mpsc;

use super::{App, audit, certificates};
use crate::{
    admin::{Dependency, State},
    clock::unix,
    config::{
        Config,
        error::Mistakes,
        read::{self, Watched},
    },
    proxy::live::Live,
    telemetry::metrics::Family,
};

/// Longest wait for the workers to prepare a generation. A slower worker prepares it with its next request.
const PREPARE: Duration = Duration::from_secs(5);
/// Longest part of a refusal that `/health` shows, in bytes.
const SHOWN: usize = 600;

/// State of a reload; one reload at a time uses it.
pub(super) struct Reloading {
    /// The files of the configuration, if it came from files.
    pub(super) watched: Option<Watched>,
    /// Generations that workers have prepared.
    pub(super) prepared: mpsc::Receiver<u64>,
    /// Generations that requests may still hold. They are large: the last request of one should not have to free it.
    pub(super) old: Vec<Arc<Live>>,
}

/// How the last reload ended.
#[derive(Debug)]
pub(super) struct LastReload {
    /// Why the configuration on disk was refused.
    pub(super) refused: Option<String>,
    /// When the configuration at work was read.
    succeeded: SystemTime,
}

impl LastReload {
    /// The start was the first one, and it succeeded.
    pub(super) fn started(now: SystemTime) -> Self {
        Self { refused: None, succeeded: now }
    }
}

/// A configuration that can be put to work.
struct Checked {
    live: Arc<Live>,
    doors: certificates::Ready,
    /// The hash of the file's text.
    text: Option<String>,
}

impl App {
    /// Reads the file again; all or nothing. `Ok(false)`: its content has not changed.
    ///
    /// # Errors
    /// Every mistake of the file, or the change that needs a restart. The running configuration is kept.
    pub async fn reload(self: &Arc<Self>, forced: bool) -> Result<bool, Mistakes> {
        let mut reloading = self.reloading.lock().await;
        self.reload_holding(&mut reloading, forced).await
    }

    /// As [`App::reload`], for one who holds the lock: nobody else reads the file meanwhile.
    pub(super) async fn reload_holding(self: &Arc<Self>, reloading: &mut Reloading, forced: bool) -> Result<bool, Mistakes> {
        reloading.old.retain(|live| Arc::strong_count(live) > 1);
        let outcome = self.reload_alone(reloading, forced).await;
        let counter = |outcome| self.telemetry.metrics().shared().counter(Family::ConfigReloads, &[outcome]);
        match &outcome {
            Ok(false) => {}
            Ok(true) => {
                counter("applied").inc();
                *self.last_reload.lock() = LastReload::started(self.shared.clock.wall());
                self.alerts.changed.notify_one();
                self.monitors.changed.notify_one();
                tracing::info!("the configuration was reloaded");
            }
            Err(why) => {
                counter("refused").inc();
                audit::refused(&self.shared.audit, &why.to_string());
                self.last_reload.lock().refused = Some(why.to_string());
                tracing::error!("the configuration was not reloaded, the running one is kept:\n{why}");
            }
        }
        outcome
    }

    async fn reload_alone(self: &Arc<Self>, reloading: &mut Reloading, forced: bool) -> Result<bool, Mistakes> {
        let Some(watched) = reloading.watched.clone() else { return Ok(false) };
        let this = self.clone();
        let work = move || {
            let mut watched = watched;
            let changed = watched.has_changed(this.shared.clock.wall());
            match forced || changed {
                true => this.check(),
                false => (watched, Ok(None)),
            }
        };
        let fault = |error| self.mistake(format!("a fault of this program: {error}"));
        let (watched, checked) = tokio::task::spawn_blocking(work).await.map_err(fault)?;
        reloading.watched = Some(watched);
        let Some(checked) = checked? else { return Ok(false) };
        let fresh = checked.live;
        self.prepare(reloading, &fresh).await;
        checked.doors.apply(&self.terminators);
        certificates::say(&fresh.config, self.shared.clock.wall());
        let (now, generation) = (fresh.config.clone(), fresh.generation);
        let before = Live::put_to_work(fresh, &self.live, &self.shared, self.telemetry.metrics());
        audit::reloaded(&self.shared.audit, &before.config, (&now, generation), checked.text);
        reloading.old.push(before);
        Ok(true)
    }

    /// Reads the file and makes every check that can refuse it. Blocks.
    fn check(&self) -> (Watched, Result<Option<Checked>, Mistakes>) {
        // Without a file no reload is asked for.
        let file = self.source.file.as_deref().unwrap_or(Path::new(""));
        let (reading, watched) = read::load_watched(file, &self.source.overrides, &|name| std::env::var(name).ok());
        let checked = reading.and_then(|reading| self.check_config(reading.config).map_err(|why| self.mistake(why)));
        (watched, checked.map(Some))
    }

    /// A mistake of the file as a whole.
    pub(super) fn mistake(&self, why: String) -> Mistakes {
        Mistakes::of_file(&self.source.file.as_deref().unwrap_or(Path::new("(no file)")).display().to_string(), why)
    }

    /// Whether a reload would take `config`; changes nothing. Blocks.
    ///
    /// # Errors
    /// Why not, in words.
    pub(super) fn would_take(&self, config: Config) -> Result<(), String> {
        self.build(&Arc::new(config)).map(drop)
    }

    /// The part of `config` that differs from the running one and cannot change while the process runs.
    pub(super) fn needs_restart(&self, config: &Config) -> Option<&'static str> {
        needs_restart(&self.live.load().config, config)
    }

    fn build(&self, config: &Arc<Config>) -> Result<Checked, String> {
        let running = self.live.load();
        if let Some(what) = needs_restart(&running.config, config) {
            return Err(format!("{what} cannot change while running; it needs a restart"));
        }
        let live = Arc::new(Live::new(running.generation + 1, config.clone(), &self.shared)?);
        Ok(Checked { live, doors: certificates::prepare(config)?, text: audit::text_hash(self.source.file.as_deref()) })
    }

    fn check_config(&self, config: Config) -> Result<Checked, String> {
        let config = Arc::new(config);
        let checked = self.build(&config)?;
        // This is the last step that can refuse, and a refusal changes nothing.
        if let (Some(redis), Some(meant)) = (&self.redis, &config.store.redis) {
            redis.renew_tls(&meant.tls).map_err(|why| format!("store.redis_tls: {why}"))?;
        }
        Ok(checked)
    }

    /// Has every worker prepare `fresh`.
    async fn prepare(&self, reloading: &mut Reloading, fresh: &Arc<Live>) {
        let workers = self.alive.load(Ordering::Acquire);
        self.next.send_replace(Some(fresh.clone()));
        let all = async {
            let mut ready = 0;
            while ready < workers {
                let Some(generation) = reloading.prepared.recv().await else { return };
                ready += usize::from(generation == fresh.generation);
            }
        };
        if tokio::time::timeout(PREPARE, all).await.is_err() {
            tracing::warn!("a worker has not prepared the new configuration in {PREPARE:?}; it will do so on its next request");
        }
        self.next.send_replace(None);
    }
}

/// The part of the configuration that differs and cannot change while running.
fn needs_restart(running: &Config, wanted: &Config) -> Option<&'static str> {
    let listen = |config: &Config| (config.inbound.as_ref().map(|d| d.listen), config.outbound.as_ref().map(|d| d.listen));
    let admin = |config: &Config| (config.admin.listen, config.admin.probes, config.admin.socket.clone());
    let page = |config: &Config| config.status_page.as_ref().and_then(|page| page.listen);
    if listen(running) != listen(wanted) || admin(running) != admin(wanted) || page(running) != page(wanted) {
        return Some("a listener");
    }
    if running.admin.tokens != wanted.admin.tokens {
        return Some("a token of the admin door");
    }
    // Compared by value: secrets have no text to compare.
    if running.telemetry != wanted.telemetry {
        return Some("telemetry");
    }
    let budgets = |config: &Config| (config.memory_limit, config.body_budget, config.store.max_keys);
    if budgets(running) != budgets(wanted) {
        return Some("a budget of the process");
    }
    if running.workers != wanted.workers {
        return Some("the number of workers");
    }
    let redis = |config: &Config| config.store.redis.as_ref().map(|r| (r.url.clone(), r.namespace.clone(), r.timeout, r.encrypt));
    if redis(running) != redis(wanted) || running.store.memory != wanted.store.memory || running.store.secret != wanted.store.secret {
        return Some("the store");
    }
    if running.store.encryption_keys != wanted.store.encryption_keys {
        return Some("a key of the store");
    }
    if running.store.state_dir != wanted.store.state_dir || running.store.ledger != wanted.store.ledger {
        return Some("the ledger");
    }
    if running.audit != wanted.audit {
        return Some("the audit log");
    }
    None
}

/// For `/health`: the configuration on disk should be the running one.
pub(super) fn dependency(app: &App) -> Dependency {
    let generation = app.live().generation;
    let last = app.last_reload.lock();
    let (state, detail) = match &last.refused {
        None => (State::Ok, format!("generation {generation}")),
        Some(why) => {
            let shown = &why[..why.floor_char_boundary(SHOWN)];
            let rest = if shown.len() < why.len() { " ... (`outrigger check` says all)" } else { "" };
            (State::Degraded, format!("what is on disk is refused, generation {generation} serves on: {shown}{rest}"))
        }
    };
    Dependency { name: "configuration".to_owned(), state, detail }
}

/// Registers the state of the last reload, read at every scrape.
pub(super) fn register(app: &Arc<App>) {
    let asks = |family, read: fn(&LastReload) -> f64| {
        let app_seen = Arc::downgrade(app);
        let read = move || app_seen.upgrade().map(|app| (Vec::new(), read(&app.last_reload.lock()))).into_iter().collect();
        app.telemetry.metrics().register(family, Box::new(read));
    };
    asks(Family::ConfigLastReloadSuccessful, |last| f64::from(u8::from(last.refused.is_none())));
    asks(Family::ConfigLastReloadSuccess, |last| unix(last.succeeded).as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(rest: &str) -> Config {
        let text = format!("inbound: {{app: 'http://127.0.0.1:3000'}}\n{rest}");
        let overrides = read::Overrides { memory_limit: Some(512 << 20), ..read::Overrides::default() };
        read::parse(&text, "proxy.yaml", &overrides, &|_| None).unwrap_or_else(|mistakes| panic!("{mistakes}"))
    }

    #[test]
    fn every_part_that_cannot_change_is_noticed_also_where_it_is_secret() {
        let otlp = |token: &str| format!("telemetry: {{otlp: 'http://c:4318', otlp_headers: {{authorization: '{token}'}}}}\n");
        let redis = |url: &str, secret: &str| format!("store: {{redis: '{url}', namespace: n, secret: {secret}}}\n");
        let secret = "0123456789abcdef0123456789abcdef";
        for (running, wanted, part) in [
            (otlp("Bearer one"), otlp("Bearer two"), "telemetry"),
            (otlp("Bearer one"), otlp("Bearer one").replace("authorization", "x-token"), "telemetry"),
            (otlp("a"), otlp("a").replace("c:4318", "d:4318"), "telemetry"),
            ("admin: {token: a-token-of-16-bytes}\n".into(), "admin: {token: b-token-of-16-bytes}\n".into(), "a token of the admin door"),
            ("admin: {listen: 127.0.0.1:9901}\n".into(), "admin: {listen: 127.0.0.1:9903}\n".into(), "a listener"),
            (redis("redis://:one@h", secret), redis("redis://:two@h", secret), "the store"),
            (redis("redis://h", secret), redis("redis://h", &secret.replace('0', "9")), "the store"),
            ("workers: 1\n".into(), "workers: 2\n".into(), "the number of workers"),
            ("memory_limit: 64MiB\n".into(), "memory_limit: 65MiB\n".into(), "a budget of the process"),
        ] {
            assert_eq!(needs_restart(&config(&running), &config(&wanted)), Some(part), "{running} -> {wanted}");
            assert_eq!(needs_restart(&config(&running), &config(&running)), None, "{running}");
        }
    }
}
