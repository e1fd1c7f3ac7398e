//! What the outbound door understands of model calls. Pure: no I/O, no time, no chance; bytes in, facts out.
//!
//! In the order of a call:
//!
//! 1. [`call`]: what method and path ask for, and which wire format they speak. From here on everything goes by
//!    [`call::Shape::api`], because providers offer each other's APIs. [`billed`]: how the provider bills it.
//! 2. [`facts`]: what the body says (model, stream, bounds), and [`mod@canonical`]: its part of a cache key.
//! 3. [`rewrite`]: the two changes that may be made to a body, as splices.
//! 4. [`meter`]: the answer's usage, model, end and hidden errors, read while it passes; [`sse`] splits streams,
//!    [`strip`] takes out the one event that the client had not asked for.
//! 5. [`errors`]: what a failure means, how long to wait, and our own answers in the provider's words.
//! 6. [`price`]: what it cost; [`works`]: what goes on behind its answer, charged once.
//!
//! Everything is lenient: formats grow without notice, so unknown members are passed over, odd values are nothing, and
//! nothing here refuses a call.

pub mod billed;
pub mod call;
pub mod canonical;
pub mod errors;
pub mod expected;
pub mod facts;
mod json;
pub mod meter;
pub mod price;
pub mod rewrite;
pub mod sse;
pub mod strip;
pub mod text;
pub mod works;

pub use billed::Billed;
pub use call::{Shape, recognise};
pub use canonical::{cacheable, canonical, canonical_json};
pub use errors::{
    ErrorClass, classify,
    hint::{hint, should_retry},
    render::{LimitState, limit_headers, render, request_id_field, stream_error},
};
pub use expected::expected_usage;
pub use facts::{BodyProblem, Facts, by_length, read};
pub use meter::{Finish, Meter, News, Observed, Work};
pub use price::Prices;
pub use rewrite::{with_include_usage, with_model, with_model_in_path, without_stream_options};
pub use sse::is_stream;
pub use strip::Strip;
pub use works::{Due, Works};
