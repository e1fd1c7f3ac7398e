//! Content codings decoded on the side (RFC 9110 section 8.4): policies read the text, the receiver gets the bytes as they came.
//!
//! [`Decoder`] takes pieces as they come and gives bounded pieces. [`decode`] takes a whole body and has two bounds: the size
//! of the text, and its ratio to the encoded size. Each coding is read to its end, with all members of a gzip file and all
//! frames of a Zstandard stream: the receiver may read them all, and a second member must not carry text that no policy has
//! read.

mod inflate;
mod unbrotli;
mod unzstd;

#[cfg(test)]
mod tests;

use crate::http1::{Fields, Id};
use bytes::Bytes;

/// Bytes that a decoder gives at once.
const PIECE: usize = 16 * 1024;

/// Most codings on top of each other. More are refused: no serious sender uses them.
const MOST_LAYERS: usize = 4;

/// A text may always be this large, whatever its ratio to the encoded size.
const ALWAYS: u64 = 1024 * 1024;

/// A text larger than [`ALWAYS`] may have at most this many bytes per encoded byte. JSON with long repeats reaches 50.
const RATIO: u64 = 200;

/// A content coding that can be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952; also `x-gzip`.
    Gzip,
    /// RFC 1950 (zlib), or RFC 1951 alone: both are in use.
    Deflate,
    /// RFC 8878.
    Zstd,
    /// RFC 7932.
    Brotli,
}

/// The codings of a body in the order in which they were applied, `identity` left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContentEncoding {
    /// None: the body is its text.
    Plain,
    /// Every coding can be decoded.
    Known(Vec<Coding>),
    /// A coding that cannot be decoded, as the header names it; or too many codings.
    Unknown(String),
}

impl ContentEncoding {
    /// Reads `Content-Encoding`.
    pub fn of(headers: &Fields) -> Self {
        let mut known = Vec::new();
        for value in headers.all(Id::ContentEncoding) {
            let Ok(text) = value.to_str() else { return Self::Unknown("a name that is no text".into()) };
            for name in text.split(',').map(str::trim).filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity")) {
                let Some(coding) = Coding::named(name) else { return Self::Unknown(name.chars().take(32).collect()) };
                known.push(coding);
            }
        }
        match known.len() {
            0 => Self::Plain,
            1..=MOST_LAYERS => Self::Known(known),
            _ => Self::Unknown(format!("{} codings over each other", known.len())),
        }
    }
}

impl Coding {
    fn named(name: &str) -> Option<Self> {
        const NAMES: [(&str, Coding); 5] = [
            ("gzip", Coding::Gzip),
            ("x-gzip", Coding::Gzip),
            ("deflate", Coding::Deflate),
            ("zstd", Coding::Zstd),
            ("br", Coding::Brotli),
        ];
        NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, coding)| *coding)
    }
}

/// The text of a body, without its codings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    /// There is no coding: the bytes are the text.
    Plain,
    /// The text.
    Decoded(Bytes),
    /// A coding that cannot be decoded, as the header names it.
    Unknown(String),
    /// The body does not match `Content-Encoding`, or is cut.
    Broken,
    /// The text is larger than so many bytes, or out of proportion to the encoded body.
    TooLarge(u64),
}

/// The text of a whole body, of at most `most` bytes. An empty body is plain, whatever its header says.
pub fn decode(headers: &Fields, body: &[u8], most: u64) -> Text {
    if body.is_empty() {
        return Text::Plain;
    }
    let codings = match ContentEncoding::of(headers) {
        ContentEncoding::Plain => return Text::Plain,
        ContentEncoding::Unknown(name) => return Text::Unknown(name),
        ContentEncoding::Known(codings) => codings,
    };
    let bound = most.min(ALWAYS.max((body.len() as u64).saturating_mul(RATIO)));
    let mut text = Vec::new();
    let mut decoder = Decoder::new(&codings);
    let fed = decoder.feed(body, &mut |piece| {
        let fits = (text.len() + piece.len()) as u64 <= bound;
        if fits {
            text.extend_from_slice(piece);
        }
        fits
    });
    match fed.and_then(|()| decoder.finish()) {
        Ok(()) => Text::Decoded(text.into()),
        Err(Stop::Asked) => Text::TooLarge(bound),
        Err(Stop::Broken) => Text::Broken,
    }
}

/// Why decoding stopped early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The taker asked for no more.
    Asked,
    /// The input is not in this coding.
    Broken,
}

/// Takes a piece of the text; `false` asks for no more.
type Take<'a> = &'a mut dyn FnMut(&[u8]) -> bool;

/// Removes the codings of a body that comes in pieces.
pub struct Decoder {
    /// The outermost coding first.
    layers: Vec<Layer>,
    stopped: Option<Stop>,
}

enum Layer {
    Inflate(inflate::Inflate),
    Zstd(unzstd::Unzstd),
    Brotli(unbrotli::Unbrotli),
}

impl Decoder {
    /// A decoder for a body to which `codings` were applied in this order.
    pub fn new(codings: &[Coding]) -> Self {
        let layer = |coding: &Coding| match coding {
            Coding::Gzip => Layer::Inflate(inflate::Inflate::gzip()),
            Coding::Deflate => Layer::Inflate(inflate::Inflate::deflate()),
            Coding::Zstd => Layer::Zstd(unzstd::Unzstd::default()),
            Coding::Brotli => Layer::Brotli(unbrotli::Unbrotli::default()),
        };
        Self { layers: codings.iter().rev().map(layer).collect(), stopped: None }
    }

    /// A decoder for a body with these header fields; `None`: the body has no coding, or one that cannot be decoded.
    pub fn of(headers: &Fields) -> Option<Self> {
        match ContentEncoding::of(headers) {
            ContentEncoding::Known(codings) => Some(Self::new(&codings)),
            ContentEncoding::Plain | ContentEncoding::Unknown(_) => None,
        }
    }

    /// Decodes a piece and gives its text to `take` in pieces of at most `PIECE` bytes.
    ///
    /// # Errors
    /// The input is broken, or `take` asked for no more. Every later call fails too.
    pub fn feed(&mut self, piece: &[u8], take: Take<'_>) -> Result<(), Stop> {
        if let Some(stop) = self.stopped {
            return Err(stop);
        }
        through(&mut self.layers, piece, take).inspect_err(|stop| self.stopped = Some(*stop))
    }

    /// Checks the end of the body.
    ///
    /// # Errors
    /// The body is cut inside a coding.
    pub fn finish(&self) -> Result<(), Stop> {
        let ended = self.layers.iter().all(|layer| match layer {
            Layer::Inflate(inflate) => inflate.is_at_end(),
            Layer::Zstd(zstd) => zstd.is_at_end(),
            Layer::Brotli(brotli) => brotli.is_at_end(),
        });
        match (self.stopped, ended) {
            (Some(stop), _) => Err(stop),
            (None, true) => Ok(()),
            (None, false) => Err(Stop::Broken),
        }
    }
}

fn through(layers: &mut [Layer], piece: &[u8], take: Take<'_>) -> Result<(), Stop> {
    let Some((layer, rest)) = layers.split_first_mut() else {
        return if piece.is_empty() || take(piece) { Ok(()) } else { Err(Stop::Asked) };
    };
    let mut next = |piece: &[u8]| through(rest, piece, take);
    match layer {
        Layer::Inflate(inflate) => inflate.feed(piece, &mut next),
        Layer::Zstd(zstd) => zstd.feed(piece, &mut next),
        Layer::Brotli(brotli) => brotli.feed(piece, &mut next),
    }
}

/// The next layer.
type Next<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), Stop>;

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").field("layers", &self.layers.len()).field("stopped", &self.stopped).finish()
    }
}
