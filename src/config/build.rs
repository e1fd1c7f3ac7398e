//! From written to meant: the builds of all blocks in turn, then the mistakes that only the whole file shows.

use std::{net::SocketAddr, path::Path};

use super::{
    Config, Members, Origin, Policies,
    block::{admin, alerts, apps, audit, file, inbound, monitors, outbound, sentry, shutdown, status_page, store, telemetry, warm},
    error::Fault,
    read::{Files, Mark, Overrides, Seen},
    scalars::W,
};

/// A remark on a file. A file with remarks is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// 1-based line.
    pub line: usize,
    /// 1-based column, in characters.
    pub column: usize,
    /// The remark.
    pub message: String,
}

/// The two doors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    Inbound,
    Outbound,
}

impl Door {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// One building of a configuration.
pub(super) struct Build<'a> {
    pub(super) seen: &'a Seen,
    pub(super) overrides: &'a Overrides,
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    pub(super) files: &'a mut Files,
    pub(super) faults: Vec<Fault>,
    pub(super) notes: Vec<Note>,
    /// Tags of every cache, whatever its mode. A `purge` may name these.
    pub(super) tags: Vec<String>,
    /// Names of limits with their paths. A name is unique over both doors: it is a label of metrics.
    pub(super) limit_names: Vec<(String, String)>,
    /// Providers whose API is not known because of a mistake.
    pub(super) vague: Vec<String>,
    /// Names that stand for no provider: each with the mistake at its first place, and the lines of its other places.
    pub(super) strangers: Vec<(String, Fault, Vec<u32>)>,
}

impl<'a> Build<'a> {
    pub(super) fn new(seen: &'a Seen, overrides: &'a Overrides, env: &'a dyn Fn(&str) -> Option<String>, files: &'a mut Files) -> Self {
        Self {
            seen,
            overrides,
            env,
            files,
            faults: Vec::new(),
            notes: Vec::new(),
            tags: Vec::new(),
            limit_names: Vec::new(),
            vague: Vec::new(),
            strangers: Vec::new(),
        }
    }

    /// The configuration. `None`: there is a fault.
    pub(super) fn config(&mut self, root: file::Written) -> Option<Config> {
        let inbound = root.inbound.iter().flat_map(inbound::Written::blocks);
        let outbound = root.outbound.iter().flat_map(outbound::Written::blocks);
        inbound.chain(outbound).for_each(|block| Policies::look_ahead(self, block));
        let machine_limit = self.overrides.memory_limit.or_else(|| memory_limit(Path::new("/sys/fs/cgroup")));
        let limit = root.memory_limit.map_or(machine_limit, |written| written.0.0.map(|size| size.0));
        let memory_limit = limit.or(machine_limit);
        let inbound = inbound::build(self, root.inbound);
        let outbound = root.outbound.map(|written| outbound::build(self, written));
        let doors = self.seen.written("inbound") || self.seen.written("outbound") || self.overrides.app.is_some();
        if !doors && !self.seen.broken("") {
            let message = "there is nothing to do: write `inbound: {app: http://127.0.0.1:3000}` or `outbound`, or give `--app`";
            self.fault(Mark { line: 1, column: 1 }, message);
        }
        let admin = admin::build(self, root.admin);
        let store = store::build(self, root.store, memory_limit);
        let telemetry = telemetry::build(self, root.telemetry);
        let shutdown = shutdown::build(self, &root.shutdown);
        let alerts = alerts::build(self, root.alerts);
        let audit = audit::build(self, root.audit, store.state_dir.is_some());
        let monitors = monitors::build(self, root.monitors, inbound.as_ref(), outbound.as_ref());
        let status_page = status_page::page(self, root.status_page, inbound.as_ref());
        let sentry = sentry::build(self, root.sentry);
        let config = Config {
            alerts,
            audit,
            sentry,
            monitors,
            status_page,
            inbound,
            outbound,
            admin,
            store,
            telemetry,
            shutdown,
            workers: root.workers.and_then(|count| std::num::NonZeroUsize::new(whole(&count))),
            memory_limit: limit,
            body_budget: root.body_budget.map_or_else(|| quarter(memory_limit), |size| size.0.0),
        };
        listeners(self, &config);
        warm::check(self, &config);
        if let (Some(inbound), Some(outbound)) = (&config.inbound, &config.outbound) {
            apps::check(self, &inbound.apps, &outbound.providers);
        }
        Policies::check(self, &config);
        self.faults.is_empty().then_some(config)
    }

    pub(super) fn fault(&mut self, at: Mark, message: impl Into<String>) {
        self.faults.push(Fault::new(at, message));
    }

    pub(super) fn note(&mut self, at: Mark, message: impl Into<String>) {
        self.notes.push(Note { line: at.line as usize, column: at.column as usize, message: message.into() });
    }
}

pub(super) fn whole(count: &W<super::scalars::Count>) -> usize {
    usize::try_from(count.0.0).unwrap_or(usize::MAX)
}

pub(super) fn small(count: &W<super::scalars::Count>) -> u32 {
    u32::try_from(count.0.0).unwrap_or(u32::MAX)
}

/// Finds listeners that would take each other's connections, and targets that are the proxy itself.
fn listeners(build: &mut Build<'_>, config: &Config) {
    let mut listeners: Vec<(&str, SocketAddr)> = Vec::new();
    listeners.extend(config.inbound.as_ref().map(|door| ("inbound.listen", door.listen)));
    listeners.extend(config.outbound.as_ref().map(|door| ("outbound.listen", door.listen)));
    listeners.extend(config.admin.listen.map(|at| ("admin.listen", at)));
    listeners.extend(config.admin.probes.map(|at| ("admin.probes", at)));
    listeners.extend(config.status_page.as_ref().and_then(|page| page.listen).map(|at| ("status_page.listen", at)));
    for (n, (path, at)) in listeners.iter().enumerate() {
        let overlap = |other: &SocketAddr| {
            at.port() != 0
                && other.port() == at.port()
                && (other.ip() == at.ip() || other.ip().is_unspecified() || at.ip().is_unspecified())
        };
        if let Some((other, _)) = listeners[..n].iter().find(|(_, other)| overlap(other)) {
            // The one that is written is the one to change.
            let (path, other) = if build.seen.written(path) { (path, other) } else { (other, path) };
            build.fault(build.seen.value(path), format!("{path} and {other} listen on the same port {}", at.port()));
        }
    }
    let is_self = |url: &Origin, listen: SocketAddr| {
        let host = url.host.parse::<std::net::IpAddr>().ok();
        let here =
            url.host == "localhost" || host.is_some_and(|ip| ip == listen.ip() || (ip.is_loopback() && listen.ip().is_unspecified()));
        url.port == listen.port() && (here || host.is_some_and(|ip| ip.is_unspecified()))
    };
    if let Some(door) = &config.inbound {
        for url in Members::urls(&door.app, door.members.as_ref()).filter(|url| is_self(url, door.listen)) {
            build.fault(build.seen.value("inbound.app"), format!("`{url}` is the proxy's own inbound listener; it would call itself"));
        }
    }
    for (app, door) in config.inbound.iter().flat_map(|door| door.apps.iter().map(move |app| (app, door))) {
        for url in Members::urls(&app.url, app.members.as_ref()).filter(|url| is_self(url, door.listen)) {
            let at = build.seen.value(&format!("inbound.apps.{}", app.name));
            build.fault(at, format!("`{url}` is the proxy's own inbound listener; it would call itself"));
        }
    }
    for provider in config.outbound.iter().flat_map(|door| &door.providers) {
        let Some(door) = &config.outbound else { continue };
        for url in Members::urls(&provider.url, provider.members.as_ref()).filter(|url| is_self(url, door.listen)) {
            let at = build.seen.value(&format!("outbound.providers.{}.url", provider.name));
            build.fault(at, format!("`{url}` is the proxy's own outbound listener; it would call itself"));
        }
    }
}

/// A quarter of the memory limit, at most 256 MiB.
pub(super) fn quarter(limit: Option<u64>) -> u64 {
    const MOST: u64 = 256 << 20;
    limit.map_or(MOST, |limit| (limit / 4).clamp(1 << 20, MOST))
}

/// The memory limit of this process's cgroup (v2, then v1), in bytes; `None` without a limit.
fn memory_limit(cgroup: &Path) -> Option<u64> {
    let read = |name: &str| std::fs::read_to_string(cgroup.join(name)).ok()?.trim().parse::<u64>().ok();
    // cgroup v1 writes a number near 2^63 for "no limit".
    read("memory.max").or_else(|| read("memory/memory.limit_in_bytes")).filter(|limit| *limit < 1 << 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_the_memory_limit_at_most_256_mib() {
        assert_eq!(quarter(None), 256 << 20);
        assert_eq!(quarter(Some(512 << 20)), 128 << 20);
        assert_eq!(quarter(Some(64 << 30)), 256 << 20);
        assert_eq!(quarter(Some(0)), 1 << 20);
    }

    #[test]
    fn the_memory_limit_is_read_from_either_cgroup_version() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(memory_limit(dir.path()), None);
        std::fs::create_dir(dir.path().join("memory")).expect("made");
        std::fs::write(dir.path().join("memory/memory.limit_in_bytes"), "9223372036854771712\n").expect("written");
        assert_eq!(memory_limit(dir.path()), None);
        std::fs::write(dir.path().join("memory.max"), "max\n").expect("written");
        assert_eq!(memory_limit(dir.path()), None);
        std::fs::write(dir.path().join("memory.max"), "536870912\n").expect("written");
        assert_eq!(memory_limit(dir.path()), Some(512 << 20));
    }
}
