//! A small file in `state_dir`: written whole beside the old one, then put in its place. Notices that wait and the history of monitors are
//! kept so.
//!
//! Each process has a file of its own (`notices-0.json`, `notices-1.json`, …), which a lock file keeps. A process takes in the files of
//! processes that are gone.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};

use super::seal::AtRest;

/// Most processes with one directory.
const PROCESSES: usize = 32;

/// A process's file.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
    /// The kind of its content.
    name: String,
    seal: AtRest,
    /// Hash of what was written last.
    written: Mutex<Option<blake3::Hash>>,
    /// The files of processes that are gone, with their locks. They stay until what they hold stands in this process's file: a process
    /// that dies before its first writing loses nothing.
    taken: Mutex<Vec<(PathBuf, File)>>,
    /// Held for as long as the process lives.
    _lock: File,
}

impl Kept {
    /// Takes the first free file. Gives what it and the files of processes that are gone hold. `seal`: the keys of its content.
    ///
    /// # Errors
    /// The directory cannot be written, or a file is sealed with another key: it stays as it is.
    pub fn open<T: DeserializeOwned>(dir: &Path, name: &str, seal: &AtRest) -> io::Result<(Self, Vec<T>)> {
        fs::create_dir_all(dir)?;
        let mut own: Option<Self> = None;
        let mut taken = Vec::new();
        let mut found = Vec::new();
        for at in 0..PROCESSES {
            let path = dir.join(format!("{name}-{at}.json"));
            if own.is_some() && !path.exists() {
                continue;
            }
            let lock =
                OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(dir.join(format!("{name}-{at}.lock")))?;
            if lock.try_lock().is_err() {
                continue;
            }
            let text = fs::read(&path).and_then(|text| {
                let shown = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
                seal.open(name, text).map_err(shown)
            });
            match text.map(|text| serde_json::from_slice(&text)) {
                Ok(Ok(held)) => found.push(held),
                Ok(Err(error)) => tracing::error!(file = %path.display(), %error, "a file of the state is not readable and is left out"),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            match own {
                None => {
                    own = Some(Self {
                        path,
                        name: name.to_owned(),
                        seal: seal.clone(),
                        written: Mutex::default(),
                        taken: Mutex::default(),
                        _lock: lock,
                    });
                }
                Some(_) => taken.push((path, lock)),
            }
        }
        let mut own = own.ok_or_else(|| io::Error::other(format!("{PROCESSES} processes use {}", dir.display())))?;
        own.taken = Mutex::new(taken);
        Ok((own, found))
    }

    /// Writes all of it, durably, unless it was written last.
    ///
    /// # Errors
    /// The disk does not take it; the old content is kept.
    pub fn save(&self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_vec(value)?;
        let mut written = self.written.lock();
        if *written == Some(blake3::hash(&text)) {
            return Ok(());
        }
        let beside = self.path.with_extension("new");
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&beside)?;
        let hash = blake3::hash(&text);
        file.write_all(&self.seal.seal(&self.name, text)?)?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        if let Some(dir) = self.path.parent() {
            File::open(dir)?.sync_all()?;
        }
        // One that cannot be removed is tried again with the next writing.
        self.taken.lock().retain(|(path, _)| fs::remove_file(path).is_err_and(|error| error.kind() != io::ErrorKind::NotFound));
        *written = Some(hash);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_has_a_file_and_takes_in_those_of_the_dead() {
        let dir = tempfile::tempdir().expect("a directory");
        let open = || Kept::open::<Vec<u32>>(dir.path(), "notices", &AtRest::default()).expect("opens");
        let (first, held) = open();
        assert!(held.is_empty());
        first.save(&vec![1]).expect("saves");
        let (second, held) = open();
        assert!(held.is_empty() && first.path != second.path);
        second.save(&vec![2]).expect("saves");
        drop((first, second));
        let (third, held) = open();
        assert_eq!(held, [vec![1], vec![2]]);
        assert!(open().1.is_empty(), "they are the third's, though it has written nothing yet");
        drop(third);
        let (third, held) = open();
        assert_eq!(held, [vec![1], vec![2]], "it died before it wrote: nothing is lost");
        third.save(&vec![1, 2]).expect("saves");
        drop(third);
        assert_eq!(open().1, [vec![1, 2]], "taken in once");
        fs::write(dir.path().join("notices-0.json"), "half").expect("writes");
        assert!(open().1.is_empty());
    }

    #[test]
    fn a_file_is_sealed_and_one_of_another_key_is_neither_read_nor_overwritten() {
        let dir = tempfile::tempdir().expect("a directory");
        let keys = |all: &[&str]| AtRest::new(&all.iter().map(|one| crate::config::Secret::new(*one)).collect::<Vec<_>>()).expect("keys");
        let open = |all: &[&str]| Kept::open::<Vec<String>>(dir.path(), "notices", &keys(all));
        open(&[]).expect("opens").0.save(&vec!["u-17"]).expect("saves");
        let (kept, held) = open(&["old"]).expect("opens");
        assert_eq!(held, [["u-17"]], "what was written without a key");
        kept.save(&vec!["u-17", "u-18"]).expect("saves");
        drop(kept);
        let bytes = || fs::read(dir.path().join("notices-0.json")).expect("there");
        let sealed = bytes();
        assert!(memchr::memmem::find(&sealed, b"u-17").is_none());
        assert!(open(&[]).is_err() && open(&["new"]).is_err() && bytes() == sealed);
        let (kept, held) = open(&["new", "old"]).expect("opens");
        assert_eq!(held, [["u-17", "u-18"]]);
        kept.save(&vec!["u-18"]).expect("saves");
        drop(kept);
        assert_eq!(open(&["new"]).expect("the new key alone").1, [["u-18"]]);
    }
}
