//! Reads a file of rows that the configuration names, with the checks and the words of the configuration itself.

use std::path::Path;

use serde::de::DeserializeOwned;

use super::{expand::Expander, tree, walk::Walk};
use crate::config::{
    error::Fault,
    schema::{Key, Kind},
};

/// The rows of a text, or every mistake in it.
pub(in crate::config) fn rows_of<T: DeserializeOwned>(
    text: &str,
    kind: &'static Kind,
    key: &'static Key,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<T, Vec<Fault>> {
    let tree = tree::read(text.strip_prefix('\u{FEFF}').unwrap_or(text));
    let mut walk = Walk::new(Expander::new(env, Path::new("")));
    let value = walk.kind(&tree.root, kind, key, "");
    let mut faults: Vec<Fault> = walk.faults.into_iter().chain(tree.faults).collect();
    if !tree.cut {
        faults.extend(walk.missing);
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let value = value.unwrap_or(serde_yaml::Value::Sequence(Vec::new()));
    serde_yaml::from_value(value).map_err(|error| vec![Fault::new(tree.root.at, format!("cannot be understood: {error}"))])
}
