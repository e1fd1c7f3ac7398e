//! The framing of server-sent events, for all who read or change a stream.
//!
//! It is that of the WHATWG HTML standard, section 9.2.6: lines end with CR, LF or CRLF, also mixed; an event ends at an empty line; several
//! `data` lines are joined by LF. Pieces may be cut anywhere.

/// Bytes of the largest event that is held; a larger one is given in parts.
pub const MAX_EVENT: usize = 1024 * 1024;

/// Finds the ends of events. Holds no bytes.
#[derive(Debug, Default, Clone)]
pub struct Boundary {
    /// The line under way has bytes.
    in_line: bool,
    /// The last byte was a CR within an event; an LF may belong to it.
    after_cr: bool,
    /// The last byte was a CR that ended an event.
    after_end: bool,
}

impl Boundary {
    /// Whether the first byte of `piece` is an LF that still belongs to the event before. To be called once per piece.
    pub fn take_line_feed(&mut self, piece: &[u8]) -> bool {
        !piece.is_empty() && std::mem::take(&mut self.after_end) && piece[0] == b'\n'
    }

    /// How many of `bytes` belong to the event under way; `None`: the event does not end in `bytes`.
    pub fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        if self.after_cr && !bytes.is_empty() {
            self.after_cr = false;
            at = usize::from(bytes[0] == b'\n');
        }
        loop {
            let Some(found) = memchr::memchr2(b'\r', b'\n', &bytes[at..]) else {
                self.in_line |= at < bytes.len();
                return None;
            };
            let blank = found == 0 && !self.in_line;
            self.in_line = false;
            at += found;
            let cr = bytes[at] == b'\r';
            at += 1;
            if cr {
                match bytes.get(at) {
                    Some(b'\n') => at += 1,
                    Some(_) => {}
                    None if blank => self.after_end = true,
                    None => self.after_cr = true,
                }
            }
            if blank {
                return Some(at);
            }
        }
    }
}

/// The `event` and `data` fields of one event. Several `data` lines are joined in `joined`, which must be empty.
pub fn fields<'a>(raw: &'a [u8], joined: &'a mut Vec<u8>) -> (&'a [u8], Option<&'a [u8]>) {
    let (mut name, mut data, mut lines) = (&b""[..], None, 0);
    let mut rest = raw;
    while !rest.is_empty() {
        let len = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
        let line = &rest[..len];
        rest = &rest[(len + 1).min(rest.len())..];
        if let Some(value) = field(line, b"data") {
            lines += 1;
            match data {
                None => data = Some(value),
                Some(first) => {
                    if lines == 2 {
                        joined.extend_from_slice(first);
                    }
                    joined.push(b'\n');
                    joined.extend_from_slice(value);
                }
            }
        } else if let Some(value) = field(line, b"event") {
            name = value;
        }
    }
    (name, if lines > 1 { Some(joined) } else { data })
}

/// The value of `line` if its field is `name`, without the one space that may follow the colon.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let rest = line.strip_prefix(name)?;
    match rest.split_first() {
        None => Some(b""),
        Some((b':', value)) => Some(value.strip_prefix(b" ").unwrap_or(value)),
        Some(_) => None,
    }
}
