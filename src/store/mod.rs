//! The memory of one process, the memory that replicas share, and the books: few verbs over each.

pub mod kept;
pub mod ledger;
pub mod memory;
pub mod redis;
pub mod seal;
pub mod versions;

/// Why a store gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Nothing was sent: the store is known to be away.
    #[error("the store is away")]
    Away,
    /// No answer in time, or the connection broke. The command may have run all the same.
    #[error("the store did not answer: {0}")]
    Silent(String),
    /// The store answered with an error.
    #[error("the store refused: {0}")]
    Refused(String),
}
