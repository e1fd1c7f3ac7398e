//! `outrigger top`: a running proxy on one screen of text, live; with `--by`, the cache keys that save most.

mod keys;
mod live;
mod scrape;
mod screen;

use std::io::{self, IsTerminal as _};

use super::said::{Common, Failure, Said};

/// What `top` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct TopArgs {
    /// The cache keys that save most, ordered by this, in place of the screen. With --json the keys that `purge --key` takes stand
    /// beside them.
    #[arg(long, value_parser = ["time", "usd", "requests", "tokens"])]
    by: Option<String>,
    /// One screen and no more; so it is too where the output is no terminal. Numbers are those of one second.
    #[arg(long)]
    once: bool,
    /// Seconds between two screens.
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS", value_parser = seconds)]
    every: f64,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=60.0).contains(seconds));
    seconds.ok_or_else(|| format!("`{text}` is not between 0.1 and 60"))
}

/// `outrigger top`.
///
/// # Errors
/// When the proxy cannot be reached.
pub async fn top(common: &Common, args: TopArgs) -> Result<Said, Failure> {
    if let Some(by) = &args.by {
        return keys::top(common, by).await;
    }
    if args.once || common.json || !io::stdout().is_terminal() {
        let now = live::two_looks(common, args.every).await?;
        let text = screen::lines(&now, live::width()).join("\n") + "\n";
        return Ok(Said::new(now.to_json(), text));
    }
    live::run(common, args.every).await?;
    Ok(Said::nothing())
}
