//! Two logs: the access log (standard output), one line per exchange, and the process log (standard error), written through
//! `tracing`. No request waits for either: see `writer`.

mod event;
mod process;
pub(super) mod queue;
mod record;
mod repeats;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod write;
mod writer;

use std::{fmt, io, sync::Arc, time::Duration};

pub use process::{end_process_log, init_process_log, say_repeats};
pub use record::{ExchangeOutcome, Record, Tokens};
pub use writer::{FLUSH_EVERY, MAX_BUFFER};

pub(super) use process::{lines_lost, send_process_log};
pub(super) use write::{decimal, escape};
pub(super) use writer::{Output, standard_output};

use tracing::Level;

use super::metrics::Counter;
use crate::config::LogFormat;
use queue::{LineKind, LineQueue, LogLine};
use writer::{Lane, Writer};

/// The access log of the process. Call [`Log::shutdown`] before leaving, or the last lines are lost.
pub struct Log {
    format: LogFormat,
    /// `None`: nothing is written.
    writer: Option<Writer>,
    /// `None`: the lines go to no collector.
    collector: Option<Arc<LineQueue>>,
}

/// A worker's end of the log. Cheap to clone.
#[derive(Clone)]
pub struct WorkerLog {
    format: LogFormat,
    lane: Option<Lane>,
    collector: Option<Arc<LineQueue>>,
}

impl Log {
    /// Begins to write lines to standard output. `dropped` counts lines that were lost.
    pub fn start(format: LogFormat, dropped: Counter) -> io::Result<Self> {
        Self::start_into(format, dropped, standard_output())
    }

    /// As [`Log::start`], to any writer.
    pub fn start_into(format: LogFormat, dropped: Counter, out: Output) -> io::Result<Self> {
        let writer = (format != LogFormat::Off).then(|| Writer::start("outrigger-log", dropped, out)).transpose()?;
        Ok(Self { format, writer, collector: None })
    }

    /// Sends the lines to a collector too. Workers that have their log already do not.
    pub(super) fn send_to(&mut self, collector: Arc<LineQueue>) {
        self.collector = Some(collector);
    }

    /// The log of one more worker.
    pub fn worker(&self) -> WorkerLog {
        WorkerLog { format: self.format, lane: self.writer.as_ref().map(Writer::lane), collector: self.collector.clone() }
    }

    /// Writes the buffered lines and ends the thread; waits at most `within`. Blocks. Gives whether every line was written in time.
    pub fn shutdown(&self, within: Duration) -> bool {
        self.writer.as_ref().is_none_or(|writer| writer.shutdown(within))
    }
}

impl WorkerLog {
    /// Whether lines are written at all; ask before a record is put together.
    pub fn enabled(&self) -> bool {
        self.lane.is_some() || self.collector.is_some()
    }

    /// Writes one line. Never blocks on output.
    pub fn write(&self, record: &Record<'_>) {
        if let Some(lane) = &self.lane {
            lane.push(|out| match self.format {
                LogFormat::Json => record.write_json(out),
                LogFormat::Text => record.write_text(out),
                LogFormat::Off => {}
            });
        }
        if let Some(collector) = &self.collector {
            collector.push(line(record));
        }
    }
}

/// Usual length of a line, in bytes.
const USUAL: usize = 640;

/// An exchange as a line for a collector.
fn line(record: &Record<'_>) -> LogLine {
    let mut json = Vec::with_capacity(USUAL);
    record.write_json(&mut json);
    let level = match record.outcome {
        ExchangeOutcome::UpstreamBroken => Level::ERROR,
        _ if record.status >= 500 => Level::ERROR,
        _ if record.status >= 400 || record.reason.is_some() => Level::WARN,
        _ => Level::INFO,
    };
    LogLine { kind: LineKind::Access, at: record.at, level, trace: record.trace_id.zip(record.span_id), json: json.into() }
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
