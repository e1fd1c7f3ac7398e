//! `traceparent` and `tracestate` (W3C Trace Context Level 2): read strictly, written exactly.

use std::sync::Arc;

use opentelemetry::{SpanId, TraceId};

use crate::http1::{Fields, Id, Value};

const TRACEPARENT: Id = Id::Traceparent;
const TRACESTATE: Id = Id::Tracestate;

/// Length of a version 00 `traceparent`.
const LENGTH: usize = 55;

/// Most members of a `tracestate` (section 3.3.1.1).
const MAX_MEMBERS: usize = 32;

/// Longest `tracestate` that is passed on (section 3.3.1.5: at least 512 characters should be).
const MAX_STATE: usize = 1024;

/// A place in a trace, as it travels in headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// Never zero.
    pub trace_id: TraceId,
    /// Never zero.
    pub span_id: SpanId,
    /// Whether the caller records the trace.
    pub sampled: bool,
    /// Whether the trace id's last seven bytes are known to be random.
    pub random: bool,
    /// `tracestate`, valid and in one line; passed on as it came.
    pub state: Option<Arc<str>>,
}

impl TraceContext {
    /// Reads both headers. `None` unless there is exactly one valid `traceparent`; an invalid `tracestate` is left out.
    pub fn from_headers(headers: &Fields) -> Option<Self> {
        let mut parents = headers.all(TRACEPARENT);
        let (parent, None) = (parents.next()?, parents.next()) else {
            return None;
        };
        let mut context = Self::parse(parent.as_bytes())?;
        context.state = state(headers.all(TRACESTATE));
        Some(context)
    }

    /// Reads a `traceparent` value (section 3.2). Of a later version, only the part shared with version 00 is read.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let fixed = value.first_chunk::<LENGTH>()?;
        let version = hex::<1>(&fixed[..2])?[0];
        let rest = &value[LENGTH..];
        let dashes = fixed[2] == b'-' && fixed[35] == b'-' && fixed[52] == b'-';
        let length = if version == 0 { rest.is_empty() } else { rest.first().is_none_or(|next| *next == b'-') };
        if version == 0xff || !dashes || !length {
            return None;
        }
        let trace_id = TraceId::from_bytes(hex(&fixed[3..35])?);
        let span_id = SpanId::from_bytes(hex(&fixed[36..52])?);
        let flags = hex::<1>(&fixed[53..])?[0];
        if trace_id == TraceId::INVALID || span_id == SpanId::INVALID {
            return None;
        }
        Some(Self { trace_id, span_id, sampled: flags & 1 != 0, random: flags & 2 != 0, state: None })
    }

    /// The `traceparent` value, always version 00.
    pub fn traceparent(&self) -> [u8; LENGTH] {
        let mut out = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&mut out[3..35], &self.trace_id.to_bytes());
        write_hex(&mut out[36..52], &self.span_id.to_bytes());
        out[54] = b'0' + u8::from(self.sampled) + 2 * u8::from(self.random);
        out
    }

    /// Replaces both headers.
    pub fn write(&self, headers: &mut Fields) {
        headers.remove(TRACESTATE);
        headers.insert(TRACEPARENT, self.traceparent());
        if let Some(state) = self.state.as_deref() {
            headers.insert(TRACESTATE, state);
        }
    }
}

/// Lower-case hexadecimal only, as section 3.2.2 asks.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

fn write_hex(out: &mut [u8], bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
}

/// Joins the lines of a `tracestate`. `None` if a member is invalid, a key comes twice or there are too many members (section
/// 3.3.1). Members that do not fit are dropped from the end: the newest come first.
fn state<'a>(lines: impl Iterator<Item = Value<'a>>) -> Option<Arc<str>> {
    let mut out = String::new();
    let mut keys: Vec<&str> = Vec::new();
    let mut fits = true;
    for line in lines {
        // visible ASCII, spaces and tabs
        for member in line.to_str().ok()?.split(',') {
            let member = member.trim_matches([' ', '\t']);
            if member.is_empty() {
                continue;
            }
            let (key, value) = member.split_once('=')?;
            if !is_key(key) || !is_value(value) || keys.contains(&key) || keys.len() == MAX_MEMBERS {
                return None;
            }
            keys.push(key);
            fits &= out.len() + 1 + member.len() <= MAX_STATE;
            if fits {
                if !out.is_empty() {
                    out.push(',');
                }
                out.push_str(member);
            }
        }
    }
    (!out.is_empty()).then(|| out.into())
}

/// Whether the text is a key (section 3.3.1.3.1).
fn is_key(key: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = key.as_bytes();
    bytes.first().is_some_and(|byte| first(*byte))
        && bytes.len() <= 256
        && bytes.iter().all(|byte| first(*byte) || matches!(byte, b'_' | b'-' | b'*' | b'/' | b'@'))
}

/// Whether the text is a value (section 3.3.1.3.2). The end is no space: the member is trimmed.
fn is_value(value: &str) -> bool {
    value.len() <= 256 && !value.is_empty() && value.bytes().all(|byte| matches!(byte, 0x20..=0x7e) && byte != b'=')
}
