//! proxy.yaml: no text makes the reader panic; every mistake lies within the text; what is good once is good again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outrigger::config::read::{Overrides, parse};

fn env(name: &str) -> Option<String> {
    match name {
        "SECRET" => Some("hunter2-hunter2".into()),
        "PORT" => Some("3100".into()),
        _ => None,
    }
}

fuzz_target!(|text: &str| {
    // The reader would open files of this machine.
    if text.contains("file") || text.len() > 4096 {
        return;
    }
    let overrides = Overrides { app: None, memory_limit: Some(512 << 20) };
    match parse(text, "proxy.yaml", &overrides, &env) {
        Ok(config) => {
            let again = parse(text, "proxy.yaml", &overrides, &env).expect("good again");
            assert_eq!(format!("{config:?}"), format!("{again:?}"));
        }
        Err(mistakes) => {
            assert!(!mistakes.is_empty());
            // As YAML counts them.
            let plain = text.replace("\r\n", "\n").replace('\r', "\n");
            let lines: Vec<&str> = plain.split('\n').collect();
            for mistake in mistakes.iter() {
                assert!(!mistake.message.is_empty());
                assert!((1..=lines.len() + 1).contains(&mistake.line), "line {} of {}", mistake.line, lines.len());
                let longest = lines.get(mistake.line - 1).map_or(0, |line| line.chars().count());
                assert!((1..=longest + 1).contains(&mistake.column), "column {} of {longest}: {}", mistake.column, mistake.message);
            }
            let said = mistakes.to_string();
            assert!(!said.contains("hunter2"), "what the environment says is not shown");
        }
    }
});
