//! How a limit counts.

use super::{Pace, Shape};

/// How a limit counts.
#[derive(Debug)]
pub enum Meter {
    /// A window.
    Window(Shape),
    /// A leaky bucket.
    Pace(Pace),
    /// Requests in flight: counted beside the table.
    Flight,
}
