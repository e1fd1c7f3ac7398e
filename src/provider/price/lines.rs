//! What would be charged, line by line: the same arithmetic as the charge, for people.

use serde_json::{Value, json};

use super::{Entry, FEMTO, Factor, Origin, Prices, Tariff, fees, nano};
use crate::{
    config::human,
    provider::Observed,
    usage::{Terms, Tier, Units, Usage},
};

/// One line of a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The model whose price it is.
    pub model: String,
    /// The class of tokens, or the kind of unit.
    pub what: &'static str,
    /// How many.
    pub quantity: u64,
    /// Nano-USD for a million tokens, or for a thousand units.
    pub rate: u64,
    /// Whether the line counts units.
    pub is_fee: bool,
    /// Femto-USD of the line.
    pub femto: u128,
    /// The rule, in words: whose price, and which factors.
    pub rule: String,
}

/// What would be charged for a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The lines with a quantity.
    pub lines: Vec<Line>,
    /// Their sum in nano-USD, rounded up once.
    pub nano_usd: u64,
}

/// A row of the prices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The model's name; `*` is any run of characters.
    pub model: String,
    /// The tier that the row is for; empty: the standard tier, and by the factors all others.
    pub tier: &'static str,
    /// Nano-USD for a million tokens, in the order of [`Usage::NAMES`].
    pub rates: [u64; crate::usage::CLASSES],
    /// The same if the input is larger than this number of tokens.
    pub long: Option<(u64, [u64; crate::usage::CLASSES])>,
    /// The factors of tiers, and of a region, that are not 1.
    pub factors: Vec<(&'static str, String)>,
    /// Nano-USD for a thousand units, where that is not 0.
    pub fees: Vec<(&'static str, u64)>,
    /// The page, or `proxy.yaml`.
    pub source: &'static str,
    /// The month in which the page was read; empty for `proxy.yaml`.
    pub as_of: &'static str,
}

impl Prices {
    /// What [`charge`](Self::charge) would charge, line by line; `None`: the model has no price.
    pub fn receipt(&self, asked: Option<&str>, observed: &Observed) -> Option<Receipt> {
        let answering = observed.model.as_deref();
        let whole = self.tariff(asked, answering, &observed.usage, observed.terms)?;
        let name = answering.or(asked).unwrap_or_default();
        let mut lines = Vec::new();
        let mut add = |tariff: &Tariff<'_>, model: &str, usage: &Usage| {
            let femto = tariff.classes(usage);
            for (at, quantity) in usage.classes().into_iter().enumerate().filter(|(_, quantity)| *quantity > 0) {
                let (what, rate) = (Usage::NAMES[at], tariff.rates.0[at]);
                let rule = tariff.rule(observed.terms.tier);
                lines.push(Line { model: model.to_owned(), what, quantity, rate, is_fee: false, femto: femto[at], rule });
            }
        };
        match observed.parts.is_empty() {
            true => add(&whole, name, &observed.usage),
            false => {
                for part in &observed.parts {
                    if let Some(tariff) = self.part(asked, answering, part, observed.terms) {
                        add(&tariff, part.model.as_deref().unwrap_or(name), &part.usage);
                    }
                }
            }
        }
        let fees = fees(&whole.entry.fees, &observed.units);
        for (at, quantity) in observed.units.counts().into_iter().enumerate().filter(|(_, quantity)| *quantity > 0) {
            let (what, rate, rule) = (Units::NAMES[at], whole.entry.fees[at], whole.entry.origin.to_string());
            lines.push(Line { model: name.to_owned(), what, quantity, rate, is_fee: true, femto: fees[at], rule });
        }
        let nano_usd = nano(lines.iter().fold(0, |sum, line| line.femto.saturating_add(sum)));
        Some(Receipt { lines, nano_usd })
    }

    /// The standard price of a million tokens at the rates of a call with this usage, in words; `None`: the model has no price.
    pub fn in_words(&self, model: &str, usage: &Usage) -> Option<String> {
        let rates = self.tariff(Some(model), None, usage, Terms::default())?.rates.0;
        Some(format!("{} in, {} out for a million tokens", human::dollars(rates[0]), human::dollars(rates[4])))
    }

    /// All rows, the operator's first; with `model` those that would be asked for it, the deciding one first.
    pub fn rows(&self, model: Option<&str>) -> Vec<Row> {
        let fits = |entry: &&Entry| model.is_none_or(|name| entry.model.matches(name) || entry.model.matches(super::plain(name)));
        self.overrides.rows().iter().chain(self.known.rows()).filter(fits).map(Entry::row).collect()
    }
}

impl Entry {
    fn row(&self) -> Row {
        let factors = [
            ("flex", self.tiers.flex),
            ("batch", self.tiers.batch),
            ("fast", self.tiers.fast),
            ("ultrafast", self.tiers.ultrafast),
            ("regional", (self.regional != Factor::ONE).then_some(self.regional)),
        ];
        let factors = factors.into_iter().filter_map(|(name, factor)| Some((name, factor?.to_string()))).collect();
        let (source, as_of) = match self.origin {
            Origin::Configured => ("proxy.yaml", ""),
            Origin::Table(source) => source,
        };
        Row {
            model: self.model.as_str().to_owned(),
            tier: self.tier.map_or("", Tier::as_str),
            rates: self.rates.0,
            long: self.long.map(|(above, rates)| (above, rates.0)),
            factors: if self.tier.is_some() { Vec::new() } else { factors },
            fees: Units::NAMES.into_iter().zip(self.fees).filter(|(_, fee)| *fee > 0).collect(),
            source,
            as_of,
        }
    }
}

impl Tariff<'_> {
    /// The rule of the price, in words.
    fn rule(&self, tier: Tier) -> String {
        let mut rule = self.entry.origin.to_string();
        if self.is_long {
            rule.push_str(", long context");
        }
        let [factor, region] = self.factors;
        if factor != Factor::ONE {
            rule.push_str(&format!(", {} x {factor}", tier.as_str()));
        } else if self.entry.tier.is_some() {
            rule.push_str(&format!(", {}", tier.as_str()));
        }
        if region != Factor::ONE {
            rule.push_str(&format!(", regional x {region}"));
        }
        rule
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Configured => f.write_str("proxy.yaml"),
            Self::Table((_, as_of)) => write!(f, "list price {as_of}"),
        }
    }
}

/// Nano-USD as dollars, with all nine decimals.
pub fn usd(nano: u64) -> String {
    decimal(u128::from(nano), 9)
}

/// An integer as a decimal with this many places.
fn decimal(number: u128, places: u32) -> String {
    let unit = 10u128.pow(places);
    format!("{}.{:0places$}", number / unit, number % unit, places = places as usize)
}

impl Line {
    /// Dollars of the line: nine decimals, and up to six more where the amount has them.
    pub fn usd(&self) -> String {
        let exact = decimal(self.femto, 15);
        let least = exact.len() - 6;
        exact[..least].to_owned() + exact[least..].trim_end_matches('0')
    }

    /// The line for programs; all amounts are decimal texts.
    pub fn to_json(&self) -> Value {
        let per = if self.is_fee { "1000" } else { "1000000" };
        json!({"model": self.model, "what": self.what, "quantity": self.quantity, "usd_per": usd(self.rate), "per": per, "usd": self.usd(), "rule": self.rule})
    }
}

impl Receipt {
    /// The receipt for programs; all amounts are decimal texts.
    pub fn to_json(&self) -> Value {
        json!({"lines": self.lines.iter().map(Line::to_json).collect::<Vec<_>>(), "usd": usd(self.nano_usd)})
    }
}

impl Row {
    /// The row for programs; all amounts are decimal texts, in dollars for a million tokens or a thousand units.
    pub fn to_json(&self) -> Value {
        let rates = |all: &[u64]| {
            Value::Object(all.iter().zip(Usage::NAMES).map(|(rate, name)| (name.to_owned(), Value::from(usd(*rate)))).collect())
        };
        json!({
            "model": self.model,
            "tier": self.tier,
            "usd_per_million": rates(&self.rates),
            "long": self.long.as_ref().map(|(above, long)| json!({"above": above, "usd_per_million": rates(long)})),
            "factors": self.factors.iter().map(|(name, factor)| ((*name).to_owned(), Value::from(factor.as_str()))).collect::<serde_json::Map<_, _>>(),
            "usd_per_thousand": self.fees.iter().map(|(name, fee)| ((*name).to_owned(), Value::from(usd(*fee)))).collect::<serde_json::Map<_, _>>(),
            "source": self.source,
            "as_of": self.as_of,
        })
    }
}

const _: () = assert!(FEMTO == 1_000_000, "six decimals beyond the nano-dollar");
