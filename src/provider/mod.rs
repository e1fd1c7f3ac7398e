//! Model calls as the outbound door understands them. Pure: no I/O, no time, no chance; bytes in, facts out.
//!
//! In the order of a call:
//!
//! 1. [`call`]: the operation and wire format, from method and path. The later steps go by [`call::Shape::api`]: providers
//!    offer each other's APIs. [`billed`]: how the provider bills the request; [`paths`]: the table of all paths.
//!    [`choice`]: the provider of a call whose path names none.
//! 2. [`facts`]: the body's facts (model, stream, bounds); [`mod@canonical`]: the body's part of a cache key.
//! 3. [`rewrite`]: the changes that may be made to a call, as splices.
//! 4. [`meter`]: the answer's usage, model, end and hidden errors, read while it passes; [`sse`] splits streams,
//!    [`strip`] takes out the one event that the client did not ask for.
//!    [`session`]: the same for the events of a WebSocket; `top`: the top-level members of an event.
//! 5. [`errors`]: the meaning of a failure, the wait, and the proxy's own answers in the provider's words.
//! 6. [`batch`]: what a batch may use, and has used. [`ratio`]: what estimates have to be corrected by; [`tokens`]: a model's own
//!    tokenizer; [`price`]: the cost; [`works`]:
//!    work that goes on after its answer, charged once.
//!
//! Reading is lenient: formats grow without notice. Unknown members are skipped, odd values count as absent, and no call is
//! refused here.

pub mod batch;
pub mod billed;
pub mod call;
pub mod canonical;
pub mod choice;
pub mod errors;
pub mod expected;
pub mod facts;
mod form;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod golden_lines;
mod json;
pub mod meter;
pub mod paths;
pub mod price;
pub mod ratio;
pub mod rewrite;
pub mod session;
pub mod sound;
pub mod sse;
pub mod strip;
mod terms;
pub mod text;
#[cfg(test)]
mod text_corpus;
pub mod tokens;
mod top;
pub mod works;

pub use billed::Billed;
pub use call::{Shape, recognise};
pub use canonical::{cacheable, canonical, canonical_json};
pub use choice::{Choice, choose};
pub use errors::{
    ErrorClass, classify,
    hint::{hint, quotas, should_retry},
    render::{LimitState, limit_headers, render, request_id_field, stream_error},
};
pub use expected::{expected_answer, expected_at_first, expected_units, expected_usage};
pub use facts::{BodyProblem, Facts, by_length, read, read_or_estimate};
pub use meter::{Finish, Meter, News, Observed, Work};
pub use price::{Prices, Steps};
pub use ratio::Ratios;
pub use rewrite::{with_include_usage, with_model, with_model_in_path, without_stream_options};
pub use sse::is_stream;
pub use strip::Strip;
pub use works::{Due, Works};
