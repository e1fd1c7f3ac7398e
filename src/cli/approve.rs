//! `outrigger approve`: the requests that wait for a yes because their limit is spent, and the answer to one of them.

use serde_json::Value;

use super::{
    control::{act, get},
    said::{Common, Failure, Said},
};

/// What `approve` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct ApproveArgs {
    /// The id of a held request. Without one: all that are held.
    id: Option<String>,
    /// Say no instead: the request is refused at once.
    #[arg(long, requires = "id")]
    decline: bool,
}

/// `outrigger approve`.
///
/// # Errors
/// The proxy cannot be reached, or no request is held under that id.
pub async fn approve(common: &Common, args: ApproveArgs) -> Result<Said, Failure> {
    let Some(id) = args.id else {
        let page = get(common, "/api/approvals").await?;
        let text = table(&page);
        return Ok(Said::new(page, text));
    };
    let id = percent_encoding::utf8_percent_encode(&id, percent_encoding::NON_ALPHANUMERIC).to_string();
    let path = format!("/api/approvals/{id}{}", if args.decline { "/decline" } else { "" });
    let done = act(common, &path, None).await?;
    Ok(Said::line(done, if args.decline { "declined: it is refused" } else { "approved: it goes on, and is charged" }))
}

/// The page as a table.
fn table(page: &Value) -> String {
    let rows = page["held"].as_array().map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() {
        return "nothing waits for a yes\n".to_owned();
    }
    let mut text = format!("{:<10} {:<20} {:<20} {:<20} {:>12}  what\n", "id", "since", "limit", "caller", "usd");
    for row in rows {
        // A client chooses names and paths: no character of them may control a terminal.
        let word = |name: &str| row[name].as_str().unwrap_or("-").replace(|c: char| c.is_control(), "?");
        let (id, since, limit, caller) = (word("id"), word("since"), word("limit"), word("caller"));
        text += &format!("{id:<10} {since:<20} {limit:<20} {caller:<20} {:>12}  {}\n", word("expected_usd"), word("what"));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_held_request_is_a_row() {
        let page = json!({"held": [{"id": "00c0ffee", "since": "2026-11-30T12:00:00Z", "limit": "budget", "caller": null,
            "what": "openai gpt-4o\u{1b}", "expected_usd": "0.25"}]});
        let text = table(&page);
        let line: Vec<&str> = text.lines().nth(1).expect("a row").split_whitespace().collect();
        assert_eq!(line, ["00c0ffee", "2026-11-30T12:00:00Z", "budget", "-", "0.25", "openai", "gpt-4o?"]);
        assert!(table(&json!({"held": []})).contains("nothing waits"));
    }
}
