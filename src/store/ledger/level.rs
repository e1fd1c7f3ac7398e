//! The levels of the ledger: minutes, hours, days, weeks and months; from days on once more with fewer dimensions, for questions that need
//! no more.
//!
//! A bucket is a minute, hour, day, week (from Monday) or month by its number since 1970 (UTC). A bucket is *summed up* once its rows
//! exist. The rows are then the sum of all calls in the bucket, late calls included. A question reads the coarsest level that has the
//! answer: a year of days is a dozen months.

use jiff::{Timestamp, civil, tz::TimeZone};

use super::entry::{DIMS, Dim, Key};

/// A length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    /// Minutes.
    Minute = 0,
    /// Hours.
    Hour = 1,
    /// Days (UTC).
    Day = 2,
    /// Weeks from Monday (UTC).
    Week = 3,
    /// Months of the calendar (UTC).
    Month = 4,
}

const HOUR: u32 = 60;
const DAY: u32 = 1_440;
/// The days between a Monday and the first day of 1970, a Thursday.
const THURSDAY: u32 = 3;

impl Class {
    /// Every class, the finest first.
    pub const ALL: [Self; 5] = [Self::Minute, Self::Hour, Self::Day, Self::Week, Self::Month];
    /// The classes that are kept for a time of their own. Weeks and months are kept for as long as their days.
    pub const KEPT: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];
    /// The classes that are summed up, in the order in which that is done.
    pub const SUMMED: [Self; 4] = [Self::Hour, Self::Day, Self::Week, Self::Month];

    /// The class of this number.
    pub fn of(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|class| *class as u64 == number)
    }

    /// The bucket of a minute.
    pub fn bucket(self, minute: u32) -> u32 {
        match self {
            Self::Minute => minute,
            Self::Hour => minute / HOUR,
            Self::Day => minute / DAY,
            Self::Week => (minute / DAY + THURSDAY) / 7,
            Self::Month => month(minute),
        }
    }

    /// The first minute of a bucket.
    pub fn begin(self, bucket: u32) -> u32 {
        match self {
            Self::Minute => bucket,
            Self::Hour => bucket.saturating_mul(HOUR),
            Self::Day => bucket.saturating_mul(DAY),
            Self::Week => bucket.saturating_mul(7).saturating_sub(THURSDAY).saturating_mul(DAY),
            Self::Month => month_begin(bucket),
        }
    }

    /// The minute after the last of a bucket.
    pub fn end(self, bucket: u32) -> u32 {
        self.begin(bucket.saturating_add(1))
    }

    /// The class from which this one is summed up.
    pub fn finer(self) -> Self {
        match self {
            Self::Minute | Self::Hour => Self::Minute,
            Self::Day => Self::Hour,
            Self::Week | Self::Month => Self::Day,
        }
    }

    /// The views that rows of this class are kept in.
    pub fn views(self) -> &'static [View] {
        match self {
            Self::Minute | Self::Hour => &[View::Whole],
            Self::Day => &[View::Whole, View::Callers, View::Rest],
            Self::Week => &[View::Callers, View::Rest, View::Models, View::Routes],
            Self::Month => &[View::Callers, View::Rest, View::Models, View::Routes, View::Whole],
        }
    }

    /// Whether the blocks of this class have zones (see `zone.rs`).
    pub fn has_zones(self) -> bool {
        self >= Self::Day
    }
}

/// The number of a minute's month since January 1970.
fn month(minute: u32) -> u32 {
    let at = Timestamp::from_second(i64::from(minute) * 60).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned_datetime(TimeZone::UTC);
    (i32::from(at.year()) - 1970).unsigned_abs() * 12 + u32::from(at.month().unsigned_abs()) - 1
}

fn month_begin(bucket: u32) -> u32 {
    let year = i16::try_from(1970 + bucket / 12).ok();
    let date = year.and_then(|year| civil::Date::new(year, (bucket % 12) as i8 + 1, 1).ok());
    let at = date.and_then(|date| date.to_zoned_datetime(TimeZone::UTC).ok());
    at.and_then(|at| u32::try_from(at.timestamp().as_second() / 60).ok()).unwrap_or(u32::MAX)
}

/// Which dimensions the rows of a level have. Every view has the dimensions of few names: provider, tier, outcome and known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum View {
    /// All.
    Whole = 0,
    /// All but the caller.
    Rest = 2,
    /// No route and no model.
    Callers = 3,
    /// No route.
    Models = 4,
    /// No model.
    Routes = 5,
}

impl View {
    /// The place of the view of format 1 that had callers and nothing else.
    pub(super) const FORMER_CALLERS: u8 = 1;

    /// Every view, those with the fewest rows first.
    pub const ALL: [Self; 5] = [Self::Callers, Self::Rest, Self::Models, Self::Routes, Self::Whole];

    /// Whether its rows have the dimension.
    pub const fn has(self, dim: Dim) -> bool {
        match dim {
            Dim::Caller => !matches!(self, Self::Rest),
            Dim::Inbound | Dim::Outbound => matches!(self, Self::Whole | Self::Rest | Self::Routes),
            Dim::Model => matches!(self, Self::Whole | Self::Rest | Self::Models),
            Dim::Provider | Dim::Tier | Dim::Outcome | Dim::Known => true,
        }
    }

    /// The views with all of these dimensions, those with the fewest rows first.
    pub fn of(needed: impl Fn(Dim) -> bool) -> Vec<Self> {
        let fits = |view: &Self| Dim::ALL.into_iter().all(|dim| !needed(dim) || view.has(dim));
        Self::ALL.into_iter().filter(fits).collect()
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
    /// The lowest place of a bucket's blocks. Places sort by level, bucket, and number.
    pub fn place(self, bucket: u32) -> u128 {
        place(self.0 as u8, self.1 as u8, bucket)
    }

    /// The place of a block: its bucket, and a number that keeps places apart.
    pub fn block(self, bucket: u32, number: u64) -> u128 {
        self.place(bucket) | u128::from(number)
    }
}

/// The lowest place of a bucket at a level given by numbers.
pub(super) fn place(class: u8, view: u8, bucket: u32) -> u128 {
    (u128::from(class) << 4 | u128::from(view)) << 120 | u128::from(bucket) << 88
}

/// The bucket of a place.
pub fn bucket_of(place: u128) -> u32 {
    (place >> 88) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_sort_by_level_bucket_and_number() {
        let minute = Level(Class::Minute, View::Whole);
        let day = |view| Level(Class::Day, view);
        let places = [
            minute.place(0),
            minute.block(7, 1),
            minute.block(7, 3),
            minute.place(u32::MAX),
            day(View::Whole).block(7, u64::MAX),
            day(View::Callers).place(0),
        ];
        assert!(places.is_sorted(), "{places:x?}");
        assert_eq!(bucket_of(places[4]), 7);
    }

    #[test]
    fn a_question_takes_the_smallest_view_that_has_its_dimensions() {
        for (dims, view) in [
            (&[][..], View::Callers),
            (&[Dim::Caller, Dim::Outcome], View::Callers),
            (&[Dim::Model, Dim::Known], View::Rest),
            (&[Dim::Caller, Dim::Model], View::Models),
            (&[Dim::Caller, Dim::Inbound], View::Routes),
            (&[Dim::Caller, Dim::Inbound, Dim::Model], View::Whole),
        ] {
            assert_eq!(View::of(|dim| dims.contains(&dim)).first(), Some(&view), "{dims:?}");
        }
    }

    #[test]
    fn buckets_begin_where_the_calendar_says() {
        // 2026-03-01 is a Sunday; 2024 is a leap year.
        let minute = |text: &str| u32::try_from(text.parse::<Timestamp>().expect("a time").as_second() / 60).expect("in range");
        for (class, at, begin, end) in [
            (Class::Week, "2026-03-01T23:59:00Z", "2026-02-23T00:00:00Z", "2026-03-02T00:00:00Z"),
            (Class::Month, "2024-02-29T12:00:00Z", "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"),
            (Class::Month, "2026-12-31T23:59:00Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            (Class::Day, "2026-03-01T23:59:00Z", "2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z"),
        ] {
            let bucket = class.bucket(minute(at));
            assert_eq!((class.begin(bucket), class.end(bucket)), (minute(begin), minute(end)), "{class:?} {at}");
        }
        let days = (0..200_000).map(|day| day * DAY);
        for class in [Class::Week, Class::Month] {
            assert!(days.clone().all(|at| class.begin(class.bucket(at)) <= at && at < class.end(class.bucket(at))), "{class:?}");
        }
    }
}
