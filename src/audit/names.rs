//! Names of persons beside the chain: a line holds a mark, the file of names says whom it means, and an erasure takes the name out.
//!
//! A mark is the SHA-256 of a random salt and the name (16 bytes of it). The salt stands with the name alone. So a mark without its entry
//! tells nothing, also to one who guesses names; and an entry cannot be changed to another name, because its mark would not fit.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::line::hex;
use crate::clock::secret_bytes;

/// The kinds of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NameKind {
    /// A caller of the app.
    Caller,
    /// The address of a client.
    Address,
}

impl NameKind {
    /// The member of a line that has the mark, and the word in the file of names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Address => "address",
        }
    }
}

/// The marks of the file at work.
#[derive(Default)]
pub struct Marks {
    known: HashMap<(NameKind, String), String>,
    /// Entries that are not written yet.
    pub fresh: Vec<u8>,
}

impl Marks {
    /// The mark of a name. A new one is noted in `fresh`.
    pub fn of(&mut self, kind: NameKind, name: &str) -> String {
        if let Some(mark) = self.known.get(&(kind, name.to_owned())) {
            return mark.clone();
        }
        let salt = hex(&secret_bytes::<16>());
        let mark = mark(&salt, kind.as_str(), name);
        let entry = json!({"mark": mark, "salt": salt, "kind": kind.as_str(), "name": name});
        self.fresh.extend_from_slice(entry.to_string().as_bytes());
        self.fresh.push(b'\n');
        self.known.insert((kind, name.to_owned()), mark.clone());
        mark
    }

    /// Forgets a caller; the next mark of the name is a new one.
    pub fn forget(&mut self, name: &str) {
        self.known.remove(&(NameKind::Caller, name.to_owned()));
    }
}

fn mark(salt: &str, kind: &str, name: &str) -> String {
    // The parts are of known length or end at a byte that no part has.
    let text = format!("{salt}\0{kind}\0{name}");
    hex(&super::line::hash(None, text.as_bytes())[..16])
}

/// An entry of a file of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameEntry {
    /// The mark that lines have.
    pub mark: String,
    /// `caller` or `address`.
    pub kind: String,
    /// The name.
    pub name: String,
    /// Whether the mark is that of the name.
    pub fits: bool,
}

/// Reads an entry; `None`: it is none.
pub fn entry(line: &[u8]) -> Option<NameEntry> {
    let value: Value = serde_json::from_slice(line).ok()?;
    let text = |key: &str| value.get(key)?.as_str().map(str::to_owned);
    let (kind, name) = (text("kind")?, text("name")?);
    let fits = mark(&text("salt")?, &kind, &name) == text("mark")?;
    Some(NameEntry { mark: text("mark")?, kind, name, fits })
}
