//! The ledger's file: one redb database, in a directory or in memory.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | a word | format version, identity, number of the last commit, horizons |
//! | `names` | kind and id | the name, or the mark of an erased one |
//! | `blocks` | a place (see `level.rs`) | rows (see `chunk.rs`) |
//! | `zones` | a bucket of days, weeks or months | what its blocks are between (see `zone.rs`) |
//! | `summed` | class and bucket | nothing: the bucket is summed up |
//! | `absorbed` | identity of another ledger | when it was taken in |
//!
//! Each commit is one transaction: after a crash the file holds all of a commit or nothing of it.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{
    Builder, Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError,
    backends::{FileBackend, InMemoryBackend},
};

use super::{
    chunk::Damaged,
    migrate::migrate,
    names::{Names, Row},
};
use crate::clock;

pub(super) const META: TableDefinition<'static, &'static str, u64> = TableDefinition::new("meta");
pub(super) const NAMES: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("names");
pub(super) const BLOCKS: TableDefinition<'static, u128, &'static [u8]> = TableDefinition::new("blocks");
pub(super) const ZONES: TableDefinition<'static, u128, &'static [u8]> = TableDefinition::new("zones");
pub(super) const SUMMED: TableDefinition<'static, u64, ()> = TableDefinition::new("summed");
pub(super) const ABSORBED: TableDefinition<'static, u128, u64> = TableDefinition::new("absorbed");

/// The version of the file's form. An older file is migrated when it is opened; a newer one is left alone.
pub const FORMAT: u64 = 2;

/// Bytes of the file that are held in memory.
const CACHE: usize = 4 << 20;

pub(super) const KEY_FORMAT: &str = "format";
pub(super) const KEY_IDENTITY: [&str; 2] = ["identity_high", "identity_low"];
pub(super) const KEY_SEQUENCE: &str = "sequence";
pub(super) const KEY_BLOCKS: &str = "blocks";
/// Bytes of all blocks.
pub(super) const KEY_BYTES: &str = "bytes";
/// The minute from which on the ledger has recorded.
pub(super) const KEY_SINCE: &str = "since";
/// Set before another ledger takes this one in.
pub(super) const KEY_GIVEN: &str = "given";
const KEY_BEGUN: &str = "begun";
/// Set while erased names may still stand in freed pages.
pub(super) const KEY_SCRUB: &str = "scrub";
/// Buckets of minutes, hours and days below these numbers were dropped.
pub(super) const KEY_HORIZON: [&str; 3] = ["minutes_from", "hours_from", "days_from"];

/// Why the ledger's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The disk or redb failed.
    #[error("{0}")]
    Redb(#[from] redb::Error),
    /// The file system failed.
    #[error("{path}: {error}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Another process has the file.
    #[error("{0} is held by another process")]
    Held(PathBuf),
    /// The file is of a newer version.
    #[error("{path} has format {found}; this version reads up to {FORMAT}")]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// A block cannot be read.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// What has to be written before the ledger is not written.
    #[error("the ledger waits for another file: {0}")]
    Waits(String),
    /// In words.
    #[error("{0}")]
    Other(String),
}

macro_rules! from_redb {
    ($($kind:ident)+) => {$(
        impl From<redb::$kind> for FileError {
            fn from(error: redb::$kind) -> Self {
                Self::Redb(error.into())
            }
        }
    )+};
}

from_redb! { StorageError TableError TransactionError CommitError DatabaseError }

impl FileError {
    /// A failure of the file system at a path.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        |error| Self::Io { path, error }
    }
}

/// An open ledger file.
#[derive(Clone)]
pub struct File {
    pub(super) db: Arc<Database>,
    /// Where it is; `None`: in memory.
    pub(super) path: Option<PathBuf>,
}

impl File {
    /// A ledger in memory.
    ///
    /// # Errors
    /// None is expected.
    pub fn in_memory() -> Result<Self, FileError> {
        let db = Builder::new().set_cache_size(CACHE).create_with_backend(InMemoryBackend::new())?;
        Self { db: Arc::new(db), path: None }.prepared()
    }

    /// Opens or makes the file at `path`. A file that a crash has left is repaired.
    ///
    /// # Errors
    /// Another process has the file, the disk fails, or the file is none of this or an older format.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let refused = |error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => FileError::Held(path.to_owned()),
            error => FileError::Other(format!("{}: {error}", path.display())),
        };
        loop {
            // The ledger tells who uses the app: the file is for the proxy's own user.
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
            let file = file.map_err(FileError::io(path))?;
            let inode = file.metadata().map_err(FileError::io(path))?.ino();
            let backend = FileBackend::new(file).map_err(refused)?;
            let db = Builder::new().set_cache_size(CACHE).create_with_backend(backend).map_err(refused)?;
            // Between its opening and its lock another process may have replaced or removed the file.
            if fs::metadata(path).is_ok_and(|there| there.ino() == inode) {
                return Self { db: Arc::new(db), path: Some(path.to_owned()) }.prepared();
            }
        }
    }

    /// Checks the format, migrates an older one, and makes what is missing.
    fn prepared(self) -> Result<Self, FileError> {
        let txn = self.db.begin_write()?;
        let found = txn.open_table(META)?.get(KEY_FORMAT)?.map(|format| format.value());
        match found {
            None => {
                let mut meta = txn.open_table(META)?;
                meta.insert(KEY_FORMAT, FORMAT)?;
                let identity = clock::unguessable_id();
                for (key, half) in KEY_IDENTITY.into_iter().zip([identity >> 64, identity]) {
                    meta.insert(key, half as u64)?;
                }
            }
            Some(found) if found > FORMAT => {
                return Err(FileError::Newer { path: self.path.clone().unwrap_or_default(), found });
            }
            Some(found) => migrate(&txn, found)?,
        }
        txn.open_table(NAMES)?;
        txn.open_table(BLOCKS)?;
        txn.open_table(ZONES)?;
        txn.open_table(SUMMED)?;
        txn.open_table(ABSORBED)?;
        txn.commit()?;
        Ok(self)
    }

    /// A number of `meta`; 0 if it was never written.
    ///
    /// # Errors
    /// The disk fails.
    pub fn meta(&self, key: &str) -> Result<u64, FileError> {
        let txn = self.db.begin_read()?;
        match txn.open_table(META) {
            Ok(meta) => Ok(meta.get(key)?.map(|value| value.value()).unwrap_or(0)),
            Err(TableError::TableDoesNotExist(_)) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Notes the minute from which on the ledger records, if it is new.
    ///
    /// # Errors
    /// The disk fails.
    pub fn begin_at(&self, minute: u32) -> Result<(), FileError> {
        if self.meta(KEY_BEGUN)? == 0 {
            let txn = self.db.begin_write()?;
            txn.open_table(META)?.insert(KEY_BEGUN, 1)?;
            txn.open_table(META)?.insert(KEY_SINCE, u64::from(minute))?;
            txn.commit()?;
        }
        Ok(())
    }

    /// Writes a number of `meta`, in a transaction of its own.
    ///
    /// # Errors
    /// The disk fails.
    pub fn set_meta(&self, key: &'static str, value: u64) -> Result<(), FileError> {
        let txn = self.db.begin_write()?;
        txn.open_table(META)?.insert(key, value)?;
        Ok(txn.commit()?)
    }

    /// Whether this ledger has taken in the one of this identity.
    ///
    /// # Errors
    /// The disk fails.
    pub fn has_absorbed(&self, identity: u128) -> Result<bool, FileError> {
        Ok(self.db.begin_read()?.open_table(ABSORBED)?.get(identity)?.is_some())
    }

    /// The file's identity.
    ///
    /// # Errors
    /// The disk fails.
    pub fn identity(&self) -> Result<u128, FileError> {
        let [high, low] = KEY_IDENTITY;
        Ok(u128::from(self.meta(high)?) << 64 | u128::from(self.meta(low)?))
    }

    /// Reads the names into `names`, which is empty.
    ///
    /// # Errors
    /// The disk fails.
    pub fn load_names(&self, names: &mut Names) -> Result<(), FileError> {
        let txn = self.db.begin_read()?;
        for row in txn.open_table(NAMES)?.iter()? {
            let (key, value) = row?;
            let (kind, id) = ((key.value() >> 32) as usize, key.value() as u32);
            let name = match value.value() {
                [LIVE, text @ ..] => Some(String::from_utf8_lossy(text).into()),
                _ => None,
            };
            names.put(Row { kind, id, name });
        }
        Ok(())
    }

    /// Bytes of the file on the disk; `None`: it is in memory.
    pub fn size(&self) -> Option<u64> {
        fs::metadata(self.path.as_ref()?).ok().map(|meta| meta.len())
    }
}

const LIVE: u8 = 0;
const ERASED: u8 = 1;

/// The key and value of a name in the file.
pub(super) fn name_row(row: &Row) -> (u64, Vec<u8>) {
    let mut value = Vec::new();
    match &row.name {
        Some(name) => {
            value.push(LIVE);
            value.extend_from_slice(name.as_bytes());
        }
        None => value.push(ERASED),
    }
    ((row.kind as u64) << 32 | u64::from(row.id), value)
}
