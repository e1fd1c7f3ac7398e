//! What keeps the seams of a request: an exchange of few fields, short functions, one meaning for a name.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{code, imports, read_text, root, rust};

/// Most fields of `Exchange`: it is what an exchange holds, not what everybody may want to know.
const MOST_FIELDS: usize = 12;
/// Longest function on the way of a request.
const LONGEST_FUNCTION: usize = 60;
/// What is done at load, and what only Redis' answers pass.
const NOT_THE_WAY: [&str; 2] = ["src/proxy/live.rs", "src/policy/cache/codec.rs"];
/// Where requests pass.
const WAY: [&str; 6] = ["src/proxy", "src/listen", "src/upstream", "src/body", "src/policy", "src/telemetry/log"];

#[test]
fn an_exchange_has_few_fields() {
    let text = code(&read_text(&root().join("src/proxy/exchange.rs")));
    let start = text.find("pub struct Exchange {").expect("the struct");
    let body = &text[start..start + text[start..].find("\n}").expect("its end")];
    let fields = body.lines().filter(|line| line.trim_end().ends_with(',')).count();
    assert!((1..=MOST_FIELDS).contains(&fields), "Exchange has {fields} fields; {MOST_FIELDS} is the most");
}

#[test]
fn no_function_on_the_way_is_long() {
    let mut wrong = Vec::new();
    for file in rust(&WAY) {
        let text = read_text(&file);
        let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let tests = file.file_name().is_some_and(|name| name.to_string_lossy().ends_with("tests.rs"));
        if tests || NOT_THE_WAY.iter().any(|exempt| file.ends_with(exempt)) {
            continue;
        }
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let indent = &line[..line.len() - line.trim_start().len()];
            let words = line.trim_start().trim_start_matches("pub(super) ").trim_start_matches("pub ").trim_start_matches("async ");
            if !words.starts_with("fn ") || line.trim_end().ends_with(';') {
                continue;
            }
            let end = format!("{indent}}}");
            let length = lines[at..].iter().position(|line| *line == end).map_or(0, |end| end + 1);
            if length > LONGEST_FUNCTION {
                wrong.push(format!("{}:{}: {length} lines; {LONGEST_FUNCTION} is the most", file.display(), at + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A type that `src/proxy` defines or imports has a name of its own there.
#[test]
fn no_type_name_means_two_things() {
    let mut meanings: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in rust(&["src/proxy"]) {
        let text = read_text(&file);
        let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let module = file.file_stem().expect("a name").to_string_lossy().into_owned();
        for path in imports(text) {
            let (Some(name), Some(from)) = (path.last(), path.iter().rev().nth(1)) else { continue };
            // `super` is where the type is defined.
            if from != "super"
                && name.starts_with(|c: char| c.is_ascii_uppercase())
                && !name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
            {
                meanings.entry(name.clone()).or_default().insert(from.clone());
            }
        }
        for line in code(text).lines() {
            let line = line.trim_start().trim_start_matches("pub(super) ").trim_start_matches("pub ");
            for kind in ["struct ", "enum ", "type ", "trait "] {
                if let Some(rest) = line.strip_prefix(kind) {
                    let name: String = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
                    meanings.entry(name).or_default().insert(module.clone());
                }
            }
        }
    }
    // The same type, re-exported one level up, is one meaning; library types are imported under one path each.
    let wrong: Vec<String> = meanings
        .iter()
        .filter(|(name, places)| places.len() > 1 && !["Output", "Data", "Error"].contains(&name.as_str()))
        .map(|(name, places)| format!("{name}: {}", places.iter().cloned().collect::<Vec<_>>().join(", ")))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
