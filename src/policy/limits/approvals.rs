//! Requests that a spent limit holds until a person says yes (`on_limit: ask`).
//!
//! A held request is known by a short id. It goes on after a yes, is refused after a no or when its time is over, and is forgotten
//! when its client goes away. The requests are those of this process. Where the limit names a webhook, each held request is a
//! [`Plea`]: whoever posts takes it up, and the request waits whether anybody does or not.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::{
    arrival::Door,
    clock,
    config::{AskHook, AskPerson},
};

/// Most held requests that wait to be posted.
const WAITING: usize = 1_024;

/// The held requests.
#[derive(Debug, Default)]
pub struct Approvals {
    held: Mutex<BTreeMap<String, Held>>,
    /// The way to whoever posts; empty: nobody does.
    pleas: OnceLock<mpsc::Sender<Plea>>,
}

#[derive(Debug)]
struct Held {
    about: About,
    since: SystemTime,
    answer: oneshot::Sender<bool>,
}

/// A held request, for the person who decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The door at which it came in.
    pub door: Door,
    /// Its route.
    pub route: Arc<str>,
    /// The limit that is spent.
    pub limit: Arc<str>,
    /// The limit's amount and window in words.
    pub terms: String,
    /// The caller; `None`: it is unknown.
    pub caller: Option<Arc<str>>,
    /// The request in words: a model call's provider and model, else method and path.
    pub what: String,
    /// A model call's provider and model; `None`: it is no model call. The model may be unknown.
    pub model: Option<(Arc<str>, Option<Arc<str>>)>,
    /// Nano-dollars that it is expected to cost; `None`: nobody knows.
    pub nano_usd: Option<u64>,
}

/// A held request that a webhook is to be told of.
#[derive(Debug, Clone)]
pub struct Plea {
    /// The id to answer by.
    pub id: String,
    /// The request.
    pub about: About,
    /// The webhook.
    pub hook: Arc<AskHook>,
    /// The time from which it is held.
    pub since: SystemTime,
    /// The longest that it is held.
    pub wait: Duration,
}

/// A request while it is held.
#[derive(Debug)]
pub struct Pending {
    all: Arc<Approvals>,
    id: String,
    answer: oneshot::Receiver<bool>,
}

impl Approvals {
    /// Holds a request; `None`: as many of the limit are held as may be.
    pub fn hold(self: &Arc<Self>, about: About, terms: &AskPerson, since: SystemTime) -> Option<Pending> {
        let mut held = self.held.lock();
        if held.values().filter(|other| other.about.limit == about.limit).count() >= terms.max as usize {
            return None;
        }
        let (sender, answer) = oneshot::channel();
        let id = loop {
            let id = format!("{:08x}", u32::from_le_bytes(clock::secret_bytes()));
            if !held.contains_key(&id) {
                break id;
            }
        };
        held.insert(id.clone(), Held { about, since, answer: sender });
        Some(Pending { all: self.clone(), id, answer })
    }

    /// Answers a held request; `false`: none has this id.
    pub fn answer(&self, id: &str, yes: bool) -> bool {
        let held = self.held.lock().remove(id);
        held.is_some_and(|held| held.answer.send(yes).is_ok())
    }

    /// The held requests, by id, each with the time from which it is held.
    pub fn list(&self) -> Vec<(String, About, SystemTime)> {
        self.held.lock().iter().map(|(id, held)| (id.clone(), held.about.clone(), held.since)).collect()
    }

    /// How many requests are held.
    pub fn count(&self) -> usize {
        self.held.lock().len()
    }

    /// Whether a request is held under this id.
    pub fn holds(&self, id: &str) -> bool {
        self.held.lock().contains_key(id)
    }

    /// The pleas from now on, for the one who posts them. `None`: somebody has them already.
    pub fn pleas(&self) -> Option<mpsc::Receiver<Plea>> {
        let (sender, pleas) = mpsc::channel(WAITING);
        self.pleas.set(sender).is_ok().then_some(pleas)
    }

    /// Gives a plea to the one who posts; `false`: nobody does, or too many wait.
    pub fn plead(&self, plea: Plea) -> bool {
        self.pleas.get().is_some_and(|pleas| pleas.try_send(plea).is_ok())
    }
}

impl Pending {
    /// The id to answer by.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The answer; `None`: nobody has answered within `wait`.
    pub async fn answered(mut self, wait: Duration) -> Option<bool> {
        tokio::time::timeout(wait, &mut self.answer).await.ok()?.ok()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.all.held.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_is_held_until_it_is_answered_leaves_or_is_late() {
        let all = Arc::new(Approvals::default());
        let about = |limit: &str| About {
            door: Door::Outbound,
            route: "chat".into(),
            limit: limit.into(),
            terms: "1 USD per day".into(),
            caller: None,
            what: "openai gpt-4o".into(),
            model: None,
            nano_usd: Some(5),
        };
        let terms = AskPerson { wait: Duration::from_secs(1), max: 2, webhook: None };
        let hold = |limit| all.hold(about(limit), &terms, SystemTime::UNIX_EPOCH);
        let (first, second) = (hold("budget").expect("room"), hold("budget").expect("room"));
        assert!(hold("budget").is_none(), "as many as may wait");
        let other = hold("other").expect("another limit has room of its own");
        assert_eq!(all.count(), 3);
        assert!(all.answer(first.id(), true) && !all.answer("nobody", true));
        assert!(!all.answer(first.id(), true), "once");
        assert_eq!(first.answered(Duration::from_secs(1)).await, Some(true));
        assert!(all.answer(second.id(), false));
        assert_eq!(second.answered(Duration::from_secs(1)).await, Some(false));
        assert_eq!(other.answered(Duration::from_secs(1)).await, None);
        drop(hold("budget"));
        assert_eq!(all.list(), []);
    }
}
