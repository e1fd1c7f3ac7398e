//! Which bytes may stand where (RFC 9110 section 5.6, RFC 9112 section 3.2), and how far a run of such bytes reaches.

/// `tchar` of RFC 9110 section 5.6.2.
const TOKEN: u8 = 1;
/// What may stand in a target before its query.
const PATH: u8 = 2;
/// What may stand in a target's query.
const QUERY: u8 = 4;
/// What may stand in the name of a host (RFC 3986 section 3.2.2).
const HOST: u8 = 8;

static CLASS: [u8; 256] = table();

/// RFC 3986 allows fewer bytes in a target than clients send: `|`, `\`, `^`, braces and raw UTF-8 are common and pass as they came.
/// `#` begins a fragment, which no target has. `<`, `>` and, in a path, a backtick or, in a query, a quotation mark are refused.
const fn table() -> [u8; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let byte = at as u8;
        let token = byte.is_ascii_alphanumeric()
            || matches!(byte, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
        let target = !matches!(byte, 0..=b' ' | b'#' | b'<' | b'>' | 0x7f);
        let host = byte.is_ascii_alphanumeric()
            || matches!(byte, b'%' | b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=');
        table[at] = if token { TOKEN } else { 0 }
            | if host { HOST } else { 0 }
            | if target && !matches!(byte, b'?' | b'`') { PATH } else { 0 }
            | if target && byte != b'"' { QUERY } else { 0 };
        at += 1;
    }
    table
}

/// Length of the token that `text` begins with.
pub fn token(text: &[u8]) -> usize {
    run(text, TOKEN)
}

/// Length of the part of a target that `text` begins with, up to its query.
pub fn path(text: &[u8]) -> usize {
    run(text, PATH)
}

/// Length of the query that `text` begins with, after its question mark.
pub fn query(text: &[u8]) -> usize {
    run(text, QUERY)
}

#[inline]
fn run(text: &[u8], class: u8) -> usize {
    text.iter().position(|byte| CLASS[usize::from(*byte)] & class == 0).unwrap_or(text.len())
}

/// Whether `text` is a token (RFC 9110 section 5.6.2).
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && token(text) == text.len()
}

/// Length of the run without control bytes that `text` begins with; a tab is none of them (RFC 9110 section 5.5).
#[inline]
pub fn text(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(word) = word(text, at) {
        // Eight bytes at once: those below a space, and DEL. The lowest mark is exact, which is all that is asked for.
        let marks = below_space(word) | equal_to(word, 0x7f);
        if marks == 0 {
            at += 8;
            continue;
        }
        at += first_mark(marks);
        if text[at] != b'\t' {
            return at;
        }
        at += 1;
    }
    match ends_plain(text, at, |word| below_space(word) | equal_to(word, 0x7f) != 0) {
        true => text.len(),
        false => at + text[at..].iter().position(|byte| is_control(*byte)).unwrap_or(text.len() - at),
    }
}

/// Whether less than a word is left at `at`, and the last eight bytes of `text` leave no mark: one look instead of one a byte.
#[inline]
fn ends_plain(text: &[u8], at: usize, marks: impl Fn(u64) -> bool) -> bool {
    text.len() - at < 8 && text.last_chunk().is_some_and(|word| !marks(u64::from_le_bytes(*word)))
}

/// Whether a byte of `word` is a control byte, or not ASCII.
#[inline]
const fn is_odd(word: u64) -> bool {
    (below_space(word) | equal_to(word, 0x7f) | word & HIGHS) != 0
}

/// Whether all of `text` is visible ASCII, spaces and tabs.
#[inline]
pub fn is_visible(text: &[u8]) -> bool {
    let mut at = 0;
    while let Some(word) = word(text, at) {
        if is_odd(word) {
            break;
        }
        at += 8;
    }
    ends_plain(text, at, is_odd) || text[at..].iter().all(|byte| byte.is_ascii() && !is_control(*byte))
}

/// Makes a space of each control byte.
pub fn make_plain(mut value: &mut [u8]) {
    loop {
        let plain = text(value);
        let Some(byte) = value.get_mut(plain) else { return };
        *byte = b' ';
        value = &mut value[plain..];
    }
}

/// Where the first `byte` is.
#[inline]
pub fn find(text: &[u8], byte: u8) -> Option<usize> {
    let mut at = 0;
    while let Some(word) = word(text, at) {
        let marks = equal_to(word, byte);
        if marks != 0 {
            return Some(at + first_mark(marks));
        }
        at += 8;
    }
    text[at..].iter().position(|other| *other == byte).map(|found| at + found)
}

/// The eight bytes at `at`, the first of them lowest; `None`: there are not so many.
#[inline]
pub fn word(text: &[u8], at: usize) -> Option<u64> {
    text.get(at..)?.first_chunk().map(|word| u64::from_le_bytes(*word))
}

const ONES: u64 = u64::from_le_bytes([1; 8]);
const HIGHS: u64 = u64::from_le_bytes([0x80; 8]);

/// Marks the bytes of `word` that are below a space; above the lowest mark there may be wrong ones.
#[inline]
const fn below_space(word: u64) -> u64 {
    word.wrapping_sub(ONES * 0x20) & !word & HIGHS
}

/// Marks the bytes of `word` that are `byte`; above the lowest mark there may be wrong ones.
#[inline]
const fn equal_to(word: u64, byte: u8) -> u64 {
    let differs = word ^ (ONES * byte as u64);
    differs.wrapping_sub(ONES) & !differs & HIGHS
}

#[inline]
const fn first_mark(marks: u64) -> usize {
    marks.trailing_zeros() as usize / 8
}

#[inline]
const fn is_control(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || byte == 0x7f
}

/// Whether `byte` is optional whitespace (`OWS`, RFC 9110 section 5.6.3).
#[inline]
pub const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// `text` without the whitespace around it.
#[inline]
pub fn trim(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_blank(*first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && is_blank(*last)
    {
        text = rest;
    }
    text
}

/// The members of a list, without the empty ones (RFC 9110 section 5.6.1).
pub fn members(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b',').map(trim).filter(|member| !member.is_empty())
}

/// Whether a list has `token`, in any case.
pub fn has_member(list: &[u8], token: &[u8]) -> bool {
    members(list).any(|member| member.eq_ignore_ascii_case(token))
}

/// Whether `value` is `host[:port]` without user information (RFC 3986 section 3.2, RFC 9110 section 7.2).
pub fn is_host(value: &[u8]) -> bool {
    let port = match value {
        [b'[', literal @ ..] => {
            let Some(end) = literal.iter().position(|byte| *byte == b']') else { return false };
            if end == 0 || !literal[..end].iter().all(|byte| *byte == b':' || CLASS[usize::from(*byte)] & HOST != 0) {
                return false;
            }
            &literal[end + 1..]
        }
        _ => &value[run(value, HOST)..],
    };
    let port_ok = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    port_ok && port.len() < value.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_end_at_the_first_byte_that_does_not_belong() {
        for length in 0..70 {
            for byte in [0, b'\r', b'\n', 0x1f, 0x7f] {
                let mut line = vec![b'a'; length];
                line.push(byte);
                line.extend([b'\n'; 20]);
                assert_eq!(text(&line), length, "{byte}");
            }
            let mixed: Vec<u8> = b"\t\xff~ \x80".repeat(14)[..length].to_vec();
            assert_eq!((text(&mixed), find(&mixed, b':')), (length, None));
            assert_eq!(find(&[&mixed[..], b"::aaaaaaaaa"].concat(), b':'), Some(length));
            assert_eq!(text(&vec![b'\t'; length]), length);
            assert_eq!(text(&vec![0xff; length]), length);
        }
        assert_eq!((token(b"x-a: b"), token(b": b"), token(b"")), (3, 0, 0));
        assert_eq!((path(b"/a|\\^{\"}\xc3\xa9?b"), path(b"/a`"), path(b"/a b"), path(b"/a#")), (10, 2, 2, 2));
        assert_eq!((query(b"a=?`b"), query(b"a\"b"), query(b"a<")), (5, 1, 1));
    }

    /// RFC 9110 section 5.6.1: empty members count for nothing.
    #[test]
    fn a_list_has_members() {
        assert_eq!(members(b" a,, b\t,c , ").collect::<Vec<_>>(), [&b"a"[..], b"b", b"c"]);
        assert!(has_member(b"keep-alive, Upgrade", b"upgrade") && !has_member(b"upgraded", b"upgrade") && !has_member(b"", b""));
    }

    /// RFC 9110 section 7.2.
    #[test]
    fn a_host_is_a_name_and_perhaps_a_port() {
        for good in ["a", "a.example:80", "[::1]", "[::1]:8080", "a_b", "1.2.3.4:", "%41"] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in ["", ":80", "u@h", "a,b", "a b", "a/b", "[::1", "a:123456", "a:b", "::1", "[::1]x", "[]", "a\"b", "caf\u{e9}"] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }
}
