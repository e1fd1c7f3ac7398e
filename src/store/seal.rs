//! What is kept in files is sealed, if there are keys: AES-256-GCM with the first key; every key opens what it has sealed.
//!
//! A sealed text begins with a mark, four bytes that tell the keys apart, and a nonce. Its place (the kind of file) is authenticated too: the
//! text of one kind of file does not open as another. A text without the mark is taken as it is: files that were written before there was a
//! key are read, and the next write seals them.

use std::{fmt, io, sync::Arc};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};

use crate::config::Secret;

/// How every sealed text begins.
const MARK: &[u8] = b"outrigger-sealed-1\n";
const ID: usize = 4;
const NONCE: usize = 12;

/// The keys of files. Without any, nothing is sealed.
#[derive(Clone, Default)]
pub struct AtRest(Arc<[([u8; ID], RandomizedNonceKey)]>);

impl AtRest {
    /// Seals with the first of these, and opens with all.
    ///
    /// # Errors
    /// The library refuses a key of 32 bytes; it never does.
    pub fn new(secrets: &[Secret]) -> Result<Self, String> {
        let key = |secret: &Secret| {
            let key = blake3::derive_key("outrigger files at rest v1", secret.reveal().as_bytes());
            let mut id = [0; ID];
            id.copy_from_slice(&blake3::derive_key("outrigger files at rest v1, name of the key", &key)[..ID]);
            RandomizedNonceKey::new(&AES_256_GCM, &key).map(|key| (id, key)).map_err(|_| "no key for files can be made".to_owned())
        };
        secrets.iter().map(key).collect::<Result<Arc<[_]>, _>>().map(Self)
    }

    /// The text as it is written.
    ///
    /// # Errors
    /// The library refuses; it never does.
    pub fn seal(&self, place: &str, mut text: Vec<u8>) -> io::Result<Vec<u8>> {
        let Some((id, key)) = self.0.first() else { return Ok(text) };
        let nonce =
            key.seal_in_place_append_tag(Aad::from(place.as_bytes()), &mut text).map_err(|_| io::Error::other("cannot be sealed"))?;
        Ok([MARK, id, nonce.as_ref(), &text].concat())
    }

    /// The text that was sealed for this place, or one that is not sealed.
    ///
    /// # Errors
    /// There is no key that opens it, or it was changed.
    pub fn open(&self, place: &str, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let Some(rest) = bytes.strip_prefix(MARK) else { return Ok(bytes) };
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "it is sealed, and was changed or cut");
        let (id, rest) = rest.split_at_checked(ID).ok_or_else(damaged)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE).ok_or_else(damaged)?;
        let known = self.0.iter().find(|(known, _)| known == id);
        let (_, key) = known.ok_or_else(|| io::Error::other("it is sealed with a key that is not among store.encryption_keys"))?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
        let mut text = sealed.to_vec();
        let length = key.open_in_place(nonce, Aad::from(place.as_bytes()), &mut text).map_err(|_| damaged())?.len();
        text.truncate(length);
        Ok(text)
    }
}

impl fmt::Debug for AtRest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AtRest({} keys)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(secrets: &[&str]) -> AtRest {
        AtRest::new(&secrets.iter().map(|secret| Secret::new(*secret)).collect::<Vec<_>>()).expect("keys")
    }

    fn open(with: &AtRest, place: &str, bytes: &[u8]) -> Option<Vec<u8>> {
        with.open(place, bytes.to_vec()).ok()
    }

    #[test]
    fn the_first_key_seals_every_key_opens_and_no_other() {
        let (old, both, new) = (keys(&["old"]), keys(&["new", "old"]), keys(&["new"]));
        let sealed = old.seal("notices", b"u-17".to_vec()).expect("sealed");
        assert!(memchr::memmem::find(&sealed, b"u-17").is_none() && sealed != old.seal("notices", b"u-17".to_vec()).expect("sealed"));
        assert_eq!(open(&both, "notices", &sealed).as_deref(), Some(&b"u-17"[..]));
        let again = both.seal("notices", b"u-17".to_vec()).expect("sealed");
        assert_eq!((open(&new, "notices", &again).is_some(), open(&old, "notices", &again)), (true, None));
        let why = new.open("notices", sealed.clone()).expect_err("another key").to_string();
        assert!(why.contains("store.encryption_keys"), "{why}");
        assert_eq!(open(&keys(&[]), "notices", &sealed), None, "without keys");
        assert_eq!(open(&old, "monitors", &sealed), None, "another place");
        for at in 0..sealed.len() {
            let (mut changed, cut) = (sealed.clone(), &sealed[..at]);
            changed[at] ^= 1;
            assert_ne!(open(&old, "notices", &changed).as_deref(), Some(&b"u-17"[..]), "byte {at}");
            assert_ne!(open(&old, "notices", cut).as_deref(), Some(&b"u-17"[..]), "cut at {at}");
        }
    }

    #[test]
    fn what_was_written_without_a_key_is_read_and_without_keys_nothing_is_sealed() {
        assert_eq!(open(&keys(&["k"]), "notices", b"{}").as_deref(), Some(&b"{}"[..]));
        assert_eq!(keys(&[]).seal("notices", b"{}".to_vec()).expect("as it is"), b"{}");
        assert_eq!(format!("{:?}", keys(&["secret"])), "AtRest(1 keys)");
    }
}
