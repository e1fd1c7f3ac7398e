//! The walk over a block of keys: unknown keys, missing keys, and the defaults of absent ones.
//!
//! One mistake is one message. An unknown key is most likely a key that is missing, so the missing key is not reported too.

use std::{collections::HashMap, rc::Rc};

use serde_yaml::{Mapping, Value};

use super::{
    tell::{join, misplaced, shown, ticked},
    tree::{self, Mark, Node, Shape},
    walk::Walk,
};
use crate::config::schema::{self, Key, Kind, Table};

/// A key that does not fit where it stands.
pub(super) struct Misfit<'n> {
    pub(super) name: &'n str,
    pub(super) at: Mark,
    /// The place of the first key of this name, if the key is known. `None`: the key is not known.
    pub(super) first: Option<Mark>,
    /// Whether all keys of the block behind it are misfits too.
    pub(super) last: bool,
}

impl Walk<'_> {
    /// A table in which nothing is written: the defaults alone.
    pub(super) fn absent(&mut self, table: &'static Table, path: &str) -> Value {
        let mut out = Mapping::new();
        for key in table.keys {
            self.fill(key, path, &mut out);
        }
        Value::Mapping(out)
    }

    pub(super) fn table(&mut self, node: &Node, table: &'static Table, path: &str) -> Option<Value> {
        let Shape::Table(entries) = &node.shape else { return None };
        let mut out = Mapping::new();
        let mut misfits: Vec<Misfit<'_>> = Vec::new();
        let mut seen: HashMap<&str, Mark> = HashMap::new();
        for (at, (key_node, value)) in entries.iter().enumerate() {
            let Some(name) = self.name(key_node, path) else {
                self.hide_unknown(value, "");
                continue;
            };
            let Some(key) = table.key(name) else {
                self.hide_unknown(value, name);
                misfits.push(Misfit { name, at: key_node.at, first: seen.insert(name, key_node.at), last: true });
                continue;
            };
            // Of two keys with the same name, the first that has a value counts.
            let counts = |(key, value): &(Rc<Node>, Rc<Node>)| key.is_word(name) && !value.is_empty();
            let first = entries.iter().position(counts).or_else(|| entries.iter().position(|(key, _)| key.is_word(name))).unwrap_or(at);
            if at != first {
                self.hide_misplaced(value, &key.kind, name);
                let other = entries[first].0.at;
                misfits.push(Misfit { name, at: key_node.at.max(other), first: Some(key_node.at.min(other)), last: at > first });
                continue;
            }
            misfits.iter_mut().for_each(|misfit| misfit.last = false);
            seen.insert(name, key_node.at);
            let here = join(path, name);
            self.place(&here, key_node.at, value.at);
            if let Some(value) = self.kind(value, &key.kind, key, &here) {
                out.insert(Value::String(name.to_owned()), value);
            }
        }
        let excused = self.tell(&misfits, table, path, &seen);
        self.required(node, table, path, &seen, &excused);
        for key in table.keys {
            self.fill(key, path, &mut out);
        }
        Some(Value::Mapping(out))
    }

    /// Reports the keys that do not fit. The result names the keys that were most likely meant: they are not reported as missing.
    fn tell(&mut self, misfits: &[Misfit<'_>], table: &'static Table, path: &str, seen: &HashMap<&str, Mark>) -> Vec<&'static str> {
        for misfit in misfits.iter().filter(|misfit| misfit.first.is_none()) {
            self.seen.unknown.insert(misfit.name.to_owned());
        }
        let told = misplaced(misfits, table, path);
        for (name, fault) in told.faults {
            self.wrong(fault.at, &name.map_or_else(|| path.to_owned(), |name| join(path, &name)), fault.message);
        }
        let meant = |key: &&str| (told.anything || told.meant.contains(key)) && !seen.contains_key(key);
        let excused: Vec<&str> = table.keys.iter().map(|key| key.name).filter(meant).collect();
        self.seen.broken.extend(excused.iter().map(|key| join(path, key)));
        self.seen.broken.extend(told.doors.into_iter().map(str::to_owned));
        excused
    }

    /// Fills in the default of an absent key.
    fn fill(&mut self, key: &'static Key, path: &str, out: &mut Mapping) {
        let schema::Default::Value(yaml) = key.default else { return };
        if out.contains_key(key.name) {
            return;
        }
        let here = join(path, key.name);
        let value = match (yaml, &key.kind) {
            ("{}", Kind::Table(table) | Kind::Either([Kind::Table(table), ..])) => Some(self.absent(table, &here)),
            _ => {
                let outer = std::mem::replace(&mut self.filling, true);
                let value = self.kind(&tree::read(yaml).root_or_word(yaml), &key.kind, key, &here);
                self.filling = outer;
                value
            }
        };
        if let Some(value) = value {
            out.insert(Value::String(key.name.to_owned()), value);
        }
    }

    pub(super) fn name<'n>(&mut self, node: &'n Node, path: &str) -> Option<&'n str> {
        match &node.shape {
            Shape::Word { text, plain: true } if text == "<<" => {
                self.wrong(
                    node.at,
                    path,
                    "merge keys (`<<`) are not supported; write the block's alias as a whole value, or use `defaults`",
                );
                None
            }
            Shape::Word { text, .. } => Some(text),
            Shape::Broken => None,
            Shape::List(_) | Shape::Table(_) => {
                self.wrong(node.at, path, "a key must be a word");
                None
            }
        }
    }

    fn required(&mut self, node: &Node, table: &'static Table, path: &str, seen: &HashMap<&str, Mark>, excused: &[&str]) {
        let at = if path.ends_with(']') || path.is_empty() { node.at } else { self.seen.key(path) };
        let place = shown(path);
        for key in table.keys {
            if matches!(key.default, schema::Default::Required) && !seen.contains_key(key.name) && !excused.contains(&key.name) {
                self.missing(at, path, format!("{place} needs `{}`; for example `{}: {}`", key.name, key.name, key.example()));
            }
        }
        let mut chosen = true;
        for group in table.exactly_one {
            let mut written = group.iter().filter(|key| seen.contains_key(**key));
            match (written.next(), written.next()) {
                (None, _) if group.iter().any(|key| excused.contains(key)) => chosen = false,
                (None, _) => {
                    chosen = false;
                    let one_of = if group.len() == 1 { "" } else { "one of " };
                    self.missing(at, path, format!("{place} needs {one_of}{}", ticked(group)));
                }
                (Some(first), Some(second)) => {
                    let at = seen.get(second).copied().unwrap_or(at);
                    self.wrong(at, path, format!("`{second}` conflicts with `{first}`; {place} takes one of {}", ticked(group)));
                }
                _ => {}
            }
        }
        for group in table.at_least_one {
            if !group.iter().any(|key| seen.contains_key(*key) || excused.contains(key)) {
                self.missing(at, path, format!("{place} needs {}", ticked(group).replace(", ", " or ")));
            }
        }
        for (key, other) in table.needs {
            if let Some(at) = seen.get(key)
                && !seen.contains_key(other)
                && !excused.contains(other)
                && chosen
            {
                self.wrong(*at, path, format!("`{key}` has no meaning without `{other}`"));
            }
        }
    }
}
