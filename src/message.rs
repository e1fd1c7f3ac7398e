//! Heads of requests and answers as the house passes them on, and an answer with its body.
//!
//! A head that came over HTTP/1.1 is taken over without a copy of its fields ([`Fields`]); one of HTTP/2 is written down as fields once.

use http::{Method, StatusCode, Uri, Version};

use crate::http1::{self, Fields, Form, Head, Id};

/// A request's head.
#[derive(Debug, Clone, Default)]
pub struct RequestHead {
    /// The method, as sent.
    pub method: Method,
    /// The target.
    pub uri: Uri,
    /// The version, as sent.
    pub version: Version,
    /// The fields.
    pub headers: Fields,
}

/// An answer's head.
#[derive(Debug, Clone, Default)]
pub struct AnswerHead {
    /// The status.
    pub status: StatusCode,
    /// The fields.
    pub headers: Fields,
    /// The reason phrase, where it is not the usual one.
    pub reason: Option<Box<[u8]>>,
    /// Whose answer it is, if it is not the first target's.
    pub instead: Option<Instead>,
}

/// Marks an answer that is not the first target's. Such an answer is given and not stored: once the first target is back, its own
/// answer is asked for again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instead {
    /// The answer of another target.
    Target,
    /// The proxy's own answer, from the configuration.
    Fixed,
}

/// An answer: its head and its body.
#[derive(Debug, Default)]
pub struct Response<B> {
    head: AnswerHead,
    body: B,
}

impl RequestHead {
    /// A request's head, with its target in origin-form and the Host that counts. `None`: [`Uri`] cannot hold the target.
    pub fn of(head: Head) -> Option<Self> {
        let method = Method::from_bytes(head.method_text()).ok()?;
        let version = match head.version() {
            http1::Version::Http10 => Version::HTTP_10,
            http1::Version::Http11 => Version::HTTP_11,
            http1::Version::Http2 => Version::HTTP_2,
        };
        // CONNECT has no path; it goes nowhere.
        let uri = if head.form() == Form::Authority { Uri::default() } else { Uri::try_from(head.path_and_query()).ok()? };
        let authority = if head.form() == Form::Absolute { head.host().map(<[u8]>::to_vec) } else { None };
        let mut headers = Fields::from(head);
        if let Some(authority) = authority {
            headers.insert(Id::Host, authority);
        }
        Some(Self { method, uri, version, headers })
    }
}

impl AnswerHead {
    /// An answer's head.
    pub fn of(head: Head) -> Self {
        let status = StatusCode::from_u16(head.status()).unwrap_or_default();
        let is_usual = head.reason() == status.canonical_reason().unwrap_or_default().as_bytes();
        let reason = (!is_usual).then(|| head.reason().into());
        Self { status, reason, headers: Fields::from(head), instead: None }
    }

    /// Writes the status line and the fields; the empty line is left to the caller.
    pub fn write(&self, out: &mut Vec<u8>) {
        let reason = match &self.reason {
            Some(reason) => reason,
            None => self.status.canonical_reason().unwrap_or_default().as_bytes(),
        };
        for part in [b"HTTP/1.1 ", self.status.as_str().as_bytes(), b" ", reason, b"\r\n"] {
            out.extend_from_slice(part);
        }
        self.headers.write(out);
    }
}

impl<B> Response<B> {
    /// A 200 without fields.
    pub fn new(body: B) -> Self {
        Self { head: AnswerHead::default(), body }
    }

    /// An answer of these parts.
    pub fn from_parts(head: AnswerHead, body: B) -> Self {
        Self { head, body }
    }

    /// Head and body apart.
    pub fn into_parts(self) -> (AnswerHead, B) {
        (self.head, self.body)
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.head.status
    }

    /// Its status, to change it.
    pub fn status_mut(&mut self) -> &mut StatusCode {
        &mut self.head.status
    }

    /// Its fields.
    pub fn headers(&self) -> &Fields {
        &self.head.headers
    }

    /// Its fields, to change them.
    pub fn headers_mut(&mut self) -> &mut Fields {
        &mut self.head.headers
    }

    /// Its head.
    pub fn head(&self) -> &AnswerHead {
        &self.head
    }

    /// Its head, to change it.
    pub fn head_mut(&mut self) -> &mut AnswerHead {
        &mut self.head
    }

    /// Its body.
    pub fn body(&self) -> &B {
        &self.body
    }

    /// Its body, to change it.
    pub fn body_mut(&mut self) -> &mut B {
        &mut self.body
    }

    /// Its body alone.
    pub fn into_body(self) -> B {
        self.body
    }

    /// The same head with another body.
    pub fn map<C>(self, change: impl FnOnce(B) -> C) -> Response<C> {
        Response { head: self.head, body: change(self.body) }
    }
}
