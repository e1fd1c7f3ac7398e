//! The end of all work in hand: the deadline of a shutdown has come.
//!
//! A waiting body or request asks [`Stop::is_on`] at each poll, and has no other cost. The caller that begins the stop also
//! wakes the tasks: connections by their own means, other tasks through [`Stop::woken`].
//!
//! There are two steps. First the bodies from targets end: their readers get the last words. Then ([`Stop::is_last`]) the
//! answers to clients end.

use std::{
    cell::Cell,
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use tokio::sync::Notify;

/// One worker's stop. Never taken back.
#[derive(Debug, Default)]
pub struct Stop {
    step: Cell<u8>,
    begun: Notify,
}

impl Stop {
    /// Whether the stop has begun.
    pub fn is_on(&self) -> bool {
        self.step.get() > 0
    }

    /// Whether the second step has begun.
    pub fn is_last(&self) -> bool {
        self.step.get() > 1
    }

    /// Begins the first step, then the second.
    pub fn advance(&self) {
        self.step.set(self.step.get().saturating_add(1));
        self.begun.notify_waiters();
    }

    /// Runs `task`, polled once more at each step. The caller pins it: it is held once.
    pub async fn woken<F: Future>(&self, mut task: Pin<&mut F>) -> F::Output {
        let mut begun = pin!(self.begun.notified());
        let mut heard = None;
        std::future::poll_fn(|cx| {
            // One poll of the notice per step is enough: it keeps the task's waker.
            if heard != Some(self.step.get()) {
                heard = Some(self.step.get());
                while begun.as_mut().poll(cx).is_ready() {
                    begun.set(self.begun.notified());
                }
            }
            task.as_mut().poll(cx)
        })
        .await
    }

    /// Runs `work`; `None` if it is still waiting when its task is polled after the stop has begun.
    /// The caller pins the future: a future that is passed by value is held twice.
    pub async fn unless_on<F: Future>(&self, mut work: Pin<&mut F>) -> Option<F::Output> {
        std::future::poll_fn(|cx: &mut Context<'_>| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if self.is_on() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_stop_ends_what_waits_and_lets_pass_what_is_done() {
        tokio::task::LocalSet::new()
            .run_until(async {
                let stop = Rc::new(Stop::default());
                let held = stop.clone();
                let waiting =
                    tokio::task::spawn_local(async move { held.woken(pin!(held.unless_on(pin!(std::future::pending::<()>())))).await });
                tokio::task::yield_now().await;
                assert!(!waiting.is_finished());
                stop.advance();
                assert_eq!(waiting.await.expect("no panic"), None);
                assert_eq!(stop.unless_on(pin!(std::future::ready(1))).await, Some(1));
            })
            .await;
    }
}
