//! `telemetry.errors`: how many of the last failures are kept for the admin door.

use serde::Deserialize;

use crate::config::{
    build::whole,
    scalars::{Bytes, Count, W},
    schema::{
        Key, Table,
        kinds::{COUNT_OF, SIZE_OF},
    },
};

/// The bounds of the ring of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureBounds {
    /// Most failures; 0: none is kept.
    pub keep: usize,
    /// Most bytes of all failures.
    pub bytes: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    keep: W<Count>,
    bytes: W<Bytes>,
}

pub(in crate::config) static TABLE: Table = Table::new(
    "telemetry.errors",
    "The last failures, each with its whole story, for /api/errors and `outrigger errors`. They are in memory alone.",
    &[
        Key::new("keep", COUNT_OF, "Most failures; the oldest makes room. 0 keeps none.").within("0", "1M").default("10k"),
        Key::new("bytes", SIZE_OF, "Most bytes of all of them.").within("64KiB", "1GiB").default("8MiB"),
    ],
);

pub(super) fn build(written: &Written) -> FailureBounds {
    FailureBounds { keep: whole(&written.keep), bytes: usize::try_from(written.bytes.0.0).unwrap_or(usize::MAX) }
}
