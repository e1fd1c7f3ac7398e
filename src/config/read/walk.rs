//! The walk: a tree against the schema. Reports every mistake of shape and value, and hands on what is right.
//!
//! The result is a `serde_yaml` value in which every scalar is an expanded text that its kind has accepted,
//! lists stand where one item was allowed, defaults are filled in, and maps are lists of pairs.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_yaml::{Mapping, Value};

use super::{
    expand::{Expanded, Expander},
    tree::{self, Mark, Node, Shape},
};
use crate::config::{
    error::{Fault, nearest, quoted},
    schema::{self, Key, Kind, Scalar, Table},
};

/// What the walk knows of the file, for the checks that come after it.
#[derive(Default)]
pub(in crate::config) struct Seen {
    /// Where a path's key and value stand.
    places: BTreeMap<String, (Mark, Mark)>,
    /// Paths at which something was wrong.
    broken: BTreeSet<String>,
    /// Stretches of the source that must not be shown.
    pub(in crate::config) masks: Vec<(Mark, Mark)>,
}

impl Seen {
    /// Where the value of a path stands; of what is not written, the nearest block around it.
    pub(in crate::config) fn value(&self, path: &str) -> Mark {
        self.place(path).1
    }

    /// Where the key of a path stands.
    pub(in crate::config) fn key(&self, path: &str) -> Mark {
        self.place(path).0
    }

    /// Whether the path stands in the file.
    pub(in crate::config) fn written(&self, path: &str) -> bool {
        self.places.contains_key(path)
    }

    /// Whether something at the path or below it was wrong.
    pub(in crate::config) fn broken(&self, path: &str) -> bool {
        self.broken
            .range(path.to_owned()..)
            .next()
            .is_some_and(|found| found == path || found.strip_prefix(path).is_some_and(|rest| rest.starts_with(['.', '['])))
    }

    fn place(&self, path: &str) -> (Mark, Mark) {
        let mut path = path;
        loop {
            if let Some(place) = self.places.get(path) {
                return *place;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => {
                    let top = Mark { line: 1, column: 1 };
                    return self.places.get("").copied().unwrap_or((top, top));
                }
            }
        }
    }
}

/// One walk over one file.
pub(super) struct Walk<'a> {
    pub(super) expander: Expander<'a>,
    pub(super) faults: Vec<Fault>,
    pub(super) seen: Seen,
    /// Defaults are being filled in: they stand nowhere in the file.
    filling: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(expander: Expander<'a>) -> Self {
        Self { expander, faults: Vec::new(), seen: Seen::default(), filling: false }
    }

    /// Walks the whole file.
    pub(super) fn root(&mut self, node: &Node) -> Value {
        let top = if node.at.line == 0 { Mark { line: 1, column: 1 } } else { node.at };
        self.seen.places.insert(String::new(), (top, top));
        match &node.shape {
            Shape::Table(_) => {}
            _ => self.faults.push(Fault::new(top, "the file must be a block of keys, such as `inbound:`")),
        }
        self.table(node, &schema::ROOT, "").unwrap_or_else(|| self.absent(&schema::ROOT, ""))
    }

    fn wrong(&mut self, at: Mark, path: &str, message: impl Into<String>) {
        self.seen.broken.insert(path.to_owned());
        self.faults.push(Fault::new(at, message));
    }

    fn place(&mut self, path: &str, key: Mark, value: Mark) {
        if !self.filling {
            self.seen.places.insert(path.to_owned(), (key, value));
        }
    }

    /// A table in which nothing is written: the defaults alone.
    fn absent(&mut self, table: &'static Table, path: &str) -> Value {
        let mut out = Mapping::new();
        for key in table.keys {
            self.fill(key, path, &mut out);
        }
        Value::Mapping(out)
    }

    fn table(&mut self, node: &Node, table: &'static Table, path: &str) -> Option<Value> {
        let Shape::Table(entries) = &node.shape else { return None };
        let mut out = Mapping::new();
        let mut seen: HashMap<&str, Mark> = HashMap::new();
        for (key_node, value) in entries {
            let Some(name) = self.name(key_node, path) else {
                self.hide(value);
                continue;
            };
            if let Some(first) = seen.insert(name, key_node.at) {
                self.hide(value);
                self.wrong(
                    key_node.at,
                    &join(path, name),
                    format!("duplicate key {}; it is already written at line {}", quoted(name), first.line),
                );
                continue;
            }
            let Some(key) = table.key(name) else {
                self.hide(value);
                let near = nearest(name, table.keys.iter().map(|key| key.name));
                self.wrong(key_node.at, path, unknown(name, table, near, path));
                // Most likely this was meant; it must not be missed as well.
                near.map(|near| seen.entry(near).or_insert(key_node.at));
                continue;
            };
            let here = join(path, name);
            self.place(&here, key_node.at, value.at);
            if let Some(value) = self.kind(value, &key.kind, key, &here) {
                out.insert(Value::String(name.to_owned()), value);
            }
        }
        if !node.cut {
            self.required(node, table, path, &seen);
        }
        for key in table.keys {
            self.fill(key, path, &mut out);
        }
        Some(Value::Mapping(out))
    }

    /// Puts the default of a key that is not there.
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

    fn name<'n>(&mut self, node: &'n Node, path: &str) -> Option<&'n str> {
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

    fn required(&mut self, node: &Node, table: &'static Table, path: &str, seen: &HashMap<&str, Mark>) {
        let at = if path.ends_with(']') || path.is_empty() { node.at } else { self.seen.key(path) };
        let place = shown(path);
        for key in table.keys {
            if matches!(key.default, schema::Default::Required) && !seen.contains_key(key.name) {
                self.wrong(at, path, format!("{place} needs `{}`; for example `{}: {}`", key.name, key.name, key.example()));
            }
        }
        for group in table.exactly_one {
            let mut written = group.iter().filter(|key| seen.contains_key(**key));
            match (written.next(), written.next()) {
                (None, _) if group.len() == 1 => self.wrong(at, path, format!("{place} needs `{}`", group[0])),
                (None, _) => self.wrong(at, path, format!("{place} needs one of {}", ticked(group))),
                (Some(first), Some(second)) => {
                    let at = seen.get(second).copied().unwrap_or(at);
                    self.wrong(at, path, format!("`{second}` conflicts with `{first}`; {place} takes one of {}", ticked(group)));
                }
                _ => {}
            }
        }
        for (key, other) in table.needs {
            if let Some(at) = seen.get(key)
                && !seen.contains_key(other)
            {
                self.wrong(*at, path, format!("`{key}` has no meaning without `{other}`"));
            }
        }
    }

    /// One value; `None` if it is absent or wrong.
    fn kind(&mut self, node: &Node, kind: &'static Kind, key: &'static Key, path: &str) -> Option<Value> {
        if matches!(node.shape, Shape::Broken) {
            self.seen.broken.insert(path.to_owned());
            return None;
        }
        match kind {
            Kind::Scalar(scalar) => self.scalar(node, scalar, key, path),
            Kind::List(of) => self.list(node, of, key, path),
            Kind::OneOrMany(of) => match &node.shape {
                Shape::List(_) => self.list(node, of, key, path),
                _ if node.is_empty() => None,
                _ => self.kind(node, of, key, path).map(|value| Value::Sequence(vec![value])),
            },
            Kind::Table(table) => match &node.shape {
                Shape::Table(_) => self.table(node, table, path),
                // A block whose absence means the same may be left empty.
                _ if node.is_empty() && matches!(key.default, schema::Default::Value("{}")) => None,
                _ if node.is_empty() => {
                    let message = format!("`{}` is empty; write `{}: {}`, or remove it", last(path), last(path), kind.example());
                    self.wrong(self.seen.key(path), path, message);
                    None
                }
                _ => self.mismatch(node, kind, path),
            },
            Kind::Map { key: names, of } => self.map(node, names, of, key, path),
            Kind::Either(kinds) => {
                let fits = |kind: &&Kind| match (kind, &node.shape) {
                    (Kind::Table(_), Shape::Table(_)) | (Kind::List(_), Shape::List(_)) => true,
                    (Kind::Scalar(_), Shape::Word { .. }) => !node.is_empty(),
                    _ => false,
                };
                match kinds.iter().find(fits) {
                    Some(kind) => self.kind(node, kind, key, path),
                    None if node.is_empty() => None,
                    None => self.mismatch(node, kind, path),
                }
            }
        }
    }

    fn list(&mut self, node: &Node, of: &'static Kind, key: &'static Key, path: &str) -> Option<Value> {
        match &node.shape {
            Shape::List(items) => {
                let mut out = Vec::with_capacity(items.len());
                for (n, item) in items.iter().enumerate() {
                    let here = format!("{path}[{n}]");
                    self.place(&here, item.at, item.at);
                    // What is absent or wrong keeps its place, so that the others keep theirs.
                    out.push(self.kind(item, of, key, &here).unwrap_or(Value::Null));
                }
                Some(Value::Sequence(out))
            }
            _ if node.is_empty() => None,
            Shape::Word { text, .. } if matches!(of, Kind::Scalar(_)) && !of.holds_secret() => {
                let message = format!("`{}` must be a list; write `[{text}]`", last(path));
                self.wrong(node.at, path, message);
                None
            }
            _ => self.mismatch(node, &key.kind, path),
        }
    }

    fn map(&mut self, node: &Node, names: &'static Scalar, of: &'static Kind, key: &'static Key, path: &str) -> Option<Value> {
        let Shape::Table(entries) = &node.shape else {
            return if node.is_empty() { None } else { self.mismatch(node, &Kind::Map { key: names, of }, path) };
        };
        let mut out = Vec::with_capacity(entries.len());
        let mut seen: HashMap<&str, Mark> = HashMap::new();
        for (key_node, value) in entries {
            let Some(name) = self.name(key_node, path) else {
                self.hide(value);
                continue;
            };
            let here = join(path, name);
            if let Some(first) = seen.insert(name, key_node.at) {
                self.hide(value);
                self.wrong(key_node.at, path, format!("duplicate key {}; it is already written at line {}", quoted(name), first.line));
                continue;
            }
            if let Err(error) = (names.check)(name) {
                self.wrong(key_node.at, path, error);
            }
            self.place(&here, key_node.at, value.at);
            let value = self.kind(value, of, key, &here).unwrap_or(Value::Null);
            out.push(Value::Sequence(vec![Value::String(name.to_owned()), value]));
        }
        Some(Value::Sequence(out))
    }

    fn scalar(&mut self, node: &Node, scalar: &'static Scalar, key: &'static Key, path: &str) -> Option<Value> {
        if scalar.secret {
            self.hide(node);
        }
        let (written, expanded) = match &node.shape {
            _ if node.is_empty() => return None,
            Shape::Word { text, .. } => (text.as_str(), self.expander.variables(text)),
            Shape::Table(entries) => match file(entries) {
                Some(file) => ("this file", self.expander.variables(file).and_then(|path| self.expander.file(&path.text))),
                None => return self.mismatch(node, &Kind::Scalar(scalar), path),
            },
            _ => return self.mismatch(node, &Kind::Scalar(scalar), path),
        };
        let value = match expanded {
            Ok(value) => value,
            Err(error) => {
                self.wrong(node.at, path, format!("{}: {error}", last(path)));
                return None;
            }
        };
        let quoted_empty = matches!(&node.shape, Shape::Word { plain: false, .. }) && written.is_empty() && scalar.name == "a text";
        if value.text.is_empty() && !quoted_empty {
            if matches!(key.default, schema::Default::Required) && !path.ends_with(']') {
                self.wrong(node.at, path, format!("`{}` is required and this expands to nothing", last(path)));
            }
            return None;
        }
        match self.accept(&value, written, scalar, key) {
            Ok(()) => Some(Value::String(value.text)),
            Err(error) => {
                self.wrong(node.at, path, format!("{}: {error}", last(path)));
                None
            }
        }
    }

    fn accept(&self, value: &Expanded, written: &str, scalar: &'static Scalar, key: &'static Key) -> Result<(), String> {
        let measure = (scalar.check)(&value.text).map_err(|error| match value.foreign {
            // The error of the kind may quote the value, and the value came from outside.
            true => format!("what {} expands to is not {}; right would be {}", quoted(written), scalar.name, quoted(scalar.example)),
            false if scalar.secret => format!("the value {error}"),
            false => error,
        })?;
        if let (Some(measure), Some((least, most))) = (measure, key.range) {
            let limit = |text: &str| (scalar.check)(text).ok().flatten();
            if limit(least).is_some_and(|least| measure < least) || limit(most).is_some_and(|most| measure > most) {
                return Err(format!("{} is out of range; write {least} to {most}", quoted(written)));
            }
        }
        Ok(())
    }

    fn mismatch(&mut self, node: &Node, kind: &Kind, path: &str) -> Option<Value> {
        if kind.holds_secret() {
            self.hide(node);
        }
        let found = match &node.shape {
            Shape::Word { text, .. } if !kind.holds_secret() => format!("the word {}", quoted(text)),
            Shape::Word { .. } => "a word".to_owned(),
            Shape::List(_) => "a list".to_owned(),
            Shape::Table(_) => "a block of keys".to_owned(),
            Shape::Broken => return None,
        };
        let example = kind.example();
        let example = if example.is_empty() { String::new() } else { format!(", such as `{example}`") };
        self.wrong(node.at, path, format!("`{}` must be {}{example}; not {found}", last(path), kind.name()));
        None
    }

    /// Keeps a stretch of the source out of messages.
    fn hide(&mut self, node: &Node) {
        if !self.filling {
            self.seen.masks.push((node.at, node.end));
        }
    }
}

/// `{file: path}` and nothing else.
fn file(entries: &[(std::rc::Rc<Node>, std::rc::Rc<Node>)]) -> Option<&str> {
    match entries {
        [(key, value)] => match (&key.shape, &value.shape) {
            (Shape::Word { text: key, .. }, Shape::Word { text, .. }) if key == "file" => Some(text),
            _ => None,
        },
        _ => None,
    }
}

fn unknown(name: &str, table: &'static Table, near: Option<&str>, path: &str) -> String {
    let start = format!("unknown key {} in {}", quoted(name), shown(path));
    if let Some((_, instead)) = table.foreign.iter().find(|(key, _)| *key == name) {
        return format!("{start}: {instead}");
    }
    if let Some(near) = near {
        return format!("{start}; did you mean `{near}`?");
    }
    let known: Vec<&str> = table.keys.iter().map(|key| key.name).collect();
    format!("{start}; known are {}", ticked(&known))
}

fn ticked(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The path as a person would say it.
fn shown(path: &str) -> String {
    if path.is_empty() { "the file".to_owned() } else { path.to_owned() }
}

/// The key a path ends with; of a list's item, the list's.
fn last(path: &str) -> &str {
    let path = path.split_once('[').map_or(path, |_| path.trim_end_matches(|c: char| c == ']' || c == '[' || c.is_ascii_digit()));
    path.rsplit('.').next().unwrap_or(path)
}
