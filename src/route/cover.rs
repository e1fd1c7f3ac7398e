//! Routes in each other's way: for a person who adds one.
//!
//! The request path uses none of this. Where the conditions alone do not settle the question, routes are said to share requests, and not
//! to cover each other.

use crate::config::{Glob, Match, PathPattern, Segment};

use super::Precedence;

/// Whether `wide` matches every request that `narrow` matches; `false`: it does not, or nobody can tell.
pub fn covers(wide: &Match, narrow: &Match) -> bool {
    let path = match (&wide.path, &narrow.path) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => path_covers(wide, narrow),
    };
    let headers = wide
        .headers
        .iter()
        .all(|(name, wanted)| narrow.headers.iter().any(|(known, value)| known == name && (wanted.is_none() || wanted == value)));
    path && headers
        && list_covers(&wide.methods, &narrow.methods)
        && list_covers(&wide.providers, &narrow.providers)
        && list_covers(&wide.operations, &narrow.operations)
        && globs_cover(&wide.hosts, &narrow.hosts)
        && globs_cover(&wide.models, &narrow.models)
}

/// Whether a request may match both.
pub fn share(one: &Match, other: &Match) -> bool {
    let paths = match (&one.path, &other.path) {
        (Some(one), Some(other)) => paths_meet(one.segments(), other.segments()),
        _ => true,
    };
    paths
        && lists_meet(&one.methods, &other.methods)
        && lists_meet(&one.providers, &other.providers)
        && lists_meet(&one.operations, &other.operations)
        && globs_meet(&one.hosts, &other.hosts)
        && globs_meet(&one.models, &other.models)
}

/// Whether the row at `first` is asked before the row at `second`.
pub fn is_asked_before(rows: &[&Match], first: usize, second: usize) -> bool {
    let (a, b) = (Precedence::of(rows[first]), Precedence::of(rows[second]));
    a > b || a == b && first < second
}

/// The row that takes every request of the row at `at`; `None`: it has requests of its own, as far as can be told.
pub fn hidden_by(rows: &[&Match], at: usize) -> Option<usize> {
    (0..rows.len()).find(|other| *other != at && is_asked_before(rows, *other, at) && covers(rows[*other], rows[at]))
}

/// Rows that are asked before the row at `at` and may take a part of its requests, though they are no part of its match: each with the
/// condition that makes it the more specific one, as `proxy.yaml` calls it; `None`: it stands earlier in the file.
pub fn crossed_by(rows: &[&Match], at: usize) -> Vec<(usize, Option<&'static str>)> {
    let own = Precedence::of(rows[at]);
    let before = (0..rows.len()).filter(|other| *other != at && is_asked_before(rows, *other, at));
    let crossing = before.filter(|other| share(rows[*other], rows[at]) && !covers(rows[at], rows[*other]));
    crossing.map(|other| (other, Precedence::of(rows[other]).decided_by(&own))).collect()
}

/// The place at which a new last row is asked before an equal one that takes all of its requests; `None`: it may stay last.
pub fn place_of_last(rows: &[&Match]) -> Option<usize> {
    let last = rows.len().checked_sub(1)?;
    let own = Precedence::of(rows[last]);
    let hides = |at: &usize| Precedence::of(rows[*at]) == own && covers(rows[*at], rows[last]) && !covers(rows[last], rows[*at]);
    (0..last).find(hides)
}

fn list_covers<T: PartialEq>(wide: &[T], narrow: &[T]) -> bool {
    wide.is_empty() || !narrow.is_empty() && narrow.iter().all(|one| wide.contains(one))
}

fn lists_meet<T: PartialEq>(one: &[T], other: &[T]) -> bool {
    one.is_empty() || other.is_empty() || one.iter().any(|value| other.contains(value))
}

/// A `*` of the narrow pattern is a letter that only a `*` of the wide one matches.
fn globs_cover(wide: &[Glob], narrow: &[Glob]) -> bool {
    wide.is_empty() || !narrow.is_empty() && narrow.iter().all(|one| wide.iter().any(|wide| wide.matches(one.as_str())))
}

fn globs_meet(one: &[Glob], other: &[Glob]) -> bool {
    let meet = |a: &Glob, b: &Glob| match (a.is_literal(), b.is_literal()) {
        (true, _) => b.matches(a.as_str()),
        (_, true) => a.matches(b.as_str()),
        _ => {
            let begin = |glob: &Glob| glob.as_str().split('*').next().unwrap_or_default().to_owned();
            let (a, b) = (begin(a), begin(b));
            a.starts_with(&b) || b.starts_with(&a)
        }
    };
    one.is_empty() || other.is_empty() || one.iter().any(|a| other.iter().any(|b| meet(a, b)))
}

fn path_covers(wide: &PathPattern, narrow: &PathPattern) -> bool {
    let mut narrow = narrow.segments().iter();
    for segment in wide.segments() {
        let fits = match (segment, narrow.next()) {
            (Segment::Rest, _) => return true,
            (Segment::One, Some(Segment::One)) => true,
            (Segment::One, Some(Segment::Literal(literal))) => !literal.is_empty(),
            (Segment::Literal(wide), Some(Segment::Literal(narrow))) => wide == narrow,
            _ => false,
        };
        if !fits {
            return false;
        }
    }
    narrow.next().is_none()
}

fn paths_meet(one: &[Segment], other: &[Segment]) -> bool {
    match (one.split_first(), other.split_first()) {
        (Some((Segment::Rest, _)), _) | (_, Some((Segment::Rest, _))) | (None, None) => true,
        (Some((a, one)), Some((b, other))) => {
            let meet = match (a, b) {
                (Segment::Literal(a), Segment::Literal(b)) => a == b,
                (Segment::Literal(literal), _) | (_, Segment::Literal(literal)) => !literal.is_empty(),
                _ => true,
            };
            meet && paths_meet(one, other)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn path(pattern: &str) -> Match {
        Match { path: Some(PathPattern::parse(pattern).expect(pattern)), ..Match::default() }
    }

    fn models(globs: &[&str]) -> Match {
        Match { models: globs.iter().map(|glob| Glob::new(*glob)).collect(), ..Match::default() }
    }

    #[test]
    fn a_match_covers_what_it_takes_whole_and_shares_what_it_may_meet() {
        let posts = Match { methods: vec![Method::POST], ..path("/a") };
        for (wide, narrow, all, some) in [
            (path("/**"), path("/a/b"), true, true),
            (path("/a/**"), path("/a"), true, true),
            (path("/a/*"), path("/a/b"), true, true),
            (path("/a/*"), path("/a/"), false, false),
            (path("/a/*"), path("/a/**"), false, true),
            (path("/a/b"), path("/a/c"), false, false),
            (path("/*/b"), path("/a/*"), false, true),
            (Match::default(), path("/a"), true, true),
            (path("/a"), Match::default(), false, true),
            (path("/a"), posts.clone(), true, true),
            (posts, path("/a"), false, true),
            (models(&["gpt-*"]), models(&["gpt-4*", "gpt-3"]), true, true),
            (models(&["gpt-4*"]), models(&["gpt-*"]), false, true),
            (models(&["gpt-*"]), models(&["claude-*"]), false, false),
            (models(&["*-mini"]), models(&["gpt-*"]), false, true),
            (models(&["o3"]), models(&["gpt-*"]), false, false),
        ] {
            assert_eq!((covers(&wide, &narrow), share(&wide, &narrow), share(&narrow, &wide)), (all, some, some), "{wide:?} {narrow:?}");
        }
    }

    #[test]
    fn a_route_is_hidden_by_one_that_is_asked_before_it_and_takes_everything() {
        let (all, posts) = (path("/a"), Match { methods: vec![Method::POST], ..path("/a") });
        assert_eq!(hidden_by(&[&all, &posts], 1), None, "a method is more specific");
        assert_eq!(hidden_by(&[&all, &path("/a")], 1), Some(0), "the first of two equal ones");
        let openai = Match { providers: vec!["openai".into()], ..Match::default() };
        let both = Match { providers: vec!["openai".into()], ..models(&["gpt-*"]) };
        assert_eq!(hidden_by(&[&openai, &both], 1), None);
        assert_eq!(crossed_by(&[&openai, &models(&["gpt-*"])], 1), [(0, Some("provider"))]);
        assert_eq!(crossed_by(&[&models(&["gpt-*"]), &models(&["gpt-4*"])], 0), [], "an exception is a part of the rule");
    }

    #[test]
    fn a_new_route_stands_before_an_equal_one_that_would_take_everything() {
        let (wide, narrow) = (models(&["gpt-4o", "gpt-4x"]), models(&["gpt-4o"]));
        assert_eq!(place_of_last(&[&path("/a"), &wide, &narrow]), Some(1));
        assert_eq!(place_of_last(&[&narrow, &wide]), None);
        assert_eq!(place_of_last(&[&narrow, &narrow]), None, "neither is the narrower one");
        assert_eq!(place_of_last(&[]), None);
    }
}
