//! What a model call has used: tokens in disjoint classes, units beside tokens, and the terms of its price. Money is then a plain
//! sum of products.

use std::time::Duration;

/// Tokens of one call, in classes that do not overlap. A class the provider did not name is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Input that was neither read from nor written to the provider's prompt cache; text, unless a class below has it.
    pub input: u64,
    /// Input read from the provider's prompt cache.
    pub cache_read: u64,
    /// Input written to the provider's prompt cache for its short lifetime: five minutes at Anthropic, 30 minutes at OpenAI.
    pub cache_write: u64,
    /// Input written to the provider's prompt cache for its long lifetime: an hour at Anthropic, twelve hours at OpenAI.
    pub cache_write_1h: u64,
    /// Output, reasoning included; text, unless a class below has it.
    pub output: u64,
    /// Part of `output` spent on reasoning; for information only.
    pub reasoning: u64,
    /// Sound in the input that was not read from the cache.
    pub audio_input: u64,
    /// Sound in the input, read from the cache.
    pub audio_cache_read: u64,
    /// Sound in the output.
    pub audio_output: u64,
    /// Pictures in the input that were not read from the cache.
    pub image_input: u64,
    /// Pictures in the input, read from the cache.
    pub image_cache_read: u64,
    /// Pictures in the output.
    pub image_output: u64,
}

/// A quota of requests or of tokens, as a provider tells it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quota {
    /// Its size; `None`: not said.
    pub limit: Option<u64>,
    /// What is left of it.
    pub left: u64,
    /// The time until it is whole again; `None`: not said.
    pub reset: Option<Duration>,
}

/// What a call has used beside tokens, as far as the answer tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Units {
    /// Searches of the web that the provider made and bills.
    pub web_searches: u64,
    /// Searches of the operator's files at the provider.
    pub file_searches: u64,
    /// Containers in which the provider ran code.
    pub containers: u64,
    /// Google's searches: queries of Gemini 3 and later.
    pub grounding_queries: u64,
    /// Google's searches: answers that stand on them.
    pub grounded_answers: u64,
    /// Thousandths of a second of sound in the input, where the provider bills by time.
    pub audio_millis: u64,
}

/// The class of service that did the work. It decides the price, and a project's setting may have chosen it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    /// Nothing was said: the standard price.
    #[default]
    Unsaid,
    /// The standard price.
    Standard,
    /// Slower and cheaper.
    Flex,
    /// Within a day, and cheaper.
    Batch,
    /// Faster and dearer: `priority`, `fast`, Anthropic's `speed: fast`.
    Fast,
    /// OpenAI's fastest.
    Ultrafast,
    /// A word that has no known price.
    Other,
}

/// The terms of a call's price.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terms {
    /// The class of service.
    pub tier: Tier,
    /// Whether the work was bound to a region, which costs more (Anthropic's `inference_geo`).
    pub regional: bool,
    /// The usage is a sum of several answers, and each of them had more tokens of input than this; `None`: it is the usage of one answer.
    /// Long contexts are judged answer by answer.
    pub each_above: Option<u64>,
}

/// A part of a call's work with a model of its own: a compaction, an adviser, a fallback inside the provider.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// The model; `None`: that of the answer.
    pub model: Option<Box<str>>,
    /// Its tokens.
    pub usage: Usage,
}

/// The source of the numbers, the least certain first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum UsageSource {
    /// No numbers are known.
    #[default]
    Missing,
    /// Counted by the proxy from the passing bytes.
    Estimated,
    /// Counted by the proxy with the model's own tokenizer.
    Counted,
    /// Stated by the provider.
    Provider,
}

/// The number of classes of tokens that have a price.
pub const CLASSES: usize = 11;

impl Usage {
    /// The names of the classes that have a price, in the order of [`Usage::classes`].
    pub const NAMES: [&'static str; CLASSES] = [
        "input",
        "cache_read",
        "cache_write",
        "cache_write_1h",
        "output",
        "audio_input",
        "audio_cache_read",
        "audio_output",
        "image_input",
        "image_cache_read",
        "image_output",
    ];

    /// The classes that have a price, in the order of [`Usage::NAMES`].
    pub fn classes(&self) -> [u64; CLASSES] {
        [
            self.input,
            self.cache_read,
            self.cache_write,
            self.cache_write_1h,
            self.output,
            self.audio_input,
            self.audio_cache_read,
            self.audio_output,
            self.image_input,
            self.image_cache_read,
            self.image_output,
        ]
    }

    /// The usage with these classes, and this part of the output spent on reasoning.
    pub fn of(classes: [u64; CLASSES], reasoning: u64) -> Self {
        let [
            input,
            cache_read,
            cache_write,
            cache_write_1h,
            output,
            audio_input,
            audio_cache_read,
            audio_output,
            image_input,
            image_cache_read,
            image_output,
        ] = classes;
        Self {
            input,
            cache_read,
            cache_write,
            cache_write_1h,
            output,
            reasoning,
            audio_input,
            audio_cache_read,
            audio_output,
            image_input,
            image_cache_read,
            image_output,
        }
    }

    /// All input, cached or not.
    pub fn total_input(&self) -> u64 {
        let media = [self.audio_input, self.audio_cache_read, self.image_input, self.image_cache_read];
        let text = [self.input, self.cache_read, self.cache_write, self.cache_write_1h];
        text.into_iter().chain(media).fold(0, u64::saturating_add)
    }

    /// All output.
    pub fn total_output(&self) -> u64 {
        self.output.saturating_add(self.audio_output).saturating_add(self.image_output)
    }

    /// The sum of two usages, class by class.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let (mut sum, more) = (self.classes(), other.classes());
        sum.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        Self::of(sum, self.reasoning.saturating_add(other.reasoning))
    }

    /// What is left of a usage without another, class by class; no class falls below 0.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let (mut left, less) = (self.classes(), other.classes());
        left.iter_mut().zip(less).for_each(|(left, less)| *left = left.saturating_sub(less));
        Self::of(left, self.reasoning.saturating_sub(other.reasoning))
    }

    /// Input and output.
    pub fn total(&self) -> u64 {
        self.total_input().saturating_add(self.total_output())
    }
}

/// The number of kinds of units.
pub const UNITS: usize = 6;

impl Units {
    /// The names of the units, in the order of [`Units::counts`].
    pub const NAMES: [&'static str; UNITS] =
        ["web_searches", "file_searches", "containers", "grounding_queries", "grounded_answers", "audio_millis"];

    /// The counts, in the order of [`Units::NAMES`].
    pub fn counts(&self) -> [u64; UNITS] {
        [self.web_searches, self.file_searches, self.containers, self.grounding_queries, self.grounded_answers, self.audio_millis]
    }
}

impl Tier {
    /// All tiers, the unsaid one first.
    pub const ALL: [Self; 7] = [Self::Unsaid, Self::Standard, Self::Flex, Self::Batch, Self::Fast, Self::Ultrafast, Self::Other];

    /// The word used in logs, metrics and prices; empty if nothing was said.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unsaid => "",
            Self::Standard => "standard",
            Self::Flex => "flex",
            Self::Batch => "batch",
            Self::Fast => "fast",
            Self::Ultrafast => "ultrafast",
            Self::Other => "other",
        }
    }
}

impl Terms {
    /// These terms, with the tier of `asked` where they say none.
    #[must_use]
    pub fn or(self, asked: Self) -> Self {
        match self.tier {
            Tier::Unsaid => Self { tier: asked.tier, regional: self.regional || asked.regional, ..self },
            _ => self,
        }
    }
}

impl UsageSource {
    /// The word used in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Estimated => "estimated",
            Self::Counted => "counted",
            Self::Provider => "provider",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_come_and_go_in_one_order() {
        let classes = std::array::from_fn(|at| at as u64 + 1);
        let usage = Usage::of(classes, 3);
        assert_eq!(usage.classes(), classes);
        assert_eq!((usage.total_input(), usage.total_output(), usage.total()), (1 + 2 + 3 + 4 + 6 + 7 + 9 + 10, 5 + 8 + 11, 66));
        assert_eq!(usage.plus(&usage).without(&usage), usage);
        assert_eq!(usage.without(&usage.plus(&usage)), Usage::default());
    }

    #[test]
    fn what_the_answer_says_wins_over_what_was_asked() {
        let of = |tier, regional| Terms { tier, regional, ..Terms::default() };
        assert_eq!(of(Tier::Standard, false).or(of(Tier::Fast, true)), of(Tier::Standard, false));
        assert_eq!(of(Tier::Unsaid, false).or(of(Tier::Flex, true)), of(Tier::Flex, true));
        assert_eq!(of(Tier::Unsaid, true).or(of(Tier::Unsaid, false)), of(Tier::Unsaid, true));
    }
}
