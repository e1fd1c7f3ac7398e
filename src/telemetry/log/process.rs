//! The process log: every part of the proxy writes to it through `tracing`; its lines go to standard error.

use std::{
    io::{self, Write as _},
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use tracing::{Event, Level, Metadata, Subscriber, callsite::Identifier, level_filters::LevelFilter, span, subscriber::Interest};

use super::{
    event::Said,
    queue::{LineKind, LineQueue, LogLine},
    repeats::Repeats,
    writer::{Lane, Output, Writer, standard_error},
};
use crate::{
    clock::{Clock, Instant},
    config::LogFormat,
    telemetry::metrics::Counter,
};

/// The one process log: `tracing` has one global subscriber too.
static LOG: OnceLock<ProcessLog> = OnceLock::new();

/// Takes events, writes lines.
#[derive(Debug)]
struct ProcessLog {
    format: LogFormat,
    level: Level,
    clock: Clock,
    writer: Writer,
    lane: Lane,
    lost: Counter,
    repeats: Mutex<Repeats>,
    /// `None`: the lines go to no collector.
    collector: RwLock<Option<Arc<LineQueue>>>,
}

/// The subscriber that `tracing` asks for.
struct ToLog(&'static ProcessLog);

/// Sends `tracing` events of at least `level` to standard error, and panics too. Called once at start; a later call changes
/// nothing.
pub fn init_process_log(format: LogFormat, level: Level) {
    let Ok(log) = ProcessLog::start(format, level, standard_error()) else { return };
    let log = LOG.get_or_init(|| log);
    if tracing::subscriber::set_global_default(ToLog(log)).is_ok() {
        // The standard library's own hook writes to standard error, and would wait for its reader.
        std::panic::set_hook(Box::new(|panic| {
            let backtrace = std::backtrace::Backtrace::capture();
            let traced = backtrace.status() == std::backtrace::BacktraceStatus::Captured;
            let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
            match traced {
                true => tracing::error!(thread, %backtrace, "{panic}"),
                false => tracing::error!(thread, "{panic}"),
            }
        }));
    }
}

/// Writes the counts of repeated warnings whose window is over. Call every few seconds.
pub fn say_repeats() {
    if let Some(log) = LOG.get() {
        log.say_repeats(Some(Instant::now()));
    }
}

/// Writes `last` (plain words) and the buffered lines; waits at most `within`. Blocks. Later lines are dropped.
pub fn end_process_log(last: Option<&str>, within: Duration) {
    let Some(log) = LOG.get() else {
        // A failure here has no reader left.
        let _ = last.map(|last| writeln!(io::stderr(), "{last}"));
        return;
    };
    log.say_repeats(None);
    if let Some(last) = last {
        log.lane.push(|out| {
            out.extend_from_slice(last.as_bytes());
            out.push(b'\n');
        });
    }
    log.writer.shutdown(within);
}

/// Sends the lines to a collector too, from now on; `None`: no longer.
pub(in crate::telemetry) fn send_process_log(collector: Option<Arc<LineQueue>>) {
    if let Some(log) = LOG.get() {
        *log.collector.write() = collector;
    }
}

/// Lines of the process log that were lost.
pub(in crate::telemetry) fn lines_lost() -> u64 {
    LOG.get().map_or(0, |log| log.lost.get())
}

impl ProcessLog {
    fn start(format: LogFormat, level: Level, out: Output) -> io::Result<Self> {
        let lost = Counter::default();
        let writer = Writer::start("outrigger-say", lost.clone(), out)?;
        let lane = writer.lane();
        Ok(Self { format, level, clock: Clock::system(), writer, lane, lost, repeats: Mutex::default(), collector: RwLock::default() })
    }

    fn takes(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= self.level
    }

    fn say(&self, from: Identifier, said: &Said, now: Instant) {
        // Only warnings and errors are counted together: more detailed levels were asked for.
        if said.level <= Level::WARN {
            let mut repeats = self.repeats.lock();
            let is_due = repeats.is_due(now);
            if is_due {
                drop(repeats);
                self.say_repeats(Some(now));
                repeats = self.repeats.lock();
            }
            if !repeats.is_new(from, said, now) {
                return;
            }
        }
        self.write(said, "");
    }

    fn say_repeats(&self, now: Option<Instant>) {
        let mut repeats = self.repeats.lock();
        if now.is_some_and(|now| !repeats.is_due(now)) {
            return;
        }
        let lines = repeats.over(now);
        drop(repeats);
        for (said, more) in lines {
            self.write(&said, &more);
        }
    }

    fn write(&self, said: &Said, more: &str) {
        let at = self.clock.wall();
        self.lane.push(|out| said.write(out, self.format, at, more));
        let collector = self.collector.read().clone();
        if let Some(collector) = collector {
            let mut json = Vec::new();
            said.write(&mut json, LogFormat::Json, at, more);
            collector.push(LogLine { kind: LineKind::Process, at, level: said.level, trace: None, json: json.into() });
        }
    }
}

impl Subscriber for ToLog {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.0.takes(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.takes(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::from_level(self.0.level))
    }

    fn event(&self, event: &Event<'_>) {
        self.0.say(event.metadata().callsite(), &Said::of(event), Instant::now());
    }

    // This log has no spans: OTLP has its own.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;
