//! `outbound.prices` and `outbound.metering`: what calls cost, and how exactly they are metered.

use serde::Deserialize;

use crate::config::{
    Glob,
    build::Build,
    error::quoted,
    scalars::{Usd, W, words},
    schema::{
        Json, Key, Kind, Scalar, Table,
        kinds::{DOLLARS, MODEL},
    },
    written::Items,
};

/// The price of a model in nano-dollars per token: USD 1 per million tokens = 1_000.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Price {
    pub model: Glob,
    pub input: u64,
    pub output: u64,
    pub cached_input: Option<u64>,
    pub cache_write: Option<u64>,
    pub cache_write_1h: Option<u64>,
}

/// How exactly model calls are metered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Metering {
    /// The proxy asks streams for their usage, and takes out again what the app did not ask for.
    #[default]
    Exact,
    /// Calls go out as the app sent them. The usage of a stream that does not tell it is estimated.
    AsSent,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    model: Option<W<Glob>>,
    input: Option<W<Usd>>,
    output: Option<W<Usd>>,
    cached_input: Option<W<Usd>>,
    cache_write: Option<W<Usd>>,
    cache_write_1h: Option<W<Usd>>,
}

words! {
    Metering: "exact" => Self::Exact, "as_sent" => Self::AsSent;
}

const METERING: Kind = Kind::Scalar(&Scalar::new::<Metering>("`exact` or `as_sent`", Json::Words(&["exact", "as_sent"]), "exact"));

pub(in crate::config) static TABLE: Table = Table::new(
    "price",
    "What a model costs, in US dollars per million tokens; overrides or extends the built-in table. Rounded up to 0.001.",
    &[
        Key::new("model", MODEL, "Model names; `*` is any run of characters.").required().eg("\"house-*\""),
        Key::new("input", DOLLARS, "Input tokens.").within("0", "1000000").required().eg("0.15"),
        Key::new("output", DOLLARS, "Output tokens.").within("0", "1000000").required().eg("0.60"),
        Key::new("cached_input", DOLLARS, "Input tokens the provider had cached.").within("0", "1000000").says("as `input`").eg("0.075"),
        Key::new("cache_write", DOLLARS, "Input tokens written to the provider's cache.")
            .within("0", "1000000")
            .says("as `input`")
            .eg("0.1875"),
        Key::new("cache_write_1h", DOLLARS, "The same, kept for an hour.").within("0", "1000000").says("as `cache_write`").eg("0.30"),
    ],
);

/// The row of `metering`.
pub(in crate::config) const METERING_KEY: Key = Key::new("metering", METERING, "`exact`: streams are asked for their usage, and what the app did not ask for is taken out again. `as_sent`: calls go out as they came, and a stream without usage is estimated.")
            .default("exact");

pub(in crate::config) fn build(build: &mut Build<'_>, written: Items<Written>) -> Vec<Price> {
    // Dollars per million tokens to nano-dollars per token: a thousandth of the dollar figure's nano-dollars
    // per thousand; rounded up, so that a limit never admits more than its money.
    let per_token = |usd: W<Usd>| usd.0.0.div_ceil(1_000_000);
    let mut out: Vec<Price> = Vec::new();
    for (n, price) in written.into_iter().enumerate().filter_map(|(n, price)| Some((n, price?))) {
        let (Some(model), Some(input), Some(output)) = (price.model, price.input, price.output) else { continue };
        let model: Glob = model.0;
        if out.iter().any(|other| other.model == model) {
            let at = build.seen.value(&format!("outbound.prices[{n}].model"));
            build.fault(at, format!("there is already a price for {}", quoted(model.as_str())));
        }
        out.push(Price {
            model,
            input: per_token(input),
            output: per_token(output),
            cached_input: price.cached_input.map(per_token),
            cache_write: price.cache_write.map(per_token),
            cache_write_1h: price.cache_write_1h.map(per_token),
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use crate::config::testing::{good, says};

    #[test]
    fn prices_are_rounded_up_to_a_nano_dollar_a_token() {
        let config = good("outbound: {providers: {openai: {}}, prices: [{model: \"m-*\", input: 0.15, output: 0.0375}]}\n");
        let price = &config.outbound.expect("open").prices[0];
        assert_eq!((price.input, price.output, price.cached_input), (150, 38, None));
    }

    #[test]
    fn a_model_has_one_price() {
        let prices = "[{model: m, input: 1, output: 1}, {model: m, input: 2, output: 1}]";
        says(&format!("outbound: {{providers: {{openai: {{}}}}, prices: {prices}}}\n"), "1:87", "already a price for `m`");
    }
}
