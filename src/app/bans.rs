//! Bans at the admin door: who is out, and an operator who lets somebody in again.

use std::sync::Arc;

use serde_json::{Value, json};

use super::App;
use crate::{
    admin::Refused,
    clock::Instant,
    config::Mode,
    policy::bans::{Counts, Who},
    telemetry::metrics::{Family, Reading},
};

/// Most bans on the page.
const SHOWN: usize = 1_000;

/// Everybody who is out, for `/api/bans`.
pub(super) fn view(app: &App) -> Value {
    let (bans, now, wall) = (&app.shared.bans, Instant::now(), app.shared.clock.wall());
    let all = bans.list(now);
    let time = |at| humantime::format_rfc3339_seconds(at).to_string();
    let row = |(who, standing): &(Who, crate::policy::bans::Standing)| {
        let left = standing.until.saturating_duration_since(now);
        json!({
            "who": who.to_string(), "mode": if standing.mode == Mode::Enforce { "enforce" } else { "observe" },
            "since": time(standing.since), "until": wall.checked_add(left).map(time), "seconds_left": left.as_secs(),
            "reason": standing.why, "route": Some(&*standing.route).filter(|route| !route.is_empty()),
        })
    };
    let counts = bans.counts();
    json!({
        "bans": all.iter().take(SHOWN).map(row).collect::<Vec<_>>(), "count": all.len(), "shared": bans.is_shared(),
        "counted_clients": counts.counted_now,
    })
}

/// Lets somebody in again.
pub(super) fn lift(app: &App, who: &str) -> Result<Value, Refused> {
    let read =
        Who::parse(who).ok_or_else(|| Refused::Unclear(format!("`{who}` is no address; write 192.0.2.1, 2001:db8::1 or caller:NAME")))?;
    match app.shared.bans.lift(&read) {
        true => Ok(json!({"lifted": read.to_string()})),
        false => Err(Refused::NotFound(format!("{read} is not out; `outrigger bans list` shows who is"))),
    }
}

/// Registers the numbers of bans, read at every scrape.
pub(super) fn register(app: &Arc<App>) {
    let asks = |family, read: fn(Counts) -> Vec<Reading>| {
        let app_seen = Arc::downgrade(app);
        let read = move || app_seen.upgrade().map(|app| read(app.shared.bans.counts())).unwrap_or_default();
        app.telemetry.metrics().register(family, Box::new(read));
    };
    asks(Family::Bans, |counts| rows([("enforce", counts.enforced_now as u64), ("observe", counts.observed_now as u64)]));
    asks(Family::BansMade, |counts| {
        let Counts { made, observed, lifted, forgotten, .. } = counts;
        rows([("made", made), ("observed", observed), ("lifted", lifted), ("forgotten", forgotten)])
    });
}

fn rows<const N: usize>(all: [(&str, u64); N]) -> Vec<Reading> {
    all.into_iter().map(|(word, n)| (vec![word.to_owned()], n as f64)).collect()
}
