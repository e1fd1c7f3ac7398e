//! Answering a question: a snapshot of the books, the pieces of the plan, and the sums of each group.
//!
//! A question reads blocks one after another and holds only its groups in memory.

use std::sync::Arc;

use redb::{ReadTransaction, ReadableDatabase as _, ReadableTable as _};

use super::{
    Books, Inner, Ledger,
    chunk::Chunk,
    entry::{Dim, Known, Outcome, Sums},
    file::{BLOCKS, FileError, KEY_HORIZON, KEY_SINCE, META, SUMMED, ZONES},
    level::{Class, Level, View},
    names::Names,
    plan::{Has, Piece, Plan},
    question::{Answer, AskError, Group, Question},
    shared::Shared,
    summing::{Place, Summing},
    zone,
};

/// The books at one moment, and what waits summed up already.
struct Moment {
    read: Option<ReadTransaction>,
    names: Arc<Names>,
    sums: Summing,
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
        match self.0.shared.get() {
            Some(shared) => self.0.ask_shared(asked, shared),
            None => again(|| answer(asked, self.0.moment(asked)?)),
        }
    }
}

impl Inner {
    fn moment(&self, asked: &Question) -> Result<Moment, AskError> {
        let mut books = self.hold_patiently()?;
        self.drain();
        if books.file.is_none() {
            // The keeper has not opened the file yet, or there is no keeper.
            let _ = self.open_in(&mut books).inspect_err(|error| self.fail(&mut books, error));
        }
        let mut gaps = Vec::new();
        if let (None, Some(trouble)) = (&books.file, &books.trouble) {
            gaps.push(format!("the ledger's file cannot be read: {trouble}"));
        }
        let read = books.file.as_ref().map(|file| file.db.begin_read()).transpose().map_err(FileError::from)?;
        Ok(Moment { read, gaps, ..self.waiting(asked, &books)? })
    }

    /// What waits in memory, summed up.
    fn waiting(&self, asked: &Question, books: &Books) -> Result<Moment, AskError> {
        let open = self.open.lock();
        let mut sums = Summing::new(asked, &open.names);
        // Under the lock: a copy of what waits would take megabytes.
        let waiting = open.waiting.iter().map(|((minute, key), sums)| (minute, key, sums));
        let sealed = books.sealed.iter().flat_map(|sealed| sealed.rows.iter().map(|(minute, key, sums)| (minute, key, sums)));
        for (minute, key, row) in waiting.chain(sealed) {
            let next = asked.edges.partition_point(|edge| edge <= minute);
            if next > 0 && next < asked.edges.len() {
                sums.add_row(next - 1, key, row)?;
            }
        }
        Ok(Moment {
            read: None,
            names: open.names.clone(),
            sums,
            gaps: Vec::new(),
            others: self.counts.others.load(std::sync::atomic::Ordering::Relaxed),
            durable: self.terms.dir.is_some() || self.shared.get().is_some(),
            now: self.minute(),
        })
    }

    /// Answers from Redis, once all that waits here is there. While Redis is away the answer has what waits.
    fn ask_shared(&self, asked: &Question, shared: &Shared) -> Result<Answer, AskError> {
        let mut books = self.hold_patiently()?;
        self.drain();
        if let Err(error) = self.commit_in(&mut books) {
            self.fail(&mut books, &error);
            let mut moment = self.waiting(asked, &books)?;
            moment.gaps.push(format!("{error}: the answer has only what this process has not written yet"));
            let now = moment.now;
            return Ok(moment.into_answer(asked, now));
        }
        books.calm();
        let mut moment = self.waiting(asked, &books)?;
        drop(books);
        let known = shared.known(moment.now)?;
        let begin = Class::Day.begin(known.has.from[Class::Day as usize]);
        let since = known.since.map_or(moment.now, |since| since.max(begin));
        moment.sums = Summing::new(asked, &known.names);
        let (edges, skipped) = clamped(&asked.edges, since.min(known.has.first()), moment.now);
        // Only minutes, hours and days are in Redis.
        let plan = Plan::new(&edges, &known.has, |_| false);
        for piece in &plan.pieces {
            for bucket in piece.from..piece.to {
                let sums = &mut moment.sums;
                shared.rows(&known.names, piece.class, bucket, |key, row| sums.add_row(piece.part + skipped, key, row))?;
            }
        }
        moment.names = Arc::new(known.names);
        moment.note(asked, since, plan.rounded);
        Ok(moment.into_answer(asked, since))
    }
}

/// Tries to read a few times: a commit that fails meanwhile makes the open file unreadable, and the next reading opens it anew.
fn again(mut read: impl FnMut() -> Result<Answer, AskError>) -> Result<Answer, AskError> {
    for _ in 1..READINGS {
        match read() {
            Err(AskError::File(FileError::Redb(_))) => {}
            done => return done,
        }
    }
    read()
}

const READINGS: usize = 3;

fn answer(asked: &Question, mut moment: Moment) -> Result<Answer, AskError> {
    let (mut since, mut rounded) = (moment.now, false);
    if let Some(read) = &moment.read {
        let (has, begun) = known(read)?;
        since = begun;
        let (edges, skipped) = clamped(&asked.edges, begun.min(has.first()), moment.now);
        let views = View::of(|dim| asked.by.contains(&dim) || asked.filters.iter().any(|(filtered, _)| *filtered == dim));
        let view = |class: Class| views.iter().copied().find(|view| class.views().contains(view));
        let plan = Plan::new(&edges, &has, |class| view(class).is_some());
        for piece in &plan.pieces {
            let level = Level(piece.class, view(piece.class).unwrap_or(View::Whole));
            read_piece(read, level, piece, piece.part + skipped, &mut moment.sums)?;
        }
        rounded = plan.rounded;
    }
    moment.note(asked, since, rounded);
    if moment.others > 0 {
        moment.gaps.push(format!("{} other processes have ledgers in the same directory: ask them too", moment.others));
    }
    Ok(moment.into_answer(asked, since))
}

/// Adds the blocks of a piece: all of them, or those that the zones of a filter leave.
fn read_piece(read: &ReadTransaction, level: Level, piece: &Piece, part: usize, sums: &mut Summing) -> Result<(), AskError> {
    let blocks = read.open_table(BLOCKS).map_err(FileError::from)?;
    let (from, to) = (level.place(piece.from), level.place(piece.to));
    if !level.0.has_zones() || !sums.has_zoned_filter() {
        for block in blocks.range(from..to).map_err(FileError::from)? {
            sums.add_chunk(part, &Chunk::read(block.map_err(FileError::from)?.1.value()).map_err(FileError::from)?)?;
        }
        return Ok(());
    }
    let zones = read.open_table(ZONES).map_err(FileError::from)?;
    for row in zones.range(from..to).map_err(FileError::from)? {
        let (bucket, bytes) = row.map_err(FileError::from)?;
        for zone in zone::decode(bytes.value()).map_err(FileError::from)?.iter().filter(|zone| sums.may_have(zone)).collect::<Vec<_>>() {
            let block = blocks.get(bucket.value() | zone.number).map_err(FileError::from)?;
            let block = block.ok_or(FileError::Damaged(super::chunk::Damaged))?;
            sums.add_chunk(part, &Chunk::read(block.value()).map_err(FileError::from)?)?;
        }
    }
    Ok(())
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
        if let Some(class) = Class::of(mark >> 32) {
            has.summed[class as usize].push(mark as u32);
        }
    }
    Ok((has, number(KEY_SINCE)?.max(Class::Day.begin(number(KEY_HORIZON[2])?))))
}

impl Has {
    /// The first minute of which there may be a row.
    fn first(&self) -> u32 {
        self.summed[Class::Day as usize].first().map_or(u32::MAX, |day| Class::Day.begin(*day))
    }
}

/// The edges, as far as there can be rows; and how many parts were left out before them.
fn clamped(edges: &[u32], first: u32, now: u32) -> (Vec<u32>, usize) {
    // A clock that stepped back has left rows of the future: one day of them is looked for.
    let last = now.saturating_add(Class::Day.begin(2));
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

impl Moment {
    /// Notes what the answer lacks.
    fn note(&mut self, asked: &Question, since: u32, rounded: bool) {
        if rounded {
            self.gaps.push("the edges cut hours or days of which only the whole is kept (UTC): each counts where it begins".into());
        }
        if asked.edges.first().is_some_and(|from| *from < since) {
            self.gaps.push(format!("nothing is recorded before {}", asked.time(since)));
        }
    }

    fn into_answer(self, asked: &Question, since: u32) -> Answer {
        let known = self.sums.known();
        let mut total = Sums::default();
        known.iter().for_each(|sums| total.add(sums));
        let groups = self.sums.groups();
        let cursor = |place: &Place| {
            let begin = asked.edges.get(place.part as usize).copied().unwrap_or_default();
            std::iter::once(begin).chain(place.ids[..asked.by.len()].iter().copied()).collect::<Vec<u32>>()
        };
        let begin = asked.after.as_ref().map_or(0, |after| groups.partition_point(|(place, _)| cursor(&self.sums.place(*place)) <= *after));
        let page = &groups[begin..];
        let named = |dim: Dim, id: u32| -> Arc<str> {
            match dim {
                Dim::Outcome => Outcome::ALL.get(id as usize).map_or("", |outcome| outcome.as_str()).into(),
                Dim::Known => Known::ALL.get(id as usize).map_or("", |known| known.as_str()).into(),
                dim => self.names.name(dim as usize, id),
            }
        };
        let row = |(place, group): &(u128, u32)| {
            let place = self.sums.place(*place);
            Group {
                part: (asked.edges[place.part as usize], asked.edges[place.part as usize + 1]),
                names: asked.by.iter().zip(place.ids).map(|(dim, id)| named(*dim, id)).collect(),
                place: cursor(&place),
                sums: self.sums.sums(*group),
            }
        };
        Answer {
            rows: page.iter().take(asked.limit).map(row).collect(),
            more: page.len() > asked.limit,
            total,
            known,
            classes: self.names.classes(),
            since,
            gaps: self.gaps,
            durable: self.durable,
        }
    }
}

#[cfg(test)]
mod again_tests {
    use super::*;

    #[test]
    fn a_file_that_fails_under_the_reading_is_read_again_a_few_times() {
        let broken = || Err(AskError::File(FileError::Redb(redb::Error::PreviousIo)));
        let invalid = || Err(AskError::Invalid("too many rows".into()));
        for (failures, last, readings) in [(1, invalid as fn() -> Result<Answer, AskError>, 2), (9, broken, READINGS), (0, invalid, 1)] {
            let mut asked = 0;
            let answer = again(|| {
                asked += 1;
                if asked <= failures { broken() } else { last() }
            });
            assert!(answer.is_err());
            assert_eq!(asked, readings);
        }
    }
}
