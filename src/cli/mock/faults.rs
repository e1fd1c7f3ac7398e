//! Faults on request: the grammar of `x-mock-fault`, and the script of faults for the next calls.
//!
//! A fault is a `;`-separated list of directives that combine, such as `429;retry-after=1` or `slow=200ms;cut-after=3`:
//!
//! | directive | effect |
//! |---|---|
//! | `ok` | nothing (a place holder in a script) |
//! | `503` (any status 400 to 599) | an error of the API's own shape |
//! | `retry-after=1`, `retry-after-ms=250` | header fields of that error; `retry-after` may be a date |
//! | `should-retry=false` | `x-should-retry` of that error |
//! | `quota` | the provider's answer to a spent quota (429, waiting does not help) |
//! | `html` | the error comes as an HTML page, as from a gateway in front of the provider |
//! | `hang` | no answer, ever |
//! | `reset` | the connection is reset before the answer |
//! | `close` | the connection is closed before the answer |
//! | `garbage` | the answer is not HTTP |
//! | `slow=200ms` | latency to the first byte |
//! | `cut-after=3` | the connection closes after three pieces of a stream, or in the middle of a whole body |
//! | `reset-after=3` | the same with a reset |
//! | `end-after=3` | the stream ends cleanly, but early |
//! | `stall-after=3` | the stream falls silent |
//! | `error-in-stream=overloaded_error` | the API's error event inside a 200, after `after=N` pieces (2); an error status if not streamed |
//! | `tokens=N`, `rate=N`, `chunk=N` | tokens of this answer, per second, per piece |
//! | `ping=N` | an SSE comment before every Nth piece |
//! | `no-usage` | the answer does not say what it cost |

use std::{collections::VecDeque, str::FromStr, time::Duration};

/// Directives for one call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fault {
    /// The text as written.
    pub text: String,
    pub(super) status: Option<u16>,
    pub(super) quota: bool,
    pub(super) html: bool,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) before: Option<Before>,
    pub(super) slow: Option<Duration>,
    pub(super) within: Option<(usize, Within)>,
    pub(super) tokens: Option<u32>,
    pub(super) rate: Option<u32>,
    pub(super) chunk: Option<u32>,
    pub(super) ping: Option<u32>,
    pub(super) no_usage: bool,
    /// The server does not know `stream_options`.
    pub(super) no_stream_options: bool,
}

/// A fault that replaces the response head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    Hang,
    Reset,
    Close,
    Garbage,
}

/// A fault within a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Within {
    Cut,
    Reset,
    End,
    Stall,
    Error(String),
}

/// An unknown or invalid directive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a fault; examples: 503, 429;retry-after=1, hang, reset, cut-after=3, error-in-stream=overloaded_error, slow=200ms")]
pub struct UnknownFault(pub String);

impl Fault {
    /// Whether the call fails at all (pace and length alone are no failure).
    pub fn is_failure(&self) -> bool {
        self.status.is_some() || self.quota || self.before.is_some() || self.within.is_some()
    }

    /// A plain error status.
    pub(super) fn of_status(status: u16) -> Self {
        Self { text: status.to_string(), status: Some(status), ..Self::default() }
    }
}

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        let mut fault = Self { text: text.trim().to_owned(), ..Self::default() };
        let mut after = None;
        for directive in text.split(';').map(str::trim).filter(|directive| !directive.is_empty()) {
            let unknown = || UnknownFault(directive.to_owned());
            let (name, value) = directive.split_once('=').map_or((directive, ""), |(name, value)| (name.trim(), value.trim()));
            let count = || value.parse::<usize>().map_err(|_| unknown());
            let number = || value.parse::<u32>().map_err(|_| unknown());
            match name {
                "ok" => {}
                "quota" => fault.quota = true,
                "html" => fault.html = true,
                "hang" => fault.before = Some(Before::Hang),
                "reset" => fault.before = Some(Before::Reset),
                "close" => fault.before = Some(Before::Close),
                "garbage" => fault.before = Some(Before::Garbage),
                "slow" => fault.slow = Some(humantime::parse_duration(value).map_err(|_| unknown())?),
                "retry-after" => fault.headers.push(("retry-after", field(value).ok_or_else(unknown)?)),
                "retry-after-ms" => fault.headers.push(("retry-after-ms", field(value).ok_or_else(unknown)?)),
                "should-retry" => fault.headers.push(("x-should-retry", field(value).ok_or_else(unknown)?)),
                "cut-after" => fault.within = Some((count()?, Within::Cut)),
                "reset-after" => fault.within = Some((count()?, Within::Reset)),
                "end-after" => fault.within = Some((count()?, Within::End)),
                "stall-after" => fault.within = Some((count()?, Within::Stall)),
                "error-in-stream" if !value.is_empty() => fault.within = Some((2, Within::Error(value.to_owned()))),
                "after" => after = Some(count()?),
                "tokens" => fault.tokens = Some(number()?),
                "rate" => fault.rate = Some(number()?),
                "chunk" => fault.chunk = Some(number()?.max(1)),
                "ping" => fault.ping = Some(number()?.max(1)),
                "no-usage" => fault.no_usage = true,
                "no-stream-options" => fault.no_stream_options = true,
                status => match status.parse() {
                    Ok(status @ 400..=599) => fault.status = Some(status),
                    _ => return Err(unknown()),
                },
            }
        }
        if let (Some(after), Some((at, _))) = (after, &mut fault.within) {
            *at = after;
        }
        Ok(fault)
    }
}

/// A value that is valid in a header field.
fn field(value: &str) -> Option<String> {
    http::HeaderValue::from_str(value).ok().map(|_| value.to_owned())
}

/// Faults for the next calls, one each. At most [`Script::MOST`] wait.
#[derive(Debug, Default)]
pub(super) struct Script(VecDeque<Fault>);

impl Script {
    /// Most faults that may wait.
    pub(super) const MOST: usize = 10_000;

    /// Replaces the waiting faults.
    pub(super) fn set(&mut self, faults: impl IntoIterator<Item = Fault>) {
        self.0 = faults.into_iter().take(Self::MOST).collect();
    }

    pub(super) fn next(&mut self) -> Option<Fault> {
        self.0.pop_front()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Fault {
        text.parse().unwrap()
    }

    #[test]
    fn directives_combine() {
        let fault = parsed("429; retry-after=1 ;slow=200ms");
        assert_eq!(fault.status, Some(429));
        assert_eq!(fault.headers, [("retry-after", "1".to_owned())]);
        assert_eq!(fault.slow, Some(Duration::from_millis(200)));
        assert_eq!(parsed("error-in-stream=overloaded_error;after=5").within, Some((5, Within::Error("overloaded_error".into()))));
        assert_eq!(parsed("cut-after=3").within, Some((3, Within::Cut)));
    }

    #[test]
    fn pace_alone_is_no_failure() {
        assert!(!parsed("ok").is_failure());
        assert!(!parsed("tokens=4;rate=10;slow=1s").is_failure());
        assert!(parsed("hang").is_failure());
    }

    #[test]
    fn what_is_no_fault_is_named() {
        for text in ["teapot", "200", "cut-after", "slow=soon", "retry-after=a\nb", "503;nonsense=1"] {
            assert!(text.parse::<Fault>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_script_is_used_up_in_order() {
        let mut script = Script::default();
        script.set([parsed("503"), parsed("ok")]);
        assert_eq!(script.next().unwrap().status, Some(503));
        assert_eq!(script.next().unwrap().status, None);
        assert!(script.next().is_none());
    }
}
