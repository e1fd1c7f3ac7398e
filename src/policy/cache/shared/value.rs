//! The value of a key in Redis: all variants, with the stamp of the purges known when they were written, sealed if asked for.
//!
//! A version, a flag, then either the plain contents or a nonce and AES-256-GCM over them with the key's name as associated
//! data: a value moved under another key does not open. Only the bytes that [`Seal::wrap`] made are a value.

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};

use super::super::{codec, entry::Entry, known::Stamp};
use crate::{clock::Moment, config::Secret};

/// First byte. Any change of the format is a new number.
pub const VERSION: u8 = 1;
const PLAIN: u8 = 0;
const SEALED: u8 = 1;
const NONCE: usize = 12;

/// Wraps and unwraps values, encrypted or not.
pub struct Seal(Vec<RandomizedNonceKey>);

impl Seal {
    /// A seal with keys made from `secrets`: the first seals, all open. Without a secret, values are not encrypted.
    ///
    /// # Errors
    /// The library refuses a key of 32 bytes; it never does.
    pub fn new<'s>(secrets: impl IntoIterator<Item = &'s Secret>) -> Result<Self, String> {
        let key = |secret: &Secret| {
            let key = blake3::derive_key("outrigger cache values v1", secret.reveal().as_bytes());
            RandomizedNonceKey::new(&AES_256_GCM, &key).map_err(|_| "no key for cache values can be made".to_owned())
        };
        secrets.into_iter().map(key).collect::<Result<_, _>>().map(Self)
    }

    /// The value of `key`; `None` if it would be larger than `largest`.
    pub fn wrap<'e>(
        &self,
        key: &str,
        stamp: Stamp,
        entries: impl Iterator<Item = &'e Entry>,
        largest: usize,
        now: Moment,
    ) -> Option<Vec<u8>> {
        let mut contents = Vec::new();
        contents.extend(stamp.id.to_le_bytes());
        contents.extend(stamp.number.to_le_bytes());
        for entry in entries {
            if entry.len as usize > largest {
                return None;
            }
            let encoded = entry.encode(now);
            contents.extend(u32::try_from(encoded.len()).ok()?.to_le_bytes());
            contents.extend(encoded);
            if contents.len() > largest {
                return None;
            }
        }
        let mut value = Vec::with_capacity(contents.len() + 32);
        match self.0.first() {
            None => value.extend([VERSION, PLAIN]),
            Some(cipher) => {
                let nonce = cipher.seal_in_place_append_tag(Aad::from(key.as_bytes()), &mut contents).ok()?;
                value.extend([VERSION, SEALED]);
                value.extend(nonce.as_ref());
            }
        }
        value.extend(contents);
        Some(value)
    }

    /// The value that [`wrap`](Self::wrap) has wrapped for the same key; `None` for other bytes, an older format or another secret.
    pub fn unwrap(&self, key: &str, value: &[u8], now: Moment) -> Option<(Stamp, Vec<Entry>)> {
        let opened;
        let contents = match (&self.0[..], value.split_at_checked(2)?) {
            ([], ([VERSION, PLAIN], contents)) => contents,
            (ciphers, ([VERSION, SEALED], sealed)) => {
                let (nonce, sealed) = sealed.split_at_checked(NONCE)?;
                opened = ciphers.iter().find_map(|cipher| {
                    let mut text = sealed.to_vec();
                    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
                    let length = cipher.open_in_place(nonce, Aad::from(key.as_bytes()), &mut text).ok()?.len();
                    text.truncate(length);
                    Some(text)
                })?;
                &opened[..]
            }
            _ => return None,
        };
        let (head, mut rest) = contents.split_at_checked(16)?;
        let (id, number) = head.split_at(8);
        let stamp = Stamp { id: u64::from_le_bytes(id.try_into().ok()?), number: u64::from_le_bytes(number.try_into().ok()?) };
        let mut entries = Vec::new();
        while !rest.is_empty() {
            let (length, more) = rest.split_at_checked(4)?;
            let (entry, more) = more.split_at_checked(u32::from_le_bytes(length.try_into().ok()?) as usize)?;
            entries.push(Entry::decode(entry, now)?);
            rest = more;
        }
        Some((stamp, entries))
    }
}

const _: () = assert!(codec::VERSION == 4, "a new codec is refused by its own version; no new VERSION is needed here");

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::SystemTime};

    use bytes::Bytes;
    use http::StatusCode;
    use proptest::prelude::*;

    use super::*;
    use crate::http1::Fields;
    use crate::policy::cache::{
        directives::ResponseDirectives,
        entry::NewEntry,
        freshness::{Freshness, Terms, Times},
        vary::Variance,
    };

    fn entry(body: &'static str) -> Entry {
        let (headers, at) = (Fields::new(), NOW);
        let times = Times { requested: at, received: at };
        Entry::new(NewEntry {
            status: StatusCode::OK,
            fresh: Freshness::of(StatusCode::OK, &headers, &ResponseDirectives::default(), Terms::default(), times),
            headers,
            body: Arc::from([Bytes::from_static(body.as_bytes())]),
            trailers: None,
            pauses: None,
            dated: false,
            variance: Variance::default(),
            route: "r".into(),
            path: "/p".into(),
            what: "GET h/p".into(),
            took_millis: 1,
            tags: Box::default(),
            savings: None,
            stored_at: at,
        })
    }

    const NOW: Moment = Moment::at(SystemTime::UNIX_EPOCH);
    const STAMP: Stamp = Stamp { id: 7, number: 9 };

    fn seals() -> [Seal; 2] {
        [None, Some(Secret::new("s"))].map(|secret| Seal::new(secret.as_ref()).expect("a key"))
    }

    #[test]
    fn all_variants_come_back_under_the_same_key_and_no_other() {
        for (at, seal) in seals().iter().enumerate() {
            let (one, two) = (entry("one"), entry("two"));
            let value = seal.wrap("k", STAMP, [&one, &two].into_iter(), 4096, NOW).expect("fits");
            let (stamp, entries) = seal.unwrap("k", &value, NOW).expect("ours");
            assert_eq!((stamp, entries.len(), &entries[1].body[0][..]), (STAMP, 2, &b"two"[..]));
            let sealed = at == 1;
            assert_eq!(seal.unwrap("other", &value, NOW).is_none(), sealed);
            assert_eq!(memchr::memmem::find(&value, b"two").is_none(), sealed);
            assert!(seals()[1 - at].unwrap("k", &value, NOW).is_none(), "sealed and plain do not mix");
            let mut other = value.clone();
            other[0] += 1;
            assert!(seal.unwrap("k", &other, NOW).is_none(), "another version");
            assert!(seal.wrap("k", STAMP, [&one, &two].into_iter(), 64, NOW).is_none(), "too large");
        }
        let value = seals()[1].wrap("k", STAMP, std::iter::once(&entry("one")), 4096, NOW).expect("fits");
        assert!(Seal::new(Some(&Secret::new("t"))).expect("a key").unwrap("k", &value, NOW).is_none(), "another secret");
        let both = Seal::new([&Secret::new("t"), &Secret::new("s")]).expect("keys");
        assert!(both.unwrap("k", &value, NOW).is_some(), "the old key opens");
        let value = both.wrap("k", STAMP, std::iter::once(&entry("one")), 4096, NOW).expect("fits");
        assert!(
            seals()[1].unwrap("k", &value, NOW).is_none()
                && Seal::new([&Secret::new("t")]).expect("a key").unwrap("k", &value, NOW).is_some()
        );
    }

    proptest! {
        #[test]
        fn whatever_comes_is_an_entry_or_nothing(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..300) {
            for seal in seals() {
                seal.unwrap("k", &bytes, NOW);
                let whole = seal.wrap("k", STAMP, std::iter::once(&entry("one")), 4096, NOW).expect("fits");
                let cut = cut.min(whole.len() - 1);
                if cut != 18 {
                    prop_assert!(seal.unwrap("k", &whole[..cut], NOW).is_none());
                }
            }
            if bytes.len() > 2 {
                bytes[..2].copy_from_slice(&[VERSION, PLAIN]);
                seals()[0].unwrap("k", &bytes, NOW);
            }
        }
    }
}
