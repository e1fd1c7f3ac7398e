//! A refused credential, as its client is told.

use std::{borrow::Cow, time::Duration};

use http::StatusCode;

/// A request that has not proved what its route asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Unproved {
    /// What is wrong.
    pub fault: ProofFault,
    /// What is wrong, in a sentence. It shows nothing of the credential.
    pub why: Cow<'static, str>,
    /// The values of `WWW-Authenticate` (RFC 9110 section 11.6.1).
    pub challenges: Vec<String>,
}

/// What is wrong with a request's credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProofFault {
    /// There is none.
    Missing,
    /// It is not good, or not any more.
    Invalid,
    /// It is good, and not for this route.
    Insufficient,
    /// Its address has shown too many bad ones; the time until it may try again.
    Slowed(Duration),
    /// Nobody can say now whether it is good.
    Unknown,
}

impl ProofFault {
    /// The status of the answer (RFC 6750 section 3.1).
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Missing | Self::Invalid => StatusCode::UNAUTHORIZED,
            Self::Insufficient => StatusCode::FORBIDDEN,
            Self::Slowed(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Unknown => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The word for metrics, logs and bodies.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Missing => "auth_missing",
            Self::Invalid => "auth_invalid",
            Self::Insufficient => "auth_insufficient",
            Self::Slowed(_) => "auth_slowed",
            Self::Unknown => "auth_unknown",
        }
    }

    /// The time after which a client may ask again.
    pub(super) fn wait(self) -> Option<Duration> {
        match self {
            Self::Slowed(wait) => Some(wait.max(Duration::from_secs(1))),
            Self::Unknown => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}
