//! One try: sends a request to one target, waits for the head within the bounds, and cleans the head.

use std::{
    future::Future,
    pin::{Pin, pin},
    rc::Rc,
    time::Duration,
};

use http::{StatusCode, Uri};

use crate::{
    arrival::Arrival,
    body::{Body, upload::Progress},
    clock::Instant,
    config::{Mode, Timeouts},
    http1::{Fields, Id},
    message::AnswerHead,
    policy::timeout::Deadline,
    reject::{Bound, Reject},
    upstream::{self, Connection, Outgoing, Pool, Received, SendError},
};

/// A response head that may go to the client, its body, and the connection it comes over.
pub struct Responded {
    /// The head, without the fields that belong to one hop.
    pub head: AnswerHead,
    /// The body, as it comes.
    pub body: Body,
    /// To be released at the body's end.
    pub connection: Connection,
    /// From sending to the head.
    pub took: Duration,
    /// Words for the observed bounds that have passed.
    pub overran: Vec<&'static str>,
}

/// Why a try gave no answer.
#[derive(Debug)]
pub enum Failed {
    /// No response head.
    Send(SendError),
    /// A bound passed.
    Timeout(Bound, Duration),
    /// The response cannot be forwarded.
    Malformed(upstream::headers::Malformed),
    /// The client's own body failed: the target is not to blame.
    Client(Reject),
}

/// The time bounds of one try.
#[derive(Debug, Clone, Copy)]
pub struct TryBounds {
    /// To an open connection; `None`: configured as `off`.
    pub connect: Option<Duration>,
    /// From the request fully sent to the head.
    pub response_header: Option<Duration>,
    /// To the head, everything included.
    pub per_try: Option<Duration>,
    /// The end of the exchange's time.
    pub deadline: Deadline,
    /// The begin of the try.
    pub began: Instant,
    /// Whether the bounds enforce. Observed bounds are counted alone.
    pub mode: Mode,
}

/// The `connect` bound without `timeouts`: the kernel alone would wait for two minutes.
const CONNECT: Duration = Duration::from_secs(5);

impl TryBounds {
    /// The bounds that `timeouts` puts on a try that began at `began`, within `deadline`.
    pub fn new(timeouts: Option<&Timeouts>, deadline: Deadline, began: Instant) -> Self {
        match timeouts {
            None => Self::usual(deadline, began),
            Some(t) => Self { connect: t.connect, response_header: t.response_header, per_try: t.per_try, deadline, began, mode: t.mode },
        }
    }

    /// The bounds without `timeouts`.
    fn usual(deadline: Deadline, began: Instant) -> Self {
        Self { connect: Some(CONNECT), response_header: None, per_try: None, deadline, began, mode: Mode::Enforce }
    }

    /// The bounds to enforce. A policy that only observes has the default ones, within the deadline.
    fn enforced(self) -> Self {
        match self.mode {
            Mode::Enforce => self,
            Mode::Observe => Self::usual(self.deadline, self.began),
        }
    }

    /// Whether `connect` is the only bound.
    fn bounds_nothing(&self) -> bool {
        self.response_header.is_none() && self.per_try.is_none() && self.deadline == Deadline::NONE
    }

    /// The observed bounds that a try of this length has passed.
    fn overran(&self, took: Duration) -> Vec<&'static str> {
        let bounds = [("observed_response_header", self.response_header), ("observed_per_try", self.per_try)];
        let passed = |(word, bound): (&'static str, Option<Duration>)| bound.filter(|bound| took > *bound).map(|_| word);
        if self.mode == Mode::Observe { bounds.into_iter().filter_map(passed).collect() } else { Vec::new() }
    }
}

/// Sends one request and waits for its head.
///
/// `progress` tells when the body has been sent; the `response_header` bound begins then.
pub async fn send(
    pool: &Rc<Pool>,
    arrival: &Arrival,
    uri: &Uri,
    headers: Fields,
    body: Body,
    progress: &Rc<Progress>,
    bounds: TryBounds,
) -> Result<Responded, Failed> {
    let method = &arrival.method;
    let upgrade = headers.has(Id::Upgrade);
    let head = Outgoing { method, uri, headers };
    let began = bounds.began;
    let enforced = bounds.enforced();
    // Pinned here and passed by reference: each move of a future by value costs its size twice.
    let mut sending = pin!(pool.send(head, body, enforced.connect, began, arrival.interim.as_ref(), upgrade));
    let received = if enforced.bounds_nothing() { Ok(sending.await) } else { Box::pin(within(sending.as_mut(), progress, enforced)).await };
    let Received { mut head, body, connection } = match received {
        Ok(Ok(received)) => received,
        Ok(Err(error)) => {
            return Err(match progress.failure() {
                Some(failure) => Failed::Client(super::client_failure(failure)),
                None => Failed::Send(error),
            });
        }
        Err((bound, after)) => return Err(Failed::Timeout(bound, after)),
    };
    if head.status != StatusCode::SWITCHING_PROTOCOLS {
        upstream::headers::response(method, head.status, &mut head.headers).map_err(Failed::Malformed)?;
    }
    let took = began.elapsed();
    Ok(Responded { head, body, connection, took, overran: bounds.overran(took) })
}

/// Runs `send` within the nearest of the bounds.
async fn within<T>(mut send: Pin<&mut impl Future<Output = T>>, progress: &Progress, bounds: TryBounds) -> Result<T, (Bound, Duration)> {
    let now = Instant::now();
    let fixed = [bounds.per_try.map(|after| (now + after, Bound::PerTry, after)), bounds.deadline.next(now)]
        .into_iter()
        .flatten()
        .min_by_key(|(at, ..)| *at);
    let fixed_bound = async {
        match fixed {
            Some((at, bound, after)) => {
                tokio::time::sleep_until(at).await;
                (bound, after)
            }
            None => std::future::pending().await,
        }
    };
    let head_bound = async {
        match bounds.response_header {
            Some(after) => {
                // While the request is being sent: a target that takes no byte for as long counts as silent. A client that sends no
                // byte has a bound of its own.
                while !progress.is_done() {
                    let taken = progress.bytes.get();
                    if tokio::time::timeout(after, progress.done()).await.is_err()
                        && taken == progress.bytes.get()
                        && !progress.waits_for_client()
                    {
                        return (Bound::ResponseHeader, after);
                    }
                }
                tokio::time::sleep(after).await;
                (Bound::ResponseHeader, after)
            }
            None => std::future::pending().await,
        }
    };
    let (mut fixed_bound, mut head_bound) = (pin!(fixed_bound), pin!(head_bound));
    std::future::poll_fn(|cx| {
        use std::task::Poll;
        if let Poll::Ready(answer) = send.as_mut().poll(cx) {
            return Poll::Ready(Ok(answer));
        }
        if let Poll::Ready(passed) = fixed_bound.as_mut().poll(cx) {
            return Poll::Ready(Err(passed));
        }
        head_bound.as_mut().poll(cx).map(Err)
    })
    .await
}
