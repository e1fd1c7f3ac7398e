//! `outrigger demo`: an app, a mock provider, the proxy between them, and the story of their traffic.

pub mod app;
pub mod setting;
pub mod story;

use std::{
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
    sync::Arc,
};

use self::{app::DemoApp, setting::Places};
use super::{
    mock::{Mock, Options},
    said::{Common, Failure, Said},
};
use crate::{
    app::{App, Source},
    config::{
        LogFormat,
        read::{self, Overrides},
    },
    telemetry::init_process_log,
};

/// What `demo` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// Tell the story and leave, instead of staying up until Ctrl-C.
    #[arg(long)]
    pub once: bool,
}

/// Tells the story; the exit code is 1 if a part of it did not happen.
pub fn run(common: &Common, args: &DemoArgs) -> ExitCode {
    init_process_log(LogFormat::Text, tracing::Level::ERROR);
    let (json, once) = (common.json, args.once);
    common.tell(super::block_on(async move { Box::pin(tell(json, once)).await.map_err(|error| Failure::Words(error.to_string())) }))
}

/// Text is written while the story happens, JSON after its end.
async fn tell(json: bool, once: bool) -> Result<Said, Box<dyn std::error::Error>> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mock = Arc::new(Mock::bind(any, Options::default()).await?);
    let outbound = free_address()?;
    let app = Arc::new(DemoApp::bind(any, format!("http://{outbound}/openai/v1").parse()?).await?);
    let places = Places { inbound: any, outbound, admin: any, app: app.addr(), model: mock.addr() };
    let reading = read::parse_reading(&places.config(), "demo.yaml", &Overrides::default(), &|_| None)?;
    let proxy = App::start(Source { file: None, overrides: Overrides::default() }, reading).await?;
    let served = {
        let (mock, app) = (mock.clone(), app.clone());
        tokio::spawn(async move {
            futures_util::future::join(mock.run(std::future::pending()), app.run(std::future::pending())).await;
        })
    };
    let at = proxy.addresses;
    let (Some(inbound), Some(outbound), Some(admin)) = (at.inbound, at.outbound, at.admin) else {
        return Err("the demo's proxy has not opened its doors".into());
    };
    let mut written = Vec::new();
    let mut out: Box<dyn Write + '_> = if json { Box::new(&mut written) } else { Box::new(io::stdout()) };
    writeln!(out, "app       http://{}   (a small shop; knows nothing of the proxy)", app.addr())?;
    writeln!(out, "mock      http://{}   (stands in for a model provider)", mock.addr())?;
    writeln!(out, "inbound   http://{inbound}   -> the app")?;
    writeln!(out, "outbound  http://{outbound}/openai/v1   -> the mock")?;
    writeln!(out, "admin     http://{admin}/health   /metrics   /api/spend\n")?;
    let told = story::tell(inbound, outbound, admin, &mock, &app, &mut out).await;
    if !once && told.is_ok() {
        writeln!(out, "\nEverything stays up; Ctrl-C ends it.")?;
        tokio::signal::ctrl_c().await?;
    }
    drop(out);
    served.abort();
    proxy.drain().await;
    told?;
    let lines: Vec<String> = String::from_utf8_lossy(&written).lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    Ok(Said::new(serde_json::json!({ "as_expected": true, "told": lines }), ""))
}

/// A free address: the app must know the outbound door before the proxy can know the app.
fn free_address() -> io::Result<SocketAddr> {
    std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}
