//! The binary form of an entry, for a shared store: a version, then length-prefixed fields. Decoding gives an entry or nothing,
//! whatever the bytes are; an unknown version gives nothing.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderName, StatusCode};

use super::{
    entry::{Entry, NewEntry, Savings},
    freshness::{Freshness, Source, since},
    vary::Variance,
};
use crate::{
    clock::{Moment, unix},
    http1::{Fields, Name},
    usage::{CLASSES, Usage},
};

/// Format version, the first byte. Any change of the format is a new number.
pub const VERSION: u8 = 4;

impl Entry {
    /// The entry as bytes. Times are written by the wall clock of `now`: other processes can read them.
    pub fn encode(&self, now: Moment) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(self.len as usize + 1024));
        out.0.push(VERSION);
        out.number(u64::from(self.status.as_u16()));
        out.fields(&self.headers);
        out.option(self.trailers.as_ref(), Writer::fields);
        let fresh = &self.fresh;
        out.time(fresh.received, now);
        for duration in [fresh.initial_age, fresh.lifetime, fresh.overdue, fresh.stale_while_revalidate, fresh.stale_if_error] {
            out.duration(duration);
        }
        out.0.push(match fresh.source {
            Source::Explicit => 0,
            Source::Forced => 1,
            Source::Heuristic => 2,
            Source::Nothing => 3,
        });
        let flags = [fresh.no_cache, fresh.may_be_stale, self.is_softly_purged(), self.dated];
        out.0.push(flags.iter().rev().fold(0, |byte, flag| byte << 1 | u8::from(*flag)));
        out.number(self.variance.fields.len() as u64);
        for (name, value) in &self.variance.fields {
            out.bytes(name.as_str().as_bytes());
            out.option(value.as_deref(), |out, value| out.bytes(value));
        }
        out.bytes(self.route.as_bytes());
        out.bytes(self.path.as_bytes());
        out.bytes(self.what.as_bytes());
        out.number(u64::from(self.took_millis));
        out.number(self.tags.len() as u64);
        for tag in &self.tags {
            out.bytes(tag.as_bytes());
        }
        out.option(self.savings.as_ref(), |out, savings| {
            let classes = savings.usage.classes();
            classes.into_iter().chain([savings.usage.reasoning, savings.nano_usd]).for_each(|number| out.number(number));
        });
        out.time(self.stored_at, now);
        out.option(self.pauses.as_ref(), |out, pauses| {
            out.number(pauses.len() as u64);
            pauses.iter().for_each(|pause| out.number(u64::from(*pause)));
        });
        out.number(self.body.len() as u64);
        for piece in self.body.iter() {
            out.bytes(piece);
        }
        out.0
    }

    /// The entry that [`encode`](Self::encode) wrote, as old as it is at `now`; `None` for other bytes, also for trailing bytes.
    pub fn decode(bytes: &[u8], now: Moment) -> Option<Self> {
        let mut read = Reader(bytes);
        if read.byte()? != VERSION {
            return None;
        }
        let status = StatusCode::from_u16(u16::try_from(read.number()?).ok()?).ok()?;
        let headers = read.fields()?;
        let trailers = read.option(Reader::fields)?;
        let received = read.time(now)?;
        let (initial_age, lifetime, overdue) = (read.duration()?, read.duration()?, read.duration()?);
        let (stale_while_revalidate, stale_if_error) = (read.duration()?, read.duration()?);
        let source = match read.byte()? {
            0 => Source::Explicit,
            1 => Source::Forced,
            2 => Source::Heuristic,
            3 => Source::Nothing,
            _ => return None,
        };
        let flags = read.byte()?;
        if flags > 15 {
            return None;
        }
        let (no_cache, may_be_stale, dated) = (flags & 1 != 0, flags & 2 != 0, flags & 8 != 0);
        let fresh =
            Freshness { received, initial_age, lifetime, overdue, source, no_cache, stale_while_revalidate, stale_if_error, may_be_stale };
        let mut variance = Variance::default();
        for _ in 0..read.count()? {
            let name = HeaderName::from_bytes(read.bytes()?).ok()?;
            let value = read.option(|read| Some(Box::from(read.bytes()?)))?;
            variance.fields.push((name, value));
        }
        let (route, path) = (Arc::from(read.text()?), Box::from(read.text()?));
        let (what, took_millis) = (Arc::from(read.text()?), u32::try_from(read.number()?).ok()?);
        let tags = (0..read.count()?).map(|_| read.text().map(Arc::from)).collect::<Option<_>>()?;
        let savings = read.option(|read| {
            let mut classes = [0; CLASSES];
            for class in &mut classes {
                *class = read.number()?;
            }
            Some(Savings { usage: Usage::of(classes, read.number()?), nano_usd: read.number()? })
        })?;
        let stored_at = read.time(now)?;
        let paced = match read.byte()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let (pauses, body) = read.body(paced)?;
        let new = NewEntry {
            status,
            headers,
            body,
            trailers,
            pauses,
            dated,
            fresh,
            variance,
            route,
            path,
            what,
            took_millis,
            tags,
            savings,
            stored_at,
        };
        let entry = Self::new(new);
        if flags & 4 != 0 {
            crate::store::memory::Stored::soften(&entry);
        }
        read.0.is_empty().then_some(entry)
    }
}

struct Writer(Vec<u8>);

impl Writer {
    /// LEB128.
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.0.push(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }

    fn fields(&mut self, fields: &Fields) {
        self.number(fields.len() as u64);
        for (name, value) in fields.iter() {
            self.bytes(name.text());
            self.bytes(value.as_bytes());
        }
    }

    fn duration(&mut self, duration: Duration) {
        self.number(duration.as_secs());
        self.number(u64::from(duration.subsec_nanos()));
    }

    fn time(&mut self, at: Moment, now: Moment) {
        self.duration(unix(now.before(now.since(at)).wall));
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    /// A count of items of at least one byte each: never more than the bytes left.
    fn count(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok().filter(|count| *count <= self.0.len())
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.count()?;
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        Some(taken)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// Outer `None`: malformed.
    fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.byte()? {
            0 => Some(None),
            1 => read(self).map(Some),
            _ => None,
        }
    }

    fn fields(&mut self) -> Option<Fields> {
        let mut fields = Fields::new();
        for _ in 0..self.count()? {
            let name = Name::new(self.bytes()?)?;
            fields.append(name, self.bytes()?);
        }
        Some(fields.compact())
    }

    fn duration(&mut self) -> Option<Duration> {
        let (seconds, nanos) = (self.number()?, u32::try_from(self.number()?).ok()?);
        (nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos))
    }

    fn time(&mut self, now: Moment) -> Option<Moment> {
        let at = UNIX_EPOCH.checked_add(self.duration()?)?;
        Some(now.before(since(at, now.wall)))
    }

    /// The pauses (one per piece) and the pieces; all pieces share one copy.
    #[expect(clippy::type_complexity, reason = "two lists of one length, taken apart at once")]
    fn body(&mut self, paced: bool) -> Option<(Option<Arc<[u32]>>, Arc<[Bytes]>)> {
        let mut pauses = paced.then(Vec::new);
        if let Some(pauses) = &mut pauses {
            for _ in 0..self.count()? {
                pauses.push(u32::try_from(self.number()?).ok()?);
            }
        }
        let pieces = self.count()?;
        let region = Bytes::copy_from_slice(self.0);
        let mut body = Vec::with_capacity(pieces.min(4096));
        for _ in 0..pieces {
            let piece = self.bytes()?;
            let end = region.len() - self.0.len();
            body.push(region.slice(end - piece.len()..end));
        }
        Some((pauses.map(Arc::from), body.into()))
    }
}
