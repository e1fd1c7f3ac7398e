//! The rules of the house that no compiler knows: who may import whom, how long a file may be, what must not be in one.

use std::{
    fs,
    path::{Path, PathBuf},
};

use outrigger::{
    cli::demo::setting::CONFIG as DEMO,
    config::read::{self, Overrides},
};

/// Modules from top to bottom; those of a line never see each other. A module imports from strictly lower lines only.
const LAYERS: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["app"],
    &["listen", "admin"],
    &["proxy"],
    &["route"],
    &["policy", "cause", "provider", "upstream"],
    &["store", "telemetry"],
    &["arrival", "caller", "reject", "usage"],
    &["body"],
    &["config", "clock", "fields", "pressure"],
];

/// What several policies are made of; policies see it, but not each other.
const POLICY_PARTS: &[&str] = &["buckets"];

const LONGEST: usize = 500;

#[test]
fn imports_go_down() {
    let mut wrong = Vec::new();
    for file in rust(&["src"]) {
        let path = module_path(&file);
        let Some(own) = path.first() else { continue };
        let layer = layer_of(own).unwrap_or_else(|| panic!("{}: `{own}` has no place in the layers", file.display()));
        for (line, used) in uses(&read_text(&file), &path) {
            let other = &used[0];
            let Some(below) = layer_of(other) else { continue };
            if other != own && below <= layer {
                wrong.push(format!("{}:{line}: {own} imports {other}, which is not below it", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn policies_do_not_see_each_other() {
    let mut wrong = Vec::new();
    for file in rust(&["src/policy"]) {
        let path = module_path(&file);
        let Some(own) = path.get(1).filter(|own| !POLICY_PARTS.contains(&own.as_str())) else { continue };
        for (line, used) in uses(&read_text(&file), &path) {
            if used[0] == "policy"
                && let Some(other) = used.get(1)
                && other.chars().all(|c| c.is_ascii_lowercase() || c == '_')
                && other != own
                && !POLICY_PARTS.contains(&other.as_str())
            {
                wrong.push(format!("{}:{line}: {own} imports {other}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_crates_story_names_the_modules_in_their_order() {
    let text = read_text(&root().join("src/lib.rs"));
    let told: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let layers: Vec<usize> = told.iter().map(|name| layer_of(name).unwrap_or_else(|| panic!("{name} has no layer"))).collect();
    let known = LAYERS.iter().map(|layer| layer.len()).sum::<usize>() - 1;
    assert_eq!(told.len(), known, "every module of the layers, `main` aside: {told:?}");
    // The two at the top may stand in either order: who reads begins with how it is put together.
    assert!(layers[2..].is_sorted(), "{told:?}");
}

#[test]
fn every_file_says_what_it_promises_and_is_short() {
    let mut wrong = Vec::new();
    for file in rust(&["src", "tests", "benches"]) {
        let text = read_text(&file);
        if !text.starts_with("//! ") {
            wrong.push(format!("{} does not begin with `//! `", file.display()));
        }
        let lines = text.lines().count();
        if lines > LONGEST {
            wrong.push(format!("{} has {lines} lines; {LONGEST} is the most", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_is_left_undone_and_no_test_sleeps() {
    let mut wrong = Vec::new();
    let mut find = |file: &Path, text: &str, words: &[&str]| {
        for (at, line) in text.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(**word)) {
                wrong.push(format!("{}:{}: {word}", file.display(), at + 1));
            }
        }
    };
    for file in rust(&["src", "tests", "benches"]) {
        let text = read_text(&file);
        find(&file, &code(&text), &["todo!", "unimplemented!", "dbg!", "unsafe {"]);
        find(&file, &text, &[concat!("FIX", "ME"), concat!("XX", "X:"), concat!("TO", "DO")]);
    }
    for file in rust(&["tests"]) {
        find(&file, &code(&read_text(&file)), &["thread::sleep", "time::sleep("]);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_tells_on_which_machine_it_was_written() {
    let marks = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];
    let mut wrong = Vec::new();
    for file in files(&["src", "tests", "benches", "deploy", ".ci", "proxy.yaml", "Cargo.toml"], &|_| true) {
        // Bytes of recorded answers are not text.
        let Ok(text) = fs::read_to_string(&file) else { continue };
        for (at, line) in text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark)) {
                wrong.push(format!("{}:{}: {line}", file.display(), at + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_test_file_is_part_of_a_test() {
    let manifest = read_text(&root().join("Cargo.toml"));
    let top = files(&["tests"], &|file| file.parent() == Some(&root().join("tests")) && is_rust(file));
    for file in top {
        let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{} is not in Cargo.toml, which lists its tests", file.display());
    }
    let contents = read_text(&root().join("tests/suite/main.rs"));
    for file in files(&["tests/suite"], &|file| file.parent() == Some(&root().join("tests/suite")) && is_rust(file)) {
        let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
        assert!(name == "main" || contents.contains(&format!("\nmod {name};\n")), "tests/suite/{name}.rs is not in the table of contents");
    }
}

#[test]
fn the_files_that_are_shipped_load() {
    let overrides = Overrides { app: None, memory_limit: Some(512 << 20) };
    for (name, text) in [("proxy.yaml", read_text(&root().join("proxy.yaml"))), ("demo.yaml", DEMO.to_owned())] {
        read::parse(&text, name, &overrides, &|_| None).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    }
}

#[test]
fn the_reader_of_imports_reads_imports() {
    let text = r#"
//! crate::admin in a comment
use crate::{
    body::{Body, tap::{Tap}}, // crate::listen
    clock::Instant, policy::limits::Limits,
};
fn f() { crate::proxy::handle("crate::app"); super::super::route::find(); let c = '"'; crate::cause::x() }
"#;
    let path = ["policy".to_owned(), "breaker".to_owned()];
    let used: Vec<String> = uses(text, &path).into_iter().map(|(line, used)| format!("{line} {}", used.join("::"))).collect();
    assert_eq!(used, ["4 body", "5 clock::Instant", "5 policy::limits", "7 proxy::handle", "7 route::find", "7 cause::x"]);
}

// ---- reading source ------------------------------------------------------------------------------

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read_text(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn is_rust(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "rs")
}

fn rust(below: &[&str]) -> Vec<PathBuf> {
    files(below, &is_rust)
}

/// Files below these places that are wanted; what package managers put there is not ours.
fn files(below: &[&str], wanted: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left: Vec<PathBuf> = below.iter().map(|place| root().join(place)).collect();
    while let Some(place) = left.pop() {
        if place.is_dir() {
            let entries = fs::read_dir(&place).unwrap_or_else(|error| panic!("{}: {error}", place.display()));
            let entries = entries.map(|entry| entry.expect("an entry").path());
            left.extend(entries.filter(|entry| !entry.ends_with("node_modules") && !entry.ends_with("__pycache__")));
        } else if wanted(&place) {
            found.push(place);
        }
    }
    assert!(!found.is_empty(), "nothing below {below:?}");
    found.sort();
    found
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// `src/a/b.rs` is `a::b`, `src/a/mod.rs` is `a`, `src/a/b_tests.rs` is `a::b::tests`, `src/lib.rs` is the crate.
fn module_path(file: &Path) -> Vec<String> {
    let inner = file.strip_prefix(root().join("src")).expect("under src").with_extension("");
    let mut path: Vec<String> = inner.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    path.pop_if(|last| matches!(last.as_str(), "mod" | "lib"));
    if let Some(tested) = path.last().and_then(|last| last.strip_suffix("_tests")).map(str::to_owned) {
        path.pop();
        path.extend([tested, "tests".to_owned()]);
    }
    path
}

/// Every path from the crate's root that the code names: its line, and its first one or two names.
fn uses(text: &str, module: &[String]) -> Vec<(usize, Vec<String>)> {
    let code = code(text);
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(next) = ["crate::", "super::"].iter().filter_map(|start| code[at..].find(start)).min() {
        let start = at + next;
        at = start + "crate::".len();
        if code[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let mut above: Vec<String> = Vec::new();
        if code[start..].starts_with("super::") {
            let mut ups = 1;
            while code[at..].starts_with("super::") {
                ups += 1;
                at += "super::".len();
            }
            let Some(kept) = module.len().checked_sub(ups) else { continue };
            above = module[..kept].to_vec();
            if above.is_empty() && !starts_with_a_module(&code[at..]) {
                // `super` of a module within the file.
                continue;
            }
        }
        let (items, _) = heads(&code, at);
        for (place, names) in items {
            let line = code[..place].lines().count().max(1) + usize::from(code[..place].ends_with('\n'));
            let path: Vec<String> = above.iter().cloned().chain(names).take(2).collect();
            if !path.is_empty() {
                found.push((line, path));
            }
        }
    }
    found
}

fn starts_with_a_module(code: &str) -> bool {
    LAYERS.iter().flat_map(|layer| *layer).any(|module| code.strip_prefix(module).is_some_and(|rest| rest.starts_with("::")))
}

/// The first names of what stands at `at`: one path, or each of a braced list. And where it ends.
fn heads(code: &str, at: usize) -> (Vec<(usize, Vec<String>)>, usize) {
    if !code[at..].starts_with('{') {
        let first: String = code[at..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let after = at + first.len();
        let second: String =
            code[after..].strip_prefix("::").unwrap_or_default().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let names = [first, second].into_iter().filter(|name| !name.is_empty()).collect();
        return (vec![(at, names)], after);
    }
    let mut items = Vec::new();
    let (mut depth, mut fresh) = (0, false);
    for (offset, c) in code[at..].char_indices() {
        let place = at + offset;
        match c {
            '{' => {
                depth += 1;
                fresh = depth == 1;
            }
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return (items, place);
                }
            }
            ',' if depth == 1 => fresh = true,
            c if fresh && !c.is_whitespace() => {
                fresh = false;
                items.extend(heads(code, place).0);
            }
            _ => {}
        }
    }
    (items, code.len())
}

/// The text with comments and the insides of literals blanked; lines stay lines.
fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let blank = |part: &str, out: &mut String| out.extend(part.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
    while let Some(c) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(raw) = rest.strip_prefix("r#\"") {
            raw.find("\"#").map_or(rest.len(), |end| end + 5)
        } else if c == '"' {
            closing_quote(rest)
        } else if let Some(length) = char_literal(rest) {
            length
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        blank(&rest[..length], &mut out);
        rest = &rest[length..];
    }
    out
}

fn closing_quote(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a character literal; a lifetime is none.
fn char_literal(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('\'')?;
    if let Some(escaped) = inner.strip_prefix('\\') {
        // Whatever is escaped, a quote included, is no end.
        return escaped[1..].find('\'').map(|end| end + 4);
    }
    let c = inner.chars().next()?;
    inner[c.len_utf8()..].starts_with('\'').then(|| c.len_utf8() + 2)
}
