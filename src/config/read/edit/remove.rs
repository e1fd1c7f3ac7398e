//! Taking a value out of the text, with its key, its comma or its lines. A comment on the line of the value goes with the value; a
//! comment on a line of its own stays.

use super::{
    Found,
    place::{Changed, Source},
};
use crate::config::read::tree::{Node, Shape};

/// The text without the child at `place` of a block or list.
pub(super) fn take_out(source: &Source<'_>, parent: &Found<'_>, place: usize) -> Changed {
    let spans = spans(source, parent.node);
    let Some(&(start, end)) = spans.get(place) else { return Err("there is no such place") };
    if spans.len() == 1 && parent.key.is_some() || spans.len() == 1 && source.is_flow(parent.node) {
        let empty = match parent.node.shape {
            Shape::List(_) => serde_json::json!([]),
            _ => serde_json::json!({}),
        };
        return source.replace(parent, &empty);
    }
    if source.is_flow(parent.node) {
        return from_flow(source, &spans, place);
    }
    let begin = match &parent.node.shape {
        Shape::List(items) => source.dash(&items[place]).ok_or("an item shares its line with the list around it")?,
        _ => start,
    };
    let line = source.line_start(begin);
    if source.text[line..begin].trim().is_empty() {
        return Ok(source.splice(line, source.next_line(end), ""));
    }
    // The first key of an item stands behind the item's dash: the next key takes its place.
    let Some(&(next, _)) = spans.get(place + 1) else { return Err("the only key behind a dash") };
    match source.text[end..next].trim().is_empty() {
        true => Ok(source.splice(start, next, "")),
        false => Err("a comment stands between this key and the next"),
    }
}

/// Without one entry between braces, and without its comma.
fn from_flow(source: &Source<'_>, spans: &[(usize, usize)], place: usize) -> Changed {
    let (start, end) = spans[place];
    let (from, to) = match (spans.get(place + 1), place.checked_sub(1).and_then(|before| spans.get(before))) {
        (Some(&(next, _)), _) => (start, next),
        (None, Some(&(_, before))) => (before, end),
        (None, None) => (start, end),
    };
    let between = if from == start { &source.text[end..to] } else { &source.text[from..start] };
    if between.contains('#') {
        return Err("a comment stands between this value and the next");
    }
    Ok(source.splice(from, to, ""))
}

/// Where each child begins and ends, its key included.
fn spans(source: &Source<'_>, node: &Node) -> Vec<(usize, usize)> {
    match &node.shape {
        Shape::List(items) => items.iter().map(|item| (source.start(item), source.end(item))).collect(),
        Shape::Table(entries) => entries
            .iter()
            .map(|(key, value)| {
                let end = if value.is_empty() && value.at >= value.end { source.colon(key) } else { source.end(value) };
                (source.start(key), end)
            })
            .collect(),
        _ => Vec::new(),
    }
}
