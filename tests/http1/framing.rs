//! A second reading of what comes in, beside hyper's: only the bytes tell some ways to smuggle a request.
//!
//! hyper hands over a head in which a length beside a transfer coding, a line that ends in a bare LF and a fragment have already
//! disappeared. This scanner follows heads and bodies as they come in, allocates nothing, looks at line ends and at two field
//! names, and says which head must be refused and why. Where it loses the thread inside a body (hyper then reports the body as
//! broken, or is laxer), no further request of the connection is believed.

use memchr::memchr;

/// What is wrong with a head that hyper accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Flaw {
    /// A line ends in LF without CR (RFC 9112 section 2.2).
    BareLf = 1,
    /// Content-Length beside Transfer-Encoding (RFC 9112 section 6.3).
    TwoLengths,
    /// The request target has a fragment (RFC 9112 section 3.2).
    Fragment,
    /// A Content-Length line that is padded beyond reason.
    LongLength,
    /// The end of the body before it is not certain.
    Lost,
}

impl Flaw {
    /// For the client.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BareLf => "a line of the head ends in a bare LF",
            Self::TwoLengths => "both Content-Length and Transfer-Encoding",
            Self::Fragment => "the request target has a fragment",
            Self::LongLength => "a Content-Length line that is too long",
            Self::Lost => "the end of the request before is not certain",
        }
    }
}

/// A flaw, and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The number (from 1) of the first head that must be refused.
    pub head: u32,
    /// Why.
    pub flaw: Flaw,
    /// How many of the bytes come before the line with the flaw.
    pub at: usize,
}

/// Follows one client's bytes.
#[derive(Debug)]
pub struct Framing {
    state: State,
    heads: u32,
    head: Head,
    /// The beginning of a line of which the end has not come.
    kept: [u8; KEEP],
    /// Bytes of that line so far; more than `KEEP` if it is long.
    length: usize,
    /// Its last byte.
    last: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The request line, or empty lines before it.
    Start,
    Fields,
    Body(u64),
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    Lost,
}

/// What was seen of the head that is coming in.
#[derive(Debug, Clone, Copy, Default)]
struct Head {
    length: Option<u64>,
    coded: bool,
    flaw: Option<Flaw>,
}

/// Long enough for every framing field and chunk size that anybody sends in earnest.
const KEEP: usize = 96;

impl Default for Framing {
    fn default() -> Self {
        Self { state: State::Start, heads: 0, head: Head::default(), kept: [0; KEEP], length: 0, last: 0 }
    }
}

impl Framing {
    /// Follows the next bytes. What is wrong with them is said once, after which nothing is followed any more.
    pub fn feed(&mut self, all: &[u8]) -> Option<Found> {
        let mut bytes = all;
        while !bytes.is_empty() {
            match &mut self.state {
                State::Lost => return None,
                State::Body(left) | State::Data(left) => {
                    let passed = (*left).min(bytes.len() as u64);
                    *left -= passed;
                    bytes = &bytes[passed as usize..];
                    if *left == 0 {
                        self.state = if matches!(self.state, State::Body(_)) { State::Start } else { State::DataEnd };
                    }
                }
                _ => {
                    let Some(end) = memchr(b'\n', bytes) else {
                        self.keep(bytes);
                        return None;
                    };
                    let (line, rest) = bytes.split_at(end + 1);
                    bytes = rest;
                    if let Some((head, flaw)) = self.line(line) {
                        self.state = State::Lost;
                        return Some(Found { head, flaw, at: all.len() - bytes.len() - line.len() });
                    }
                }
            }
        }
        None
    }

    fn keep(&mut self, piece: &[u8]) {
        if self.state == State::Start && memchr(b'#', piece).is_some() {
            self.head.flaw.get_or_insert(Flaw::Fragment);
        }
        if self.length < KEEP {
            let room = (KEEP - self.length).min(piece.len());
            self.kept[self.length..self.length + room].copy_from_slice(&piece[..room]);
        }
        self.length += piece.len();
        self.last = piece[piece.len() - 1];
    }

    /// A line's last piece, LF included.
    fn line(&mut self, piece: &[u8]) -> Option<(u32, Flaw)> {
        if self.length == 0 {
            let (text, crlf) = match piece {
                [text @ .., b'\r', b'\n'] => (text, true),
                _ => (&piece[..piece.len() - 1], false),
            };
            return self.whole_line(text, crlf, text.len() > KEEP);
        }
        let crlf = if piece.len() > 1 { piece[piece.len() - 2] == b'\r' } else { self.last == b'\r' };
        self.keep(piece);
        let length = self.length - if crlf { 2 } else { 1 };
        self.length = 0;
        let kept = self.kept;
        self.whole_line(&kept[..length.min(KEEP)], crlf, length > KEEP)
    }

    /// A line without its end; `long`: perhaps only its beginning is here.
    fn whole_line(&mut self, text: &[u8], crlf: bool, long: bool) -> Option<(u32, Flaw)> {
        match self.state {
            State::Start => {
                if text.is_empty() {
                    return None;
                }
                if memchr(b'#', text).is_some() {
                    self.head.flaw.get_or_insert(Flaw::Fragment);
                }
                self.note_end(crlf);
                self.state = State::Fields;
            }
            State::Fields => {
                self.note_end(crlf);
                if text.is_empty() {
                    return self.head_ends();
                }
                match text[0] {
                    b'c' | b'C' if is_field(text, b"content-length") => {
                        if long {
                            self.head.flaw.get_or_insert(Flaw::LongLength);
                        }
                        // What is not a number, or another one, hyper refuses by itself.
                        self.head.length = number(text[15..].trim_ascii()).or(Some(0));
                    }
                    b't' | b'T' if is_field(text, b"transfer-encoding") => self.head.coded = true,
                    _ => {}
                }
            }
            State::Size => match chunk_size(text).filter(|_| crlf) {
                Some(0) => self.state = State::Trailers,
                Some(size) => self.state = State::Data(size),
                None => return self.lost(),
            },
            State::DataEnd if text.is_empty() && crlf => self.state = State::Size,
            State::Trailers if !crlf => return self.lost(),
            State::Trailers => {
                if text.is_empty() {
                    self.state = State::Start;
                }
            }
            State::DataEnd | State::Body(_) | State::Data(_) | State::Lost => return self.lost(),
        }
        None
    }

    fn note_end(&mut self, crlf: bool) {
        if !crlf {
            self.head.flaw.get_or_insert(Flaw::BareLf);
        }
    }

    fn head_ends(&mut self) -> Option<(u32, Flaw)> {
        let Head { length, coded, flaw } = std::mem::take(&mut self.head);
        self.heads = self.heads.saturating_add(1);
        let flaw = flaw.or((coded && length.is_some()).then_some(Flaw::TwoLengths));
        self.state = match length {
            _ if coded => State::Size,
            Some(length) if length > 0 => State::Body(length),
            _ => State::Start,
        };
        flaw.map(|flaw| (self.heads, flaw))
    }

    fn lost(&self) -> Option<(u32, Flaw)> {
        Some((self.heads.saturating_add(1), Flaw::Lost))
    }
}

fn is_field(line: &[u8], name: &[u8]) -> bool {
    line.len() > name.len() && line[name.len()] == b':' && line[..name.len()].eq_ignore_ascii_case(name)
}

fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |sum, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// The size at the beginning of a chunk's first line; extensions are hyper's to judge.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    if !(1..=16).contains(&digits) || !matches!(line.get(digits), None | Some(b';' | b' ' | b'\t')) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(&line[..digits]).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn verdict(bytes: &[u8]) -> (u32, Option<(u32, Flaw)>) {
        let mut framing = Framing::default();
        let found = framing.feed(bytes);
        (framing.heads, found.map(|found| (found.head, found.flaw)))
    }

    #[test]
    fn heads_and_bodies_are_told_apart() {
        let stream = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /\
            \r\nPOST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nGET /\r\n0\r\nX: 1\r\n\r\nGET / HTTP/1.1\r\n\r\n";
        assert_eq!(verdict(stream), (3, None));
    }

    #[test]
    fn what_hyper_hides_is_seen() {
        for (head, flaw) in [
            (&b"GET / HTTP/1.1\nHost: a\r\n\r\n"[..], Flaw::BareLf),
            (b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", Flaw::BareLf),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\n", Flaw::BareLf),
            (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", Flaw::Fragment),
            (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", Flaw::TwoLengths),
            (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length:\t0\r\n\r\n", Flaw::TwoLengths),
        ] {
            assert_eq!(verdict(head).1, Some((1, flaw)), "{}", String::from_utf8_lossy(head));
        }
        for body in [
            &b"5\nhello\r\n0\r\n\r\n"[..],
            b"5\r\nhelloX\r\n0\r\n\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"0x5\r\nhello",
            b"\r\n",
            b"0\r\nX: a\n\r\n",
            b"11111111111111111\r\n",
        ] {
            let stream = [b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", body].concat();
            assert_eq!(verdict(&stream).1, Some((2, Flaw::Lost)), "{}", String::from_utf8_lossy(body));
        }
    }

    /// Requests that are in order, as bytes.
    fn request() -> impl Strategy<Value = Vec<u8>> {
        let body = proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b':'), any::<u8>()], 0..200);
        let chunks = proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..5);
        let field = "[a-zA-Z-]{1,20}: [ -~]{0,150}".prop_filter("not a framing field", |field| {
            let name = field.split(':').next().unwrap_or_default();
            !name.eq_ignore_ascii_case("content-length") && !name.eq_ignore_ascii_case("transfer-encoding")
        });
        let fields = proptest::collection::vec(field, 0..6);
        (fields, body, chunks, 0..3).prop_map(|(fields, body, chunks, kind)| {
            let mut out = b"POST /some/path?and=query HTTP/1.1\r\n".to_vec();
            for field in fields {
                out.extend_from_slice(field.as_bytes());
                out.extend_from_slice(b"\r\n");
            }
            match kind {
                0 => out.extend_from_slice(b"\r\n"),
                1 => {
                    out.extend_from_slice(format!("Content-Length:  {}\r\n\r\n", body.len()).as_bytes());
                    out.extend_from_slice(&body);
                }
                _ => {
                    out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                    for chunk in chunks {
                        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                        out.extend_from_slice(&chunk);
                        out.extend_from_slice(b"\r\n");
                    }
                    out.extend_from_slice(b"0\r\nX-Sum: 1\r\n\r\n");
                }
            }
            out
        })
    }

    proptest! {
        #[test]
        fn requests_in_order_are_counted_however_they_are_cut(
            requests in proptest::collection::vec(request(), 1..5), step in 1usize..120,
        ) {
            let stream = requests.concat();
            let mut framing = Framing::default();
            for piece in stream.chunks(step) {
                prop_assert_eq!(framing.feed(piece), None);
            }
            prop_assert_eq!(framing.heads as usize, requests.len());
            prop_assert_eq!(framing.state, State::Start);
        }

        #[test]
        fn a_verdict_does_not_depend_on_how_the_bytes_are_cut(
            stream in proptest::collection::vec(proptest::sample::select(vec![
                "\r\n", "\n", "Content-Length: 3", "Transfer-Encoding: chunked", "GET / HTTP/1.1", "3", "abc", "0", "#", "\r", "X: y"]), 0..40),
            step in 1usize..9,
        ) {
            let stream = stream.concat().into_bytes();
            let mut cut = Framing::default();
            let pieces = stream.chunks(step).enumerate().find_map(|(n, piece)| cut.feed(piece).map(|found| (n, found)));
            prop_assert_eq!(pieces.map(|(_, found)| (found.head, found.flaw)), verdict(&stream).1);
            if let Some((n, found)) = pieces {
                // What comes before the flawed line is in order.
                prop_assert_eq!(Framing::default().feed(&stream[..n * step + found.at]), None);
            }
        }
    }
}
