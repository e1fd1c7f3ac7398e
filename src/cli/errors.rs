//! `outrigger errors`: the last failures of a running proxy, each with its story; once, or as they come.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use serde_json::Value;

use super::{
    control::get,
    said::{Common, Failure, Said},
    usage::escaped,
};

/// Pause between two looks with `--follow`.
const EVERY: Duration = Duration::from_secs(1);
/// Most failures of one page.
const PAGE: u64 = 1_000;

/// What `errors` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct ErrorsArgs {
    /// The first moment: a length of time before now (`15m`), a date, or a date and time.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// The last moment, in the same words.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only this route.
    #[arg(long)]
    route: Option<String>,
    /// Only this reason: `limited`, `breaker_open`, `connect_failed`, `status_5xx` ...
    #[arg(long)]
    reason: Option<String>,
    /// Only this kind: refused, timeout, client_error, server_error, upstream_broken, client_gone, stopped, rescued.
    #[arg(long)]
    kind: Option<String>,
    /// Only this caller.
    #[arg(long)]
    caller: Option<String>,
    /// Only this status: `502`, or `5xx` for all of a class.
    #[arg(long)]
    status: Option<String>,
    /// Only refusals by the limit of this name.
    #[arg(long, value_name = "LIMIT")]
    refused_by: Option<String>,
    /// Only exchanges with this target.
    #[arg(long)]
    target: Option<String>,
    /// Only this trace (32 hexadecimal digits).
    #[arg(long)]
    trace: Option<String>,
    /// Only this request id.
    #[arg(long)]
    request: Option<String>,
    /// Only this door: inbound or outbound.
    #[arg(long)]
    door: Option<String>,
    /// Most failures.
    #[arg(long, default_value_t = 100)]
    limit: u64,
    /// Go on: show each failure as it comes.
    #[arg(long, short)]
    follow: bool,
    /// How it is written; `json` with --follow is one object a line.
    #[arg(long, default_value = "table", value_parser = ["table", "json"])]
    format: String,
}

/// `outrigger errors`.
///
/// # Errors
/// The proxy cannot be reached, or the question is not valid.
pub async fn errors(common: &Common, args: ErrorsArgs) -> Result<Said, Failure> {
    let page = pages(common, &args, "").await?;
    let as_json = common.json || args.format == "json";
    if !args.follow {
        let text = if as_json { format!("{page:#}\n") } else { table(&page) };
        return Ok(Said::new(page, text));
    }
    let mut newest = page["newest"].as_str().unwrap_or("0").to_owned();
    let mut page = page;
    loop {
        // A reader that has left (`| head`) ends the watch.
        if write(&page, as_json).is_err() {
            return Ok(Said::nothing());
        }
        tokio::time::sleep(EVERY).await;
        page = pages(common, &args, &format!("&after={newest}")).await?;
        page["newest"].as_str().unwrap_or("0").clone_into(&mut newest);
    }
}

/// The failures that the arguments mean, the newest first, from as many pages as they take.
async fn pages(common: &Common, args: &ErrorsArgs, rest: &str) -> Result<Value, Failure> {
    let path = format!("/api/errors?{}{rest}", question(args));
    let mut page = get(common, &format!("{path}&limit={}", args.limit.clamp(1, PAGE))).await?;
    while let Some(next) = page["next"].as_str().map(str::to_owned) {
        let known = rows(&page).len() as u64;
        if known >= args.limit {
            break;
        }
        let mut more = get(common, &format!("{path}&before={next}&limit={}", (args.limit - known).clamp(1, PAGE))).await?;
        page["next"] = more["next"].take();
        if let (Some(rows), Value::Array(more)) = (page["failures"].as_array_mut(), more["failures"].take()) {
            rows.extend(more);
        }
    }
    Ok(page)
}

/// The arguments as the words of a query string.
fn question(args: &ErrorsArgs) -> String {
    let words = [
        ("since", &args.since),
        ("until", &args.until),
        ("route", &args.route),
        ("reason", &args.reason),
        ("kind", &args.kind),
        ("caller", &args.caller),
        ("status", &args.status),
        ("refused_by", &args.refused_by),
        ("target", &args.target),
        ("trace", &args.trace),
        ("request", &args.request),
        ("door", &args.door),
    ];
    let said = words.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", escaped(value.as_deref()?))));
    said.collect::<Vec<_>>().join("&")
}

fn rows(page: &Value) -> &[Value] {
    page["failures"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Writes the failures of a page in the order in which they came.
fn write(page: &Value, as_json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for row in rows(page).iter().rev() {
        if as_json { writeln!(out, "{row}")? } else { out.write_all(line(row).as_bytes())? }
    }
    out.flush()
}

/// The page as text, the oldest failure first: the newest stands where the eye is.
fn table(page: &Value) -> String {
    let rows = rows(page);
    if rows.is_empty() {
        return "no failure of this kind is kept\n".to_owned();
    }
    let mut text: String = rows.iter().rev().map(line).collect();
    if page["next"].is_string() {
        text += "(there are older ones: --limit)\n";
    }
    text
}

/// One failure: a line, and a line for each step.
fn line(row: &Value) -> String {
    let word = |name: &str| safe(row[name].as_str().unwrap_or_default());
    let status = row["status"].as_u64().map_or_else(|| "-".to_owned(), |status| status.to_string());
    let mut text = format!("{} {} {status} {} {}", word("timestamp"), word("door"), word("method"), word("path"));
    for name in ["kind", "reason", "route", "caller", "target", "limit", "model", "cause", "trace_id", "request_id"] {
        let value = word(name);
        let says_it_again = name == "reason" && row["reason"] == row["kind"];
        if !value.is_empty() && !says_it_again {
            text += &format!(" {name}={value}");
        }
    }
    text += &format!(" {}ms", row["duration_ms"]);
    if let Some(cost) = row["cost_usd"].as_f64() {
        text += &format!(" ${cost}");
    }
    text.push('\n');
    if !word("detail").is_empty() {
        text += &format!("    {}\n", word("detail"));
    }
    row["steps"].as_array().into_iter().flatten().for_each(|one| text += &step(one));
    text
}

fn step(step: &Value) -> String {
    let word = |name: &str| safe(step[name].as_str().unwrap_or_default());
    let mut text = format!("    {:>9}ms {} {}", step["at_ms"].to_string(), word("target"), word("result"));
    if let Some(status) = step["status"].as_u64() {
        text += &format!(" {status}");
    }
    text += &format!(" in {}ms, {}", step["ms"], word("then").replace('_', " "));
    for (name, value) in [("model", word("model")), ("why", word("why")), ("breaker", word("breaker"))] {
        if !value.is_empty() {
            text += &format!(", {name} {value}");
        }
    }
    if !step["pause_ms"].is_null() {
        text += &format!(" after {}ms", step["pause_ms"]);
    }
    text.push('\n');
    text
}

/// A client chooses some of these words: no character may control a terminal.
fn safe(text: &str) -> String {
    text.replace(|c: char| c.is_control(), "?")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_failure_is_a_line_and_a_line_for_each_step() {
        let row = json!({
            "timestamp": "2027-01-15T08:00:00.000Z", "door": "inbound", "status": 503, "method": "GET", "path": "/a\u{1b}[2J", "kind": "server_error",
            "reason": "status_5xx", "route": "api", "duration_ms": 1020.5, "detail": "", "request_id": "r",
            "steps": [
                {"at_ms": 0.3, "target": "app", "status": 503, "result": "status_5xx", "ms": 20, "then": "retried", "pause_ms": 1000, "breaker": "closed"},
                {"at_ms": 1020, "target": "app", "result": "breaker_open", "ms": 0, "then": "gave_up"},
            ],
        });
        assert_eq!(
            line(&row),
            "2027-01-15T08:00:00.000Z inbound 503 GET /a?[2J kind=server_error reason=status_5xx route=api request_id=r 1020.5ms\n\
             \u{20}         0.3ms app status_5xx 503 in 20ms, retried, breaker closed after 1000ms\n\
             \u{20}        1020ms app breaker_open in 0ms, gave up\n"
        );
        assert!(table(&json!({"failures": []})).contains("no failure"));
    }

    #[test]
    fn a_value_of_the_question_is_escaped() {
        let args = ErrorsArgs {
            refused_by: None,
            since: Some("15m".into()),
            until: None,
            route: Some("a&b".into()),
            reason: None,
            kind: None,
            caller: None,
            status: None,
            target: None,
            trace: None,
            request: None,
            door: None,
            limit: 1,
            follow: false,
            format: "table".into(),
        };
        assert_eq!(question(&args), "since=15m&route=a%26b");
    }
}
