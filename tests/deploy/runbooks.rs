//! Runbooks name every reason and every measure that the program knows.

use std::collections::BTreeSet;

use outrigger::config::Measure;

use super::read;

#[test]
fn every_reject_reason_has_its_line() {
    let sources = [
        include_str!("../../src/reject.rs"),
        include_str!("../../src/reject/gate.rs"),
        include_str!("../../src/reject/invalid.rs"),
        include_str!("../../src/reject/limited.rs"),
        include_str!("../../src/reject/unproved.rs"),
    ];
    let body = |source: &'static str| source.split("fn reason(").nth(1).unwrap().split("\n    }\n").next().unwrap();
    let reasons: BTreeSet<&str> = sources.into_iter().flat_map(|source| body(source).split('"').skip(1).step_by(2)).collect();
    assert!(reasons.len() > 15, "the reasons of src/reject.rs were not found: {reasons:?}");
    let runbook = read("runbooks/troubleshooting.md");
    let told: BTreeSet<&str> =
        runbook.lines().filter_map(|line| line.strip_prefix("| `")).map(|line| line.split('`').next().unwrap()).collect();
    assert_eq!(reasons, told, "reasons of src/reject.rs and lines of troubleshooting.md");
}

#[test]
fn every_measure_of_alerts_has_its_section_and_its_row() {
    let told = |file: &str, mark: &str| -> BTreeSet<String> {
        let text = read(file);
        let cells = text.lines().filter_map(|line| line.strip_prefix(mark));
        let words = cells.flat_map(|line| line.split('|').next().unwrap().split(',')).map(|word| word.trim().trim_matches('`').to_owned());
        words.collect()
    };
    let measures: BTreeSet<String> = Measure::ALL.iter().map(|measure| measure.as_str().to_owned()).collect();
    let sections = told("runbooks/alerts.md", "## ");
    assert_eq!(measures.difference(&sections).collect::<Vec<_>>(), Vec::<&String>::new(), "measures without a section");
    let rows = told("guide/alerts.md", "| ");
    assert_eq!(measures.difference(&rows).collect::<Vec<_>>(), Vec::<&String>::new(), "measures without a row");
}
