//! What to do about an incident: the runbook that is in the binary, by measure. So whoever is told needs no file and no server.

use std::{collections::BTreeMap, sync::LazyLock};

const TEXT: &str = include_str!("../../deploy/runbooks/alerts.md");

/// The sections, each as one paragraph, by their names.
static SECTIONS: LazyLock<BTreeMap<&'static str, String>> = LazyLock::new(|| {
    let sections = TEXT.split("\n## ").skip(1).filter_map(|section| section.split_once('\n'));
    sections.map(|(name, text)| (name.trim(), text.split_whitespace().collect::<Vec<_>>().join(" "))).collect()
});

/// What to do about an incident of this measure; empty for a word that is none.
pub fn advice(measure: &str) -> &'static str {
    SECTIONS.get(measure).map_or("", String::as_str)
}

/// The measures that there is advice for.
pub fn measures() -> impl Iterator<Item = &'static str> {
    SECTIONS.keys().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Measure;

    #[test]
    fn there_is_advice_for_every_measure() {
        for measure in Measure::ALL {
            let advice = advice(measure.as_str());
            assert!((20..1_000).contains(&advice.len()) && !advice.contains('\n'), "{measure:?}: {advice}");
        }
        assert_eq!(measures().count(), Measure::ALL.len() + 1, "and for a test");
        assert_eq!(advice("nothing"), "");
    }
}
