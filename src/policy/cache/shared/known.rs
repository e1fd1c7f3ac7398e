//! What this replica knows of the purges of all: for every entry found in Redis it says whether it was purged since it was
//! written. Of fixed size, whatever is purged and however often.
//!
//! Tags, routes, keys and URIs are counted in slots by their hash. Two that share a slot are purged together in Redis: one
//! change in [`URIS`] (or [`NAMES`]) makes a given entry a miss for nothing, never the other way round. Of prefixes the last
//! [`PREFIXES`] are known; one that is forgotten counts as a purge of everything.

use std::collections::VecDeque;

use super::{
    super::{
        entry::Entry,
        key::{Key, Keys},
    },
    value::Stamp,
};
use crate::store::{
    memory::Which,
    redis::journal::{About, Journal},
};

/// Slots of URIs that unsafe methods invalidate.
pub const URIS: u64 = 8_192;
/// Slots of tags, routes and keys, twice: purged, and marked stale.
pub const NAMES: u64 = 2_048;
/// Prefixes known by name.
pub const PREFIXES: u32 = 64;
/// Of a longer prefix only this much counts, so that it purges more.
const LONGEST: usize = 1_024;

/// What is told to all replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// An unsafe method has changed what lies under a URI.
    Changed(Key),
    /// Somebody purged.
    Purged {
        /// What.
        which: Which<Key>,
        /// It is only stale now.
        soft: bool,
    },
}

impl Record {
    /// As it travels: a letter (a capital one for soft), and what it is about.
    pub fn encode(&self) -> Vec<u8> {
        let (letter, rest): (u8, &[u8]) = match self {
            Self::Changed(uri) => (b'u', uri.as_bytes()),
            Self::Purged { which, .. } => match which {
                Which::Key(key) => (b'k', key.as_bytes()),
                Which::Tag(tag) => (b't', tag.as_bytes()),
                Which::Route(route) => (b'r', route.as_bytes()),
                Which::Prefix(prefix) => (b'p', shortened(prefix).as_bytes()),
                Which::All => (b'a', b""),
            },
        };
        let letter = if self.is_soft() { letter.to_ascii_uppercase() } else { letter };
        [&[letter][..], rest].concat()
    }

    /// What was [encoded](Self::encode); `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (letter, rest) = bytes.split_first()?;
        let text = || std::str::from_utf8(rest).ok();
        let key = || rest.try_into().ok().map(Key::from_bytes);
        let which = match letter.to_ascii_lowercase() {
            b'u' if *letter == b'u' => return key().map(Self::Changed),
            b'k' => Which::Key(key()?),
            b't' => Which::Tag(text()?.into()),
            b'r' => Which::Route(text()?.into()),
            b'p' => Which::Prefix(text()?.to_owned()),
            b'a' if rest.is_empty() => Which::All,
            _ => return None,
        };
        Some(Self::Purged { which, soft: letter.is_ascii_uppercase() })
    }

    /// Where the journal keeps it.
    pub fn about(&self) -> About {
        let letter = if self.is_soft() { 's' } else { 'h' };
        match self {
            Self::Changed(uri) => About::Slot(format!("u{}", uri_slot(uri))),
            Self::Purged { which: Which::All, soft: false } => About::All,
            // Everything begins with nothing.
            Self::Purged { which: Which::All, soft: true } => About::Text("s:".into()),
            Self::Purged { which: Which::Prefix(prefix), .. } => About::Text(format!("{letter}:{}", shortened(prefix))),
            Self::Purged { which: Which::Key(key), .. } => About::Slot(format!("{letter}{}", key_slot(key))),
            Self::Purged { which: Which::Tag(tag), .. } => About::Slot(format!("{letter}{}", name_slot(b't', tag))),
            Self::Purged { which: Which::Route(route), .. } => About::Slot(format!("{letter}{}", name_slot(b'r', route))),
        }
    }

    fn is_soft(&self) -> bool {
        matches!(self, Self::Purged { soft: true, .. })
    }
}

/// What happened to an entry since it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nothing that is known of.
    Lives,
    /// It was marked stale.
    Stale,
    /// It was purged, or nobody knows.
    Gone,
}

/// The journal as this replica has heard it.
#[derive(Debug)]
pub struct Known {
    stamp: Stamp,
    all: u64,
    uris: Box<[u64]>,
    hard: Box<[u64]>,
    soft: Box<[u64]>,
    /// Ascending by number.
    prefixes: VecDeque<(u64, String)>,
}

impl Known {
    /// As the journal stands.
    pub fn new(journal: Journal) -> Self {
        let slots = |letter: char, count: u64| -> Box<[u64]> {
            (0..count).map(|slot| journal.slots.get(&format!("{letter}{slot}")).copied().unwrap_or(0)).collect()
        };
        let (uris, hard, soft) = (slots('u', URIS), slots('h', NAMES), slots('s', NAMES));
        let mut prefixes = journal.texts;
        prefixes.sort_unstable();
        let stamp = Stamp { id: journal.id, number: journal.number };
        Self { stamp, all: journal.all, uris, hard, soft, prefixes: prefixes.into() }
    }

    /// Up to where.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// One record more, the next one.
    pub fn hear(&mut self, number: u64, record: &Record) {
        self.stamp.number = number;
        match record.about() {
            About::All => self.all = number,
            About::Text(text) => {
                self.prefixes.push_back((number, text));
                if self.prefixes.len() > PREFIXES as usize
                    && let Some((forgotten, _)) = self.prefixes.pop_front()
                {
                    self.all = self.all.max(forgotten);
                }
            }
            About::Slot(field) => {
                let (letter, slot) = field.split_at(1);
                let slots = match letter {
                    "u" => &mut self.uris,
                    "h" => &mut self.hard,
                    _ => &mut self.soft,
                };
                if let Some(last) = slot.parse::<usize>().ok().and_then(|slot| slots.get_mut(slot)) {
                    *last = number;
                }
            }
        }
    }

    /// What happened since `written` to an entry under `keys`.
    pub fn fate(&self, written: Stamp, keys: &Keys, entry: &Entry) -> Fate {
        if written.id != self.stamp.id || self.all > written.number {
            return Fate::Gone;
        }
        let later = |last: u64| last > written.number;
        if later(self.uris[uri_slot(&keys.uri)]) {
            return Fate::Gone;
        }
        let mut fate = Fate::Lives;
        let tags = entry.tags.iter().map(|tag| name_slot(b't', tag));
        for slot in [key_slot(&keys.entry), name_slot(b'r', &entry.route)].into_iter().chain(tags) {
            if later(self.hard[slot]) {
                return Fate::Gone;
            }
            if later(self.soft[slot]) {
                fate = Fate::Stale;
            }
        }
        for (_, text) in self.prefixes.iter().rev().take_while(|(number, _)| later(*number)) {
            match text.split_at_checked(2) {
                Some((kind, prefix)) if entry.path.starts_with(prefix) => match kind {
                    "s:" => fate = Fate::Stale,
                    _ => return Fate::Gone,
                },
                _ => {}
            }
        }
        fate
    }
}

fn uri_slot(uri: &Key) -> usize {
    uri.bucket(URIS as usize)
}

fn key_slot(key: &Key) -> usize {
    key.bucket(NAMES as usize)
}

fn name_slot(kind: u8, name: &str) -> usize {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[kind]).update(name.as_bytes());
    let mut low = [0; 8];
    low.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    (u64::from_le_bytes(low) % NAMES) as usize
}

fn shortened(prefix: &str) -> &str {
    &prefix[..prefix.floor_char_boundary(LONGEST)]
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::SystemTime};

    use http::{HeaderMap, StatusCode};
    use proptest::prelude::*;

    use super::*;
    use crate::policy::cache::{
        directives::ResponseDirectives,
        entry::NewEntry,
        freshness::{Freshness, Terms, Times},
        vary::Variance,
    };

    fn entry() -> Entry {
        let (headers, at) = (HeaderMap::new(), SystemTime::UNIX_EPOCH);
        let times = Times { requested: at, received: at };
        Entry::new(NewEntry {
            status: StatusCode::OK,
            fresh: Freshness::of(StatusCode::OK, &headers, &ResponseDirectives::default(), Terms::default(), times),
            headers,
            body: Arc::from([]),
            trailers: None,
            pauses: None,
            dated: false,
            variance: Variance::default(),
            route: "route".into(),
            path: "/shop/1".into(),
            what: "GET h/shop/1".into(),
            took_millis: 1,
            tags: Box::new(["one".into(), "two".into()]),
            savings: None,
            stored_at: at,
        })
    }

    fn purged(which: Which<Key>, soft: bool) -> Record {
        Record::Purged { which, soft }
    }

    fn keys() -> Keys {
        Keys { entry: Key::numbered(1), uri: Key::numbered(2) }
    }

    fn known() -> Known {
        Known::new(Journal { id: 5, number: 10, ..Journal::default() })
    }

    const WRITTEN: Stamp = Stamp { id: 5, number: 10 };

    #[test]
    fn an_entry_is_gone_by_what_was_said_after_it_was_written() {
        let about =
            [Which::Key(keys().entry), Which::Tag("two".into()), Which::Route("route".into()), Which::Prefix("/sh".into()), Which::All];
        let others = [Which::Key(keys().uri), Which::Tag("three".into()), Which::Route("other".into()), Which::Prefix("/x".into())];
        for soft in [false, true] {
            for which in about.clone() {
                let (mut known, record) = (known(), purged(which, soft));
                known.hear(11, &record);
                let expected = if soft { Fate::Stale } else { Fate::Gone };
                assert_eq!(known.fate(WRITTEN, &keys(), &entry()), expected, "{record:?}");
                assert_eq!(known.fate(Stamp { number: 11, ..WRITTEN }, &keys(), &entry()), Fate::Lives, "written later");
                assert_eq!(known.fate(Stamp { id: 6, number: 11 }, &keys(), &entry()), Fate::Gone, "in another journal's time");
                assert_eq!(Record::decode(&record.encode()), Some(record));
            }
            for which in others.clone() {
                let mut known = known();
                known.hear(11, &purged(which, soft));
                assert_eq!(known.fate(WRITTEN, &keys(), &entry()), Fate::Lives);
            }
        }
        let mut known = known();
        known.hear(11, &Record::Changed(keys().entry));
        assert_eq!(known.fate(WRITTEN, &keys(), &entry()), Fate::Lives);
        known.hear(12, &Record::Changed(keys().uri));
        assert_eq!((known.fate(WRITTEN, &keys(), &entry()), known.stamp().number), (Fate::Gone, 12));
    }

    #[test]
    fn a_forgotten_prefix_counts_as_everything_and_no_more_is_kept() {
        let mut known = known();
        for number in 11..11 + u64::from(PREFIXES) {
            known.hear(number, &purged(Which::Prefix(format!("/x/{number}")), false));
        }
        assert_eq!(known.fate(WRITTEN, &keys(), &entry()), Fate::Lives);
        known.hear(200, &purged(Which::Prefix("/y".into()), true));
        assert_eq!(known.prefixes.len(), PREFIXES as usize);
        assert_eq!(known.fate(WRITTEN, &keys(), &entry()), Fate::Gone, "what was forgotten may have been about it");
        assert_eq!(known.fate(Stamp { number: 11, ..WRITTEN }, &keys(), &entry()), Fate::Lives);
    }

    proptest! {
        #[test]
        fn what_was_read_from_the_journal_says_the_same_as_what_was_heard(tags in proptest::collection::vec("[a-z]{1,3}", 1..40)) {
            let (mut heard, mut journal) = (known(), Journal { id: 5, number: 10, ..Journal::default() });
            for (at, tag) in tags.iter().enumerate() {
                let (record, number) = (purged(Which::Tag(tag.as_str().into()), at % 3 == 0), 11 + at as u64);
                heard.hear(number, &record);
                journal.number = number;
                if let About::Slot(field) = record.about() {
                    journal.slots.insert(field, number);
                }
            }
            let read = Known::new(journal);
            prop_assert_eq!((&read.hard, &read.soft, read.stamp()), (&heard.hard, &heard.soft, heard.stamp()));
        }

        #[test]
        fn whatever_is_told_is_a_record_or_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(record) = Record::decode(&bytes) {
                prop_assert_eq!(Record::decode(&record.encode()), Some(record));
            }
        }
    }
}
