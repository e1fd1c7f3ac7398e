//! The steps of an exchange's tries: each try, and each decision not to try. A step is noted only where something went wrong: a try
//! that goes well costs nothing here.

use std::{sync::Arc, time::Duration};

use crate::telemetry::log::{decimal, escape};

/// A try that did not go well, or a target that was not asked.
#[derive(Debug, Clone)]
pub struct TryStep {
    /// From the arrival to the step's begin.
    pub at: Duration,
    /// The target.
    pub target: Arc<str>,
    /// The model that replaced the one of the request.
    pub model: Option<Arc<str>>,
    /// How the step ended: the try's word in `outrigger_tries_total`, or the reason of the refusal.
    pub result: &'static str,
    /// The target's status; 0: no head came, or the target was not asked.
    pub status: u16,
    /// The length of the step.
    pub took: Duration,
    /// What followed.
    pub then: Then,
    /// The breaker's state after the step; `None`: the route has no breaker.
    pub breaker: Option<&'static str>,
    /// Whether the target was asked.
    pub is_try: bool,
    /// Whether the app's own credential went along, and was refused.
    pub own_key: bool,
}

/// What followed a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// A retry at the same target, after this pause.
    Retried(Duration),
    /// A try that needs no policy, and its reason.
    Free(&'static str),
    /// The next target.
    NextTarget,
    /// The client got the target's answer.
    Answered,
    /// The client got no answer of a target.
    GaveUp,
}

impl Then {
    fn as_str(self) -> &'static str {
        match self {
            Self::Retried(_) => "retried",
            Self::Free(_) => "free_retry",
            Self::NextTarget => "next_target",
            Self::Answered => "answered",
            Self::GaveUp => "gave_up",
        }
    }
}

/// The reason of a free try on a new connection: the target had closed the old one.
pub const RECONNECT: &str = "safe_reconnect";

impl TryStep {
    /// Whether the step tells of a failure. An idle connection that its target has closed is none.
    pub fn is_failure(&self) -> bool {
        self.then != Then::Free(RECONNECT) && self.result != "ok"
    }

    /// Whether another try or target took the place of this try, or a limit had no room for it; the access log lists such steps. A
    /// target that was not asked because its breaker is open or its keys rest is no try.
    pub fn is_thrown_away(&self) -> bool {
        let followed = !self.is_try || matches!(self.then, Then::Retried(_) | Then::Free(_) | Then::NextTarget);
        followed && self.then != Then::Free(RECONNECT) && !matches!(self.result, "breaker_open" | "keys_rest")
    }

    fn write(&self, out: &mut Vec<u8>) {
        millis(out, "{\"at_ms\":", self.at);
        member(out, ",\"target\":", &self.target);
        if let Some(model) = &self.model {
            member(out, ",\"model\":", super::cut(model, super::LONGEST));
        }
        if self.status != 0 {
            out.extend_from_slice(b",\"status\":");
            decimal(out, u64::from(self.status), 0);
        }
        member(out, ",\"result\":", self.result);
        millis(out, ",\"ms\":", self.took);
        member(out, ",\"then\":", self.then.as_str());
        match self.then {
            Then::Retried(pause) => millis(out, ",\"pause_ms\":", pause),
            Then::Free(why) => member(out, ",\"why\":", why),
            _ => {}
        }
        if let Some(state) = self.breaker {
            member(out, ",\"breaker\":", state);
        }
        if self.own_key {
            member(out, ",\"refused_key\":", "the app's own");
        }
        out.push(b'}');
    }
}

/// Appends the member `steps`; no steps, no member.
pub(super) fn write_all(out: &mut Vec<u8>, steps: &[TryStep]) {
    for (nth, step) in steps.iter().enumerate() {
        out.extend_from_slice(if nth == 0 { b",\"steps\":[" } else { b"," });
        step.write(out);
    }
    if !steps.is_empty() {
        out.push(b']');
    }
}

/// Appends a text; `key` is the member's key with what stands around it.
pub(super) fn member(out: &mut Vec<u8>, key: &'static str, text: &str) {
    out.extend_from_slice(key.as_bytes());
    out.push(b'"');
    escape(out, text.as_bytes());
    out.push(b'"');
}

/// Appends milliseconds; `key` is the member's key with what stands around it.
pub(super) fn millis(out: &mut Vec<u8>, key: &'static str, time: Duration) {
    out.extend_from_slice(key.as_bytes());
    decimal(out, u64::try_from(time.as_micros()).unwrap_or(u64::MAX), 3);
}
