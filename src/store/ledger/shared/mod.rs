//! The ledger that replicas share through Redis: one book for all.
//!
//! | key | value |
//! |---|---|
//! | `{NAMESPACE}:ledger:meta` | next ids, live names, the minute from which on it records |
//! | `...:ids`, `...:names` | ids by kind and name, and back |
//! | `...:gone` | hashes of erased names, for eight days |
//! | `...:seq:PROCESS` | the number of the last push of a process, for eight days |
//! | `...:m:N`, `...:h:N`, `...:d:N` | a minute, hour or day: sums by ids; Redis drops it when its time is over |
//!
//! A process pushes what it has counted in batches. A batch has a number, and a script adds each number once: a batch that had no answer
//! is sent again. Each batch goes to its minutes, hours and days at once: nothing is summed up later. While Redis is away, counted calls
//! wait in memory within the ledger's bounds.

mod push;
mod read;
#[cfg(test)]
mod tests;

use super::{FileError, Terms, level::Class};
pub(super) use push::BATCH;

/// For how long a process's last number and an erased name's hash are kept, in milliseconds.
const REMEMBERED: u64 = 8 * 86_400_000;
/// Bytes that a row takes in Redis, about.
const ROW: u64 = 200;

/// A script and its hash.
#[derive(Debug, Clone, Copy)]
pub enum Lua {
    /// Adds rows.
    Push,
    /// Erases a name.
    Erase,
    /// The fields and values of a hash.
    Read,
}

impl Lua {
    /// The text.
    pub fn source(self) -> &'static str {
        match self {
            Self::Push => include_str!("push.lua"),
            Self::Erase => include_str!("erase.lua"),
            Self::Read => "return redis.call('HGETALL', KEYS[1])",
        }
    }
}

/// The Redis that holds the shared ledger. Its methods block, in a bounded time.
pub trait Remote: Send + Sync {
    /// The key of this deployment for a part of the ledger. All keys lie on one node of a cluster.
    fn key(&self, rest: &str) -> String;

    /// Runs a script that answers with a list of strings.
    ///
    /// # Errors
    /// Redis is away or refuses, in words. Without an answer the script may have run.
    fn run(&self, script: Lua, keys: Vec<String>, args: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, String>;
}

/// The shared ledger, seen from one process.
pub struct Shared {
    pub(super) remote: Box<dyn Remote>,
    /// This process's own name among those that push.
    process: String,
    /// The most rows of a minute, hour and day.
    most: [u64; 3],
    keep: [u64; 3],
}

impl Shared {
    /// Over a Redis. `terms.size` bounds the bytes in Redis: half of them are for days, a quarter each for hours and minutes.
    pub fn new(remote: Box<dyn Remote>, terms: &Terms, process: u128) -> Self {
        let keep = terms.keep.map(|keep| keep.as_secs() / 60);
        let share = [4, 4, 2];
        let length = Class::KEPT.map(|class| u64::from(class.begin(1)));
        let most = std::array::from_fn(|at| (terms.size / share[at] / ROW / (keep[at] / length[at] + 1)).max(64));
        Self { remote, process: format!("{process:032x}"), most, keep }
    }

    fn at(&self, rest: &str) -> String {
        self.remote.key(&format!("ledger:{rest}"))
    }

    fn bucket(&self, class: Class, bucket: u32) -> String {
        let letter = ["m", "h", "d"][(class as usize).min(2)];
        self.at(&format!("{letter}:{bucket}"))
    }

    /// The fields and values of a hash, one after the other; empty: there is none.
    fn hash(&self, key: String) -> Result<Vec<Vec<u8>>, FileError> {
        self.remote.run(Lua::Read, vec![key], Vec::new()).map_err(away)
    }

    /// Erases a caller's name. Gives whether there was such a caller.
    ///
    /// # Errors
    /// Redis is away or refuses.
    pub fn erase(&self, caller: &str) -> Result<bool, FileError> {
        let keys = ["meta", "ids", "names", "gone"].map(|rest| self.at(rest)).into();
        let args = vec![caller.as_bytes().to_vec(), REMEMBERED.to_string().into_bytes()];
        let said = self.remote.run(Lua::Erase, keys, args).map_err(away)?;
        Ok(said.first().is_some_and(|word| word == b"1"))
    }
}

fn away(why: String) -> FileError {
    FileError::Other(format!("Redis, which holds the ledger: {why}"))
}
