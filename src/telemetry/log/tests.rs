//! Tests of lines and of the thread that writes them.

use std::{
    io::{self, Write},
    sync::Arc,
    thread,
    time::{Duration, UNIX_EPOCH},
};

use opentelemetry::TraceId;
use parking_lot::Mutex;
use proptest::prelude::*;

use super::{testing::record, *};
use crate::{
    arrival::Door,
    usage::{Usage, UsageSource},
};

fn json(record: &Record<'_>) -> String {
    let mut out = Vec::new();
    record.write_json(&mut out);
    String::from_utf8(out).expect("UTF-8")
}

fn text(record: &Record<'_>) -> String {
    let mut out = Vec::new();
    record.write_text(&mut out);
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn a_plain_exchange_is_a_short_line() {
    assert_eq!(
        json(&record()),
        concat!(
            r#"{"timestamp":"2024-02-29T00:00:00.007Z","request_id":"r-1","door":"inbound","route":"api","client_ip":"10.0.0.255","#,
            r#""method":"GET","host":"shop.example","path":"/a","status":200,"outcome":"complete","target":"app","tries":1,"#,
            r#""duration_ms":1.5,"bytes_in":0,"bytes_out":12}"#,
            "\n"
        )
    );
    assert_eq!(text(&record()), "2024-02-29T00:00:00.007Z inbound GET /a 200 1.5ms route=api target=app request_id=r-1\n");
}

#[test]
fn a_model_call_says_what_it_used_and_cost() {
    let line = json(&Record {
        trace_id: Some(TraceId::from(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c)),
        door: Door::Outbound,
        cache: "miss",
        limit: "budget",
        thrown_away: &["status_5xx", "connect_failed"],
        fallback: "groq",
        asked_model: "gpt-4.1",
        provider: "openai",
        operation: "chat",
        model: "gpt-4o",
        stream: Some(true),
        tokens: Some(Tokens { usage: Usage { input: 10, cache_read: 4, output: 3, ..Usage::default() }, source: UsageSource::Provider }),
        cost: Some(1_234_500),
        first_token: Some(Duration::from_millis(120)),
        cause: "in-7",
        sent_request_id: "out-7",
        outcome: ExchangeOutcome::ClientGone,
        ..record()
    });
    let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(value["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(value["tokens"], serde_json::json!({"source": "provider", "input": 10, "output": 3, "cache_read": 4}));
    assert_eq!(value["cost_usd"], 0.001_234_5);
    assert_eq!((value["stream"].as_bool(), value["first_token_ms"].as_u64()), (Some(true), Some(120)));
    assert_eq!(value["thrown_away"], serde_json::json!(["status_5xx", "connect_failed"]));
    assert_eq!((&value["limit"], &value["fallback"], &value["asked_model"]), (&"budget".into(), &"groq".into(), &"gpt-4.1".into()));
    assert_eq!(value["sent_request_id"], "out-7");
    assert_eq!((&value["outcome"], &value["cause"], &value["cache"]), (&"client_gone".into(), &"in-7".into(), &"miss".into()));
}

#[test]
fn secret_query_values_are_masked() {
    for (query, expected) in [
        ("key=AIza", "?key=***"),
        ("alt=sse&api_key=x&a=b", "?alt=sse&api_key=***&a=b"),
        ("access_token=x&Token=y", "?access_token=***&Token=***"),
        ("X-Amz-Signature=s&X-Amz-Credential=c&X-Amz-Date=d", "?X-Amz-Signature=***&X-Amz-Credential=***&X-Amz-Date=d"),
        ("%6bey=x&apiKey=y&client_secret=z", "?%6bey=***&apiKey=***&client_secret=***"),
        ("max_tokens=5&monkey=1&keys=2", "?max_tokens=5&monkey=1&keys=2"),
        ("key=&novalue&=x", "?key=&novalue&=x"),
        ("api_key=a=b", "?api_key=***"),
    ] {
        let line = json(&Record { query, ..record() });
        assert!(line.contains(&format!("\"path\":\"/a{expected}\"")), "{query} in {line}");
        assert!(text(&Record { query, ..record() }).contains(expected), "{query}");
    }
}

#[test]
fn a_text_line_stays_one_line() {
    let line = text(&Record { path: "/a\nb\u{1b}[31m", model: "x\ry", ..record() });
    assert_eq!(line.matches(['\n', '\r', '\u{1b}']).count(), 1);
}

proptest! {
    #[test]
    fn every_line_parses_and_says_what_was_put_in(
        path in ".*", query in "[^&=]*(=[^&]*)?(&[^&=]*)*", host in ".*", model in ".*", caller in ".*",
        status in 100_u16..600, total in 0_u64..1 << 54, cost in any::<Option<u64>>(), seconds in 0_u64..253_402_300_800,
    ) {
        let line = json(&Record {
            at: UNIX_EPOCH + Duration::from_secs(seconds),
            path: &path, query: &query, host: &host, model: &model, caller: &caller, status, cost,
            total: Duration::from_nanos(total), client: "2001:db8::1".parse().expect("address"), ..record()
        });
        prop_assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        prop_assert!(value["path"].as_str().expect("text").starts_with(&path));
        for (name, put) in [("host", &host), ("model", &model), ("caller", &caller)] {
            prop_assert_eq!(value[name].as_str().unwrap_or_default(), put.as_str());
        }
        prop_assert_eq!(value["status"].as_u64(), Some(u64::from(status)));
        let micros = value["duration_ms"].as_f64().map(|millis| (millis * 1000.0).round() as u64);
        prop_assert_eq!(micros, Some(total / 1000));
        prop_assert_eq!(value["client_ip"].as_str(), Some("2001:db8::1"));
        let expected = humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_secs(seconds)).to_string();
        prop_assert_eq!(value["timestamp"].as_str(), Some(expected.as_str()));
    }

    #[test]
    fn a_decimal_is_exact(value in any::<u64>()) {
        let line = json(&Record { cost: Some(value), ..record() });
        let number = line.split("\"cost_usd\":").nth(1).and_then(|rest| rest.split(['}', ',']).next()).expect("there");
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let nano: u128 = format!("{whole}{fraction:0<9}").parse().expect("digits");
        prop_assert_eq!(nano, u128::from(value));
    }
}

/// Remembers the bytes written; blocks while `gate` is held.
#[derive(Clone, Default)]
struct Out {
    written: Arc<Mutex<Vec<u8>>>,
    gate: Arc<Mutex<()>>,
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _open = self.gate.lock();
        self.written.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn lines(out: &Out) -> usize {
    out.written.lock().iter().filter(|byte| **byte == b'\n').count()
}

#[test]
fn lines_of_all_workers_are_written_by_shutdown_at_the_latest() {
    let (out, dropped) = (Out::default(), Counter::default());
    let log = Log::start_into(LogFormat::Json, dropped.clone(), Box::new(out.clone())).expect("starts");
    thread::scope(|scope| {
        for _ in 0..4 {
            let worker = log.worker();
            scope.spawn(move || (0..1000).for_each(|_| worker.write(&record())));
        }
    });
    assert!(log.shutdown(Duration::from_secs(10)));
    assert_eq!((lines(&out), dropped.get()), (4000, 0));
    for line in out.written.lock().split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        serde_json::from_slice::<serde_json::Value>(line).expect("whole lines");
    }
}

#[test]
fn a_reader_that_does_not_read_costs_lines_but_nobody_waits() {
    let (out, dropped) = (Out::default(), Counter::default());
    let closed = out.gate.clone();
    let gate = closed.lock();
    let log = Log::start_into(LogFormat::Text, dropped.clone(), Box::new(out.clone())).expect("starts");
    let worker = log.worker();
    let long = "x".repeat(10_000);
    for _ in 0..1000 {
        worker.write(&Record { path: &long, ..record() });
    }
    assert!(dropped.get() > 0, "ten megabytes do not fit");
    assert!(worker.lane.as_ref().expect("a lane").waiting() <= MAX_BUFFER);
    assert!(!log.shutdown(Duration::from_millis(1)), "bounded in time");
    drop(gate);
    assert!(log.shutdown(Duration::from_secs(10)));
    assert_eq!(lines(&out) as u64 + dropped.get(), 1000, "written or counted");
}

#[test]
fn an_output_that_fails_is_counted() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let dropped = Counter::default();
    let log = Log::start_into(LogFormat::Json, dropped.clone(), Box::new(Broken)).expect("starts");
    let worker = log.worker();
    (0..3).for_each(|_| worker.write(&record()));
    assert!(log.shutdown(Duration::from_secs(10)));
    assert_eq!(dropped.get(), 3);
}

/// Takes three bytes per call, and fails at the calls in `fails`.
struct Bad {
    out: Out,
    calls: usize,
    fails: fn(usize) -> Option<io::ErrorKind>,
}

impl Write for Bad {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.calls += 1;
        match (self.fails)(self.calls) {
            Some(kind) => Err(kind.into()),
            None => self.out.write(&bytes[..bytes.len().min(3)]),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn said_through(fails: fn(usize) -> Option<io::ErrorKind>, lines: &[&[u8]]) -> (String, u64) {
    let (out, dropped) = (Out::default(), Counter::default());
    let bad = Bad { out: out.clone(), calls: 0, fails };
    let writer = Writer::start("test", dropped.clone(), Box::new(bad)).expect("starts");
    let lane = writer.lane();
    for line in lines {
        let before = dropped.get() + lines_of(&out);
        lane.push(|out| out.extend_from_slice(line));
        // Each line is a write of its own.
        while dropped.get() + lines_of(&out) == before {
            thread::yield_now();
        }
    }
    assert!(writer.shutdown(Duration::from_secs(10)));
    let written = String::from_utf8(out.written.lock().clone()).expect("UTF-8");
    (written, dropped.get())
}

fn lines_of(out: &Out) -> u64 {
    lines(out) as u64
}

#[test]
fn a_disk_that_was_full_for_a_while_costs_the_lines_of_that_while() {
    let full = |call: usize| (call == 2).then_some(io::ErrorKind::StorageFull);
    // The first line breaks off after three bytes; the second stands on a line of its own.
    assert_eq!(said_through(full, &[b"first\n", b"2nd\n"]), ("fir\n2nd\n".to_owned(), 1));
}

#[test]
fn an_output_that_takes_nothing_now_is_waited_for_and_loses_nothing() {
    let busy = |call: usize| (call % 2 == 1).then_some(io::ErrorKind::WouldBlock);
    assert_eq!(said_through(busy, &[b"first\n", b"2nd\n"]), ("first\n2nd\n".to_owned(), 0));
}

#[test]
fn switched_off_nothing_is_written() {
    let out = Out::default();
    let log = Log::start_into(LogFormat::Off, Counter::default(), Box::new(out.clone())).expect("starts");
    let worker = log.worker();
    worker.write(&record());
    assert!(!worker.enabled() && log.shutdown(Duration::ZERO) && out.written.lock().is_empty());
}
