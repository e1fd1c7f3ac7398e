//! A configuration as it may be shown: every secret in it, in its comments too, as asterisks.

use std::path::Path;

use crate::config::{
    error::credentials,
    read::{expand::Expander, hidden, tree, tree::Mark, walk::Walk},
    secrecy::is_secret_value,
};

/// The text with its secrets masked. A mask hides the characters and keeps their number: lines and columns stay.
pub fn masked(text: &str) -> String {
    let tree = tree::read(text);
    let mut walk = Walk::new(Expander::new(&|_| None, Path::new("")));
    walk.root(&tree.root);
    let mut masks = walk.seen.masks;
    for fault in &tree.faults {
        masks.extend(hidden::suspicious(text, fault.at));
    }
    masks.sort_unstable();
    let mut out = String::with_capacity(text.len());
    for (nth, line) in text.split_inclusive(['\n', '\r']).scan(None, numbered).collect::<Vec<_>>() {
        write_line(&mut out, nth, line, &masks);
    }
    out
}

/// Gives each piece its line number. A CR before an LF belongs to the same line.
fn numbered<'t>(before: &mut Option<(u32, bool)>, piece: &'t str) -> Option<(u32, &'t str)> {
    let number = match before {
        None => 1,
        Some((number, true)) if piece == "\n" => *number,
        Some((number, _)) => *number + 1,
    };
    *before = Some((number, piece.ends_with('\r')));
    Some((number, piece))
}

fn write_line(out: &mut String, number: u32, line: &str, masks: &[(Mark, Mark)]) {
    let spots: Vec<_> = credentials(line).into_iter().chain(in_comment(line)).collect();
    let last = Mark { line: number, column: u32::MAX };
    let first = Mark { line: number, column: 1 };
    let here: Vec<_> = masks.iter().filter(|(from, to)| *from <= last && first < *to).collect();
    for (nth, c) in line.chars().enumerate() {
        let at = Mark { line: number, column: u32::try_from(nth + 1).unwrap_or(u32::MAX) };
        let masked = here.iter().any(|(from, to)| *from <= at && at < *to) && !c.is_whitespace() && !"{}[]\"',".contains(c);
        let hidden = masked || spots.iter().any(|spot| spot.contains(&nth));
        out.push(if hidden { '*' } else { c });
    }
}

/// Where words stand in the comment of a line that look like credentials, in characters.
fn in_comment(line: &str) -> Vec<std::ops::Range<usize>> {
    let mut spots = Vec::new();
    let Some(comment) = line.char_indices().position(|(at, c)| c == '#' && (at == 0 || line[..at].ends_with([' ', '\t']))) else {
        return spots;
    };
    let (mut start, mut word) = (comment, String::new());
    for (nth, c) in line.chars().chain([' ']).enumerate().skip(comment) {
        if c.is_whitespace() || "\"'[]{},".contains(c) {
            if is_secret_value(&word) {
                spots.push(start..nth);
            }
            word.clear();
        } else {
            if word.is_empty() {
                start = nth;
            }
            word.push(c);
        }
    }
    spots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_hidden_wherever_it_stands_and_the_rest_is_shown() {
        let text = "# keys: [sk-in-a-comment-1234]\r\noutbound:\r\n  providers: {openai: {keys: [sk-hunter2, \"${KEY:-}\"]}}\r\nadmin: {token: hunter2hunter2}  # the door\r\nstore: {redis: \"redis://:hunter2@r\", namespace: n}\r\n";
        let shown = masked(text);
        assert!(!shown.contains("hunter2") && !shown.contains("sk-in-a"), "{shown}");
        assert!(shown.contains("${KEY:-}") && shown.contains("# the door") && shown.contains("namespace: n"), "{shown}");
        assert_eq!((shown.len(), shown.lines().count()), (text.len(), text.lines().count()));
    }
}
