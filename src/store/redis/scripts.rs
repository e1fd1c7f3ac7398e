//! The scripts that run inside Redis, with their hashes.

use std::sync::LazyLock;

use fred::{
    clients::{Client, WithOptions},
    error::Error,
    interfaces::ClientLike,
    types::{ClusterHash, CustomCommand, FromValue, Value},
};

/// A Lua script.
#[derive(Debug)]
pub struct Script {
    source: &'static str,
    sha: String,
}

impl Script {
    /// A script that is sent by its hash once a node knows it.
    pub fn new(source: &'static str) -> Self {
        Self { source, sha: fred::util::sha1_hash(source) }
    }

    /// The text.
    pub fn source(&self) -> &'static str {
        self.source
    }

    /// The SHA-1 of the text, in hexadecimal.
    pub fn sha(&self) -> &str {
        &self.sha
    }
}

/// Runs a script on the node of the first of `keys`, by its hash; a node that does not know the hash gets the text.
pub(super) async fn send<R: FromValue>(
    client: &WithOptions<Client>,
    script: &Script,
    keys: &[String],
    args: impl Iterator<Item = Value> + Clone,
) -> Result<R, Error> {
    // The library takes no other hash for a custom command: it ignores an offset into the arguments.
    let slot = ClusterHash::from(keys.first().map_or("", String::as_str));
    let send = |command: &'static str, what: &str| {
        let mut line = Vec::with_capacity(2 + keys.len() + args.size_hint().0);
        line.extend([Value::from(what), Value::Integer(keys.len() as i64)]);
        line.extend(keys.iter().map(|key| Value::from(key.as_str())));
        line.extend(args.clone());
        client.custom::<R, Value>(CustomCommand::new_static(command, slot.clone(), false), line)
    };
    match send("EVALSHA", script.sha()).await {
        // The node does not know the script: nothing ran.
        Err(error) if error.details().starts_with("NOSCRIPT") => send("EVAL", script.source()).await,
        done => done,
    }
}

/// Decides all limits of one request.
pub static LIMITS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("limits.lua")));

/// Corrects reservations to the amounts used.
pub static SETTLE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("settle.lua")));
