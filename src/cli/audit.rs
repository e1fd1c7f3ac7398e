//! `outrigger audit`: whether the audit log is whole, and what it says. Both read the files themselves: no running proxy is asked.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::said::{Failure, Said};
use crate::{
    audit::{
        NameKind,
        chain::{lines_file, names_file, numbers},
        dir_in,
        line::{ChainKey, ReadLine},
        names,
        verify::{Verdict, verify},
    },
    config::{
        Secret,
        read::{self, Overrides},
    },
};

/// What `audit` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct AuditArgs {
    #[command(subcommand)]
    act: AuditAct,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum AuditAct {
    /// Find any change, cut, insertion or other order of lines. Exits 1 if there is one.
    Verify(Place),
    /// Show the last lines.
    Show {
        #[command(flatten)]
        place: Place,
        /// How many.
        #[arg(long, default_value_t = 50)]
        last: usize,
        /// Only events that begin so, such as `auth.`.
        #[arg(long, default_value = "")]
        event: String,
        /// Only lines that mean this caller.
        #[arg(long)]
        caller: Option<String>,
    },
}

#[derive(Debug, Clone, clap::Args)]
struct Place {
    /// The configuration that names `store.state_dir` and the keys.
    #[arg(long, short, default_value = "proxy.yaml", env = "OUTRIGGER_CONFIG")]
    config: PathBuf,
    /// The directory of the log itself, such as a copy of it; no configuration is read then.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// A file with a key; may be repeated. With `--dir` there are no others.
    #[arg(long = "key-file")]
    key_files: Vec<PathBuf>,
}

impl Place {
    /// The directory and the keys.
    fn find(&self) -> Result<(PathBuf, Vec<ChainKey>), Failure> {
        let mut secrets = Vec::new();
        for file in &self.key_files {
            let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
            secrets.push(Secret::new(text.trim_end()));
        }
        let dir = match &self.dir {
            Some(dir) => dir.clone(),
            None => {
                let reading = read::load_reading(&self.config, &Overrides::default(), &|name| std::env::var(name).ok())?;
                let (audit, state_dir) = (reading.config.audit, reading.config.store.state_dir);
                let file = self.config.display();
                let (Some(audit), Some(state_dir)) = (audit, state_dir) else {
                    return Err(Failure::Words(format!("{file} keeps no audit log: write `audit: {{}}` and `store: {{state_dir: ...}}`")));
                };
                secrets.extend(audit.key.into_iter().chain(audit.previous_keys));
                dir_in(&state_dir)
            }
        };
        if !dir.is_dir() {
            return Err(Failure::Words(format!("{} is no directory: the proxy has written no audit log there", dir.display())));
        }
        Ok((dir, secrets.iter().map(ChainKey::new).collect()))
    }
}

/// `outrigger audit`.
///
/// # Errors
/// The log is not whole, or cannot be read.
pub fn said(args: &AuditArgs) -> Result<Said, Failure> {
    match &args.act {
        AuditAct::Verify(place) => {
            let (dir, keys) = place.find()?;
            let verdict = verify(&dir, &keys).map_err(|error| format!("{}: {error}", dir.display()))?;
            told(&dir, &verdict)
        }
        AuditAct::Show { place, last, event, caller } => show(place, *last, event, caller.as_deref()),
    }
}

fn told(dir: &Path, verdict: &Verdict) -> Result<Said, Failure> {
    let mut json = verdict.to_json();
    json["dir"] = dir.display().to_string().into();
    let notes: String = verdict.notes.iter().map(|note| format!("note: {note}\n")).collect();
    if verdict.is_whole() {
        let keyed = if verdict.keyed > 0 { format!(", {} under the key", verdict.keyed) } else { ", without a key".to_owned() };
        let (first, last) = verdict.range.unwrap_or_default();
        let text = format!(
            "whole: lines {first} to {last} in {} files{keyed}\nlast hash: {}\n{notes}",
            verdict.files,
            crate::audit::line::hex(&verdict.last_hash)
        );
        return Ok(Said::new(json, text));
    }
    let mut text = format!("the audit log in {} is NOT whole", dir.display());
    for fault in &verdict.faults {
        let line = if fault.line > 0 { format!(":{}", fault.line) } else { String::new() };
        text += &format!("\n{}{line}: {}", fault.file, fault.what);
    }
    if verdict.further > 0 {
        text += &format!("\nand {} further faults", verdict.further);
    }
    json["error"] = text.into();
    Err(Failure::Refused(json))
}

fn show(place: &Place, last: usize, event: &str, caller: Option<&str>) -> Result<Said, Failure> {
    let (dir, _) = place.find()?;
    let failed = |error| format!("{}: {error}", dir.display());
    let mut found: Vec<Value> = Vec::new();
    for number in numbers(&dir).map_err(failed)?.into_iter().rev() {
        let known = names_of(&names_file(&dir, number));
        let text = fs::read(lines_file(&dir, number)).map_err(failed)?;
        for line in text.split(|byte| *byte == b'\n').rev().filter(|line| !line.is_empty()) {
            let shown = match ReadLine::read(line) {
                Some(line) if !line.event().starts_with(event) => continue,
                Some(line) => shown(line, &known),
                None => json!({"event": "(not a line of the log)", "text": String::from_utf8_lossy(line)}),
            };
            if caller.is_none_or(|caller| shown["caller"] == *caller) {
                found.push(shown);
            }
            if found.len() >= last {
                break;
            }
        }
        if found.len() >= last {
            break;
        }
    }
    found.reverse();
    let text: String = found.iter().map(|line| line_text(line) + "\n").collect();
    Ok(Said::new(json!({"dir": dir.display().to_string(), "lines": found}), text))
}

/// The names behind the marks of a file. A name that does not fit its mark is none.
fn names_of(path: &Path) -> HashMap<String, String> {
    let text = fs::read(path).unwrap_or_default();
    let entries = text.split(|byte| *byte == b'\n').filter_map(names::entry).filter(|entry| entry.fits);
    entries.map(|entry| (entry.mark, entry.name)).collect()
}

/// A line with names in the place of marks.
fn shown(line: ReadLine<'_>, known: &HashMap<String, String>) -> Value {
    let mut members = line.members;
    for kind in [NameKind::Caller, NameKind::Address] {
        if let Some(mark) = members.get_mut(kind.as_str()) {
            let name = mark.as_str().and_then(|mark| known.get(mark)).map_or("(erased)", |name| name);
            *mark = name.into();
        }
    }
    Value::Object(members)
}

fn line_text(line: &Value) -> String {
    let word = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let mut text = format!("{} {} {}", line["seq"], word("time"), word("event"));
    for (name, value) in line.as_object().into_iter().flatten() {
        if !matches!(&**name, "seq" | "time" | "event" | "prev" | "hash" | "key" | "process") {
            text += &format!(" {name}={value}");
        }
    }
    text
}
