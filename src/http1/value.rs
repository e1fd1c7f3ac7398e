//! The value of a field, as bytes and as text.

use std::fmt;

use super::class;

/// A field's value, without the whitespace around it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Value<'a>(&'a [u8]);

impl<'a> Value<'a> {
    /// The value of these bytes.
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Its text.
    ///
    /// # Errors
    /// A byte is not visible ASCII, a space or a tab.
    pub fn to_str(self) -> Result<&'a str, NotText> {
        if !class::is_visible(self.0) {
            return Err(NotText);
        }
        std::str::from_utf8(self.0).map_err(|_| NotText)
    }

    /// Bytes.
    pub fn len(self) -> usize {
        self.0.len()
    }

    /// Whether it has no byte.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

/// A value has bytes that are no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotText;

impl AsRef<[u8]> for Value<'_> {
    fn as_ref(&self) -> &[u8] {
        self.0
    }
}

impl PartialEq<str> for Value<'_> {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for Value<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

/// The value's length alone: a value may be a credential.
impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}
