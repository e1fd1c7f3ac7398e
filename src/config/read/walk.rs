//! The walk: a tree against the schema. It reports every mistake of shape and value, and hands on the rest.
//!
//! The result is a `serde_yaml` value in which every scalar is an expanded text that its kind has accepted,
//! lists stand where one item was allowed, defaults are filled in, and maps are lists of pairs.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_yaml::Value;

use super::{
    expand::{Expanded, Expander},
    hidden,
    tell::{join, last},
    tree::{Mark, Node, Shape},
};
use crate::config::{
    build::Note,
    error::{Fault, quoted},
    schema::{self, Key, Kind, Scalar},
    secrecy,
};

/// Facts of the walk about the file, for the build.
#[derive(Default)]
pub(in crate::config) struct Seen {
    /// The places of a path's key and value.
    places: BTreeMap<String, (Mark, Mark)>,
    /// Paths with a mistake.
    pub(super) broken: BTreeSet<String>,
    /// Names of unknown keys.
    pub(super) unknown: BTreeSet<String>,
    /// Stretches of the source that must not be shown.
    pub(in crate::config) masks: Vec<(Mark, Mark)>,
}

impl Seen {
    /// The place of a path's value. A path that is not written has the place of the nearest block around it.
    pub(in crate::config) fn value(&self, path: &str) -> Mark {
        self.place(path).1
    }

    /// The place of a path's key.
    pub(in crate::config) fn key(&self, path: &str) -> Mark {
        self.place(path).0
    }

    /// Whether the path stands in the file.
    pub(in crate::config) fn written(&self, path: &str) -> bool {
        self.places.contains_key(path)
    }

    /// Whether there is a mistake at the path or below it.
    pub(in crate::config) fn broken(&self, path: &str) -> bool {
        self.broken
            .range(path.to_owned()..)
            .next()
            .is_some_and(|found| found == path || found.strip_prefix(path).is_some_and(|rest| rest.starts_with(['.', '['])))
    }

    /// Whether there is a mistake in any block of this name.
    pub(in crate::config) fn is_broken_anywhere(&self, block: &str) -> bool {
        self.broken.iter().any(|path| path.split(['.', '[']).any(|part| part == block))
    }

    /// Whether a key of this name is unknown at some place of the file.
    pub(in crate::config) fn is_unknown(&self, name: &str) -> bool {
        self.unknown.contains(name)
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
    /// Mistakes about missing keys. After a syntax error they are dropped: a key may stand in the part that was not read.
    pub(super) missing: Vec<Fault>,
    /// Remarks on a good file.
    pub(super) notes: Vec<Note>,
    /// Whether the values are defaults that are being filled in: defaults have no place in the file.
    pub(super) filling: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(expander: Expander<'a>) -> Self {
        Self { expander, faults: Vec::new(), seen: Seen::default(), missing: Vec::new(), notes: Vec::new(), filling: false }
    }

    /// Walks the whole file.
    pub(super) fn root(&mut self, node: &Node) -> Value {
        let top = if node.at.line == 0 { Mark { line: 1, column: 1 } } else { node.at };
        self.seen.places.insert(String::new(), (top, top));
        match &node.shape {
            Shape::Table(_) => {}
            _ => self.wrong(top, "", "the file must be a block of keys, such as `inbound:`"),
        }
        self.table(node, &schema::ROOT, "").unwrap_or_else(|| self.absent(&schema::ROOT, ""))
    }

    pub(super) fn wrong(&mut self, at: Mark, path: &str, message: impl Into<String>) {
        self.seen.broken.insert(path.to_owned());
        self.faults.push(Fault::new(at, message));
    }

    pub(super) fn missing(&mut self, at: Mark, path: &str, message: impl Into<String>) {
        self.seen.broken.insert(path.to_owned());
        self.missing.push(Fault::new(at, message));
    }

    pub(super) fn place(&mut self, path: &str, key: Mark, value: Mark) {
        if !self.filling {
            self.seen.places.insert(path.to_owned(), (key, value));
        }
    }

    /// One value. `None`: it is absent or wrong.
    pub(super) fn kind(&mut self, node: &Node, kind: &'static Kind, key: &'static Key, path: &str) -> Option<Value> {
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
                    self.missing(self.seen.key(path), path, message);
                    None
                }
                _ => self.mismatch(node, kind, path),
            },
            Kind::Map { key: names, of } => self.map(node, names, of, key, path),
            Kind::Either(kinds) => {
                let fits = |kind: &&Kind| match (kind, &node.shape) {
                    (Kind::Table(_), Shape::Table(_)) | (Kind::List(_), Shape::List(_)) => true,
                    (Kind::Scalar(_), Shape::Word { .. }) => !node.is_empty(),
                    (Kind::Scalar(scalar), Shape::Table(_)) => scalar.secret && file(node).is_some(),
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
                    // An item that is absent or wrong keeps its place: the paths of the others depend on it.
                    out.push(self.kind(item, of, key, &here).unwrap_or(Value::Null));
                }
                Some(Value::Sequence(out))
            }
            _ if node.is_empty() => None,
            Shape::Word { text, .. } if matches!(of, Kind::Scalar(scalar) if !scalar.secret) => {
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
                self.hide_unknown(value, "");
                continue;
            };
            let here = join(path, name);
            if let Some(first) = seen.insert(name, key_node.at) {
                self.hide_misplaced(value, of, name);
                self.wrong(key_node.at, path, format!("duplicate key {}; it is already written at line {}", quoted(name), first.line));
                continue;
            }
            if let Err(error) = (names.check)(name) {
                self.wrong(key_node.at, &here, error);
            }
            self.place(&here, key_node.at, value.at);
            let value = self.kind(value, of, key, &here).unwrap_or(Value::Null);
            out.push(Value::Sequence(vec![Value::String(name.to_owned()), value]));
        }
        Some(Value::Sequence(out))
    }

    fn scalar(&mut self, node: &Node, scalar: &'static Scalar, key: &'static Key, path: &str) -> Option<Value> {
        if scalar.secret && !self.filling {
            hidden::secret(node, &mut self.seen.masks);
        }
        let (written, expanded) = match &node.shape {
            _ if node.is_empty() => return None,
            Shape::Word { text, .. } => (text.as_str(), self.expander.variables_but(text, scalar.filled)),
            Shape::Table(_) => match file(node) {
                Some(file) => ("this file", self.expander.variables(file).and_then(|path| self.expander.file(&path.text))),
                None => return self.mismatch(node, &Kind::Scalar(scalar), path),
            },
            _ => return self.mismatch(node, &Kind::Scalar(scalar), path),
        };
        let mut value = match expanded {
            Ok(value) => value,
            Err(error) => {
                self.wrong(node.at, path, format!("{}: {error}", last(path)));
                return None;
            }
        };
        if let Some(why) = secrecy::unexpanded(written).filter(|_| scalar.no_dollar) {
            self.wrong(node.at, path, format!("{}: this {why}", last(path)));
            return None;
        }
        if scalar.secret {
            self.trim(&mut value, node.at, path);
        }
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

    /// Removes blanks and line ends around a secret: they come from copying.
    fn trim(&mut self, value: &mut Expanded, at: Mark, path: &str) {
        let trimmed = value.text.trim();
        if trimmed.len() != value.text.len() {
            let message = format!("{}: a line end or blanks around this secret were left out; it is used without them", last(path));
            value.text = trimmed.to_owned();
            self.notes.push(Note { line: at.line as usize, column: at.column as usize, message });
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
        self.hide_misplaced(node, kind, last(path));
        // The file broke off here, and that is reported.
        if node.cut {
            return None;
        }
        let found = match &node.shape {
            Shape::Word { text, .. } if !self.hides(node) => format!("the word {}", quoted(text)),
            Shape::Word { .. } => "a word".to_owned(),
            Shape::List(_) => "a list".to_owned(),
            Shape::Table(_) => "a block of keys".to_owned(),
            Shape::Broken => return None,
        };
        let each = if path.ends_with(']') { "each of " } else { "" };
        let example = kind.example();
        let example = if matches!(example.as_str(), "" | "{}") { String::new() } else { format!(", such as `{example}`") };
        self.wrong(node.at, path, format!("{each}`{}` must be {}{example}; not {found}", last(path), kind.name()));
        None
    }

    /// Hides a value that looks like a credential from messages.
    pub(super) fn hide_unknown(&mut self, node: &Node, name: &str) {
        if !self.filling {
            hidden::unknown(node, name, &mut self.seen.masks);
        }
    }

    /// Hides a value that may be a credential of this kind from messages.
    pub(super) fn hide_misplaced(&mut self, node: &Node, kind: &Kind, name: &str) {
        if !self.filling {
            hidden::misplaced(node, kind, name, &mut self.seen.masks);
        }
    }

    fn hides(&self, node: &Node) -> bool {
        self.seen.masks.contains(&(node.at, node.end))
    }
}

/// `{file: path}` and nothing else.
pub(super) fn file(node: &Node) -> Option<&str> {
    let Shape::Table(entries) = &node.shape else { return None };
    match &entries[..] {
        [(key, value)] => match (&key.shape, &value.shape) {
            (Shape::Word { text: key, .. }, Shape::Word { text, .. }) if key == "file" => Some(text),
            _ => None,
        },
        _ => None,
    }
}
