//! `outrigger check FILE`: prints the meaning of a file, or every mistake in it.
//!
//! The meaning goes to standard output (exit code 0), mistakes go to standard error (exit code 1).

use std::{fmt, path::Path};

use serde::Serialize;
use serde_json::Value;

use super::said::{Failure, Said};
use crate::config::{
    ClientAuth, Config, Limit, ListenerTls, Members, Mode, ModelAim, ModelRule, NamedApp, Outbound, Policies, Provider, Route,
    error::Mistakes,
    human,
    read::{self, Note, Overrides, Reading},
};

/// Checks a file with the environment of this process.
///
/// # Errors
/// Every mistake in the file.
pub fn said(file: &Path) -> Result<Said, Failure> {
    let reading = read::load_reading(file, &Overrides::default(), &|name| std::env::var(name).ok())?;
    let report = Report::of(&file.display().to_string(), &reading);
    let json: Value = serde_json::to_value(&report).map_err(|error| error.to_string())?;
    Ok(Said::new(json, report.to_string()))
}

/// The report of a file, as text.
///
/// # Errors
/// Every mistake in the file.
pub fn check(file: &Path, overrides: &Overrides, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Mistakes> {
    let reading = read::load_reading(file, overrides, env)?;
    Ok(Report::of(&file.display().to_string(), &reading).to_string())
}

/// The meaning of a file.
#[derive(Debug, Serialize)]
struct Report {
    file: String,
    good: bool,
    inbound: Option<DoorReport>,
    outbound: Option<DoorReport>,
    admin: String,
    probes: String,
    memory: u64,
    shared_with: String,
    notes: Vec<Remark>,
}

#[derive(Debug, Serialize)]
struct DoorReport {
    listen: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<String>,
    /// The addresses of the app, if there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<String>,
    certificates: Vec<String>,
    /// Further apps, each with its URL and its members.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    apps: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    providers: Vec<ProviderReport>,
    /// Where calls go whose path names no provider.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    models: Vec<String>,
    routes: Vec<RouteReport>,
    /// The treatment of requests that match no route.
    otherwise: String,
    limits: Vec<LimitReport>,
}

#[derive(Debug, Serialize)]
struct ProviderReport {
    name: String,
    url: String,
    api: String,
    credential: String,
    /// The version that the url ends in, such as `v1`.
    #[serde(skip)]
    version: Option<String>,
    /// The addresses, if there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<String>,
}

#[derive(Debug, Serialize)]
struct RouteReport {
    name: String,
    policies: String,
}

#[derive(Debug, Serialize)]
struct LimitReport {
    name: String,
    amount: String,
    written_on: String,
    mode: &'static str,
    #[serde(skip)]
    remark: &'static str,
}

#[derive(Debug, Serialize)]
struct Remark {
    line: usize,
    column: usize,
    message: String,
}

impl Report {
    fn of(file: &str, reading: &Reading) -> Self {
        let config = &reading.config;
        let inbound = config.inbound.as_ref().map(|door| DoorReport {
            app: Some(door.app.to_string()),
            members: door.members.as_ref().map(Members::told),
            apps: door.apps.iter().map(app).collect(),
            ..DoorReport::of(door.listen.to_string(), door.tls.as_ref(), &door.routes, &door.fallthrough, &door.limits, config)
        });
        let outbound = config.outbound.as_ref().map(|door| DoorReport {
            providers: door.providers.iter().map(ProviderReport::of).collect(),
            models: models(door),
            ..DoorReport::of(door.listen.to_string(), door.tls.as_ref(), &door.routes, &door.fallthrough, &door.limits, config)
        });
        let at = |address: Option<std::net::SocketAddr>| address.map_or_else(|| "closed".to_owned(), |at| at.to_string());
        let shared_with = match &config.store.redis {
            Some(redis) => format!("Redis, namespace {}", redis.namespace),
            None => "this process alone".to_owned(),
        };
        let remark = |note: &Note| Remark { line: note.line, column: note.column, message: note.message.clone() };
        Self {
            file: file.to_owned(),
            good: true,
            inbound,
            outbound,
            admin: at(config.admin.listen),
            probes: at(config.admin.probes),
            memory: config.store.memory,
            shared_with,
            notes: reading.notes.iter().map(remark).collect(),
        }
    }
}

impl DoorReport {
    fn of(listen: String, tls: Option<&ListenerTls>, routes: &[Route], fallthrough: &Policies, limits: &[Limit], config: &Config) -> Self {
        let of_routes = routes.iter().flat_map(|route| route.policies.limits.iter().map(|limit| LimitReport::of(&route.name, limit)));
        Self {
            listen,
            app: None,
            certificates: certificates(tls),
            members: None,
            apps: Vec::new(),
            providers: Vec::new(),
            models: Vec::new(),
            routes: routes
                .iter()
                .map(|route| RouteReport { name: route.name.to_string(), policies: route.policies.told(config) })
                .collect(),
            otherwise: fallthrough.told(config),
            limits: limits.iter().map(|limit| LimitReport::of("the whole door", limit)).chain(of_routes).collect(),
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.members.iter().chain(&self.apps).chain(&self.certificates).try_for_each(|line| writeln!(f, "  {line}"))?;
        for provider in &self.providers {
            writeln!(f, "  /{:<12} {} ({}; {})", provider.name, provider.url, provider.api, provider.credential)?;
            provider.members.iter().try_for_each(|line| writeln!(f, "  {:<13} {line}", ""))?;
            // Many clients write it too.
            if let Some(version) = &provider.version {
                writeln!(f, "  {:<13} the app's base URL ends in /{}, without /{version}: the url has it", "", provider.name)?;
            }
        }
        self.models.iter().try_for_each(|line| writeln!(f, "  /v1           {line}"))?;
        match self.routes.len() {
            0 => writeln!(f, "  no routes: everything goes through")?,
            1 => writeln!(f, "  1 route")?,
            n => writeln!(f, "  {n} routes (the most specific match wins, whatever the order of the file)")?,
        }
        for route in &self.routes {
            writeln!(f, "    {:<40} {}", route.name, route.policies)?;
        }
        writeln!(f, "    {:<40} {}", "(everything else)", self.otherwise)?;
        for limit in &self.limits {
            writeln!(f, "  limit {}: {}, {}{}", limit.name, limit.amount, limit.written_on, limit.remark)?;
        }
        Ok(())
    }
}

/// The names of models and the places that they lead to, then the default providers.
fn models(door: &Outbound) -> Vec<String> {
    let place = |aim: &ModelAim| match &aim.model {
        Some(model) => format!("{} {model}", door.providers[aim.provider].name),
        None => door.providers[aim.provider].name.to_string(),
    };
    let rule = |rule: &ModelRule| format!("{}: {}", rule.name.as_str(), rule.aims.iter().map(place).collect::<Vec<_>>().join(", else "));
    let default = |at: &usize| format!("any other {} call: {}", door.providers[*at].api, door.providers[*at].name);
    door.models.rules.iter().map(rule).chain(door.models.defaults.iter().map(default)).collect()
}

impl ProviderReport {
    fn of(provider: &Provider) -> Self {
        let credential = match provider.keys.len() {
            0 => "the app's own credential passes through".to_owned(),
            1 => "1 key replaces the app's".to_owned(),
            n => format!("{n} keys replace the app's"),
        };
        Self {
            name: provider.name.to_string(),
            url: provider.url.to_string(),
            api: provider.api.to_string(),
            credential,
            version: provider.version(),
            members: provider.members.as_ref().map(Members::told),
        }
    }
}

impl LimitReport {
    fn of(place: &str, limit: &Limit) -> Self {
        Self {
            name: limit.name.to_string(),
            amount: human::limit(limit.unit, limit.amount, limit.window),
            written_on: place.to_owned(),
            mode: match limit.mode {
                Mode::Enforce => "enforce",
                Mode::Observe => "observe",
            },
            remark: limit.mode.remark(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: good", self.file)?;
        if let Some(door) = &self.inbound {
            writeln!(f, "\ninbound   {} -> {}", door.listen, door.app.as_deref().unwrap_or_default())?;
            door.write(f)?;
        }
        if let Some(door) = &self.outbound {
            writeln!(f, "\noutbound  {}", door.listen)?;
            door.write(f)?;
        }
        writeln!(f, "\nadmin     {}, probes {}", self.admin, self.probes)?;
        writeln!(f, "store     {} of memory; shared with: {}", bytesize::ByteSize(self.memory), self.shared_with)?;
        for note in &self.notes {
            writeln!(f, "\nnote {}:{}:{}: {}", self.file, note.line, note.column, note.message)?;
        }
        Ok(())
    }
}

/// The certificates that clients will see, with their ends.
/// A further app in words.
fn app(app: &NamedApp) -> String {
    let members = app.members.as_ref().map(|members| format!(", {}", members.told())).unwrap_or_default();
    format!("app {}: {}{members}", app.name, app.url)
}

fn certificates(tls: Option<&ListenerTls>) -> Vec<String> {
    let Some(tls) = tls else { return Vec::new() };
    let now = crate::clock::Clock::system().wall();
    let shown = tls.identities.iter().map(|identity| {
        let (outlook, _) = crate::app::certificates::outlook(identity, now);
        format!("certificate for {}: {outlook} ({})", identity.names.join(", "), identity.file)
    });
    let asked = tls.client_ca.as_ref().map(|_| match tls.client_auth {
        ClientAuth::Require => "clients must show a certificate".to_owned(),
        ClientAuth::Request => "clients may show a certificate".to_owned(),
    });
    shown.chain(asked).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_was_understood_and_no_secret() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("proxy.yaml");
        std::fs::write(
            &file,
            "inbound:\n  app: 3000\n  limits: [{key: client_ip, requests: 100, window: 1m}]\n  routes:\n    - {match: {path: /a}, cache: {ttl: 60s, mode: observe}}\n\
             outbound:\n  providers: {openai: {keys: [sk-hunter2]}}\n  models: {fast: [openai/gpt-4o-mini, openai/gpt-4.1-mini]}\n  default_provider: openai\n  limits: [{name: budget, usd: 2.50, window: 1d}]\n  defaults: {retry: {}, fallback: [{provider: openai, model: m}, {respond: {}}]}\n",
        )
        .expect("written");
        let overrides = Overrides { memory_limit: Some(1 << 28), ..Overrides::default() };
        let report = check(&file, &overrides, &|_| None).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        for part in [
            "proxy.yaml: good",
            "inbound   0.0.0.0:8080 -> http://localhost:3000",
            "  1 route\n",
            "cache 1m (observes only)",
            "limit inbound/client_ip/100-requests/1m: 100 requests per minute, the whole door",
            "/openai       https://api.openai.com (openai; 1 key replaces the app's)",
            "  /v1           fast: openai gpt-4o-mini, else openai gpt-4.1-mini\n",
            "  /v1           any other openai call: openai\n",
            "limit budget: $2.50 per day",
            "retry 2, else openai m, else answer 503",
            "64.0 MiB of memory; shared with: this process alone",
        ] {
            assert!(report.contains(part), "{part}\n{report}");
        }
        assert!(!report.contains("hunter2"));
        std::fs::write(&file, "inbund: {}\n").expect("written");
        assert!(check(&file, &overrides, &|_| None).is_err());
        assert!(matches!(said(&file), Err(Failure::Mistakes(mistakes)) if mistakes.len() == 1));
    }
}
