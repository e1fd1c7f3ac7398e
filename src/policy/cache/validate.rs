//! Validation (RFC 9111 section 4.3): a client's condition answered from the store, the condition sent to the origin, and the
//! changes made by the origin's 304 or its answer to HEAD.

use std::time::{Duration, SystemTime};

use super::{date, entry::Entry, vary};
use crate::{
    fields::content_length,
    http1::{Fields, Id, Name},
};

/// Whether the client already has the stored response: the answer is then 304.
///
/// `If-None-Match` goes before `If-Modified-Since` (RFC 9110 section 13.2.2); a response without `Last-Modified` is as old
/// as its `Date` (RFC 9111 section 4.3.2).
pub fn client_has(request: &Fields, stored: &Fields, received: SystemTime) -> bool {
    if request.has(Id::IfNoneMatch) {
        let Some(etag) = stored.get(Id::Etag) else {
            return request.all(Id::IfNoneMatch).any(|line| line.as_bytes().trim_ascii() == b"*");
        };
        return request.all(Id::IfNoneMatch).any(|line| lists(line.as_bytes(), etag.as_bytes()));
    }
    let mut since = request.all(Id::IfModifiedSince);
    let (Some(since), None) = (since.next(), since.next()) else { return false };
    let Some(since) = date::parse(since.as_bytes()) else { return false };
    let modified = date::of(stored.get(Id::LastModified)).or_else(|| date::of(stored.get(Id::Date))).unwrap_or(received);
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

const CONDITIONS: [Id; 5] = [Id::IfNoneMatch, Id::IfModifiedSince, Id::IfMatch, Id::IfUnmodifiedSince, Id::IfRange];

/// Replaces the client's conditions and its range with conditions about the stored response, if there is one.
pub fn make_conditional(request: &mut Fields, stored: Option<&Fields>) {
    for name in CONDITIONS {
        request.remove(name);
    }
    request.remove(Id::Range);
    let Some(stored) = stored else { return };
    for (condition, validator) in [(Id::IfNoneMatch, Id::Etag), (Id::IfModifiedSince, Id::LastModified)] {
        if let Some(value) = stored.get(validator) {
            request.insert(condition, value);
        }
    }
}

/// Whether a 304 confirms the stored response that was asked about (RFC 9111 section 4.3.4). It names the same tag, compared
/// weakly; or no tag and the same date; or neither.
pub fn confirms(answer: &Fields, stored: &Fields) -> bool {
    let same_date = || answer.get(Id::LastModified) == stored.get(Id::LastModified);
    match (answer.get(Id::Etag), stored.get(Id::Etag)) {
        (Some(theirs), Some(ours)) => same_weakly(ours.as_bytes(), theirs.as_bytes()),
        (Some(_), None) => stored.has(Id::LastModified) && same_date(),
        (None, _) => !answer.has(Id::LastModified) || same_date(),
    }
}

/// The stored fields as updated by a 304 or by an answer to HEAD (section 3.2): every field of the answer replaces its
/// namesakes. `Vary` only grows: a component that adds its own name to an answer without a body speaks for no other.
///
/// Fields without which the stored bytes cannot be read stay. Fields that name the bytes stay too, unless the answer has the
/// same strong tag: the same text in another coding may have the same weak tag, and must not lend its own names to our bytes.
pub fn updated(stored: &Fields, answer: &Fields) -> Fields {
    const OF_THE_BODY: [&str; 5] = ["content-length", "content-encoding", "content-language", "content-range", "content-md5"];
    let same_bytes = match (stored.get(Id::Etag), answer.get(Id::Etag)) {
        (Some(ours), Some(theirs)) => same_strongly(ours.as_bytes(), theirs.as_bytes()),
        _ => false,
    };
    let mut fields = stored.clone();
    let stays = |name: Name<'_>| {
        let names_bytes = [Id::Etag, Id::LastModified].contains(&name.id());
        OF_THE_BODY.contains(&&*name.lower()) || (names_bytes && !same_bytes)
    };
    let replaces = |name: &Name<'_>| name.id() != Id::Vary && !stays(*name);
    fields.retain(|name, _| !answer.has(name) || !replaces(&name));
    for (name, value) in answer.iter().filter(|(name, _)| replaces(name)) {
        fields.append(name, value);
    }
    vary::widen(&mut fields, answer);
    // Each update leaves what it replaced behind, and an entry may be updated for ever.
    fields.compact()
}

/// The verdict of an answer to HEAD on a stored response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// It is what a GET would give now.
    Same,
    /// A GET would give something else now.
    Other,
    /// The answer has nothing that can be compared.
    Unknown,
}

/// The verdict of an answer to HEAD on a stored response (section 4.3.5). Sameness needs proof: the same tag, or the same date
/// if that names the bytes. An app may well answer HEAD without its coding, and then with another tag and length.
pub fn said_by_head(stored: &Entry, answer: &Fields) -> About {
    let both = |name: Id| stored.headers.get(name).zip(answer.get(name));
    let (tags, dates) = (both(Id::Etag), both(Id::LastModified));
    if tags.is_some_and(|(ours, theirs)| !same_weakly(ours.as_bytes(), theirs.as_bytes()))
        || dates.is_some_and(|(ours, theirs)| ours != theirs)
    {
        return About::Other;
    }
    if stored.headers.get(Id::ContentEncoding) != answer.get(Id::ContentEncoding) {
        return About::Unknown;
    }
    let length = content_length(answer).ok().flatten();
    if length.is_some_and(|length| length != stored.len) {
        return About::Other;
    }
    let proved = match tags {
        Some((ours, theirs)) => ours == theirs,
        None => dates.is_some() && stored.dated && !answer.has(Id::Etag),
    };
    if proved { About::Same } else { About::Unknown }
}

/// Whether `Last-Modified` names the bytes of a new response, so that a range or a HEAD may rely on the date. No other field
/// names the bytes, no other coding or language can have the same date, and the second of the change is over (RFC 9110 section 8.8.2.2).
pub fn date_names_bytes(fields: &Fields) -> bool {
    let only = ![Id::Etag, Id::ContentEncoding, Id::Vary].iter().any(|name| fields.has(name));
    let over =
        |(modified, date): (SystemTime, SystemTime)| date.duration_since(modified).is_ok_and(|after| after >= Duration::from_secs(1));
    only && date::of(fields.get(Id::LastModified)).zip(date::of(fields.get(Id::Date))).is_some_and(over)
}

/// The fields of a 304 made from a stored response (RFC 9110 section 15.4.5): all but those that describe a body.
pub fn not_modified_fields(stored: &Fields) -> Fields {
    let mut fields = stored.clone();
    for name in ["content-length", "content-encoding", "content-type", "content-range", "content-language"] {
        fields.remove(name);
    }
    if fields.has(Id::Etag) {
        fields.remove(Id::LastModified);
    }
    fields
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use http::StatusCode;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        clock::Moment,
        policy::cache::{
            directives::ResponseDirectives,
            entry::NewEntry,
            freshness::{Freshness, Terms, Times},
            vary::Variance,
        },
    };

    fn map(lines: &[(&'static str, &str)]) -> Fields {
        let mut headers = Fields::new();
        for (name, value) in lines {
            headers.append(*name, value);
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
        make_conditional(&mut request, Some(&map(&[("etag", "\"a\""), ("last-modified", OLD)])));
        assert_eq!(request, map(&[("foo", "1"), ("if-none-match", "\"a\""), ("if-modified-since", OLD)]));
        make_conditional(&mut request, None);
        assert_eq!(request, map(&[("foo", "1")]));
    }

    #[test]
    fn a_304_confirms_what_it_names() {
        let (tag, other, weak) = (("etag", "\"a\""), ("etag", "\"b\""), ("etag", "W/\"a\""));
        let (old, new) = (("last-modified", OLD), ("last-modified", NEW));
        for (stored, answer, expected) in [
            (vec![tag], vec![tag], true),
            (vec![tag], vec![other], false),
            (vec![tag], vec![weak], true),
            (vec![weak], vec![tag], true),
            (vec![tag], vec![], true),
            (vec![tag, old], vec![old], true),
            (vec![tag, old], vec![new], false),
            (vec![tag, old], vec![tag, new], true),
            (vec![tag], vec![old], false),
            (vec![old], vec![old], true),
            (vec![old], vec![new], false),
            (vec![old], vec![], true),
            (vec![old], vec![tag, old], true),
            (vec![old], vec![tag], false),
        ] {
            assert_eq!(confirms(&map(&answer), &map(&stored)), expected, "{stored:?} {answer:?}");
        }
    }

    #[test]
    fn a_304_updates_all_but_the_body() {
        let stored =
            map(&[("a", "1"), ("b", "1"), ("content-length", "5"), ("content-type", "text/plain"), ("cache-control", "max-age=1")]);
        let answer =
            map(&[("b", "2"), ("b", "3"), ("content-length", "9"), ("content-type", "x/y"), ("cache-control", "max-age=9"), ("c", "4")]);
        let expected = map(&[
            ("a", "1"),
            ("content-length", "5"),
            ("b", "2"),
            ("b", "3"),
            ("content-type", "x/y"),
            ("cache-control", "max-age=9"),
            ("c", "4"),
        ]);
        assert_eq!(updated(&stored, &answer), expected);
    }

    #[test]
    fn a_response_that_is_confirmed_for_ever_does_not_grow() {
        let answer = map(&[("date", NEW), ("cache-control", "max-age=1"), ("vary", "accept")]);
        let mut stored = map(&[("date", OLD), ("etag", "\"a\"")]);
        let first = updated(&stored, &answer).capacity();
        (0..1_000).for_each(|_| stored = updated(&stored, &answer));
        assert!(stored.capacity() <= first, "{} after {first}", stored.capacity());
    }

    #[test]
    fn only_the_same_strong_tag_lends_its_names() {
        let (strong, weak) = (("etag", "\"a\""), ("etag", "W/\"a\""));
        let (old, new) = (("last-modified", OLD), ("last-modified", NEW));
        for (stored, answer, expected) in [
            (vec![strong, old], vec![strong, new], vec![strong, new]),
            (vec![weak, old], vec![strong, new], vec![weak, old]),
            (vec![weak, old], vec![weak, new], vec![weak, old]),
            (vec![strong], vec![weak], vec![strong]),
            (vec![old], vec![strong, old], vec![old]),
        ] {
            assert_eq!(updated(&map(&stored), &map(&answer)), map(&expected), "{stored:?} {answer:?}");
        }
    }

    #[test]
    fn a_date_names_the_bytes_where_nothing_else_can_have_it() {
        let (old, new) = (("last-modified", OLD), ("date", NEW));
        for (fields, expected) in [
            (vec![old, new], true),
            (vec![old, ("date", OLD)], false),
            (vec![old], false),
            (vec![new], false),
            (vec![old, new, ("etag", "\"a\"")], false),
            (vec![old, new, ("content-encoding", "gzip")], false),
            (vec![old, new, ("vary", "accept-encoding")], false),
        ] {
            assert_eq!(date_names_bytes(&map(&fields)), expected, "{fields:?}");
        }
    }

    fn stored(lines: &[(&'static str, &str)]) -> Entry {
        let (headers, at) = (map(lines), Moment::at(SystemTime::UNIX_EPOCH));
        let times = Times { requested: at, received: at };
        Entry::new(NewEntry {
            status: StatusCode::OK,
            dated: date_names_bytes(&headers),
            fresh: Freshness::of(StatusCode::OK, &headers, &ResponseDirectives::default(), Terms::default(), times),
            headers,
            body: Arc::from([Bytes::from_static(b"12345")]),
            trailers: None,
            pauses: None,
            variance: Variance::default(),
            route: "r".into(),
            path: "/p".into(),
            what: "GET h/p".into(),
            took_millis: 1,
            tags: Box::default(),
            savings: None,
            stored_at: at,
        })
    }

    #[test]
    fn head_proves_that_nothing_changed_or_that_something_did_or_nothing() {
        let (tag, other, weak) = (("etag", "\"a\""), ("etag", "\"b\""), ("etag", "W/\"a\""));
        let (old, new, date, same_second) = (("last-modified", OLD), ("last-modified", NEW), ("date", NEW), ("date", OLD));
        let (gzip, length, longer) = (("content-encoding", "gzip"), ("content-length", "5"), ("content-length", "6"));
        for (ours, theirs, expected) in [
            (vec![tag], vec![tag], About::Same),
            (vec![tag], vec![tag, length], About::Same),
            (vec![tag], vec![tag, longer], About::Other),
            (vec![tag], vec![other], About::Other),
            (vec![weak], vec![weak], About::Same),
            (vec![weak], vec![tag], About::Unknown),
            (vec![tag], vec![], About::Unknown),
            (vec![tag], vec![length], About::Unknown),
            (vec![tag], vec![longer], About::Other),
            (vec![], vec![length], About::Unknown),
            (vec![], vec![tag, length], About::Unknown),
            (vec![old, date], vec![old], About::Same),
            (vec![old, date], vec![new], About::Other),
            (vec![old, date], vec![old, longer], About::Other),
            (vec![old, date], vec![old, tag], About::Unknown),
            (vec![old, same_second], vec![old], About::Unknown),
            (vec![weak, gzip], vec![tag, longer], About::Unknown),
            (vec![weak, gzip], vec![other, longer], About::Other),
            (vec![weak, gzip], vec![weak, gzip], About::Same),
            (vec![old, date, gzip], vec![old, gzip], About::Unknown),
        ] {
            assert_eq!(said_by_head(&stored(&ours), &map(&theirs)), expected, "{ours:?} {theirs:?}");
        }
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
