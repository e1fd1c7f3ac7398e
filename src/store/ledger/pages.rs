//! Rows in a transaction: written, read, summed up to the next level, dropped.

use std::collections::HashMap;

use redb::{ReadableTable, Table, WriteTransaction};

use super::{
    chunk::{self, Chunk},
    entry::{Key, Sums},
    file::{BLOCKS, FileError, KEY_BLOCKS, KEY_BYTES, KEY_HORIZON, META, SUMMED, ZONES},
    level::{Class, Level, View, bucket_of},
    zone::{self, ZONED, Zone},
};

/// Sums by key, in no order.
pub type Rows = HashMap<Key, Sums, foldhash::fast::RandomState>;

/// Most rows whose places are collected at once to be dropped.
const AT_ONCE: usize = 1_024;
/// Rows below which what was added at once counts as little.
const SMALL: usize = 256;
/// How often little may be added to a bucket until the bucket is written anew.
const MOST_SMALL: usize = 16;

/// The tables of rows in a transaction that writes.
pub struct Pages<'txn> {
    pub(super) blocks: Table<'txn, u128, &'static [u8]>,
    zones: Table<'txn, u128, &'static [u8]>,
    summed: Table<'txn, u64, ()>,
    meta: Table<'txn, &'static str, u64>,
    number: u64,
    bytes: u64,
}

/// The mark of a summed-up bucket.
pub(super) fn mark(class: Class, bucket: u32) -> u64 {
    (class as u64) << 32 | u64::from(bucket)
}

/// Adds sums under a key.
pub fn add(rows: &mut Rows, key: Key, sums: &Sums) {
    rows.entry(key).or_default().add(sums);
}

impl<'txn> Pages<'txn> {
    /// The tables of `txn`.
    ///
    /// # Errors
    /// The disk fails.
    pub fn open(txn: &'txn WriteTransaction) -> Result<Self, FileError> {
        let meta = txn.open_table(META)?;
        let number = meta.get(KEY_BLOCKS)?.map(|value| value.value()).unwrap_or(0);
        let bytes = meta.get(KEY_BYTES)?.map(|value| value.value()).unwrap_or(0);
        let (blocks, zones) = (txn.open_table(BLOCKS)?, txn.open_table(ZONES)?);
        Ok(Self { blocks, zones, summed: txn.open_table(SUMMED)?, meta, number, bytes })
    }

    /// Writes a number of `meta`.
    ///
    /// # Errors
    /// The disk fails.
    pub fn set(&mut self, key: &'static str, value: u64) -> Result<(), FileError> {
        self.meta.insert(key, value)?;
        Ok(())
    }

    /// A number of `meta`.
    ///
    /// # Errors
    /// The disk fails.
    pub fn get(&self, key: &'static str) -> Result<Option<u64>, FileError> {
        Ok(self.meta.get(key)?.map(|value| value.value()))
    }

    /// Writes the counters of blocks; the last act before a commit.
    ///
    /// # Errors
    /// The disk fails.
    pub fn close(mut self) -> Result<(), FileError> {
        let (number, bytes) = (self.number, self.bytes);
        self.set(KEY_BLOCKS, number)?;
        self.set(KEY_BYTES, bytes)
    }

    /// Bytes of all blocks.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The summed-up buckets, the finest first.
    ///
    /// # Errors
    /// The disk fails.
    pub fn marks(&self) -> Result<Vec<(Class, u32)>, FileError> {
        let marks = self.summed.iter()?.map(|row| row.map(|(key, _)| key.value())).collect::<Result<Vec<_>, _>>()?;
        Ok(marks.into_iter().filter_map(|mark| Some((Class::of(mark >> 32)?, mark as u32))).collect())
    }

    /// Marks a bucket as summed up: its rows come with it.
    ///
    /// # Errors
    /// The disk fails.
    pub fn set_mark(&mut self, class: Class, bucket: u32) -> Result<(), FileError> {
        self.summed.insert(mark(class, bucket), ())?;
        Ok(())
    }

    /// Whether a bucket is summed up.
    ///
    /// # Errors
    /// The disk fails.
    pub fn is_summed(&self, class: Class, bucket: u32) -> Result<bool, FileError> {
        Ok(self.summed.get(mark(class, bucket))?.is_some())
    }

    /// Adds rows of one bucket to a level.
    ///
    /// # Errors
    /// The disk fails.
    pub fn append(&mut self, level: Level, bucket: u32, rows: &Rows) -> Result<(), FileError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut rows: Vec<(Key, Sums)> = rows.iter().map(|(key, sums)| (*key, *sums)).collect();
        let parts = if level.0.has_zones() { chunk::parts(&rows) } else { 1 };
        // A month's rows come by a few callers at a time (see `rollup.rs`).
        let dims = if level == Level(Class::Month, View::Whole) { &ZONED[1..] } else { &ZONED[..] };
        let runs = zone::arrange(&mut rows, parts, dims);
        let mut zones = Vec::new();
        let mut rest = &rows[..];
        for run in runs {
            let (mut run, others) = rest.split_at(run);
            rest = others;
            while !run.is_empty() {
                let (bytes, count) = chunk::encode(run);
                let place = self.put(level, bucket, &bytes)?;
                zones.push(Zone::of(place ^ level.place(bucket), run[..count].iter().map(|row| &row.0)));
                run = &run[count..];
            }
        }
        if level.0.has_zones() { self.note(level, bucket, zones) } else { Ok(()) }
    }

    /// Writes a block. Gives its place.
    fn put(&mut self, level: Level, bucket: u32, bytes: &[u8]) -> Result<u128, FileError> {
        loop {
            self.number += 1;
            let place = level.block(bucket, self.number);
            if self.blocks.get(place)?.is_none() {
                self.bytes += bytes.len() as u64;
                self.blocks.insert(place, bytes)?;
                return Ok(place);
            }
        }
    }

    /// Adds zones of new blocks. Late calls come in small blocks: many of them are written anew as one.
    fn note(&mut self, level: Level, bucket: u32, fresh: Vec<Zone>) -> Result<(), FileError> {
        let mut zones = self.zones_of(level, bucket)?;
        zones.extend(fresh);
        if zone::appended(&zones).filter(|rows| *rows < SMALL).count() > MOST_SMALL {
            return self.tighten(level, bucket);
        }
        self.zones.insert(level.place(bucket), &*zone::encode(&zones))?;
        Ok(())
    }

    /// The zones of a bucket.
    ///
    /// # Errors
    /// The disk fails, or they are damaged.
    pub fn zones_of(&self, level: Level, bucket: u32) -> Result<Vec<Zone>, FileError> {
        let held = self.zones.get(level.place(bucket))?;
        Ok(held.map_or(Ok(Vec::new()), |bytes| zone::decode(bytes.value()))?)
    }

    /// Adds what was counted: to its minutes, and to the hours and days that are summed up already.
    ///
    /// # Errors
    /// The disk fails.
    pub fn record(&mut self, counted: &[(u32, Key, Sums)]) -> Result<(), FileError> {
        for class in Class::ALL {
            let mut buckets: HashMap<u32, Rows> = HashMap::new();
            for (minute, key, sums) in counted {
                add(buckets.entry(class.bucket(*minute)).or_default(), *key, sums);
            }
            for (bucket, rows) in buckets {
                if class == Class::Minute || self.is_summed(class, bucket)? {
                    self.append_views(class, bucket, &rows)?;
                }
            }
        }
        Ok(())
    }

    fn append_views(&mut self, class: Class, bucket: u32, rows: &Rows) -> Result<(), FileError> {
        for view in class.views() {
            if *view == View::Whole {
                self.append(Level(class, *view), bucket, rows)?;
                continue;
            }
            let mut masked = Rows::default();
            rows.iter().for_each(|(key, sums)| add(&mut masked, view.of_key(*key), sums));
            self.append(Level(class, *view), bucket, &masked)?;
        }
        Ok(())
    }

    /// The sums of some buckets, `from..to`.
    ///
    /// # Errors
    /// The disk fails, or a block is damaged.
    pub fn read(&self, level: Level, from: u32, to: u32) -> Result<Rows, FileError> {
        let mut rows = Rows::default();
        for block in self.blocks.range(level.place(from)..level.place(to))? {
            Chunk::read(block?.1.value())?.all().iter().for_each(|(key, sums)| add(&mut rows, *key, sums));
        }
        Ok(rows)
    }

    /// Whether there is a block in some buckets, `from..to`.
    fn has(&self, level: Level, from: u32, to: u32) -> Result<bool, FileError> {
        Ok(self.blocks.range(level.place(from)..level.place(to))?.next().transpose()?.is_some())
    }

    /// Takes all rows between two places out of the file, whatever level they are of. Zones stay.
    ///
    /// # Errors
    /// The disk fails, or a block is damaged.
    pub(super) fn take(&mut self, from: u128, to: u128) -> Result<Vec<(Key, Sums)>, FileError> {
        let mut rows = Vec::new();
        let mut places = Vec::new();
        for block in self.blocks.range(from..to)? {
            let (place, bytes) = block?;
            rows.extend(Chunk::read(bytes.value())?.all());
            places.push(place.value());
            self.bytes = self.bytes.saturating_sub(bytes.value().len() as u64);
        }
        for place in places {
            self.blocks.remove(place)?;
        }
        Ok(rows)
    }

    /// Drops the blocks of some buckets, `from..to`.
    ///
    /// # Errors
    /// The disk fails.
    pub fn drop_blocks(&mut self, level: Level, from: u32, to: u32) -> Result<(), FileError> {
        loop {
            let some = self.blocks.range(level.place(from)..level.place(to))?.take(AT_ONCE);
            let places = some.map(|block| block.map(|(place, _)| place.value())).collect::<Result<Vec<_>, _>>()?;
            if places.is_empty() {
                return Ok(());
            }
            for place in places {
                if level.0.has_zones() {
                    self.zones.remove(level.place(bucket_of(place)))?;
                }
                let bytes = self.blocks.remove(place)?.map_or(0, |block| block.value().len() as u64);
                self.bytes = self.bytes.saturating_sub(bytes);
            }
        }
    }

    /// Sums up an hour from its minutes, a day from its hours, or a week or month from its days. Does nothing if that is done.
    ///
    /// # Errors
    /// The disk fails, or a block is damaged.
    pub fn sum_up(&mut self, class: Class, bucket: u32) -> Result<(), FileError> {
        if class == Class::Minute || self.is_summed(class, bucket)? {
            return Ok(());
        }
        let finer = class.finer();
        let (from, to) = (finer.bucket(class.begin(bucket)), finer.bucket(class.end(bucket)));
        for part in from..to {
            match finer {
                Class::Minute => self.tighten(Level(finer, View::Whole), part)?,
                _ => self.sum_up(finer, part)?,
            }
        }
        let has_rows = if finer == Class::Day {
            self.sum_days((from, to), class, bucket)?
        } else {
            let rows = self.read(Level(finer, View::Whole), from, to)?;
            self.append_views(class, bucket, &rows)?;
            !rows.is_empty()
        };
        if has_rows {
            self.summed.insert(mark(class, bucket), ())?;
        }
        Ok(())
    }

    /// Writes the blocks of one bucket anew, in as few as they need: each commit has added one.
    pub(super) fn tighten(&mut self, level: Level, bucket: u32) -> Result<(), FileError> {
        if self.blocks.range(level.place(bucket)..level.place(bucket + 1))?.take(2).count() < 2 {
            return Ok(());
        }
        let rows = self.read(level, bucket, bucket + 1)?;
        self.drop_blocks(level, bucket, bucket + 1)?;
        self.append(level, bucket, &rows)
    }

    /// The first bucket of a class below `now` that has finer rows and is not summed up.
    ///
    /// # Errors
    /// The disk fails.
    pub fn due(&self, class: Class, now: u32) -> Result<Option<u32>, FileError> {
        let finer = Level(class.finer(), View::Whole);
        let mut at = 0;
        if finer.0 == Class::Day {
            // A week or month that lacks dropped days is not summed up again.
            let kept = Class::Day.begin(self.horizon(Class::Day)?);
            at = class.bucket(kept);
            at += u32::from(class.begin(at) < kept);
        }
        let part = |bucket: u32| finer.0.bucket(class.begin(bucket));
        while at < now {
            let Some(block) = self.blocks.range(finer.place(part(at))..finer.place(part(now)))?.next() else { return Ok(None) };
            let bucket = class.bucket(finer.0.begin(bucket_of(block?.0.value())));
            if !self.is_summed(class, bucket)? {
                return Ok(Some(bucket));
            }
            at = bucket + 1;
        }
        Ok(None)
    }

    /// The first bucket of a class that was not dropped.
    fn horizon(&self, class: Class) -> Result<u32, FileError> {
        Ok(u32::try_from(self.get(KEY_HORIZON[class as usize])?.unwrap_or(0)).unwrap_or(u32::MAX))
    }

    /// Drops the buckets of minutes, hours or days below `horizon`; minutes and hours only as far as the next level has them, and with
    /// days the weeks and months that lack one of them. Gives whether any was there.
    ///
    /// # Errors
    /// The disk fails.
    pub fn drop_before(&mut self, class: Class, horizon: u32) -> Result<bool, FileError> {
        let before = self.horizon(class)?;
        let coarser = if class == Class::Minute { Class::Hour } else { Class::Day };
        let mut horizon = horizon;
        if class != Class::Day {
            let whole = coarser.bucket(class.begin(horizon));
            let last = self.due(coarser, whole)?.unwrap_or(whole);
            horizon = class.bucket(coarser.begin(last));
        }
        let had = self.has(Level(class, View::Whole), 0, horizon)?;
        self.drop_class(class, horizon)?;
        if class == Class::Day {
            for longer in [Class::Week, Class::Month] {
                let kept = class.begin(horizon);
                let whole = longer.bucket(kept);
                self.drop_class(longer, whole + u32::from(longer.begin(whole) < kept))?;
            }
        }
        if horizon > before && had {
            self.set(KEY_HORIZON[class as usize], u64::from(horizon))?;
        }
        Ok(had)
    }

    fn drop_class(&mut self, class: Class, horizon: u32) -> Result<(), FileError> {
        for view in class.views() {
            self.drop_blocks(Level(class, *view), 0, horizon)?;
        }
        if class != Class::Minute {
            self.summed.retain_in(mark(class, 0)..mark(class, horizon), |_, ()| false)?;
        }
        Ok(())
    }

    /// The first bucket of a class that has rows.
    ///
    /// # Errors
    /// The disk fails.
    pub fn first(&self, class: Class) -> Result<Option<u32>, FileError> {
        let level = Level(class, View::Whole);
        let first = self.blocks.range(level.place(0)..level.place(u32::MAX))?.next().transpose()?;
        Ok(first.map(|(place, _)| bucket_of(place.value())))
    }
}
