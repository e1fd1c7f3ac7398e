//! GraphQL as far as a cache needs it: the tokens of a document, its operations, and whether an answer has errors.
//!
//! Two documents are the same here if their tokens are the same (GraphQL specification, section 2.1). Blanks, line ends,
//! commas, comments and a byte order mark have no meaning. Names, numbers and strings are kept as written, block strings with
//! their blanks. A text that is no list of operations and fragments is no document here: a request that cannot be understood is
//! not answered from the store.

use std::sync::Arc;

/// Persisted queries whose operations are remembered.
const REMEMBERED: usize = 4096;
/// Most operations of one document; a text with more is no document.
const MAX_OPERATIONS: usize = 64;

/// The type of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It reads.
    Query,
    /// It changes something.
    Mutation,
    /// It streams events.
    Subscription,
}

/// The operations of a document, with their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operations(Box<[(Option<Box<str>>, Kind)]>);

impl Operations {
    /// The kind of the operation that runs under this `operationName`; `None` where a server would have to refuse.
    pub fn chosen(&self, name: Option<&str>) -> Option<Kind> {
        let Some(name) = name else {
            return if let [(_, kind)] = &*self.0 { Some(*kind) } else { None };
        };
        let mut named = self.0.iter().filter(|(own, _)| own.as_deref() == Some(name));
        match (named.next(), named.next()) {
            (Some((_, kind)), None) => Some(*kind),
            _ => None,
        }
    }
}

/// A document that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its tokens with one blank between them: documents with the same tokens have the same text.
    pub text: String,
    /// Its operations.
    pub operations: Operations,
}

impl Document {
    /// Reads a document; `None` if the text is no executable document.
    pub fn read(source: &str) -> Option<Self> {
        let tokens = tokens(source)?;
        Some(Self { operations: operations(&tokens)?, text: joined(&tokens) })
    }
}

/// One text for the same tokens: the blank keeps names and numbers apart.
fn joined(tokens: &[&str]) -> String {
    tokens.join(" ")
}

/// The tokens of a text, as they are written; `None` if a character belongs to none.
pub fn tokens(source: &str) -> Option<Vec<&str>> {
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let len = match first {
            '\u{feff}' | '\t' | ' ' | '\n' | '\r' | ',' => {
                rest = &rest[first.len_utf8()..];
                continue;
            }
            '#' => {
                rest = &rest[rest.find(['\n', '\r']).unwrap_or(rest.len())..];
                continue;
            }
            '!' | '$' | '&' | '(' | ')' | ':' | '=' | '@' | '[' | ']' | '{' | '|' | '}' => 1,
            '.' if rest.starts_with("...") => 3,
            '"' => string(rest)?,
            '-' | '0'..='9' => number(rest)?,
            '_' | 'a'..='z' | 'A'..='Z' => rest.find(|c| !is_in_name(c)).unwrap_or(rest.len()),
            _ => return None,
        };
        let (token, behind) = rest.split_at(len);
        tokens.push(token);
        rest = behind;
    }
    Some(tokens)
}

fn is_in_name(c: char) -> bool {
    c == '_' || c.is_ascii_alphanumeric()
}

/// Bytes of the number that `text` begins with. It must not run into a name, another digit or a dot.
fn number(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut at = usize::from(bytes.first() == Some(&b'-'));
    at += match (digits(at), bytes.get(at)) {
        (0, _) => return None,
        // No zeros in front.
        (2.., Some(b'0')) => return None,
        (count, _) => count,
    };
    if bytes.get(at) == Some(&b'.') {
        let count = digits(at + 1);
        at += if count > 0 { 1 + count } else { return None };
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let count = digits(at + 1 + sign);
        at += if count > 0 { 1 + sign + count } else { return None };
    }
    let runs_on = text[at..].starts_with(|c| is_in_name(c) || c == '.');
    (!runs_on).then_some(at)
}

/// Bytes of the string or block string that `text` begins with, quotes included.
fn string(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    if text.starts_with("\"\"\"") {
        let mut at = 3;
        loop {
            at += memchr::memchr2(b'"', b'\\', &bytes[at..])?;
            let here = &bytes[at..];
            at += match here {
                [b'\\', b'"', b'"', b'"', ..] => 4,
                [b'"', b'"', b'"', ..] => return Some(at + 3),
                _ => 1,
            };
        }
    }
    let mut at = 1;
    loop {
        at += memchr::memchr3(b'"', b'\\', b'\n', &bytes[at..])?;
        match bytes[at] {
            b'"' => break,
            b'\\' => at += escape(&bytes[at..])?,
            _ => return None,
        }
    }
    (!text[..at].contains('\r')).then_some(at + 1)
}

/// Bytes of the escape sequence that `bytes` begins with.
fn escape(bytes: &[u8]) -> Option<usize> {
    let hex = |digits: &[u8]| digits.iter().all(u8::is_ascii_hexdigit);
    match bytes.get(1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        b'u' if bytes.get(2) == Some(&b'{') => {
            let end = memchr::memchr(b'}', bytes)?;
            (end > 3 && hex(&bytes[3..end])).then_some(end + 1)
        }
        b'u' => hex(bytes.get(2..6)?).then_some(6),
        _ => None,
    }
}

/// The operations among the definitions; `None` for a definition that is neither operation nor fragment, or an unmatched bracket.
fn operations(tokens: &[&str]) -> Option<Operations> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(first) = tokens.get(at) {
        let kind = match *first {
            "{" | "query" => Some(Kind::Query),
            "mutation" => Some(Kind::Mutation),
            "subscription" => Some(Kind::Subscription),
            "fragment" => None,
            _ => return None,
        };
        if let Some(kind) = kind {
            let name = tokens.get(at + 1).filter(|name| *first != "{" && name.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic()));
            found.push((name.map(|name| Box::from(*name)), kind));
        }
        at = end_of_definition(tokens, at)?;
    }
    (!found.is_empty() && found.len() <= MAX_OPERATIONS).then(|| Operations(found.into()))
}

/// The index after the selection set of the definition at `at`: the first braces inside no other brackets.
fn end_of_definition(tokens: &[&str], mut at: usize) -> Option<usize> {
    let mut open = Vec::new();
    loop {
        let token = *tokens.get(at)?;
        at += 1;
        let closes = match token {
            "(" | "[" | "{" => {
                open.push(token);
                continue;
            }
            ")" => "(",
            "]" => "[",
            "}" => "{",
            _ => continue,
        };
        if open.pop()? != closes {
            return None;
        }
        if open.is_empty() && closes == "{" {
            return Some(at);
        }
    }
}

/// The operations of persisted queries by the SHA-256 of their text; learned from requests that carry both.
#[derive(Debug)]
pub struct Persisted(quick_cache::sync::Cache<[u8; 32], Arc<Operations>>);

impl Default for Persisted {
    fn default() -> Self {
        Self(quick_cache::sync::Cache::new(REMEMBERED))
    }
}

impl Persisted {
    /// Remembers `document` if its text has this hash; returns whether it has.
    pub fn learn(&self, hash: [u8; 32], text: &str, document: &Document) -> bool {
        if aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()).as_ref() != hash {
            return false;
        }
        if self.0.get(&hash).is_none() {
            self.0.insert(hash, Arc::new(document.operations.clone()));
        }
        true
    }

    /// The operations of the document with this hash, if it was seen.
    pub fn known(&self, hash: &[u8; 32]) -> Option<Arc<Operations>> {
        self.0.get(hash)
    }
}

/// Checks an answer while it passes: is it one JSON object without `errors`? Only the current key is kept.
#[derive(Debug, Default)]
pub struct Inspector {
    state: State,
    depth: u32,
    key: Vec<u8>,
    errors: bool,
    /// An `errors` member has begun, and only `null` or `[` has come of it.
    empty: Empty,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the object.
    #[default]
    Before,
    /// Anywhere outside of strings.
    Between,
    /// In a string of the outermost object that may be a key.
    Key {
        escaped: bool,
    },
    Text {
        escaped: bool,
    },
    After,
    Broken,
}

/// How much of an empty `errors` has come.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Empty {
    #[default]
    No,
    /// Behind the colon.
    Value,
    /// Behind `[`.
    List,
}

/// Longest key that is compared.
const KEY: usize = 16;

impl Inspector {
    /// The next piece of the answer.
    pub fn feed(&mut self, piece: &[u8]) {
        for byte in piece {
            self.step(*byte);
        }
    }

    /// Whether the answer, now complete, is one object and has no errors.
    pub fn is_clean(&self) -> bool {
        self.state == State::After && !self.errors
    }

    fn step(&mut self, byte: u8) {
        self.state = match self.state {
            State::Before if byte == b'{' => {
                self.depth = 1;
                State::Between
            }
            State::Before | State::After if byte.is_ascii_whitespace() => self.state,
            State::Before | State::After | State::Broken => State::Broken,
            State::Text { escaped: true } => State::Text { escaped: false },
            State::Text { .. } => match byte {
                b'"' => State::Between,
                byte => State::Text { escaped: byte == b'\\' },
            },
            State::Key { escaped } => self.in_key(byte, escaped),
            State::Between => self.between(byte),
        };
    }

    fn in_key(&mut self, byte: u8, escaped: bool) -> State {
        if byte == b'"' && !escaped {
            return State::Between;
        }
        if self.key.len() < KEY {
            self.key.push(byte);
        }
        State::Key { escaped: byte == b'\\' && !escaped }
    }

    fn between(&mut self, byte: u8) -> State {
        if byte.is_ascii_whitespace() {
            return State::Between;
        }
        match (self.empty, byte) {
            // The first byte decides: no other value follows `null` or `[]`.
            (Empty::Value, b'n') | (Empty::List, b']') => self.empty = Empty::No,
            (Empty::Value, b'[') => self.empty = Empty::List,
            (Empty::Value | Empty::List, _) => self.errors = true,
            (Empty::No, _) => {}
        }
        match byte {
            b'"' if self.depth == 1 => {
                self.key.clear();
                return State::Key { escaped: false };
            }
            b'"' => return State::Text { escaped: false },
            b':' if self.depth == 1 => {
                // An escaped key could spell `errors`.
                self.errors |= self.key.contains(&b'\\');
                if self.key == b"errors" {
                    self.empty = Empty::Value;
                }
            }
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth -= 1;
                if self.depth == 0 {
                    return State::After;
                }
            }
            _ => {}
        }
        State::Between
    }
}

#[cfg(test)]
#[path = "graphql_tests.rs"]
mod tests;
