//! The more specific of two matches.

use crate::config::{Match, Segment};

/// Precedence of a match: field by field in this order, the greater wins.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Precedence {
    host: Option<(bool, usize)>,
    path: Vec<Rank>,
    provider: bool,
    model: Option<(bool, usize)>,
    operation: bool,
    method: bool,
    headers: usize,
}

/// One segment's weight; compared segment by segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Rest,
    One,
    Literal,
    /// The pattern ends here: more specific than any rest.
    End,
}

impl Precedence {
    /// The precedence of `matches`.
    pub fn of(matches: &Match) -> Self {
        let mut path = Vec::new();
        if let Some(pattern) = &matches.path {
            for segment in pattern.segments() {
                path.push(match segment {
                    Segment::Literal(_) => Rank::Literal,
                    Segment::One => Rank::One,
                    Segment::Rest => Rank::Rest,
                });
            }
            if path.last() != Some(&Rank::Rest) {
                path.push(Rank::End);
            }
        }
        let tightest = |globs: &[crate::config::Glob]| globs.iter().map(|g| (g.is_literal(), g.literal_len())).min();
        Self {
            host: tightest(&matches.hosts),
            path,
            provider: !matches.providers.is_empty(),
            model: tightest(&matches.models),
            operation: !matches.operations.is_empty(),
            method: !matches.methods.is_empty(),
            headers: matches.headers.len(),
        }
    }

    /// The condition that makes this match more specific than `other`, as `proxy.yaml` calls it; `None`: there is none, and the
    /// order of the file decides.
    pub fn decided_by(&self, other: &Self) -> Option<&'static str> {
        [
            ("hosts", self.host != other.host),
            ("path", self.path != other.path),
            ("provider", self.provider != other.provider),
            ("models", self.model != other.model),
            ("operation", self.operation != other.operation),
            ("methods", self.method != other.method),
            ("headers", self.headers != other.headers),
        ]
        .into_iter()
        .find(|(_, differs)| *differs)
        .map(|(name, _)| name)
    }
}
