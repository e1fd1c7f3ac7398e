//! The log on the disk: files of lines, the head, and the lock under which processes take turns.
//!
//! | file | holds |
//! |---|---|
//! | `000001.jsonl`, `000002.jsonl`, … | the lines, in order |
//! | `000001.names.jsonl`, … | the names behind the marks of that file |
//! | `head.json` | where the log ends |
//! | `lock` | the turn |
//!
//! Lines are durable before the head names them. A process that is killed between the two leaves whole lines behind the head, which the
//! next one takes in, or the beginning of a line, which the next one cuts off and says so. What does not fit is left as it is: the log goes
//! on in a new file, whose first line says what was found.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde_json::Value;

use super::{
    Incident, NameKind, WrittenLine,
    head::{ChainHead, FoundHead, replace},
    line::{self, ChainKey, ReadLine},
    names::{self, Marks},
};

/// The wait for another process's turn, in steps.
const TURN: (u32, Duration) = (100, Duration::from_millis(20));
/// Longest line that is looked for at the end of a file.
const LAST: u64 = 64 * 1024;
/// Most marks that the line of an erasure names.
const MOST_MARKS: usize = 32;

/// The bounds of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainBounds {
    /// Bytes after which a new file begins.
    pub file_size: u64,
    /// Most files; the oldest makes room.
    pub files: usize,
}

/// The log of one directory, as one process writes it.
pub struct Chain {
    dir: PathBuf,
    /// The key of new lines, then the keys of older ones.
    keys: Vec<ChainKey>,
    keyed: bool,
    bounds: ChainBounds,
    /// The head as this process left it.
    head: Option<ChainHead>,
    marks: Marks,
    /// The file that the marks belong to, and the erasures they know of.
    marks_of: (u64, u64),
    process: String,
}

/// The file of lines with this number.
pub fn lines_file(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:06}.jsonl"))
}

/// The file of names beside it.
pub fn names_file(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:06}.names.jsonl"))
}

/// The numbers of the files of lines, ascending.
///
/// # Errors
/// The directory cannot be read.
pub fn numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".jsonl")).filter(|stem| stem.len() >= 6);
        found.extend(number.and_then(|stem| stem.parse::<u64>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

/// Takes the turn of the directory. It ends with the file.
///
/// # Errors
/// The directory cannot be written, or another process does not give its turn back.
pub fn turn(dir: &Path) -> io::Result<File> {
    let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(dir.join("lock"))?;
    for _ in 0..TURN.0 {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(fs::TryLockError::WouldBlock) => std::thread::sleep(TURN.1),
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, format!("another process holds {}", dir.join("lock").display())))
}

impl Chain {
    /// The log in `dir`. `keys`: the first is that of new lines if `keyed`, the others are those of older lines.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(dir: &Path, keys: Vec<ChainKey>, keyed: bool, bounds: ChainBounds) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let process = line::hex(&crate::clock::secret_bytes::<4>());
        let (head, marks, marks_of) = (None, Marks::default(), (0, 0));
        Ok(Self { dir: dir.to_owned(), keys, keyed, bounds, head, marks, marks_of, process })
    }

    fn key(&self) -> Option<&ChainKey> {
        self.keys.first().filter(|_| self.keyed)
    }

    /// Writes incidents, durably, in this order. Gives the lines, and what kept the head from being written: the lines are in the log all
    /// the same.
    ///
    /// # Errors
    /// The disk does not take them, or another process holds the log: nothing of them is in the log.
    pub fn append(&mut self, incidents: &[Incident], now: SystemTime) -> io::Result<(Vec<WrittenLine>, Option<io::Error>)> {
        let _turn = turn(&self.dir)?;
        self.append_in_turn(incidents, now, None)
    }

    fn append_in_turn(
        &mut self,
        incidents: &[Incident],
        now: SystemTime,
        erased: Option<u64>,
    ) -> io::Result<(Vec<WrittenLine>, Option<io::Error>)> {
        let (mut head, before) = self.catch_up(now)?;
        let mut all: VecDeque<&Incident> = before.iter().chain(incidents).collect();
        let dropped = if head.len >= self.bounds.file_size { self.next_file(&mut head, now)? } else { None };
        if let Some((_, incident)) = &dropped {
            all.push_front(incident);
        }
        head.erasures += erased.unwrap_or_default();
        if (head.file, head.erasures) != self.marks_of {
            self.marks = Marks::default();
            self.marks_of = (head.file, head.erasures);
        }
        let (mut text, mut lines) = (Vec::new(), Vec::new());
        for incident in all {
            lines.push(self.compose(incident, &mut head, &mut text));
        }
        let fresh = std::mem::take(&mut self.marks.fresh);
        let written = self.write_names(head.file, &fresh).and_then(|()| self.write_lines(&head, &text));
        if let Err(error) = written {
            // The entries of these marks may not be there.
            (self.marks, self.head) = (Marks::default(), None);
            return Err(error);
        }
        head.len += text.len() as u64;
        let trouble = head.write(&self.dir, self.key()).err();
        // A head that was not written is read again, with the lines behind it.
        self.head = trouble.is_none().then_some(head);
        if let Some((number, _)) = dropped {
            // The lines are no part of the log any more: a file that stays is removed next time.
            let _ = fs::remove_file(lines_file(&self.dir, number)).and_then(|()| fs::remove_file(names_file(&self.dir, number)));
        }
        Ok((lines, trouble))
    }

    fn compose(&mut self, incident: &Incident, head: &mut ChainHead, text: &mut Vec<u8>) -> WrittenLine {
        let mut members = incident.members.clone();
        for (kind, name) in &incident.names {
            members.insert(kind.as_str().into(), self.marks.of(*kind, name).into());
        }
        members.insert("process".into(), self.process.clone().into());
        let start = text.len();
        let time = humantime::format_rfc3339_millis(incident.at).to_string();
        let key = self.keys.first().filter(|_| self.keyed);
        head.hash = line::write(text, (head.seq + 1, &time, incident.event), members, key, &head.hash);
        head.seq += 1;
        head.key = key.map(|key| key.id.clone());
        WrittenLine { at: incident.at, text: String::from_utf8_lossy(&text[start..text.len() - 1]).into(), names: incident.names.clone() }
    }

    fn write_names(&self, number: u64, entries: &[u8]) -> io::Result<()> {
        match entries {
            [] => Ok(()),
            entries => {
                let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(names_file(&self.dir, number))?;
                file.write_all(entries)?;
                file.sync_data()
            }
        }
    }

    fn write_lines(&self, head: &ChainHead, text: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(lines_file(&self.dir, head.file))?;
        let written = file.write_all(text).and_then(|()| file.sync_data());
        if written.is_err() {
            // A part of a line must not stay. If it does, the next look cuts it off.
            let _ = file.set_len(head.len);
        } else if head.len == 0 {
            File::open(&self.dir)?.sync_all()?;
        }
        written
    }

    /// Goes on in a new file. If there are too many then: the oldest one, and the line that says so.
    fn next_file(&self, head: &mut ChainHead, now: SystemTime) -> io::Result<Option<(u64, Incident)>> {
        let numbers = numbers(&self.dir)?;
        (head.file, head.len) = (numbers.last().copied().unwrap_or(head.file).max(head.file) + 1, 0);
        let Some(oldest) = numbers.first().copied().filter(|_| numbers.len() >= self.bounds.files) else { return Ok(None) };
        let mut incident = Incident::new("audit.dropped", now).with("file", oldest).with("why", "audit.files");
        let text = last_of(&lines_file(&self.dir, oldest), None)?;
        if let Some(last) = ReadLine::read(&text) {
            incident = incident.with("last_seq", last.seq).with("last_hash", line::hex(&last.hash));
        }
        Ok(Some((oldest, incident)))
    }

    /// Where the log ends now, and what must be said of how it was found.
    fn catch_up(&self, now: SystemTime) -> io::Result<(ChainHead, Vec<Incident>)> {
        let found = ChainHead::read(&self.dir, &self.keys)?;
        if let (Some(own), FoundHead::Whole(head)) = (&self.head, &found)
            && own == head
            && fs::metadata(lines_file(&self.dir, head.file)).is_ok_and(|file| file.len() == head.len)
        {
            return Ok((head.clone(), Vec::new()));
        }
        let numbers = numbers(&self.dir)?;
        let damaged = |what: &str| Incident::new("audit.damaged", now).with("what", what);
        let mut says = Vec::new();
        let mut head = match found {
            FoundHead::Missing if numbers.is_empty() => return Ok((ChainHead::beginning(), says)),
            FoundHead::Missing | FoundHead::Broken => {
                says.push(damaged("the head is missing or was changed"));
                return Ok((self.after_last(&numbers)?, says));
            }
            FoundHead::Whole(head) => head,
            FoundHead::OfAnotherKey(head) => head,
        };
        let same_key = head.key.as_deref() == self.key().map(|key| &*key.id);
        if !same_key && self.head.is_none() {
            let word = |key: Option<&str>| key.unwrap_or("none").to_owned();
            let to = word(self.key().map(|key| &*key.id));
            says.push(Incident::new("audit.key_changed", now).with("from", word(head.key.as_deref())).with("to", to));
        }
        if let Err(what) = self.follow(&mut head, &numbers, &mut says, now) {
            says.push(damaged(&what?));
            (head.file, head.len) = (numbers.last().copied().unwrap_or(head.file).max(head.file) + 1, 0);
        }
        Ok((head, says))
    }

    /// Takes in the lines behind the head, and cuts off the beginning of one more.
    ///
    /// # Errors
    /// What does not fit; within it, a failure of the disk.
    fn follow(&self, head: &mut ChainHead, numbers: &[u64], says: &mut Vec<Incident>, now: SystemTime) -> Result<(), io::Result<String>> {
        let path = lines_file(&self.dir, head.file);
        let len = fs::metadata(&path).map_or(0, |file| file.len());
        if len < head.len {
            return Err(Ok(format!("lines are missing at the end of {}", path.display())));
        }
        let last = last_of(&path, Some(head.len)).map_err(Err)?;
        let fits = ReadLine::read(&last).is_some_and(|line| (line.seq, line.hash) == (head.seq, head.hash) && self.is_whole(&line));
        if head.seq > 0 && !fits {
            return Err(Ok(format!("the last line of {} was changed", path.display())));
        }
        let before = head.seq;
        let first = head.file;
        for number in numbers.iter().filter(|number| **number >= first) {
            let path = lines_file(&self.dir, *number);
            let from = if *number == first { head.len } else { 0 };
            let rest = read_from(&path, from).map_err(Err)?;
            let taken = self.take_in(head, &rest, *number, from);
            if taken < rest.len() {
                if rest[taken..].contains(&b'\n') {
                    return Err(Ok(format!("lines that do not fit stand at the end of {}", path.display())));
                }
                let cut = rest.len() - taken;
                let file = OpenOptions::new().write(true).open(&path).map_err(Err)?;
                file.set_len(from + taken as u64).map_err(Err)?;
                says.push(Incident::new("audit.recovered", now).with("cut_bytes", cut));
            }
        }
        if head.seq > before {
            says.push(Incident::new("audit.recovered", now).with("lines_behind_the_head", head.seq - before));
        }
        Ok(())
    }

    /// Takes whole lines that go on from the head; gives their bytes.
    fn take_in(&self, head: &mut ChainHead, rest: &[u8], number: u64, from: u64) -> usize {
        let mut taken = 0;
        while let Some(end) = rest[taken..].iter().position(|byte| *byte == b'\n') {
            let Some(line) = ReadLine::read(&rest[taken..taken + end]) else { break };
            if line.seq != head.seq + 1 || line.prev != head.hash || !self.is_whole(&line) {
                break;
            }
            taken += end + 1;
            (head.file, head.len, head.seq, head.hash) = (number, from + taken as u64, line.seq, line.hash);
        }
        taken
    }

    fn is_whole(&self, line: &ReadLine<'_>) -> bool {
        match &line.key {
            None => line.is_whole(None),
            Some(id) => match self.keys.iter().find(|key| key.id == *id) {
                Some(key) => line.is_whole(Some(key)),
                // Nobody here can say; the line `audit.key_changed` tells that the key is another.
                None => true,
            },
        }
    }

    /// A head behind the last line that can be read, in a new file.
    fn after_last(&self, numbers: &[u64]) -> io::Result<ChainHead> {
        let mut head = ChainHead::beginning();
        for number in numbers.iter().rev() {
            let text = fs::read(lines_file(&self.dir, *number))?;
            let last = text.split(|byte| *byte == b'\n').rev().find_map(|line| ReadLine::read(line).filter(|line| self.is_whole(line)));
            if let Some(last) = last {
                (head.seq, head.hash) = (last.seq, last.hash);
                break;
            }
        }
        head.file = numbers.last().copied().unwrap_or_default() + 1;
        Ok(head)
    }

    /// Takes a caller's name out of every file of names, and writes a line that says so. Gives how many entries there were.
    ///
    /// # Errors
    /// The disk fails.
    pub fn erase(&mut self, name: &str, now: SystemTime) -> io::Result<usize> {
        let _turn = turn(&self.dir)?;
        let mut marks: Vec<Value> = Vec::new();
        for number in numbers(&self.dir)? {
            let path = names_file(&self.dir, number);
            let Ok(text) = fs::read(&path) else { continue };
            let is_meant = |line: &[u8]| {
                names::entry(line).filter(|entry| entry.kind == NameKind::Caller.as_str() && entry.name == name).map(|entry| entry.mark)
            };
            let mut kept = Vec::with_capacity(text.len());
            for line in text.split_inclusive(|byte| *byte == b'\n') {
                match is_meant(line) {
                    Some(mark) => marks.push(mark.into()),
                    None => kept.extend_from_slice(line),
                }
            }
            if kept.len() < text.len() {
                replace(&path, &kept)?;
            }
        }
        self.marks.forget(name);
        let count = marks.len();
        if count > 0 {
            marks.truncate(MOST_MARKS);
            let incident = Incident::new("caller.erased", now).with("entries", count).with("marks", marks);
            self.append_in_turn(&[incident], now, Some(1))?;
        }
        Ok(count)
    }
}

/// The last line before `end`, or before the file's end, without its line feed; empty if there is none.
fn last_of(path: &Path, end: Option<u64>) -> io::Result<Vec<u8>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let end = end.map_or_else(|| file.metadata().map(|file| file.len()), Ok)?;
    let from = end.saturating_sub(LAST);
    file.seek(SeekFrom::Start(from))?;
    let mut text = Vec::new();
    file.take(end - from).read_to_end(&mut text)?;
    let Some(b'\n') = text.pop() else { return Ok(Vec::new()) };
    let start = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    Ok(text.split_off(start))
}

fn read_from(path: &Path, from: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(text)
}
