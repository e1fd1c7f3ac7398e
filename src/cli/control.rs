//! Verbs that speak to a running proxy: over its 0600 socket, or, for health checks, its probes listener.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use http::Method;
use serde_json::{Value, json};

use super::client::Client;
use crate::admin::client::request;

/// Paths in one request of `warm`.
const TOGETHER: usize = 200;

/// Where the running proxy's socket is.
#[derive(Debug, Clone, clap::Args)]
pub struct SocketArgs {
    /// The admin socket (`admin.socket` in proxy.yaml).
    #[arg(long, env = "OUTRIGGER_SOCKET", default_value_os_t = crate::config::usual_socket(crate::config::ADMIN_PORT, &|name| std::env::var(name).ok()))]
    pub socket: PathBuf,
}

/// Where the running proxy's probes are.
#[derive(Debug, Clone, clap::Args)]
pub struct ProbeArgs {
    /// The probes listener.
    #[arg(long, default_value = "127.0.0.1:9902")]
    pub probes: SocketAddr,
}

/// What `purge` takes.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = false, args = ["tag", "key", "route", "prefix", "all"])]
pub struct PurgeArgs {
    #[command(flatten)]
    socket: SocketArgs,
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
    #[command(flatten)]
    socket: SocketArgs,
    /// A file with a path in each line; `-` is standard input. Without one: the paths of `inbound.warm`.
    file: Option<PathBuf>,
}

/// What `breaker` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct BreakerArgs {
    #[command(flatten)]
    socket: SocketArgs,
    #[command(subcommand)]
    act: BreakerAct,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum BreakerAct {
    /// All breakers and their states.
    Status,
    /// Hold it open until it is closed by hand.
    Open {
        /// Its name.
        name: String,
    },
    /// Close it and forget its failures.
    Close {
        /// Its name.
        name: String,
    },
}

/// `outrigger health`.
///
/// # Errors
/// When the proxy is not ready or does not answer.
pub async fn health(args: ProbeArgs) -> Result<(), String> {
    let answer = Client::tcp(args.probes).with_timeout(Duration::from_secs(2)).get("/ready").await.map_err(|e| e.to_string())?;
    println!("{}", answer.text().trim_end());
    if answer.status.is_success() { Ok(()) } else { Err(format!("not ready ({})", answer.status.as_u16())) }
}

/// `outrigger drain`.
///
/// # Errors
/// When the proxy cannot be reached or refuses.
pub async fn drain(args: SocketArgs) -> Result<(), String> {
    act(&args, "/api/drain", None).await
}

/// `outrigger reload`.
///
/// # Errors
/// When the proxy cannot be reached or the file has mistakes.
pub async fn reload(args: SocketArgs) -> Result<(), String> {
    act(&args, "/api/reload", None).await
}

/// `outrigger purge`.
///
/// # Errors
/// When the proxy cannot be reached or refuses.
pub async fn purge(args: PurgeArgs) -> Result<(), String> {
    let named = [("tag", args.tag), ("key", args.key), ("route", args.route), ("prefix", args.prefix)];
    let body = match named.into_iter().find_map(|(what, value)| Some((what, value?))) {
        Some((what, value)) => json!({ what: value, "soft": args.soft }),
        None => json!({"all": args.all, "soft": args.soft}),
    };
    act(&args.socket, "/api/cache/purge", Some(&body)).await
}

/// `outrigger warm`.
///
/// # Errors
/// When the file cannot be read, or the proxy cannot be reached or refuses.
pub async fn warm(args: WarmArgs) -> Result<(), String> {
    let Some(file) = &args.file else { return act(&args.socket, "/api/cache/warm", None).await };
    let read = if file.as_os_str() == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(file) };
    let text = read.map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let paths: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    if paths.is_empty() {
        return Err(format!("there is no path in {}", file.display()));
    }
    for some in paths.chunks(TOGETHER) {
        act(&args.socket, "/api/cache/warm", Some(&json!({ "paths": some }))).await?;
    }
    Ok(())
}

/// `outrigger breaker`.
///
/// # Errors
/// When the proxy cannot be reached or knows no such breaker.
pub async fn breaker(args: BreakerArgs) -> Result<(), String> {
    let name = |name: &str| percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string();
    match &args.act {
        BreakerAct::Status => {
            let answer = request(&args.socket.socket, Method::GET, "/api/breakers", None).await.map_err(|e| e.to_string())?;
            say(answer.json());
            Ok(())
        }
        BreakerAct::Open { name: target } => act(&args.socket, &format!("/api/breakers/{}/open", name(target)), None).await,
        BreakerAct::Close { name: target } => act(&args.socket, &format!("/api/breakers/{}/close", name(target)), None).await,
    }
}

async fn act(args: &SocketArgs, path: &str, body: Option<&Value>) -> Result<(), String> {
    let answer = request(&args.socket, Method::POST, path, body).await.map_err(|e| e.to_string())?;
    if !answer.status.is_success() {
        return Err(answer.json().map_or_else(|| answer.status.to_string(), |why| format!("{why:#}")));
    }
    say(answer.json());
    Ok(())
}

fn say(json: Option<Value>) {
    if let Some(json) = json {
        println!("{json:#}");
    }
}
