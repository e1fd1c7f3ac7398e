//! Heads as the types of the `http` crate and back, where a library wants those: HTTP/2, the admin door, the cold half of a cache.
//!
//! Not for the way of a request over HTTP/1: a map of fields costs more there than everything else that is done with them.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header::MaxSizeReached, uri::InvalidUri};

use super::{
    fields::{Fields, Named, write_number},
    head::Head,
    ids::{Id, Name},
};

impl Named for HeaderName {
    fn name(&self) -> Name<'_> {
        Name::of_field(Id::of(self.as_str().as_bytes()), self.as_str().as_bytes())
    }
}

/// A map's fields.
impl From<&HeaderMap> for Fields {
    fn from(map: &HeaderMap) -> Self {
        let mut fields = Self::with_room(map.len() * TYPICAL_LINE, map.len());
        map.iter().for_each(|(name, value)| fields.append(name, value));
        fields
    }
}

/// Bytes of a usual line.
const TYPICAL_LINE: usize = 40;

/// The fields as a map. A map holds 24,576 names: further names are left out.
impl From<&Fields> for HeaderMap {
    fn from(fields: &Fields) -> Self {
        let mut map = Self::with_capacity(fields.len());
        for (name, value) in fields.iter() {
            // A field has a valid name and a valid value.
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.text()), HeaderValue::from_bytes(value.as_bytes())) {
                let _ = map.try_append(name, value);
            }
        }
        map
    }
}

/// A request's method.
pub fn method(head: &Head) -> http::Method {
    // What was scanned is a token, and every token is a method.
    http::Method::from_bytes(head.method_text()).unwrap_or_default()
}

/// A request's target in origin-form.
///
/// # Errors
/// It is CONNECT's, which has no path.
pub fn uri(head: &Head) -> Result<Uri, InvalidUri> {
    Uri::try_from(head.path_and_query())
}

/// An answer's status.
pub fn status(head: &Head) -> StatusCode {
    StatusCode::from_u16(head.status()).unwrap_or_default()
}

/// The fields.
///
/// # Errors
/// There are more names than a map holds (24,576).
pub fn fields(head: &Head) -> Result<HeaderMap, MaxSizeReached> {
    let mut map = HeaderMap::try_with_capacity(head.len())?;
    for (name, value) in head.iter() {
        // A scanned field has a valid name and a valid value.
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            map.try_append(name, value)?;
        }
    }
    Ok(map)
}

/// Writes a request's head as [`super::Scanner`] reads it. Of `uri`, path and query count: a Host must be among the fields.
pub fn write_request_text(out: &mut Vec<u8>, method: &http::Method, uri: &Uri, fields: &HeaderMap) {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    for part in [method.as_str(), " ", path, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    write_fields(out, fields);
}

/// Writes an answer's head as [`super::Scanner`] reads it.
pub fn write_answer_text(out: &mut Vec<u8>, status: StatusCode, fields: &HeaderMap) {
    out.extend_from_slice(b"HTTP/1.1 ");
    write_number(out, status.as_u16().into());
    for part in [" ", status.canonical_reason().unwrap_or_default(), "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    write_fields(out, fields);
}

fn write_fields(out: &mut Vec<u8>, fields: &HeaderMap) {
    for (name, value) in fields {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Limits, Scanner},
        *,
    };

    fn scan(mut scanner: Scanner, text: &[u8]) -> Head {
        let mut head = Head::new();
        assert_eq!(scanner.scan(&mut head, text), Ok(Some(text.len())), "{}", String::from_utf8_lossy(text));
        head
    }

    #[test]
    fn a_request_goes_there_and_back() {
        let text = b"odd~ http://a?b=\xc3\xa9 HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nAccept: \xff\r\nx-a: 2\r\n\r\n";
        let head = scan(Scanner::requests(Limits::default()), text);
        let (method, uri, fields) = (method(&head), uri(&head).expect("a path"), fields(&head).expect("few"));
        assert_eq!((method.as_str(), uri.to_string(), fields.len()), ("odd~", "/?b=\u{e9}".to_owned(), 4));
        let mut out = Vec::new();
        write_request_text(&mut out, &method, &uri, &fields);
        let again = scan(Scanner::requests(Limits::default()), &out);
        let values = |head: &Head| head.iter().map(|(_, value)| value.to_vec()).collect::<std::collections::BTreeSet<_>>();
        assert_eq!((again.path_and_query(), values(&again)), (head.path_and_query(), values(&head)));
    }

    #[test]
    fn an_answer_goes_there_and_back() {
        let head = scan(Scanner::answers(Limits::default()), b"HTTP/1.1 404 Odd\nServer: a\nX: \xff\nServer: b\n\n");
        let (status, map) = (status(&head), fields(&head).expect("few"));
        assert_eq!(HeaderMap::from(&Fields::from(head)), map);
        let mut out = Vec::new();
        write_answer_text(&mut out, status, &map);
        let again = scan(Scanner::answers(Limits::default()), &out);
        let fields: Vec<_> = again.iter().collect();
        assert_eq!((again.status(), again.reason()), (404, &b"Not Found"[..]));
        assert_eq!(fields, [(&b"server"[..], &b"a"[..]), (b"server", b"b"), (b"x", b"\xff")]);
    }
}
