//! Reading the shared ledger: the names, and the buckets that a question needs, one after the other.

use super::{Shared, push::WORDS};
use crate::store::ledger::{
    FileError,
    entry::{DIMS, FIXED, Key, Sums, class_names},
    level::Class,
    names::{CLASS, KINDS, Names, Row},
    plan::Has,
};

/// What Redis knows beside the buckets.
pub struct Known {
    /// The names.
    pub names: Names,
    /// What there is.
    pub has: Has,
    /// The minute from which on it records; `None`: nothing was recorded yet.
    pub since: Option<u32>,
}

impl Shared {
    /// The names, and what there is at the minute `now`.
    ///
    /// # Errors
    /// Redis is away or refuses.
    pub fn known(&self, now: u32) -> Result<Known, FileError> {
        let mut rows = Vec::new();
        for (field, name) in pairs(&self.hash(self.at("names"))?) {
            let Some((kind, id)) = field.split_once(':').and_then(|(kind, id)| Some((kind.parse().ok()?, id.parse().ok()?))) else {
                continue;
            };
            rows.push(Row { kind, id, name: Some(name.into()) });
        }
        rows.sort_unstable_by_key(|row| (row.kind, row.id));
        let mut names = Names::new(usize::MAX);
        rows.into_iter().for_each(|row| names.put(row));
        // Rows name the classes of tokens by word. One that only a newer version knows is left out.
        names.slots(&class_names());
        let meta = self.hash(self.at("meta"))?;
        // The last id may be that of an erased name.
        for (kind, count) in pairs(&meta).filter_map(|(field, count)| Some((field.strip_prefix("next:")?, count))) {
            if let (Ok(kind), Ok(count)) = (kind.parse::<usize>(), count.parse::<u32>())
                && kind < KINDS
                && names.len(kind) < count as usize + 2
            {
                names.put(Row { kind, id: count + 1, name: None });
            }
        }
        let since = pairs(&meta).find(|(field, _)| *field == "since").and_then(|(_, minute)| minute.parse::<u32>().ok());
        Ok(Known { names, has: self.has(since.unwrap_or(now), now), since })
    }

    /// The buckets between `since` and `now` that Redis has not dropped.
    fn has(&self, since: u32, now: u32) -> Has {
        let mut has = Has::default();
        // Clocks of other replicas may be ahead.
        let last = now.saturating_add(Class::Day.begin(2));
        for class in Class::KEPT {
            let kept = now.saturating_sub(u32::try_from(self.keep[class as usize]).unwrap_or(u32::MAX));
            // The first whole bucket, at a day's begin: what is finer than it is there too.
            let first = Class::Day.begin(Class::Day.bucket(kept) + u32::from(kept > 0));
            has.from[class as usize] = class.bucket(first);
            if class != Class::Minute {
                has.summed[class as usize] = (class.bucket(first.max(since))..=class.bucket(last)).collect();
            }
        }
        has
    }

    /// Gives each row of a bucket to `with`.
    ///
    /// # Errors
    /// Redis is away or refuses, or `with` fails.
    pub fn rows<E: From<FileError>>(
        &self,
        names: &Names,
        class: Class,
        bucket: u32,
        mut with: impl FnMut(&Key, &Sums) -> Result<(), E>,
    ) -> Result<(), E> {
        let held = self.hash(self.bucket(class, bucket))?;
        for (field, value) in pairs(&held) {
            let mut key = [0; DIMS];
            for (place, id) in key.iter_mut().zip(field.split(',')) {
                *place = id.parse().unwrap_or(0);
            }
            let mut sums = Sums::default();
            for (word, value) in value.split(',').filter_map(|pair| pair.split_once(':')) {
                let fixed = WORDS.iter().position(|known| *known == word);
                let class = || names.find(CLASS, word).and_then(|id| (id as usize).checked_sub(2)).map(|slot| FIXED + slot);
                if let Some(sum) = fixed.or_else(class).and_then(|at| sums.0.get_mut(at)) {
                    *sum = sum.saturating_add(value.parse().unwrap_or(0));
                }
            }
            with(&Key(key), &sums)?;
        }
        Ok(())
    }
}

/// The fields and values of a hash. What is no text is left out: the ledger writes none.
fn pairs(held: &[Vec<u8>]) -> impl Iterator<Item = (&str, &str)> {
    held.as_chunks::<2>().0.iter().filter_map(|[field, value]| Some((str::from_utf8(field).ok()?, str::from_utf8(value).ok()?)))
}
