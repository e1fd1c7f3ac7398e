//! Happy eyeballs (RFC 8305 sections 4 and 5): one connection to one of several addresses, as fast as the best of them.
//!
//! Families alternate. The next address is tried when one fails or is silent for [`DELAY`]; the first connection wins and the
//! other attempts are dropped. An address that drops every packet costs [`DELAY`] and not the whole connect bound.

use std::{
    future::Future,
    net::SocketAddr,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

/// Time that an attempt has before the next one begins.
pub const DELAY: Duration = Duration::from_millis(250);

/// The outcome of a race.
#[derive(Debug)]
pub enum Ended<T, E> {
    /// A connection.
    Won {
        /// The connection.
        with: T,
        /// Addresses that failed before, or were silent for the whole delay.
        lost: Vec<SocketAddr>,
    },
    /// Every attempt failed, in the order of the attempts.
    Failed(Vec<(SocketAddr, E)>),
}

/// Connects to one of `addresses`.
pub async fn first<F, T, E>(addresses: &[SocketAddr], connect: impl Fn(SocketAddr) -> F) -> Ended<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let mut waiting = interleaved(addresses).into_iter();
    let mut race = Race { running: Vec::new(), failed: Vec::new() };
    let mut delay = pin!(tokio::time::sleep(Duration::ZERO));
    loop {
        let more = match waiting.next() {
            None => false,
            Some(address) => {
                race.running.push((address, Box::pin(connect(address))));
                delay.as_mut().reset(Instant::now() + DELAY);
                waiting.len() > 0
            }
        };
        match std::future::poll_fn(|cx| race.poll(cx, more.then_some(delay.as_mut()))).await {
            Step::Won(address, with) => {
                let lost = race.failed.iter().map(|(address, _)| *address).chain(race.running.iter().map(|(address, _)| *address));
                return Ended::Won { lost: lost.filter(|other| *other != address).collect(), with };
            }
            Step::Next => {}
            Step::Over => return Ended::Failed(race.failed),
        }
    }
}

/// A step of the race.
enum Step<T> {
    Won(SocketAddr, T),
    /// The next address's turn.
    Next,
    Over,
}

struct Race<F, E> {
    running: Vec<(SocketAddr, Pin<Box<F>>)>,
    failed: Vec<(SocketAddr, E)>,
}

impl<F, T, E> Race<F, E>
where
    F: Future<Output = Result<T, E>>,
{
    /// `delay` is present while addresses wait.
    fn poll(&mut self, cx: &mut Context<'_>, delay: Option<Pin<&mut Sleep>>) -> Poll<Step<T>> {
        let failures = self.failed.len();
        let mut at = 0;
        while let Some((address, attempt)) = self.running.get_mut(at) {
            let address = *address;
            match attempt.as_mut().poll(cx) {
                Poll::Pending => at += 1,
                Poll::Ready(Ok(with)) => {
                    self.running.remove(at);
                    return Poll::Ready(Step::Won(address, with));
                }
                Poll::Ready(Err(error)) => {
                    self.running.remove(at);
                    self.failed.push((address, error));
                }
            }
        }
        match delay {
            Some(delay) => {
                if self.failed.len() > failures || self.running.is_empty() {
                    return Poll::Ready(Step::Next);
                }
                delay.poll(cx).map(|()| Step::Next)
            }
            None if self.running.is_empty() => Poll::Ready(Step::Over),
            None => Poll::Pending,
        }
    }
}

/// The families in turn, beginning with that of the first address; each in its own order.
fn interleaved(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let Some(first) = addresses.first() else { return Vec::new() };
    let (own, other): (Vec<SocketAddr>, Vec<SocketAddr>) =
        addresses.iter().copied().partition(|address| address.is_ipv4() == first.is_ipv4());
    let (mut own, mut other) = (own.into_iter(), other.into_iter());
    let mut turns = Vec::with_capacity(addresses.len());
    loop {
        match (own.next(), other.next()) {
            (None, None) => return turns,
            pair => turns.extend([pair.0, pair.1].into_iter().flatten()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const V6: [&str; 2] = ["[2001:db8::1]:80", "[2001:db8::2]:80"];
    const V4: [&str; 2] = ["192.0.2.1:80", "192.0.2.2:80"];

    fn all(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    /// The behaviour of each address: a connection (`true`) or a failure after so many milliseconds; `None`: it drops every packet.
    type Script<'a> = &'a [(&'a str, Option<(u64, bool)>)];

    /// The winner, the losers, the end in milliseconds, and when each attempt began.
    async fn race(script: Script<'_>) -> (Option<String>, Vec<String>, u64, Vec<(String, u64)>) {
        let began = Instant::now();
        let attempts = RefCell::new(Vec::new());
        let addresses: Vec<SocketAddr> = script.iter().map(|(text, _)| text.parse().expect("an address")).collect();
        let ended = first(&addresses, |address| {
            let (_, acts) = *script.iter().find(|(text, _)| text.parse() == Ok(address)).expect("scripted");
            attempts.borrow_mut().push((address.to_string(), began.elapsed().as_millis() as u64));
            async move {
                match acts {
                    None => std::future::pending().await,
                    Some((after, connects)) => {
                        tokio::time::sleep(Duration::from_millis(after)).await;
                        if connects { Ok(address) } else { Err(address) }
                    }
                }
            }
        })
        .await;
        let texts = |list: Vec<SocketAddr>| list.iter().map(ToString::to_string).collect();
        let (winner, lost) = match ended {
            Ended::Won { with, lost } => (Some(with.to_string()), texts(lost)),
            Ended::Failed(failed) => (None, texts(failed.into_iter().map(|(address, _)| address).collect())),
        };
        (winner, lost, began.elapsed().as_millis() as u64, attempts.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_costs_the_delay_and_no_more() {
        let (winner, lost, took, _) = race(&[(V6[0], None), (V6[1], None), (V4[0], Some((10, true))), (V4[1], Some((1, true)))]).await;
        assert_eq!((winner.as_deref(), took), (Some(V4[0]), 260));
        assert_eq!(lost, [V6[0]]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_followed_at_once() {
        let (winner, lost, took, _) = race(&[(V6[0], Some((1, false))), (V6[1], Some((1, false))), (V4[0], Some((2, true)))]).await;
        assert_eq!((winner.as_deref(), took), (Some(V4[0]), 3));
        assert_eq!(lost, [V6[0]]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_was_overtaken_may_still_win() {
        let (winner, lost, took, attempts) = race(&[(V6[0], Some((300, true))), (V4[0], Some((200, true)))]).await;
        assert_eq!((winner.as_deref(), took), (Some(V6[0]), 300));
        assert_eq!(lost, [V4[0]]);
        assert_eq!(attempts, [(V6[0].to_owned(), 0), (V4[0].to_owned(), 250)]);
    }

    #[tokio::test(start_paused = true)]
    async fn all_failures_are_told_and_nothing_is_tried_twice() {
        let (winner, lost, took, attempts) =
            race(&[(V6[0], Some((400, false))), (V4[0], Some((1, false))), (V4[1], Some((1, false)))]).await;
        assert_eq!((winner, took), (None, 400));
        assert_eq!(lost, [V4[0], V4[1], V6[0]]);
        assert_eq!(attempts.len(), 3);
        assert_eq!(race(&[]).await.1.len(), 0);
    }

    #[test]
    fn families_take_turns_from_the_first() {
        let order = |texts: &[&str]| interleaved(&all(texts)).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(order(&[V6[0], V6[1], V4[0], V4[1]]), [V6[0], V4[0], V6[1], V4[1]]);
        assert_eq!(order(&[V4[0], V4[1], V6[0]]), [V4[0], V6[0], V4[1]]);
        assert_eq!(order(&[V4[0], V4[1]]), [V4[0], V4[1]]);
    }
}
