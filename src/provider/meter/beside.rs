//! What an answer states beside its tokens: the terms of its price, the provider's tools, and parts of the work with a model of
//! their own.
//!
//! Anthropic's `usage.iterations` lists every pass of the model. The tokens of a compaction and of an adviser are in the list alone:
//! the sum of the list is the bill, each entry at the price of its own model (anthropic-sdk-python, `BetaIterationsUsage`). OpenAI's
//! `tool_usage` has the searches that are billed, and the tokens of pictures that a tool has made (openai-python,
//! `types/responses/response.py`).

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Wire, answer::Answer, figures::Figures};
use crate::{
    config::Api,
    provider::{
        json::{self, Count, Perhaps, Text},
        terms,
    },
    usage::{Part, Terms, Tier, UNITS, Units, Usage},
};

/// Parts of one answer that are kept at most.
const MOST_PARTS: usize = 256;
/// The model of OpenAI's picture tool, if the answer does not name one.
const PICTURES: &str = "gpt-image-1";

/// Terms, units and parts, as far as an answer has stated them.
#[derive(Debug, Clone, Default)]
pub(super) struct Beside {
    pub terms: Terms,
    pub units: Units,
    pub parts: Vec<Part>,
    /// The entries of the list of passes; the other parts lie beside the answer's own usage.
    pub listed: usize,
}

/// The members of a usage object that are no counts of tokens.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Said<'a> {
    service_tier: Text,
    speed: Text,
    inference_geo: Text,
    #[serde(rename = "trafficType")]
    traffic: Text,
    #[serde(rename = "serviceTier")]
    tier: Text,
    server_tool_use: Perhaps<ServerTools>,
    #[serde(borrow)]
    iterations: Option<&'a RawValue>,
    #[serde(borrow)]
    seconds: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ServerTools {
    web_search_requests: Count,
}

/// An entry of `usage.iterations`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Iteration {
    model: Text,
}

/// OpenAI's usage of hosted tools.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ToolUsage<'a> {
    web_search: Perhaps<WebSearch>,
    #[serde(borrow)]
    image_gen: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WebSearch {
    num_requests: Count,
}

/// An item of OpenAI's output, or a tool that the answer repeats from its request.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Item {
    #[serde(rename = "type")]
    kind: Text,
    action: Perhaps<Action>,
    container_id: Text,
    model: Text,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Action {
    #[serde(rename = "type")]
    kind: Text,
}

/// A candidate of Gemini's.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Candidate<'a> {
    #[serde(borrow, rename = "groundingMetadata")]
    grounding: Perhaps<Grounding<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Grounding<'a> {
    #[serde(borrow)]
    web_search_queries: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    grounding_chunks: Option<Vec<&'a RawValue>>,
}

impl Beside {
    /// Reads what an answer, or an event of one, states.
    pub fn read(&mut self, wire: Wire, answer: &Answer<'_>) {
        let api = wire.api();
        let said = answer.usage_object().map(|raw| json::lenient::<Said<'_>>(raw.get().as_bytes()).unwrap_or_default());
        if let Some(said) = &said {
            let words = [&said.service_tier, &said.traffic, &said.tier].map(Text::as_str);
            let word = words.into_iter().find(|word| !word.is_empty()).unwrap_or_default();
            self.say(terms::terms(api, word, said.speed.as_str(), said.inference_geo.as_str()));
            if let Some(searches) = said.server_tool_use.0.as_ref().and_then(|tools| tools.web_search_requests.0) {
                self.units.web_searches = searches;
            }
            if let Some(millis) = said.seconds.and_then(millis) {
                self.units.audio_millis = millis;
            }
            self.passes(said.iterations);
        }
        let tier = terms::tier(api, answer.service_tier().as_str());
        self.say(Terms { tier, ..Terms::default() });
        match wire {
            Wire::Responses => self.hosted_tools(answer),
            Wire::Gemini => self.grounding(answer),
            // Without usage the length of the sound is what is billed, to the nearest second.
            Wire::Media if said.is_none() => {
                self.units.audio_millis = answer.duration().and_then(millis).map_or(0, |millis| (millis + 500) / 1_000 * 1_000);
            }
            _ => {}
        }
    }

    /// Takes later terms: later terms replace earlier ones.
    fn say(&mut self, later: Terms) {
        if later.tier != Tier::Unsaid {
            self.terms.tier = later.tier;
        }
        self.terms.regional |= later.regional;
    }

    /// Takes Anthropic's list of passes. A later list replaces an earlier one.
    fn passes(&mut self, list: Option<&RawValue>) {
        let entries: Vec<&RawValue> = list.and_then(|raw| json::lenient(raw.get().as_bytes())).unwrap_or_default();
        if entries.is_empty() {
            return;
        }
        let part = |raw: &&RawValue| {
            let raw = raw.get().as_bytes();
            let usage = Figures::read(Wire::Anthropic, raw)?.usage(Wire::Anthropic);
            let model = json::lenient::<Iteration>(raw).unwrap_or_default().model.0.filter(|model| !model.is_empty());
            Some(Part { model: model.map(Box::from), usage })
        };
        self.parts = entries.iter().filter_map(part).take(MOST_PARTS).collect();
        self.listed = self.parts.len();
    }

    /// Takes the hosted tools of a whole response.
    fn hosted_tools(&mut self, answer: &Answer<'_>) {
        let items: Vec<Perhaps<Item>> = answer.items();
        self.items(items.iter().filter_map(|item| item.0.as_ref()));
        let Some(usage) = answer.tool_usage().and_then(|raw| json::lenient::<ToolUsage<'_>>(raw.get().as_bytes())) else { return };
        // The provider's own count leaves out what it does not bill.
        if let Some(searches) = usage.web_search.0.and_then(|search| search.num_requests.0) {
            self.units.web_searches = searches;
        }
        let pictures = usage.image_gen.and_then(|raw| Figures::read(Wire::Media, raw.get().as_bytes()));
        if let Some(usage) = pictures.map(|figures| figures.usage(Wire::Media)).filter(|usage| usage.total() > 0) {
            let tools: Vec<Perhaps<Item>> = answer.tools();
            let tool = tools.into_iter().filter_map(|tool| tool.0).find(|tool| tool.kind.as_str() == "image_generation");
            let model = tool.and_then(|tool| tool.model.0).filter(|model| !model.is_empty());
            self.parts.push(Part { model: Some(model.as_deref().unwrap_or(PICTURES).into()), usage });
        }
    }

    /// Counts the calls of hosted tools among items of the output.
    fn items<'i>(&mut self, items: impl Iterator<Item = &'i Item>) {
        let mut units = Units::default();
        let mut containers: Vec<&str> = Vec::new();
        for item in items {
            match item.kind.as_str() {
                // Opening a page costs nothing.
                "web_search_call" if item.action.0.as_ref().is_none_or(|action| matches!(action.kind.as_str(), "search" | "")) => {
                    units.web_searches += 1;
                }
                "file_search_call" => units.file_searches += 1,
                "code_interpreter_call" if !containers.contains(&item.container_id.as_str()) => {
                    containers.push(item.container_id.as_str());
                    units.containers += 1;
                }
                _ => {}
            }
        }
        self.units = most(self.units, units);
    }

    /// Counts one item of a stream that has ended, for a stream that is cut before its last event.
    pub fn item(&mut self, event: &[u8]) {
        #[derive(Deserialize)]
        struct Done {
            item: Item,
        }
        let Some(Done { item }) = json::lenient(event) else { return };
        let mut one = Self::default();
        one.items(std::iter::once(&item));
        let (mut counts, more) = (self.units.counts(), one.units.counts());
        counts.iter_mut().zip(more).for_each(|(count, more)| *count += more);
        // All calls of a response share their container, unless they name different ones: the last event tells.
        counts[2] = counts[2].min(1);
        self.units = units(counts);
    }

    /// Counts Google's searches. Every chunk of a stream may repeat them.
    fn grounding(&mut self, answer: &Answer<'_>) {
        let Some(raw) = answer.grounded_candidates() else { return };
        let candidates: Vec<Perhaps<Candidate<'_>>> = json::lenient(raw.get().as_bytes()).unwrap_or_default();
        let mut found = Units::default();
        for grounding in candidates.into_iter().filter_map(|candidate| candidate.0?.grounding.0) {
            let queries = grounding.web_search_queries.map_or(0, |queries| queries.len() as u64);
            found.grounding_queries += queries;
            if queries > 0 || grounding.grounding_chunks.is_some_and(|chunks| !chunks.is_empty()) {
                found.grounded_answers = 1;
            }
        }
        self.units = most(self.units, found);
    }

    /// All tokens of the call, and the parts that add up to them. `own` is the usage that the answer states for itself. An answer
    /// without parts of other models has no parts.
    pub fn assemble(mut self, own: Usage) -> (Usage, Vec<Part>) {
        if self.parts.is_empty() {
            return (own, self.parts);
        }
        let sum = |parts: &[Part]| parts.iter().fold(Usage::default(), |sum, part| sum.plus(&part.usage));
        // Usage that the list lacks is the answering model's. Lifetimes of cache writes may be split in one place alone.
        let listed = sum(&self.parts[..self.listed]);
        let writes = |usage: &Usage| usage.cache_write.saturating_add(usage.cache_write_1h);
        let split = listed.cache_write_1h > 0 || own.cache_write_1h == 0;
        let left = Usage {
            cache_write: if split { writes(&own).saturating_sub(writes(&listed)) } else { own.cache_write },
            cache_write_1h: if split { 0 } else { own.cache_write_1h },
            ..own.without(&listed)
        };
        if !split {
            // The list counts all writes as short ones: the answer's own split takes their place.
            let mut rest = writes(&own);
            for part in &mut self.parts[..self.listed] {
                let taken = part.usage.cache_write.min(rest);
                (part.usage.cache_write, rest) = (part.usage.cache_write - taken, rest - taken);
            }
        }
        if left.total() > 0 {
            self.parts.push(Part { model: None, usage: left });
        }
        (sum(&self.parts), self.parts)
    }
}

/// The larger of two counts, unit by unit.
fn most(one: Units, other: Units) -> Units {
    let (mut counts, others) = (one.counts(), other.counts());
    counts.iter_mut().zip(others).for_each(|(count, other)| *count = (*count).max(other));
    units(counts)
}

fn units([web_searches, file_searches, containers, grounding_queries, grounded_answers, audio_millis]: [u64; UNITS]) -> Units {
    Units { web_searches, file_searches, containers, grounding_queries, grounded_answers, audio_millis }
}

/// A decimal number of seconds in thousandths, rounded up.
fn millis(raw: &RawValue) -> Option<u64> {
    // Some answers have the number as a text.
    let text = raw.get().trim_matches('"');
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole: u64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digit = |at: usize| fraction.as_bytes().get(at).map_or(0, |byte| u64::from(byte - b'0'));
    let more = u64::from(fraction.bytes().skip(3).any(|byte| byte != b'0'));
    whole.checked_mul(1_000)?.checked_add(digit(0) * 100 + digit(1) * 10 + digit(2) + more)
}

impl Wire {
    /// The API whose words this wire speaks.
    fn api(self) -> Api {
        match self {
            Self::Chat | Self::Responses | Self::Embeddings | Self::Media | Self::Unknown => Api::OpenAi,
            Self::Anthropic => Api::Anthropic,
            Self::Gemini => Api::Gemini,
            Self::Bedrock => Api::Bedrock,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beside(wire: Wire, answer: &str) -> Beside {
        let mut beside = Beside::default();
        beside.read(wire, &Answer::read(answer.as_bytes()).expect("JSON"));
        beside
    }

    #[test]
    fn the_terms_of_an_answer() {
        let of = |tier, regional| Terms { tier, regional, ..Terms::default() };
        for (wire, answer, expected) in [
            (Wire::Chat, r#"{"service_tier":"priority","usage":{"prompt_tokens":1}}"#, of(Tier::Fast, false)),
            (Wire::Responses, r#"{"service_tier":"ultrafast","usage":{}}"#, of(Tier::Ultrafast, false)),
            (Wire::Responses, r#"{"service_tier":"auto"}"#, of(Tier::Unsaid, false)),
            (Wire::Anthropic, r#"{"usage":{"service_tier":"standard","speed":"fast","inference_geo":"us"}}"#, of(Tier::Fast, true)),
            (Wire::Anthropic, r#"{"usage":{"service_tier":"batch","inference_geo":"not_available"}}"#, of(Tier::Batch, false)),
            (Wire::Anthropic, r#"{"usage":{"service_tier":null,"speed":null,"inference_geo":null}}"#, of(Tier::Unsaid, false)),
            (Wire::Gemini, r#"{"usageMetadata":{"trafficType":"ON_DEMAND_FLEX"}}"#, of(Tier::Flex, false)),
            (Wire::Bedrock, r#"{"serviceTier":{"type":"priority"},"usage":{"inputTokens":1}}"#, of(Tier::Fast, false)),
        ] {
            assert_eq!(beside(wire, answer).terms, expected, "{answer}");
        }
        let mut beside = beside(Wire::Anthropic, r#"{"usage":{"service_tier":"standard","speed":"fast","inference_geo":"us"}}"#);
        beside.read(Wire::Anthropic, &Answer::read(br#"{"usage":{"output_tokens":9}}"#).expect("JSON"));
        assert_eq!(beside.terms, of(Tier::Fast, true), "a later event that says nothing changes nothing");
    }

    #[test]
    fn the_providers_tools() {
        let output = r#""output":[{"type":"web_search_call","action":{"type":"search"}},{"type":"web_search_call","action":{"type":"open_page"}},
            {"type":"web_search_call"},{"type":"file_search_call"},{"type":"code_interpreter_call","container_id":"c1"},
            {"type":"code_interpreter_call","container_id":"c1"},{"type":"message"},7]"#;
        let told = Units { web_searches: 2, file_searches: 1, containers: 1, ..Units::default() };
        assert_eq!(beside(Wire::Responses, &format!("{{{output}}}")).units, told);
        let billed = format!(r#"{{{output},"tool_usage":{{"web_search":{{"num_requests":1}}}}}}"#);
        assert_eq!(beside(Wire::Responses, &billed).units, Units { web_searches: 1, ..told }, "the provider's own count wins");
        let claude = r#"{"usage":{"server_tool_use":{"web_search_requests":3,"web_fetch_requests":5}}}"#;
        assert_eq!(beside(Wire::Anthropic, claude).units, Units { web_searches: 3, ..Units::default() });
        let gemini = r#"{"candidates":[{"groundingMetadata":{"webSearchQueries":["a","b"],"groundingChunks":[{}]}}]}"#;
        assert_eq!(beside(Wire::Gemini, gemini).units, Units { grounding_queries: 2, grounded_answers: 1, ..Units::default() });
        let mut stream = Beside::default();
        for _ in 0..2 {
            stream.item(br#"{"type":"response.output_item.done","item":{"type":"web_search_call","action":{"type":"search"}}}"#);
            stream.item(br#"{"type":"response.output_item.done","item":{"type":"code_interpreter_call","container_id":"c"}}"#);
        }
        assert_eq!(stream.units, Units { web_searches: 2, containers: 1, ..Units::default() }, "a stream that is cut");
    }

    #[test]
    fn a_pass_is_a_part_and_what_the_list_lacks_is_the_answers_own() {
        let list = r#"{"usage":{"input_tokens":23000,"output_tokens":1000,"iterations":[
            {"type":"compaction","input_tokens":180000,"output_tokens":3500},
            {"type":"advisor_message","model":"claude-opus-5","input_tokens":100,"output_tokens":20},
            {"type":"message","input_tokens":20000,"output_tokens":1000,"cache_read_input_tokens":0}]}}"#;
        let own = Usage { input: 23_000, output: 1_000, ..Usage::default() };
        let (all, parts) = beside(Wire::Anthropic, list).assemble(own);
        assert_eq!((all.input, all.output), (200_100, 4_520), "the list has more input than the answer: it is the bill");
        assert_eq!(parts.iter().map(|part| part.model.as_deref()).collect::<Vec<_>>(), [None, Some("claude-opus-5"), None]);
        let short =
            r#"{"usage":{"iterations":[{"type":"message","input_tokens":20,"output_tokens":5,"cache_creation_input_tokens":100}]}}"#;
        let own = Usage { input: 30, output: 5, cache_write: 60, cache_write_1h: 40, ..Usage::default() };
        let (all, parts) = beside(Wire::Anthropic, short).assemble(own);
        assert_eq!((all, parts.len()), (own, 2), "a list that lacks something, and does not split its writes");
        assert_eq!(Beside::default().assemble(own), (own, Vec::new()));
    }

    #[test]
    fn pictures_of_a_tool_are_a_part_beside_the_answer() {
        let answer = r#"{"usage":{},"tools":[{"type":"image_generation","model":"gpt-image-1.5"}],"tool_usage":{"image_gen":
            {"input_tokens":50,"input_tokens_details":{"text_tokens":40,"image_tokens":10},"output_tokens":1056,
            "output_tokens_details":{"image_tokens":1056,"text_tokens":0},"total_tokens":1106},"web_search":{"num_requests":0}}}"#;
        let own = Usage { input: 7, output: 3, ..Usage::default() };
        let (all, parts) = beside(Wire::Responses, answer).assemble(own);
        assert_eq!((all.input, all.image_input, all.output, all.image_output), (47, 10, 3, 1_056));
        assert_eq!(parts[0].model.as_deref(), Some("gpt-image-1.5"));
        assert_eq!(parts[1], Part { model: None, usage: own });
    }

    #[test]
    fn seconds_are_exact() {
        for (text, expected) in [
            ("9", Some(9_000)),
            ("8.47", Some(8_470)),
            ("0.0001", Some(1)),
            ("1.0010", Some(1_001)),
            ("1e3", None),
            ("-1", None),
            ("\"9\"", Some(9_000)),
            ("\"9s\"", None),
        ] {
            let raw: Box<RawValue> = serde_json::from_str(text).expect("JSON");
            assert_eq!(millis(&raw), expected, "{text}");
        }
    }
}
