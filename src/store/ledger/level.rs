//! The levels of the ledger: minutes, hours and days; and days once more with fewer dimensions, for questions that need no more.
//!
//! A bucket is a minute, hour or day by its number since 1970 (UTC). An hour or day is *summed up* once its rows exist. The rows are then
//! the sum of all calls in the bucket, late calls included. A question reads the coarsest level that has the answer.

use super::entry::{DIMS, Dim, Key};

/// A length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    /// Minutes.
    Minute = 0,
    /// Hours.
    Hour = 1,
    /// Days (UTC).
    Day = 2,
}

impl Class {
    /// Every class, the finest first.
    pub const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    /// Minutes in one bucket.
    pub const fn minutes(self) -> u32 {
        match self {
            Self::Minute => 1,
            Self::Hour => 60,
            Self::Day => 1_440,
        }
    }

    /// The bucket of a minute.
    pub const fn bucket(self, minute: u32) -> u32 {
        minute / self.minutes()
    }

    /// The word used in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

/// Which dimensions the rows of a level have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum View {
    /// All.
    Whole = 0,
    /// The caller, and how figures are known.
    Callers = 1,
    /// All but the caller.
    Rest = 2,
}

impl View {
    /// Every view of days.
    pub const ALL: [Self; 3] = [Self::Whole, Self::Callers, Self::Rest];

    /// Whether its rows have the dimension.
    pub const fn has(self, dim: Dim) -> bool {
        match self {
            Self::Whole => true,
            Self::Callers => matches!(dim, Dim::Caller | Dim::Known),
            Self::Rest => !matches!(dim, Dim::Caller),
        }
    }

    /// The smallest view with all of these dimensions.
    pub fn of(needed: impl Fn(Dim) -> bool) -> Self {
        let fits = |view: &Self| Dim::ALL.into_iter().all(|dim| !needed(dim) || view.has(dim));
        [Self::Callers, Self::Rest].into_iter().find(fits).unwrap_or(Self::Whole)
    }

    /// A key without the dimensions that the view does not have.
    pub fn of_key(self, key: Key) -> Key {
        let mut out = [0; DIMS];
        for dim in Dim::ALL.into_iter().filter(|dim| self.has(*dim)) {
            out[dim as usize] = key.at(dim);
        }
        Key(out)
    }
}

/// A class of buckets with a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level(pub Class, pub View);

impl Level {
    /// The lowest place of a bucket's blocks. Places sort by level, bucket, and first caller.
    pub fn place(self, bucket: u32) -> u128 {
        (u128::from(self.0 as u8) << 4 | u128::from(self.1 as u8)) << 120 | u128::from(bucket) << 88
    }

    /// The place of a block: its bucket, the lowest and highest caller in it, and a number that keeps places apart.
    pub fn block(self, bucket: u32, callers: (u32, u32), number: u64) -> u128 {
        self.place(bucket) | u128::from(callers.0) << 56 | u128::from(callers.1) << 24 | u128::from(number & 0xff_ffff)
    }
}

/// The bucket of a place.
pub fn bucket_of(place: u128) -> u32 {
    (place >> 88) as u32
}

/// The lowest and highest caller in the block at a place.
pub fn callers_of(place: u128) -> (u32, u32) {
    ((place >> 56) as u32, (place >> 24) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_sort_by_level_bucket_and_caller() {
        let minute = Level(Class::Minute, View::Whole);
        let day = |view| Level(Class::Day, view);
        let places = [
            minute.place(0),
            minute.block(7, (0, 9), 3),
            minute.block(7, (1, 1), 1),
            minute.place(u32::MAX),
            day(View::Whole).block(7, (3, u32::MAX), u64::MAX),
            day(View::Callers).place(0),
        ];
        assert!(places.is_sorted(), "{places:x?}");
        assert_eq!((bucket_of(places[4]), callers_of(places[4])), (7, (3, u32::MAX)));
    }

    #[test]
    fn a_question_takes_the_smallest_view_that_has_its_dimensions() {
        for (dims, view) in [
            (&[][..], View::Callers),
            (&[Dim::Caller], View::Callers),
            (&[Dim::Model, Dim::Known], View::Rest),
            (&[Dim::Caller, Dim::Model], View::Whole),
        ] {
            assert_eq!(View::of(|dim| dims.contains(&dim)), view, "{dims:?}");
        }
    }
}
