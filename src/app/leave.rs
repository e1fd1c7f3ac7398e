//! How the process is told to leave, and how it leaves: in time, whatever hangs.
//!
//! SIGTERM and `drain`: readiness fails, the doors accept for `drain_delay`, requests in flight are finished until the
//! deadline. SIGINT (Ctrl-C) has no delay: a person waits. A second signal ends everything at once.

use std::{future::Future, io, sync::Arc, sync::atomic::Ordering, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
};

use super::{App, Phase, worker::POLL};
use crate::{clock::Instant, telemetry};

/// Part of the deadline kept for last words to clients and for the last exports.
const FLUSH: Duration = Duration::from_secs(2);
/// The time for the same after a second signal.
const AT_ONCE: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_secs(2);

/// A signal that ends the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// SIGTERM.
    Asked,
    /// SIGINT.
    ByHand,
}

struct Ending {
    terminate: Signal,
    interrupt: Signal,
}

impl Ending {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> Ends {
        tokio::select! {
            Some(()) = self.terminate.recv() => Ends::Asked,
            Some(()) = self.interrupt.recv() => Ends::ByHand,
            else => std::future::pending().await,
        }
    }
}

impl App {
    /// Serves until a signal ends it, then drains. Returns when everything is over.
    pub async fn serve(self: Arc<Self>) -> io::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        let mut ending = Ending::new()?;
        let mut look = tokio::time::interval(LOOK);
        let mut leaving = self.phase.subscribe();
        let mut first = None;
        let mut housekeeping = tokio::spawn(std::future::ready(()));
        loop {
            tokio::select! {
                _ = hangup.recv() => drop(tokio::spawn(self.clone().reload_because(true))),
                _ = look.tick() => {
                    telemetry::say_repeats();
                    if housekeeping.is_finished() {
                        housekeeping = tokio::spawn(self.clone().keep_house());
                    }
                }
                signal = ending.next() => {
                    first = Some(signal);
                    break;
                }
                _ = leaving.wait_for(|phase| *phase > Phase::Running) => break,
            }
        }
        self.leave_heeding(first, &mut ending).await;
        // The admin door ends here, not with the last handle of the app: a blocked read of a file may hold a handle.
        drop(self.admin.lock().take());
        Ok(())
    }

    async fn reload_because(self: Arc<Self>, forced: bool) {
        // The outcome is logged and counted already.
        let _ = self.reload(forced).await;
    }

    /// Reloads a changed file and forgets outdated entries: on a thread that may block, and never twice at once.
    async fn keep_house(self: Arc<Self>) {
        self.clone().reload_because(false).await;
        let _ = tokio::task::spawn_blocking(move || {
            let (shared, now) = (&self.shared, Instant::now());
            let outbound = self.live.load().config.outbound.as_ref().map(|outbound| outbound.join_within);
            shared.causes.sweep(outbound.unwrap_or_default(), now);
            shared.limits.sweep(now);
            shared.cache.sweep(shared.clock.moment());
        })
        .await;
    }

    /// Drains as `first` asks, or as configured if no signal has come yet; obeys the signals that follow.
    async fn leave_heeding(&self, mut first: Option<Ends>, ending: &mut Ending) {
        let hurry = Notify::new();
        if first == Some(Ends::ByHand) {
            hurry.notify_one();
        }
        let mut draining = std::pin::pin!(self.drain_unless(hurry.notified()));
        loop {
            tokio::select! {
                () = &mut draining => return,
                signal = ending.next() => {
                    if first.is_some() {
                        tracing::warn!("a second signal: everything ends at once");
                        return self.end_at_once().await;
                    }
                    first = Some(signal);
                    if signal == Ends::ByHand {
                        hurry.notify_one();
                    }
                }
            }
        }
    }

    /// Fails readiness, accepts for `drain_delay`, finishes the requests in flight and flushes, by the deadline.
    pub async fn drain(&self) {
        self.drain_unless(std::future::pending()).await;
    }

    /// [`Self::drain`]; the delay ends when `hurry` does.
    async fn drain_unless(&self, hurry: impl Future<Output = ()>) {
        let shutdown = self.live.load().config.shutdown.clone();
        let deadline = Instant::now() + shutdown.deadline;
        tracing::info!(delay = ?shutdown.drain_delay, deadline = ?shutdown.deadline, "draining");
        self.advance(Phase::Leaving);
        tokio::select! {
            biased;
            () = hurry => {}
            () = tokio::time::sleep(shutdown.drain_delay.min(shutdown.deadline)) => {}
        }
        self.advance(Phase::Closing);
        let flush = FLUSH.min(shutdown.deadline / 4);
        self.until_workers_end(deadline - flush).await;
        if self.alive.load(Ordering::Acquire) > 0 {
            tracing::warn!("the deadline ends exchanges that are still in flight");
        }
        self.advance(Phase::Over);
        self.until_workers_end(deadline).await;
        self.works.clone().close(FLUSH / 4).await;
        if tokio::time::timeout(FLUSH / 4, self.report()).await.is_err() {
            tracing::warn!("the last error reports were not taken in time");
        }
        self.alerts.courier.save().await;
        self.monitors.save().await;
        self.close_ledger(FLUSH / 2).await;
        self.close_audit(FLUSH / 4).await;
        let left = deadline.saturating_duration_since(Instant::now()).clamp(Duration::from_millis(200), FLUSH);
        self.telemetry.clone().shutdown(left).await;
    }

    async fn end_at_once(&self) {
        self.advance(Phase::Over);
        self.until_workers_end(Instant::now() + AT_ONCE).await;
        self.works.clone().close(AT_ONCE).await;
        self.close_ledger(AT_ONCE).await;
        self.close_audit(AT_ONCE / 2).await;
        self.telemetry.clone().shutdown(AT_ONCE / 2).await;
    }

    async fn until_workers_end(&self, deadline: Instant) {
        while self.alive.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
            tokio::time::sleep(POLL).await;
        }
    }
}
