//! The file of works that go on: who pays for background responses and batches, so that the next process knows it. Written in `state_dir`
//! within seconds after a change, and at the end; with Redis the replicas' book is there.
//!
//! Each process has a file of its own beside a lock that ends with the process. A process that starts takes over the files whose lock is
//! free: their processes have ended, well or badly.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{task::spawn_blocking, time::timeout};

use crate::{
    clock::{self, Instant},
    proxy::Shared,
    telemetry::{Telemetry, metrics::Family},
};

/// Files that processes with the same directory may hold.
const SLOTS: usize = 16;

/// The texts of files that were taken over, with the files' names.
type Texts = Vec<(PathBuf, Vec<u8>)>;

/// The process's file.
#[derive(Debug)]
pub struct WorksFile {
    path: PathBuf,
    /// The version of the book that the file has.
    version: Option<u64>,
    /// Files that were taken over; removed after the first write.
    taken_over: Vec<(PathBuf, File)>,
    _lock: File,
}

impl WorksFile {
    /// Takes a free file in `dir`. Gives the texts of all free files with their names.
    ///
    /// # Errors
    /// The disk refuses, or 16 processes hold files.
    pub fn open(dir: &Path) -> io::Result<(Self, Texts)> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let (mut own, mut texts, mut taken_over) = (None, Vec::new(), Vec::new());
        for slot in 0..SLOTS {
            let path = dir.join(format!("works-{slot}.json"));
            let exists = path.exists();
            if own.is_some() && !exists {
                continue;
            }
            let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path.with_extension("lock"))?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(fs::TryLockError::WouldBlock) => continue,
                Err(fs::TryLockError::Error(error)) => return Err(error),
            }
            if exists {
                texts.push((path.clone(), fs::read(&path)?));
            }
            match own {
                None => own = Some((path, lock)),
                Some(_) => taken_over.push((path, lock)),
            }
        }
        let Some((path, lock)) = own else { return Err(io::Error::other(format!("{SLOTS} processes hold files in {}", dir.display()))) };
        Ok((Self { path, version: None, taken_over, _lock: lock }, texts))
    }

    /// Writes the text: all of it, or the file stays as it was. The file tells who uses the app: it is for the proxy's own user.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write(&mut self, text: &[u8]) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        for (path, lock) in self.taken_over.drain(..) {
            fs::remove_file(&path)?;
            drop(lock);
        }
        Ok(())
    }
}

/// Keeps the book in the file.
pub struct WorksKeeper {
    file: Mutex<Option<WorksFile>>,
    shared: Arc<Shared>,
    telemetry: Arc<Telemetry>,
}

impl WorksKeeper {
    /// Takes over what earlier processes have kept in `dir`; `None`: nothing is kept. A file that cannot be read is put aside, and said.
    pub fn start(dir: Option<&Path>, shared: &Arc<Shared>, telemetry: &Arc<Telemetry>) -> Arc<Self> {
        let keeper = Self { file: Mutex::default(), shared: shared.clone(), telemetry: telemetry.clone() };
        if let Some(dir) = dir {
            match WorksFile::open(dir) {
                Ok((file, texts)) => *keeper.file.lock() = Some(keeper.take_over(file, texts)),
                Err(error) => {
                    keeper.count(false);
                    tracing::error!(dir = %dir.display(), "who pays for background work is not kept, a restart forgets it: {error}");
                }
            }
        }
        Arc::new(keeper)
    }

    fn take_over(&self, mut file: WorksFile, texts: Texts) -> WorksFile {
        for (path, text) in texts {
            if let Err(error) = self.shared.works.take_over(&text, Instant::now(), self.seconds()) {
                tracing::error!(file = %path.display(), "who pays for earlier background work cannot be read: {error}");
                // It is kept for a person to look at.
                let _ = fs::rename(&path, path.with_extension("unreadable"));
                file.taken_over.retain(|(taken, _)| *taken != path);
            }
        }
        file
    }

    /// Writes the book if it has changed. Blocks.
    pub fn save(&self) {
        let mut file = self.file.lock();
        let Some(file) = file.as_mut() else { return };
        let version = self.shared.works.version();
        if file.version == Some(version) {
            return;
        }
        let Some(text) = self.shared.works.kept(Instant::now(), self.seconds()) else { return };
        let saved = file.write(&text);
        self.count(saved.is_ok());
        match saved {
            Ok(()) => file.version = Some(version),
            Err(error) => tracing::error!(file = %file.path.display(), "who pays for background work cannot be written: {error}"),
        }
    }

    /// Writes the book for the last time. A disk that hangs does not hold up the end for longer than `within`.
    pub async fn close(self: Arc<Self>, within: Duration) {
        if timeout(within, spawn_blocking(move || self.save())).await.is_err() {
            tracing::error!("the last write of who pays for background work has not ended in {within:?}");
        }
    }

    /// Seconds since 1970.
    fn seconds(&self) -> u64 {
        clock::unix(self.shared.clock.wall()).as_secs()
    }

    fn count(&self, well: bool) {
        self.telemetry.metrics().shared().counter(Family::BackgroundSaves, &[if well { "ok" } else { "failed" }]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_takes_over_the_files_of_those_that_have_ended_and_no_others() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path().join("state");
        let texts = |texts: Texts| texts.into_iter().map(|(_, text)| String::from_utf8(text).expect("text")).collect::<Vec<_>>();
        let open = || WorksFile::open(&dir).expect("a free file");
        let (mut one, none) = open();
        let (mut two, nothing) = open();
        assert_eq!((texts(none), texts(nothing)), (vec![], vec![]));
        one.write(b"one").expect("written");
        one.write(b"first").expect("written");
        two.write(b"second").expect("written");
        let (mut three, nothing) = open();
        assert_eq!(texts(nothing), Vec::<String>::new(), "both are held");
        three.write(b"third").expect("written");
        drop((two, three));
        let (mut next, left) = open();
        assert_eq!(texts(left), ["second", "third"]);
        drop(one);
        // Until its first write the files that it has taken over are there.
        assert_eq!(fs::read(dir.join("works-2.json")).expect("there"), b"third");
        next.write(b"second third").expect("written");
        assert!(!dir.join("works-2.json").exists());
        drop(next);
        assert_eq!(texts(open().1), ["first", "second third"]);
    }
}
