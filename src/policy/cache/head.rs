//! The head of a response that many may read, and the reasons why one of them must not.

use http::StatusCode;

use super::{freshness::Freshness, vary::Variance};
use crate::http1::Fields;

/// The head of a response that many may read.
#[derive(Debug, Clone)]
pub struct Head {
    /// The status, as received.
    pub status: StatusCode,
    /// Fields to send; no `Age`, no fields of a connection.
    pub headers: Fields,
    /// Which requests it answers.
    pub variance: Variance,
    /// Age and lifetime.
    pub fresh: Freshness,
    /// Whether it stands in for an origin that failed.
    pub stand_in: bool,
}

/// Why a reader must fetch for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FallThrough {
    /// The response is not for sharing.
    Private,
    /// The response is for other requests (`Vary`, cookies, credentials).
    OtherVariant,
    /// The fetch failed before a head came.
    Failed,
}

/// Why a shared body is cut short.
#[derive(Debug, Clone)]
pub(super) enum CutShort {
    /// The process stops.
    Stopping,
    /// Any other reason, in words.
    Failed(String),
}
