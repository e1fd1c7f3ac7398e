//! The files in `state_dir` that hold books of works, one for each process. A lock beside a file ends with the file's process. A file whose
//! lock is free belongs to nobody: its process has ended, well or badly.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::store::seal::AtRest;

/// Files that processes with the same directory may hold.
const SLOTS: usize = 16;
/// What the files are, for their seal.
const PLACE: &str = "works";

/// The text of a file, with the file's name.
pub type Text = (PathBuf, Vec<u8>);

/// The files of other processes.
#[derive(Debug, Default)]
pub struct Found {
    /// Files of processes that have ended. The caller's process holds them now.
    pub free: Vec<Text>,
    /// Files of processes that live.
    pub held: Vec<Text>,
    /// Files that cannot be read. They stay where they are.
    pub failed: Vec<(PathBuf, io::Error)>,
}

/// The process's file.
#[derive(Debug)]
pub struct WorksFile {
    dir: PathBuf,
    path: PathBuf,
    /// Files that were taken over; removed after the next write.
    taken_over: Vec<(PathBuf, File)>,
    seal: AtRest,
    _lock: File,
}

/// What a file is to this process.
enum Slot {
    /// Another process holds it.
    Held(Option<Vec<u8>>),
    /// This process holds it.
    Ours(File, Option<Vec<u8>>),
}

impl WorksFile {
    /// Takes a free file in `dir`, and the files of processes that have ended. `seal`: the keys of the texts.
    ///
    /// # Errors
    /// The disk refuses, or 16 processes hold files.
    pub fn open(dir: &Path, seal: &AtRest) -> io::Result<(Self, Found)> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut found = Found::default();
        for path in paths(dir) {
            match look(&path, seal) {
                Ok(Slot::Ours(lock, text)) => {
                    found.free.extend(text.map(|text| (path.clone(), text)));
                    let mut file = Self { dir: dir.to_owned(), path, taken_over: Vec::new(), seal: seal.clone(), _lock: lock };
                    file.find(&mut found);
                    return Ok((file, found));
                }
                Ok(Slot::Held(text)) => found.held.extend(text.map(|text| (path, text))),
                Err(error) => found.failed.push((path, error)),
            }
        }
        let held = || io::Error::other(format!("{SLOTS} processes hold files in {}", dir.display()));
        Err(found.failed.pop().map_or_else(held, |(_, error)| error))
    }

    /// Takes the files of processes that have ended since.
    pub fn scan(&mut self) -> Found {
        let mut found = Found::default();
        self.find(&mut found);
        found
    }

    fn find(&mut self, found: &mut Found) {
        let known = |path: &PathBuf, texts: &[Text]| texts.iter().any(|(known, _)| known == path);
        for path in paths(&self.dir) {
            let is_ours = path == self.path || self.taken_over.iter().any(|(taken, _)| *taken == path);
            if is_ours || known(&path, &found.held) || found.failed.iter().any(|(failed, _)| *failed == path) || !path.exists() {
                continue;
            }
            match look(&path, &self.seal) {
                Ok(Slot::Ours(lock, Some(text))) => {
                    found.free.push((path.clone(), text));
                    self.taken_over.push((path, lock));
                }
                // Its process, or one that took it over, has removed it in the meantime.
                Ok(Slot::Ours(_, None)) => {}
                Ok(Slot::Held(text)) => found.held.extend(text.map(|text| (path, text))),
                Err(error) => found.failed.push((path, error)),
            }
        }
    }

    /// Writes the text: all of it, or the file stays as it was. The file tells who uses the app: it is for the proxy's own user.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write(&mut self, text: &[u8]) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(&self.seal.seal(PLACE, text.to_vec())?)?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        File::open(&self.dir)?.sync_all()
    }

    /// Removes the process's file and those that were taken over: another place has their works.
    ///
    /// # Errors
    /// As [`remove_taken_over`](Self::remove_taken_over).
    pub fn clear(&mut self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.remove_taken_over()
    }

    /// Removes the files that were taken over: their works are in the text that was written last.
    ///
    /// # Errors
    /// A file that cannot be removed stays this process's, and the next call tries again.
    pub fn remove_taken_over(&mut self) -> io::Result<()> {
        let mut failed = None;
        self.taken_over.retain(|(path, _)| match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                failed.get_or_insert(error);
                true
            }
            _ => false,
        });
        failed.map_or(Ok(()), Err)
    }

    /// Puts a file that is no book aside, under a name that no other file has, for a person to look at. Gives the name.
    ///
    /// # Errors
    /// The disk refuses. The file stays where it is.
    pub fn put_aside(&mut self, path: &Path) -> io::Result<PathBuf> {
        let first = path.with_extension("unreadable");
        let further = (1_u32..).map(|n| path.with_extension(format!("unreadable-{n}")));
        // Nobody else looks for a name: the file is locked.
        let name = [first].into_iter().chain(further).find(|name| !name.exists()).unwrap_or_default();
        let moved = fs::rename(path, &name);
        self.taken_over.retain(|(taken, _)| taken != path);
        moved.map(|()| name)
    }

    /// The file's name.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn paths(dir: &Path) -> impl Iterator<Item = PathBuf> {
    (0..SLOTS).map(move |slot| dir.join(format!("works-{slot}.json")))
}

fn look(path: &Path, seal: &AtRest) -> io::Result<Slot> {
    let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path.with_extension("lock"))?;
    let is_ours = match lock.try_lock() {
        Ok(()) => true,
        Err(fs::TryLockError::WouldBlock) => false,
        Err(fs::TryLockError::Error(error)) => return Err(error),
    };
    // Read under the lock: before it, the file's process may still have written or removed the file.
    let text = match fs::read(path).and_then(|text| seal.open(PLACE, text)) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    Ok(if is_ours { Slot::Ours(lock, text) } else { Slot::Held(text) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[Text]) -> Vec<&str> {
        texts.iter().map(|(_, text)| std::str::from_utf8(text).expect("text")).collect()
    }

    #[test]
    fn a_process_takes_over_the_files_of_those_that_have_ended_and_no_others() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path().join("state");
        let open = || WorksFile::open(&dir, &AtRest::default()).expect("a free file");
        let (mut one, none) = open();
        let (mut two, nothing) = open();
        assert_eq!((texts(&none.free), texts(&nothing.free)), (vec![], vec![]));
        one.write(b"one").expect("written");
        one.write(b"first").expect("written");
        two.write(b"second").expect("written");
        let (mut three, nothing) = open();
        assert_eq!((texts(&nothing.free), texts(&nothing.held)), (vec![], vec!["first", "second"]), "both are held");
        three.write(b"third").expect("written");
        drop((two, three));
        let (mut next, left) = open();
        assert_eq!((texts(&left.free), texts(&left.held)), (vec!["second", "third"], vec!["first"]));
        assert_eq!(texts(&next.scan().free), Vec::<&str>::new(), "it has them already");
        drop(one);
        assert_eq!(texts(&next.scan().free), ["first"], "it looks again while it runs");
        next.write(b"all").expect("written");
        assert_eq!(fs::read(dir.join("works-2.json")).expect("there"), b"third", "until its own file has their works");
        next.remove_taken_over().expect("removed");
        assert!(!dir.join("works-0.json").exists() && !dir.join("works-2.json").exists());
        drop(next);
        assert_eq!(texts(&open().1.free), ["all"]);
    }

    #[test]
    fn a_file_that_cannot_be_removed_stays_locked_and_holds_up_no_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut all: Vec<_> = (0..5).map(|_| WorksFile::open(dir.path(), &AtRest::default()).expect("a free file").0).collect();
        let path = |slot: usize| dir.path().join(format!("works-{slot}.json"));
        all.iter_mut().for_each(|file| file.write(b"text").expect("written"));
        drop(all.split_off(1));
        assert_eq!(texts(&all[0].scan().free).len(), 4);
        // A directory in its place: it cannot be removed as a file. Another was removed already.
        fs::remove_file(path(1)).expect("removed");
        fs::create_dir(path(1)).expect("made");
        fs::remove_file(path(2)).expect("removed");
        assert!(all[0].write(b"more").is_ok() && all[0].remove_taken_over().is_err());
        assert_eq!([1, 2, 3, 4].map(|slot| path(slot).exists()), [true, false, false, false]);
        assert_eq!(all[0].taken_over.len(), 1, "its lock is held");
        fs::remove_dir(path(1)).expect("removed");
        assert!(all[0].remove_taken_over().is_ok() && all[0].taken_over.is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_neither_overwritten_nor_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("works-0.json");
        fs::create_dir(&path).expect("made");
        let (file, found) = WorksFile::open(dir.path(), &AtRest::default()).expect("a free file");
        assert_eq!((file.path(), found.failed.len()), (dir.path().join("works-1.json").as_path(), 1));
        drop(file);
        fs::remove_dir(&path).expect("removed");
        let (mut file, _) = WorksFile::open(dir.path(), &AtRest::default()).expect("a free file");
        for text in ["first", "second", "third"] {
            fs::write(&path, text).expect("written");
            let name = file.put_aside(&path).expect("moved");
            assert_eq!(fs::read_to_string(name).expect("there"), text);
        }
        assert_eq!(fs::read_to_string(path.with_extension("unreadable")).expect("there"), "first");
    }
}
