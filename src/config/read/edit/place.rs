//! The places of a tree in its text, and the changes of the text there.

use std::rc::Rc;

use serde_json::Value;

use super::{Found, flow};
use crate::config::read::tree::{Mark, Node, Shape};

/// A change of the text, or why the text does not allow the change.
pub(super) type Changed = Result<String, &'static str>;

/// A text with its lines.
pub(super) struct Source<'s> {
    pub(super) text: &'s str,
    /// Where each line begins, in bytes.
    lines: Vec<usize>,
}

impl<'s> Source<'s> {
    pub(super) fn new(text: &'s str) -> Self {
        let mut lines = vec![0];
        let bytes = text.as_bytes();
        for (at, byte) in bytes.iter().enumerate() {
            // YAML 1.2.2 section 5.4: LF, CR LF, or a CR alone.
            if *byte == b'\n' || (*byte == b'\r' && bytes.get(at + 1) != Some(&b'\n')) {
                lines.push(at + 1);
            }
        }
        Self { text, lines }
    }

    /// A place in bytes.
    pub(super) fn offset(&self, at: Mark) -> usize {
        let Some(start) = self.lines.get((at.line as usize).wrapping_sub(1)) else { return self.text.len() };
        let rest = &self.text[*start..];
        rest.char_indices().nth((at.column as usize).wrapping_sub(1)).map_or(self.text.len(), |(byte, _)| start + byte)
    }

    /// Where a node begins.
    pub(super) fn start(&self, node: &Node) -> usize {
        self.offset(node.at)
    }

    /// Whether a list or block is written in brackets.
    pub(super) fn is_flow(&self, node: &Node) -> bool {
        self.text[self.start(node)..].starts_with(['{', '['])
    }

    /// Where the text of a node ends: behind its last word or bracket, before blanks and comments.
    pub(super) fn end(&self, node: &Node) -> usize {
        let deepest = match &node.shape {
            Shape::List(items) if !self.is_flow(node) => items.last().map(|item| self.end(item)),
            Shape::Table(entries) if !self.is_flow(node) => {
                // A key without a value ends with its colon.
                let of = |(key, value): &(Rc<Node>, Rc<Node>)| {
                    if value.is_empty() && value.at >= value.end { self.colon(key) } else { self.end(value) }
                };
                entries.last().map(of)
            }
            _ => None,
        };
        deepest.unwrap_or_else(|| {
            let (start, end) = (self.start(node), self.offset(node.end));
            start + self.text[start..end.max(start)].trim_end().len()
        })
    }

    /// Behind the colon of a key.
    pub(super) fn colon(&self, key: &Node) -> usize {
        let end = self.end(key);
        self.text[end..].find(':').map_or(end, |at| end + at + 1)
    }

    /// The end of the line of a place, before its line break.
    pub(super) fn line_end(&self, at: usize) -> usize {
        self.text[at..].find(['\n', '\r']).map_or(self.text.len(), |end| at + end)
    }

    /// The begin of the line of a place.
    pub(super) fn line_start(&self, at: usize) -> usize {
        let line = self.lines.partition_point(|start| *start <= at);
        self.lines[line - 1]
    }

    /// Behind the line break of the line of a place.
    pub(super) fn next_line(&self, at: usize) -> usize {
        let line = self.lines.partition_point(|start| *start <= at);
        self.lines.get(line).copied().unwrap_or(self.text.len())
    }

    /// The line break of this text.
    fn newline(&self) -> &'static str {
        if self.text.contains("\r\n") { "\r\n" } else { "\n" }
    }

    /// The text with `from..to` replaced.
    pub(super) fn splice(&self, from: usize, to: usize, with: &str) -> String {
        [&self.text[..from], with, &self.text[to..]].concat()
    }

    /// The text with another value in the place of `found`.
    pub(super) fn replace(&self, found: &Found<'_>, value: &Value) -> Changed {
        let (node, fresh) = (found.node, flow::text(value));
        let Some(key) = found.key else {
            let start = self.start(node);
            return self.over(start, start, node, &fresh);
        };
        let colon = self.colon(key);
        if node.is_empty() && node.at >= node.end {
            return Ok(self.splice(colon, colon, &format!(" {fresh}")));
        }
        let start = self.start(node);
        let same_line = self.line_start(start) == self.line_start(colon);
        if same_line { self.over(start, start, node, &fresh) } else { self.over(colon, self.line_end(colon), node, &format!(" {fresh}")) }
    }

    /// Writes `fresh` at `at`; what stands between `from` and the node's end goes. `from` is behind a comment on the line of `at`.
    fn over(&self, at: usize, from: usize, node: &Node, fresh: &str) -> Changed {
        let end = self.end(node);
        if end < from {
            return Err("the value ends before it begins");
        }
        Ok([&self.text[..at], fresh, &self.text[at..from], &self.text[end..]].concat())
    }

    /// The text with one more key in a block.
    pub(super) fn insert_key(&self, found: &Found<'_>, entries: &[(Rc<Node>, Rc<Node>)], key: &str, value: &Value) -> Changed {
        let entry = format!("{}: {}", flow::word(key), flow::text(value));
        let Some((last_key, last)) = entries.last() else {
            // An empty block is `{}`; an empty file is nothing at all.
            if found.node.at < found.node.end && self.is_flow(found.node) {
                return Ok(self.splice(self.start(found.node), self.end(found.node), &format!("{{{entry}}}")));
            }
            let gap = if self.text.is_empty() || self.text.ends_with(['\n', '\r']) { "" } else { self.newline() };
            return Ok(format!("{}{gap}{entry}{}", self.text, self.newline()));
        };
        let end =
            if last.is_empty() && last.at >= last.end { self.end(last_key).max(self.colon_of_flow(last_key)) } else { self.end(last) };
        if self.is_flow(found.node) {
            return Ok(self.splice(end, end, &format!(", {entry}")));
        }
        let indent = self.indent(self.start(&entries[0].0));
        let at = self.line_end(end);
        Ok(self.splice(at, at, &format!("{}{indent}{entry}", self.newline())))
    }

    /// Behind the colon of a key that may have none (`{a, b}`).
    fn colon_of_flow(&self, key: &Node) -> usize {
        let end = self.end(key);
        let rest = &self.text[end..];
        let blanks = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        if rest[blanks..].starts_with(':') { end + blanks + 1 } else { end }
    }

    /// The text with one more item in a list that has items.
    pub(super) fn insert_item(&self, found: &Found<'_>, items: &[Rc<Node>], at: usize, value: &Value) -> Changed {
        if self.is_flow(found.node) {
            let fresh = flow::text(value);
            return Ok(match items.get(at) {
                Some(next) => self.splice(self.start(next), self.start(next), &format!("{fresh}, ")),
                None => {
                    let end = self.end(&items[items.len() - 1]);
                    self.splice(end, end, &format!(", {fresh}"))
                }
            });
        }
        let dash = self.dash(&items[0]).ok_or("an item shares its line with the list around it")?;
        let indent = self.indent(dash);
        let mut fresh = format!("{indent}- ");
        match value {
            // The first level of a block stands as people write it: a key a line.
            Value::Object(map) if !map.is_empty() => {
                let lines: Vec<String> = map.iter().map(|(key, value)| format!("{}: {}", flow::word(key), flow::text(value))).collect();
                fresh += &lines.join(&format!("{}{indent}  ", self.newline()));
            }
            value => fresh += &flow::text(value),
        }
        if at == 0 {
            let start = self.line_start(dash);
            return Ok(self.splice(start, start, &format!("{fresh}{}", self.newline())));
        }
        let end = self.line_end(self.end(&items[at - 1]));
        Ok(self.splice(end, end, &format!("{}{fresh}", self.newline())))
    }

    /// The dash before an item, if the dash begins its line.
    pub(super) fn dash(&self, item: &Node) -> Option<usize> {
        let start = self.start(item);
        let line = self.line_start(start);
        let before = &self.text[line..start];
        let dash = before.find('-')?;
        (before[..dash].trim().is_empty() && before[dash + 1..].trim().is_empty()).then_some(line + dash)
    }

    /// Blanks up to the column of a place.
    fn indent(&self, at: usize) -> String {
        " ".repeat(self.text[self.line_start(at)..at].chars().count())
    }
}
