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
        assert!(reading.notes.is_empty(), "{}: {:?}", file.display(), reading.notes);
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
    let on = on.join("\n").replace("/etc/outrigger/", &format!("{}/", certificates.path().display()));
    let config = read::parse(&on, "proxy.yaml", &overrides(), &no_env).unwrap_or_else(|mistakes| panic!("{mistakes}\n{on}"));
    let (inbound, outbound) = (config.inbound.expect("open"), config.outbound.expect("open"));
    assert_eq!((inbound.routes.len(), inbound.limits.len(), inbound.caller.len()), (5, 1, 2));
    assert_eq!((outbound.routes.len(), outbound.limits.len(), outbound.providers.len()), (3, 1, 3));
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
