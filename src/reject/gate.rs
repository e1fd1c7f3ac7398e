//! The policies that refuse a request before it is counted, with the reason that each gives.

/// A policy of the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum GatePolicy {
    Attacks,
    Bans,
    Cors,
    Csrf,
    Privacy,
    /// `privacy`, for a body that it cannot read.
    Unreadable,
}

impl GatePolicy {
    /// The policy's key in the file, and its label in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attacks => "attacks",
            Self::Bans => "bans",
            Self::Cors => "cors",
            Self::Csrf => "csrf",
            Self::Privacy => "privacy",
            Self::Unreadable => "privacy_unreadable",
        }
    }

    /// The reason of its refusals.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Attacks => "attack_refused",
            Self::Bans => "banned",
            Self::Cors => "cors_refused",
            Self::Csrf => "csrf_refused",
            Self::Privacy => "privacy_refused",
            Self::Unreadable => "privacy_unreadable",
        }
    }
}
