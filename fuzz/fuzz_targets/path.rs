//! Paths: a pattern made of a path matches it; other readings are normal; what strict_paths lets pass has as many segments in every
//! reading; a table that finds a route finds it for every reading, or refuses.
#![no_main]

use http::Method;
use libfuzzer_sys::fuzz_target;
use outrigger::{
    config::{Match, PathPattern},
    http1::Fields,
    listen::narrow,
    route::{Query, Table, liberal_readings},
};

fn row(pattern: &str, name: &'static str) -> (Match, &'static str) {
    (Match { path: Some(PathPattern::parse(pattern).expect("a pattern")), ..Match::default() }, name)
}

fn query<'a>(path: &'a str, method: &'a Method, headers: &'a Fields) -> Query<'a> {
    Query { path, method, host: "", headers, provider: None, operation: None, model: None }
}

fuzz_target!(|input: &str| {
    let (path, pattern) = input.split_once('\n').unwrap_or((input, "/**"));
    if !path.starts_with('/') || path.contains(['?', '#', ' ']) {
        return;
    }
    for reading in liberal_readings(path) {
        assert_ne!(reading, path);
        assert!(reading.starts_with('/') && !reading.contains("//"), "{reading}");
        assert!(!reading.split('/').any(|segment| segment == "." || segment == ".."), "{reading}");
    }
    if narrow::path(path).is_ok() {
        let slashes = |text: &str| text.matches('/').count();
        assert!(liberal_readings(path).all(|reading| slashes(&reading) == slashes(path)), "{path}");
    }
    if let Ok(parsed) = PathPattern::parse(pattern) {
        assert_eq!(PathPattern::parse(parsed.as_str()).expect("its own text").segments(), parsed.segments());
        if !pattern.contains('*') {
            assert!(parsed.matches(pattern) || pattern.ends_with('/'), "{pattern} matches itself");
        }
    }
    let table = Table::new([row("/admin/**", "admin"), row("/a/*", "a"), row("/a/b/**", "b"), row("/*/c", "c")]);
    let (method, headers) = (Method::GET, Fields::new());
    let whole = query(path, &method, &headers);
    if let Ok(found) = table.find_unambiguous(&whole) {
        for reading in liberal_readings(path) {
            assert_eq!(table.find(&query(&reading, &method, &headers)), found, "{path} is also {reading}");
        }
        assert_eq!(table.find(&whole), found);
    }
});
