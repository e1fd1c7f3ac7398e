//! The changes and purges known here. They tell whether an entry, stored or on its way, was purged since. The size is fixed,
//! for any number of purges.
//!
//! There are two instances: one of the changes in this process, in the order of [`Told`], and one of the changes of all
//! replicas, in the order of Redis' journal. The last [`EXACT`](super::exact::EXACT) purges heard are known by name. Earlier
//! ones (of a journal read at the start or after a gap, and forgotten purges) are counted in slots by the hashes of tags,
//! routes, keys and URIs. Two names that share a slot are purged together: one change in [`URIS`] (or [`NAMES`]) makes a given
//! entry a miss for nothing, and none makes it a hit. The last [`PREFIXES`] prefixes are known; a forgotten prefix counts as a
//! purge of everything.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::RwLock;

use super::{
    entry::Entry,
    exact::{Exact, Name},
    key::{Key, Keys},
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
/// Bytes of a prefix that count: a longer prefix is shortened and purges more.
const LONGEST: usize = 1_024;

/// A change or a purge, as told to all replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// An unsafe method has changed what lies under a URI.
    Changed(Key),
    /// A purge.
    Purged {
        /// The entries it is about.
        which: Which<Key>,
        /// Whether the entries are only marked stale.
        soft: bool,
    },
}

impl Record {
    /// The bytes of a message: a letter (a capital one for soft), then the subject.
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

    /// The record that [`encode`](Self::encode) wrote; `None` for other bytes.
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

    /// The place of the record in the journal.
    pub fn about(&self) -> About {
        let letter = if self.is_soft() { 's' } else { 'h' };
        match self {
            Self::Changed(uri) => About::Slot(format!("u{}", Name::uri(uri).slot())),
            Self::Purged { which: Which::All, soft: false } => About::All,
            // Every path begins with the empty prefix.
            Self::Purged { which: Which::All, soft: true } => About::Text("s:".into()),
            Self::Purged { which: Which::Prefix(prefix), .. } => About::Text(format!("{letter}:{}", shortened(prefix))),
            Self::Purged { which: Which::Key(key), .. } => About::Slot(format!("{letter}{}", Name::key(key).slot())),
            Self::Purged { which: Which::Tag(tag), .. } => About::Slot(format!("{letter}{}", Name::tag(tag).slot())),
            Self::Purged { which: Which::Route(route), .. } => About::Slot(format!("{letter}{}", Name::route(route).slot())),
        }
    }

    fn is_soft(&self) -> bool {
        matches!(self, Self::Purged { soft: true, .. })
    }
}

/// The point up to which changes are known: a number of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Which journal.
    pub id: u64,
    /// The last record that was heard.
    pub number: u64,
}

/// A possible subject of a purge.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its keys.
    pub keys: &'a Keys,
    /// Its route.
    pub route: &'a str,
    /// Its path and query.
    pub path: &'a str,
    /// Its tags.
    pub tags: &'a [Arc<str>],
    /// Whether it may have more tags: its response has not come.
    pub may_have_more_tags: bool,
}

impl<'a> Subject<'a> {
    /// A stored response.
    pub fn of(keys: &'a Keys, entry: &'a Entry) -> Self {
        Self { keys, route: &entry.route, path: &entry.path, tags: &entry.tags, may_have_more_tags: false }
    }
}

/// The fate of a subject since a stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// No purge is known.
    Lives,
    /// It was marked stale.
    Stale,
    /// It was purged, or a purge may have been missed.
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
    exact: Exact,
    /// Ascending by number.
    prefixes: VecDeque<(u64, String)>,
    /// The last purge of any tag, and the last that only marked stale.
    tags: [u64; 2],
}

impl Known {
    /// The journal as it was read from Redis.
    pub fn new(journal: Journal) -> Self {
        let slots = |letter: char, count: u64| -> Box<[u64]> {
            (0..count).map(|slot| journal.slots.get(&format!("{letter}{slot}")).copied().unwrap_or(0)).collect()
        };
        let (uris, hard, soft) = (slots('u', URIS), slots('h', NAMES), slots('s', NAMES));
        let mut prefixes = journal.texts;
        prefixes.sort_unstable();
        let stamp = Stamp { id: journal.id, number: journal.number };
        // The journal does not say which slots are of tags.
        let last = |slots: &[u64]| slots.iter().copied().max().unwrap_or(0);
        let tags = [last(&hard), last(&soft)];
        let exact = Exact::after(stamp.number);
        Self { stamp, all: journal.all, uris, hard, soft, exact, prefixes: prefixes.into(), tags }
    }

    /// The stamp of the last record heard.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Adds the next record.
    pub fn hear(&mut self, number: u64, record: &Record) {
        self.stamp.number = number;
        if let Record::Purged { which: Which::Tag(_), soft } = record {
            self.tags[usize::from(*soft)] = number;
        }
        if let Some(name) = Name::of(record) {
            self.exact.hear(number, name, record.is_soft());
        }
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

    /// The fate of `subject` since `since`.
    pub fn fate(&self, since: Stamp, subject: Subject<'_>) -> Fate {
        if since == self.stamp {
            return Fate::Lives;
        }
        if since.id != self.stamp.id || self.all > since.number {
            return Fate::Gone;
        }
        let later = |last: u64| last > since.number;
        let Subject { keys, route, path, tags, may_have_more_tags } = subject;
        if may_have_more_tags && later(self.tags[0]) {
            return Fate::Gone;
        }
        let mut fate = if may_have_more_tags && later(self.tags[1]) { Fate::Stale } else { Fate::Lives };
        let names = [Name::uri(&keys.uri), Name::key(&keys.entry), Name::route(route)].into_iter();
        for name in names.chain(tags.iter().map(|tag| Name::tag(tag))) {
            let [hard, soft] = if self.exact.knows_after(since.number) { self.exact.last(name) } else { self.last_in_slot(name) };
            if later(hard) {
                return Fate::Gone;
            }
            if later(soft) {
                fate = Fate::Stale;
            }
        }
        for (_, text) in self.prefixes.iter().rev().take_while(|(number, _)| later(*number)) {
            match text.split_at_checked(2) {
                Some((kind, prefix)) if path.starts_with(prefix) => match kind {
                    "s:" => fate = Fate::Stale,
                    _ => return Fate::Gone,
                },
                _ => {}
            }
        }
        fate
    }
}

impl Known {
    fn last_in_slot(&self, name: Name) -> [u64; 2] {
        match name.kind {
            b'u' => [self.uris[name.slot()], 0],
            _ => [self.hard[name.slot()], self.soft[name.slot()]],
        }
    }
}

/// The changes and purges of this process.
#[derive(Debug)]
pub struct Told {
    known: RwLock<Known>,
    /// The last number, for a look without the lock.
    number: AtomicU64,
}

impl Default for Told {
    fn default() -> Self {
        Self { known: RwLock::new(Known::new(Journal::default())), number: AtomicU64::new(0) }
    }
}

impl Told {
    /// Tells `record` and returns its number: earlier entries that it is about count as purged from now on. Call before
    /// removing entries: an entry stored meanwhile is then found by one or the other.
    pub fn tell(&self, record: &Record) -> u64 {
        let mut known = self.known.write();
        let number = known.stamp().number + 1;
        known.hear(number, record);
        self.number.store(number, Ordering::Release);
        number
    }

    /// The number of records told so far.
    pub fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// The fate of a subject since record `number` was told.
    pub fn fate(&self, number: u64, subject: Subject<'_>) -> Fate {
        if number == self.number() {
            return Fate::Lives;
        }
        self.known.read().fate(Stamp { id: 0, number }, subject)
    }
}

fn shortened(prefix: &str) -> &str {
    &prefix[..prefix.floor_char_boundary(LONGEST)]
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use http::StatusCode;
    use proptest::prelude::*;

    use super::*;
    use crate::http1::Fields;
    use crate::{
        clock::Moment,
        policy::cache::{
            directives::ResponseDirectives,
            entry::NewEntry,
            exact::EXACT,
            freshness::{Freshness, Terms, Times},
            vary::Variance,
        },
    };

    fn entry() -> Entry {
        let (headers, at) = (Fields::new(), Moment::at(SystemTime::UNIX_EPOCH));
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
                assert_eq!(known.fate(WRITTEN, Subject::of(&keys(), &entry())), expected, "{record:?}");
                assert_eq!(known.fate(Stamp { number: 11, ..WRITTEN }, Subject::of(&keys(), &entry())), Fate::Lives, "written later");
                assert_eq!(
                    known.fate(Stamp { id: 6, number: 11 }, Subject::of(&keys(), &entry())),
                    Fate::Gone,
                    "in another journal's time"
                );
                assert_eq!(Record::decode(&record.encode()), Some(record));
            }
            for which in others.clone() {
                let mut known = known();
                known.hear(11, &purged(which, soft));
                assert_eq!(known.fate(WRITTEN, Subject::of(&keys(), &entry())), Fate::Lives);
            }
        }
        let mut known = known();
        known.hear(11, &Record::Changed(keys().entry));
        assert_eq!(known.fate(WRITTEN, Subject::of(&keys(), &entry())), Fate::Lives);
        known.hear(12, &Record::Changed(keys().uri));
        assert_eq!((known.fate(WRITTEN, Subject::of(&keys(), &entry())), known.stamp().number), (Fate::Gone, 12));
    }

    #[test]
    fn a_forgotten_prefix_counts_as_everything_and_no_more_is_kept() {
        let mut known = known();
        for number in 11..11 + u64::from(PREFIXES) {
            known.hear(number, &purged(Which::Prefix(format!("/x/{number}")), false));
        }
        assert_eq!(known.fate(WRITTEN, Subject::of(&keys(), &entry())), Fate::Lives);
        known.hear(200, &purged(Which::Prefix("/y".into()), true));
        assert_eq!(known.prefixes.len(), PREFIXES as usize);
        assert_eq!(known.fate(WRITTEN, Subject::of(&keys(), &entry())), Fate::Gone, "what was forgotten may have been about it");
        assert_eq!(known.fate(Stamp { number: 11, ..WRITTEN }, Subject::of(&keys(), &entry())), Fate::Lives);
    }

    #[test]
    fn what_is_on_its_way_may_have_any_tag() {
        let (keys, told) = (keys(), Told::default());
        let (own, none) = ([Arc::from("own")], []);
        let coming = |tags, may_have_more_tags| Subject { keys: &keys, route: "route", path: "/shop/1", tags, may_have_more_tags };
        let fates = |since| [coming(&own[..], false), coming(&none, false), coming(&none, true)].map(|subject| told.fate(since, subject));
        told.tell(&purged(Which::Tag("own".into()), false));
        assert_eq!(fates(0), [Fate::Gone, Fate::Lives, Fate::Gone]);
        assert_eq!(fates(told.number()), [Fate::Lives; 3]);
        told.tell(&purged(Which::Tag("own".into()), true));
        assert_eq!(fates(1), [Fate::Stale, Fate::Lives, Fate::Stale]);
        told.tell(&purged(Which::Route("other".into()), false));
        assert_eq!(fates(2), [Fate::Lives; 3]);
        told.tell(&Record::Changed(keys.uri));
        assert_eq!(fates(3), [Fate::Gone; 3]);
    }

    #[test]
    fn what_was_heard_is_known_by_name_and_what_was_read_or_forgotten_by_slot() {
        let in_slot_of = |tag: &str| (0..).map(|at| format!("other-{at}")).find(|other| Name::tag(other).slot() == Name::tag(tag).slot());
        let other = in_slot_of("two").expect("one of 2,048");
        let mut heard = known();
        heard.hear(11, &purged(Which::Tag(other.as_str().into()), false));
        assert_eq!(heard.fate(WRITTEN, Subject::of(&keys(), &entry())), Fate::Lives, "another tag");
        let slot = format!("h{}", Name::tag(&other).slot());
        let read = Known::new(Journal { id: 5, number: 11, slots: [(slot, 11)].into(), ..Journal::default() });
        assert_eq!(read.fate(WRITTEN, Subject::of(&keys(), &entry())), Fate::Gone, "it may have been this one");
        // None of the ten thousand tags is the entry's.
        for number in 12..10_012 {
            heard.hear(number, &purged(Which::Tag(format!("tag-{number}").into()), number % 2 == 0));
        }
        assert_eq!(heard.fate(WRITTEN, Subject::of(&keys(), &entry())), Fate::Lives);
        for number in 10_012..10_012 + EXACT as u64 {
            heard.hear(number, &purged(Which::Tag("always".into()), false));
        }
        assert_eq!(heard.exact.size(), (EXACT, 1));
        assert_eq!(heard.fate(WRITTEN, Subject::of(&keys(), &entry())), Fate::Gone, "what is forgotten may have been about it");
        assert_eq!(heard.fate(Stamp { number: 10_011, ..WRITTEN }, Subject::of(&keys(), &entry())), Fate::Lives);
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
