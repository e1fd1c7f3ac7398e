//! The mode of a policy: its type as meant, its word in the file, its row of the schema.

use super::{
    scalars::words,
    schema::{Json, Key, Kind, Scalar},
};

/// Whether a policy acts or only counts. The word `off` makes a policy absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum Mode {
    #[default]
    Enforce,
    Observe,
}

impl Mode {
    /// The remark behind what `outrigger check` says of a policy: nothing where it acts.
    pub fn remark(self) -> &'static str {
        match self {
            Self::Enforce => "",
            Self::Observe => " (observes only)",
        }
    }
}

/// The word of `mode:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum ModeWord {
    #[default]
    Enforce,
    Observe,
    Off,
}

impl ModeWord {
    /// The mode as meant; `None` is `off`.
    pub(super) fn meant(self) -> Option<Mode> {
        match self {
            Self::Enforce => Some(Mode::Enforce),
            Self::Observe => Some(Mode::Observe),
            Self::Off => None,
        }
    }
}

words! {
    ModeWord: "enforce" => Self::Enforce, "observe" => Self::Observe, "off" => Self::Off;
}

const MODE: Kind =
    Kind::Scalar(&Scalar::new::<ModeWord>("`enforce`, `observe` or `off`", Json::Words(&["enforce", "observe", "off"]), "observe"));

/// The row of every policy that has a mode.
pub(super) const MODE_KEY: Key =
    Key::new("mode", MODE, "`enforce` acts; `observe` only counts what it would do; `off` is as if the block were not there.")
        .default("enforce");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::scalars::tests::refused;

    #[test]
    fn a_mode_is_one_of_three_words() {
        refused::<ModeWord>("on", "`enforce`, `observe` or `off`");
    }
}
