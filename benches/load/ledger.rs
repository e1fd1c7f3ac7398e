//! The ledger after years of calls: how long questions take, how large the file is, how much memory it takes, and whether every sum is
//! that of an exact book. `cargo run --release --example ledger-load -- DIRECTORY [CALLS] [DAYS]`
//!
//! Callers 1,000, routes 20, models 30, all equally likely: the hardest case, because nearly every call has a row of its own.

#![expect(clippy::expect_used, reason = "a bench that cannot be set up must not run")]

use std::{
    collections::HashMap,
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use outrigger::{
    clock::{Clock, Instant},
    store::ledger::{Entry, Known, Ledger, Measure, Outcome, Question, Terms},
    usage::Usage,
};

const DAY: u32 = 1_440;
const BEGIN: u32 = 29_000_000 / DAY * DAY;
const CALLERS: usize = 1_000;
const ROUTES: usize = 20;
const MODELS: usize = 30;

fn names(what: &str, count: usize) -> Vec<Arc<str>> {
    (0..count).map(|n| format!("{what}-{n:04}").into()).collect()
}

/// Resident mebibytes, now and at most.
fn memory() -> (f64, f64) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
        line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
    };
    (field("VmRSS:"), field("VmHWM:"))
}

fn ledger(dir: &Path, days: u32) -> Ledger {
    let day = |days: u64| Duration::from_secs(days * 86_400);
    let terms = Terms {
        dir: Some(dir.to_owned()),
        interval: Duration::from_secs(1),
        keep: [day(2), day(60), day(730)],
        callers: 10_000,
        size: 1 << 30,
        grace: Duration::ZERO,
    };
    Ledger::new(terms, Clock::fixed(UNIX_EPOCH + Duration::from_secs(u64::from(BEGIN + days * DAY) * 60)))
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let dir = words.first().expect("a directory");
    let calls: u64 = words.get(1).map_or(10_000_000, |calls| calls.parse().expect("a number"));
    let days: u32 = words.get(2).map_or(400, |days| days.parse().expect("a number"));
    let book = fill(&ledger(Path::new(dir), days), calls, days);
    // Asked by a process that has just begun.
    let before = memory();
    let ledger = ledger(Path::new(dir), days);
    let began = Instant::now();
    ledger.commit();
    let size: u64 = fs::read_dir(dir).expect("a directory").filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum();
    println!("open {:.1} ms, file {:.1} MiB, memory before {:.1} MiB", millis(began), size as f64 / 1_048_576.0, before.0);
    for query in [
        "by=",
        "by=caller",
        "by=model",
        "by=inbound,outbound,model",
        "by=model&bucket=day",
        "by=provider&bucket=month&tz=Europe/Berlin",
        "by=model&caller=caller-0007",
        "by=inbound,model&caller=caller-0007",
        "by=caller&model=model-0003",
        "by=caller,model",
        "by=caller,inbound",
    ] {
        ask(&ledger, query, days, &book);
    }
    let after = memory();
    println!("memory {:.1} MiB, at most {:.1} MiB (the load included)", after.0, after.1);
}

fn millis(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e3
}

/// Fills the ledger; gives the nano-dollars by caller and model.
fn fill(ledger: &Ledger, calls: u64, days: u32) -> HashMap<(usize, usize), u64> {
    let mut chance = fastrand::Rng::with_seed(1);
    let (callers, routes, models) = (names("caller", CALLERS), names("route", ROUTES), names("model", MODELS));
    let (outbound, provider): (Arc<str>, Arc<str>) = ("chat".into(), "openai".into());
    let mut book = HashMap::new();
    let journal = ledger.worker();
    let began = Instant::now();
    for day in 0..days {
        for _ in 0..calls / u64::from(days) {
            let (caller, route, model) = (chance.usize(0..CALLERS), chance.usize(0..ROUTES), chance.usize(0..MODELS));
            let usage = Usage {
                input: chance.u64(100..4_000),
                cache_read: chance.u64(0..2) * 1_000,
                output: chance.u64(1..1_000),
                ..Usage::default()
            };
            let nano_usd = usage.input * 2_500 + usage.cache_read * 1_250 + usage.output * 10_000;
            *book.entry((caller, model)).or_default() += nano_usd;
            journal.push(Entry {
                minute: BEGIN + day * DAY + chance.u32(0..DAY),
                caller: callers[caller].clone(),
                inbound: Some(routes[route].clone()),
                outbound: outbound.clone(),
                provider: provider.clone(),
                model: models[model].clone(),
                tier: "",
                outcome: Outcome::Complete,
                known: if chance.u8(0..20) == 0 { Known::Estimated } else { Known::Reported },
                calls: 1,
                usage,
                nano_usd: Some(nano_usd),
                saved: (0, 0),
            });
        }
        ledger.commit();
        ledger.tidy();
    }
    println!("filled with {calls} calls over {days} days in {:.1} s", began.elapsed().as_secs_f64());
    book
}

/// Asks a question five times, and prints the shortest and the longest time.
fn ask(ledger: &Ledger, query: &str, days: u32, book: &HashMap<(usize, usize), u64>) {
    let limit = "&limit=20000";
    let words = format!("from={}&to={}&{query}{limit}", time(BEGIN), time(BEGIN + days * DAY));
    let pairs = words.split('&').filter_map(|pair| pair.split_once('=')).map(|(key, value)| (key.into(), value.into()));
    let question = Question::read(pairs, u64::from(BEGIN + days * DAY) * 60_000).expect("a question");
    let mut times = Vec::new();
    let mut rows = 0;
    for _ in 0..5 {
        let began = Instant::now();
        let answer = ledger.ask(&question).expect("an answer");
        times.push(millis(began));
        rows = answer.rows.len();
        let expected: u64 = match query {
            query if query.contains("caller=caller-0007") => book.iter().filter(|(key, _)| key.0 == 7).map(|(_, nano)| nano).sum(),
            query if query.contains("model=model-0003") => book.iter().filter(|(key, _)| key.1 == 3).map(|(_, nano)| nano).sum(),
            _ => book.values().sum(),
        };
        assert_eq!(answer.total.get(Measure::NanoUsd), expected, "{query}");
    }
    times.sort_by(f64::total_cmp);
    println!("{query:<45} {rows:>6} rows {:>8.1} to {:>8.1} ms, memory {:.1} MiB", times[0], times[4], memory().0);
}

fn time(minute: u32) -> String {
    jiff::Timestamp::from_second(i64::from(minute) * 60).expect("a time").to_string()
}
