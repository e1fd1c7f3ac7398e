//! The path that the app sees in place of the client's. Pure.

use crate::config::Rewrite;

/// The path that the app sees; `None`: the client's own.
///
/// A prefix is taken away as it stands in the text, by whole segments: a path in another spelling is refused before, or keeps its prefix. What is
/// left begins with one slash: apps and browsers read two as the beginning of a host.
pub fn path(policy: &Rewrite, asked: &str) -> Option<String> {
    if asked == "*" {
        return None;
    }
    if let Some(path) = &policy.path {
        return (path != asked).then(|| path.clone());
    }
    let stripped = match asked.strip_prefix(policy.strip_prefix.as_str()) {
        Some("") if !policy.strip_prefix.is_empty() => "/",
        Some(rest) if rest.starts_with('/') => rest,
        _ => asked,
    };
    if stripped.len() == asked.len() && policy.add_prefix.is_empty() {
        return None;
    }
    let below = stripped.trim_start_matches('/');
    Some(format!("{}/{below}", policy.add_prefix))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(strip: &str, add: &str) -> Rewrite {
        Rewrite { strip_prefix: strip.into(), add_prefix: add.into(), ..Rewrite::default() }
    }

    #[test]
    fn whole_segments_are_taken_away_and_put_before() {
        for (strip, add, asked, expected) in [
            ("/api", "", "/api/users/7", Some("/users/7")),
            ("/api", "", "/api", Some("/")),
            ("/api", "", "/api/", Some("/")),
            ("/api", "", "/apix", None),
            ("/api", "", "/other", None),
            ("/api", "", "/api//evil.example/x", Some("/evil.example/x")),
            ("/api", "", "/api/a//b", Some("/a//b")),
            ("/api", "", "/api/%2fa", Some("/%2fa")),
            ("/api", "/v2", "/api/a", Some("/v2/a")),
            ("/api", "/v2", "/other", Some("/v2/other")),
            ("", "/v2", "/", Some("/v2/")),
            ("", "/v2", "*", None),
        ] {
            assert_eq!(path(&policy(strip, add), asked).as_deref(), expected, "{strip} {add} {asked}");
        }
        let whole = Rewrite { path: Some("/index.html".into()), ..Rewrite::default() };
        assert_eq!((path(&whole, "/a/b").as_deref(), path(&whole, "/index.html")), (Some("/index.html"), None));
    }

    proptest! {
        #[test]
        fn what_the_app_sees_begins_with_one_slash(asked in "/[/a-c.%]{0,12}", add in "(/v2)?") {
            if let Some(seen) = path(&policy("/a", &add), &asked) {
                prop_assert!(seen.starts_with('/') && !seen.starts_with("//"), "{}", seen);
            }
        }
    }
}
