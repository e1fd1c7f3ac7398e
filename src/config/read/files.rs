//! Files that the configuration names: secrets and certificates. What they hold belongs to its content, so that a change in one
//! of them is a change of the configuration.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

/// What stands for the content of a file that cannot be read.
const UNREADABLE: &[u8] = b"\0unreadable";

/// Reads files, and remembers what they held.
pub(in crate::config) struct Files {
    /// Relative paths start here.
    dir: PathBuf,
    /// Over every path and content, as read.
    pub(super) content: blake3::Hasher,
    /// Every file that was asked for, in order, with the most that was read of it.
    pub(super) asked: Vec<(PathBuf, u64)>,
}

impl Files {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), content: blake3::Hasher::new(), asked: Vec::new() }
    }

    /// The path as it will be opened.
    pub(in crate::config) fn path(&self, path: &Path) -> PathBuf {
        self.dir.join(path)
    }

    /// What the file holds, up to `most` bytes; the error says what is wrong with it.
    pub(in crate::config) fn read(&mut self, path: &Path, most: u64) -> Result<Vec<u8>, String> {
        let path = self.path(path);
        let bytes = content_of(&path, most);
        note(&mut self.content, &path, &bytes);
        self.asked.push((path, most));
        bytes
    }
}

/// What a file holds, up to `most` bytes.
pub(super) fn content_of(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let file = std::fs::File::open(path).map_err(|error| format!("cannot read `{shown}`: {error}"))?;
    if !file.metadata().is_ok_and(|meta| meta.is_file()) {
        return Err(format!("`{shown}` is not a file"));
    }
    let mut bytes = Vec::new();
    // One more than allowed, so that a file that is too large is seen to be.
    file.take(most + 1).read_to_end(&mut bytes).map_err(|error| format!("cannot read `{shown}`: {error}"))?;
    if bytes.len() as u64 > most {
        return Err(format!("`{shown}` is larger than {}", bytesize::ByteSize(most).display().iec()));
    }
    Ok(bytes)
}

/// Adds a named file and what was read of it.
pub(super) fn note<E>(hash: &mut blake3::Hasher, path: &Path, bytes: &Result<Vec<u8>, E>) {
    part(hash, path.as_os_str().as_encoded_bytes());
    part(hash, bytes.as_deref().unwrap_or(UNREADABLE));
}

/// Adds a part that cannot be taken for another's beginning.
pub(super) fn part(hash: &mut blake3::Hasher, bytes: &[u8]) {
    hash.update(&(bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}
