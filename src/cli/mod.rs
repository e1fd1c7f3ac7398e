//! The command line, one file a verb. A running proxy is asked through its admin door.

pub mod check;
pub mod client;
pub mod control;
pub mod demo;
pub mod explain;
pub mod mock;
pub mod run;
mod top;

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::config::{LogFormat, read::Overrides};

/// A sidecar reverse proxy for AI apps: caching, limits, retries, breakers, cost and telemetry at both doors of an app.
#[derive(Debug, Parser)]
#[command(name = "outrigger", version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve: stand in front of an app and on its calls to model providers.
    Run(RunArgs),
    /// Read a configuration file, say every mistake in it, or what it means.
    Check {
        /// The file.
        #[arg(default_value = "proxy.yaml", env = "OUTRIGGER_CONFIG")]
        file: PathBuf,
    },
    /// Say which route answers a request, which policies apply, and the cache key part by part.
    Explain(explain::ExplainArgs),
    /// Show what Outrigger does: a small app, a mock provider, the proxy between them, and the story of what happens.
    Demo(demo::DemoArgs),
    /// A provider for local work and load: OpenAI's, Anthropic's and Gemini's wire formats.
    Mock(mock::MockArgs),
    /// Ask a running proxy how it is; exits 1 unless it is ready. For container health checks.
    Health(control::ProbeArgs),
    /// Tell a running proxy to fail its readiness, finish what is in flight, and leave. For preStop hooks.
    Drain(control::SocketArgs),
    /// Tell a running proxy to read its configuration again.
    Reload(control::SocketArgs),
    /// Drop cache entries of a running proxy.
    Purge(control::PurgeArgs),
    /// Show the cache keys of a running proxy that save most.
    Top(top::TopArgs),
    /// Let a running proxy fill its cache, with the paths of its configuration or of a file.
    Warm(control::WarmArgs),
    /// Show a running proxy's breakers, or hold one open or closed.
    Breaker(control::BreakerArgs),
}

/// What `run` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// The configuration file. Without one, --app alone makes a transparent proxy.
    #[arg(long, short, env = "OUTRIGGER_CONFIG")]
    pub config: Option<PathBuf>,
    /// The app to stand in front of: a port of this machine, or a URL. Wins over the file.
    #[arg(long)]
    pub app: Option<String>,
    /// Process log: error, warn, info, debug.
    #[arg(long, env = "OUTRIGGER_LOG", default_value = "info")]
    pub log_level: tracing::Level,
}

impl RunArgs {
    fn overrides(&self) -> Overrides {
        Overrides { app: self.app.clone(), ..Overrides::default() }
    }
}

/// Reads the arguments and does what they say.
pub fn main() -> ExitCode {
    match Arguments::parse().verb {
        Verb::Run(args) => run::run(&args),
        Verb::Check { file } => check::run(&file),
        Verb::Explain(args) => explain::run(&args),
        Verb::Demo(args) => demo::run(&args),
        Verb::Mock(args) => {
            crate::telemetry::init_process_log(LogFormat::Text, tracing::Level::WARN);
            block_on(mock::run(args))
        }
        Verb::Health(args) => block_on(control::health(args)),
        Verb::Drain(args) => block_on(control::drain(args)),
        Verb::Reload(args) => block_on(control::reload(args)),
        Verb::Purge(args) => block_on(control::purge(args)),
        Verb::Top(args) => block_on(top::top(args)),
        Verb::Warm(args) => block_on(control::warm(args)),
        Verb::Breaker(args) => block_on(control::breaker(args)),
    }
}

/// Runs a small asynchronous verb on a runtime of its own; an error is said and becomes exit code 1.
fn block_on<E: std::fmt::Display>(verb: impl Future<Output = Result<(), E>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    match runtime.block_on(verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    // Standard error may be gone; the exit code says it too.
    let _ = writeln!(std::io::stderr(), "outrigger: {error}");
    ExitCode::FAILURE
}
