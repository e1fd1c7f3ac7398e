//! Lines of `name: value` as header fields, as far as they are any.

use http::HeaderValue;
use outrigger::http1::{Fields, Name, Value};

/// The fields; what is none is passed over.
#[allow(dead_code)]
pub fn fields(input: &[u8]) -> Fields {
    let mut headers = Fields::new();
    for line in input.split(|byte| *byte == b'\n').take(64) {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default();
        if let (Some(name), Ok(value)) = (Name::new(name), HeaderValue::from_bytes(value.trim_ascii())) {
            headers.append(name, value);
        }
    }
    headers
}

/// The same fields with the lines of each name joined, which means the same for a list (RFC 9110 section 5.3).
#[allow(dead_code)]
pub fn joined(headers: &Fields) -> Fields {
    let mut out = Fields::new();
    for name in headers.names() {
        let lines: Vec<&[u8]> = headers.all(name).map(Value::as_bytes).collect();
        out.insert(name, lines.join(&b", "[..]));
    }
    out
}
