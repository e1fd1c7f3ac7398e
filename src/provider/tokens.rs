//! Counts tokens by a model's own tokenizer, in a proxy that is built with the feature `tokenizer`. Without the feature no model has a
//! tokenizer.
//!
//! Sources: the table of models in OpenAI's tiktoken (`tiktoken/model.py`), and the rule for the tokens around messages in OpenAI's
//! cookbook ("How to count tokens with tiktoken").

use serde_json::Value;

/// A tokenizer of OpenAI's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tokenizer {
    /// GPT-4o and later.
    #[cfg(feature = "tokenizer")]
    O200k,
    /// GPT-4 and GPT-3.5.
    #[cfg(feature = "tokenizer")]
    Cl100k,
}

/// Tokens around a message, and before the answer.
const MESSAGE: u64 = 3;
const ANSWER: u64 = 3;
/// The token of a role.
const ROLE: u64 = 1;

/// Members of a request whose tokens no published rule tells, or whose text is elsewhere.
const UNTOLD: [&str; 9] =
    ["tools", "functions", "response_format", "text", "previous_response_id", "conversation", "prompt", "prediction", "modalities"];

impl Tokenizer {
    /// The tokenizer of a model; `None`: it is unknown, or the model may reason, and no stream shows those tokens.
    #[cfg(feature = "tokenizer")]
    pub fn of(model: &str) -> Option<Self> {
        const O200K: [&str; 5] = ["gpt-4o", "gpt-4.1", "gpt-4.5", "chatgpt-4o", "gpt-5-chat"];
        const CL100K: [&str; 2] = ["gpt-4", "gpt-3.5"];
        let name = model.rsplit('/').next().unwrap_or(model);
        let name = name.strip_prefix("ft:").unwrap_or(name);
        // `gpt-4o` is `gpt-4o-2024-08-06`, and not `gpt-4oo`.
        let is = |family: &str| name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.', ':']));
        let is_sound = ["audio", "realtime", "transcribe", "tts"].iter().any(|word| name.contains(word));
        match is_sound {
            true => None,
            false if O200K.iter().any(|family| is(family)) => Some(Self::O200k),
            false if CL100K.iter().any(|family| is(family)) => Some(Self::Cl100k),
            false => None,
        }
    }

    /// The tokenizer of a model: none is built in.
    #[cfg(not(feature = "tokenizer"))]
    pub fn of(_: &str) -> Option<Self> {
        None
    }

    /// Tokens of a text.
    #[cfg(feature = "tokenizer")]
    pub fn count(self, text: &str) -> u64 {
        let tokenizer = match self {
            Self::O200k => bpe_openai::o200k_base(),
            Self::Cl100k => bpe_openai::cl100k_base(),
        };
        tokenizer.count(text) as u64
    }

    /// Tokens of a text.
    #[cfg(not(feature = "tokenizer"))]
    pub fn count(self, _: &str) -> u64 {
        match self {}
    }

    /// Tokens of the prompt in a request of the chat or the Responses API; `None`: it has parts whose tokens no rule tells, such as
    /// pictures and tools.
    pub fn prompt(self, body: &[u8]) -> Option<u64> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let told = |name: &str| body.get(name).is_none_or(|value| value.is_null() || value.as_array().is_some_and(Vec::is_empty));
        if !UNTOLD.iter().all(|name| told(name)) {
            return None;
        }
        let instructions = body.get("instructions").and_then(Value::as_str).map_or(0, |text| MESSAGE + ROLE + self.count(text));
        let said = body.get("messages").or_else(|| body.get("input"))?;
        let messages = match said {
            Value::String(text) => MESSAGE + ROLE + self.count(text),
            Value::Array(messages) => messages.iter().try_fold(0, |sum, message| Some(sum + self.message(message)?))?,
            _ => return None,
        };
        Some(instructions + messages + ANSWER)
    }

    fn message(self, message: &Value) -> Option<u64> {
        if message.get("tool_calls").is_some_and(|calls| !calls.is_null()) || message["role"] == "tool" {
            return None;
        }
        let content = match message.get("content")? {
            Value::String(text) => self.count(text),
            Value::Array(parts) => parts.iter().try_fold(0, |sum, part| {
                let is_text = matches!(part["type"].as_str()?, "text" | "input_text" | "output_text");
                Some(sum + self.count(part["text"].as_str().filter(|_| is_text)?))
            })?,
            _ => return None,
        };
        let name = message.get("name").and_then(Value::as_str).map_or(0, |name| 1 + self.count(name));
        Some(MESSAGE + ROLE + content + name)
    }
}

/// The words of a stream, kept to be counted if the stream is cut.
#[derive(Debug)]
pub struct Kept {
    tokenizer: Tokenizer,
    /// Inner parts of JSON strings, as they came. `None`: the words cannot be counted.
    raw: Option<Vec<u8>>,
}

impl Kept {
    /// Most bytes that are kept. A longer answer is estimated.
    const MOST: usize = 1 << 20;

    /// Keeps for `tokenizer`.
    pub fn new(tokenizer: Tokenizer) -> Self {
        Self { tokenizer, raw: Some(Vec::new()) }
    }

    /// Takes the words of an event: the inside of a JSON string. `whole`: they are all of its words.
    pub fn take(&mut self, words: &[u8], whole: bool) {
        match &mut self.raw {
            // An event without words is a call of a tool, or sound.
            Some(raw) if whole && !words.is_empty() && raw.len() + words.len() <= Self::MOST => raw.extend_from_slice(words),
            raw => *raw = None,
        }
    }

    /// Tokens of all words; `None`: they cannot be counted.
    pub fn count(mut self) -> Option<u64> {
        let mut raw = self.raw.take()?;
        raw.insert(0, b'"');
        raw.push(b'"');
        Some(self.tokenizer.count(&serde_json::from_slice::<String>(&raw).ok()?))
    }
}

#[cfg(all(test, feature = "tokenizer"))]
mod tests {
    use super::*;

    #[test]
    fn models_have_the_tokenizers_of_tiktoken() {
        for (model, tokenizer) in [
            ("gpt-4o", Some(Tokenizer::O200k)),
            ("openai/gpt-4o-mini-2024-07-18", Some(Tokenizer::O200k)),
            ("gpt-4.1-nano", Some(Tokenizer::O200k)),
            ("gpt-5-chat-latest", Some(Tokenizer::O200k)),
            ("gpt-5-mini", None),
            ("o4-mini", None),
            ("ft:gpt-4o-mini:acme", Some(Tokenizer::O200k)),
            ("gpt-4-turbo", Some(Tokenizer::Cl100k)),
            ("gpt-4", Some(Tokenizer::Cl100k)),
            ("gpt-3.5-turbo", Some(Tokenizer::Cl100k)),
            ("gpt-4o-audio-preview", None),
            ("gpt-6-sol", None),
            ("o10", None),
            ("claude-sonnet-5", None),
        ] {
            assert_eq!(Tokenizer::of(model), tokenizer, "{model}");
        }
    }

    #[test]
    fn a_prompt_is_counted_by_the_published_rule_or_not_at_all() {
        let count = |body: &str| Tokenizer::O200k.prompt(body.as_bytes());
        // "hello world" is two tokens, "You are brief." four.
        assert_eq!(count(r#"{"messages":[{"role":"user","content":"hello world"}]}"#), Some(3 + 1 + 2 + 3));
        let two = r#"{"messages":[{"role":"system","content":"You are brief."},{"role":"user","content":[{"type":"text","text":"hello world"}]}]}"#;
        assert_eq!(count(two), Some(3 + 1 + 4 + 3 + 1 + 2 + 3));
        assert_eq!(count(r#"{"input":"hello world","instructions":"You are brief.","tools":[]}"#), Some(3 + 1 + 4 + 3 + 1 + 2 + 3));
        for body in [
            r#"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]}"#,
            r#"{"messages":[{"role":"user","content":"hi"}],"tools":[{"type":"function"}]}"#,
            r#"{"messages":[{"role":"assistant","content":"hi","tool_calls":[{}]}]}"#,
            r#"{"input":"hi","previous_response_id":"resp_1"}"#,
            r#"{"input":7}"#,
            "{",
        ] {
            assert_eq!(count(body), None, "{body}");
        }
    }

    #[test]
    fn kept_words_are_counted_as_one_text() {
        let kept = |pieces: &[(&[u8], bool)]| {
            let mut kept = Kept::new(Tokenizer::O200k);
            pieces.iter().for_each(|(words, whole)| kept.take(words, *whole));
            kept.count()
        };
        // An escape is the character that it stands for, also in two events.
        assert_eq!(kept(&[(b"hello", true), (b" world", true)]), Some(2));
        assert_eq!(kept(&[(br"\ud83d", true), (br"\ude00", true)]), Some(Tokenizer::O200k.count("\u{1f600}")));
        assert_eq!(kept(&[(b"hello", true), (b"", true)]), None, "a call of a tool");
        assert_eq!(kept(&[(b"hello", false)]), None, "a part of an event");
        assert_eq!(kept(&[(&[b'a'; Kept::MOST], true), (b"a", true)]), None, "too long");
    }
}
