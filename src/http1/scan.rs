//! One strict pass over a head (RFC 9112 sections 2 to 6): what two readers could understand differently is refused, with a reason.
//!
//! Bytes may come in any pieces, and no byte is looked at more than twice. A line is judged when it is whole; a control byte is
//! refused as soon as it is there. The verdict never depends on how the bytes were cut.
//!
//! What a sender may do and this reader does not take: a bare LF as line end in a request (RFC 9112 section 2.2 allows it; proxies
//! that did were tricked with it), a folded line (section 5.2), a minor version above 1.1 (RFC 9110 section 2.5).

use super::{
    class, facts,
    head::{Field, Form, Head, Method, Span, Version},
    ids::{Id, IdSet},
    refusal::Refusal,
};

/// Bounds of a head. Beyond them it is refused.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a head, its last empty line included; those of a trailer section.
    pub bytes: u32,
    /// Fields.
    pub fields: u16,
    /// Bytes of a target, at most 65,534.
    pub target: u16,
}

impl Default for Limits {
    /// 64 KiB, 100 fields, 65,534 bytes of target.
    fn default() -> Self {
        Self { bytes: 64 << 10, fields: 100, target: 65_534 }
    }
}

/// Bytes of lines that a proxy adds to a head as a rule: there is room for them from the beginning.
const ADDED: usize = 384;

/// What is scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    Answer,
    Trailers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing of the next head is there.
    New,
    FirstLine,
    Fields,
}

/// Reads one head after the other.
#[derive(Debug, Clone)]
pub struct Scanner {
    limits: Limits,
    kind: Kind,
    state: State,
    /// Where the line begins in the head's bytes of which the end has not come.
    line: u32,
    /// Empty lines before the request.
    empty_lines: u8,
    /// Names in `Connection` that are not known.
    options: u16,
}

/// How much of a line was scanned: `None` if its end is not there.
type Line = Result<Option<usize>, Refusal>;

impl Scanner {
    /// Reads requests.
    pub fn requests(limits: Limits) -> Self {
        Self::new(Kind::Request, limits)
    }

    /// Reads answers.
    pub fn answers(limits: Limits) -> Self {
        Self::new(Kind::Answer, limits)
    }

    /// Reads the fields behind a chunked body (RFC 9112 section 7.1.2) up to their empty line.
    pub(super) fn trailers(limits: Limits) -> Self {
        Self::new(Kind::Trailers, limits)
    }

    fn new(kind: Kind, limits: Limits) -> Self {
        Self { limits, kind, state: State::New, line: 0, empty_lines: 0, options: 0 }
    }

    /// Whether a part of a head is there.
    pub fn has_begun(&self) -> bool {
        self.state != State::New
    }

    /// Reads on. `head` must be the same until its head is whole; what it held before is cleared when a new one begins.
    ///
    /// `Some(n)`: the head is whole, and the first `n` bytes of `input` belong to it. `None`: all of `input` belongs to it, and more
    /// must come.
    ///
    /// # Errors
    /// The head is refused. What follows cannot be believed: the connection must be closed after the answer.
    pub fn scan(&mut self, head: &mut Head, input: &[u8]) -> Line {
        let scanned = self.pieces(head, input);
        if !matches!(scanned, Ok(None)) {
            self.state = State::New;
        }
        scanned
    }

    fn pieces(&mut self, head: &mut Head, input: &[u8]) -> Line {
        if self.state == State::New {
            if input.is_empty() {
                return Ok(None);
            }
            head.clear();
            (self.line, self.empty_lines, self.options) = (0, 0, 0);
            self.state = if self.kind == Kind::Trailers { State::Fields } else { State::FirstLine };
        }
        let mut taken = 0;
        if head.lines.bytes.len() > self.line as usize {
            let Some(end) = memchr::memchr(b'\n', input) else {
                self.keep(head, input)?;
                return Ok(None);
            };
            taken = end + 1;
            if self.finish_line(head, &input[..taken])? {
                facts::conclude(head, self.kind)?;
                return Ok(Some(taken));
            }
        }
        taken += self.skip_empty_lines(&input[taken..])?;
        let rest = &input[taken..];
        let shift = head.lines.bytes.len();
        let within = &rest[..rest.len().min(self.room(head))];
        let lines = self.lines(head, within, shift);
        // What was read before a flaw can be told: the method and the target for a log.
        let scanned = lines.map_or(within.len(), |(scanned, _)| scanned);
        if head.lines.bytes.is_empty() {
            head.lines.bytes.reserve(scanned + ADDED);
        }
        head.lines.bytes.extend_from_slice(&rest[..scanned]);
        let whole = lines?.1;
        self.line = head.lines.bytes.len() as u32;
        if whole {
            facts::conclude(head, self.kind)?;
            return Ok(Some(taken + scanned));
        }
        self.keep(head, &rest[scanned..])?;
        Ok(None)
    }

    /// Bytes that the head may still have.
    fn room(&self, head: &Head) -> usize {
        (self.limits.bytes as usize).saturating_sub(head.lines.bytes.len())
    }

    /// The end of the line that an earlier piece began. Whether it ended the head.
    fn finish_line(&mut self, head: &mut Head, piece: &[u8]) -> Result<bool, Refusal> {
        if piece.len() > self.room(head) {
            self.keep(head, piece)?;
        }
        head.lines.bytes.extend_from_slice(piece);
        if self.kind == Kind::Request && self.state == State::FirstLine && head.lines.bytes == b"\r\n" {
            head.lines.bytes.clear();
            self.skip_empty_lines(b"\r\n")?;
            return Ok(false);
        }
        // The bytes are lent out, because what is found in them is written beside them.
        let bytes = std::mem::take(&mut head.lines.bytes);
        let scanned = self.lines(head, &bytes[self.line as usize..], self.line as usize);
        head.lines.bytes = bytes;
        self.line = head.lines.bytes.len() as u32;
        Ok(scanned?.1)
    }

    /// Keeps a line's beginning. Only control bytes are looked for.
    fn keep(&self, head: &mut Head, piece: &[u8]) -> Result<(), Refusal> {
        let within = &piece[..piece.len().min(self.room(head))];
        if head.lines.bytes[self.line as usize..].last() == Some(&b'\r') && within.first().is_some_and(|byte| *byte != b'\n') {
            return Err(Refusal::BareCr);
        }
        no_control(within)?;
        if within.len() < piece.len() {
            return Err(match (self.kind, self.state) {
                (Kind::Trailers, _) => Refusal::TrailersTooLarge,
                (Kind::Request, State::FirstLine) => Refusal::TargetTooLong,
                _ => Refusal::HeadTooLarge,
            });
        }
        head.lines.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// Empty lines before a request are passed over (RFC 9112 section 2.2). How many bytes they have.
    fn skip_empty_lines(&mut self, input: &[u8]) -> Result<usize, Refusal> {
        let mut at = 0;
        while self.state == State::FirstLine && self.kind == Kind::Request && input[at..].starts_with(b"\r\n") {
            at += 2;
            self.empty_lines += 1;
            if self.empty_lines > MOST_EMPTY_LINES {
                return Err(Refusal::EmptyLines);
            }
        }
        Ok(at)
    }

    /// Scans whole lines at the beginning of `text`, which stands or will stand at `shift` in the head. How many bytes they have, and
    /// whether the last of them ended the head.
    fn lines(&mut self, head: &mut Head, text: &[u8], shift: usize) -> Result<(usize, bool), Refusal> {
        let mut at = 0;
        if self.state == State::FirstLine {
            let line = match self.kind {
                Kind::Request => self.request_line(head, text, shift)?,
                Kind::Answer | Kind::Trailers => self.status_line(head, text, shift)?,
            };
            let Some(length) = line else { return Ok((0, false)) };
            at = length;
            self.state = State::Fields;
        }
        loop {
            let line = &text[at..];
            let end = match line {
                [b'\r', b'\n', ..] => 2,
                [b'\n', ..] if self.kind == Kind::Answer => 1,
                _ => 0,
            };
            if end > 0 {
                head.end = (shift + at) as u32;
                return Ok((at + end, true));
            }
            match self.field_line(head, line, shift + at)? {
                Some(length) => at += length,
                None => return Ok((at, false)),
            }
        }
    }

    /// `method SP request-target SP HTTP-version CRLF` (RFC 9112 section 3).
    fn request_line(&self, head: &mut Head, line: &[u8], shift: usize) -> Line {
        let method = class::token(line);
        if method == 0 || line.get(method) != Some(&b' ') {
            return judge(line, if line.first() == Some(&b'\n') { Refusal::BareLf } else { Refusal::RequestLine });
        }
        let target = method + 1;
        let mut end = target + class::path(&line[target..]);
        if line.get(end) == Some(&b'?') {
            end += 1;
            end += class::query(&line[end..]);
        }
        if end == target || line.get(end) != Some(&b' ') {
            return judge(
                line,
                match line.get(end) {
                    Some(b'#') => Refusal::Fragment,
                    Some(b' ' | b'\r' | b'\n') | None => Refusal::RequestLine,
                    _ => Refusal::TargetByte,
                },
            );
        }
        let (version, length) = match &line[end + 1..] {
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1', b'\r', b'\n', ..] => (Version::Http11, end + 11),
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0', b'\r', b'\n', ..] => (Version::Http10, end + 11),
            other => return judge(line, bad_version(other)),
        };
        if end - target > usize::from(self.limits.target) {
            return Err(Refusal::TargetTooLong);
        }
        head.version = version;
        head.method = Method::of(&line[..method]);
        head.word = Span::new(shift..shift + method);
        head.target = Span::new(shift + target..shift + end);
        read_target(head, &line[target..end], shift + target)?;
        Ok(Some(length))
    }

    /// `HTTP-version SP status-code SP [ reason-phrase ] CRLF` (RFC 9112 section 4). The second space may be missing where there is no
    /// reason: old servers leave it out.
    fn status_line(&self, head: &mut Head, line: &[u8], shift: usize) -> Line {
        let version = match line {
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1', b' ', ..] => Version::Http11,
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0', b' ', ..] => Version::Http10,
            [b'H', b'T', b'T', b'P', b'/', ..] => return judge(line, bad_version(line)),
            _ => return judge(line, Refusal::StatusLine),
        };
        let [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..] = &line[9..] else {
            return judge(line, Refusal::StatusLine);
        };
        let reason = match rest {
            [b' ', ..] => 13,
            [b'\r', ..] | [b'\n', ..] => 12,
            _ => return judge(line, Refusal::StatusLine),
        };
        let end = reason + class::text(&line[reason..]);
        let Some(length) = self.line_end(&line[end..]) else { return judge(line, Refusal::StatusLine) };
        head.version = version;
        head.status = u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0');
        head.word = Span::new(shift + reason..shift + end);
        Ok(Some(end + length))
    }

    /// `field-name ":" OWS field-value OWS CRLF` (RFC 9112 section 5).
    #[inline]
    fn field_line(&mut self, head: &mut Head, line: &[u8], at: usize) -> Line {
        let Some(name) = class::find(line, b':') else { return judge(line, no_name(head, self.kind, line)) };
        let id = Id::find(line, name);
        if !id.is_known() && !class::is_token(&line[..name]) {
            return judge(line, no_name(head, self.kind, line));
        }
        let mut value = name + 1;
        while line.get(value).is_some_and(|byte| class::is_blank(*byte)) {
            value += 1;
        }
        let end = value + class::text(&line[value..]);
        let Some(length) = self.line_end(&line[end..]) else { return judge(line, Refusal::BareLf) };
        let mut value_end = end;
        while value_end > value && class::is_blank(line[value_end - 1]) {
            value_end -= 1;
        }
        if head.lines.fields.len() >= usize::from(self.limits.fields) {
            return Err(Refusal::TooManyFields);
        }
        head.lines.fields.push(Field {
            at: at as u32,
            value: (at + value) as u32,
            value_len: (value_end - value) as u32,
            name_len: u16::try_from(name).map_err(|_| Refusal::FieldName)?,
            id,
        });
        if TELLING.has(id) && self.kind != Kind::Trailers {
            facts::note(head, self.kind, &line[..end], name, id, value..value_end, &mut self.options)?;
        }
        let seen = &mut head.lines.seen;
        if seen.has(id) {
            head.doubled.insert(id);
        }
        seen.insert(id);
        Ok(Some(end + length))
    }

    /// Length of the line end that `rest` begins with.
    #[inline]
    fn line_end(&self, rest: &[u8]) -> Option<usize> {
        match rest {
            [b'\r', b'\n', ..] => Some(2),
            [b'\n', ..] if self.kind == Kind::Answer => Some(1),
            _ => None,
        }
    }
}

/// Names that say something about framing or the connection; unknown ones may be other spellings of these.
const TELLING: IdSet =
    IdSet::of(&[Id::ContentLength, Id::TransferEncoding, Id::Host, Id::Connection, Id::Upgrade, Id::Expect, Id::Te, Id::Other]);

/// More empty lines than these are no slip of an old client.
const MOST_EMPTY_LINES: u8 = 16;

/// A line in which something is wrong: of a control byte it is the first that counts; of anything else only once the line is whole.
#[cold]
fn judge(line: &[u8], why: Refusal) -> Line {
    let end = memchr::memchr(b'\n', line);
    no_control(&line[..end.unwrap_or(line.len())])?;
    if end.is_some() { Err(why) } else { Ok(None) }
}

/// Refuses control bytes; a CR may stand at the very end, where an LF may follow it.
fn no_control(text: &[u8]) -> Result<(), Refusal> {
    match &text[class::text(text)..] {
        [] | [b'\r'] => Ok(()),
        [b'\r', ..] => Err(Refusal::BareCr),
        _ => Err(Refusal::Control),
    }
}

/// Why what stands where a version should is none that is spoken here.
#[cold]
fn bad_version(text: &[u8]) -> Refusal {
    match text {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0' | b'1', b'\n', ..] => Refusal::BareLf,
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9', b'\r' | b'\n' | b' ', ..] => Refusal::MinorVersion,
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9', b'\r' | b'\n' | b' ', ..] if text[5] != b'1' => {
            Refusal::MajorVersion
        }
        _ => Refusal::Version,
    }
}

/// Why a line has no name.
#[cold]
fn no_name(head: &Head, kind: Kind, line: &[u8]) -> Refusal {
    let name = class::token(line);
    match line.get(name) {
        Some(b' ' | b'\t') if name == 0 && head.lines.fields.is_empty() && kind != Kind::Trailers => Refusal::SpaceAfterStart,
        Some(b' ' | b'\t') if name == 0 => Refusal::Fold,
        Some(b'\n') if name == 0 => Refusal::BareLf,
        Some(b' ' | b'\t') if line[name..].iter().find(|byte| !class::is_blank(**byte)) == Some(&b':') => Refusal::SpaceBeforeColon,
        Some(b'\r' | b'\n') => Refusal::NoColon,
        _ => Refusal::FieldName,
    }
}

/// The four forms of a target (RFC 9112 section 3.2).
fn read_target(head: &mut Head, target: &[u8], at: usize) -> Result<(), Refusal> {
    if !target.is_ascii() && std::str::from_utf8(target).is_err() {
        return Err(Refusal::TargetByte);
    }
    head.path = head.target;
    match (target, head.method) {
        (_, Method::Connect) => {
            let has_port = target.last().is_some_and(u8::is_ascii_digit) && target.contains(&b':');
            if !has_port || !class::is_host(target) {
                return Err(Refusal::TargetForm);
            }
            (head.form, head.authority, head.path) = (Form::Authority, head.target, Span::default());
        }
        ([b'/', ..], _) => head.form = Form::Origin,
        (b"*", Method::Options) => head.form = Form::Asterisk,
        _ => return absolute(head, target, at),
    }
    Ok(())
}

/// `http://authority/path?query` (RFC 9112 section 3.2.2).
#[cold]
fn absolute(head: &mut Head, target: &[u8], at: usize) -> Result<(), Refusal> {
    let is_scheme = |scheme: &[u8]| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    let begin = match () {
        () if is_scheme(b"http://") => 7,
        () if is_scheme(b"https://") => 8,
        () if memchr::memmem::find(target, b"://").is_some() => return Err(Refusal::Scheme),
        () => return Err(Refusal::TargetForm),
    };
    let end = begin + target[begin..].iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(target.len() - begin);
    let authority = &target[begin..end];
    if authority.contains(&b'@') {
        return Err(Refusal::UserInfo);
    }
    // No name of a host has an escape; http::Uri refuses it too.
    if !class::is_host(authority) || authority.contains(&b'%') {
        return Err(Refusal::Authority);
    }
    head.form = Form::Absolute;
    head.authority = Span::new(at + begin..at + end);
    head.path = Span::new(at + end..at + target.len());
    if target.get(end) == Some(&b'?') {
        head.path = Span::default();
        head.path_apart.push(b'/');
        head.path_apart.extend_from_slice(&target[end..]);
    }
    Ok(())
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
