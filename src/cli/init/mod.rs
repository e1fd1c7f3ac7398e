//! `outrigger init`: looks at this machine, and writes a short `proxy.yaml` for what it finds: the app by its answer, the providers by the names
//! of their variables. No value of a key is read, and none is written.

mod file;
mod look;

use std::{
    fs,
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    path::PathBuf,
};

use serde_json::json;

use self::{
    file::Plan,
    look::{Found, PORTS, Providers},
};
use super::said::{Common, Failure, Said};
use crate::config::{
    Origin,
    read::{self, Overrides},
};

/// What `init` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct InitArgs {
    /// The app that runs: a port of this machine, or a URL. Without it the usual ports are asked.
    #[arg(long)]
    app: Option<String>,
    /// The file to write.
    #[arg(long, short, env = "OUTRIGGER_CONFIG", default_value = "proxy.yaml")]
    config: PathBuf,
    /// Write over a file that is there.
    #[arg(long)]
    force: bool,
    /// Ask nothing. Nothing is asked either where no terminal is there, or with `--json`.
    #[arg(long, short)]
    yes: bool,
    /// Print the file instead of writing it.
    #[arg(long)]
    print: bool,
}

/// `outrigger init`.
///
/// # Errors
/// The file is there already, it cannot be written, or `--app` is no port and no URL.
pub async fn init(common: &Common, args: InitArgs) -> Result<Said, Failure> {
    if args.config.exists() && !args.force && !args.print {
        return Err(Failure::Words(format!(
            "{} is there already; --force writes over it, --print shows the new one",
            args.config.display()
        )));
    }
    let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mut found = match &args.app {
        Some(app) => vec![look::at(&word(app)?).await],
        None => look::all(&PORTS).await,
    };
    let asks = !args.yes && !common.json && io::stdin().is_terminal() && io::stderr().is_terminal();
    if asks && args.app.is_none() {
        let usual = found.first().map_or("3000", |found| &found.app).to_owned();
        let app = question(&format!("the app behind the proxy, a port or a URL [{usual}]: ")).filter(|answer| !answer.is_empty());
        if let Some(app) = app.filter(|app| *app != usual) {
            found = vec![look::at(&word(&app)?).await];
        }
    }
    let providers = Providers::of(&env, look::listens(look::OLLAMA).await);
    let plan = Plan::of(found, &providers, &|port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok());
    let text = plan.text();
    // What is written must be what `check` accepts: this is a promise of the verb.
    read::parse(&text, &args.config.display().to_string(), &Overrides::default(), &|name| std::env::var(name).ok())
        .map_err(Failure::Mistakes)?;
    let json = json!({
        "file": args.config.display().to_string(), "written": !args.print, "app": plan.app.app, "answers": plan.app.answers,
        "framework": plan.app.framework, "others": plan.others.iter().map(|other| &other.app).collect::<Vec<_>>(),
        "providers": providers.0.iter().map(|one| json!({"name": one.name, "variable": one.variable})).collect::<Vec<_>>(),
        "inbound": plan.inbound, "outbound": plan.outbound, "yaml": text,
    });
    if args.print {
        return Ok(Said::new(json, text));
    }
    let failed = |error: io::Error| Failure::Words(format!("{}: {error}", args.config.display()));
    match args.force {
        true => fs::write(&args.config, &text).map_err(failed)?,
        false => fs::File::create_new(&args.config).and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed)?,
    }
    Ok(Said::new(json, plan.told(&args.config, &providers)))
}

/// The app as the file has it: a port alone, or a URL.
fn word(app: &str) -> Result<String, Failure> {
    let app = app.trim();
    if app.parse::<u16>().is_ok_and(|port| port > 0) {
        return Ok(app.to_owned());
    }
    let url = if app.contains("://") { app.to_owned() } else { format!("http://{app}") };
    match Origin::parse(&url) {
        Ok(origin) => Ok(origin.to_string()),
        Err(why) => Err(Failure::Words(format!("--app: {why}; or a port of this machine, such as 3000"))),
    }
}

/// Asks at the terminal; `None`: no answer can be read.
fn question(text: &str) -> Option<String> {
    let mut err = io::stderr();
    write!(err, "{text}").and_then(|()| err.flush()).ok()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).ok()?;
    Some(line.trim().to_owned())
}

impl Found {
    /// An app that did not answer.
    fn silent(app: &str) -> Self {
        Self { app: app.to_owned(), answers: false, framework: None }
    }
}
