//! The parts of a key, by which a limit counts and a cache tells entries apart: as meant, as written, and in the schema.

use http::HeaderName;

use super::{
    error::quoted,
    scalars::{W, Word, no_jwt, token, unknown},
    schema::{Json, Kind, Scalar},
    written::Items,
};

/// A part of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum KeyPart {
    ClientIp,
    Caller,
    Header(HeaderName),
    Cookie(String),
    Query(String),
    /// The credential that the client sent, hashed.
    ApiKey,
    Route,
    Provider,
    Model,
    /// A claim of the request's verified token.
    Claim(String),
    /// The tier of the request's verified credential. Only a source of tiers.
    VerifiedTier,
}

/// A word of `key:`: a part, or `global`, which is one counter for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KeyWord {
    Global,
    Part(KeyPart),
}

const WORDS: [&str; 11] =
    ["client_ip", "caller", "api_key", "route", "provider", "model", "global", "header:NAME", "cookie:NAME", "query:NAME", "jwt:CLAIM"];

impl Word for KeyWord {
    fn word(text: &str) -> Result<Self, String> {
        let part = match text {
            "global" => return Ok(Self::Global),
            "client_ip" => KeyPart::ClientIp,
            "caller" => KeyPart::Caller,
            "api_key" => KeyPart::ApiKey,
            "route" => KeyPart::Route,
            "provider" => KeyPart::Provider,
            "model" => KeyPart::Model,
            "jwt" => return Err(no_jwt()),
            _ => match text.split_once(':') {
                Some(("header", name)) => KeyPart::Header(HeaderName::word(name)?),
                Some(("cookie", name)) if token(name) => KeyPart::Cookie(name.to_owned()),
                Some(("query", name)) if !name.is_empty() => KeyPart::Query(name.to_owned()),
                Some(("jwt", claim)) if !claim.is_empty() => KeyPart::Claim(claim.to_owned()),
                Some(("jwt", _)) => return Err(no_jwt()),
                Some(("cookie" | "query", name)) => return Err(format!("{} is not a name", quoted(name))),
                _ => return Err(unknown(text, &WORDS)),
            },
        };
        Ok(Self::Part(part))
    }
}

const KEY: Kind = Kind::Scalar(&Scalar::new::<KeyWord>(
    "a key part",
    Json::Pattern("^(client_ip|caller|api_key|route|provider|model|global|header:.+|cookie:.+|query:.+|jwt:.+)$"),
    "client_ip",
));

/// A part of a key, or a list of parts.
pub(super) const KEYS: Kind = Kind::OneOrMany(&KEY);

/// The parts of a key as meant. The word `global` adds no part.
pub(super) fn parts(words: Items<W<KeyWord>>) -> Vec<KeyPart> {
    words
        .into_iter()
        .flatten()
        .filter_map(|word| match word.0 {
            KeyWord::Global => None,
            KeyWord::Part(part) => Some(part),
        })
        .collect()
}

impl KeyPart {
    /// The word in the file.
    pub fn written(&self) -> String {
        match self {
            Self::ClientIp => "client_ip".to_owned(),
            Self::Caller => "caller".to_owned(),
            Self::Header(name) => format!("header:{name}"),
            Self::Cookie(name) => format!("cookie:{name}"),
            Self::Query(name) => format!("query:{name}"),
            Self::ApiKey => "api_key".to_owned(),
            Self::Route => "route".to_owned(),
            Self::Provider => "provider".to_owned(),
            Self::Model => "model".to_owned(),
            Self::Claim(name) => format!("jwt:{name}"),
            Self::VerifiedTier => "verified".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::scalars::tests::refused;

    #[test]
    fn a_key_part_is_a_word_or_a_prefix_with_a_name() {
        assert_eq!(KeyWord::word("header:X-User"), Ok(KeyWord::Part(KeyPart::Header(HeaderName::from_static("x-user")))));
        assert_eq!(KeyWord::word("global"), Ok(KeyWord::Global));
        refused::<KeyWord>("x-user-id", "did you mean `header:x-user-id`");
        refused::<KeyWord>("jwt", "`jwt:CLAIM`");
        refused::<KeyWord>("jwt:", "`jwt:CLAIM`");
        refused::<KeyWord>("cookie:", "is not a name");
        refused::<KeyWord>("clientip", "did you mean `client_ip`");
    }

    #[test]
    fn a_part_is_written_as_it_is_read() {
        for word in WORDS.into_iter().filter(|word| *word != "global") {
            let word = word.replace("NAME", "name");
            let Ok(KeyWord::Part(part)) = KeyWord::word(&word) else { panic!("{word}") };
            assert_eq!(part.written(), word);
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_key_part_panic(text in "\\PC{0,40}") {
            let _ = KeyWord::word(&text);
        }
    }
}
