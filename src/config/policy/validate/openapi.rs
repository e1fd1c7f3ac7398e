//! An OpenAPI document (3.0, 3.1), compiled: its paths, and for each method the parameters and bodies that it takes.
//!
//! Of a document that describes requests and answers, requests are read. `readOnly` members are not asked of a request. What this version does
//! not read is told as a note, and lets pass.

use std::{cmp::Reverse, collections::BTreeMap};

use http::Method;
use jsonschema::{Draft, Registry};
use serde_json::Value;

use super::schema::Schema;
use crate::config::Glob;

mod prepare;

/// The name of the document among schemas.
const URI: &str = "urn:outrigger:openapi";
/// Most mistakes that are told.
const TOLD: usize = 20;
/// Longest chain of references.
const HOPS: usize = 16;

/// What happens to a path or method that the document does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undocumented {
    /// It is refused.
    Refuse,
    /// It passes, without parameters and bodies being looked at.
    Pass,
}

/// A compiled document.
#[derive(Debug)]
pub struct OpenApi {
    /// The paths of its servers, without a slash at the end; never empty.
    bases: Vec<String>,
    /// Path templates by their number of segments, those with the most fixed segments first.
    paths: BTreeMap<usize, Vec<PathTemplate>>,
}

#[derive(Debug)]
struct PathTemplate {
    segments: Vec<Segment>,
    operations: Vec<(Method, Documented)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Segment {
    Fixed(String),
    /// Text before, the parameter if there is one alone, text behind.
    Varies(String, Option<String>, String),
}

/// What the document says of a method on a path.
#[derive(Debug, Default)]
pub struct Documented {
    /// Its parameters.
    pub parameters: Vec<Parameter>,
    /// Its body. `None`: the document says nothing of one.
    pub body: Option<BodyTerms>,
}

/// A body that the document describes.
#[derive(Debug)]
pub struct BodyTerms {
    /// Whether it must be there.
    pub required: bool,
    /// Media types with their schemas. No schema: its content is not looked at.
    pub contents: Vec<(Glob, Option<Schema>)>,
}

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum ParameterPlace {
    Path,
    Query,
    Header,
    Cookie,
}

impl ParameterPlace {
    /// The word of the document.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Header => "header",
            Self::Cookie => "cookie",
        }
    }
}

/// A parameter.
#[derive(Debug)]
pub struct Parameter {
    /// Where it stands.
    pub place: ParameterPlace,
    /// Its name.
    pub name: String,
    /// Whether it must be there.
    pub required: bool,
    /// The character between the items of a list; `None`: it is no list, or each item stands by itself.
    pub split: Option<char>,
    /// Whether its text is JSON.
    pub json: bool,
    /// The types that the schema names, of the value or of the items of a list.
    pub types: Vec<String>,
    /// Whether it is a list.
    pub list: bool,
    /// Its schema. `None`: the value is not looked at.
    pub schema: Option<Schema>,
}

/// What the document says of a request.
#[derive(Debug)]
pub enum Found<'d, 'a> {
    /// The terms, and the values of the path's parameters, encoded as they came.
    Operation(&'d Documented, Vec<(&'d str, &'a str)>),
    /// The path has other methods alone.
    OtherMethods(Vec<&'d Method>),
    /// There is no such path.
    Nothing,
}

impl OpenApi {
    /// Compiles a document; gives it with notes.
    ///
    /// # Errors
    /// What is wrong with it, each in words.
    pub fn compile(mut document: Value, formats: bool) -> Result<(Self, Vec<String>), Vec<String>> {
        let version = document["openapi"].as_str().unwrap_or_default().to_owned();
        let (draft, is_old) = match version.split('.').collect::<Vec<_>>()[..] {
            ["3", "0", ..] => (Draft::Draft4, true),
            ["3", "1", ..] => (Draft::Draft202012, false),
            _ if document.get("swagger").is_some() => {
                return Err(vec!["it is a Swagger 2.0 document; convert it to OpenAPI 3.0 or 3.1".to_owned()]);
            }
            _ => return Err(vec![format!("`openapi: {version}` is not a version that is read here: 3.0 and 3.1 are")]),
        };
        let mut foreign = Vec::new();
        prepare::foreign(&document, "", &mut foreign);
        if !foreign.is_empty() {
            return Err(told(foreign));
        }
        prepare::for_requests(&mut document, is_old);
        let registry = Registry::new().draft(draft).add(URI, &document).and_then(|registry| registry.prepare());
        let registry = registry.map_err(|error| vec![error.to_string()])?;
        let mut reading = Reading { document: &document, registry, draft, formats, wrong: Vec::new(), notes: Vec::new() };
        let paths = reading.paths();
        if !reading.wrong.is_empty() {
            return Err(told(reading.wrong));
        }
        reading.notes.dedup();
        let servers = document["servers"].as_array().into_iter().flatten().filter_map(|server| server["url"].as_str());
        let mut bases: Vec<String> = servers.map(base).collect();
        if bases.is_empty() {
            bases.push(String::new());
        }
        Ok((Self { bases, paths }, reading.notes))
    }

    /// What the document says of a method on a path, as the client sent it.
    pub fn find<'d, 'a>(&'d self, method: &Method, path: &'a str) -> Found<'d, 'a> {
        let mut others = Vec::new();
        for rest in self.bases.iter().filter_map(|base| path.strip_prefix(base.as_str())) {
            let Some(rest) = rest.strip_prefix('/') else { continue };
            let segments: Vec<&str> = rest.split('/').collect();
            for template in self.paths.get(&segments.len()).into_iter().flatten() {
                let Some(values) = template.values(&segments) else { continue };
                let of = |wanted: &Method| template.operations.iter().find(|(own, _)| own == wanted);
                // HEAD is GET without a body (RFC 9110 section 9.3.2).
                let found = of(method).or_else(|| of(&Method::GET).filter(|_| method == Method::HEAD));
                if let Some((_, operation)) = found {
                    return Found::Operation(operation, values);
                }
                others.extend(template.operations.iter().map(|(method, _)| method));
            }
        }
        if others.is_empty() { Found::Nothing } else { Found::OtherMethods(others) }
    }
}

/// The first mistakes, and how many more there are.
fn told(mut wrong: Vec<String>) -> Vec<String> {
    if wrong.len() > TOLD {
        let more = wrong.len() - TOLD;
        wrong.truncate(TOLD);
        wrong.push(format!("and {more} more mistakes"));
    }
    wrong
}

/// The path of a server's URL; variables take their place as nothing.
fn base(url: &str) -> String {
    let path = url.find("://").map_or(url, |at| url[at + 3..].find('/').map_or("", |slash| &url[at + 3 + slash..]));
    if path.contains('{') { String::new() } else { path.trim_end_matches('/').to_owned() }
}

impl PathTemplate {
    /// The order in which templates are tried: segment by segment, fixed text first, then the most text around a parameter.
    fn rank(&self) -> Vec<(bool, Reverse<usize>)> {
        let of = |segment: &Segment| match segment {
            Segment::Fixed(_) => (false, Reverse(0)),
            Segment::Varies(before, _, behind) => (true, Reverse(before.len() + behind.len())),
        };
        self.segments.iter().map(of).collect()
    }

    fn values<'d, 'a>(&'d self, segments: &[&'a str]) -> Option<Vec<(&'d str, &'a str)>> {
        let mut values = Vec::new();
        for (own, asked) in self.segments.iter().zip(segments) {
            match own {
                Segment::Fixed(text) if text == asked => {}
                Segment::Fixed(_) => return None,
                Segment::Varies(before, name, behind) => {
                    let value = asked.strip_prefix(before.as_str())?.strip_suffix(behind.as_str()).filter(|value| !value.is_empty())?;
                    values.extend(name.as_ref().map(|name| (name.as_str(), value)));
                }
            }
        }
        Some(values)
    }
}

/// A document while it is read.
struct Reading<'a> {
    document: &'a Value,
    registry: Registry<'a>,
    draft: Draft,
    formats: bool,
    wrong: Vec<String>,
    notes: Vec<String>,
}

impl<'a> Reading<'a> {
    fn paths(&mut self) -> BTreeMap<usize, Vec<PathTemplate>> {
        let mut out: BTreeMap<usize, Vec<PathTemplate>> = BTreeMap::new();
        let Some(paths) = self.document["paths"].as_object() else {
            if self.document.get("webhooks").is_none() {
                self.wrong.push("it has no `paths`".to_owned());
            }
            return out;
        };
        for (path, item) in paths.iter().filter(|(path, _)| path.starts_with('/')) {
            let place = format!("/paths/{}", escaped(path));
            let Some((place, item)) = self.follow(place, item) else { continue };
            let segments: Vec<Segment> = path[1..].split('/').map(segment).collect();
            let mut operations = Vec::new();
            for word in ["get", "put", "post", "delete", "options", "head", "patch", "trace"] {
                let (Some(operation), Ok(method)) = (item.get(word), word.to_ascii_uppercase().parse::<Method>()) else { continue };
                let documented = self.operation((&place, item), &format!("{place}/{word}"), operation);
                operations.push((method, documented));
            }
            out.entry(segments.len()).or_default().push(PathTemplate { segments, operations });
        }
        out.values_mut().for_each(|templates| templates.sort_by_cached_key(PathTemplate::rank));
        out
    }

    fn operation(&mut self, (of_item, item): (&str, &'a Value), place: &str, operation: &'a Value) -> Documented {
        let mut parameters: BTreeMap<(ParameterPlace, String), Parameter> = BTreeMap::new();
        for (at, holder) in [(of_item, item), (place, operation)] {
            for (nth, row) in holder["parameters"].as_array().into_iter().flatten().enumerate() {
                // One of the operation takes the place of one of the path.
                if let Some(parameter) = self.parameter(format!("{at}/parameters/{nth}"), row) {
                    parameters.insert((parameter.place, parameter.name.to_ascii_lowercase()), parameter);
                }
            }
        }
        let body = operation.get("requestBody").and_then(|body| self.body(format!("{place}/requestBody"), body));
        Documented { parameters: parameters.into_values().collect(), body }
    }

    fn parameter(&mut self, place: String, row: &'a Value) -> Option<Parameter> {
        let (place, row) = self.follow(place, row)?;
        let name = row["name"].as_str().unwrap_or_default().to_owned();
        let stands = match row["in"].as_str() {
            Some("path") => ParameterPlace::Path,
            Some("query") => ParameterPlace::Query,
            Some("header") => ParameterPlace::Header,
            Some("cookie") => ParameterPlace::Cookie,
            _ => {
                self.wrong.push(format!("{place}: `in` is none of path, query, header and cookie"));
                return None;
            }
        };
        // The document must not describe these (OpenAPI, "Parameter Object").
        if stands == ParameterPlace::Header && ["accept", "content-type", "authorization"].contains(&&*name.to_ascii_lowercase()) {
            return None;
        }
        let content = row["content"].as_object().and_then(|content| content.iter().next());
        let (at, schema) = match content {
            Some((media, content)) => (format!("{place}/content/{}/schema", escaped(media)), content.get("schema")),
            None => (format!("{place}/schema"), row.get("schema")),
        };
        let (mut types, mut list) = (Vec::new(), false);
        let shape = schema.and_then(|schema| self.follow(at.clone(), schema));
        if let Some((_, shape)) = &shape {
            types = self.types(shape);
            list = types.iter().any(|word| word == "array");
            if list {
                let items = shape.get("items").and_then(|items| self.follow(String::new(), items));
                types = items.map(|(_, items)| self.types(items)).unwrap_or_default();
            }
        }
        let style = row["style"].as_str().unwrap_or(if matches!(stands, ParameterPlace::Query | ParameterPlace::Cookie) {
            "form"
        } else {
            "simple"
        });
        let explode = row["explode"].as_bool().unwrap_or(style == "form");
        let split = match (style, explode) {
            ("simple", _) | ("form", false) => Some(','),
            ("spaceDelimited", false) => Some(' '),
            ("pipeDelimited", false) => Some('|'),
            _ => None,
        };
        let is_plain = content.is_none()
            && (types.iter().any(|word| word == "object") || !["simple", "form", "spaceDelimited", "pipeDelimited"].contains(&style));
        if is_plain {
            self.notes.push(format!("{place}: the value of `{name}` is not looked at: objects in parameters (style {style}) are not read"));
        }
        let schema = schema.filter(|_| !is_plain).and_then(|_| self.schema(&at));
        let json = content.is_some_and(|(media, _)| is_json(media));
        let required = row["required"].as_bool().unwrap_or(stands == ParameterPlace::Path);
        Some(Parameter { place: stands, name, required, split: split.filter(|_| list), json, types, list, schema })
    }

    fn body(&mut self, place: String, body: &'a Value) -> Option<BodyTerms> {
        let (place, body) = self.follow(place, body)?;
        let mut contents = Vec::new();
        for (media, content) in body["content"].as_object().into_iter().flatten() {
            let schema = match content.get("schema") {
                Some(_) if is_json(media) => self.schema(&format!("{place}/content/{}/schema", escaped(media))),
                Some(_) => {
                    self.notes.push(format!("{place}: the content of `{media}` is not looked at: only JSON is"));
                    None
                }
                None => None,
            };
            let essence = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            contents.push((Glob::new(&essence), schema));
        }
        Some(BodyTerms { required: body["required"].as_bool().unwrap_or_default(), contents })
    }

    fn schema(&mut self, place: &str) -> Option<Schema> {
        let fragment = percent_encoding::utf8_percent_encode(place, FRAGMENT);
        match Schema::at(&format!("{URI}#{fragment}"), &self.registry, self.draft, self.formats) {
            Ok(schema) => Some(schema),
            Err(why) => {
                self.wrong.push(format!("#{place}: {why}"));
                None
            }
        }
    }

    /// The value behind a chain of references, with its place.
    fn follow(&mut self, mut place: String, mut value: &'a Value) -> Option<(String, &'a Value)> {
        for _ in 0..HOPS {
            let Some(target) = value.get("$ref").and_then(Value::as_str) else { return Some((place, value)) };
            let pointer =
                target.strip_prefix('#').map(|pointer| percent_encoding::percent_decode_str(pointer).decode_utf8_lossy().into_owned());
            match pointer.as_ref().and_then(|pointer| self.document.pointer(pointer)) {
                Some(found) => (place, value) = (pointer.unwrap_or_default(), found),
                None => {
                    self.wrong.push(format!("#{place}: `{target}` leads nowhere in the document: bundle it first"));
                    return None;
                }
            }
        }
        self.wrong.push(format!("#{place}: the references lead in a circle"));
        None
    }

    /// The types that a schema names, those of its parts too.
    fn types(&mut self, schema: &'a Value) -> Vec<String> {
        let mut out: Vec<String> = match &schema["type"] {
            Value::String(word) => vec![word.clone()],
            Value::Array(words) => words.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        for part in ["allOf", "anyOf", "oneOf"].iter().filter_map(|word| schema.get(*word)?.as_array()).flatten() {
            if let Some((_, part)) = self.follow(String::new(), part)
                && let Value::String(word) = &part["type"]
            {
                out.push(word.clone());
            }
        }
        out
    }
}

/// A segment of a path template.
fn segment(text: &str) -> Segment {
    match (text.find('{'), text.rfind('}')) {
        (Some(open), Some(close)) if open < close => {
            let name = text[open + 1..close].to_owned();
            // Of two parameters in one segment nobody can say where one ends.
            let name = Some(name).filter(|name| !name.contains(['{', '}']));
            Segment::Varies(text[..open].to_owned(), name, text[close + 1..].to_owned())
        }
        _ => Segment::Fixed(text.to_owned()),
    }
}

/// Whether a media type is JSON.
fn is_json(media: &str) -> bool {
    let essence = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json") || essence == "text/json"
}

/// A token of a JSON Pointer (RFC 6901 section 3).
fn escaped(token: &str) -> String {
    token.replace('~', "~0").replace('/', "~1")
}

/// What must be encoded in a fragment (RFC 3986 section 3.5), `%` too.
const FRAGMENT: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');
