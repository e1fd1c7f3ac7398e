//! The form of a line, and the hash that ties each line to the one before. Pure.
//!
//! A line is one JSON object. Its last member is `hash`: the SHA-256 of all bytes before that member, or their HMAC-SHA-256 under the
//! configured key. The member before it is `prev`, the hash of the line before. So a hash stands for its line and for every line before it.

use aws_lc_rs::{digest, hmac};
use serde_json::{Map, Value};

use crate::config::Secret;

/// A hash of a line.
pub type Hash = [u8; 32];

/// What the first line names as the line before it.
pub const GENESIS: Hash = [0; 32];

/// The member that ends a line.
const OPEN: &[u8] = b",\"hash\":\"";
const CLOSE: &[u8] = b"\"}";
/// Bytes of the member `hash` with the brace behind it.
const TAIL: usize = OPEN.len() + 64 + CLOSE.len();

/// The key of the hashes, with the name by which lines tell it.
#[derive(Clone)]
pub struct ChainKey {
    key: hmac::Key,
    /// Eight hexadecimal digits. They tell the key apart, and show nothing of it.
    pub id: String,
}

impl ChainKey {
    /// The key made from this secret.
    pub fn new(secret: &Secret) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes());
        let id = hex(&hmac::sign(&key, b"outrigger audit: the name of this key").as_ref()[..4]);
        Self { key, id }
    }
}

/// The hash of `bytes`, under the key if there is one.
pub fn hash(key: Option<&ChainKey>, bytes: &[u8]) -> Hash {
    let mut out = [0; 32];
    match key {
        Some(key) => out.copy_from_slice(hmac::sign(&key.key, bytes).as_ref()),
        None => out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref()),
    }
    out
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // A string takes every write.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

fn unhex(text: &[u8]) -> Option<Hash> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let mut out = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(text.chunks(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

/// Writes a line with its line feed behind `out`, and gives its hash. `members` stand between `event` and `prev`.
pub fn write(
    out: &mut Vec<u8>,
    (seq, time, event): (u64, &str, &str),
    members: Map<String, Value>,
    key: Option<&ChainKey>,
    prev: &Hash,
) -> Hash {
    let start = out.len();
    let mut line = Map::new();
    line.insert("seq".into(), seq.into());
    line.insert("time".into(), time.into());
    line.insert("event".into(), event.into());
    line.extend(members);
    if let Some(key) = key {
        line.insert("key".into(), key.id.clone().into());
    }
    line.insert("prev".into(), hex(prev).into());
    let text = Value::Object(line).to_string();
    // The brace comes behind the hash.
    out.extend_from_slice(&text.as_bytes()[..text.len() - 1]);
    let own = hash(key, &out[start..]);
    out.extend_from_slice(OPEN);
    out.extend_from_slice(hex(&own).as_bytes());
    out.extend_from_slice(CLOSE);
    out.push(b'\n');
    own
}

/// A line as read, without its line feed. Nothing of it is proved.
pub struct ReadLine<'a> {
    /// The number of the line in the log, from 1.
    pub seq: u64,
    /// The hash that the line names as that of the line before.
    pub prev: Hash,
    /// The hash that the line names as its own.
    pub hash: Hash,
    /// The key that the line names.
    pub key: Option<String>,
    /// Every member.
    pub members: Map<String, Value>,
    body: &'a [u8],
}

impl<'a> ReadLine<'a> {
    /// Reads a line; `None`: it has not the form of one.
    pub fn read(line: &'a [u8]) -> Option<Self> {
        let (body, tail) = line.split_at_checked(line.len().checked_sub(TAIL)?)?;
        let hash = unhex(tail.strip_prefix(OPEN)?.strip_suffix(CLOSE)?)?;
        let Value::Object(members) = serde_json::from_slice(line).ok()? else { return None };
        let prev = unhex(members.get("prev")?.as_str()?.as_bytes())?;
        let key = match members.get("key") {
            Some(key) => Some(key.as_str()?.to_owned()),
            None => None,
        };
        Some(Self { seq: members.get("seq")?.as_u64()?, prev, hash, key, members, body })
    }

    /// Whether the line has the hash that it names.
    pub fn is_whole(&self, key: Option<&ChainKey>) -> bool {
        hash(key, self.body) == self.hash
    }

    /// The word for what happened.
    pub fn event(&self) -> &str {
        self.members.get("event").and_then(Value::as_str).unwrap_or_default()
    }
}
