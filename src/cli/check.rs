//! `outrigger check FILE`: says what a file means, or everything that is wrong with it.
//!
//! What was understood goes to standard output (exit code 0), mistakes go to standard error (exit code 1).

use std::{
    fmt::{self, Write as _},
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use crate::config::{
    ClientAuth, Config, Fallback, Limit, ListenerTls, Mode, Policies, Route, human,
    read::{self, Overrides, Reading},
};

/// Checks a file with the environment of this process.
pub fn run(file: &Path) -> ExitCode {
    let env = |name: &str| std::env::var(name).ok();
    match check(file, &Overrides::default(), &env) {
        Ok(report) => {
            // A reader that went away (`| head`) is no mistake in the file.
            let _ = io::stdout().write_all(report.as_bytes());
            ExitCode::SUCCESS
        }
        Err(mistakes) => {
            let _ = writeln!(io::stderr(), "{mistakes}");
            ExitCode::FAILURE
        }
    }
}

/// The report of a file, as text.
///
/// # Errors
/// Every mistake in the file.
pub fn check(file: &Path, overrides: &Overrides, env: &dyn Fn(&str) -> Option<String>) -> Result<String, crate::config::error::Mistakes> {
    let reading = read::load_reading(file, overrides, env)?;
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = report(&mut out, &file.display().to_string(), &reading);
    Ok(out)
}

fn report(out: &mut String, file: &str, reading: &Reading) -> fmt::Result {
    let config = &reading.config;
    writeln!(out, "{file}: good")?;
    if let Some(door) = &config.inbound {
        writeln!(out, "\ninbound   {} -> {}", door.listen, door.app)?;
        certificates(out, door.tls.as_ref())?;
        routes(out, &door.routes, &door.fallthrough, config)?;
        limits(out, "the whole door", &door.limits)?;
        door.routes.iter().try_for_each(|route| limits(out, &route.name, &route.policies.limits))?;
    }
    if let Some(door) = &config.outbound {
        writeln!(out, "\noutbound  {}", door.listen)?;
        certificates(out, door.tls.as_ref())?;
        for provider in &door.providers {
            let credential = match provider.keys.len() {
                0 => "the app's own credential passes through".to_owned(),
                1 => "1 key replaces the app's".to_owned(),
                n => format!("{n} keys replace the app's"),
            };
            writeln!(out, "  /{:<12} {} ({}; {credential})", provider.name, provider.url, provider.api)?;
        }
        routes(out, &door.routes, &door.fallthrough, config)?;
        limits(out, "the whole door", &door.limits)?;
        door.routes.iter().try_for_each(|route| limits(out, &route.name, &route.policies.limits))?;
    }
    writeln!(out)?;
    let closed = "closed".to_owned();
    let admin = config.admin.listen.map_or_else(|| closed.clone(), |at| at.to_string());
    let probes = config.admin.probes.map_or(closed, |at| at.to_string());
    writeln!(out, "admin     {admin}, probes {probes}")?;
    let shared = match &config.store.redis {
        Some(redis) => format!("Redis, namespace {}", redis.namespace),
        None => "this process alone".to_owned(),
    };
    writeln!(out, "store     {} of memory; shared with: {shared}", bytesize::ByteSize(config.store.memory))?;
    for note in &reading.notes {
        writeln!(out, "\nnote {file}:{}:{}: {}", note.line, note.column, note.message)?;
    }
    Ok(())
}

/// What clients will be shown, and until when.
fn certificates(out: &mut String, tls: Option<&ListenerTls>) -> fmt::Result {
    let Some(tls) = tls else { return Ok(()) };
    let now = crate::clock::Clock::system().wall();
    for identity in &tls.identities {
        let (outlook, _) = crate::app::certificates::outlook(identity, now);
        writeln!(out, "  certificate for {}: {outlook} ({})", identity.names.join(", "), identity.file)?;
    }
    match (&tls.client_ca, tls.client_auth) {
        (None, _) => Ok(()),
        (Some(_), ClientAuth::Require) => writeln!(out, "  clients must show a certificate"),
        (Some(_), ClientAuth::Request) => writeln!(out, "  clients may show a certificate"),
    }
}

fn routes(out: &mut String, routes: &[Route], fallthrough: &Policies, config: &Config) -> fmt::Result {
    match routes.len() {
        0 => writeln!(out, "  no routes: everything goes through")?,
        1 => writeln!(out, "  1 route")?,
        n => writeln!(out, "  {n} routes (the most specific match wins, whatever the order of the file)")?,
    }
    for route in routes {
        writeln!(out, "    {:<40} {}", route.name, policies(&route.policies, config))?;
    }
    writeln!(out, "    {:<40} {}", "(everything else)", policies(fallthrough, config))
}

fn limits(out: &mut String, place: &str, limits: &[Limit]) -> fmt::Result {
    for limit in limits {
        let (amount, window) = (human::amount(limit.unit, limit.amount), human::per(limit.window));
        writeln!(out, "  limit {}: {amount} {window}, {place}{}", limit.name, mode(limit.mode))?;
    }
    Ok(())
}

/// The policies of a route in a line, in the order in which they run.
fn policies(policies: &Policies, config: &Config) -> String {
    let mut parts = Vec::new();
    if let Some(access) = &policies.access {
        parts.push(format!("access{}", mode(access.mode)));
    }
    match policies.limits.len() {
        0 => {}
        1 => parts.push("1 limit".to_owned()),
        n => parts.push(format!("{n} limits")),
    }
    if let Some(cache) = &policies.cache {
        let ttl = cache.ttl.map_or_else(|| "as the app allows".to_owned(), |ttl| humantime::format_duration(ttl).to_string());
        parts.push(format!("cache {ttl}{}", mode(cache.mode)));
    }
    if !policies.purge.is_empty() {
        parts.push(format!("purge {}", policies.purge.join(" ")));
    }
    if let Some(timeouts) = &policies.timeouts {
        parts.push(format!("timeouts{}", mode(timeouts.mode)));
    }
    if let Some(retry) = &policies.retry {
        parts.push(format!("retry {}{}", retry.max_retries, mode(retry.mode)));
    }
    if let Some(breaker) = &policies.breaker {
        parts.push(format!("breaker{}", mode(breaker.mode)));
    }
    for fallback in &policies.fallback {
        parts.push(match fallback {
            Fallback::Provider { provider, model } => {
                let name = config.outbound.as_ref().and_then(|door| door.providers.get(*provider)).map_or("?", |provider| &*provider.name);
                model.as_ref().map_or_else(|| format!("else {name}"), |model| format!("else {name} {model}"))
            }
            Fallback::Respond { status, .. } => format!("else answer {}", status.as_u16()),
        });
    }
    if parts.is_empty() { "passes through".to_owned() } else { parts.join(", ") }
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "",
        Mode::Observe => " (observes only)",
    }
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
             outbound:\n  providers: {openai: {keys: [sk-hunter2]}}\n  limits: [{name: budget, usd: 2.50, window: 1d}]\n  defaults: {retry: {}, fallback: [{provider: openai, model: m}, {respond: {}}]}\n",
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
            "limit budget: $2.50 per day",
            "retry 2, else openai m, else answer 503",
            "64.0 MiB of memory; shared with: this process alone",
        ] {
            assert!(report.contains(part), "{part}\n{report}");
        }
        assert!(!report.contains("hunter2"));
        std::fs::write(&file, "inbund: {}\n").expect("written");
        assert!(check(&file, &overrides, &|_| None).is_err());
        assert_eq!(run(&file), ExitCode::FAILURE);
    }
}
