//! Keys of clients: their form, and where a request shows one.
//!
//! A key is 256 random bits in base32 behind a prefix, with a checksum behind them: a key that is cut or mistyped is told from one that
//! is not known, and a scanner for leaked keys can be sure. Who has no key cannot guess one, so that its hash needs no slow function.

use std::{sync::Arc, time::SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::Looked;
use crate::{
    caller::{KnownBy, Proof},
    config::{ApiKeys, KeyFile},
    http1::{Fields, Id, Value},
};

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Characters of the random part.
const RANDOM: usize = 52;
/// Characters of the checksum.
const SUM: usize = 6;
/// Longest value of `Authorization: Basic` that is decoded, in bytes.
const LONGEST_BASIC: usize = 512;

/// The key of these random bits.
pub fn mint(random: [u8; 32]) -> String {
    let begin = [KeyFile::PREFIX, &base32(&random, RANDOM)].concat();
    let sum = checksum(&begin);
    begin + &sum
}

/// Whether the text has the form of a key, checksum included.
pub fn is_whole(text: &str) -> bool {
    text.len() == KeyFile::PREFIX.len() + RANDOM + SUM && text.is_ascii() && {
        let (begin, sum) = text.split_at(text.len() - SUM);
        begin.starts_with(KeyFile::PREFIX) && checksum(begin) == sum
    }
}

/// The hash of a key, as its file has it.
pub fn digest(key: &str) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes());
    digest.as_ref().try_into().unwrap_or_default()
}

/// Looks for a key in the fields.
pub fn look(keys: &ApiKeys, fields: &Fields, wall: SystemTime) -> Looked {
    let mut found: Option<Looked> = None;
    for name in &keys.fields {
        for value in fields.all(name) {
            let Some(shown) = shown(keys, name.as_str(), value) else { continue };
            if found.is_some() {
                return Looked::Bad("the request shows two keys".into());
            }
            found = Some(known(keys, &shown, wall));
        }
    }
    found.unwrap_or(Looked::Nothing)
}

/// Takes every key out of the fields.
pub fn strip(keys: &ApiKeys, fields: &mut Fields) {
    let is_named = |name: crate::http1::Name<'_>| keys.fields.iter().any(|field| field.as_str().eq_ignore_ascii_case(name.as_str()));
    fields.retain(|name, value| !(is_named(name) && shown(keys, name.as_str(), value).is_some()));
}

/// A key, and the user that stands before it.
struct ShownKey {
    key: String,
    user: Option<String>,
}

/// The key in a field; `None`: the field has another's credential, or none.
fn shown(keys: &ApiKeys, name: &str, value: Value<'_>) -> Option<ShownKey> {
    let text = value.to_str().ok()?.trim();
    let ours = |key: &str| key.starts_with(KeyFile::PREFIX);
    if Id::of(name.as_bytes()) != Id::Authorization {
        return ours(text).then(|| ShownKey { key: text.to_owned(), user: None });
    }
    let (scheme, credential) = text.split_once(' ')?;
    let credential = credential.trim_start();
    if scheme.eq_ignore_ascii_case("bearer") {
        return ours(credential).then(|| ShownKey { key: credential.to_owned(), user: None });
    }
    if !keys.basic || !scheme.eq_ignore_ascii_case("basic") || credential.len() > LONGEST_BASIC {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(credential).ok()?).ok()?;
    let (user, key) = pair.split_once(':')?;
    Some(ShownKey { key: key.to_owned(), user: Some(user.to_owned()) })
}

fn known(keys: &ApiKeys, shown: &ShownKey, wall: SystemTime) -> Looked {
    const UNKNOWN: &str = "the key is not known here, or not any more";
    if !is_whole(&shown.key) {
        return Looked::Bad(match shown.user {
            Some(_) => UNKNOWN.into(),
            None => "the key is cut or mistyped: its checksum is wrong".into(),
        });
    }
    let hash = digest(&shown.key);
    // The map finds the key by its hash, of which no timing tells more than that it differs.
    let found =
        keys.keys.get_key_value(&hash).filter(|(known, _)| aws_lc_rs::constant_time::verify_slices_are_equal(&known[..], &hash).is_ok());
    let Some((_, key)) = found.filter(|(_, key)| shown.user.as_ref().is_none_or(|user| **user == *key.name)) else {
        return Looked::Bad(UNKNOWN.into());
    };
    if key.expires.is_some_and(|at| wall >= at) {
        return Looked::Bad(format!("the key `{}` has expired", key.name).into());
    }
    let key: Proof = Proof {
        name: key.caller.clone(),
        by: KnownBy::ApiKey,
        key: Some(Arc::clone(&key.name)),
        tier: key.tier.clone(),
        scopes: key.scopes.clone(),
        claims: None,
        copied: Arc::default(),
    };
    Looked::Good(key)
}

/// The first `digits` digits of the bytes in base32 (RFC 4648 section 6), in lower case.
fn base32(bytes: &[u8], digits: usize) -> String {
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| byte >> (7 - at % 8) & 1);
    let digit = |nth: usize| (0..5).fold(0, |sum, at| sum << 1 | usize::from(bit(5 * nth + at)));
    (0..digits).map(|nth| char::from(ALPHABET[digit(nth)])).collect()
}

fn checksum(begin: &str) -> String {
    base32(blake3::hash(begin.as_bytes()).as_bytes(), SUM)
}
