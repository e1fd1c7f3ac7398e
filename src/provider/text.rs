//! Estimates the tokens of a text from its bytes, without a tokenizer. The bytes of an image do not count.
//!
//! Base64 is not text. A run of more than `MEDIA_BYTES` base64 characters is one image, sound or document, at any place:
//! alone in a string, after `data:image/png;base64,`, or in the middle of a Markdown text.

/// Bytes of ASCII text in a token; the usual figure for English at OpenAI and Anthropic.
pub const ASCII_BYTES_PER_TOKEN: u64 = 4;
/// Bytes of other text in a token: about one CJK character, one and a half Cyrillic ones.
pub const OTHER_BYTES_PER_TOKEN: u64 = 3;
/// Tokens of an embedded image, sound or document of any size. The figure is near that of a photo at the large providers.
pub const MEDIA_TOKENS: u64 = 1_000;
/// A run of base64 that is longer than this is embedded data.
const MEDIA_BYTES: u64 = 2_048;
/// Shortest line of broken base64. Base64 is broken into lines of 64 or 76 characters; words in lines are shorter.
const SHORTEST_LINE: u64 = 60;

/// Counts text that comes in pieces of JSON strings. An escape counts as the character that it stands for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spoken {
    ascii: u64,
    other: u64,
    media: u64,
    /// Consecutive base64 characters, line breaks left out.
    run: u64,
    /// The part of `run` since the last line break.
    line: u64,
    escape: Escape,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    Begun,
    Hex {
        left: u8,
        value: u32,
    },
}

impl Spoken {
    /// Counts a piece of a string, without its quotes.
    pub fn feed(&mut self, raw: &[u8]) {
        let mut rest = raw;
        while let Some((&byte, after)) = rest.split_first() {
            if self.escape == Escape::None && self.run > MEDIA_BYTES {
                // Whole blocks at once: most of an image.
                let (blocks, _) = rest.as_chunks::<64>();
                let all = blocks.iter().take_while(|block| block.iter().fold(true, |all, byte| all & is_base64(*byte))).count() * 64;
                self.run += all as u64;
                self.line += all as u64;
                rest = &rest[all..];
                if all > 0 {
                    continue;
                }
            }
            self.byte(byte);
            rest = after;
        }
    }

    fn byte(&mut self, byte: u8) {
        match self.escape {
            Escape::None if byte == b'\\' => self.escape = Escape::Begun,
            Escape::None => self.character(byte),
            Escape::Begun => {
                self.escape = Escape::None;
                match byte {
                    b'u' => self.escape = Escape::Hex { left: 4, value: 0 },
                    b'n' | b'r' => self.character(b'\n'),
                    b'/' => self.character(b'/'),
                    _ => self.character(b' '),
                }
            }
            Escape::Hex { left, value } => {
                let value = value << 4 | char::from(byte).to_digit(16).unwrap_or(0);
                self.escape = if left > 1 { Escape::Hex { left: left - 1, value } } else { Escape::None };
                if left == 1 {
                    match (u8::try_from(value), value) {
                        (Ok(byte), _) if byte.is_ascii() => self.character(byte),
                        // As many bytes as the character has in UTF-8; each half of a surrogate pair has two.
                        (_, 0x800..0xd800 | 0xe000..) => (0..3).for_each(|_| self.character(0x80)),
                        _ => (0..2).for_each(|_| self.character(0x80)),
                    }
                }
            }
        }
    }

    fn character(&mut self, byte: u8) {
        if is_base64(byte) {
            self.run += 1;
            self.line += 1;
        } else if matches!(byte, b'\n' | b'\r') && self.run > 0 && (self.line == 0 || self.line >= SHORTEST_LINE) {
            self.line = 0;
        } else {
            self.end_run();
            if byte.is_ascii() {
                self.ascii += 1;
            } else {
                self.other += 1;
            }
        }
    }

    fn end_run(&mut self) {
        if self.run > MEDIA_BYTES {
            self.media += 1;
        } else {
            self.ascii += self.run;
        }
        (self.run, self.line) = (0, 0);
    }

    /// Ends the string.
    pub fn end(&mut self) {
        self.escape = Escape::None;
        self.end_run();
    }

    /// Counts a whole string, or a delta of one.
    pub fn string(&mut self, raw: &[u8]) {
        if raw.len() as u64 <= MEDIA_BYTES && memchr::memchr(b'\\', raw).is_none() {
            self.plain(raw);
        } else {
            self.feed(raw);
            self.end();
        }
    }

    /// Counts text without embedded data.
    pub fn plain(&mut self, text: &[u8]) {
        let other = text.iter().filter(|byte| !byte.is_ascii()).count() as u64;
        self.other += other;
        self.ascii += text.len() as u64 - other;
    }

    /// Adds another counter's counts.
    pub fn add(&mut self, other: Self) {
        self.ascii += other.ascii;
        self.other += other.other;
        self.media += other.media;
    }

    /// Whether nothing was counted.
    pub fn is_silent(&self) -> bool {
        self.ascii + self.other + self.media + self.run == 0
    }

    /// Estimated tokens of all counted text.
    pub fn tokens(mut self) -> u64 {
        self.end();
        self.ascii.div_ceil(ASCII_BYTES_PER_TOKEN) + self.other.div_ceil(OTHER_BYTES_PER_TOKEN) + self.media * MEDIA_TOKENS
    }
}

/// Estimated tokens of a JSON text, from its bytes. The JSON around the text counts too: the estimate is more often too high than
/// too low.
pub(super) fn estimate(text: &[u8]) -> u64 {
    let mut spoken = Spoken::default();
    let (mut plain, mut start) = (0, 0);
    for end in memchr::memchr_iter(b'"', text).chain([text.len()]) {
        let run = &text[start..end];
        if run.len() as u64 > MEDIA_BYTES {
            spoken.plain(&text[plain..start]);
            spoken.string(run);
            plain = end;
        }
        start = end + 1;
    }
    spoken.plain(&text[plain.min(text.len())..]);
    spoken.tokens()
}

/// The alphabets of RFC 4648 sections 4 and 5.
fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() | matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(raw: &str) -> u64 {
        let mut spoken = Spoken::default();
        spoken.string(raw.as_bytes());
        spoken.tokens()
    }

    #[test]
    fn an_escape_counts_as_what_it_stands_for() {
        for (raw, plain) in [
            (r#"say \"hi\" twice"#, "say 'hi' twice"),
            (r"a\nb\tc\\d", "a.b.c.d"),
            (r"\u0061\u002B\u003c", "abc"),
            (r"\u8a9e\u8A9E", "語語"),
            (r"\u00e9", "é"),
            (r"\ud83d\ude00", "😀"),
            (r"a\/b", "a/b"),
        ] {
            assert_eq!(tokens(raw), tokens(plain), "{raw}");
        }
    }

    #[test]
    fn base64_is_an_image_wherever_it_stands() {
        let data = "iVBORw0KGgo+/8".repeat(10_000);
        let dotnet = data.replace('+', r"\u002B").replace('/', r"\/");
        let lines: String = data.as_bytes().chunks(76).map(|line| format!("{}\\r\\n", std::str::from_utf8(line).expect("ASCII"))).collect();
        for raw in [
            data.clone(),
            format!("data:image/png;base64,{data}"),
            format!("Here it is: ![a cat](data:image/png;base64,{data}) Do you like it?"),
            dotnet,
            lines,
            data.replace('+', "-").replace('/', "_"),
        ] {
            assert!((1_000..1_030).contains(&tokens(&raw)), "{}: {}", &raw[..40], tokens(&raw));
        }
        let two = format!("{data} and {data}");
        assert!((2_000..2_010).contains(&tokens(&two)));
    }

    #[test]
    fn text_is_text_even_without_blanks() {
        for (raw, least) in [
            ("word\\n".repeat(2_000), 2_400),
            ("12.5,abc,".repeat(2_000), 4_400),
            ("語".repeat(2_000), 2_000),
            (r"\u8a9e".repeat(2_000), 2_000),
            ("word ".repeat(2_000), 2_400),
            ("a".repeat(2_000), 500),
        ] {
            let tokens = tokens(&raw);
            assert!((least..least + 110).contains(&tokens), "{}: {tokens}", &raw[..9]);
        }
    }

    #[test]
    fn a_json_text_with_an_image_in_it() {
        let text = format!(r#"{{"messages":[{{"role":"user","content":"{}"}}]}}"#, "word ".repeat(1_000));
        assert!((1_200..1_400).contains(&estimate(text.as_bytes())));
        let image = format!(r#"{{"content":"look: data:image/png;base64,{} there"}}"#, "A".repeat(1_000_000));
        assert!((1_000..1_100).contains(&estimate(image.as_bytes())), "{}", estimate(image.as_bytes()));
    }

    proptest! {
        #[test]
        fn cutting_changes_nothing(
            parts in prop::collection::vec(prop::sample::select(vec!["A", "word ", r"\n", r"\u8a9e", r"\/", "é", "=", r"\\", r#"\""#]), 0..40),
            data in 0usize..5_000,
            at in any::<prop::sample::Index>(),
            size in 1usize..100,
        ) {
            let mut parts = parts;
            let data = "iVBORw0K".repeat(data / 8);
            parts.insert(at.index(parts.len() + 1), &data);
            let raw = parts.concat();
            let mut cut = Spoken::default();
            raw.as_bytes().chunks(size).for_each(|piece| cut.feed(piece));
            let mut whole = Spoken::default();
            whole.feed(raw.as_bytes());
            prop_assert_eq!(cut.tokens(), whole.tokens());
            let _ = estimate(raw.as_bytes());
        }
    }
}
