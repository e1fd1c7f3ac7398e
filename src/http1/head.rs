//! A message's head: its bytes as they came, and a table that says where each field stands.
//!
//! Nothing is copied out of the bytes and nothing is put in order: a head is asked by [`Id`], and goes on as [`super::Fields`]. What every
//! proxy must know of a head (framing, persistence) is found while it is scanned and kept here.

use std::{fmt, ops::Range};

use super::{
    class,
    ids::{Id, IdSet, Name},
    lent::Lent,
};

/// The version that a message names (RFC 9110 section 2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
    /// HTTP/2: the head was made from its fields.
    Http2,
}

/// A request's method (RFC 9110 section 9, RFC 5789).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the methods' own names")]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Connect,
    Trace,
    /// Any other token: [`Head::method_text`] has it.
    Other,
}

impl Method {
    /// The method of this name; names have a case.
    pub fn of(name: &[u8]) -> Self {
        match name {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"PATCH" => Self::Patch,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"CONNECT" => Self::Connect,
            b"TRACE" => Self::Trace,
            _ => Self::Other,
        }
    }
}

/// The form of a request target (RFC 9112 section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// A path and perhaps a query.
    #[default]
    Origin,
    /// A whole URI; its authority counts, whatever Host says.
    Absolute,
    /// `host:port`, with CONNECT alone.
    Authority,
    /// `*`, with OPTIONS alone.
    Asterisk,
}

/// Where a field stands in the bytes of its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Where its line, and so its name, begins.
    pub(super) at: u32,
    pub(super) value: u32,
    pub(super) value_len: u32,
    pub(super) name_len: u16,
    pub(super) id: Id,
}

impl Field {
    /// Which name it has.
    pub fn id(&self) -> Id {
        self.id
    }
}

/// A part of the first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Span {
    pub(super) at: u32,
    pub(super) len: u32,
}

impl Span {
    pub(super) fn new(range: Range<usize>) -> Self {
        Self { at: range.start as u32, len: range.len() as u32 }
    }

    fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.at as usize..][..self.len as usize]
    }
}

/// What the fields say about the message's framing and its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Facts {
    pub(super) length: Option<u64>,
    /// The length stands there once, without zeros before it.
    pub(super) length_is_plain: bool,
    pub(super) chunked: bool,
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    /// `Connection` has `upgrade`.
    pub(super) upgrade: bool,
    /// `Upgrade` has `websocket`.
    pub(super) websocket: bool,
    pub(super) expect_continue: bool,
    /// `TE` has `trailers`.
    pub(super) te_trailers: bool,
}

/// The head of a request or an answer, or a trailer section. [`super::Scanner`] fills it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Head {
    pub(super) lines: Lent,
    /// The path of an absolute-form target that has a query and no path: `/` and the query.
    pub(super) path_apart: Vec<u8>,
    pub(super) doubled: IdSet,
    pub(super) facts: Facts,
    /// Where the empty line begins that ends the head.
    pub(super) end: u32,
    pub(super) status: u16,
    pub(super) version: Version,
    pub(super) method: Method,
    pub(super) form: Form,
    /// The method's text, or the reason phrase.
    pub(super) word: Span,
    pub(super) target: Span,
    pub(super) authority: Span,
    pub(super) path: Span,
}

impl Head {
    /// An empty head; it allocates when something is scanned into it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        let (mut lines, mut path_apart) = (std::mem::take(&mut self.lines), std::mem::take(&mut self.path_apart));
        lines.clear();
        path_apart.clear();
        *self = Self { lines, path_apart, ..Self::default() };
    }

    /// The bytes, as they came.
    pub fn bytes(&self) -> &[u8] {
        &self.lines.bytes
    }

    /// Memory that it holds, used or not, in bytes.
    pub fn capacity(&self) -> usize {
        self.lines.bytes.capacity() + self.lines.fields.capacity() * size_of::<Field>() + self.path_apart.capacity()
    }

    /// The version that the message names.
    pub fn version(&self) -> Version {
        self.version
    }

    /// A request's method.
    pub fn method(&self) -> Method {
        self.method
    }

    /// A request's method as it stands there.
    pub fn method_text(&self) -> &[u8] {
        self.word.of(&self.lines.bytes)
    }

    /// A request's target as it stands there.
    pub fn target(&self) -> &[u8] {
        self.target.of(&self.lines.bytes)
    }

    /// The form of a request's target.
    pub fn form(&self) -> Form {
        self.form
    }

    /// A request's path and query as origin-form has them (RFC 9112 section 3.2.1); `*` for the whole server, and for an absolute
    /// target of OPTIONS without path and query (section 3.2.4); empty for CONNECT.
    pub fn path_and_query(&self) -> &[u8] {
        match (self.path.of(&self.lines.bytes), self.form) {
            ([], Form::Absolute) if !self.path_apart.is_empty() => &self.path_apart,
            ([], Form::Absolute) if self.method == Method::Options => b"*",
            ([], Form::Absolute) => b"/",
            (path, _) => path,
        }
    }

    /// Whom a request is for: the authority of its target, else its Host (RFC 9112 sections 3.2.2 and 3.3). Where this is not what Host
    /// says, whoever sends the request on sets Host; HTTP/1.0 may have neither.
    pub fn host(&self) -> Option<&[u8]> {
        match self.form {
            Form::Absolute | Form::Authority => Some(self.authority.of(&self.lines.bytes)),
            Form::Origin | Form::Asterisk => self.get(Id::Host),
        }
    }

    /// An answer's status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// An answer's reason phrase.
    pub fn reason(&self) -> &[u8] {
        self.word.of(&self.lines.bytes)
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.lines.fields.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.lines.fields.is_empty()
    }

    /// The fields, in their order.
    pub fn fields(&self) -> &[Field] {
        &self.lines.fields
    }

    /// A field's name, in its case.
    pub fn name(&self, field: &Field) -> &[u8] {
        &self.lines.bytes[field.at as usize..][..usize::from(field.name_len)]
    }

    /// A field's value, without the whitespace around it.
    pub fn value(&self, field: &Field) -> &[u8] {
        &self.lines.bytes[field.value as usize..][..field.value_len as usize]
    }

    /// Names and values, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines.fields.iter().map(|field| (self.name(field), self.value(field)))
    }

    /// Whether there is a field of this name.
    #[inline]
    pub fn has(&self, id: Id) -> bool {
        self.lines.seen.has(id)
    }

    /// Whether there are two or more fields of this name.
    #[inline]
    pub fn has_several(&self, id: Id) -> bool {
        self.doubled.has(id)
    }

    /// The names that are there.
    pub fn seen(&self) -> IdSet {
        self.lines.seen
    }

    /// The value of the first field of this name.
    #[inline]
    pub fn get(&self, id: Id) -> Option<&[u8]> {
        if !self.lines.seen.has(id) {
            return None;
        }
        self.lines.fields.iter().find(|field| field.id == id).map(|field| self.value(field))
    }

    /// The values of all fields of this name, in their order.
    pub fn all(&self, id: Id) -> impl Iterator<Item = &[u8]> {
        let fields: &[Field] = if self.lines.seen.has(id) { &self.lines.fields } else { &[] };
        fields.iter().filter(move |field| field.id == id).map(|field| self.value(field))
    }

    /// The values of all fields of this name, which need not be a known one.
    pub fn all_named<'a>(&'a self, name: Name<'a>) -> impl Iterator<Item = &'a [u8]> {
        let fields: &[Field] = if self.lines.seen.has(name.id()) { &self.lines.fields } else { &[] };
        fields.iter().filter(move |field| self.is_named(field, name)).map(|field| self.value(field))
    }

    /// Whether `field` has this name, in any case.
    pub fn is_named(&self, field: &Field, name: Name<'_>) -> bool {
        field.id == name.id() && (field.id.is_known() || self.name(field).eq_ignore_ascii_case(name.text()))
    }

    /// The members of a list field, over all its lines (RFC 9110 section 5.6.1).
    pub fn members(&self, id: Id) -> impl Iterator<Item = &[u8]> {
        self.all(id).flat_map(class::members)
    }

    /// Whether a list field has `token`, in any case.
    pub fn has_member(&self, id: Id, token: &str) -> bool {
        self.members(id).any(|member| member.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// The one length that all Content-Length lines agree on (RFC 9110 section 8.6), which frames the body only where nothing else
    /// does: see [`super::Framing`].
    pub fn length(&self) -> Option<u64> {
        self.facts.length
    }

    /// Whether the length stands there once, as the number itself, so that its line can be passed on as it is.
    pub fn length_is_plain(&self) -> bool {
        self.facts.length_is_plain
    }

    /// Whether `Transfer-Encoding` is `chunked`; another coding is never accepted.
    pub fn is_chunked(&self) -> bool {
        self.facts.chunked
    }

    /// Whether the sender wants to keep the connection after this message (RFC 9112 section 9.3).
    pub fn keeps_alive(&self) -> bool {
        match self.version {
            Version::Http10 => self.facts.keep_alive && !self.facts.close,
            Version::Http11 | Version::Http2 => !self.facts.close,
        }
    }

    /// Whether another protocol is offered or taken: `Connection` has `upgrade`, and there is an `Upgrade` (RFC 9110 section 7.8).
    /// HTTP/1.0 does not know this.
    pub fn upgrades(&self) -> bool {
        self.facts.upgrade && self.lines.seen.has(Id::Upgrade) && self.version == Version::Http11
    }

    /// Whether WebSocket is among the protocols of [`Head::upgrades`] (RFC 6455 section 4.1).
    pub fn upgrades_to_websocket(&self) -> bool {
        self.facts.websocket && self.upgrades()
    }

    /// Whether the client waits for a 100 before it sends its body. In HTTP/1.0 this means nothing (RFC 9110 section 10.1.1).
    pub fn expects_continue(&self) -> bool {
        self.facts.expect_continue && self.version == Version::Http11
    }

    /// Whether the sender reads trailers (`TE: trailers`, RFC 9110 section 10.1.4).
    pub fn takes_trailers(&self) -> bool {
        self.facts.te_trailers
    }

    /// Says that the head came over HTTP/2.
    pub fn mark_http2(&mut self) {
        self.version = Version::Http2;
    }
}

/// Names without values: those may be credentials.
impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.lines.fields.iter().map(|field| String::from_utf8_lossy(self.name(field)));
        f.debug_struct("Head")
            .field("method", &self.method)
            .field("status", &self.status)
            .field("names", &names.collect::<Vec<_>>())
            .finish()
    }
}

const _: () = assert!(size_of::<Field>() == 16);
