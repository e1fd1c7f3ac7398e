//! The token of an exchange: 128 bits that prove by themselves which exchange is meant, and tell others nothing.
//!
//! A token is one block of AES-128 under a key of the process. The 128 bits inside:
//!
//! ```text
//! 40 zeros | 32 begin, in ticks | 20 payee | 20 place of its life | 16 serial of that place
//! ```
//!
//! No two exchanges have the same bits inside, and one block cipher call is enough: the tokens are a permutation of the bits
//! inside, and random to a reader without the key. A changed or guessed token opens to random bits. It passes if 40 bits are
//! zero and 32 name one of the last minutes: once in 2^60 guesses, which is 36,000 years at a million guesses a second.

use std::fmt;

use aws_lc_rs::cipher::{AES_128, DecryptingKey, DecryptionContext, EncryptingKey, UnboundCipherKey};

use crate::clock::secret_bytes;

/// Coarse time since the table began, in units of [`TICK`]; 32 bits of it are 17 years.
pub(super) type Tick = u32;

/// Milliseconds of a tick.
pub(super) const TICK: u64 = 125;

/// Bits of an index into the payees, and of a place among the lives.
pub(super) const INDEX_BITS: u32 = 20;

/// The contents of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// When the exchange began.
    pub begun: Tick,
    /// Index of its payee.
    pub payee: u32,
    /// The place of its life.
    pub place: Place,
}

/// The place of an exchange's life. The serial tells the exchange from others at the same slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub slot: u32,
    pub serial: u16,
}

/// Makes tokens and reads them.
#[derive(Debug)]
pub(super) struct Sealer {
    sealing: EncryptingKey,
    opening: DecryptingKey,
}

impl Sealer {
    /// A sealer with a random key.
    #[expect(
        clippy::expect_used,
        reason = "AES-128 takes every key of 16 bytes; without it no token can be made and the process must not go on"
    )]
    pub fn new() -> Self {
        let secret: [u8; 16] = secret_bytes();
        let key = || UnboundCipherKey::new(&AES_128, &secret).expect("16 bytes are a key");
        Self {
            sealing: EncryptingKey::ecb(key()).expect("AES-128 works block by block"),
            opening: DecryptingKey::ecb(key()).expect("AES-128 works block by block"),
        }
    }

    /// The token of `mark`.
    #[expect(clippy::expect_used, reason = "one whole block can always be enciphered")]
    pub fn seal(&self, mark: Mark) -> u128 {
        let inside =
            u128::from(mark.begun) << 56 | u128::from(mark.payee) << 36 | u128::from(mark.place.slot) << 16 | u128::from(mark.place.serial);
        let mut block = inside.to_be_bytes();
        self.sealing.encrypt(&mut block).expect("a whole block");
        u128::from_be_bytes(block)
    }

    /// The contents of `token`; `None`: the token is not one of ours.
    pub fn open(&self, token: u128) -> Option<Mark> {
        let mut block = token.to_be_bytes();
        self.opening.decrypt(&mut block, DecryptionContext::None).ok()?;
        let inside = u128::from_be_bytes(block);
        let index = |from: u32| (inside >> from) as u32 & ((1 << INDEX_BITS) - 1);
        (inside >> 88 == 0).then(|| Mark {
            begun: (inside >> 56) as u32,
            payee: index(36),
            place: Place { slot: index(16), serial: inside as u16 },
        })
    }
}

/// The key of a hash. Without the key, a hash can be neither aimed at nor turned back.
pub(super) struct HashKey([u8; 32]);

impl HashKey {
    /// A random key.
    pub fn new() -> Self {
        Self(secret_bytes())
    }

    /// The first sixteen bytes of the hash of `text`.
    pub fn hash(&self, text: &[u8]) -> u128 {
        let mut start = [0; 16];
        start.copy_from_slice(&blake3::keyed_hash(&self.0, text).as_bytes()[..16]);
        u128::from_be_bytes(start)
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn marks() -> impl Strategy<Value = Mark> {
        (any::<u32>(), 0..1u32 << INDEX_BITS, 0..1u32 << INDEX_BITS, any::<u16>()).prop_map(|(begun, payee, slot, serial)| Mark {
            begun,
            payee,
            place: Place { slot, serial },
        })
    }

    proptest! {
        #[test]
        fn a_token_says_what_was_sealed_and_no_changed_one_says_anything(mark in marks(), other in any::<u128>()) {
            let sealer = Sealer::new();
            let token = sealer.seal(mark);
            prop_assert_eq!(sealer.open(token), Some(mark));
            for bit in 0..128 {
                prop_assert_eq!(sealer.open(token ^ 1 << bit), None, "bit {}", bit);
            }
            prop_assert_eq!(sealer.open(other), None);
            prop_assert_eq!(Sealer::new().open(token), None, "another process has another key");
        }
    }

    #[test]
    fn tokens_of_neighbours_have_nothing_in_common() {
        let sealer = Sealer::new();
        let token = |serial| sealer.seal(Mark { begun: 7, payee: 3, place: Place { slot: 5, serial } });
        let same: u32 = (0..1_000).map(|serial| (token(serial) ^ token(serial + 1)).count_zeros()).sum();
        assert!((63_000..65_000).contains(&same), "half of 128 bits, a thousand times: {same}");
    }
}
