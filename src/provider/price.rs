//! The cost of a call: a built-in table, the configuration's prices over it, and a plain sum of products.
//!
//! All amounts are integers in nano-USD (1 USD = 1_000_000_000). USD 1 per million tokens is 1_000 nano-USD per token, so list
//! prices with up to three decimals per million are exact.
//!
//! The table holds standard list prices as known in November 2026, after the pages "Pricing" of OpenAI
//! (developers.openai.com/api/docs/pricing) and Anthropic (platform.claude.com, About Claude, Pricing) and "Gemini Developer
//! API pricing" (ai.google.dev). Prices change and contracts differ: check your provider's page, and write your own prices under
//! `outbound.prices`. Not expressed: batch, flex, priority and regional rates, tools billed by the call, sound and images.
//! A model that is not in the table has no price. No price is guessed from a similar name.

use crate::{
    config::{Glob, Price},
    usage::Usage,
};

/// Prices of models.
#[derive(Debug, Clone)]
pub struct Prices {
    /// The configured prices, the most specific first.
    overrides: Vec<Entry>,
    /// The built-in prices, the most specific first.
    known: Vec<Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    model: Glob,
    rates: Rates,
    /// Rates of the whole call if its input is larger than this number of tokens.
    long: Option<(u64, Rates)>,
}

/// Rates in nano-USD per token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rates {
    input: u64,
    cache_read: u64,
    cache_write: u64,
    cache_write_1h: u64,
    output: u64,
}

impl Prices {
    /// The built-in table with `overrides` over it. A configured glob that matches wins over every built-in one. Within each
    /// kind the glob with the most literal characters wins, and the first among equals.
    ///
    /// The default of a configured model's cache prices is its input price; writes for an hour cost the same as other writes.
    /// Cache reads are cheaper at every provider. Cache writes are dearer at Anthropic: configure them there.
    pub fn new(overrides: &[Price]) -> Self {
        let overrides = overrides.iter().map(|price| {
            let cache_write = price.cache_write.unwrap_or(price.input);
            let rates = Rates {
                input: price.input,
                cache_read: price.cached_input.unwrap_or(price.input),
                cache_write,
                cache_write_1h: price.cache_write_1h.unwrap_or(cache_write),
                output: price.output,
            };
            Entry { model: price.model.clone(), rates, long: None }
        });
        Self { overrides: specific_first(overrides.collect()), known: specific_first(known()) }
    }

    /// Nano-USD of a call by the model that was asked for and the model that answered; `None`: neither has a price. Saturates.
    ///
    /// The operator's price wins under either name: first that of the model that was asked for (a deployment, an alias), then
    /// that of the model that answered. In the built-in table the model that answered comes first: the provider bills that
    /// model. `gpt-4o` may answer as `gpt-4o-2024-05-13`, which costs twice as much.
    pub fn cost_of(&self, asked: Option<&str>, answering: Option<&str>, usage: &Usage) -> Option<u64> {
        let own = || asked.and_then(|model| self.own(model)).or_else(|| self.own(answering?));
        let known = || answering.and_then(|model| self.known(model)).or_else(|| self.known(asked?));
        Some(own().or_else(known)?.cost(usage))
    }

    /// Nano-USD of a call by one model name; `None`: the model has no price. Saturates.
    pub fn cost(&self, model: &str, usage: &Usage) -> Option<u64> {
        self.cost_of(Some(model), None, usage)
    }

    /// Nano-USD of a million tokens of input and of a million of output, at the rates of a call with this usage.
    pub fn of_a_million(&self, model: &str, usage: &Usage) -> Option<(u64, u64)> {
        let rates = self.own(model).or_else(|| self.known(model))?.rates(usage);
        Some((rates.input.saturating_mul(1_000_000), rates.output.saturating_mul(1_000_000)))
    }

    /// Whether all of the model's rates are 0.
    pub fn is_free(&self, model: &str) -> bool {
        self.cost(model, &Usage { input: 1, cache_read: 1, cache_write: 1, cache_write_1h: 1, output: 1, ..Usage::default() }) == Some(0)
    }

    /// Whether the model has a price.
    pub fn knows(&self, model: &str) -> bool {
        self.own(model).or_else(|| self.known(model)).is_some()
    }

    /// The operator's price for the model, by its full name, else by its [`plain`] name.
    fn own(&self, model: &str) -> Option<&Entry> {
        let find = |name: &str| self.overrides.iter().position(|entry| entry.model.matches(name));
        find(model).or_else(|| find(plain(model))).map(|at| &self.overrides[at])
    }

    /// The built-in price for the model.
    fn known(&self, model: &str) -> Option<&Entry> {
        self.known.iter().find(|entry| entry.model.matches(plain(model)))
    }
}

impl Entry {
    /// The rates of a call with this usage.
    fn rates(&self, usage: &Usage) -> Rates {
        match self.long {
            Some((above, rates)) if usage.total_input() > above => rates,
            _ => self.rates,
        }
    }

    fn cost(&self, usage: &Usage) -> u64 {
        let rates = self.rates(usage);
        let parts = [
            (usage.input, rates.input),
            (usage.cache_read, rates.cache_read),
            (usage.cache_write, rates.cache_write),
            (usage.cache_write_1h, rates.cache_write_1h),
            (usage.output, rates.output),
        ];
        parts.iter().fold(0, |sum, (tokens, rate)| sum.saturating_add(tokens.saturating_mul(*rate)))
    }
}

/// A model's name without its prefix: a gateway's vendor (`openai/gpt-4o`), Gemini's `models/`, Bedrock's `eu.anthropic.`.
fn plain(model: &str) -> &str {
    let name = model.rsplit('/').next().unwrap_or(model);
    name.rsplit_once("anthropic.").map_or(name, |(_, name)| name)
}

fn specific_first(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by_key(|entry| std::cmp::Reverse((entry.model.literal_len(), entry.model.is_literal())));
    entries
}

/// A row: the names, then USD per million tokens in thousandths: input, cached input, output.
type Row = (&'static [&'static str], u64, u64, u64);

/// A row's three figures for long contexts: input, cached input, output.
type LongRates = (u64, u64, u64);

fn known() -> Vec<Entry> {
    let mut entries = Vec::new();
    // OpenAI charges cache writes as input; for GPT-6 and later 1.25 times that (2.5 times for writes of an hour).
    let openai = |row: &Row, write: (u64, u64)| Rates {
        input: row.1,
        cache_read: row.2,
        cache_write: row.1 * write.0 / 100,
        cache_write_1h: row.1 * write.1 / 100,
        output: row.3,
    };
    for row in OPENAI {
        add(&mut entries, row.0, openai(row, (100, 100)), None);
    }
    for row in OPENAI_LONG {
        let rates = openai(row, (100, 100));
        add(&mut entries, row.0, rates, Some((272_000, doubled(rates))));
    }
    for row in OPENAI_6 {
        let rates = openai(row, (125, 250));
        add(&mut entries, row.0, rates, Some((272_000, doubled(rates))));
    }
    let anthropic =
        |row: &Row| Rates { input: row.1, cache_read: row.2, cache_write: row.1 * 5 / 4, cache_write_1h: row.1 * 2, output: row.3 };
    for row in ANTHROPIC {
        add(&mut entries, row.0, anthropic(row), None);
    }
    for row in ANTHROPIC_LONG {
        let rates = anthropic(row);
        add(&mut entries, row.0, rates, Some((200_000, doubled(rates))));
    }
    let haiku: Row = (&["claude-haiku-5-5*"], 100, 10, 500);
    add(&mut entries, haiku.0, anthropic(&haiku), Some((100_000, anthropic(&(haiku.0, 500, 50, 2_500)))));
    for (row, long) in GEMINI {
        let rates = |row: &Row| openai(row, (100, 100));
        add(&mut entries, row.0, rates(row), long.map(|(input, read, output)| (200_000, rates(&(row.0, input, read, output)))));
    }
    entries
}

/// The long-context rates of OpenAI and Anthropic: input and cache twice, output one and a half times.
fn doubled(rates: Rates) -> Rates {
    Rates {
        input: rates.input * 2,
        cache_read: rates.cache_read * 2,
        cache_write: rates.cache_write * 2,
        cache_write_1h: rates.cache_write_1h * 2,
        output: rates.output * 3 / 2,
    }
}

fn add(entries: &mut Vec<Entry>, models: &[&str], rates: Rates, long: Option<(u64, Rates)>) {
    entries.extend(models.iter().map(|model| Entry { model: Glob::new(*model), rates, long }));
}

/// OpenAI's rows. A dated name (`gpt-4o-2024-08-06`) costs the same as its family, unless it has a row of its own.
const OPENAI: &[Row] = &[
    (&["gpt-3.5-turbo", "gpt-3.5-turbo-0125"], 500, 500, 1_500),
    (&["gpt-3.5-turbo-instruct"], 1_500, 1_500, 2_000),
    (&["gpt-4", "gpt-4-0613"], 30_000, 30_000, 60_000),
    (&["gpt-4-turbo", "gpt-4-turbo-20*"], 10_000, 10_000, 30_000),
    (&["gpt-4o", "gpt-4o-20*"], 2_500, 1_250, 10_000),
    (&["gpt-4o-2024-05-13", "chatgpt-4o-latest"], 5_000, 5_000, 15_000),
    (&["gpt-4o-mini", "gpt-4o-mini-20*"], 150, 75, 600),
    (&["gpt-4.1", "gpt-4.1-20*"], 2_000, 500, 8_000),
    (&["gpt-4.1-mini", "gpt-4.1-mini-20*"], 400, 100, 1_600),
    (&["gpt-4.1-nano", "gpt-4.1-nano-20*"], 100, 25, 400),
    (&["o1", "o1-20*"], 15_000, 7_500, 60_000),
    (&["o1-mini", "o1-mini-20*"], 1_100, 550, 4_400),
    (&["o1-pro", "o1-pro-20*"], 150_000, 150_000, 600_000),
    (&["o3", "o3-20*"], 2_000, 500, 8_000),
    (&["o3-mini", "o3-mini-20*"], 1_100, 550, 4_400),
    (&["o3-pro", "o3-pro-20*"], 20_000, 20_000, 80_000),
    (&["o4-mini", "o4-mini-20*"], 1_100, 275, 4_400),
    (&["o3-deep-research", "o3-deep-research-20*"], 10_000, 2_500, 40_000),
    (&["o4-mini-deep-research", "o4-mini-deep-research-20*"], 2_000, 500, 8_000),
    (&["gpt-5", "gpt-5-20*", "gpt-5-codex", "gpt-5-chat-latest"], 1_250, 125, 10_000),
    (&["gpt-5-mini", "gpt-5-mini-20*"], 250, 25, 2_000),
    (&["gpt-5-nano", "gpt-5-nano-20*"], 50, 5, 400),
    (&["gpt-5-pro", "gpt-5-pro-20*"], 15_000, 15_000, 120_000),
    (&["gpt-5.1", "gpt-5.1-20*", "gpt-5.1-codex", "gpt-5.1-chat-latest"], 1_250, 125, 10_000),
    (&["gpt-5.1-codex-mini"], 250, 25, 2_000),
    (&["gpt-5.2", "gpt-5.2-20*", "gpt-5.2-chat-latest"], 1_750, 175, 14_000),
    (&["gpt-5.2-pro", "gpt-5.2-pro-20*"], 21_000, 21_000, 168_000),
    (&["gpt-5.4-mini", "gpt-5.4-mini-20*"], 750, 75, 4_500),
    (&["gpt-5.4-nano", "gpt-5.4-nano-20*"], 200, 20, 1_250),
    (&["text-embedding-3-small"], 20, 20, 0),
    (&["text-embedding-3-large"], 130, 130, 0),
    (&["text-embedding-ada-002"], 100, 100, 0),
];

/// OpenAI's rows with a higher rate above 272,000 tokens of input.
const OPENAI_LONG: &[Row] = &[
    (&["gpt-5.4", "gpt-5.4-20*"], 2_500, 250, 15_000),
    (&["gpt-5.4-pro", "gpt-5.4-pro-20*"], 30_000, 30_000, 180_000),
    (&["gpt-5.5", "gpt-5.5-20*"], 5_000, 500, 30_000),
    (&["gpt-5.5-pro", "gpt-5.5-pro-20*"], 30_000, 30_000, 180_000),
    (&["gpt-5.6", "gpt-5.6-sol", "gpt-5.6-sol-20*"], 4_000, 400, 20_000),
    (&["gpt-5.6-terra", "gpt-5.6-terra-20*"], 2_000, 200, 12_000),
    (&["gpt-5.6-luna", "gpt-5.6-luna-20*"], 200, 20, 1_200),
];

/// OpenAI's rows with that higher rate and with a price of their own for cache writes.
const OPENAI_6: &[Row] = &[
    (&["gpt-6-astra", "gpt-6-astra-20*"], 10_000, 1_000, 50_000),
    (&["gpt-6-sol", "gpt-6-sol-20*"], 2_000, 200, 10_000),
    (&["gpt-6-luna", "gpt-6-luna-20*"], 100, 10, 500),
    (&["gpt-6.1-sol", "gpt-6.1-sol-20*"], 2_000, 100, 10_000),
    (&["gpt-6.1-terra", "gpt-6.1-terra-20*"], 1_000, 50, 5_000),
];

/// Anthropic's rows. Cache writes cost 1.25 times the input for five minutes and twice the input for an hour.
const ANTHROPIC: &[Row] = &[
    (&["claude-3-haiku*"], 250, 30, 1_250),
    (&["claude-3-opus*", "claude-opus-4-0", "claude-opus-4-20*", "claude-opus-4@*", "claude-opus-4-1*"], 15_000, 1_500, 75_000),
    (&["claude-3-5-haiku*"], 800, 80, 4_000),
    (&["claude-3-sonnet*", "claude-3-5-sonnet*", "claude-3-7-sonnet*", "claude-sonnet-4-6*"], 3_000, 300, 15_000),
    (&["claude-haiku-4-5*"], 1_000, 100, 5_000),
    (&["claude-opus-4-5*", "claude-opus-4-6*", "claude-opus-4-7*", "claude-opus-4-8*"], 5_000, 500, 25_000),
    (&["claude-opus-5", "claude-opus-5-20*", "claude-opus-5@*"], 5_000, 500, 25_000),
    (&["claude-opus-5-5*"], 4_000, 200, 20_000),
    (&["claude-sonnet-5", "claude-sonnet-5-20*", "claude-sonnet-5@*"], 2_000, 200, 10_000),
    (&["claude-sonnet-5-5*"], 2_000, 100, 10_000),
    (&["claude-fable-5", "claude-fable-5-20*", "claude-mythos-5", "claude-mythos-5-20*"], 10_000, 1_000, 50_000),
    (&["claude-fable-5-1*", "claude-mythos-5-1*"], 10_000, 250, 50_000),
];

/// Anthropic's rows with a higher rate above 200,000 tokens of input.
const ANTHROPIC_LONG: &[Row] =
    &[(&["claude-sonnet-4-0", "claude-sonnet-4-20*", "claude-sonnet-4@*", "claude-sonnet-4-5*"], 3_000, 300, 15_000)];

/// Gemini's rows, with the rates above 200,000 tokens of input (input, cached input, output) if those differ.
const GEMINI: &[(Row, Option<LongRates>)] = &[
    ((&["gemini-2.0-flash", "gemini-2.0-flash-001"], 100, 25, 400), None),
    ((&["gemini-2.0-flash-lite", "gemini-2.0-flash-lite-001"], 75, 75, 300), None),
    ((&["gemini-2.5-flash", "gemini-2.5-flash-preview-09-2025"], 300, 30, 2_500), None),
    ((&["gemini-2.5-flash-lite"], 100, 10, 400), None),
    ((&["gemini-2.5-pro"], 1_250, 125, 10_000), Some((2_500, 250, 15_000))),
    ((&["gemini-3-flash-preview"], 500, 50, 3_000), None),
    ((&["gemini-3-pro-preview", "gemini-3.1-pro-preview"], 2_000, 200, 12_000), Some((4_000, 400, 18_000))),
    ((&["gemini-3.1-flash-lite-preview"], 250, 25, 1_500), None),
    ((&["gemini-3.5-flash"], 1_500, 150, 9_000), None),
    ((&["gemini-3.5-flash-lite"], 300, 30, 2_500), None),
    ((&["gemini-3.6-flash"], 1_500, 150, 7_500), None),
    ((&["gemini-embedding-001"], 150, 150, 0), None),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MILLION: u64 = 1_000_000;
    const USD: u64 = 1_000_000_000;

    fn input(tokens: u64) -> Usage {
        Usage { input: tokens, ..Usage::default() }
    }

    #[test]
    fn list_prices_per_million() {
        let prices = Prices::new(&[]);
        for (model, tokens_in, tokens_out, nano) in [
            ("gpt-4o", 100_000, 0, USD / 4),
            ("gpt-4o-2024-08-06", 0, MILLION, 10 * USD),
            ("gpt-4o-2024-05-13", 100_000, 0, USD / 2),
            ("gpt-4o-mini-2024-07-18", MILLION, MILLION, 750_000_000),
            ("openai/gpt-4o-mini", MILLION, 0, 150_000_000),
            ("claude-sonnet-4-5-20250929", 100_000, 0, 300_000_000),
            ("eu.anthropic.claude-sonnet-4-5-20250929-v1:0", 100_000, 0, 300_000_000),
            ("claude-opus-4-1-20250805", 0, 100_000, 7_500_000_000),
            ("claude-opus-5", MILLION, 0, 5 * USD),
            ("claude-opus-5-5", MILLION, 0, 4 * USD),
            ("models/gemini-2.5-flash-lite", MILLION, 0, 100_000_000),
            ("text-embedding-3-small", MILLION, 0, 20_000_000),
        ] {
            let usage = Usage { input: tokens_in, output: tokens_out, ..Usage::default() };
            assert_eq!(prices.cost(model, &usage), Some(nano), "{model}");
        }
    }

    #[test]
    fn a_similar_name_is_not_a_price() {
        let prices = Prices::new(&[]);
        for model in ["gpt-4o-audio-preview", "gpt-4o-mini-tts", "ft:gpt-4o-mini:me", "gpt-7", "claude-sonnet-9", "o1-preview-x", ""] {
            assert!(!prices.knows(model), "{model}");
        }
    }

    #[test]
    fn long_contexts_cost_more_for_the_whole_call() {
        let prices = Prices::new(&[]);
        assert_eq!(prices.cost("gemini-2.5-pro", &input(200_000)), Some(200_000 * 1_250));
        assert_eq!(prices.cost("gemini-2.5-pro", &input(200_001)), Some(200_001 * 2_500));
        let cached = Usage { cache_read: 150_000, output: 10, ..Usage::default() };
        assert_eq!(prices.cost("claude-haiku-5-5", &cached), Some(150_000 * 50 + 10 * 2_500));
    }

    #[test]
    fn every_class_has_its_rate() {
        let usage = Usage {
            input: 1,
            cache_read: 10,
            cache_write: 100,
            cache_write_1h: 1_000,
            output: 10_000,
            reasoning: 9_999,
            ..Usage::default()
        };
        let expected = 3_000 + 10 * 300 + 100 * 3_750 + 1_000 * 6_000 + 10_000 * 15_000;
        assert_eq!(Prices::new(&[]).cost("claude-sonnet-4-5", &usage), Some(expected));
    }

    #[test]
    fn configured_prices_win_and_the_most_specific_of_them() {
        let price = |model: &str, input| Price {
            model: Glob::new(model),
            input,
            output: 1,
            cached_input: None,
            cache_write: None,
            cache_write_1h: None,
        };
        let prices = Prices::new(&[price("*", 1), price("gpt-*", 2), price("house/model", 3)]);
        for (model, expected) in [("anything", 1), ("gpt-4o", 2), ("house/model", 3)] {
            assert_eq!(prices.cost(model, &input(1)), Some(expected), "{model}");
        }
        let all = Usage { input: 1, cache_read: 1, cache_write: 1, cache_write_1h: 1, output: 1, ..Usage::default() };
        assert_eq!(prices.cost("house/model", &all), Some(13), "an unknown cache price is the input price");
    }

    #[test]
    fn the_operators_price_wins_under_either_name_and_then_the_model_that_answered() {
        let price = |model: &str, input| Price {
            model: Glob::new(model),
            input,
            output: 0,
            cached_input: None,
            cache_write: None,
            cache_write_1h: None,
        };
        let own = Prices::new(&[price("prod-*", 10), price("prod-eu", 11), price("gpt-4", 20), price("free", 0)]);
        let table = Prices::new(&[]);
        for (what, prices, asked, answering, expected) in [
            ("a deployment with a price", &own, Some("prod-eu"), Some("gpt-4"), Some(11)),
            ("one by a pattern, the answer by its name", &own, Some("prod-us"), Some("gpt-4"), Some(10)),
            ("the answer alone", &own, Some("gpt-4-latest"), Some("gpt-4"), Some(20)),
            ("a price of nothing is a price", &own, Some("free"), Some("gpt-4o-2024-08-06"), Some(0)),
            ("with a vendor in front", &own, Some("azure/gpt-4"), None, Some(20)),
            ("no price of the operator's", &own, Some("gpt-4o"), Some("gpt-4o-2024-05-13"), Some(5_000)),
            ("the table by the answer", &table, Some("gpt-4o"), Some("gpt-4o-2024-05-13"), Some(5_000)),
            ("the table by what was asked", &table, Some("gpt-4o"), Some("unheard-of"), Some(2_500)),
            ("nobody said what was asked", &table, None, Some("gpt-4o"), Some(2_500)),
            ("nobody said what answered", &table, Some("gpt-4o"), None, Some(2_500)),
            ("neither has a price", &table, Some("unheard-of"), Some("gpt-99"), None),
            ("neither is known", &own, None, None, None),
        ] {
            assert_eq!(prices.cost_of(asked, answering, &input(1)), expected, "{what}");
        }
    }

    proptest! {
        #[test]
        fn a_cost_never_overflows_and_grows_with_use(a in any::<u64>(), b in any::<u64>(), c in any::<u64>()) {
            let prices = Prices::new(&[]);
            let usage = Usage { input: a, cache_read: b, output: c, ..Usage::default() };
            let more = Usage { input: a.saturating_add(1), ..usage };
            prop_assert!(prices.cost("gpt-4o", &usage) <= prices.cost("gpt-4o", &more));
        }
    }
}
