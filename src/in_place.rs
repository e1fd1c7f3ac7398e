//! Builds a large value in its box. `Box::new(value)` makes the value on the stack and copies it: for the future of a request that is
//! five kilobytes.

use std::pin::Pin;

/// The value that `make` makes, made in its box.
#[inline]
pub fn boxed<T>(make: impl FnOnce() -> T) -> Box<T> {
    Box::write(Box::new_uninit(), make())
}

/// The future that `make` makes, made in its box.
#[inline]
pub fn pinned<T>(make: impl FnOnce() -> T) -> Pin<Box<T>> {
    Box::into_pin(boxed(make))
}
