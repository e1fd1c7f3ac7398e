//! Bans that all replicas know: counters of refusals, and one sorted set of who is out until when.

use std::{sync::LazyLock, time::Duration};

use super::{Redis, Script};
use crate::store::StoreError;

static STRIKE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("strike.lua")));
static BANS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("bans.lua")));
/// Most bans in the set.
const MOST: usize = 1 << 16;

/// Somebody who is out, or is not any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ban {
    /// Who, as the replicas write it.
    pub member: String,
    /// For how long yet; `None`: not any more.
    pub time: Option<Duration>,
}

impl Redis {
    /// Counts a refusal in a window of `slots` slots of this width; `true`: it was the `after`th, and `ban` is in the set now.
    ///
    /// # Errors
    /// Redis is away, or refuses. Without an answer it may have counted all the same.
    pub async fn strike(&self, counter: &str, width: Duration, slots: u64, after: u32, ban: &Ban) -> Result<bool, StoreError> {
        let keys = [self.tagged(&format!("strikes:{counter}")), self.tagged("bans")];
        let args = [
            millis(width),
            slots.to_string(),
            after.to_string(),
            millis(ban.time.unwrap_or_default()),
            MOST.to_string(),
            ban.member.clone(),
        ];
        let answer = self.run(&STRIKE, &keys, &args.map(String::into_bytes)).await?;
        Ok(answer.first().is_some_and(|banned| **banned == *b"1"))
    }

    /// Puts these into the set, or takes them out of it, and gives everybody who is in it then.
    ///
    /// # Errors
    /// Redis is away, or refuses. Without an answer the set may have changed all the same.
    pub async fn change_bans(&self, changes: &[Ban]) -> Result<Vec<Ban>, StoreError> {
        let mut args = vec![MOST.to_string()];
        args.extend(changes.iter().flat_map(|ban| [ban.member.clone(), ban.time.map_or_else(|| "0".into(), millis)]));
        let args: Vec<Vec<u8>> = args.into_iter().map(String::into_bytes).collect();
        let answer = self.run(&BANS, &[self.tagged("bans")], &args).await?;
        let of = |pair: &[bytes::Bytes]| {
            let (member, left) = (String::from_utf8(pair.first()?.to_vec()).ok()?, std::str::from_utf8(pair.get(1)?).ok()?.parse().ok()?);
            Some(Ban { member, time: Some(Duration::from_millis(left)) })
        };
        Ok(answer.chunks(2).filter_map(of).collect())
    }
}

fn millis(time: Duration) -> String {
    time.as_millis().max(1).to_string()
}
