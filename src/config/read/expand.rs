//! Expands `${NAME}`, `${NAME:-default}` and `{file: path}` in parsed scalars, never in the text of the file.
//!
//! A value that expands to nothing is absent. The content of a variable or a file is never part of a message.

use std::path::Path;

use super::files::Files;

/// Largest file that `{file: ...}` reads; a secret is a line.
const MAX_FILE: u64 = 64 * 1024;

/// Stands around the name of a place that each request fills.
pub(in crate::config) const PLACE: char = '\u{1}';

/// The world outside the file.
pub(super) struct Expander<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    pub(super) files: Files,
}

/// A scalar after expansion.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expanded {
    pub(super) text: String,
    /// Whether a part came from outside: messages must not show it.
    pub(super) foreign: bool,
}

impl<'a> Expander<'a> {
    pub(super) fn new(env: &'a dyn Fn(&str) -> Option<String>, dir: &Path) -> Self {
        Self { env, files: Files::new(dir) }
    }

    /// Expands the variables of one scalar; the error says what would be right. `$$` is a dollar sign, `$x` is as written.
    pub(super) fn variables(&self, written: &str) -> Result<Expanded, String> {
        self.variables_but(written, &[])
    }

    /// As [`Self::variables`]; `${name}` of a name in `kept` becomes the name between two [`PLACE`]s: each request fills it.
    pub(super) fn variables_but(&self, written: &str, kept: &[&str]) -> Result<Expanded, String> {
        let mut text = String::with_capacity(written.len());
        let mut foreign = false;
        let mut rest = written;
        while let Some(at) = rest.find('$') {
            text.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                text.push('$');
                rest = after;
            } else if let Some(after) = rest.strip_prefix('{') {
                let Some(end) = after.find('}') else {
                    return Err("`${` is never closed; write `${NAME}`, or `$${` for the text itself".into());
                };
                if kept.contains(&&after[..end]) {
                    text.push(PLACE);
                    text.push_str(&after[..end]);
                    text.push(PLACE);
                } else {
                    text.push_str(&self.variable(&after[..end])?);
                    foreign = true;
                }
                rest = &after[end + 1..];
            } else {
                text.push('$');
            }
        }
        text.push_str(rest);
        Ok(Expanded { text, foreign })
    }

    fn variable(&self, inside: &str) -> Result<String, String> {
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        let begins_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !begins_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') || default.is_some_and(|d| d.contains("${")) {
            return Err("only `${NAME}` and `${NAME:-default}` are known; `$$` stands for a dollar sign".into());
        }
        match ((self.env)(name), default) {
            (Some(value), None) => Ok(value),
            (Some(value), Some(_)) if !value.is_empty() => Ok(value),
            (_, Some(default)) => Ok(default.to_owned()),
            (None, None) => Err(format!("the environment variable `{name}` is not set; set it, or write a default: `${{{name}:-}}`")),
        }
    }

    /// The content of a file without the line end that editors add.
    pub(super) fn file(&mut self, path: &str) -> Result<Expanded, String> {
        let bytes = self.files.read(Path::new(path), MAX_FILE)?;
        let mut text = String::from_utf8(bytes).map_err(|_| format!("`{path}` is not UTF-8"))?;
        text.truncate(text.trim_end_matches(['\n', '\r']).len());
        Ok(Expanded { text, foreign: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "PORT" => Some("80".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    fn expand(text: &str) -> Result<String, String> {
        Expander::new(&env, Path::new("")).variables(text).map(|e| e.text)
    }

    #[test]
    fn variables_expand_where_they_stand() {
        for (written, expected) in [
            ("a${PORT}b", "a80b"),
            ("${PORT:-1}${NONE:-2}", "802"),
            ("${EMPTY}", ""),
            ("${EMPTY:-x}", "x"),
            ("${NONE:-}", ""),
            ("$$", "$"),
            ("$${PORT}", "${PORT}"),
            ("costs $5", "costs $5"),
            ("end$", "end$"),
        ] {
            assert_eq!(expand(written).as_deref(), Ok(expected), "{written}");
        }
    }

    #[test]
    fn a_missing_variable_is_named_with_its_cure() {
        let said = expand("${NONE}").expect_err("is not set");
        assert!(said.contains("`NONE` is not set") && said.contains("`${NONE:-}`"), "{said}");
    }

    #[test]
    fn other_forms_are_refused() {
        for written in ["${PORT", "${PORT:?x}", "${1}", "${}", "${A-b}", "${A:-${B}}"] {
            assert!(expand(written).is_err(), "{written}");
        }
    }

    #[test]
    fn a_file_is_read_without_its_line_end_and_remembered() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("key"), "sk-1\n").expect("written");
        let mut expander = Expander::new(&env, dir.path());
        assert_eq!(expander.file("key"), Ok(Expanded { text: "sk-1".into(), foreign: true }));
        assert_ne!(expander.files.content.finalize(), Files::new(dir.path()).content.finalize());
        assert!(expander.file("none").expect_err("missing").contains("cannot read"));
        assert!(expander.file(".").expect_err("a directory").contains("not a file"));
        std::fs::write(dir.path().join("big"), "x".repeat(70_000)).expect("written");
        assert!(expander.file("big").expect_err("too large").contains("larger than 64.0 KiB"));
    }
}
