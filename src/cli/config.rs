//! `outrigger config`: changes of a running proxy's configuration, planned, applied, listed and undone.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{
    control::{act, get},
    said::{Common, Failure, Said},
};

/// What `config` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    act: ConfigAct,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum ConfigAct {
    /// Show what a change would do: the difference, and the result of the check.
    Plan(EditArgs),
    /// Make a change: write the file, and let the proxy read it.
    Apply {
        #[command(flatten)]
        edits: EditArgs,
        /// Why, for the history.
        #[arg(long)]
        note: Option<String>,
    },
    /// List the versions of the file.
    History,
    /// Put an earlier version to work.
    Rollback {
        /// Its number, as `history` shows it.
        version: u64,
        /// Only show the difference.
        #[arg(long)]
        plan: bool,
    },
}

/// The edits, in this order: those of the file, `--set`, `--append`, `--remove`.
#[derive(Debug, Clone, clap::Args)]
struct EditArgs {
    /// Sets a value: `inbound.routes[0].cache.mode=observe`. What is JSON is read as JSON.
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// Adds an item to a list: `inbound.routes={"match": {"path": "/x"}}`.
    #[arg(long, value_name = "PATH=VALUE")]
    append: Vec<String>,
    /// Removes a value with its key.
    #[arg(long, value_name = "PATH")]
    remove: Vec<String>,
    /// Edits as the API takes them, a list in JSON; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    edits: Option<PathBuf>,
}

/// `outrigger config`.
///
/// # Errors
/// The proxy cannot be reached, an edit cannot be made, or the file would have mistakes.
pub async fn config(common: &Common, args: ConfigArgs) -> Result<Said, Failure> {
    match args.act {
        ConfigAct::Plan(edits) => shown(act(common, "/api/config/plan", Some(&json!({ "edits": list(&edits)? }))).await?),
        ConfigAct::Apply { edits, note } => {
            let edits = list(&edits)?;
            // The plan names the file that the change is made from.
            let plan = act(common, "/api/config/plan", Some(&json!({ "edits": edits }))).await?;
            let body = json!({"base": plan["base"], "edits": edits, "note": note});
            let done = act(common, "/api/config/apply", Some(&body)).await?;
            let text = format!("{}{}", plan["diff"].as_str().unwrap_or_default(), applied(&done));
            Ok(Said::new(done, text))
        }
        ConfigAct::History => {
            let page = get(common, "/api/config/history").await?;
            let text = versions(&page);
            Ok(Said::new(page, text))
        }
        ConfigAct::Rollback { version, plan } => {
            let done = act(common, "/api/config/rollback", Some(&json!({"version": version, "plan": plan}))).await?;
            if plan {
                return shown(done);
            }
            let text = applied(&done);
            Ok(Said::new(done, text))
        }
    }
}

/// A plan; one whose check has failed is a failure, with the plan around it.
fn shown(mut plan: Value) -> Result<Said, Failure> {
    if plan["check"]["ok"] == false {
        plan["error"] = plan["check"]["error"].clone();
        return Err(Failure::Refused(plan));
    }
    let text = planned(&plan);
    Ok(Said::new(plan, text))
}

/// The edits of the arguments.
fn list(args: &EditArgs) -> Result<Vec<Value>, Failure> {
    let mut edits = args.edits.as_deref().map(from_file).transpose()?.unwrap_or_default();
    for (op, pairs) in [("set", &args.set), ("append", &args.append)] {
        for pair in pairs {
            let (path, value) =
                split(pair).ok_or_else(|| format!("`--{op} {pair}`: write a path and a value, as inbound.app=http://127.0.0.1:4000"))?;
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
            edits.push(json!({"op": op, "path": path, "value": value}));
        }
    }
    edits.extend(args.remove.iter().map(|path| json!({"op": "remove", "path": path})));
    if edits.is_empty() {
        return Err(Failure::Words("nothing to change: give --set, --append, --remove or --edits".to_owned()));
    }
    Ok(edits)
}

/// A path and its value: at the first `=` outside brackets.
fn split(pair: &str) -> Option<(&str, &str)> {
    let mut depth = 0_usize;
    for (at, c) in pair.char_indices() {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            '=' if depth == 0 => return Some((&pair[..at], &pair[at + 1..])),
            _ => {}
        }
    }
    None
}

fn from_file(file: &Path) -> Result<Vec<Value>, Failure> {
    let read = if file.as_os_str() == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(file) };
    let text = read.map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    Ok(serde_json::from_str(&text).map_err(|error| format!("{} is no list of edits in JSON: {error}", file.display()))?)
}

fn planned(plan: &Value) -> String {
    let mut text = plan["diff"].as_str().unwrap_or_default().to_owned();
    if plan["changed"] == false {
        text += "nothing would change\n";
    }
    for note in plan["check"]["notes"].as_array().into_iter().flatten() {
        text += &format!("note, line {}: {}\n", note["line"], note["message"].as_str().unwrap_or_default());
    }
    text + "the check finds no mistake\n"
}

fn applied(done: &Value) -> String {
    let version = done["version"].as_u64().map_or_else(|| "without a version".to_owned(), |version| format!("version {version}"));
    let trouble = done["trouble"].as_str().map(|why| format!("the change has no version: {why}\n")).unwrap_or_default();
    format!("at work as {version}\n{trouble}")
}

fn versions(page: &Value) -> String {
    let rows = page["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() {
        return "no change was made through the admin door yet\n".to_owned();
    }
    let mut text = format!("{:>7} {:<20} {:<20} what\n", "version", "at", "who");
    for row in rows {
        let word = |name: &str| row[name].as_str().unwrap_or_default().replace(|c: char| c.is_control(), "?");
        let note = if row["note"].is_null() { String::new() } else { format!(" ({})", word("note")) };
        let mark = if row["current"] == true { "*" } else { "" };
        text += &format!("{:>7} {:<20} {:<20} {}{note}\n", format!("{mark}{}", row["version"]), word("at"), word("who"), word("what"));
    }
    if page["durable"] == false {
        text += "(in memory: store.state_dir keeps versions over a restart)\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_become_edits_in_their_order() {
        let args = EditArgs {
            set: vec!["inbound.routes[name=chat].cache.mode=observe".into(), "a.b=5".into()],
            append: vec![r#"inbound.routes={"match": {"path": "/x=y"}}"#.into()],
            remove: vec!["c".into()],
            edits: None,
        };
        assert_eq!(
            list(&args).expect("edits"),
            [
                json!({"op": "set", "path": "inbound.routes[name=chat].cache.mode", "value": "observe"}),
                json!({"op": "set", "path": "a.b", "value": 5}),
                json!({"op": "append", "path": "inbound.routes", "value": {"match": {"path": "/x=y"}}}),
                json!({"op": "remove", "path": "c"}),
            ]
        );
        let none = EditArgs { set: vec![], append: vec![], remove: vec![], edits: None };
        assert!(list(&none).is_err() && list(&EditArgs { set: vec!["a".into()], ..none }).is_err());
    }

    #[test]
    fn the_version_at_work_is_marked() {
        let page = json!({"durable": false, "versions": [
            {"version": 2, "at": "2027-01-15T08:00:00Z", "who": "ci", "what": "set a.b", "note": "less\u{1b}", "current": true},
            {"version": 1, "at": "2027-01-15T07:00:00Z", "who": "(the file)", "what": "as it was", "note": null, "current": false},
        ]});
        let text = versions(&page);
        assert!(text.contains("     *2 2027-01-15T08:00:00Z ci                   set a.b (less?)\n"), "{text}");
        assert!(text.contains("in memory") && versions(&json!({"versions": []})).contains("no change"));
    }
}
