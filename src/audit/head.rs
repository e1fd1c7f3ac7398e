//! The head: a small file that says where the log ends, so that a log whose last lines were cut is found.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::line::{ChainKey, GENESIS, Hash, hash, hex};

/// Where the log ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainHead {
    /// The number of the last file.
    pub file: u64,
    /// The bytes of that file that are part of the log.
    pub len: u64,
    /// The number of the last line; 0: there is none.
    pub seq: u64,
    /// The hash of the last line.
    pub hash: Hash,
    /// Erasures of names so far.
    pub erasures: u64,
    /// The name of the key, if there is one.
    pub key: Option<String>,
}

/// A head as found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundHead {
    /// There is none.
    Missing,
    /// It is not what a head looks like, or its own hash does not fit.
    Broken,
    /// It is whole.
    Whole(ChainHead),
    /// It was made with a key that is not given.
    OfAnotherKey(ChainHead),
}

impl ChainHead {
    /// The head of a log without lines.
    pub fn beginning() -> Self {
        Self { file: 1, len: 0, seq: 0, hash: GENESIS, erasures: 0, key: None }
    }

    /// The file of the head.
    pub fn path(dir: &Path) -> PathBuf {
        dir.join("head.json")
    }

    fn text(&self, key: Option<&ChainKey>) -> String {
        let Self { file, len, seq, erasures, .. } = self;
        let key_member = self.key.as_ref().map(|id| format!("\"key\":\"{id}\",")).unwrap_or_default();
        let body =
            format!("{{\"file\":{file},\"len\":{len},\"seq\":{seq},\"erasures\":{erasures},{key_member}\"hash\":\"{}\"", hex(&self.hash));
        let check = hex(&hash(key, body.as_bytes()));
        format!("{body},\"check\":\"{check}\"}}\n")
    }

    /// Reads the head with these keys.
    ///
    /// # Errors
    /// The disk fails.
    pub fn read(dir: &Path, keys: &[ChainKey]) -> io::Result<FoundHead> {
        let text = match fs::read(Self::path(dir)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(FoundHead::Missing),
            Err(error) => return Err(error),
        };
        Ok(Self::of(&text, keys))
    }

    fn of(text: &[u8], keys: &[ChainKey]) -> FoundHead {
        let head = || {
            let value: Value = serde_json::from_slice(text).ok()?;
            let number = |key: &str| value.get(key)?.as_u64();
            let mut own = GENESIS;
            let digits = value.get("hash")?.as_str()?;
            for (at, byte) in own.iter_mut().enumerate() {
                *byte = u8::from_str_radix(digits.get(at * 2..at * 2 + 2)?, 16).ok()?;
            }
            let key = value.get("key").map(|key| key.as_str().unwrap_or_default().to_owned());
            let (file, len, seq) = (number("file")?, number("len")?, number("seq")?);
            Some(Self { file, len, seq, hash: own, erasures: number("erasures")?, key })
        };
        let Some(head) = head() else { return FoundHead::Broken };
        let key = keys.iter().find(|key| head.key.as_deref() == Some(&key.id));
        if head.key.is_some() && key.is_none() {
            return FoundHead::OfAnotherKey(head);
        }
        // Written again it must be the same bytes: nothing in the file is left unchecked.
        if head.text(key).as_bytes() == text { FoundHead::Whole(head) } else { FoundHead::Broken }
    }

    /// Puts the head in the place of the one before, durably.
    ///
    /// # Errors
    /// The disk does not take it; the head before stays.
    pub fn write(&self, dir: &Path, key: Option<&ChainKey>) -> io::Result<()> {
        replace(&Self::path(dir), self.text(key).as_bytes())
    }
}

/// Puts a small file in the place of the one before, whole or not at all.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(&beside, path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}
