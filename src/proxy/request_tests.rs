//! Tests of request targets: a path stays below its base path.

use proptest::prelude::*;

use super::*;

fn uri(text: &str) -> Uri {
    text.parse().expect("a target")
}

#[test]
fn a_path_is_put_behind_the_base_as_it_came() {
    for (asked, base, sent) in [
        ("/a?b", "", "/a?b"),
        ("/../a", "", "/../a"),
        ("/a/%2e%2e/b?c=/../d", "/base", "/base/a/%2e%2e/b?c=/../d"),
        ("/", "/base", "/base/"),
        ("/?", "/base", "/base/?"),
        ("*", "/base", "*"),
    ] {
        assert_eq!(app_uri(&uri(asked), base, None).map(|uri| uri.to_string()), Ok(sent.to_owned()), "{asked}");
    }
}

proptest! {
    /// Any path is refused, or the sent target begins with the base and no reading of the target leaves the base.
    #[test]
    fn nothing_leaves_the_base(path in "/([a-c./\\\\;]|%2[eEfF5]|%5[cC]|%25|2e|\\.\\.){0,12}", base in "(/[a-c]{1,3}){0,2}") {
        let Ok(asked) = path.parse::<Uri>() else { return Ok(()) };
        match app_uri(&asked, &base, None) {
            Ok(sent) => {
                let sent = sent.to_string();
                prop_assert_eq!(&sent, &format!("{base}{path}"));
                for reading in crate::route::liberal_readings(&sent).filter(|_| !base.is_empty()) {
                    let inside = reading == base || reading.starts_with(&format!("{base}/"));
                    prop_assert!(inside, "{} is also {}", sent, reading);
                }
            }
            Err(reject) => {
                prop_assert!(!base.is_empty() && climbs(&path));
                prop_assert_eq!(reject, Reject::BadRequest(CLIMBS.into()));
            }
        }
    }
}
