//! Limits as meant: nothing in them is left to check.

use std::{sync::Arc, time::Duration};

use crate::config::{Secret, key::KeyPart, mode::Mode};

/// One limit. A limit counts where it is written.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Limit {
    /// The name, as written or generated from place and terms. Counters live on by the name across reloads. The name is a label of metrics.
    pub name: Arc<str>,
    pub mode: Mode,
    /// The parts by which counters are kept. Empty: one counter for all.
    pub key: Vec<KeyPart>,
    /// Outbound calls of unknown callers share one counter, where `key` has the caller; else they are not counted.
    pub counts_unknown: bool,
    pub unit: Unit,
    /// The amount per window: requests, tokens or nano-dollars.
    pub amount: u64,
    /// Other amounts, by an attribute of the caller.
    pub tiers: Option<Tiers>,
    /// Zero for requests in flight.
    pub window: Duration,
    pub algorithm: Algorithm,
    /// Requests that wait in line instead of being refused.
    pub queue: Option<Queue>,
    /// Whether answers from the cache count too.
    pub applies: Applies,
    pub on_store_error: OnStoreError,
    /// What a spent limit does.
    pub on_limit: OnLimit,
    /// Fractions of `amount` that raise an alert, ascending.
    pub alert_at: Vec<f64>,
    pub unpriced: Unpriced,
    /// The rule of a limit on tokens or dollars for a call whose cost no answer states.
    pub unmetered: Unpriced,
}

/// Amounts by an attribute of the caller. A caller without a tier of these has the limit's own amount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tiers {
    /// The source of the tier's name. A header is believed only from `trusted_proxies`.
    pub source: KeyPart,
    /// The tiers, in the order of the file.
    pub all: Vec<Tier>,
}

/// One tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tier {
    /// Its name, as the source says it.
    pub name: Arc<str>,
    /// The amount per window. `None`: the limit does not count the tier.
    pub amount: Option<u64>,
}

impl Limit {
    /// A limit that enforces, on one sliding counter for all, with every other term at its default.
    pub fn new(name: &str, unit: Unit, amount: u64, window: Duration) -> Self {
        let unpriced = if unit == Unit::NanoUsd { Unpriced::Refuse } else { Unpriced::Allow };
        Self {
            name: name.into(),
            mode: Mode::Enforce,
            key: Vec::new(),
            counts_unknown: false,
            unit,
            amount,
            tiers: None,
            window,
            algorithm: Algorithm::Sliding,
            queue: None,
            applies: Applies::All,
            on_store_error: OnStoreError::Local,
            on_limit: OnLimit::Refuse,
            alert_at: Vec::new(),
            unpriced,
            unmetered: if unit == Unit::Tokens { Unpriced::Refuse } else { unpriced },
        }
    }
}

/// The requests that a limit holds in line, by key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Most requests in one line.
    pub max: u32,
    /// The longest that a request waits.
    pub wait: Duration,
}

/// What a spent limit does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum OnLimit {
    /// It refuses.
    #[default]
    Refuse,
    /// It lets stored answers through and refuses the rest.
    CacheOnly,
    /// Calls go on to a cheaper model, and are charged.
    Degrade(Degrade),
    /// Requests wait for a person's yes, and are charged.
    Ask(AskPerson),
}

/// The model that calls go to after a limit is spent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Degrade {
    /// Its provider, of the same API; `None`: the one that was asked.
    pub provider: Option<Arc<str>>,
    /// The model.
    pub model: Arc<str>,
}

/// How long requests wait for a person's yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskPerson {
    /// The longest that a request is held.
    pub wait: Duration,
    /// Most requests that are held at once.
    pub max: u32,
    /// Who is told of each held request; `None`: nobody is.
    pub webhook: Option<Arc<AskHook>>,
}

/// A webhook that is told of held requests, by the Standard Webhooks specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskHook {
    /// Where it is posted.
    pub url: Secret,
    /// Signs the body.
    pub secret: Secret,
    /// Whether the answer may decide: it came over TLS, or from this machine. Anybody on the way could write any other answer.
    pub decides: bool,
}

/// The unit of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Unit {
    Requests,
    Tokens,
    /// Nano-dollars: 1 USD = 1_000_000_000.
    NanoUsd,
    /// Requests in flight at once, until the last byte of their answers. There is no window.
    Concurrency,
}

/// How a window is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Ring of 32 slots; no window ever has more than the limit.
    Sliding,
    /// Aligned windows.
    Fixed,
    /// Leaky bucket; requests only.
    Gcra {
        /// Requests that may come at once.
        burst: u32,
    },
}

/// Which requests a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Applies {
    All,
    Misses,
}

/// What a limit does while the shared store is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum OnStoreError {
    Local,
    Allow,
    Deny,
}

/// What a dollar limit does with a call that has no known price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Unpriced {
    Allow,
    Refuse,
}

impl Unit {
    /// The unit of a word of [`Self::as_str`].
    pub fn of_word(word: &str) -> Self {
        match word {
            "tokens" => Self::Tokens,
            "usd" => Self::NanoUsd,
            "concurrency" => Self::Concurrency,
            _ => Self::Requests,
        }
    }

    /// The word used in `proxy.yaml`, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::NanoUsd => "usd",
            Self::Concurrency => "concurrency",
        }
    }
}
