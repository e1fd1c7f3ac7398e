//! Cache keys: a keyed BLAKE3 hash over labelled, length-prefixed parts. No two requests share a key by accident or by intent,
//! and no client can aim at a key without the secret.

use std::{fmt, str::FromStr};

use super::CacheQuery;
use crate::{clock, config, store::memory::TierKey};

/// The key of a stored response: 128 bits of a keyed hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key([u8; 16]);

impl TierKey for Key {
    const LEAST: Self = Self([0; 16]);
}

impl Key {
    /// The bytes, for a shared store.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The key of these bytes, from a shared store.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// A number in `0..buckets`, evenly spread; `buckets` must not be 0.
    pub fn bucket(&self, buckets: usize) -> usize {
        (self.low() % buckets as u64) as usize
    }

    /// Half of the key as a number, evenly spread.
    pub fn low(&self) -> u64 {
        let mut low = [0; 8];
        low.copy_from_slice(&self.0[8..]);
        u64::from_le_bytes(low)
    }
}

impl FromStr for Key {
    type Err = NotAKey;

    /// As [`Display`](fmt::Display) writes it: 32 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let mut key = [0; 16];
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != key.len() || !rest.is_empty() {
            return Err(NotAKey);
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        for (byte, pair) in key.iter_mut().zip(pairs) {
            *byte = digit(pair[0]).zip(digit(pair[1])).map(|(high, low)| high << 4 | low).ok_or(NotAKey)?;
        }
        Ok(Self(key))
    }
}

/// The text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key is 32 hexadecimal digits")]
pub struct NotAKey;

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One part of a key as a person may see it: long or secret values as a hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPart {
    /// The part's name.
    pub name: String,
    /// Its value, or `blake3:` and a keyed hash of it.
    pub value: String,
}

/// The two keys of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    /// The key of the stored response.
    pub entry: Key,
    /// The key of the URI alone: an unsafe method invalidates by it, whatever other parts `entry` has.
    pub uri: Key,
}

/// The secret of keys: the configured one, else one of this process. Replicas that share a Redis and have no configured secret
/// take that of Redis.
pub fn secret(store: &config::Store) -> [u8; 32] {
    store.secret.as_ref().map_or_else(clock::secret_bytes, config::Secret::hash_key)
}

/// The keys of `query` under the store's secret.
pub fn keys(secret: &[u8; 32], query: &CacheQuery<'_>) -> Keys {
    let mut parts = Parts::new(secret, None);
    base(&mut parts, class(query), query, query.path_and_query);
    let uri = parts.key();
    if query.body.is_some() {
        // An unsafe method also invalidates the answers to POST.
        rest(&mut parts, query);
        return Keys { entry: parts.key(), uri: uri_key(secret, query, query.path_and_query) };
    }
    if query.model.is_none() && query.extra.is_empty() {
        return Keys { entry: uri, uri };
    }
    rest(&mut parts, query);
    Keys { entry: parts.key(), uri }
}

/// The key of another URI of the same host (`Location` after an unsafe method).
pub fn uri_key(secret: &[u8; 32], query: &CacheQuery<'_>, path_and_query: &str) -> Key {
    let mut parts = Parts::new(secret, None);
    let class = if query.model.is_some() { MODEL } else { READ };
    base(&mut parts, class, query, path_and_query);
    parts.key()
}

/// The key of `query` and its parts by name, in the order in which they are hashed.
pub fn explain(secret: &[u8; 32], query: &CacheQuery<'_>) -> (Key, Vec<KeyPart>) {
    let mut shown = Vec::new();
    let mut parts = Parts::new(secret, Some(&mut shown));
    base(&mut parts, class(query), query, query.path_and_query);
    rest(&mut parts, query);
    let key = parts.key();
    (key, shown)
}

/// The internal purge tag of everything stored under a URI.
pub fn uri_tag(uri: Key) -> String {
    format!("uri:{uri}")
}

const READ: &str = "read";
const MODEL: &str = "model";

/// HEAD shares the answers to GET; no other two methods share answers.
fn class(query: &CacheQuery<'_>) -> &'static str {
    match (&query.model, query.body) {
        (Some(_), _) => MODEL,
        (None, Some(_)) => "post",
        (None, None) => READ,
    }
}

fn base(parts: &mut Parts<'_>, class: &str, query: &CacheQuery<'_>, path_and_query: &str) {
    parts.text("class", class);
    parts.text("scheme", query.scheme);
    let host = query.host.trim_end_matches('.');
    let default_port = if query.scheme == "https" { ":443" } else { ":80" };
    let host = host.strip_suffix(default_port).unwrap_or(host);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        parts.text("host", &host.to_ascii_lowercase());
    } else {
        parts.text("host", host);
    }
    parts.text("path", path_and_query);
}

fn rest(parts: &mut Parts<'_>, query: &CacheQuery<'_>) {
    for (name, value) in query.extra {
        parts.secret("key", &[name.as_bytes(), value.as_bytes()], name);
    }
    for (name, value) in query.body.unwrap_or_default() {
        parts.body(name, value);
    }
    if let Some(model) = &query.model {
        parts.text("provider", model.provider);
        parts.text("operation", model.operation);
        for (name, value) in model.headers {
            parts.text("header", name);
            parts.text("value", value);
        }
        parts.secret("tenant", &[model.tenant], "tenant");
        parts.secret("body", &[model.body], "body");
    }
}

/// Most bytes shown of a body's part.
const SHOWN: usize = 120;

/// Bytes of parts that are hashed at once.
const AT_ONCE: usize = 256;

struct Parts<'a> {
    secret: &'a [u8; 32],
    hasher: blake3::Hasher,
    /// Short parts that the hasher is to get: each call of it costs more than a few bytes.
    waiting: [u8; AT_ONCE],
    /// How much of `waiting` is taken.
    taken: usize,
    shown: Option<&'a mut Vec<KeyPart>>,
}

impl<'a> Parts<'a> {
    fn new(secret: &'a [u8; 32], shown: Option<&'a mut Vec<KeyPart>>) -> Self {
        let mut parts = Self { secret, hasher: blake3::Hasher::new_keyed(secret), waiting: [0; AT_ONCE], taken: 0, shown };
        parts.put(b"outrigger cache 1");
        parts
    }

    #[inline]
    fn hash(&mut self, bytes: &[u8]) {
        let length = (bytes.len() as u64).to_le_bytes();
        if self.taken + length.len() + bytes.len() > AT_ONCE {
            self.flush();
        }
        self.put(&length);
        if self.taken + bytes.len() <= AT_ONCE {
            self.put(bytes);
        } else {
            self.flush();
            self.hasher.update(bytes);
        }
    }

    /// Adds bytes for which there is room.
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.waiting[self.taken..][..bytes.len()].copy_from_slice(bytes);
        self.taken += bytes.len();
    }

    fn flush(&mut self) {
        self.hasher.update(&self.waiting[..self.taken]);
        self.taken = 0;
    }

    fn text(&mut self, name: &str, value: &str) {
        self.hash(name.as_bytes());
        self.hash(value.as_bytes());
        if let Some(shown) = &mut self.shown {
            shown.push(KeyPart { name: name.to_owned(), value: value.to_owned() });
        }
    }

    /// A part of a body; short text is shown as it is: the caller of `explain` has the body anyway.
    fn body(&mut self, name: &str, value: &[u8]) {
        match std::str::from_utf8(value) {
            Ok(text) if value.len() <= SHOWN => {
                self.hash(b"body");
                self.hash(name.as_bytes());
                self.hash(value);
                if let Some(shown) = &mut self.shown {
                    let value = if text.is_empty() { "(not there)" } else { text };
                    shown.push(KeyPart { name: format!("body:{name}"), value: value.to_owned() });
                }
            }
            _ => self.secret("body", &[name.as_bytes(), value], &format!("body:{name}")),
        }
    }

    fn secret(&mut self, label: &str, values: &[&[u8]], name: &str) {
        self.hash(label.as_bytes());
        for value in values {
            self.hash(value);
        }
        if let Some(shown) = &mut self.shown {
            let mut hasher = blake3::Hasher::new_keyed(self.secret);
            hasher.update(b"outrigger shown");
            hasher.update(values.last().copied().unwrap_or_default());
            let hash = hasher.finalize().to_hex();
            shown.push(KeyPart { name: name.to_owned(), value: format!("blake3:{}", &hash[..16]) });
        }
    }

    fn key(&mut self) -> Key {
        self.flush();
        let mut key = [0; 16];
        key.copy_from_slice(&self.hasher.finalize().as_bytes()[..16]);
        Key(key)
    }
}

#[cfg(test)]
impl Key {
    /// A key for tests.
    pub fn numbered(number: u64) -> Self {
        let mut key = [0; 16];
        key.copy_from_slice(&blake3::hash(&number.to_le_bytes()).as_bytes()[..16]);
        Self(key)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Method;
    use proptest::prelude::*;

    use super::{super::ModelKey, *};
    use crate::http1::Fields;

    const SECRET: [u8; 32] = [7; 32];

    fn with<T>(change: impl FnOnce(&mut CacheQuery<'_>), then: impl FnOnce(&CacheQuery<'_>) -> T) -> T {
        let (route, headers) = (Arc::from("r"), Fields::new());
        let mut query = CacheQuery {
            route: &route,
            method: &Method::GET,
            scheme: "http",
            host: "a.example",
            path_and_query: "/p?q=1",
            headers: &headers,
            extra: &[],
            model: None,
            ttl: None,
            proved: false,
            body: None,
        };
        change(&mut query);
        then(&query)
    }

    fn key(change: impl FnOnce(&mut CacheQuery<'_>)) -> Key {
        with(change, |query| keys(&SECRET, query).entry)
    }

    #[test]
    fn every_part_is_in_the_key() {
        let model = |body: &'static [u8]| {
            Some(ModelKey { provider: "openai", operation: "chat", model: "m", headers: &[("openai-beta", "x")], tenant: b"t", body })
        };
        let variants = [
            key(|_| {}),
            key(|q| q.scheme = "https"),
            key(|q| q.host = "b.example"),
            key(|q| q.host = "a.example:8080"),
            key(|q| q.path_and_query = "/p?q=2"),
            key(|q| q.path_and_query = "/p"),
            key(|q| q.extra = &[("caller", "u")]),
            key(|q| q.extra = &[("calle", "ru")]),
            key(|q| q.extra = &[("caller", "v")]),
            key(|q| q.model = model(b"{}")),
            key(|q| q.body = Some(&[])),
            with(|_| {}, |q| keys(&SECRET, &CacheQuery { body: Some(&[("a".into(), (*b"1").into())]), ..*q }).entry),
            with(|_| {}, |q| keys(&SECRET, &CacheQuery { body: Some(&[("a".into(), (*b"").into())]), ..*q }).entry),
            with(
                |_| {},
                |q| keys(&SECRET, &CacheQuery { body: Some(&[("a".into(), (*b"").into()), ("b".into(), (*b"1").into())]), ..*q }).entry,
            ),
            key(|q| q.model = model(b"{} ")),
            key(|q| q.model = model(b"{}").map(|m| ModelKey { tenant: b"u", ..m })),
            key(|q| q.model = model(b"{}").map(|m| ModelKey { provider: "other", ..m })),
            key(|q| q.model = model(b"{}").map(|m| ModelKey { operation: "responses", ..m })),
            key(|q| q.model = model(b"{}").map(|m| ModelKey { headers: &[], ..m })),
            with(|_| {}, |query| keys(&[8; 32], query).entry),
        ];
        for (at, one) in variants.iter().enumerate() {
            assert!(!variants[at + 1..].contains(one), "{at} is not alone");
        }
    }

    proptest! {
        /// Replicas of other versions share their keys.
        #[test]
        fn parts_that_wait_are_hashed_as_one_text(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8)) {
            let secret = SECRET;
            let (mut gathered, mut plain) = (Parts::new(&secret, None), blake3::Hasher::new_keyed(&secret));
            plain.update(b"outrigger cache 1");
            for part in &parts {
                gathered.hash(part);
                plain.update(&(part.len() as u64).to_le_bytes()).update(part);
            }
            let (gathered, plain) = (gathered.key(), plain.finalize());
            prop_assert_eq!(&gathered.0[..], &plain.as_bytes()[..16]);
        }
    }

    #[test]
    fn a_key_is_read_as_it_is_written() {
        let one = Key::numbered(7);
        assert_eq!(one.to_string().parse(), Ok(one));
        assert_eq!(one.to_string().to_uppercase().parse(), Ok(one));
        for bad in ["", "00", "0", &"0".repeat(31), &"0".repeat(33), &"g".repeat(32), &"+1".repeat(16), &"é".repeat(16)] {
            assert_eq!(bad.parse::<Key>(), Err(NotAKey), "{bad}");
        }
    }

    #[test]
    fn spelling_of_the_host_and_reading_methods_do_not_matter() {
        assert_eq!(key(|_| {}), key(|q| q.host = "A.example:80"));
        assert_eq!(key(|_| {}), key(|q| q.method = &Method::HEAD));
        let (mine, yours) = (key(|q| q.extra = &[("caller", "u")]), key(|q| q.extra = &[("caller", "v")]));
        assert_ne!(mine, yours);
        let uri = |extra| with(|q| q.extra = extra, |query| keys(&SECRET, query).uri);
        assert_eq!(uri(&[("caller", "u")]), uri(&[]));
    }

    #[test]
    fn explain_shows_the_parts_and_the_same_key_and_no_secret() {
        let (shown_key, parts) = with(|q| q.extra = &[("api_key", "sk-very-secret")], |query| explain(&SECRET, query));
        assert_eq!(shown_key, key(|q| q.extra = &[("api_key", "sk-very-secret")]));
        let names: Vec<_> = parts.iter().map(|part| part.name.as_str()).collect();
        assert_eq!(names, ["class", "scheme", "host", "path", "api_key"]);
        assert!(parts.iter().all(|part| !part.value.contains("sk-very-secret")));
    }
}
