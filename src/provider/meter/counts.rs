//! A provider's usage object turned into disjoint classes.
//!
//! | API | input includes cached reads | includes cache writes | output includes reasoning |
//! |---|---|---|---|
//! | OpenAI | yes, subtract | yes, subtract | yes |
//! | Anthropic | no | no | yes |
//! | Gemini | yes, subtract | - | no, add |
//! | Bedrock | no | no | yes |
//!
//! Sources: OpenAI API reference (chat completion object, response object, embeddings), Anthropic Messages reference,
//! Gemini `UsageMetadata`, Bedrock `TokenUsage`. A missing or null figure is unknown; none is derived from a total unless
//! it is the only way (compatible servers have totals that do not add up).

use serde::Deserialize;

use super::Wire;
use crate::{
    provider::json::{self, Count},
    usage::Usage,
};

/// Reads a usage object as `wire` means it; `None` if no figure is in it.
pub(super) fn read(wire: Wire, raw: &[u8]) -> Option<Usage> {
    let counts: Counts = json::lenient(raw)?;
    let usage = match wire {
        Wire::Gemini => counts.gemini(),
        Wire::Anthropic => counts.anthropic(),
        Wire::Bedrock => counts.bedrock(),
        Wire::Chat | Wire::Responses | Wire::Embeddings | Wire::Media => counts.openai(),
        Wire::Unknown => None,
    }?;
    Some(usage)
}

/// Lays later figures over earlier ones: what the later object names wins, what it does not name stays. For Anthropic's
/// `message_delta`, whose figures are cumulative and whose input figures are optional.
pub(super) fn overlay(earlier: Usage, raw: &[u8]) -> Option<Usage> {
    let counts: Counts = json::lenient(raw)?;
    let mut usage = earlier;
    let set = |to: &mut u64, from: Count| {
        if let Some(n) = from.0 {
            *to = n;
        }
    };
    set(&mut usage.input, counts.input_tokens);
    set(&mut usage.cache_read, counts.cache_read_input_tokens);
    set(&mut usage.output, counts.output_tokens);
    if let Some((short, long)) = counts.cache_writes() {
        (usage.cache_write, usage.cache_write_1h) = (short, long);
    }
    set(&mut usage.reasoning, counts.output_details().map(|details| details.thinking_tokens).unwrap_or_default());
    Some(usage)
}

/// Every figure of every API; the names do not clash.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Counts {
    prompt_tokens: Count,
    completion_tokens: Count,
    total_tokens: Count,
    prompt_tokens_details: Option<InputDetails>,
    completion_tokens_details: Option<OutputDetails>,
    /// DeepSeek.
    prompt_cache_hit_tokens: Count,

    input_tokens: Count,
    output_tokens: Count,
    input_tokens_details: Option<InputDetails>,
    output_tokens_details: Option<OutputDetails>,

    cache_creation_input_tokens: Count,
    cache_read_input_tokens: Count,
    cache_creation: Option<CacheCreation>,

    #[serde(rename = "promptTokenCount")]
    prompt: Count,
    #[serde(rename = "cachedContentTokenCount")]
    cached: Count,
    #[serde(rename = "candidatesTokenCount")]
    candidates: Count,
    #[serde(rename = "thoughtsTokenCount")]
    thoughts: Count,
    #[serde(rename = "toolUsePromptTokenCount")]
    tool_prompt: Count,

    #[serde(rename = "inputTokens")]
    aws_input: Count,
    #[serde(rename = "outputTokens")]
    aws_output: Count,
    #[serde(rename = "cacheReadInputTokens")]
    aws_cache_read: Count,
    #[serde(rename = "cacheWriteInputTokens")]
    aws_cache_write: Count,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct InputDetails {
    cached_tokens: Count,
    cache_write_tokens: Count,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OutputDetails {
    reasoning_tokens: Count,
    thinking_tokens: Count,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CacheCreation {
    ephemeral_5m_input_tokens: Count,
    ephemeral_1h_input_tokens: Count,
}

impl Counts {
    fn openai(&self) -> Option<Usage> {
        let input = self.prompt_tokens.0.or(self.input_tokens.0);
        let output = self.completion_tokens.0.or(self.output_tokens.0);
        if input.is_none() && output.is_none() && self.total_tokens.0.is_none() {
            return None;
        }
        let total = self.total_tokens.0.unwrap_or(0);
        let details = self.prompt_tokens_details.as_ref().or(self.input_tokens_details.as_ref());
        let read = details.and_then(|details| details.cached_tokens.0).or(self.prompt_cache_hit_tokens.0).unwrap_or(0);
        let write = details.and_then(|details| details.cache_write_tokens.0).unwrap_or(0);
        Some(Usage {
            input: input.unwrap_or_else(|| total.saturating_sub(output.unwrap_or(0))).saturating_sub(read).saturating_sub(write),
            cache_read: read,
            cache_write: write,
            cache_write_1h: 0,
            output: output.unwrap_or_else(|| input.map_or(0, |input| total.saturating_sub(input))),
            reasoning: self.output_details().and_then(|details| details.reasoning_tokens.0).unwrap_or(0),
        })
    }

    fn anthropic(&self) -> Option<Usage> {
        if self.input_tokens.0.is_none() && self.output_tokens.0.is_none() {
            return None;
        }
        let (cache_write, cache_write_1h) = self.cache_writes().unwrap_or_default();
        Some(Usage {
            input: self.input_tokens.0.unwrap_or(0),
            cache_read: self.cache_read_input_tokens.0.unwrap_or(0),
            cache_write,
            cache_write_1h,
            output: self.output_tokens.0.unwrap_or(0),
            reasoning: self.output_details().and_then(|details| details.thinking_tokens.0).unwrap_or(0),
        })
    }

    fn gemini(&self) -> Option<Usage> {
        let prompt = self.prompt.0?.saturating_add(self.tool_prompt.0.unwrap_or(0));
        let (cached, thoughts) = (self.cached.0.unwrap_or(0), self.thoughts.0.unwrap_or(0));
        Some(Usage {
            input: prompt.saturating_sub(cached),
            cache_read: cached,
            output: self.candidates.0.unwrap_or(0).saturating_add(thoughts),
            reasoning: thoughts,
            ..Usage::default()
        })
    }

    fn bedrock(&self) -> Option<Usage> {
        if self.aws_input.0.is_none() && self.aws_output.0.is_none() {
            // InvokeModel answers in the model's own words, most often Anthropic's.
            return self.anthropic();
        }
        Some(Usage {
            input: self.aws_input.0.unwrap_or(0),
            cache_read: self.aws_cache_read.0.unwrap_or(0),
            cache_write: self.aws_cache_write.0.unwrap_or(0),
            output: self.aws_output.0.unwrap_or(0),
            ..Usage::default()
        })
    }

    /// Anthropic's cache writes by lifetime; all of them five minutes where the split is not given.
    fn cache_writes(&self) -> Option<(u64, u64)> {
        let split = self.cache_creation.as_ref();
        let long = split.and_then(|split| split.ephemeral_1h_input_tokens.0);
        let short = split.and_then(|split| split.ephemeral_5m_input_tokens.0);
        match (self.cache_creation_input_tokens.0, short, long) {
            (None, None, None) => None,
            (Some(all), _, long) => Some((all.saturating_sub(long.unwrap_or(0)), long.unwrap_or(0).min(all))),
            (None, short, long) => Some((short.unwrap_or(0), long.unwrap_or(0))),
        }
    }

    fn output_details(&self) -> Option<&OutputDetails> {
        self.completion_tokens_details.as_ref().or(self.output_tokens_details.as_ref())
    }
}
