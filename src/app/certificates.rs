//! The listeners' certificates in a running process: their renewal, and warnings before they expire.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::ServerConfig;

use super::App;
use crate::{
    admin::{Dependency, State},
    clock::unix,
    config::{Config, Identity},
    listen::{Terminator, tls},
    telemetry::metrics::Family,
};

/// A certificate that expires within this time is reported.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// The TLS settings of both doors, ready for use.
pub struct Ready([Option<Arc<ServerConfig>>; 2]);

/// Prepares the doors' TLS of `config`; nothing changes yet.
pub fn prepare(config: &Config) -> Result<Ready, String> {
    let tls = [config.inbound.as_ref().and_then(|door| door.tls.as_ref()), config.outbound.as_ref().and_then(|door| door.tls.as_ref())];
    let [inbound, outbound] = tls.map(|tls| tls.map(tls::server_config).transpose());
    Ok(Ready([inbound?, outbound?]))
}

impl Ready {
    /// The doors use them for new connections from now on.
    pub fn apply(self, doors: &[Arc<Terminator>; 2]) {
        doors.iter().zip(self.0).for_each(|(door, config)| door.set(config));
    }
}

/// Every certificate that a listener shows, with its door.
pub fn all(config: &Config) -> impl Iterator<Item = (&'static str, &Identity)> {
    let inbound = config.inbound.iter().filter_map(|door| door.tls.as_ref()).map(|tls| ("inbound", tls));
    let outbound = config.outbound.iter().filter_map(|door| door.tls.as_ref()).map(|tls| ("outbound", tls));
    inbound.chain(outbound).flat_map(|(door, tls)| tls.identities.iter().map(move |identity| (door, identity)))
}

/// The remaining life of a certificate at `now`, in words; and whether an operator should act.
pub fn outlook(identity: &Identity, now: SystemTime) -> (String, bool) {
    let seconds = |at: i64| Duration::from_secs(u64::try_from(at).unwrap_or_default());
    let (now, from, until) = (unix(now), seconds(identity.not_before), seconds(identity.not_after));
    let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + until);
    let days = |time: Duration| match time.as_secs() / 86_400 {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        n => format!("{n} days"),
    };
    if now > until {
        (format!("EXPIRED on {date}, {} ago: clients refuse it", days(now - until)), true)
    } else if now < from {
        (format!("not valid before {}: clients refuse it", httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + from)), true)
    } else {
        (format!("runs out on {date}, in {}", days(until - now)), until - now < SOON)
    }
}

/// Reports the certificates that an operator should renew.
pub fn say(config: &Config, now: SystemTime) {
    for (door, identity) in all(config) {
        if let (outlook, true) = outlook(identity, now) {
            tracing::warn!(door, file = &*identity.file, "the listener's certificate {outlook}");
        }
    }
}

/// A certificate near its end degrades the proxy's health, long before clients refuse it.
pub fn health(config: &Config, now: SystemTime) -> Vec<Dependency> {
    let entry = |(door, identity): (&str, &Identity)| {
        let (detail, urgent) = outlook(identity, now);
        let state = if urgent { State::Degraded } else { State::Ok };
        Dependency { name: format!("certificate {door} {}", identity.file), state, detail }
    };
    all(config).map(entry).collect()
}

/// Registers the expiry of each certificate, read at every scrape.
pub fn register(app: &Arc<App>) {
    let app_seen = Arc::downgrade(app);
    let read = move || {
        let Some(app) = app_seen.upgrade() else { return Vec::new() };
        let live = app.live();
        all(&live.config).map(|(door, identity)| (vec![door.to_owned(), identity.file.to_string()], identity.not_after as f64)).collect()
    };
    app.telemetry.metrics().register(Family::TlsCertificateExpiry, Box::new(read));
}
