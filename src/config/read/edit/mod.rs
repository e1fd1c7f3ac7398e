//! Edits of the text of a configuration: one value moves, and every other byte stays.
//!
//! An edit finds the place of its value in the tree, and changes the text there: comments, blank lines, quotes and order are kept. After
//! each edit the new text is read again and compared with what was meant. An edit that would change anything else is refused; a value
//! that stands behind an alias is such a case.

mod diff;
mod flow;
mod mask;
mod path;
mod place;
mod remove;
mod said;
#[cfg(test)]
mod tests;

use std::rc::Rc;

use serde_json::Value;

pub use self::{
    diff::unified,
    mask::masked,
    said::{Door, Edit},
};
use self::{
    path::{Part, Path},
    place::Source,
};
use super::tree::{self, Node, Shape};

/// Why an edit cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The path cannot be read, or leads nowhere.
    #[error("{0}")]
    Place(String),
    /// The text around the value does not allow the edit.
    #[error("`{0}` cannot be changed without changing anything else; edit the file by hand ({1})")]
    Layout(String, &'static str),
    /// The file is not YAML.
    #[error("the file is not YAML (line {0}); mend it first")]
    Unreadable(u32),
}

fn nowhere(why: impl Into<String>) -> EditError {
    EditError::Place(why.into())
}

/// Sets the value at `path`. Missing blocks on the way are made.
///
/// # Errors
/// The path leads through a value that is no block, or the layout does not allow the edit.
pub fn set(text: &str, path: &str, value: &Value) -> Result<String, EditError> {
    if value.is_null() {
        return Err(nowhere(format!("`{path}`: null sets nothing; use `remove`")));
    }
    let (at, tree) = (Path::read(path)?, readable(text)?);
    let (found, rest) = at.follow(&tree)?;
    let source = Source::new(text);
    let fresh = match rest {
        [] => source.replace(&found, value),
        [Part::Key(key), deeper @ ..] => {
            let value = nested(deeper, value, path)?;
            match &found.node.shape {
                Shape::Table(entries) => source.insert_key(&found, entries, key, &value),
                _ if found.node.is_empty() => source.replace(&found, &Value::Object([(key.clone(), value)].into_iter().collect())),
                _ => return Err(nowhere(format!("`{path}`: there is no block of keys to set `{key}` in"))),
            }
        }
        _ => return Err(nowhere(format!("`{path}`: the list has no such item; `append` adds one"))),
    };
    checked(text, fresh, path, |tree| at.write(tree, value))
}

/// Adds an item to the list at `path`, at its end or before item `at`. A missing list is made.
///
/// # Errors
/// As [`set`]; or `path` is no list, or the list has no place `at`.
pub fn append(text: &str, path: &str, value: &Value, at: Option<usize>) -> Result<String, EditError> {
    let (to, tree) = (Path::read(path)?, readable(text)?);
    let (found, rest) = to.follow(&tree)?;
    if !rest.is_empty() || found.node.is_empty() {
        return set(text, path, &Value::Array(vec![value.clone()]));
    }
    let Shape::List(items) = &found.node.shape else {
        return Err(nowhere(format!("`{path}` is no list")));
    };
    let at = at.unwrap_or(items.len());
    if at > items.len() {
        return Err(nowhere(format!("`{path}` has {} items: there is no place {at}", items.len())));
    }
    if items.is_empty() {
        return set(text, path, &Value::Array(vec![value.clone()]));
    }
    let fresh = Source::new(text).insert_item(&found, items, at, value);
    checked(text, fresh, path, |tree| to.insert(tree, at, value))
}

/// Removes the value at `path`, with its key.
///
/// # Errors
/// Nothing is there, or the layout does not allow the edit.
pub fn remove(text: &str, path: &str) -> Result<String, EditError> {
    let (at, tree) = (Path::read(path)?, readable(text)?);
    let (_, rest) = at.follow(&tree)?;
    if !rest.is_empty() {
        return Err(nowhere(format!("`{path}` is not written")));
    }
    let (parent, last) = at.parent(&tree)?;
    let fresh = remove::take_out(&Source::new(text), &parent, last);
    checked(text, fresh, path, |tree| at.erase(tree))
}

/// The value at `path` as words; `None`: it is not written.
pub fn value(text: &str, path: &str) -> Option<Value> {
    let (at, tree) = (Path::read(path).ok()?, readable(text).ok()?);
    let (found, rest) = at.follow(&tree).ok()?;
    rest.is_empty().then(|| flow::plain(found.node))
}

fn readable(text: &str) -> Result<Node, EditError> {
    let tree = tree::read(text);
    match tree.faults.first() {
        Some(fault) => Err(EditError::Unreadable(fault.at.line)),
        None => Ok(tree.root),
    }
}

/// A value inside new blocks of these keys.
fn nested(keys: &[Part], value: &Value, path: &str) -> Result<Value, EditError> {
    keys.iter().rev().try_fold(value.clone(), |value, part| match part {
        Part::Key(key) => Ok(Value::Object([(key.clone(), value)].into_iter().collect())),
        _ => Err(nowhere(format!("`{path}`: the list is not written; `append` makes one"))),
    })
}

/// The new text, if it means what was meant and nothing else.
fn checked(
    text: &str,
    fresh: Result<String, &'static str>,
    path: &str,
    meant: impl FnOnce(&mut Value) -> Option<()>,
) -> Result<String, EditError> {
    let layout = |why| EditError::Layout(path.to_owned(), why);
    let fresh = fresh.map_err(layout)?;
    let mut wanted = flow::plain(&readable(text)?);
    meant(&mut wanted).ok_or_else(|| layout("the path leads elsewhere"))?;
    let found = readable(&fresh).map_err(|_| layout("the result would not be YAML"))?;
    match flow::plain(&found) == flow::words(&wanted) {
        true => Ok(fresh),
        false => Err(layout("the value stands behind an alias or in a form of its own")),
    }
}

/// A node and where it hangs.
#[derive(Debug, Clone)]
struct Found<'t> {
    node: &'t Node,
    /// The key before it; `None`: the root, or an item of a list.
    key: Option<&'t Rc<Node>>,
}
