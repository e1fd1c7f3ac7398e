//! Words of scopes and tiers.

use crate::config::{
    error::quoted,
    scalars::{W, Word},
    schema::{Json, Kind, Scalar},
    written::Items,
};

/// The name of a scope or a tier: a `scope-token` (RFC 6749 section 3.3) of at most 128 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct Scope(Box<str>);

/// Longest name, in bytes.
const LONGEST: usize = 128;

impl Word for Scope {
    fn word(text: &str) -> Result<Self, String> {
        match is_scope(text) {
            true => Ok(Self(text.into())),
            false if text.contains([' ', ',']) => Err(format!("{} is more than one; write a list: `[a, b]`", quoted(text))),
            false => {
                Err(format!("{} is not a scope: up to {LONGEST} characters of ASCII, without blanks, quotes and backslashes", quoted(text)))
            }
        }
    }
}

/// Whether a text is the name of a scope or a tier.
pub(super) fn is_scope(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len()) && text.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x2b | 0x2d..=0x5b | 0x5d..=0x7e))
}

pub(super) const SCOPE: Kind = Kind::Scalar(&Scalar::new::<Scope>("a scope", Json::Pattern(r"^[!#-+\--\[\]-~]{1,128}$"), "orders.write"));

/// The names of a list.
pub(super) fn texts(list: Items<W<Scope>>) -> Vec<Box<str>> {
    list.into_iter().flatten().map(|scope| scope.0.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::scalars::tests::refused;

    #[test]
    fn a_scope_is_one_word() {
        for good in ["orders.write", "https://api.example/read", "a", "*"] {
            assert!(Scope::word(good).is_ok(), "{good}");
        }
        refused::<Scope>("a b", "`[a, b]`");
        refused::<Scope>("a,b", "`[a, b]`");
        refused::<Scope>("\"a\"", "without blanks");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_a_scope_panic(text in "\\PC{0,40}") {
            let _ = Scope::word(&text);
        }
    }
}
