//! `outrigger demo`: an app, a mock provider, the proxy between them, and the story of what happens.

pub mod app;
pub mod setting;
pub mod story;

use std::{io, net::SocketAddr, process::ExitCode, sync::Arc};

use self::{app::DemoApp, setting::Places};
use super::{
    fail,
    mock::{Mock, Options},
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

/// Tells the story; the exit code is 1 if something in it did not happen.
pub fn run(args: &DemoArgs) -> ExitCode {
    init_process_log(LogFormat::Text, tracing::Level::ERROR);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    match runtime.block_on(tell(args.once)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

async fn tell(once: bool) -> Result<(), Box<dyn std::error::Error>> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mock = Arc::new(Mock::bind(any, Options::default()).await?);
    let outbound = free_address()?;
    let app = Arc::new(DemoApp::bind(any, format!("http://{outbound}/openai").parse()?).await?);
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
    println!("app       http://{}   (a small shop; knows nothing of the proxy)", app.addr());
    println!("mock      http://{}   (stands in for a model provider)", mock.addr());
    println!("inbound   http://{inbound}   -> the app");
    println!("outbound  http://{outbound}/openai/v1   -> the mock");
    println!("admin     http://{admin}/health   /metrics   /api/spend\n");
    let told = story::tell(inbound, outbound, admin, &mock, &app, &mut io::stdout().lock()).await;
    if !once && told.is_ok() {
        println!("\nEverything stays up; Ctrl-C ends it.");
        tokio::signal::ctrl_c().await?;
    }
    served.abort();
    proxy.drain().await;
    Ok(told?)
}

/// An address that is free now: the app must know the outbound door before the proxy can know the app.
fn free_address() -> io::Result<SocketAddr> {
    std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}
