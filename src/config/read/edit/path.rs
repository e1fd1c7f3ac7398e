//! The path of a value: `outbound.routes[0].cache.mode`. An item of a list is named by its place or by a word in it:
//! `inbound.routes[name=chat]`. A key with a dot or a bracket stands in quotes: `outbound.prices["gpt-4.1"]`.

use std::rc::Rc;

use serde_json::{Map, Value};

use super::{EditError, Found, nowhere};
use crate::config::read::tree::{Node, Shape};

/// One part of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Key(String),
    Index(usize),
    /// The item that has this word under this key.
    Named(String, String),
}

/// The parts of a path, from the root on.
#[derive(Debug)]
pub(super) struct Path(Vec<Part>);

impl Path {
    /// Reads a path.
    pub(super) fn read(path: &str) -> Result<Self, EditError> {
        let wrong = || nowhere(format!("`{path}` is no path; write one such as `outbound.routes[0].cache.mode`"));
        let mut parts = Vec::new();
        let mut rest = path;
        while !rest.is_empty() {
            if let Some(inside) = rest.strip_prefix('[') {
                let (part, after) = bracket(inside).ok_or_else(wrong)?;
                parts.push(part);
                rest = after;
            } else {
                let plain = if parts.is_empty() { Some(rest) } else { rest.strip_prefix('.') };
                let plain = plain.ok_or_else(wrong)?;
                let end = plain.find(['.', '[']).unwrap_or(plain.len());
                if end == 0 {
                    return Err(wrong());
                }
                parts.push(Part::Key(plain[..end].to_owned()));
                rest = &plain[end..];
            }
        }
        if parts.is_empty() { Err(wrong()) } else { Ok(Self(parts)) }
    }

    /// Goes as far as the tree does; gives the last node and the parts that are left.
    pub(super) fn follow<'t>(&self, root: &'t Node) -> Result<(Found<'t>, &[Part]), EditError> {
        follow(root, &self.0)
    }

    /// The node around the last part, and that part's place in it.
    pub(super) fn parent<'t>(&self, root: &'t Node) -> Result<(Found<'t>, usize), EditError> {
        let (before, last) = self.0.split_at(self.0.len() - 1);
        let (found, rest) = follow(root, before)?;
        let place = last.first().filter(|_| rest.is_empty()).and_then(|last| position(found.node, last));
        place.map(|place| (found, place)).ok_or_else(|| nowhere("the value is not written"))
    }

    /// Sets the value in a tree of JSON, as the edit means it.
    pub(super) fn write(&self, tree: &mut Value, value: &Value) -> Option<()> {
        let mut at = tree;
        for part in &self.0 {
            if at.is_null() {
                *at = Value::Object(Map::new());
            }
            at = match (part, at) {
                (Part::Key(key), Value::Object(map)) => map.entry(key.clone()).or_insert(Value::Null),
                (part, Value::Array(items)) => nth(items, part)?,
                _ => return None,
            };
        }
        *at = value.clone();
        Some(())
    }

    /// Adds an item to the list in a tree of JSON.
    pub(super) fn insert(&self, tree: &mut Value, place: usize, value: &Value) -> Option<()> {
        get(tree, &self.0)?.as_array_mut()?.insert(place, value.clone());
        Some(())
    }

    /// Removes the value in a tree of JSON.
    pub(super) fn erase(&self, tree: &mut Value) -> Option<()> {
        let (last, before) = self.0.split_last()?;
        match (get(tree, before)?, last) {
            (Value::Object(map), Part::Key(key)) => map.remove(key).map(drop),
            (Value::Array(items), part) => {
                let at = items.iter().position(|item| is(item, part)).or(index(part)).filter(|at| *at < items.len())?;
                items.remove(at);
                Some(())
            }
            _ => None,
        }
    }
}

/// The part in brackets, and what follows it.
fn bracket(inside: &str) -> Option<(Part, &str)> {
    if inside.starts_with('"') {
        let mut texts = serde_json::Deserializer::from_str(inside).into_iter::<String>();
        let key = texts.next()?.ok()?;
        let after = inside.get(texts.byte_offset()..)?;
        return Some((Part::Key(key), after.strip_prefix(']')?));
    }
    let (inside, after) = inside.split_once(']')?;
    let part = match inside.split_once('=') {
        Some((key, word)) if !key.is_empty() && !word.is_empty() => Part::Named(key.to_owned(), word.to_owned()),
        Some(_) => return None,
        None => Part::Index(inside.parse().ok()?),
    };
    Some((part, after))
}

fn follow<'t, 'p>(root: &'t Node, parts: &'p [Part]) -> Result<(Found<'t>, &'p [Part]), EditError> {
    let mut found = Found { node: root, key: None };
    for (nth, part) in parts.iter().enumerate() {
        let next = position(found.node, part).and_then(|place| child(found.node, place));
        match next {
            Some((key, node)) => found = Found { node, key },
            None if matches!((part, &found.node.shape), (Part::Named(..), Shape::List(_))) => {
                let Part::Named(key, word) = part else { continue };
                return Err(nowhere(format!("no item of the list has `{key}: {word}`")));
            }
            None => return Ok((found, &parts[nth..])),
        }
    }
    Ok((found, &[]))
}

/// The place of a part in its node.
fn position(node: &Node, part: &Part) -> Option<usize> {
    match (&node.shape, part) {
        // Of two keys with the same name the reader reports the second.
        (Shape::Table(entries), Part::Key(key)) => entries.iter().position(|(name, _)| name.is_word(key)),
        (Shape::List(items), Part::Index(at)) => (*at < items.len()).then_some(*at),
        (Shape::List(items), Part::Named(key, word)) => items.iter().position(|item| match &item.shape {
            Shape::Table(entries) => entries.iter().any(|(name, value)| name.is_word(key) && value.is_word(word)),
            _ => false,
        }),
        _ => None,
    }
}

fn child(node: &Node, place: usize) -> Option<(Option<&Rc<Node>>, &Node)> {
    match &node.shape {
        Shape::Table(entries) => entries.get(place).map(|(key, value)| (Some(key), &**value)),
        Shape::List(items) => items.get(place).map(|item| (None, &**item)),
        _ => None,
    }
}

fn get<'v>(tree: &'v mut Value, parts: &[Part]) -> Option<&'v mut Value> {
    parts.iter().try_fold(tree, |at, part| match (part, at) {
        (Part::Key(key), Value::Object(map)) => map.get_mut(key),
        (part, Value::Array(items)) => nth(items, part),
        _ => None,
    })
}

fn nth<'v>(items: &'v mut [Value], part: &Part) -> Option<&'v mut Value> {
    let at = items.iter().position(|item| is(item, part)).or(index(part))?;
    items.get_mut(at)
}

fn index(part: &Part) -> Option<usize> {
    if let Part::Index(at) = part { Some(*at) } else { None }
}

fn is(item: &Value, part: &Part) -> bool {
    matches!(part, Part::Named(key, word) if item.get(key).and_then(Value::as_str) == Some(word))
}
