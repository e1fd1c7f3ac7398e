//! From written to meant: names are resolved, `defaults` merged, and what only the whole file can tell is checked.

mod doors;
pub(super) mod names;
mod process;
mod tls;
mod warm;

use std::path::Path;

use super::{
    Config, Policies,
    error::{Fault, did_you_mean, quoted},
    read::{Files, Mark, Overrides, Seen},
    scalars::W,
    written::Root,
};

/// A remark that does not make the file wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// 1-based line.
    pub line: usize,
    /// 1-based column, in characters.
    pub column: usize,
    /// What a reader should know.
    pub message: String,
}

/// The two doors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    Inbound,
    Outbound,
}

impl Door {
    fn word(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// One building of a configuration.
pub(super) struct Build<'a> {
    pub(super) seen: &'a Seen,
    overrides: &'a Overrides,
    env: &'a dyn Fn(&str) -> Option<String>,
    files: &'a mut Files,
    pub(super) faults: Vec<Fault>,
    pub(super) notes: Vec<Note>,
    /// Tags of every cache, whatever its mode: what can be purged.
    pub(super) tags: Vec<String>,
    /// Names of limits, with their paths; unique over both doors because they are labels.
    pub(super) limit_names: Vec<(String, String)>,
    /// Providers whose API is not known because of a mistake.
    pub(super) vague: Vec<String>,
    /// Names that stand for no provider: what is said of the first, and the lines of the others.
    strangers: Vec<(String, Fault, Vec<u32>)>,
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

    /// The configuration; `None` if something in it was wrong, and then there is a fault.
    pub(super) fn config(&mut self, root: Root) -> Option<Config> {
        let inbound = root.inbound.iter().flat_map(|door| std::iter::once(&door.defaults).chain(door.routes.iter().flatten()));
        let outbound = root.outbound.iter().flat_map(|door| std::iter::once(&door.defaults).chain(door.routes.iter().flatten()));
        inbound.chain(outbound).for_each(|block| Policies::look_ahead(self, block));
        let machine_limit = self.overrides.memory_limit.or_else(|| memory_limit(Path::new("/sys/fs/cgroup")));
        let limit = root.memory_limit.map_or(machine_limit, |written| written.0.0.map(|size| size.0));
        let memory_limit = limit.or(machine_limit);
        let inbound = self.inbound(root.inbound);
        let outbound = root.outbound.map(|written| self.outbound(written));
        let doors = self.seen.written("inbound") || self.seen.written("outbound") || self.overrides.app.is_some();
        if !doors && !self.seen.broken("") {
            let message = "there is nothing to do: write `inbound: {app: http://127.0.0.1:3000}` or `outbound`, or give `--app`";
            self.fault(Mark { line: 1, column: 1 }, message);
        }
        let admin = self.admin(root.admin);
        let store = self.store(root.store, memory_limit);
        let telemetry = self.telemetry(root.telemetry);
        let shutdown = self.shutdown(&root.shutdown);
        let config = Config {
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
        self.listeners(&config);
        self.warming(&config);
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

/// `name` is none of `known`.
fn no_such<'n>(what: &str, name: &str, known: impl Iterator<Item = &'n str> + Clone) -> String {
    let hint = did_you_mean(name, known.clone());
    if !hint.is_empty() {
        return format!("there is no {what} {}{hint}", quoted(name));
    }
    let list: Vec<String> = known.map(|name| format!("`{name}`")).collect();
    if list.is_empty() {
        format!("there is no {what} {}", quoted(name))
    } else {
        format!("there is no {what} {}; there are {}", quoted(name), list.join(", "))
    }
}

fn whole(count: &W<super::scalars::Count>) -> usize {
    usize::try_from(count.0.0).unwrap_or(usize::MAX)
}

pub(super) fn small(count: &W<super::scalars::Count>) -> u32 {
    u32::try_from(count.0.0).unwrap_or(u32::MAX)
}

/// A quarter of the memory limit, at most 256 MiB.
fn quarter(limit: Option<u64>) -> u64 {
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
