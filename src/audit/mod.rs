//! The audit log: who was refused, who changed what, as a chain of hashes on the disk.
//!
//! Whoever has something to tell gives it to [`Audit`] and goes on: a thread of its own writes. What waits is bounded. What finds no room,
//! because the disk takes nothing, is counted, and a line says how much is missing. Requests are served all the same.
//!
//! A line names no caller and no address, but a mark; see [`names`]. So a name can be erased, and the chain stays whole.

pub mod chain;
mod flood;
pub mod head;
pub mod line;
pub mod names;
#[cfg(test)]
mod tests;
pub mod verify;

use std::{
    collections::VecDeque,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use parking_lot::{Condvar, Mutex};
use serde_json::{Map, Value};

use crate::{clock::Clock, config::Secret};
use chain::{Chain, ChainBounds};
use flood::Flood;
use line::ChainKey;
pub use names::NameKind;

/// Most incidents that wait for the disk.
const WAITING: usize = 4096;
/// Most incidents of one write.
const BATCH: usize = 256;
/// Longest text of a member, in bytes.
const LONGEST: usize = 1024;
/// The time between two looks at the window of refusals, and the pause after a write that failed.
const LOOK: Duration = Duration::from_secs(1);

/// Something that happened and has a line.
#[derive(Debug, Clone, PartialEq)]
pub struct Incident {
    /// The word for it.
    pub event: &'static str,
    /// When.
    pub at: SystemTime,
    /// What else is told. Nothing of it names a person.
    pub members: Map<String, Value>,
    /// Who is meant: the line has marks.
    pub names: Vec<(NameKind, String)>,
}

impl Incident {
    /// An incident without members.
    pub fn new(event: &'static str, at: SystemTime) -> Self {
        Self { event, at, members: Map::new(), names: Vec::new() }
    }

    /// With one more member. A long text is cut.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        let mut value = value.into();
        if let Value::String(text) = &mut value {
            text.truncate(text.floor_char_boundary(LONGEST));
        }
        self.members.insert(name.to_owned(), value);
        self
    }

    /// With the mark of a name; an empty name has none.
    #[must_use]
    pub fn named(mut self, kind: NameKind, name: &str) -> Self {
        if !name.is_empty() {
            self.names.push((kind, name[..name.floor_char_boundary(LONGEST)].to_owned()));
        }
        self
    }
}

/// A request that a policy of security has refused.
#[derive(Debug, Clone, Copy)]
pub struct Refusal<'a> {
    /// The word for it: `auth.refused`, `access.refused`, …
    pub event: &'static str,
    /// The reason of the refusal.
    pub reason: &'static str,
    /// The door.
    pub door: &'static str,
    /// The route's name.
    pub route: &'a str,
    /// The method.
    pub method: &'a str,
    /// The request's id, by which the access log is searched.
    pub request_id: &'a str,
    /// The client.
    pub address: IpAddr,
    /// The caller, if one is known.
    pub caller: &'a str,
}

impl Refusal<'_> {
    fn incident(&self, at: SystemTime) -> Incident {
        let incident = Incident::new(self.event, at).with("reason", self.reason).with("door", self.door).with("route", self.route);
        let incident = incident.with("method", self.method).with("request_id", self.request_id);
        incident.named(NameKind::Caller, self.caller).named(NameKind::Address, &self.address.to_string())
    }
}

/// A line that is in the log.
#[derive(Debug, Clone)]
pub struct WrittenLine {
    /// When it happened.
    pub at: SystemTime,
    /// The line, without its line feed.
    pub text: Box<str>,
    /// The names behind its marks.
    pub names: Vec<(NameKind, String)>,
}

/// The terms of the log.
#[derive(Debug, Clone)]
pub struct AuditTerms {
    /// The directory.
    pub dir: PathBuf,
    /// The key of new lines.
    pub key: Option<Secret>,
    /// Keys of older lines.
    pub previous_keys: Vec<Secret>,
    /// The bounds of the files.
    pub bounds: ChainBounds,
}

/// The state of the log, for metrics, `/health` and alerts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditState {
    /// Lines written since the start.
    pub written: u64,
    /// Incidents that have no line.
    pub lost: u64,
    /// Incidents that wait.
    pub waiting: usize,
    /// Why the log cannot be written; `None`: it can.
    pub trouble: Option<String>,
    /// What was found to be damaged, since the start.
    pub damaged: Option<String>,
}

/// Receives every line that was written.
pub type LineSink = Box<dyn Fn(&WrittenLine) + Send>;

/// The log as everybody sees it. Off until [`Audit::keep`].
pub struct Audit {
    on: AtomicBool,
    clock: Clock,
    queue: Mutex<Queue>,
    wake: Condvar,
    chain: Mutex<Option<Chain>>,
    written: AtomicU64,
    lost: AtomicU64,
    trouble: Mutex<[Option<String>; 2]>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Incident>,
    flood: Flood,
    /// Lost and not told of by a line.
    unsaid: u64,
    ends: bool,
}

impl Audit {
    /// A log that is off.
    pub fn new(clock: Clock) -> Self {
        Self {
            on: AtomicBool::new(false),
            clock,
            queue: Mutex::default(),
            wake: Condvar::new(),
            chain: Mutex::default(),
            written: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            trouble: Mutex::default(),
        }
    }

    /// Whether somebody listens.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Opens the log and starts its thread. Every line that is written goes to `sink` too.
    ///
    /// # Errors
    /// The directory or the thread cannot be made.
    pub fn keep(self: &Arc<Self>, terms: &AuditTerms, sink: LineSink) -> io::Result<JoinHandle<()>> {
        let keys = terms.key.iter().chain(&terms.previous_keys).map(ChainKey::new).collect();
        *self.chain.lock() = Some(Chain::open(&terms.dir, keys, terms.key.is_some(), terms.bounds)?);
        self.on.store(true, Ordering::Relaxed);
        let audit = self.clone();
        std::thread::Builder::new().name("outrigger-audit".into()).spawn(move || audit.run(&sink))
    }

    /// Notes an incident. Never waits for the disk.
    pub fn note(&self, incident: Incident) {
        if self.is_on() {
            self.push(&mut self.queue.lock(), incident);
            self.wake.notify_one();
        }
    }

    /// Notes a refused request. Many from one address are few lines.
    pub fn refused(&self, refusal: &Refusal<'_>) {
        if !self.is_on() {
            return;
        }
        let at = self.clock.wall();
        self.counted((refusal.event, refusal.reason), flood::net(refusal.address), at, || refusal.incident(at));
    }

    /// Notes a visit that may come again and again: `who` has asked for `what`. Like ones are few lines.
    pub fn visited(&self, event: &'static str, reason: &'static str, who: &str, what: &str) {
        if !self.is_on() {
            return;
        }
        let at = self.clock.wall();
        let mut source = [0; 16];
        source.copy_from_slice(&line::hash(None, format!("{who}\0{what}").as_bytes())[..16]);
        let incident = || Incident::new(event, at).with("reason", reason).with("by", who).with("what", what);
        self.counted((event, reason), u128::from_be_bytes(source), at, incident);
    }

    fn counted(&self, sort: flood::Sort, source: u128, at: SystemTime, incident: impl FnOnce() -> Incident) {
        let mut queue = self.queue.lock();
        if let Some(incident) = queue.flood.take(sort, source, at, incident) {
            self.push(&mut queue, incident);
            self.wake.notify_one();
        }
    }

    /// An incident of now.
    pub fn incident(&self, event: &'static str) -> Incident {
        Incident::new(event, self.clock.wall())
    }

    fn push(&self, queue: &mut Queue, incident: Incident) {
        if queue.waiting.len() < WAITING {
            queue.waiting.push_back(incident);
        } else {
            queue.unsaid += 1;
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The state.
    pub fn state(&self) -> AuditState {
        let [trouble, damaged] = self.trouble.lock().clone();
        let waiting = self.queue.lock().waiting.len();
        AuditState { written: self.written.load(Ordering::Relaxed), lost: self.lost.load(Ordering::Relaxed), waiting, trouble, damaged }
    }

    /// Takes a caller's name out of the log's names. Blocks. Gives how many entries there were.
    ///
    /// # Errors
    /// The disk fails.
    pub fn erase(&self, name: &str) -> io::Result<usize> {
        // Who holds the chain writes: nothing with the name is on its way to the disk.
        let mut chain = self.chain.lock();
        let Some(chain) = &mut *chain else { return Ok(0) };
        let meant = (NameKind::Caller, name.to_owned());
        self.queue.lock().waiting.iter_mut().for_each(|incident| incident.names.retain(|own| *own != meant));
        chain.erase(name, self.clock.wall())
    }

    /// Ends the thread once it has written what waits.
    pub fn end(&self) {
        self.queue.lock().ends = true;
        self.wake.notify_one();
    }

    fn run(&self, sink: &LineSink) {
        loop {
            let ends = {
                let mut queue = self.queue.lock();
                if queue.waiting.is_empty() && !queue.ends {
                    self.wake.wait_for(&mut queue, LOOK);
                }
                self.close_window(&mut queue);
                queue.ends
            };
            let written = self.write_waiting(sink);
            if ends {
                return;
            }
            if !written {
                let mut queue = self.queue.lock();
                if !queue.ends {
                    self.wake.wait_for(&mut queue, LOOK);
                }
            }
        }
    }

    fn close_window(&self, queue: &mut Queue) {
        let now = self.clock.wall();
        for line in queue.flood.over(Some(now).filter(|_| !queue.ends)) {
            self.push(queue, line);
        }
        if queue.unsaid > 0 && queue.waiting.len() < WAITING {
            let lost = Incident::new("audit.lost", now).with("incidents", queue.unsaid).with("why", "the log could not be written in time");
            queue.unsaid = 0;
            queue.waiting.push_back(lost);
        }
    }

    /// Writes batch by batch; whether the disk takes them.
    fn write_waiting(&self, sink: &LineSink) -> bool {
        loop {
            let mut chain = self.chain.lock();
            let Some(writer) = &mut *chain else { return true };
            let batch: Vec<Incident> = self.queue.lock().waiting.iter().take(BATCH).cloned().collect();
            if batch.is_empty() {
                return true;
            }
            let (lines, trouble) = match writer.append(&batch, self.clock.wall()) {
                Ok(outcome) => outcome,
                Err(error) => {
                    self.fails(&error);
                    return false;
                }
            };
            // Nobody else takes from the front.
            self.queue.lock().waiting.drain(..batch.len());
            drop(chain);
            self.written.fetch_add(lines.len() as u64, Ordering::Relaxed);
            match trouble {
                Some(error) => self.fails(&error),
                None => self.trouble.lock()[0] = None,
            }
            for line in &lines {
                self.look_for_damage(line);
                sink(line);
            }
        }
    }

    fn fails(&self, error: &io::Error) {
        let mut trouble = self.trouble.lock();
        if trouble[0].is_none() {
            tracing::error!(%error, "the audit log cannot be written; requests are served on, and what happens waits in memory");
        }
        trouble[0] = Some(error.to_string());
    }

    fn look_for_damage(&self, line: &WrittenLine) {
        if line.text.contains("\"event\":\"audit.damaged\"") {
            tracing::error!(line = &*line.text, "the audit log was changed while nobody wrote it; `outrigger audit verify` says where");
            self.trouble.lock()[1] = Some("the log was changed: `outrigger audit verify` says where".to_owned());
        }
    }
}

/// The directory of the log in `state_dir`.
pub fn dir_in(state_dir: &Path) -> PathBuf {
    state_dir.join("audit")
}
