//! Work that goes on behind its answer: whichever replica hears first that it has ended is told who pays, and every other that it was
//! charged.
//!
//! One small value a work: first what the replica that began it says of who pays, then that it was charged.

use std::{sync::LazyLock, time::Duration};

use bytes::Bytes;
use fred::{
    interfaces::{ClientLike, KeysInterface},
    types::{ClusterHash, CustomCommand, Expiration, SetOptions, Value},
};

use super::{Operation, Redis, Script};
use crate::store::StoreError;

static END: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("work.lua")));
/// As in `work.lua`.
const CHARGED: &[u8] = b"charged";

/// What was known of a work that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkEnded {
    /// Who began it said this, and nobody has charged it.
    Said(Bytes),
    /// Nothing.
    Unknown,
    /// It was charged before.
    Charged,
}

impl Redis {
    /// A work goes on: `said` is kept for `ttl`, unless something is known of it.
    ///
    /// # Errors
    /// Redis is away, or refuses.
    pub async fn work_begins(&self, work: &str, said: Bytes, ttl: Duration) -> Result<(), StoreError> {
        let client = self.client()?;
        let kept = client.set(self.tagged(work), said, Some(Expiration::PX(millis(ttl))), Some(SetOptions::NX), false);
        let _: Option<Bytes> = self.finish(Operation::Set, kept).await?;
        Ok(())
    }

    /// A work has ended: it counts as charged from now on, and is remembered for `ttl`.
    ///
    /// # Errors
    /// Redis is away, or refuses. Without an answer it may count as charged all the same.
    pub async fn work_ends(&self, work: &str, ttl: Duration) -> Result<WorkEnded, StoreError> {
        let client = self.client()?;
        let key = self.tagged(work);
        let slot = ClusterHash::from(key.as_str());
        let send = |command: &'static str, script: &str| {
            let line: Vec<Value> = vec![script.into(), Value::Integer(1), key.as_str().into(), Value::Integer(millis(ttl))];
            client.custom::<Option<Bytes>, Value>(CustomCommand::new_static(command, slot.clone(), false), line)
        };
        let work = async {
            match send("EVALSHA", END.sha()).await {
                Err(error) if error.details().starts_with("NOSCRIPT") => send("EVAL", END.source()).await,
                done => done,
            }
        };
        Ok(match self.finish(Operation::Eval, work).await? {
            None => WorkEnded::Unknown,
            Some(said) if said == CHARGED => WorkEnded::Charged,
            Some(said) => WorkEnded::Said(said),
        })
    }
}

fn millis(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX).max(1)
}
