//! What the ledger promises: sums that are right at every level and after every end, and nothing left of a name that was erased.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use super::{file::File, *};
use crate::usage::{Usage, UsageSource};

pub(super) const DAY: u32 = 1_440;
/// A Monday in 2026, in minutes since 1970.
pub(super) const BEGIN: u32 = 29_605_000 / DAY * DAY;

pub(super) fn terms(dir: Option<&Path>) -> Terms {
    let days = |days: u64| Duration::from_secs(days * 86_400);
    Terms {
        dir: dir.map(Path::to_owned),
        interval: Duration::from_secs(1),
        keep: [days(2), days(60), days(730)],
        callers: 1_000,
        size: 1 << 30,
        grace: Duration::from_secs(3_600),
        patience: Duration::from_millis(10),
    }
}

/// A ledger whose clock stands at a minute.
pub(super) fn at(dir: Option<&Path>, minute: u32) -> Ledger {
    Ledger::new(terms(dir), Clock::fixed(UNIX_EPOCH + Duration::from_secs(u64::from(minute) * 60)))
}

pub(super) fn entry(minute: u32, caller: &str, model: &str, nano_usd: u64) -> Entry {
    Entry {
        minute,
        caller: caller.into(),
        inbound: Some("/chat".into()),
        outbound: "chat".into(),
        provider: "openai".into(),
        model: model.into(),
        tier: "",
        outcome: Outcome::Complete,
        known: UsageSource::Provider.into(),
        calls: 1,
        usage: Usage { input: nano_usd / 2, output: 3, ..Usage::default() },
        nano_usd: Some(nano_usd),
        saved: (0, 0),
    }
}

pub(super) fn asked(query: &str) -> Question {
    asked_at(query, BEGIN)
}

fn asked_at(query: &str, now: u32) -> Question {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('=')).map(|(key, value)| (key.into(), value.into()));
    Question::read(pairs, u64::from(now) * 60_000).expect("a question")
}

/// A question about the minutes `from..to`.
pub(super) fn between(from: u32, to: u32, query: &str) -> Question {
    Question { edges: vec![from, to], ..asked(&format!("from=1h&{query}")) }
}

/// Dollars by name.
pub(super) fn spent(ledger: &Ledger, question: &Question) -> BTreeMap<String, u64> {
    let answer = ledger.ask(question).expect("an answer");
    let rows =
        answer.rows.iter().map(|row| (row.names.iter().map(|name| &**name).collect::<Vec<_>>().join(" "), row.sums.get(Measure::NanoUsd)));
    rows.collect()
}

fn one(caller: &str, nano_usd: u64) -> BTreeMap<String, u64> {
    BTreeMap::from([(caller.to_owned(), nano_usd)])
}

#[test]
fn every_level_and_view_gives_the_same_sums_as_an_exact_book() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut chance = fastrand::Rng::with_seed(7);
    let mut book: Vec<(u32, usize, usize, u64)> = Vec::new();
    let mut ledger = at(Some(dir.path()), BEGIN + 9 * DAY);
    for round in 0..12 {
        let journal = ledger.worker();
        for _ in 0..400 {
            let call = (BEGIN + chance.u32(0..9 * DAY), chance.usize(0..20), chance.usize(0..4), chance.u64(0..1 << 34));
            journal.push(entry(call.0, &format!("u-{}", call.1), &format!("m-{}", call.2), call.3));
            book.push(call);
        }
        match round % 3 {
            0 => ledger.commit(),
            1 => ledger.tidy(),
            // A process that ends and begins again.
            _ => {
                ledger.commit();
                drop(ledger);
                ledger = at(Some(dir.path()), BEGIN + 9 * DAY);
            }
        }
        for _ in 0..20 {
            let (a, b) = (BEGIN + chance.u32(0..9 * DAY), BEGIN + chance.u32(0..9 * DAY));
            let (from, to) = (a.min(b), a.max(b) + 1);
            let in_time = book.iter().filter(|call| (from..to).contains(&call.0));
            let mut expected: [BTreeMap<String, u64>; 4] = Default::default();
            for (_, caller, model, nano_usd) in in_time {
                let (caller, model) = (format!("u-{caller}"), format!("m-{model}"));
                for (at, name) in [caller.clone(), model.clone(), format!("{caller} {model}")].into_iter().enumerate() {
                    *expected[at].entry(name).or_default() += nano_usd;
                }
                if caller == "u-3" {
                    *expected[3].entry(model).or_default() += nano_usd;
                }
            }
            for (query, expected) in ["by=caller", "by=model", "by=caller,model", "by=model&caller=u-3"].iter().zip(&expected) {
                assert_eq!(&spent(&ledger, &between(from, to, query)), expected, "{query} {from}..{to}, round {round}");
            }
        }
    }
    let all: u64 = book.iter().map(|call| call.3).sum();
    let total = ledger.ask(&between(BEGIN, BEGIN + 9 * DAY, "by=known")).expect("an answer").total;
    assert_eq!((total.get(Measure::NanoUsd), total.get(Measure::Calls)), (all, book.len() as u64));
}

#[test]
fn an_answer_has_parts_pages_shares_and_says_what_it_lacks() {
    let ledger = at(None, BEGIN + 100);
    let journal = ledger.worker();
    for minute in 0..3 {
        journal.push(entry(BEGIN + 60 * minute, "a", "m", 1_000_000_000));
        journal.push(Entry { known: Known::Estimated, ..entry(BEGIN + 60 * minute, "b", "m", 1) });
    }
    journal.push(Entry { nano_usd: None, outcome: Outcome::Cached, saved: (5, 6), ..entry(BEGIN, "a", "m", 0) });
    let question = asked("from=1h&to=2026-04-16T03:00:00Z&bucket=hour&by=caller&limit=2");
    let page = ledger.ask(&question).expect("an answer");
    let json = page.to_json(&question);
    assert_eq!((json["total"]["cost_usd"].as_str(), json["total"]["calls"].as_u64()), (Some("3.000000003"), Some(7)));
    assert_eq!((json["total"]["saved_usd"].as_str(), json["rows"][0]["caller"].as_str()), (Some("0.000000005"), Some("a")));
    assert_eq!((json["known"]["estimated"]["calls"].as_u64(), json["known"]["reported"]["share_of_cost"].as_f64()), (Some(3), Some(1.0)));
    assert_eq!((json["complete"].as_bool(), page.rows.len(), page.more), (Some(false), 2, true), "{json:#}");
    let mut seen = page.rows.len();
    let mut cursor = json["cursor"].as_str().map(str::to_owned);
    while let Some(after) = cursor {
        // Minutes pass between two pages, and the words of the question stay: no row comes twice.
        let next = asked_at(&format!("from=1h&to=2026-04-16T03:00:00Z&bucket=hour&by=caller&limit=2&cursor={after}"), BEGIN + 7);
        assert_eq!(next.edges, question.edges);
        let page = ledger.ask(&next).expect("an answer");
        seen += page.rows.len();
        cursor = page.to_json(&next)["cursor"].as_str().map(str::to_owned);
    }
    assert_eq!(seen, 6);
}

#[test]
fn a_commit_whose_end_is_unknown_is_not_made_twice() {
    let dir = tempfile::tempdir().expect("a directory");
    let ledger = at(Some(dir.path()), BEGIN);
    let journal = ledger.worker();
    let day = between(BEGIN, BEGIN + DAY, "by=caller");
    journal.push(entry(BEGIN, "a", "m", 10));
    ledger.commit();
    // The transaction is in the file; the process was told that it failed.
    let mut books = ledger.0.books.lock();
    let key = Arc::make_mut(&mut ledger.0.open.lock().names).key(&entry(BEGIN, "a", "m", 10));
    let mut sums = Sums::default();
    sums.set(Measure::NanoUsd, 10);
    books.sealed = Some(Sealed { sequence: books.sequence, rows: vec![(BEGIN, key, sums)] });
    books.sequence -= 1;
    books.file = None;
    drop(books);
    journal.push(entry(BEGIN, "a", "m", 5));
    ledger.commit();
    assert_eq!(spent(&ledger, &day), one("a", 15));
    // And one that is not in the file is made.
    let mut books = ledger.0.books.lock();
    books.sealed = Some(Sealed { sequence: books.sequence + 1, rows: vec![(BEGIN, key, sums)] });
    books.file = None;
    drop(books);
    assert_eq!(spent(&ledger, &day), one("a", 25));
    ledger.commit();
    assert_eq!(spent(&ledger, &day), one("a", 25));
}

#[test]
fn while_the_directory_cannot_be_used_calls_wait_and_none_is_lost() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path().join("state");
    fs::write(&place, "a file where the directory should be").expect("written");
    let ledger = at(Some(&place), BEGIN);
    let journal = ledger.worker();
    let day = between(BEGIN, BEGIN + DAY, "by=caller");
    journal.push(entry(BEGIN, "a", "m", 1));
    ledger.commit();
    journal.push(entry(BEGIN + 1, "b", "m", 2));
    ledger.commit();
    let state = ledger.state();
    assert!(state.trouble.is_some() && state.waiting == 2 && state.failures == 2, "{state:?}");
    let answer = ledger.ask(&day).expect("an answer of what waits");
    assert!(answer.total.get(Measure::NanoUsd) == 3 && answer.gaps[0].contains("cannot be read"), "{answer:?}");
    fs::remove_file(&place).expect("removed");
    ledger.commit();
    let state = ledger.state();
    assert!(state.trouble.is_none() && state.waiting == 0, "{state:?}");
    drop(ledger);
    assert_eq!(spent(&at(Some(&place), BEGIN), &day), BTreeMap::from([("a".into(), 1), ("b".into(), 2)]));
}

#[test]
fn while_the_disk_hangs_the_state_is_told_in_time_and_a_question_is_refused() {
    let ledger = at(None, BEGIN);
    let journal = ledger.worker();
    journal.push(entry(BEGIN, "a", "m", 1));
    ledger.commit();
    assert_eq!((ledger.state().busy, ledger.state().commits), (None, 1));
    // A write that does not end holds the books.
    let held = ledger.0.hold();
    journal.push(entry(BEGIN, "a", "m", 2));
    let state = ledger.state();
    assert!(state.busy.is_some() && state.commits == 1 && state.waiting == 1, "{state:?}");
    assert!(!state.hangs() && State { busy: Some(Duration::from_secs(60)), ..state }.hangs());
    let said = ledger.ask(&between(BEGIN, BEGIN + DAY, "by=caller")).expect_err("held").to_string();
    assert!(said.contains("has been busy for") && ledger.erase("a").is_err(), "{said}");
    drop(held);
    ledger.commit();
    assert_eq!((ledger.state().busy, ledger.state().waiting), (None, 0));
    assert_eq!(spent(&ledger, &between(BEGIN, BEGIN + DAY, "by=caller")), one("a", 3));
}

#[test]
fn beyond_the_room_for_waiting_sums_the_dollars_stay_and_the_caller_goes() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path().join("state");
    fs::write(&place, "").expect("written");
    let ledger = Ledger::new(Terms { callers: 200_000, ..terms(Some(&place)) }, Clock::fixed(UNIX_EPOCH));
    for part in 0..3 {
        ledger.0.merge((0..WAITING).map(|n| entry(BEGIN + part * 60, &format!("u-{part}-{n}"), "m", 1)).collect());
    }
    let state = ledger.state();
    assert_eq!((state.waiting, state.folded), (WAITING + 2, 2 * WAITING as u64));
    let answer = ledger.ask(&between(BEGIN, BEGIN + DAY, "by=known")).expect("an answer");
    assert_eq!(answer.total.get(Measure::NanoUsd), 3 * WAITING as u64);
}

#[test]
fn an_erased_name_is_in_no_byte_of_any_file() {
    let name = "erase-me-0123456789@example.com";
    let dir = tempfile::tempdir().expect("a directory");
    let ledger = at(Some(dir.path()), BEGIN + 3 * DAY);
    let journal = ledger.worker();
    for n in 0..500 {
        journal.push(entry(BEGIN + n, name, "m", 2));
        journal.push(entry(BEGIN + n, &format!("stays-{n}"), "m", 1));
        if n % 50 == 0 {
            ledger.commit();
            ledger.tidy();
        }
    }
    ledger.commit();
    let found = |text: &str| {
        let files = fs::read_dir(dir.path()).expect("a directory").map(|file| fs::read(file.expect("a file").path()).expect("readable"));
        files.filter(|bytes| memchr::memmem::find(bytes, text.as_bytes()).is_some()).count()
    };
    assert_eq!((found(name), found("stays-7")), (1, 1));
    assert!(!ledger.erase("nobody").expect("no failure"));
    assert!(ledger.erase(name).expect("no failure"));
    assert_eq!((found(name), found("erase-me"), found("stays-7")), (0, 0, 1));
    let days = between(BEGIN, BEGIN + 3 * DAY, "by=caller");
    assert_eq!(spent(&ledger, &days).get("erased"), Some(&1_000));
    assert_eq!(spent(&ledger, &between(BEGIN, BEGIN + 3 * DAY, "by=caller&caller=erased")), one("erased", 1_000));
    // The same person may come back, as somebody new.
    journal.push(entry(BEGIN, name, "m", 7));
    ledger.commit();
    assert_eq!(spent(&ledger, &days).get(name), Some(&7));
    assert!(ledger.erase(name).expect("no failure"));
    drop(ledger);
    let ledger = at(Some(dir.path()), BEGIN + 3 * DAY);
    assert_eq!((spent(&ledger, &days).get("erased"), found(name)), (Some(&1_007), 0));
}

#[test]
fn an_erasure_that_a_crash_cut_is_finished_at_the_next_start() {
    let name = "half-erased-0123456789";
    let dir = tempfile::tempdir().expect("a directory");
    let ledger = at(Some(dir.path()), BEGIN);
    let journal = ledger.worker();
    journal.push(entry(BEGIN, name, "m", 2));
    (0..500).for_each(|n| journal.push(entry(BEGIN, &format!("one of many names, number {n}"), "m", 0)));
    ledger.commit();
    let path = dir.path().join("ledger-0.redb");
    {
        let books = ledger.0.books.lock();
        let file = books.file.clone().expect("open");
        let txn = file.db.begin_write().expect("a transaction");
        let id = ledger.0.open.lock().names.find(0, name).expect("known");
        let (key, value) = file::name_row(&names::Row { kind: 0, id, name: None });
        txn.open_table(file::NAMES).expect("a table").insert(key, &*value).expect("written");
        txn.open_table(file::META).expect("a table").insert(file::KEY_SCRUB, 1).expect("written");
        txn.commit().expect("committed");
    }
    drop((journal, ledger));
    let inode = || fs::metadata(&path).expect("a file").ino();
    let left = inode();
    let ledger = at(Some(dir.path()), BEGIN);
    ledger.commit();
    assert!(inode() != left, "the file is written anew: redb's free pages may keep what stood in them");
    assert!(memchr::memmem::find(&fs::read(&path).expect("readable"), name.as_bytes()).is_none());
    assert_eq!(spent(&ledger, &between(BEGIN, BEGIN + 1, "by=caller&caller=erased")), one("erased", 2));
    drop(ledger);
    let left = inode();
    at(Some(dir.path()), BEGIN).commit();
    assert_eq!(inode(), left, "once");
}

#[test]
fn a_snapshot_gives_the_same_sums_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let ledger = at(Some(&dir.path().join("state")), BEGIN + 3 * DAY);
    let journal = ledger.worker();
    let days = between(BEGIN, BEGIN + 4 * DAY, "by=caller");
    for n in 0..300 {
        journal.push(entry(BEGIN + 10 * n, &format!("u-{}", n % 7), "m", u64::from(n)));
    }
    ledger.commit();
    ledger.tidy();
    let before = spent(&ledger, &days);
    let copy = dir.path().join("copy.redb");
    ledger.snapshot(&copy).expect("a snapshot");
    assert!(ledger.snapshot(&copy).is_err(), "an earlier one is not overwritten");
    journal.push(entry(BEGIN, "later", "m", 9));
    ledger.commit();
    assert!(ledger.restore(Path::new("/nowhere")).is_err());
    let kept = ledger.restore(&copy).expect("restored");
    assert!(kept.exists());
    assert_eq!(spent(&ledger, &days), before);
    journal.push(entry(BEGIN, "u-1", "m", 1_000));
    ledger.commit();
    drop((journal, ledger));
    let ledger = at(Some(&dir.path().join("state")), BEGIN + 3 * DAY);
    assert_eq!(spent(&ledger, &days).get("u-1"), before.get("u-1").map(|sum| sum + 1_000).as_ref());
    assert!(at(None, BEGIN).restore(&copy).is_err(), "a ledger in memory has no place for it");
}

#[test]
fn two_processes_have_a_file_each_and_the_one_that_stays_takes_in_the_other() {
    let dir = tempfile::tempdir().expect("a directory");
    let (first, second) = (at(Some(dir.path()), BEGIN + 3 * DAY), at(Some(dir.path()), BEGIN + 3 * DAY));
    let days = between(BEGIN, BEGIN + 4 * DAY, "by=caller");
    for (ledger, other) in [(&first, "only-first"), (&second, "only-second")] {
        let journal = ledger.worker();
        for n in 0..200 {
            journal.push(entry(BEGIN + 20 * n, &format!("u-{}", n % 5), "m", 1));
        }
        journal.push(entry(BEGIN, other, other, 50));
        ledger.commit();
    }
    // One has summed up its days, the other has not.
    first.tidy();
    let gaps = second.ask(&days).expect("an answer").gaps;
    assert!(gaps.iter().any(|gap| gap.contains("other processes")), "{gaps:?}");
    let paths = [dir.path().join("ledger-0.redb"), dir.path().join("ledger-1.redb")];
    let copy = dir.path().join("kept");
    drop(first);
    fs::copy(&paths[0], &copy).expect("copied");
    second.0.absorb(&mut second.0.books.lock());
    let mut expected: BTreeMap<String, u64> = (0..5).map(|n| (format!("u-{n}"), 80)).collect();
    expected.extend([("only-first".to_owned(), 50), ("only-second".to_owned(), 50)]);
    assert_eq!((spent(&second, &days), paths[0].exists()), (expected.clone(), false));
    // The process ended before it could remove the file: the next one finds who has it.
    fs::rename(&copy, &paths[0]).expect("renamed");
    {
        let left = File::open(&paths[0]).expect("opened");
        left.set_meta(file::KEY_GIVEN, 1).expect("marked");
        // While that cannot be seen, nobody uses the file.
        drop(left);
        let beside = at(Some(dir.path()), BEGIN + 3 * DAY);
        beside.commit();
        assert!(beside.state().file.is_some_and(|file| file.ends_with("ledger-2.redb")));
        assert!(paths[0].exists());
    }
    drop(second);
    let third = at(Some(dir.path()), BEGIN + 3 * DAY);
    third.tidy();
    third.0.absorb(&mut third.0.books.lock());
    let journal = third.worker();
    journal.push(entry(BEGIN + 5, "u-0", "m", 1));
    third.commit();
    *expected.get_mut("u-0").expect("there") += 1;
    assert_eq!(spent(&third, &days), expected);
}

#[test]
fn what_is_too_old_is_dropped_by_class_and_the_coarser_sums_stay() {
    let clock = Clock::fixed(UNIX_EPOCH + Duration::from_secs(u64::from(BEGIN + 100 * DAY) * 60));
    let ledger = Ledger::new(Terms { grace: Duration::ZERO, ..terms(None) }, clock);
    let journal = ledger.worker();
    for day in [0, 41, 98, 99] {
        journal.push(entry(BEGIN + day * DAY + 90, "a", "m", 1));
    }
    ledger.commit();
    ledger.tidy();
    let all = between(BEGIN, BEGIN + 101 * DAY, "by=caller");
    assert_eq!(spent(&ledger, &all), one("a", 4), "days and hours have what minutes had");
    // An hour of the past has no minutes any more, a day of the far past no hours.
    for (from, to, counted) in [
        (BEGIN + 41 * DAY + 61, BEGIN + 41 * DAY + 95, 0),
        (BEGIN + 41 * DAY + 59, BEGIN + 41 * DAY + 61, 1),
        (BEGIN + 60, BEGIN + 180, 0),
        (BEGIN + 99 * DAY + 89, BEGIN + 99 * DAY + 91, 1),
    ] {
        let answer = ledger.ask(&between(from, to, "by=caller")).expect("an answer");
        assert_eq!(answer.total.get(Measure::NanoUsd), counted, "{from}..{to}: {:?}", answer.gaps);
    }
    let cut = ledger.ask(&between(BEGIN + 41 * DAY + 59, BEGIN + 41 * DAY + 61, "by=caller")).expect("an answer");
    assert!(cut.gaps.iter().any(|gap| gap.contains("counts where it begins")), "{:?}", cut.gaps);
}

#[test]
fn a_clock_that_steps_loses_and_doubles_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let all = between(BEGIN - DAY, BEGIN + 400 * DAY, "by=caller");
    let mut sum = 0;
    // A year ahead, and back; with summing up and dropping at every step.
    for minute in [BEGIN, BEGIN + 365 * DAY, BEGIN + 1, BEGIN - 100, BEGIN + 2 * DAY] {
        let ledger = at(Some(dir.path()), minute);
        ledger.worker().push(entry(minute, "a", "m", 7));
        ledger.commit();
        ledger.tidy();
        sum += 7;
        let ledger = Ledger::new(ledger.0.terms.clone(), ledger.0.clock);
        drop(ledger);
        let fresh = at(Some(dir.path()), BEGIN + 399 * DAY);
        drop(fresh);
    }
    assert_eq!(spent(&at(Some(dir.path()), BEGIN + 399 * DAY), &all), one("a", sum));
}

#[test]
fn a_ledger_that_is_too_large_drops_its_oldest_minutes_first() {
    let ledger =
        Ledger::new(Terms { size: 60_000, ..terms(None) }, Clock::fixed(UNIX_EPOCH + Duration::from_secs(u64::from(BEGIN + 2 * DAY) * 60)));
    let journal = ledger.worker();
    for n in 0..2 * DAY {
        journal.push(entry(BEGIN + n, "a", "m", 1));
    }
    ledger.commit();
    for _ in 0..40 {
        ledger.tidy();
    }
    let answer = ledger.ask(&between(BEGIN, BEGIN + 2 * DAY, "by=caller")).expect("an answer");
    let state = ledger.state();
    assert_eq!(answer.total.get(Measure::NanoUsd), u64::from(2 * DAY), "hours and days have them");
    assert!(state.dropped > 0 && state.size <= 60_000, "{state:?}");
}

#[test]
fn a_file_of_a_newer_version_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ledger-0.redb");
    let file = File::open(&path).expect("made");
    let txn = file.db.begin_write().expect("a transaction");
    txn.open_table(file::META).expect("a table").insert(file::KEY_FORMAT, FORMAT + 1).expect("written");
    txn.commit().expect("committed");
    drop(file);
    let ledger = at(Some(dir.path()), BEGIN);
    ledger.worker().push(entry(BEGIN, "a", "m", 1));
    ledger.commit();
    let state = ledger.state();
    assert!(state.trouble.expect("trouble").to_string().contains("has format 3; this version reads up to 2"));
    assert_eq!(state.waiting, 1);
}

#[test]
fn the_keeper_writes_by_itself_and_once_more_at_its_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let ledger = Ledger::new(Terms { interval: Duration::from_millis(5), ..terms(Some(dir.path())) }, Clock::system());
    let keeper = ledger.keep().expect("a thread");
    let journal: Arc<Journal> = ledger.worker();
    journal.push(entry(ledger.minute(), "a", "m", 1));
    while ledger.state().commits == 0 {
        std::thread::yield_now();
    }
    journal.push(entry(ledger.minute(), "a", "m", 2));
    let minute = ledger.minute();
    drop(keeper);
    drop((journal, ledger));
    let again = at(Some(dir.path()), minute);
    assert_eq!(spent(&again, &between(minute - 2, minute + 2, "by=caller")), one("a", 3));
}
