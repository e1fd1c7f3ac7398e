//! Puts the values back into a stream of server-sent events.
//!
//! An event passes byte for byte unless a value is put into it. An event waits only while the text before its end may be the beginning of a
//! placeholder; comments pass it by, and `[DONE]` and the end of the stream let everything go.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{
    json::is_valid,
    restore::{Joined, Restored},
    vault::Vault,
};
use crate::body::events::{Boundary, MAX_EVENT, fields};

/// Bytes of the events that wait at most. Beyond it they pass as they came.
const MOST_WAITING: usize = 256 * 1024;

/// A stream under way.
pub struct StreamRestorer {
    boundary: Boundary,
    /// The beginning of an event.
    held: Vec<u8>,
    /// The event under way is too large to be held, and passes.
    passing: bool,
    /// Events that wait, as they came.
    waiting: VecDeque<Vec<u8>>,
    waits: usize,
    /// The last event went on at once.
    went: bool,
    joined: Joined,
}

impl Default for StreamRestorer {
    fn default() -> Self {
        Self {
            boundary: Boundary::default(),
            held: Vec::new(),
            passing: false,
            waiting: VecDeque::new(),
            waits: 0,
            went: true,
            joined: Joined::default(),
        }
    }
}

impl StreamRestorer {
    /// How many placeholders were replaced.
    pub fn restored(&self) -> u64 {
        self.joined.restored
    }

    /// Takes a piece of the stream, and gives what goes on to `send`.
    pub fn feed(&mut self, vault: &Vault, piece: &Bytes, send: &mut dyn FnMut(Bytes)) {
        let mut start = 0;
        if self.boundary.take_line_feed(piece) {
            // It belongs to the event before, wherever that is by now.
            match self.waiting.back_mut() {
                Some(event) if !self.went => event.push(b'\n'),
                _ => send(piece.slice(..1)),
            }
            start = 1;
        }
        while let Some(len) = self.boundary.find(&piece[start..]) {
            let end = start + len;
            if std::mem::take(&mut self.passing) {
                send(piece.slice(start..end));
                self.went = true;
            } else if self.held.is_empty() {
                self.event(vault, piece.slice(start..end), send);
            } else {
                let mut held = std::mem::take(&mut self.held);
                held.extend_from_slice(&piece[start..end]);
                self.event(vault, held.into(), send);
            }
            start = end;
        }
        if self.passing || self.held.len() + piece.len() - start > MAX_EVENT {
            self.release(true, send);
            self.passing = true;
            if !self.held.is_empty() {
                send(std::mem::take(&mut self.held).into());
            }
            if start < piece.len() {
                send(piece.slice(start..));
            }
            return;
        }
        self.held.extend_from_slice(&piece[start..]);
    }

    /// Gives what still waits when the stream has ended. A last event without its empty line is an event too.
    pub fn finish(&mut self, vault: &Vault, send: &mut dyn FnMut(Bytes)) {
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            self.event(vault, held.into(), send);
        }
        self.release(true, send);
    }

    fn event(&mut self, vault: &Vault, event: Bytes, send: &mut dyn FnMut(Bytes)) {
        let mut lines = Vec::new();
        let (_, data) = fields(event.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&event), &mut lines);
        let last = data.is_some_and(|data| data.trim_ascii() == b"[DONE]");
        self.went = last || data.is_none();
        if self.went {
            if last {
                self.release(true, send);
            }
            return send(event);
        }
        let text = data.and_then(|data| std::str::from_utf8(data).ok()).filter(|data| data.trim_start().starts_with(['{', '[']));
        match text.filter(|text| is_valid(text)) {
            Some(text) => self.joined.take(vault, text.to_owned()),
            None => self.joined.pass(),
        }
        self.waits += event.len();
        self.waiting.push_back(event.into());
        self.release(self.waits > MOST_WAITING, send);
    }

    /// Sends the events that nothing holds back.
    fn release(&mut self, all: bool, send: &mut dyn FnMut(Bytes)) {
        while let Some(restored) = self.joined.next(all) {
            let Some(event) = self.waiting.pop_front() else { return };
            self.waits -= event.len().min(self.waits);
            match restored {
                Restored::AsItCame => send(event.into()),
                Restored::Changed(text) => send(with_data(&event, &text).into()),
            }
        }
    }
}

/// The event with other data: its first `data` line has it, in as many lines as it is long; further ones are left out.
fn with_data(event: &[u8], data: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(event.len() + data.len());
    let mut rest = event;
    let mut written = false;
    while !rest.is_empty() {
        let len = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
        let ending = if rest[len..].starts_with(b"\r\n") { 2 } else { usize::from(len < rest.len()) };
        let (line, end) = (&rest[..len], &rest[len..len + ending]);
        rest = &rest[len + ending..];
        if line
            .strip_prefix(b"\xef\xbb\xbf")
            .unwrap_or(line)
            .strip_prefix(b"data")
            .is_none_or(|after| !after.is_empty() && after[0] != b':')
        {
            out.extend_from_slice(line);
            out.extend_from_slice(end);
        } else if !std::mem::replace(&mut written, true) {
            let blank: &[u8] = if line.strip_prefix(b"data:").is_some_and(|value| value.starts_with(b" ")) { b" " } else { b"" };
            for part in data.split('\n') {
                out.extend_from_slice(b"data:");
                out.extend_from_slice(blank);
                out.extend_from_slice(part.as_bytes());
                out.extend_from_slice(end);
            }
        }
    }
    out
}
