//! Which buckets of which level answer a question: the coarsest that fit between the question's edges, the finest at them.

use super::level::Class;

/// A run of buckets that falls into one part of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The class of the buckets.
    pub class: Class,
    /// The first bucket.
    pub from: u32,
    /// The bucket after the last.
    pub to: u32,
    /// The part of the answer, by number.
    pub part: usize,
}

/// What the ledger has.
#[derive(Debug, Default)]
pub struct Has {
    /// Hours and days that are summed up, ascending.
    pub hours: Vec<u32>,
    /// See `hours`.
    pub days: Vec<u32>,
    /// The first minute, hour and day that was not dropped.
    pub from: [u32; 3],
}

/// The pieces of an answer.
#[derive(Debug, Default)]
pub struct Plan {
    /// In the order of time.
    pub pieces: Vec<Piece>,
    /// A bucket does not fit between the edges, and its finer buckets were dropped: the bucket counts where it begins.
    pub rounded: bool,
}

impl Plan {
    /// The plan for the minutes between the first edge and the last. Between two edges lies one part of the answer.
    pub fn new(edges: &[u32], has: &Has) -> Self {
        let mut plan = Self::default();
        let (Some(from), Some(to)) = (edges.first(), edges.last()) else { return plan };
        let mut at = *from;
        while at < *to {
            let day = Class::Day.bucket(at);
            let end = (day + 1) * Class::Day.minutes();
            let gone = day * 24 < has.from[Class::Hour as usize];
            if has.days.binary_search(&day).is_ok() && plan.take(Class::Day, day, edges, gone) {
                at = end;
                continue;
            }
            while at < end.min(*to) {
                at = plan.hour(at, edges, has);
            }
        }
        plan
    }

    fn hour(&mut self, at: u32, edges: &[u32], has: &Has) -> u32 {
        let hour = Class::Hour.bucket(at);
        let end = (hour + 1) * Class::Hour.minutes();
        let gone = hour * 60 < has.from[Class::Minute as usize];
        if has.hours.binary_search(&hour).is_ok() && self.take(Class::Hour, hour, edges, gone) {
            return end;
        }
        let last = edges.last().copied().unwrap_or(end).min(end);
        for minute in at..last {
            self.take(Class::Minute, minute, edges, true);
        }
        end
    }

    /// Takes a bucket if it lies between two edges, or if `gone`: no finer bucket is there.
    fn take(&mut self, class: Class, bucket: u32, edges: &[u32], gone: bool) -> bool {
        let (from, to) = (bucket * class.minutes(), (bucket + 1) * class.minutes());
        let next = edges.partition_point(|edge| *edge <= from);
        let fits = next > 0 && edges.get(next).is_some_and(|edge| to <= *edge);
        if !fits {
            if !gone {
                return false;
            }
            self.rounded = true;
            // A bucket counts where it begins. A bucket that begins before the first edge does not count.
            if next == 0 || next == edges.len() {
                return true;
            }
        }
        let part = next - 1;
        match self.pieces.last_mut() {
            Some(last) if last.class == class && last.to == bucket && last.part == part => last.to += 1,
            _ => self.pieces.push(Piece { class, from: bucket, to: bucket + 1, part }),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: u32 = 1_440;

    #[test]
    fn whole_days_are_days_and_the_edges_are_finer() {
        let has = Has { hours: (0..72).collect(), days: vec![0, 1, 2], from: [0; 3] };
        let piece = |class, from, to, part| Piece { class, from, to, part };
        let plan = Plan::new(&[90, 2 * DAY + 61], &has);
        let expected = [
            piece(Class::Minute, 90, 120, 0),
            piece(Class::Hour, 2, 24, 0),
            piece(Class::Day, 1, 2, 0),
            piece(Class::Hour, 48, 49, 0),
            piece(Class::Minute, 2 * DAY + 60, 2 * DAY + 61, 0),
        ];
        assert_eq!((plan.pieces, plan.rounded), (expected.to_vec(), false));
    }

    #[test]
    fn what_is_only_there_in_whole_counts_where_it_begins() {
        let has = Has { hours: vec![24], days: vec![0, 1], from: [2 * DAY, 24, 0] };
        let plan = Plan::new(&[60, DAY + 30, 3 * DAY], &has);
        let taken: Vec<_> = plan.pieces.iter().map(|piece| (piece.class, piece.from, piece.part)).collect();
        assert_eq!(taken, [(Class::Hour, 24, 0), (Class::Minute, DAY + 60, 1)], "day 0 begins before the question");
        assert!(plan.rounded);
    }

    proptest! {
        /// Each minute is in exactly one piece, as long as nothing was dropped.
        #[test]
        fn no_minute_is_counted_twice_or_never(
            mut edges in proptest::collection::btree_set(0u32..5 * DAY, 2..6),
            hours in proptest::collection::btree_set(0u32..120, 0..120),
            days in proptest::collection::btree_set(0u32..5, 0..5),
        ) {
            let edges: Vec<u32> = std::mem::take(&mut edges).into_iter().collect();
            let has = Has { hours: hours.into_iter().collect(), days: days.into_iter().collect(), from: [0; 3] };
            let plan = Plan::new(&edges, &has);
            let mut at = edges[0];
            for piece in &plan.pieces {
                prop_assert_eq!(piece.from * piece.class.minutes(), at);
                at = piece.to * piece.class.minutes();
                prop_assert!(edges[piece.part] <= piece.from * piece.class.minutes() && at <= edges[piece.part + 1]);
            }
            prop_assert_eq!((at, plan.rounded), (edges[edges.len() - 1], false));
        }
    }
}
