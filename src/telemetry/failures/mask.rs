//! Secrets in a path or in a value of a query. The log masks a query's values by their names; the ring is shown to more readers than
//! the log and masks by form too.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::config::is_secret_value;

/// What stands in the place of a secret.
const MASK: &str = "***";

/// A path in which segments that look like credentials are masked.
pub(super) fn path(path: &str) -> Cow<'_, str> {
    masked(path, '/', |segment| is_secret(segment).then_some(0))
}

/// A query in which values that look like credentials are masked.
pub(super) fn query(query: &str) -> Cow<'_, str> {
    masked(query, '&', |part| {
        let begin = part.find('=').map_or(0, |at| at + 1);
        is_secret(&part[begin..]).then_some(begin)
    })
}

/// `secret` gives the begin of the secret in a part.
fn masked(text: &str, separator: char, secret: impl Fn(&str) -> Option<usize>) -> Cow<'_, str> {
    let mut out = String::new();
    // Up to here the text is in `out`.
    let mut copied = 0;
    let mut at = 0;
    for part in text.split(separator) {
        let end = at + part.len();
        if let Some(begin) = secret(part) {
            out.push_str(&text[copied..at + begin]);
            out.push_str(MASK);
            copied = end;
        }
        at = end + 1;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

fn is_secret(part: &str) -> bool {
    // `%2D` may stand for the hyphen of a prefix.
    is_secret_value(&percent_decode_str(part).decode_utf8_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_and_values_that_look_like_secrets_are_masked() {
        for (written, shown) in [
            ("/reset/0123456789abcdef0123456789abcdef", "/reset/***"),
            ("/hooks/T024/sk-proj-abcdef/x", "/hooks/T024/***/x"),
            ("/orders/123e4567-e89b-12d3-a456-426614174000/lines", "/orders/***/lines"),
            ("/t/sk%2Dproj-abcdef", "/t/***"),
            ("/products/4711", "/products/4711"),
            ("/articles/how-to-write-a-short-story-in-2026", "/articles/how-to-write-a-short-story-in-2026"),
            ("/é/eyJhbGciOi/", "/é/***/"),
            ("/", "/"),
            ("", ""),
        ] {
            assert_eq!(path(written), shown);
            assert_eq!(matches!(path(written), Cow::Borrowed(_)), written == shown, "{written}");
        }
        for (written, shown) in [
            ("page=2&q=AKIAIOSFODNN7EXAMPLE&x", "page=2&q=***&x"),
            ("ghp_abcdefgh", "***"),
            ("a=b=c&model=gpt-4o-mini-2024-07-18", "a=b=c&model=gpt-4o-mini-2024-07-18"),
        ] {
            assert_eq!(query(written), shown);
        }
    }
}
