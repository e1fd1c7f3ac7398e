//! The directives of `Cache-Control` (RFC 9111 section 5.2), in requests and in responses, and of `CDN-Cache-Control` (RFC 9213).
//!
//! A restriction counts however badly it is written. A permission counts only if it is well formed: a freshness lifetime that
//! is no number, or is given twice with different values, counts as zero (section 4.2.1).

use crate::{http1::Fields, http1::Id};
use std::time::Duration;

use http::HeaderName;
use sfv::{BareItem, Dictionary, ListEntry, Parser};

/// The targeted field that this cache obeys (RFC 9213 section 3.1).
pub const CDN_CACHE_CONTROL: Id = Id::CdnCacheControl;

/// The largest delta-seconds (RFC 9111 section 1.2.2); a larger value counts as this one.
pub const MAX_DELTA: u64 = 1 << 31;

/// Directives of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    /// The largest age the client accepts.
    pub max_age: Option<Duration>,
    /// The staleness the client accepts; without a number, any.
    pub max_stale: Option<Duration>,
    /// The lifetime that must be left.
    pub min_fresh: Option<Duration>,
    /// The staleness the client accepts if the origin fails (RFC 5861 section 4).
    pub stale_if_error: Option<Duration>,
    /// No stored answer without asking the origin.
    pub no_cache: bool,
    /// The answer is neither stored nor taken from the store.
    pub no_store: bool,
    /// A stored answer or 504.
    pub only_if_cached: bool,
}

/// Directives of a response, as a shared cache reads them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseDirectives {
    /// Lifetime; zero when it was written badly.
    pub max_age: Option<Duration>,
    /// Lifetime in shared caches; zero when it was written badly.
    pub s_maxage: Option<Duration>,
    /// Staleness allowed during a refresh (RFC 5861 section 3).
    pub stale_while_revalidate: Option<Duration>,
    /// Staleness allowed if the origin fails (RFC 5861 section 4).
    pub stale_if_error: Option<Duration>,
    /// No cache may store the response.
    pub no_store: bool,
    /// Never used without asking the origin.
    pub no_cache: bool,
    /// `no-cache="a, b"`: these fields are not stored.
    pub no_cache_fields: Vec<HeaderName>,
    /// Not for shared caches; the form with field names is taken as the one without (section 5.2.2.7 allows it).
    pub private: bool,
    /// Storable where it otherwise would not be.
    pub public: bool,
    /// Never stale.
    pub must_revalidate: bool,
    /// Never stale in shared caches.
    pub proxy_revalidate: bool,
    /// `no-store` gives way if the cache understands the status code.
    pub must_understand: bool,
    /// Whether the targeted field was valid: `Cache-Control` and `Expires` are then ignored.
    pub targeted: bool,
}

impl RequestDirectives {
    /// Reads every `Cache-Control` line of a request.
    pub fn of(headers: &Fields) -> Self {
        let mut read = Self::default();
        for_each(headers, Id::CacheControl, |name, value| {
            let seconds = || value.and_then(delta_seconds);
            if name.eq_ignore_ascii_case(b"max-age") {
                // Unreadable: the strictest meaning.
                tighten(&mut read.max_age, seconds().unwrap_or_default());
            } else if name.eq_ignore_ascii_case(b"max-stale") {
                let allowed = if value.is_none() { Some(Duration::MAX) } else { seconds() };
                if let Some(allowed) = allowed {
                    tighten(&mut read.max_stale, allowed);
                }
            } else if name.eq_ignore_ascii_case(b"min-fresh") {
                if let Some(wanted) = seconds() {
                    read.min_fresh = Some(read.min_fresh.map_or(wanted, |before| before.max(wanted)));
                }
            } else if name.eq_ignore_ascii_case(b"stale-if-error") {
                if let Some(allowed) = seconds() {
                    tighten(&mut read.stale_if_error, allowed);
                }
            } else if name.eq_ignore_ascii_case(b"no-cache") {
                read.no_cache = true;
            } else if name.eq_ignore_ascii_case(b"no-store") {
                read.no_store = true;
            } else if name.eq_ignore_ascii_case(b"only-if-cached") {
                read.only_if_cached = true;
            }
        });
        read
    }
}

impl ResponseDirectives {
    /// Reads the targeted field if it is valid, else every `Cache-Control` line.
    pub fn of(headers: &Fields) -> Self {
        targeted(headers).unwrap_or_else(|| {
            let mut read = Self::default();
            for_each(headers, Id::CacheControl, |name, value| read.take(name, value));
            read
        })
    }

    fn take(&mut self, name: &[u8], value: Option<&[u8]>) {
        let seconds = || value.and_then(delta_seconds);
        if name.eq_ignore_ascii_case(b"max-age") {
            lifetime(&mut self.max_age, seconds());
        } else if name.eq_ignore_ascii_case(b"s-maxage") {
            lifetime(&mut self.s_maxage, seconds());
        } else if name.eq_ignore_ascii_case(b"stale-while-revalidate") {
            lifetime(&mut self.stale_while_revalidate, seconds());
        } else if name.eq_ignore_ascii_case(b"stale-if-error") {
            lifetime(&mut self.stale_if_error, seconds());
        } else if name.eq_ignore_ascii_case(b"no-store") {
            self.no_store = true;
        } else if name.eq_ignore_ascii_case(b"no-cache") {
            match value.map(field_names) {
                Some(names) if !names.is_empty() => self.no_cache_fields.extend(names),
                _ => self.no_cache = true,
            }
        } else if name.eq_ignore_ascii_case(b"private") {
            self.private = true;
        } else if name.eq_ignore_ascii_case(b"public") {
            self.public = true;
        } else if name.eq_ignore_ascii_case(b"must-revalidate") {
            self.must_revalidate = true;
        } else if name.eq_ignore_ascii_case(b"proxy-revalidate") {
            self.proxy_revalidate = true;
        } else if name.eq_ignore_ascii_case(b"must-understand") {
            self.must_understand = true;
        }
    }

    /// Whether a shared cache may never use the response stale (RFC 9111 sections 5.2.2.2, 5.2.2.8 and 5.2.2.10).
    pub fn never_stale(&self) -> bool {
        self.must_revalidate || self.proxy_revalidate || self.s_maxage.is_some() || self.no_cache
    }
}

/// The targeted field (RFC 9213): a dictionary of structured fields. An empty, malformed or wrongly typed field counts as absent.
fn targeted(headers: &Fields) -> Option<ResponseDirectives> {
    let mut lines = headers.all(CDN_CACHE_CONTROL).peekable();
    lines.peek()?;
    let mut joined = Vec::new();
    for line in lines {
        if !joined.is_empty() {
            joined.extend_from_slice(b", ");
        }
        joined.extend_from_slice(line.as_bytes());
    }
    let dictionary: Dictionary = Parser::new(&joined).parse().ok()?;
    if dictionary.is_empty() {
        return None;
    }
    let mut read = ResponseDirectives { targeted: true, ..Default::default() };
    for (name, entry) in &dictionary {
        let ListEntry::Item(item) = entry else { continue };
        let seconds = || match &item.bare_item {
            BareItem::Integer(value) => u64::try_from(i64::from(*value)).ok().map(clamped),
            _ => None,
        };
        let flag = || !matches!(item.bare_item, BareItem::Boolean(false));
        match name.as_str() {
            "max-age" => read.max_age = Some(seconds()?),
            "s-maxage" => read.s_maxage = Some(seconds()?),
            "stale-while-revalidate" => read.stale_while_revalidate = Some(seconds()?),
            "stale-if-error" => read.stale_if_error = Some(seconds()?),
            "no-store" => read.no_store = flag(),
            "no-cache" => match &item.bare_item {
                BareItem::String(names) if !field_names(names.as_str().as_bytes()).is_empty() => {
                    read.no_cache_fields = field_names(names.as_str().as_bytes());
                }
                _ => read.no_cache = flag(),
            },
            "private" => read.private = flag(),
            "public" => read.public = flag(),
            "must-revalidate" => read.must_revalidate = flag(),
            "proxy-revalidate" => read.proxy_revalidate = flag(),
            "must-understand" => read.must_understand = flag(),
            _ => {}
        }
    }
    Some(read)
}

fn tighten(slot: &mut Option<Duration>, value: Duration) {
    *slot = Some(slot.map_or(value, |before| before.min(value)));
}

/// Sets a lifetime; an unreadable or contradictory value gives zero.
fn lifetime(slot: &mut Option<Duration>, value: Option<Duration>) {
    let value = value.unwrap_or_default();
    *slot = Some(match slot {
        Some(before) if *before != value => Duration::ZERO,
        _ => value,
    });
}

/// Digits only (RFC 9111 section 1.2.2), in a token or a quoted string; overflow means [`MAX_DELTA`].
pub fn delta_seconds(value: &[u8]) -> Option<Duration> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = value.iter().fold(0u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    Some(clamped(seconds))
}

fn clamped(seconds: u64) -> Duration {
    Duration::from_secs(seconds.min(MAX_DELTA))
}

fn field_names(value: &[u8]) -> Vec<HeaderName> {
    value.split(|byte| *byte == b',').filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).collect()
}

/// Calls `each` with every directive of every line: its name and its value without quotes. Commas and `=` inside
/// quotes do not separate. White space around `=` stays in the value, which makes a number unreadable.
fn for_each(headers: &Fields, field: Id, mut each: impl FnMut(&[u8], Option<&[u8]>)) {
    for line in headers.all(field) {
        let mut rest = line.as_bytes();
        while !rest.is_empty() {
            let end = directive_end(rest);
            let directive = rest[..end].trim_ascii();
            rest = &rest[(end + 1).min(rest.len())..];
            if directive.is_empty() {
                continue;
            }
            match memchr::memchr(b'=', directive) {
                None => each(directive, None),
                Some(at) => {
                    let (name, value) = (&directive[..at], &directive[at + 1..]);
                    let spaced = name.trim_ascii_end().len() != name.len();
                    match unquoted(value) {
                        // `max-age =3600` gives no lifetime, but a restriction spelled so still counts.
                        _ if spaced => each(name.trim_ascii_end(), Some(b" ")),
                        Some(inner) => each(name, Some(&inner)),
                        None => each(name, Some(value)),
                    }
                }
            }
        }
    }
}

fn directive_end(text: &[u8]) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return at,
            _ => {}
        }
    }
    // An unclosed quote must not hide the directives after it.
    if quoted { memchr::memchr(b',', text).unwrap_or(text.len()) } else { text.len() }
}

fn unquoted(value: &[u8]) -> Option<Vec<u8>> {
    let inner = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        out.push(if *byte == b'\\' { *bytes.next()? } else { *byte });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn response(lines: &[&str]) -> ResponseDirectives {
        with(Id::CacheControl, lines)
    }

    fn with(name: Id, lines: &[&str]) -> ResponseDirectives {
        let mut headers = Fields::new();
        for line in lines {
            headers.append(name, line);
        }
        ResponseDirectives::of(&headers)
    }

    #[test]
    fn a_lifetime_must_be_written_well() {
        for (lines, expected) in [
            (vec!["max-age=3600"], Some(3600)),
            (vec!["MaX-aGe=3600"], Some(3600)),
            (vec!["max-age=\"3600\""], Some(3600)),
            (vec!["max-age=003600"], Some(3600)),
            (vec!["foobar, max-age=3600"], Some(3600)),
            (vec!["max-age=99999999999999999999999"], Some(MAX_DELTA)),
            (vec!["max-age=2147483648"], Some(MAX_DELTA)),
            (vec!["max-age='3600'"], Some(0)),
            (vec!["max-age=-3600"], Some(0)),
            (vec!["max-age=3600.0"], Some(0)),
            (vec!["max-age=3600a"], Some(0)),
            (vec!["max-age =3600"], Some(0)),
            (vec!["max-age= 3600"], Some(0)),
            (vec!["max-age"], Some(0)),
            (vec!["extension=\"max-age=3600\", max-age=1"], Some(1)),
            (vec!["max-age=1, extension=\"a, max-age=3600\""], Some(1)),
            (vec!["max-age=60, max-age=60"], Some(60)),
            (vec!["max-age=1800, max-age=1"], Some(0)),
            (vec!["max-age=1", "max-age=1800"], Some(0)),
            (vec!["s-maxage=5"], None),
        ] {
            assert_eq!(response(&lines).max_age, expected.map(Duration::from_secs), "{lines:?}");
        }
    }

    #[test]
    fn a_restriction_is_believed_however_it_is_written() {
        assert!(response(&["max-age=9, No-StOrE"]).no_store);
        assert!(response(&["no-store =1"]).no_store);
        assert!(response(&["private=\"set-cookie\""]).private);
        assert!(response(&["no-cache=\"\""]).no_cache);
        assert!(response(&["no-cache=\"not closed, private"]).no_cache);
        assert!(response(&["extension=\"not closed, private"]).private);
        let named = response(&["no-cache=\"a, B\"", "max-age=5"]);
        assert!(!named.no_cache);
        assert_eq!(named.no_cache_fields, [HeaderName::from_static("a"), HeaderName::from_static("b")]);
    }

    #[test]
    fn a_valid_targeted_field_replaces_cache_control() {
        let mut headers = Fields::new();
        headers.insert(Id::CacheControl, "no-store");
        for (value, max_age, no_store) in [
            ("max-age=10000", Some(10_000), false),
            ("foobar, max-age=3600", Some(3600), false),
            ("max-age=10000, &&&&&", None, true),
            ("max-age=\"10000\"", None, true),
            ("MaX-aGe=3600", None, true),
            ("max-age =100", None, true),
            ("", None, true),
            ("private", None, false),
        ] {
            headers.insert(CDN_CACHE_CONTROL, value);
            let read = ResponseDirectives::of(&headers);
            assert_eq!((read.max_age, read.no_store), (max_age.map(Duration::from_secs), no_store), "{value}");
        }
        assert!(with(CDN_CACHE_CONTROL, &["private"]).private);
        assert!(with(CDN_CACHE_CONTROL, &["no-cache"]).no_cache);
    }

    #[test]
    fn request_directives() {
        let mut headers = Fields::new();
        let value = "max-age=5, max-stale, min-fresh=3, only-if-cached, no-cache";
        headers.insert(Id::CacheControl, value);
        let read = RequestDirectives::of(&headers);
        assert_eq!(read.max_age, Some(Duration::from_secs(5)));
        assert_eq!(read.max_stale, Some(Duration::MAX));
        assert_eq!(read.min_fresh, Some(Duration::from_secs(3)));
        assert!(read.only_if_cached && read.no_cache && !read.no_store);
        headers.insert(Id::CacheControl, "max-age=x, max-stale=y");
        let read = RequestDirectives::of(&headers);
        assert_eq!((read.max_age, read.max_stale), (Some(Duration::ZERO), None));
    }

    proptest! {
        #[test]
        fn no_field_value_panics(value in "[ -~]{0,80}", cdn in "[ -~]{0,40}") {
            let mut headers = Fields::new();
            if let (Ok(value), Ok(cdn)) = (HeaderValue::from_str(&value), HeaderValue::from_str(&cdn)) {
                headers.insert(Id::CacheControl, value);
                let _ = RequestDirectives::of(&headers);
                let _ = ResponseDirectives::of(&headers);
                headers.insert(CDN_CACHE_CONTROL, cdn);
                let _ = ResponseDirectives::of(&headers);
            }
        }

        #[test]
        fn a_lone_no_store_survives_any_neighbour(before in "[a-z=0-9, ]{0,30}", after in "[a-z=0-9, ]{0,30}") {
            let line = format!("{before},no-store,{after}");
            prop_assert!(response(&[line.trim()]).no_store);
        }
    }
}
