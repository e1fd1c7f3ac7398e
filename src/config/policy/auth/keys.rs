//! `auth.api_keys`: the file of keys that `outrigger key` writes, and its meaning.

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    sync::Arc,
    time::SystemTime,
};

use http::HeaderName;
use serde::{Deserialize, Serialize};

use super::{scope::is_scope, usual_fields};
use crate::config::{
    build::{Build, Door},
    scalars::{Name, W, Word},
    schema::{Json, Key, Kind, Scalar, Table, kinds::BOOL},
    written::Items,
};

/// Keys that a door knows.
#[derive(Debug)]
pub struct ApiKeys {
    /// The fields in which a key may stand, in the order in which they are looked at. In `Authorization` it is a bearer token.
    pub fields: Vec<HeaderName>,
    /// Whether a key may also be the password of `Authorization: Basic`, with its name as the user.
    pub basic: bool,
    /// The keys, by the SHA-256 of their text.
    pub keys: HashMap<[u8; 32], ApiKey>,
}

/// A key that a door knows. The key itself is not in the process: its hash alone is.
#[derive(Debug, Clone)]
pub struct ApiKey {
    /// Its name, unique in its file.
    pub name: Arc<str>,
    /// The caller who uses it.
    pub caller: Arc<str>,
    /// The caller's plan or class.
    pub tier: Option<Arc<str>>,
    /// What it may be used for.
    pub scopes: Arc<[Box<str>]>,
    /// The first instant at which it is no longer good; `None`: it stays good.
    pub expires: Option<SystemTime>,
}

/// A file of keys, as written.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    /// Its keys, in the order in which they were made.
    #[serde(default)]
    pub keys: Vec<KeyRow>,
}

/// A key in its file. None of it is secret: the hash of 256 random bits does not give them away.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRow {
    /// Its name, unique in its file.
    pub name: String,
    /// How the key begins, for people who look for it.
    pub shows: String,
    /// The SHA-256 of the whole key, 64 hexadecimal digits.
    pub sha256: String,
    /// The caller who uses it; the name, if it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// The caller's plan or class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// What it may be used for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// The time from which on it is no longer good (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// When it was made (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
}

/// Longest name of a caller, in bytes.
const LONGEST_CALLER: usize = 128;
/// Largest file of keys.
const MAX_FILE: u64 = 16 << 20;
/// Mistakes of a file that are told one by one.
const TOLD: usize = 10;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    file: Option<W<PathBuf>>,
    #[serde(default)]
    header: Items<W<HeaderName>>,
    basic: W<bool>,
}

const FILE: Kind = Kind::Scalar(&Scalar::new::<PathBuf>("a file", Json::Text, "keys.json"));
const HEADER: Kind = Kind::Scalar(&Scalar::new::<HeaderName>("a header name", Json::Pattern("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"), "x-api-key"));

static TABLE: Table = Table::new(
    "auth.api_keys",
    "Keys that `outrigger key new` has made. The file holds their hashes alone, and is read again when it changes.",
    &[
        Key::new("file", FILE, "The file of the keys; a relative path begins at proxy.yaml.").required().eg("keys.json"),
        Key::new("header", Kind::OneOrMany(&HEADER), "Fields in which a key may stand; in `Authorization` as `Bearer KEY`.")
            .says("`authorization`; outbound also `x-api-key`, `api-key` and `x-goog-api-key`, in which SDKs send their keys")
            .eg("x-api-key"),
        Key::new("basic", BOOL, "Whether a key may also be the password of `Authorization: Basic`, with its name as the user.")
            .default("false"),
    ],
)
.foreign(&[
    ("keys", "keys stand in a file, as hashes: `outrigger key new --file keys.json --name NAME` makes one"),
    ("users", "users are keys with `basic: true`: the name is the user, the key is the password"),
]);

pub(super) const KEY: Key = Key::new("api_keys", Kind::Table(&TABLE), "Keys that `outrigger key` has made.").eg("{file: keys.json}");

pub(super) fn build(build: &mut Build<'_>, here: &str, door: Door, written: Written) -> ApiKeys {
    let keys = written.file.map(|file| read(build, &format!("{here}.file"), &file.0)).unwrap_or_default();
    let named: Vec<HeaderName> = written.header.into_iter().flatten().map(|name| name.0).collect();
    let fields = if named.is_empty() { usual_fields(door) } else { named };
    ApiKeys { fields, basic: written.basic.0, keys }
}

fn read(build: &mut Build<'_>, here: &str, file: &std::path::Path) -> HashMap<[u8; 32], ApiKey> {
    let shown = build.files.path(file).display().to_string();
    let at = build.seen.value(here);
    let bytes = match build.files.read(file, MAX_FILE) {
        Ok(bytes) => bytes,
        Err(why) => {
            build.fault(at, format!("{why}; `outrigger key new --file {shown} --name NAME` makes it"));
            return HashMap::new();
        }
    };
    let rows = match KeyFile::parse(&bytes) {
        Ok(file) => file.keys,
        Err(why) => {
            build.fault(at, format!("`{shown}`: {why}"));
            return HashMap::new();
        }
    };
    if rows.is_empty() {
        build.note(at, format!("`{shown}` has no key: nobody gets in by one"));
    }
    let (keys, wrong) = KeyFile { keys: rows }.meant();
    for why in wrong.iter().take(TOLD) {
        build.fault(at, format!("`{shown}`: {why}"));
    }
    if wrong.len() > TOLD {
        build.fault(at, format!("`{shown}`: {} more mistakes", wrong.len() - TOLD));
    }
    keys
}

impl KeyFile {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// The first place that is no such file.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(bytes).map_err(|error| format!("no file of keys: {error}"))
    }

    /// The keys by their hashes, and every mistake.
    pub fn meant(self) -> (HashMap<[u8; 32], ApiKey>, Vec<String>) {
        let (mut keys, mut wrong, mut names) = (HashMap::new(), Vec::new(), BTreeSet::new());
        for (nth, row) in self.keys.into_iter().enumerate() {
            let name = row.name.clone();
            if !names.insert(name.clone()) {
                wrong.push(format!("two keys have the name `{name}`; logs and `outrigger key revoke` must tell them apart"));
            }
            match row.meant() {
                Ok((hash, key)) => {
                    if keys.insert(hash, key).is_some() {
                        wrong.push(format!("`{name}` has the hash of another key"));
                    }
                }
                Err(why) => wrong.push(format!("key {} (`{name}`): {why}", nth + 1)),
            }
        }
        (keys, wrong)
    }
}

impl KeyRow {
    /// The key's hash and meaning.
    ///
    /// # Errors
    /// The first mistake, in words.
    pub fn meant(self) -> Result<([u8; 32], ApiKey), String> {
        Name::word(&self.name)?;
        let in_clear = |text: &str| text.starts_with(KeyFile::PREFIX) && text.len() > KeyFile::SHOWN;
        if [&self.sha256, &self.shows].into_iter().any(|text| in_clear(text)) {
            return Err("the key stands here in clear: take it out of use, and make another with `outrigger key new`".into());
        }
        let hash = digest(&self.sha256).ok_or("`sha256` is not 64 hexadecimal digits: the SHA-256 of the key")?;
        let caller = self.caller.unwrap_or_else(|| self.name.clone());
        if !(1..=LONGEST_CALLER).contains(&caller.len()) || !caller.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(format!("`caller` is not a name of up to {LONGEST_CALLER} visible ASCII characters"));
        }
        if let Some(word) = self.scopes.iter().chain(&self.tier).find(|word| !is_scope(word)) {
            return Err(format!("`{word}` is neither a scope nor a tier: visible ASCII without blanks, commas, quotes and backslashes"));
        }
        let expires = self.expires.as_deref().map(time).transpose()?;
        let scopes = self.scopes.into_iter().map(Into::into).collect();
        Ok((hash, ApiKey { name: self.name.into(), caller: caller.into(), tier: self.tier.map(Into::into), scopes, expires }))
    }
}

impl KeyFile {
    /// How every key begins.
    pub const PREFIX: &str = "ork_";
    /// Characters of a key that are shown to people, the prefix among them.
    pub const SHOWN: usize = 12;
}

fn time(text: &str) -> Result<SystemTime, String> {
    humantime::parse_rfc3339(text).map_err(|_| format!("`{text}` is not a time; write 2027-01-31T00:00:00Z"))
}

/// 64 hexadecimal digits as bytes.
fn digest(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    let mut out = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(digits.as_chunks::<2>().0) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
    }
    Some(out)
}
