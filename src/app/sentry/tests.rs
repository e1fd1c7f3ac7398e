//! Reports over real sockets: a real panic, the first second, the share, and the receiver's limits.

use std::time::UNIX_EPOCH;

use sentry_types::protocol::v7::{Envelope, Event};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::{
    config::FailureBounds,
    resolve::Resolver,
    telemetry::{
        failures::{FailureFacts, FailureKind},
        log::{Record, testing},
    },
};

const NOW: u64 = 1_800_000_000;

/// What would receive reports: it keeps the events, and answers as it is told, at last with 200.
#[derive(Clone, Default)]
struct Receiver {
    events: Arc<Mutex<Vec<Event<'static>>>>,
    answers: Arc<Mutex<Vec<&'static str>>>,
}

impl Receiver {
    /// Listens, and gives its DSN.
    async fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let dsn = format!("http://key@{}/7", listener.local_addr().expect("an address"));
        let this = self.clone();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut seen = Vec::new();
                while !this.take(&seen) {
                    if socket.read_buf(&mut seen).await.unwrap_or(0) == 0 {
                        break;
                    }
                }
                let said = this.answers.lock().pop().unwrap_or("200 OK");
                let answer = format!("HTTP/1.1 {said}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        dsn
    }

    /// Keeps the event of a request that is whole.
    fn take(&self, request: &[u8]) -> bool {
        let text = String::from_utf8_lossy(request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
        let head = head.to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(usize::MAX);
        if body.len() < length {
            return false;
        }
        assert!(head.contains("sentry_key=key") && head.contains("post /api/7/envelope/"), "{head}");
        let envelope = Envelope::from_slice(body.as_bytes()).expect("parses");
        self.events.lock().push(envelope.event().expect("an event").clone());
        true
    }

    fn got(&self) -> usize {
        self.events.lock().len()
    }
}

/// A ring of failures, the numbers, and reports to a receiver.
struct Desk {
    receiver: Receiver,
    reports: Reports,
    sentry: config::Sentry,
    failures: Arc<Failures>,
    metrics: Arc<Metrics>,
}

impl Desk {
    /// `early`: the DSN is in the file from the start on.
    async fn new(sample: f64, early: bool) -> Self {
        let receiver = Receiver::default();
        let dsn = Secret::new(receiver.start().await);
        let sentry = config::Sentry { dsn, environment: "test".into(), release: String::new(), sample };
        let reports = Reports::new(&Fetch::new(Resolver::default()), Some(&sentry).filter(|_| early));
        let failures = Failures::new(FailureBounds { keep: 1_000, bytes: 1 << 20 });
        Self { receiver, reports, sentry, failures, metrics: Metrics::new(Clock::system()) }
    }

    fn fail(&self, n: usize, reason: Option<&'static str>) {
        for _ in 0..n {
            let kind = FailureKind::ServerError;
            let failure = FailureFacts { kind, reason, said: "", retry_after: None, cache_bypass: "", steps: &[], trace_id: None };
            self.failures.keep(&Record { status: 500, reason, ..testing::record() }, &failure);
        }
    }

    /// A look this many seconds after the beginning.
    async fn look(&self, seconds: u64) {
        let about = About {
            sentry: &self.sentry,
            service: "shop",
            failures: &self.failures,
            metrics: &self.metrics,
            clock: Clock::fixed(UNIX_EPOCH + Duration::from_secs(NOW + seconds)),
        };
        self.reports.look(&about).await;
    }

    /// Events by outcome.
    fn counted(&self, outcome: &str) -> u64 {
        let (text, series) = (self.metrics.render(), format!("outrigger_sentry_events_total{{outcome=\"{outcome}\"}} "));
        text.lines().find_map(|line| line.strip_prefix(&series)?.parse::<f64>().ok()).unwrap_or_default() as u64
    }
}

/// Panics are the whole process's: one test at a time takes them.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The events that are about failures, and not about a panic of another test.
fn of_failures(desk: &Desk) -> usize {
    desk.receiver.events.lock().iter().filter(|event| event.exception.is_empty()).count()
}

#[tokio::test]
async fn what_fails_before_the_first_look_is_reported() {
    let _alone = ALONE.lock().await;
    let early = Desk::new(1.0, true).await;
    early.fail(2, None);
    early.look(0).await;
    assert_eq!(of_failures(&early), 2, "the first second of the process");
    early.look(1).await;
    assert_eq!(of_failures(&early), 2, "each once");
    early.fail(1, None);
    early.look(2).await;
    assert_eq!(of_failures(&early), 3);
    let late = Desk::new(1.0, false).await;
    late.fail(5, None);
    late.look(0).await;
    assert_eq!(of_failures(&late), 0, "the block came with a reload: what was before is not reported");
    late.fail(1, None);
    late.look(1).await;
    assert_eq!(of_failures(&late), 1);
}

#[tokio::test]
async fn a_panic_is_reported_as_a_fault_of_the_proxy() {
    let _alone = ALONE.lock().await;
    let desk = Desk::new(0.0, true).await;
    let ended = std::thread::spawn(|| panic!("the number is {}", 41 + 1)).join();
    assert!(ended.is_err());
    desk.look(0).await;
    let events = desk.receiver.events.lock();
    let value = |event: &Event<'static>| event.exception.iter().next().and_then(|one| one.value.clone());
    let event = events.iter().find(|event| value(event).as_deref() == Some("the number is 42")).expect("the panic");
    assert_eq!((event.tags["priority"].as_str(), event.exception[0].ty.as_str()), ("P0", "panic"));
    assert!(event.tags["location"].contains("sentry/tests.rs:"), "{:?}", event.tags);
    assert_eq!((event.environment.as_deref(), event.server_name.as_deref()), (Some("test"), Some("shop")));
}

#[tokio::test]
async fn a_share_is_sent_and_a_fault_of_the_proxy_always() {
    let _alone = ALONE.lock().await;
    let none = Desk::new(0.0, true).await;
    none.fail(50, None);
    none.fail(3, Some("internal"));
    none.look(0).await;
    assert_eq!((of_failures(&none), none.counted("sampled_out")), (3, 50));
    assert!(none.receiver.events.lock().iter().all(|event| event.tags["priority"] == "P0"));
    let half = Desk::new(0.5, true).await;
    half.fail(100, None);
    half.look(0).await;
    let sent = half.counted("sampled_out");
    assert!((25..=75).contains(&sent), "{sent} of 100");
    assert_eq!(sent + half.counted("limited") + of_failures(&half) as u64, 100, "each is counted once");
}

#[tokio::test]
async fn the_receivers_limits_and_our_own_hold() {
    let _alone = ALONE.lock().await;
    let desk = Desk::new(1.0, true).await;
    desk.receiver.answers.lock().push("429 Too Many Requests\r\nretry-after: 20");
    desk.fail(3, None);
    desk.look(0).await;
    assert_eq!((of_failures(&desk), desk.counted("refused"), desk.counted("limited")), (1, 1, 2), "nothing after the refusal");
    desk.fail(1, None);
    desk.look(19).await;
    assert_eq!(of_failures(&desk), 1);
    desk.receiver.answers.lock().push("200 OK\r\nx-sentry-rate-limits: 60:error:organization, 1:transaction:key");
    desk.fail(1, None);
    desk.look(21).await;
    desk.fail(1, None);
    desk.look(50).await;
    assert_eq!(of_failures(&desk), 2, "a success may carry a limit too");
    desk.fail(1, None);
    desk.look(82).await;
    assert_eq!(of_failures(&desk), 3);
    // Sixty in a minute, and no page of the ring hides how many there were.
    let desk = Desk::new(1.0, true).await;
    desk.fail(250, None);
    desk.look(0).await;
    assert_eq!(of_failures(&desk) as u64 + desk.counted("limited"), 250);
    assert!(desk.receiver.got() <= 60);
}
