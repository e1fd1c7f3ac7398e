//! `outbound.on_cut`: how a stream is charged whose reader has left, and the bounds of reading it to its end.

use std::time::Duration;

use serde::Deserialize;

use crate::config::{
    scalars::{Bytes, Usd, W, words},
    schema::{
        Json, Key, Kind, Scalar, Table,
        kinds::{DOLLARS, SIZE_OF, TIME_OF},
    },
};

/// How a stream is charged whose reader has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnCut {
    /// The provider is left, too. The charge is the larger of the usage seen and the tokens that were streamed.
    #[default]
    Settle,
    /// The answer is read to its end, which states the exact usage.
    Drain,
}

/// The bounds of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainBounds {
    /// Longest time.
    pub time: Duration,
    /// Most bytes.
    pub bytes: u64,
    /// Most nano-dollars that the streamed output may be worth by the proxy's own count.
    pub nano_usd: u64,
}

words! {
    OnCut: "settle" => Self::Settle, "drain" => Self::Drain;
}

const ON_CUT: Kind = Kind::Scalar(&Scalar::new::<OnCut>("`settle` or `drain`", Json::Words(&["settle", "drain"]), "drain"));

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    time: W<Duration>,
    size: W<Bytes>,
    usd: W<Usd>,
}

static TABLE: Table = Table::new(
    "drain",
    "The bounds of a drain. At the first one the provider is left, and the call is charged as one that was cut.",
    &[
        Key::new("time", TIME_OF, "Longest time after the reader has left.").within("1s", "1h").default("1m"),
        Key::new("size", SIZE_OF, "Most bytes that are read.").within("1KiB", "1GiB").default("4MiB"),
        Key::new("usd", DOLLARS, "Most dollars that the answer's output may have cost by the proxy's own count.")
            .within("0", "1000")
            .default("1"),
    ],
);

/// The row of `on_cut`.
pub(in crate::config) const KEY: Key = Key::new(
    "on_cut",
    ON_CUT,
    "A stream whose reader leaves before its end. `settle`: the provider is left, and the call is charged by what was streamed, marked \
     estimated. `drain`: the answer is read to its end within `drain`, for the exact usage; the provider writes on, and bills all of it.",
)
.default("settle");

/// The row of `drain`.
pub(in crate::config) const BOUNDS_KEY: Key = Key::new("drain", Kind::Table(&TABLE), "The bounds of `on_cut: drain`.").default("{}");

pub(in crate::config) fn build(written: &Written) -> DrainBounds {
    DrainBounds { time: written.time.0, bytes: written.size.0.0, nano_usd: written.usd.0.0 }
}
