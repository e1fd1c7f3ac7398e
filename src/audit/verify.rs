//! Verification of a log: every line, in order, against the one before, and the end against the head.
//!
//! A fault names the file and the line. After a fault the next line is taken as it stands: one change is one fault, or few.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _},
    path::Path,
};

use serde_json::{Value, json};

use super::{
    NameKind,
    chain::{lines_file, names_file, numbers, turn},
    head::{ChainHead, FoundHead},
    line::{ChainKey, GENESIS, Hash, ReadLine, hex},
    names,
};

/// Most faults that are told one by one.
const MOST: usize = 100;

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditFault {
    /// The file's name.
    pub file: String,
    /// The line in the file, from 1; 0: the file as a whole.
    pub line: u64,
    /// What is wrong.
    pub what: String,
}

/// What a verification has found.
#[derive(Debug, Default)]
pub struct Verdict {
    /// The faults, at most a hundred.
    pub faults: Vec<AuditFault>,
    /// Faults beyond these.
    pub further: u64,
    /// Files of lines.
    pub files: usize,
    /// Lines.
    pub lines: u64,
    /// Lines whose hash is under a key that was given.
    pub keyed: u64,
    /// Numbers of the first and the last line.
    pub range: Option<(u64, u64)>,
    /// The hash of the last line.
    pub last_hash: Hash,
    /// Marks whose name was erased or is not there.
    pub unnamed: usize,
    /// What is remarkable and no fault.
    pub notes: Vec<String>,
}

impl Verdict {
    /// Whether nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.faults.is_empty()
    }

    fn fault(&mut self, file: &Path, line: u64, what: impl Into<String>) {
        if self.faults.len() == MOST {
            self.further += 1;
            return;
        }
        let file = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.faults.push(AuditFault { file, line, what: what.into() });
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let faults: Vec<Value> =
            self.faults.iter().map(|fault| json!({"file": fault.file, "line": fault.line, "what": fault.what})).collect();
        json!({
            "whole": self.is_whole(), "files": self.files, "lines": self.lines, "keyed_lines": self.keyed,
            "first": self.range.map(|range| range.0), "last": self.range.map(|range| range.1), "last_hash": hex(&self.last_hash),
            "erased_or_missing_names": self.unnamed, "faults": faults, "further_faults": self.further, "notes": self.notes,
        })
    }
}

/// A walk along the lines.
struct Walk<'a> {
    keys: &'a [ChainKey],
    verdict: Verdict,
    /// Number and hash of the line before; `None`: it could not be read.
    before: Option<(u64, Hash)>,
    /// What the first line names as the line before it.
    first: Option<(u64, Hash)>,
    /// Lines that say that others before them were dropped.
    dropped: Vec<(u64, String)>,
    head: Option<ChainHead>,
    /// File, end and hash of the line with the head's number.
    at_head: Option<(u64, u64, Hash)>,
    marks: HashSet<String>,
}

/// Verifies the log in `dir` with these keys; those who write it may go on meanwhile.
///
/// # Errors
/// The directory cannot be read.
pub fn verify(dir: &Path, keys: &[ChainKey]) -> io::Result<Verdict> {
    let mut verdict = Verdict::default();
    let held = turn(dir);
    if let Err(error) = &held {
        verdict.notes.push(format!("read without the turn of the directory, lines may be written meanwhile: {error}"));
    }
    let found = ChainHead::read(dir, keys)?;
    let mut files = Vec::new();
    for number in numbers(dir)? {
        files.push((number, fs::metadata(lines_file(dir, number))?.len()));
    }
    drop(held);
    verdict.files = files.len();
    let head_file = ChainHead::path(dir);
    let head = match found {
        FoundHead::Whole(head) => Some(head),
        FoundHead::Missing if files.is_empty() => {
            verdict.notes.push("there is no line".to_owned());
            None
        }
        FoundHead::Missing => {
            verdict.fault(&head_file, 0, "the head is missing: nobody can say whether lines were cut off at the end");
            None
        }
        FoundHead::Broken => {
            verdict.fault(&head_file, 0, "the head was changed");
            None
        }
        FoundHead::OfAnotherKey(head) => {
            let id = head.key.as_deref().unwrap_or_default();
            verdict.fault(&head_file, 0, format!("the head was made with the key {id}, which is not given"));
            None
        }
    };
    let (before, first) = (Some((0, GENESIS)), None);
    let (dropped, marks) = (Vec::new(), HashSet::new());
    let mut walk = Walk { keys, verdict, before, first, dropped, head, at_head: None, marks };
    for (number, len) in &files {
        walk.file(dir, *number, *len)?;
        walk.names(&names_file(dir, *number))?;
    }
    walk.beginning(dir, files.first().map(|file| file.0).unwrap_or_default());
    walk.end(&head_file);
    Ok(walk.verdict)
}

impl Walk<'_> {
    fn file(&mut self, dir: &Path, number: u64, len: u64) -> io::Result<()> {
        let path = lines_file(dir, number);
        let mut reader = BufReader::new(File::open(&path)?.take(len));
        let (mut text, mut nth, mut end) = (Vec::new(), 0, 0);
        loop {
            text.clear();
            let read = reader.read_until(b'\n', &mut text)?;
            if read == 0 {
                return Ok(());
            }
            nth += 1;
            end += read as u64;
            match text.strip_suffix(b"\n") {
                Some(line) => self.line(&path, nth, line, (number, end)),
                None if self.head.as_ref().is_some_and(|head| number >= head.file && end > head.len) => {
                    let note = format!("{} ends with the beginning of a line: a process was killed while it wrote", path.display());
                    self.verdict.notes.push(note);
                }
                None => self.verdict.fault(&path, nth, "the line has no end: it was cut"),
            }
        }
    }

    fn line(&mut self, path: &Path, nth: u64, text: &[u8], (file, end): (u64, u64)) {
        self.verdict.lines += 1;
        let Some(line) = ReadLine::read(text) else {
            self.before = None;
            return self.verdict.fault(path, nth, "this is no line of the log: it was changed, or put in");
        };
        self.own_hash(path, nth, &line);
        self.order(path, nth, &line);
        if line.event() == "audit.dropped"
            && let (Some(seq), Some(hash)) = (line.members.get("last_seq"), line.members.get("last_hash"))
        {
            self.dropped.extend(seq.as_u64().zip(hash.as_str().map(str::to_owned)));
        }
        if line.event() == "audit.damaged" {
            let what = line.members.get("what").and_then(Value::as_str).unwrap_or_default();
            self.verdict.fault(path, nth, format!("line {} says what the proxy found when it opened the log: {what}", line.seq));
        }
        for kind in [NameKind::Caller, NameKind::Address] {
            if let Some(mark) = line.members.get(kind.as_str()).and_then(Value::as_str) {
                self.marks.insert(mark.to_owned());
            }
        }
        if self.head.as_ref().is_some_and(|head| head.seq == line.seq) {
            self.at_head = Some((file, end, line.hash));
        }
        self.first.get_or_insert((line.seq, line.prev));
        let first = self.verdict.range.map_or(line.seq, |range| range.0);
        self.verdict.range = Some((first, line.seq));
        self.verdict.last_hash = line.hash;
        self.before = Some((line.seq, line.hash));
    }

    fn own_hash(&mut self, path: &Path, nth: u64, line: &ReadLine<'_>) {
        let seq = line.seq;
        let key = match &line.key {
            None => None,
            Some(id) => match self.keys.iter().find(|key| key.id == *id) {
                Some(key) => Some(key),
                None => return self.verdict.fault(path, nth, format!("line {seq} cannot be verified: its key {id} is not given")),
            },
        };
        if !line.is_whole(key) {
            return self.verdict.fault(path, nth, format!("line {seq} was changed: its hash does not fit"));
        }
        if key.is_some() {
            self.verdict.keyed += 1;
        } else if self.verdict.keyed > 0 {
            self.verdict.fault(path, nth, format!("line {seq} has no key, and lines before it have one: anybody can have written it"));
        }
    }

    fn order(&mut self, path: &Path, nth: u64, line: &ReadLine<'_>) {
        let (seq, first) = (line.seq, self.first.is_none());
        match self.before {
            // What stood before the first line is looked at in the end.
            _ if first => {}
            None => {}
            Some((before, hash)) if seq == before + 1 && line.prev == hash => {}
            Some((before, _)) if seq == before + 1 => {
                self.verdict.fault(path, nth, format!("line {seq} does not follow line {before} as it stands here"));
            }
            Some((before, _)) if seq > before + 1 => {
                let missing = seq - before - 1;
                self.verdict.fault(path, nth, format!("{missing} lines before line {seq} are missing"));
            }
            Some((before, _)) => {
                self.verdict.fault(path, nth, format!("line {seq} stands behind line {before}: it was moved, or stands here twice"));
            }
        }
    }

    /// What stood before the first line: nothing, or lines that another line says were dropped.
    fn beginning(&mut self, dir: &Path, number: u64) {
        let Some((seq, prev)) = self.first else { return };
        let path = lines_file(dir, number);
        if seq == 1 {
            if prev != GENESIS {
                self.verdict.fault(&path, 1, "line 1 names a line before it");
            }
        } else if self.dropped.iter().any(|(last, hash)| *last + 1 == seq && *hash == hex(&prev)) {
            self.verdict.notes.push(format!("the lines before {seq} were dropped, as a line says (audit.files)"));
        } else {
            self.verdict.fault(&path, 1, format!("the lines before line {seq} are missing, and no line says that they were dropped"));
        }
    }

    fn end(&mut self, path: &Path) {
        self.verdict.unnamed = self.marks.len();
        if self.verdict.keyed == 0 && !self.keys.is_empty() && self.verdict.lines > 0 {
            self.verdict.fault(path, 0, "a key is given, and no line is under a key: anybody can have written this log");
        }
        let Some(head) = self.head.clone() else { return };
        let last = self.verdict.range.map_or(0, |range| range.1);
        match self.at_head {
            None if head.seq == 0 => {}
            None if last < head.seq => {
                let what = format!("the log ends at line {last}, and had {} lines: {} were cut off at the end", head.seq, head.seq - last);
                self.verdict.fault(path, 0, what);
            }
            None => self.verdict.fault(path, 0, format!("line {}, at which the head ends, is missing", head.seq)),
            Some((_, _, hash)) if hash != head.hash => {
                self.verdict.fault(path, 0, format!("line {} is not the one that the head names", head.seq));
            }
            Some((file, end, _)) if (file, end) != (head.file, head.len) => {
                self.verdict.fault(path, 0, format!("line {} does not stand where the head says", head.seq));
            }
            Some(_) if last > head.seq => {
                let more = last - head.seq;
                self.verdict.notes.push(format!("{more} lines stand behind the head: a process was killed before it wrote the head"));
            }
            Some(_) => {}
        }
    }

    fn names(&mut self, path: &Path) -> io::Result<()> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for (nth, line) in text.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            match names::entry(line) {
                Some(entry) if entry.fits => drop(self.marks.remove(&entry.mark)),
                Some(_) => self.verdict.fault(path, nth as u64 + 1, "the name is not the one of its mark: it was changed"),
                None => self.verdict.fault(path, nth as u64 + 1, "this is no entry of names: it was changed"),
            }
        }
        Ok(())
    }
}
