//! One notice in the forms of those who take it. Pure: a notice goes in, JSON comes out.

pub mod alertmanager;
pub mod discord;
pub mod pagerduty;
pub mod slack;
pub mod teams;
pub mod webhook;

use crate::{alert::Notice, config::Severity};

/// A text of at most `most` characters.
fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => format!("{}…", text.chars().take(most.saturating_sub(1)).collect::<String>()),
    }
}

/// A time as RFC 3339.
fn time(millis: u64) -> String {
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + std::time::Duration::from_millis(millis)).to_string()
}

/// A colour for the eye: red, amber, grey; green when it is over.
fn colour(notice: &Notice) -> (u8, u8, u8) {
    match (notice.kind, notice.severity) {
        (crate::alert::Kind::Resolved, _) => (0x2e, 0x7d, 0x32),
        (_, Severity::Critical) => (0xc6, 0x28, 0x28),
        (_, Severity::Warning) => (0xef, 0x8f, 0x00),
        (_, Severity::Low) => (0x60, 0x7d, 0x8b),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::alert::{Hit, Item, Kind};

    /// A notice of `n` incidents whose texts try to break out.
    pub(in crate::notify) fn notice(kind: Kind, n: usize) -> Notice {
        let item = |at: usize| Item {
            id: format!("id{at}"),
            rule: "error_rate".into(),
            subject: format!("inbound route r{at} <!channel> & \"q\" *b*"),
            severity: if at == 0 { Severity::Critical } else { Severity::Warning },
            says: "x".repeat(if at == 1 { 9_000 } else { 40 }),
            since: 1_800_000_000_000,
            until: (kind == Kind::Resolved).then_some(1_800_000_090_000),
            hit: Hit {
                callers: vec![(Arc::from("ann<@U1>"), 7)],
                caller_count: 3,
                routes: vec![(Arc::from("inbound chat"), 9)],
                nano_usd: Some(1_230_000_000),
            },
            advice: "Read the log.".into(),
            runbook: Some("https://wiki.example/alerts#error_rate".into()),
        };
        Notice {
            id: "n-1".into(),
            kind,
            severity: Severity::Critical,
            at: 1_800_000_100_000,
            service: "shop".into(),
            items: (0..n).map(item).collect(),
            more: 2,
        }
    }

    #[test]
    fn a_text_is_cut_by_characters() {
        assert_eq!((cut("äöü", 3), cut("äöüß", 3)), ("äöü".into(), "äö…".into()));
    }
}
