//! Delivers notices: one task, each channel in order, and what a channel does not take is tried again.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use arc_swap::ArcSwap;
use http::Method;
use parking_lot::Mutex;
use tokio::{sync::Notify, task::JoinSet};

use super::{
    format::{alertmanager, discord, pagerduty, slack, teams, webhook},
    mail,
    pouch::Pouch,
    queue::{Outcome, Parcel},
    standard,
};
use crate::{
    alert::{Carry, Notice},
    clock::{self, Clock},
    config::{Channel, Means, Secret},
    fetch::{Errand, Fetch},
    store::kept::Kept,
};

/// Longest pause between two looks at the queue.
const LOOK: Duration = Duration::from_secs(60);
/// Longest error of a channel that is shown.
const SHOWN: usize = 300;

/// A channel as an operator sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChannelState {
    /// Its name.
    pub name: String,
    /// Its means.
    pub means: &'static str,
    /// Notices that were taken.
    pub delivered: u64,
    /// Tries that failed.
    pub failed: u64,
    /// Notices that were given up.
    pub lost: u64,
    /// Notices that wait.
    pub waiting: usize,
    /// Why the last try failed; `None`: it did not.
    pub trouble: Option<String>,
    /// The time of the last delivery, in milliseconds since 1970; `None`: there was none.
    pub delivered_at: Option<u64>,
    /// The time of the last try that failed, in milliseconds since 1970; `None`: none has.
    pub failed_at: Option<u64>,
}

/// The delivery of notices. Shared by the tasks of the side runtime.
pub struct Courier {
    fetch: Fetch,
    clock: Clock,
    channels: ArcSwap<Vec<Channel>>,
    pouch: Mutex<Pouch>,
    /// Where notices and open incidents outlive the process.
    dir: Option<PathBuf>,
    /// The file; opened with the first block of alerts. `None` inside: there is none, or it cannot be used.
    state: OnceLock<Option<Arc<Kept>>>,
    wake: Notify,
    counts: Mutex<BTreeMap<String, ChannelState>>,
}

impl Courier {
    /// `None`: there are no alerts. With the first ones the notices and incidents of processes before are taken from `dir`. Without a
    /// directory, or with one that cannot be used, all is in memory, which the log says.
    pub fn new(fetch: Fetch, clock: Clock, channels: Option<Vec<Channel>>, dir: Option<&Path>) -> Arc<Self> {
        let courier = Arc::new(Self {
            fetch,
            clock,
            channels: ArcSwap::default(),
            pouch: Mutex::default(),
            dir: dir.map(Path::to_owned),
            state: OnceLock::new(),
            wake: Notify::new(),
            counts: Mutex::default(),
        });
        channels.into_iter().for_each(|channels| courier.set_channels(channels));
        courier
    }

    /// Other channels from now on. Notices for channels that are gone are given up.
    pub fn set_channels(&self, channels: Vec<Channel>) {
        self.state.get_or_init(|| self.open());
        self.channels.store(Arc::new(channels));
        self.count_gone();
        self.wake.notify_one();
    }

    /// Opens the file, and takes in what it and those of processes that are gone hold.
    fn open(&self) -> Option<Arc<Kept>> {
        let Some(dir) = self.dir.as_deref() else {
            tracing::info!("open incidents and notices that wait are in memory: a restart forgets them (store.state_dir keeps them)");
            return None;
        };
        let opened = Kept::open::<Pouch>(dir, "notices").inspect_err(|error| {
            let dir = dir.display();
            tracing::error!(%error, %dir, "open incidents and notices that wait do not outlive a restart: the directory cannot be used");
        });
        let (state, held) = opened.ok()?;
        held.into_iter().rev().for_each(|held| self.pouch.lock().add(held));
        Some(Arc::new(state))
    }

    /// Whether open incidents and notices outlive the process.
    pub fn is_durable(&self) -> bool {
        self.state.get().is_some_and(Option::is_some)
    }

    /// The incidents that are open, as last posted; at first those of the process before.
    pub fn carry(&self) -> Carry {
        self.pouch.lock().carry.clone()
    }

    fn count_gone(&self) {
        let channels = self.channels.load();
        let gone = self.pouch.lock().queue.keep(|name| channels.iter().any(|channel| *channel.name == *name));
        if gone > 0 {
            tracing::warn!(notices = gone, "notices for channels that are gone are given up");
        }
    }

    /// Puts notices in line for each channel that wants them. From now on these incidents are open. Both are written together.
    pub fn post(&self, notices: &[Notice], carry: Carry) {
        let now = self.clock.unix_millis();
        let channels = self.channels.load_full();
        let mut pouch = self.pouch.lock();
        let displaced: Vec<(&Channel, usize)> = notices.iter().flat_map(|notice| pouch.post(notice, &channels, now)).collect();
        pouch.set_carry(carry);
        drop(pouch);
        for (channel, dropped) in displaced {
            self.count(channel, |state| state.lost += dropped as u64);
            tracing::error!(channel = &*channel.name, "too many notices wait; the oldest is given up");
        }
        self.wake.notify_one();
    }

    /// Tells every Alertmanager that these incidents go on: it forgets what is not repeated. Not tried again.
    pub async fn renew(&self, notice: &Notice) {
        let channels = self.channels.load_full();
        for channel in channels.iter().filter(|channel| matches!(channel.means, Means::Alertmanager(_))) {
            let outcome = self.deliver(channel, notice).await;
            if let Outcome::Later(_, why) | Outcome::Never(why) = outcome {
                self.count(channel, |state| (state.failed, state.trouble) = (state.failed + 1, Some(why)));
            }
        }
    }

    /// Sends a notice to one channel now.
    ///
    /// # Errors
    /// There is no such channel, or it does not take the notice; in words.
    pub async fn try_now(&self, name: &str, notice: &Notice) -> Result<&'static str, String> {
        let channels = self.channels.load_full();
        let Some(channel) = channels.iter().find(|channel| *channel.name == *name) else {
            let known: Vec<&str> = channels.iter().map(|channel| &*channel.name).collect();
            return Err(format!(
                "there is no channel `{name}`; known are {}",
                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
            ));
        };
        let outcome = self.deliver(channel, notice).await;
        self.note(channel, &outcome, false);
        match outcome {
            Outcome::Delivered => Ok(channel.means.as_str()),
            Outcome::Later(_, why) | Outcome::Never(why) => Err(why),
        }
    }

    /// Delivers until the process ends.
    pub async fn run(self: Arc<Self>) {
        let mut work: JoinSet<(Parcel, Outcome)> = JoinSet::new();
        loop {
            let now = self.clock.unix_millis();
            for parcel in self.pouch.lock().queue.due(now) {
                let this = self.clone();
                work.spawn(async move {
                    let channels = this.channels.load_full();
                    let outcome = match channels.iter().find(|channel| *channel.name == parcel.channel) {
                        Some(channel) => this.deliver(channel, &parcel.notice).await,
                        None => Outcome::Never("the channel is gone".to_owned()),
                    };
                    (parcel, outcome)
                });
            }
            let wait = self.pouch.lock().queue.next().map_or(LOOK, |next| Duration::from_millis(next.saturating_sub(now)).min(LOOK));
            tokio::select! {
                Some(done) = work.join_next(), if !work.is_empty() => {
                    if let Ok((parcel, outcome)) = done {
                        self.settle(&parcel, &outcome);
                    }
                }
                () = self.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
            self.save().await;
        }
    }

    fn settle(&self, parcel: &Parcel, outcome: &Outcome) {
        let chance = (clock::unguessable_id() % 1_000) as f64 / 1_000.0;
        let now = self.clock.unix_millis();
        let given_up = self.pouch.lock().queue.done(&parcel.notice.id, &parcel.channel, outcome, now, chance);
        let channels = self.channels.load();
        if let Some(channel) = channels.iter().find(|channel| *channel.name == parcel.channel) {
            self.note(channel, outcome, given_up);
        }
        if let Outcome::Later(_, why) | Outcome::Never(why) = outcome {
            let after = if given_up { "given up" } else { "it is tried again" };
            tracing::warn!(channel = parcel.channel, tries = parcel.tries + 1, "a notice was not taken: {why}; {after}");
        }
    }

    fn note(&self, channel: &Channel, outcome: &Outcome, given_up: bool) {
        let now = Some(self.clock.unix_millis());
        self.count(channel, |state| match outcome {
            Outcome::Delivered => (state.delivered, state.trouble, state.delivered_at) = (state.delivered + 1, None, now),
            Outcome::Later(_, why) | Outcome::Never(why) => {
                state.failed_at = now;
                state.failed += 1;
                state.lost += u64::from(given_up);
                state.trouble = Some(why.chars().take(SHOWN).collect());
            }
        });
    }

    fn count(&self, channel: &Channel, change: impl FnOnce(&mut ChannelState)) {
        change(self.counts.lock().entry(channel.name.to_string()).or_default());
    }

    /// The channels of the configuration, in its order.
    pub fn channels(&self) -> Vec<ChannelState> {
        let (counts, pouch) = (self.counts.lock(), self.pouch.lock());
        let of = |channel: &Channel| ChannelState {
            name: channel.name.to_string(),
            means: channel.means.as_str(),
            waiting: pouch.queue.waiting(&channel.name).0,
            ..counts.get(&*channel.name).cloned().unwrap_or_default()
        };
        self.channels.load().iter().map(of).collect()
    }

    /// Notices that were given up, over all channels.
    pub fn lost(&self) -> u64 {
        self.counts.lock().values().map(|state| state.lost).sum()
    }

    /// Writes what outlives the process.
    pub async fn save(&self) {
        let Some(state) = self.state.get().cloned().flatten() else { return };
        let Ok(text) = serde_json::to_value(&*self.pouch.lock()) else { return };
        let saved = tokio::task::spawn_blocking(move || state.save(&text)).await;
        if let Ok(Err(error)) = saved {
            tracing::error!(%error, "open incidents and notices that wait cannot be written; they are in memory");
        }
    }

    async fn deliver(&self, channel: &Channel, notice: &Notice) -> Outcome {
        match &channel.means {
            Means::Slack(url) => self.http(Errand::new(Method::POST, url.reveal()).json(&slack::message(notice))).await,
            Means::Teams(url) => self.http(Errand::new(Method::POST, url.reveal()).json(&teams::message(notice))).await,
            Means::Discord(url) => self.http(Errand::new(Method::POST, url.reveal()).json(&discord::message(notice))).await,
            Means::Alertmanager(url) => {
                let alerts = alertmanager::alerts(notice);
                if alerts.is_empty() {
                    return Outcome::Delivered;
                }
                let url = format!("{}/api/v2/alerts", url.reveal().trim_end_matches('/'));
                self.http(Errand::new(Method::POST, url).json(&alerts.into())).await
            }
            Means::PagerDuty { key, url } => {
                for event in pagerduty::events(notice, key.reveal()) {
                    let outcome = self.http(Errand::new(Method::POST, url.reveal()).json(&event)).await;
                    if outcome != Outcome::Delivered {
                        return outcome;
                    }
                }
                Outcome::Delivered
            }
            Means::Webhook { url, secret } => self.http(self.webhook(url, secret.as_ref(), notice)).await,
            Means::Email(mail) => mail::send(mail, notice).await,
        }
    }

    fn webhook(&self, url: &Secret, secret: Option<&Secret>, notice: &Notice) -> Errand {
        let mut errand = Errand::new(Method::POST, url.reveal()).json(&webhook::body(notice));
        standard::seal(&mut errand, secret, &notice.id, clock::unix(self.clock.wall()).as_secs());
        errand
    }

    async fn http(&self, errand: Errand) -> Outcome {
        match self.fetch.send(errand).await {
            Err(error) => Outcome::Later(None, error.to_string()),
            Ok(answer) if answer.status.is_success() => Outcome::Delivered,
            Ok(answer) => {
                let said: String = String::from_utf8_lossy(&answer.body).chars().filter(|c| !c.is_control()).take(SHOWN).collect();
                let why = format!("it answered {}{}{said}", answer.status.as_u16(), if said.is_empty() { "" } else { ": " });
                match answer.status.as_u16() {
                    408 | 425 | 429 | 500..=599 => Outcome::Later(answer.retry_after(self.clock.wall()), why),
                    _ => Outcome::Never(why),
                }
            }
        }
    }
}

impl std::fmt::Debug for Courier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Courier").field("channels", &self.channels.load()).finish_non_exhaustive()
    }
}
