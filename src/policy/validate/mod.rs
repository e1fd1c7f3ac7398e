//! Whether a request is as its route says: method, media type, size, parameters, JSON and schema. Pure.
//!
//! [`head`] looks at all that is there without the body, and says what the body must be; [`BodyPlan::check`] looks at the body. What is wrong with
//! parameters and body is told together.

mod json;
mod parameters;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use http::Method;
use smallvec::SmallVec;

use crate::{
    config::{Found, OpenApi, Schema, Undocumented, Validate},
    http1::{Fields, Id},
    reject::{Invalid, InvalidFault, Violation},
};

/// Most faults that one answer tells.
const MOST: usize = 50;

const MISSING: &str = "the body is missing";

/// A request without its body.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path, encoded as it came.
    pub path: &'a str,
    /// The query, encoded as it came, without `?`.
    pub query: &'a str,
    /// The fields.
    pub fields: &'a Fields,
    /// Whether there is a body, or may be one.
    pub has_body: bool,
}

/// What the body must be.
#[derive(Debug)]
pub struct BodyPlan<'p> {
    policy: &'p Validate,
    /// Whether it is JSON.
    json: bool,
    /// Whether it must be there.
    required: bool,
    schemas: SmallVec<[&'p Schema; 2]>,
    /// What is wrong with the request so far.
    faults: Vec<Violation>,
}

/// Looks at a request without its body. `None`: nothing depends on the body.
///
/// # Errors
/// The request is not as the policy says, whatever its body is.
pub fn head<'p>(policy: &'p Validate, given: &Given<'_>) -> Result<Option<BodyPlan<'p>>, Invalid> {
    if !policy.methods.is_empty() && !policy.methods.contains(given.method) {
        let allowed = policy.methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        return Err(refused(InvalidFault::Method(allowed), "this method is not used here (validate.methods)"));
    }
    let mut plan = BodyPlan { policy, json: false, required: false, schemas: SmallVec::new(), faults: Vec::new() };
    let media = media_type(given.fields)?;
    let mut takes: Option<bool> = None;
    if let Some(document) = &policy.openapi {
        takes = plan.by_document(document, given, &media)?;
    }
    if let Some(schema) = &policy.query {
        parameters::by_schema(schema, given.query, &mut plan.faults);
    }
    plan.json = is_json(&media);
    if let Some(schema) = &policy.schema {
        plan.schemas.push(schema);
        plan.required |= carries_a_body(given.method);
        takes = Some(takes.unwrap_or(true) && plan.json);
    }
    if given.has_body {
        if !policy.content_types.is_empty() && !policy.content_types.iter().any(|glob| glob.matches(&media)) {
            return Err(wrong_type(&media, "validate.content_types"));
        }
        if takes == Some(false) {
            return Err(wrong_type(&media, if policy.openapi.is_some() { "validate.openapi" } else { "validate.schema: JSON" }));
        }
    } else if plan.required {
        plan.faults.push(Violation::of_body("", MISSING));
    }
    match given.has_body && (plan.json || policy.max_body.is_some()) || plan.required {
        true => Ok(Some(plan)),
        false if plan.faults.is_empty() => Ok(None),
        false => Err(plan.told()),
    }
}

impl<'p> BodyPlan<'p> {
    /// Looks at the request by a document. Gives whether the media type of its body is taken; `None`: the document says nothing of it.
    fn by_document(&mut self, document: &'p OpenApi, given: &Given<'_>, media: &str) -> Result<Option<bool>, Invalid> {
        if hides_a_step(given.path) {
            let why = "the path has a step (`.`, `..`) or an encoded slash, which apps read in different ways";
            return Err(refused(InvalidFault::Undocumented, why));
        }
        let (operation, values) = match document.find(given.method, given.path) {
            Found::Operation(operation, values) => (operation, values),
            // What the document does not forbid: browsers ask by themselves.
            _ if self.policy.undocumented == Undocumented::Pass || given.method == Method::OPTIONS => return Ok(None),
            Found::OtherMethods(methods) => {
                let allowed = methods.iter().map(|method| method.as_str()).collect::<Vec<_>>().join(", ");
                let why = "the document of this API (validate.openapi) has no such method on this path";
                return Err(refused(InvalidFault::Method(allowed), why));
            }
            Found::Nothing => {
                return Err(refused(InvalidFault::Undocumented, "the document of this API (validate.openapi) has no such path"));
            }
        };
        parameters::check(&operation.parameters, &values, given, &mut self.faults);
        let Some(body) = &operation.body else { return Ok(None) };
        self.required = body.required;
        // The most exact description counts.
        let known = body.contents.iter().filter(|(glob, _)| glob.matches(media)).max_by_key(|(glob, _)| glob.as_str().len());
        self.schemas.extend(known.and_then(|(_, schema)| schema.as_ref()));
        Ok(Some(known.is_some() || body.contents.is_empty()))
    }

    /// Most bytes that the body may have; `None`: the policy says nothing of it.
    pub fn most(&self) -> Option<u64> {
        self.policy.max_body
    }

    /// Whether the content must be read; otherwise its size alone counts.
    pub fn reads(&self) -> bool {
        self.json
    }

    /// The refusal of a body that is larger than `most`.
    pub fn too_large(most: u64) -> Invalid {
        refused(InvalidFault::TooLarge(most), "the body is larger than this route takes (validate.max_body)")
    }

    /// The refusal of a body whose trailers nobody has looked at.
    pub fn trailers() -> Invalid {
        refused(InvalidFault::Unreadable, "the body has trailers, and what is validated has none")
    }

    /// Looks at the body: its text without a content coding.
    ///
    /// # Errors
    /// Everything that is wrong with the request.
    pub fn check(mut self, text: &[u8]) -> Result<(), Invalid> {
        if text.is_empty() {
            if self.required && self.faults.iter().all(|fault| &*fault.detail != MISSING) {
                self.faults.push(Violation::of_body("", MISSING));
            }
        } else if self.json {
            let read = json::read(text, self.policy.max_depth as usize, self.policy.duplicate_keys);
            let (value, doubled) = read.map_err(|why| refused(InvalidFault::Unreadable, why))?;
            self.faults.extend(doubled.into_iter().map(|pointer| Violation::of_body(&pointer, "this name stands twice in its object")));
            for schema in &self.schemas {
                let left = MOST.saturating_sub(self.faults.len());
                self.faults.extend(schema.faults(&value, left).into_iter().map(|fault| Violation::of_body(&fault.pointer, &fault.detail)));
            }
        }
        if self.faults.is_empty() { Ok(()) } else { Err(self.told()) }
    }

    fn told(mut self) -> Invalid {
        self.faults.truncate(MOST);
        let why = match self.faults.len() {
            1 => "the request is not as this route says".into(),
            n => Cow::from(format!("the request is not as this route says: {n} mistakes")),
        };
        Invalid { fault: InvalidFault::Content, why, errors: self.faults }
    }
}

fn refused(fault: InvalidFault, why: impl Into<Cow<'static, str>>) -> Invalid {
    Invalid { fault, why: why.into(), errors: Vec::new() }
}

fn wrong_type(media: &str, key: &str) -> Invalid {
    let shown: String = media.chars().filter(|c| c.is_ascii_graphic()).take(64).collect();
    let why = match shown.is_empty() {
        true => format!("the body has no Content-Type, and this route takes certain ones alone ({key})"),
        false => format!("this route does not take bodies of the type `{shown}` ({key})"),
    };
    refused(InvalidFault::MediaType, why)
}

/// The media type without its parameters, in lower case; empty: there is none.
///
/// # Errors
/// There are two: one reader takes the first, another the last.
fn media_type(fields: &Fields) -> Result<String, Invalid> {
    let mut all = fields.all(Id::ContentType);
    let Some(first) = all.next() else { return Ok(String::new()) };
    if all.next().is_some() {
        return Err(refused(InvalidFault::MediaType, "Content-Type stands twice"));
    }
    let text = String::from_utf8_lossy(first.as_bytes());
    Ok(text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

fn is_json(media: &str) -> bool {
    matches!(media, "application/json" | "text/json") || media.ends_with("+json")
}

/// Whether a request of this method says what it means in its body.
fn carries_a_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// Whether the path has a step or a slash that one reader sees and another does not.
fn hides_a_step(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    lower.contains("%2f") || lower.contains("%5c") || lower.contains('\\') || {
        let plain = lower.replace("%2e", ".");
        plain.split('/').any(|segment| matches!(segment, "." | ".."))
    }
}
