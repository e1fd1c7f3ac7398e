//! POST that only reads. An operator may declare (`cache.body`) that the POSTs of a route only read, and which fields of their
//! JSON tell one question from another. HTTP itself says neither (RFC 9110 section 9.3.3), so nothing is guessed: a body that is
//! not understood to the end is not answered from the store.
//!
//! A POST that is declared to only read invalidates nothing. A GraphQL request is looked into instead: a mutation, or a request
//! that may be one, stays an unsafe POST.

use std::{collections::BTreeMap, sync::Arc};

use http::Method;
use serde_json::value::RawValue;

use super::{
    Exchange, Proxy,
    live::LiveRoute,
    read_first::{self, Read},
};
use crate::{
    arrival::Door,
    body::{
        coding::{self, Text},
        replay::Replay,
    },
    config::{self, CacheBody, FieldPath, Mode},
    http1::{Fields, Id},
    policy::cache::graphql::{Document, Kind, Operations, Persisted},
    provider::canonical_json,
    reject::Reject,
};

/// The question of a POST, by its body.
#[derive(Debug, Clone)]
pub struct Declared {
    /// The body's parts in the key, by name; or the reason why the cache has no part in this request.
    pub parts: Result<Arc<[Part]>, &'static str>,
    /// Whether the request only reads.
    pub only_reads: bool,
}

/// A part of a body in a key: its name and its canonical text. The text is empty if the body has no such part.
pub type Part = (Box<str>, Box<[u8]>);

/// Reads the body of a request whose route declares `cache.body`; `None` for any other request.
///
/// # Errors
/// A client that breaks off.
pub async fn read(proxy: &Proxy, exchange: &mut Exchange, route: &LiveRoute, body: &mut Replay) -> Result<Option<Declared>, Reject> {
    let ask = &*exchange.ask;
    let Some(policy) = route.policies.cache.as_ref().filter(|policy| applies(policy, ask.door(), &ask.arrival.method)) else {
        return Ok(None);
    };
    let Some(declares) = &policy.body else { return Ok(None) };
    let read = match body {
        Replay::Whole(bytes) => Read::Whole(bytes.clone()),
        _ => match body.take() {
            Some(streaming) => read_first::read_up_to(ask, policy.max_request, streaming).await?,
            None => return Err(Reject::Internal("the request's body was lost before it was read".into())),
        },
    };
    let declared = match read {
        Read::Whole(bytes) => {
            *body = Replay::Whole(bytes.clone());
            Declared::of(declares, &ask.arrival.headers, &bytes, proxy.shared.cache.persisted())
        }
        Read::Partly(streaming, why) => {
            *body = Replay::new(streaming);
            Declared { parts: Err(why), only_reads: *declares != CacheBody::GraphQl }
        }
    };
    exchange.cache.looks_inside = *declares == CacheBody::GraphQl && declared.parts.is_ok() && policy.mode == Mode::Enforce;
    exchange.cache.only_reads = declared.only_reads && policy.mode == Mode::Enforce;
    Ok(Some(declared))
}

/// Whether `policy` may declare this request to only read.
pub fn applies(policy: &config::Cache, door: Door, method: &Method) -> bool {
    door == Door::Inbound && *method == Method::POST && policy.body.is_some()
}

impl Declared {
    /// The question of a whole body. `persisted` holds the known persisted GraphQL queries; a new one is added.
    pub fn of(declares: &CacheBody, headers: &Fields, body: &[u8], persisted: &Persisted) -> Self {
        let json = Json::read(headers, body);
        match declares {
            CacheBody::GraphQl => match json.and_then(|json| asked(&json, persisted)) {
                Ok((Kind::Query, parts)) => Self { parts: Ok(parts.into()), only_reads: true },
                Ok((Kind::Mutation, _)) => Self { parts: Err("GraphQL mutation"), only_reads: false },
                Ok((Kind::Subscription, _)) => Self { parts: Err("GraphQL subscription"), only_reads: true },
                Err(why) => Self { parts: Err(why), only_reads: false },
            },
            CacheBody::All => Self { parts: json.map(|json| [json.kind, part("json", json.text.into_bytes())].into()), only_reads: true },
            CacheBody::Fields(fields) => Self { parts: json.and_then(|json| picked(json, fields)).map(Arc::from), only_reads: true },
        }
    }
}

fn part(name: &str, text: impl Into<Vec<u8>>) -> Part {
    (name.into(), text.into().into())
}

/// Largest text of an encoded body that is looked into. Plain bodies are bounded by `cache.max_request`.
const LARGEST_TEXT: u64 = 8 << 20;

/// A JSON object as it came in a body.
struct Json {
    /// The media type: the app may answer another type with another answer.
    kind: Part,
    /// The canonical text.
    text: String,
}

impl Json {
    fn read(headers: &Fields, body: &[u8]) -> Result<Self, &'static str> {
        let decoded = match coding::decode(headers, body, LARGEST_TEXT) {
            Text::Plain => None,
            Text::Decoded(text) => Some(text),
            Text::Unknown(_) => return Err("request body in an unknown coding"),
            Text::Broken => return Err("request body is not in the coding that it names"),
            Text::TooLarge(_) => return Err("request body too large once it is decoded"),
        };
        let body = decoded.as_deref().unwrap_or(body);
        let mut types = headers.all(Id::ContentType);
        let (Some(kind), None) = (types.next().and_then(|value| value.to_str().ok()), types.next()) else {
            return Err("request body without one content-type");
        };
        let kind = kind.to_ascii_lowercase();
        let (essence, parameters) = kind.split_once(';').unwrap_or((&kind, ""));
        let essence = essence.trim();
        let utf8 = matches!(parameters.trim(), "" | "charset=utf-8" | "charset=\"utf-8\"");
        if !(essence == "application/json" || essence.ends_with("+json")) || !utf8 {
            return Err("request body of another type than JSON");
        }
        if body.trim_ascii_start().first() == Some(&b'[') {
            return Err("request body is a JSON array");
        }
        let text = canonical_json(body).and_then(|text| String::from_utf8(text).ok()).ok_or("request body is not one plain JSON object")?;
        Ok(Self { kind: part("type", essence), text })
    }
}

type Members<'a> = BTreeMap<String, &'a RawValue>;

fn members(text: &str) -> Option<Members<'_>> {
    serde_json::from_str(text).ok()
}

/// The declared fields, each with its text; the text is empty if the field is absent.
fn picked(json: Json, fields: &[FieldPath]) -> Result<Vec<Part>, &'static str> {
    let mut parts = Vec::with_capacity(fields.len() + 1);
    for path in fields {
        let text = value(&json.text, &path.0)?.unwrap_or_default();
        parts.push(part(&path.to_string(), text));
    }
    parts.push(json.kind);
    Ok(parts)
}

/// The text of the value at `path`; `None` if there is no such value.
fn value<'a>(object: &'a str, path: &[String]) -> Result<Option<&'a str>, &'static str> {
    let mut text = object;
    for name in path {
        // A value in an object's place could choose the answer.
        let Some(members) = members(text) else { return Err("a declared field is inside of what is no object") };
        match members.get(name) {
            Some(value) => text = value.get(),
            None => return Ok(None),
        }
    }
    Ok(Some(text))
}

/// The kind of a GraphQL request, and its parts: the document, and every other member as it is.
fn asked(json: &Json, persisted: &Persisted) -> Result<(Kind, Vec<Part>), &'static str> {
    const NOT_UNDERSTOOD: &str = "GraphQL request is not understood";
    let all = members(&json.text).ok_or(NOT_UNDERSTOOD)?;
    let text = |name: &str| match all.get(name).map(|value| value.get()) {
        None | Some("null") => Ok(None),
        Some(value) => serde_json::from_str::<String>(value).map(Some).map_err(|_| NOT_UNDERSTOOD),
    };
    let (query, name) = (text("query")?, text("operationName")?);
    let hash = match all.get("extensions") {
        Some(extensions) => hash(extensions.get()).map_err(|()| NOT_UNDERSTOOD)?,
        None => None,
    };
    let chosen = |operations: &Operations| operations.chosen(name.as_deref()).ok_or("GraphQL operation is not told");
    let (kind, document) = match (query, hash) {
        (Some(query), hash) => {
            let document = Document::read(&query).ok_or("GraphQL query cannot be read")?;
            let kind = chosen(&document.operations)?;
            match hash {
                None => (kind, part("document", document.text)),
                Some(hash) if persisted.learn(hash, &query, &document) => (kind, by_hash(hash)),
                Some(_) => return Err("GraphQL query has another hash"),
            }
        }
        (None, Some(hash)) => {
            let operations = persisted.known(&hash).ok_or("GraphQL persisted query was not seen yet")?;
            (chosen(&operations)?, by_hash(hash))
        }
        (None, None) => return Err(NOT_UNDERSTOOD),
    };
    let others = all.iter().filter(|(name, _)| *name != "query").map(|(name, value)| part(name, value.get()));
    Ok((kind, [document, json.kind.clone()].into_iter().chain(others).collect()))
}

fn by_hash(hash: [u8; 32]) -> Part {
    part("document", format!("sha256:{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}

/// `persistedQuery.sha256Hash` of the request's `extensions`; an error if the member is present and is no hash.
fn hash(extensions: &str) -> Result<Option<[u8; 32]>, ()> {
    if extensions == "null" {
        return Ok(None);
    }
    let Some(persisted) = members(extensions).ok_or(())?.remove("persistedQuery").filter(|value| value.get() != "null") else {
        return Ok(None);
    };
    let text: String = members(persisted.get())
        .and_then(|mut members| members.remove("sha256Hash"))
        .and_then(|value| serde_json::from_str(value.get()).ok())
        .ok_or(())?;
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let mut hash = [0; 32];
    if pairs.len() != hash.len() || !rest.is_empty() {
        return Err(());
    }
    for (byte, pair) in hash.iter_mut().zip(pairs) {
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(pair[0]).zip(digit(pair[1])).map(|(high, low)| high << 4 | low).ok_or(())?;
    }
    Ok(Some(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(declares: &CacheBody, body: &str) -> Declared {
        let headers = Fields::from_iter([(Id::ContentType, "application/json")]);
        Declared::of(declares, &headers, body.as_bytes(), &Persisted::default())
    }

    fn parts(declares: &CacheBody, body: &str) -> Result<Vec<(String, String)>, &'static str> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        declared(declares, body).parts.map(|parts| parts.iter().map(|(name, value)| (name.to_string(), text(value))).collect())
    }

    fn fields(paths: &[&str]) -> CacheBody {
        CacheBody::Fields(paths.iter().map(|path| FieldPath(path.split('.').map(str::to_owned).collect())).collect())
    }

    #[test]
    fn declared_fields_and_nothing_else() {
        let declares = fields(&["query", "page.size"]);
        let expected = parts(&declares, r#"{"query":"x","page":{"size":3,"at":1},"trace":"a"}"#);
        let named: Vec<_> = expected.clone().expect("understood");
        assert_eq!(named[0], ("query".into(), "\"x\"".into()));
        assert_eq!(named[1], ("page.size".into(), "3".into()));
        assert_eq!(parts(&declares, r#"{ "trace": "b", "page": {"at": 9, "size": 3}, "query": "\u0078" }"#), expected);
        for other in [
            r#"{"query":"y","page":{"size":3}}"#,
            r#"{"query":"x","page":{"size":3.0}}"#,
            r#"{"query":"x","page":{"size":null}}"#,
            r#"{"query":"x","page":{}}"#,
            r#"{"page":{"size":3}}"#,
        ] {
            assert!(parts(&declares, other).is_ok_and(|other| Ok(other) != expected), "{other}");
        }
        assert_eq!(parts(&declares, r#"{"query":"x","page":{}}"#), parts(&declares, r#"{"query":"x"}"#));
        for not_told in [r#"{"page":[3]}"#, r#"{"page":null}"#, r#"[{"query":"x"}]"#, r#"{"query":"x","query":"y"}"#, "{", "", "query=x"] {
            assert!(parts(&declares, not_told).is_err(), "{not_told}");
        }
    }

    #[test]
    fn only_json_is_read() {
        for (kind, understood) in [
            (Some("application/json"), true),
            (Some("Application/JSON; charset=UTF-8"), true),
            (Some("application/vnd.shop+json"), true),
            (Some("application/json; charset=latin1"), false),
            (Some("text/plain"), false),
            (None, false),
        ] {
            let headers: Fields = kind.iter().map(|kind| (Id::ContentType, kind)).collect();
            let read = Declared::of(&CacheBody::All, &headers, b"{}", &Persisted::default());
            assert_eq!((read.parts.is_ok(), read.only_reads), (understood, true), "{kind:?}");
        }
        let json = |kind: &'static str| {
            let headers = Fields::from_iter([(Id::ContentType, kind)]);
            Declared::of(&CacheBody::All, &headers, b"{}", &Persisted::default()).parts.expect("understood")
        };
        assert_ne!(json("application/json"), json("application/a+json"), "an app may tell them apart");
    }

    #[test]
    fn an_encoded_body_asks_what_its_text_asks() {
        use std::io::Write;
        let of = |coding: &'static str, body: &[u8]| {
            let mut headers = Fields::from_iter([(Id::ContentType, "application/json")]);
            headers.insert(Id::ContentEncoding, coding);
            Declared::of(&CacheBody::GraphQl, &headers, body, &Persisted::default())
        };
        let gzip = |text: &str| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(text.as_bytes()).expect("memory");
            encoder.finish().expect("memory")
        };
        let query = of("gzip", &gzip(r#"{"query":"{ a }"}"#));
        assert_eq!(
            (query.parts.expect("a query"), query.only_reads),
            (declared(&CacheBody::GraphQl, r#"{"query":"{ a }"}"#).parts.expect("one"), true)
        );
        let mutation = of("gzip", &gzip(r#"{"query":"mutation { a }"}"#));
        assert_eq!((mutation.parts.err(), mutation.only_reads), (Some("GraphQL mutation"), false));
        for (coding, body) in [("gzip", &b"{}"[..]), ("compress", b"{}"), ("br", b"")] {
            let hidden = of(coding, body);
            assert!(hidden.parts.is_err() && !hidden.only_reads, "{coding}: it may change something");
        }
    }

    #[test]
    fn graphql_by_document_name_and_variables() {
        let ask = |body: &str| parts(&CacheBody::GraphQl, body);
        let one = ask(r#"{"query":"query A { a, b } # x","operationName":"A","variables":{"x":1,"y":2}}"#);
        assert!(one.is_ok());
        assert_eq!(one, ask(r#"{"variables":{"y":2,"x":1},"operationName":"A","query":"query A {\n a\n b\n}"}"#));
        for other in [
            r#"{"query":"query A { a b }","operationName":"A","variables":{"x":1,"y":3}}"#,
            r#"{"query":"query A { a b }","variables":{"x":1,"y":2}}"#,
            r#"{"query":"query A { b a }","operationName":"A","variables":{"x":1,"y":2}}"#,
            r#"{"query":"query A { a b }","operationName":"A","variables":{"x":1,"y":2},"extensions":{"a":1}}"#,
            r#"{"query":"query A { a b }","operationName":"A","variables":{"x":1,"y":2},"unheard":1}"#,
        ] {
            assert!(ask(other).is_ok_and(|other| Ok(other) != one), "{other}");
        }
    }

    #[test]
    fn what_is_not_a_query_for_sure_may_change_something() {
        for (body, only_reads) in [
            (r#"{"query":"{ a }"}"#, true),
            (r#"{"query":"subscription { a }"}"#, true),
            (r#"{"query":"mutation { a }"}"#, false),
            (r#"{"query":"query Q { a } mutation M { a }","operationName":"M"}"#, false),
            (r#"{"query":"query Q { a } mutation M { a }"}"#, false),
            (r#"{"query":"{ a"}"#, false),
            (r#"{"query":1}"#, false),
            (r#"{"query":"{ a }","operationName":7}"#, false),
            (r#"{}"#, false),
            (r#"[{"query":"{ a }"}]"#, false),
            (r#"{"extensions":{"persistedQuery":{"sha256Hash":"ab"}}}"#, false),
            (r#"{"query":"{ a }","extensions":{"persistedQuery":{"version":1,"sha256Hash":"00"}}}"#, false),
        ] {
            let read = declared(&CacheBody::GraphQl, body);
            assert_eq!(read.only_reads, only_reads, "{body}");
            assert_eq!(read.parts.is_ok(), body.contains("{\"query\":\"{ a }\"}") && !body.starts_with('['), "{body}: {:?}", read.parts);
        }
    }

    #[test]
    fn a_persisted_query_is_known_once_its_text_was_seen() {
        const ANOTHER: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
        let persisted = Persisted::default();
        let real = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"{ a }");
        let real: String = real.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let headers = Fields::from_iter([(Id::ContentType, "application/json")]);
        let ask = |query: &str, hash: &str| {
            let body = format!(r#"{{{query}"extensions":{{"persistedQuery":{{"version":1,"sha256Hash":"{hash}"}}}}}}"#);
            Declared::of(&CacheBody::GraphQl, &headers, body.as_bytes(), &persisted)
        };
        let alone = ask("", &real);
        assert_eq!((alone.parts.err(), alone.only_reads), (Some("GraphQL persisted query was not seen yet"), false));
        assert_eq!(ask(r#""query":"{ a }","#, ANOTHER).parts.err(), Some("GraphQL query has another hash"));
        let both = ask(r#""query":"{ a }","#, &real).parts.expect("a query");
        let alone = ask("", &real);
        assert!(alone.only_reads);
        assert_eq!(alone.parts.expect("a query"), both, "one entry for both");
        assert!(ask("", ANOTHER).parts.is_err());
    }
}
