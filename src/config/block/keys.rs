//! `outbound.providers.NAME.keys`: the keys that replace the app's credential. Several keys are a pool: each has a name, under which
//! metrics, log and page know it, and a weight.

use std::sync::Arc;

use serde::Deserialize;

use crate::config::{
    Secret,
    build::{Build, small},
    error::quoted,
    scalars::{Count, W, Word},
    schema::{
        Json, Key, Kind, Scalar, Table,
        kinds::{COUNT_OF, SECRET},
    },
    secrecy::is_secret_value,
    written::Items,
};

/// A key of a provider.
#[derive(Debug, Clone, PartialEq)]
pub struct ProviderKey {
    /// Its name; where none is written its place, from 1.
    pub name: Arc<str>,
    /// The key itself.
    pub secret: Secret,
    /// Its share of the calls, beside the weights of the other keys; 1 to 100.
    pub weight: u32,
}

/// Most keys of a provider.
const MOST: usize = 64;

/// Name of a key. It stands in names of breakers, between `#` and `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct KeyName(String);

impl Word for KeyName {
    fn word(text: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if is_secret_value(text) {
            Err("looks like a key; a name is shown in metrics and logs".into())
        } else if (1..=64).contains(&text.len()) && text.chars().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("{} is not a name of a key; use up to 64 letters, digits and - _ .", quoted(text)))
        }
    }
}

/// A key as written: the secret alone, or with its name and weight.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(in crate::config) enum Written {
    Plain(W<Secret>),
    Named(Named),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Named {
    key: Option<W<Secret>>,
    name: Option<W<KeyName>>,
    weight: W<Count>,
}

const NAME: Kind = Kind::Scalar(&Scalar::new::<KeyName>("a name of a key", Json::Pattern("^[A-Za-z0-9_.-]{1,64}$"), "team-a"));

static TABLE: Table = Table::new(
    "provider key",
    "A key of a provider with its name and weight.",
    &[
        Key::new("key", SECRET, "The key; one that expands to nothing is left out.").eg("\"${OPENAI_KEY_TEAM_A:-}\""),
        Key::new("name", NAME, "Its name in metrics, log, spans and on the page.").says("its place: 1, 2, 3"),
        Key::new("weight", COUNT_OF, "Its share of the calls, beside the other keys' weights.").within("1", "100").default("1"),
    ],
)
.at_least_one(&[&["key"]])
.foreign(&[("secret", "write `key`"), ("value", "write `key`"), ("api_key", "write `key`"), ("models", "models are matched in routes")]);

const KIND: &Kind = &Kind::Either(&[SECRET, Kind::Table(&TABLE)]);

/// The row of the provider.
pub(in crate::config) const ROW: Key = Key::new(
    "keys",
    Kind::OneOrMany(KIND),
    "Keys that replace the app's credential; without any, the app's own passes through. Of several the next in turn is used, by weight; \
     one that is throttled, spent or refused rests, and the others serve.",
)
.eg("[\"${OPENAI_API_KEY:-}\"]");

/// The keys as meant. One that expands to nothing is left out; the others keep their places as names.
pub(in crate::config) fn build(build: &mut Build<'_>, path: &str, written: Items<Written>) -> Vec<ProviderKey> {
    let mut out: Vec<ProviderKey> = Vec::new();
    let count = written.len();
    for (n, item) in written.into_iter().enumerate().filter_map(|(n, item)| Some((n, item?))) {
        let (secret, name, weight) = match item {
            Written::Plain(secret) => (Some(secret), None, 1),
            Written::Named(Named { key, name, weight }) => (key, name, small(&weight)),
        };
        let Some(W(secret)) = secret else { continue };
        let at = if count > 1 || build.seen.written(&format!("{path}[0]")) { format!("{path}[{n}]") } else { path.to_owned() };
        let name: Arc<str> = name.map_or_else(|| (n + 1).to_string(), |name| name.0.0).into();
        if out.iter().any(|key| key.name == name) {
            build.fault(build.seen.value(&at), format!("two keys are called {}; give each its own `name`", quoted(&name)));
        }
        if let Some(twin) = out.iter().find(|key| key.secret == secret) {
            let message = format!("this key is the same as the key `{}`: both rest together", twin.name);
            build.note(build.seen.value(&at), message);
        }
        out.push(ProviderKey { name, secret, weight });
    }
    if out.len() > MOST {
        build.fault(build.seen.value(path), format!("a provider has at most {MOST} keys; these are {}", out.len()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        scalars::tests::refused,
        testing::{bad, good, says},
    };

    fn keys(text: &str) -> Vec<(String, String, u32)> {
        let config = good(&format!("outbound: {{providers: {{openai: {{keys: {text}}}}}}}\n"));
        let keys = config.outbound.expect("open").providers.remove(0).keys;
        keys.into_iter().map(|key| (key.name.to_string(), key.secret.reveal().to_owned(), key.weight)).collect()
    }

    fn key(name: &str, secret: &str, weight: u32) -> (String, String, u32) {
        (name.into(), secret.into(), weight)
    }

    #[test]
    fn a_key_is_a_secret_or_has_a_name_and_a_weight() {
        assert_eq!(keys("one"), [key("1", "one", 1)]);
        assert_eq!(keys("[one, two]"), [key("1", "one", 1), key("2", "two", 1)]);
        assert_eq!(keys("{key: one, name: team-a}"), [key("team-a", "one", 1)]);
        assert_eq!(keys("[{key: one, name: team-a, weight: 3}, two]"), [key("team-a", "one", 3), key("2", "two", 1)]);
        assert_eq!(keys("[\"${EMPTY}\", two, {key: \"${EMPTY}\", name: c}]"), [key("2", "two", 1)], "what expands to nothing is left out");
        assert_eq!(keys("[]"), []);
    }

    #[test]
    fn what_is_wrong_is_said_without_the_key() {
        let text = |keys: &str| format!("outbound: {{providers: {{openai: {{keys: {keys}}}}}}}\n");
        says(&text("[{key: one, name: \"2\"}, two]"), "1:63", "two keys are called `2`");
        says(&text("[{key: one, weight: 0}]"), "1:59", "write 1 to 100");
        says(&text("[{kye: one}]"), "1:41", "did you mean `key`");
        says(&text("[{key: one, secret: two}]"), "1:51", "write `key`");
        says(&text("[[one]]"), "1:40", "must be a secret or a block of keys");
        let many = (0..65).map(|n| format!("k{n}")).collect::<Vec<_>>().join(", ");
        says(&text(&format!("[{many}]")), "1:39", "at most 64 keys; these are 65");
        let shown = bad(&text("[{key: one, name: sk-proj-abcdefghijk}]")).concat();
        assert!(shown.contains("looks like a key") && !shown.contains("abcdef"), "{shown}");
        refused::<KeyName>("a/b", "letters, digits");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_a_name_panic(text in "\\PC{0,40}") {
            let _ = KeyName::word(&text);
        }
    }
}
