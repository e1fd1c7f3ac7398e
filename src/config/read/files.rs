//! Files that the configuration names: secrets and certificates. Their content belongs to the configuration: a change in one of them
//! is a change of the configuration.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

/// The content of a file that cannot be read, in hashes.
const UNREADABLE: &[u8] = b"\0unreadable";

/// Reads files, and keeps a hash of their content.
pub(in crate::config) struct Files {
    /// The directory of relative paths.
    dir: PathBuf,
    /// The hash of every path and content, in the order of reading.
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

    /// The content of a file, up to `most` bytes. The error says what is wrong with the file.
    pub(in crate::config) fn read(&mut self, path: &Path, most: u64) -> Result<Vec<u8>, String> {
        let path = self.path(path);
        let bytes = content_of(&path, most);
        note(&mut self.content, &path, &bytes);
        self.asked.push((path, most));
        bytes
    }
}

/// The content of a file, up to `most` bytes.
pub(super) fn content_of(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let file = std::fs::File::open(path).map_err(|error| format!("cannot read `{shown}`: {error}"))?;
    if !file.metadata().is_ok_and(|meta| meta.is_file()) {
        return Err(format!("`{shown}` is not a file"));
    }
    let mut bytes = Vec::new();
    // One byte more than allowed: a file that is too large shows.
    file.take(most + 1).read_to_end(&mut bytes).map_err(|error| format!("cannot read `{shown}`: {error}"))?;
    if bytes.len() as u64 > most {
        return Err(format!("`{shown}` is larger than {}", bytesize::ByteSize(most).display().iec()));
    }
    Ok(bytes)
}

/// Adds the path and the content of a file to a hash.
pub(super) fn note<E>(hash: &mut blake3::Hasher, path: &Path, bytes: &Result<Vec<u8>, E>) {
    part(hash, path.as_os_str().as_encoded_bytes());
    part(hash, bytes.as_deref().unwrap_or(UNREADABLE));
}

/// Adds a part to a hash, with its length: no part can be taken for the beginning of another.
pub(super) fn part(hash: &mut blake3::Hasher, bytes: &[u8]) {
    hash.update(&(bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}
