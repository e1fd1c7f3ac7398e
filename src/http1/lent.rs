//! What heads and fields are made of: a run of bytes, and a table of where each field stands in it. It is lent from a store of the thread
//! and goes back to it: a request allocates none as a rule, and a head is moved about by its address.

use std::{
    cell::RefCell,
    ops::{Deref, DerefMut},
};

use super::{head::Field, ids::IdSet};

/// Bytes and fields for which there is room from the beginning.
const USUAL_BYTES: usize = 512;
const USUAL_FIELDS: usize = 16;
/// What the store keeps: neither small copies, which are made to measure, nor what a large head has left.
const SPARE_BYTES: std::ops::RangeInclusive<usize> = USUAL_BYTES..=2048;
const MOST_SPARE_FIELDS: usize = 64;
/// Most that the thread's store has.
const MOST_SPARES: usize = 128;

/// A head is moved by its address: what it is made of stays where it is.
type Spare = Box<Lines>;

thread_local! {
    static SPARES: RefCell<Vec<Spare>> = const { RefCell::new(Vec::new()) };
}

static NOTHING: Lines = Lines { bytes: Vec::new(), fields: Vec::new(), seen: IdSet::EMPTY };

/// Lines of a head.
// Not `Debug`: a value may be a credential.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Lines {
    pub(super) bytes: Vec<u8>,
    pub(super) fields: Vec<Field>,
    /// Names that are there. Only the bit of [`super::Id::Other`] may outlive its last field.
    pub(super) seen: IdSet,
}

/// Lines that go back to the thread's store. They hold no memory until something is written.
#[derive(Clone, Default)]
pub(super) struct Lent(Option<Box<Lines>>);

impl Lent {
    /// No lines yet, and room for `bytes` bytes and `fields` fields.
    pub(super) fn with_room(bytes: usize, fields: usize) -> Self {
        let mut lines = lend();
        lines.bytes.reserve(bytes);
        lines.fields.reserve(fields);
        Self(Some(lines))
    }

    /// No lines yet, and memory for `bytes` bytes and `fields` fields and no more, for what is kept.
    pub(super) fn to_measure(bytes: usize, fields: usize) -> Self {
        let (bytes, fields) = (Vec::with_capacity(bytes), Vec::with_capacity(fields));
        Self(Some(Box::new(Lines { bytes, fields, seen: IdSet::EMPTY })))
    }

    /// Takes all lines away and keeps their memory.
    pub(super) fn clear(&mut self) {
        if let Some(lines) = &mut self.0 {
            lines.clear();
        }
    }
}

impl Lines {
    fn clear(&mut self) {
        self.bytes.clear();
        self.fields.clear();
        self.seen = IdSet::EMPTY;
    }
}

fn lend() -> Box<Lines> {
    SPARES.try_with(|spares| spares.borrow_mut().pop()).ok().flatten().unwrap_or_else(|| {
        let (bytes, fields) = (Vec::with_capacity(USUAL_BYTES), Vec::with_capacity(USUAL_FIELDS));
        Box::new(Lines { bytes, fields, seen: IdSet::EMPTY })
    })
}

impl Deref for Lent {
    type Target = Lines;

    #[inline]
    fn deref(&self) -> &Lines {
        self.0.as_deref().unwrap_or(&NOTHING)
    }
}

impl DerefMut for Lent {
    #[inline]
    fn deref_mut(&mut self) -> &mut Lines {
        self.0.get_or_insert_with(lend)
    }
}

impl PartialEq for Lent {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Lent {}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(mut lines) = self.0.take() else { return };
        if SPARE_BYTES.contains(&lines.bytes.capacity()) && lines.fields.capacity() <= MOST_SPARE_FIELDS {
            // A thread that ends has no store any more.
            let _ = SPARES.try_with(|spares| {
                let mut spares = spares.borrow_mut();
                if spares.len() < MOST_SPARES {
                    lines.clear();
                    spares.push(lines);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the next lines begin with: nothing of what was there before.
    fn next() -> (usize, *const u8) {
        let mut lent = Lent::default();
        assert!(*lent == NOTHING);
        let lines = &mut *lent;
        (lines.bytes.len() + lines.fields.len(), lines.bytes.as_ptr())
    }

    #[test]
    fn memory_is_lent_again_and_holds_nothing_of_the_one_before() {
        let mut lent = Lent::default();
        lent.bytes.extend_from_slice(b"authorization: secret\r\n");
        let memory = lent.bytes.as_ptr();
        drop(lent);
        assert_eq!(next(), (0, memory));
    }

    #[test]
    fn what_a_large_head_has_left_and_what_was_made_to_measure_is_not_lent() {
        let large = Lent::with_room(1 << 20, 0);
        let (small, at) = (Lent::to_measure(20, 1), large.bytes.as_ptr());
        let measured = small.bytes.as_ptr();
        drop((large, small));
        let (_, lent) = next();
        assert!(lent != at && lent != measured);
    }
}
