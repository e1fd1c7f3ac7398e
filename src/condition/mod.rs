//! Conditions of checks in Gatus' words: `[STATUS] == 200`, `[RESPONSE_TIME] < 500`, `[BODY].status == pat(up*)`.
//!
//! A condition compares two sides. A side is a placeholder (perhaps with a path into a JSON body, perhaps inside `len()` or `has()`), a
//! word, `pat(glob)` or `any(a, b, ...)`. Pure: a [`Subject`] goes in, [`Verdict`] comes out; no text makes it panic.

mod eval;
mod parse;
#[cfg(test)]
mod tests;

pub use eval::{Subject, Verdict};

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    written: String,
    left: Side,
    operator: Operator,
    right: Side,
}

/// How two sides are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Side {
    /// A word: a text, a number, a duration, `true` or `false`.
    Word(String),
    /// A fact of the answer.
    Fact(Fact),
    /// How long a fact is: characters, members or items.
    Len(Fact),
    /// Whether there is such a fact.
    Has(Fact),
    /// A text with `*` for any characters.
    Pattern(String),
    /// Any of these.
    Any(Vec<Side>),
}

/// A fact of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fact {
    Status,
    /// Milliseconds.
    ResponseTime,
    Ip,
    Connected,
    /// Time until the certificate expires, in milliseconds.
    CertificateExpiration,
    /// The body, or a place in it.
    Body(Vec<Step>),
}

/// A step into a JSON body.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Member(String),
    Item(usize),
}

impl Condition {
    /// Reads a condition; the error says what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse::condition(text)
    }

    /// The condition as written.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// Whether it needs the body of an answer.
    pub fn reads_body(&self) -> bool {
        [&self.left, &self.right].into_iter().any(Side::reads_body)
    }

    /// Whether it needs an answer of HTTP.
    pub fn needs_http(&self) -> bool {
        let needs = |side: &Side| matches!(side, Side::Fact(Fact::Status) | Side::Len(Fact::Status) | Side::Has(Fact::Status));
        self.reads_body() || needs(&self.left) || needs(&self.right)
    }

    /// Whether it is about the time of an answer alone: an answer that breaks it is slow, not wrong.
    pub fn is_about_time(&self) -> bool {
        let time = |side: &Side| *side == Side::Fact(Fact::ResponseTime);
        time(&self.left) || time(&self.right)
    }

    /// Whether it is about the connection itself: it may hold where there is none.
    pub fn is_about_connection(&self) -> bool {
        let names = |side: &Side| *side == Side::Fact(Fact::Connected);
        names(&self.left) || names(&self.right)
    }

    /// What the condition says of `subject`.
    pub fn judge(&self, subject: &Subject) -> Verdict {
        eval::judge(self, subject)
    }
}

impl Side {
    fn reads_body(&self) -> bool {
        match self {
            Self::Fact(fact) | Self::Len(fact) | Self::Has(fact) => matches!(fact, Fact::Body(_)),
            Self::Any(sides) => sides.iter().any(Self::reads_body),
            Self::Word(_) | Self::Pattern(_) => false,
        }
    }
}
