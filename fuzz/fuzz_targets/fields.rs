//! Lines of `name: value` as header fields, as far as they are any.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The fields; what is none is passed over.
#[allow(dead_code)]
pub fn fields(input: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n').take(64) {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default();
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value.trim_ascii())) {
            headers.append(name, value);
        }
    }
    headers
}

/// The same fields with the lines of each name joined, which means the same for a list (RFC 9110 section 5.3).
#[allow(dead_code)]
pub fn joined(headers: &HeaderMap) -> HeaderMap {
    let mut out = HeaderMap::new();
    for name in headers.keys() {
        let lines: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        out.insert(name, HeaderValue::from_bytes(&lines.join(&b", "[..])).expect("joined values are a value"));
    }
    out
}
