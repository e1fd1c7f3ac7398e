//! Names as numbers: a row of the ledger holds ids, and each name stands in one place of the file, so that it can be erased.
//!
//! Each kind of name has a bound: a caller beyond it counts as [`OTHER`]. An erased name leaves its number behind, without the name.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use super::entry::{CLASSES, DIMS, Dim, Entry, FIXED, Key, MEASURES, Sums};

/// The name that stands for all names beyond a bound.
pub const OTHER: &str = "other";
/// The id of [`OTHER`].
pub const OTHER_ID: u32 = 0;
/// The name of callers whose name was erased.
pub const ERASED: &str = "erased";
/// The id under which questions add up erased callers.
pub const ERASED_ID: u32 = 1;
/// Ids that have no name of their own in the file.
const RESERVED: u32 = 2;

/// Kinds of names: the dimensions with names, and the classes of tokens.
pub const KINDS: usize = Dim::Outcome as usize + 1;
/// The kind of the classes of tokens.
pub const CLASS: usize = KINDS - 1;

/// Longest name in bytes. A longer one is cut and marked with a hash of the whole.
const LONGEST: usize = 256;
const HASHED: usize = 16;

/// The ids of one kind of names.
#[derive(Debug, Default, Clone)]
struct Kind {
    /// Names by id; `None`: erased, or reserved.
    names: Vec<Option<Arc<str>>>,
    ids: HashMap<Arc<str>, u32, foldhash::fast::RandomState>,
    most: usize,
    /// Calls whose name was beyond the bound.
    beyond: u64,
    /// Ids below this one are in the file as they are.
    saved: usize,
    /// Ids that have changed below `saved`.
    changed: Vec<u32>,
}

/// All names.
#[derive(Debug, Clone, Default)]
pub struct Names {
    kinds: [Kind; KINDS],
}

/// A name as it stands in the file.
pub struct Row {
    /// The kind's number and the id.
    pub kind: usize,
    /// The id.
    pub id: u32,
    /// The name; `None`: erased.
    pub name: Option<Arc<str>>,
}

impl Names {
    /// No names; at most `callers` callers.
    pub fn new(callers: usize) -> Self {
        const MOST: [usize; KINDS] = [0, 1_024, 1_024, 256, 1_024, 64, CLASSES];
        let kind = |most: usize| Kind { names: vec![None; RESERVED as usize], most, saved: RESERVED as usize, ..Kind::default() };
        let mut kinds = MOST.map(kind);
        kinds[Dim::Caller as usize].most = callers;
        Self { kinds }
    }

    /// The id of a name, made on first use; [`OTHER_ID`] beyond the bound.
    pub fn id(&mut self, kind: usize, name: &str) -> u32 {
        let known = &mut self.kinds[kind];
        if let Some(id) = known.ids.get(name) {
            return *id;
        }
        let name = bounded(name);
        if let Some(id) = known.ids.get(&*name) {
            return *id;
        }
        if &*name == OTHER {
            return OTHER_ID;
        }
        if &*name == ERASED && kind == Dim::Caller as usize {
            return ERASED_ID;
        }
        if known.ids.len() >= known.most {
            known.beyond += 1;
            return OTHER_ID;
        }
        let id = known.names.len() as u32;
        let name: Arc<str> = name.as_ref().into();
        known.names.push(Some(name.clone()));
        known.ids.insert(name, id);
        id
    }

    /// The key of a call.
    pub fn key(&mut self, entry: &Entry) -> Key {
        let mut key = [0; DIMS];
        let names: [&str; KINDS - 1] =
            [&entry.caller, entry.inbound.as_deref().unwrap_or_default(), &entry.outbound, &entry.provider, &entry.model, entry.tier];
        for (kind, name) in names.into_iter().enumerate() {
            key[kind] = self.id(kind, name);
        }
        key[Dim::Outcome as usize] = entry.outcome as u32;
        key[Dim::Known as usize] = entry.known as u32;
        Key(key)
    }

    /// The places of classes of tokens; new classes are added. Beyond [`CLASSES`] a class has none.
    pub fn slots(&mut self, classes: &[&str]) -> Vec<Option<usize>> {
        classes.iter().map(|class| (self.id(CLASS, class) as usize).checked_sub(RESERVED as usize)).collect()
    }

    /// The names of the classes of tokens, by place.
    pub fn classes(&self) -> Vec<Arc<str>> {
        self.kinds[CLASS].names.iter().flatten().cloned().collect()
    }

    /// The known id of a name.
    pub fn find(&self, kind: usize, name: &str) -> Option<u32> {
        match name {
            OTHER => Some(OTHER_ID),
            ERASED if kind == Dim::Caller as usize => Some(ERASED_ID),
            name => self.kinds[kind].ids.get(&*bounded(name)).copied(),
        }
    }

    /// The name of an id.
    pub fn name(&self, kind: usize, id: u32) -> Arc<str> {
        match self.kinds[kind].names.get(id as usize) {
            Some(Some(name)) => name.clone(),
            _ if id == OTHER_ID => OTHER.into(),
            _ => ERASED.into(),
        }
    }

    /// How many ids a kind has.
    pub fn len(&self, kind: usize) -> usize {
        self.kinds[kind].names.len()
    }

    /// The most names of a kind.
    pub fn most(&self, kind: usize) -> usize {
        self.kinds[kind].most
    }

    /// Names in use, and calls whose name was beyond the bound.
    pub fn use_of(&self, kind: usize) -> (usize, u64) {
        (self.kinds[kind].ids.len(), self.kinds[kind].beyond)
    }

    /// Whether an id's name was erased.
    pub fn is_erased(&self, kind: usize, id: u32) -> bool {
        id >= RESERVED && self.kinds[kind].names.get(id as usize).is_none_or(Option::is_none)
    }

    /// Erases a caller's name. `false`: there is none of this name.
    pub fn erase(&mut self, caller: &str) -> bool {
        let kind = &mut self.kinds[Dim::Caller as usize];
        let Some(id) = kind.ids.remove(&*bounded(caller)) else { return false };
        kind.names[id as usize] = None;
        if (id as usize) < kind.saved {
            kind.changed.push(id);
        }
        true
    }

    /// The rows that the file does not have yet.
    pub fn unsaved(&self) -> Vec<Row> {
        let of = |(kind, known): (usize, &Kind)| {
            let ids = known.changed.iter().copied().chain(known.saved as u32..known.names.len() as u32);
            ids.map(|id| Row { kind, id, name: known.names[id as usize].clone() }).collect::<Vec<_>>()
        };
        self.kinds.iter().enumerate().flat_map(of).collect()
    }

    /// Notes that the file has all rows that were unsaved when each kind had `lens` ids.
    pub fn saved(&mut self, lens: [usize; KINDS]) {
        for (kind, len) in self.kinds.iter_mut().zip(lens) {
            kind.saved = kind.saved.max(len);
            kind.changed.clear();
        }
    }

    /// The numbers of ids, for [`Names::saved`].
    pub fn lens(&self) -> [usize; KINDS] {
        std::array::from_fn(|kind| self.kinds[kind].names.len())
    }

    /// Puts a row of the file at its id. Rows come in the order of their ids.
    pub fn put(&mut self, row: Row) {
        let Some(kind) = self.kinds.get_mut(row.kind) else { return };
        let at = row.id as usize;
        if kind.names.len() <= at {
            kind.names.resize(at + 1, None);
        }
        if let Some(name) = &row.name {
            kind.ids.insert(name.clone(), row.id);
        }
        kind.names[at] = row.name;
        kind.saved = kind.names.len();
    }
}

/// Brings rows from the numbering of one ledger to that of another.
pub struct Renaming<'a> {
    old: &'a Names,
    fresh: &'a mut Names,
    /// The measures' places in the fresh numbering.
    places: [Option<usize>; MEASURES],
}

impl<'a> Renaming<'a> {
    /// From `old` to `fresh`, which gets the names that it lacks.
    pub fn new(old: &'a Names, fresh: &'a mut Names) -> Self {
        let mut places: [Option<usize>; MEASURES] = std::array::from_fn(|at| (at < FIXED).then_some(at));
        let classes = old.classes();
        let words: Vec<&str> = classes.iter().map(|class| &**class).collect();
        for (at, slot) in fresh.slots(&words).into_iter().enumerate() {
            places[FIXED + at] = slot.map(|slot| FIXED + slot);
        }
        Self { old, fresh, places }
    }

    /// A row in the fresh numbering.
    pub fn row(&mut self, key: Key, sums: &Sums) -> (Key, Sums) {
        let (mut ids, mut moved) = (key.0, Sums::default());
        for (kind, id) in ids.iter_mut().enumerate().take(CLASS) {
            *id = match self.old.is_erased(kind, *id) {
                true => ERASED_ID,
                false => self.fresh.id(kind, &self.old.name(kind, *id)),
            };
        }
        for (value, place) in sums.0.into_iter().zip(self.places) {
            if let Some(place) = place {
                moved.0[place] = value;
            }
        }
        (Key(ids), moved)
    }
}

/// The name, or the beginning of a long one with a hash of the whole: two long names stay two.
fn bounded(name: &str) -> Cow<'_, str> {
    if name.len() <= LONGEST {
        return Cow::Borrowed(name);
    }
    let hash = blake3::hash(name.as_bytes()).to_hex();
    let begin = &name[..name.floor_char_boundary(LONGEST - HASHED - 1)];
    Cow::Owned(format!("{begin}#{}", &hash[..HASHED]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_bound_are_other_and_long_ones_stay_apart() {
        let mut names = Names::new(2);
        let (a, b) = (names.id(0, "a"), names.id(0, "b"));
        assert_eq!((a, b, names.id(0, "a")), (2, 3, 2));
        assert_eq!((names.id(0, "c"), names.use_of(0)), (OTHER_ID, (2, 1)));
        assert!(names.erase("a") && !names.erase("a"));
        assert_eq!((&*names.name(0, a), names.is_erased(0, a), names.find(0, "a")), (ERASED, true, None));
        let (one, two) = ("x".repeat(300), "x".repeat(301));
        let (first, second) = (names.id(3, &one), names.id(3, &two));
        assert!(first != second && names.name(3, first).len() <= LONGEST);
        assert_eq!(names.find(3, &one), Some(first));
    }

    #[test]
    fn the_file_gets_each_name_once_and_an_erased_one_again() {
        let mut names = Names::new(10);
        names.id(0, "a");
        assert_eq!(names.unsaved().len(), 1);
        names.saved(names.lens());
        names.id(0, "b");
        names.erase("a");
        let rows: Vec<_> = names.unsaved().into_iter().map(|row| (row.id, row.name.as_deref().map(str::to_owned))).collect();
        assert_eq!(rows, [(2, None), (3, Some("b".to_owned()))]);
    }
}
