//! A batch of rows on its way to Redis.

use std::{collections::HashMap, sync::Arc};

use super::{Lua, REMEMBERED, Shared, away};
use crate::store::ledger::{
    FileError, Sealed,
    entry::{Dim, FIXED, Key, Sums},
    level::Class,
    names::{KINDS, Names},
};

/// Words of the measures before the classes of tokens, in the order of [`Sums`]. Classes have their own names.
pub(super) const WORDS: [&str; FIXED] = ["n", "u", "usd", "susd", "stok"];
/// Most rows of a batch: the script takes a few milliseconds of Redis for them.
pub const BATCH: usize = 100;

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// Redis did not know of batches before this one that it had confirmed: it was emptied, or an older copy took over.
    pub lost: bool,
    /// Calls that were added up without their caller: a bucket has as many rows as it may have.
    pub folded: u64,
}

/// Names and buckets of a batch, each once.
#[derive(Default)]
struct Batch {
    names: Vec<(usize, Arc<str>, u32)>,
    places: HashMap<(usize, u32), usize>,
    buckets: Vec<(Class, u32)>,
    by_bucket: HashMap<(Class, u32), usize>,
}

impl Batch {
    fn name(&mut self, names: &Names, kind: usize, id: u32, minute: u32) -> usize {
        let place = *self.places.entry((kind, id)).or_insert_with(|| {
            self.names.push((kind, names.name(kind, id), minute));
            self.names.len()
        });
        let last = &mut self.names[place - 1].2;
        *last = (*last).max(minute);
        place
    }

    fn bucket(&mut self, class: Class, bucket: u32) -> usize {
        *self.by_bucket.entry((class, bucket)).or_insert_with(|| {
            self.buckets.push((class, bucket));
            self.buckets.len()
        })
    }

    /// A row as the script takes it: ids, buckets, calls, sums.
    fn row(&mut self, names: &Names, minute: u32, key: &Key, sums: &Sums) -> [String; 4] {
        let mut ids = Vec::new();
        for dim in Dim::ALL {
            ids.push(match dim {
                Dim::Outcome | Dim::Known => format!("={}", key.at(dim)),
                dim => self.name(names, dim as usize, key.at(dim), minute).to_string(),
            });
        }
        let buckets = Class::KEPT.map(|class| self.bucket(class, class.bucket(minute)).to_string());
        let classes = names.classes();
        let words = WORDS.into_iter().chain(classes.iter().map(|class| &**class));
        let sums: Vec<String> = words.zip(sums.0).filter(|(_, value)| *value > 0).map(|(word, value)| format!("{word}:{value}")).collect();
        let calls = sums.first().and_then(|first| first.strip_prefix("n:")).unwrap_or("0").to_owned();
        [ids.join(","), buckets.join(","), calls, sums.join(",")]
    }
}

impl Shared {
    /// Adds a batch, once: the batch of a number that was added before is left out.
    ///
    /// # Errors
    /// Redis is away or refuses. It may have added the batch: the same batch is pushed again under the same number.
    pub(in crate::store::ledger) fn push(&self, batch: &Sealed, names: &Names) -> Result<Pushed, FileError> {
        let mut seen = Batch::default();
        let rows: Vec<[String; 4]> = batch.rows.iter().map(|(minute, key, sums)| seen.row(names, *minute, key, sums)).collect();
        let first = batch.rows.iter().map(|(minute, ..)| *minute).min().unwrap_or(u32::MAX);
        let mut keys: Vec<String> = ["meta", "ids", "names", "gone"].map(|rest| self.at(rest)).into();
        keys.push(self.at(&format!("seq:{}", self.process)));
        keys.extend(seen.buckets.iter().map(|(class, bucket)| self.bucket(*class, *bucket)));
        let mut args: Vec<Vec<u8>> = Vec::new();
        let mut say = |word: &str| args.push(word.as_bytes().to_vec());
        for number in [batch.sequence, REMEMBERED, u64::from(first), seen.names.len() as u64, seen.buckets.len() as u64] {
            say(&number.to_string());
        }
        for (kind, name, last) in &seen.names {
            debug_assert!(*kind < KINDS);
            say(&kind.to_string());
            say(name);
            say(&names.most(*kind).to_string());
            say(&last.to_string());
        }
        for (class, bucket) in &seen.buckets {
            let ends = u64::from(class.end(*bucket)) + self.keep[*class as usize];
            say(&(ends * 60_000).to_string());
            say(&self.most[*class as usize].to_string());
        }
        rows.iter().flatten().for_each(|word| say(word));
        let said = self.remote.run(Lua::Push, keys, args).map_err(away)?;
        let number = |at: usize| said.get(at).and_then(|word| std::str::from_utf8(word).ok()?.parse::<u64>().ok());
        let (Some(before), Some(folded)) = (number(0), number(1)) else {
            return Err(away("the answer of the script cannot be read".to_owned()));
        };
        Ok(Pushed { lost: before + 1 < batch.sequence, folded })
    }
}
