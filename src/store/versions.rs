//! Earlier versions of a configuration: numbered texts with who made them, when and what they changed.
//!
//! With a directory, each version is a file for this user alone, written whole or not at all. Without one, the versions are in memory
//! and end with the process. The oldest versions go when there are too many.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::seal::AtRest;

/// Most versions that are kept.
pub const MOST: usize = 50;
/// Longest note that somebody gives a version, in bytes.
pub const MAX_NOTE: usize = 500;

/// One version without its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Its number, from 1; later is larger.
    pub version: u64,
    /// The file that it is a version of.
    pub file: String,
    /// When it was made (RFC 3339).
    pub at: String,
    /// Who made it.
    pub who: String,
    /// What it changed, in words without values.
    pub what: String,
    /// What its maker says of it.
    pub note: Option<String>,
    /// The hash of its text.
    pub hash: String,
    /// Bytes of its text.
    pub bytes: usize,
}

/// The versions of one file.
#[derive(Debug)]
pub struct Versions {
    /// `None`: in memory.
    dir: Option<PathBuf>,
    /// The keys of the files.
    seal: AtRest,
    memory: Vec<(Version, String)>,
}

/// What stands in a version's file: the version on the first line as JSON, then its text.
const EXTENSION: &str = "version";
/// What the files are, for their seal.
const PLACE: &str = "config";

impl Versions {
    /// The versions below `state_dir`, or in memory. `seal`: the keys of their files.
    pub fn new(state_dir: Option<&Path>, seal: AtRest) -> Self {
        Self { seal, dir: state_dir.map(|dir| dir.join("config")), memory: Vec::new() }
    }

    /// Whether the versions outlive the process.
    pub fn is_durable(&self) -> bool {
        self.dir.is_some()
    }

    /// The versions of `file`, the newest first.
    ///
    /// # Errors
    /// The directory cannot be read. A version that cannot be read is left out.
    pub fn list(&self, file: &str) -> io::Result<Vec<Version>> {
        let mut all: Vec<Version> = match &self.dir {
            None => self.memory.iter().map(|(version, _)| version.clone()).collect(),
            Some(dir) => numbers(dir)?.into_iter().filter_map(|number| Some(read(dir, number, &self.seal).ok()?.0)).collect(),
        };
        all.retain(|version| version.file == file);
        all.sort_by_key(|version| std::cmp::Reverse(version.version));
        Ok(all)
    }

    /// A version of `file` with its text; `None`: there is none of this number.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub fn get(&self, file: &str, number: u64) -> io::Result<Option<(Version, String)>> {
        let found = match &self.dir {
            None => self.memory.iter().find(|(version, _)| version.version == number).cloned(),
            Some(dir) => match read(dir, number, &self.seal) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                read => Some(read?),
            },
        };
        Ok(found.filter(|(version, _)| version.file == file))
    }

    /// Keeps a text as the next version; `version.version` is set here. Gives the number.
    ///
    /// # Errors
    /// The directory cannot be made, or the file cannot be written. Then nothing is kept.
    pub fn keep(&mut self, mut version: Version, text: &str) -> io::Result<u64> {
        let Some(dir) = &self.dir else {
            version.version = self.memory.last().map_or(0, |(last, _)| last.version) + 1;
            let number = version.version;
            self.memory.push((version, text.to_owned()));
            let gone = self.memory.len().saturating_sub(MOST);
            self.memory.drain(..gone);
            return Ok(number);
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        version.version = numbers(dir)?.last().map_or(0, |last| *last) + 1;
        loop {
            match write(dir, &version, text, &self.seal) {
                // Another process has taken the number.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => version.version += 1,
                written => {
                    written?;
                    break;
                }
            }
        }
        // A version that does not go takes room and does no other harm.
        let all = numbers(dir)?;
        for number in &all[..all.len().saturating_sub(MOST)] {
            let _ = fs::remove_file(path(dir, *number));
        }
        Ok(version.version)
    }
}

fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:06}.{EXTENSION}"))
}

/// The numbers of the versions in a directory, ascending. A directory that is not there has none.
fn numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let number = |name: &str| name.strip_suffix(EXTENSION)?.strip_suffix('.')?.parse::<u64>().ok();
    let mut all: Vec<u64> = entries.filter_map(|entry| number(entry.ok()?.file_name().to_str()?)).collect();
    all.sort_unstable();
    Ok(all)
}

fn read(dir: &Path, number: u64, seal: &AtRest) -> io::Result<(Version, String)> {
    let opened = seal.open(PLACE, fs::read(path(dir, number))?)?;
    let whole = String::from_utf8(opened).map_err(|_| io::ErrorKind::InvalidData)?;
    let (head, text) = whole.split_once('\n').ok_or(io::ErrorKind::InvalidData)?;
    let version: Version = serde_json::from_str(head)?;
    Ok((Version { version: number, ..version }, text.to_owned()))
}

/// Writes a version under its number; the number must be free.
fn write(dir: &Path, version: &Version, text: &str, seal: &AtRest) -> io::Result<()> {
    let mut head = serde_json::to_string(version)?;
    head.push('\n');
    let sealed = seal.seal(PLACE, [head.as_bytes(), text.as_bytes()].concat())?;
    let whole = path(dir, version.version);
    let part = whole.with_extension("part");
    let made = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part).and_then(|mut file| {
        file.write_all(&sealed)?;
        file.sync_all()
    });
    // A link refuses a name that is taken; a rename would not.
    let named = made.and_then(|()| fs::hard_link(&part, &whole));
    let _ = fs::remove_file(&part);
    named?;
    fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn version(what: &str) -> Version {
        let (file, at, who) = ("proxy.yaml".into(), "2027-01-15T08:00:00Z".into(), "ci".into());
        Version { version: 0, file, at, who, what: what.into(), note: None, hash: "h".into(), bytes: 1 }
    }

    #[test]
    fn versions_are_numbered_bounded_and_read_again() {
        let home = tempfile::tempdir().expect("a directory");
        for dir in [None, Some(home.path())] {
            let mut versions = Versions::new(dir, AtRest::default());
            assert_eq!(versions.list("proxy.yaml").expect("read"), []);
            for nth in 1..=MOST as u64 + 3 {
                assert_eq!(versions.keep(version(&format!("edit {nth}")), &format!("a: {nth}\n")).expect("kept"), nth);
            }
            let all = versions.list("proxy.yaml").expect("read");
            assert_eq!((all.len(), all[0].version, all[MOST - 1].version), (MOST, MOST as u64 + 3, 4));
            let (found, text) = versions.get("proxy.yaml", 10).expect("read").expect("there");
            assert_eq!((found.what.as_str(), text.as_str()), ("edit 10", "a: 10\n"));
            assert!(versions.get("proxy.yaml", 1).expect("read").is_none(), "the oldest has gone");
            assert!(versions.get("other.yaml", 10).expect("read").is_none(), "a version of another file");
        }
        let dir = home.path().join("config");
        assert_eq!(fs::metadata(&dir).expect("there").permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(path(&dir, 10)).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(Versions::new(Some(home.path()), AtRest::default()).list("proxy.yaml").expect("read").len(), MOST, "after a restart");
        fs::write(path(&dir, 99), "torn").expect("written");
        assert_eq!(
            Versions::new(Some(home.path()), AtRest::default()).list("proxy.yaml").expect("read").len(),
            MOST,
            "a torn one is left out"
        );
    }

    #[test]
    fn a_sealed_version_shows_nothing_and_is_read_with_its_key_alone() {
        let home = tempfile::tempdir().expect("a directory");
        let keys = |key: &str| AtRest::new(&[crate::config::Secret::new(key)]).expect("a key");
        Versions::new(Some(home.path()), keys("k")).keep(version("edit"), "token: hunter2\n").expect("kept");
        let bytes = fs::read(path(&home.path().join("config"), 1)).expect("there");
        assert!(memchr::memmem::find(&bytes, b"hunter2").is_none());
        let get = |key| Versions::new(Some(home.path()), keys(key)).get("proxy.yaml", 1);
        assert_eq!(get("k").expect("read").expect("there").1, "token: hunter2\n");
        assert!(get("other").is_err() && Versions::new(Some(home.path()), keys("other")).list("proxy.yaml").expect("read").is_empty());
    }
}
