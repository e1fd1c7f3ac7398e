//! Why a message is refused: each reason has a word that never changes, and the status that a client gets.

use std::fmt;

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $status:literal, $text:literal;)*) => {
        /// What is wrong with a message. [`Refusal::status`] is for a client; a target's fault is always a 502 to the client.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Refusal {
            $($(#[$doc])* $name,)*
        }

        impl Refusal {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// A word for logs and metrics; it stays the same between releases.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// The status of the answer to a client whose request this is.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// What is wrong, for people.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

refusals! {
    /// RFC 9112 section 2.2: a CR that no LF follows.
    BareCr = "bare_cr", 400, "a CR without LF";
    /// RFC 9112 section 2.2: a line that ends in LF alone. Only a target's head may have one.
    BareLf = "bare_lf", 400, "a line ends in a bare LF";
    /// RFC 9110 section 5.5: a control byte in a head or trailer.
    Control = "control_byte", 400, "a control byte";
    /// RFC 9112 section 2.2: more empty lines before a request than anybody sends in earnest.
    EmptyLines = "empty_lines", 400, "too many empty lines before the request";
    /// RFC 9112 section 3: the line is not `method SP target SP version`.
    RequestLine = "request_line", 400, "the request line is not `method target version`, with one space between each";
    /// RFC 9112 section 3.2: a byte that no target may have.
    TargetByte = "target_byte", 400, "a byte that may not stand in a request target";
    /// RFC 9112 section 3.2: a target never has a fragment.
    Fragment = "fragment", 400, "the request target has a fragment";
    /// RFC 9112 section 3.2: none of the four forms, or one that does not go with the method.
    TargetForm = "target_form", 400, "the request target is neither a path nor an http(s) URI, or does not go with the method";
    /// RFC 9110 section 4.2: a scheme other than http and https.
    Scheme = "scheme", 400, "the request target has a scheme other than http and https";
    /// RFC 9110 section 4.2.4: a target with user information.
    UserInfo = "user_information", 400, "the request target carries user information";
    /// RFC 9110 section 4.2: the authority of a target is not `host[:port]`.
    Authority = "authority", 400, "the authority of the request target is not a host";
    /// RFC 9110 section 15.5.15: a target beyond the bound, or a request line beyond the head's.
    TargetTooLong = "target_too_long", 414, "the request target is too long";
    /// RFC 9112 section 2.3: no version where one must stand.
    Version = "version", 400, "the version is not HTTP/ and two digits";
    /// RFC 9110 section 2.5: a minor version that does not exist; who names one is probing.
    MinorVersion = "minor_version", 400, "HTTP/1.0 and HTTP/1.1 are the only versions of HTTP/1";
    /// RFC 9110 section 15.6.6: another major version.
    MajorVersion = "major_version", 505, "only HTTP/1 is spoken in this form";
    /// RFC 9112 section 4: the line is not `version SP status SP [reason]`.
    StatusLine = "status_line", 400, "the status line is not `version status reason`";
    /// RFC 6585 section 5: the head is larger than its bound.
    HeadTooLarge = "head_too_large", 431, "the head is too large";
    /// RFC 6585 section 5: more fields than the bound.
    TooManyFields = "too_many_fields", 431, "the head has too many fields";
    /// RFC 6585 section 5: `Connection` names more fields than anybody sends in earnest.
    TooManyOptions = "too_many_options", 431, "Connection names too many fields";
    /// RFC 9112 section 5: a name that is no token, or none.
    FieldName = "field_name", 400, "a field name is not a token";
    /// RFC 9112 section 5.1: whitespace between name and colon.
    SpaceBeforeColon = "space_before_colon", 400, "whitespace between a field name and its colon";
    /// RFC 9112 section 5: a line without a colon.
    NoColon = "no_colon", 400, "a line of the head has no colon";
    /// RFC 9112 section 5.2: a value that goes on in the next line.
    Fold = "fold", 400, "a folded field line";
    /// RFC 9112 section 2.2: whitespace between the first line and the first field.
    SpaceAfterStart = "space_after_start", 400, "whitespace between the first line and the first field";
    /// RFC 9112 section 3.2: HTTP/1.1 without Host.
    NoHost = "no_host", 400, "no Host field";
    /// RFC 9112 section 3.2: more than one Host line.
    TwoHosts = "two_hosts", 400, "more than one Host field";
    /// RFC 9112 section 3.2: a Host that is not `host[:port]`.
    Host = "host", 400, "the Host field is not a host";
    /// RFC 9112 section 6.3: a length that is not a number of at most 64 bits.
    Length = "length", 400, "a Content-Length that is not a number";
    /// RFC 9112 section 6.3: lengths that differ.
    LengthsDiffer = "lengths_differ", 400, "two different Content-Lengths";
    /// RFC 9112 section 6.3: a request's length given as a list.
    LengthList = "length_list", 400, "a Content-Length that is a list";
    /// A length line that is padded beyond reason: old parsers read such a line differently.
    LengthPadded = "length_padded", 400, "a Content-Length line that is too long";
    /// RFC 9112 section 6.3: the length of a body cannot be known: `chunked` is not its last coding, or stands there twice.
    Coding = "coding", 400, "a Transfer-Encoding other than one `chunked`";
    /// RFC 9112 section 6.1: `chunked` is the last coding, and there is another before it.
    UnknownCoding = "unknown_coding", 501, "a transfer coding other than `chunked`";
    /// RFC 9112 section 6.1: a transfer coding in HTTP/1.0.
    CodingInOldVersion = "coding_in_old_version", 400, "Transfer-Encoding in HTTP/1.0";
    /// RFC 9112 section 6.3: a request with both.
    LengthAndCoding = "length_and_coding", 400, "both Content-Length and Transfer-Encoding";
    /// A name that CGI, WSGI and PHP take for a framing field (`content_length`).
    FramingAlias = "framing_alias", 400, "a field name that some servers read as a framing field";
    /// RFC 9110 section 7.8: a request to change to WebSocket with a body.
    UpgradeWithBody = "upgrade_with_body", 400, "an upgrade with a body";
    /// RFC 9110 section 15.2.2: a status 101 that nobody asked for.
    Switch = "switch", 400, "a change of protocol that nobody asked for";
    /// RFC 9112 section 7.1: a chunk without a hexadecimal size, or something other than an extension behind it.
    ChunkSize = "chunk_size", 400, "a chunk size that is not hexadecimal";
    /// RFC 9112 section 7.1: a chunk size beyond 16 digits.
    ChunkTooLarge = "chunk_too_large", 400, "a chunk size beyond 64 bits";
    /// RFC 9112 section 7.1: no CR LF behind a chunk's content.
    ChunkEnd = "chunk_end", 400, "a chunk that does not end where its size says";
    /// RFC 9112 section 7.1.1: chunk extensions beyond their bound.
    ChunkExtensions = "chunk_extensions", 400, "chunk extensions that are too long";
    /// RFC 9112 section 7.1.2: a trailer section beyond its bound.
    TrailersTooLarge = "trailers_too_large", 400, "the trailer section is too large";
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_word_of_its_own() {
        let mut words: Vec<&str> = Refusal::ALL.iter().map(|refusal| refusal.word()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Refusal::ALL.len());
        assert!(words.iter().all(|word| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')));
        assert!(Refusal::ALL.iter().all(|refusal| matches!(refusal.status(), 400 | 414 | 431 | 501 | 505)));
    }
}
