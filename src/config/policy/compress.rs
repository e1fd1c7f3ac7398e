//! `compress`: answers that go to the client in a content coding which the app did not give them.

use serde::Deserialize;

use super::{InDefaults, Place, Policy, Rows};
use crate::config::{
    Config, Glob,
    build::Build,
    error::quoted,
    mode::{MODE_KEY, Mode, ModeWord},
    scalars::{Bytes, W, Word, words},
    schema::{Elsewhere, Json, Key, Kind, Scalar, Table, kinds::SIZE_OF},
    written::Items,
};

/// Answers that are compressed.
#[derive(Debug, Clone)]
pub struct Compress {
    /// Whether it acts.
    pub mode: Mode,
    /// Codings; where a client likes two alike, the earlier is taken.
    pub codings: Vec<AnswerCoding>,
    /// Media types, in small letters.
    pub types: Vec<Glob>,
    /// Bytes below which an answer stays as it is.
    pub min_size: u64,
}

/// A coding of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AnswerCoding {
    /// RFC 8878.
    Zstd,
    /// RFC 7932.
    Brotli,
    /// RFC 1952.
    Gzip,
}

impl AnswerCoding {
    /// Its name in `Accept-Encoding` and `Content-Encoding`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }
}

words! {
    AnswerCoding: "zstd" => AnswerCoding::Zstd, "br" => AnswerCoding::Brotli, "gzip" => AnswerCoding::Gzip;
}

/// The word for the usual types in a list.
const USUAL: &str = "usual";

/// Types whose bytes are text or as good as text. Pictures, films and archives are small already. Event streams are left out: each open one
/// would hold the memory of an encoder.
const USUAL_TYPES: [&str; 20] = [
    "text/html",
    "text/css",
    "text/plain",
    "text/javascript",
    "text/xml",
    "text/csv",
    "text/markdown",
    "application/json",
    "application/*+json",
    "application/x-ndjson",
    "application/javascript",
    "application/xml",
    "application/*+xml",
    "application/wasm",
    "application/graphql-response",
    "application/vnd.ms-fontobject",
    "image/svg+xml",
    "image/x-icon",
    "font/ttf",
    "font/otf",
];

/// A media type, `*` for any characters, or the word for the usual ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) enum MediaTypes {
    Usual,
    Of(Glob),
}

impl Word for MediaTypes {
    fn word(text: &str) -> Result<Self, String> {
        let part = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+*".contains(&b));
        match text.split_once('/') {
            None if text == USUAL => Ok(Self::Usual),
            Some((kind, of)) if part(kind) && part(of) => Ok(Self::Of(Glob::new(text.to_ascii_lowercase()))),
            _ => Err(format!("{} is no media type; write `text/html`, `application/*+json`, or `usual`", quoted(text))),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    mode: W<ModeWord>,
    #[serde(default)]
    codings: Items<W<AnswerCoding>>,
    #[serde(default)]
    types: Items<W<MediaTypes>>,
    min_size: Option<W<Bytes>>,
}

const CODING: Kind = Kind::Scalar(&Scalar::new::<AnswerCoding>("`zstd`, `br` or `gzip`", Json::Words(&["zstd", "br", "gzip"]), "gzip"));
const TYPE: Kind = Kind::Scalar(&Scalar::new::<MediaTypes>("a media type, or `usual`", Json::Text, "usual"));

static TABLE: Table = Table::new(
    "compress",
    "Compresses answers that the app sends as they are, for clients that accept it. What is compressed already, small, a part of a file, or \
     marked `no-transform` stays. An event stream still comes event by event.",
    &[
        MODE_KEY,
        Key::new("codings", Kind::OneOrMany(&CODING), "Codings; where a client likes two alike, the earlier is taken. All by default.")
            .eg("[br, gzip]"),
        Key::new("types", Kind::OneOrMany(&TYPE), "Media types; `usual` stands for the default: text, JSON, scripts, XML, SVG, fonts.")
            .eg("[usual, text/event-stream]"),
        Key::new("min_size", SIZE_OF, "Answers that are smaller stay as they are.").default("1KiB").within("0", "1GiB"),
    ],
);
const ROW: Key = Key::new("compress", Kind::Table(&TABLE), "Answers that go to the client compressed.");

const ELSEWHERE: &[Elsewhere] = &[(
    &["gzip", "gzip_types", "compression", "brotli", "encode", "compressor"],
    "write `compress: {}` in a route or in the door's `defaults`",
)];

const MIN_SIZE: u64 = 1024;

impl Policy for Option<Compress> {
    type Written = Option<Written>;

    const ROWS: Rows = Rows { inbound: Some(ROW), outbound: None, defaults: InDefaults::Taken };

    const ELSEWHERE: &'static [Elsewhere] = ELSEWHERE;

    fn build(_: &mut Build<'_>, _: &Place<'_>, written: Self::Written, inherited: &Self) -> Self {
        let Some(written) = written else { return inherited.clone() };
        let mut codings: Vec<AnswerCoding> = Vec::new();
        for coding in written.codings.into_iter().flatten().map(|coding| coding.0) {
            if !codings.contains(&coding) {
                codings.push(coding);
            }
        }
        if codings.is_empty() {
            codings = vec![AnswerCoding::Zstd, AnswerCoding::Brotli, AnswerCoding::Gzip];
        }
        let mut types: Vec<MediaTypes> = written.types.into_iter().flatten().map(|kind| kind.0).collect();
        if types.is_empty() {
            types.push(MediaTypes::Usual);
        }
        let types = types.into_iter().flat_map(|kind| match kind {
            MediaTypes::Usual => USUAL_TYPES.map(Glob::new).to_vec(),
            MediaTypes::Of(glob) => vec![glob],
        });
        let min_size = written.min_size.map_or(MIN_SIZE, |size| size.0.0);
        Some(Compress { mode: written.mode.0.meant()?, codings, types: types.collect(), min_size })
    }

    fn told(&self, _: &Config) -> Vec<String> {
        self.iter().map(|compress| format!("compress{}", compress.mode.remark())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{good, route, says};

    fn compress(policy: &str) -> Compress {
        good(&route(policy)).inbound.expect("open").routes.remove(0).policies.compress.expect("named")
    }

    #[test]
    fn one_word_compresses_what_is_text_in_every_coding() {
        let policy = compress("compress: {}");
        assert_eq!(policy.codings, [AnswerCoding::Zstd, AnswerCoding::Brotli, AnswerCoding::Gzip]);
        assert_eq!((policy.min_size, policy.mode), (1024, Mode::Enforce));
        let is = |kind: &str| policy.types.iter().any(|known| known.matches(kind));
        assert!(is("application/problem+json") && is("image/svg+xml") && !is("image/png") && !is("text/event-stream"));
    }

    #[test]
    fn types_and_codings_are_chosen() {
        let policy = compress("compress: {codings: [gzip, br, gzip], types: [usual, Text/Event-Stream], min_size: 0}");
        assert_eq!((policy.codings, policy.min_size), (vec![AnswerCoding::Gzip, AnswerCoding::Brotli], 0));
        assert!(policy.types.iter().any(|known| known.matches("text/event-stream")));
        let alone = compress("compress: {types: application/x-own}");
        assert_eq!(alone.types.len(), 1);
    }

    #[test]
    fn what_cannot_work_is_refused() {
        says(&route("compress: {codings: deflate}"), "5:27", "is unknown");
        says(&route("compress: {types: html}"), "5:25", "no media type");
        says(&route("gzip: {}"), "5:7", "write `compress: {}`");
    }
}
