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
    store::{kept::Kept, seal::AtRest},
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
    /// Channels that are gone, until they have heard that nobody watches for them any more.
    leaving: Mutex<Vec<Channel>>,
    pouch: Mutex<Pouch>,
    /// Where notices and open incidents outlive the process.
    dir: Option<PathBuf>,
    /// The keys of the file.
    seal: AtRest,
    /// The file; opened with the first block of alerts. `None` inside: there is none, or it cannot be used.
    state: OnceLock<Option<Arc<Kept>>>,
    wake: Notify,
    counts: Mutex<BTreeMap<String, ChannelState>>,
}

impl Courier {
    /// `None`: there are no alerts. With the first ones the notices and incidents of processes before are taken from `dir`, whose file `seal` has sealed. Without a
    /// directory, or with one that cannot be used, all is in memory, which the log says.
    pub fn new(fetch: Fetch, clock: Clock, channels: Option<Vec<Channel>>, dir: Option<&Path>, seal: &AtRest) -> Arc<Self> {
        let courier = Arc::new(Self {
            fetch,
            clock,
            channels: ArcSwap::default(),
            leaving: Mutex::default(),
            pouch: Mutex::default(),
            dir: dir.map(Path::to_owned),
            seal: seal.clone(),
            state: OnceLock::new(),
            wake: Notify::new(),
            counts: Mutex::default(),
        });
        channels.into_iter().for_each(|channels| courier.set_channels(channels));
        courier
    }

    /// Other channels from now on. Notices for channels that are gone are given up. Such a channel hears that its open incidents are no
    /// longer watched; the same is true of a service that keeps incidents open, if its address or key is another one.
    pub fn set_channels(&self, channels: Vec<Channel>) {
        self.state.get_or_init(|| self.open());
        let before = self.channels.swap(Arc::new(channels));
        let channels = self.channels.load();
        let named = |name: &str| channels.iter().find(|channel| *channel.name == *name);
        let now = self.clock.unix_millis();
        let (mut leaving, mut pouch) = (self.leaving.lock(), self.pouch.lock());
        leaving.retain(|channel| named(&channel.name).is_none());
        for channel in before.iter() {
            let goes_by: Arc<str> = match named(&channel.name) {
                None => channel.name.clone(),
                Some(same) if same.means == channel.means || !keeps_open(&channel.means) => continue,
                Some(_) => format!("{} (before)", channel.name).into(),
            };
            let (given_up, told) = pouch.leave(&channel.name, &goes_by, now);
            if given_up > 0 {
                tracing::warn!(notices = given_up, channel = &*channel.name, "notices for a channel that is gone are given up");
            }
            if told > 0 {
                tracing::info!(
                    incidents = told,
                    channel = &*channel.name,
                    "a channel that is gone hears that its incidents are not watched"
                );
                leaving.retain(|other| other.name != goes_by);
                leaving.push(Channel { name: goes_by, ..channel.clone() });
            }
        }
        // What a process before has left for channels that this one never knew.
        let known = |name: &str| named(name).is_some() || leaving.iter().any(|channel| *channel.name == *name);
        let gone = pouch.queue.keep(known);
        if gone > 0 {
            tracing::warn!(notices = gone, "notices for channels that are gone are given up");
        }
        for name in pouch.forget(known) {
            tracing::warn!(channel = name, "a channel of the process before is gone: what is open there has to be closed by hand");
        }
        drop((leaving, pouch));
        self.wake.notify_one();
    }

    /// The channel of this name, also one that is gone and still hears of it.
    fn channel(&self, name: &str) -> Option<Channel> {
        let found = self.channels.load().iter().find(|channel| *channel.name == *name).cloned();
        found.or_else(|| self.leaving.lock().iter().find(|channel| *channel.name == *name).cloned())
    }

    /// Opens the file, and takes in what it and those of processes that are gone hold.
    fn open(&self) -> Option<Arc<Kept>> {
        let Some(dir) = self.dir.as_deref() else {
            tracing::info!("open incidents and notices that wait are in memory: a restart forgets them (store.state_dir keeps them)");
            return None;
        };
        let opened = Kept::open::<Pouch>(dir, "notices", &self.seal).inspect_err(|error| {
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

    /// Puts notices in line for each channel that wants them. From now on these incidents are open. Both are written together.
    pub fn post(&self, notices: &[Notice], carry: Carry) {
        let now = self.clock.unix_millis();
        let channels = self.channels.load_full();
        let mut pouch = self.pouch.lock();
        let displaced: Vec<String> = notices.iter().flat_map(|notice| pouch.post(notice, &channels, now)).collect();
        pouch.set_carry(carry);
        drop(pouch);
        for channel in displaced {
            self.count(&channel, |state| state.lost += 1);
            tracing::error!(channel, "too many notices wait; the oldest is given up");
        }
        self.wake.notify_one();
    }

    /// Tells every Alertmanager that these incidents go on, as far as it wants to hear of them: it forgets what is not repeated. Not
    /// tried again.
    pub async fn renew(&self, notice: &Notice) {
        let channels = self.channels.load_full();
        for channel in channels.iter().filter(|channel| matches!(channel.means, Means::Alertmanager(_))) {
            let part = self.pouch.lock().part_for(notice, channel);
            let Some(part) = part else { continue };
            let outcome = self.deliver(channel, &part).await;
            if let Outcome::Later(_, why) | Outcome::Never(why) = outcome {
                self.count(&channel.name, |state| (state.failed, state.trouble) = (state.failed + 1, Some(why)));
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
                    let outcome = match this.channel(&parcel.channel) {
                        Some(channel) => this.deliver(&channel, &parcel.notice).await,
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
        let mut pouch = self.pouch.lock();
        let given_up = pouch.queue.done(&parcel.notice.id, &parcel.channel, outcome, now, chance);
        let waiting = pouch.queue.waiting(&parcel.channel).0;
        drop(pouch);
        if waiting == 0 {
            self.leaving.lock().retain(|channel| *channel.name != parcel.channel);
        }
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
        self.count(&channel.name, |state| match outcome {
            Outcome::Delivered => (state.delivered, state.trouble, state.delivered_at) = (state.delivered + 1, None, now),
            Outcome::Later(_, why) | Outcome::Never(why) => {
                state.failed_at = now;
                state.failed += 1;
                state.lost += u64::from(given_up);
                state.trouble = Some(why.chars().take(SHOWN).collect());
            }
        });
    }

    fn count(&self, channel: &str, change: impl FnOnce(&mut ChannelState)) {
        change(self.counts.lock().entry(channel.to_owned()).or_default());
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
                // An event that is refused is no reason to leave out the others.
                let mut whole = Outcome::Delivered;
                for event in pagerduty::events(notice, key.reveal()) {
                    match self.http(Errand::new(Method::POST, url.reveal()).json(&event)).await {
                        Outcome::Delivered => {}
                        later @ Outcome::Later(..) => return later,
                        never @ Outcome::Never(_) => whole = never,
                    }
                }
                whole
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

/// Whether the receiver keeps an incident open until it hears of its end.
fn keeps_open(means: &Means) -> bool {
    matches!(means, Means::PagerDuty { .. } | Means::Alertmanager(_))
}

impl std::fmt::Debug for Courier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Courier").field("channels", &self.channels.load()).finish_non_exhaustive()
    }
}
