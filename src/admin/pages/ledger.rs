//! The pages of the ledger: the words of a question, and the changes.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::Page;
use crate::admin::{Action, Erased};

/// The pairs of a query string. `+` stands for itself: it begins a time zone.
pub(super) fn words(query: &str) -> Vec<(String, String)> {
    let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').map_or_else(|| (plain(pair), String::new()), |(key, value)| (plain(key), plain(value)))).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Who {
    caller: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Where {
    file: PathBuf,
}

/// The change that a page and its body mean. The error is an example of the right body.
pub(super) fn action(page: &Page, body: &[u8]) -> Result<Action, &'static str> {
    if let Page::Erase = page {
        let who = serde_json::from_slice::<Who>(body).ok().filter(|who| !who.caller.is_empty());
        return who.map(|who| Action::Erase(Erased(who.caller))).ok_or(r#"say who: {"caller": "u-17"}"#);
    }
    let place = serde_json::from_slice::<Where>(body).ok().filter(|place| place.file.is_absolute());
    let file = place.ok_or(r#"say which file, by its whole path: {"file": "/backup/ledger.redb"}"#)?.file;
    Ok(if let Page::Snapshot = page { Action::Snapshot(file) } else { Action::Restore(file) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plus_is_a_plus_and_an_escape_is_read() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(words("tz=+02:00&caller=a%26b&x"), [pair("tz", "+02:00"), pair("caller", "a&b"), pair("x", "")]);
    }

    #[test]
    fn a_change_says_whom_or_where() {
        let of = |page: &Page, body: &str| action(page, body.as_bytes()).ok();
        assert_eq!(of(&Page::Erase, r#"{"caller": "u"}"#), Some(Action::Erase(Erased("u".into()))));
        assert_eq!(of(&Page::Snapshot, r#"{"file": "/x"}"#), Some(Action::Snapshot("/x".into())));
        assert_eq!(of(&Page::Restore, r#"{"file": "/x"}"#), Some(Action::Restore("/x".into())));
        for (page, body) in [(Page::Erase, r#"{"caller": ""}"#), (Page::Erase, "{}"), (Page::Snapshot, r#"{"file": "x"}"#)] {
            assert_eq!(of(&page, body), None, "{body}");
        }
    }
}
