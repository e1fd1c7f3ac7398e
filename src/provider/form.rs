//! The fields of a multipart form (RFC 7578), as the provider's own reader finds them: by the boundary alone. Text inside a field that
//! looks like another field is no field. Pure.

use memchr::memmem;

/// A field of a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its value, as it came.
    pub value: &'a [u8],
    /// Whether the value is a file.
    pub is_file: bool,
}

impl<'a> Field<'a> {
    /// The value as a word; `None`: it is empty, too long or no UTF-8.
    pub fn word(&self) -> Option<&'a str> {
        std::str::from_utf8(self.value).ok().map(str::trim).filter(|word| !word.is_empty() && word.len() <= 256)
    }
}

/// The fields of a form in order. The boundary is the form's first line. A part that cannot be read is left out.
pub fn fields(body: &[u8]) -> impl Iterator<Item = Field<'_>> {
    let line = memchr::memchr(b'\n', body).map_or(body, |end| &body[..end]).trim_ascii_end();
    let boundary = [b"\r\n", line].concat();
    let mut rest = body.get(line.len()..).filter(|_| line.len() > 2);
    std::iter::from_fn(move || {
        loop {
            let part = rest.take()?;
            let end = memmem::find(part, &boundary);
            rest = end.map(|end| &part[end + boundary.len()..]);
            // After the boundary there is a line end; the last one ends in dashes.
            let part = part[..end.unwrap_or(part.len())].strip_prefix(b"\r\n")?;
            if let Some(field) = field(part) {
                return Some(field);
            }
        }
    })
}

/// The form with another value in each field of this name that is no file; `None`: there is no such field.
pub fn with_field(body: &[u8], name: &str, value: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(body.len() + value.len());
    let mut at = 0;
    for field in fields(body).filter(|field| field.name == name && !field.is_file) {
        // A field's value is a part of the body.
        let start = field.value.as_ptr().addr() - body.as_ptr().addr();
        out.extend_from_slice(&body[at..start]);
        out.extend_from_slice(value.as_bytes());
        at = start + field.value.len();
    }
    out.extend_from_slice(&body[at..]);
    (at > 0).then_some(out)
}

fn field(part: &[u8]) -> Option<Field<'_>> {
    let end = memmem::find(part, b"\r\n\r\n")?;
    let head = std::str::from_utf8(&part[..end]).ok()?;
    let disposition = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    let (mut name, mut is_file) = (None, false);
    for (key, value) in parameters(disposition) {
        match key {
            key if key.eq_ignore_ascii_case("name") => name = Some(value),
            key if key.eq_ignore_ascii_case("filename") || key.eq_ignore_ascii_case("filename*") => is_file = true,
            _ => {}
        }
    }
    Some(Field { name: name?, value: &part[end + 4..], is_file })
}

/// The parameters of a header field. A `;` within quotes ends none.
fn parameters(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = text.split_once(';').map_or("", |(_, rest)| rest);
    std::iter::from_fn(move || {
        let (key, value) = rest.split_once('=')?;
        let value = value.trim_start();
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => {
                let end = unescaped_quote(quoted)?;
                (&quoted[..end], &quoted[end + 1..])
            }
            None => {
                let end = value.find(';').unwrap_or(value.len());
                (value[..end].trim_end(), &value[end..])
            }
        };
        rest = after.trim_start().strip_prefix(';').unwrap_or_default();
        Some((key.trim(), value))
    })
}

fn unescaped_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FORM: &[u8] = b"--xyz\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\nContent-Disposition: form-data; \
        name=\"model\"\r\n\r\nwhisper-1\r\n--xy\r\n--xyz\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a;b.mp3\"\r\n\
        Content-Type: audio/mpeg\r\n\r\n\x00\xff\r\n--xyz\r\nContent-Disposition: form-data; name=model\r\n\r\n gpt-4o-transcribe \r\n--xyz--\r\n";

    #[test]
    fn a_field_is_what_stands_between_two_boundaries() {
        let all: Vec<Field<'_>> = fields(FORM).collect();
        let names: Vec<(&str, bool)> = all.iter().map(|field| (field.name, field.is_file)).collect();
        assert_eq!(names, [("prompt", false), ("file", true), ("model", false)]);
        assert_eq!((all[1].value, all[2].word()), (&b"\x00\xff"[..], Some("gpt-4o-transcribe")));
        let odd = b"--x\r\nContent-Disposition: form-data; filename=\"; name=model; \\\"\"; name=\"prompt\"\r\n\r\nno\r\n--x--";
        assert_eq!(fields(odd).map(|field| (field.name, field.is_file)).collect::<Vec<_>>(), [("prompt", true)]);
        assert_eq!(fields(b"--").count() + fields(b"").count() + fields(b"--x\r\n").count(), 0);
    }

    #[test]
    fn one_field_is_written_anew_and_no_other_byte() {
        let out = with_field(FORM, "model", "whisper-2").expect("a model");
        let text = String::from_utf8_lossy(&out);
        assert_eq!(text, String::from_utf8_lossy(FORM).replace(" gpt-4o-transcribe ", "whisper-2"));
        assert_eq!((with_field(FORM, "file", "x"), with_field(b"{}", "model", "x")), (None, None));
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..300) {
            let _ = (fields(&bytes).count(), with_field(&bytes, "model", "m"));
            let _ = fields(&FORM[..cut.min(FORM.len())]).count();
        }
    }
}
