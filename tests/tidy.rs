//! The rules of the house that no compiler knows: who may import whom, how long a file may be, what must not be in one.

#[path = "tidy/config.rs"]
mod config;
#[path = "tidy/seams.rs"]
mod seams;
#[path = "tidy/source.rs"]
mod source;

use std::{fs, path::Path};

use outrigger::{
    cli::demo::setting::CONFIG as DEMO,
    config::read::{self, Overrides},
};

use source::{code, files, is_rust, layer_of, module_path, read_text, root, rust, uses};

/// Modules from top to bottom; those of a line never see each other. A module imports from strictly lower lines only.
const LAYERS: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["app"],
    &["listen", "admin"],
    &["proxy"],
    &["route"],
    &["policy", "cause", "provider", "upstream", "notify", "status"],
    &["store", "telemetry", "alert", "audit", "monitor", "sentry"],
    &["arrival", "caller", "reject", "usage", "fetch"],
    &["body", "resolve"],
    &["config", "clock", "fields", "message", "pressure"],
    &["http1", "in_place", "condition", "underway"],
];

/// What several policies are made of; policies see it, but not each other.
const POLICY_PARTS: &[&str] = &["buckets", "turns"];

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
        // One line of the proof with nginx and Varnish, which is no part of the tests that run, says why it waits.
        let text = read_text(&file)
            .replace("thread::sleep(Duration::from_secs(seconds)); // real time: nginx and Varnish have no clock of ours", "");
        find(&file, &code(&text), &["thread::sleep", "time::sleep("]);
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
