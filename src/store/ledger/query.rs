//! Answering a question: a snapshot of the books, the pieces of the plan, and the sums of each group.
//!
//! A question reads blocks one after another and holds only its groups in memory.

use std::{collections::HashMap, sync::Arc};

use redb::{ReadTransaction, ReadableDatabase as _, ReadableTable as _};

use super::{
    Inner, Ledger,
    chunk::{COLUMNS, Chunk},
    entry::{DIMS, Dim, Key, Known, MEASURES, Outcome, Sums},
    file::{BLOCKS, FileError, KEY_HORIZON, KEY_SINCE, META, SUMMED},
    level::{Class, Level, View, callers_of},
    names::{CLASS, ERASED_ID, Names},
    plan::{Has, Plan},
    question::{Answer, AskError, Group, Question},
};

/// Most groups of an answer over all its pages.
const MAX_GROUPS: usize = 100_000;
/// Group numbers are looked up in a table of at most this many bits of key, beyond that in a map.
const DENSE_BITS: u32 = 18;
/// The group of a row that a filter leaves out.
const OUT: u32 = u32::MAX;

/// The books at one moment.
struct Moment {
    read: Option<ReadTransaction>,
    names: Names,
    waiting: Vec<(u32, Key, Sums)>,
    gaps: Vec<String>,
    others: u64,
    durable: bool,
    now: u32,
}

impl Ledger {
    /// Answers a question. Blocks for as long as the reading takes.
    ///
    /// # Errors
    /// The file cannot be read, or the answer would have too many rows.
    pub fn ask(&self, asked: &Question) -> Result<Answer, AskError> {
        answer(asked, self.0.moment()?)
    }
}

impl Inner {
    fn moment(&self) -> Result<Moment, FileError> {
        let mut books = self.books.lock();
        self.drain();
        if books.file.is_none() {
            // The keeper has not opened the file yet, or there is no keeper.
            let _ = self.open_in(&mut books).inspect_err(|error| self.fail(&mut books, error));
        }
        let mut gaps = Vec::new();
        if let (None, Some(trouble)) = (&books.file, &books.trouble) {
            gaps.push(format!("the ledger's file cannot be read: {trouble}"));
        }
        let read = books.file.as_ref().map(|file| file.db.begin_read()).transpose()?;
        let open = self.open.lock();
        let waiting = open.waiting.iter().map(|((minute, key), sums)| (*minute, *key, *sums));
        let sealed = books.sealed.iter().flat_map(|sealed| sealed.rows.iter().copied());
        Ok(Moment {
            read,
            names: open.names.clone(),
            waiting: waiting.chain(sealed).collect(),
            gaps,
            others: self.counts.others.load(std::sync::atomic::Ordering::Relaxed),
            durable: self.terms.dir.is_some(),
            now: self.minute(),
        })
    }
}

fn answer(asked: &Question, mut moment: Moment) -> Result<Answer, AskError> {
    let mut sums = Summing::new(asked, &moment.names);
    let mut since = moment.now;
    if let Some(read) = &moment.read {
        let (has, begun) = known(read)?;
        since = begun;
        let edges = clamped(&asked.edges, begun.min(has.first()), moment.now);
        let plan = Plan::new(&edges.0, &has);
        let view = View::of(|dim| asked.by.contains(&dim) || asked.filters.iter().any(|(filtered, _)| *filtered == dim));
        let blocks = read.open_table(BLOCKS).map_err(FileError::from)?;
        for piece in &plan.pieces {
            let level = Level(piece.class, if piece.class == Class::Day { view } else { View::Whole });
            for block in blocks.range(level.place(piece.from)..level.place(piece.to)).map_err(FileError::from)? {
                let (place, bytes) = block.map_err(FileError::from)?;
                if sums.may_have(callers_of(place.value())) {
                    sums.add_chunk(piece.part + edges.1, &Chunk::read(bytes.value()).map_err(FileError::from)?)?;
                }
            }
        }
        if plan.rounded {
            moment.gaps.push("the edges cut hours or days of which only the whole is kept (UTC): each counts where it begins".into());
        }
    }
    for (minute, key, row) in &moment.waiting {
        let next = asked.edges.partition_point(|edge| edge <= minute);
        if next > 0 && next < asked.edges.len() {
            sums.add_row(next - 1, key, row)?;
        }
    }
    if asked.edges.first().is_some_and(|from| *from < since) {
        moment.gaps.push(format!("nothing is recorded before {}", asked.time(since)));
    }
    if moment.others > 0 {
        moment.gaps.push(format!("{} other processes have ledgers in the same directory: ask them too", moment.others));
    }
    Ok(sums.into_answer(asked, moment, since))
}

/// What the file has, and the minute from which on it has recorded.
fn known(read: &ReadTransaction) -> Result<(Has, u32), FileError> {
    let meta = read.open_table(META)?;
    let number =
        |key: &str| -> Result<u32, FileError> { Ok(meta.get(key)?.map_or(0, |value| u32::try_from(value.value()).unwrap_or(u32::MAX))) };
    let mut has = Has::default();
    for (at, key) in KEY_HORIZON.into_iter().enumerate() {
        has.from[at] = number(key)?;
    }
    for row in read.open_table(SUMMED)?.iter()? {
        let mark = row?.0.value();
        if mark >> 32 == Class::Day as u64 { &mut has.days } else { &mut has.hours }.push(mark as u32);
    }
    Ok((has, number(KEY_SINCE)?.max(number(KEY_HORIZON[2])?.saturating_mul(Class::Day.minutes()))))
}

impl Has {
    /// The first minute of which there may be a row.
    fn first(&self) -> u32 {
        self.days.first().map_or(u32::MAX, |day| day * Class::Day.minutes())
    }
}

/// The edges, as far as there can be rows; and how many parts were left out before them.
fn clamped(edges: &[u32], first: u32, now: u32) -> (Vec<u32>, usize) {
    // A clock that stepped back has left rows of the future: one day of them is looked for.
    let last = now.saturating_add(2 * Class::Day.minutes());
    let skipped = edges.partition_point(|edge| *edge <= first).saturating_sub(1);
    let mut kept: Vec<u32> = edges[skipped..].iter().copied().take_while(|edge| *edge < last).collect();
    if let Some(next) = edges.get(skipped + kept.len()) {
        kept.push((*next).min(last));
    }
    if let [begin, _, ..] = &mut kept[..] {
        *begin = (*begin).max(first.min(last));
    }
    (kept, skipped)
}

/// Sums on the way to an answer.
struct Summing {
    by: Vec<(Dim, u32)>,
    bits: u32,
    filters: Vec<(Dim, Vec<bool>)>,
    /// For callers: the id under which an id counts, if any name was erased.
    same: Option<Vec<u32>>,
    dense: Vec<u32>,
    sparse: HashMap<u128, u32, foldhash::fast::RandomState>,
    parts: usize,
    groups: Vec<(usize, Key, Sums)>,
    known: [Sums; Known::ALL.len()],
    scratch: Scratch,
}

/// Vectors that are used again for each block.
#[derive(Default)]
struct Scratch {
    values: Vec<u64>,
    keys: Vec<u128>,
    group: Vec<u32>,
    known: Vec<u64>,
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

impl Summing {
    fn new(asked: &Question, names: &Names) -> Self {
        let by: Vec<(Dim, u32)> = asked.by.iter().map(|dim| (*dim, usize::BITS - ids(names, *dim).leading_zeros())).collect();
        let bits = by.iter().map(|(_, bits)| bits).sum();
        let parts = asked.edges.len().saturating_sub(1).max(1);
        let dims: Vec<Dim> = Dim::ALL.into_iter().filter(|dim| asked.filters.iter().any(|(filtered, _)| filtered == dim)).collect();
        let words =
            |dim: Dim| asked.filters.iter().filter(|(filtered, _)| *filtered == dim).map(|(_, word)| word.as_str()).collect::<Vec<_>>();
        let is_dense = bits <= DENSE_BITS && parts << bits <= 1 << DENSE_BITS;
        let callers = names.len(Dim::Caller as usize) as u32;
        let counts_as = |id| if names.is_erased(Dim::Caller as usize, id) { ERASED_ID } else { id };
        Self {
            filters: dims.into_iter().map(|dim| (dim, lets_through(names, dim, &words(dim)))).collect(),
            same: names.any_erased().then(|| (0..callers).map(counts_as).collect()),
            dense: if is_dense { vec![OUT; parts << bits] } else { Vec::new() },
            sparse: HashMap::default(),
            groups: Vec::new(),
            known: Default::default(),
            scratch: Scratch::default(),
            by,
            bits,
            parts,
        }
    }

    /// Whether a block with these callers can have a row that counts.
    fn may_have(&self, (low, high): (u32, u32)) -> bool {
        let Some((_, through)) = self.filters.iter().find(|(dim, _)| *dim == Dim::Caller) else { return true };
        through.get(low as usize..=(high as usize).min(through.len().saturating_sub(1))).is_some_and(|some| some.contains(&true))
    }

    fn counts_as(&self, dim: Dim, id: u64) -> u32 {
        let id = u32::try_from(id).unwrap_or(0);
        match &self.same {
            Some(same) if dim == Dim::Caller => same.get(id as usize).copied().unwrap_or(id),
            _ => id,
        }
    }

    /// The number of the group under a packed key, made on first use.
    fn group(&mut self, part: usize, packed: u128) -> Result<u32, AskError> {
        let place = (part as u128) << self.bits | packed;
        let known = match self.dense.is_empty() {
            false => self.dense.get(place as usize).copied().filter(|group| *group != OUT),
            true => self.sparse.get(&place).copied(),
        };
        if let Some(known) = known {
            return Ok(known);
        }
        if self.groups.len() >= MAX_GROUPS {
            return Err(AskError::Invalid(format!(
                "the answer would have more than {MAX_GROUPS} rows: ask `by` less, for larger buckets or a shorter time, or for one of them"
            )));
        }
        let group = self.groups.len() as u32;
        match self.dense.get_mut(place as usize) {
            Some(slot) => *slot = group,
            None => drop(self.sparse.insert(place, group)),
        }
        let (mut key, mut packed) = ([0; DIMS], packed);
        for (dim, bits) in self.by.iter().rev() {
            key[*dim as usize] = (packed & ((1 << bits) - 1)) as u32;
            packed >>= bits;
        }
        self.groups.push((part, Key(key), Sums::default()));
        Ok(group)
    }

    /// Adds the rows of a block.
    fn add_chunk(&mut self, part: usize, chunk: &Chunk<'_>) -> Result<(), AskError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let added = self.find_groups(part, chunk, &mut scratch);
        if added.is_ok() {
            self.add_measures(chunk, &mut scratch);
        }
        self.scratch = scratch;
        added
    }

    /// The group of each row.
    fn find_groups(&mut self, part: usize, chunk: &Chunk<'_>, scratch: &mut Scratch) -> Result<(), AskError> {
        let Scratch { values, keys, group, .. } = scratch;
        keys.clear();
        keys.resize(chunk.rows(), 0);
        for (dim, bits) in &self.by {
            chunk.column(*dim as usize, values);
            for (key, id) in keys.iter_mut().zip(&*values) {
                *key = *key << bits | u128::from(self.counts_as(*dim, *id));
            }
        }
        group.clear();
        group.resize(chunk.rows(), 0);
        for (dim, through) in &self.filters {
            chunk.column(*dim as usize, values);
            for (group, id) in group.iter_mut().zip(&*values) {
                if through.get(*id as usize) != Some(&true) {
                    *group = OUT;
                }
            }
        }
        for (group, key) in group.iter_mut().zip(&*keys) {
            if *group != OUT {
                *group = self.group(part, *key)?;
            }
        }
        Ok(())
    }

    /// Adds each measure of each row to its group, and to the sums by how it is known.
    fn add_measures(&mut self, chunk: &Chunk<'_>, scratch: &mut Scratch) {
        let Scratch { values, group, known, .. } = scratch;
        chunk.column(Dim::Known as usize, known);
        for measure in 0..MEASURES {
            let column = DIMS + measure;
            debug_assert!(column < COLUMNS);
            if chunk.constant(column) == Some(0) {
                continue;
            }
            chunk.column(column, values);
            for ((value, group), known) in values.iter().zip(&*group).zip(&*known) {
                if let Some((_, _, sums)) = self.groups.get_mut(*group as usize) {
                    sums.0[measure] = sums.0[measure].saturating_add(*value);
                    let by_known = &mut self.known[(*known as usize).min(Known::Unknown as usize)].0[measure];
                    *by_known = by_known.saturating_add(*value);
                }
            }
        }
    }

    /// Adds a row that is not in the file.
    fn add_row(&mut self, part: usize, key: &Key, row: &Sums) -> Result<(), AskError> {
        if !self.filters.iter().all(|(dim, through)| through.get(key.at(*dim) as usize) == Some(&true)) {
            return Ok(());
        }
        let mut packed = 0;
        for (dim, bits) in &self.by {
            packed = packed << bits | u128::from(self.counts_as(*dim, u64::from(key.at(*dim))));
        }
        let group = self.group(part, packed)?;
        self.groups[group as usize].2.add(row);
        self.known[(key.at(Dim::Known) as usize).min(Known::Unknown as usize)].add(row);
        Ok(())
    }

    fn into_answer(mut self, asked: &Question, moment: Moment, since: u32) -> Answer {
        debug_assert!(self.groups.iter().all(|(part, ..)| *part < self.parts));
        let mut total = Sums::default();
        self.known.iter().for_each(|sums| total.add(sums));
        let place = |(part, key, _): &(usize, Key, Sums)| {
            let ids = asked.by.iter().map(|dim| key.at(*dim));
            std::iter::once(asked.edges[*part]).chain(ids).collect::<Vec<u32>>()
        };
        self.groups.sort_unstable_by_key(place);
        let begin = asked.after.as_ref().map_or(0, |after| self.groups.partition_point(|group| place(group) <= *after));
        let page = &self.groups[begin..];
        let named = |dim: Dim, id: u32| -> Arc<str> {
            match dim {
                Dim::Outcome => Outcome::ALL.get(id as usize).map_or("", |outcome| outcome.as_str()).into(),
                Dim::Known => Known::ALL.get(id as usize).map_or("", |known| known.as_str()).into(),
                dim => moment.names.name(dim as usize, id),
            }
        };
        let row = |group: &(usize, Key, Sums)| Group {
            part: (asked.edges[group.0], asked.edges[group.0 + 1]),
            names: asked.by.iter().map(|dim| named(*dim, group.1.at(*dim))).collect(),
            place: place(group),
            sums: group.2,
        };
        debug_assert!(CLASS == Dim::Outcome as usize);
        Answer {
            rows: page.iter().take(asked.limit).map(row).collect(),
            more: page.len() > asked.limit,
            total,
            known: self.known,
            classes: moment.names.classes(),
            since,
            gaps: moment.gaps,
            durable: moment.durable,
        }
    }
}
