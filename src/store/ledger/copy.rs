//! Whole copies of a ledger's file: to a snapshot, from one, and to itself, so that an erased name is in no byte of the file.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{Builder, Durability, Key, ReadableDatabase, ReadableTable as _, TableDefinition, Value};

use super::{
    Books, Inner, Ledger,
    file::{ABSORBED, BLOCKS, FORMAT, File, FileError, KEY_FORMAT, KEY_IDENTITY, KEY_SCRUB, META, NAMES, SUMMED, ZONES},
};
use crate::clock;

/// Rows in one transaction of a copy.
const AT_ONCE: usize = 4_096;
/// Bytes of a file that is only read that are held in memory.
const CACHE: usize = 1 << 20;

impl Ledger {
    /// Writes a copy of the ledger as it is now to a new file. Calls go on meanwhile. Gives the copy's size in bytes. Blocks.
    ///
    /// # Errors
    /// The file is there already, or a disk fails.
    pub fn snapshot(&self, to: &Path) -> Result<u64, FileError> {
        self.0.in_a_file()?;
        self.0.commit();
        let books = self.0.hold_patiently()?;
        let file = books.readable()?;
        drop(books);
        // An earlier snapshot is not overwritten by mistake.
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(FileError::io(to))?;
        let copied = File::open(to).and_then(|copy| copy_all(&*file.db, &copy));
        match copied {
            Ok(()) => Ok(fs::metadata(to).map_err(FileError::io(to))?.len()),
            Err(error) => {
                let _ = fs::remove_file(to);
                Err(error)
            }
        }
    }

    /// Puts a snapshot in the place of the ledger. What was counted since the snapshot leaves the books; the file that held it is kept
    /// beside, as `ledger-0.redb.before-restore`. Gives that file. Blocks.
    ///
    /// # Errors
    /// The ledger is in memory, the snapshot is none or of a newer version, or a disk fails.
    pub fn restore(&self, from: &Path) -> Result<PathBuf, FileError> {
        self.0.in_a_file()?;
        let mut books = self.0.hold_patiently()?;
        self.0.drain();
        self.0.commit_in(&mut books)?;
        let path = books.readable()?.path.ok_or_else(|| FileError::Other("the ledger is in memory: set store.state_dir first".into()))?;
        let unreadable = |error: redb::DatabaseError| FileError::Other(format!("{}: {error}", from.display()));
        let snapshot = Builder::new().set_cache_size(CACHE).open_read_only(from).map_err(unreadable)?;
        let format = snapshot.begin_read()?.open_table(META)?.get(KEY_FORMAT)?.map_or(0, |format| format.value());
        if format == 0 || format > FORMAT {
            return Err(FileError::Newer { path: from.to_owned(), found: format });
        }
        let fresh = beside(&path, "new");
        let copy = empty(&fresh)?;
        copy_all(&snapshot, &copy)?;
        rename_identity(&copy)?;
        // Opening the file anew migrates an older format.
        drop(copy);
        let copy = File::open(&fresh)?;
        let before = beside(&path, "before-restore");
        fs::rename(&path, &before).map_err(FileError::io(&path))?;
        self.0.put_in_place(&mut books, copy, &fresh, &path)?;
        books.sequence = books.readable()?.meta(super::file::KEY_SEQUENCE)?;
        let file = books.readable()?;
        self.0.adopt(&mut books, &file)?;
        Ok(before)
    }

    /// Erases a caller's name from the ledger: what it spent stays, under the name `erased`. No byte of the name is left in the file.
    /// Earlier snapshots and access logs are files of their own. `false`: the ledger has no such caller. Blocks.
    ///
    /// # Errors
    /// A disk fails. The name is then erased as soon as the disk works again.
    pub fn erase(&self, caller: &str) -> Result<bool, FileError> {
        let mut books = self.0.hold_patiently()?;
        self.0.drain();
        let erased = self.0.commit_in(&mut books).and_then(|()| {
            let is_known = Arc::make_mut(&mut self.0.open.lock().names).erase(caller);
            if let Some(shared) = self.0.shared.get() {
                return Ok(shared.erase(caller)? || is_known);
            }
            if !is_known {
                return Ok(false);
            }
            books.erasing.push(caller.to_owned());
            self.0.commit_in(&mut books)?;
            Ok(true)
        });
        erased.inspect_err(|error| self.0.fail(&mut books, error))
    }
}

impl Books {
    /// The open file.
    pub(super) fn readable(&self) -> Result<File, FileError> {
        let why = || self.trouble.as_ref().map_or_else(|| "it is not open yet".to_owned(), ToString::to_string);
        self.file.clone().ok_or_else(|| FileError::Other(format!("the ledger's file cannot be read now: {}", why())))
    }
}

impl Inner {
    fn in_a_file(&self) -> Result<(), FileError> {
        match self.shared.get() {
            Some(_) => Err(FileError::Other("the ledger is in Redis: copy and restore it there".to_owned())),
            None => Ok(()),
        }
    }

    /// Writes the file anew: redb's free pages keep what stood in them.
    pub(super) fn scrub(&self, books: &mut Books) -> Result<(), FileError> {
        let file = books.readable()?;
        let Some(path) = file.path.clone() else {
            let copy = File::in_memory()?;
            copy_all(&*file.db, &copy)?;
            books.file = Some(copy);
            return Ok(());
        };
        let fresh = beside(&path, "new");
        let copy = empty(&fresh)?;
        copy_all(&*file.db, &copy)?;
        self.put_in_place(books, copy, &fresh, &path)
    }

    /// Gives the file `copy` its place.
    fn put_in_place(&self, books: &mut Books, copy: File, from: &Path, to: &Path) -> Result<(), FileError> {
        fs::rename(from, to).map_err(FileError::io(from))?;
        if let Some(dir) = to.parent() {
            fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(FileError::io(dir))?;
        }
        books.file = Some(File { path: Some(to.to_owned()), ..copy });
        Ok(())
    }
}

/// The path of a file that belongs to the one at `path`.
fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(what);
    name.into()
}

/// An empty ledger at `path`, whatever a crash has left there.
fn empty(path: &Path) -> Result<File, FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(FileError::io(path)(error)),
        _ => File::open(path),
    }
}

/// Copies every table. The copy need not be written anew for its erased names: it never had them.
fn copy_all(from: &impl ReadableDatabase, to: &File) -> Result<(), FileError> {
    let read = from.begin_read()?;
    copy_table(&read, to, META)?;
    copy_table(&read, to, NAMES)?;
    copy_table(&read, to, BLOCKS)?;
    copy_table(&read, to, ZONES)?;
    copy_table(&read, to, SUMMED)?;
    copy_table(&read, to, ABSORBED)?;
    let txn = to.db.begin_write()?;
    txn.open_table(META)?.insert(KEY_SCRUB, 0)?;
    txn.commit()?;
    Ok(())
}

fn copy_table<K: Key + 'static, V: Value + 'static>(
    read: &redb::ReadTransaction,
    to: &File,
    table: TableDefinition<'static, K, V>,
) -> Result<(), FileError> {
    let source = match read.open_table(table) {
        // A file of an older format.
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
        opened => opened?,
    };
    let mut rows = source.iter()?;
    loop {
        let mut txn = to.db.begin_write()?;
        // The last transaction of the copy is durable, and all before it with it.
        txn.set_durability(Durability::None).map_err(|error| FileError::Redb(error.into()))?;
        let mut count = 0;
        {
            let mut target = txn.open_table(table)?;
            for row in rows.by_ref().take(AT_ONCE) {
                let (key, value) = row?;
                target.insert(key.value(), value.value())?;
                count += 1;
            }
        }
        txn.commit()?;
        if count < AT_ONCE {
            return Ok(());
        }
    }
}

/// Gives a file an identity of its own: another ledger may have taken in the file's original.
fn rename_identity(file: &File) -> Result<(), FileError> {
    let identity = clock::unguessable_id();
    let txn = file.db.begin_write()?;
    for (key, half) in KEY_IDENTITY.into_iter().zip([identity >> 64, identity]) {
        txn.open_table(META)?.insert(key, half as u64)?;
    }
    Ok(txn.commit()?)
}
