//! Weeks, months and zones: whatever a question asks for, the answer is that of an exact book; late calls, older files and bounds too.

use std::collections::BTreeMap;

use redb::{ReadableDatabase as _, ReadableTable as _};

use super::{
    file::{BLOCKS, File, KEY_FORMAT, META, SUMMED, ZONES},
    level::{Level, View, bucket_of, place},
    pages::Pages,
    tests::{BEGIN, DAY, asked, at, between, entry, spent},
    *,
};

/// A call: minute, caller, route, model, nano-dollars.
type Call = (u32, u32, u32, u32, u64);

/// Puts calls into a ledger in a directory, day by day, as time passes.
fn fill(dir: &std::path::Path, days: u32, a_day: u32, chance: &mut fastrand::Rng) -> Vec<Call> {
    let mut book = Vec::new();
    for day in 0..days {
        let ledger = at(Some(dir), BEGIN + (day + 1) * DAY);
        let journal = ledger.worker();
        for _ in 0..a_day {
            // In two hours of a day: each hour that is summed up is a write of its own.
            let minute = BEGIN + day * DAY + chance.u32(0..2) * 700 + chance.u32(0..60);
            let call = (minute, chance.u32(0..90), chance.u32(0..4), chance.u32(0..5), chance.u64(1..1 << 34));
            journal.push(of(&call));
            book.push(call);
        }
        ledger.commit();
        ledger.tidy();
    }
    book
}

fn of((minute, caller, route, model, nano_usd): &Call) -> Entry {
    let inbound = Some(format!("/r-{route}").into());
    Entry { inbound, ..entry(*minute, &format!("u-{caller}"), &format!("m-{model}"), *nano_usd) }
}

/// What an exact book says: dollars by the names of `by`.
fn exact(book: &[Call], (from, to): (u32, u32), query: &str) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for (minute, caller, route, model, nano_usd) in book {
        let names = [("caller", format!("u-{caller}")), ("inbound", format!("/r-{route}")), ("model", format!("m-{model}"))];
        let of = |dim: &str| names.iter().find(|(name, _)| *name == dim).map(|(_, name)| name.clone()).expect("a dimension");
        let (by, filters) = query.split_once('&').unwrap_or((query, ""));
        let mut words: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        filters.split('&').filter_map(|pair| pair.split_once('=')).for_each(|(dim, name)| words.entry(dim).or_default().push(name));
        if (from..to).contains(minute) && words.iter().all(|(dim, names)| names.contains(&&*of(dim))) {
            let key: Vec<String> = by.trim_start_matches("by=").split(',').map(of).collect();
            *sums.entry(key.join(" ")).or_default() += nano_usd;
        }
    }
    sums
}

const QUERIES: [&str; 9] = [
    "by=caller",
    "by=inbound,model",
    "by=caller,model",
    "by=caller,inbound",
    "by=model&caller=u-7",
    "by=caller&model=m-1&inbound=/r-2",
    "by=caller,inbound&model=m-0&model=m-3",
    "by=inbound,model&caller=u-80&caller=u-3",
    "by=caller,inbound,model&inbound=/r-1",
];

#[test]
fn weeks_and_months_and_zones_give_the_sums_of_an_exact_book() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut chance = fastrand::Rng::with_seed(11);
    let days = 75;
    let mut book = fill(dir.path(), days, 60, &mut chance);
    let ledger = at(Some(dir.path()), BEGIN + days * DAY);
    let compare = |ledger: &Ledger, book: &[Call], chance: &mut fastrand::Rng, what: &str| {
        for query in QUERIES {
            // Days whose hours are dropped, and edges at days: no answer is rounded.
            let (a, b) = (chance.u32(0..days), chance.u32(0..days));
            for (from, to) in [(0, days), (a.min(b), a.max(b) + 1)] {
                let (from, to) = (BEGIN + from * DAY, BEGIN + to * DAY);
                assert_eq!(spent(ledger, &between(from, to, query)), exact(book, (from, to), query), "{what}: {query} {from}..{to}");
            }
        }
    };
    compare(&ledger, &book, &mut chance, "as filled");
    // Late calls: into days, weeks and months that are summed up.
    let journal = ledger.worker();
    for _ in 0..30 {
        let call = (BEGIN + chance.u32(0..days * DAY), chance.u32(0..95), chance.u32(0..4), chance.u32(0..5), 1);
        journal.push(of(&call));
        book.push(call);
        ledger.commit();
    }
    compare(&ledger, &book, &mut chance, "with late calls");
    ledger.tidy();
    drop(ledger);
    compare(&at(Some(dir.path()), BEGIN + days * DAY), &book, &mut chance, "opened again");
}

#[test]
fn late_calls_do_not_make_ever_more_blocks() {
    let ledger = at(None, BEGIN + 40 * DAY);
    let journal = ledger.worker();
    journal.push(entry(BEGIN + 10 * DAY, "a", "m", 1));
    ledger.commit();
    ledger.tidy();
    for n in 0..200 {
        journal.push(entry(BEGIN + 10 * DAY, &format!("u-{}", n % 50), "m", 1));
        ledger.commit();
    }
    let file = ledger.0.books.lock().file.clone().expect("open");
    let read = file.db.begin_read().expect("readable");
    let (blocks, days) = (read.open_table(BLOCKS).expect("a table"), Level(Class::Day, View::Whole));
    let count = blocks.range(days.place(0)..days.place(u32::MAX)).expect("readable").count();
    assert!(count <= 20, "{count} blocks");
    assert_eq!(spent(&ledger, &between(BEGIN, BEGIN + 40 * DAY, "by=model")), BTreeMap::from([("m".to_owned(), 201)]));
}

#[test]
fn a_file_of_format_1_is_brought_to_this_one_with_every_sum() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut chance = fastrand::Rng::with_seed(3);
    let (days, path) = (36, dir.path().join("ledger-0.redb"));
    let book = fill(dir.path(), days, 40, &mut chance);
    make_format_1(&File::open(&path).expect("opened"));
    let ledger = at(Some(dir.path()), BEGIN + days * DAY);
    for round in ["migrated", "with weeks and months"] {
        for query in QUERIES {
            let all = (BEGIN, BEGIN + days * DAY);
            assert_eq!(spent(&ledger, &between(all.0, all.1, query)), exact(&book, all, query), "{round}: {query}");
        }
        ledger.tidy();
    }
    let file = ledger.0.books.lock().file.clone().expect("open");
    assert_eq!(file.meta(KEY_FORMAT).expect("readable"), FORMAT);
    let read = file.db.begin_read().expect("readable");
    let former = |day| place(Class::Day as u8, View::FORMER_CALLERS, day);
    let blocks = read.open_table(BLOCKS).expect("a table");
    assert_eq!(blocks.range(former(0)..former(u32::MAX)).expect("readable").count(), 0);
    let months = Level(Class::Month, View::Models);
    assert!(blocks.range(months.place(0)..months.place(u32::MAX)).expect("readable").count() > 0);
}

/// Writes a file as the first version did: no zones, no weeks and months, and a view of callers with callers and nothing else.
fn make_format_1(file: &File) {
    let txn = file.db.begin_write().expect("a transaction");
    {
        let mut pages = Pages::open(&txn).expect("tables");
        for class in [Class::Week, Class::Month] {
            for view in class.views() {
                pages.drop_blocks(Level(class, *view), 0, u32::MAX).expect("dropped");
            }
        }
        let callers = Level(Class::Day, View::Callers);
        let held: Vec<u32> = pages
            .blocks
            .range(callers.place(0)..callers.place(u32::MAX))
            .expect("readable")
            .map(|block| bucket_of(block.expect("readable").0.value()))
            .collect();
        for day in held {
            let rows = pages.take(callers.place(day), callers.place(day + 1)).expect("taken");
            let bare = |key: &Key| Key(std::array::from_fn(|at| if at == 0 || at == Dim::Known as usize { key.0[at] } else { 0 }));
            let rows: Vec<_> = rows.iter().map(|(key, sums)| (bare(key), *sums)).collect();
            let (bytes, _) = chunk::encode(&rows);
            pages.blocks.insert(place(Class::Day as u8, View::FORMER_CALLERS, day) | 7, &*bytes).expect("written");
        }
        pages.close().expect("written");
    }
    txn.open_table(SUMMED).expect("a table").retain(|mark, ()| mark >> 32 < Class::Week as u64).expect("kept");
    txn.delete_table(ZONES).expect("deleted");
    txn.open_table(META).expect("a table").insert(KEY_FORMAT, 1).expect("written");
    txn.commit().expect("committed");
}

#[test]
fn an_answer_of_too_many_rows_is_refused_before_it_takes_the_memory() {
    let ledger = Ledger::new(
        Terms { callers: 200_000, ..tests::terms(None) },
        Clock::fixed(std::time::UNIX_EPOCH + Duration::from_secs(u64::from(BEGIN) * 60)),
    );
    for part in 0..3 {
        ledger.0.merge((0..40_000).map(|n| entry(BEGIN, &format!("u-{part}-{n}"), "m", 1)).collect());
        ledger.commit();
    }
    let said = ledger.ask(&between(BEGIN, BEGIN + 1, "by=caller")).expect_err("too many").to_string();
    assert!(said.contains("more than 100000 rows"), "{said}");
    assert!(ledger.ask(&between(BEGIN, BEGIN + 1, "by=caller&caller=u-1-7")).is_ok());
    assert!(asked("from=1h&limit=2000").limit == 2_000);
}

#[test]
fn weeks_and_months_go_with_the_first_of_their_days() {
    let clock = Clock::fixed(std::time::UNIX_EPOCH + Duration::from_secs(u64::from(BEGIN + 200 * DAY) * 60));
    let days = |days: u64| Duration::from_secs(days * 86_400);
    let keep = [days(2), days(10), days(100)];
    let ledger = Ledger::new(Terms { grace: Duration::ZERO, keep, ..tests::terms(None) }, clock);
    let journal = ledger.worker();
    (0..200).for_each(|day| journal.push(entry(BEGIN + day * DAY + 90, "a", "m", 1)));
    ledger.commit();
    for _ in 0..2 {
        ledger.tidy();
        let sums = spent(&ledger, &between(BEGIN, BEGIN + 200 * DAY, "by=caller,model"));
        assert_eq!(sums, BTreeMap::from([("a m".to_owned(), 100)]), "days that are kept, and no week or month of older ones");
    }
    let file = ledger.0.books.lock().file.clone().expect("open");
    let read = file.db.begin_read().expect("readable");
    let kept = Class::Day.begin(Class::Day.bucket(BEGIN + 100 * DAY));
    for row in read.open_table(SUMMED).expect("a table").iter().expect("readable") {
        let mark = row.expect("readable").0.value();
        let class = Class::of(mark >> 32).expect("a class");
        assert!(class.begin(mark as u32) >= kept || class == Class::Hour, "{class:?}");
    }
}
