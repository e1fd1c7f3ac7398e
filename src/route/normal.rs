//! How an app behind the proxy might read a path (dot segments, doubled slashes, escapes, parameters, backslashes), and whether
//! the path leads out of its base directory.

use percent_encoding::percent_decode_str;

/// The other readings of `path`, without `path` itself; empty for nearly every request.
pub fn liberal_readings(path: &str) -> impl Iterator<Item = String> + use<> {
    let mut readings = Vec::new();
    if is_odd(path) {
        let escapes_kept = resolve(path);
        let decoded = percent_decode_str(path).decode_utf8_lossy().replace('\\', "/");
        let without_parameters: String =
            decoded.split('/').map(|segment| segment.split(';').next().unwrap_or_default()).collect::<Vec<_>>().join("/");
        for reading in [escapes_kept, resolve(&decoded), resolve(&without_parameters)] {
            if reading != path && !readings.contains(&reading) {
                readings.push(reading);
            }
        }
    }
    readings.into_iter()
}

/// All readings of `path` by servers that decode it once, twice or three times, and cut parameters off or not; empty for nearly
/// every request. For a path that must mean one thing to every reader; [`liberal_readings`] are those of a single careless server.
pub fn careless_readings(path: &str) -> Vec<String> {
    let mut readings = Vec::new();
    if !is_odd(path) {
        return readings;
    }
    let mut text = path.as_bytes().to_vec();
    // As in `parts`: an escape left after three decodings is a name.
    for _ in 0..4 {
        let said = String::from_utf8_lossy(&text).replace('\\', "/");
        let cut = |segment: &str| segment.split([';', '\0']).next().unwrap_or_default().trim().to_owned();
        let without_parameters = said.split('/').map(cut).collect::<Vec<_>>().join("/");
        for reading in [resolve(&said), resolve(&without_parameters)] {
            if reading != path && !readings.contains(&reading) {
                readings.push(reading);
            }
        }
        if !text.contains(&b'%') {
            break;
        }
        text = decoded(&text);
    }
    readings
}

/// Whether a path has any part that servers read in different ways.
fn is_odd(path: &str) -> bool {
    let mut before = 0;
    path.bytes().any(|byte| {
        let odd = matches!(byte, b'%' | b';' | b'\\') || before == b'/' && matches!(byte, b'/' | b'.');
        before = byte;
        odd
    })
}

/// The path without dot segments (RFC 3986 section 5.2.4), with doubled slashes taken as one.
fn resolve(path: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    let trailing = path.ends_with('/') || path.ends_with("/.") || path.ends_with("/..");
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                out.pop();
            }
            segment => out.push(segment),
        }
    }
    let mut resolved = format!("/{}", out.join("/"));
    if trailing && resolved.len() > 1 {
        resolved.push('/');
    }
    resolved
}

/// Whether some server would read `path`, put behind a base path, as leaving that base: `/../x`, `/a/%2e%2e/..;/x`, `/..\x`.
///
/// Servers differ in decoding, splitting and dropping: each segment counts by its highest reading. A path that no server reads
/// so is never refused as long as it has no escaped or doubled separators.
pub fn climbs(path: &str) -> bool {
    if !path.contains("..") && !path.contains(['%', '\\']) {
        return false;
    }
    let mut depth = 0_usize;
    for segment in path.split('/') {
        let (ups, names) = parts(segment.as_bytes());
        if ups > depth {
            return true;
        }
        depth = if ups > 0 { depth - ups } else { depth + usize::from(names) };
    }
    false
}

/// Whether some server would read a segment of `path` as empty, or as one that leads up: `/a/.`, `/a/x%2f..`, `/a/;x`, `/a/%20`.
///
/// Doubled slashes pass, and so do escaped separators beside a name: an ARN in a path of Amazon Bedrock carries `%2F`.
pub fn has_dot_segments(path: &str) -> bool {
    let odd = path.contains("/.") || path.contains(['%', ';', '\\']);
    odd && path.split('/').filter(|segment| !segment.is_empty()).any(|segment| {
        let (ups, names) = parts(segment.as_bytes());
        ups > 0 || !names
    })
}

/// The most parts of a segment that lead up, and whether it has a name in every reading.
fn parts(segment: &[u8]) -> (usize, bool) {
    let cut = |part: &[u8]| part.split(|b| matches!(b, b';' | 0)).next().unwrap_or_default().trim_ascii().to_vec();
    let split = |text: &[u8]| text.split(|b| matches!(b, b'/' | b'\\')).map(cut).collect::<Vec<_>>();
    let is_name = |part: &Vec<u8>| !matches!(part.as_slice(), b"" | b"." | b"..");
    let (mut ups, mut names) = (0, true);
    let mut text = segment.to_vec();
    // A server decodes once, and a server before it once more; an escape left after three decodings is a name.
    for _ in 0..4 {
        let parts = split(&text);
        ups = ups.max(parts.iter().filter(|part| *part == b"..").count());
        // Some servers cut parameters off before they split.
        names &= parts.iter().any(is_name) && split(&cut(&text)).iter().any(is_name);
        if !text.contains(&b'%') {
            break;
        }
        text = decoded(&text);
    }
    (ups, names)
}

/// Escapes decoded once, also those that only careless servers know: `%c0%ae` (overlong UTF-8) and `%u002e`.
fn decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let long = |digits: &[u8]| hex(&digits[..2]).filter(|high| *high == 0).and_then(|_| hex(&digits[2..]));
        let (byte, length) = match rest {
            [b'%', b'u' | b'U', digits @ ..] if digits.len() >= 4 => (long(&digits[..4]), 6),
            [b'%', a, b, ..] => (hex(&[*a, *b]), 3),
            _ => (None, 1),
        };
        out.push(byte.unwrap_or(rest[0]));
        at += if byte.is_some() { length } else { 1 };
        if let [.., high @ (0xc0 | 0xc1), low @ 0x80..0xc0] = out[..] {
            out.truncate(out.len() - 2);
            out.push((high & 1) << 6 | (low & 0x3f));
        }
    }
    out
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u8::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_paths_have_no_other_reading() {
        for path in ["/", "/v1/chat/completions", "/a.b/c-d_e~f", "/file.tar.gz"] {
            assert_eq!(liberal_readings(path).count(), 0, "{path}");
        }
    }

    #[test]
    fn dots_escapes_parameters_and_backslashes_are_read() {
        for (path, reading) in
            [("/a/../b", "/b"), ("/%2e%2e/b", "/b"), ("/a;x/b", "/a/b"), ("/a\\b", "/a/b"), ("//a", "/a"), ("/..;/b", "/b")]
        {
            assert!(liberal_readings(path).any(|r| r == reading), "{path} -> {reading}");
        }
    }

    #[test]
    fn escapes_that_are_escaped_are_read_as_deep_as_dot_segments_are() {
        for path in [
            "/a%2Fb",
            "/a%252Fb",
            "/a%25252fb",
            "/a%5cb",
            "/a%255Cb",
            "/a%c0%afb",
            "/a%u002fb",
            "/a%25c0%25afb",
            "/a;x/b",
            "/a%3bx/b",
            "/a%253b/b",
        ] {
            assert!(careless_readings(path).contains(&"/a/b".to_owned()), "{path}: {:?}", careless_readings(path));
        }
        for path in ["/", "/v1/chat/completions", "/a%2525252fb"] {
            assert!(!careless_readings(path).contains(&"/a/b".to_owned()), "{path}");
        }
        assert!(careless_readings("/v1/chat/completions").is_empty());
    }

    #[test]
    fn what_leads_out_of_a_base_path_is_seen_in_every_spelling() {
        for path in [
            "/..",
            "/../tenant-b",
            "/%2e%2e/tenant-b",
            "/%2E./x",
            "/.%2e/x",
            "/..;/x",
            "/..;a=b/x",
            "/%2e%2e%3bx/x",
            "/..\\x",
            "/..%5cx",
            "/..%2fx",
            "/..%2Fx",
            "/%252e%252e/x",
            "/%252e%252e%252fx",
            "/a/../../x",
            "/a/b/../..;/%2e%2E/x",
            "/./../x",
            "/a/.%00/../../x",
            "//../x",
            "/a//../../x",
            "/;x/../x",
            "/%20../x",
            "/..%00/x",
            "/..%00.html",
            "/%c0%ae%c0%ae/x",
            "/..%c0%afx",
            "/%u002e%u002e/x",
            "/a%2f..%2f../x",
            "/a/..%2f..%2fx",
        ] {
            assert!(climbs(path), "{path}");
        }
        for path in [
            "/",
            "/v1/chat/completions",
            "/a/../b",
            "/a/b/../../c",
            "/a/..",
            "/...",
            "/..a/b",
            "/a../b",
            "/.well-known/x",
            "/files/a%2fb",
            "/100%25/%zz/%",
            "/%2e/a",
            "/caf%C3%A9/..",
            "/model/arn:aws:bedrock:eu-west-1::x%2Fy/invoke",
            "/v1beta/models/gemini-2.5-pro:generateContent",
            "/a/%2e%2e/b",
        ] {
            assert!(!climbs(path), "{path}");
        }
    }

    #[test]
    fn dot_segments_are_seen_in_every_spelling_and_names_are_let_through() {
        for path in [
            "/a/.",
            "/./a",
            "/a/..",
            "/a/%2e/b",
            "/a/%252e%252e/b",
            "/a/x%2f..%2fb",
            "/a/x%2F..",
            "/a/..\\b",
            "/a/..;/b",
            "/a/;x",
            "/a/%20",
            "/a/%2F",
            "/a/%c0%ae%c0%ae/b",
        ] {
            assert!(has_dot_segments(path), "{path}");
        }
        for path in [
            "",
            "/",
            "//a//b/",
            "/a.b/.well-known/...",
            "/v1/models/org%2Fmodel-1.5",
            "/v1beta/models/gemini-2.5-pro:generateContent",
            "/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A1%3Ainference-profile%2Feu.anthropic.claude/converse",
            "/files/a%20b;v=1",
            "/%zz/100%",
        ] {
            assert!(!has_dot_segments(path), "{path}");
        }
    }

    /// One server's way of reading a path.
    #[derive(Debug, Clone, Copy)]
    struct Server {
        decodes: usize,
        after_splitting: bool,
        backslash: bool,
        parameters: bool,
        merges: bool,
    }

    impl Server {
        /// Whether the server stays below `/base`.
        fn stays(self, path: &str) -> bool {
            let mut whole = format!("/base{path}");
            let decode = |text: &str| (0..self.decodes).fold(text.as_bytes().to_vec(), |text, _| decoded(&text));
            if !self.after_splitting {
                whole = String::from_utf8_lossy(&decode(&whole)).into_owned();
            }
            let mut stack: Vec<String> = Vec::new();
            for segment in whole.split(|c| c == '/' || (c == '\\' && self.backslash)).skip(1) {
                let mut segment = segment.to_owned();
                if self.after_splitting {
                    segment = String::from_utf8_lossy(&decode(&segment)).into_owned();
                }
                if self.parameters {
                    segment.truncate(segment.find(';').unwrap_or(segment.len()));
                }
                match segment.as_str() {
                    "." => {}
                    "" if self.merges => {}
                    ".." => {
                        stack.pop();
                        if stack.is_empty() {
                            return false;
                        }
                    }
                    _ => stack.push(segment),
                }
            }
            stack.first().is_some_and(|first| first == "base")
        }
    }

    proptest! {
        /// A path that is not refused stays below the base path, for every reader.
        #[test]
        fn nobody_climbs(
            path in "(/|\\\\|a|b|\\.|;|%2e|%2E|%2f|%5C|%252e|%252f|%3b){0,14}",
            decodes in 0usize..3, after_splitting: bool, backslash: bool, parameters: bool, merges: bool,
        ) {
            let path = format!("/{path}");
            let server = Server { decodes, after_splitting, backslash, parameters, merges };
            if !climbs(&path) {
                prop_assert!(server.stays(&path), "{} by {:?}", path, server);
            }
        }

        /// A path in plain spelling is refused where RFC 3986 leads out of the base, and nowhere else.
        #[test]
        fn plain_paths_are_read_as_rfc_3986_has_it(segments in proptest::collection::vec("a|b|\\.|\\.\\.|\\.\\.\\.", 0..8)) {
            let path = format!("/{}", segments.join("/"));
            let server = Server { decodes: 0, after_splitting: false, backslash: false, parameters: false, merges: false };
            prop_assert_eq!(climbs(&path), !server.stays(&path), "{}", path);
        }

        /// For any path: a reading is another path, normal, and its own normal form.
        #[test]
        fn readings_are_normal(path in "/([a-c.;/\\\\]|%2e|%2F|%5c|%3b|%00|%zz|\\PC){0,16}") {
            for reading in liberal_readings(&path) {
                prop_assert_ne!(&reading, &path);
                prop_assert!(reading.starts_with('/') && !reading.contains("//"), "{}", reading);
                prop_assert!(!reading.split('/').any(|segment| segment == "." || segment == ".."), "{}", reading);
                prop_assert_eq!(resolve(&reading), reading);
            }
        }
    }
}
