//! The pages that change limits by hand: what their bodies say.

use serde::Deserialize;

use super::Page;
use crate::admin::{Action, LimitOrder};

/// A raise of more is a mistake of the hand: the limit could be left out.
const MOST_PERCENT: f64 = 100_000.0;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    limit: Option<String>,
    key: Option<String>,
    times: Option<f64>,
    #[serde(rename = "for")]
    time: Option<String>,
}

/// The change that a page and its body mean.
///
/// # Errors
/// What is wrong with the body, and an example of the right one.
pub(super) fn action(page: &Page, body: &[u8]) -> Result<Action, String> {
    const RAISE: &str = r#"{"limit": "budget", "key": "user-42", "times": 2, "for": "1h"}"#;
    let raises = matches!(page, Page::RaiseLimit);
    let example = if raises { RAISE } else { r#"{"limit": "budget", "key": "user-42"}"# };
    let said: Body = serde_json::from_slice(body).map_err(|error| format!("{error}; write {example}"))?;
    let order = match (raises, said.times, &said.time) {
        (false, None, None) => LimitOrder::Reset,
        (true, Some(times), Some(time)) => {
            let percent = (times * 100.0).round();
            if !(100.0..=MOST_PERCENT).contains(&percent) {
                return Err(format!("`times` is from 1 to 1000; write {RAISE}"));
            }
            let time = humantime::parse_duration(time).map_err(|error| format!("`for`: {error}; write {RAISE}"))?;
            LimitOrder::Raise { percent: percent as u32, time }
        }
        _ => return Err(format!("write {example}")),
    };
    Ok(Action::Limit { limit: said.limit, key: said.key, order })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_body_says_whose_counter_and_what_becomes_of_it() {
        let of = |page: &Page, body: &str| action(page, body.as_bytes());
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            of(&Page::ResetLimit, r#"{"key": "user-42"}"#),
            Ok(Action::Limit { limit: None, key: some("user-42"), order: LimitOrder::Reset })
        );
        let order = LimitOrder::Raise { percent: 150, time: Duration::from_secs(3600) };
        assert_eq!(
            of(&Page::RaiseLimit, r#"{"limit": "budget", "times": 1.5, "for": "1h"}"#),
            Ok(Action::Limit { limit: some("budget"), key: None, order })
        );
        for (page, body) in [
            (Page::ResetLimit, r#"{"times": 2}"#),
            (Page::RaiseLimit, r#"{"limit": "budget"}"#),
            (Page::RaiseLimit, r#"{"limit": "budget", "times": 0.5, "for": "1h"}"#),
            (Page::RaiseLimit, r#"{"limit": "budget", "times": 2, "for": "soon"}"#),
            (Page::RaiseLimit, "{"),
        ] {
            assert!(of(&page, body).is_err_and(|why| why.contains("write {")), "{body}");
        }
    }
}
