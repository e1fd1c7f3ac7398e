//! Personal data in model calls: found, replaced by placeholders, and put back into the answer. Pure.
//!
//! In the order of a call: [`mask`](mod@mask) walks over the strings of a JSON body; [`detect`](mod@detect) finds the data in each of them,
//! with `numbers`, `letters` and `ids` for the numbers and `checks` for their check digits; [`vault`] names the placeholders and
//! holds the values; [`restore`] puts them back into a whole answer and [`stream`] into a stream.

mod checks;
pub mod detect;
#[cfg(test)]
mod figures;
mod ids;
mod json;
mod letters;
pub mod mask;
mod numbers;
pub mod restore;
pub mod stream;
#[cfg(test)]
mod stream_tests;
#[cfg(test)]
mod tests;
pub mod vault;

pub use detect::CallerName;
pub use mask::{Masked, Unmaskable, mask, scrub};
pub use restore::whole;
pub use stream::StreamRestorer;
pub use vault::Vault;
