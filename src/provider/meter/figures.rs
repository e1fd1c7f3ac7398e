//! A provider's figures, and the disjoint classes of usage that follow from them.
//!
//! | API | input includes cached reads | includes cache writes | output includes reasoning |
//! |---|---|---|---|
//! | OpenAI | yes, subtract | yes, subtract | yes |
//! | Anthropic | no | no | yes |
//! | Gemini | yes, subtract | - | no, add |
//! | Bedrock | no | no | yes |
//!
//! Compatible servers differ: xAI's reasoning lies beside its output, some servers put cached input beside the rest. If an answer
//! has a total, the first reading whose sum meets the total counts; the documented reading comes first ([`Figures::usage`]). A
//! missing or null figure is unknown and not 0. Later figures replace earlier ones, but a coarser figure never replaces a finer one
//! ([`Figures::overlay`]).
//!
//! Sources: OpenAI API reference (chat completion object, response object, embeddings), Anthropic Messages reference,
//! Gemini `UsageMetadata`, Bedrock `TokenUsage` and `CacheDetail`.

use super::{Wire, counts::Counts};
use crate::{provider::json, usage::Usage};

/// Figures under a provider's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Figures {
    pub input: Option<u64>,
    /// Gemini's results of tools, beside `input`.
    pub tools: Option<u64>,
    pub cache_read: Option<u64>,
    /// Cache writes of all lifetimes.
    pub cache_write: Option<u64>,
    pub cache_write_5m: Option<u64>,
    pub cache_write_1h: Option<u64>,
    pub output: Option<u64>,
    pub reasoning: Option<u64>,
    pub total: Option<u64>,
    pub media: Media,
}

/// The parts of the figures above that are sound or pictures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Media {
    /// Sound in the input, read from the cache or not.
    pub audio_input: Option<u64>,
    pub audio_cached: Option<u64>,
    pub audio_output: Option<u64>,
    /// Pictures in the input, read from the cache or not.
    pub image_input: Option<u64>,
    pub image_cached: Option<u64>,
    pub image_output: Option<u64>,
}

impl Media {
    /// Lays later figures over these.
    fn overlay(&mut self, later: Self) {
        let over = |to: &mut Option<u64>, from: Option<u64>| *to = from.or(*to);
        over(&mut self.audio_input, later.audio_input);
        over(&mut self.audio_cached, later.audio_cached);
        over(&mut self.audio_output, later.audio_output);
        over(&mut self.image_input, later.image_input);
        over(&mut self.image_cached, later.image_cached);
        over(&mut self.image_output, later.image_output);
    }

    /// Takes sound and pictures out of the classes that include them. A part is never larger than its class.
    fn split(&self, mut usage: Usage) -> Usage {
        let take = |from: &mut u64, figure: Option<u64>, less: u64| {
            let taken = figure.unwrap_or(0).saturating_sub(less).min(*from);
            *from -= taken;
            taken
        };
        usage.audio_cache_read = take(&mut usage.cache_read, self.audio_cached, 0);
        usage.image_cache_read = take(&mut usage.cache_read, self.image_cached, 0);
        usage.audio_input = take(&mut usage.input, self.audio_input, usage.audio_cache_read);
        usage.image_input = take(&mut usage.input, self.image_input, usage.image_cache_read);
        usage.audio_output = take(&mut usage.output, self.audio_output, 0);
        usage.image_output = take(&mut usage.output, self.image_output, 0);
        usage
    }
}

impl Figures {
    /// Reads a usage object; `None`: it has no figure of this wire.
    pub fn read(wire: Wire, raw: &[u8]) -> Option<Self> {
        let counts: Counts = json::lenient(raw)?;
        let figures = match wire {
            Wire::Gemini => counts.gemini(),
            Wire::Anthropic => counts.anthropic(),
            Wire::Bedrock => counts.bedrock(),
            Wire::Chat | Wire::Responses | Wire::Embeddings | Wire::Media => counts.openai(),
            Wire::Unknown => Self::default(),
        };
        (figures.input.is_some() || figures.output.is_some() || figures.total.is_some()).then_some(figures)
    }

    /// The figures of counts in header fields.
    pub fn counted(input: Option<u64>, output: Option<u64>, cache_read: Option<u64>, cache_write: Option<u64>) -> Option<Self> {
        (input.is_some() || output.is_some()).then_some(Self { input, output, cache_read, cache_write, ..Self::default() })
    }

    /// Lays later figures over these: a named figure replaces the earlier one, an unnamed figure stays. A side (input, output) whose
    /// later figures are all zero stays as it was.
    pub fn overlay(&mut self, later: Self) {
        let some = |figures: &[Option<u64>]| figures.iter().any(|figure| figure.is_some_and(|figure| figure > 0));
        let over = |to: &mut Option<u64>, from: Option<u64>| *to = from.or(*to);
        let first = self.input.is_none();
        if first || some(&[later.input, later.tools, later.cache_read, later.cache_write, later.cache_write_5m, later.cache_write_1h]) {
            over(&mut self.input, later.input);
            over(&mut self.tools, later.tools);
            over(&mut self.cache_read, later.cache_read);
            over(&mut self.cache_write, later.cache_write);
            over(&mut self.cache_write_5m, later.cache_write_5m);
            over(&mut self.cache_write_1h, later.cache_write_1h);
        }
        if self.output.is_none() || some(&[later.output, later.reasoning]) {
            over(&mut self.output, later.output);
            over(&mut self.reasoning, later.reasoning);
        }
        if some(&[later.total]) {
            self.total = later.total;
        }
        self.media.overlay(later.media);
    }

    /// The disjoint classes of usage.
    pub fn usage(&self, wire: Wire) -> Usage {
        self.media.split(match wire {
            Wire::Gemini => self.as_gemini(),
            Wire::Anthropic | Wire::Bedrock => self.as_disjoint(),
            Wire::Chat | Wire::Responses | Wire::Embeddings | Wire::Media | Wire::Unknown => self.as_openai(),
        })
    }

    fn as_openai(&self) -> Usage {
        let (input, output) = match (self.input, self.output, self.total) {
            (Some(input), None, Some(total)) => (input, total.saturating_sub(input)),
            (None, Some(output), Some(total)) => (total.saturating_sub(output), output),
            (None, None, Some(total)) => (total, 0),
            (input, output, _) => (input.unwrap_or(0), output.unwrap_or(0)),
        };
        let (write, write_1h) = self.cache_writes();
        let (read, writes, reasoning) = (self.cache_read.unwrap_or(0), write.saturating_add(write_1h), self.reasoning.unwrap_or(0));
        let readings = PLACINGS.iter().filter(|reading| reading.is_possible(input, output, read, writes, reasoning));
        let sum = |reading: &Placing| sum(&[input, output, reading.beside(read, writes, reasoning)]);
        let met = self.total.and_then(|total| readings.clone().find(|reading| sum(reading) == total));
        // Gemini behind OpenAI's API: only the total includes the thoughts.
        let untold = match (met, self.total) {
            (None, Some(total)) if reasoning == 0 && read + writes <= input => total.saturating_sub(input.saturating_add(output)),
            _ => 0,
        };
        let reading = met.or_else(|| readings.clone().next()).unwrap_or(&PLACINGS[0]);
        let inside = [(read, reading.read), (writes, reading.writes)].into_iter().filter(|(_, beside)| !beside).map(|(figure, _)| figure);
        let reasoned = reasoning.saturating_add(untold);
        Usage {
            input: inside.fold(input, u64::saturating_sub),
            cache_read: read,
            cache_write: write,
            cache_write_1h: write_1h,
            output: output.saturating_add(if reading.reasoning { reasoned } else { untold }),
            reasoning: reasoned,
            ..Usage::default()
        }
    }

    fn as_gemini(&self) -> Usage {
        let (prompt, tools, thoughts) = (self.input.unwrap_or(0), self.tools.unwrap_or(0), self.reasoning.unwrap_or(0));
        let cached = self.cache_read.unwrap_or(0);
        let given = sum(&[prompt, tools, thoughts]);
        let candidates = self.output.unwrap_or_else(|| self.total.map_or(0, |total| total.saturating_sub(given)));
        // (tools, thoughts): whether they lie beside prompt and candidates; both do, as documented.
        let of = |(tools_beside, thoughts_beside): (bool, bool)| {
            let input = if tools_beside { prompt.saturating_add(tools) } else { prompt };
            (input, if thoughts_beside { candidates.saturating_add(thoughts) } else { candidates })
        };
        let possible = [(true, true), (true, false), (false, true), (false, false)]
            .into_iter()
            .filter(|(tools_beside, thoughts_beside)| (*tools_beside || tools <= prompt) && (*thoughts_beside || thoughts <= candidates));
        let met = self.total.and_then(|total| possible.map(of).find(|(input, output)| input.saturating_add(*output) == total));
        let (input, mut output) = met.unwrap_or_else(|| of((true, true)));
        let mut reasoning = thoughts;
        if let (None, Some(total), 0) = (met, self.total, thoughts) {
            // Only the total includes the thoughts.
            reasoning = total.saturating_sub(input.saturating_add(output));
            output = output.saturating_add(reasoning);
        }
        Usage { input: if cached <= input { input - cached } else { input }, cache_read: cached, output, reasoning, ..Usage::default() }
    }

    fn as_disjoint(&self) -> Usage {
        let (cache_write, cache_write_1h) = self.cache_writes();
        Usage {
            input: self.input.unwrap_or(0),
            cache_read: self.cache_read.unwrap_or(0),
            cache_write,
            cache_write_1h,
            output: self.output.unwrap_or(0),
            reasoning: self.reasoning.unwrap_or(0),
            ..Usage::default()
        }
    }

    /// Cache writes of five minutes and of an hour. Without a split all count as five minutes.
    fn cache_writes(&self) -> (u64, u64) {
        let long = self.cache_write_1h.unwrap_or(0);
        match self.cache_write {
            Some(all) => (all.saturating_sub(long), long.min(all)),
            None => (self.cache_write_5m.unwrap_or(0), long),
        }
    }
}

/// A reading: the parts that lie beside the figure that may include them.
struct Placing {
    read: bool,
    writes: bool,
    reasoning: bool,
}

/// All readings: the documented one first, then those in use.
const PLACINGS: [Placing; 8] = {
    const fn of(read: bool, writes: bool, reasoning: bool) -> Placing {
        Placing { read, writes, reasoning }
    }
    [
        of(false, false, false),
        of(false, false, true),
        of(true, true, false),
        of(true, false, false),
        of(false, true, false),
        of(true, true, true),
        of(true, false, true),
        of(false, true, true),
    ]
};

impl Placing {
    /// Whether the included parts are no larger than their figure.
    fn is_possible(&self, input: u64, output: u64, read: u64, writes: u64, reasoning: u64) -> bool {
        let within = if self.read { 0 } else { read }.saturating_add(if self.writes { 0 } else { writes });
        within <= input && (self.reasoning || reasoning <= output)
    }

    fn beside(&self, read: u64, writes: u64, reasoning: u64) -> u64 {
        let of = |beside: bool, figure: u64| if beside { figure } else { 0 };
        sum(&[of(self.read, read), of(self.writes, writes), of(self.reasoning, reasoning)])
    }
}

fn sum(figures: &[u64]) -> u64 {
    figures.iter().fold(0, |sum, figure| sum.saturating_add(*figure))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(wire: Wire, objects: &[&str]) -> (u64, u64, u64, u64, u64, u64) {
        let mut figures: Option<Figures> = None;
        for later in objects.iter().filter_map(|object| Figures::read(wire, object.as_bytes())) {
            figures.get_or_insert_default().overlay(later);
        }
        let usage = figures.expect("figures").usage(wire);
        (usage.input, usage.cache_read, usage.cache_write, usage.cache_write_1h, usage.output, usage.reasoning)
    }

    #[test]
    fn the_reading_whose_sum_meets_the_total_is_taken() {
        for (what, object, expected) in [
            (
                "OpenAI: all inside",
                r#"{"prompt_tokens":100,"completion_tokens":60,"total_tokens":160,"prompt_tokens_details":{"cached_tokens":30,"cache_write_tokens":20},"completion_tokens_details":{"reasoning_tokens":40}}"#,
                (50, 30, 20, 0, 60, 40),
            ),
            (
                "xAI: reasoning beside",
                r#"{"prompt_tokens":10120,"completion_tokens":1499,"total_tokens":14428,"prompt_tokens_details":{"cached_tokens":128},"completion_tokens_details":{"reasoning_tokens":2809}}"#,
                (9_992, 128, 0, 0, 4_308, 2_809),
            ),
            (
                "reasoning that does not fit is beside, also without a total",
                r#"{"prompt_tokens":21,"completion_tokens":0,"completion_tokens_details":{"reasoning_tokens":60}}"#,
                (21, 0, 0, 0, 60, 60),
            ),
            (
                "cached input beside",
                r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":115,"prompt_tokens_details":{"cached_tokens":100}}"#,
                (10, 100, 0, 0, 5, 0),
            ),
            (
                "cached input that does not fit is beside, also without a total",
                r#"{"prompt_tokens":10,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":100}}"#,
                (10, 100, 0, 0, 5, 0),
            ),
            (
                "Anthropic's names in OpenAI's object, beside",
                r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":65,"cache_read_input_tokens":30,"cache_creation_input_tokens":20}"#,
                (10, 30, 20, 0, 5, 0),
            ),
            (
                "everything beside",
                r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":67,"prompt_tokens_details":{"cached_tokens":30,"cache_write_tokens":20},"completion_tokens_details":{"reasoning_tokens":2}}"#,
                (10, 30, 20, 0, 7, 2),
            ),
            (
                "Gemini behind OpenAI's API: thoughts in the total alone",
                r#"{"prompt_tokens":20,"completion_tokens":198,"total_tokens":623}"#,
                (20, 0, 0, 0, 603, 405),
            ),
            (
                "a total that is too small meets nothing",
                r#"{"prompt_tokens":20,"completion_tokens":8,"total_tokens":5}"#,
                (20, 0, 0, 0, 8, 0),
            ),
            ("a total alone", r#"{"total_tokens":5}"#, (5, 0, 0, 0, 0, 0)),
            ("a missing half", r#"{"prompt_tokens":null,"completion_tokens":8,"total_tokens":25}"#, (17, 0, 0, 0, 8, 0)),
            (
                "more than fits anywhere",
                r#"{"prompt_tokens":1,"completion_tokens":1,"total_tokens":18446744073709551615,"prompt_tokens_details":{"cached_tokens":18446744073709551615},"completion_tokens_details":{"reasoning_tokens":18446744073709551615}}"#,
                (1, u64::MAX, 0, 0, u64::MAX, u64::MAX),
            ),
        ] {
            assert_eq!(usage(Wire::Chat, &[object]), expected, "{what}");
        }
    }

    #[test]
    fn gemini_with_thoughts_and_tools_inside_beside_or_untold() {
        for (what, object, expected) in [
            (
                "documented",
                r#"{"promptTokenCount":20,"toolUsePromptTokenCount":5,"cachedContentTokenCount":8,"candidatesTokenCount":6,"thoughtsTokenCount":5,"totalTokenCount":36}"#,
                (17, 8, 0, 0, 11, 5),
            ),
            (
                "thoughts inside",
                r#"{"promptTokenCount":20,"candidatesTokenCount":11,"thoughtsTokenCount":5,"totalTokenCount":31}"#,
                (20, 0, 0, 0, 11, 5),
            ),
            (
                "tools inside",
                r#"{"promptTokenCount":25,"toolUsePromptTokenCount":5,"candidatesTokenCount":6,"totalTokenCount":31}"#,
                (25, 0, 0, 0, 6, 0),
            ),
            ("thoughts alone", r#"{"promptTokenCount":21,"thoughtsTokenCount":60,"totalTokenCount":81}"#, (21, 0, 0, 0, 60, 60)),
            (
                "thoughts in the total alone",
                r#"{"promptTokenCount":20,"candidatesTokenCount":6,"totalTokenCount":50}"#,
                (20, 0, 0, 0, 30, 24),
            ),
            ("no total", r#"{"promptTokenCount":20,"candidatesTokenCount":6,"thoughtsTokenCount":5}"#, (20, 0, 0, 0, 11, 5)),
        ] {
            assert_eq!(usage(Wire::Gemini, &[object]), expected, "{what}");
        }
    }

    #[test]
    fn a_coarser_figure_never_takes_the_place_of_a_finer_one() {
        let start = r#"{"input_tokens":25,"output_tokens":1,"cache_creation_input_tokens":100,"cache_read_input_tokens":50,"cache_creation":{"ephemeral_5m_input_tokens":60,"ephemeral_1h_input_tokens":40}}"#;
        let same = r#"{"output_tokens":15,"cache_creation_input_tokens":100}"#;
        let more = r#"{"output_tokens":15,"cache_creation_input_tokens":130}"#;
        let zeros = r#"{"input_tokens":0,"output_tokens":15,"cache_creation_input_tokens":0,"cache_read_input_tokens":0}"#;
        let moved = r#"{"input_tokens":0,"output_tokens":15,"cache_read_input_tokens":75}"#;
        assert_eq!(usage(Wire::Anthropic, &[start, same]), (25, 50, 60, 40, 15, 0), "the split of the writes stays");
        assert_eq!(usage(Wire::Anthropic, &[start, more]), (25, 50, 90, 40, 15, 0));
        assert_eq!(usage(Wire::Anthropic, &[start, zeros]), (25, 50, 60, 40, 15, 0), "a side of zeros says nothing");
        assert_eq!(usage(Wire::Anthropic, &[start, moved]), (0, 75, 60, 40, 15, 0), "a zero among others does");
        let fine = r#"{"prompt_tokens":100,"completion_tokens":60,"total_tokens":160,"prompt_tokens_details":{"cached_tokens":30},"completion_tokens_details":{"reasoning_tokens":40}}"#;
        let coarse = r#"{"prompt_tokens":100,"completion_tokens":61,"total_tokens":161}"#;
        assert_eq!(usage(Wire::Chat, &[fine, coarse]), (70, 30, 0, 0, 61, 40));
        assert_eq!(usage(Wire::Chat, &[fine, r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#]), (70, 30, 0, 0, 60, 40));
        assert_eq!(usage(Wire::Chat, &[r#"{"prompt_tokens":0,"completion_tokens":0}"#]), (0, 0, 0, 0, 0, 0), "zeros alone are figures");
        let beside =
            r#"{"prompt_tokens":100,"completion_tokens":60,"total_tokens":200,"completion_tokens_details":{"reasoning_tokens":40}}"#;
        let without = r#"{"prompt_tokens":100,"completion_tokens":60}"#;
        assert_eq!(usage(Wire::Chat, &[beside, without]), (100, 0, 0, 0, 100, 40), "the total stays, and with it the reading");
    }

    #[test]
    fn bedrock_and_its_models_own_words() {
        for (what, object, expected) in [
            (
                "Converse",
                r#"{"inputTokens":11,"outputTokens":4,"totalTokens":15,"cacheReadInputTokens":3,"cacheWriteInputTokens":9,"cacheDetails":[{"ttl":"5m","inputTokens":2},{"ttl":"1h","inputTokens":7}]}"#,
                (11, 3, 2, 7, 4, 0),
            ),
            (
                "metrics of a stream",
                r#"{"inputTokenCount":8,"outputTokenCount":2,"cacheReadInputTokenCount":4,"invocationLatency":9}"#,
                (8, 4, 0, 0, 2, 0),
            ),
            ("Claude", r#"{"input_tokens":8,"output_tokens":2}"#, (8, 0, 0, 0, 2, 0)),
            ("Titan", r#"{"inputTextTokenCount":5,"results":[{"tokenCount":7,"outputText":"x"}]}"#, (5, 0, 0, 0, 7, 0)),
            ("Llama", r#"{"generation":"x","prompt_token_count":5,"generation_token_count":7}"#, (5, 0, 0, 0, 7, 0)),
        ] {
            assert_eq!(usage(Wire::Bedrock, &[object]), expected, "{what}");
        }
        for nothing in ["{}", "null", "[]", r#"{"output":"x"}"#] {
            assert_eq!(Figures::read(Wire::Bedrock, nothing.as_bytes()), None);
        }
    }
}
