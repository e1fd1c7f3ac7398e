//! The facts of a request's body: model, stream, bounds. Known members are read in place, the others are skipped. If a key occurs
//! twice the last one counts, as at the providers.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    form,
    json::{self, Count, Text},
    terms,
    text::{self, BYTES_PER_TOKEN},
};
use crate::{
    config::{Api, Operation},
    usage::Terms,
};

/// The facts of a body.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// The model, if it stands in the body.
    pub model: Option<String>,
    /// Whether the body asks for a stream.
    pub stream: bool,
    /// Most tokens of output for each choice.
    pub max_output: Option<u64>,
    /// The number of choices that the body asks for; at least 1.
    pub n: u64,
    /// Whether the client asked for the usage chunk of an OpenAI stream.
    pub include_usage: bool,
    /// Whether the model may call tools.
    pub has_tools: bool,
    /// The body's temperature; `None` differs from the default value.
    pub temperature: Option<f64>,
    /// The terms that the body asks for. The answer says which were given.
    pub terms: Terms,
    /// Estimated tokens of input, as [`super::text`] counts them, before a model's [`ratio`](super::ratio).
    pub estimated_input: u64,
    /// The form of an answer in sound, or about sound, that the body asks for: `response_format` of a form, `stream_format` of speech.
    pub format: Option<Box<str>>,
    /// Thousandths of a second of sound in the body's file, by its length: about 32 kbit/s, which few files are below.
    pub expected_millis: u64,
    /// The body of a call whose prompt can be counted by the model's own tokenizer.
    pub prompt: Option<Bytes>,
}

/// Why a body has no facts. The call may pass all the same: the provider's own error says more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyProblem {
    /// The body is empty.
    #[error("the body is empty")]
    Empty,
    /// The body is neither one JSON object nor a multipart form.
    #[error("the body is not a JSON object")]
    NotJson,
}

impl Facts {
    /// The facts of an unread body: its input is estimated from its length alone.
    pub fn unread(bytes: u64) -> Self {
        Self { n: 1, estimated_input: by_length(bytes), ..Self::default() }
    }

    /// Most tokens of output of the call, over all choices; `None`: the body sets no bound.
    pub fn most_output(&self) -> Option<u64> {
        self.max_output.map(|most| most.saturating_mul(self.n.max(1)))
    }
}

/// Estimated tokens of a prompt of `bytes` bytes that was not read.
pub fn by_length(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN)
}

/// The facts of a body that is sent; a body that is no JSON is estimated from its length, because the provider says best what is wrong
/// with it. `None`: there is no body.
pub fn read_or_estimate(api: Api, operation: Operation, body: &[u8]) -> Option<Facts> {
    match read(api, operation, body) {
        Err(BodyProblem::NotJson) => Some(Facts::unread(body.len() as u64)),
        read => read.ok(),
    }
}

/// Bytes of a file of sound in a thousandth of a second.
const SOUND: u64 = 4;
/// Thousandths of a second of sound that are one token.
const SPOKEN: u64 = 100;

/// Reads a whole body. Of a multipart form (audio, images) the fields are read.
pub fn read(api: Api, operation: Operation, body: &[u8]) -> Result<Facts, BodyProblem> {
    if body.trim_ascii().is_empty() {
        return Err(BodyProblem::Empty);
    }
    if body.starts_with(b"--") {
        return Ok(of_form(operation, body));
    }
    let members = json::members::<Key>(body).ok_or(BodyProblem::NotJson)?;
    let mut facts = Facts { n: 1, estimated_input: text::prompt(body), ..Facts::default() };
    let (mut completion, mut plain) = (None, None);
    let (mut tier, mut speed, mut geo) = (Text::default(), Text::default(), Text::default());
    for member in members {
        let raw = &body[member.value];
        match member.key {
            Key::Model => facts.model = json::lenient(raw),
            Key::Stream => facts.stream = json::lenient(raw).unwrap_or(false),
            Key::MaxCompletionTokens => completion = count(raw),
            Key::MaxTokens | Key::MaxOutputTokens | Key::MaxTokensToSample => plain = count(raw),
            Key::N => facts.n = count(raw).unwrap_or(1).max(1),
            Key::StreamOptions => {
                facts.include_usage = json::lenient::<StreamOptions>(raw).and_then(|options| options.include_usage).unwrap_or(false);
            }
            Key::Tools | Key::Functions => facts.has_tools |= json::lenient::<Vec<&RawValue>>(raw).is_some_and(|tools| !tools.is_empty()),
            Key::ToolConfig => facts.has_tools |= api == Api::Bedrock && raw.first() == Some(&b'{'),
            Key::Temperature => facts.temperature = json::lenient(raw),
            Key::ServiceTier => tier = json::lenient(raw).unwrap_or_default(),
            Key::Speed => speed = json::lenient(raw).unwrap_or_default(),
            Key::InferenceGeo => geo = json::lenient(raw).unwrap_or_default(),
            Key::StreamFormat => facts.format = json::lenient::<Text>(raw).and_then(|word| word.0).map(Into::into),
            Key::Config => {
                let config = json::lenient::<GenerationConfig>(raw).unwrap_or_default();
                plain = config.max_output_tokens.0.or(config.max_tokens.0).or(plain);
                facts.n = config.candidate_count.0.unwrap_or(1).max(1);
                facts.temperature = config.temperature.or(facts.temperature);
            }
        }
    }
    facts.max_output = completion.or(plain);
    facts.terms = terms::terms(api, tier.as_str(), speed.as_str(), geo.as_str());
    Ok(facts)
}

/// The facts of a form. If a field occurs twice the last one counts.
fn of_form(operation: Operation, body: &[u8]) -> Facts {
    let mut facts = Facts { n: 1, ..Facts::default() };
    for field in form::fields(body) {
        let word = field.word();
        match field.name {
            "file" if field.is_file && operation == Operation::Audio => facts.expected_millis = field.value.len() as u64 / SOUND,
            "model" => facts.model = word.map(str::to_owned),
            "response_format" if operation == Operation::Audio => facts.format = word.map(Into::into),
            "stream" => facts.stream = word.is_some_and(|word| word.eq_ignore_ascii_case("true") || word == "1"),
            "n" => facts.n = word.and_then(|word| word.parse().ok()).unwrap_or(1).max(1),
            _ => {}
        }
    }
    facts.estimated_input = facts.expected_millis / SPOKEN;
    facts
}

fn count(raw: &[u8]) -> Option<u64> {
    json::lenient::<Count>(raw).and_then(|count| count.0)
}

#[derive(Debug, Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    Model,
    Stream,
    MaxCompletionTokens,
    MaxTokens,
    MaxOutputTokens,
    MaxTokensToSample,
    N,
    StreamOptions,
    Tools,
    Functions,
    #[serde(rename = "toolConfig")]
    ToolConfig,
    Temperature,
    #[serde(alias = "serviceTier")]
    ServiceTier,
    Speed,
    InferenceGeo,
    StreamFormat,
    #[serde(rename = "generationConfig", alias = "generation_config", alias = "inferenceConfig")]
    Config,
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

/// Gemini's `generationConfig` and Bedrock's `inferenceConfig`.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct GenerationConfig {
    #[serde(alias = "max_output_tokens")]
    max_output_tokens: Count,
    max_tokens: Count,
    #[serde(alias = "candidate_count")]
    candidate_count: Count,
    temperature: Option<f64>,
}

/// Whether some of the body's tools run at the provider: the answer then depends on more than the body.
pub(super) fn hosted_tools(tools: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Tool {
        #[serde(default, rename = "type")]
        kind: Text,
        #[serde(
            rename = "googleSearch",
            alias = "google_search",
            alias = "googleSearchRetrieval",
            alias = "codeExecution",
            alias = "code_execution",
            alias = "urlContext",
            alias = "url_context"
        )]
        hosted: Option<serde::de::IgnoredAny>,
    }
    const HOSTED: [&str; 8] =
        ["web_search", "web_fetch", "file_search", "code_interpreter", "code_execution", "mcp", "image_generation", "tool_search"];
    json::lenient::<Vec<Tool>>(tools)
        .unwrap_or_default()
        .iter()
        .any(|tool| tool.hosted.is_some() || HOSTED.iter().any(|kind| tool.kind.as_str().starts_with(kind)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn facts(body: &str) -> Facts {
        read(Api::OpenAi, Operation::Chat, body.as_bytes()).expect("readable")
    }

    #[test]
    fn an_openai_body() {
        let facts = facts(
            r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"max_tokens":9,"max_completion_tokens":12,
            "n":3,"tools":[{"type":"function"}],"temperature":0,"messages":[{"role":"user","content":"hi","model":"no"}],"new":{"a":[1]}}"#,
        );
        assert_eq!(facts.model.as_deref(), Some("gpt-4o"));
        assert!(facts.stream && facts.include_usage && facts.has_tools);
        assert_eq!((facts.max_output, facts.n, facts.temperature), (Some(12), 3, Some(0.0)));
    }

    #[test]
    fn absent_null_and_odd_values_are_nothing() {
        let facts = facts(r#"{"model":3,"stream":"yes","max_tokens":null,"n":0,"tools":[],"stream_options":null,"temperature":"hot"}"#);
        assert_eq!(facts, Facts { n: 1, estimated_input: facts.estimated_input, ..Facts::default() });
    }

    #[test]
    fn the_last_of_two_keys_counts() {
        assert_eq!(facts(r#"{"model":"a","model":"b"}"#).model.as_deref(), Some("b"));
    }

    #[test]
    fn gemini_and_bedrock_keep_their_bounds_one_level_down() {
        let gemini = read(
            Api::Gemini,
            Operation::Chat,
            br#"{"contents":[],"tools":[{}],"generationConfig":{"maxOutputTokens":7,"candidateCount":2,"temperature":0.5}}"#,
        )
        .expect("readable");
        assert_eq!((gemini.max_output, gemini.n, gemini.temperature, gemini.has_tools), (Some(7), 2, Some(0.5), true));
        let bedrock = read(Api::Bedrock, Operation::Chat, br#"{"inferenceConfig":{"maxTokens":5},"toolConfig":{}}"#).expect("readable");
        assert_eq!((bedrock.max_output, bedrock.has_tools), (Some(5), true));
    }

    #[test]
    fn the_terms_that_are_asked_for() {
        use crate::usage::Tier;
        for (api, body, tier, regional) in [
            (Api::OpenAi, r#"{"service_tier":"flex"}"#, Tier::Flex, false),
            (Api::OpenAi, r#"{"service_tier":"auto"}"#, Tier::Unsaid, false),
            (Api::OpenAi, r#"{"service_tier":7}"#, Tier::Other, false),
            (Api::Anthropic, r#"{"service_tier":"auto","speed":"fast","inference_geo":"us"}"#, Tier::Fast, true),
            (Api::Bedrock, r#"{"serviceTier":{"type":"priority"}}"#, Tier::Unsaid, false),
        ] {
            let facts = read(api, Operation::Chat, body.as_bytes()).expect("readable");
            assert_eq!(facts.terms, Terms { tier, regional, ..Terms::default() }, "{body}");
        }
    }

    #[test]
    fn what_is_not_json_is_a_problem() {
        assert_eq!(read(Api::OpenAi, Operation::Chat, b" \n"), Err(BodyProblem::Empty));
        for body in [&b"[]"[..], b"{\"model\":", b"hello"] {
            assert_eq!(read(Api::OpenAi, Operation::Chat, body), Err(BodyProblem::NotJson));
        }
    }

    #[test]
    fn a_form_gives_its_model() {
        let body = b"--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--x\r\n\r\n";
        assert_eq!(read(Api::OpenAi, Operation::Audio, body).expect("readable").model.as_deref(), Some("whisper-1"));
        let part = |name: &str, value: &str| format!("--x\r\nContent-Disposition: form-data; {name}\r\n\r\n{value}\r\n");
        let sound = part("name=\"file\"; filename=\"a.mp3\"", &"s".repeat(4_000_000));
        let body = part("name=\"response_format\"", "srt") + &part("name=\"stream\"", "true") + &sound + &part("name=\"n\"", "2") + "--x--";
        let facts = read(Api::OpenAi, Operation::Audio, body.as_bytes()).expect("readable");
        assert_eq!((facts.format.as_deref(), facts.stream, facts.n), (Some("srt"), true, 2));
        assert_eq!((facts.expected_millis, facts.estimated_input), (1_000_000, 10_000));
        let picture = read(Api::OpenAi, Operation::Images, body.as_bytes()).expect("readable");
        assert_eq!((picture.expected_millis, picture.format, picture.n), (0, None, 2));
        let speech = read(Api::OpenAi, Operation::Audio, br#"{"model":"gpt-4o-mini-tts","input":"hi","stream_format":"sse"}"#);
        assert_eq!(speech.expect("readable").format.as_deref(), Some("sse"));
    }

    #[test]
    fn tools_that_run_at_the_provider() {
        assert!(!hosted_tools(br#"[{"type":"function"},{"name":"mine","input_schema":{}},{"functionDeclarations":[]}]"#));
        assert!(hosted_tools(br#"[{"type":"web_search_20250305"}]"#));
        assert!(hosted_tools(br#"[{"googleSearch":{}}]"#));
    }

    proptest! {
        #[test]
        fn reading_never_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(Api::OpenAi, Operation::Chat, &body);
        }
    }
}
