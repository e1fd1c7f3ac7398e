//! `access.attacks`: requests that look like well-known attacks.

use serde::Deserialize;

use crate::config::{
    mode::{Mode, ModeWord},
    scalars::{W, words},
    schema::{Json, Key, Kind, Scalar, Table},
    written::Items,
};

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attacks {
    /// Whether such requests are refused, or only told of.
    pub mode: Mode,
    /// The kinds.
    pub kinds: Vec<AttackKind>,
}

/// A kind of attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AttackKind {
    Traversal,
    NullByte,
    Sql,
    Script,
    /// Files that scanners look for.
    Probe,
}

impl AttackKind {
    /// Every kind with its word.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Traversal, "traversal"),
        (Self::NullByte, "null_byte"),
        (Self::Sql, "sql"),
        (Self::Script, "script"),
        (Self::Probe, "probe"),
    ];

    /// The word of the file.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, word)| word)
    }
}

words! {
    AttackKind: "traversal" => Self::Traversal, "null_byte" => Self::NullByte, "sql" => Self::Sql, "script" => Self::Script, "probe" => Self::Probe;
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    mode: W<ModeWord>,
    #[serde(default)]
    kinds: Items<W<AttackKind>>,
}

const KIND: Kind = Kind::Scalar(&Scalar::new::<AttackKind>(
    "`traversal`, `null_byte`, `sql`, `script` or `probe`",
    Json::Words(&["traversal", "null_byte", "sql", "script", "probe"]),
    "sql",
));

static TABLE: Table = Table::new(
    "access.attacks",
    "Looks for well-known attacks in paths and queries: steps upwards, null bytes, SQL, scripts, files that scanners ask for. Finds scanners, not who \
     knows the app; bodies are not read.",
    &[
        Key::new(
            "mode",
            Kind::Scalar(&Scalar::new::<ModeWord>("`enforce`, `observe` or `off`", Json::Words(&["enforce", "observe", "off"]), "observe")),
            "`observe` tells of such requests; `enforce` refuses them too: read first what it would refuse.",
        )
        .default("observe"),
        Key::new("kinds", Kind::OneOrMany(&KIND), "What is looked for.").default("[traversal, null_byte, sql, script, probe]"),
    ],
);

/// The row of the block.
pub(super) const ROW: Key =
    Key::new("attacks", Kind::Table(&TABLE), "Well-known attacks in paths and queries.").eg("{kinds: [sql, script]}");

/// What is meant; `None`: it is off. `within`: the mode of the policy around it.
pub(super) fn build(written: Written, within: Mode) -> Option<Attacks> {
    let mode = written.mode.0.meant()?;
    let kinds = written.kinds.into_iter().flatten().map(|kind| kind.0).collect();
    Some(Attacks { mode: if within == Mode::Observe { Mode::Observe } else { mode }, kinds })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        scalars::tests::refused,
        testing::{good, route},
    };

    #[test]
    fn it_observes_until_it_is_told_to_refuse() {
        let of = |text: &str| good(&route(text)).inbound.expect("open").routes.remove(0).policies.access.expect("named").attacks;
        let usual = of("access: {attacks: {}}").expect("on");
        assert_eq!((usual.mode, usual.kinds.len()), (Mode::Observe, AttackKind::ALL.len()));
        let strict = of("access: {attacks: {mode: enforce, kinds: sql}}").expect("on");
        assert_eq!(strict, Attacks { mode: Mode::Enforce, kinds: vec![AttackKind::Sql] });
        assert_eq!(of("access: {mode: observe, attacks: {mode: enforce}}").expect("on").mode, Mode::Observe);
        assert!(of("access: {deny: loopback, attacks: {mode: off}}").is_none());
        refused::<AttackKind>("xss", "`script`");
    }
}
