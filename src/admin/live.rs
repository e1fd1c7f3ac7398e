//! The live feed, `GET /api/live`: server-sent events with a snapshot first and what has changed once a second.
//!
//! One task reads the proxy's numbers for all viewers, while there are any and for [`LINGER`] after the last one. While nobody looks
//! nothing is read, and no flow is counted. A viewer that comes back with `Last-Event-ID` gets the ticks that it has missed, as long as
//! they are among the last [`KEPT`]; otherwise, and when it reads too slowly, a new snapshot. A feed ends after [`LIFE`]: a viewer that has
//! gone silently, or never reads, gives its place back.

mod book;

use std::{collections::HashMap, collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream::unfold;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use parking_lot::Mutex;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{Instant, timeout_at},
};

use self::book::Book;
use super::Operator;
use crate::{
    clock::unguessable_id,
    telemetry::{
        flows::{Flow, Sums},
        metrics::{Snapshot, Window},
    },
};

/// Time between two ticks.
pub const TICK: Duration = Duration::from_secs(1);
/// How long ticks go on without a viewer: a page that is loaded again then goes on where it was.
pub const LINGER: Duration = Duration::from_secs(15);
/// Ticks that a viewer may have missed.
pub const KEPT: usize = 60;
/// Most viewers at once. Each holds one of the door's connections.
pub const VIEWERS: usize = 16;
/// Bytes of the ticks that are kept.
pub const KEPT_BYTES: usize = 4 << 20;
/// Length of a feed. The viewer comes back with `Last-Event-ID` and misses nothing.
pub const LIFE: Duration = Duration::from_secs(600);
/// Ticks that a slow viewer may be behind.
const BEHIND: usize = 16;

/// The body of an answer of the admin door.
pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The proxy's numbers at one moment.
#[derive(Debug, Default)]
pub struct Numbers {
    /// Milliseconds since 1970.
    pub at: u64,
    /// Time since counting began.
    pub uptime: Duration,
    /// The number of the configuration's generation.
    pub generation: u64,
    /// The families that the page shows.
    pub families: Vec<Snapshot>,
    /// The flows since the last reading.
    pub flows: HashMap<Flow, Sums, foldhash::fast::RandomState>,
}

/// The last hour, by minute: when each began, in seconds after counting began.
pub type Minutes = Vec<(u64, Window)>;

/// Minutes of the past in a snapshot.
pub const PAST: u64 = 60;

/// One event, and its number.
type Event = (u64, Bytes);

/// The viewers and what they are sent.
pub(super) struct Hub {
    operator: Arc<dyn Operator>,
    /// Event ids of other processes are not ours.
    epoch: u64,
    state: Mutex<State>,
    events: broadcast::Sender<Event>,
}

#[derive(Default)]
struct State {
    viewers: usize,
    /// Whether the task runs.
    running: bool,
    /// Ticks since the last viewer left.
    alone: u32,
    /// The number of the last event.
    last: u64,
    book: Book,
    kept: Kept,
}

/// The last ticks, the oldest first: at most [`KEPT`], and [`KEPT_BYTES`] of them.
#[derive(Default)]
struct Kept {
    events: VecDeque<Event>,
    bytes: usize,
}

impl Kept {
    fn push(&mut self, event: Event) {
        self.bytes += event.1.len();
        self.events.push_back(event);
        while self.events.len() > KEPT || self.bytes > KEPT_BYTES {
            let Some((_, oldest)) = self.events.pop_front() else { break };
            self.bytes -= oldest.len();
        }
    }
}

impl Hub {
    pub(super) fn new(operator: Arc<dyn Operator>) -> Arc<Self> {
        let epoch = unguessable_id() as u64;
        Arc::new(Self { operator, epoch, state: Mutex::default(), events: broadcast::Sender::new(BEHIND) })
    }

    /// Answers one viewer. Must be called on the runtime that serves the door.
    pub(super) fn answer(self: &Arc<Self>, headers: &HeaderMap) -> Response<Body> {
        let seen = headers.get("last-event-id").and_then(|id| self.number(id.to_str().ok()?));
        let Some((first, events, viewer)) = self.join(seen) else {
            return full();
        };
        let end = Instant::now() + LIFE;
        let at = (first, events, viewer);
        let stream = unfold(at, move |(mut first, mut events, viewer)| async move {
            if Instant::now() >= end {
                return None;
            }
            let next = match first.pop_front() {
                Some(bytes) => bytes,
                None => match timeout_at(end, events.recv()).await.ok()? {
                    Ok((_, bytes)) => bytes,
                    Err(RecvError::Lagged(_)) => {
                        // What it has missed is in the snapshot.
                        events = events.resubscribe();
                        viewer.0.snapshot()
                    }
                    Err(RecvError::Closed) => return None,
                },
            };
            Some((Ok::<_, Infallible>(Frame::data(next)), (first, events, viewer)))
        });
        let mut response = Response::new(StreamBody::new(stream).boxed_unsync());
        let fields = response.headers_mut();
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // nginx holds an answer back otherwise.
        fields.insert("x-accel-buffering", HeaderValue::from_static("no"));
        response
    }

    /// The number of an event id of this process.
    fn number(&self, id: &str) -> Option<u64> {
        let (epoch, number) = id.split_once('.')?;
        (epoch == format!("{:x}", self.epoch)).then(|| number.parse().ok()).flatten()
    }

    /// A new viewer: the first events for it, and those that follow. `None`: there are too many viewers.
    fn join(self: &Arc<Self>, seen: Option<u64>) -> Option<(VecDeque<Bytes>, broadcast::Receiver<Event>, Viewer)> {
        let mut state = self.state.lock();
        if state.viewers >= VIEWERS {
            return None;
        }
        state.viewers += 1;
        let viewer = Viewer(self.clone());
        if !state.running {
            state.running = true;
            self.operator.watch(true);
            // The flows until now are nobody's.
            state.book.tick(&self.operator.live());
            tokio::spawn(self.clone().run());
        }
        let missed = seen.filter(|seen| *seen <= state.last && state.last - seen <= state.kept.events.len() as u64);
        let first = match missed {
            Some(seen) => state.kept.events.iter().filter(|(number, _)| *number > seen).map(|(_, bytes)| bytes.clone()).collect(),
            None => VecDeque::from([self.snapshot_of(&state)]),
        };
        Some((first, self.events.subscribe(), viewer))
    }

    fn snapshot(&self) -> Bytes {
        self.snapshot_of(&self.state.lock())
    }

    fn snapshot_of(&self, state: &State) -> Bytes {
        self.event("snapshot", state.last, &state.book.snapshot(&self.operator.minutes()))
    }

    fn event(&self, name: &str, number: u64, data: &str) -> Bytes {
        format!("id: {:x}.{number}\nevent: {name}\ndata: {data}\n\n", self.epoch).into()
    }

    /// Ticks until nobody has looked for a while.
    async fn run(self: Arc<Self>) {
        let mut every = tokio::time::interval(TICK);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        every.tick().await;
        loop {
            every.tick().await;
            let numbers = self.operator.live();
            let mut state = self.state.lock();
            state.alone = if state.viewers == 0 { state.alone + 1 } else { 0 };
            if state.alone >= LINGER.as_secs() as u32 {
                self.operator.watch(false);
                // Event numbers go on: an id of now must not be taken for one of later.
                *state = State { last: state.last + 1, ..State::default() };
                return;
            }
            let data = state.book.tick(&numbers);
            state.last += 1;
            let event = (state.last, self.event("tick", state.last, &data));
            state.kept.push(event.clone());
            // An error means that no viewer is left.
            let _ = self.events.send(event);
        }
    }
}

/// A viewer, until dropped.
struct Viewer(Arc<Hub>);

impl Drop for Viewer {
    fn drop(&mut self) {
        self.0.state.lock().viewers -= 1;
    }
}

fn full() -> Response<Body> {
    let why = format!("{{\"error\": \"{VIEWERS} viewers look at this proxy already; close a page and try again\"}}\n");
    let mut response = Response::new(http_body_util::Full::from(why).boxed_unsync());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    response
}
