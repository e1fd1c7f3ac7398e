//! The state that all workers share and that lives on across reloads: counters, stored answers, states, names.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicU8},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::{book::Book, files::Files, spend::Spend};
use crate::{
    alert::Hits,
    audit::Audit,
    body::room::BodyBudget,
    cause::Causes,
    clock::Clock,
    config::{Config, ProviderKey},
    policy::{
        auth::{forward::Rulings, issuer::Issuers, slow::SlowAddresses},
        balance::MemberState,
        bans::Bans,
        breaker::Breakers,
        cache::Cache,
        coded::CodedForms,
        given_up::GivenUp,
        keyring::{KeyState, Keyring},
        limits::{Approvals, Keyed, Limits},
        retry::Budgets,
    },
    pressure::Pressure,
    provider::Ratios,
    status::Site,
    store::ledger::Ledger,
    telemetry::{metrics::Gauge, observed::ObservedLog},
    upstream::headers,
};

/// The state that all workers share and that lives on across reloads.
pub struct Shared {
    /// Wall time.
    pub clock: Clock,
    /// Counters of limits.
    pub limits: Limits,
    /// Stored answers.
    pub cache: Arc<Cache>,
    /// States of breakers.
    pub breakers: Breakers,
    /// Retry budgets.
    pub budgets: Budgets,
    /// Whether targets could be reached, by name and origin.
    pub reached: Mutex<HashMap<String, Arc<AtomicU8>>>,
    /// The states of targets' members, by the target's name and the member's URL.
    pub members: Mutex<HashMap<String, Arc<MemberState>>>,
    /// The states of the providers' keys.
    pub keys: Mutex<KeyStates>,
    /// Background responses and their payers.
    pub works: Book,
    /// Files of batches.
    pub files: Files,
    /// Model calls that were given up a moment ago.
    pub given_up: GivenUp,
    /// Inbound exchanges that outbound calls may refer to.
    pub causes: Arc<Causes<Keyed>>,
    /// Each model's ratios, learned from complete calls.
    pub ratios: Ratios,
    /// The keys that issuers of tokens publish.
    pub issuers: Issuers,
    /// Addresses that show bad credentials.
    pub slow: SlowAddresses,
    /// Clients that are out for a while.
    pub bans: Bans,
    /// Requests that policies in `observe` would have refused.
    pub observed: ObservedLog,
    /// What services have decided about requests.
    pub rulings: Rulings,
    /// Requests that wait for a person's yes.
    pub approvals: Arc<Approvals>,
    /// Dollars by caller, since the start.
    pub spend: Spend,
    /// The books: sums by time, caller, route, provider and model.
    pub ledger: Ledger,
    /// The log of what matters for security.
    pub audit: Arc<Audit>,
    /// The status page, as it was last rendered.
    pub status: Arc<ArcSwap<Site>>,
    /// Failed exchanges of late, while alerts want to know.
    pub hits: Hits,
    /// Refreshes of stale answers under way.
    pub(crate) refreshes: Gauge,
    /// Encoders of answers at work.
    pub(crate) encoders: Gauge,
    /// Kept answers in their codings.
    pub(crate) coded: Arc<CodedForms>,
    /// Bytes of request bodies that were read before they were sent.
    pub bodies: Arc<BodyBudget>,
    /// How hard memory presses.
    pub pressure: Arc<Pressure>,
    /// The proxy's names in `Via`, by door. Each door has its own: an app may copy a request's fields into its calls.
    pub via: [headers::Via; 2],
}

impl Shared {
    /// Fresh state in memory alone, without a store.
    pub fn new(config: &Config, clock: Clock) -> Self {
        let limits = Limits::new(config.store.max_keys, &clock, None);
        Self::over(config, clock, limits, Cache::configured(&config.store))
    }

    /// Fresh state over limits and a cache that other replicas may share.
    pub fn over(config: &Config, clock: Clock, limits: Limits, cache: Arc<Cache>) -> Self {
        let audit = Arc::new(Audit::new(clock));
        Self {
            clock,
            limits,
            cache,
            breakers: Breakers::default(),
            budgets: Budgets::default(),
            reached: Mutex::default(),
            members: Mutex::default(),
            keys: Mutex::default(),
            works: Book::default(),
            files: Files::default(),
            given_up: GivenUp::default(),
            causes: Causes::new(clock.now()),
            ratios: Ratios::default(),
            issuers: Issuers::default(),
            slow: SlowAddresses::new(clock.now()),
            bans: Bans::new(clock, None, audit.clone()),
            observed: ObservedLog::default(),
            rulings: Rulings::default(),
            approvals: Arc::default(),
            spend: Spend::default(),
            ledger: Ledger::configured(&config.store, clock),
            audit,
            status: Arc::default(),
            hits: Hits::default(),
            refreshes: Gauge::default(),
            encoders: Gauge::default(),
            coded: Arc::new(CodedForms::beside(config.store.memory)),
            bodies: BodyBudget::new(config.body_budget),
            pressure: Arc::new(Pressure::new(config.memory_limit)),
            via: [headers::Via::unique(), headers::Via::unique()],
        }
    }
}

/// The states of keys by provider and a hash of the key.
type KeyStates = HashMap<(Arc<str>, [u8; 32]), Arc<KeyState>>;

impl Shared {
    /// The keyring of a provider. The state of a key lives on across reloads, for as long as the provider has the key.
    pub(super) fn keyring(&self, provider: &Arc<str>, keys: &[ProviderKey]) -> Arc<Keyring> {
        let mut known = self.keys.lock();
        known.retain(|(name, _), state| name != provider || Arc::strong_count(state) > 1);
        let state = |key: &ProviderKey| {
            let hash = *blake3::hash(key.secret.reveal().as_bytes()).as_bytes();
            (known.entry((provider.clone(), hash)).or_default().clone(), key.weight)
        };
        Arc::new(Keyring::new(keys.iter().map(state).collect()))
    }
}
