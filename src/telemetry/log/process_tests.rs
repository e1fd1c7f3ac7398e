//! Tests of lines of the process log, and of how often equal ones are written.

use std::sync::Arc;

use serde_json::Value;

use super::{
    super::repeats::{DISTINCT, WINDOW},
    *,
};

/// The bytes that a log has written.
#[derive(Clone, Default)]
struct Out(Arc<Mutex<Vec<u8>>>);

impl io::Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs `events` on a log with `level`; gives the text that the log has written.
fn written(format: LogFormat, level: Level, events: impl FnOnce(&'static ProcessLog)) -> String {
    let out = Out::default();
    let log: &'static ProcessLog = Box::leak(Box::new(ProcessLog::start(format, level, Box::new(out.clone())).expect("starts")));
    tracing::subscriber::with_default(ToLog(log), || events(log));
    log.say_repeats(None);
    assert!(log.writer.shutdown(Duration::from_secs(10)));
    String::from_utf8(out.0.lock().clone()).expect("UTF-8")
}

fn json(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn messages(text: &str) -> Vec<String> {
    json(text).iter().map(|line| line["message"].as_str().expect("text").to_owned()).collect()
}

#[test]
fn a_line_says_what_the_event_said() {
    let text = written(LogFormat::Json, Level::INFO, |_| {
        let error = io::Error::other("no \"such\" thing\n");
        tracing::warn!(%error, count = 7_u64, below = -1, share = 0.5, endless = f64::INFINITY, on = true, what = ?Some("x"), "it\tbroke");
        tracing::debug!("is not wanted");
    });
    let lines = json(&text);
    assert_eq!(lines.len(), 1, "{text}");
    let line = &lines[0];
    assert!(line["timestamp"].as_str().expect("text").ends_with('Z'));
    assert_eq!((line["level"].as_str(), line["message"].as_str()), (Some("WARN"), Some("it\tbroke")));
    assert_eq!(line["error"], "no \"such\" thing\n");
    assert_eq!((line["count"].as_u64(), line["below"].as_i64(), line["share"].as_f64()), (Some(7), Some(-1), Some(0.5)));
    assert_eq!((&line["endless"], &line["on"], &line["what"]), (&"inf".into(), &true.into(), &"Some(\"x\")".into()));
}

#[test]
fn a_collector_gets_what_the_log_says_and_no_repeats() {
    let queue = Arc::new(LineQueue::new(Counter::default()));
    written(LogFormat::Text, Level::INFO, |log| {
        tracing::info!("said before the collector was known");
        *log.collector.write() = Some(queue.clone());
        for _ in 0..3 {
            tracing::warn!(target_name = "app", "the app is away");
        }
        tracing::debug!("is not wanted");
        *log.collector.write() = None;
        tracing::info!("said after the end");
    });
    let lines = queue.take();
    assert_eq!(lines.len(), 1);
    assert_eq!((lines[0].level, lines[0].kind, lines[0].trace), (Level::WARN, LineKind::Process, None));
    let line: Value = serde_json::from_slice(&lines[0].json).expect("JSON, whatever the log's own format");
    assert_eq!((&line["message"], &line["target_name"]), (&"the app is away".into(), &"app".into()));
}

#[test]
fn a_line_for_a_person_keeps_the_lines_of_a_message_and_nothing_that_moves_a_cursor() {
    let text = written(LogFormat::Text, Level::INFO, |_| tracing::error!(file = "a\nb", "two\nlines\u{1b}[31m"));
    let (_, said) = text.split_once(' ').expect("a time first");
    assert_eq!(said, "ERROR two\nlines\\u001b[31m file=\"a\\nb\"\n");
}

#[test]
fn no_name_stands_twice_in_a_line() {
    let text = written(LogFormat::Json, Level::INFO, |_| tracing::info!(level = "mine", timestamp = 1, other = 2, "words"));
    for name in ["\"level\"", "\"timestamp\"", "\"message\"", "\"other\""] {
        assert_eq!(text.matches(name).count(), 1, "{name} in {text}");
    }
    assert_eq!(messages(&text), ["words"]);
}

#[test]
fn equal_warnings_are_one_line_and_then_a_count() {
    let text = written(LogFormat::Json, Level::INFO, |_| {
        for at in 0..413 {
            tracing::warn!(door = "inbound", "cannot accept");
            if at < 2 {
                tracing::warn!(door = "outbound", "cannot accept");
                tracing::info!("changed");
            }
        }
    });
    let lines: Vec<(String, String)> = json(&text)
        .iter()
        .map(|line| (line["message"].as_str().expect("text").to_owned(), line["door"].as_str().unwrap_or_default().to_owned()))
        .collect();
    let line = |message: &str, door: &str| (message.to_owned(), door.to_owned());
    let expected = [
        line("cannot accept", "inbound"),
        line("cannot accept", "outbound"),
        line("changed", ""),
        line("changed", ""),
        line("cannot accept (and 412 more in the last 60 s)", "inbound"),
        line("cannot accept (and 1 more in the last 60 s)", "outbound"),
    ];
    assert_eq!(lines, expected);
}

/// A clock may stand still for a moment: two warnings then have one time.
#[test]
fn counts_of_one_moment_come_in_the_order_of_their_warnings() {
    written(LogFormat::Json, Level::INFO, |log| {
        tracing::warn!("a");
        tracing::warn!("b");
        tracing::warn!("c");
        tracing::warn!("d");
        tracing::warn!("e");
        tracing::warn!("f");
        let mut places = log.repeats.lock().all();
        places.sort_by(|(_, one), (_, other)| one.message.cmp(&other.message));
        assert_eq!(places.len(), 6);
        let (mut repeats, now) = (Repeats::default(), Instant::now());
        for (place, said) in places.iter().chain(&places) {
            repeats.is_new(place.clone(), said, now);
        }
        let told: Vec<String> = repeats.over(None).into_iter().map(|(said, _)| said.message).collect();
        assert_eq!(told, ["a", "b", "c", "d", "e", "f"]);
    });
}

#[test]
fn a_window_that_is_over_is_told_and_what_stays_away_is_forgotten() {
    let warn = || tracing::warn!("away");
    let text = written(LogFormat::Json, Level::INFO, |log| {
        let begun = Instant::now();
        (0..3).for_each(|_| warn());
        log.say_repeats(Some(begun + WINDOW / 2));
        log.say_repeats(Some(begun + WINDOW + WINDOW / 2));
        // The second window has one.
        warn();
        log.say_repeats(Some(begun + 3 * WINDOW));
        // The third window has no warning: the next one is new again.
        log.say_repeats(Some(begun + 5 * WINDOW));
        warn();
    });
    assert_eq!(messages(&text), ["away", "away (and 2 more in the last 60 s)", "away (and 1 more in the last 60 s)", "away"]);
}

#[test]
fn the_next_warning_tells_of_windows_that_are_over_if_nobody_else_does() {
    let text = written(LogFormat::Json, Level::INFO, |log| {
        (0..3).for_each(|_| tracing::warn!("away"));
        let (place, mut said) = log.repeats.lock().all().pop().expect("it is remembered");
        said.message = "other".into();
        log.say(place, &said, Instant::now() + 2 * WINDOW);
    });
    assert_eq!(messages(&text), ["away", "away (and 2 more in the last 60 s)", "other"]);
}

#[test]
fn one_place_that_warns_of_thousands_of_things_writes_a_few_of_them() {
    let text = written(LogFormat::Json, Level::INFO, |_| (0..4_000).for_each(|key| tracing::warn!(key, "used up")));
    let lines = messages(&text);
    assert_eq!(lines.len(), DISTINCT + 1);
    assert_eq!(lines[DISTINCT], format!("used up (and {} others like it in the last 60 s)", 4_000 - DISTINCT));
}
