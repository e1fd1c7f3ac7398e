//! Lines on their way to a collector: a bounded queue between the threads that say something and the exporter.
//!
//! A line waits as the JSON of the log: the exporter takes it apart, on a thread that no request waits for. A line that finds no room
//! is dropped and counted.

use std::{collections::VecDeque, time::SystemTime};

use opentelemetry::{SpanId, TraceId};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::Level;

use crate::telemetry::metrics::Counter;

/// Most lines that wait.
pub(in crate::telemetry) const MAX_LINES: usize = 4096;

/// Most bytes of the lines that wait.
pub(in crate::telemetry) const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Lines of one export. So many lines wake the exporter.
pub(in crate::telemetry) const BATCH: usize = 512;

/// The log that a line belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::telemetry) enum LineKind {
    /// The access log: one exchange.
    Access,
    /// The process log.
    Process,
    /// The audit log.
    Audit,
}

/// A line for a collector.
#[derive(Debug)]
pub(in crate::telemetry) struct LogLine {
    /// Its log.
    pub(in crate::telemetry) kind: LineKind,
    /// When it happened; of an exchange, the arrival.
    pub(in crate::telemetry) at: SystemTime,
    /// How bad it is.
    pub(in crate::telemetry) level: Level,
    /// The trace and the span of the exchange.
    pub(in crate::telemetry) trace: Option<(TraceId, SpanId)>,
    /// One JSON object, as the log has it.
    pub(in crate::telemetry) json: Box<[u8]>,
}

/// The lines that wait for the exporter.
#[derive(Debug)]
pub(in crate::telemetry) struct LineQueue {
    waiting: Mutex<WaitingLines>,
    wake: Notify,
    dropped: Counter,
}

#[derive(Debug, Default)]
struct WaitingLines {
    lines: VecDeque<LogLine>,
    bytes: usize,
}

impl LineQueue {
    /// An empty queue. `dropped` counts lines that were lost.
    pub(in crate::telemetry) fn new(dropped: Counter) -> Self {
        Self { waiting: Mutex::default(), wake: Notify::new(), dropped }
    }

    /// Queues a line. Never waits for the collector.
    pub(in crate::telemetry) fn push(&self, line: LogLine) {
        let mut waiting = self.waiting.lock();
        if waiting.lines.len() >= MAX_LINES || waiting.bytes + line.json.len() > MAX_BYTES {
            drop(waiting);
            return self.dropped.inc();
        }
        waiting.bytes += line.json.len();
        waiting.lines.push_back(line);
        let full = waiting.lines.len() == BATCH;
        drop(waiting);
        if full {
            self.wake.notify_one();
        }
    }

    /// Takes the oldest lines, at most [`BATCH`].
    pub(in crate::telemetry) fn take(&self) -> Vec<LogLine> {
        let mut waiting = self.waiting.lock();
        let count = waiting.lines.len().min(BATCH);
        let batch: Vec<LogLine> = waiting.lines.drain(..count).collect();
        waiting.bytes -= batch.iter().map(|line| line.json.len()).sum::<usize>();
        batch
    }

    /// Counts lines that left the queue and were lost after all.
    pub(in crate::telemetry) fn lost(&self, count: usize) {
        self.dropped.add(count as u64);
    }

    /// Ends when [`BATCH`] lines wait. Lines that came before may end it at once.
    pub(in crate::telemetry) async fn filled(&self) {
        self.wake.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn line(bytes: usize) -> LogLine {
        let json = vec![b' '; bytes].into();
        LogLine { kind: LineKind::Process, at: UNIX_EPOCH, level: Level::INFO, trace: None, json }
    }

    #[test]
    fn lines_beyond_the_bounds_are_dropped_and_counted() {
        let dropped = Counter::default();
        let queue = LineQueue::new(dropped.clone());
        (0..MAX_LINES + 3).for_each(|_| queue.push(line(10)));
        assert_eq!(dropped.get(), 3);
        let mut taken = 0;
        while let count @ 1.. = queue.take().len() {
            assert!(count <= BATCH);
            taken += count;
        }
        assert_eq!(taken, MAX_LINES);
        (0..5).for_each(|_| queue.push(line(MAX_BYTES / 4)));
        assert_eq!((dropped.get(), queue.take().len()), (4, 4), "bytes are bounded too, and given back by the lines that left");
        queue.push(line(MAX_BYTES));
        assert_eq!(dropped.get(), 4);
    }
}
