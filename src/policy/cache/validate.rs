//! Validation (RFC 9111 section 4.3): a client's condition answered from the store, the condition we send to the origin,
//! and what its 304 (or its answer to HEAD) changes.

use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::date;
use crate::fields::content_length;

/// Whether the client already has the stored response: the answer is then 304.
///
/// `If-None-Match` goes before `If-Modified-Since` (RFC 9110 section 13.2.2); a response without `Last-Modified` is as old
/// as its `Date` (RFC 9111 section 4.3.2).
pub fn client_has(request: &HeaderMap, stored: &HeaderMap, received: SystemTime) -> bool {
    if request.contains_key(header::IF_NONE_MATCH) {
        let Some(etag) = stored.get(header::ETAG) else {
            return request.get_all(header::IF_NONE_MATCH).iter().any(|line| line.as_bytes().trim_ascii() == b"*");
        };
        return request.get_all(header::IF_NONE_MATCH).iter().any(|line| lists(line.as_bytes(), etag.as_bytes()));
    }
    let mut since = request.get_all(header::IF_MODIFIED_SINCE).iter();
    let (Some(since), None) = (since.next(), since.next()) else { return false };
    let Some(since) = date::parse(since.as_bytes()) else { return false };
    let modified = date::of(stored.get(header::LAST_MODIFIED)).or_else(|| date::of(stored.get(header::DATE))).unwrap_or(received);
    modified <= since
}

/// Weak comparison (RFC 9110 section 8.8.3.2).
pub fn same_weakly(a: &[u8], b: &[u8]) -> bool {
    opaque(a) == opaque(b)
}

/// Strong comparison: equal, and neither weak.
pub fn same_strongly(a: &[u8], b: &[u8]) -> bool {
    !is_weak(a) && a.trim_ascii() == b.trim_ascii()
}

fn is_weak(etag: &[u8]) -> bool {
    etag.trim_ascii().starts_with(b"W/")
}

fn opaque(etag: &[u8]) -> &[u8] {
    let etag = etag.trim_ascii();
    etag.strip_prefix(b"W/").unwrap_or(etag)
}

/// Whether a list of entity tags has `etag`, or is `*`. Commas inside quotes do not separate.
fn lists(line: &[u8], etag: &[u8]) -> bool {
    let mut rest = line.trim_ascii();
    if rest == b"*" {
        return true;
    }
    while !rest.is_empty() {
        let mut quoted = false;
        let end = rest.iter().position(|byte| {
            quoted ^= *byte == b'"';
            *byte == b',' && !quoted
        });
        let end = end.unwrap_or(rest.len());
        if same_weakly(&rest[..end], etag) {
            return true;
        }
        rest = &rest[(end + 1).min(rest.len())..];
    }
    false
}

const CONDITIONS: [HeaderName; 5] =
    [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::IF_MATCH, header::IF_UNMODIFIED_SINCE, header::IF_RANGE];

/// Turns the client's request into one about the stored responses: its own conditions and its range go, ours come.
///
/// `stored` are the candidates: the one that is stale, or all variants if none matches. Only the first one's
/// `Last-Modified` is sent, and only if it is the sole candidate.
pub fn make_conditional<'a>(request: &mut HeaderMap, stored: impl Iterator<Item = &'a HeaderMap>) {
    for name in CONDITIONS {
        request.remove(name);
    }
    request.remove(header::RANGE);
    let mut tags: Vec<u8> = Vec::new();
    let (mut count, mut modified) = (0, None);
    for fields in stored {
        count += 1;
        modified = fields.get(header::LAST_MODIFIED);
        let Some(etag) = fields.get(header::ETAG) else { continue };
        if !tags.is_empty() {
            tags.extend_from_slice(b", ");
        }
        tags.extend_from_slice(etag.as_bytes());
    }
    if !tags.is_empty()
        && let Ok(tags) = HeaderValue::from_bytes(&tags)
    {
        request.insert(header::IF_NONE_MATCH, tags);
    }
    if let (1, Some(modified)) = (count, modified) {
        request.insert(header::IF_MODIFIED_SINCE, modified.clone());
    }
}

/// Which candidate a 304 speaks of (RFC 9111 section 4.3.4): the one with its entity tag; without a tag the only one.
/// `None`: the origin speaks of something we do not have.
pub fn confirmed<'a>(answer: &HeaderMap, mut stored: impl ExactSizeIterator<Item = &'a HeaderMap>) -> Option<usize> {
    let alone = stored.len() == 1;
    match answer.get(header::ETAG) {
        Some(etag) => stored.position(|fields| match fields.get(header::ETAG) {
            Some(ours) => same_weakly(ours.as_bytes(), etag.as_bytes()),
            None => alone && !is_weak(etag.as_bytes()) && fields.contains_key(header::LAST_MODIFIED),
        }),
        None => alone.then_some(0),
    }
}

/// The stored fields as updated by a 304 or by an answer to HEAD (section 3.2): every field of the answer replaces its
/// namesakes, but for those without which the stored bytes cannot be read.
pub fn updated(stored: &HeaderMap, answer: &HeaderMap) -> HeaderMap {
    const OF_THE_BODY: [&str; 4] = ["content-length", "content-encoding", "content-range", "content-md5"];
    let mut fields = stored.clone();
    for name in answer.keys() {
        if OF_THE_BODY.contains(&name.as_str()) {
            continue;
        }
        let mut values = answer.get_all(name).iter();
        if let Some(first) = values.next() {
            fields.insert(name, first.clone());
        }
        for more in values {
            fields.append(name, more.clone());
        }
    }
    fields
}

/// Whether an answer to HEAD is about the stored body (section 4.3.5): same entity tag, date and length, where given.
pub fn head_agrees(stored: &HeaderMap, stored_len: u64, answer: &HeaderMap) -> bool {
    let same = |name: HeaderName| match (stored.get(&name), answer.get(&name)) {
        (Some(ours), Some(theirs)) => ours == theirs,
        _ => true,
    };
    let length = content_length(answer).ok().flatten();
    same(header::ETAG) && same(header::LAST_MODIFIED) && length.is_none_or(|length| length == stored_len)
}

/// The fields of a 304 made from a stored response (RFC 9110 section 15.4.5): all but those that describe a body.
pub fn not_modified_fields(stored: &HeaderMap) -> HeaderMap {
    let mut fields = stored.clone();
    for name in ["content-length", "content-encoding", "content-type", "content-range", "content-language"] {
        fields.remove(name);
    }
    if fields.contains_key(header::ETAG) {
        fields.remove(header::LAST_MODIFIED);
    }
    fields
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn map(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).expect("value"));
        }
        headers
    }

    const OLD: &str = "Wed, 01 Jan 2020 00:00:00 GMT";
    const NEW: &str = "Thu, 02 Jan 2020 00:00:00 GMT";

    #[test]
    fn a_client_that_has_it_gets_304() {
        let received = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        for (what, asked, stored, expected) in [
            ("strong", vec![("if-none-match", "\"a\"")], vec![("etag", "\"a\"")], true),
            ("other", vec![("if-none-match", "\"b\"")], vec![("etag", "\"a\"")], false),
            ("weak", vec![("if-none-match", "W/\"a\"")], vec![("etag", "W/\"a\"")], true),
            ("weak and strong", vec![("if-none-match", "W/\"a\"")], vec![("etag", "\"a\"")], true),
            ("first", vec![("if-none-match", "\"a\", \"1\"")], vec![("etag", "\"a\"")], true),
            ("last", vec![("if-none-match", "\"1\", \"2\", \"a\"")], vec![("etag", "\"a\"")], true),
            ("comma inside", vec![("if-none-match", "\"x,a\", \"b\"")], vec![("etag", "\"x,a\"")], true),
            ("two lines", vec![("if-none-match", "\"1\""), ("if-none-match", "\"a\"")], vec![("etag", "\"a\"")], true),
            ("any", vec![("if-none-match", "*")], vec![("etag", "\"a\"")], true),
            (
                "etag over date, match",
                vec![("if-none-match", "\"a\""), ("if-modified-since", OLD)],
                vec![("etag", "\"a\""), ("last-modified", NEW)],
                true,
            ),
            (
                "etag over date, no match",
                vec![("if-none-match", "\"b\""), ("if-modified-since", NEW)],
                vec![("etag", "\"a\""), ("last-modified", OLD)],
                false,
            ),
            ("no etag stored", vec![("if-none-match", "\"b\""), ("if-modified-since", NEW)], vec![("last-modified", OLD)], false),
            ("same date", vec![("if-modified-since", OLD)], vec![("last-modified", OLD)], true),
            ("earlier", vec![("if-modified-since", NEW)], vec![("last-modified", OLD)], true),
            ("later", vec![("if-modified-since", OLD)], vec![("last-modified", NEW)], false),
            ("by date", vec![("if-modified-since", NEW)], vec![("date", OLD)], true),
            ("rfc 850", vec![("if-modified-since", "Thursday, 02-Jan-20 00:00:00 GMT")], vec![("last-modified", OLD)], true),
            ("no date", vec![("if-modified-since", "yesterday")], vec![("last-modified", OLD)], false),
            ("nothing asked", vec![], vec![("etag", "\"a\"")], false),
        ] {
            assert_eq!(client_has(&map(&asked), &map(&stored), received), expected, "{what}");
        }
    }

    #[test]
    fn our_condition_replaces_the_clients() {
        let mut request = map(&[("if-none-match", "\"theirs\""), ("range", "bytes=0-1"), ("if-range", "\"x\""), ("foo", "1")]);
        make_conditional(&mut request, [map(&[("etag", "\"a\""), ("last-modified", OLD)])].iter());
        assert_eq!(request, map(&[("foo", "1"), ("if-none-match", "\"a\""), ("if-modified-since", OLD)]));
        let mut request = HeaderMap::new();
        make_conditional(&mut request, [map(&[("etag", "\"a\"")]), map(&[("etag", "W/\"b\""), ("last-modified", OLD)])].iter());
        assert_eq!(request, map(&[("if-none-match", "\"a\", W/\"b\"")]));
    }

    #[test]
    fn a_304_confirms_what_it_names() {
        let (a, b, dated) = (map(&[("etag", "\"a\"")]), map(&[("etag", "\"b\"")]), map(&[("last-modified", OLD)]));
        let both = [a.clone(), b];
        assert_eq!(confirmed(&map(&[("etag", "\"b\"")]), both.iter()), Some(1));
        assert_eq!(confirmed(&map(&[("etag", "\"c\"")]), both.iter()), None);
        assert_eq!(confirmed(&HeaderMap::new(), both.iter()), None);
        assert_eq!(confirmed(&HeaderMap::new(), [a.clone()].iter()), Some(0));
        assert_eq!(confirmed(&map(&[("etag", "\"c\"")]), [a].iter()), None);
        assert_eq!(confirmed(&map(&[("last-modified", OLD)]), [dated].iter()), Some(0));
    }

    #[test]
    fn a_304_updates_all_but_the_body() {
        let stored =
            map(&[("a", "1"), ("b", "1"), ("content-length", "5"), ("content-type", "text/plain"), ("cache-control", "max-age=1")]);
        let answer =
            map(&[("b", "2"), ("b", "3"), ("content-length", "9"), ("content-type", "x/y"), ("cache-control", "max-age=9"), ("c", "4")]);
        let expected = map(&[
            ("a", "1"),
            ("b", "2"),
            ("b", "3"),
            ("content-length", "5"),
            ("content-type", "x/y"),
            ("cache-control", "max-age=9"),
            ("c", "4"),
        ]);
        assert_eq!(updated(&stored, &answer), expected);
    }

    #[test]
    fn head_speaks_of_the_stored_body_or_not() {
        let stored = map(&[("etag", "\"a\""), ("content-length", "5")]);
        assert!(head_agrees(&stored, 5, &HeaderMap::new()));
        assert!(head_agrees(&stored, 5, &map(&[("content-length", "5"), ("etag", "\"a\"")])));
        assert!(!head_agrees(&stored, 5, &map(&[("content-length", "6")])));
        assert!(!head_agrees(&stored, 5, &map(&[("etag", "\"b\"")])));
    }

    proptest! {
        #[test]
        fn no_condition_panics_and_a_listed_tag_is_found(line in "[ -~]{0,60}", tag in "[a-z,]{1,6}") {
            let etag = format!("\"{tag}\"");
            let _ = lists(line.as_bytes(), etag.as_bytes());
            let listed = format!("\"other\", W/{etag}, \"more\"");
            prop_assert!(lists(listed.as_bytes(), etag.as_bytes()));
        }
    }
}
