//! Work that goes on after its answer. The first replica that sees the end is told who pays; every other is told that the work was charged.
//!
//! One small value per work: first the note of the replica that began it about who pays, then the mark that it was charged.

use std::{sync::LazyLock, time::Duration};

use bytes::Bytes;
use fred::{
    interfaces::KeysInterface,
    types::{Expiration, SetOptions, Value},
};

use super::{Operation, Redis, Script, scripts};
use crate::store::StoreError;

static SAYS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("work_says.lua")));
static END: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("work.lua")));
/// The mark that `work.lua` writes.
const CHARGED: &[u8] = b"charged";

/// The state of a work at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkEnded {
    /// Not charged yet; the note of the replica that began it.
    Said(Bytes),
    /// Nothing is known of it.
    Unknown,
    /// It was charged before.
    Charged,
}

impl Redis {
    /// Notes that a work goes on: `said` is kept for `ttl`, unless the work has a value already.
    ///
    /// # Errors
    /// Redis is away, or refuses.
    pub async fn work_begins(&self, work: &str, said: Bytes, ttl: Duration) -> Result<(), StoreError> {
        let client = self.client()?;
        let kept = client.set(self.tagged(work), said, Some(Expiration::PX(millis(ttl))), Some(SetOptions::NX), false);
        let _: Option<Bytes> = self.finish(Operation::Set, kept).await?;
        Ok(())
    }

    /// Changes the note of a work that goes on.
    ///
    /// # Errors
    /// Redis is away, or refuses.
    pub async fn work_says(&self, work: &str, said: &[u8]) -> Result<(), StoreError> {
        self.run(&SAYS, &[self.tagged(work)], &[said.to_vec()]).await.map(drop)
    }

    /// Whether a work is known and was not charged yet.
    ///
    /// # Errors
    /// Redis is away, or refuses.
    pub async fn work_goes_on(&self, work: &str) -> Result<bool, StoreError> {
        let client = self.client()?;
        let known: Option<Bytes> = self.finish(Operation::Get, client.get(self.tagged(work))).await?;
        Ok(known.is_some_and(|said| said != CHARGED))
    }

    /// Notes that a work has ended: it counts as charged from now on, and the mark is kept for `ttl`.
    ///
    /// # Errors
    /// Redis is away, or refuses. Without an answer it may count as charged all the same.
    pub async fn work_ends(&self, work: &str, ttl: Duration) -> Result<WorkEnded, StoreError> {
        let client = self.client()?;
        let keys = [self.tagged(work)];
        let work = scripts::send::<Option<Bytes>>(&client, &END, &keys, [Value::Integer(millis(ttl))].into_iter());
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
