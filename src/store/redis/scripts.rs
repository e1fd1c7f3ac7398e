//! The scripts that run inside Redis, with their hashes.

use std::sync::LazyLock;

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

/// Decides all limits of one request.
pub static LIMITS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("limits.lua")));

/// Corrects reservations to the amounts used.
pub static SETTLE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("settle.lua")));
