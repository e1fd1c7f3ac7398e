//! `outrigger top`: the cache keys of a running proxy that save most, as a table.

use serde_json::Value;

use super::{
    control::get,
    said::{Common, Failure, Said},
};

/// What `top` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct TopArgs {
    /// What the keys are ordered by. With --json the keys that `purge --key` takes stand beside them.
    #[arg(long, default_value = "time", value_parser = ["time", "usd", "requests", "tokens"])]
    by: String,
}

/// `outrigger top`.
///
/// # Errors
/// When the proxy cannot be reached.
pub async fn top(common: &Common, args: TopArgs) -> Result<Said, Failure> {
    let page = get(common, &format!("/api/cache/top?by={}", args.by)).await?;
    let text = table(&page);
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
    }
}
