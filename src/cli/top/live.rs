//! The screen that goes on: drawn in place, without flicker, until Ctrl-C; the terminal is then as it was.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use http::Method;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    scrape::{Look, Numbers},
    screen,
};
use crate::{
    admin::client::request,
    cli::{
        control::get,
        said::{Common, Failure},
    },
    clock::Instant,
};

/// Columns where the terminal does not say.
const WIDTH: usize = 80;
/// Rows where the terminal does not say.
const HEIGHT: usize = 24;

/// Shows a screen of its own, without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// Shows the cursor and what stood there before.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// The first column of the first row.
const HOME: &str = "\x1b[H";
/// Clears the rest of the line.
const REST: &str = "\x1b[K";
/// Clears the rest of the screen.
const BELOW: &str = "\x1b[J";

/// The terminal as it was, once this is dropped.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        let mut out = io::stdout();
        let _ = out.write_all(LEAVE.as_bytes());
        let _ = out.flush();
    }
}

/// Two looks, `every` seconds apart, as numbers.
pub(super) async fn two_looks(common: &Common, every: f64) -> Result<Numbers, Failure> {
    let (before, began) = (look(common).await?, Instant::now());
    tokio::time::sleep(Duration::from_secs_f64(every)).await;
    let now = look(common).await?;
    Ok(Numbers::between(&before, now, began.elapsed()))
}

/// Draws until Ctrl-C, SIGTERM, or a reader that has left.
pub(super) async fn run(common: &Common, every: f64) -> Result<(), Failure> {
    let failed = |error: io::Error| error.to_string();
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    // The first look before the screen: a proxy that is not there is said in the terminal as it is.
    let mut before = look(common).await?;
    io::stdout().write_all(ENTER.as_bytes()).map_err(failed)?;
    let _restored = Restored;
    let mut began = Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs_f64(every)) => {}
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            _ = hangup.recv() => return Ok(()),
        }
        let lines = match look(common).await {
            Ok(now) => {
                let numbers = Numbers::between(&before, now.clone(), began.elapsed());
                (before, began) = (now, Instant::now());
                screen::lines(&numbers, width())
            }
            // A proxy that is started again comes back.
            Err(why) => vec![why.to_string().replace(char::is_control, " ")],
        };
        if io::stdout().write_all(frame(&lines, height()).as_bytes()).and_then(|()| io::stdout().flush()).is_err() {
            return Ok(());
        }
    }
}

/// A screen as one piece of output: each line over the one that stood there, and nothing is cleared first.
fn frame(lines: &[String], height: usize) -> String {
    let mut out = String::from(HOME);
    for (nth, line) in lines.iter().take(height).enumerate() {
        if nth > 0 {
            out += "\r\n";
        }
        out += line;
        out += REST;
    }
    out + BELOW
}

async fn look(common: &Common) -> Result<Look, Failure> {
    let answer = request(&common.socket(), Method::GET, "/metrics", None).await.map_err(|error| error.to_string())?;
    let metrics = String::from_utf8_lossy(&answer.body).into_owned();
    // `/health` answers 503 where something is down: its body is what is wanted.
    let health = request(&common.socket(), Method::GET, "/health", None).await.map_err(|error| error.to_string())?;
    Ok(Look {
        health: health.json().unwrap_or(Value::Null),
        limits: get(common, "/api/limits").await?,
        breakers: get(common, "/api/breakers").await?,
        targets: get(common, "/api/targets").await?,
        alerts: get(common, "/api/alerts").await?,
        callers: get(common, "/api/usage?by=caller&from=5m&limit=100").await.unwrap_or(Value::Null),
        ..Look::new(&metrics)
    })
}

/// Columns of the terminal.
pub(super) fn width() -> usize {
    size().map_or_else(|| said("COLUMNS").unwrap_or(WIDTH), |(columns, _)| columns)
}

fn height() -> usize {
    size().map_or_else(|| said("LINES").unwrap_or(HEIGHT), |(_, rows)| rows)
}

fn size() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((usize::from(size.ws_col), usize::from(size.ws_row)))
}

fn said(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.parse().ok().filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_clears_line_by_line_and_ends_with_the_screen() {
        let lines = ["one".to_owned(), "two".to_owned(), "three".to_owned()];
        assert_eq!(frame(&lines, 2), "\x1b[Hone\x1b[K\r\ntwo\x1b[K\x1b[J");
        assert!(!frame(&lines, 9).contains("\x1b[2J"), "a screen that is cleared first flickers");
    }
}
