//! The ledger: who has spent what, on which route and model, in sums of minutes, hours and days.
//!
//! It adds up calls; it keeps none. Each worker puts its calls into a batch ([`Journal`]). The keeper, a thread of its own, takes the
//! batches and writes what they add up to in one transaction per interval. A crash loses at most one interval and the moment that a
//! write takes. A sum is never wrong: a transaction is in the file whole or not at all, and its number tells which.
//!
//! While the disk fails, the proxy serves on: counted calls wait in memory, in at most [`WAITING`] sums. Further calls are added up by
//! hour and without their caller: no dollar is lost.
//!
//! # Several processes
//! A file belongs to one process. The second process with the same `state_dir` takes the next file (`ledger-1.redb`). A process takes in
//! the files of processes that are gone, at its start and every minute. It answers for its own file: the answer says so while another
//! process holds a file beside it.

mod absorb;
mod chunk;
mod copy;
mod entry;
mod file;
mod hold;
mod journal;
mod keeper;
mod level;
mod migrate;
mod names;
mod pages;
mod plan;
mod query;
mod question;
#[cfg(test)]
mod roll_tests;
mod rollup;
pub mod shared;
mod state;
mod summing;
#[cfg(test)]
mod tests;
mod zone;

use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

pub use entry::{DIMS, Dim, Entry, Known, Measure, Outcome, Sums};
pub use file::{FORMAT, FileError};
pub use journal::Journal;
pub use keeper::Keeper;
pub use level::Class;
pub use names::OTHER;
pub use question::{Answer, AskError, Bucket, Group, Question};
pub use state::{State, Trouble};

use self::{
    entry::Key,
    file::File,
    names::{Names, OTHER_ID},
    shared::{Remote, Shared},
};
use crate::{
    clock::{self, Clock},
    config,
};

/// Most sums that wait in memory with all their dimensions.
pub const WAITING: usize = 65_536;

/// The ledger's settings.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The directory of the file; `None`: the ledger is in memory, and a restart begins at zero.
    pub dir: Option<PathBuf>,
    /// Time between commits: what a crash may lose.
    pub interval: Duration,
    /// For how long minutes, hours and days are kept.
    pub keep: [Duration; 3],
    /// Most callers that are told apart.
    pub callers: usize,
    /// Most bytes of the file (in memory: of the ledger); the oldest of the finest class goes first.
    pub size: u64,
    /// For how long after its start a process drops nothing: a clock that was wrong at its start is right by then.
    pub grace: Duration,
    /// For how long a question or a change waits while the file is busy.
    pub patience: Duration,
}

/// The usual [`Terms::grace`].
const GRACE: Duration = Duration::from_secs(3_600);
/// The usual [`Terms::patience`]. A sum-up of a month takes less.
const PATIENCE: Duration = Duration::from_secs(5);

impl Terms {
    /// As configured.
    pub fn of(store: &config::Store) -> Self {
        let ledger = &store.ledger;
        Self {
            dir: store.state_dir.clone(),
            interval: ledger.interval,
            keep: [ledger.minutes, ledger.hours, ledger.days],
            callers: ledger.callers,
            size: ledger.size,
            grace: GRACE,
            patience: PATIENCE,
        }
    }
}

/// Writes something that stands before a commit; the error says why it could not.
type First = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The ledger. Cheap to clone.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

pub(crate) struct Inner {
    terms: Terms,
    clock: Clock,
    journals: Mutex<Vec<Arc<Journal>>>,
    /// Counted calls that are not in the file. Locked after `books`, never before.
    open: Mutex<Open>,
    /// The file. Locked for as long as a commit takes.
    books: Mutex<Books>,
    /// When the present holder of `books` took them, in milliseconds of the steady clock plus one; 0: nobody holds them.
    held: AtomicU64,
    /// The last state that was seen.
    seen: Mutex<Option<State>>,
    /// The ledger in Redis; empty: it is in a file or in memory.
    shared: OnceLock<Shared>,
    /// Writes what has to be on the disk before any row is.
    first: OnceLock<First>,
    call: Mutex<bool>,
    called: Condvar,
    counts: Counts,
}

/// Counts since the start.
#[derive(Debug, Default)]
struct Counts {
    commits: AtomicU64,
    failures: AtomicU64,
    folded: AtomicU64,
    dropped: AtomicU64,
    /// Whether other processes hold files beside ours.
    others: AtomicU64,
}

/// What was counted since the last commit.
struct Open {
    /// A question holds the names as they were: they are copied if a new one comes meanwhile.
    names: Arc<Names>,
    /// The places of [`entry::class_names`].
    slots: Vec<Option<usize>>,
    waiting: HashMap<(u32, Key), Sums, foldhash::fast::RandomState>,
}

/// The file and what is on its way there.
#[derive(Default)]
struct Books {
    file: Option<File>,
    /// The rows of the commit that is made, until it is known to be in the file.
    sealed: Option<Sealed>,
    sequence: u64,
    trouble: Option<Trouble>,
    /// Names that are being erased.
    erasing: Vec<String>,
    last_commit_millis: u64,
    last_tidy: u32,
    size: u64,
    /// The minute of the first look at what is too old, by the steady clock.
    first_minute: Option<u32>,
}

/// Rows that are being written, under the number of their commit.
#[derive(Clone)]
struct Sealed {
    sequence: u64,
    rows: Vec<(u32, Key, Sums)>,
}

impl Ledger {
    /// An empty ledger. It is in memory until [`Ledger::keep`] opens the file.
    pub fn new(terms: Terms, clock: Clock) -> Self {
        let mut names = Names::new(terms.callers);
        let slots = names.slots(&entry::class_names());
        Self(Arc::new(Inner {
            open: Mutex::new(Open { names: Arc::new(names), slots, waiting: HashMap::default() }),
            books: Mutex::new(Books::default()),
            journals: Mutex::default(),
            held: AtomicU64::new(0),
            seen: Mutex::default(),
            shared: OnceLock::new(),
            first: OnceLock::new(),
            call: Mutex::new(false),
            called: Condvar::new(),
            counts: Counts::default(),
            terms,
            clock,
        }))
    }

    /// A ledger as configured.
    pub fn configured(store: &config::Store, clock: Clock) -> Self {
        Self::new(Terms::of(store), clock)
    }

    /// Keeps the ledger in a Redis that replicas share. Must be called before [`Ledger::keep`].
    pub fn share(&self, remote: Box<dyn Remote>) {
        let shared = Shared::new(remote, &self.0.terms, clock::unguessable_id());
        // A second call changes nothing: what was counted goes where it went.
        let _ = self.0.shared.set(shared);
    }

    /// From now on `first` is called before each commit to the file, after its rows are taken: what `first` writes knows every call of the
    /// commit. While it fails, the rows wait, as with a full disk. A ledger in Redis does not call it. It blocks the keeper's thread.
    pub fn write_first(&self, first: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        // A second call changes nothing: one book stands before the ledger.
        let _ = self.0.first.set(Box::new(first));
    }

    /// A batch for one more worker.
    pub fn worker(&self) -> Arc<Journal> {
        let journal = Journal::new(&self.0);
        self.0.journals.lock().push(journal.clone());
        journal
    }

    /// The present minute by the wall clock.
    pub fn minute(&self) -> u32 {
        self.0.minute()
    }

    /// Starts the keeper's thread. The ledger's file is opened there.
    ///
    /// # Errors
    /// There is no thread.
    pub fn keep(&self) -> std::io::Result<Keeper> {
        Keeper::start(self.0.clone())
    }

    /// Writes all that was counted, now.
    pub fn commit(&self) {
        self.0.commit();
    }

    /// Sums up buckets that are over and drops buckets that are too old, now.
    pub fn tidy(&self) {
        self.0.tidy(true);
    }
}

impl Inner {
    fn minute(&self) -> u32 {
        u32::try_from(self.clock.unix_millis() / 60_000).unwrap_or(u32::MAX)
    }

    fn wake(&self) {
        *self.call.lock() = true;
        self.called.notify_one();
    }

    /// Adds up a batch.
    fn merge(&self, batch: Vec<Entry>) {
        let mut open = self.open.lock();
        let Open { names, slots, waiting } = &mut *open;
        let names = Arc::make_mut(names);
        for entry in batch {
            let sums = Sums::of(&entry, slots);
            let mut place = (entry.minute, names.key(&entry));
            if waiting.len() >= WAITING && !waiting.contains_key(&place) {
                // The disk has failed for long. The dollars stay; the caller and the minute go.
                place.0 = place.0 / 60 * 60;
                place.1.0[Dim::Caller as usize] = OTHER_ID;
                self.counts.folded.fetch_add(1, Relaxed);
            }
            waiting.entry(place).or_default().add(&sums);
        }
    }

    /// Takes all batches.
    fn drain(&self) {
        let mut batches: Vec<Vec<Entry>> = Vec::new();
        self.journals.lock().retain(|journal| {
            // Asked before: a worker that has ended puts nothing in after its last calls are taken.
            let is_used = Arc::strong_count(journal) > 1;
            batches.push(journal.take());
            is_used
        });
        batches.into_iter().filter(|batch| !batch.is_empty()).for_each(|batch| self.merge(batch));
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("terms", &self.0.terms).finish_non_exhaustive()
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").finish_non_exhaustive()
    }
}
