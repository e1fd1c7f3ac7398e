//! Rows in a transaction: written, read, summed up to the next level, dropped.

use std::collections::HashMap;

use redb::{ReadableTable, Table, WriteTransaction};

use super::{
    chunk::{self, Chunk},
    entry::{Dim, Key, Sums},
    file::{BLOCKS, FileError, KEY_BLOCKS, KEY_BYTES, KEY_HORIZON, META, SUMMED},
    level::{Class, Level, View, bucket_of},
};

/// Sums by key, in no order.
pub type Rows = HashMap<Key, Sums, foldhash::fast::RandomState>;

/// Most rows whose places are collected at once to be dropped.
const AT_ONCE: usize = 1_024;

/// The tables of rows in a transaction that writes.
pub struct Pages<'txn> {
    blocks: Table<'txn, u128, &'static [u8]>,
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
        Ok(Self { blocks: txn.open_table(BLOCKS)?, summed: txn.open_table(SUMMED)?, meta, number, bytes })
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

    /// The summed-up buckets, hours before days.
    ///
    /// # Errors
    /// The disk fails.
    pub fn marks(&self) -> Result<Vec<(Class, u32)>, FileError> {
        let mark = |mark: u64| (if mark >> 32 == Class::Day as u64 { Class::Day } else { Class::Hour }, mark as u32);
        Ok(self.summed.iter()?.map(|row| row.map(|(key, _)| mark(key.value()))).collect::<Result<_, _>>()?)
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
        let mut sorted: Vec<(Key, Sums)> = rows.iter().map(|(key, sums)| (*key, *sums)).collect();
        sorted.sort_unstable_by_key(|row| row.0);
        let mut rest = &sorted[..];
        while let ([first, ..], (bytes, count)) = (rest, chunk::encode(rest)) {
            let callers = (first.0.at(Dim::Caller), rest[count - 1].0.at(Dim::Caller));
            loop {
                self.number += 1;
                let place = level.block(bucket, callers, self.number);
                if self.blocks.get(place)?.is_none() {
                    self.bytes += bytes.len() as u64;
                    self.blocks.insert(place, &*bytes)?;
                    break;
                }
            }
            rest = &rest[count..];
        }
        Ok(())
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
        self.append(Level(class, View::Whole), bucket, rows)?;
        if class == Class::Day {
            for view in [View::Callers, View::Rest] {
                let mut masked = Rows::default();
                rows.iter().for_each(|(key, sums)| add(&mut masked, view.of_key(*key), sums));
                self.append(Level(class, view), bucket, &masked)?;
            }
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
                let bytes = self.blocks.remove(place)?.map_or(0, |block| block.value().len() as u64);
                self.bytes = self.bytes.saturating_sub(bytes);
            }
        }
    }

    /// Sums up an hour from its minutes, or a day from its hours. Does nothing if that is done.
    ///
    /// # Errors
    /// The disk fails, or a block is damaged.
    pub fn sum_up(&mut self, class: Class, bucket: u32) -> Result<(), FileError> {
        if class == Class::Minute || self.is_summed(class, bucket)? {
            return Ok(());
        }
        let finer = if class == Class::Hour { Class::Minute } else { Class::Hour };
        let share = class.minutes() / finer.minutes();
        let (from, to) = (bucket * share, (bucket + 1) * share);
        for part in from..to {
            match finer {
                Class::Hour => self.sum_up(finer, part)?,
                _ => self.tighten(Level(finer, View::Whole), part)?,
            }
        }
        let rows = self.read(Level(finer, View::Whole), from, to)?;
        if !rows.is_empty() {
            self.append_views(class, bucket, &rows)?;
            self.summed.insert(mark(class, bucket), ())?;
        }
        Ok(())
    }

    /// Writes the blocks of one bucket anew, in as few as they need: each commit has added one.
    fn tighten(&mut self, level: Level, bucket: u32) -> Result<(), FileError> {
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
        let finer = Level(if class == Class::Hour { Class::Minute } else { Class::Hour }, View::Whole);
        let share = class.minutes() / finer.0.minutes();
        let mut at = 0;
        while at < now {
            let Some(block) = self.blocks.range(finer.place(at * share)..finer.place(now * share))?.next() else { return Ok(None) };
            let bucket = bucket_of(block?.0.value()) / share;
            if !self.is_summed(class, bucket)? {
                return Ok(Some(bucket));
            }
            at = bucket + 1;
        }
        Ok(None)
    }

    /// Drops the buckets of a class below `horizon`; minutes and hours only as far as the next level has them. Gives whether any was there.
    ///
    /// # Errors
    /// The disk fails.
    pub fn drop_before(&mut self, class: Class, horizon: u32) -> Result<bool, FileError> {
        let key = KEY_HORIZON[class as usize];
        let before = self.get(key)?.unwrap_or(0);
        let before = u32::try_from(before).unwrap_or(u32::MAX);
        let horizon = match class {
            Class::Minute => horizon / 60 * 60,
            Class::Hour => horizon / 24 * 24,
            Class::Day => horizon,
        };
        let coarser = match class {
            Class::Minute => self.due(Class::Hour, horizon / 60)?.map(|hour| hour * 60),
            Class::Hour => self.due(Class::Day, horizon / 24)?.map(|day| day * 24),
            Class::Day => None,
        };
        let horizon = coarser.unwrap_or(horizon);
        let views: &[View] = if class == Class::Day { &View::ALL } else { &[View::Whole] };
        let had = self.has(Level(class, View::Whole), 0, horizon)?;
        for view in views {
            self.drop_blocks(Level(class, *view), 0, horizon)?;
        }
        if class != Class::Minute {
            self.summed.retain_in(mark(class, 0)..mark(class, horizon), |_, ()| false)?;
        }
        if horizon > before && had {
            self.set(key, u64::from(horizon))?;
        }
        Ok(had)
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
