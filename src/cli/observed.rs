//! `outrigger observed`: the requests that policies in `observe` would have refused, and why.

use serde_json::Value;

use super::{
    control::get,
    said::{Common, Failure, Said},
    usage::escaped,
};

/// What `observed` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct ObservedArgs {
    /// Only this policy: `access`, `auth`, `csrf`, `validate`, `bans` ..., or the name of a limit.
    #[arg(long)]
    policy: Option<String>,
    /// Only this route.
    #[arg(long)]
    route: Option<String>,
    /// Only this caller.
    #[arg(long)]
    caller: Option<String>,
    /// The first moment: a length of time before now (`15m`), a date, or a date and time.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// The last moment, in the same words.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Most requests.
    #[arg(long, default_value_t = 100)]
    limit: u64,
}

/// `outrigger observed`.
///
/// # Errors
/// The proxy cannot be reached, or the question is not valid.
pub async fn observed(common: &Common, args: ObservedArgs) -> Result<Said, Failure> {
    let words =
        [("policy", &args.policy), ("route", &args.route), ("caller", &args.caller), ("since", &args.since), ("until", &args.until)];
    let set = words.into_iter().filter_map(|(key, value)| Some(format!("{key}={}&", escaped(value.as_ref()?))));
    let page = get(common, &format!("/api/observed?{}limit={}", set.collect::<String>(), args.limit)).await?;
    let text = table(&page);
    Ok(Said::new(page, text))
}

/// The page as text: a line for each request, and one for each reason.
fn table(page: &Value) -> String {
    let rows = page["observed"].as_array().map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() {
        return "no policy that observes would have refused a request\n".to_owned();
    }
    let mut text = String::new();
    for row in rows {
        // A client chooses names and paths: no character of them may control a terminal.
        let word = |value: &Value| value.as_str().unwrap_or("-").replace(|c: char| c.is_control(), "?");
        let [at, door, route, method, path] = ["at", "door", "route", "method", "path"].map(|name| word(&row[name]));
        let (caller, address, id) = (word(&row["caller"]), word(&row["address"]), word(&row["request_id"]));
        text += &format!("{at}  {door} {route}  {method} {path}  {}  caller {caller}  from {address}  {id}\n", row["status"]);
        for by in row["would_refuse"].as_array().into_iter().flatten() {
            text += &format!("    {}: {}\n", word(&by["policy"]), word(&by["why"]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_is_a_line_and_a_line_for_each_reason() {
        let by = json!([{"policy": "csrf", "why": "another site"}, {"policy": "pace", "why": null}]);
        let row = json!({"at": "T", "door": "inbound", "route": "api", "method": "POST", "path": "/a\u{1b}", "status": 200, "caller": null,
            "address": "192.0.2.1", "request_id": "r", "would_refuse": by});
        let text = table(&json!({"observed": [row]}));
        assert_eq!(text, "T  inbound api  POST /a?  200  caller -  from 192.0.2.1  r\n    csrf: another site\n    pace: -\n");
        assert!(table(&json!({"observed": []})).starts_with("no policy"));
    }
}
