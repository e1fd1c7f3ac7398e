//! The fields of a message: one run of bytes, and a table of where each field stands in it.
//!
//! A head that was scanned becomes [`Fields`] without a copy. A field is asked for by [`Id`] or by name. A changed field is written behind
//! the bytes that came. An unchanged field goes on byte for byte, in its order and case. There is no map: heads have few fields, and one
//! bit of [`IdSet`] answers most questions.

use std::fmt;

use super::{
    class,
    head::{Field, Head},
    ids::{ESSENTIAL, HOP_BY_HOP, Id, IdSet, Name},
    lent::{Lent, Lines},
    value::Value,
};

/// The fields of a request, of an answer, or behind a body.
#[derive(Clone, Default)]
pub struct Fields {
    lines: Lent,
}

const _: () = assert!(size_of::<Fields>() == size_of::<usize>());

/// What names a field.
pub trait Named {
    /// The name.
    fn name(&self) -> Name<'_>;
}

impl Named for Id {
    #[inline]
    fn name(&self) -> Name<'_> {
        Name::from(*self)
    }
}

impl Named for Name<'_> {
    fn name(&self) -> Name<'_> {
        *self
    }
}

impl Named for &str {
    fn name(&self) -> Name<'_> {
        Name::of_field(Id::of(self.as_bytes()), self.as_bytes())
    }
}

impl<N: Named> Named for &N {
    fn name(&self) -> Name<'_> {
        (**self).name()
    }
}

impl Fields {
    /// No fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// No fields, and room for `bytes` bytes of lines and for `fields` fields.
    pub fn with_room(bytes: usize, fields: usize) -> Self {
        Self { lines: Lent::with_room(bytes, fields) }
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.lines.fields.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.lines.fields.is_empty()
    }

    /// Memory that they hold, used or not, in bytes.
    pub fn capacity(&self) -> usize {
        self.lines.bytes.capacity() + self.lines.fields.capacity() * size_of::<Field>()
    }

    /// Known names that are there; [`Id::Other`] if other names may be there.
    pub fn seen(&self) -> IdSet {
        self.lines.seen
    }

    /// Whether there is a field of this name.
    #[inline]
    pub fn has(&self, name: impl Named) -> bool {
        let name = name.name();
        self.lines.seen.has(name.id()) && (name.id().is_known() || self.find(name).is_some())
    }

    /// The value of the first field of this name.
    #[inline]
    pub fn get(&self, name: impl Named) -> Option<Value<'_>> {
        let name = name.name();
        if !self.lines.seen.has(name.id()) {
            return None;
        }
        self.find(name).map(|at| self.value_of(&self.lines.fields[at]))
    }

    /// The value of the first field of this name as text; `None`: there is none, or its bytes are no text.
    #[inline]
    pub fn text(&self, name: impl Named) -> Option<&str> {
        self.get(name)?.to_str().ok()
    }

    /// The values of all fields of this name, in their order.
    pub fn all<'a, N: Named + 'a>(&'a self, name: N) -> impl Iterator<Item = Value<'a>> + use<'a, N> {
        let list: &[Field] = if self.lines.seen.has(name.name().id()) { &self.lines.fields } else { &[] };
        list.iter().filter(move |field| self.is(field, name.name())).map(|field| self.value_of(field))
    }

    /// Names and values, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (Name<'_>, Value<'_>)> {
        self.lines.fields.iter().map(|field| (self.name_of(field), self.value_of(field)))
    }

    /// Names, in their order; a name may come more than once.
    pub fn names(&self) -> impl Iterator<Item = Name<'_>> {
        self.lines.fields.iter().map(|field| self.name_of(field))
    }

    /// Gives a field this one value: in the place of the first field of its name if there is one, else behind all fields.
    ///
    /// A control byte in `value` becomes a space (RFC 9110 section 5.5), so that no value begins a line of its own. A name that is no
    /// token is not written.
    pub fn insert(&mut self, name: impl Named, value: impl AsRef<[u8]>) {
        self.insert_with(name, |out| out.extend_from_slice(value.as_ref()));
    }

    /// As [`Fields::insert`], with the value that `write` appends to what it is given.
    pub fn insert_with(&mut self, name: impl Named, write: impl FnOnce(&mut Vec<u8>)) {
        let name = name.name();
        let place = if self.lines.seen.has(name.id()) { self.find(name) } else { None };
        let Some(field) = self.line(name, write) else { return };
        match place {
            None => self.lines.fields.push(field),
            Some(place) => {
                self.lines.fields[place] = field;
                let mut at = 0;
                let Lines { bytes: text, fields: list, .. } = &mut *self.lines;
                list.retain(|field| {
                    at += 1;
                    at - 1 <= place || !is(text, field, name)
                });
            }
        }
        self.lines.seen.insert(name.id());
    }

    /// As [`Fields::insert`], with a number.
    pub fn insert_number(&mut self, name: impl Named, number: u64) {
        let name = name.name();
        match name.id() {
            id if id.is_known() && !self.lines.seen.has(id) => self.append_plain_with(id, |out| write_number(out, number)),
            _ => self.insert_with(name, |out| write_number(out, number)),
        }
    }

    /// Adds a field behind all others; what there is of this name stays.
    pub fn append(&mut self, name: impl Named, value: impl AsRef<[u8]>) {
        self.append_with(name, |out| out.extend_from_slice(value.as_ref()));
    }

    /// As [`Fields::append`], with a value that is known to have no control bytes: it is not looked through.
    pub fn append_plain(&mut self, id: Id, value: impl AsRef<[u8]>) {
        self.append_plain_with(id, |line| line.extend_from_slice(value.as_ref()));
    }

    /// As [`Fields::append_plain`], with the value that `write` appends to what it is given.
    #[inline]
    pub fn append_plain_with(&mut self, id: Id, write: impl FnOnce(&mut Vec<u8>)) {
        let lines = &mut *self.lines;
        let (at, name) = (lines.bytes.len(), id.name());
        lines.bytes.extend_from_slice(name.as_bytes());
        lines.bytes.extend_from_slice(b": ");
        let value = lines.bytes.len();
        write(&mut lines.bytes);
        let value_len = (lines.bytes.len() - value) as u32;
        debug_assert!(id.is_known() && class::text(&lines.bytes[value..]) == value_len as usize, "a known name, and no control bytes");
        lines.bytes.extend_from_slice(b"\r\n");
        lines.fields.push(Field { at: at as u32, value: value as u32, value_len, name_len: name.len() as u16, id });
        lines.seen.insert(id);
    }

    /// As [`Fields::append`], with the value that `write` appends to what it is given.
    pub fn append_with(&mut self, name: impl Named, write: impl FnOnce(&mut Vec<u8>)) {
        let name = name.name();
        if let Some(field) = self.line(name, write) {
            self.lines.fields.push(field);
            self.lines.seen.insert(name.id());
        }
    }

    /// Adds the field unless there is one of its name.
    pub fn add_missing(&mut self, name: impl Named, value: impl AsRef<[u8]>) {
        if !self.has(&name) {
            self.append(name, value);
        }
    }

    /// Takes every field of this name away. Gives whether there was one.
    pub fn remove(&mut self, name: impl Named) -> bool {
        let name = name.name();
        if !self.lines.seen.has(name.id()) {
            return false;
        }
        let before = self.lines.fields.len();
        let Lines { bytes: text, fields: list, .. } = &mut *self.lines;
        list.retain(|field| !is(text, field, name));
        if name.id().is_known() {
            self.lines.seen.remove(name.id());
        }
        self.lines.fields.len() < before
    }

    /// Takes every field of these known names away.
    pub fn remove_all(&mut self, mut ids: IdSet) {
        ids.remove(Id::Other);
        if !self.lines.seen.common(ids).is_empty() {
            self.lines.fields.retain(|field| !ids.has(field.id));
            self.lines.seen = self.lines.seen.without(ids);
        }
    }

    /// Keeps the fields of which `keeps` says so.
    pub fn retain(&mut self, mut keeps: impl FnMut(Name<'_>, Value<'_>) -> bool) {
        let Lines { bytes: text, fields: list, .. } = &mut *self.lines;
        let mut seen = IdSet::EMPTY;
        list.retain(|field| {
            let kept = keeps(Name::of_field(field.id, name_in(text, field)), Value::of(value_in(text, field)));
            if kept {
                seen.insert(field.id);
            }
            kept
        });
        self.lines.seen = seen;
    }

    /// Takes away the fields of one hop: [`HOP_BY_HOP`], and every field that `Connection` names but the [`ESSENTIAL`] ones (RFC 9110
    /// section 7.6.1). The call comes before the proxy adds fields: no peer can name an added field.
    pub fn remove_hop_by_hop(&mut self) {
        if self.lines.seen.common(HOP_BY_HOP).is_empty() {
            return;
        }
        let (mut known, mut others) = (IdSet::EMPTY, Vec::new());
        for option in self.all(Id::Connection).flat_map(|line| class::members(line.as_bytes())) {
            match Id::of(option) {
                Id::Other if option.eq_ignore_ascii_case(b"close") => {}
                Id::Other => {
                    others.extend_from_slice(option);
                    others.push(b',');
                }
                id => known.insert(id),
            }
        }
        // The scanner bounds how many names of others there may be: each is compared with every such field.
        if !others.is_empty() {
            self.retain(|name, _| name.id().is_known() || !class::has_member(&others, name.text()));
        }
        self.remove_all(HOP_BY_HOP.and(known.without(ESSENTIAL)));
    }

    /// Gives each field the value that `instead` makes of its own; `None` leaves it.
    pub fn rewrite(&mut self, mut instead: impl FnMut(Name<'_>, Value<'_>) -> Option<Vec<u8>>) {
        for at in 0..self.lines.fields.len() {
            let field = self.lines.fields[at];
            let Some(value) = instead(self.name_of(&field), self.value_of(&field)) else { continue };
            let name = name_in(&self.lines.bytes, &field).to_vec();
            if let Some(field) = self.line(Name::of_field(field.id, &name), |out| out.extend_from_slice(&value)) {
                self.lines.fields[at] = field;
            }
        }
    }

    /// Adds copies of all of `others`' fields behind these.
    pub fn extend(&mut self, others: &Self) {
        for (name, value) in others.iter() {
            match name.id() {
                Id::Other => self.append(name, value),
                id => self.append_plain(id, value),
            }
        }
    }

    /// The same fields, with room for `bytes` more bytes of lines and `fields` more fields.
    pub fn with_more(&self, bytes: usize, fields: usize) -> Self {
        let came = &*self.lines;
        let mut lines = Lent::with_room(came.bytes.len() + bytes, came.fields.len() + fields);
        let more = &mut *lines;
        more.bytes.extend_from_slice(&came.bytes);
        more.fields.extend_from_slice(&came.fields);
        more.seen = came.seen;
        Self { lines }
    }

    /// The same fields in no more memory than they need, for those that are kept.
    pub fn compact(&self) -> Self {
        let came = &*self.lines;
        let bytes = came.fields.iter().map(|field| field.value as usize - field.at as usize + field.value_len as usize + 2).sum();
        let mut lines = Lent::to_measure(bytes, came.fields.len());
        let compact = &mut *lines;
        compact.seen = came.seen;
        for field in &came.fields {
            let at = compact.bytes.len() as u32;
            compact.bytes.extend_from_slice(&came.bytes[field.at as usize..end(field)]);
            compact.bytes.extend_from_slice(b"\r\n");
            compact.fields.push(Field { at, value: at + (field.value - field.at), ..*field });
        }
        Self { lines }
    }

    /// Writes the lines of the fields; the empty line behind them is left to the caller.
    pub fn write(&self, out: &mut Vec<u8>) {
        let Lines { bytes: text, fields: list, .. } = &*self.lines;
        let (mut from, mut to) = (0, 0);
        for field in list {
            let (at, end) = (field.at as usize, end(field));
            if at != to {
                out.extend_from_slice(&text[from..to]);
                from = at;
            }
            to = end + 2;
            if text.get(end..to) != Some(b"\r\n") {
                out.extend_from_slice(&text[from..end]);
                out.extend_from_slice(b"\r\n");
                (from, to) = (0, 0);
            }
        }
        out.extend_from_slice(&text[from..to]);
    }

    fn find(&self, name: Name<'_>) -> Option<usize> {
        self.lines.fields.iter().position(|field| self.is(field, name))
    }

    #[inline]
    fn is(&self, field: &Field, name: Name<'_>) -> bool {
        is(&self.lines.bytes, field, name)
    }

    fn name_of(&self, field: &Field) -> Name<'_> {
        Name::of_field(field.id, name_in(&self.lines.bytes, field))
    }

    fn value_of(&self, field: &Field) -> Value<'_> {
        Value::of(value_in(&self.lines.bytes, field))
    }

    /// Writes a line behind the text; `None`: the name is no token.
    fn line(&mut self, name: Name<'_>, write: impl FnOnce(&mut Vec<u8>)) -> Option<Field> {
        let is_name = name.id().is_known() || (class::is_token(name.text()) && name.text().len() <= usize::from(u16::MAX));
        if !is_name {
            return None;
        }
        let text = &mut self.lines.bytes;
        let at = text.len();
        text.extend_from_slice(name.text());
        text.extend_from_slice(b": ");
        let value = text.len();
        write(text);
        class::make_plain(&mut text[value..]);
        let value_len = (text.len() - value) as u32;
        text.extend_from_slice(b"\r\n");
        let name_len = name.text().len() as u16;
        Some(Field { at: at as u32, value: value as u32, value_len, name_len, id: name.id() })
    }
}

/// Appends `number` as text.
pub fn write_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return out.extend_from_slice(&digits[at..]);
        }
    }
}

/// The fields of a head that was scanned; its bytes become theirs.
impl From<Head> for Fields {
    fn from(head: Head) -> Self {
        Self { lines: head.lines }
    }
}

impl<N: Named, V: AsRef<[u8]>> FromIterator<(N, V)> for Fields {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        let mut all = Self::new();
        fields.into_iter().for_each(|(name, value)| all.append(name, value));
        all
    }
}

/// The same names in any case with the same values, in the same order.
impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().zip(other.iter()).all(|((name, value), (other, same))| name.is(other) && value == same)
    }
}

impl Eq for Fields {}

/// Names without values: values may be credentials.
impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names().map(Name::as_str)).finish()
    }
}

/// The text of a field that is there.
#[cfg(test)]
impl<N: Named> std::ops::Index<N> for Fields {
    type Output = str;

    fn index(&self, name: N) -> &str {
        self.text(name).expect("such a field")
    }
}

#[inline]
fn is(text: &[u8], field: &Field, name: Name<'_>) -> bool {
    field.id == name.id() && (field.id.is_known() || name_in(text, field).eq_ignore_ascii_case(name.text()))
}

fn name_in<'t>(text: &'t [u8], field: &Field) -> &'t [u8] {
    &text[field.at as usize..][..usize::from(field.name_len)]
}

fn value_in<'t>(text: &'t [u8], field: &Field) -> &'t [u8] {
    &text[field.value as usize..][..field.value_len as usize]
}

/// Where a field's value ends.
fn end(field: &Field) -> usize {
    field.value as usize + field.value_len as usize
}

#[cfg(test)]
#[path = "fields_tests.rs"]
mod tests;
