//! Field names that the house knows, each with a number, so that a head is asked by number and not by text.
//!
//! A name is found by its length, its first and its last byte, and then compared once. All other names are [`Id::OTHER`].

use std::{borrow::Cow, fmt};

use super::class;

macro_rules! ids {
    ($($id:ident = $name:literal,)*) => {
        /// A known field name, or [`Id::Other`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Id {
            $(#[doc = concat!("`", $name, "`")] $id,)*
            /// Any other name.
            Other,
        }

        impl Id {
            /// The known names, in the order of their numbers.
            pub const KNOWN: &[Self] = &[$(Self::$id,)*];
            const NAMES: &[&str] = &[$($name,)*];
        }
    };
}

ids! {
    Accept = "accept",
    AcceptEncoding = "accept-encoding",
    AcceptLanguage = "accept-language",
    AcceptRanges = "accept-ranges",
    Age = "age",
    ApiKey = "api-key",
    Authorization = "authorization",
    Baggage = "baggage",
    CacheControl = "cache-control",
    CacheStatus = "cache-status",
    CdnCacheControl = "cdn-cache-control",
    Connection = "connection",
    ContentEncoding = "content-encoding",
    ContentLength = "content-length",
    ContentLocation = "content-location",
    ContentRange = "content-range",
    ContentType = "content-type",
    Cookie = "cookie",
    Date = "date",
    Etag = "etag",
    Expect = "expect",
    Expires = "expires",
    Forwarded = "forwarded",
    Host = "host",
    Http2Settings = "http2-settings",
    IdempotencyKey = "idempotency-key",
    IfMatch = "if-match",
    IfModifiedSince = "if-modified-since",
    IfNoneMatch = "if-none-match",
    IfRange = "if-range",
    IfUnmodifiedSince = "if-unmodified-since",
    KeepAlive = "keep-alive",
    LastModified = "last-modified",
    Location = "location",
    MaxForwards = "max-forwards",
    Origin = "origin",
    Pragma = "pragma",
    ProxyAuthorization = "proxy-authorization",
    ProxyConnection = "proxy-connection",
    Range = "range",
    Ratelimit = "ratelimit",
    RatelimitPolicy = "ratelimit-policy",
    RetryAfter = "retry-after",
    Server = "server",
    SetCookie = "set-cookie",
    Te = "te",
    Traceparent = "traceparent",
    Tracestate = "tracestate",
    Trailer = "trailer",
    TransferEncoding = "transfer-encoding",
    Upgrade = "upgrade",
    UserAgent = "user-agent",
    Vary = "vary",
    Via = "via",
    WwwAuthenticate = "www-authenticate",
    XApiKey = "x-api-key",
    XForwardedClientCert = "x-forwarded-client-cert",
    XForwardedFor = "x-forwarded-for",
    XForwardedHost = "x-forwarded-host",
    XForwardedProto = "x-forwarded-proto",
    XGoogApiKey = "x-goog-api-key",
    XRealIp = "x-real-ip",
    XRequestId = "x-request-id",
}

// An `IdSet` has one bit for each, and one for all others.
const _: () = assert!(Id::KNOWN.len() == 63);

impl Id {
    /// The known name that `name` is, in any case.
    pub fn of(name: &[u8]) -> Self {
        Self::find(name, name.len())
    }

    /// The known name that `line` begins with, which has `length` bytes. What stands behind it is not looked at; where there is enough of
    /// it, eight bytes are compared at once.
    #[inline]
    pub(super) fn find(line: &[u8], length: usize) -> Self {
        let Some(known) = slot(&line[..length]).and_then(|slot| KNOWN.get(usize::from(SLOTS[slot]))) else { return Self::Other };
        if usize::from(known.length) != length {
            return Self::Other;
        }
        let mut at = 0;
        while at < length {
            let Some(word) = class::word(line, at) else {
                let same = line[..length].eq_ignore_ascii_case(known.id.name().as_bytes());
                return if same { known.id } else { Self::Other };
            };
            // Of a last word that is not whole, only the bytes of the name count.
            let counts = u64::MAX >> (8 * 8_usize.saturating_sub(length - at));
            if (word ^ known.text[at / 8]) & !known.letters[at / 8] & counts != 0 {
                return Self::Other;
            }
            at += 8;
        }
        known.id
    }

    /// The name, in lower case; of [`Id::Other`] nothing.
    #[inline]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Other => "",
            known => Self::NAMES[known as usize],
        }
    }

    /// Whether this is one of the known names.
    pub fn is_known(self) -> bool {
        self != Self::Other
    }
}

const SLOTS_LEN: usize = 256;

/// Where a known name of this length and with these two letters is looked for.
#[inline]
const fn slot(name: &[u8]) -> Option<usize> {
    match name {
        [first, .., last] => Some(((*first | 32) as usize + (*last | 32) as usize * 23 + name.len() * 56) % SLOTS_LEN),
        _ => None,
    }
}

/// A known name in words of eight bytes, with zeros behind it. It takes one line of the processor's cache.
#[repr(align(64))]
struct Known {
    id: Id,
    length: u8,
    text: [u64; WORDS],
    /// The bit that makes a letter upper case, where there is a letter.
    letters: [u64; WORDS],
}

/// Words of the longest known name.
const WORDS: usize = 3;

static KNOWN: [Known; Id::KNOWN.len()] = {
    let mut known = [const { Known { id: Id::Other, length: 0, text: [0; WORDS], letters: [0; WORDS] } }; Id::KNOWN.len()];
    let mut number = 0;
    while number < known.len() {
        let name = Id::KNOWN[number].name().as_bytes();
        let entry = &mut known[number];
        (entry.id, entry.length) = (Id::KNOWN[number], name.len() as u8);
        let mut at = 0;
        while at < name.len() {
            let shift = at % 8 * 8;
            entry.text[at / 8] |= (name[at] as u64) << shift;
            if name[at].is_ascii_lowercase() {
                entry.letters[at / 8] |= 0x20 << shift;
            }
            at += 1;
        }
        number += 1;
    }
    known
};

/// Numbers of the known names by slot; a number that no name has where there is none.
static SLOTS: [u8; SLOTS_LEN] = {
    let mut slots = [u8::MAX; SLOTS_LEN];
    let mut number = 0;
    while number < Id::KNOWN.len() {
        let Some(slot) = slot(Id::KNOWN[number].name().as_bytes()) else { panic!("a name has at least two letters") };
        assert!(slots[slot] == u8::MAX, "two names in one slot: choose other factors");
        slots[slot] = number as u8;
        number += 1;
    }
    slots
};

/// A set of known names; [`Id::Other`] in it stands for any name that is not known.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct IdSet(u64);

impl IdSet {
    /// No name.
    pub const EMPTY: Self = Self(0);

    /// These names.
    pub const fn of(ids: &[Id]) -> Self {
        let mut set = 0;
        let mut at = 0;
        while at < ids.len() {
            set |= 1 << ids[at] as u64;
            at += 1;
        }
        Self(set)
    }

    /// Whether `id` is in it.
    #[inline]
    pub const fn has(self, id: Id) -> bool {
        self.0 >> id as u64 & 1 == 1
    }

    /// Adds `id`.
    #[inline]
    pub const fn insert(&mut self, id: Id) {
        self.0 |= 1 << id as u64;
    }

    /// Takes `id` out.
    #[inline]
    pub const fn remove(&mut self, id: Id) {
        self.0 &= !(1 << id as u64);
    }

    /// Both together.
    #[inline]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    #[inline]
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in this one alone.
    #[inline]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether nothing is in it.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Debug for IdSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(Id::KNOWN.iter().chain(&[Id::Other]).filter(|id| self.has(**id))).finish()
    }
}

/// Fields of one hop: a proxy never passes them on (RFC 9110 section 7.6.1; `Proxy-Connection` by its appendix, `HTTP2-Settings` by
/// RFC 7540 section 3.2.1).
pub const HOP_BY_HOP: IdSet =
    IdSet::of(&[Id::Connection, Id::KeepAlive, Id::ProxyConnection, Id::Te, Id::TransferEncoding, Id::Upgrade, Id::Http2Settings]);

/// Fields that a `Connection` list must not take away: framing, identity, and what means something to the end points (RFC 9110
/// section 7.6.1).
pub const ESSENTIAL: IdSet = IdSet::of(&[
    Id::Host,
    Id::ContentLength,
    Id::ContentType,
    Id::ContentEncoding,
    Id::Authorization,
    Id::Cookie,
    Id::SetCookie,
    Id::CacheControl,
    Id::Trailer,
    Id::Via,
]);

/// Fields that must not stand behind a body: framing, routing, and what belongs to one hop (RFC 9110 section 6.5.1).
pub const NEVER_TRAILERS: IdSet = IdSet::of(&[Id::ContentLength, Id::Host, Id::Trailer]).and(HOP_BY_HOP);

/// A field name to write or to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name<'a> {
    id: Id,
    text: &'a [u8],
}

impl<'a> Name<'a> {
    /// `text` as a name; `None`: it is no token (RFC 9110 section 5.1).
    pub fn new(text: &'a [u8]) -> Option<Self> {
        (class::is_token(text) && text.len() <= usize::from(u16::MAX)).then(|| Self { id: Id::of(text), text })
    }

    /// The name of a field that was scanned.
    pub(super) fn of_field(id: Id, text: &'a [u8]) -> Self {
        Self { id, text }
    }

    /// Its number.
    pub fn id(self) -> Id {
        self.id
    }

    /// Its text, in the case it was given in.
    pub fn text(self) -> &'a [u8] {
        self.text
    }

    /// As [`Self::text`]. A name is ASCII.
    pub fn as_str(self) -> &'a str {
        std::str::from_utf8(self.text).unwrap_or_default()
    }

    /// Its text in lower case.
    pub fn lower(self) -> Cow<'a, str> {
        match self.id {
            Id::Other if self.text.iter().any(u8::is_ascii_uppercase) => Cow::Owned(self.as_str().to_ascii_lowercase()),
            Id::Other => Cow::Borrowed(self.as_str()),
            known => Cow::Borrowed(known.name()),
        }
    }

    /// Whether both are the same name, in any case.
    pub fn is(self, other: Name<'_>) -> bool {
        self.id == other.id && (self.id.is_known() || self.text.eq_ignore_ascii_case(other.text))
    }
}

impl From<Id> for Name<'static> {
    /// The known name. [`Id::Other`] has no text and is never written.
    fn from(id: Id) -> Self {
        Self { id, text: id.name().as_bytes() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_in_any_case_and_no_other() {
        for id in Id::KNOWN {
            let name = id.name();
            assert_eq!(Id::of(name.as_bytes()), *id, "{name}");
            assert_eq!(Id::of(name.to_uppercase().as_bytes()), *id, "{name}");
            for behind in ["", ":", ": a", ": abcdefghij"] {
                assert_eq!(Id::find(format!("{name}{behind}").as_bytes(), name.len()), *id, "{name}{behind}");
            }
            // No other byte passes for one of the name.
            for at in 0..name.len() {
                for byte in 0..=255_u8 {
                    let mut other = format!("{name}: abcdefghij").into_bytes();
                    let same = other[at].eq_ignore_ascii_case(&byte);
                    other[at] = byte;
                    assert_eq!(Id::find(&other, name.len()) == *id, same, "{name} with {byte} at {at}");
                }
            }
            for other in [format!("{name}x"), format!("x{name}"), name.replace('-', "_") + "_", name[1..].to_owned(), format!("{name}\0")] {
                assert!(Id::of(other.as_bytes()) == Id::Other || Id::KNOWN.iter().any(|id| id.name() == other), "{other}");
            }
        }
        // The two letters and the length of a known name are not enough.
        assert_eq!((Id::of(b"hxst"), Id::of(b"content_length"), Id::of(b""), Id::of(b"h")), (Id::Other, Id::Other, Id::Other, Id::Other));
    }

    #[test]
    fn sets_hold_every_name() {
        let mut set = IdSet::EMPTY;
        for id in Id::KNOWN.iter().copied().chain([Id::Other]) {
            assert!(!set.has(id));
            set.insert(id);
            assert!(set.has(id));
        }
        set.remove(Id::Host);
        assert_eq!(IdSet::of(Id::KNOWN).without(set), IdSet::of(&[Id::Host]));
    }
}
