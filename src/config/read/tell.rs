//! Messages about places of a file, and about keys that do not fit where they stand.

use super::{table::Misfit, tree::Mark};
use crate::config::{
    error::{Fault, nearest, quoted},
    schema::{self, Kind, Table},
};

/// The messages about the keys of a block that do not fit.
#[derive(Default)]
pub(super) struct Told {
    /// Faults, each with the key of the block that is wrong. `None`: the key is not the block's.
    pub(super) faults: Vec<(Option<String>, Fault)>,
    /// Keys of the block that were most likely meant.
    pub(super) meant: Vec<&'static str>,
    /// Whether a key is like no other: it may stand for any key that is missing.
    pub(super) anything: bool,
    /// Doors that the messages name.
    pub(super) doors: Vec<&'static str>,
}

/// The keys that do not fit into the block at `path`.
pub(super) fn misplaced(misfits: &[Misfit<'_>], table: &'static Table, path: &str) -> Told {
    let mut told = Told::default();
    // The keys of a block whose first line is missing, or indented too far, end up in the block before.
    let tail = misfits.iter().position(|misfit| misfit.last).map_or(&[][..], |from| &misfits[from..]);
    let rest = match block_of(tail, table) {
        None => misfits,
        Some(block) => {
            let names: Vec<&str> = tail.iter().map(|misfit| misfit.name).filter(|name| *name != block).collect();
            let message = format!(
                "{} {} of `{block}` and {} in {}: is the line `{block}:` missing above, or are they not indented as deep as what belongs to it?",
                ticked(&names),
                if names.len() == 1 { "is a key" } else { "are keys" },
                if names.len() == 1 { "stands" } else { "stand" },
                shown(path)
            );
            told.faults.push((None, Fault::new(tail[0].at, message)));
            told.meant.push(block);
            // Other missing keys may stand below that line too.
            told.anything = true;
            told.doors.extend(["inbound", "outbound"].into_iter().filter(|door| *door == block));
            &misfits[..misfits.len() - tail.len()]
        }
    };
    let mut strangers: Vec<(&str, Mark)> = Vec::new();
    for Misfit { name, at, first, .. } in rest {
        if let Some(first) = first {
            let message = format!("duplicate key {}; it is already written at line {}", quoted(name), first.line);
            told.faults.push((Some((*name).to_owned()), Fault::new(*at, message)));
            continue;
        }
        let start = format!("unknown key {} in {}", quoted(name), shown(path));
        let foreign = table.foreign.iter().find(|(key, _)| key == name).map(|(_, instead)| *instead);
        if let Some(instead) = foreign.or_else(|| schema::instead_of(name)) {
            let mentioned = |key: &str| instead.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).any(|word| word == key);
            told.meant.extend(table.keys.iter().map(|key| key.name).filter(|key| mentioned(key)));
            told.doors.extend(["inbound", "outbound"].into_iter().filter(|door| mentioned(door)));
            told.faults.push((None, Fault::new(*at, format!("{start}: {instead}"))));
        } else if let Some(near) = nearest(name, table.keys.iter().map(|key| key.name)) {
            told.meant.push(near);
            told.faults.push((None, Fault::new(*at, format!("{start}; did you mean `{near}`?"))));
        } else {
            strangers.push((name, *at));
        }
    }
    if let Some((_, at)) = strangers.first() {
        let names: Vec<&str> = strangers.iter().map(|(name, _)| *name).collect();
        let known: Vec<&str> = table.keys.iter().map(|key| key.name).collect();
        let keys = if let [name] = names[..] { format!("key {}", quoted(name)) } else { format!("keys {}", ticked(&names)) };
        told.faults.push((None, Fault::new(*at, format!("unknown {keys} in {}; known are {}", shown(path), ticked(&known)))));
        told.anything = true;
    }
    told
}

/// The block to which all of these keys belong: a block within `table`, else any.
fn block_of(keys: &[Misfit<'_>], table: &'static Table) -> Option<&'static str> {
    let fits = |name: &str, kind: &Kind| {
        let Some(inner) = inner(kind) else { return false };
        // Its own first line may stand among them.
        let mut theirs = keys.iter().filter(|misfit| misfit.name != name).peekable();
        keys.len() > 1 && theirs.peek().is_some() && theirs.all(|misfit| inner.key(misfit.name).is_some())
    };
    let own = table.keys.iter();
    let all = schema::tables().into_iter().flat_map(|table| table.keys);
    own.chain(all).find(|key| fits(key.name, &key.kind)).map(|key| key.name)
}

fn inner(kind: &Kind) -> Option<&'static Table> {
    match kind {
        Kind::Table(table) => Some(table),
        Kind::List(of) => inner(of),
        _ => None,
    }
}

/// Each in backticks.
pub(super) fn ticked(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// The path of a key in the block at `path`.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The path as a person would say it.
pub(super) fn shown(path: &str) -> String {
    if path.is_empty() { "the file".to_owned() } else { path.to_owned() }
}

/// The last key of a path. The path of an item ends with the key of its list.
pub(super) fn last(path: &str) -> &str {
    let path = path.split_once('[').map_or(path, |_| path.trim_end_matches(|c: char| c == ']' || c == '[' || c.is_ascii_digit()));
    path.rsplit('.').next().unwrap_or(path)
}
