//! The pages that change the configuration: what their bodies say.

use serde::Deserialize;

use super::Page;
use crate::{
    admin::{Action, By, Change},
    config::read::edit::Edit,
    store::versions::MAX_NOTE,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    edits: Vec<Edit>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Apply {
    base: String,
    edits: Vec<Edit>,
    note: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RollBack {
    version: u64,
    base: Option<String>,
    note: Option<String>,
    #[serde(default)]
    plan: bool,
}

/// The change that a page and its body mean.
///
/// # Errors
/// What is wrong with the body, and an example of the right one.
pub(super) fn action(page: &Page, body: &[u8], who: &str) -> Result<Action, String> {
    let by = |base: Option<String>, note: Option<String>| match note {
        Some(note) if note.len() > MAX_NOTE => Err(format!("the note is longer than {MAX_NOTE} bytes")),
        note => Ok(By { who: who.to_owned(), base, note }),
    };
    match page {
        Page::PlanConfig => {
            let Plan { edits } = read(body, r#"{"edits": [{"op": "set", "path": "inbound.routes[0].cache.mode", "value": "observe"}]}"#)?;
            Ok(Action::Plan(Change::Edits(edits)))
        }
        Page::RollBack => {
            let said: RollBack = read(body, r#"{"version": 3}, or {"version": 3, "plan": true} for the difference alone"#)?;
            let change = Change::Version(said.version);
            if said.plan { Ok(Action::Plan(change)) } else { Ok(Action::Change(change, by(said.base, said.note)?)) }
        }
        _ => {
            let Apply { base, edits, note } = read(body, r#"{"base": "HASH of the plan", "edits": [...]}"#)?;
            Ok(Action::Change(Change::Edits(edits), by(Some(base), note)?))
        }
    }
}

fn read<'b, T: Deserialize<'b>>(body: &'b [u8], example: &str) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("{error}; write {example}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_says_what_changes_and_an_unknown_word_is_refused() {
        let of = |page: &Page, body: &str| action(page, body.as_bytes(), "ci");
        let edits = vec![Edit::Remove { path: "a.b".into() }];
        let by = |base: Option<&str>| By { who: "ci".into(), base: base.map(Into::into), note: None };
        assert_eq!(
            of(&Page::PlanConfig, r#"{"edits": [{"op": "remove", "path": "a.b"}]}"#),
            Ok(Action::Plan(Change::Edits(edits.clone())))
        );
        assert_eq!(
            of(&Page::ApplyConfig, r#"{"base": "h", "edits": [{"op": "remove", "path": "a.b"}]}"#),
            Ok(Action::Change(Change::Edits(edits), by(Some("h"))))
        );
        assert_eq!(of(&Page::RollBack, r#"{"version": 3}"#), Ok(Action::Change(Change::Version(3), by(None))));
        assert_eq!(of(&Page::RollBack, r#"{"version": 3, "plan": true}"#), Ok(Action::Plan(Change::Version(3))));
        for (page, body) in [
            (Page::PlanConfig, r#"{"edits": [{"op": "move", "path": "a"}]}"#),
            (Page::PlanConfig, r#"{"edits": [{"op": "remove", "path": "a", "value": 1}]}"#),
            (Page::ApplyConfig, r#"{"edits": []}"#),
            (Page::RollBack, "{}"),
        ] {
            assert!(of(&page, body).is_err_and(|why| why.contains("; write {")), "{body}");
        }
        let long = format!(r#"{{"version": 1, "note": "{}"}}"#, "x".repeat(MAX_NOTE + 1));
        assert!(of(&Page::RollBack, &long).is_err_and(|why| why.contains("note")));
    }
}
