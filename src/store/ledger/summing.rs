//! Sums on the way to an answer: rows come in by the block, column by column, and are added to their groups.
//!
//! The groups' measures stand in columns too: only measures that occur take memory. [`MAX_GROUPS`] and [`MAX_CELLS`] bound it.

use std::collections::HashMap;

use super::{
    chunk::Chunk,
    entry::{DIMS, Dim, Key, Known, MEASURES, Outcome, Sums},
    names::{ERASED_ID, Names},
    question::{AskError, Question},
    zone::{ZONED, Zone},
};

/// Most groups of an answer over all its pages.
pub const MAX_GROUPS: usize = 100_000;
/// Most sums of all groups: 8 MiB.
const MAX_CELLS: usize = 1 << 20;
/// Group numbers are looked up in a table of at most this many bits of key (4 MiB), beyond that in a map.
const DENSE_BITS: u32 = 20;
/// Keys of more bits are summed up row by row.
const NARROW_BITS: u32 = 50;
/// No group, or no code.
const OUT: u32 = u32::MAX;
/// Values of a block below this number cannot overflow when they are added up.
const SAFE: u64 = 1 << 52;

/// A dimension of the groups: each id that counts has a code, from 0 on.
struct Axis {
    dim: Dim,
    /// Codes by id; [`OUT`]: a filter leaves the id out.
    codes: Vec<u32>,
    /// Ids by code.
    ids: Vec<u32>,
    bits: u32,
}

/// Sums on the way to an answer.
pub struct Summing {
    by: Vec<Axis>,
    bits: u32,
    /// The ids that count, for each dimension with a filter.
    filters: Vec<(Dim, Vec<bool>)>,
    dense: Vec<u32>,
    sparse: HashMap<u128, u32, foldhash::fast::RandomState>,
    /// The part and the codes of each group.
    places: Vec<u128>,
    /// The sums of each measure by group; empty until the measure occurs.
    sums: Vec<Vec<u64>>,
    known: [Sums; Known::ALL.len()],
    scratch: Scratch,
}

/// Vectors that are used again for each block.
#[derive(Default)]
struct Scratch {
    /// The rows that count; unused if all do.
    chosen: Vec<u16>,
    column: Vec<u64>,
    values: Vec<u64>,
    keys: Vec<u64>,
    group: Vec<u32>,
    /// How the figures of a row are known, where the provider did not report them: row and number.
    odd: Vec<(u16, u8)>,
}

fn ids(names: &Names, dim: Dim) -> usize {
    match dim {
        Dim::Outcome => Outcome::ALL.len(),
        Dim::Known => Known::ALL.len(),
        dim => names.len(dim as usize),
    }
}

/// The ids that a filter lets through.
fn lets_through(names: &Names, dim: Dim, words: &[&str]) -> Vec<bool> {
    let mut through = vec![false; ids(names, dim)];
    for word in words {
        let id = match dim {
            Dim::Outcome => Outcome::ALL.iter().position(|outcome| outcome.as_str() == *word),
            Dim::Known => Known::ALL.iter().position(|known| known.as_str() == *word),
            dim => names.find(dim as usize, word).map(|id| id as usize),
        };
        if let Some(known) = id.and_then(|id| through.get_mut(id)) {
            *known = true;
        }
    }
    if dim == Dim::Caller && through.get(ERASED_ID as usize) == Some(&true) {
        for (id, through) in through.iter_mut().enumerate() {
            *through |= names.is_erased(dim as usize, id as u32);
        }
    }
    through
}

impl Axis {
    fn new(dim: Dim, names: &Names, filter: Option<&Vec<bool>>) -> Self {
        let count = ids(names, dim);
        let (mut codes, mut numbers) = (vec![OUT; count], Vec::new());
        for id in (0..count).filter(|id| filter.is_none_or(|through| through[*id])) {
            // All erased callers are one.
            let is_erased = dim == Dim::Caller && names.is_erased(dim as usize, id as u32);
            let stands_for = if is_erased { ERASED_ID as usize } else { id };
            if codes[stands_for] == OUT {
                codes[stands_for] = numbers.len() as u32;
                numbers.push(stands_for as u32);
            }
            codes[id] = codes[stands_for];
        }
        Self { dim, codes, bits: usize::BITS - numbers.len().leading_zeros(), ids: numbers }
    }

    fn code(&self, id: u64) -> u32 {
        usize::try_from(id).ok().and_then(|id| self.codes.get(id)).copied().unwrap_or(OUT)
    }
}

impl Summing {
    /// Nothing is summed up yet.
    pub fn new(asked: &Question, names: &Names) -> Self {
        let dims: Vec<Dim> = Dim::ALL.into_iter().filter(|dim| asked.filters.iter().any(|(filtered, _)| filtered == dim)).collect();
        let words =
            |dim: Dim| asked.filters.iter().filter(|(filtered, _)| *filtered == dim).map(|(_, word)| word.as_str()).collect::<Vec<_>>();
        let filters: Vec<(Dim, Vec<bool>)> = dims.into_iter().map(|dim| (dim, lets_through(names, dim, &words(dim)))).collect();
        let filter = |dim: Dim| filters.iter().find(|(filtered, _)| *filtered == dim).map(|(_, through)| through);
        let by: Vec<Axis> = asked.by.iter().map(|dim| Axis::new(*dim, names, filter(*dim))).collect();
        let bits = by.iter().map(|axis| axis.bits).sum();
        let parts = asked.edges.len().saturating_sub(1).max(1);
        let is_dense = bits <= DENSE_BITS && parts << bits <= 1 << DENSE_BITS;
        Self {
            dense: if is_dense { vec![OUT; parts << bits] } else { Vec::new() },
            sparse: HashMap::default(),
            places: Vec::new(),
            sums: vec![Vec::new(); MEASURES],
            known: Default::default(),
            scratch: Scratch::default(),
            by,
            bits,
            filters,
        }
    }

    /// Whether a filter may leave out blocks by their zones.
    pub fn has_zoned_filter(&self) -> bool {
        self.filters.iter().any(|(dim, _)| ZONED.contains(dim))
    }

    /// Whether a block with this zone can have a row that counts.
    pub fn may_have(&self, zone: &Zone) -> bool {
        self.filters.iter().all(|(dim, through)| {
            let Some(at) = ZONED.iter().position(|zoned| zoned == dim) else { return true };
            let (low, high) = zone.bounds[at];
            let high = (high as usize).min(through.len().saturating_sub(1));
            through.get(low as usize..=high).is_some_and(|some| some.contains(&true))
        })
    }

    /// Adds the rows of a block to one part of the answer.
    ///
    /// # Errors
    /// The answer would have too many groups.
    pub fn add_chunk(&mut self, part: usize, chunk: &Chunk<'_>) -> Result<(), AskError> {
        if self.bits > NARROW_BITS {
            return chunk.all().iter().try_for_each(|(key, sums)| self.add_row(part, key, sums));
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let added = match self.choose(chunk, &mut scratch) {
            false => Ok(()),
            true => self.find_groups(part, chunk, &mut scratch).map(|()| self.add_measures(chunk, &mut scratch)),
        };
        self.scratch = scratch;
        added?;
        self.within_bounds()
    }

    /// Finds the rows that count. `false`: none does.
    fn choose(&self, chunk: &Chunk<'_>, scratch: &mut Scratch) -> bool {
        let Scratch { chosen, column, .. } = scratch;
        chosen.clear();
        chosen.extend(0..chunk.rows() as u16);
        for (dim, through) in &self.filters {
            let passes = |id: u64| usize::try_from(id).ok().and_then(|id| through.get(id)) == Some(&true);
            if let Some(id) = chunk.constant(*dim as usize) {
                if !passes(id) {
                    return false;
                }
                continue;
            }
            chunk.column(*dim as usize, column);
            chosen.retain(|row| passes(column[usize::from(*row)]));
        }
        !chosen.is_empty()
    }

    /// The group of each row that counts.
    fn find_groups(&mut self, part: usize, chunk: &Chunk<'_>, scratch: &mut Scratch) -> Result<(), AskError> {
        let Scratch { chosen, column, values, keys, group, odd } = scratch;
        keys.clear();
        keys.resize(chosen.len(), part as u64);
        for axis in &self.by {
            chosen_of(chunk, axis.dim as usize, chosen, column, values);
            for (key, id) in keys.iter_mut().zip(&*values) {
                // A row whose id has no code is of no name that is known: it counts under the first.
                let code = axis.codes.get(*id as usize).copied().unwrap_or(0);
                *key = *key << axis.bits | u64::from(code);
            }
        }
        group.clear();
        if self.dense.is_empty() {
            for key in &*keys {
                group.push(self.group(u128::from(*key))?);
            }
        } else {
            for key in &*keys {
                let known = self.dense.get(*key as usize).copied().unwrap_or(OUT);
                group.push(if known == OUT { self.group(u128::from(*key))? } else { known });
            }
        }
        chosen_of(chunk, Dim::Known as usize, chosen, column, values);
        odd.clear();
        let others = (0..).zip(&*values).filter(|(_, known)| **known != Known::Reported as u64);
        odd.extend(others.map(|(row, known)| (row, (*known).min(Known::Unknown as u64) as u8)));
        Ok(())
    }

    /// Adds each measure of each row to its group, and to the sums by how it is known.
    fn add_measures(&mut self, chunk: &Chunk<'_>, scratch: &mut Scratch) {
        let Scratch { chosen, column, values, group, odd, .. } = scratch;
        for measure in 0..MEASURES {
            let at = DIMS + measure;
            if chunk.constant(at) == Some(0) {
                continue;
            }
            chosen_of(chunk, at, chosen, column, values);
            let sums = &mut self.sums[measure];
            grow(sums, self.places.len());
            for (value, group) in values.iter().zip(&*group) {
                if let Some(sum) = sums.get_mut(*group as usize) {
                    *sum = sum.saturating_add(*value);
                }
            }
            let is_safe = chunk.highest(at) < SAFE;
            let mut by_known = [0_u64; Known::ALL.len()];
            for (row, known) in &*odd {
                let sum = &mut by_known[usize::from(*known)];
                *sum = sum.saturating_add(values[usize::from(*row)]);
            }
            let all = if is_safe { values.iter().sum() } else { values.iter().fold(0_u64, |sum, value| sum.saturating_add(*value)) };
            // The rest is what providers reported.
            by_known[Known::Reported as usize] = by_known.iter().fold(all, |rest, sum| rest.saturating_sub(*sum));
            for (sums, sum) in self.known.iter_mut().zip(by_known) {
                sums.0[measure] = sums.0[measure].saturating_add(sum);
            }
        }
    }

    /// Adds one row.
    ///
    /// # Errors
    /// The answer would have too many groups.
    pub fn add_row(&mut self, part: usize, key: &Key, row: &Sums) -> Result<(), AskError> {
        if !self.filters.iter().all(|(dim, through)| through.get(key.at(*dim) as usize) == Some(&true)) {
            return Ok(());
        }
        let mut place = part as u128;
        for axis in &self.by {
            let code = axis.code(u64::from(key.at(axis.dim)));
            place = place << axis.bits | u128::from(if code == OUT { 0 } else { code });
        }
        let group = self.group(place)? as usize;
        for (sums, value) in self.sums.iter_mut().zip(row.0).filter(|(_, value)| *value > 0) {
            grow(sums, self.places.len());
            if let Some(sum) = sums.get_mut(group) {
                *sum = sum.saturating_add(value);
            }
        }
        self.known[(key.at(Dim::Known) as usize).min(Known::Unknown as usize)].add(row);
        self.within_bounds()
    }

    /// The number of the group at a place, made on first use.
    fn group(&mut self, place: u128) -> Result<u32, AskError> {
        let known = match self.dense.is_empty() {
            false => self.dense.get(place as usize).copied().filter(|group| *group != OUT),
            true => self.sparse.get(&place).copied(),
        };
        if let Some(known) = known {
            return Ok(known);
        }
        if self.places.len() >= MAX_GROUPS {
            return Err(too_many(MAX_GROUPS));
        }
        let group = self.places.len() as u32;
        match self.dense.get_mut(place as usize) {
            Some(slot) => *slot = group,
            None => drop(self.sparse.insert(place, group)),
        }
        self.places.push(place);
        Ok(group)
    }

    fn within_bounds(&self) -> Result<(), AskError> {
        let measures = self.sums.iter().filter(|sums| !sums.is_empty()).count();
        if self.places.len() * measures > MAX_CELLS { Err(too_many(MAX_CELLS / measures)) } else { Ok(()) }
    }

    /// The sums over all groups, by how their figures are known.
    pub fn known(&self) -> [Sums; Known::ALL.len()] {
        self.known
    }

    /// The groups, in the order of their parts and ids, each with its number.
    pub fn groups(&self) -> Vec<(u128, u32)> {
        // Codes have the order of ids.
        let mut groups: Vec<_> = self.places.iter().copied().zip(0..).collect();
        groups.sort_unstable();
        groups
    }

    /// What a group's place stands for.
    pub fn place(&self, mut place: u128) -> Place {
        let mut ids = [0; DIMS];
        for (at, axis) in self.by.iter().enumerate().rev() {
            ids[at] = axis.ids.get((place & ((1 << axis.bits) - 1)) as usize).copied().unwrap_or_default();
            place >>= axis.bits;
        }
        Place { part: place as u32, ids }
    }

    /// The sums of a group.
    pub fn sums(&self, group: u32) -> Sums {
        Sums(std::array::from_fn(|measure| self.sums[measure].get(group as usize).copied().unwrap_or(0)))
    }
}

/// Where a group stands in the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The part of time, by number.
    pub part: u32,
    /// The ids, in the order of the question's `by`; the rest is 0.
    pub ids: [u32; DIMS],
}

fn too_many(most: usize) -> AskError {
    AskError::Invalid(format!(
        "the answer would have more than {most} rows: ask `by` less, for larger buckets or a shorter time, or for one of them"
    ))
}

/// Makes room for `len` sums, by an eighth more at a time: what stands free is little.
fn grow(sums: &mut Vec<u64>, len: usize) {
    if sums.len() < len {
        if sums.capacity() < len {
            sums.reserve_exact((len + len / 8).max(64) - sums.len());
        }
        sums.resize(len, 0);
    }
}

/// The values of a column in the rows that count.
fn chosen_of(chunk: &Chunk<'_>, at: usize, chosen: &[u16], column: &mut Vec<u64>, values: &mut Vec<u64>) {
    if chosen.len() == chunk.rows() {
        return chunk.column(at, values);
    }
    values.clear();
    if chosen.len() < chunk.rows() / 4 {
        return values.extend(chosen.iter().map(|row| chunk.at(at, usize::from(*row))));
    }
    chunk.column(at, column);
    values.extend(chosen.iter().map(|row| column[usize::from(*row)]));
}
