//! stub
#[derive(Debug, Clone, clap::Args)] pub struct ExplainArgs {}
pub fn run(_: &ExplainArgs) -> std::process::ExitCode { std::process::ExitCode::SUCCESS }
