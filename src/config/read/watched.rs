//! Detects changes of a configuration on disk: first by the metadata of its files, then by a hash of their content. A change of
//! content alone is a reason to read the configuration again.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::{
    Fingerprint, MAX_FILE,
    files::{Files, content_of, note, part},
};

/// A file that was changed less than this ago may be changed again without a sign: the file system's times are coarse.
const SETTLES: Duration = Duration::from_secs(2);

/// The files of a configuration as they were read. A file need not be readable: its appearance is a change too.
#[derive(Debug, Clone)]
pub struct Watched {
    main: PathBuf,
    /// Secrets and certificates, in the order in which they were read, with the most that is read of each.
    named: Vec<(PathBuf, u64)>,
    content: Fingerprint,
    stamps: Vec<Option<Stamp>>,
    /// Whether equal stamps mean equal content.
    settled: bool,
}

/// The metadata of a file. A path that a symlink leads elsewhere (as in a ConfigMap) has another inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Watched {
    /// The files of a configuration that was read as `content`.
    pub(super) fn new(main: &Path, files: Files, content: Fingerprint) -> Self {
        let named = files.asked;
        Self { main: main.to_owned(), named, content, stamps: Vec::new(), settled: false }
    }

    /// A file that cannot be read as text.
    pub(super) fn unread(main: &Path) -> Self {
        let mut this = Self::new(main, Files::new(Path::new("")), Fingerprint([0; 32]));
        this.content = this.content_now();
        this
    }

    /// Whether the content of the files has changed since they were read. The files are read again only where their metadata changed.
    pub fn has_changed(&mut self, now: SystemTime) -> bool {
        let stamps: Vec<_> = self.paths().map(stamp_of).collect();
        if self.settled && stamps == self.stamps {
            return false;
        }
        // The stamps are taken before the content is read: a change in between makes another stamp.
        self.settled = stamps.iter().flatten().all(|stamp| stamp.is_older_than(SETTLES, now));
        self.stamps = stamps;
        self.content_now() != self.content
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        self.named.iter().map(|(path, _)| &**path).chain([&*self.main])
    }

    fn content_now(&self) -> Fingerprint {
        let mut hash = blake3::Hasher::new();
        for (path, most) in &self.named {
            note(&mut hash, path, &content_of(path, *most));
        }
        close(hash, content_of(&self.main, MAX_FILE).ok().as_deref())
    }
}

/// The fingerprint of named files and the text of the configuration.
pub(super) fn close(mut hash: blake3::Hasher, text: Option<&[u8]>) -> Fingerprint {
    if let Some(text) = text {
        part(&mut hash, text);
    }
    Fingerprint(*hash.finalize().as_bytes())
}

fn stamp_of(path: &Path) -> Option<Stamp> {
    let meta = std::fs::metadata(path).ok()?;
    Some(Stamp {
        device: meta.dev(),
        inode: meta.ino(),
        length: meta.len(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
    })
}

impl Stamp {
    fn is_older_than(&self, age: Duration, now: SystemTime) -> bool {
        let (seconds, _) = self.modified.max(self.changed);
        let newest = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds + 1).unwrap_or_default());
        newest + age <= now
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::SystemTime};

    use super::super::{Overrides, load_watched};
    use super::*;

    const GOOD: &str = "inbound: {app: 'http://127.0.0.1:3000'}\nadmin: {listen: off, probes: off, token: {file: token}}\n";

    /// So many seconds from now, by the clock of the file system.
    fn later(seconds: u64) -> SystemTime {
        let now = tempfile::NamedTempFile::new().expect("a file");
        now.as_file().metadata().and_then(|meta| meta.modified()).expect("a time") + Duration::from_secs(seconds)
    }

    fn load(file: &Path) -> (bool, Watched) {
        let overrides = Overrides { memory_limit: Some(512 << 20), ..Overrides::default() };
        let (reading, watched) = load_watched(file, &overrides, &|_| None);
        (reading.is_ok(), watched)
    }

    #[test]
    fn every_change_of_content_is_noticed_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, token) = (dir.path().join("proxy.yaml"), dir.path().join("token"));
        fs::write(&file, GOOD).expect("written");
        fs::write(&token, "one").expect("written");
        let (good, mut watched) = load(&file);
        assert!(good && !watched.has_changed(later(0)) && !watched.has_changed(later(10)) && watched.settled);

        // The same text in another file: the stamp differs, the content does not.
        fs::write(dir.path().join("other"), GOOD).expect("written");
        fs::rename(dir.path().join("other"), &file).expect("renamed");
        assert!(!watched.has_changed(later(10)));

        // As many bytes, within one tick of the file system's clock.
        fs::write(&token, "two").expect("written");
        assert!(watched.has_changed(later(0)));
        let (good, mut watched) = load(&file);
        fs::write(&token, "six").expect("written");
        assert!(good && watched.has_changed(later(0)));
    }

    #[test]
    fn a_file_that_is_missing_or_wrong_is_watched_too() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, token) = (dir.path().join("proxy.yaml"), dir.path().join("token"));
        let (good, mut watched) = load(&file);
        assert!(!good && !watched.has_changed(later(10)), "nothing is nothing");
        fs::write(&file, b"\xff").expect("written");
        assert!(watched.has_changed(later(10)));
        let (good, mut watched) = load(&file);
        assert!(!good && !watched.has_changed(later(10)), "not even text");
        fs::write(&file, vec![b' '; MAX_FILE as usize + 1]).expect("written");
        let (good, mut watched) = load(&file);
        assert!(!good && !watched.has_changed(later(10)), "too much text");
        fs::write(&file, GOOD).expect("written");
        assert!(watched.has_changed(later(10)));
        let (good, mut watched) = load(&file);
        assert!(!good && !watched.has_changed(later(10)), "the token's file is missing");
        fs::write(&token, "one").expect("written");
        assert!(watched.has_changed(later(10)), "and comes");
        let (good, mut watched) = load(&file);
        assert!(good && !watched.has_changed(later(10)));
        fs::remove_file(&token).expect("removed");
        assert!(watched.has_changed(later(10)), "and goes");
    }
}
