//! The command line, one file per verb. Verbs for a running proxy go through its admin door.

mod advise;
mod alerts;
mod approve;
mod audit;
mod bans;
pub mod check;
pub mod client;
mod config;
pub mod control;
pub mod demo;
mod errors;
pub mod explain;
mod init;
mod key;
pub mod ledger;
mod limits;
pub mod mock;
mod observed;
pub mod prices;
pub mod run;
pub mod said;
mod top;
pub mod usage;

use std::{path::PathBuf, process::ExitCode};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, builder::Resettable};

use self::said::{Common, Failure, Said};
use crate::config::{LogFormat, read::Overrides, schema};

/// A sidecar reverse proxy for AI apps: caching, limits, retries, breakers, cost and telemetry at both doors of an app.
#[derive(Debug, Parser)]
#[command(name = "outrigger", version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(flatten)]
    common: Common,
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
    /// Look at this machine, and write a proxy.yaml for the app and the providers that are found.
    Init(init::InitArgs),
    /// Say which route answers a request, which policies apply, and the cache key part by part.
    Explain(explain::ExplainArgs),
    /// Make, list and revoke the keys of clients, in a file that `auth.api_keys` names.
    Key(key::KeyArgs),
    /// Show what Outrigger does: a small app, a mock provider, the proxy between them, and the story of what happens.
    Demo(demo::DemoArgs),
    /// A provider for local work and load: OpenAI's, Anthropic's and Gemini's wire formats.
    Mock(mock::MockArgs),
    /// Show what models cost, or what would be charged for an answer, line by line.
    Prices(prices::PricesArgs),
    /// Ask a running proxy how it is; exits 1 unless it is ready. For container health checks.
    Health(control::ProbeArgs),
    /// Tell a running proxy to fail its readiness, finish what is in flight, and leave. For preStop hooks.
    Drain,
    /// Tell a running proxy to read its configuration again.
    Reload,
    /// Change a running proxy's configuration: plan, apply, list the versions, roll back.
    Config(config::ConfigArgs),
    /// Drop cache entries of a running proxy.
    Purge(control::PurgeArgs),
    /// Show a running proxy on one screen, live: rates, latency, money, breakers, limits; or the cache keys that save most.
    Top(top::TopArgs),
    /// Show the last failures of a running proxy, each with its tries, pauses, limits and cost.
    Errors(errors::ErrorsArgs),
    /// Show the requests that policies in `observe` would have refused, and why.
    Observed(observed::ObservedArgs),
    /// Show who has spent what, from the ledger of a running proxy.
    Usage(usage::UsageArgs),
    /// Say what caching, limiting or a cheaper model would have saved, from the ledger of a running proxy.
    Advise(advise::AdviseArgs),
    /// Copy the ledger of a running proxy, or put a copy in its place.
    Ledger(ledger::LedgerArgs),
    /// Erase a caller's name from the ledger of a running proxy.
    Erase(ledger::EraseArgs),
    /// Let a running proxy fill its cache, with the paths of its configuration or of a file.
    Warm(control::WarmArgs),
    /// Show a running proxy's breakers, hold one open, or close it.
    Breaker(control::BreakerArgs),
    /// Show how a running proxy's limits stand, begin a counter anew, or let it go further for a while.
    Limits(limits::LimitsArgs),
    /// Show the requests that wait for a yes because a limit is spent, and answer one.
    Approve(approve::ApproveArgs),
    /// Show the clients that are out by `access.bans`, and let one in again.
    Bans(bans::BansArgs),
    /// Show the incidents and channels of a running proxy, or send a test to a channel.
    Alerts(alerts::AlertsArgs),
    /// Verify the audit log of a proxy, or show its last lines.
    Audit(audit::AuditArgs),
    /// Print the JSON Schema of proxy.yaml, for editors.
    Schema,
    /// Print the reference in Markdown: every key of proxy.yaml with its values and default, and how each model path is billed.
    Reference,
}

/// What `run` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// The configuration file; `proxy.yaml` in this directory, if there is one. Without any, --app alone makes a transparent proxy.
    #[arg(long, short, env = "OUTRIGGER_CONFIG")]
    pub config: Option<PathBuf>,
    /// The app to stand in front of: a port of this machine, or a URL. Wins over `inbound.app` of the file.
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

/// A variable that is set and empty stands for an absent one, as in the configuration: it is not asked for.
fn without_empty(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &clap::Arg| arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    command.mut_args(|arg| if is_empty(&arg) { arg.env(Resettable::Reset) } else { arg }).mut_subcommands(without_empty)
}

/// Reads the arguments and runs the verb.
pub fn main() -> ExitCode {
    let matches = without_empty(Arguments::command()).get_matches();
    let Arguments { common, verb } = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match verb {
        Verb::Run(args) => run::run(&args),
        Verb::Check { file } => common.tell(check::said(&file)),
        Verb::Init(args) => common.tell(block_on(init::init(&common, args))),
        Verb::Explain(args) => common.tell(explain::said(&args)),
        Verb::Key(args) => common.tell(key::said(&args)),
        Verb::Prices(args) => common.tell(prices::said(&args)),
        Verb::Demo(args) => demo::run(&common, &args),
        Verb::Mock(args) => {
            crate::telemetry::init_process_log(LogFormat::Text, tracing::Level::WARN);
            common.tell(block_on(mock::run(&common, args)))
        }
        Verb::Health(args) => common.tell(block_on(control::health(args))),
        Verb::Drain => common.tell(block_on(control::drain(&common))),
        Verb::Reload => common.tell(block_on(control::reload(&common))),
        Verb::Config(args) => common.tell(block_on(config::config(&common, args))),
        Verb::Purge(args) => common.tell(block_on(control::purge(&common, args))),
        Verb::Top(args) => common.tell(block_on(top::top(&common, args))),
        Verb::Errors(args) => common.tell(block_on(errors::errors(&common, args))),
        Verb::Observed(args) => common.tell(block_on(observed::observed(&common, args))),
        Verb::Usage(args) => common.tell(block_on(usage::usage(&common, args))),
        Verb::Advise(args) => common.tell(block_on(advise::advise(&common, args))),
        Verb::Ledger(args) => common.tell(block_on(ledger::ledger(&common, args))),
        Verb::Erase(args) => common.tell(block_on(ledger::erase(&common, args))),
        Verb::Warm(args) => common.tell(block_on(control::warm(&common, args))),
        Verb::Breaker(args) => common.tell(block_on(control::breaker(&common, args))),
        Verb::Limits(args) => common.tell(block_on(limits::limits(&common, args))),
        Verb::Approve(args) => common.tell(block_on(approve::approve(&common, args))),
        Verb::Bans(args) => common.tell(block_on(bans::bans(&common, args))),
        Verb::Alerts(args) => common.tell(block_on(alerts::alerts(&common, args))),
        Verb::Audit(args) => common.tell(audit::said(&args)),
        Verb::Schema => {
            let schema = schema::json_schema();
            let text = format!("{schema:#}\n");
            common.tell(Ok(Said::new(schema, text)))
        }
        Verb::Reference => {
            let text = format!("{}\n{}", schema::reference(), crate::provider::paths::reference());
            common.tell(Ok(Said::new(serde_json::json!({ "markdown": text }), text)))
        }
    }
}

/// Runs a small asynchronous verb on a runtime of its own.
fn block_on(verb: impl Future<Output = Result<Said, Failure>>) -> Result<Said, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(verb)
}
