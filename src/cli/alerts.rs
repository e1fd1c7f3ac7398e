//! `outrigger alerts`: the incidents that are open, who is told of them, and a test of a channel.

use serde_json::Value;

use super::{
    control::{act, get},
    said::{Common, Failure, Said},
};
use crate::alert::runbook;

/// What `alerts` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct AlertsArgs {
    #[command(subcommand)]
    act: Option<AlertsAct>,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum AlertsAct {
    /// Show the open incidents and the channels; the same as no word at all.
    List,
    /// Send a test notice to a channel now.
    Test {
        /// The channel, as named in `alerts.channels`.
        name: String,
    },
    /// Say what to do about incidents of a measure, or of every one. No proxy is asked.
    Runbook {
        /// The measure, such as error_rate.
        measure: Option<String>,
    },
}

/// `outrigger alerts`.
///
/// # Errors
/// The proxy cannot be reached, has no such channel, or the channel does not take the test.
pub async fn alerts(common: &Common, args: AlertsArgs) -> Result<Said, Failure> {
    if let Some(AlertsAct::Test { name }) = &args.act {
        let encoded = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
        let done = act(common, &format!("/api/alerts/{encoded}/test"), None).await?;
        let means = done["means"].as_str().unwrap_or_default().to_owned();
        return Ok(Said::line(done, format!("{name} ({means}) has taken the test")));
    }
    if let Some(AlertsAct::Runbook { measure }) = args.act {
        return what_to_do(measure.as_deref());
    }
    let page = get(common, "/api/alerts").await?;
    let text = told(&page);
    Ok(Said::new(page, text))
}

/// What to do about incidents of a measure.
fn what_to_do(measure: Option<&str>) -> Result<Said, Failure> {
    let known: Vec<&str> = runbook::measures().collect();
    let wanted: Vec<&str> = known.iter().copied().filter(|one| measure.is_none_or(|measure| measure == *one)).collect();
    if wanted.is_empty() {
        return Err(Failure::Words(format!("{} is no measure; known are {}", measure.unwrap_or_default(), known.join(", "))));
    }
    let text: String = wanted.iter().map(|one| format!("{one}\n  {}\n", runbook::advice(one))).collect();
    let all: serde_json::Map<String, Value> = wanted.iter().map(|one| ((*one).to_owned(), runbook::advice(one).into())).collect();
    Ok(Said::new(all.into(), text))
}

/// The page as tables.
fn told(page: &Value) -> String {
    if page["on"] != true {
        return "there are no alerts: write `alerts: {}` in proxy.yaml\n".to_owned();
    }
    // Names of routes, callers and models come from outside: no character of them may control a terminal.
    let word = |row: &Value, name: &str| row[name].as_str().unwrap_or("-").replace(|c: char| c.is_control(), "?");
    let rows = |name: &str| page[name].as_array().map(Vec::as_slice).unwrap_or_default().to_vec();
    let incidents = rows("incidents");
    let mut text = String::new();
    if incidents.is_empty() {
        text += "no incident is open\n";
    } else {
        text += &format!("{:<9} {:<14} {:<32} {:<20}  what\n", "severity", "rule", "subject", "since");
    }
    for row in &incidents {
        let [severity, rule, subject, since] = ["severity", "rule", "subject", "since"].map(|name| word(row, name));
        text += &format!("{severity:<9} {rule:<14} {subject:<32} {since:<20}  {}\n", word(row, "says"));
    }
    if page["kept"] == false {
        text += "incidents are in memory alone: a restart forgets them (store.state_dir keeps them)\n";
    }
    let channels = rows("channels");
    if channels.is_empty() {
        return text + "\nthere is no channel: nobody is told\n";
    }
    text += &format!("\n{:<20} {:<13} {:>9} {:>8} {:>6} {:>8}  trouble\n", "channel", "means", "delivered", "waiting", "failed", "lost");
    for row in &channels {
        let line = format!(
            "{:<20} {:<13} {:>9} {:>8} {:>6} {:>8}  {}",
            word(row, "name"),
            word(row, "means"),
            row["delivered"].to_string(),
            row["waiting"].to_string(),
            row["failed"].to_string(),
            row["lost"].to_string(),
            row["trouble"].as_str().unwrap_or_default().replace(|c: char| c.is_control(), "?"),
        );
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_incident_and_a_channel_are_rows() {
        let page = json!({"on": true,
            "incidents": [{"severity": "critical", "rule": "error_rate", "subject": "inbound route a\u{1b}", "since": "2026-11-30T12:00:00Z", "says": "31%"}],
            "channels": [{"name": "team", "means": "slack", "delivered": 1, "waiting": 0, "failed": 2, "lost": 0, "trouble": "it answered 500"}]});
        let text = told(&page);
        let lines: Vec<String> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[1], "critical error_rate inbound route a? 2026-11-30T12:00:00Z 31%");
        assert_eq!(lines[4], "team slack 1 0 2 0 it answered 500");
        assert!(told(&json!({"on": false})).contains("alerts: {}"));
        let text = told(&json!({"on": true, "kept": false, "incidents": [], "channels": []}));
        assert!(text.contains("no incident is open") && text.contains("store.state_dir"), "{text}");
    }
}
