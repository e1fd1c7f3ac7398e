//! The extra refusals of `strict_paths` and `strict_headers`: legal HTTP that servers read differently.
//!
//! No byte is changed: a request passes as it came or is refused. The query is not looked at.

use percent_encoding::percent_decode_str;

use crate::{http1::Fields, reject::Reject};

/// Refuses a path that a server may read as another one (RFC 3986 sections 2.1, 3.3, 5.2.4).
pub fn path(path: &str) -> Result<(), Reject> {
    // `*` stands for the whole server (RFC 9110 section 7.1), and was checked before.
    let Some(inner) = path.strip_prefix('/') else { return Ok(()) };
    escapes(inner)?;
    let mut segments = inner.split('/').peekable();
    while let Some(segment) = segments.next() {
        // A path that ends with a slash has an empty last segment.
        if segment.is_empty() && segments.peek().is_some() {
            return bad("an empty path segment (`//`) is refused here (strict_paths)");
        }
        if segment.contains('\\') {
            return bad("a backslash in the path is refused here (strict_paths)");
        }
        if is_no_name(segment) {
            return bad("`.`, `..` and parameters alone as path segments are refused here, escaped too (strict_paths)");
        }
    }
    Ok(())
}

/// Refuses fields that a server may take for other fields, or read differently (RFC 9110 sections 5.1, 5.5).
pub fn fields(headers: &Fields) -> Result<(), Reject> {
    for (name, value) in headers.iter() {
        if !name.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return bad("field names of other than letters, digits and hyphens are refused here (strict_headers)");
        }
        if !value.as_bytes().is_ascii() {
            return bad("field values of other than ASCII are refused here (strict_headers)");
        }
    }
    Ok(())
}

/// Refuses escapes that are invalid, or that some servers decode before they split the path.
fn escapes(path: &str) -> Result<(), Reject> {
    let bytes = path.as_bytes();
    for at in memchr::memchr_iter(b'%', bytes) {
        match escaped(bytes, at) {
            None => return bad("a `%` that begins no escape is refused here (strict_paths)"),
            Some(b'/' | b'\\') => return bad("an escaped slash or backslash is refused here (strict_paths)"),
            Some(b) if b.is_ascii_control() => return bad("an escaped control character is refused here (strict_paths)"),
            Some(b'%') if matches!(twice_escaped(bytes, at), Some(b'/' | b'\\' | b'.' | 0)) => {
                return bad("a slash, backslash, dot or NUL that is escaped twice is refused here (strict_paths)");
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// The byte that the escape at `at` stands for.
fn escaped(bytes: &[u8], at: usize) -> Option<u8> {
    hex(bytes.get(at + 1..at + 3)?)
}

/// The byte that the escape at `at`, a `%`, would stand for if it were decoded twice.
fn twice_escaped(bytes: &[u8], at: usize) -> Option<u8> {
    hex(bytes.get(at + 3..at + 5)?)
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u8::from_str_radix(digits, 16).ok()
}

/// Whether a server that decodes the segment and cuts its parameters off reads `.`, `..` or nothing.
fn is_no_name(segment: &str) -> bool {
    if !segment.starts_with(['.', '%', ';']) {
        return false;
    }
    let decoded: Vec<u8> = percent_decode_str(segment).collect();
    let name = decoded.split(|b| *b == b';').next().unwrap_or_default();
    matches!(name, b"" | b"." | b"..")
}

fn bad(why: &'static str) -> Result<(), Reject> {
    Err(Reject::BadRequest(why.into()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::route::liberal_readings;

    #[test]
    fn what_every_server_reads_alike_passes() {
        for ok in [
            "/",
            "*",
            "/a/b/",
            "/a%20b/%41",
            "/a;v=1/b",
            "/...",
            "/.well-known/x",
            "/a..b/..c",
            "/100%25",
            "/%25zz",
            "/caf%C3%A9",
            "/a:b@c",
        ] {
            assert!(path(ok).is_ok(), "{ok}");
        }
    }

    #[test]
    fn what_servers_read_differently_is_refused() {
        for odd in [
            "//",
            "//a",
            "/a//b",
            "/a\\b",
            "/.",
            "/..",
            "/a/../b",
            "/./a",
            "/a/..",
            "/%2e/a",
            "/%2E%2e/a",
            "/.%2e/a",
            "/..;x/a",
            "/..%3bx",
            "/%2e;/a",
            "/;x/a",
            "/a/%3bx",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a%00",
            "/a%0d%0ab",
            "/a%7f",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a%252fb",
            "/%252e%252e/a",
            "/a%255C",
            "/a%2500",
        ] {
            assert!(path(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn names_have_letters_digits_and_hyphens_and_values_are_ascii() {
        let verdict = |name: &str, value: &[u8]| {
            let mut headers = Fields::new();
            headers.insert(name, HeaderValue::from_bytes(value).expect("value"));
            fields(&headers).is_ok()
        };
        assert!(verdict("x-user-id", b"a b\t;\"c\"") && verdict("x1", b""));
        for (name, value) in [("x_user_id", &b"a"[..]), ("x.user", b"a"), ("x~", b"a"), ("a", b"caf\xc3\xa9"), ("a", b"\xff")] {
            assert!(!verdict(name, value), "{name}");
        }
    }

    proptest! {
        /// A path that passes has only one reading, apart from its parameters: every server would route it the same way.
        #[test]
        fn what_passes_is_read_by_its_escapes_and_parameters_alone(odd in "/([a-c./\\\\;]|%2[ef5]|%5c|%41){0,12}") {
            if path(&odd).is_ok() {
                prop_assert!(!odd.contains('\\') && !odd.contains("//"));
                for reading in liberal_readings(&odd) {
                    let slashes = |text: &str| text.matches('/').count();
                    prop_assert_eq!(slashes(&reading), slashes(&odd), "{} is also {}", &odd, &reading);
                }
            }
        }
    }
}
