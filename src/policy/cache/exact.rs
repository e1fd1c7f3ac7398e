//! The tags, routes, keys and URIs purged lately, by name and not by slot: a purge makes no other entry a miss.

use std::collections::{HashMap, VecDeque};

use super::{
    key::Key,
    known::{NAMES, Record, URIS},
};
use crate::store::memory::Which;

/// Purges kept by name, in about 80 bytes each.
pub(super) const EXACT: usize = 16_384;

/// The subject of one purge, as a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Name {
    pub(super) kind: u8,
    hash: u64,
}

impl Name {
    pub(super) fn of(record: &Record) -> Option<Self> {
        match record {
            Record::Changed(uri) => Some(Self::uri(uri)),
            Record::Purged { which, .. } => match which {
                Which::Key(key) => Some(Self::key(key)),
                Which::Tag(tag) => Some(Self::tag(tag)),
                Which::Route(route) => Some(Self::route(route)),
                Which::Prefix(_) | Which::All => None,
            },
        }
    }

    pub(super) fn uri(uri: &Key) -> Self {
        Self { kind: b'u', hash: uri.low() }
    }

    pub(super) fn key(key: &Key) -> Self {
        Self { kind: b'k', hash: key.low() }
    }

    pub(super) fn tag(tag: &str) -> Self {
        Self::word(b't', tag)
    }

    pub(super) fn route(route: &str) -> Self {
        Self::word(b'r', route)
    }

    fn word(kind: u8, word: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[kind]).update(word.as_bytes());
        let mut low = [0; 8];
        low.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        Self { kind, hash: u64::from_le_bytes(low) }
    }

    pub(super) fn slot(self) -> usize {
        (self.hash % if self.kind == b'u' { URIS } else { NAMES }) as usize
    }
}

/// The last purges by name. Each name has the numbers of its last hard and its last soft purge.
#[derive(Debug, Default)]
pub(super) struct Exact {
    last: HashMap<Name, [u64; 2], foldhash::fast::RandomState>,
    /// Ascending by number.
    order: VecDeque<(u64, Name)>,
    /// Every purge after this number is held.
    from: u64,
}

impl Exact {
    /// An empty set that knows no purge up to `number`.
    pub(super) fn after(number: u64) -> Self {
        Self { from: number, ..Self::default() }
    }

    /// Whether every purge after `number` is held.
    pub(super) fn knows_after(&self, number: u64) -> bool {
        number >= self.from
    }

    /// Adds purge `number`, the latest so far.
    pub(super) fn hear(&mut self, number: u64, name: Name, soft: bool) {
        if self.order.len() == EXACT
            && let Some((forgotten, name)) = self.order.pop_front()
        {
            self.from = self.from.max(forgotten);
            // A later purge of the same name stays.
            if self.last.get(&name).is_some_and(|last| last.iter().all(|last| *last <= forgotten)) {
                self.last.remove(&name);
            }
        }
        self.order.push_back((number, name));
        self.last.entry(name).or_default()[usize::from(soft)] = number;
    }

    /// The numbers of the last hard and the last soft purge of a name; 0: none is known.
    pub(super) fn last(&self, name: Name) -> [u64; 2] {
        self.last.get(&name).copied().unwrap_or_default()
    }

    /// The counts of purges and of different names held.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        (self.order.len(), self.last.len())
    }
}
