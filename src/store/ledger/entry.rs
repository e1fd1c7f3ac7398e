//! What the ledger adds up: the facts of one call, the key under which they are summed, and the sums.

use std::sync::Arc;

use crate::usage::{Usage, UsageSource};

/// The dimensions of a key, in the order of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(usize)]
pub enum Dim {
    /// Who pays.
    Caller,
    /// The inbound route that caused the call; empty: none is known.
    Inbound,
    /// The outbound route of the call.
    Outbound,
    /// The provider that was asked.
    Provider,
    /// The model that was asked, or that answered.
    Model,
    /// The service tier of the answer.
    Tier,
    /// How the call ended.
    Outcome,
    /// How its figures are known.
    Known,
}

/// How many dimensions there are.
pub const DIMS: usize = 8;

impl Dim {
    /// Every dimension, in the order of a row.
    pub const ALL: [Self; DIMS] =
        [Self::Caller, Self::Inbound, Self::Outbound, Self::Provider, Self::Model, Self::Tier, Self::Outcome, Self::Known];

    /// The word used in questions and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
            Self::Provider => "provider",
            Self::Model => "model",
            Self::Tier => "tier",
            Self::Outcome => "outcome",
            Self::Known => "known",
        }
    }

    /// The dimension of this word.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dim| dim.as_str() == word)
    }
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Outcome {
    /// The answer is whole.
    Complete = 0,
    /// The answer broke off, or the client left before its end.
    Cut = 1,
    /// The provider answered with an error, or not at all.
    Failed = 2,
    /// The proxy refused the call: nothing was sent.
    Refused = 3,
    /// The cache answered: nothing was sent.
    Cached = 4,
    /// Another call's answer was shared.
    Shared = 5,
}

impl Outcome {
    /// Every outcome, by number.
    pub const ALL: [Self; 6] = [Self::Complete, Self::Cut, Self::Failed, Self::Refused, Self::Cached, Self::Shared];

    /// The word used in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Cut => "cut",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Cached => "cached",
            Self::Shared => "shared",
        }
    }
}

/// How a call's figures are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Known {
    /// The provider stated them.
    Reported = 0,
    /// The proxy counted tokens with the model's tokenizer.
    Counted = 1,
    /// The proxy estimated them.
    Estimated = 2,
    /// There are none: the call cost nothing, or what it cost is unknown.
    Unknown = 3,
}

impl Known {
    /// Every way, by number.
    pub const ALL: [Self; 4] = [Self::Reported, Self::Counted, Self::Estimated, Self::Unknown];

    /// The word used in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Counted => "counted",
            Self::Estimated => "estimated",
            Self::Unknown => "unknown",
        }
    }
}

impl From<UsageSource> for Known {
    fn from(source: UsageSource) -> Self {
        match source {
            UsageSource::Missing => Self::Unknown,
            UsageSource::Estimated => Self::Estimated,
            UsageSource::Counted => Self::Counted,
            UsageSource::Provider => Self::Reported,
        }
    }
}

/// The facts of one call.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Minutes since 1970, by the wall clock.
    pub minute: u32,
    /// Who pays.
    pub caller: Arc<str>,
    /// The inbound route that caused the call, if one is known.
    pub inbound: Option<Arc<str>>,
    /// The outbound route of the call.
    pub outbound: Arc<str>,
    /// The provider that was asked.
    pub provider: Arc<str>,
    /// The model that was asked, or that answered.
    pub model: Arc<str>,
    /// The service tier of the answer; empty: the usual one.
    pub tier: &'static str,
    /// How the call ended.
    pub outcome: Outcome,
    /// How its figures are known.
    pub known: Known,
    /// How many calls it is: 1, or 0 for a saving that other calls have had.
    pub calls: u32,
    /// Its tokens by class.
    pub usage: Usage,
    /// Its cost in nano-dollars; `None`: no price is known.
    pub nano_usd: Option<u64>,
    /// Nano-dollars and tokens that the cache saved.
    pub saved: (u64, u64),
}

/// Ids of names, one for each dimension; outcome and known are their own numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Key(pub [u32; DIMS]);

impl Key {
    /// The id in one dimension.
    pub fn at(&self, dim: Dim) -> u32 {
        self.0[dim as usize]
    }
}

/// The names of the classes of tokens. `reasoning` is a part of `output`; the others do not overlap.
pub fn class_names() -> Vec<&'static str> {
    Usage::NAMES.into_iter().chain(["reasoning"]).collect()
}

/// Most classes of tokens that a ledger can hold.
pub const CLASSES: usize = 24;
/// Measures before the classes of tokens.
pub const FIXED: usize = 5;
/// How many measures there are.
pub const MEASURES: usize = FIXED + CLASSES;

/// The measures before the classes of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Measure {
    /// Calls.
    Calls,
    /// Calls without a price that used tokens.
    Unpriced,
    /// Nano-dollars.
    NanoUsd,
    /// Nano-dollars that the cache saved.
    SavedNanoUsd,
    /// Tokens that the cache saved.
    SavedTokens,
}

/// Sums of calls. They saturate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sums(pub [u64; MEASURES]);

impl Sums {
    /// One of the measures before the classes of tokens.
    pub fn get(&self, measure: Measure) -> u64 {
        self.0[measure as usize]
    }

    /// Sets one of the measures before the classes of tokens.
    pub fn set(&mut self, measure: Measure, value: u64) {
        self.0[measure as usize] = value;
    }

    /// Adds other sums.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(&other.0) {
            *sum = sum.saturating_add(*more);
        }
    }

    /// The sums of one call. `slots` are the places of `class_names`.
    pub fn of(entry: &Entry, slots: &[Option<usize>]) -> Self {
        let mut sums = Self::default();
        sums.set(Measure::Calls, u64::from(entry.calls));
        sums.set(Measure::Unpriced, u64::from(entry.nano_usd.is_none() && entry.usage != Usage::default()));
        sums.set(Measure::NanoUsd, entry.nano_usd.unwrap_or(0));
        sums.set(Measure::SavedNanoUsd, entry.saved.0);
        sums.set(Measure::SavedTokens, entry.saved.1);
        let classes = entry.usage.classes().into_iter().chain([entry.usage.reasoning]);
        for (tokens, slot) in classes.zip(slots) {
            if let Some(slot) = slot {
                sums.0[FIXED + slot] = tokens;
            }
        }
        sums
    }
}
