//! `outrigger run`: serve until a signal comes.

use std::{path::Path, process::ExitCode};

use super::RunArgs;
use crate::{
    app::{App, Source, StartError},
    config::{LogFormat, read},
    telemetry::{LAST_LINES, end_process_log, init_process_log},
};

/// Serves; the exit code is 0 after a clean shutdown.
pub fn run(args: &RunArgs) -> ExitCode {
    init_process_log(LogFormat::Json, args.log_level);
    let served = serve(args);
    let last = served.as_ref().err().map(|error| format!("outrigger: {error}"));
    // The log's own writer is used: standard error may be a pipe without a reader.
    end_process_log(last.as_deref(), LAST_LINES);
    if served.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn serve(args: &RunArgs) -> Result<(), StartError> {
    let source = Source { file: file(args), overrides: args.overrides() };
    let env = |name: &str| std::env::var(name).ok();
    let reading = match &source.file {
        Some(file) => read::load_reading(file, &source.overrides, &env),
        None => read::without_file(&source.overrides, &env),
    };
    let reading = reading?;
    for note in &reading.notes {
        tracing::warn!(line = note.line, column = note.column, "{}", note.message);
    }
    // The side runtime: admin door, store, exports, signals. Workers have their own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let app = App::start(source, reading).await?;
        say_where(&app);
        app.serve().await.map_err(StartError::Io)
    });
    // A plain drop would wait for a file or a name that is still being read.
    runtime.shutdown_background();
    served
}

/// The file that was named, or else `proxy.yaml` here if it exists. `--app` wins over the file's `app` but does not replace the
/// file: its limits and keys would silently be off.
fn file(args: &RunArgs) -> Option<std::path::PathBuf> {
    let usual = Path::new("proxy.yaml");
    args.config.clone().or_else(|| usual.exists().then(|| usual.to_owned()))
}

fn say_where(app: &App) {
    let live = app.live();
    let at = app.addresses;
    let text = |address: Option<std::net::SocketAddr>| address.map_or_else(|| "closed".to_owned(), |a| a.to_string());
    tracing::info!(
        inbound = text(at.inbound),
        app = live.inbound.as_ref().and(live.targets.first()).map(|target| target.origin.to_string()).unwrap_or_default(),
        outbound = text(at.outbound),
        admin = text(at.admin),
        probes = text(at.probes),
        status_page = text(at.status),
        socket = live.config.admin.socket.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
        "serving"
    );
}
