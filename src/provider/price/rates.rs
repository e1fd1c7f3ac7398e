//! Rates, factors and fees: the exact arithmetic of a price.
//!
//! A rate is a number of nano-USD for a million tokens, which is the same as femto-USD for one token. A fee is a number of nano-USD for
//! a thousand units. Sums are exact in femto-USD. A call's cost is rounded up once, to a whole nano-USD.

use crate::usage::{CLASSES, Tier, UNITS};

/// Femto-USD in a nano-USD.
pub(super) const FEMTO: u128 = 1_000_000;

/// The places of text in [`Rates`].
pub(super) const INPUT: usize = 0;
pub(super) const OUTPUT: usize = 4;

/// Nano-USD for a million tokens, by class, in the order of [`Usage::NAMES`](crate::usage::Usage::NAMES).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rates(pub [u64; CLASSES]);

/// Nano-USD for a thousand units, in the order of [`Units::NAMES`](crate::usage::Units::NAMES).
pub(super) type Fees = [u64; UNITS];

/// A factor: numerator and denominator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Factor(pub u64, pub u64);

impl Factor {
    pub const ONE: Self = Self(1, 1);

    /// The amount times the factor, rounded up; saturates.
    pub fn of(self, femto: u128) -> u128 {
        femto.saturating_mul(u128::from(self.0)).div_ceil(u128::from(self.1.max(1)))
    }

    fn is_more_than(self, other: Self) -> bool {
        u128::from(self.0) * u128::from(other.1) > u128::from(other.0) * u128::from(self.1)
    }
}

impl std::fmt::Display for Factor {
    /// `2`, or `9/5`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.1 == 1 { write!(f, "{}", self.0) } else { write!(f, "{}/{}", self.0, self.1) }
    }
}

/// The factors of the tiers on the standard rates; `None`: the tier has no known price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tiers {
    pub flex: Option<Factor>,
    pub batch: Option<Factor>,
    pub fast: Option<Factor>,
    pub ultrafast: Option<Factor>,
}

impl Tiers {
    /// The factor of a tier. A tier without a known price costs as much as the dearest that is known: a limit is never passed unseen.
    pub fn factor(&self, tier: Tier) -> Factor {
        let known = match tier {
            Tier::Unsaid | Tier::Standard => Some(Factor::ONE),
            Tier::Flex => self.flex,
            Tier::Batch => self.batch,
            Tier::Fast => self.fast,
            Tier::Ultrafast => self.ultrafast,
            Tier::Other => None,
        };
        known.unwrap_or_else(|| {
            let all = [self.flex, self.batch, self.fast, self.ultrafast].into_iter().flatten();
            all.fold(Factor::ONE, |dearest, factor| if factor.is_more_than(dearest) { factor } else { dearest })
        })
    }
}

impl Rates {
    /// Text alone: sound and pictures cost the same as text.
    pub const fn text(input: u64, cache_read: u64, cache_write: u64, cache_write_1h: u64, output: u64) -> Self {
        Self([input, cache_read, cache_write, cache_write_1h, output, input, cache_read, output, input, cache_read, output])
    }

    /// With prices of its own for sound: input, cached input, output.
    pub const fn with_audio(mut self, input: u64, cached: u64, output: u64) -> Self {
        (self.0[5], self.0[6], self.0[7]) = (input, cached, output);
        self
    }

    /// With prices of its own for pictures: input, cached input, output.
    pub const fn with_images(mut self, input: u64, cached: u64, output: u64) -> Self {
        (self.0[8], self.0[9], self.0[10]) = (input, cached, output);
        self
    }

    /// These rates times factors: one for all input, one for all output.
    pub fn times(self, input: Factor, output: Factor) -> Self {
        let mut rates = self.0;
        for (at, rate) in rates.iter_mut().enumerate() {
            let factor = if matches!(at, 4 | 7 | 10) { output } else { input };
            *rate = u64::try_from(factor.of(u128::from(*rate))).unwrap_or(u64::MAX);
        }
        Self(rates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_exact_and_rounded_up() {
        assert_eq!((Factor(1, 2).of(5), Factor(17, 10).of(2_500), Factor::ONE.of(7)), (3, 4_250, 7));
        assert_eq!(Factor(9, 5).of(u128::MAX), u128::MAX.div_ceil(5));
        assert_eq!((Factor(6, 1).to_string(), Factor(9, 5).to_string()), ("6".into(), "9/5".into()));
    }

    #[test]
    fn a_tier_without_a_price_is_as_dear_as_the_dearest() {
        let some = Tiers { flex: Some(Factor(1, 2)), batch: None, fast: Some(Factor(5, 2)), ultrafast: None };
        for (tier, factor) in [
            (Tier::Unsaid, Factor::ONE),
            (Tier::Standard, Factor::ONE),
            (Tier::Flex, Factor(1, 2)),
            (Tier::Batch, Factor(5, 2)),
            (Tier::Ultrafast, Factor(5, 2)),
            (Tier::Other, Factor(5, 2)),
        ] {
            assert_eq!(some.factor(tier), factor, "{tier:?}");
        }
        let none = Tiers { flex: None, batch: None, fast: None, ultrafast: None };
        assert_eq!(none.factor(Tier::Other), Factor::ONE);
    }

    #[test]
    fn long_rates_double_all_input_and_no_output() {
        let rates = Rates::text(1, 2, 3, 4, 10).with_audio(5, 6, 20).times(Factor(2, 1), Factor(3, 2));
        assert_eq!(rates.0, [2, 4, 6, 8, 15, 10, 12, 30, 2, 4, 15]);
    }
}
