//! `Cache-Status` (RFC 9211) and `Age`: every answer tells how it came about.

use std::time::Duration;

use http::StatusCode;

use crate::http1::{Fields, Id, write_number};

/// The field's name.
pub const CACHE_STATUS: Id = Id::CacheStatus;

/// Why a request went forward (RFC 9211 section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Forward {
    /// The cache was not asked.
    Bypass,
    /// The method is not one for the store.
    Method,
    /// Nothing is stored under the URI.
    UriMiss,
    /// Something is stored, but no variant for this request.
    VaryMiss,
    /// Something is stored that may not answer this request.
    Miss,
    /// The request asked for it (`no-cache`, `max-age`, `min-fresh`).
    Request,
    /// The stored response is stale.
    Stale,
}

impl Forward {
    /// The token.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Miss => "miss",
            Self::Request => "request",
            Self::Stale => "stale",
        }
    }
}

/// A forwarded request's member of the list.
#[derive(Debug, Clone, Copy)]
pub struct Forwarded {
    /// Why.
    pub why: Forward,
    /// The origin's status, if the answer has another.
    pub status: Option<StatusCode>,
    /// Whether the answer is being stored.
    pub stored: bool,
    /// Whether the request waited for another one's answer.
    pub collapsed: bool,
    /// One more word: a token.
    pub detail: Option<&'static str>,
}

impl From<Forward> for Forwarded {
    fn from(why: Forward) -> Self {
        Self { why, status: None, stored: false, collapsed: false, detail: None }
    }
}

impl Forwarded {
    /// The member as a field value.
    pub fn value(&self) -> String {
        let mut text = format!("outrigger; fwd={}", self.why.as_str());
        if let Some(status) = self.status {
            text.push_str("; fwd-status=");
            text.push_str(status.as_str());
        }
        if self.stored {
            text.push_str("; stored");
        }
        if self.collapsed {
            text.push_str("; collapsed");
        }
        if let Some(detail) = self.detail {
            text.push_str("; detail=\"");
            text.extend(detail.chars().filter(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\\') || *c == ' '));
            text.push('"');
        }
        text
    }
}

/// The member of a request that bypasses the cache, with the reason.
pub fn bypassed(reason: &'static str) -> String {
    let why = if reason == "method" { Forward::Method } else { Forward::Bypass };
    Forwarded { detail: Some(reason).filter(|_| why == Forward::Bypass), ..why.into() }.value()
}

/// Adds the hit's member, with its remaining lifetime in seconds (negative once stale), and sets `Age`.
pub fn mark_hit(headers: &mut Fields, ttl: i64, age: Duration) {
    headers.append_plain_with(CACHE_STATUS, |out| {
        out.extend_from_slice(if ttl < 0 { b"outrigger; hit; ttl=-" } else { b"outrigger; hit; ttl=" });
        write_number(out, ttl.unsigned_abs());
    });
    mark_age(headers, age);
}

/// Sets `Age` (RFC 9111 section 5.1).
pub fn mark_age(headers: &mut Fields, age: Duration) {
    headers.insert_number(Id::Age, age.as_secs().min(super::directives::MAX_DELTA));
}

#[cfg(test)]
mod tests {
    use sfv::{List, Parser};

    use super::*;

    #[test]
    fn members_are_structured_fields() {
        let full = Forwarded {
            why: Forward::Stale,
            status: Some(StatusCode::NOT_MODIFIED),
            stored: true,
            collapsed: true,
            detail: Some("set-cookie \"x\""),
        };
        assert_eq!(full.value(), "outrigger; fwd=stale; fwd-status=304; stored; collapsed; detail=\"set-cookie x\"");
        for value in [full.value(), Forwarded::from(Forward::UriMiss).value()] {
            assert!(Parser::new(value.as_bytes()).parse::<List>().is_ok(), "{value:?}");
        }
    }
}
