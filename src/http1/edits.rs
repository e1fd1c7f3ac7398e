//! What changes in a head on its way: fields to leave out, lines of our own, another target.
//!
//! The head itself never changes. [`super::write_request`] and [`super::write_answer`] write both together; what no edit names goes on byte
//! for byte. All of it is kept in three vectors that live on from message to message.

use std::fmt;

use super::{
    class,
    framing::Framing,
    head::{Field, Head},
    ids::{ESSENTIAL, HOP_BY_HOP, Id, IdSet, Name},
};

/// Changes to one head.
#[derive(Clone, Default)]
pub struct Edits {
    /// Known names that are left out.
    pub(super) dropped: IdSet,
    /// Indexes of fields that are left out, in their order.
    pub(super) dropped_fields: Vec<u16>,
    /// Names that lines of our own have, or had.
    own: IdSet,
    /// Lines of our own, by their place.
    pub(super) lines: Vec<Line>,
    /// The text of these lines, and of the target.
    pub(super) text: Vec<u8>,
    pub(super) target: Option<(u32, u32)>,
}

/// A line of our own, with its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    pub(super) at: u32,
    pub(super) len: u32,
    name_len: u16,
    /// Index of the field before whose line it is written, or [`BEHIND`].
    pub(super) place: u16,
    id: Id,
}

/// The place behind all fields.
pub(super) const BEHIND: u16 = u16::MAX;

impl Edits {
    /// No edits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes all edits back and keeps the memory.
    pub fn clear(&mut self) {
        (self.dropped, self.own) = (IdSet::EMPTY, IdSet::EMPTY);
        self.dropped_fields.clear();
        self.lines.clear();
        self.text.clear();
        self.target = None;
    }

    /// Memory that they hold, used or not, in bytes.
    pub fn capacity(&self) -> usize {
        self.text.capacity() + self.lines.capacity() * size_of::<Line>() + self.dropped_fields.capacity() * size_of::<u16>()
    }

    /// Leaves out every field of a known name, and what was set for it.
    pub fn drop(&mut self, id: Id) {
        if id.is_known() {
            self.dropped.insert(id);
            if self.own.has(id) {
                self.lines.retain(|line| line.id != id);
            }
        }
    }

    /// Leaves out the message's own fields of these known names.
    pub fn drop_all(&mut self, mut ids: IdSet) {
        ids.remove(Id::Other);
        self.dropped = self.dropped.and(ids);
    }

    /// Leaves out the field at `index`.
    pub fn drop_field(&mut self, index: usize) {
        let index = index as u16;
        if let Err(at) = self.dropped_fields.binary_search(&index) {
            self.dropped_fields.insert(at, index);
        }
    }

    /// Leaves out what belongs to one hop: [`HOP_BY_HOP`], and what `Connection` names unless it is [`ESSENTIAL`] (RFC 9110 section
    /// 7.6.1). To be called before anything is set, so that nobody can name what a proxy sets.
    pub fn drop_hop_by_hop(&mut self, head: &Head) {
        self.drop_all(HOP_BY_HOP.and(head.nominated().without(ESSENTIAL)));
        if head.has(Id::Connection) && head.has(Id::Other) {
            for (index, _) in head.fields().iter().enumerate().filter(|(_, field)| field.is_nominated()) {
                self.drop_field(index);
            }
        }
    }

    /// Says exactly `framing` (RFC 9112 section 6): a line of the message that does so already goes on as it is. To be called after
    /// [`Edits::drop_hop_by_hop`].
    pub fn frame(&mut self, head: &Head, framing: Framing) {
        self.drop(Id::TransferEncoding);
        if framing == Framing::Chunked {
            self.drop(Id::ContentLength);
            match head.is_chunked() {
                true => self.dropped.remove(Id::TransferEncoding),
                false => self.append(Id::TransferEncoding, b"chunked"),
            }
            return;
        }
        let length = match framing {
            Framing::Length(length) => Some(length),
            // The length that a GET would have got; 1xx and 204 never have one (RFC 9110 section 8.6).
            Framing::None if !matches!(head.status(), 100..=199 | 204) && !head.is_chunked() => head.length(),
            _ => None,
        };
        match length {
            None => self.drop(Id::ContentLength),
            Some(length) if head.length() == Some(length) && head.length_is_plain() => {
                self.drop(Id::ContentLength);
                self.dropped.remove(Id::ContentLength);
            }
            Some(length) => {
                let mut digits = [0; 20];
                self.set(head, Id::ContentLength, decimal(length, &mut digits));
            }
        }
    }

    /// Gives a field this one value: in the place of the first field of its name if there is one, else behind all fields.
    ///
    /// A control byte in `value` becomes a space (RFC 9110 section 5.5), so that no value begins a line of its own.
    pub fn set<'n>(&mut self, head: &Head, name: impl Into<Name<'n>>, value: &[u8]) {
        self.set_with(head, name, |out| out.extend_from_slice(value));
    }

    /// As [`Edits::set`], with the value that `write` appends to what it is given.
    pub fn set_with<'n>(&mut self, head: &Head, name: impl Into<Name<'n>>, write: impl FnOnce(&mut Vec<u8>)) {
        let name = name.into();
        if self.own.has(name.id()) {
            let text = &self.text;
            self.lines.retain(|line| !is_named(line, text, name));
        }
        let mut place = BEHIND;
        if head.has(name.id()) {
            let same = |(_, field): &(usize, &Field)| head.is_named(field, name);
            for (index, _) in head.fields().iter().enumerate().filter(same) {
                place = place.min(index as u16);
                if !name.id().is_known() {
                    self.drop_field(index);
                }
            }
            self.drop_all(IdSet::of(&[name.id()]));
        }
        self.line(place, name, write);
    }

    /// Adds a line behind all fields; what there is of this name stays.
    pub fn append<'n>(&mut self, name: impl Into<Name<'n>>, value: &[u8]) {
        self.append_with(name, |out| out.extend_from_slice(value));
    }

    /// As [`Edits::append`], with the value that `write` appends to what it is given.
    pub fn append_with<'n>(&mut self, name: impl Into<Name<'n>>, write: impl FnOnce(&mut Vec<u8>)) {
        self.line(BEHIND, name.into(), write);
    }

    /// Puts another value in the place of the field at `index`.
    pub fn replace_field(&mut self, head: &Head, index: usize, value: &[u8]) {
        let Some(field) = head.fields().get(index) else { return };
        self.drop_field(index);
        let name = Name::of_field(field.id, head.name(field));
        self.line(index as u16, name, |out| out.extend_from_slice(value));
    }

    fn line(&mut self, place: u16, name: Name<'_>, write: impl FnOnce(&mut Vec<u8>)) {
        if name.text().is_empty() {
            return;
        }
        let at = self.text.len();
        self.text.extend_from_slice(name.text());
        self.text.extend_from_slice(b": ");
        let value = self.text.len();
        write(&mut self.text);
        class::make_plain(&mut self.text[value..]);
        self.text.extend_from_slice(b"\r\n");
        let name_len = name.text().len() as u16;
        let line = Line { at: at as u32, len: (self.text.len() - at) as u32, name_len, place, id: name.id() };
        self.own.insert(name.id());
        match self.lines.last() {
            Some(last) if last.place > place => self.lines.insert(self.lines.partition_point(|other| other.place <= place), line),
            _ => self.lines.push(line),
        }
    }

    /// Sends the request to this path and query instead of its own. A byte that no target may have becomes percent-encoded.
    pub fn set_target(&mut self, path_and_query: &[u8]) {
        let at = self.text.len();
        for byte in path_and_query {
            match byte {
                b'!'..=b'~' if !matches!(byte, b'#' | b'<' | b'>') => self.text.push(*byte),
                0x80.. => self.text.push(*byte),
                _ => self.text.extend([b'%', hex(byte >> 4), hex(byte & 15)]),
            }
        }
        self.target = Some((at as u32, (self.text.len() - at) as u32));
    }

    /// The value of the first field of this known name that will be written.
    pub fn get<'a>(&'a self, head: &'a Head, id: Id) -> Option<&'a [u8]> {
        let own = self.lines.iter().find(|line| line.id == id).map(|line| self.line_value(line));
        if self.dropped.has(id) || !head.has(id) {
            return own;
        }
        let kept = |(index, field): &(usize, &Field)| field.id == id && self.dropped_fields.binary_search(&(*index as u16)).is_err();
        let first = head.fields().iter().enumerate().find(kept);
        first.map(|(_, field)| head.value(field)).or(own)
    }

    pub(super) fn line_name(&self, line: &Line) -> &[u8] {
        &self.text[line.at as usize..][..usize::from(line.name_len)]
    }

    pub(super) fn line_value(&self, line: &Line) -> &[u8] {
        let text = self.line_text(line);
        &text[usize::from(line.name_len) + 2..text.len() - 2]
    }

    pub(super) fn line_text(&self, line: &Line) -> &[u8] {
        &self.text[line.at as usize..][..line.len as usize]
    }

    pub(super) fn target_text(&self) -> Option<&[u8]> {
        self.target.map(|(at, len)| &self.text[at as usize..][..len as usize])
    }
}

/// Names without values: those may be credentials.
impl fmt::Debug for Edits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.lines.iter().map(|line| String::from_utf8_lossy(self.line_name(line)));
        let mut out = f.debug_struct("Edits");
        out.field("dropped", &self.dropped).field("dropped_fields", &self.dropped_fields);
        out.field("lines", &names.collect::<Vec<_>>()).finish()
    }
}

fn is_named(line: &Line, text: &[u8], name: Name<'_>) -> bool {
    let own = &text[line.at as usize..][..usize::from(line.name_len)];
    line.id == name.id() && (line.id.is_known() || own.eq_ignore_ascii_case(name.text()))
}

fn hex(digit: u8) -> u8 {
    b"0123456789ABCDEF"[usize::from(digit & 15)]
}

/// Appends `number` as text.
pub fn write_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(decimal(number, &mut [0; 20]));
}

/// `number` as text.
pub(super) fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}
