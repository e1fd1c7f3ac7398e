//! Deterministic answers: text, vectors and tool arguments come from a hash of the prompt.
//!
//! A token of an answer is a word with the space before it; a token of a prompt is four bytes of its text, rounded up. Real
//! tokenizers differ; here the number must be the same every time, and known to both sides.

use serde_json::{Map, Value, json};

/// Tokens of a prompt's text.
pub(super) fn prompt_tokens(text: &str) -> u64 {
    (text.len() as u64).div_ceil(4)
}

/// A deterministic source of words and numbers.
pub(super) struct Muse(u64);

impl Muse {
    /// A source for `prompt`; `variant` tells several answers to one prompt apart.
    pub(super) fn new(prompt: &str, variant: u64) -> Self {
        let hash = blake3::hash(prompt.as_bytes());
        let mut seed = [0; 8];
        seed.copy_from_slice(&hash.as_bytes()[..8]);
        Self(u64::from_le_bytes(seed) ^ variant.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// The next number (splitmix64).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn word(&mut self) -> &'static str {
        WORDS[(self.next() % WORDS.len() as u64) as usize]
    }

    /// `count` tokens; they concatenate to the whole text.
    pub(super) fn tokens(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|n| if n == 0 { self.word().to_owned() } else { format!(" {}", self.word()) }).collect()
    }

    /// A vector of length 1.
    pub(super) fn vector(&mut self, dimensions: usize) -> Vec<f32> {
        let mut vector: Vec<f64> = (0..dimensions).map(|_| (self.next() >> 11) as f64 / (1_u64 << 52) as f64 - 1.0).collect();
        let norm = vector.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        vector.iter_mut().for_each(|x| *x /= norm);
        vector.into_iter().map(|x| x as f32).collect()
    }

    /// A value that fits a JSON Schema's outline (type, enum, properties); depth is bounded.
    pub(super) fn value(&mut self, schema: &Value, depth: u8) -> Value {
        if let Some(choices) = schema["enum"].as_array().filter(|choices| !choices.is_empty()) {
            return choices[(self.next() % choices.len() as u64) as usize].clone();
        }
        match schema["type"].as_str().unwrap_or(if schema["properties"].is_object() { "object" } else { "string" }) {
            "object" => {
                let mut object = Map::new();
                if depth > 0 {
                    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                        object.insert(name.clone(), self.value(property, depth - 1));
                    }
                }
                Value::Object(object)
            }
            "array" => json!([self.value(&schema["items"], depth.saturating_sub(1))]),
            "integer" => json!(self.next() % 100),
            "number" => json!((self.next() % 1000) as f64 / 10.0),
            "boolean" => json!(self.next().is_multiple_of(2)),
            "null" => Value::Null,
            _ => json!(self.word()),
        }
    }
}

/// The prompt's own words as tokens, at most `most`.
pub(super) fn echo(prompt: &str, most: usize) -> Vec<String> {
    prompt.split_inclusive(' ').take(most).map(str::to_owned).collect()
}

/// Every text of a message's content, whatever its shape: a string, a list of parts, or parts with text inside.
pub(super) fn text_of(content: &Value) -> String {
    let mut out = String::new();
    collect_text(content, &mut out, 8);
    out
}

fn collect_text(value: &Value, out: &mut String, depth: u8) {
    match value {
        Value::String(text) => out.push_str(text),
        Value::Array(items) if depth > 0 => items.iter().for_each(|item| collect_text(item, out, depth - 1)),
        Value::Object(object) if depth > 0 => {
            for key in ["text", "content", "input", "parts", "thinking", "output", "arguments"] {
                if let Some(inner) = object.get(key) {
                    collect_text(inner, out, depth - 1);
                }
            }
        }
        _ => {}
    }
}

/// Base64 with padding (RFC 4648 section 4).
pub(super) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
            out.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

const WORDS: &[&str] = &[
    "a", "the", "river", "stone", "quietly", "turns", "light", "under", "seven", "boats", "carry", "salt", "and", "wind", "over", "blue",
    "harbour", "where", "old", "ropes", "hold", "new", "sails", "until", "morning", "comes", "with", "rain", "birds", "answer", "from",
    "hills", "slowly", "every", "map", "names", "another", "shore", "café", "déjà", "naïve", "東京", "→", "once", "more", "we", "count",
    "waves", "between", "lamps", "then", "sleep", "near", "warm", "bread", "honest", "work", "keeps", "time", "for", "those", "who",
    "wait", "here",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_prompt_gives_the_same_answer() {
        let say = |prompt, variant| Muse::new(prompt, variant).tokens(12).concat();
        assert_eq!(say("hello", 0), say("hello", 0));
        assert_ne!(say("hello", 0), say("hello", 1));
        assert_ne!(say("hello", 0), say("hullo", 0));
        assert_eq!(echo("one two  three", 9).concat(), "one two  three");
    }

    #[test]
    fn vectors_have_length_one() {
        let vector = Muse::new("x", 0).vector(1536);
        let norm: f64 = vector.iter().map(|x| f64::from(*x).powi(2)).sum();
        assert!((norm - 1.0).abs() < 1e-5, "{norm}");
        assert!(vector.iter().any(|x| *x < 0.0) && vector.iter().any(|x| *x > 0.0));
    }

    #[test]
    fn base64_agrees_with_the_rfc() {
        // RFC 4648 section 10
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn arguments_fit_their_schema() {
        let schema = json!({"type": "object", "properties": {
            "city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["c", "f"]}, "tags": {"type": "array", "items": {"type": "boolean"}}}});
        let value = Muse::new("weather", 0).value(&schema, 4);
        assert!(value["city"].is_string() && value["days"].is_u64() && value["tags"][0].is_boolean());
        assert!(["c", "f"].contains(&value["unit"].as_str().unwrap()));
    }

    #[test]
    fn text_is_found_in_every_shape() {
        assert_eq!(text_of(&json!([{"type": "text", "text": "a"}, {"content": [{"type": "text", "text": "b"}]}, "c"])), "abc");
    }
}
