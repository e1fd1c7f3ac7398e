//! The keys that issuers publish: asked for when they are needed, by one request at a time, and kept through an outage.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use http::Method;
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::watch, time::timeout};

use crate::{
    clock::Instant,
    config::{AuthSources, Jwks, JwtKeys},
    fetch::{Answer, Errand, Failed, Fetch},
};

/// Least time between two questions about keys that are not known, and between two tries of a question that fails.
const PAUSE: Duration = Duration::from_secs(30);
/// The same, as long as no set has come.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// How long a request waits for an issuer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Largest set of keys.
const MAX_SET: usize = 256 << 10;

/// Takes a host, and how a question to it has ended.
type Told = Box<dyn Fn(&str, &'static str) + Send + Sync>;
type Sender = Box<dyn Fn(Errand) -> Sent + Send + Sync>;
type Sent = Pin<Box<dyn Future<Output = Result<Answer, Failed>> + Send>>;

/// How the process asks others, and where.
pub struct Errander {
    /// Sends a request.
    pub send: Sender,
    /// The runtime beside those of the workers.
    pub on: Handle,
    /// Counts an answer: the host, and how it ended.
    pub told: Told,
}

impl Errander {
    /// Asks over the network.
    pub fn new(fetch: Fetch, on: Handle, told: impl Fn(&str, &'static str) + Send + Sync + 'static) -> Self {
        let send = move |errand| -> Sent {
            let fetch = fetch.clone();
            Box::pin(async move { fetch.send(errand).await })
        };
        Self { send: Box::new(send), on, told: Box::new(told) }
    }
}

impl fmt::Debug for Errander {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Errander").finish_non_exhaustive()
    }
}

/// The issuers of the process, by the URL of their keys.
#[derive(Debug, Default)]
pub struct Issuers {
    known: Mutex<HashMap<Arc<str>, Arc<Issuer>>>,
    errander: OnceLock<Arc<Errander>>,
}

/// An issuer's keys.
#[derive(Debug)]
pub struct Issuer {
    url: Arc<str>,
    set: ArcSwapOption<Jwks>,
    state: Mutex<IssuerState>,
    /// The number of questions that have ended.
    ended: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct IssuerState {
    /// The age at which the set is asked for again.
    refresh: Duration,
    under_way: bool,
    /// When the last question was begun.
    asked: Option<Instant>,
    /// When the last question about an unknown key was begun.
    asked_unknown: Option<Instant>,
    failed: bool,
}

/// How a question has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inquiry {
    /// The set is as new as it can be.
    Newest,
    /// The issuer gives no answer.
    Away,
}

impl Issuers {
    /// Says how to ask. Before that, nobody is asked.
    pub fn employ(&self, errander: Errander) {
        let _ = self.errander.set(Arc::new(errander));
    }

    /// How to ask; `None`: nobody has said so.
    pub fn errander(&self) -> Option<&Arc<Errander>> {
        self.errander.get()
    }

    /// The issuer of these sources; `None`: its keys are not at a URL.
    pub fn of(&self, sources: &AuthSources) -> Option<Arc<Issuer>> {
        match &sources.jwt.as_ref()?.keys {
            JwtKeys::Url { url, refresh } => Some(self.at(url, *refresh)),
            JwtKeys::File(_) | JwtKeys::Secret(_) => None,
        }
    }

    fn at(&self, url: &Arc<str>, refresh: Duration) -> Arc<Issuer> {
        let mut known = self.known.lock();
        known.retain(|_, issuer| Arc::strong_count(issuer) > 1);
        let issuer = known.entry(url.clone()).or_insert_with(|| Arc::new(Issuer::new(url.clone()))).clone();
        issuer.state.lock().refresh = refresh;
        issuer
    }
}

impl Issuer {
    fn new(url: Arc<str>) -> Self {
        Self { url, set: ArcSwapOption::empty(), state: Mutex::default(), ended: watch::Sender::new(0) }
    }

    /// The set of keys; `None`: none has come yet. An old one is asked for again, beside the request.
    pub fn set(self: &Arc<Self>, errander: Option<&Arc<Errander>>, now: Instant) -> Option<Arc<Jwks>> {
        let set = self.set.load_full()?;
        if let Some(errander) = errander {
            let mut state = self.state.lock();
            let wait = if state.failed { PAUSE } else { state.refresh };
            if !state.under_way && state.asked.is_none_or(|at| now >= at + wait) {
                self.begin(&mut state, errander, now);
            }
        }
        Some(set)
    }

    /// Asks for keys that are not known, or waits for the question that is under way.
    pub async fn newest(self: &Arc<Self>, errander: Option<&Arc<Errander>>, now: Instant) -> Inquiry {
        let Some(errander) = errander else { return Inquiry::Away };
        let mut ended = self.ended.subscribe();
        {
            let mut state = self.state.lock();
            if !state.under_way {
                let (last, pause) = match self.set.load().is_some() {
                    true => (state.asked_unknown, PAUSE),
                    false => (state.asked, FIRST_PAUSE),
                };
                if last.is_some_and(|at| now < at + pause) {
                    return if state.failed { Inquiry::Away } else { Inquiry::Newest };
                }
                state.asked_unknown = Some(now);
                self.begin(&mut state, errander, now);
            }
            ended.mark_unchanged();
        }
        let came = timeout(PATIENCE, ended.changed()).await;
        if came.is_ok() && !self.state.lock().failed { Inquiry::Newest } else { Inquiry::Away }
    }

    fn begin(self: &Arc<Self>, state: &mut IssuerState, errander: &Arc<Errander>, now: Instant) {
        (state.under_way, state.asked) = (true, Some(now));
        let (this, errander) = (self.clone(), errander.clone());
        let on = errander.on.clone();
        on.spawn(async move {
            let errand = Errand { max_body: MAX_SET, timeout: PATIENCE, ..Errand::new(Method::GET, &*this.url) };
            let read = match (errander.send)(errand).await {
                Err(failed) => Err(failed.to_string()),
                Ok(answer) if !answer.status.is_success() => Err(format!("the issuer answers {}", answer.status)),
                Ok(answer) => Jwks::parse(&answer.body),
            };
            let host = this.url.split('/').nth(2).unwrap_or_default();
            (errander.told)(host, if read.is_ok() { "ok" } else { "failed" });
            if let Err(why) = &read {
                let kept = if this.set.load().is_some() { "the last ones count" } else { "no token can be verified" };
                tracing::warn!("the keys of the issuer at {host} cannot be read: {why}; {kept}");
            }
            this.ends(read);
        });
    }

    fn ends(&self, read: Result<Jwks, String>) {
        let mut state = self.state.lock();
        (state.under_way, state.failed) = (false, read.is_err());
        if let Ok(set) = read
            && self.set.load().as_ref().is_none_or(|known| known.version != set.version)
        {
            self.set.store(Some(Arc::new(set)));
        }
        self.ended.send_modify(|ended| *ended += 1);
    }
}
