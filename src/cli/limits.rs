//! `outrigger limits`: how the limits of a running proxy stand, and a counter that begins anew or may go further for a while.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    control::{act, get},
    said::{Common, Failure, Said},
};
use crate::config::human;

/// What `limits` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct LimitsArgs {
    /// The limit of this name alone.
    #[arg(long)]
    limit: Option<String>,
    /// The counter of this owner alone: a caller, an address, a provider or a model, as the limit's `key` says; several with commas.
    #[arg(long)]
    key: Option<String>,
    /// Begin the counter anew.
    #[arg(long, conflicts_with = "raise")]
    reset: bool,
    /// Let it go so many times as far, for the time of `--for`: `2x`.
    #[arg(long, value_name = "TIMES", value_parser = times, requires = "time")]
    raise: Option<f64>,
    /// How long `--raise` holds, such as `1h`.
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration, requires = "raise")]
    time: Option<Duration>,
}

/// `2x`, `1.5x` or `2`.
fn times(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('x').unwrap_or(text).parse::<f64>().ok().filter(|number| (1.0..=1000.0).contains(number));
    number.ok_or_else(|| format!("`{text}` is no number of times; write 2x, from 1x to 1000x"))
}

/// `outrigger limits`.
///
/// # Errors
/// The proxy cannot be reached, or the order means nothing for any of its limits.
pub async fn limits(common: &Common, args: LimitsArgs) -> Result<Said, Failure> {
    let body = |more: Value| {
        let mut body = json!({"limit": args.limit, "key": args.key});
        body.as_object_mut().into_iter().for_each(|body| body.extend(more.as_object().cloned().unwrap_or_default()));
        body
    };
    let whose = args.key.as_deref().map(|key| format!(" of {key}")).unwrap_or_default();
    if args.reset {
        let done = act(common, "/api/limits/reset", Some(&body(json!({})))).await?;
        let told = |one: &Value| match one["counted"] == true {
            true => format!("{}: the counter{whose} begins anew", word(&one["limit"])),
            false => format!("{}: nothing was counted{whose}", word(&one["limit"])),
        };
        let text = lines(&done["done"], told);
        return Ok(Said::new(done, text));
    }
    if let (Some(times), Some(time)) = (args.raise, args.time) {
        let more = json!({"times": times, "for": humantime::format_duration(time).to_string()});
        let done = act(common, "/api/limits/raise", Some(&body(more))).await?;
        let told =
            |one: &Value| format!("{}: {times} times as much{whose} for {}, in this process", word(&one["limit"]), human::wait(time));
        let text = lines(&done["done"], told);
        return Ok(Said::new(done, text));
    }
    let page = get(common, "/api/limits").await?;
    let shown = narrowed(page, args.limit.as_deref(), args.key.as_deref());
    let text = table(&shown);
    Ok(Said::new(shown, text))
}

fn lines(list: &Value, told: impl Fn(&Value) -> String) -> String {
    list.as_array().into_iter().flatten().map(|one| told(one) + "\n").collect()
}

/// The page with the rows of one limit, or of one owner, alone.
fn narrowed(mut page: Value, limit: Option<&str>, key: Option<&str>) -> Value {
    for (list, name) in [("limits", "name"), ("budgets", "limit"), ("near", "limit"), ("raised", "limit")] {
        let Some(rows) = page[list].as_array_mut() else { continue };
        rows.retain(|row| limit.is_none_or(|limit| row[name] == limit));
        if let Some(key) = key.filter(|_| list != "limits") {
            rows.retain(|row| row["who"].as_str().is_some_and(|who| who.contains(key)));
        }
    }
    page
}

/// A client chooses names: no character of them may control a terminal.
fn word(value: &Value) -> String {
    value.as_str().unwrap_or("-").replace(|c: char| c.is_control(), "?")
}

fn table(page: &Value) -> String {
    let rows = |list: &str| page[list].as_array().cloned().unwrap_or_default();
    if rows("limits").is_empty() {
        return "there is no such limit\n".to_owned();
    }
    let mut text = format!("{:<10} {:<40} {:>10} {:>10} {:>10}\n", "door", "limit", "admitted", "refused", "observed");
    for row in rows("limits") {
        let (door, name) = (word(&row["door"]), word(&row["name"]));
        let count = |name: &str| row[name].as_u64().unwrap_or_default();
        text += &format!("{door:<10} {name:<40} {:>10} {:>10} {:>10}\n", count("admitted"), count("refused"), count("observed"));
    }
    let mut told: Vec<Value> = Vec::new();
    for row in rows("budgets").into_iter().chain(rows("near")) {
        if !told.iter().any(|known| known["limit"] == row["limit"] && known["who"] == row["who"]) {
            told.push(row);
        }
    }
    if !told.is_empty() {
        text += "\nused\n";
    }
    for row in told {
        let who = if row["who"].is_null() { "everybody".to_owned() } else { word(&row["who"]) };
        let spent = match (row["spent"] == true, row["spent_at"].as_str()) {
            (true, _) => "; spent".to_owned(),
            (_, Some(at)) => format!("; at this rate it is spent at {at}"),
            _ => String::new(),
        };
        text += &format!("  {} ({who}): {}{spent}\n", word(&row["limit"]), word(&row["text"]));
    }
    for row in rows("raised") {
        let who = if row["who"].is_null() { "everybody".to_owned() } else { word(&row["who"]) };
        let times = row["times"].as_f64().unwrap_or(1.0);
        let left = human::wait(Duration::from_secs_f64(row["left_seconds"].as_f64().unwrap_or_default().max(0.0)));
        text += &format!("\nraised  {} ({who}): {times} times as much for {left} more\n", word(&row["limit"]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_a_table_of_one_limit_or_one_owner() {
        let page = json!({
            "limits": [{"door": "inbound", "name": "spend", "admitted": 7, "refused": 2, "observed": 0}, {"door": "outbound", "name": "budget", "admitted": 1, "refused": 0, "observed": 0}],
            "budgets": [{"limit": "budget", "who": null, "text": "$25 of $25 per day", "spent": true, "spent_at": "2026-12-01T11:00:00Z"}],
            "near": [{"limit": "spend", "who": "caller u-42\u{1b}", "text": "$0.40 of $0.50 per hour", "spent_at": "2026-12-01T12:00:00Z"}],
            "raised": [{"limit": "spend", "who": "u-42", "times": 2.0, "left_seconds": 60.0}],
        });
        let text = table(&narrowed(page.clone(), None, None));
        for part in [
            "everybody): $25 of $25 per day; spent\n",
            "caller u-42?): $0.40 of $0.50 per hour; at this rate",
            "raised  spend (u-42): 2 times as much for 1 min",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let text = table(&narrowed(page.clone(), Some("spend"), Some("u-42")));
        assert!(text.contains("caller u-42") && !text.contains("budget"), "{text}");
        assert_eq!(table(&narrowed(page, Some("nothing"), None)), "there is no such limit\n");
        assert_eq!((times("2x"), times("1.5"), times("0.5x").is_err(), times("x").is_err()), (Ok(2.0), Ok(1.5), true, true));
    }
}
