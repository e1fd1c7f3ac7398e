//! The keeper: the thread that opens the file, commits once per interval, sums up and drops; and the commits themselves.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use super::{
    Books, Inner, Sealed, Trouble,
    absorb::Left,
    entry::class_names,
    file::{self, File, FileError, KEY_SCRUB, KEY_SEQUENCE, KEY_SINCE, NAMES},
    level::Class,
    names::{Names, Renaming},
    pages::Pages,
    shared::{BATCH, Shared},
};
use crate::clock;

/// Files that processes with the same directory may hold.
pub(super) const SLOTS: usize = 16;
/// Minutes between two looks at what can be summed up or dropped.
const TIDY: u32 = 1;
/// Share of the file's size that is dropped at once when it is too large.
const SHRINK: u32 = 8;

/// The running thread. Its end is a last commit.
#[derive(Debug)]
pub struct Keeper {
    inner: Arc<Inner>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    pub(super) fn start(inner: Arc<Inner>) -> std::io::Result<Self> {
        let ends = Arc::<AtomicBool>::default();
        let (theirs, end) = (inner.clone(), ends.clone());
        let thread = std::thread::Builder::new().name("outrigger-ledger".into()).spawn(move || run(&theirs, &end))?;
        Ok(Self { inner, ends, thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.ends.store(true, Relaxed);
        self.inner.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(inner: &Arc<Inner>, ends: &AtomicBool) {
    inner.open_books();
    let mut next = clock::Instant::now() + inner.terms.interval;
    loop {
        inner.sleep(next.saturating_duration_since(clock::Instant::now()));
        if ends.load(Relaxed) {
            return inner.commit();
        }
        if clock::Instant::now() < next {
            // A batch is full before its time.
            inner.drain();
            continue;
        }
        next = clock::Instant::now() + inner.terms.interval;
        inner.commit();
        inner.tidy(false);
    }
}

impl Inner {
    fn sleep(&self, time: Duration) {
        let mut called = self.call.lock();
        if !*called {
            self.called.wait_for(&mut called, time);
        }
        *called = false;
    }

    /// Opens the file, if it is not open.
    pub(super) fn open_books(&self) {
        let mut books = self.hold();
        if books.file.is_none()
            && self.shared.get().is_none()
            && let Err(error) = self.open_in(&mut books)
        {
            self.fail(&mut books, &error);
        }
    }

    /// Writes all that was counted.
    pub(super) fn commit(&self) {
        let mut books = self.hold();
        self.drain();
        match self.commit_in(&mut books) {
            Ok(()) => books.calm(),
            Err(error) => self.fail(&mut books, &error),
        }
    }

    /// Notes a failure and closes the file: after a failed read or write redb refuses all work on an open file. A file that was not
    /// touched stays open.
    pub(super) fn fail(&self, books: &mut Books, error: &FileError) {
        self.counts.failures.fetch_add(1, Relaxed);
        if !matches!(error, FileError::Waits(_)) {
            books.file = None;
        }
        let trouble = Trouble::of(error);
        if books.trouble.as_ref() != Some(&trouble) {
            tracing::warn!("the ledger cannot be written, what is counted waits in memory: {trouble}");
        }
        books.trouble = Some(trouble);
    }

    pub(super) fn commit_in(&self, books: &mut Books) -> Result<(), FileError> {
        if let Some(shared) = self.shared.get() {
            return self.push_in(books, shared);
        }
        if books.file.is_none() {
            self.open_in(books)?;
        }
        // A commit whose end is unknown comes first: its rows must not be added to another commit.
        if books.sealed.is_some() {
            self.write(books)?;
        }
        let has_names = {
            let mut open = self.open.lock();
            let rows: Vec<_> = open.waiting.drain().map(|((minute, key), sums)| (minute, key, sums)).collect();
            if !rows.is_empty() {
                books.sealed = Some(Sealed { sequence: books.sequence + 1, rows });
            }
            !open.names.unsaved().is_empty()
        };
        let erases = !books.erasing.is_empty();
        if books.sealed.is_some() || has_names && erases {
            self.write(books)?;
        }
        if erases {
            self.scrub(books)?;
            books.erasing.clear();
        }
        Ok(())
    }

    /// Pushes all that was counted to Redis, batch by batch. A batch without an answer is pushed again under its number.
    fn push_in(&self, books: &mut Books, shared: &Shared) -> Result<(), FileError> {
        loop {
            if books.sealed.is_none() {
                let mut open = self.open.lock();
                let places: Vec<_> = open.waiting.keys().take(BATCH).copied().collect();
                if places.is_empty() {
                    return Ok(());
                }
                let rows = places.into_iter().filter_map(|place| Some((place.0, place.1, open.waiting.remove(&place)?))).collect();
                books.sealed = Some(Sealed { sequence: books.sequence + 1, rows });
            }
            let Some(sealed) = &books.sealed else { return Ok(()) };
            let names = self.open.lock().names.clone();
            let pushed = shared.push(sealed, &names)?;
            if pushed.lost {
                tracing::warn!("Redis has lost parts of the ledger: it was emptied, or an older copy took over");
            }
            books.sequence = sealed.sequence;
            books.sealed = None;
            self.counts.folded.fetch_add(pushed.folded, Relaxed);
            self.counts.commits.fetch_add(1, Relaxed);
            books.last_commit_millis = self.clock.unix_millis();
        }
    }

    /// One transaction: the sealed rows, and the names that they need.
    fn write(&self, books: &mut Books) -> Result<(), FileError> {
        let Some(file) = books.file.clone() else { return Ok(()) };
        if let Some(first) = self.first.get().filter(|_| books.sealed.is_some()) {
            first().map_err(FileError::Waits)?;
        }
        let (names, lens) = {
            let open = self.open.lock();
            (open.names.unsaved(), open.names.lens())
        };
        let txn = file.db.begin_write()?;
        {
            let mut table = txn.open_table(NAMES)?;
            for row in &names {
                let (key, value) = file::name_row(row);
                table.insert(key, &*value)?;
            }
            let mut pages = Pages::open(&txn)?;
            if let Some(sealed) = &books.sealed {
                pages.record(&sealed.rows)?;
                pages.set(KEY_SEQUENCE, sealed.sequence)?;
                let first = sealed.rows.iter().map(|row| u64::from(row.0)).min().unwrap_or(u64::MAX);
                let since = pages.get(KEY_SINCE)?.unwrap_or(u64::MAX);
                pages.set(KEY_SINCE, since.min(first))?;
            }
            if !books.erasing.is_empty() {
                pages.set(KEY_SCRUB, 1)?;
            }
            pages.close()?;
        }
        txn.commit()?;
        if let Some(sealed) = books.sealed.take() {
            books.sequence = sealed.sequence;
        }
        Arc::make_mut(&mut self.open.lock().names).saved(lens);
        self.counts.commits.fetch_add(1, Relaxed);
        books.last_commit_millis = self.clock.unix_millis();
        Ok(())
    }

    /// Opens the file and brings what waits into its numbering of names. A commit whose end was unknown is found or not found.
    pub(super) fn open_in(&self, books: &mut Books) -> Result<(), FileError> {
        let file = match &self.terms.dir {
            None => File::in_memory()?,
            Some(dir) => self.claim(dir)?,
        };
        let done = file.meta(KEY_SEQUENCE)?;
        if books.sealed.as_ref().is_some_and(|sealed| sealed.sequence == done) {
            books.sealed = None;
        }
        self.adopt(books, &file)?;
        file.begin_at(self.minute())?;
        books.sequence = done;
        if let Some(sealed) = &mut books.sealed {
            sealed.sequence = done + 1;
        }
        let scrub = file.meta(KEY_SCRUB)? != 0;
        books.file = Some(file);
        if scrub {
            self.scrub(books)?;
        }
        self.absorb(books);
        Ok(())
    }

    /// Takes the names of `file`, and renames what waits.
    pub(super) fn adopt(&self, books: &mut Books, file: &File) -> Result<(), FileError> {
        let mut fresh = Names::new(self.terms.callers);
        file.load_names(&mut fresh)?;
        for name in &books.erasing {
            fresh.erase(name);
        }
        let mut open = self.open.lock();
        let old = std::mem::take(&mut open.names);
        let mut renaming = Renaming::new(&old, &mut fresh);
        // In the order of their ids: names keep the order in which they came.
        let mut waiting: Vec<_> = std::mem::take(&mut open.waiting).into_iter().collect();
        waiting.sort_unstable_by_key(|((_, key), _)| *key);
        for ((minute, key), sums) in waiting {
            let (key, sums) = renaming.row(key, &sums);
            open.waiting.entry((minute, key)).or_default().add(&sums);
        }
        for row in books.sealed.iter_mut().flat_map(|sealed| &mut sealed.rows) {
            (row.1, row.2) = renaming.row(row.1, &row.2);
        }
        open.slots = fresh.slots(&class_names());
        open.names = Arc::new(fresh);
        Ok(())
    }

    /// The first file of the directory that no other process holds.
    fn claim(&self, dir: &Path) -> Result<File, FileError> {
        std::fs::create_dir_all(dir).map_err(FileError::io(dir))?;
        for path in (0..SLOTS).map(|slot| dir.join(file_name(slot))) {
            match File::open(&path) {
                Err(FileError::Held(_)) => {}
                Err(error) => return Err(error),
                Ok(file) => match self.left(dir, &file, None)? {
                    Left::Whole => return Ok(file),
                    Left::TakenIn => {
                        std::fs::remove_file(&path).map_err(FileError::io(&path))?;
                        drop(file);
                        return File::open(&path);
                    }
                    Left::Unsure => {}
                },
            }
        }
        Err(FileError::Other(format!("all {SLOTS} ledgers in {} are held by other processes", dir.display())))
    }

    /// Sums up buckets that are over and drops buckets that are too old. `now`: also if the last look was a moment ago.
    pub(super) fn tidy(&self, now: bool) {
        let mut books = self.hold();
        let minute = self.minute();
        if self.shared.get().is_some() {
            // Redis drops what is too old by itself.
            return;
        }
        if !now && minute.abs_diff(books.last_tidy) < TIDY {
            return;
        }
        if let Err(error) = self.tidy_in(&mut books, minute) {
            self.fail(&mut books, &error);
        }
        books.last_tidy = minute;
        self.absorb(&mut books);
    }

    fn tidy_in(&self, books: &mut Books, minute: u32) -> Result<(), FileError> {
        for class in Class::SUMMED {
            // One bucket a transaction: none takes long.
            while let Some(file) = &books.file {
                let txn = file.db.begin_write()?;
                let mut pages = Pages::open(&txn)?;
                let Some(bucket) = pages.due(class, class.bucket(minute))? else { break };
                pages.sum_up(class, bucket)?;
                pages.close()?;
                txn.commit()?;
            }
        }
        self.retire(books, minute)
    }

    /// Drops buckets that are too old, and more buckets if the ledger is too large.
    fn retire(&self, books: &mut Books, minute: u32) -> Result<(), FileError> {
        let Some(file) = books.file.clone() else { return Ok(()) };
        let steady = u32::try_from(self.clock.moment().steady_millis() / 60_000).unwrap_or(u32::MAX);
        let first = *books.first_minute.get_or_insert(steady);
        let begun = u64::from(steady.saturating_sub(first)) >= self.terms.grace.as_secs() / 60;
        // A wall clock that was set far ahead must not cost the books.
        let sane = minute.min(steady);
        let txn = file.db.begin_write()?;
        let mut pages = Pages::open(&txn)?;
        let mut dropped = 0;
        for (class, keep) in Class::KEPT.into_iter().zip(self.terms.keep) {
            let keep = u32::try_from(keep.as_secs() / 60).unwrap_or(u32::MAX);
            if begun {
                dropped += u64::from(pages.drop_before(class, class.bucket(sane.saturating_sub(keep)))?);
            }
        }
        if pages.bytes() > self.terms.size {
            dropped += u64::from(shrink(&mut pages, minute)?);
        }
        books.size = file.size().unwrap_or(pages.bytes());
        pages.close()?;
        if dropped > 0 {
            self.counts.dropped.fetch_add(dropped, Relaxed);
            return Ok(txn.commit()?);
        }
        Ok(txn.abort().map_err(redb::Error::from)?)
    }
}

/// Drops an eighth of the oldest buckets of the finest class that has more than the present one.
fn shrink(pages: &mut Pages<'_>, minute: u32) -> Result<bool, FileError> {
    for class in Class::KEPT {
        let now = class.bucket(minute);
        let Some(first) = pages.first(class)?.filter(|first| *first + 1 < now) else { continue };
        // At least a day's worth.
        let least = class.bucket(Class::Day.begin(1)).max(1);
        let horizon = first + ((now - first) / SHRINK).max(least);
        if pages.drop_before(class, horizon.min(now))? {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn file_name(slot: usize) -> String {
    format!("ledger-{slot}.redb")
}
