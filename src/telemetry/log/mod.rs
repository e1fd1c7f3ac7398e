//! The access log: one line per exchange, written without allocation and never waited for.
//!
//! Each worker has a buffer of its own; one thread takes the full ones (at the latest every [`FLUSH_EVERY`]) and writes
//! them out in blocks. When whoever reads standard output is too slow, a buffer fills up to [`MAX_BUFFER`] and further
//! lines are dropped and counted: the log may lose lines, a request never waits for it.

mod process;
mod record;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

pub use process::init_process_log;
pub use record::{Outcome, Record, Tokens};

use super::metrics::Counter;
use crate::config::LogFormat;

/// A line waits at most this long in memory.
pub const FLUSH_EVERY: Duration = Duration::from_millis(200);

/// A buffer of this many bytes is written at once.
const BLOCK: usize = 32 * 1024;

/// A worker's buffer never holds more.
pub const MAX_BUFFER: usize = 1024 * 1024;

/// The access log of the process. Call [`Log::shutdown`] before leaving, or the last lines are lost.
pub struct Log {
    format: LogFormat,
    shared: Arc<Shared>,
}

/// A worker's end of the log. Cheap to clone.
#[derive(Clone)]
pub struct WorkerLog {
    format: LogFormat,
    buffer: Arc<Mutex<Vec<u8>>>,
    shared: Arc<Shared>,
}

struct Shared {
    buffers: Mutex<Vec<Arc<Mutex<Vec<u8>>>>>,
    /// Whether the thread has been told that there is something to write.
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

impl Log {
    /// Begins to write lines to standard output. `dropped` counts lines that were lost.
    pub fn start(format: LogFormat, dropped: Counter) -> io::Result<Self> {
        Self::start_into(format, dropped, Box::new(io::stdout()))
    }

    /// As [`Log::start`], to any writer.
    pub fn start_into(format: LogFormat, dropped: Counter, out: Box<dyn Write + Send>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            buffers: Mutex::default(),
            pending: AtomicBool::new(false),
            signal: Mutex::default(),
            wake: Condvar::new(),
            dropped,
        });
        if format != LogFormat::Off {
            let shared = shared.clone();
            thread::Builder::new().name("outrigger-log".into()).spawn(move || drain(&shared, out))?;
        }
        Ok(Self { format, shared })
    }

    /// The log of one more worker.
    pub fn worker(&self) -> WorkerLog {
        let buffer = Arc::new(Mutex::new(Vec::new()));
        self.shared.buffers.lock().push(buffer.clone());
        WorkerLog { format: self.format, buffer, shared: self.shared.clone() }
    }

    /// Writes what is buffered and ends the thread; waits at most `within`. Blocks. Whether everything was written in time.
    pub fn shutdown(&self, within: Duration) -> bool {
        if self.format == LogFormat::Off {
            return true;
        }
        let mut signal = self.shared.signal.lock();
        signal.stop = true;
        self.shared.wake.notify_all();
        !self.shared.wake.wait_while_for(&mut signal, |signal| !signal.stopped, within).timed_out()
    }
}

impl WorkerLog {
    /// Whether lines are written at all; ask before a record is put together.
    pub fn enabled(&self) -> bool {
        self.format != LogFormat::Off
    }

    /// Writes one line. Never blocks on output.
    pub fn write(&self, record: &Record<'_>) {
        if !self.enabled() {
            return;
        }
        let mut buffer = self.buffer.lock();
        let before = buffer.len();
        match self.format {
            LogFormat::Json => record.write_json(&mut buffer),
            LogFormat::Text => record.write_text(&mut buffer),
            LogFormat::Off => {}
        }
        if buffer.len() > MAX_BUFFER {
            buffer.truncate(before);
            self.shared.dropped.inc();
        }
        let urgent = before < BLOCK && buffer.len() >= BLOCK;
        drop(buffer);
        // one wake-up per block written, not per line
        if urgent || !self.shared.pending.swap(true, Ordering::AcqRel) {
            let mut signal = self.shared.signal.lock();
            signal.pending = true;
            signal.urgent |= urgent;
            self.shared.wake.notify_all();
        }
    }
}

/// The writing thread: sleeps until there is something, gathers for [`FLUSH_EVERY`], writes.
fn drain(shared: &Shared, mut out: Box<dyn Write + Send>) {
    let mut spare = Vec::new();
    loop {
        let mut signal = shared.signal.lock();
        shared.wake.wait_while(&mut signal, |signal| !signal.pending && !signal.stop);
        shared.wake.wait_while_for(&mut signal, |signal| !signal.urgent && !signal.stop, FLUSH_EVERY);
        let stop = signal.stop;
        signal.pending = false;
        signal.urgent = false;
        drop(signal);
        // from here on a new line wakes us again
        shared.pending.store(false, Ordering::Release);
        let buffers = shared.buffers.lock().clone();
        for buffer in &buffers {
            std::mem::swap(&mut *buffer.lock(), &mut spare);
            if !spare.is_empty() && out.write_all(&spare).is_err() {
                shared.dropped.add(memchr::memchr_iter(b'\n', &spare).count() as u64);
            }
            spare.clear();
            spare.shrink_to(BLOCK * 2);
        }
        // a worker's last handle is gone: nothing more will come through its buffer
        drop(buffers);
        shared.buffers.lock().retain(|buffer| Arc::strong_count(buffer) > 1 || !buffer.lock().is_empty());
        if out.flush().is_err() {
            tracing::debug!("standard output cannot be flushed");
        }
        if stop {
            shared.signal.lock().stopped = true;
            shared.wake.notify_all();
            return;
        }
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("format", &self.format).finish_non_exhaustive()
    }
}

impl fmt::Debug for WorkerLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerLog").field("format", &self.format).finish_non_exhaustive()
    }
}
