//! A request that is not as its route says, as its client is told.

use std::borrow::Cow;

use http::StatusCode;
use serde_json::{Value, json};

/// A request that `validate` refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The kind of what is wrong.
    pub fault: InvalidFault,
    /// What is wrong, in a sentence.
    pub why: Cow<'static, str>,
    /// What is wrong, place by place.
    pub errors: Vec<Violation>,
}

/// The kind of what is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvalidFault {
    /// The method is not used here; the methods that are.
    Method(String),
    /// The path is not one of the document.
    Undocumented,
    /// The body is of a type that is not taken.
    MediaType,
    /// The body has more bytes than this.
    TooLarge(u64),
    /// The body is not JSON, or not such that it can be looked at.
    Unreadable,
    /// Parameters or the body are not as described.
    Content,
}

/// One thing that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Where: `body`, `path`, `query`, `header`, `cookie`.
    pub part: &'static str,
    /// In a body a JSON Pointer (RFC 6901), else the name of the parameter.
    pub place: Box<str>,
    /// What is wrong. It shows nothing of the value.
    pub detail: Box<str>,
}

impl Violation {
    /// In the body, at a JSON Pointer.
    pub fn of_body(pointer: &str, detail: &str) -> Self {
        Self { part: "body", place: pointer.into(), detail: detail.into() }
    }

    /// Of a parameter.
    pub fn of_parameter(part: &'static str, name: &str, detail: &str) -> Self {
        Self { part, place: name.into(), detail: detail.into() }
    }

    /// As in the example of RFC 9457, section 3: a pointer is a fragment of the body's own URI.
    fn to_json(&self) -> Value {
        match self.part {
            "body" => json!({"detail": self.detail, "pointer": format!("#{}", self.place)}),
            part => json!({"detail": self.detail, "parameter": self.place, "in": part}),
        }
    }
}

impl InvalidFault {
    /// The status of the answer.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Undocumented => StatusCode::NOT_FOUND,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unreadable => StatusCode::BAD_REQUEST,
            Self::Content => StatusCode::UNPROCESSABLE_ENTITY,
        }
    }

    /// The word for metrics, logs and bodies.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Method(_) => "invalid_method",
            Self::Undocumented => "undocumented",
            Self::MediaType => "invalid_type",
            Self::TooLarge(_) => "invalid_size",
            Self::Unreadable => "invalid_json",
            Self::Content => "invalid_content",
        }
    }
}

impl Invalid {
    /// All that is wrong, in one text.
    pub fn detail(&self) -> String {
        let each = self.errors.iter().map(|error| match (error.part, &*error.place) {
            ("body", "") => format!("the body: {}", error.detail),
            ("body", pointer) => format!("{pointer}: {}", error.detail),
            (part, name) => format!("{part} `{name}`: {}", error.detail),
        });
        let each: Vec<String> = each.collect();
        if each.is_empty() { self.why.to_string() } else { format!("{}: {}", self.why, each.join("; ")) }
    }

    /// The members beside those of every problem.
    pub(super) fn add_to(&self, problem: &mut Value) {
        problem["detail"] = self.why.as_ref().into();
        if !self.errors.is_empty() {
            problem["errors"] = self.errors.iter().map(Violation::to_json).collect();
        }
    }
}
