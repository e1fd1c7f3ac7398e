//! Words from a fixed list, and words with a prefix such as `header:x-user-id`: reading and messages.

use crate::config::error::{did_you_mean, quoted};

/// The value of a word from a fixed list; the error names the nearest word, or all.
pub(in crate::config) fn one_of<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let hint = did_you_mean(text, choices.iter().map(|(word, _)| *word));
    let list: Vec<String> = choices.iter().map(|(word, _)| format!("`{word}`")).collect();
    let hint = if hint.is_empty() { format!("; write {}", either(&list)) } else { hint };
    Err(format!("{} is unknown{hint}", quoted(text)))
}

fn either(list: &[String]) -> String {
    match list {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

/// Reads each type from its words.
macro_rules! words {
    ($($kind:ty: $($word:literal => $value:expr),+;)+) => {$(
        impl $crate::config::scalars::Word for $kind {
            fn word(text: &str) -> Result<Self, String> {
                $crate::config::scalars::one_of(text, &[$(($word, $value)),+])
            }
        }
    )+};
}
pub(in crate::config) use words;

/// The message of a word that is none of `choices`.
pub(in crate::config) fn unknown(text: &str, choices: &[&str]) -> String {
    let hint = did_you_mean(text, choices.iter().copied());
    let list: Vec<String> = choices.iter().map(|word| format!("`{word}`")).collect();
    let hint = match hint.is_empty() {
        false => hint,
        // Header names are the usual keys, and the prefix is the usual thing to forget.
        true if text.contains('-') && token(text) => format!("; did you mean `header:{text}`?"),
        true => format!("; write {}", either(&list)),
    };
    format!("{} is unknown{hint}", quoted(text))
}

/// The message of a word about JWT.
pub(in crate::config) fn no_jwt() -> String {
    "name the claim, as in `jwt:org`: `jwt:CLAIM`".into()
}

/// Whether the text is a token (RFC 9110 section 5.6.2).
pub(in crate::config) fn token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}
