//! Precision and recall over a labelled set that others have written. The set is not kept here: the run names its file.
//!
//! The set is `data/synth_dataset_v2.json` of microsoft/presidio-research (MIT): 1,500 texts with the places of what is personal in them.
//! `OUTRIGGER_LABELLED=FILE cargo test --lib figures -- --ignored --nocapture`

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{detect::detect, tests::policy};
use crate::config::PersonalKind;

#[derive(Deserialize)]
struct Labelled {
    full_text: String,
    spans: Vec<Label>,
}

#[derive(Deserialize)]
struct Label {
    entity_type: String,
    start_position: usize,
    end_position: usize,
}

/// The kind that a label of the set means; `None`: rules of form do not look for it.
fn meant(label: &str) -> Option<PersonalKind> {
    Some(match label {
        "EMAIL_ADDRESS" => PersonalKind::Email,
        "PHONE_NUMBER" => PersonalKind::Phone,
        "CREDIT_CARD" => PersonalKind::Card,
        "IBAN_CODE" => PersonalKind::Iban,
        "IP_ADDRESS" => PersonalKind::Ip,
        "US_SSN" => PersonalKind::UsSsn,
        _ => return None,
    })
}

#[derive(Default)]
struct Figures {
    labelled: u32,
    whole: u32,
    /// Some of it, or as another kind.
    partly: u32,
    found: u32,
    right: u32,
}

#[test]
#[ignore = "needs the labelled set: see the head of the file"]
fn precision_and_recall_over_a_labelled_set() {
    let file = std::env::var("OUTRIGGER_LABELLED").expect("OUTRIGGER_LABELLED names the file of the set");
    let set: Vec<Labelled> = serde_json::from_slice(&std::fs::read(file).expect("readable")).expect("the set's form");
    let mut figures: BTreeMap<&str, Figures> = BTreeMap::new();
    for text in &set {
        // The set counts characters.
        let places: Vec<usize> = text.full_text.char_indices().map(|(at, _)| at).chain([text.full_text.len()]).collect();
        let found = detect(&policy(), &[], &text.full_text, "");
        let labels: Vec<_> =
            text.spans.iter().map(|label| (places[label.start_position]..places[label.end_position], meant(&label.entity_type))).collect();
        for (range, kind) in labels.iter().filter_map(|(range, kind)| Some((range, (*kind)?))) {
            let own = figures.entry(kind.as_str()).or_default();
            own.labelled += 1;
            let covers = |span: &&super::detect::PersonalSpan| span.range.start <= range.start && span.range.end >= range.end;
            match found.iter().find(covers) {
                Some(_) => own.whole += 1,
                None if found.iter().any(|span| span.range.start < range.end && span.range.end > range.start) => own.partly += 1,
                None => println!("missed {}: {}", kind.as_str(), &text.full_text[range.clone()]),
            }
        }
        for span in &found {
            let own = figures.entry(span.kind.as_str()).or_default();
            own.found += 1;
            let right = labels.iter().any(|(range, kind)| kind.is_some() && span.range.start < range.end && span.range.end > range.start);
            own.right += u32::from(right);
            if !right {
                println!("wrong {}: {} in: {}", span.kind.as_str(), &text.full_text[span.range.clone()], text.full_text);
            }
        }
    }
    println!("{} texts", set.len());
    for (kind, own) in &figures {
        let share = |part: u32, all: u32| if all == 0 { 0.0 } else { f64::from(part) * 100.0 / f64::from(all) };
        println!(
            "{kind}: labelled {}, whole {} (recall {:.1}%), partly {}; found {}, right {} (precision {:.1}%)",
            own.labelled,
            own.whole,
            share(own.whole, own.labelled),
            own.partly,
            own.found,
            own.right,
            share(own.right, own.found)
        );
    }
}
