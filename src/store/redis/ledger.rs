//! The verb of the shared ledger: a script that takes and gives strings.

use std::time::Duration;

use bytes::Bytes;
use fred::types::Value;

use super::{Operation, Redis, Script, scripts};
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
        let work = scripts::send(&client, script, keys, args.iter().map(|arg| Value::Bytes(Bytes::copy_from_slice(arg))));
        self.finish_within(self.timeout.max(LEAST), Operation::Eval, work).await
    }
}
