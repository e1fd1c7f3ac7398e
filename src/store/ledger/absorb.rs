//! Taking in the ledgers that other processes have left in the directory.
//!
//! The other ledger is marked first. Then one transaction of ours takes all of it, its identity, and the identities that it has taken in.
//! If the process ends before the marked file is removed, the next process looks who has taken it in. While a file that could tell is held
//! by another process, the marked one is neither written nor taken in.

use std::{
    fs,
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use redb::{ReadableDatabase as _, ReadableTable as _};

use super::{
    Books, Inner,
    chunk::Chunk,
    file::{ABSORBED, BLOCKS, File, FileError, KEY_GIVEN, KEY_HORIZON, KEY_SINCE, NAMES, name_row},
    keeper::{SLOTS, file_name},
    level::{Class, Level, bucket_of},
    names::{Names, Renaming},
    pages::{Pages, Rows, add},
};

/// How a file was left.
pub(super) enum Left {
    /// Nobody has taken it in.
    Whole,
    /// Another ledger has all of it.
    TakenIn,
    /// The file is marked. This process cannot see now whether another ledger has it.
    Unsure,
}

impl Inner {
    /// How `file` was left. `ours` is the file that this process holds.
    pub(super) fn left(&self, dir: &Path, file: &File, ours: Option<&File>) -> Result<Left, FileError> {
        if file.meta(KEY_GIVEN)? == 0 {
            return Ok(Left::Whole);
        }
        let (identity, mut unsure) = (file.identity()?, false);
        if let Some(ours) = ours
            && ours.has_absorbed(identity)?
        {
            return Ok(Left::TakenIn);
        }
        for path in (0..SLOTS).map(|slot| dir.join(file_name(slot))).filter(|path| path.exists()) {
            if file.path.as_ref() == Some(&path) || ours.is_some_and(|ours| ours.path.as_ref() == Some(&path)) {
                continue;
            }
            match File::open(&path) {
                Ok(other) if other.has_absorbed(identity)? => return Ok(Left::TakenIn),
                Ok(_) => {}
                Err(_) => unsure = true,
            }
        }
        if unsure {
            return Ok(Left::Unsure);
        }
        file.set_meta(KEY_GIVEN, 0)?;
        Ok(Left::Whole)
    }

    /// Takes in every file of the directory that no process holds.
    pub(super) fn absorb(&self, books: &mut Books) {
        let (Some(dir), Some(file)) = (&self.terms.dir, books.file.clone()) else { return };
        let mut held = 0;
        for path in (0..SLOTS).map(|slot| dir.join(file_name(slot))) {
            if Some(&path) == file.path.as_ref() || !path.exists() {
                continue;
            }
            match self.take_in(dir, &file, &path) {
                Ok(()) => tracing::info!(file = %path.display(), "the ledger of a process that is gone was taken in"),
                Err(FileError::Held(_)) => held += 1,
                Err(error) => {
                    held += 1;
                    tracing::warn!(file = %path.display(), "a ledger that a process has left cannot be taken in: {error}");
                }
            }
        }
        self.counts.others.store(held, Relaxed);
    }

    fn take_in(&self, dir: &Path, ours: &File, path: &Path) -> Result<(), FileError> {
        let other = File::open(path)?;
        match self.left(dir, &other, Some(ours))? {
            Left::Unsure => return Err(FileError::Held(path.to_owned())),
            Left::TakenIn => {}
            Left::Whole => {
                let mut names = Names::new(usize::MAX);
                other.load_names(&mut names)?;
                other.set_meta(KEY_GIVEN, 1)?;
                self.merge_file(ours, &other, &names)?;
            }
        }
        // The lock is held until the file is gone.
        fs::remove_file(path).map_err(FileError::io(path))
    }

    fn merge_file(&self, ours: &File, other: &File, theirs: &Names) -> Result<(), FileError> {
        let txn = ours.db.begin_write()?;
        let lens = {
            let mut pages = Pages::open(&txn)?;
            even(&mut pages, other)?;
            let mut open = self.open.lock();
            let mut renaming = Renaming::new(theirs, Arc::make_mut(&mut open.names));
            copy_rows(&mut pages, other, &mut renaming)?;
            for key in KEY_HORIZON {
                let horizon = pages.get(key)?.unwrap_or(0).max(other.meta(key)?);
                pages.set(key, horizon)?;
            }
            let since = pages.get(KEY_SINCE)?.unwrap_or(u64::MAX).min(other.meta(KEY_SINCE)?);
            pages.set(KEY_SINCE, since)?;
            pages.close()?;
            let mut names = txn.open_table(NAMES)?;
            for row in open.names.unsaved() {
                let (key, value) = name_row(&row);
                names.insert(key, &*value)?;
            }
            let mut absorbed = txn.open_table(ABSORBED)?;
            absorbed.insert(other.identity()?, self.clock.unix_millis())?;
            for row in other.db.begin_read()?.open_table(ABSORBED)?.iter()? {
                let (identity, when) = row?;
                absorbed.insert(identity.value(), when.value())?;
            }
            open.names.lens()
        };
        txn.commit()?;
        Arc::make_mut(&mut self.open.lock().names).saved(lens);
        Ok(())
    }
}

/// Sums up in each of two ledgers what the other has summed up: a bucket then has its rows at the same levels in both.
fn even(ours: &mut Pages<'_>, other: &File) -> Result<(), FileError> {
    let txn = other.db.begin_write()?;
    let mut theirs = Pages::open(&txn)?;
    for (class, bucket) in ours.marks()? {
        theirs.sum_up(class, bucket)?;
    }
    let marks = theirs.marks()?;
    theirs.close()?;
    txn.commit()?;
    for (class, bucket) in &marks {
        ours.sum_up(*class, *bucket)?;
    }
    for (class, bucket) in marks {
        ours.set_mark(class, bucket)?;
    }
    Ok(())
}

fn copy_rows(ours: &mut Pages<'_>, other: &File, renaming: &mut Renaming<'_>) -> Result<(), FileError> {
    let blocks = other.db.begin_read()?.open_table(BLOCKS)?;
    for class in Class::ALL {
        for level in class.views().iter().map(|view| Level(class, *view)) {
            let (mut bucket, mut rows) = (0, Rows::default());
            for block in blocks.range(level.place(0)..level.place(u32::MAX))? {
                let (place, bytes) = block?;
                if bucket_of(place.value()) != bucket {
                    ours.append(level, bucket, &std::mem::take(&mut rows))?;
                    bucket = bucket_of(place.value());
                }
                for (key, sums) in Chunk::read(bytes.value())?.all() {
                    let (key, sums) = renaming.row(key, &sums);
                    add(&mut rows, key, &sums);
                }
            }
            ours.append(level, bucket, &rows)?;
        }
    }
    Ok(())
}
