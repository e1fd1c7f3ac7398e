//! The window of a limit as a ring of slots. Pure: time is microseconds since 1970, handed in.
//!
//! *Sliding*: 32 slots, each a 31st of the window, rounded up. The sum of all 32 covers at least the last window and at most
//! 32/31 of it: admitted requests are never above the limit in any window, and the limit is at most 1/32 stricter.
//! *Fixed*: one slot as wide as the window, aligned to multiples of it since 1970.

use std::time::Duration;

/// Slots of a sliding window.
pub const SLOTS: u64 = 32;

/// How a window is cut into slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    width: u64,
    reach: u64,
}

impl Shape {
    /// A sliding window; the window is at least one microsecond.
    pub fn sliding(window: Duration) -> Self {
        Self { width: micros(window).div_ceil(SLOTS - 1).max(1), reach: SLOTS }
    }

    /// An aligned window.
    pub fn fixed(window: Duration) -> Self {
        Self { width: micros(window).max(1), reach: 1 }
    }

    /// Microseconds of a slot.
    pub fn width(self) -> u64 {
        self.width
    }

    /// How many slots are summed.
    pub fn reach(self) -> u64 {
        self.reach
    }

    /// The slot of an instant.
    pub fn slot(self, now: u64) -> u64 {
        now / self.width
    }

    /// The time at which charges to a slot leave the window.
    pub fn end(self, slot: u64) -> u64 {
        (slot + self.reach) * self.width
    }
}

/// The use of one key. One slot in use takes no memory of its own; more take 128 bytes, or 256 where a slot is above `u32`.
#[derive(Debug, Default)]
pub struct Ring {
    /// The youngest slot that was touched.
    head: u64,
    total: u64,
    slots: Slots,
}

#[derive(Debug, Default)]
enum Slots {
    /// All of `total` stands in slot `head`.
    #[default]
    Lone,
    Small(Box<[u32; SLOTS as usize]>),
    Wide(Box<[u64; SLOTS as usize]>),
}

impl Ring {
    /// The use at `now`.
    pub fn used(&mut self, shape: Shape, now: u64) -> u64 {
        self.advance(shape, now);
        self.total
    }

    /// The use at the last question or charge.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Adds to the present slot, without a check, and returns the slot.
    pub fn charge(&mut self, shape: Shape, now: u64, amount: u64) -> u64 {
        let slot = self.advance(shape, now);
        if amount == 0 {
            return slot;
        }
        if matches!(self.slots, Slots::Lone) {
            if self.total == 0 {
                self.head = slot;
            }
            if self.head == slot {
                self.total = self.total.saturating_add(amount);
                return slot;
            }
            self.spread();
        }
        self.head = slot;
        self.add(slot, amount);
        slot
    }

    /// Replaces the amount reserved in `slot` by the actual one. If the slot has left the window, an overspend goes to the
    /// present slot and a refund is dropped.
    pub fn correct(&mut self, shape: Shape, now: u64, slot: u64, reserved: u64, actual: u64) {
        let present = self.advance(shape, now);
        let gone = slot + shape.reach <= present;
        if actual > reserved {
            if gone || matches!(self.slots, Slots::Lone) && slot != self.head {
                // A lone ring that does not hold `slot` was evicted or emptied since: the debt is still one of this window.
                self.charge(shape, now, actual - reserved);
            } else {
                self.add(slot, actual - reserved);
            }
        } else if !gone {
            self.take(slot, reserved - actual);
        }
    }

    /// Microseconds until `cost` would pass without other requests; `None`: it is above the limit by itself.
    pub fn first_fit(&mut self, shape: Shape, now: u64, limit: u64, cost: u64) -> Option<u64> {
        let room = limit.checked_sub(cost)?;
        let present = self.advance(shape, now);
        let mut left = self.total;
        let oldest = (present + 1).saturating_sub(shape.reach);
        for slot in oldest..=present {
            if left <= room {
                // The slots before this one must leave the window; the last of them does when this one becomes the oldest.
                return Some(if slot == oldest { 0 } else { shape.end(slot - 1).saturating_sub(now) });
            }
            left -= self.value(slot);
        }
        Some(shape.end(present).saturating_sub(now))
    }

    /// Microseconds until everything used now has left the window; 0 if nothing is used.
    pub fn resets(&mut self, shape: Shape, now: u64) -> u64 {
        let present = self.advance(shape, now);
        if self.total == 0 {
            return 0;
        }
        let youngest = (0..shape.reach).map(|back| present.saturating_sub(back)).find(|slot| self.value(*slot) > 0).unwrap_or(present);
        shape.end(youngest).saturating_sub(now)
    }

    /// Microseconds until `limit` is used up if the use goes on as in the last quarter of the window (fixed: since the window began).
    /// `None`: the limit will not be used up in this window, or too little of the window has passed to tell.
    pub fn spent_in(&mut self, shape: Shape, now: u64, limit: u64) -> Option<u64> {
        let present = self.advance(shape, now);
        if self.total >= limit {
            return Some(0);
        }
        let recent = if shape.reach == 1 { 1 } else { SLOTS / 4 };
        let first = (present + 1).saturating_sub(recent);
        let span = u128::from(now.saturating_sub(first * shape.width).max(1));
        let used: u64 = (first..=present).map(|slot| self.value(slot)).sum();
        if used == 0 || span * 100 < u128::from(shape.width) {
            return None;
        }
        // Slot by slot, past use leaves the window and as much use as lately is added.
        let mut held = self.total;
        for step in 0..shape.reach {
            let end = (present + step + 1) * shape.width - now;
            let more = u128::from(limit - held.min(limit));
            let needs = (more * span).div_ceil(u128::from(used));
            if needs <= u128::from(end) {
                return u64::try_from(needs).ok();
            }
            held -= self.value((present + 1 + step).saturating_sub(shape.reach)).min(held);
        }
        None
    }

    /// Empties slots that have left the window and returns the present slot: a `now` before the last one does not go back.
    fn advance(&mut self, shape: Shape, now: u64) -> u64 {
        let slot = shape.slot(now).max(self.head);
        let passed = slot - self.head;
        match &mut self.slots {
            Slots::Lone => {
                if passed >= shape.reach {
                    self.total = 0;
                }
            }
            Slots::Small(slots) if passed < SLOTS => {
                for gone in self.head + 1..=slot {
                    self.total -= u64::from(std::mem::take(&mut slots[place(gone)]));
                }
                self.head = slot;
            }
            Slots::Wide(slots) if passed < SLOTS => {
                for gone in self.head + 1..=slot {
                    self.total -= std::mem::take(&mut slots[place(gone)]);
                }
                self.head = slot;
            }
            Slots::Small(slots) => {
                **slots = [0; SLOTS as usize];
                (self.total, self.head) = (0, slot);
            }
            Slots::Wide(slots) => {
                **slots = [0; SLOTS as usize];
                (self.total, self.head) = (0, slot);
            }
        }
        slot
    }

    fn value(&self, slot: u64) -> u64 {
        match &self.slots {
            Slots::Lone if slot == self.head => self.total,
            Slots::Lone => 0,
            Slots::Small(slots) => u64::from(slots[place(slot)]),
            Slots::Wide(slots) => slots[place(slot)],
        }
    }

    fn add(&mut self, slot: u64, amount: u64) {
        let amount = amount.min(u64::MAX - self.total);
        let sum = self.value(slot) + amount;
        match &mut self.slots {
            Slots::Lone => {}
            Slots::Small(slots) => match u32::try_from(sum) {
                Ok(sum) => slots[place(slot)] = sum,
                Err(_) => {
                    let mut wide = Box::new(slots.map(u64::from));
                    wide[place(slot)] = sum;
                    self.slots = Slots::Wide(wide);
                }
            },
            Slots::Wide(slots) => slots[place(slot)] = sum,
        }
        self.total += amount;
    }

    fn take(&mut self, slot: u64, amount: u64) {
        let amount = amount.min(self.value(slot));
        match &mut self.slots {
            Slots::Lone => {}
            Slots::Small(slots) => slots[place(slot)] -= amount as u32,
            Slots::Wide(slots) => slots[place(slot)] -= amount,
        }
        self.total -= amount;
    }

    /// Turns one slot into a ring of slots.
    fn spread(&mut self) {
        self.slots = match u32::try_from(self.total) {
            Ok(total) => {
                let mut slots = Box::new([0; SLOTS as usize]);
                slots[place(self.head)] = total;
                Slots::Small(slots)
            }
            Err(_) => {
                let mut slots = Box::new([0; SLOTS as usize]);
                slots[place(self.head)] = self.total;
                Slots::Wide(slots)
            }
        };
    }
}

fn place(slot: u64) -> usize {
    (slot % SLOTS) as usize
}

fn micros(window: Duration) -> u64 {
    u64::try_from(window.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
