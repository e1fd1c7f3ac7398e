//! The mock's bills: an account of calls, tokens and money that is independent of the proxy's, for checks of it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::usage::Usage;

/// Most models, and most credentials, with a line of their own; further ones are booked under [`OTHERS`].
const MOST_LINES: usize = 1_000;

/// The line of all models or credentials beyond the first `MOST_LINES`.
pub const OTHERS: &str = "(others)";

/// Everything billed since the start or the last reset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Books {
    /// Requests that reached an API, whatever their outcome.
    pub requests: u64,
    /// Requests that a fault answered, or broke.
    pub faults: u64,
    /// Answers whose client left early.
    pub abandoned: u64,
    /// Answers under way now.
    pub in_flight: u64,
    /// Connections accepted.
    pub connections: u64,
    /// The sum of all bills.
    pub total: Line,
    /// Bills by model.
    pub models: BTreeMap<String, Line>,
    /// Bills by credential, hashed as by [`super::hash_credential`].
    pub credentials: BTreeMap<String, Line>,
}

/// Billed calls of one model or credential.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Line {
    /// Calls that were billed.
    pub calls: u64,
    /// Their tokens.
    pub usage: Usage,
    /// Their price in nano-USD.
    pub nano_usd: u64,
}

impl Books {
    /// Books one call.
    pub(super) fn bill(&mut self, model: &str, credential: &str, usage: Usage) {
        let nano_usd = price(model, usage);
        self.total.add(usage, nano_usd);
        line(&mut self.models, model).add(usage, nano_usd);
        line(&mut self.credentials, credential).add(usage, nano_usd);
    }

    /// Forgets the bills; answers under way and connections keep their counts.
    pub(super) fn reset(&mut self) {
        *self = Self { in_flight: self.in_flight, connections: self.connections, ..Self::default() };
    }

    /// The body of `GET /mock/books`.
    pub fn to_json(&self) -> Value {
        let lines = |lines: &BTreeMap<String, Line>| {
            lines.iter().map(|(name, line)| (name.clone(), line.to_json())).collect::<serde_json::Map<_, _>>()
        };
        json!({
            "requests": self.requests,
            "faults": self.faults,
            "abandoned": self.abandoned,
            "in_flight": self.in_flight,
            "connections": self.connections,
            "total": self.total.to_json(),
            "models": lines(&self.models),
            "credentials": lines(&self.credentials),
        })
    }
}

impl Line {
    fn add(&mut self, usage: Usage, nano_usd: u64) {
        self.calls += 1;
        self.usage = self.usage.plus(&usage);
        self.nano_usd = self.nano_usd.saturating_add(nano_usd);
    }

    fn to_json(self) -> Value {
        json!({
            "calls": self.calls,
            "input": self.usage.input,
            "cache_read": self.usage.cache_read,
            "cache_write": self.usage.cache_write,
            "cache_write_1h": self.usage.cache_write_1h,
            "output": self.usage.output,
            "usd": usd(self.nano_usd),
        })
    }
}

/// Nano-USD as dollars, exactly.
pub fn usd(nano: u64) -> String {
    format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000)
}

/// Prefix of a model's name, and nano-USD per token of: input, cache read, cache write, cache write for an hour, output. (USD 1
/// per million tokens is 1,000 nano-USD per token.) These are the providers' list prices; an unlisted model costs 1 and 2
/// dollars.
const PRICES: &[(&str, [u64; 5])] = &[
    ("gpt-4o-mini", [150, 75, 150, 150, 600]),
    ("gpt-4o", [2_500, 1_250, 2_500, 2_500, 10_000]),
    ("gpt-4.1-nano", [100, 25, 100, 100, 400]),
    ("gpt-4.1-mini", [400, 100, 400, 400, 1_600]),
    ("gpt-4.1", [2_000, 500, 2_000, 2_000, 8_000]),
    ("text-embedding-3-small", [20, 20, 20, 20, 0]),
    ("text-embedding-3-large", [130, 130, 130, 130, 0]),
    ("claude-haiku-4-5", [1_000, 100, 1_250, 2_000, 5_000]),
    ("claude-sonnet-4", [3_000, 300, 3_750, 6_000, 15_000]),
    ("gemini-2.5-flash", [300, 30, 300, 300, 2_500]),
    ("", [1_000, 500, 1_000, 1_000, 2_000]),
];

fn price(model: &str, usage: Usage) -> u64 {
    let classes = [usage.input, usage.cache_read, usage.cache_write, usage.cache_write_1h, usage.output];
    let prices = PRICES.iter().find(|(prefix, _)| model.starts_with(prefix)).map_or([0; 5], |(_, prices)| *prices);
    classes.iter().zip(prices).map(|(tokens, price)| tokens.saturating_mul(price)).sum()
}

fn line<'a>(lines: &'a mut BTreeMap<String, Line>, name: &str) -> &'a mut Line {
    let name = if lines.len() < MOST_LINES || lines.contains_key(name) { name } else { OTHERS };
    lines.entry(name.to_owned()).or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_exact() {
        let mut books = Books::default();
        books.bill("gpt-4o-mini-2024-07-18", "k", Usage { input: 1_000_000, output: 1_000_000, ..Usage::default() });
        assert_eq!(usd(books.total.nano_usd), "0.750000000");
        assert_eq!(books.models["gpt-4o-mini-2024-07-18"], books.credentials["k"]);
        assert_eq!(usd(price("claude-sonnet-4-5", Usage { cache_read: 1_000_000, ..Usage::default() })), "0.300000000");
    }

    #[test]
    fn lines_are_bounded() {
        let mut books = Books::default();
        for n in 0..MOST_LINES + 10 {
            books.bill(&format!("m{n}"), "k", Usage::default());
        }
        assert_eq!(books.models.len(), MOST_LINES + 1);
        assert_eq!(books.models[OTHERS].calls, 10);
    }
}
