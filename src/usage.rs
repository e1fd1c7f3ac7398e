//! The cost of a model call in disjoint classes of tokens: money is then a plain sum of products.

/// Tokens of one call, in classes that do not overlap. A class the provider did not name is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Input that was neither read from nor written to the provider's prompt cache.
    pub input: u64,
    /// Input read from the provider's prompt cache.
    pub cache_read: u64,
    /// Input written to the provider's prompt cache for five minutes (or for the provider's only lifetime).
    pub cache_write: u64,
    /// Input written to the provider's prompt cache for an hour.
    pub cache_write_1h: u64,
    /// Output, reasoning included.
    pub output: u64,
    /// Part of `output` spent on reasoning; for information only.
    pub reasoning: u64,
}

/// The source of the numbers, the least certain first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum UsageSource {
    /// No numbers are known.
    #[default]
    Missing,
    /// Counted by the proxy from the passing bytes.
    Estimated,
    /// Stated by the provider.
    Provider,
}

impl Usage {
    /// All input, cached or not.
    pub fn total_input(&self) -> u64 {
        self.input.saturating_add(self.cache_read).saturating_add(self.cache_write).saturating_add(self.cache_write_1h)
    }

    /// The sum of two usages, class by class.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            cache_read: self.cache_read.saturating_add(other.cache_read),
            cache_write: self.cache_write.saturating_add(other.cache_write),
            cache_write_1h: self.cache_write_1h.saturating_add(other.cache_write_1h),
            output: self.output.saturating_add(other.output),
            reasoning: self.reasoning.saturating_add(other.reasoning),
        }
    }

    /// Input and output.
    pub fn total(&self) -> u64 {
        self.total_input().saturating_add(self.output)
    }
}

impl UsageSource {
    /// The word used in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Estimated => "estimated",
            Self::Provider => "provider",
        }
    }
}
