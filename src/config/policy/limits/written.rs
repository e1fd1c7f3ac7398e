//! Limits as written.

use std::time::Duration;

use serde::Deserialize;

use super::{Applies, OnStoreError, Unit, Unpriced};
use crate::config::{
    Secret,
    block::alerts::HookUrl,
    error::quoted,
    key::{KeyPart, KeyWord},
    mode::ModeWord,
    scalars::{Count, Name, Share, Usd, W, Word, no_jwt, unknown, words},
    written::Items,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    pub(super) name: Option<W<Name>>,
    pub(super) mode: W<ModeWord>,
    pub(super) key: Items<W<KeyWord>>,
    pub(super) requests: Option<W<Count>>,
    pub(super) tokens: Option<W<Count>>,
    pub(super) usd: Option<W<Usd>>,
    pub(super) tier: Option<W<Source>>,
    #[serde(default)]
    pub(super) tiers: Vec<(W<TierName>, Option<W<Amount>>)>,
    pub(super) concurrency: Option<W<Count>>,
    pub(super) window: Option<W<Duration>>,
    pub(super) algorithm: W<AlgorithmWord>,
    pub(super) queue: Option<WrittenQueue>,
    pub(super) burst: Option<W<Count>>,
    pub(super) applies: W<Applies>,
    pub(super) on_store_error: W<OnStoreError>,
    pub(super) on_limit: WrittenOnLimit,
    #[serde(default)]
    pub(super) alert_at: Items<W<Share>>,
    pub(super) unpriced: Option<W<Unpriced>>,
    pub(super) unmetered: Option<W<Unpriced>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenQueue {
    pub(super) max: Option<W<Count>>,
    pub(super) wait: Option<W<Duration>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum WrittenOnLimit {
    Word(W<OnLimitWord>),
    Act { degrade: Option<WrittenDegrade>, ask: Option<WrittenAsk> },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenDegrade {
    pub(super) model: Option<String>,
    pub(super) provider: Option<W<Name>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenAsk {
    pub(super) wait: W<Duration>,
    pub(super) max: W<Count>,
    pub(super) webhook: Option<W<HookUrl>>,
    pub(super) secret: Option<W<Secret>>,
}

/// The word of `on_limit:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnLimitWord {
    Refuse,
    CacheOnly,
    Ask,
}

/// The word of `algorithm:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AlgorithmWord {
    Sliding,
    Fixed,
    Gcra,
}

words! {
    OnLimitWord: "refuse" => Self::Refuse, "cache_only" => Self::CacheOnly, "ask" => Self::Ask;
    AlgorithmWord: "sliding" => Self::Sliding, "fixed" => Self::Fixed, "gcra" => Self::Gcra;
    Applies: "all" => Self::All, "misses" => Self::Misses;
    OnStoreError: "local" => Self::Local, "allow" => Self::Allow, "deny" => Self::Deny;
    Unpriced: "allow" => Self::Allow, "refuse" => Self::Refuse;
}

/// The name of a tier: any text that a source may say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TierName(pub(super) String);

impl Word for TierName {
    fn word(text: &str) -> Result<Self, String> {
        match text.trim() == text && (1..=64).contains(&text.len()) && !text.chars().any(char::is_control) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("{} is not the name of a tier; use 1 to 64 characters without a space at either end", quoted(text))),
        }
    }
}

/// An amount in the unit of its limit, or `off`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Amount {
    Off,
    /// The amount as text: the limit's unit says how the text is read.
    Of(String),
}

impl Word for Amount {
    fn word(text: &str) -> Result<Self, String> {
        match (text, Count::word(text), Usd::word(text)) {
            ("off", ..) => Ok(Self::Off),
            (_, Ok(_), _) | (_, _, Ok(_)) => Ok(Self::Of(text.to_owned())),
            (_, Err(error), _) => Err(format!("{error}, or `off`")),
        }
    }
}

impl Amount {
    /// The amount in `unit`; `None`: the limit does not count the tier.
    ///
    /// # Errors
    /// The text is no amount of the unit above 0.
    pub(super) fn of(&self, unit: Unit) -> Result<Option<u64>, String> {
        let Self::Of(text) = self else { return Ok(None) };
        let amount = match unit {
            Unit::NanoUsd => Usd::word(text)?.0,
            Unit::Requests | Unit::Tokens | Unit::Concurrency => Count::word(text)?.0,
        };
        if amount == 0 {
            Err("an amount of 0 lets nobody in; write at least 1, or `off` to not count the tier".into())
        } else {
            Ok(Some(amount))
        }
    }
}

/// The source of a tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source(pub(super) KeyPart);

const SOURCES: [&str; 7] = ["verified", "jwt:CLAIM", "header:NAME", "caller", "route", "provider", "model"];

impl Word for Source {
    fn word(text: &str) -> Result<Self, String> {
        use KeyPart::{Caller, Claim, Header, Model, Provider, Route};
        if text == KeyPart::VerifiedTier.written() {
            return Ok(Self(KeyPart::VerifiedTier));
        }
        match KeyWord::word(text) {
            Ok(KeyWord::Part(part @ (Header(_) | Caller | Claim(_) | Route | Provider | Model))) => Ok(Self(part)),
            Ok(KeyWord::Part(part)) => Err(format!(
                "a client chooses its own `{}`, and with it any tier; write `verified`, `jwt:CLAIM`, `header:NAME` of a trusted proxy, or `caller`",
                part.written()
            )),
            Ok(KeyWord::Global) => Err(unknown(text, &SOURCES)),
            Err(_) if text == "jwt" || text.starts_with("jwt:") => Err(no_jwt()),
            Err(_) => Err(unknown(text, &SOURCES)),
        }
    }
}
