//! `outbound.unattributed`: what becomes of a model call that no caller is known for.

use crate::config::{
    scalars::words,
    schema::{Json, Key, Kind, Scalar},
};

/// What becomes of a model call that no caller is known for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unattributed {
    /// Limits by caller do not count it.
    #[default]
    Skip,
    /// All such calls share one counter of each limit by caller.
    Shared,
    /// A call that may cost something is refused.
    Refuse,
}

words! {
    Unattributed: "skip" => Self::Skip, "shared" => Self::Shared, "refuse" => Self::Refuse;
}

const WORDS: Kind =
    Kind::Scalar(&Scalar::new::<Unattributed>("`skip`, `shared` or `refuse`", Json::Words(&["skip", "shared", "refuse"]), "shared"));

/// The row of `unattributed`.
pub(in crate::config) const KEY: Key = Key::new(
    "unattributed",
    WORDS,
    "A model call that no caller is known for. `skip`: limits by caller do not count it. `shared`: all such calls share one counter of each \
     limit by caller. `refuse`: it is refused, unless it costs nothing.",
)
.default("skip");
