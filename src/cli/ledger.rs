//! `outrigger ledger` and `outrigger erase`: copies of a running proxy's ledger, and names that leave it.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{
    control::act,
    said::{Common, Failure, Said},
};

/// What `ledger` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct LedgerArgs {
    #[command(subcommand)]
    act: LedgerAct,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum LedgerAct {
    /// Write a copy of the ledger to a new file, while calls go on.
    Snapshot {
        /// The file, where the proxy runs; it must not be there yet.
        file: PathBuf,
    },
    /// Put a copy in the place of the ledger; what was counted since leaves the books, and is kept in a file beside.
    Restore {
        /// The copy, where the proxy runs.
        file: PathBuf,
    },
}

/// What `erase` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct EraseArgs {
    /// The caller's name, as `outrigger usage` shows it.
    caller: String,
}

/// `outrigger ledger`.
///
/// # Errors
/// The proxy cannot be reached, or a file cannot be read or written.
pub async fn ledger(common: &Common, args: LedgerArgs) -> Result<Said, Failure> {
    match args.act {
        LedgerAct::Snapshot { file } => {
            let done = act(common, "/api/ledger/snapshot", Some(&json!({ "file": absolute(&file)? }))).await?;
            let text = format!("written: {} ({} bytes)", file.display(), done["bytes"]);
            Ok(Said::line(done, text))
        }
        LedgerAct::Restore { file } => {
            let done = act(common, "/api/ledger/restore", Some(&json!({ "file": absolute(&file)? }))).await?;
            let text = format!("restored; the ledger before is {}", done["before"].as_str().unwrap_or_default());
            Ok(Said::line(done, text))
        }
    }
}

/// `outrigger erase`.
///
/// # Errors
/// The proxy cannot be reached, or its ledger has no such caller.
pub async fn erase(common: &Common, args: EraseArgs) -> Result<Said, Failure> {
    let done = act(common, "/api/ledger/erase", Some(&json!({ "caller": args.caller }))).await?;
    let mut text = "erased: what the caller spent stays, as `erased`; earlier snapshots and access logs are files of their own".to_owned();
    if let Some(others @ 1..) = done["ledgers_of_other_processes"].as_u64() {
        text += &format!(
            "\n{others} other running proxies have ledgers of their own in the same directory: erase the caller through each of them"
        );
    }
    if done["each_replica"] == true {
        text += "\nreplicas share Redis: open background work that another replica has begun may still name the caller there; erase through each replica";
    }
    Ok(Said::line(done, text))
}

/// The path from the root: the proxy has a working directory of its own.
fn absolute(file: &Path) -> Result<PathBuf, Failure> {
    Ok(std::path::absolute(file).map_err(|error| format!("{}: {error}", file.display()))?)
}
