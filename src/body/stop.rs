//! The end of everything that is under way: the deadline of a shutdown has come.
//!
//! A body or request that waits asks [`Stop::is_on`] whenever it is polled, which costs it nothing else. Whoever begins the
//! stop also wakes the tasks: connections by their own means, other tasks through [`Stop::woken`].
//!
//! There are two steps. First what comes from targets ends, so that everybody who reads it hears the last words; then
//! ([`Stop::is_last`]) what goes to clients.

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

    /// Whether its second step has.
    pub fn is_last(&self) -> bool {
        self.step.get() > 1
    }

    /// The first step, then the second one.
    pub fn advance(&self) {
        self.step.set(self.step.get().saturating_add(1));
        self.begun.notify_waiters();
    }

    /// `task`, polled once more at each step. Pinned by the caller, so that it is held once.
    pub async fn woken<F: Future>(&self, mut task: Pin<&mut F>) -> F::Output {
        let mut begun = pin!(self.begun.notified());
        let mut heard = None;
        std::future::poll_fn(|cx| {
            // Once a step is enough: a task keeps its waker.
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

    /// `work`, or `None` if it is not done when the stop begins and its task is polled.
    pub async fn unless_on<F: Future>(&self, work: F) -> Option<F::Output> {
        let mut work = pin!(work);
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
                let waiting = tokio::task::spawn_local(async move { held.woken(pin!(held.unless_on(std::future::pending::<()>()))).await });
                tokio::task::yield_now().await;
                assert!(!waiting.is_finished());
                stop.advance();
                assert_eq!(waiting.await.expect("no panic"), None);
                assert_eq!(stop.unless_on(std::future::ready(1)).await, Some(1));
            })
            .await;
    }
}
