//! `outrigger advise`: what caching, limiting or a cheaper model would have saved, from the ledger of a running proxy.
//!
//! Each line says from which sums it follows. Where the ledger cannot tell, the line says so and has no figure: nothing is guessed.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::{Value, json};

use super::{
    prices::configured,
    said::{Common, Failure, Said},
    usage::{all_pages, rows_of},
};
use crate::{config::human, provider::Prices, usage::Usage};

/// Days of callers below which no limit is advised.
const DAYS: usize = 20;

/// What `advise` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct AdviseArgs {
    /// Its begin: a length of time before now (`30d`), a date, or a date and time.
    #[arg(long, default_value = "30d", value_name = "TIME")]
    since: String,
    /// Its end, in the same words.
    #[arg(long, default_value = "now", value_name = "TIME")]
    until: String,
    /// A model to compare with, beside those that the ledger has of the same provider; again for more.
    #[arg(long, value_name = "MODEL")]
    instead: Vec<String>,
    /// The configuration file whose prices win; `proxy.yaml` in this directory, if there is one.
    #[arg(long, short, env = "OUTRIGGER_CONFIG")]
    config: Option<PathBuf>,
}

/// One piece of advice.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Advice {
    /// What it is about: cache, failures, limit or model.
    about: &'static str,
    /// Nano-dollars that would have been saved at most; `None`: the ledger cannot tell.
    saves: Option<u64>,
    /// In words.
    text: String,
    /// The question to the ledger, and the sums that it follows from.
    from: String,
}

/// `outrigger advise`.
///
/// # Errors
/// The proxy cannot be reached, a time cannot be read, or the configuration has mistakes.
pub async fn advise(common: &Common, args: AdviseArgs) -> Result<Said, Failure> {
    let prices = Prices::new(&configured(args.config.as_deref())?);
    let words = |from, to, by, bucket| vec![("from", from), ("to", to), ("by", by), ("bucket", bucket)];
    let models = all_pages(common, &words(&*args.since, &*args.until, "provider,model,outcome,known", "none")).await?;
    // The same time for all three: a relative one moves between two questions.
    let (from, to) = (word(&models, "from"), word(&models, "to"));
    let routes = all_pages(common, &words(from, to, "outbound,outcome", "none")).await?;
    let days = all_pages(common, &words(from, to, "caller", "day")).await?;
    let mut all = of_cache(&routes);
    all.extend(of_failures(&models));
    all.push(of_limits(&days));
    all.extend(of_models(&models, &prices, &args.instead));
    let gaps: Vec<&str> = models["gaps"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut text = format!("From {} to {}: {} USD.\n", word(&models, "from"), word(&models, "to"), word(&models["total"], "cost_usd"));
    for gap in &gaps {
        text += &format!("The ledger lacks something: {gap}.\n");
    }
    for advice in &all {
        text += &format!("- {}: {}\n    from {}\n", advice.about, plain(&advice.text), plain(&advice.from));
    }
    let lines = all
        .iter()
        .map(|advice| json!({"about": advice.about, "saves_usd": advice.saves.map(usd), "text": advice.text, "from": advice.from}));
    let json = json!({
        "from": models["from"], "to": models["to"], "complete": models["complete"], "gaps": models["gaps"],
        "cost_usd": models["total"]["cost_usd"], "advice": lines.collect::<Vec<_>>(),
    });
    Ok(Said::new(json, text))
}

/// What the cache has saved, and where there is none.
fn of_cache(page: &Value) -> Vec<Advice> {
    let mut routes: BTreeMap<&str, [u64; 4]> = BTreeMap::new();
    for row in rows_of(page) {
        let [calls, cost, saved, answered] = routes.entry(word(row, "outbound")).or_default();
        *calls += number(row, "calls");
        *cost += nano(row, "cost_usd");
        *saved += nano(row, "saved_usd");
        if matches!(word(row, "outcome"), "cached" | "shared") {
            *answered += number(row, "calls");
        }
    }
    let advice = |(route, [calls, cost, saved, answered]): (&str, [u64; 4])| {
        let from = format!("usage --by outbound,outcome: {route}: {calls} calls, {} USD, {answered} cached or shared", usd(cost));
        let (saves, text) = if answered > 0 {
            (Some(saved), format!("{route}: the cache has saved {} USD: {answered} of {calls} calls were not sent", usd(saved)))
        } else {
            let unknown =
                "the ledger does not keep prompts, so that it cannot tell how many calls repeat; a cache on this route would show it";
            (None, format!("{route}: {} USD, and no call was answered by the cache: {unknown}", usd(cost)))
        };
        Advice { about: "cache", saves, text, from }
    };
    routes.into_iter().filter(|(_, [_, cost, saved, _])| cost + saved > 0).map(advice).collect()
}

/// What was paid for answers that nobody got in whole.
fn of_failures(page: &Value) -> Option<Advice> {
    let lost = |row: &&Value| matches!(word(row, "outcome"), "cut" | "failed");
    let (mut calls, mut cost) = (0, 0);
    for row in rows_of(page).iter().filter(lost) {
        calls += number(row, "calls");
        cost += nano(row, "cost_usd");
    }
    let from = format!("usage --by outcome: cut and failed: {calls} calls, {} USD", usd(cost));
    let text = format!("{calls} calls that failed or broke off cost {} USD", usd(cost));
    (cost > 0).then_some(Advice { about: "failures", saves: Some(cost), text, from })
}

/// What a limit per caller and day would have held back: the most expensive twentieth of the days of callers.
fn of_limits(page: &Value) -> Advice {
    let known = |row: &&Value| !matches!(word(row, "caller"), "unattributed" | "erased" | "other") && nano(row, "cost_usd") > 0;
    let mut spent: Vec<u64> = rows_of(page).iter().filter(known).map(|row| nano(row, "cost_usd")).collect();
    spent.sort_unstable();
    let days = spent.len();
    let from = format!("usage --by caller --bucket day: {days} days of callers that are known");
    if days < DAYS {
        let text = format!("not enough is known: {days} days of callers, and a limit is advised from {DAYS} on");
        return Advice { about: "limit", saves: None, text, from };
    }
    let limit = spent[(days * 19).div_ceil(20) - 1];
    let above: Vec<u64> = spent.iter().filter(|spent| **spent > limit).map(|spent| spent - limit).collect();
    let held: u64 = above.iter().sum();
    let text = format!(
        "{} USD a day for each caller holds 19 of 20 days; it would have held back at most {} USD, on {} of {days} days",
        usd(limit),
        usd(held),
        above.len()
    );
    Advice { about: "limit", saves: Some(held), text, from }
}

/// What the same tokens cost at the cheapest other model of the provider that the ledger has, or of those that were named.
fn of_models(page: &Value, prices: &Prices, instead: &[String]) -> Vec<Advice> {
    let sent = |row: &&Value| word(row, "outcome") == "complete" && word(row, "known") == "reported" && nano(row, "cost_usd") > 0;
    let rows: Vec<&Value> = rows_of(page).iter().filter(sent).collect();
    let mut all = Vec::new();
    for row in &rows {
        let (provider, model) = (word(row, "provider"), word(row, "model"));
        let (calls, cost) = (number(row, "calls"), nano(row, "cost_usd"));
        // A call's price may depend on its length: an average call stands for all.
        let usage = Usage::of(Usage::NAMES.map(|class| row["tokens"][class].as_u64().unwrap_or(0) / calls.max(1)), 0);
        let seen = rows.iter().filter(|other| word(other, "provider") == provider).map(|other| word(other, "model"));
        let others = seen.chain(instead.iter().map(String::as_str)).filter(|other| *other != model);
        let costs = others.filter_map(|other| Some((prices.cost(other, &usage)?.saturating_mul(calls), other)));
        let tokens: Vec<String> =
            row["tokens"].as_object().into_iter().flatten().map(|(class, count)| format!("{class} {count}")).collect();
        let from = format!("usage --by provider,model: {provider} {model}, complete and reported: {calls} calls, {}", tokens.join(", "));
        let (saves, text) = match costs.min() {
            Some((other_cost, other)) if other_cost < cost => {
                let saved = cost - other_cost;
                let text = format!(
                    "{provider} {model} cost {} USD; the same tokens at the list prices of {other}: about {} USD, {} less. How good and how \
                     long its answers would have been is not known",
                    usd(cost),
                    usd(other_cost),
                    usd(saved)
                );
                (Some(saved), text)
            }
            Some(_) => continue,
            None => (None, format!("{provider} {model} cost {} USD; no other priced model is known: name one with --instead", usd(cost))),
        };
        all.push(Advice { about: "model", saves, text, from });
    }
    all.sort_by_key(|advice| std::cmp::Reverse(advice.saves));
    all
}

fn word<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_default()
}

fn number(row: &Value, key: &str) -> u64 {
    row[key].as_u64().unwrap_or(0)
}

/// Nano-dollars of a decimal string with nine places.
fn nano(row: &Value, key: &str) -> u64 {
    word(row, key).replace('.', "").parse().unwrap_or(0)
}

fn usd(nano: u64) -> String {
    human::usd(nano)
}

/// Clients choose names: no character of them may control a terminal.
fn plain(text: &str) -> String {
    text.replace(|c: char| c.is_control(), "?")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(rows: Vec<Value>) -> Value {
        json!({ "rows": rows })
    }

    #[test]
    fn a_cheaper_model_is_compared_by_the_same_tokens() {
        let row = |model: &str, calls: u64, cost: &str| {
            json!({"provider": "openai", "model": model, "outcome": "complete", "known": "reported", "calls": calls,
                "tokens": {"input": 1_000_000, "output": 200_000}, "cost_usd": cost})
        };
        let prices = Prices::new(&[]);
        let models = page(vec![row("gpt-4o", 100, "4.500000000"), row("gpt-4o-mini", 100, "0.270000000")]);
        let advice = of_models(&models, &prices, &[]);
        // 1,000,000 x 0.15 + 200,000 x 0.60 USD a million.
        assert_eq!((advice.len(), advice[0].saves), (1, Some(4_230_000_000)), "{advice:?}");
        assert!(advice[0].text.contains("gpt-4o-mini") && advice[0].from.contains("100 calls, input 1000000"), "{advice:?}");
        let alone = page(vec![row("gpt-4o", 100, "4.500000000")]);
        let advice = of_models(&alone, &prices, &[]);
        assert_eq!((advice[0].saves, advice[0].text.contains("--instead")), (None, true));
        assert_eq!(of_models(&alone, &prices, &["gpt-4o-mini".to_owned()])[0].saves, Some(4_230_000_000));
    }

    #[test]
    fn a_limit_is_advised_from_enough_days_only() {
        let row = |caller: &str, cost: u64| json!({"caller": caller, "cost_usd": format!("{cost}.000000000")});
        let few = of_limits(&page((0..19).map(|_| row("a", 1)).collect()));
        assert_eq!((few.saves, few.text.contains("not enough")), (None, true));
        let mut rows: Vec<Value> = (0..38).map(|_| row("a", 1)).collect();
        rows.extend([row("b", 9), row("b", 4), row("unattributed", 100)]);
        let advice = of_limits(&page(rows));
        assert_eq!(advice.saves, Some(11_000_000_000), "{advice:?}");
        assert!(advice.text.contains("on 2 of 40 days"), "{advice:?}");
    }

    #[test]
    fn what_a_cache_would_save_is_not_invented() {
        let row = |route: &str, outcome: &str, calls: u64, cost: &str, saved: &str| json!({"outbound": route, "outcome": outcome, "calls": calls, "cost_usd": cost, "saved_usd": saved});
        let advice = of_cache(&page(vec![
            row("chat", "complete", 10, "2.000000000", "0.000000000"),
            row("chat", "cached", 30, "0.000000000", "6.000000000"),
            row("plain", "complete", 5, "1.000000000", "0.000000000"),
        ]));
        assert_eq!(advice.iter().map(|advice| advice.saves).collect::<Vec<_>>(), [Some(6_000_000_000), None]);
        assert!(advice[1].text.contains("cannot tell how many calls repeat"), "{advice:?}");
        let failures = json!({"outcome": "cut", "calls": 3, "cost_usd": "0.250000000"});
        assert_eq!(of_failures(&page(vec![failures])).map(|advice| advice.saves), Some(Some(250_000_000)));
        assert_eq!(of_failures(&page(Vec::new())), None);
    }
}
