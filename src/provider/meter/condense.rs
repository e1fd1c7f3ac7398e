//! Condenses one JSON text of any size while it passes. The members that the meter reads are kept, within a bound; long values
//! are skipped.
//!
//! Strings are cut to [`STRING`] bytes, the answer's own words to [`SPOKEN`], and lists of numbers to [`SCALARS`]. Beyond [`MOST`] bytes only the members of
//! [`ESSENTIAL`] are kept: usage is found behind megabytes of images, vectors or log probabilities. The kept text is JSON again,
//! even if the input is cut. The skipped text is counted ([`Spoken`]), base64 as media.

use crate::provider::text::Spoken;

/// Bytes that are kept of a string: enough for any name and for the words of an error.
pub(super) const STRING: usize = 2 * 1024;
/// Bytes that are kept of a string that is a part of the answer's own words. They are counted, and not read again.
pub(super) const SPOKEN: usize = 256;
/// Numbers and words that are kept of a list.
pub(super) const SCALARS: u32 = 8;
/// Bytes that are kept of a text.
pub(super) const MOST: usize = 192 * 1024;
/// Bytes that are kept of essential members beyond [`MOST`].
pub(super) const RESERVE: usize = 64 * 1024;
/// Deepest nesting that is kept.
pub(super) const DEEPEST: usize = 64;
/// Bytes that are kept of a usual answer.
const USUAL: usize = 1_024;
/// Bytes that are read of a key or a number.
const WORD: usize = 64;

/// Members that are kept while there is room, [`RESERVE`] included.
const ESSENTIAL: [&str; 25] = [
    "usage",
    "usageMetadata",
    "usage_metadata",
    "x_groq",
    "amazon-bedrock-invocationMetrics",
    "error",
    "model",
    "modelVersion",
    "finish_reason",
    "finishReason",
    "stop_reason",
    "stopReason",
    "status",
    "background",
    "id",
    "object",
    "type",
    "incomplete_details",
    "promptFeedback",
    "response",
    "message",
    "service_tier",
    "serviceTier",
    "tool_usage",
    "duration",
];

/// Members whose strings are the answer's own words.
const SPEAKING: [&str; 6] = ["choices", "output", "content", "candidates", "outputs", "completion"];

/// Members whose strings are no words of the answer, at any depth.
const SILENT: [&str; 14] = [
    "logprobs",
    "logprobsResult",
    "embedding",
    "instructions",
    "tools",
    "id",
    "object",
    "type",
    "role",
    "model",
    "encrypted_content",
    "signature",
    "thoughtSignature",
    "finish_reason",
];

/// A text under way.
#[derive(Debug, Default)]
pub(super) struct Condenser {
    kept: Vec<u8>,
    levels: Vec<Level>,
    /// Open containers within a skipped value.
    skipped: u32,
    state: State,
    /// The member under way: its key without quotes, up to [`WORD`] bytes.
    key: Vec<u8>,
    /// The value under way.
    value: Value,
    words: Vec<u8>,
    escaped: bool,
    string_start: usize,
    /// Bytes that are kept of the string under way.
    string_most: usize,
    /// The start of the last escape in the kept string.
    last_escape: usize,
    own: Spoken,
    all: Spoken,
    flawed: bool,
    dropped: bool,
}

#[derive(Debug, Clone, Copy)]
struct Level {
    array: bool,
    /// The number of kept members.
    members: u32,
    /// How many of the kept members are numbers, words or strings.
    scalars: u32,
    mood: Mood,
}

/// The meaning of a container or value for the meter.
#[derive(Debug, Clone, Copy, Default)]
struct Mood {
    essential: bool,
    speaks: bool,
    silent: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Value {
    keep: bool,
    mood: Mood,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// Before the first byte.
    #[default]
    Start,
    /// A value is due; if `first`, the end of its list may come instead.
    Value {
        first: bool,
    },
    /// A key is due; if `first`, the end of its object may come instead.
    Key {
        first: bool,
    },
    Colon,
    /// A comma or the end of the container.
    After,
    InKey,
    InString,
    /// A number or word.
    InScalar,
    /// A string within a skipped value.
    InSkippedString,
    Skipping,
    /// The text is complete; further bytes are ignored.
    Complete,
    /// The text is no JSON.
    Broken,
}

/// A condensed text.
pub(super) struct Condensed {
    /// The kept JSON.
    pub json: Vec<u8>,
    /// The answer's own words.
    pub words: Spoken,
    /// Essential members are missing.
    pub flawed: bool,
    /// Parts of the answer itself are missing.
    pub dropped: bool,
}

impl Condenser {
    /// Whether all of the text has come.
    pub fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// Whether the text is no JSON.
    #[cfg(test)]
    pub fn is_broken(&self) -> bool {
        self.state == State::Broken
    }

    /// Bytes that are held.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.kept.capacity() + self.words.capacity() + self.key.capacity()
    }

    /// The text kept so far, closed to be JSON.
    pub fn condensed(&self) -> Condensed {
        let mut json = self.kept.clone();
        if self.state == State::InString && self.value.keep {
            json.truncate(self.safe_end());
            json.push(b'"');
        }
        json.extend(self.levels.iter().rev().map(|level| if level.array { b']' } else { b'}' }));
        let words = if self.own.is_silent() { self.all } else { self.own };
        Condensed { json, words, flawed: self.flawed, dropped: self.dropped }
    }

    /// Takes the next piece.
    pub fn feed(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while !rest.is_empty() {
            let read = match self.state {
                State::InString | State::InSkippedString | State::InKey => self.in_string(rest),
                State::InScalar => self.in_scalar(rest),
                State::Skipping => self.skip(rest),
                State::Complete | State::Broken => return,
                _ => {
                    self.token(rest[0]);
                    1
                }
            };
            rest = &rest[read..];
        }
    }

    fn token(&mut self, byte: u8) {
        if matches!(byte, b' ' | b'\n' | b'\t' | b'\r') {
            return;
        }
        match (self.state, byte) {
            (State::Key { .. }, b'"') => {
                self.key.clear();
                self.state = State::InKey;
            }
            (State::Key { first: true }, b'}') | (State::Value { first: true }, b']') | (State::After, b'}' | b']') => self.close(byte),
            (State::Colon, b':') => self.state = State::Value { first: false },
            (State::After, b',') => {
                let array = self.levels.last().is_some_and(|level| level.array);
                self.state = if array { State::Value { first: false } } else { State::Key { first: false } };
            }
            (State::Start | State::Value { .. }, _) => self.begin(byte),
            _ => self.state = State::Broken,
        }
    }

    /// Takes the first byte of a value.
    fn begin(&mut self, byte: u8) {
        if self.state == State::Start {
            // Room for a usual answer at once: growing costs more than the rest of the work.
            self.kept.reserve(USUAL);
            self.key.reserve(WORD);
        }
        let container = matches!(byte, b'{' | b'[');
        self.value = self.judge(container);
        match byte {
            b'{' | b'[' if self.value.keep => {
                self.lead();
                self.kept.push(byte);
                self.levels.push(Level { array: byte == b'[', members: 0, scalars: 0, mood: self.value.mood });
                self.state = if byte == b'[' { State::Value { first: true } } else { State::Key { first: true } };
            }
            b'{' | b'[' => {
                self.skipped = 1;
                self.state = State::Skipping;
            }
            b'"' => {
                if self.value.keep {
                    self.lead();
                    self.kept.push(b'"');
                    (self.string_start, self.last_escape) = (self.kept.len(), usize::MAX);
                    let mood = self.value.mood;
                    self.string_most = if mood.speaks && !mood.silent && !mood.essential { SPOKEN } else { STRING };
                }
                self.state = State::InString;
            }
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
                self.words.clear();
                self.words.push(byte);
                self.state = State::InScalar;
            }
            _ => self.state = State::Broken,
        }
    }

    /// Whether the value that begins is kept, and its meaning.
    fn judge(&mut self, container: bool) -> Value {
        let Some(level) = self.levels.last() else { return Value { keep: true, mood: Mood::default() } };
        let named = |names: &[&str]| !level.array && names.iter().any(|name| name.as_bytes() == self.key);
        let mood = Mood {
            essential: level.mood.essential || named(&["usage", "usageMetadata", "usage_metadata", "x_groq", "error"]),
            speaks: level.mood.speaks || named(&SPEAKING),
            silent: level.mood.silent || named(&SILENT),
        };
        let held = self.kept.len();
        let room = held < MOST || held < MOST + RESERVE && (mood.essential || named(&ESSENTIAL));
        let keep = room
            && (!container || self.levels.len() < DEEPEST)
            && (container || !level.array || level.scalars < SCALARS)
            && self.key.len() < WORD;
        self.dropped |= container && !keep && !mood.silent;
        // Leaving out a list's numbers is no flaw: they come by the million.
        self.flawed |= !room && (mood.essential || named(&ESSENTIAL));
        Value { keep, mood }
    }

    /// Writes the comma and the key before a kept value.
    fn lead(&mut self) {
        let Some(level) = self.levels.last_mut() else { return };
        if level.members > 0 {
            self.kept.push(b',');
        }
        level.members += 1;
        if !level.array {
            self.kept.push(b'"');
            self.kept.extend_from_slice(&self.key);
            self.kept.extend_from_slice(b"\":");
        }
    }

    fn close(&mut self, byte: u8) {
        let Some(level) = self.levels.pop().filter(|level| level.array == (byte == b']')) else {
            self.state = State::Broken;
            return;
        };
        let _ = level;
        self.kept.push(byte);
        self.done();
    }

    /// Ends a value.
    fn done(&mut self) {
        self.key.clear();
        self.state = if self.levels.is_empty() { State::Complete } else { State::After };
    }

    fn in_string(&mut self, rest: &[u8]) -> usize {
        if self.escaped {
            self.take(&rest[..1]);
            self.escaped = false;
            return 1;
        }
        let end = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
        self.take(&rest[..end]);
        match rest.get(end) {
            None => end,
            Some(b'"') => {
                self.end_string();
                end + 1
            }
            Some(_) => {
                if self.state == State::InString && self.value.keep && self.kept.len() - self.string_start < self.string_most {
                    self.last_escape = self.kept.len();
                }
                self.take(&rest[end..=end]);
                self.escaped = true;
                end + 1
            }
        }
    }

    /// Takes a piece of the string under way.
    fn take(&mut self, raw: &[u8]) {
        if self.state == State::InKey {
            let room = WORD.saturating_sub(self.key.len());
            self.key.extend_from_slice(&raw[..raw.len().min(room)]);
            return;
        }
        let mood = self.value.mood;
        if !mood.silent {
            if mood.speaks { &mut self.own } else { &mut self.all }.feed(raw);
        }
        if self.state == State::InString && self.value.keep {
            let room = self.string_most.saturating_sub(self.kept.len() - self.string_start);
            self.kept.extend_from_slice(&raw[..raw.len().min(room)]);
        }
    }

    fn end_string(&mut self) {
        match self.state {
            State::InKey => self.state = State::Colon,
            State::InSkippedString => {
                self.own.end();
                self.all.end();
                self.state = State::Skipping;
            }
            _ => {
                self.own.end();
                self.all.end();
                if self.value.keep {
                    self.kept.truncate(self.safe_end());
                    self.kept.push(b'"');
                    self.count_scalar();
                }
                self.done();
            }
        }
    }

    /// The last place at which the kept string can end: not within an escape or a character.
    fn safe_end(&self) -> usize {
        const LONGEST_ESCAPE: usize = 6;
        let mut end = self.kept.len();
        if end - self.string_start < self.string_most && !self.escaped {
            // The string was not cut. The input may be cut within an escape.
            let tail = self.kept.get(self.last_escape..).unwrap_or_default();
            return if tail.starts_with(b"\\u") && tail.len() < LONGEST_ESCAPE {
                self.last_escape
            } else {
                whole_characters(&self.kept, end)
            };
        }
        if end.saturating_sub(self.last_escape) < LONGEST_ESCAPE && self.last_escape < end {
            end = self.last_escape;
        }
        whole_characters(&self.kept, end)
    }

    fn in_scalar(&mut self, rest: &[u8]) -> usize {
        let end = rest.iter().position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\t' | b'\r')).unwrap_or(rest.len());
        let room = WORD.saturating_sub(self.words.len());
        self.words.extend_from_slice(&rest[..end.min(room)]);
        if end < rest.len() {
            if self.value.keep && self.words.len() < WORD {
                self.lead();
                self.kept.extend_from_slice(&self.words);
                self.count_scalar();
            }
            self.done();
        }
        end
    }

    fn count_scalar(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            level.scalars += 1;
        }
    }

    /// Passes over a container that is skipped.
    fn skip(&mut self, rest: &[u8]) -> usize {
        for (at, byte) in rest.iter().enumerate() {
            match byte {
                b'"' => {
                    self.state = State::InSkippedString;
                    return at + 1;
                }
                b'{' | b'[' => self.skipped += 1,
                b'}' | b']' => {
                    self.skipped -= 1;
                    if self.skipped == 0 {
                        self.done();
                        return at + 1;
                    }
                }
                _ => {}
            }
        }
        rest.len()
    }
}

/// The largest end up to `end` that does not cut a UTF-8 character.
fn whole_characters(text: &[u8], end: usize) -> usize {
    let start = end.saturating_sub(4);
    let tail = &text[start..end];
    // The last byte that is no continuation begins the last character.
    match tail.iter().rposition(|byte| byte & 0xc0 != 0x80) {
        Some(at) => {
            let need = match tail[at] {
                0xf0.. => 4,
                0xe0.. => 3,
                0xc0.. => 2,
                _ => 1,
            };
            if tail.len() - at < need { start + at } else { end }
        }
        None => end,
    }
}
