//! Lines on their way out: a thread that writes a line never waits for the reader of the output.
//!
//! A [`Writer`] has a thread of its own and any number of [`Lane`]s. A lane is a buffer: a line is appended under a short
//! lock. The thread takes the buffers (at the latest every [`FLUSH_EVERY`]) and writes them in blocks. While the output is
//! blocked, a lane fills up to [`MAX_BUFFER`] and further lines are dropped. While the output fails (disk full, reader
//! gone), lines are dropped too. Every dropped line is counted, and the thread tries again with the next ones.

use std::{
    fmt,
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

use crate::telemetry::metrics::Counter;

/// A line waits at most this long in memory.
pub const FLUSH_EVERY: Duration = Duration::from_millis(200);

/// A buffer of this many bytes is written at once. Each block costs the worker two wake-ups of the thread that writes: at 37,000 requests
/// a second blocks of 32 KiB took 3% of the core for them.
const BLOCK: usize = 128 * 1024;

/// A lane never holds more.
pub const MAX_BUFFER: usize = 1024 * 1024;

/// Pause before the next try: the output takes nothing now and does not block either.
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// The output of a writer.
pub type Output = Box<dyn Write + Send>;

/// Standard output, without the buffer and the lock of the standard library: its buffer is flushed at the end of the process,
/// and that would wait for a reader.
pub fn standard_output() -> Output {
    match io::stdout().as_fd().try_clone_to_owned() {
        Ok(own) => Box::new(File::from(own)),
        Err(_) => Box::new(io::stdout()),
    }
}

/// Standard error, as [`standard_output`].
pub fn standard_error() -> Output {
    match io::stderr().as_fd().try_clone_to_owned() {
        Ok(own) => Box::new(File::from(own)),
        Err(_) => Box::new(io::stderr()),
    }
}

/// The thread that writes. Call [`Writer::shutdown`] before leaving, or the last lines are lost.
pub struct Writer {
    shared: Arc<Shared>,
}

/// A buffer that takes lines. Clones share it.
#[derive(Clone)]
pub struct Lane {
    buffer: Arc<Mutex<Vec<u8>>>,
    shared: Arc<Shared>,
}

struct Shared {
    buffers: Mutex<Vec<Arc<Mutex<Vec<u8>>>>>,
    /// Whether the thread was woken for lines that it has not taken yet.
    pending: AtomicBool,
    signal: Mutex<Signal>,
    wake: Condvar,
    dropped: Counter,
}

#[derive(Default)]
struct Signal {
    pending: bool,
    /// A buffer is full: do not wait for more.
    urgent: bool,
    stop: bool,
    stopped: bool,
}

impl Writer {
    /// Starts a thread called `name` that writes to `out`. `dropped` counts lines that were lost.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub fn start(name: &str, dropped: Counter, out: Output) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            buffers: Mutex::default(),
            pending: AtomicBool::new(false),
            signal: Mutex::default(),
            wake: Condvar::new(),
            dropped,
        });
        let drained = shared.clone();
        thread::Builder::new().name(name.to_owned()).spawn(move || drain(&drained, out))?;
        Ok(Self { shared })
    }

    /// One more buffer.
    pub fn lane(&self) -> Lane {
        let buffer = Arc::new(Mutex::new(Vec::new()));
        self.shared.buffers.lock().push(buffer.clone());
        Lane { buffer, shared: self.shared.clone() }
    }

    /// Writes the buffered lines and ends the thread; waits at most `within`. Blocks. Gives whether every line was written in time.
    pub fn shutdown(&self, within: Duration) -> bool {
        let mut signal = self.shared.signal.lock();
        signal.stop = true;
        self.shared.wake.notify_all();
        !self.shared.wake.wait_while_for(&mut signal, |signal| !signal.stopped, within).timed_out()
    }
}

impl Lane {
    /// Appends the line that `line` writes. Never blocks on output.
    pub fn push(&self, line: impl FnOnce(&mut Vec<u8>)) {
        let mut buffer = self.buffer.lock();
        let before = buffer.len();
        line(&mut buffer);
        if buffer.len() > MAX_BUFFER {
            buffer.truncate(before);
            self.shared.dropped.inc();
        }
        let urgent = before < BLOCK && buffer.len() >= BLOCK;
        drop(buffer);
        // One wake-up per block written, not per line.
        if urgent || !self.shared.pending.swap(true, Ordering::AcqRel) {
            let mut signal = self.shared.signal.lock();
            signal.pending = true;
            signal.urgent |= urgent;
            self.shared.wake.notify_all();
        }
    }

    /// Bytes in the buffer.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.buffer.lock().len()
    }
}

/// The writing thread: sleeps until a lane has a line, gathers for [`FLUSH_EVERY`], writes.
fn drain(shared: &Shared, out: Output) {
    let mut lines = Lines { out, cut: false };
    let mut spare = Vec::new();
    loop {
        let mut signal = shared.signal.lock();
        shared.wake.wait_while(&mut signal, |signal| !signal.pending && !signal.stop);
        shared.wake.wait_while_for(&mut signal, |signal| !signal.urgent && !signal.stop, FLUSH_EVERY);
        let stop = signal.stop;
        signal.pending = false;
        signal.urgent = false;
        drop(signal);
        // From here on a new line wakes this thread again.
        shared.pending.store(false, Ordering::Release);
        let buffers = shared.buffers.lock().clone();
        let mut filled = 0;
        for buffer in &buffers {
            let mut buffer = buffer.lock();
            filled += usize::from(!buffer.is_empty());
            match spare.is_empty() {
                true => std::mem::swap(&mut *buffer, &mut spare),
                false => spare.append(&mut buffer),
            }
        }
        let text = if filled > 1 { by_time(&spare) } else { std::mem::take(&mut spare) };
        shared.dropped.add(lines.write(&text));
        if filled < 2 {
            spare = text;
        }
        spare.clear();
        spare.shrink_to(BLOCK * 2);
        // A lane whose last handle is gone gets no further lines.
        drop(buffers);
        shared.buffers.lock().retain(|buffer| Arc::strong_count(buffer) > 1 || !buffer.lock().is_empty());
        if stop {
            shared.signal.lock().stopped = true;
            shared.wake.notify_all();
            return;
        }
    }
}

/// Sorts the lines of several lanes by the timestamps that they begin with; lines of one time keep their order.
fn by_time(text: &[u8]) -> Vec<u8> {
    /// A line's beginning up to the end of its timestamp, in either format.
    const BEGINNING: usize = 40;
    let mut lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    lines.sort_by_key(|line| &line[..line.len().min(BEGINNING)]);
    lines.concat()
}

/// Whole lines to an output that may fail half-way.
struct Lines {
    out: Output,
    /// The last write broke off inside a line.
    cut: bool,
}

impl Lines {
    /// Writes `lines`; gives the number of lost ones.
    fn write(&mut self, lines: &[u8]) -> u64 {
        if lines.is_empty() {
            return 0;
        }
        // The next line begins on a line of its own.
        if self.cut && self.write_all(b"\n").is_ok() {
            self.cut = false;
        }
        let lost = match self.write_all(lines).and_then(|()| self.out.flush().map_err(|error| (0, error))) {
            Ok(()) => return 0,
            Err((left, _)) => &lines[lines.len() - left..],
        };
        self.cut |= lost.len() < lines.len() && !lines[..lines.len() - lost.len()].ends_with(b"\n");
        memchr::memchr_iter(b'\n', lost).count() as u64
    }

    /// The error comes with the number of bytes that were not written.
    fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), (usize, io::Error)> {
        while !bytes.is_empty() {
            match self.out.write(bytes) {
                Ok(0) => return Err((bytes.len(), io::ErrorKind::WriteZero.into())),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Another process that shares the pipe has made it non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(FULL_PAUSE),
                Err(error) => return Err((bytes.len(), error)),
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("lanes", &self.shared.buffers.lock().len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lane")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_several_lanes_come_in_the_order_of_their_times() {
        let text = b"{\"timestamp\":\"2026-11-30T11:00:00.002Z\",\"a\":1}\n{\"timestamp\":\"2026-11-30T11:00:00.001Z\",\"b\":1}\n\
            {\"timestamp\":\"2026-11-30T11:00:00.002Z\",\"A\":2}\n";
        let sorted = String::from_utf8(by_time(text)).expect("text");
        let names: Vec<char> = sorted.lines().map(|line| line.chars().nth(41).expect("a name")).collect();
        assert_eq!((names, sorted.len()), (vec!['b', 'a', 'A'], text.len()));
    }
}
