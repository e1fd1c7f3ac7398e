//! The process's own log, written by everybody through `tracing` to standard error.

use tracing::Level;

use crate::config::LogFormat;

/// Sends `tracing` events of at least `level` to standard error: JSON if the access log is JSON, else text. Called once
/// at start; a later call changes nothing.
pub fn init_process_log(format: LogFormat, level: Level) {
    let builder = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false).with_ansi(false);
    let set = match format {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
        LogFormat::Text | LogFormat::Off => builder.try_init(),
    };
    if set.is_err() {
        tracing::debug!("the process log is already set up");
    }
}
