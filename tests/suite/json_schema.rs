//! The official test suite of JSON Schema (json-schema-org/JSON-Schema-Test-Suite) through the proxy's own validator: all required tests of all
//! drafts that are read. The suite is no part of this repository: `OUTRIGGER_JSON_SCHEMA_SUITE` names a copy of its directory.

use std::{collections::BTreeMap, fs, path::Path};

use outrigger::config::Schema;
use serde_json::Value;

/// A draft with its directory and its name in `$schema`.
const DRAFTS: [(&str, &str); 5] = [
    ("draft4", "http://json-schema.org/draft-04/schema#"),
    ("draft6", "http://json-schema.org/draft-06/schema#"),
    ("draft7", "http://json-schema.org/draft-07/schema#"),
    ("draft2019-09", "https://json-schema.org/draft/2019-09/schema"),
    ("draft2020-12", "https://json-schema.org/draft/2020-12/schema"),
];

/// Why a test is not passed.
fn word(schema: &Value, why: &str) -> &'static str {
    let text = schema.to_string();
    match () {
        () if text.contains("localhost:1234") || why.contains("localhost:1234") => "refers to another document: nothing is fetched",
        () if why.contains("regex") || why.contains("pattern") => "a pattern that the linear engine does not take",
        () => "other",
    }
}

#[derive(Default)]
struct Counted {
    tests: u64,
    passed: u64,
    failed: BTreeMap<&'static str, Vec<String>>,
}

fn run_draft(dir: &Path, uri: &str) -> Counted {
    let mut counted = Counted::default();
    let mut files: Vec<_> = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    for file in files {
        let groups: Vec<Value> = serde_json::from_slice(&fs::read(&file).expect("readable")).expect("JSON");
        for group in groups {
            let mut schema = group["schema"].clone();
            if let Value::Object(members) = &mut schema {
                members.entry("$schema").or_insert_with(|| uri.into());
            }
            let compiled = Schema::compile(&schema, false);
            for test in group["tests"].as_array().expect("tests") {
                counted.tests += 1;
                let why = match &compiled {
                    Ok(schema) if schema.takes(&test["data"]) == test["valid"].as_bool().expect("a verdict") => {
                        counted.passed += 1;
                        continue;
                    }
                    Ok(_) => "",
                    Err(why) => why.as_str(),
                };
                let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let said = format!("{name}: {}: {} {why}", group["description"], test["description"]);
                counted.failed.entry(word(&schema, why)).or_default().push(said);
            }
        }
    }
    counted
}

#[test]
fn the_official_suite_passes_but_for_what_is_never_fetched() {
    let Some(suite) = std::env::var_os("OUTRIGGER_JSON_SCHEMA_SUITE") else {
        eprintln!(
            "SKIPPED: OUTRIGGER_JSON_SCHEMA_SUITE names no copy of json-schema-org/JSON-Schema-Test-Suite; the official tests did not run"
        );
        return;
    };
    let mut unexpected = Vec::new();
    eprintln!("draft          tests  passed  not passed");
    for (draft, uri) in DRAFTS {
        let counted = run_draft(&Path::new(&suite).join("tests").join(draft), uri);
        assert!(counted.tests > 500, "{draft}: {} tests", counted.tests);
        let reasons: Vec<String> = counted.failed.iter().map(|(word, tests)| format!("{} ({word})", tests.len())).collect();
        eprintln!("{draft:<13} {:>6} {:>7}  {}", counted.tests, counted.passed, reasons.join(", "));
        for (word, tests) in &counted.failed {
            tests.iter().for_each(|test| eprintln!("    {word}: {test}"));
        }
        unexpected.extend(counted.failed.get("other").into_iter().flatten().map(|test| format!("{draft}: {test}")));
    }
    assert!(unexpected.is_empty(), "{unexpected:#?}");
}
