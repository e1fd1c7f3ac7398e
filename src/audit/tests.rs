//! The chain against everything that a disk, a crash or a person can do to it.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use tempfile::TempDir;

use super::{
    Audit, AuditTerms, Incident, NameKind, Refusal,
    chain::{Chain, ChainBounds, lines_file, names_file, numbers},
    head::ChainHead,
    line::ChainKey,
    names,
    verify::{Verdict, verify},
};
use crate::{clock::Clock, config::Secret};

const SMALL: ChainBounds = ChainBounds { file_size: 1 << 20, files: 64 };

fn key(text: &str) -> ChainKey {
    ChainKey::new(&Secret::new(text))
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn incident(nth: u64) -> Incident {
    Incident::new("cache.purged", now() + Duration::from_secs(nth)).with("by", "admin").named(NameKind::Caller, &format!("u-{}", nth % 3))
}

/// A log of `lines` lines, written by two processes in turn.
fn log(lines: u64, keys: &[ChainKey], bounds: ChainBounds) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || Chain::open(dir.path(), keys.to_vec(), !keys.is_empty(), bounds).expect("opens");
    let mut writers = [open(), open()];
    for nth in 0..lines {
        let (written, trouble) = writers[(nth % 2) as usize].append(&[incident(nth)], now()).expect("written");
        assert!(!written.is_empty() && trouble.is_none());
    }
    dir
}

fn verdict(dir: &Path, keys: &[ChainKey]) -> Verdict {
    verify(dir, keys).expect("read")
}

fn copy(dir: &Path) -> TempDir {
    let to = tempfile::tempdir().expect("a directory");
    for entry in fs::read_dir(dir).expect("read") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.path().join(entry.file_name())).expect("copied");
    }
    to
}

#[test]
fn processes_in_turn_write_one_chain_and_it_is_whole() {
    for keys in [Vec::new(), vec![key("a key of sixteen")]] {
        let dir = log(20, &keys, SMALL);
        let found = verdict(dir.path(), &keys);
        assert!(found.is_whole(), "{:?}", found.faults);
        assert_eq!((found.lines, found.range, found.keyed), (20, Some((1, 20)), if keys.is_empty() { 0 } else { 20 }));
    }
}

/// Every bit of every byte of the log, of its names and of its head.
#[test]
fn every_flipped_bit_is_found() {
    for keys in [Vec::new(), vec![key("a key of sixteen")]] {
        let dir = log(3, &keys, SMALL);
        for path in [lines_file(dir.path(), 1), names_file(dir.path(), 1), ChainHead::path(dir.path())] {
            let whole = fs::read(&path).expect("read");
            for at in 0..whole.len() {
                for bit in 0..8 {
                    let mut changed = whole.clone();
                    changed[at] ^= 1 << bit;
                    fs::write(&path, &changed).expect("written");
                    let found = verdict(dir.path(), &keys);
                    assert!(!found.is_whole(), "{}: byte {at}, bit {bit} of {:?}", path.display(), char::from(whole[at]));
                }
            }
            fs::write(&path, &whole).expect("written");
        }
        assert!(verdict(dir.path(), &keys).is_whole());
    }
}

/// Every line removed, doubled, moved, and put in from elsewhere; and each cut of the end, at every byte.
#[test]
fn every_other_order_and_every_cut_is_found_and_the_line_is_named() {
    let dir = log(8, &[], SMALL);
    let path = lines_file(dir.path(), 1);
    let whole = fs::read(&path).expect("read");
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    let stranger = fs::read(lines_file(log(8, &[], SMALL).path(), 1)).expect("read");
    let strangers: Vec<&[u8]> = stranger.split_inclusive(|byte| *byte == b'\n').collect();
    let try_with = |lines: &[&[u8]]| {
        fs::write(&path, lines.concat()).expect("written");
        verdict(dir.path(), &[])
    };
    for at in 0..lines.len() {
        let mut removed = lines.clone();
        removed.remove(at);
        let found = try_with(&removed);
        assert!(!found.is_whole(), "line {} removed", at + 1);
        if at + 1 < lines.len() {
            assert_eq!(found.faults[0].line, at as u64 + 1, "the line behind the gap is named: {:?}", found.faults);
        }
        for to in 0..lines.len() {
            let mut moved = lines.clone();
            let line = moved.remove(at);
            moved.insert(to, line);
            assert_eq!(try_with(&moved).is_whole(), at == to, "line {} moved to {}", at + 1, to + 1);
            let mut doubled = lines.clone();
            doubled.insert(to, lines[at]);
            assert!(!try_with(&doubled).is_whole(), "line {} once more at {}", at + 1, to + 1);
        }
        let mut foreign = lines.clone();
        let stranger = *strangers.get(at).expect("as many lines");
        foreign[at] = stranger;
        let found = try_with(&foreign);
        assert!(!found.is_whole(), "line {} of another log", at + 1);
        foreign = lines.clone();
        foreign.insert(at, stranger);
        assert!(!try_with(&foreign).is_whole(), "line {} of another log put in", at + 1);
    }
    for end in 0..whole.len() {
        fs::write(&path, &whole[..end]).expect("written");
        assert!(!verdict(dir.path(), &[]).is_whole(), "cut at byte {end}");
    }
    fs::remove_file(&path).expect("removed");
    assert!(!verdict(dir.path(), &[]).is_whole(), "the file is gone");
    fs::write(&path, &whole).expect("written");
    assert!(verdict(dir.path(), &[]).is_whole());
    fs::remove_file(ChainHead::path(dir.path())).expect("removed");
    assert!(!verdict(dir.path(), &[]).is_whole(), "the head is gone");
}

/// A process that is killed leaves any beginning of what it wrote, and no head for it. The next one goes on, and all is whole.
#[test]
fn wherever_a_write_was_cut_the_next_process_goes_on_validly() {
    let dir = log(4, &[], SMALL);
    let behind = copy(dir.path());
    let mut chain = Chain::open(behind.path(), Vec::new(), false, SMALL).expect("opens");
    chain.append(&[incident(4), incident(5)], now()).expect("written");
    let whole = fs::read(lines_file(behind.path(), 1)).expect("read");
    let begun = fs::metadata(lines_file(dir.path(), 1)).expect("there").len() as usize;
    for end in begun..=whole.len() {
        let crashed = copy(dir.path());
        fs::write(lines_file(crashed.path(), 1), &whole[..end]).expect("written");
        fs::copy(names_file(behind.path(), 1), names_file(crashed.path(), 1)).expect("copied");
        let before = verdict(crashed.path(), &[]);
        assert!(before.is_whole(), "a crash is no fault: byte {end}: {:?}", before.faults);
        let mut next = Chain::open(crashed.path(), Vec::new(), false, SMALL).expect("opens");
        let (lines, _) = next.append(&[incident(9)], now()).expect("written");
        assert_eq!(lines.len() > 1, end > begun, "what was found is said: byte {end}");
        let found = verdict(crashed.path(), &[]);
        assert!(found.is_whole(), "byte {end}: {:?}", found.faults);
    }
}

#[test]
fn a_log_that_was_changed_is_not_gone_on_with_in_silence() {
    let dir = log(5, &[], SMALL);
    let path = lines_file(dir.path(), 1);
    let whole = fs::read_to_string(&path).expect("read");
    let cut = whole.trim_end().rfind('\n').expect("lines") + 1;
    for (case, text) in [("cut", whole[..cut].to_owned()), ("changed", whole.replace("admin", "nobody")), ("gone", String::new())] {
        let changed = copy(dir.path());
        fs::write(lines_file(changed.path(), 1), text).expect("written");
        let mut chain = Chain::open(changed.path(), Vec::new(), false, SMALL).expect("opens");
        let (lines, _) = chain.append(&[incident(5)], now()).expect("written");
        assert!(lines[0].text.contains("audit.damaged"), "{case}: {}", lines[0].text);
        let found = verdict(changed.path(), &[]);
        assert!(!found.is_whole(), "{case}: what is damaged stays damaged");
    }
    fs::write(ChainHead::path(dir.path()), "{}").expect("written");
    let mut chain = Chain::open(dir.path(), Vec::new(), false, SMALL).expect("opens");
    assert!(chain.append(&[incident(5)], now()).expect("written").0[0].text.contains("audit.damaged"));
    let found = verdict(dir.path(), &[]);
    assert!(
        found.faults.len() == 1 && found.faults[0].what.contains("the head is missing"),
        "a new head hides nothing: {:?}",
        found.faults
    );
}

#[test]
fn files_go_on_from_each_other_and_the_oldest_leave_with_a_line() {
    let bounds = ChainBounds { file_size: 2_000, files: 3 };
    let dir = log(60, &[], bounds);
    let left = numbers(dir.path()).expect("read");
    assert!(left.len() == 3 && left[0] > 1, "{left:?}");
    let found = verdict(dir.path(), &[]);
    assert!(found.is_whole(), "{:?}", found.faults);
    assert!(found.notes[0].contains("were dropped"), "{:?}", found.notes);
    fs::remove_file(lines_file(dir.path(), left[0])).expect("removed");
    let found = verdict(dir.path(), &[]);
    assert!(found.faults[0].what.contains("no line says that they were dropped"), "{:?}", found.faults);
    let dir = log(60, &[], bounds);
    fs::remove_file(lines_file(dir.path(), numbers(dir.path()).expect("read")[1])).expect("removed");
    assert!(!verdict(dir.path(), &[]).is_whole(), "a file in the middle");
}

#[test]
fn a_key_makes_a_log_that_nobody_else_can_write() {
    let (own, old, other) = (key("a key of sixteen"), key("the key before it"), key("a third one of 16"));
    let dir = log(3, std::slice::from_ref(&old), SMALL);
    let mut chain = Chain::open(dir.path(), vec![own.clone(), old.clone()], true, SMALL).expect("opens");
    let (lines, _) = chain.append(&[incident(3)], now()).expect("written");
    assert!(lines[0].text.contains("audit.key_changed"));
    assert!(verdict(dir.path(), &[own.clone(), old.clone()]).is_whole());
    assert!(!verdict(dir.path(), std::slice::from_ref(&own)).is_whole(), "lines of a key that is not given");
    assert!(!verdict(dir.path(), &[other]).is_whole());
    // A stranger writes on without the key.
    let mut stranger = Chain::open(dir.path(), Vec::new(), false, SMALL).expect("opens");
    stranger.append(&[incident(4)], now()).expect("written");
    assert!(!verdict(dir.path(), &[own.clone(), old]).is_whole());
    // Or writes all of it anew.
    assert!(!verdict(log(3, &[], SMALL).path(), &[own]).is_whole());
}

#[test]
fn an_erased_caller_is_nowhere_and_the_chain_is_whole() {
    let dir = log(9, &[], SMALL);
    let everything = || -> String {
        let files = fs::read_dir(dir.path()).expect("read").map(|entry| fs::read_to_string(entry.expect("an entry").path()).expect("text"));
        files.collect()
    };
    assert!(everything().contains("\"u-1\""));
    assert!(!fs::read_to_string(lines_file(dir.path(), 1)).expect("read").contains("u-1"), "a line has marks");
    let mut other = Chain::open(dir.path(), Vec::new(), false, SMALL).expect("opens");
    other.append(&[incident(1)], now()).expect("written");
    let mut chain = Chain::open(dir.path(), Vec::new(), false, SMALL).expect("opens");
    assert_eq!(chain.erase("u-1", now()).expect("erased"), 3, "each process has a mark of its own");
    assert!(!everything().contains("u-1") && everything().contains("caller.erased"));
    let found = verdict(dir.path(), &[]);
    assert!(found.is_whole() && found.unnamed == 3, "{:?} {}", found.faults, found.unnamed);
    assert_eq!(chain.erase("u-1", now()).expect("nothing"), 0);
    // Another process, which knew the mark, makes a new one.
    other.append(&[incident(1)], now()).expect("written");
    assert_eq!(verdict(dir.path(), &[]).unnamed, 3);
    // Nobody puts another name in the place of one.
    let path = names_file(dir.path(), 1);
    fs::write(&path, fs::read_to_string(&path).expect("read").replace("u-2", "u-7")).expect("written");
    assert!(!verdict(dir.path(), &[]).is_whole());
    assert!(
        !names::entry(fs::read(&path).expect("read").split(|b| *b == b'\n').next().expect("a line"))
            .is_some_and(|e| e.name == "u-7" && e.fits)
    );
}

#[test]
fn many_at_once_make_one_chain() {
    let dir = tempfile::tempdir().expect("a directory");
    let bounds = ChainBounds { file_size: 4_000, files: 1_000 };
    std::thread::scope(|threads| {
        for writer in 0..6 {
            let dir = dir.path();
            threads.spawn(move || {
                let mut chain = Chain::open(dir, Vec::new(), false, bounds).expect("opens");
                for nth in 0..40 {
                    // A turn that does not come in time is tried again, as the log's thread does.
                    while chain.append(&[incident(writer * 100 + nth)], now()).is_err() {}
                }
            });
        }
    });
    let found = verdict(dir.path(), &[]);
    assert!(found.is_whole() && found.lines == 240 && found.files > 5, "{} {:?}", found.lines, found.faults);
}

#[test]
fn a_disk_that_takes_nothing_is_said_and_what_is_lost_has_a_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path().join("audit");
    let audit = Arc::new(Audit::new(Clock::system()));
    let terms = AuditTerms { dir: place.clone(), key: None, previous_keys: Vec::new(), bounds: SMALL };
    let sent = Arc::new(Mutex::new(Vec::new()));
    let sink = sent.clone();
    let thread = audit.keep(&terms, Box::new(move |line| sink.lock().push(line.text.to_string()))).expect("opens");
    // The lock cannot be made where a directory has its name: the log cannot be written.
    let until = |is_so: &dyn Fn() -> bool| {
        while !is_so() {
            std::thread::yield_now()
        }
    };
    fs::create_dir(place.join("lock")).expect("made");
    for nth in 0..5_000 {
        audit.note(incident(nth));
    }
    until(&|| audit.state().trouble.is_some());
    let state = audit.state();
    assert_eq!((state.waiting, state.lost, state.written), (4_096, 904, 0));
    fs::remove_dir(place.join("lock")).expect("removed");
    until(&|| audit.state().written >= 4_096);
    assert_eq!(audit.state().trouble, None);
    audit.refused(&Refusal {
        event: "auth.refused",
        reason: "auth_invalid",
        door: "inbound",
        route: "r",
        method: "GET",
        request_id: "1",
        address: [192, 0, 2, 1].into(),
        caller: "",
    });
    audit.end();
    thread.join().expect("ended");
    let lines = sent.lock().clone();
    assert!(lines.iter().any(|line| line.contains("audit.lost") && line.contains("\"incidents\":904")), "{:?}", lines.last());
    assert!(lines.last().is_some_and(|line| line.contains("auth.refused") || line.contains("audit.lost")));
    let found = verdict(&place, &[]);
    assert!(found.is_whole() && found.lines as usize == lines.len(), "{:?}", found.faults);
}
