//! `outrigger top --by`: the cache keys of a running proxy that save most, as a table, and how its budgets stand.

use serde_json::Value;

use crate::cli::{
    control::get,
    said::{Common, Failure, Said},
};

/// `outrigger top --by ...`.
///
/// # Errors
/// When the proxy cannot be reached.
pub(super) async fn top(common: &Common, by: &str) -> Result<Said, Failure> {
    let mut page = get(common, &format!("/api/cache/top?by={by}")).await?;
    let limits = get(common, "/api/limits").await?;
    let text = table(&page) + &budgets(&limits["budgets"]);
    page["budgets"] = limits["budgets"].clone();
    Ok(Said::new(page, text))
}

/// The page as a table; a page without keys says so.
fn table(page: &Value) -> String {
    let rows = page["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() {
        return "nothing was answered from the cache yet\n".into();
    }
    let mut text = format!("{:>10} {:>12} {:>12} {:>14}  {:<20} what\n", "requests", "seconds", "tokens", "usd", "route");
    for row in rows {
        let (saved, word) = (&row["saved"], |name: &str| row[name].as_str().unwrap_or_default());
        text += &format!(
            "{:>10} {:>12.3} {:>12} {:>14}  {:<20} {}\n",
            saved["requests"].as_u64().unwrap_or_default(),
            saved["seconds"].as_f64().unwrap_or_default(),
            saved["tokens"].as_u64().unwrap_or_default(),
            saved["usd"].as_str().unwrap_or_default(),
            word("route"),
            // A client chooses the path: no character of it may control a terminal.
            word("what").replace(|c: char| c.is_control(), "?"),
        );
    }
    text
}

/// The budgets that are watched, each with the time at which it will be spent.
fn budgets(rows: &Value) -> String {
    let mut text = String::new();
    for row in rows.as_array().into_iter().flatten() {
        let word = |name: &str| row[name].as_str().unwrap_or_default().replace(|c: char| c.is_control(), "?");
        let who = if row["who"].is_null() { "everybody".to_owned() } else { word("who") };
        let at = row["spent_at"].as_str().map(|at| format!("; spent at {at} at this rate")).unwrap_or_default();
        text += &format!("\nlimit {}, {who}: {} used{at}", word("limit"), word("text"));
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_a_key() {
        let page = json!({"by": "time", "keys": [
            {"what": "GET shop.example/a\u{1b}[2J", "route": "r", "key": "00", "saved": {"requests": 3, "seconds": 1.5, "tokens": 0, "usd": "0.000000000"}},
        ]});
        let text = table(&page);
        let line: Vec<&str> = text.lines().nth(1).expect("a row").split_whitespace().collect();
        assert_eq!(line, ["3", "1.500", "0", "0.000000000", "r", "GET", "shop.example/a?[2J"]);
        assert!(table(&json!({"keys": []})).contains("nothing"));
        let rows = json!([{"limit": "budget", "who": null, "text": "$20 of $25 per day", "spent_at": "2026-11-30T20:00:00Z"}]);
        assert_eq!(budgets(&rows), "\nlimit budget, everybody: $20 of $25 per day used; spent at 2026-11-30T20:00:00Z at this rate\n");
        assert_eq!(budgets(&json!([])), "");
    }
}
