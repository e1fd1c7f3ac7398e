//! Weeks and months, summed up from their days: callers a few at a time, so that a month of many callers does not take much memory.

use redb::ReadableTable as _;

use super::{
    chunk::Chunk,
    entry::{Dim, Key, Sums},
    file::FileError,
    level::{Class, Level, View},
    pages::{Pages, Rows, add},
};

/// Callers that are summed up at once.
const AT_ONCE: u32 = 64;

impl Pages<'_> {
    /// Writes the rows of a week or month from those of its days. Gives whether there were any.
    pub(super) fn sum_days(&mut self, (first, last): (u32, u32), class: Class, bucket: u32) -> Result<bool, FileError> {
        let rest = self.read(Level(Class::Day, View::Rest), first, last)?;
        if rest.is_empty() {
            return Ok(false);
        }
        self.append(Level(class, View::Rest), bucket, &rest)?;
        let mut callers = 0;
        for day in first..last {
            for zone in self.zones_of(Level(Class::Day, View::Callers), day)? {
                callers = callers.max(zone.bounds[0].1 + 1);
            }
        }
        for low in (0..callers).step_by(AT_ONCE as usize) {
            let high = low + AT_ONCE;
            self.sum_callers((first, last), (low, high), class, bucket)?;
        }
        Ok(true)
    }

    fn sum_callers(&mut self, days: (u32, u32), callers: (u32, u32), class: Class, bucket: u32) -> Result<(), FileError> {
        let mut whole = Rows::default();
        for day in days.0..days.1 {
            self.each_of(Level(Class::Day, View::Whole), day, callers, |key, sums| add(&mut whole, key, sums))?;
        }
        for view in class.views().iter().filter(|view| view.has(Dim::Caller)) {
            if *view == View::Whole {
                self.append(Level(class, *view), bucket, &whole)?;
                continue;
            }
            let mut rows = Rows::default();
            whole.iter().for_each(|(key, sums)| add(&mut rows, view.of_key(*key), sums));
            self.append(Level(class, *view), bucket, &rows)?;
        }
        Ok(())
    }

    /// The rows of a bucket that have a caller between two ids.
    fn each_of(&self, level: Level, bucket: u32, (low, high): (u32, u32), mut with: impl FnMut(Key, &Sums)) -> Result<(), FileError> {
        for zone in self.zones_of(level, bucket)? {
            let (first, last) = zone.bounds[0];
            if last < low || first >= high {
                continue;
            }
            let Some(block) = self.blocks.get(level.place(bucket) | zone.number)? else { continue };
            for (key, sums) in Chunk::read(block.value())?.all() {
                if (low..high).contains(&key.at(Dim::Caller)) {
                    with(key, &sums);
                }
            }
        }
        Ok(())
    }
}
