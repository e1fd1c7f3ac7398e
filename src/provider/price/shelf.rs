//! The rows of prices, found by the name of a model in a few comparisons: a call looks for its price several times.
//!
//! A glob can match a name only if the text before its first `*` begins the name. These texts, the *heads*, stand sorted. The last head
//! that is not after the name begins with every head that begins the name: the walk from a head to the next shorter one that begins it
//! meets all rows that can match.

use super::Entry;

/// Rows, the most specific first, and where those of a name stand.
#[derive(Debug, Clone)]
pub(super) struct Shelf {
    entries: Vec<Entry>,
    heads: Vec<Head>,
}

#[derive(Debug, Clone)]
struct Head {
    text: Box<str>,
    /// The place of the longest other head that begins this one.
    shorter: Option<usize>,
    /// The places of the rows with this head, in order.
    rows: Vec<usize>,
}

impl Shelf {
    /// Sorts rows by how specific they are: the glob with the most literal characters first, and the first among equals.
    pub fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by_key(|entry| std::cmp::Reverse((entry.model.literal_len(), entry.model.is_literal())));
        let mut heads: Vec<Head> = Vec::new();
        let mut order: Vec<usize> = (0..entries.len()).collect();
        order.sort_by_key(|row| (head(&entries[*row]), *row));
        for row in order {
            let text = head(&entries[row]);
            if let Some(last) = heads.last_mut().filter(|last| *last.text == *text) {
                last.rows.push(row);
                continue;
            }
            let shorter = heads.iter().rposition(|other| text.starts_with(&*other.text));
            heads.push(Head { text: text.into(), shorter, rows: vec![row] });
        }
        Self { entries, heads }
    }

    /// The most specific row that matches `name` and is `fit`.
    pub fn find(&self, name: &str, fit: impl Fn(&Entry) -> bool) -> Option<&Entry> {
        let after = self.heads.partition_point(|head| *head.text <= *name);
        let mut at = after.checked_sub(1);
        let mut best: Option<usize> = None;
        while let Some(head) = at.map(|at| &self.heads[at]) {
            if name.starts_with(&*head.text) {
                let before_best = |row: &&usize| best.is_none_or(|best| **row < best);
                let matches = |row: &&usize| self.entries[**row].model.matches(name) && fit(&self.entries[**row]);
                best = head.rows.iter().take_while(before_best).find(matches).copied().or(best);
            }
            at = head.shorter;
        }
        best.map(|row| &self.entries[row])
    }

    /// All rows, the most specific first.
    pub fn rows(&self) -> &[Entry] {
        &self.entries
    }
}

/// The text of a glob before its first `*`.
fn head(entry: &Entry) -> &str {
    let glob = entry.model.as_str();
    glob.split_once('*').map_or(glob, |(head, _)| head)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{config::Glob, provider::price::table};

    fn shelf(globs: &[String]) -> Shelf {
        let row = table::known().swap_remove(0);
        Shelf::new(globs.iter().map(|glob| Entry { model: Glob::new(glob), ..row.clone() }).collect())
    }

    proptest! {
        #[test]
        fn the_found_row_is_the_first_that_matches(globs in prop::collection::vec("[ab*]{0,6}", 0..24), name in "[ab]{0,8}", odd: bool) {
            let shelf = shelf(&globs);
            let fit = |entry: &Entry| !odd || entry.model.literal_len() % 2 == 1;
            let first = shelf.rows().iter().find(|entry| entry.model.matches(&name) && fit(entry));
            let found = shelf.find(&name, fit);
            prop_assert_eq!(found.map(|entry| entry.model.as_str()), first.map(|entry| entry.model.as_str()));
        }
    }
}
