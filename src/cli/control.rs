//! Verbs for a running proxy: over its 0600 socket, or, for health checks, over its probes listener.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use http::Method;
use serde_json::{Value, json};

use super::{
    client::Client,
    said::{Common, Failure, Said},
};
use crate::{admin::client::request, config::human};

/// Most paths in one request of `warm`.
const TOGETHER: usize = 200;

/// Where the running proxy's probes are.
#[derive(Debug, Clone, clap::Args)]
pub struct ProbeArgs {
    /// The probes listener.
    #[arg(long, default_value = "127.0.0.1:9902")]
    pub probes: SocketAddr,
}

/// What `purge` takes.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["tag", "key", "route", "prefix", "all"]))]
pub struct PurgeArgs {
    /// Entries with this tag.
    #[arg(long)]
    tag: Option<String>,
    /// The entry under this key (see `outrigger explain`).
    #[arg(long)]
    key: Option<String>,
    /// Entries of this route.
    #[arg(long)]
    route: Option<String>,
    /// Entries whose path begins so.
    #[arg(long)]
    prefix: Option<String>,
    /// Every entry.
    #[arg(long)]
    all: bool,
    /// Mark them stale instead of dropping them: they may still stand in where stale answers may.
    #[arg(long)]
    soft: bool,
}

/// What `warm` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct WarmArgs {
    /// A file with a path in each line; `-` is standard input. Without one: the paths of `inbound.warm`.
    file: Option<PathBuf>,
}

/// What `breaker` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct BreakerArgs {
    #[command(subcommand)]
    act: BreakerAct,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum BreakerAct {
    /// All breakers and their states.
    Status,
    /// Hold it open until it is closed by hand; a target need not have been called yet.
    Open {
        /// `app`, a provider (all of it), or a provider with a model: `openai/gpt-4o`.
        name: String,
    },
    /// Close it and forget its failures.
    Close {
        /// As for `open`.
        name: String,
    },
}

/// `outrigger health`.
///
/// # Errors
/// The proxy is not ready or does not answer.
pub async fn health(args: ProbeArgs) -> Result<Said, Failure> {
    let asked = Client::tcp(args.probes).with_timeout(Duration::from_secs(2)).get("/ready").await;
    let answer = asked.map_err(|error| error.to_string())?;
    let json = answer.json().map_err(|error| error.to_string())?;
    if answer.status.is_success() {
        return Ok(Said::line(json, "ready"));
    }
    Err(Failure::Words(format!("not ready: {}", json["reason"].as_str().unwrap_or(answer.status.as_str()))))
}

/// `outrigger drain`.
///
/// # Errors
/// The proxy cannot be reached or refuses.
pub async fn drain(common: &Common) -> Result<Said, Failure> {
    let done = act(common, "/api/drain", None).await?;
    Ok(Said::line(done, "draining: it is not ready any more, finishes what is in flight, and leaves"))
}

/// `outrigger reload`.
///
/// # Errors
/// The proxy cannot be reached or the file has mistakes.
pub async fn reload(common: &Common) -> Result<Said, Failure> {
    let done = act(common, "/api/reload", None).await?;
    let text = match done["reloaded"] == true {
        true => format!("reloaded; the configuration at work is the {} since the start", ordinal(&done["generation"])),
        false => "the proxy runs without a file: there is nothing to reload".to_owned(),
    };
    Ok(Said::line(done, text))
}

fn ordinal(number: &Value) -> String {
    match number.as_u64() {
        Some(number) => {
            let teens = (11..=13).contains(&(number % 100));
            let ending = match number % 10 {
                1 if !teens => "st",
                2 if !teens => "nd",
                3 if !teens => "rd",
                _ => "th",
            };
            format!("{number}{ending}")
        }
        None => "newest".to_owned(),
    }
}

/// `outrigger purge`.
///
/// # Errors
/// The proxy cannot be reached or refuses.
pub async fn purge(common: &Common, args: PurgeArgs) -> Result<Said, Failure> {
    let named = [("tag", args.tag), ("key", args.key), ("route", args.route), ("prefix", args.prefix)];
    let body = match named.into_iter().find_map(|(what, value)| Some((what, value?))) {
        Some((what, value)) => json!({ what: value, "soft": args.soft }),
        None => json!({"all": args.all, "soft": args.soft}),
    };
    let done = act(common, "/api/cache/purge", Some(&body)).await?;
    let text = match (done["purged"].as_u64().unwrap_or_default(), args.soft) {
        (1, false) => "1 entry dropped".to_owned(),
        (1, true) => "1 entry marked stale".to_owned(),
        (count, false) => format!("{} entries dropped", human::grouped(count)),
        (count, true) => format!("{} entries marked stale", human::grouped(count)),
    };
    Ok(Said::line(done, text))
}

/// `outrigger warm`.
///
/// # Errors
/// The file cannot be read, or the proxy cannot be reached or refuses.
pub async fn warm(common: &Common, args: WarmArgs) -> Result<Said, Failure> {
    let mut queued = 0;
    match &args.file {
        None => queued += queue(common, None).await?,
        Some(file) => {
            let read = if file.as_os_str() == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(file) };
            let text = read.map_err(|error| format!("cannot read {}: {error}", file.display()))?;
            let paths: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
            if paths.is_empty() {
                return Err(Failure::Words(format!("there is no path in {}", file.display())));
            }
            for some in paths.chunks(TOGETHER) {
                queued += queue(common, Some(&json!({ "paths": some }))).await?;
            }
        }
    }
    let text = format!("{} {} will be asked for", human::grouped(queued), if queued == 1 { "path" } else { "paths" });
    Ok(Said::line(json!({ "queued": queued }), text))
}

async fn queue(common: &Common, paths: Option<&Value>) -> Result<u64, Failure> {
    Ok(act(common, "/api/cache/warm", paths).await?["queued"].as_u64().unwrap_or_default())
}

/// `outrigger breaker`.
///
/// # Errors
/// The proxy cannot be reached or has no such breaker.
pub async fn breaker(common: &Common, args: BreakerArgs) -> Result<Said, Failure> {
    let path = |name: &str, verb: &str| {
        let name = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
        format!("/api/breakers/{name}/{verb}")
    };
    match &args.act {
        BreakerAct::Status => {
            let page = get(common, "/api/breakers").await?;
            let text = breakers(&page);
            Ok(Said::new(page, text))
        }
        BreakerAct::Open { name } => {
            let done = act(common, &path(name, "open"), None).await?;
            let mut text = format!("{name} is held open by hand{}; `outrigger breaker close {name}` ends it\n", of(&done, name));
            done["note"].as_str().into_iter().for_each(|note| text += &format!("note: {note}\n"));
            Ok(Said::new(done, text))
        }
        BreakerAct::Close { name } => {
            let done = act(common, &path(name, "close"), None).await?;
            let text = format!("{name} is closed{} and its failures are forgotten", of(&done, name));
            Ok(Said::line(done, text))
        }
    }
}

/// The breakers that a name meant, if they differ from the one of that name.
fn of(done: &Value, name: &str) -> String {
    let names: Vec<&str> = done["breakers"].as_array().into_iter().flatten().filter_map(Value::as_str).filter(|one| *one != name).collect();
    if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) }
}

/// The page as a table.
fn breakers(page: &Value) -> String {
    let rows = page["breakers"].as_array().map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() {
        return "no breaker yet: one begins with the first request to its target\n".to_owned();
    }
    let time = |value: &Value| human::wait(Duration::from_secs_f64(value.as_f64().unwrap_or_default().max(0.0)));
    let mut text = format!("{:<40} {:<10} {:<14} {:>8} {:>8}  next\n", "breaker", "state", "for", "in a row", "refused");
    for row in rows {
        let next = match (row["by_hand"] == true, &row["retry_after_seconds"]) {
            (true, _) => "held by hand".to_owned(),
            (false, Value::Null) => String::new(),
            (false, wait) => format!("a probe in {}", time(wait)),
        };
        // A client chooses the model's name: no character of it may control a terminal.
        let name = row["name"].as_str().unwrap_or_default().replace(|c: char| c.is_control(), "?");
        let line = format!(
            "{name:<40} {:<10} {:<14} {:>8} {:>8}  {next}",
            row["state"].as_str().unwrap_or_default(),
            time(&row["since_seconds"]),
            // The width has no effect on a JSON value itself.
            row["consecutive_failures"].to_string(),
            row["refused"].to_string(),
        );
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// A page of the running proxy.
pub(super) async fn get(common: &Common, path: &str) -> Result<Value, Failure> {
    ask(common, Method::GET, path, None).await
}

/// A change of the running proxy.
pub(super) async fn act(common: &Common, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
    ask(common, Method::POST, path, body).await
}

async fn ask(common: &Common, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
    let answer = request(&common.socket(), method, path, body).await.map_err(|error| error.to_string())?;
    answer.json().filter(|_| answer.status.is_success()).ok_or_else(|| Failure::of(&answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_breaker_is_a_row_that_says_what_comes_next() {
        let page = json!({"breakers": [
            {"name": "openai", "state": "open", "since_seconds": 61.5, "retry_after_seconds": null, "by_hand": true, "consecutive_failures": 0, "refused": 2},
            {"name": "openai/m\u{1b}", "state": "open", "since_seconds": 1.0, "retry_after_seconds": 4.2, "by_hand": false, "consecutive_failures": 5, "refused": 0},
            {"name": "app", "state": "closed", "since_seconds": 1.0, "retry_after_seconds": null, "by_hand": false, "consecutive_failures": 1, "refused": 0},
        ]});
        let text = breakers(&page);
        let lines: Vec<String> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[1..], ["openai open 1 min 2 s 0 2 held by hand", "openai/m? open 1 s 5 0 a probe in 5 s", "app closed 1 s 1 0"]);
        assert_eq!(of(&json!({"breakers": ["openai", "openai/a"]}), "openai"), " (openai/a)");
    }
}
