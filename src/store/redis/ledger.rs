//! The verb of the shared ledger: a script that takes and gives strings.

use std::time::Duration;

use bytes::Bytes;
use fred::{
    interfaces::ClientLike,
    types::{ClusterHash, CustomCommand, Value},
};

use super::{Operation, Redis, Script};
use crate::store::StoreError;

/// Least deadline: nobody's request waits, and a bucket may have megabytes.
const LEAST: Duration = Duration::from_secs(1);

impl Redis {
    /// Runs a script that answers with a list of strings. All `keys` must be [`tagged`](Self::tagged).
    ///
    /// # Errors
    /// Redis is away, or refuses. Without an answer the script may have run all the same.
    pub async fn run(&self, script: &Script, keys: &[String], args: &[Vec<u8>]) -> Result<Vec<Bytes>, StoreError> {
        let client = self.client()?;
        let slot = ClusterHash::from(keys.first().map_or("", String::as_str));
        let send = |command: &'static str, what: &str| {
            let mut line = Vec::with_capacity(2 + keys.len() + args.len());
            line.extend([Value::from(what), Value::Integer(keys.len() as i64)]);
            line.extend(keys.iter().map(|key| Value::from(key.as_str())));
            line.extend(args.iter().map(|arg| Value::Bytes(Bytes::copy_from_slice(arg))));
            client.custom::<Vec<Bytes>, Value>(CustomCommand::new_static(command, slot.clone(), false), line)
        };
        let work = async {
            match send("EVALSHA", script.sha()).await {
                Err(error) if error.details().starts_with("NOSCRIPT") => send("EVAL", script.source()).await,
                done => done,
            }
        };
        self.finish_within(self.timeout.max(LEAST), Operation::Eval, work).await
    }
}
