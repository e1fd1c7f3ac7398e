//! The ledger's state, for `/health` and metrics.

use std::{fmt, sync::atomic::Ordering::Relaxed, time::Duration};

use super::{Books, Ledger, entry::Dim, file::FileError};

/// Why the ledger cannot be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble(String);

impl Trouble {
    pub(super) fn of(error: &FileError) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The state of a ledger.
#[derive(Debug, Clone)]
pub struct State {
    /// Whether it is in a file, or in Redis.
    pub durable: bool,
    /// Whether it is in Redis.
    pub shared: bool,
    /// The file, once it is open.
    pub file: Option<String>,
    /// Why it cannot be written.
    pub trouble: Option<Trouble>,
    /// For how long the file has been busy, if it is so busy now that its state cannot be seen. The rest is then as it was before.
    pub busy: Option<Duration>,
    /// Sums and calls that wait to be written.
    pub waiting: usize,
    /// Commits that were made.
    pub commits: u64,
    /// Commits that failed.
    pub failures: u64,
    /// Calls that were added up without caller and minute, because too many sums waited.
    pub folded: u64,
    /// Times that old buckets were dropped.
    pub dropped: u64,
    /// Bytes of the file, or of the ledger in memory.
    pub size: u64,
    /// Milliseconds since 1970 of the last commit; 0: none was made.
    pub last_commit_millis: u64,
    /// Names in use by dimension, and calls whose name was beyond the bound.
    pub names: Vec<(Dim, usize, u64)>,
    /// Files beside ours that other processes hold.
    pub others: u64,
}

/// For how long a state is waited for.
const SOON: Duration = Duration::from_millis(50);
/// A file that is busy for longer than this counts as hanging.
const HANGS: Duration = Duration::from_secs(5);

impl State {
    /// Whether the disk does not answer, as far as can be told.
    pub fn hangs(&self) -> bool {
        self.busy.is_some_and(|busy| busy >= HANGS)
    }
}

impl Ledger {
    /// The ledger's state, in a bounded time. While the file is busy, what the file tells is as it was before, and `busy` says for how long.
    pub fn state(&self) -> State {
        let Some(books) = self.0.hold_within(SOON) else {
            let mut state = self.0.seen.lock().clone().unwrap_or_else(|| self.state_of(&Books::default()));
            state.busy = Some(self.0.busy().unwrap_or(SOON));
            // What waits is known without the file.
            let open = self.0.open.try_lock_for(SOON).map_or(0, |open| open.waiting.len());
            state.waiting = self.batched() + open;
            state.folded = self.0.counts.folded.load(Relaxed);
            return state;
        };
        let state = self.state_of(&books);
        *self.0.seen.lock() = Some(state.clone());
        state
    }

    fn batched(&self) -> usize {
        self.0.journals.lock().iter().map(|journal| journal.len()).sum()
    }

    fn state_of(&self, books: &Books) -> State {
        let open = self.0.open.lock();
        let counts = &self.0.counts;
        let named = Dim::ALL.into_iter().take(Dim::Outcome as usize);
        State {
            durable: self.0.terms.dir.is_some() || self.0.shared.get().is_some(),
            shared: self.0.shared.get().is_some(),
            file: books.file.as_ref().and_then(|file| Some(file.path.as_ref()?.display().to_string())),
            trouble: books.trouble.clone(),
            busy: None,
            waiting: self.batched() + open.waiting.len() + books.sealed.as_ref().map_or(0, |sealed| sealed.rows.len()),
            commits: counts.commits.load(Relaxed),
            failures: counts.failures.load(Relaxed),
            folded: counts.folded.load(Relaxed),
            dropped: counts.dropped.load(Relaxed),
            size: books.size,
            last_commit_millis: books.last_commit_millis,
            names: named
                .map(|dim| {
                    let (used, beyond) = open.names.use_of(dim as usize);
                    (dim, used, beyond)
                })
                .collect(),
            others: counts.others.load(Relaxed),
        }
    }
}

impl Books {
    /// Ends the trouble.
    pub(super) fn calm(&mut self) {
        if self.trouble.take().is_some() {
            tracing::info!("the ledger is written again; nothing that was counted is lost");
        }
    }
}
