//! Every file of `tests/configs/good` and the shipped `proxy.yaml` load; every file of `tests/configs/bad` gives exactly
//! the mistakes that its leading comments expect, in their order: `# expect: LINE:COLUMN: MESSAGE`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use outrigger::{
    cli::check::check,
    config::read::{self, Overrides},
};

/// Nothing of the machine the test runs on.
fn overrides() -> Overrides {
    Overrides { memory_limit: Some(512 << 20), ..Overrides::default() }
}

fn no_env(_: &str) -> Option<String> {
    None
}

fn files(dir: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs").join(dir);
    let mut files: Vec<PathBuf> = fs::read_dir(&dir).expect("the directory").map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    assert!(!files.is_empty(), "{}", dir.display());
    files
}

#[test]
fn the_good_ones_load_without_a_remark() {
    for file in files("good") {
        let reading = read::load_reading(&file, &overrides(), &no_env).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        // The plain REST API has a gcra limit and no Redis: nothing to remark there either.
        // A limit on the app's own users says what it needs of the app, wherever it stands.
        let told = reading.notes.iter().filter(|note| note.message.contains("if the app says which: start it under OpenTelemetry")).count();
        let spends =
            reading.config.inbound.iter().flat_map(|door| door.limits.iter().chain(door.routes.iter().flat_map(|r| &r.policies.limits)));
        let needs = usize::from(spends.into_iter().any(|limit| limit.unit != outrigger::config::Unit::Requests));
        assert!(told == needs && reading.notes.len() == needs, "{}: {:?}", file.display(), reading.notes);
    }
}

#[test]
fn the_shipped_file_is_a_pass_through_at_both_doors() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("proxy.yaml");
    let config = read::load(&file, &overrides(), &no_env).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let inbound = config.inbound.expect("open");
    assert_eq!(inbound.app.to_string(), "http://127.0.0.1:3000");
    let outbound = config.outbound.expect("open");
    let names: Vec<&str> = outbound.providers.iter().map(|provider| &*provider.name).collect();
    assert_eq!(names, ["openai", "anthropic"]);
    assert!(outbound.providers.iter().all(|provider| provider.keys.is_empty()), "without variables the app's own keys pass through");
    assert!(inbound.routes.is_empty() && outbound.routes.is_empty() && inbound.limits.is_empty() && outbound.limits.is_empty());

    let env = |name: &str| (name == "OPENAI_API_KEY").then(|| "sk-test".to_owned());
    let keyed = read::load(&file, &overrides(), &env).expect("good").outbound.expect("open");
    assert_eq!(keyed.providers[0].keys.len(), 1);
}

#[test]
fn the_shipped_file_is_good_with_everything_switched_on() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("proxy.yaml");
    let text = fs::read_to_string(&file).expect("shipped");
    // Commented YAML begins in the column of its block: `  # limits:`. Prose does not look like a key or an item.
    let key_or_item = |rest: &str| {
        let rest = rest.trim_start();
        let word = rest.split_once(':').map_or("", |(word, _)| word);
        rest.starts_with("- {")
            || rest.starts_with("- match")
            || (!word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_') && !rest.starts_with("outrigger"))
    };
    let on: Vec<String> = text
        .lines()
        .map(|line| {
            let indent = line.len() - line.trim_start().len();
            match line.trim_start().strip_prefix("# ") {
                Some(rest) if key_or_item(rest) => format!("{}{rest}", &line[..indent]),
                _ => line.to_owned(),
            }
        })
        .collect();
    // The certificates that it names are not here; these are as good.
    let certificates = tempfile::tempdir().expect("a directory");
    let made = rcgen::generate_simple_self_signed(["app.test".to_owned()]).expect("made");
    for (name, pem) in [("tls.crt", made.cert.pem()), ("clients.crt", made.cert.pem()), ("tls.key", made.signing_key.serialize_pem())] {
        fs::write(certificates.path().join(name), pem).expect("written");
    }
    fs::write(certificates.path().join("prices.yaml"), "- {model: house, input: 1, output: 2}\n").expect("written");
    let on = on.join("\n").replace("/etc/outrigger/", &format!("{}/", certificates.path().display()));
    let config = read::parse(&on, "proxy.yaml", &overrides(), &no_env).unwrap_or_else(|mistakes| panic!("{mistakes}\n{on}"));
    let (inbound, outbound) = (config.inbound.expect("open"), config.outbound.expect("open"));
    assert_eq!((inbound.routes.len(), inbound.limits.len(), inbound.caller.len()), (5, 2, 2));
    assert_eq!((outbound.routes.len(), outbound.limits.len(), outbound.providers.len(), outbound.prices.len()), (3, 2, 3, 3));
    assert!(inbound.tls.is_some() && outbound.fallthrough.breaker.is_some() && config.store.redis.is_some());
}

#[test]
fn the_bad_ones_give_exactly_the_mistakes_they_expect() {
    let mut wrong = String::new();
    for file in files("bad") {
        let text = fs::read_to_string(&file).expect("readable");
        let expected: Vec<&str> =
            text.lines().map_while(|line| line.strip_prefix('#')).filter_map(|line| line.trim().strip_prefix("expect: ")).collect();
        let said: Vec<String> = match read::load(&file, &overrides(), &no_env) {
            Ok(_) => Vec::new(),
            Err(mistakes) => mistakes.iter().map(|mistake| format!("{}:{}: {}", mistake.line, mistake.column, mistake.message)).collect(),
        };
        if said != expected || expected.is_empty() {
            wrong.push_str(&format!("{}\n", file.display()));
            said.iter().for_each(|line| wrong.push_str(&format!("# expect: {line}\n")));
        }
    }
    assert!(wrong.is_empty(), "these files give other mistakes than they expect:\n{wrong}");
}

#[test]
fn ten_different_mistakes_are_ten_messages_in_one_run() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs/bad/ten-mistakes.yaml");
    let mistakes = check(&file, &overrides(), &no_env).expect_err("ten mistakes");
    assert_eq!(mistakes.len(), 10);
    let said = mistakes.to_string();
    assert!(said.ends_with("10 mistakes"), "{said}");
    assert_eq!(said.lines().filter(|line| line.trim_start().starts_with("| ") && line.ends_with('^')).count(), 10, "{said}");
}

#[test]
fn check_reports_every_good_file() {
    for file in files("good") {
        let report = check(&file, &overrides(), &no_env).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        assert!(report.contains(": good\n"), "{report}");
        assert!(!report.contains("not-a-real-key"), "{report}");
    }
}

/// The file with one slip in it: each kind, at each place.
fn slips(text: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let with = |at: usize, new: &[String]| {
        let rest = lines[at + 1..].iter().map(|line| (*line).to_owned());
        lines[..at].iter().map(|line| (*line).to_owned()).chain(new.iter().cloned()).chain(rest).collect::<Vec<_>>().join("\n")
    };
    let mut slips = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        for (what, new) in [
            ("is there twice", vec![(*line).to_owned(), (*line).to_owned()]),
            ("is indented too far", vec![format!("  {line}")]),
            ("is not indented enough", vec![line.strip_prefix("  ").unwrap_or(line).to_owned()]),
            ("is not there", Vec::new()),
        ] {
            slips.push((format!("line {} {what}", at + 1), with(at, &new)));
        }
        // Every `key:` of the line with two letters swapped, and with another name.
        for (colon, _) in line.match_indices(": ").chain(line.ends_with(':').then(|| (line.len() - 1, ""))) {
            let start = line[..colon].rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).map_or(0, |found| found + 1);
            let key = &line[start..colon];
            if key.len() > 3 && key.as_bytes()[1] != key.as_bytes()[2] {
                let swapped = format!("{}{}{}{}", &key[..1], &key[2..3], &key[1..2], &key[3..]);
                slips.push((format!("line {}: {swapped}", at + 1), with(at, &[format!("{}{swapped}{}", &line[..start], &line[colon..])])));
            }
            let value = line[colon + 1..].trim_start().split([',', '}', '{', '[', ']']).next().unwrap_or_default();
            if !key.is_empty() && !value.is_empty() && !value.contains('"') {
                let place = colon + 1 + line[colon + 1..].find(value).unwrap_or_default();
                let worse = format!("{}zz zz{}", &line[..place], &line[place + value.len()..]);
                slips.push((format!("line {}: {key} is zz zz", at + 1), with(at, &[worse])));
            }
        }
    }
    slips
}

#[test]
fn one_slip_is_one_message() {
    let mut many = Vec::new();
    let mut tried = 0;
    for file in files("good") {
        let name = file.display().to_string();
        for (what, text) in slips(&fs::read_to_string(&file).expect("readable")) {
            tried += 1;
            if let Err(mistakes) = read::parse(&text, &name, &overrides(), &no_env)
                && mistakes.len() > 1
            {
                many.push(format!("{}: {what}\n{mistakes}", file.file_name().expect("a name").display()));
            }
        }
    }
    assert!(tried > 1_000, "{tried}");
    assert!(many.is_empty(), "{} of {tried} slips give more than one message:\n{}", many.len(), many.join("\n\n"));
}

#[test]
fn what_is_harmless_is_shown_and_what_may_be_a_secret_is_not() {
    for (text, shown, hidden) in [
        ("inbound: {app: 3000, tmeout: 30s}\n", "tmeout: 30s", ""),
        ("inbound: {app: 3000}\nadmin: {tokn: abcdef}\n", "tokn: abcdef", ""),
        ("inbound: {app: 3000}\nadmin: {tok: {token: hunter2}}\n", "token", "hunter2"),
        ("outbound: {providers: {openai: {keyz: [sk-hunter2-hunter2]}}}\n", "keyz", "hunter2"),
        ("outbound: {providers: {openai: {api_key: hunter2}}}\n", "api_key", "hunter2"),
        ("outbound: {providers: openai}\n", "providers: openai", ""),
        ("outbound: {providers: {openai: {keys: $OPENAI_API_KEY}}}\n", "$OPENAI_API_KEY", ""),
        ("outbound: {providers: {openai: {keys: '$hunter2'}}}\n", "keys", "hunter2"),
        ("outbound: {providers: {openai: {keys: ['${OPENAI_API_KEY}']}}}\n", "'${OPENAI_API_KEY}'", ""),
        ("outbound: {providers: {openai: {}}}\nstore: {redis: 'redis://redis:6379', nmespace: shop}\n", "redis://redis:6379", ""),
        ("outbound: {providers: {openai: {}}}\nstore: {redis: 'redis://:hunter2@redis:6379', nmespace: shop}\n", "nmespace", "hunter2"),
        ("inbound: {app: 3000, limits: [{key: client_ip, requests: 10, window: 1m]}\n", "{key: client_ip, requests: 10, window: 1m]", ""),
        ("outbound: {providers: {openai: {keys: [hunter2-hunter2}}}\n", "keys", "hunter2"),
    ] {
        let said = read::parse(text, "proxy.yaml", &overrides(), &no_env).expect_err(text).to_string();
        assert!(said.contains(shown), "{text}{said}");
        assert!(hidden.is_empty() || !said.contains(hidden), "{text}{said}");
    }
}

#[test]
fn a_secret_with_a_line_end_is_trimmed_and_it_is_said() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("proxy.yaml");
    fs::write(dir.path().join("one"), "sk-file\n").expect("written");
    fs::write(dir.path().join("more"), " sk-more \r\n\n").expect("written");
    fs::write(&file, "outbound: {providers: {openai: {keys: [\"${KEY}\", {file: one}, {file: more}]}}}\n").expect("written");
    let env = |name: &str| (name == "KEY").then(|| "sk-env\n".to_owned());
    let reading = read::load_reading(&file, &overrides(), &env).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let keys: Vec<&str> = reading.config.outbound.as_ref().expect("open").providers[0].keys.iter().map(|key| key.secret.reveal()).collect();
    assert_eq!(keys, ["sk-env", "sk-file", "sk-more"]);
    let columns: Vec<usize> = reading.notes.iter().map(|note| note.column).collect();
    assert_eq!(columns, [40, 63], "the last line end of a file is an editor's, and no remark: {:?}", reading.notes);
    let inside = |_: &str| Some("sk\nenv".to_owned());
    assert!(read::load(&file, &overrides(), &inside).is_err(), "a line end inside is a copying slip");
}

#[test]
fn the_configuration_that_is_shown_tells_what_is_harmless_and_no_credential() {
    let text = "inbound:
  app: 3000
  defaults: {cache: {}}
  warm: {paths: [/], headers: {host: shop.example, accept-language: en, authorization: Bearer hunter2}}
  routes:
    - match: {headers: {x-beta: '1', x-api-key: hunter2, x-tenant: 0123456789abcdef-hunter2}}
";
    let config = read::parse(text, "proxy.yaml", &overrides(), &no_env).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let shown = format!("{config:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    for part in ["\"shop.example\"", "\"accept-language\": \"en\"", "\"x-beta\", Some(\"1\")"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
}
