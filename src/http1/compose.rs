//! Writes heads: what a [`Head`] has, but for its [`Edits`]. Kept lines are copied in runs, byte for byte, in their order and case.
//!
//! Only three things become other bytes: the version, which is always our own (RFC 9110 section 2.5); an absolute target, which goes on in
//! origin-form (RFC 9112 section 3.2.1); and a line of an answer that ends in a bare LF, which ends in CR LF then.

use super::{
    edits::{BEHIND, Edits},
    head::{Field, Form, Head, Version},
    ids::NEVER_TRAILERS,
};

/// Writes a request's head, its empty line included.
pub fn write_request(out: &mut Vec<u8>, head: &Head, edits: &Edits) {
    let plain = matches!(head.form(), Form::Origin | Form::Asterisk) && head.version() == Version::Http11;
    if plain && edits.target.is_none() {
        write_from(out, head, edits, 0);
        return;
    }
    let target = match (edits.target_text(), head.form()) {
        (Some(target), _) => target,
        (None, Form::Authority) => head.target(),
        (None, _) => head.path_and_query(),
    };
    for part in [head.method_text(), b" ", target, b" HTTP/1.1\r\n"] {
        out.extend_from_slice(part);
    }
    write_from(out, head, edits, head.fields_at());
}

/// Writes an answer's head, its empty line included.
pub fn write_answer(out: &mut Vec<u8>, head: &Head, edits: &Edits) {
    let has_reason_space = head.bytes.get(12) == Some(&b' ');
    if head.version() == Version::Http11 && has_reason_space && !head.ragged {
        write_from(out, head, edits, 0);
        return;
    }
    let status = head.status();
    let digits = [status / 100, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8);
    for part in [b"HTTP/1.1 ", &digits[..], b" ", head.reason(), b"\r\n"] {
        out.extend_from_slice(part);
    }
    write_from(out, head, edits, head.fields_at());
}

/// Writes the last chunk and the trailers behind it, without those that must not stand there ([`NEVER_TRAILERS`]), and the body's end.
pub fn write_trailers(out: &mut Vec<u8>, trailers: &Head, edits: &mut Edits) {
    edits.drop_all(NEVER_TRAILERS);
    out.extend_from_slice(b"0\r\n");
    write_from(out, trailers, edits, trailers.fields_at());
}

/// The bytes of the head from `run` on, with the edits of its fields, and an empty line.
fn write_from(out: &mut Vec<u8>, head: &Head, edits: &Edits, mut run: usize) {
    if head.ragged {
        each_field(head, edits, |name, value| [name, b": ", value, b"\r\n"].iter().for_each(|part| out.extend_from_slice(part)));
        out.extend_from_slice(b"\r\n");
        return;
    }
    let mut lines = edits.lines.iter().peekable();
    let mut dropped = edits.dropped_fields.iter().peekable();
    let fields: &[Field] = if changes_nothing(head, edits) { &[] } else { &head.fields };
    for (index, field) in fields.iter().enumerate() {
        let one = dropped.next_if(|other| usize::from(**other) == index).is_some();
        let own = lines.peek().is_some_and(|line| usize::from(line.place) == index);
        let gone = one || (field.id.is_known() && edits.dropped.has(field.id));
        if !gone && !own {
            continue;
        }
        out.extend_from_slice(&head.bytes[run..field.at as usize]);
        run = if gone { head.line_end(index) } else { field.at as usize };
        while let Some(line) = lines.next_if(|line| usize::from(line.place) == index) {
            out.extend_from_slice(edits.line_text(line));
        }
    }
    out.extend_from_slice(&head.bytes[run..head.end as usize]);
    for line in lines {
        out.extend_from_slice(edits.line_text(line));
    }
    out.extend_from_slice(b"\r\n");
}

/// Tells `each` the name and the value of every field that would be written, in their order.
pub fn each_field<'a>(head: &'a Head, edits: &'a Edits, mut each: impl FnMut(&'a [u8], &'a [u8])) {
    let mut lines = edits.lines.iter().peekable();
    for (index, field) in head.fields.iter().enumerate() {
        while let Some(line) = lines.next_if(|line| usize::from(line.place) <= index) {
            each(edits.line_name(line), edits.line_value(line));
        }
        let one = edits.dropped_fields.binary_search(&(index as u16)).is_ok();
        if !(one || field.id.is_known() && edits.dropped.has(field.id)) {
            each(head.name(field), head.value(field));
        }
    }
    lines.for_each(|line| each(edits.line_name(line), edits.line_value(line)));
}

/// Whether all fields of the head go on as they are.
fn changes_nothing(head: &Head, edits: &Edits) -> bool {
    edits.dropped.common(head.seen).is_empty()
        && edits.dropped_fields.is_empty()
        && edits.lines.first().is_none_or(|line| line.place == BEHIND)
}

#[cfg(test)]
#[path = "compose_tests.rs"]
mod tests;
