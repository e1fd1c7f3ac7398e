//! What tests of the configuration share: texts that are read, and what is said of them.

use super::{
    Config,
    read::{Overrides, parse},
};

/// The command line of a test: no app, and a memory limit that is not the machine's.
pub(super) fn overrides() -> Overrides {
    Overrides { app: None, memory_limit: Some(512 << 20) }
}

/// The environment of a test.
pub(super) fn env(name: &str) -> Option<String> {
    match name {
        "OPENAI_API_KEY" => Some("sk-from-env".into()),
        "PORT" => Some("3100".into()),
        "EMPTY" => Some(String::new()),
        "BAD" => Some("hunter2".into()),
        _ => None,
    }
}

/// The configuration of a text without mistakes.
pub(super) fn good(text: &str) -> Config {
    match parse(text, "proxy.yaml", &overrides(), &env) {
        Ok(config) => config,
        Err(mistakes) => panic!("{mistakes}"),
    }
}

/// The mistakes of a text: `LINE:COLUMN: MESSAGE`.
pub(super) fn bad(text: &str) -> Vec<String> {
    let mistakes = parse(text, "proxy.yaml", &overrides(), &env).expect_err("has mistakes");
    mistakes.iter().map(|m| format!("{}:{}: {}", m.line, m.column, m.message)).collect()
}

/// The text has one mistake, at this place, and the message has this part.
pub(super) fn says(text: &str, place: &str, part: &str) {
    let said = bad(text);
    assert!(
        said.len() == 1 && said[0].starts_with(&format!("{place}: ")) && said[0].contains(part),
        "{text}
{said:#?}"
    );
}

/// The smallest inbound door.
pub(super) const IN: &str = "inbound: {app: http://127.0.0.1:3000}\n";
/// The smallest outbound door.
pub(super) const OUT: &str = "outbound: {providers: {openai: {}}}\n";

/// A limit with these terms, on the inbound door.
pub(super) fn limit(terms: &str) -> String {
    format!("inbound:\n  app: 3000\n  limits:\n    - {{{terms}}}\n")
}

/// A policy in the only route, which is inbound: the policy begins at 5:7.
pub(super) fn route(policy: &str) -> String {
    format!("inbound:\n  app: 3000\n  routes:\n    - match: {{path: /a}}\n      {policy}\n")
}
