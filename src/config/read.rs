//! Reads `proxy.yaml`: the result is a [`Config`], or every mistake of the file at once.
//!
//! The text becomes a `tree` with places. The `walk` checks shape and values against the schema and expands `${NAME}`. Serde makes the
//! written forms, and `build` their meaning: names resolved, defaults merged. The walk and the build report every mistake.

pub mod edit;
mod expand;
mod files;
mod follow;
mod hidden;
mod rows;
#[cfg(test)]
#[path = "read/shown_tests.rs"]
mod shown;
mod table;
mod tell;
#[cfg(test)]
mod tests;
pub(super) mod tree;
mod walk;
mod watched;

use std::{io::Read, path::Path};

use self::{expand::Expander, walk::Walk};
use super::{
    Config,
    block::file,
    build::Build,
    error::{Fault, Mistakes},
};

pub use self::watched::Watched;
pub(super) use self::{expand::PLACE, files::Files, rows::rows_of, tree::Mark, walk::Seen};
pub use super::build::Note;

/// Largest file that is read.
const MAX_FILE: u64 = 1 << 20;

/// Settings of the command line; they win over the file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--app`: a URL, or a port of this machine. It opens the inbound door where the file does not.
    pub app: Option<String>,
    /// Memory limit of the process in bytes. `None`: the limit of the cgroup, read from `/sys/fs/cgroup`.
    pub memory_limit: Option<u64>,
}

/// A configuration with the remarks on its file.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The configuration.
    pub config: Config,
    /// Remarks on a good file, in the order of the file.
    pub notes: Vec<Note>,
    /// Hash of the content: the file, and every secret and certificate that it names.
    pub fingerprint: Fingerprint,
    /// The files, for the detection of changes. `None`: the text came from no file.
    pub watched: Option<Watched>,
}

/// Hash of the content of a configuration (BLAKE3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

/// Reads a file. `env` gives environment variables.
///
/// # Errors
/// Every mistake in the file. A file that cannot be read is one mistake.
pub fn load(path: &Path, overrides: &Overrides, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Mistakes> {
    load_reading(path, overrides, env).map(|reading| reading.config)
}

/// [`load`] with the remarks and the fingerprint.
///
/// # Errors
/// As [`load`].
pub fn load_reading(path: &Path, overrides: &Overrides, env: &dyn Fn(&str) -> Option<String>) -> Result<Reading, Mistakes> {
    load_watched(path, overrides, env).0
}

/// [`load_reading`] with the files to watch. A refused file is watched too.
pub fn load_watched(path: &Path, overrides: &Overrides, env: &dyn Fn(&str) -> Option<String>) -> (Result<Reading, Mistakes>, Watched) {
    let text = match text_of(path) {
        Ok(text) => text,
        Err(mistakes) => return (Err(mistakes), Watched::unread(path)),
    };
    if text.len() as u64 > MAX_FILE {
        return (Err(too_large(&path.display().to_string())), Watched::unread(path));
    }
    let (reading, mut files) = parse_with_files(&text, &path.display().to_string(), overrides, env);
    let content = watched::close(std::mem::take(&mut files.content), Some(text.as_bytes()));
    let watched = Watched::new(path, files, content);
    (reading.map(|reading| Reading { watched: Some(watched.clone()), ..reading }), watched)
}

/// Reads a text; `file` is its name in messages, and relative `{file: ...}` paths start in its directory.
///
/// # Errors
/// Every mistake in the text.
pub fn parse(text: &str, file: &str, overrides: &Overrides, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Mistakes> {
    parse_reading(text, file, overrides, env).map(|reading| reading.config)
}

/// No file at all: a transparent inbound proxy in front of `--app`.
///
/// # Errors
/// If `--app` is missing or wrong.
pub fn without_file(overrides: &Overrides, env: &dyn Fn(&str) -> Option<String>) -> Result<Reading, Mistakes> {
    parse_reading("", "(no file)", overrides, env)
}

/// [`parse`] with the remarks and the fingerprint.
///
/// # Errors
/// As [`parse`].
pub fn parse_reading(text: &str, file: &str, overrides: &Overrides, env: &dyn Fn(&str) -> Option<String>) -> Result<Reading, Mistakes> {
    parse_with_files(text, file, overrides, env).0
}

fn parse_with_files(
    written: &str,
    file: &str,
    overrides: &Overrides,
    env: &dyn Fn(&str) -> Option<String>,
) -> (Result<Reading, Mistakes>, Files) {
    let dir = Path::new(file).parent().unwrap_or(Path::new(""));
    if written.len() as u64 > MAX_FILE {
        return (Err(too_large(file)), Files::new(dir));
    }
    let text = written.strip_prefix('\u{FEFF}').unwrap_or(written);
    let tree = tree::read(text);
    let mut walk = Walk::new(Expander::new(env, dir));
    let value = walk.root(&tree.root);
    let Walk { mut expander, mut faults, missing, mut seen, mut notes, .. } = walk;
    for fault in &tree.faults {
        seen.masks.extend(hidden::suspicious(text, fault.at));
    }
    match tree.cut {
        true => faults.retain(|fault| !follow::follows(fault, &tree.faults, text)),
        false => faults.extend(missing),
    }
    faults.extend(tree.faults);
    // After a syntax error there is no build: a key that is missing may stand in the part that was not read.
    let mut config = None;
    if !tree.cut {
        match serde_yaml::from_value::<file::Written>(value) {
            Ok(root) => {
                let mut build = Build::new(&seen, overrides, env, &mut expander.files);
                config = build.config(root);
                faults.extend(build.faults);
                notes.extend(build.notes);
            }
            // Serde refuses a file that the walk accepted: a fault of this program, which is reported all the same.
            Err(error) if faults.is_empty() => {
                faults.push(Fault::new(Mark { line: 1, column: 1 }, format!("cannot be understood: {error}")))
            }
            Err(_) => {}
        }
    }
    notes.sort_by_key(|note| (note.line, note.column));
    let reading = match config {
        Some(config) if faults.is_empty() => {
            let fingerprint = watched::close(expander.files.content.clone(), Some(written.as_bytes()));
            Ok(Reading { config, notes, fingerprint, watched: None })
        }
        _ => Err(Mistakes::new(file, text, faults, &seen.masks)),
    };
    (reading, expander.files)
}

fn too_large(file: &str) -> Mistakes {
    Mistakes::of_file(file, "is larger than 1MiB")
}

fn text_of(path: &Path) -> Result<String, Mistakes> {
    let name = path.display().to_string();
    let file = std::fs::File::open(path).map_err(|error| Mistakes::of_file(&name, format!("cannot be read: {error}")))?;
    let mut bytes = Vec::new();
    // One byte more than allowed: a file that is too large shows.
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|error| Mistakes::of_file(&name, format!("cannot be read: {error}")))?;
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|b| **b == b'\n').count() + 1;
        Mistakes::of_file(&name, format!("is not UTF-8 (line {line})"))
    })
}
