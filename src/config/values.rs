//! Small values of the configuration that are parsed once and cannot be wrong afterwards.

use std::fmt;

/// A secret: never printed by `Debug` or `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the secret as it is.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The key of the hashes that name cache entries and limit counters: the same in every process.
    pub fn hash_key(&self) -> [u8; 32] {
        blake3::derive_key("outrigger store secret v1", self.0.as_bytes())
    }

    /// The secret itself; for the wire only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Clear or TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Scheme {
    Http,
    Https,
}

/// Where a target is: `scheme://host[:port][/base]`, no query, no user.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Clear or TLS.
    pub scheme: Scheme,
    /// Host name or address, without brackets.
    pub host: String,
    /// Port, the scheme's default if none was written.
    pub port: u16,
    /// Path prefix without a trailing slash; empty for none.
    pub base: String,
}

impl Origin {
    /// Parses an absolute `http(s)` URL; the error says what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let uri: http::Uri = text.parse().map_err(|_| format!("`{text}` is not a URL; write http://host:port or https://host/base"))?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ if text.bytes().all(|b| b.is_ascii_digit()) => return Err(format!("`{text}` is not a port; ports go from 1 to 65535")),
            _ => return Err(format!("`{text}` needs a scheme: write http://… or https://…")),
        };
        let authority = uri.authority().ok_or_else(|| format!("`{text}` has no host"))?;
        if authority.as_str().contains('@') {
            return Err("a URL with user information is refused; put the credential in `keys`".into());
        }
        if uri.query().is_some() {
            return Err(format!("`{text}` has a query; only a base path may follow the host"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if host.is_empty() {
            return Err(format!("`{text}` has no host"));
        }
        let port = authority.port_u16().unwrap_or(match scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        });
        Ok(Self { scheme, host, port, base: uri.path().trim_end_matches('/').to_owned() })
    }

    /// Host and port, brackets around IPv6.
    pub fn authority_with_port(&self) -> String {
        let (host, port) = (&self.host, self.port);
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// The `Host` field: port only where it is not the scheme's default, brackets around IPv6.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.scheme, self.port) {
            (Scheme::Http, 80) | (Scheme::Https, 443) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        write!(f, "{scheme}://{}{}", self.authority(), self.base)
    }
}

/// A text with `*` (any run of characters).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Glob(String);

impl Glob {
    /// Takes the pattern as written; every text is a valid glob.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Characters that are not `*`: the more, the more specific.
    pub fn literal_len(&self) -> usize {
        self.0.bytes().filter(|b| *b != b'*').count()
    }

    /// Whether the pattern has no `*`.
    pub fn is_literal(&self) -> bool {
        !self.0.contains('*')
    }

    /// Whether all of `text` matches; linear in practice, never exponential.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut p, mut t, mut star, mut mark) = (0, 0, None, 0);
        while t < text.len() {
            if p < pattern.len() && pattern[p] == b'*' {
                star = Some(p);
                mark = t;
                p += 1;
            } else if p < pattern.len() && pattern[p] == text[t] {
                p += 1;
                t += 1;
            } else if let Some(s) = star {
                p = s + 1;
                mark += 1;
                t = mark;
            } else {
                return false;
            }
        }
        pattern[p..].iter().all(|b| *b == b'*')
    }
}

/// A path pattern: literal segments, `*` (one segment), a last `**` (the rest, also nothing).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PathPattern {
    written: String,
    segments: Vec<Segment>,
}

/// One segment of a [`PathPattern`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Segment {
    /// Exactly this, percent-encoding as written.
    Literal(String),
    /// Any one segment, not empty.
    One,
    /// The rest of the path, also nothing; last only.
    Rest,
}

impl PathPattern {
    /// Parses a pattern; the error says what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(format!("`{text}` must begin with `/`"));
        };
        if text.contains(['?', '#']) {
            return Err(format!("`{text}` must be a path only, without query or fragment"));
        }
        let mut segments = Vec::new();
        let parts: Vec<&str> = rest.split('/').collect();
        for (at, part) in parts.iter().enumerate() {
            segments.push(match *part {
                "**" if at + 1 == parts.len() => Segment::Rest,
                "**" => return Err(format!("`**` in `{text}` must be the last segment")),
                "*" => Segment::One,
                part if part.contains('*') => {
                    return Err(format!("`{part}` in `{text}`: `*` stands for a whole segment, `**` for the rest"));
                }
                part if part.starts_with('{') && part.ends_with('}') => {
                    return Err(format!("`{part}` in `{text}`: `*` stands for a whole segment; segments have no names"));
                }
                "." | ".." => return Err(format!("`{text}` must not have `.` or `..` segments")),
                part => Segment::Literal(part.to_owned()),
            });
        }
        Ok(Self { written: text.to_owned(), segments })
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// Its segments, in order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The part of `path` that a last `**` stands for, with its slash. A pattern without `**` leaves nothing.
    pub fn rest<'a>(&self, path: &'a str) -> &'a str {
        let before = self.segments.len().saturating_sub(1);
        match self.segments.last() {
            Some(Segment::Rest) => path.match_indices('/').nth(before).map_or("", |(at, _)| &path[at..]),
            _ => "",
        }
    }

    /// Whether `path` (from `/`, without query) matches. `/a/**` matches `/a`, `/a/` and all below.
    pub fn matches(&self, path: &str) -> bool {
        let mut rest = Some(path.strip_prefix('/').unwrap_or(path));
        for segment in &self.segments {
            match segment {
                Segment::Rest => return true,
                Segment::One => match next_segment(&mut rest) {
                    Some(part) if !part.is_empty() => {}
                    _ => return false,
                },
                Segment::Literal(literal) => {
                    if next_segment(&mut rest) != Some(literal.as_str()) {
                        return false;
                    }
                }
            }
        }
        rest.is_none()
    }
}

/// Takes the text up to the next `/` off `rest`; `None`: there is no segment left.
pub fn next_segment<'p>(rest: &mut Option<&'p str>) -> Option<&'p str> {
    let text = rest.take()?;
    let Some(slash) = memchr::memchr(b'/', text.as_bytes()) else { return Some(text) };
    *rest = Some(&text[slash + 1..]);
    Some(&text[..slash])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_star_matches_any_run() {
        for (pattern, text, expected) in [
            ("gpt-*", "gpt-4o", true),
            ("gpt-*", "o3", false),
            ("*", "", true),
            ("a*c*e", "abcde", true),
            ("a*c", "abcd", false),
            ("x", "x", true),
        ] {
            assert_eq!(Glob::new(pattern).matches(text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn a_path_pattern_matches_whole_segments() {
        for (pattern, path, expected) in [
            ("/api/**", "/api", true),
            ("/api/**", "/api/", true),
            ("/api/**", "/api/a/b", true),
            ("/api/**", "/apix", false),
            ("/a/*/c", "/a/b/c", true),
            ("/a/*/c", "/a//c", false),
            ("/", "/", true),
            ("/a", "/a/", false),
            ("/**", "/", true),
        ] {
            assert_eq!(PathPattern::parse(pattern).expect(pattern).matches(path), expected, "{pattern} on {path}");
        }
        assert!(PathPattern::parse("/a/**/b").is_err());
        assert!(PathPattern::parse("a").is_err());
        assert!(PathPattern::parse("/users/{id}").is_err_and(|why| why.contains("`*` stands for a whole segment")));
    }

    #[test]
    fn an_origin_knows_its_default_port() {
        let origin = Origin::parse("https://models.internal/v1/").expect("valid");
        assert_eq!((origin.port, origin.base.as_str(), origin.authority().as_str()), (443, "/v1", "models.internal"));
        assert_eq!(Origin::parse("http://[::1]:3000").expect("valid").authority(), "[::1]:3000");
        assert!(Origin::parse("http://u:p@h/").is_err());
        assert!(Origin::parse("models.internal").is_err());
    }
}
