//! Whether an answer asks for tool calls. Every such answer has one of a few words as a key or as a whole string. A text that is
//! one of these words counts as a tool call: the safe side.

use memchr::memmem;

use super::Wire;
use crate::provider::json;

/// Whether `data`, an answer or an event of one, asks for a tool call. Costs a substring search or two if it does not.
pub(super) fn asks(wire: Wire, data: &[u8]) -> bool {
    match wire {
        Wire::Chat => is_given(data, b"\"tool_calls\"") || is_given(data, b"\"function_call\""),
        Wire::Responses => is_a_call(data),
        Wire::Anthropic => memmem::find(data, b"\"tool_use\"").is_some(),
        Wire::Gemini => is_given(data, b"\"functionCall\"") || is_given(data, b"\"function_call\""),
        Wire::Bedrock => memmem::find(data, b"\"toolUse\"").is_some(),
        Wire::Embeddings | Wire::Media | Wire::Unknown => false,
    }
}

/// Whether answers over this wire can ask for tool calls.
pub(super) fn can_ask(wire: Wire) -> bool {
    matches!(wire, Wire::Chat | Wire::Responses | Wire::Anthropic | Wire::Gemini | Wire::Bedrock)
}

/// Whether the data has the key with a value other than null or an empty list.
fn is_given(data: &[u8], key: &[u8]) -> bool {
    memmem::find_iter(data, key).any(|at| {
        let value = json::value_at(&data[at + key.len()..]).unwrap_or_default();
        let empty_list = value.strip_prefix(b"[").is_some_and(|rest| rest.trim_ascii_start().starts_with(b"]"));
        !value.is_empty() && !value.starts_with(b"null") && !empty_list
    })
}

/// Whether the data has a whole string such as `function_call`, `custom_tool_call` or `computer_call`.
pub(super) fn is_a_call(data: &[u8]) -> bool {
    memmem::find_iter(data, b"_call\"").any(|at| {
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
