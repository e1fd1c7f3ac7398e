//! Traces: W3C Trace Context in and out, one sampling decision per exchange, spans for sampled traces alone.
//!
//! Ids are made here and not by the SDK: a try's span id leaves in its `traceparent` before the span ends.

mod context;
mod span;
#[cfg(test)]
mod tests;

use std::time::SystemTime;

use opentelemetry::{SpanId, TraceId};

pub use context::TraceContext;
pub use span::{ClientStart, GenAi, ServerStart, Span};

use super::metrics::SpanPoint;
use crate::clock::Chance;

/// The share of new traces that are sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampler {
    /// Trace ids whose last 56 bits are below this are sampled.
    below: u64,
}

/// Random bits in a trace id (W3C Trace Context Level 2, section 3.2.2.3.1: the rightmost seven bytes).
const RANDOM_BITS: u32 = 56;

impl Sampler {
    /// Samples `ratio` of new traces; values outside 0..=1 are clamped.
    pub fn new(ratio: f64) -> Self {
        let all = (1_u64 << RANDOM_BITS) as f64;
        Self { below: (ratio.clamp(0.0, 1.0) * all) as u64 }
    }

    /// Whether the trace is sampled. Every process gives the same answer for the same trace id.
    pub fn samples(self, id: TraceId) -> bool {
        let random = u128::from_be_bytes(id.to_bytes()) as u64 & ((1 << RANDOM_BITS) - 1);
        random < self.below
    }
}

/// An exchange's place in its trace.
#[derive(Debug, Clone)]
pub struct Trace {
    /// The exchange's own span.
    pub context: TraceContext,
    /// The parent span, in another process; `None` if the trace begins here.
    pub parent: Option<SpanId>,
}

impl Trace {
    /// The exchange's span, for a value that was measured in it at `at`; `None`: the trace is not sampled.
    pub fn within(&self, at: impl FnOnce() -> SystemTime) -> Option<SpanPoint> {
        let TraceContext { trace_id, span_id, sampled, .. } = self.context;
        sampled.then(|| SpanPoint { trace_id, span_id, at: at() })
    }

    /// Continues the incoming trace with its decision, or begins a trace.
    pub fn begin(incoming: Option<TraceContext>, sampler: Sampler, chance: &Chance) -> Self {
        match incoming {
            Some(incoming) => Self { parent: Some(incoming.span_id), context: TraceContext { span_id: span_id(chance), ..incoming } },
            None => {
                let trace_id = trace_id(chance);
                let sampled = sampler.samples(trace_id);
                Self { parent: None, context: TraceContext { trace_id, span_id: span_id(chance), sampled, random: true, state: None } }
            }
        }
    }

    /// The place of one try: the source of its `traceparent`.
    pub fn child(&self, chance: &Chance) -> TraceContext {
        TraceContext { span_id: span_id(chance), ..self.context.clone() }
    }
}

fn trace_id(chance: &Chance) -> TraceId {
    loop {
        let id = TraceId::from_bytes(chance.bytes());
        if id != TraceId::INVALID {
            return id;
        }
    }
}

fn span_id(chance: &Chance) -> SpanId {
    loop {
        let id = SpanId::from_bytes(chance.bytes());
        if id != SpanId::INVALID {
            return id;
        }
    }
}
