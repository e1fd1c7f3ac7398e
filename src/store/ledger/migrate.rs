//! Files of older formats are brought to this one when they are opened, in one transaction: a crash leaves the older file.
//!
//! | from | what changes |
//! |---|---|
//! | 1 | days get zones, and rows in the order of zones; the view of callers gets provider, tier and outcome |
//!
//! Weeks and months, new with format 2, are summed up by the next look at what is due.

use redb::{ReadableTable as _, WriteTransaction};

use super::{
    file::{FORMAT, FileError, KEY_FORMAT},
    level::{Class, Level, View, bucket_of, place},
    pages::{Pages, Rows, add},
};

/// Brings a file of format `found` to [`FORMAT`].
///
/// # Errors
/// The disk fails, a block is damaged, or there was no such format.
pub(super) fn migrate(txn: &WriteTransaction, found: u64) -> Result<(), FileError> {
    match found {
        FORMAT => return Ok(()),
        1 => {}
        older => return Err(FileError::Other(format!("there was no format {older}"))),
    }
    let mut pages = Pages::open(txn)?;
    let whole = Level(Class::Day, View::Whole);
    let mut next = 0;
    while let Some(day) = first(&pages, whole.place(next), whole.place(u32::MAX))? {
        let (mut rows, mut callers) = (Rows::default(), Rows::default());
        for (key, sums) in pages.take(whole.place(day), whole.place(day + 1))? {
            add(&mut callers, View::Callers.of_key(key), &sums);
            add(&mut rows, key, &sums);
        }
        pages.append(whole, day, &rows)?;
        pages.append(Level(Class::Day, View::Callers), day, &callers)?;
        let rest = Level(Class::Day, View::Rest);
        let mut rows = Rows::default();
        pages.take(rest.place(day), rest.place(day + 1))?.iter().for_each(|(key, sums)| add(&mut rows, *key, sums));
        pages.append(rest, day, &rows)?;
        let former = |day| place(Class::Day as u8, View::FORMER_CALLERS, day);
        pages.take(former(day), former(day + 1))?;
        next = day + 1;
    }
    pages.set(KEY_FORMAT, FORMAT)?;
    pages.close()
}

/// The first bucket between two places.
fn first(pages: &Pages<'_>, from: u128, to: u128) -> Result<Option<u32>, FileError> {
    Ok(pages.blocks.range(from..to)?.next().transpose()?.map(|(place, _)| bucket_of(place.value())))
}
