//! The result of a verb: text for people, or with `--json` exactly one JSON document.
//!
//! A result goes to standard output. An error goes to standard error as text, or with `--json` to standard output as an object
//! with `error`; the exit code tells the two apart.

use std::{
    fmt,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use serde_json::{Value, json};

use crate::{
    admin::client::Answer,
    config::{ADMIN_PORT, error::Mistakes, usual_socket},
};

const EVERYWHERE: &str = "Before or behind every verb";

/// What may stand before or behind every verb.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// Print JSON instead of text: one document, also where something is wrong (`run` and `mock`: one a line).
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub json: bool,
    /// The admin socket of the running proxy [default: that of a proxy on this machine with the usual admin port].
    #[arg(long, global = true, env = "OUTRIGGER_SOCKET", value_name = "PATH", help_heading = EVERYWHERE)]
    socket: Option<PathBuf>,
}

impl Common {
    /// The admin socket of the running proxy.
    pub fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| usual_socket(ADMIN_PORT, &|name| std::env::var(name).ok()))
    }

    /// Writes the outcome of a verb.
    pub fn tell(&self, outcome: Result<Said, Failure>) -> ExitCode {
        // A reader that has left (`| head`) is no failure.
        match outcome {
            Ok(said) => {
                let text = match said.json {
                    Some(json) if self.json => format!("{json:#}\n"),
                    None if self.json => String::new(),
                    _ => said.text,
                };
                let _ = io::stdout().write_all(text.as_bytes());
                ExitCode::SUCCESS
            }
            Err(failure) => {
                let _ = match self.json {
                    true => writeln!(io::stdout(), "{:#}", failure.json()),
                    false => writeln!(io::stderr(), "{failure}"),
                };
                ExitCode::FAILURE
            }
        }
    }
}

/// The result of a verb.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// For programs; `None`: the verb has written it itself.
    pub json: Option<Value>,
    /// For people; ends with a line feed unless it is empty.
    pub text: String,
}

impl Said {
    /// A document with its text.
    pub fn new(json: Value, text: impl Into<String>) -> Self {
        Self { json: Some(json), text: text.into() }
    }

    /// A document with a line of text.
    pub fn line(json: Value, line: impl fmt::Display) -> Self {
        Self { json: Some(json), text: format!("{line}\n") }
    }

    /// No result beyond the verb's own output.
    pub fn nothing() -> Self {
        Self { json: None, text: String::new() }
    }
}

/// Why a verb failed.
#[derive(Debug, Clone, PartialEq)]
pub enum Failure {
    /// In words.
    Words(String),
    /// Every mistake of a file.
    Mistakes(Mistakes),
    /// A running proxy refused.
    Refused(Value),
}

impl Failure {
    /// The refusal in a running proxy's answer.
    pub fn of(answer: &Answer) -> Self {
        answer.json().map_or_else(|| Self::Words(format!("the proxy answered {}", answer.status)), Self::Refused)
    }

    fn json(&self) -> Value {
        match self {
            Self::Words(words) => json!({ "error": words }),
            Self::Mistakes(mistakes) => mistakes.to_json(),
            Self::Refused(said) if said["error"].is_string() => said.clone(),
            Self::Refused(said) => json!({"error": "the proxy refused", "said": said}),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Words(words) => write!(f, "outrigger: {words}"),
            // `file:line:column` begins the line, for editors. A running proxy gives the same mistakes for its file as `check`.
            Self::Mistakes(mistakes) => write!(f, "{mistakes}"),
            Self::Refused(said) => match (said["error"].as_str(), said["file"].is_string()) {
                (Some(error), true) => f.write_str(error),
                (Some(error), false) => write!(f, "outrigger: {error}"),
                (None, _) => write!(f, "outrigger: the proxy refused: {said}"),
            },
        }
    }
}

impl From<String> for Failure {
    fn from(words: String) -> Self {
        Self::Words(words)
    }
}

impl From<Mistakes> for Failure {
    fn from(mistakes: Mistakes) -> Self {
        Self::Mistakes(mistakes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read::{self, Overrides};

    #[test]
    fn a_failure_is_text_for_people_and_an_object_with_error_for_programs() {
        let mistakes = read::parse("inbund: {}\n", "proxy.yaml", &Overrides::default(), &|_| None).expect_err("wrong");
        let refused = |said: Value| Failure::Refused(said);
        for (failure, text, error) in [
            (Failure::Words("no such file".into()), "outrigger: no such file", "no such file"),
            (refused(mistakes.to_json()), &*mistakes.to_string(), &*mistakes.to_string()),
            (
                refused(json!({"error": "`x` is not a path", "mistakes": [{"value": "x"}]})),
                "outrigger: `x` is not a path",
                "`x` is not a path",
            ),
            (refused(json!({"error": "no target"})), "outrigger: no target", "no target"),
        ] {
            assert_eq!((failure.to_string().as_str(), failure.json()["error"].as_str()), (text, Some(error)));
        }
        let failure = Failure::from(mistakes);
        assert!(failure.to_string().starts_with("proxy.yaml:1:1: unknown key `inbund`"), "{failure}");
        let json = failure.json();
        assert_eq!(
            (&json["file"], &json["mistakes"][0]["line"], &json["mistakes"][0]["column"]),
            (&"proxy.yaml".into(), &1.into(), &1.into())
        );
        assert!(json["mistakes"][0]["message"].as_str().is_some_and(|message| message.contains("unknown key")), "{json}");
        assert_eq!(json["mistakes"][0]["hint"], "did you mean `inbound`?");
    }
}
