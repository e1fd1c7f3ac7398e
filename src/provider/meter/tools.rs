//! Whether an answer asks for tool calls. Every such answer has one of a few words as a key or as a whole string. A text that is
//! one of these words counts as a tool call: the safe side.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::Wire;
use crate::provider::json;

/// A search that is prepared once: every event of a stream is searched.
type Search = LazyLock<Finder<'static>>;

static TOOL_CALLS: Search = LazyLock::new(|| Finder::new(b"\"tool_calls\""));
static FUNCTION_CALL: Search = LazyLock::new(|| Finder::new(b"\"function_call\""));
static CAMEL_FUNCTION_CALL: Search = LazyLock::new(|| Finder::new(b"\"functionCall\""));
static TOOL_USE: Search = LazyLock::new(|| Finder::new(b"\"tool_use\""));
static CAMEL_TOOL_USE: Search = LazyLock::new(|| Finder::new(b"\"toolUse\""));
static A_CALL: Search = LazyLock::new(|| Finder::new(b"_call\""));

/// Whether `data`, an answer or an event of one, asks for a tool call. Costs a substring search or two if it does not.
pub(super) fn asks(wire: Wire, data: &[u8]) -> bool {
    match wire {
        Wire::Chat => is_given(data, &TOOL_CALLS) || is_given(data, &FUNCTION_CALL),
        Wire::Responses => is_a_call(data),
        Wire::Anthropic => TOOL_USE.find(data).is_some(),
        Wire::Gemini => is_given(data, &CAMEL_FUNCTION_CALL) || is_given(data, &FUNCTION_CALL),
        Wire::Bedrock => CAMEL_TOOL_USE.find(data).is_some(),
        Wire::Embeddings | Wire::Media | Wire::Unknown => false,
    }
}

/// Whether answers over this wire can ask for tool calls.
pub(super) fn can_ask(wire: Wire) -> bool {
    matches!(wire, Wire::Chat | Wire::Responses | Wire::Anthropic | Wire::Gemini | Wire::Bedrock)
}

/// Whether the data has the key with a value other than null or an empty list.
fn is_given(data: &[u8], key: &Finder<'_>) -> bool {
    key.find_iter(data).any(|at| {
        let value = json::value_at(&data[at + key.needle().len()..]).unwrap_or_default();
        let empty_list = value.strip_prefix(b"[").is_some_and(|rest| rest.trim_ascii_start().starts_with(b"]"));
        !value.is_empty() && !value.starts_with(b"null") && !empty_list
    })
}

/// Whether the data has a whole string such as `function_call`, `custom_tool_call` or `computer_call`.
pub(super) fn is_a_call(data: &[u8]) -> bool {
    A_CALL.find_iter(data).any(|at| {
        let word = data[..at].iter().rev().take_while(|byte| byte.is_ascii_lowercase() || **byte == b'_').count();
        word > 0 && at > word && data[at - word - 1] == b'"'
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_is_told_from_speaking_of_it() {
        for (wire, asked, data) in [
            (Wire::Chat, true, r#"{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#),
            (Wire::Chat, true, r#"{"choices":[{"message":{"content":null,"function_call" : {"name":"f"}}}]}"#),
            (Wire::Chat, false, r#"{"choices":[{"message":{"content":"\"tool_calls\": [1]","tool_calls":[ ],"function_call":null}}]}"#),
            (Wire::Chat, false, r#"{"choices":[{"message":{"content":"x","tool_calls":null}}]}"#),
            (Wire::Responses, true, r#"{"type":"response.output_item.added","item":{"type":"function_call"}}"#),
            (Wire::Responses, true, r#"{"output":[{"type":"custom_tool_call"}]}"#),
            (Wire::Responses, false, r#"{"tools":[{"type":"function"}],"output":[{"type":"message","content":"a function_call\" b"}]}"#),
            (Wire::Anthropic, true, r#"{"type":"content_block_start","content_block":{"type":"tool_use"}}"#),
            (Wire::Anthropic, false, r#"{"usage":{"server_tool_use":{"web_search_requests":0}}}"#),
            (Wire::Gemini, true, r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f"}}]}}]}"#),
            (Wire::Bedrock, true, r#"{"output":{"message":{"content":[{"toolUse":{}}]}}}"#),
            (Wire::Embeddings, false, r#"{"tool_calls":[1]}"#),
        ] {
            assert_eq!(asks(wire, data.as_bytes()), asked, "{wire:?} {data}");
        }
    }
}
