//! How an app behind the proxy might read a path: dot segments, doubled slashes, escapes, parameters, backslashes.

use percent_encoding::percent_decode_str;

/// Other readings of `path`, those that differ from it; empty for nearly every request.
pub fn liberal_readings(path: &str) -> impl Iterator<Item = String> + use<> {
    let odd = path.bytes().any(|b| matches!(b, b'%' | b';' | b'\\')) || path.contains("//") || path.contains("/.");
    let mut readings = Vec::new();
    if odd {
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

/// RFC 3986 section 5.2.4, with doubled slashes taken as one.
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

    proptest! {
        /// Of whatever path: a reading is another path, normal, and its own normal form.
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
