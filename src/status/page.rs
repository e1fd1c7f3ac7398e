//! The page itself, as HTML that needs no script, and the same as JSON.

use std::{sync::LazyLock, time::Duration};

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;
use serde_json::{Value, json};

use super::{Site, badge};
use crate::{
    config::human,
    monitor::{Days, History, State},
};

/// One monitor.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: State,
    /// What was.
    pub history: History,
}

const STYLE: &str = "\
:root{color-scheme:light dark;--up:#2e7d32;--slow:#b26a00;--down:#c62828;--none:#9e9e9e;--line:#8884}\
body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.5rem}h2{font-size:1.1rem;margin:0}section{border:1px solid var(--line);border-radius:.5rem;padding:1rem;margin:1rem 0}\
.up{color:var(--up)}.slow{color:var(--slow)}.down{color:var(--down)}.unknown{color:var(--none)}\
svg{display:block;width:100%;height:2rem;margin:.5rem 0}.f-up{fill:var(--up)}.f-slow{fill:var(--slow)}.f-down{fill:var(--down)}.f-none{fill:var(--none);opacity:.4}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.25rem .5rem;border-top:1px solid var(--line)}\
@media(prefers-color-scheme:dark){:root{--up:#81c784;--slow:#ffb74d;--down:#ef9a9a}}";

/// The policy of the page: nothing is loaded, and only its own style holds.
pub(super) static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = STANDARD.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()));
    let policy = format!("default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

const DAY: u64 = 86_400_000;
/// Days of the row of bars.
const BARS: u64 = 90;
/// Most incidents that are shown.
const INCIDENTS: usize = 50;

/// Text in HTML and SVG.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

fn time(millis: u64) -> String {
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + Duration::from_millis(millis)).to_string()
}

fn percent(days: Days) -> String {
    match days.share() {
        None => "no data".to_owned(),
        Some(_) if days.down == 0 => "100%".to_owned(),
        // Never rounded up to a figure that is not true.
        Some(share) => format!("{:.3}%", (share * 100_000.0).floor() / 1_000.0),
    }
}

fn lasted(millis: u64) -> String {
    human::wait(Duration::from_millis(millis))
}

/// All pages at `now` (milliseconds since 1970).
pub fn render(title: &str, rows: &[Row], now: u64) -> Site {
    let mut site = Site::default();
    site.put("/", "text/html; charset=utf-8", html(title, rows, now));
    site.put("/status.json", "application/json", format!("{:#}\n", as_json(title, rows, now)));
    for row in rows {
        let colour = match row.state {
            State::Up => "#2e7d32",
            State::Slow => "#b26a00",
            State::Down => "#c62828",
            State::Unknown => "#757575",
        };
        let week = row.history.between(now.saturating_sub(7 * DAY), now);
        site.put(format!("/badge/{}.svg", row.name), "image/svg+xml", badge::svg(&row.name, row.state.as_str(), colour));
        site.put(format!("/badge/{}/7d.svg", row.name), "image/svg+xml", badge::svg(&format!("{} 7d", row.name), &percent(week), colour));
    }
    site
}

fn html(title: &str, rows: &[Row], now: u64) -> String {
    let down = rows.iter().filter(|row| row.state == State::Down).count();
    let slow = rows.iter().any(|row| row.state == State::Slow);
    let unknown = rows.iter().filter(|row| row.state == State::Unknown).count();
    let (class, banner) = match (down, slow) {
        (0, _) if unknown == rows.len() => ("unknown", "Nothing was checked yet".to_owned()),
        (0, false) if unknown > 0 => ("up", format!("All that was checked is up; {unknown} of {} were not yet", rows.len())),
        (0, false) => ("up", "Everything is up".to_owned()),
        (0, true) => ("slow", "Everything is up; some of it is slow".to_owned()),
        (n, _) if n == rows.len() => ("down", "Everything is down".to_owned()),
        (n, _) => ("down", format!("{n} of {} are down", rows.len())),
    };
    let title = escaped(title);
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style></head><body><main><h1>{title}</h1><p class=\"{class}\" role=\"status\"><strong>{banner}</strong></p>"
    );
    rows.iter().for_each(|row| page += &section(row, now));
    page += &incidents(rows, now);
    page += "</main></body></html>\n";
    page
}

fn section(row: &Row, now: u64) -> String {
    let figures = [("24 hours", 1), ("7 days", 7), ("30 days", 30), ("90 days", 90)].map(|(words, days)| {
        let window = row.history.between(now.saturating_sub(days * DAY), now);
        let down = if window.down > 0 { format!(", down {}", lasted(window.down)) } else { String::new() };
        format!("{words}: {}{down}", percent(window))
    });
    let mut bars =
        format!("<svg viewBox=\"0 0 {} 20\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"the last 90 days\">", BARS * 4);
    for (at, day) in row.history.days(now, BARS).into_iter().enumerate() {
        let class = match day.share() {
            None => "none",
            Some(_) if day.down == 0 => "up",
            Some(share) if share > 0.99 => "slow",
            Some(_) => "down",
        };
        bars += &format!("<rect class=\"f-{class}\" x=\"{}\" width=\"3\" height=\"20\"/>", at * 4);
    }
    format!(
        "<section><h2>{} <span class=\"{state}\">{state}</span></h2>{bars}</svg><p>{}</p></section>",
        escaped(&row.name),
        figures.join(" · "),
        state = row.state.as_str(),
    )
}

fn incidents(rows: &[Row], now: u64) -> String {
    let mut all: Vec<(&str, u64, Option<u64>)> =
        rows.iter().flat_map(|row| row.history.incidents.iter().map(|past| (&*row.name, past.from, past.to))).collect();
    all.sort_by_key(|(_, from, _)| std::cmp::Reverse(*from));
    if all.is_empty() {
        return "<h2>Incidents</h2><p>None in the last 90 days.</p>".to_owned();
    }
    let mut table = "<h2>Incidents</h2><table><thead><tr><th>What</th><th>From (UTC)</th><th>Lasted</th></tr></thead><tbody>".to_owned();
    for (name, from, to) in all.iter().take(INCIDENTS) {
        let length =
            to.map_or_else(|| format!("{}, and goes on", lasted(now.saturating_sub(*from))), |to| lasted(to.saturating_sub(*from)));
        table += &format!("<tr><td>{}</td><td>{}</td><td>{length}</td></tr>", escaped(name), time(*from));
    }
    table + "</tbody></table>"
}

fn as_json(title: &str, rows: &[Row], now: u64) -> Value {
    let row = |row: &Row| {
        let window = |days: u64| {
            let window = row.history.between(now.saturating_sub(days * DAY), now);
            json!({"share": window.share(), "down_seconds": window.down as f64 / 1e3, "watched_seconds": window.watched as f64 / 1e3})
        };
        let incidents = row.history.incidents.iter().rev().take(INCIDENTS);
        json!({
            "name": row.name, "state": row.state.as_str(), "24h": window(1), "7d": window(7), "30d": window(30), "90d": window(90),
            "incidents": incidents.map(|past| json!({"from": time(past.from), "to": past.to.map(time)})).collect::<Vec<_>>(),
        })
    };
    json!({"title": title, "monitors": rows.iter().map(row).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::{Check, Track};

    #[test]
    fn the_page_says_what_is_down_and_for_how_long_and_no_name_breaks_out() {
        let mut track = Track::default();
        let start = 1_800_000_000_000;
        for second in 0..=3_600_u64 {
            let check = if (600..723).contains(&second) { Check::Down("10.0.0.7:3000 refused".into()) } else { Check::Up };
            track.note(start + second * 1_000, check, 2, 30_000);
        }
        let row = Row { name: "app <script>".into(), state: track.state(), history: track.history.clone() };
        let page = html("Shop & more", std::slice::from_ref(&row), start + 3_600_000);
        assert!(page.contains("7 days: 96.583%, down 2 min 3 s"), "{page}");
        assert!(
            page.contains("Lasted</th></tr></thead><tbody><tr><td>app &lt;script&gt;</td><td>2027-01-15T08:10:00Z</td><td>2 min 3 s</td>"),
            "{page}"
        );
        assert!(!page.contains("<script") && !page.contains("10.0.0.7") && page.contains("Everything is up"));
        let site = render("t", std::slice::from_ref(&row), start);
        assert!(site.0.contains_key("/badge/app <script>.svg"));
        let json = as_json("t", &[row], start + 3_600_000);
        assert_eq!(json["monitors"][0]["7d"]["down_seconds"], 123.0);
    }

    #[test]
    fn what_was_not_checked_yet_is_not_said_to_be_up() {
        let row = |state| Row { name: "a".into(), state, history: History::default() };
        let says = |states: &[State], words: &str| {
            let page = html("t", &states.iter().map(|state| row(*state)).collect::<Vec<_>>(), 1_800_000_000_000);
            assert!(page.contains(&format!("<strong>{words}</strong>")), "{states:?}: {page}");
        };
        says(&[State::Unknown, State::Unknown], "Nothing was checked yet");
        says(&[], "Nothing was checked yet");
        says(&[State::Up, State::Unknown], "All that was checked is up; 1 of 2 were not yet");
        says(&[State::Up, State::Up], "Everything is up");
        says(&[State::Up, State::Slow], "Everything is up; some of it is slow");
        says(&[State::Down, State::Unknown], "1 of 2 are down");
    }
}
