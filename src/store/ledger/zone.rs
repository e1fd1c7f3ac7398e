//! Zones: what the callers, routes and models of each block of a bucket are between. A question with a filter leaves out the blocks whose
//! zones exclude it, without reading them.
//!
//! The rows of a bucket are parted by one dimension after another (a k-d tree), so that each block has few callers and few routes and few
//! models at once: every filter finds blocks to leave out, in one copy of the rows.
//!
//! ```text
//! per block: number 11 (the lower bits of its place) | rows 2 | per dimension: lowest 4, highest 4
//! ```

use super::{
    chunk::Damaged,
    entry::{Dim, Key, Sums},
};

/// The dimensions that zones have.
pub const ZONED: [Dim; 4] = [Dim::Caller, Dim::Model, Dim::Inbound, Dim::Outbound];
const NUMBER: usize = 11;
const SIZE: usize = NUMBER + 2 + ZONED.len() * 8;

/// The zone of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zone {
    /// The lower 88 bits of the block's place.
    pub number: u128,
    /// Rows of the block.
    pub rows: u16,
    /// The lowest and the highest id of each of [`ZONED`].
    pub bounds: [(u32, u32); ZONED.len()],
}

impl Zone {
    /// The zone of rows under a number.
    pub fn of<'a>(number: u128, rows: impl ExactSizeIterator<Item = &'a Key>) -> Self {
        let count = u16::try_from(rows.len()).unwrap_or(u16::MAX);
        let mut bounds = [(u32::MAX, 0); ZONED.len()];
        for key in rows {
            for ((low, high), dim) in bounds.iter_mut().zip(ZONED) {
                (*low, *high) = ((*low).min(key.at(dim)), (*high).max(key.at(dim)));
            }
        }
        Self { number, rows: count, bounds }
    }
}

/// The zones of a bucket, as they stand in the file.
pub fn encode(zones: &[Zone]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(zones.len() * SIZE);
    for zone in zones {
        bytes.extend_from_slice(&zone.number.to_le_bytes()[..NUMBER]);
        bytes.extend_from_slice(&zone.rows.to_le_bytes());
        for (low, high) in zone.bounds {
            bytes.extend_from_slice(&low.to_le_bytes());
            bytes.extend_from_slice(&high.to_le_bytes());
        }
    }
    bytes
}

/// Reads the zones of a bucket.
///
/// # Errors
/// The bytes are no zones.
pub fn decode(bytes: &[u8]) -> Result<Vec<Zone>, Damaged> {
    if !bytes.len().is_multiple_of(SIZE) {
        return Err(Damaged);
    }
    let zone = |bytes: &[u8]| {
        let mut number = [0; 16];
        number[..NUMBER].copy_from_slice(&bytes[..NUMBER]);
        let four = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let place = |at: usize| NUMBER + 2 + at * 8;
        Zone {
            number: u128::from_le_bytes(number),
            rows: u16::from_le_bytes([bytes[NUMBER], bytes[NUMBER + 1]]),
            bounds: std::array::from_fn(|at| (four(place(at)), four(place(at) + 4))),
        }
    };
    Ok(bytes.chunks_exact(SIZE).map(zone).collect())
}

/// The rows that were added to a bucket at once, each time: blocks of one time have numbers that follow each other.
pub fn appended(zones: &[Zone]) -> impl Iterator<Item = usize> {
    let follows = |one: &Zone, next: &Zone| one.number + 1 == next.number;
    zones.chunk_by(follows).map(|run| run.iter().map(|zone| usize::from(zone.rows)).sum())
}

/// Brings rows into an order of `parts` runs with narrow zones. Gives the length of each run: they differ by a few rows. `dims`: what
/// the rows are parted by.
pub fn arrange(rows: &mut [(Key, Sums)], parts: usize, dims: &[Dim]) -> Vec<usize> {
    let mut runs = Vec::with_capacity(parts);
    part(rows, parts, dims, 0, &mut runs);
    runs
}

fn part(rows: &mut [(Key, Sums)], parts: usize, dims: &[Dim], turn: usize, runs: &mut Vec<usize>) {
    if parts < 2 || rows.len() < 2 {
        rows.sort_unstable_by_key(|row| row.0);
        return runs.push(rows.len());
    }
    // The next dimension in turn that has more than one id here.
    let splits = |at: &usize| rows.iter().any(|row| row.0.at(dims[*at]) != rows[0].0.at(dims[*at]));
    let at = (turn..turn + dims.len()).map(|at| at % dims.len()).find(splits);
    let dim = at.map_or(Dim::Caller, |at| dims[at]);
    let left = parts / 2;
    let middle = (rows.len() * left / parts).max(1);
    rows.select_nth_unstable_by_key(middle, |row| (row.0.at(dim), row.0));
    let next = at.unwrap_or(turn) + 1;
    let (low, high) = rows.split_at_mut(middle);
    part(low, left, dims, next, runs);
    part(high, parts - left, dims, next, runs);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_come_back_and_damage_is_found() {
        let zones = [
            Zone { number: (1 << 88) - 1, rows: 2_048, bounds: [(1, 2), (3, u32::MAX), (0, 0), (7, 7)] },
            Zone { number: 5, rows: 1, bounds: [(0, 0); 4] },
        ];
        let bytes = encode(&zones);
        assert_eq!(decode(&bytes), Ok(zones.to_vec()));
        assert_eq!(decode(&bytes[1..]), Err(Damaged));
    }

    #[test]
    fn blocks_that_were_added_at_once_are_one_addition() {
        let zone = |number, rows| Zone { number, rows, bounds: [(0, 0); 4] };
        let zones = [zone(4, 10), zone(5, 20), zone(9, 1), zone(11, 2)];
        assert_eq!(appended(&zones).collect::<Vec<_>>(), [30, 1, 2]);
    }

    #[test]
    fn each_filter_leaves_out_blocks_of_an_arranged_bucket() {
        let mut rows: Vec<(Key, Sums)> = Vec::new();
        for (caller, model, inbound) in (0..40).flat_map(|c| (0..20).flat_map(move |m| (0..10).map(move |i| (c, m, i)))) {
            let mut key = Key::default();
            key.0[Dim::Caller as usize] = caller;
            key.0[Dim::Model as usize] = model;
            key.0[Dim::Inbound as usize] = inbound;
            rows.push((key, Sums::default()));
        }
        let mut sorted = rows.clone();
        let runs = arrange(&mut rows, 27, &ZONED);
        let mut rest = &rows[..];
        let mut zones = Vec::new();
        for run in &runs {
            zones.push(Zone::of(0, rest[..*run].iter().map(|row| &row.0)));
            rest = &rest[*run..];
        }
        assert_eq!((runs.len(), rest.len()), (27, 0));
        for (at, dim) in ZONED.into_iter().enumerate().take(3) {
            let hit = zones.iter().filter(|zone| (zone.bounds[at].0..=zone.bounds[at].1).contains(&5)).count();
            assert!(hit * 3 < zones.len() * 2, "{dim:?}: {hit} of {}", zones.len());
        }
        sorted.sort_unstable_by_key(|row| row.0);
        rows.sort_unstable_by_key(|row| row.0);
        assert_eq!(rows, sorted, "no row is lost");
    }
}
