//! `outrigger bans`: the clients that are out because they were refused too often, and letting one in again.

use std::time::Duration;

use serde_json::Value;

use super::{
    control::{act, get},
    said::{Common, Failure, Said},
};
use crate::config::human;

/// What `bans` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct BansArgs {
    #[command(subcommand)]
    act: Option<BansAct>,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum BansAct {
    /// Everybody who is out.
    List,
    /// Let somebody in again, at every replica that shares the Redis.
    Lift {
        /// An address, or `caller:NAME`.
        who: String,
    },
}

/// `outrigger bans`.
///
/// # Errors
/// The proxy cannot be reached, or nobody of that name is out.
pub async fn bans(common: &Common, args: BansArgs) -> Result<Said, Failure> {
    match args.act.unwrap_or(BansAct::List) {
        BansAct::List => {
            let page = get(common, "/api/bans").await?;
            let text = table(&page);
            Ok(Said::new(page, text))
        }
        BansAct::Lift { who } => {
            let name = percent_encoding::utf8_percent_encode(&who, percent_encoding::NON_ALPHANUMERIC);
            let done = act(common, &format!("/api/bans/{name}/lift"), None).await?;
            let text = format!("{} may come in again", done["lifted"].as_str().unwrap_or(&who));
            Ok(Said::line(done, text))
        }
    }
}

/// The page as a table.
fn table(page: &Value) -> String {
    let rows = page["bans"].as_array().map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() {
        return "nobody is out\n".to_owned();
    }
    let mut text = format!("{:<40} {:<8} {:<20} {:<14} {:<20} route\n", "who", "mode", "since", "for yet", "reason");
    for row in rows {
        // A client chooses its name: no character of it may control a terminal.
        let word = |name: &str| row[name].as_str().unwrap_or("-").replace(|c: char| c.is_control(), "?");
        let left = human::wait(Duration::from_secs(row["seconds_left"].as_u64().unwrap_or_default()));
        let (who, mode, since, reason) = (word("who"), word("mode"), word("since"), word("reason"));
        text += &format!("{who:<40} {mode:<8} {since:<20} {left:<14} {reason:<20} {}\n", word("route"));
    }
    let (shown, all) = (rows.len() as u64, page["count"].as_u64().unwrap_or_default());
    if all > shown {
        text += &format!("and {} more\n", human::grouped(all - shown));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn somebody_who_is_out_is_a_row() {
        let row = json!({"who": "caller:u\u{1b}", "mode": "enforce", "since": "2026-11-30T12:00:00Z", "seconds_left": 61, "reason": "limited", "route": null});
        let text = table(&json!({"bans": [row], "count": 3}));
        let lines: Vec<String> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[1..], ["caller:u? enforce 2026-11-30T12:00:00Z 1 min 1 s limited -", "and 2 more"]);
        assert_eq!(table(&json!({"bans": []})), "nobody is out\n");
    }
}
