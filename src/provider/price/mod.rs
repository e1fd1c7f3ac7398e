//! The cost of a call: a built-in table, the configuration's prices over it, and a plain sum of products.
//!
//! All amounts are integers; the exact arithmetic is that of `rates`. The `table` holds list prices with their pages and months.
//! Prices change and contracts differ: check your provider's page, and write your own prices under `outbound.prices`. A model that is
//! not in the table has no price. No price is guessed from a similar name.
//!
//! The terms of the answer decide: its tier, its speed, its region. Parts of the work with a model of their own cost their own model's
//! price. Long contexts are judged answer by answer, and part by part within an answer.

#[cfg(test)]
mod book;
mod lines;
mod rates;
mod shelf;
mod steps;
mod table;
#[cfg(test)]
mod tests;

pub use lines::{Line, Receipt, Row, usd};
pub use steps::Steps;

use self::{
    rates::{FEMTO, Factor, Fees, INPUT, OUTPUT, Rates, Tiers},
    shelf::Shelf,
};
use super::Observed;
use crate::{
    config::{Glob, LongPrice, Price, PriceTier},
    usage::{CLASSES, Part, Terms, Tier, UNITS, Units, Usage},
};

/// Prices of models.
#[derive(Debug, Clone)]
pub struct Prices {
    /// The configured prices.
    overrides: Shelf,
    /// The built-in prices.
    known: Shelf,
    steps: Steps,
}

#[derive(Debug, Clone)]
struct Entry {
    model: Glob,
    /// The tier that the row is for; `None`: the standard tier, and by the factors all others.
    tier: Option<Tier>,
    rates: Rates,
    /// Rates of the whole part if its input is larger than this number of tokens.
    long: Option<(u64, Rates)>,
    tiers: Tiers,
    /// The factor of work that was bound to a region.
    regional: Factor,
    fees: Fees,
    origin: Origin,
}

/// Where a price stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Configured,
    Table(table::Source),
}

/// The rates of one part of a call: the entry, its rates by length, and the factors of the terms.
#[derive(Clone, Copy)]
struct Tariff<'p> {
    entry: &'p Entry,
    rates: Rates,
    is_long: bool,
    factors: [Factor; 2],
}

impl Prices {
    /// The built-in table with `overrides` over it. A configured glob that matches wins over every built-in one. Within each
    /// kind the glob with the most literal characters wins, and the first among equals.
    ///
    /// The default of a configured model's cache prices is its input price; long writes cost the same as other writes. The default of
    /// its prices for sound and pictures is the price of text. A tier without a row of its own costs the model's standard row times
    /// the built-in model's factor, else times the usual one. A long context without prices of its own costs as much more as the built-in
    /// model's.
    pub fn new(overrides: &[Price]) -> Self {
        let known = Shelf::new(table::known());
        let overrides = overrides.iter().map(|price| configured(price, &known)).collect();
        let overrides = Shelf::new(overrides);
        let above = |shelf: &Shelf| shelf.rows().iter().filter_map(|entry| Some(entry.long?.0)).collect::<Vec<_>>();
        let steps = Steps::new(above(&overrides).into_iter().chain(above(&known)));
        Self { overrides, known, steps }
    }

    /// Nano-USD of a call at the standard price by the model that was asked for and the model that answered; `None`: neither has a
    /// price. Saturates.
    ///
    /// The operator's price wins under either name: first that of the model that was asked for (a deployment, an alias), then
    /// that of the model that answered. In the built-in table the model that answered comes first: the provider bills that
    /// model. `gpt-4o` may answer as `gpt-4o-2024-05-13`, which costs twice as much.
    pub fn cost_of(&self, asked: Option<&str>, answering: Option<&str>, usage: &Usage) -> Option<u64> {
        Some(nano(self.tariff(asked, answering, usage, Terms::default())?.femto(usage)))
    }

    /// Nano-USD of a whole call as its answer states it; `None`: its model has no price. A part whose own model has no price costs as
    /// much as the model that answered.
    pub fn charge(&self, asked: Option<&str>, observed: &Observed) -> Option<u64> {
        let answering = observed.model.as_deref();
        let whole = self.tariff(asked, answering, &observed.usage, observed.terms)?;
        let tokens = match observed.parts.is_empty() {
            true => whole.femto(&observed.usage),
            false => observed.parts.iter().fold(0, |sum, part| match self.part(asked, answering, part, observed.terms) {
                Some(tariff) => tariff.femto(&part.usage).saturating_add(sum),
                None => sum,
            }),
        };
        let fees = fees(&whole.entry.fees, &observed.units);
        Some(nano(fees.into_iter().fold(tokens, u128::saturating_add)))
    }

    /// Nano-USD of a call by one model name at the standard price; `None`: the model has no price. Saturates.
    pub fn cost(&self, model: &str, usage: &Usage) -> Option<u64> {
        self.cost_of(Some(model), None, usage)
    }

    /// Nano-USD of a call by one model name under these terms; `None`: the model has no price. Saturates.
    pub fn cost_under(&self, model: &str, usage: &Usage, terms: Terms) -> Option<u64> {
        Some(nano(self.tariff(Some(model), None, usage, terms)?.femto(usage)))
    }

    /// The numbers of input tokens above which some model has other rates.
    pub fn steps(&self) -> &Steps {
        &self.steps
    }

    /// Whether all of the model's rates of tokens and of time are 0. Its hosted tools may cost.
    pub fn is_free(&self, model: &str) -> bool {
        let entry = self.own(model, Tier::Standard).or_else(|| self.known(model));
        entry.is_some_and(|entry| entry.rates.0.iter().chain(entry.fees.last()).all(|rate| *rate == 0))
    }

    /// Whether the model has a price.
    pub fn knows(&self, model: &str) -> bool {
        self.own(model, Tier::Standard).or_else(|| self.known(model)).is_some()
    }

    /// The tariff of a part of a call. A part without a model of its own has the model of the call.
    fn part(&self, asked: Option<&str>, answering: Option<&str>, part: &Part, terms: Terms) -> Option<Tariff<'_>> {
        let own = part.model.as_deref().and_then(|model| self.tariff(Some(model), None, &part.usage, terms));
        own.or_else(|| self.tariff(asked, answering, &part.usage, terms))
    }

    fn tariff(&self, asked: Option<&str>, answering: Option<&str>, usage: &Usage, terms: Terms) -> Option<Tariff<'_>> {
        let own = || asked.and_then(|model| self.own(model, terms.tier)).or_else(|| self.own(answering?, terms.tier));
        let known = || answering.and_then(|model| self.known(model)).or_else(|| self.known(asked?));
        let entry = own().or_else(known)?;
        let (rates, is_long) = match entry.long {
            Some((above, rates)) if terms.each_above.map_or(usage.total_input() > above, |least| least >= above) => (rates, true),
            _ => (entry.rates, false),
        };
        let tier = if entry.tier.is_some() { Factor::ONE } else { entry.tiers.factor(terms.tier) };
        Some(Tariff { entry, rates, is_long, factors: [tier, if terms.regional { entry.regional } else { Factor::ONE }] })
    }

    /// The operator's price for the model in this tier, by its full name, else by its [`plain`] name.
    fn own(&self, model: &str, tier: Tier) -> Option<&Entry> {
        let find = |name: &str| {
            let rows = &self.overrides;
            rows.find(name, |entry| entry.tier == Some(tier)).or_else(|| rows.find(name, |entry| entry.tier.is_none()))
        };
        find(model).or_else(|| find(plain(model)))
    }

    /// The built-in price for the model.
    fn known(&self, model: &str) -> Option<&Entry> {
        find_known(&self.known, model)
    }
}

impl Tariff<'_> {
    /// Femto-USD of a usage, exact but for a rounding up of less than one in each class; saturates.
    fn femto(&self, usage: &Usage) -> u128 {
        self.classes(usage).into_iter().fold(0, u128::saturating_add)
    }

    /// Femto-USD of each class.
    fn classes(&self, usage: &Usage) -> [u128; CLASSES] {
        let [tier, region] = self.factors;
        let (tokens, rates) = (usage.classes(), self.rates.0);
        std::array::from_fn(|at| region.of(tier.of(u128::from(tokens[at]).saturating_mul(u128::from(rates[at])))))
    }
}

/// Femto-USD of each kind of unit.
fn fees(fees: &Fees, units: &Units) -> [u128; UNITS] {
    let counts = units.counts();
    std::array::from_fn(|at| u128::from(counts[at]) * u128::from(fees[at]) * (FEMTO / 1_000))
}

/// Whole nano-USD, rounded up; saturates.
fn nano(femto: u128) -> u64 {
    u64::try_from(femto.div_ceil(FEMTO)).unwrap_or(u64::MAX)
}

/// An operator's row.
fn configured(price: &Price, table: &Shelf) -> Entry {
    let cached = price.cached_input.unwrap_or(price.input);
    let write = price.cache_write.unwrap_or(price.input);
    let rates = Rates::text(price.input, cached, write, price.cache_write_1h.unwrap_or(write), price.output)
        .with_audio(
            price.audio_input.unwrap_or(price.input),
            cached.min(price.audio_input.unwrap_or(cached)),
            price.audio_output.unwrap_or(price.output),
        )
        .with_images(price.image_input.unwrap_or(price.input), cached, price.image_output.unwrap_or(price.output));
    let model = find_known(table, price.model.as_str());
    let fees = model.map_or(table::OTHER_FEES, |entry| entry.fees);
    let [web, files, containers, queries, answers, millis] = fees;
    let grounding = |fee: u64| price.grounding.unwrap_or(fee);
    let long = price.long.as_ref().map(|long| (long.above, written_long(long))).or_else(|| dearer(model?, rates));
    Entry {
        model: price.model.clone(),
        tier: price.tier.map(|tier| match tier {
            PriceTier::Standard => Tier::Standard,
            PriceTier::Flex => Tier::Flex,
            PriceTier::Batch => Tier::Batch,
            PriceTier::Fast => Tier::Fast,
            PriceTier::Ultrafast => Tier::Ultrafast,
        }),
        rates,
        long,
        tiers: model.map_or(table::OTHER_TIERS, |entry| entry.tiers),
        regional: model.map_or(Factor::ONE, |entry| entry.regional),
        fees: [
            price.web_search.unwrap_or(web),
            price.file_search.unwrap_or(files),
            price.code_container.unwrap_or(containers),
            // A model is billed by the query or by the answer.
            if answers == 0 { grounding(queries) } else { 0 },
            if answers == 0 { 0 } else { grounding(answers) },
            price.audio_second.unwrap_or(millis),
        ],
        origin: Origin::Configured,
    }
}

/// An operator's rates of a long context.
fn written_long(long: &LongPrice) -> Rates {
    let write = long.cache_write.unwrap_or(long.input);
    Rates::text(long.input, long.cached_input.unwrap_or(long.input), write, long.cache_write_1h.unwrap_or(write), long.output)
}

/// An operator's rates of a long context that the row does not name: as much dearer as the model's own in the table.
fn dearer(model: &Entry, rates: Rates) -> Option<(u64, Rates)> {
    let (above, long) = model.long?;
    let factor = |at: usize| Factor(long.0[at], model.rates.0[at]);
    Some((above, rates.times(factor(INPUT), factor(OUTPUT))))
}

/// The row of the table for a model, by its [`plain`] name.
fn find_known<'e>(table: &'e Shelf, model: &str) -> Option<&'e Entry> {
    table.find(plain(model), |_| true)
}

/// A model's name without its prefix: a gateway's vendor (`openai/gpt-4o`), Gemini's `models/`, Bedrock's `eu.anthropic.`.
fn plain(model: &str) -> &str {
    let name = memchr::memrchr(b'/', model.as_bytes()).map_or(model, |slash| &model[slash + 1..]);
    match memchr::memchr(b'.', name.as_bytes()) {
        Some(_) => name.rsplit_once("anthropic.").map_or(name, |(_, name)| name),
        None => name,
    }
}
