//! Rows of the ledger as bytes, column by column: a question reads the columns that it needs.
//!
//! A column holds the distance of each value from the column's smallest, in as few bytes as the largest distance needs. A column of
//! one value has no bytes for its rows; a column of zeros is left out.
//!
//! ```text
//! version 1 | rows 2 | columns 1 | per column: id 1, width 1, smallest 8 | the columns' bytes, one after another
//! ```

use super::entry::{DIMS, Key, MEASURES, Sums};

/// The version of the form.
const VERSION: u8 = 1;
const HEAD: usize = 4;
const COLUMN: usize = 10;
/// All columns: the dimensions, then the measures.
pub const COLUMNS: usize = DIMS + MEASURES;
/// Most rows of a chunk.
pub const MOST: usize = 2_048;
/// Most bytes of a chunk: with its key and the page's own head it fills a page of 16 KiB.
const ROOM: usize = 16_384 - 256;

/// Why a chunk cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a block of the ledger is damaged, or of a newer version")]
pub struct Damaged;

/// A chunk that is read.
#[derive(Debug, Clone, Copy)]
pub struct Chunk<'a> {
    rows: usize,
    columns: [(u8, u64, &'a [u8]); COLUMNS],
}

/// Encodes the first rows of `rows`, as many as fit. Gives the bytes and how many rows they hold.
pub fn encode(rows: &[(Key, Sums)]) -> (Vec<u8>, usize) {
    let mut count = rows.len().min(MOST);
    loop {
        let bytes = encode_all(&rows[..count]);
        if bytes.len() <= ROOM || count <= 1 {
            return (bytes, count);
        }
        count = (count * ROOM / bytes.len()).max(1);
    }
}

/// Into how many chunks rows are best parted: as few as hold them.
pub fn parts(rows: &[(Key, Sums)]) -> usize {
    let width: usize =
        (0..COLUMNS).map(|column| range(rows, column)).filter(|(_, high)| *high > 0).map(|(low, high)| width(high - low)).sum();
    let bytes = (rows.len() * width).div_ceil(ROOM - HEAD - COLUMNS * COLUMN);
    bytes.max(rows.len().div_ceil(MOST)).max(1)
}

/// The smallest and the largest value of a column.
fn range(rows: &[(Key, Sums)], column: usize) -> (u64, u64) {
    rows.iter().map(|row| value(row, column)).fold((u64::MAX, 0), |(low, high), value| (low.min(value), high.max(value)))
}

fn value(row: &(Key, Sums), column: usize) -> u64 {
    if column < DIMS { u64::from(row.0.0[column]) } else { row.1.0[column - DIMS] }
}

fn encode_all(rows: &[(Key, Sums)]) -> Vec<u8> {
    let mut columns = Vec::with_capacity(COLUMNS);
    for column in 0..COLUMNS {
        let (low, high) = range(rows, column);
        if high > 0 {
            columns.push((column, low, width(high - low)));
        }
    }
    let size: usize = columns.iter().map(|(_, _, width)| COLUMN + width * rows.len()).sum();
    let mut bytes = Vec::with_capacity(HEAD + size);
    bytes.push(VERSION);
    bytes.extend_from_slice(&(rows.len() as u16).to_le_bytes());
    bytes.push(columns.len() as u8);
    for (column, low, width) in &columns {
        bytes.extend_from_slice(&[*column as u8, *width as u8]);
        bytes.extend_from_slice(&low.to_le_bytes());
    }
    for (column, low, width) in columns {
        for row in rows {
            bytes.extend_from_slice(&(value(row, column) - low).to_le_bytes()[..width]);
        }
    }
    bytes
}

/// Bytes for the value: 0, 1, 2, 3, 4, 5, 6 or 8.
fn width(value: u64) -> usize {
    match (64 - value.leading_zeros()).div_ceil(8) as usize {
        7 => 8,
        bytes => bytes,
    }
}

impl<'a> Chunk<'a> {
    /// Reads the head of a chunk.
    ///
    /// # Errors
    /// The bytes are no chunk of this version.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Damaged> {
        let [VERSION, low, high, count, rest @ ..] = bytes else { return Err(Damaged) };
        let (rows, count) = (usize::from(u16::from_le_bytes([*low, *high])), usize::from(*count));
        let (heads, mut data) = rest.split_at_checked(count * COLUMN).ok_or(Damaged)?;
        let mut columns = [(0, 0, &[][..]); COLUMNS];
        for head in heads.chunks_exact(COLUMN) {
            let (column, width) = (usize::from(head[0]), head[1]);
            let low = u64::from_le_bytes(head[2..].try_into().map_err(|_| Damaged)?);
            let (own, others) = data.split_at_checked(usize::from(width) * rows).ok_or(Damaged)?;
            *columns.get_mut(column).filter(|_| width <= 8).ok_or(Damaged)? = (width, low, own);
            data = others;
        }
        if data.is_empty() { Ok(Self { rows, columns }) } else { Err(Damaged) }
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The value of all rows of a column, if there is one.
    pub fn constant(&self, column: usize) -> Option<u64> {
        let (width, low, _) = self.columns[column];
        (width == 0).then_some(low)
    }

    /// A number that no value of a column exceeds.
    pub fn highest(&self, column: usize) -> u64 {
        let (width, low, _) = self.columns[column];
        let distance = if width >= 8 { u64::MAX } else { (1 << (8 * width)) - 1 };
        low.saturating_add(distance)
    }

    /// Puts a column's values into `into`.
    pub fn column(&self, column: usize, into: &mut Vec<u64>) {
        let (width, low, data) = self.columns[column];
        into.clear();
        match width {
            0 => into.resize(self.rows, low),
            1 => into.extend(data.iter().map(|byte| low + u64::from(*byte))),
            2 => into.extend(data.as_chunks().0.iter().map(|bytes| low + u64::from(u16::from_le_bytes(*bytes)))),
            3 => widened::<3>(low, data, into),
            4 => into.extend(data.as_chunks().0.iter().map(|bytes| low + u64::from(u32::from_le_bytes(*bytes)))),
            5 => widened::<5>(low, data, into),
            6 => widened::<6>(low, data, into),
            7 => widened::<7>(low, data, into),
            _ => widened::<8>(low, data, into),
        }
    }

    /// The value of one row of a column; 0 beyond the rows.
    pub fn at(&self, column: usize, row: usize) -> u64 {
        let (width, low, data) = self.columns[column];
        let width = usize::from(width);
        let mut wide = [0; 8];
        match data.get(row * width..(row + 1) * width) {
            Some(bytes) => wide[..width].copy_from_slice(bytes),
            None => return 0,
        }
        low.wrapping_add(u64::from_le_bytes(wide))
    }

    /// All rows.
    pub fn all(&self) -> Vec<(Key, Sums)> {
        let mut rows = vec![(Key::default(), Sums::default()); self.rows];
        let mut values = Vec::new();
        for column in 0..COLUMNS {
            if self.constant(column) == Some(0) {
                continue;
            }
            self.column(column, &mut values);
            for (row, value) in rows.iter_mut().zip(&values) {
                match column < DIMS {
                    true => row.0.0[column] = u32::try_from(*value).unwrap_or(u32::MAX),
                    false => row.1.0[column - DIMS] = *value,
                }
            }
        }
        rows
    }
}

/// Puts values of `N` bytes into `into`. The width is known to the compiler: this is the inner loop of a question.
fn widened<const N: usize>(low: u64, data: &[u8], into: &mut Vec<u64>) {
    into.extend(data.as_chunks::<N>().0.iter().map(|bytes| {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(bytes);
        low.wrapping_add(u64::from_le_bytes(wide))
    }));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_column_of_one_value_takes_no_bytes_for_its_rows() {
        let row = |caller: u32, cost: u64| {
            let mut row = (Key::default(), Sums::default());
            row.0.0[0] = caller;
            row.1.0[0] = 1;
            row.1.0[2] = cost;
            row
        };
        let rows: Vec<_> = (0..1_000).map(|n| row(70_000 + n % 200, 5_000_000_000 + u64::from(n) * 1_000)).collect();
        let (bytes, count) = encode(&rows);
        assert_eq!((count, bytes.len()), (1_000, HEAD + 3 * COLUMN + 1_000 * (1 + 3)));
        assert_eq!(Chunk::read(&bytes).expect("a chunk").all(), rows);
    }

    #[test]
    fn damage_is_found() {
        let (bytes, _) = encode(&[(Key([7; DIMS]), Sums([9; MEASURES])), (Key([8; DIMS]), Sums([3; MEASURES]))]);
        for cut in 0..bytes.len() {
            assert!(Chunk::read(&bytes[..cut]).is_err(), "{cut}");
        }
        let mut newer = bytes;
        newer[0] = VERSION + 1;
        assert_eq!(Chunk::read(&newer).err(), Some(Damaged));
    }

    proptest! {
        #[test]
        fn every_row_comes_back(seed in proptest::collection::vec((any::<[u32; DIMS]>(), any::<u64>(), 0u32..64), 1..300)) {
            let rows: Vec<_> = seed
                .iter()
                .map(|(key, value, shift)| (Key(*key), Sums(std::array::from_fn(|at| if at % 3 == 0 { value >> shift } else { 0 }))))
                .collect();
            let mut back = Vec::new();
            while back.len() < rows.len() {
                let (bytes, count) = encode(&rows[back.len()..]);
                back.extend(Chunk::read(&bytes).expect("a chunk").all());
                prop_assert!(count > 0 && bytes.len() <= ROOM);
            }
            prop_assert_eq!(back, rows);
        }
    }
}
