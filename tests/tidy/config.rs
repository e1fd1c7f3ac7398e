//! What keeps a policy in one place: its file in `src/config/policy` holds all of it, and one list joins the files.

use std::collections::BTreeSet;

use super::source::{code, read_text, root, rust};

/// Names in the list of `src/config/policy.rs`.
fn listed() -> BTreeSet<String> {
    let text = code(&read_text(&root().join("src/config/policy.rs")));
    let start = text.find("\npolicies! {").expect("the list");
    let list = &text[start..start + text[start..].find("\n}").expect("its end")];
    let name = |line: &str| line.trim().split_once(": ").map(|(name, _)| name.to_owned());
    list.lines().filter_map(name).collect()
}

#[test]
fn a_policy_is_one_file_and_one_line_of_the_list() {
    let listed = listed();
    assert!(listed.contains("access") && listed.contains("fallback"), "{listed:?}");
    let mut files = BTreeSet::new();
    let mut wrong = Vec::new();
    for file in rust(&["src/config/policy"]) {
        if file.parent() != Some(&root().join("src/config/policy")) {
            // A part of the policy that its folder names.
            continue;
        }
        let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
        let text = code(&read_text(&file));
        // The trait asks for the form as written, the rows of the schema, the meaning and the build.
        if text.matches("impl Policy for ").count() != 1 {
            wrong.push(format!("{} must implement `Policy` for one policy", file.display()));
        }
        for other in listed.iter().filter(|other| **other != name) {
            if [format!("super::{other}"), format!("policy::{other}")].iter().any(|path| text.contains(path.as_str())) {
                wrong.push(format!("{} imports {other}: policies do not see each other", file.display()));
            }
        }
        files.insert(name);
    }
    assert_eq!(files, listed, "each file is a line of the list, and each line a file");
    for file in rust(&["src"]) {
        let text = code(&read_text(&file));
        for name in listed.iter().filter(|name| text.contains(&format!("{name}::Written"))) {
            wrong.push(format!("{} names how {name} is written, which is its own business", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
