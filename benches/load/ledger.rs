//! The ledger after years of calls: how long questions take, how large the file is, how much memory it takes, and whether every sum is
//! that of an exact book. `cargo run --release --example ledger-load -- DIRECTORY [CALLS] [DAYS] [ask]`
//!
//! `ask` asks a ledger that an earlier run has filled. The process ends with an error if a question takes more memory than [`MEMORY`],
//! or if the file is larger than [`FILE`]; times are printed.
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
/// Most bytes that a question may take, its answer as text included.
const MEMORY: f64 = 16.0 * 1_048_576.0;
/// Most bytes of the file.
const FILE: u64 = 1 << 30;
/// Rows of a page: the most that can be asked for.
const PAGE: usize = 2_000;

fn names(what: &str, count: usize) -> Vec<Arc<str>> {
    (0..count).map(|n| format!("{what}-{n:04}").into()).collect()
}

/// Resident bytes, now and at most since the last [`forget`].
fn memory() -> (f64, f64) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
        line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) * 1024.0
    };
    (field("VmRSS:"), field("VmHWM:"))
}

/// Milliseconds of processor that this process has taken: on a busy machine the time of a question says little.
fn processor() -> f64 {
    let stat = fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    stat.split_whitespace().next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or(0.0) / 1e6
}

/// Lets the kernel count the most resident bytes anew.
fn forget() {
    fs::write("/proc/self/clear_refs", "5").expect("Linux");
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
        patience: Duration::from_secs(5),
    };
    Ledger::new(terms, Clock::fixed(UNIX_EPOCH + Duration::from_secs(u64::from(BEGIN + days * DAY) * 60)))
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let dir = words.first().expect("a directory");
    let calls: u64 = words.get(1).map_or(10_000_000, |calls| calls.parse().expect("a number"));
    let days: u32 = words.get(2).map_or(400, |days| days.parse().expect("a number"));
    let asks_only = words.get(3).is_some_and(|word| word == "ask");
    let book = fill((!asks_only).then(|| Path::new(dir)), calls, days);
    if !asks_only {
        // Asked by a process that has just begun: its memory has no room left from the filling.
        let this = std::env::current_exe().expect("a path");
        let asked = std::process::Command::new(this).args([dir, &calls.to_string(), &days.to_string(), "ask"]).status();
        assert!(asked.expect("a process").success());
        return;
    }
    let ledger = ledger(Path::new(dir), days);
    let began = Instant::now();
    ledger.commit();
    let opened = millis(began);
    let began = Instant::now();
    ledger.tidy();
    let size: u64 = fs::read_dir(dir).expect("a directory").filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum();
    println!("open {opened:.1} ms, tidy {:.1} ms, file {:.1} MiB", millis(began), size as f64 / 1_048_576.0);
    let all = |query: &'static str| (0, days * DAY, query);
    let halves: String = (0..MODELS / 2).map(|n| format!("&model=model-{n:04}")).collect();
    let questions = [
        all("by="),
        all("by=caller"),
        all("by=model"),
        all("by=inbound,outbound,model"),
        all("by=model&bucket=day"),
        all("by=provider&bucket=month&tz=Europe/Berlin"),
        all("by=caller&bucket=week"),
        all("by=caller&bucket=month&tz=Europe/Berlin"),
        all("by=caller,known,outcome"),
        all("by=model&caller=caller-0007"),
        all("by=inbound,model&caller=caller-0007"),
        all("by=model&bucket=day&caller=caller-0007"),
        all("by=caller&model=model-0003"),
        all("by=caller&inbound=route-0003"),
        all("by=caller&bucket=week&model=model-0003"),
        all("by=caller&bucket=week&inbound=route-0003"),
        all("by=caller,inbound&model=model-0003"),
        all("by=caller&inbound=route-0003&model=model-0003"),
        all("by=caller,model"),
        all("by=caller,inbound"),
        // Edges that fit no month, week, day or hour.
        (17 * DAY + 500, days * DAY - 19 * DAY - 77, "by=caller,model"),
        (17 * DAY + 500, days * DAY - 19 * DAY - 77, "by=inbound,model"),
        (days.saturating_sub(60) * DAY, days * DAY, "by=model&bucket=hour"),
    ];
    let hardest = format!("by=caller,inbound{halves}");
    let questions = questions.into_iter().chain([(0, days * DAY, &*hardest)]).map(|(from, to, query)| (from, to, query, book.nano(query)));
    let questions: Vec<_> = questions.collect();
    drop(book);
    let mut slowest: f64 = 0.0;
    for (from, to, query, expected) in questions {
        if query == hardest {
            println!("the slowest of these questions took {slowest:.1} ms; and one that no roll-up and no zone helps:");
        }
        slowest = slowest.max(ask(&ledger, (from, to), query, expected));
    }
    assert!(size <= FILE, "the file is too large");
}

fn millis(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e3
}

/// The nano-dollars of an exact book, by caller, route and model.
struct Book(HashMap<(usize, usize, usize), u64>);

impl Book {
    /// The nano-dollars that a question about all time counts.
    fn nano(&self, query: &str) -> u64 {
        let wants = |what: &str, name: String| !query.contains(&format!("&{what}=")) || query.contains(&format!("&{what}={name}"));
        let counts = |(caller, route, model): &(usize, usize, usize)| {
            wants("caller", format!("caller-{caller:04}"))
                && wants("inbound", format!("route-{route:04}"))
                && wants("model", format!("model-{model:04}"))
        };
        self.0.iter().filter(|(key, _)| counts(key)).map(|(_, nano)| nano).sum()
    }
}

/// Fills the ledger in a directory, if there is one, day by day as time passes, and gives the exact book.
fn fill(dir: Option<&Path>, calls: u64, days: u32) -> Book {
    let mut chance = fastrand::Rng::with_seed(1);
    let (callers, routes, models) = (names("caller", CALLERS), names("route", ROUTES), names("model", MODELS));
    let (outbound, provider): (Arc<str>, Arc<str>) = ("chat".into(), "openai".into());
    let mut book = HashMap::new();
    let began = Instant::now();
    for day in 0..days {
        let ledger = dir.map(|dir| ledger(dir, day + 1));
        let journal = ledger.as_ref().map(Ledger::worker);
        for _ in 0..calls / u64::from(days) {
            let (caller, route, model) = (chance.usize(0..CALLERS), chance.usize(0..ROUTES), chance.usize(0..MODELS));
            let usage = Usage {
                input: chance.u64(100..4_000),
                cache_read: chance.u64(0..2) * 1_000,
                output: chance.u64(1..1_000),
                ..Usage::default()
            };
            let nano_usd = usage.input * 2_500 + usage.cache_read * 1_250 + usage.output * 10_000;
            *book.entry((caller, route, model)).or_default() += nano_usd;
            let minute = BEGIN + day * DAY + chance.u32(0..DAY);
            let known = if chance.u8(0..20) == 0 { Known::Estimated } else { Known::Reported };
            let Some(journal) = &journal else { continue };
            journal.push(Entry {
                minute,
                caller: callers[caller].clone(),
                inbound: Some(routes[route].clone()),
                outbound: outbound.clone(),
                provider: provider.clone(),
                model: models[model].clone(),
                tier: "",
                outcome: Outcome::Complete,
                known,
                calls: 1,
                usage,
                nano_usd: Some(nano_usd),
                saved: (0, 0),
            });
        }
        if let Some(ledger) = &ledger {
            ledger.commit();
            ledger.tidy();
        }
    }
    if dir.is_some() {
        println!("filled with {calls} calls over {days} days in {:.1} s", began.elapsed().as_secs_f64());
    }
    Book(book)
}

/// Asks a question nine times; prints the shortest and the longest time and the most memory. Gives the shortest time.
fn ask(ledger: &Ledger, (from, to): (u32, u32), query: &str, expected: u64) -> f64 {
    let words = format!("from={}&to={}&{query}&limit={PAGE}", time(BEGIN + from), time(BEGIN + to));
    let pairs = words.split('&').filter_map(|pair| pair.split_once('=')).map(|(key, value)| (key.into(), value.into()));
    let question = Question::read(pairs, u64::from(BEGIN + to) * 60_000).expect("a question");
    let is_whole = (from, to) == (0, ledger.minute() - BEGIN);
    let (mut times, mut rows, mut most, mut worked) = (Vec::new(), 0, 0.0_f64, 0.0);
    for _ in 0..9 {
        forget();
        let before = memory().0;
        let (began, processor_before) = (Instant::now(), processor());
        let answer = ledger.ask(&question).expect("an answer");
        times.push(millis(began));
        worked += processor() - processor_before;
        rows = answer.rows.len();
        assert!(!is_whole || answer.total.get(Measure::NanoUsd) == expected, "{query}");
        drop(answer.to_json(&question).to_string());
        most = most.max(memory().1 - before);
    }
    times.sort_by(f64::total_cmp);
    let query = &query[..query.len().min(60)];
    println!(
        "{query:<60} {rows:>6} rows {:>7.1} to {:>7.1} ms, {:>5.1} ms of processor, {:>5.1} MiB",
        times[0],
        times[8],
        worked / 9.0,
        most / 1_048_576.0
    );
    assert!(most <= MEMORY, "{query}: too much memory");
    times[0]
}

fn time(minute: u32) -> String {
    jiff::Timestamp::from_second(i64::from(minute) * 60).expect("a time").to_string()
}
