//! A body in a content coding that cannot be read, as its client is told.

/// Why a body in a content coding cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coded {
    /// A coding that the proxy cannot decode, as `Content-Encoding` names it.
    Unknown(Box<str>),
    /// The body is not in the coding that it names, or it is cut.
    Broken,
    /// The decoded text has more than this number of bytes.
    TooLarge(u64),
}

impl Coded {
    /// The sentence for a person.
    pub(super) fn detail(&self) -> String {
        match self {
            Self::Unknown(name) => format!(
                "a policy of this route must read the body, and its content coding `{name}` is unknown: send it as gzip, deflate, zstd or br, or without a coding"
            ),
            Self::Broken => "a policy of this route must read the body, and it is not what its Content-Encoding says, or it is cut: \
                             send it again, or without a coding"
                .into(),
            Self::TooLarge(most) => format!(
                "a policy of this route must read the body, and its decoded text has more than {most} bytes: send it without a coding, send less, or raise bounds.max_body"
            ),
        }
    }
}
