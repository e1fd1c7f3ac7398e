//! Tests of the prices.

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
    for model in ["gpt-4o-audio-preview", "gpt-4o-mini-search-preview", "ft:gpt-4o-mini:me", "gpt-7", "claude-sonnet-9", "o1-preview-x", ""]
    {
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
    let usage =
        Usage { input: 1, cache_read: 10, cache_write: 100, cache_write_1h: 1_000, output: 10_000, reasoning: 9_999, ..Usage::default() };
    let expected = 3_000 + 10 * 300 + 100 * 3_750 + 1_000 * 6_000 + 10_000 * 15_000;
    assert_eq!(Prices::new(&[]).cost("claude-sonnet-4-5", &usage), Some(expected));
}

#[test]
fn configured_prices_win_and_the_most_specific_of_them() {
    let price = |model: &str, input: u64| Price::new(Glob::new(model), input * MILLION, MILLION);
    let prices = Prices::new(&[price("*", 1), price("gpt-*", 2), price("house/model", 3)]);
    for (model, expected) in [("anything", 1), ("gpt-4o", 2), ("house/model", 3)] {
        assert_eq!(prices.cost(model, &input(1)), Some(expected), "{model}");
    }
    let all = Usage { input: 1, cache_read: 1, cache_write: 1, cache_write_1h: 1, output: 1, ..Usage::default() };
    assert_eq!(prices.cost("house/model", &all), Some(13), "an unknown cache price is the input price");
}

#[test]
fn the_operators_price_wins_under_either_name_and_then_the_model_that_answered() {
    let price = |model: &str, input: u64| Price::new(Glob::new(model), input * MILLION, 0);
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

#[test]
fn your_own_row_keeps_the_step_of_a_long_context_and_may_write_its_own() {
    use crate::config::LongPrice;
    let of = |model: &str, long: Option<LongPrice>| Prices::new(&[Price { long, ..Price::new(Glob::new(model), USD, 10 * USD) }]);
    let usage = |input: u64| Usage { input, output: 1_000, ..Usage::default() };
    let cost = |prices: &Prices, model: &str, tokens: u64| prices.cost(model, &usage(tokens)).expect("priced");
    let inherited = of("gpt-5.4", None);
    assert_eq!(cost(&inherited, "gpt-5.4", 272_000), 272_000 * 1_000 + 1_000 * 10_000);
    assert_eq!(cost(&inherited, "gpt-5.4", 272_001), 272_001 * 2_000 + 1_000 * 15_000, "twice the input, one and a half times the output");
    assert_eq!(cost(&of("gpt-4o", None), "gpt-4o", 900_000), 900_000 * 1_000 + 1_000 * 10_000, "the table has none");
    let long = LongPrice { above: 50_000, input: 3 * USD, output: 20 * USD, cached_input: None, cache_write: None, cache_write_1h: None };
    let own = of("house", Some(long.clone()));
    assert_eq!(cost(&own, "house", 50_000), 50_000 * 1_000 + 1_000 * 10_000);
    assert_eq!(cost(&own, "house", 50_001), 50_001 * 3_000 + 1_000 * 20_000);
    assert_eq!(own.steps().below(60_000), 50_000, "a batch is judged by it, too");
    let flat = of("gpt-5.4", Some(LongPrice { above: 272_000, input: USD, output: 10 * USD, ..long }));
    assert_eq!(cost(&flat, "gpt-5.4", 300_000), 300_000 * 1_000 + 1_000 * 10_000);
}
