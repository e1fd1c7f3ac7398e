//! `audit`: the log of what matters for security, as a chain of hashes.

use serde::Deserialize;

use crate::config::{
    Secret,
    build::{Build, whole},
    scalars::{Bytes, Count, W},
    schema::{
        Key, Kind, Table,
        kinds::{BOOL, COUNT_OF, SECRET, SIZE_OF},
    },
    written::Items,
};

/// The audit log.
#[derive(Debug, Clone, PartialEq)]
pub struct Audit {
    /// The key of the hashes. `None`: whoever can write the files can write them anew.
    pub key: Option<Secret>,
    /// Keys that older lines were written with.
    pub previous_keys: Vec<Secret>,
    /// Bytes after which a new file begins.
    pub file_size: u64,
    /// Most files.
    pub files: usize,
    /// Whether refused requests have lines.
    pub refusals: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    key: Option<W<Secret>>,
    #[serde(default)]
    previous_keys: Items<W<Secret>>,
    file_size: W<Bytes>,
    files: W<Count>,
    refusals: W<bool>,
}

/// Fewest characters of a key: it must not be guessed.
const SHORTEST: usize = 16;

pub(in crate::config) static TABLE: Table = Table::new(
    "audit",
    "Keeps what matters for security in `state_dir`, each line tied to the one before: refusals, changes through the admin door, reloads, \
     keys, erasures. `outrigger audit verify` finds any change. Needs `store.state_dir`.",
    &[
        Key::new(
            "key",
            SECRET,
            "Keys the hashes. Without one, whoever can write the files can write all of them anew and nobody would know.",
        )
        .eg("\"${OUTRIGGER_AUDIT_KEY:-}\""),
        Key::new("previous_keys", Kind::List(&SECRET), "Keys that older lines were written with; `outrigger audit verify` takes them too."),
        Key::new("file_size", SIZE_OF, "Size at which a new file begins.").within("4KiB", "1GiB").default("16MiB"),
        Key::new("files", COUNT_OF, "Most files; the oldest is dropped, and a line says so.").within("2", "100k").default("64"),
        Key::new("refusals", BOOL, "Whether refused requests have lines. Many from one address have one line a minute.").default("true"),
    ],
);

pub(in crate::config) fn build(build: &mut Build<'_>, written: Option<Written>, durable: bool) -> Option<Audit> {
    let written = written?;
    if !durable && !build.seen.broken("store.state_dir") {
        let message = "`audit` needs `store: {state_dir: /var/lib/outrigger}`: the log is a file, and has to outlive the process";
        build.fault(build.seen.key("audit"), message);
    }
    let key = written.key.map(|key| key.0).filter(|key| !key.reveal().is_empty());
    if key.as_ref().is_some_and(|key| key.reveal().len() < SHORTEST) {
        let message = format!(
            "the key of the audit log has fewer than {SHORTEST} characters: it could be guessed (`openssl rand -hex 32` makes one)"
        );
        build.fault(build.seen.value("audit.key"), message);
    }
    if key.is_none() {
        let message = "`audit` has no `key`: whoever can write the files can write all of them anew; write `key: \"${OUTRIGGER_AUDIT_KEY}\"`, or send the lines to a collector (telemetry.otlp_logs)";
        build.note(build.seen.key("audit"), message);
    }
    let previous_keys = written.previous_keys.into_iter().flatten().map(|key| key.0).filter(|key| !key.reveal().is_empty()).collect();
    Some(Audit { key, previous_keys, file_size: written.file_size.0.0, files: whole(&written.files), refusals: written.refusals.0 })
}

#[cfg(test)]
mod tests {
    use crate::config::testing::{IN, good, says};

    #[test]
    fn the_log_needs_a_place_and_a_key_that_nobody_guesses() {
        let audit = |terms: &str| good(&format!("{IN}store: {{state_dir: /tmp/x}}\naudit: {terms}\n")).audit;
        let plain = audit("{}").expect("on");
        assert_eq!((plain.key, plain.file_size, plain.files, plain.refusals), (None, 16 << 20, 64, true));
        let keyed = audit("{key: 0123456789abcdef, previous_keys: ['${EMPTY}', another-key-of-16]}").expect("on");
        assert_eq!((keyed.key.is_some(), keyed.previous_keys.len()), (true, 1));
        assert!(!format!("{keyed:?}").contains("0123456789abcdef"));
        assert!(good(IN).audit.is_none());
        says(&format!("{IN}audit: {{}}\n"), "2:1", "needs `store: {state_dir");
        says(&format!("{IN}store: {{state_dir: /tmp/x}}\naudit: {{key: short}}\n"), "3:14", "fewer than 16 characters");
    }
}
