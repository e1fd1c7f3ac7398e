//! A usage object, under each API's names.

use serde::Deserialize;

use super::figures::{Figures, Media};
use crate::provider::json::{Count, Perhaps, Text};

/// Every figure of every API; the names do not clash.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Counts {
    prompt_tokens: Count,
    completion_tokens: Count,
    total_tokens: Count,
    prompt_tokens_details: Perhaps<InputDetails>,
    completion_tokens_details: Perhaps<OutputDetails>,
    /// DeepSeek.
    prompt_cache_hit_tokens: Count,
    /// Moonshot.
    cached_tokens: Count,
    cached_tokens_details: Perhaps<Cached>,

    input_tokens: Count,
    output_tokens: Count,
    /// Realtime and transcription say `token`.
    #[serde(alias = "input_token_details")]
    input_tokens_details: Perhaps<InputDetails>,
    #[serde(alias = "output_token_details")]
    output_tokens_details: Perhaps<OutputDetails>,

    cache_creation_input_tokens: Count,
    cache_read_input_tokens: Count,
    cache_creation: Perhaps<CacheCreation>,

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
    #[serde(rename = "totalTokenCount")]
    gemini_total: Count,
    #[serde(rename = "promptTokensDetails")]
    prompt_details: Perhaps<Vec<Modality>>,
    #[serde(rename = "toolUsePromptTokensDetails")]
    tool_details: Perhaps<Vec<Modality>>,
    #[serde(rename = "cacheTokensDetails")]
    cache_details: Perhaps<Vec<Modality>>,
    #[serde(rename = "candidatesTokensDetails")]
    candidates_details: Perhaps<Vec<Modality>>,

    /// Converse; InvokeModel's `amazon-bedrock-invocationMetrics`; Titan; Llama.
    #[serde(rename = "inputTokens", alias = "inputTokenCount", alias = "inputTextTokenCount", alias = "prompt_token_count")]
    aws_input: Count,
    #[serde(rename = "outputTokens", alias = "outputTokenCount", alias = "generation_token_count")]
    aws_output: Count,
    #[serde(rename = "cacheReadInputTokens", alias = "cacheReadInputTokenCount")]
    aws_cache_read: Count,
    #[serde(rename = "cacheWriteInputTokens", alias = "cacheWriteInputTokenCount")]
    aws_cache_write: Count,
    #[serde(rename = "cacheDetails")]
    aws_cache_details: Perhaps<Vec<CacheDetail>>,
    /// Titan.
    results: Perhaps<Vec<TitanResult>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct InputDetails {
    cached_tokens: Count,
    cache_write_tokens: Count,
    /// OpenAI's cache writes by lifetime.
    cache_write_tokens_details: Perhaps<Lifetimes>,
    audio_tokens: Count,
    image_tokens: Count,
    cached_tokens_details: Perhaps<Cached>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Lifetimes {
    ttl_12h_tokens: Count,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Cached {
    #[serde(alias = "cached_audio_tokens")]
    audio_tokens: Count,
    #[serde(alias = "cached_image_tokens")]
    image_tokens: Count,
}

/// Gemini's tokens of one kind of content.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Modality {
    modality: Text,
    #[serde(rename = "tokenCount")]
    tokens: Count,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OutputDetails {
    reasoning_tokens: Count,
    thinking_tokens: Count,
    audio_tokens: Count,
    image_tokens: Count,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CacheCreation {
    ephemeral_5m_input_tokens: Count,
    ephemeral_1h_input_tokens: Count,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct CacheDetail {
    ttl: Text,
    input_tokens: Count,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct TitanResult {
    token_count: Count,
}

impl Counts {
    pub fn openai(&self) -> Figures {
        let details = self.prompt_tokens_details.0.as_ref().or(self.input_tokens_details.0.as_ref());
        let cached = details.and_then(|details| details.cached_tokens_details.0.as_ref());
        let pictures = details.and_then(|details| details.image_tokens.0);
        let output = self.completion_tokens.0.or(self.output_tokens.0);
        let split = self.cache_creation.0.as_ref();
        Figures {
            input: self.prompt_tokens.0.or(self.input_tokens.0),
            cache_read: details
                .and_then(|details| details.cached_tokens.0)
                .or(self.prompt_cache_hit_tokens.0)
                .or(self.cached_tokens.0)
                .or(self.cache_read_input_tokens.0),
            cache_write: details.and_then(|details| details.cache_write_tokens.0).or(self.cache_creation_input_tokens.0),
            cache_write_1h: details
                .and_then(|details| details.cache_write_tokens_details.0.as_ref()?.ttl_12h_tokens.0)
                .or_else(|| split.and_then(|split| split.ephemeral_1h_input_tokens.0)),
            output,
            reasoning: self.output_details().and_then(|details| details.reasoning_tokens.0),
            total: self.total_tokens.0,
            media: Media {
                audio_input: details.and_then(|details| details.audio_tokens.0),
                audio_cached: cached.and_then(|cached| cached.audio_tokens.0),
                audio_output: self.output_details().and_then(|details| details.audio_tokens.0),
                image_input: pictures,
                image_cached: cached.and_then(|cached| cached.image_tokens.0).or(self.cached_images()),
                // Without output details, a model that tells the pictures of its prompt apart makes pictures.
                image_output: match self.output_details() {
                    Some(details) => details.image_tokens.0,
                    None => output.filter(|_| pictures.is_some() && self.input_tokens.0.is_some()),
                },
            },
            ..Figures::default()
        }
    }

    /// Cached pictures, beside the details (OpenAI's picture tool).
    fn cached_images(&self) -> Option<u64> {
        self.cached_tokens_details.0.as_ref()?.image_tokens.0
    }

    pub fn anthropic(&self) -> Figures {
        let split = self.cache_creation.0.as_ref();
        Figures {
            input: self.input_tokens.0,
            cache_read: self.cache_read_input_tokens.0,
            cache_write: self.cache_creation_input_tokens.0,
            cache_write_5m: split.and_then(|split| split.ephemeral_5m_input_tokens.0),
            cache_write_1h: split.and_then(|split| split.ephemeral_1h_input_tokens.0),
            output: self.output_tokens.0,
            reasoning: self.output_details().and_then(|details| details.thinking_tokens.0),
            ..Figures::default()
        }
    }

    pub fn gemini(&self) -> Figures {
        Figures {
            input: self.prompt.0,
            tools: self.tool_prompt.0,
            cache_read: self.cached.0,
            output: self.candidates.0,
            reasoning: self.thoughts.0,
            total: self.gemini_total.0,
            media: Media {
                audio_input: of_kind("AUDIO", &[&self.prompt_details, &self.tool_details]),
                audio_cached: of_kind("AUDIO", &[&self.cache_details]),
                audio_output: of_kind("AUDIO", &[&self.candidates_details]),
                image_input: of_kind("IMAGE", &[&self.prompt_details, &self.tool_details]),
                image_cached: of_kind("IMAGE", &[&self.cache_details]),
                image_output: of_kind("IMAGE", &[&self.candidates_details]),
            },
            ..Figures::default()
        }
    }

    pub fn bedrock(&self) -> Figures {
        let titan = self.results.0.as_ref().map(|results| results.iter().filter_map(|result| result.token_count.0).sum());
        let output = self.aws_output.0.or(titan.filter(|tokens| *tokens > 0));
        if self.aws_input.0.is_none() && output.is_none() {
            // InvokeModel answers in the model's own format, most often Anthropic's.
            return self.anthropic();
        }
        let long =
            self.aws_cache_details.0.as_ref().map(|details| {
                details.iter().filter(|detail| detail.ttl.as_str() == "1h").filter_map(|detail| detail.input_tokens.0).sum()
            });
        Figures {
            input: self.aws_input.0,
            cache_read: self.aws_cache_read.0,
            cache_write: self.aws_cache_write.0,
            cache_write_1h: long,
            output,
            ..Figures::default()
        }
    }

    fn output_details(&self) -> Option<&OutputDetails> {
        self.completion_tokens_details.0.as_ref().or(self.output_tokens_details.0.as_ref())
    }
}

/// The tokens of one kind of content in these lists; `None`: none of them has it.
fn of_kind(kind: &str, lists: &[&Perhaps<Vec<Modality>>]) -> Option<u64> {
    let all = lists.iter().filter_map(|list| list.0.as_ref()).flatten();
    all.filter(|one| one.modality.as_str() == kind).filter_map(|one| one.tokens.0).reduce(u64::saturating_add)
}
