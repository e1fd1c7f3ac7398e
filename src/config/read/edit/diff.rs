//! The difference between two texts, as `diff -u` writes it.

use std::{collections::HashMap, fmt::Write as _, ops::Range};

/// Equal lines around a change.
const CONTEXT: usize = 3;

/// A stretch of lines that differs: where it stands in the old text, and in the new one.
type Change = (Range<usize>, Range<usize>);

/// The unified difference; empty if the texts are equal. `shown_old` and `shown_new` are the same texts as they may be shown.
pub fn unified(name: &str, (old, shown_old): (&str, &str), (new, shown_new): (&str, &str)) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
    let (shown_a, shown_b): (Vec<&str>, Vec<&str>) = (shown_old.split_inclusive('\n').collect(), shown_new.split_inclusive('\n').collect());
    let mut changes = Vec::new();
    compare(&a, &b, (0..a.len(), 0..b.len()), &mut changes);
    let mut out = String::new();
    let mut rest = &changes[..];
    while let Some(first) = rest.first() {
        // Changes that are near each other stand in one hunk.
        let near = |pair: &[Change]| pair[1].0.start - pair[0].0.end <= 2 * CONTEXT;
        let count = 1 + rest.windows(2).take_while(|pair| near(pair)).count();
        let (hunk, after) = rest.split_at(count);
        if out.is_empty() {
            let _ = writeln!(out, "--- {name}\n+++ {name}");
        }
        write_hunk(&mut out, first, hunk, (&shown_a, &shown_b));
        rest = after;
    }
    out
}

fn write_hunk(out: &mut String, first: &Change, hunk: &[Change], (a, b): (&[&str], &[&str])) {
    let last = hunk.last().unwrap_or(first);
    let before = first.0.start.min(CONTEXT);
    let after = (a.len() - last.0.end).min(CONTEXT);
    let (from_a, from_b) = (first.0.start - before, first.1.start - before);
    let (to_a, to_b) = (last.0.end + after, last.1.end + after);
    let _ = writeln!(out, "@@ -{},{} +{},{} @@", place(from_a, to_a), to_a - from_a, place(from_b, to_b), to_b - from_b);
    let mut at = from_a;
    for (old, new) in hunk {
        a[at..old.start].iter().for_each(|text| line(out, ' ', text));
        a[old.clone()].iter().for_each(|text| line(out, '-', text));
        b[new.clone()].iter().for_each(|text| line(out, '+', text));
        at = old.end;
    }
    a[at..to_a].iter().for_each(|text| line(out, ' ', text));
}

/// The number of a hunk's first line; of no line it is the one before.
fn place(from: usize, to: usize) -> usize {
    if from == to { from } else { from + 1 }
}

fn line(out: &mut String, mark: char, text: &str) {
    out.push(mark);
    out.push_str(text.trim_end_matches(['\n', '\r']));
    out.push('\n');
    if !text.ends_with('\n') {
        out.push_str("\\ No newline at end of file\n");
    }
}

/// Patience diff: lines that stand once in both texts are the fixed points.
fn compare(a: &[&str], b: &[&str], (mut old, mut new): Change, changes: &mut Vec<Change>) {
    while !old.is_empty() && !new.is_empty() && a[old.start] == b[new.start] {
        (old.start, new.start) = (old.start + 1, new.start + 1);
    }
    while !old.is_empty() && !new.is_empty() && a[old.end - 1] == b[new.end - 1] {
        (old.end, new.end) = (old.end - 1, new.end - 1);
    }
    if old.is_empty() && new.is_empty() {
        return;
    }
    let fixed = fixed_points(a, b, &old, &new);
    if fixed.is_empty() {
        return changes.push((old, new));
    }
    let (mut at_a, mut at_b) = (old.start, new.start);
    for (in_a, in_b) in fixed {
        compare(a, b, (at_a..in_a, at_b..in_b), changes);
        (at_a, at_b) = (in_a + 1, in_b + 1);
    }
    compare(a, b, (at_a..old.end, at_b..new.end), changes);
}

/// The longest run of lines, unique in both texts, that stand in the same order in both.
fn fixed_points(a: &[&str], b: &[&str], old: &Range<usize>, new: &Range<usize>) -> Vec<(usize, usize)> {
    let mut seen: HashMap<&str, (usize, usize, usize, usize)> = HashMap::new();
    for at in old.clone() {
        let entry = seen.entry(a[at]).or_default();
        (entry.0, entry.1) = (entry.0 + 1, at);
    }
    for at in new.clone() {
        let entry = seen.entry(b[at]).or_default();
        (entry.2, entry.3) = (entry.2 + 1, at);
    }
    let mut pairs: Vec<(usize, usize)> =
        seen.into_values().filter(|seen| seen.0 == 1 && seen.2 == 1).map(|seen| (seen.1, seen.3)).collect();
    pairs.sort_unstable();
    // The longest ascending run of second places: piles of patience, each with the way back.
    let (mut piles, mut before): (Vec<usize>, Vec<Option<usize>>) = (Vec::new(), vec![None; pairs.len()]);
    for (nth, (_, in_b)) in pairs.iter().enumerate() {
        let pile = piles.partition_point(|top| pairs[*top].1 < *in_b);
        before[nth] = pile.checked_sub(1).map(|pile| piles[pile]);
        if pile == piles.len() { piles.push(nth) } else { piles[pile] = nth }
    }
    let mut run: Vec<(usize, usize)> = std::iter::successors(piles.last().copied(), |nth| before[*nth]).map(|nth| pairs[nth]).collect();
    run.reverse();
    run
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diff(old: &str, new: &str) -> String {
        unified("f", (old, old), (new, new))
    }

    #[test]
    fn a_difference_reads_as_diff_u_writes_it() {
        assert_eq!(diff("a\n", "a\n"), "");
        let old = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n13\n14\n";
        let new = old.replace("2\n3\n", "2\nx\n").replace("13\n", "");
        assert_eq!(
            diff(old, &new),
            "--- f\n+++ f\n@@ -1,6 +1,6 @@\n 1\n 2\n-3\n+x\n 4\n 5\n 6\n@@ -10,5 +10,4 @@\n 10\n 11\n 12\n-13\n 14\n"
        );
        assert_eq!(diff("", "a\n"), "--- f\n+++ f\n@@ -0,0 +1,1 @@\n+a\n");
        assert_eq!(diff("a", "a\n"), "--- f\n+++ f\n@@ -1,1 +1,1 @@\n-a\n\\ No newline at end of file\n+a\n");
    }

    proptest::proptest! {
        /// The difference, applied to the old text, makes the new one.
        #[test]
        fn a_difference_leads_from_one_text_to_the_other(old in "([ab\n]{0,3}\n){0,12}", new in "([ab\n]{0,3}\n){0,12}") {
            let (a, b): (Vec<&str>, Vec<&str>) = (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
            let mut changes = Vec::new();
            compare(&a, &b, (0..a.len(), 0..b.len()), &mut changes);
            let (mut made, mut at) = (String::new(), 0);
            for (from, to) in &changes {
                made += &a[at..from.start].concat();
                made += &b[to.clone()].concat();
                at = from.end;
            }
            made += &a[at..].concat();
            proptest::prop_assert_eq!(made, new);
        }
    }
}
