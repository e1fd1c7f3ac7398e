//! The route of a request: an immutable table, swapped whole on reload.
//!
//! The most specific match wins, not the first in the file: precedence is the derived `Ord` of [`Precedence`]. A path is
//! matched as it was sent. A path that a more liberal reading would lead to another route is refused: the app behind might read
//! it that way.

pub mod cover;
mod normal;
mod precedence;

use std::collections::HashMap;

use http::Method;

use crate::{
    config::{Match, Operation, Segment, next_segment},
    http1::Fields,
    reject::Reject,
};

pub use normal::{careless_readings, climbs, has_dot_segments, liberal_readings};
pub use precedence::Precedence;

/// The facts by which a route is chosen.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// The path, as sent, without query.
    pub path: &'a str,
    /// The method, as sent.
    pub method: &'a Method,
    /// The host, as sent, without port.
    pub host: &'a str,
    /// The header fields, as sent.
    pub headers: &'a Fields,
    /// Outbound: the provider's name.
    pub provider: Option<&'a str>,
    /// Outbound: the operation.
    pub operation: Option<Operation>,
    /// Outbound: the model, once it is known.
    pub model: Option<&'a str>,
}

/// The routes of one door, each a match with its row.
#[derive(Debug)]
pub struct Table<R> {
    /// In order of precedence, the most specific first.
    rows: Vec<(Match, R)>,
    /// Rows by the first segment of their path, where that is a literal; indexes ascend.
    by_segment: HashMap<Box<str>, Vec<u32>, foldhash::fast::RandomState>,
    /// All other rows; indexes ascend.
    others: Vec<u32>,
    names_models: bool,
    names_hosts: bool,
}

impl<R> Table<R> {
    /// Orders the rows by precedence; equal ones stay in the order of the file.
    pub fn new(rows: impl IntoIterator<Item = (Match, R)>) -> Self {
        let mut rows: Vec<(Match, R)> = rows.into_iter().collect();
        rows.sort_by_cached_key(|(matches, _)| std::cmp::Reverse(Precedence::of(matches)));
        let mut by_segment: HashMap<Box<str>, Vec<u32>, foldhash::fast::RandomState> = HashMap::default();
        let mut others = Vec::new();
        for (at, (matches, _)) in rows.iter().enumerate() {
            match matches.path.as_ref().map(|p| p.segments()) {
                Some([Segment::Literal(first), ..]) => by_segment.entry(first.as_str().into()).or_default().push(at as u32),
                _ => others.push(at as u32),
            }
        }
        let names_models = rows.iter().any(|(matches, _)| !matches.models.is_empty());
        let names_hosts = rows.iter().any(|(matches, _)| !matches.hosts.is_empty());
        Self { rows, by_segment, others, names_models, names_hosts }
    }

    /// Whether a row names hosts: otherwise the host of a query is not looked at.
    pub fn names_hosts(&self) -> bool {
        self.names_hosts
    }

    /// The most specific row that matches.
    pub fn find(&self, query: &Query<'_>) -> Option<&R> {
        self.candidates(query.path).find(|(matches, _)| accepts(matches, query) && accepts_model(matches, query.model)).map(|(_, row)| row)
    }

    /// Like [`Table::find`], but refuses a path whose normal form leads to another route.
    pub fn find_unambiguous(&self, query: &Query<'_>) -> Result<Option<&R>, Reject> {
        if self.rows.is_empty() {
            return Ok(None);
        }
        let found = self.find(query);
        for reading in liberal_readings(query.path) {
            let other = self.find(&Query { path: &reading, ..*query });
            if !same(found, other) {
                return Err(Reject::BadRequest("the path means another route when it is normalised".into()));
            }
        }
        Ok(found)
    }

    /// Whether a row that matches apart from the model names models: the model must then be known before a row can be chosen.
    pub fn needs_model(&self, query: &Query<'_>) -> bool {
        self.names_models && self.candidates(query.path).any(|(matches, _)| !matches.models.is_empty() && accepts(matches, query))
    }

    /// The rows that may answer, for any model, in order of precedence.
    pub fn possible(&self, query: &Query<'_>) -> impl Iterator<Item = &R> {
        let mut sure = false;
        self.candidates(query.path).filter(|(matches, _)| accepts(matches, query)).map_while(move |(matches, row)| {
            let before = sure;
            sure = sure || matches.models.is_empty();
            (!before).then_some(row)
        })
    }

    /// All rows in order of precedence.
    pub fn rows(&self) -> impl Iterator<Item = &(Match, R)> {
        self.rows.iter()
    }

    /// Rows whose first segment can match, in order of precedence: two ascending lists, merged.
    fn candidates<'a>(&'a self, path: &str) -> impl Iterator<Item = &'a (Match, R)> + use<'a, R> {
        let first = next_segment(&mut Some(path.strip_prefix('/').unwrap_or(path))).unwrap_or_default();
        let mut named = self.by_segment.get(first).map_or(&[][..], Vec::as_slice).iter().copied().peekable();
        let mut others = self.others.iter().copied().peekable();
        std::iter::from_fn(move || match (named.peek(), others.peek()) {
            (Some(a), Some(b)) if a < b => named.next(),
            (Some(_), None) => named.next(),
            _ => others.next(),
        })
        .map(|at| &self.rows[at as usize])
    }
}

/// The first condition of `matches` that a request fails, as `proxy.yaml` calls it; `None`: the row could answer. For people;
/// agrees with [`Table::find`].
pub fn why_not(matches: &Match, query: &Query<'_>) -> Option<&'static str> {
    let with = |part: Match| accepts(&part, query);
    let parts = [
        ("path", with(Match { path: matches.path.clone(), ..Match::default() })),
        ("methods", with(Match { methods: matches.methods.clone(), ..Match::default() })),
        ("hosts", with(Match { hosts: matches.hosts.clone(), ..Match::default() })),
        ("headers", with(Match { headers: matches.headers.clone(), ..Match::default() })),
        ("provider", with(Match { providers: matches.providers.clone(), ..Match::default() })),
        ("operation", with(Match { operations: matches.operations.clone(), ..Match::default() })),
        ("models", accepts_model(matches, query.model)),
    ];
    parts.into_iter().find(|(_, fits)| !fits).map(|(name, _)| name)
}

fn same<T>(a: Option<&T>, b: Option<&T>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => std::ptr::eq(a, b),
        _ => false,
    }
}

/// Whether all conditions but the model hold.
fn accepts(matches: &Match, query: &Query<'_>) -> bool {
    matches.path.as_ref().is_none_or(|pattern| pattern.matches(query.path))
        && (matches.methods.is_empty() || matches.methods.contains(query.method))
        && (matches.hosts.is_empty() || matches.hosts.iter().any(|glob| glob.matches(&query.host.to_ascii_lowercase())))
        && matches.headers.iter().all(|(name, wanted)| match wanted {
            None => query.headers.has(name),
            Some(value) => query.headers.all(name).any(|v| v.as_bytes() == value.as_bytes()),
        })
        && (matches.providers.is_empty() || query.provider.is_some_and(|name| matches.providers.iter().any(|p| &**p == name)))
        && (matches.operations.is_empty() || query.operation.is_some_and(|op| matches.operations.contains(&op)))
}

fn accepts_model(matches: &Match, model: Option<&str>) -> bool {
    matches.models.is_empty() || model.is_some_and(|model| matches.models.iter().any(|glob| glob.matches(model)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Glob, PathPattern};

    fn path(pattern: &str) -> Match {
        Match { path: Some(PathPattern::parse(pattern).expect(pattern)), ..Match::default() }
    }

    fn query<'a>(path: &'a str, method: &'a Method, headers: &'a Fields) -> Query<'a> {
        Query { path, method, host: "", headers, provider: None, operation: None, model: None }
    }

    #[test]
    fn the_most_specific_path_wins_whatever_the_order() {
        let mut rows = vec![
            (path("/**"), "all"),
            (path("/api/**"), "api"),
            (path("/api/*"), "one"),
            (path("/api/products"), "exact"),
            (path("/*/products"), "any"),
        ];
        for _ in 0..rows.len() {
            rows.rotate_left(1);
            let table = Table::new(rows.clone());
            let headers = Fields::new();
            let find = |p| table.find(&query(p, &Method::GET, &headers)).copied();
            assert_eq!(find("/api/products"), Some("exact"));
            assert_eq!(find("/api/other"), Some("one"));
            assert_eq!(find("/api/a/b"), Some("api"));
            assert_eq!(find("/x/products"), Some("any"));
            assert_eq!(find("/"), Some("all"));
        }
    }

    #[test]
    fn a_method_is_more_specific_than_none() {
        let table = Table::new([(path("/a"), "any"), (Match { methods: vec![Method::POST], ..path("/a") }, "post")]);
        let headers = Fields::new();
        assert_eq!(table.find(&query("/a", &Method::POST, &headers)), Some(&"post"));
        assert_eq!(table.find(&query("/a", &Method::GET, &headers)), Some(&"any"));
    }

    #[test]
    fn a_model_is_asked_for_only_where_a_route_names_one() {
        let chat = Match { operations: vec![Operation::Chat], ..Match::default() };
        let table = Table::new([(Match { models: vec![Glob::new("gpt-*")], ..chat.clone() }, "gpt"), (chat, "chat")]);
        let headers = Fields::new();
        let mut query = query("/v1/chat/completions", &Method::POST, &headers);
        query.operation = Some(Operation::Embeddings);
        assert!(!table.needs_model(&query));
        query.operation = Some(Operation::Chat);
        assert!(table.needs_model(&query));
        assert_eq!(table.find(&Query { model: Some("gpt-4o"), ..query }), Some(&"gpt"));
        assert_eq!(table.find(&Query { model: Some("o3"), ..query }), Some(&"chat"));
    }

    #[test]
    fn the_reason_agrees_with_the_choice() {
        let table = Table::new([
            (Match { methods: vec![Method::POST], ..path("/a/*") }, "post"),
            (Match { hosts: vec![Glob::new("b.*")], ..path("/a/**") }, "host"),
            (path("/a/**"), "rest"),
        ]);
        let headers = Fields::new();
        for (at, host, reasons) in [
            ("/a/b", "", [Some("hosts"), Some("methods"), None]),
            ("/a/b", "b.example", [None, Some("methods"), None]),
            ("/b", "b.example", [Some("path"); 3]),
        ] {
            let query = Query { host, ..query(at, &Method::GET, &headers) };
            assert_eq!(table.rows().map(|(matches, _)| why_not(matches, &query)).collect::<Vec<_>>(), reasons, "{at} {host}");
            let first = table.rows().find(|(matches, _)| why_not(matches, &query).is_none()).map(|(_, row)| row);
            assert_eq!(first, table.find(&query));
        }
    }

    proptest::proptest! {
        /// A path that is not refused leads every reading to the same route.
        #[test]
        fn a_path_leads_to_one_route_or_is_refused(odd in "/([a-c.;/\\\\]|admin|%2e|%2F|%61){0,10}") {
            let table = Table::new([(path("/admin/**"), 1), (path("/a/*"), 2), (path("/a/b/**"), 3), (path("/*/c"), 4)]);
            let headers = Fields::new();
            if let Ok(found) = table.find_unambiguous(&query(&odd, &Method::GET, &headers)) {
                for reading in liberal_readings(&odd) {
                    proptest::prop_assert_eq!(table.find(&query(&reading, &Method::GET, &headers)), found, "{} is also {}", &odd, &reading);
                }
            }
        }
    }

    #[test]
    fn a_path_that_reads_as_another_route_is_refused() {
        let table = Table::new([(path("/admin/**"), "admin"), (path("/public/**"), "public")]);
        let headers = Fields::new();
        for bad in [
            "/public/../admin/x",
            "/public/%2e%2e/admin",
            "/public/..%2fadmin",
            "//admin/x",
            "/public/..;/admin",
            "/public/..\\admin",
            "/%61dmin/x",
        ] {
            assert!(table.find_unambiguous(&query(bad, &Method::GET, &headers)).is_err(), "{bad}");
        }
        for fine in ["/public/a/../b", "/public/%2e/x", "/public/a%2fb", "/other/../other", "/public//x"] {
            assert!(table.find_unambiguous(&query(fine, &Method::GET, &headers)).is_ok(), "{fine}");
        }
    }
}
