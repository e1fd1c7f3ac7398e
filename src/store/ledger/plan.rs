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
    /// The buckets of each class that are summed up, ascending; none for minutes.
    pub summed: [Vec<u32>; Class::ALL.len()],
    /// The first minute, hour and day that was not dropped.
    pub from: [u32; 3],
}

impl Has {
    fn is_summed(&self, class: Class, bucket: u32) -> bool {
        self.summed[class as usize].binary_search(&bucket).is_ok()
    }

    /// Whether no hour of a day is there any more.
    fn only_day(&self, day: u32) -> bool {
        Class::Day.begin(day) < Class::Hour.begin(self.from[Class::Hour as usize])
    }
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
    /// The plan for the minutes between the first edge and the last. Between two edges lies one part of the answer. `may` tells which
    /// classes the question can be answered from: minutes, hours and days always.
    pub fn new(edges: &[u32], has: &Has, may: impl Fn(Class) -> bool) -> Self {
        let mut plan = Self::default();
        let edges: Vec<u32> = edges.iter().map(|edge| plan.whole_days(*edge, has)).collect();
        let (Some(mut at), Some(to)) = (edges.first().copied(), edges.last().copied()) else { return plan };
        while at < to {
            let day = Class::Day.bucket(at);
            let fits = |class: Class, bucket: u32| {
                (class == Class::Day || may(class)) && has.is_summed(class, bucket) && {
                    let next = edges.partition_point(|edge| *edge <= class.begin(bucket));
                    edges.get(next).is_some_and(|edge| class.end(bucket) <= *edge)
                }
            };
            // A week must not reach into a month that can be taken whole.
            let month = Class::Month.bucket(at) + 1;
            let blocked = |week: u32| Class::Month.begin(month) < Class::Week.end(week) && fits(Class::Month, month);
            let fit = [Class::Month, Class::Week, Class::Day].into_iter().find(|class| {
                let bucket = class.bucket(at);
                class.begin(bucket) == at && fits(*class, bucket) && !(*class == Class::Week && blocked(bucket))
            });
            if let Some(class) = fit {
                plan.take(class, class.bucket(at), &edges, false);
                at = class.end(class.bucket(at));
                continue;
            }
            let end = Class::Day.end(day);
            while at < end.min(to) {
                at = plan.hour(at, &edges, has);
            }
        }
        plan
    }

    /// An edge within a day of which only the whole is kept stands for the day's end: the day counts where it begins.
    fn whole_days(&mut self, edge: u32, has: &Has) -> u32 {
        let day = Class::Day.bucket(edge);
        if Class::Day.begin(day) == edge || !has.only_day(day) || !has.is_summed(Class::Day, day) {
            return edge;
        }
        self.rounded = true;
        Class::Day.end(day)
    }

    fn hour(&mut self, at: u32, edges: &[u32], has: &Has) -> u32 {
        let hour = Class::Hour.bucket(at);
        let end = Class::Hour.end(hour);
        let gone = Class::Hour.begin(hour) < has.from[Class::Minute as usize];
        if has.is_summed(Class::Hour, hour) && self.take(Class::Hour, hour, edges, gone) {
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
        let (from, to) = (class.begin(bucket), class.end(bucket));
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

    fn has(summed: [Vec<u32>; 4], from: [u32; 3]) -> Has {
        let [hours, days, weeks, months] = summed;
        Has { summed: [Vec::new(), hours, days, weeks, months], from }
    }

    #[test]
    fn whole_days_are_days_and_the_edges_are_finer() {
        let has = has([(0..72).collect(), vec![0, 1, 2], vec![], vec![]], [0; 3]);
        let piece = |class, from, to, part| Piece { class, from, to, part };
        let plan = Plan::new(&[90, 2 * DAY + 61], &has, |_| true);
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
    fn months_and_weeks_are_taken_where_they_fit() {
        // From the third day of 1970, a Saturday, to the second of April. Months 1 and 2 are summed up, and every week.
        let has = has([vec![], (0..120).collect(), (0..20).collect(), vec![1, 2]], [0; 3]);
        let piece = |class, from, to| Piece { class, from, to, part: 0 };
        let taken = |may: fn(Class) -> bool| Plan::new(&[2 * DAY, 91 * DAY], &has, may).pieces;
        let expected = [
            piece(Class::Day, 2, 4),
            piece(Class::Week, 1, 4),
            piece(Class::Day, 25, 31),
            piece(Class::Month, 1, 3),
            piece(Class::Day, 90, 91),
        ];
        assert_eq!(taken(|_| true), expected);
        assert_eq!(taken(|_| false), [piece(Class::Day, 2, 91)]);
        assert_eq!(taken(|class| class == Class::Week), [piece(Class::Day, 2, 4), piece(Class::Week, 1, 13), piece(Class::Day, 88, 91)]);
    }

    #[test]
    fn what_is_only_there_in_whole_counts_where_it_begins() {
        let has = has([vec![24], vec![0, 1], vec![], vec![]], [2 * DAY, 24, 0]);
        let plan = Plan::new(&[60, DAY + 30, 3 * DAY], &has, |_| true);
        let taken: Vec<_> = plan.pieces.iter().map(|piece| (piece.class, piece.from, piece.part)).collect();
        assert_eq!(taken, [(Class::Hour, 24, 0), (Class::Minute, DAY + 60, 1)], "day 0 begins before the question");
        assert!(plan.rounded);
    }

    proptest! {
        /// Each minute is in exactly one piece, as long as nothing was dropped.
        #[test]
        fn no_minute_is_counted_twice_or_never(
            mut edges in proptest::collection::btree_set(0u32..100 * DAY, 2..6),
            hours in proptest::collection::btree_set(0u32..2_400, 0..120),
            days in proptest::collection::btree_set(0u32..100, 0..100),
            weeks in proptest::collection::btree_set(0u32..20, 0..20),
            months in proptest::collection::btree_set(0u32..4, 0..4),
        ) {
            let edges: Vec<u32> = std::mem::take(&mut edges).into_iter().collect();
            let sorted = |set: std::collections::BTreeSet<u32>| set.into_iter().collect();
            let has = has([sorted(hours), sorted(days), sorted(weeks), sorted(months)], [0; 3]);
            let plan = Plan::new(&edges, &has, |_| true);
            let mut at = edges[0];
            for piece in &plan.pieces {
                prop_assert_eq!(piece.class.begin(piece.from), at);
                at = piece.class.begin(piece.to);
                prop_assert!(edges[piece.part] <= piece.class.begin(piece.from) && at <= edges[piece.part + 1]);
            }
            prop_assert_eq!((at, plan.rounded), (edges[edges.len() - 1], false));
        }
    }
}
