//! `outbound.prices` and `outbound.metering`: what calls cost, and how exactly they are metered.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::config::{
    Glob,
    build::Build,
    error::{Fault, quoted},
    read::rows_of,
    scalars::{Count, Usd, W, words},
    schema::{
        Json, Key, Kind, Scalar, Table,
        kinds::{COUNT_OF, DOLLARS, MODEL},
    },
    written::Items,
};

/// Bytes of the largest file of prices.
const MAX_FILE: u64 = 1 << 20;

/// The price of a model: nano-dollars for a million tokens, or for a thousand units.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Price {
    pub model: Glob,
    /// The tier that the row is for; `None`: the standard one.
    pub tier: Option<PriceTier>,
    pub input: u64,
    pub output: u64,
    pub cached_input: Option<u64>,
    pub cache_write: Option<u64>,
    pub cache_write_1h: Option<u64>,
    pub audio_input: Option<u64>,
    pub audio_output: Option<u64>,
    pub image_input: Option<u64>,
    pub image_output: Option<u64>,
    pub web_search: Option<u64>,
    pub file_search: Option<u64>,
    pub grounding: Option<u64>,
    pub code_container: Option<u64>,
    /// Nano-dollars for a second of sound.
    pub audio_second: Option<u64>,
    /// The prices of a long context; `None`: as much dearer as in the built-in table.
    pub long: Option<LongPrice>,
}

/// The prices of a whole answer with more tokens of input than a step: nano-dollars for a million tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct LongPrice {
    /// The step, in tokens of input.
    pub above: u64,
    pub input: u64,
    pub output: u64,
    pub cached_input: Option<u64>,
    pub cache_write: Option<u64>,
    pub cache_write_1h: Option<u64>,
}

/// A class of service with a price of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PriceTier {
    /// The default.
    Standard,
    /// Slower and cheaper.
    Flex,
    /// Within a day, and cheaper.
    Batch,
    /// Faster and dearer: `priority`, `fast`, Anthropic's `speed: fast`.
    Fast,
    /// OpenAI's fastest.
    Ultrafast,
}

impl Price {
    /// A row with these prices of input and output, in nano-dollars for a million tokens, and no others.
    pub fn new(model: Glob, input: u64, output: u64) -> Self {
        Self {
            model,
            tier: None,
            input,
            output,
            cached_input: None,
            cache_write: None,
            cache_write_1h: None,
            audio_input: None,
            audio_output: None,
            image_input: None,
            image_output: None,
            web_search: None,
            file_search: None,
            grounding: None,
            code_container: None,
            audio_second: None,
            long: None,
        }
    }
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
    tier: Option<W<PriceTier>>,
    input: Option<W<Usd>>,
    output: Option<W<Usd>>,
    cached_input: Option<W<Usd>>,
    cache_write: Option<W<Usd>>,
    cache_write_1h: Option<W<Usd>>,
    audio_input: Option<W<Usd>>,
    audio_output: Option<W<Usd>>,
    image_input: Option<W<Usd>>,
    image_output: Option<W<Usd>>,
    web_search: Option<W<Usd>>,
    file_search: Option<W<Usd>>,
    grounding: Option<W<Usd>>,
    code_container: Option<W<Usd>>,
    audio_minute: Option<W<Usd>>,
    long: Option<WrittenLong>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLong {
    above: Option<W<Count>>,
    input: Option<W<Usd>>,
    output: Option<W<Usd>>,
    cached_input: Option<W<Usd>>,
    cache_write: Option<W<Usd>>,
    cache_write_1h: Option<W<Usd>>,
}

words! {
    PriceTier: "standard" => Self::Standard, "flex" => Self::Flex, "batch" => Self::Batch, "fast" => Self::Fast, "ultrafast" => Self::Ultrafast;
    Metering: "exact" => Self::Exact, "as_sent" => Self::AsSent;
}

const METERING: Kind = Kind::Scalar(&Scalar::new::<Metering>("`exact` or `as_sent`", Json::Words(&["exact", "as_sent"]), "exact"));

const TIER: Kind =
    Kind::Scalar(&Scalar::new::<PriceTier>("a class of service", Json::Words(&["standard", "flex", "batch", "fast", "ultrafast"]), "flex"));
/// The path of a file with prices.
const PRICE_FILE: Kind = Kind::Scalar(&Scalar::new::<PathBuf>("the path of a file", Json::Text, "prices.yaml"));

/// A dollar amount of a row.
const fn dollars(name: &'static str, doc: &'static str) -> Key {
    Key::new(name, DOLLARS, doc).within("0", "1000000")
}

static LONG: Table = Table::new(
    "long",
    "The prices of a whole answer with a long context, in US dollars per million tokens.",
    &[
        Key::new("above", COUNT_OF, "The most tokens of input, cached or not, that are no long context.")
            .within("1", "1G")
            .required()
            .eg("200k"),
        dollars("input", "Input tokens.").required().eg("0.30"),
        dollars("output", "Output tokens.").required().eg("0.90"),
        dollars("cached_input", "Input tokens the provider had cached.").says("as `input`").eg("0.15"),
        dollars("cache_write", "Input tokens written to the provider's cache.").says("as `input`").eg("0.375"),
        dollars("cache_write_1h", "The same, kept for long.").says("as `cache_write`").eg("0.60"),
    ],
);

pub(in crate::config) static TABLE: Table = Table::new(
    "price",
    "What a model costs, in US dollars per million tokens; overrides or extends the built-in table (`outrigger prices`).",
    &[
        Key::new("model", MODEL, "Model names; `*` is any run of characters.").required().eg("\"house-*\""),
        Key::new("tier", TIER, "The class of service that the row is for. Classes without a row cost the model's `standard` row times the factor of the built-in table: half for `flex` and `batch`, mostly twice for `fast`, six times for `ultrafast`.")
            .says("`standard`")
            .eg("flex"),
        dollars("input", "Input tokens.").required().eg("0.15"),
        dollars("output", "Output tokens.").required().eg("0.60"),
        dollars("cached_input", "Input tokens the provider had cached.").says("as `input`").eg("0.075"),
        dollars("cache_write", "Input tokens written to the provider's cache.").says("as `input`").eg("0.1875"),
        dollars("cache_write_1h", "The same, kept for long: an hour at Anthropic, twelve hours at OpenAI.")
            .says("as `cache_write`")
            .eg("0.30"),
        dollars("audio_input", "Input tokens of sound.").says("as `input`").eg("10"),
        dollars("audio_output", "Output tokens of sound.").says("as `output`").eg("20"),
        dollars("image_input", "Input tokens of pictures.").says("as `input`").eg("10"),
        dollars("image_output", "Output tokens of pictures.").says("as `output`").eg("40"),
        dollars("web_search", "A thousand searches of the web by the provider.").says("as in the built-in table, else 10").eg("10"),
        dollars("file_search", "A thousand searches of files at the provider.").says("as in the built-in table, else 2.5").eg("2.5"),
        dollars("grounding", "A thousand of Google's searches: queries, or answers for Gemini 2.")
            .says("as in the built-in table, else 14")
            .eg("14"),
        dollars("code_container", "One container in which the provider runs code.").within("0", "1000").says("as in the built-in table, else 0.03").eg("0.03"),
        dollars("audio_minute", "A minute of sound, where the answer tells its length and no tokens.").says("as in the built-in table, else 0").eg("0.006"),
        Key::new("long", Kind::Table(&LONG), "The prices of a long context.")
            .says("as much dearer as the model's long context in the built-in table, else none")
            .eg("{above: 200k, input: 0.30, output: 0.90}"),
    ],
);

/// The row of `prices_file`.
pub(in crate::config) const FILE_KEY: Key = Key::new(
    "prices_file",
    PRICE_FILE,
    "A YAML file with a list of such prices, read again with the configuration. A price in `prices` wins over one in the file.",
)
.eg("prices.yaml");

/// The row of `metering`.
pub(in crate::config) const METERING_KEY: Key = Key::new("metering", METERING, "`exact`: streams are asked for their usage, and what the app did not ask for is taken out again. `as_sent`: calls go out as they came, and a stream without usage is estimated.")
            .default("exact");

/// The prices of `outbound.prices`, then those of the file. A row of the file goes if `outbound.prices` has its model and tier.
pub(in crate::config) fn build(build: &mut Build<'_>, written: Items<Written>, file: Option<&Path>) -> Vec<Price> {
    let mut out: Vec<Price> = Vec::new();
    for (n, price) in written.into_iter().enumerate().filter_map(|(n, price)| Some((n, meaning(price?)?))) {
        if out.iter().any(|other| is_same(other, &price)) {
            let at = build.seen.value(&format!("outbound.prices[{n}].model"));
            build.fault(at, format!("there is already a price for {}", quoted(price.model.as_str())));
        }
        out.push(price);
    }
    let Some(file) = file else { return out };
    let own = out.len();
    for price in rows(build, file).into_iter().filter_map(meaning) {
        if out[own..].iter().any(|other| is_same(other, &price)) {
            let at = build.seen.value("outbound.prices_file");
            let (shown, model) = (build.files.path(file).display().to_string(), quoted(price.model.as_str()));
            build.fault(at, format!("`{shown}` has two prices for {model}"));
        }
        if !out[..own].iter().any(|other| is_same(other, &price)) {
            out.push(price);
        }
    }
    out
}

fn is_same(one: &Price, other: &Price) -> bool {
    let tier = |price: &Price| price.tier.filter(|tier| *tier != PriceTier::Standard);
    one.model == other.model && tier(one) == tier(other)
}

/// The rows of a file of prices. A mistake in it is a mistake of the configuration, with its place in the file.
fn rows(build: &mut Build<'_>, file: &Path) -> Vec<Written> {
    static ROWS: Kind = Kind::List(&Kind::Table(&TABLE));
    static KEY: Key = Key::new("prices", Kind::List(&Kind::Table(&TABLE)), "Prices.");
    let at = build.seen.value("outbound.prices_file");
    let shown = build.files.path(file).display().to_string();
    let text = build.files.read(file, MAX_FILE).and_then(|text| String::from_utf8(text).map_err(|_| format!("`{shown}` is not UTF-8")));
    let read = text.map_err(|why| vec![why]).and_then(|text| {
        let said = |fault: Fault| format!("`{shown}`, line {}, column {}: {}", fault.at.line, fault.at.column, fault.message);
        rows_of::<Items<Written>>(&text, &ROWS, &KEY, build.env).map_err(|faults| faults.into_iter().map(said).collect())
    });
    match read {
        Ok(rows) => rows.into_iter().flatten().collect(),
        Err(faults) => {
            faults.into_iter().for_each(|fault| build.fault(at, fault));
            Vec::new()
        }
    }
}

/// A row's meaning: nano-dollars, exactly as written. `None`: the walk has reported what is missing.
fn meaning(price: Written) -> Option<Price> {
    let nano = |usd: Option<W<Usd>>| usd.map(|usd| usd.0.0);
    Some(Price {
        model: price.model?.0,
        tier: price.tier.map(|tier| tier.0),
        input: price.input?.0.0,
        output: price.output?.0.0,
        cached_input: nano(price.cached_input),
        cache_write: nano(price.cache_write),
        cache_write_1h: nano(price.cache_write_1h),
        audio_input: nano(price.audio_input),
        audio_output: nano(price.audio_output),
        image_input: nano(price.image_input),
        image_output: nano(price.image_output),
        web_search: nano(price.web_search),
        file_search: nano(price.file_search),
        grounding: nano(price.grounding),
        code_container: nano(price.code_container).map(|each| each.saturating_mul(1_000)),
        // Rounded up, so that a limit never admits more than its money.
        audio_second: nano(price.audio_minute).map(|minute| minute.div_ceil(60)),
        long: price.long.and_then(long),
    })
}

fn long(price: WrittenLong) -> Option<LongPrice> {
    let nano = |usd: Option<W<Usd>>| usd.map(|usd| usd.0.0);
    Some(LongPrice {
        above: price.above?.0.0,
        input: price.input?.0.0,
        output: price.output?.0.0,
        cached_input: nano(price.cached_input),
        cache_write: nano(price.cache_write),
        cache_write_1h: nano(price.cache_write_1h),
    })
}

#[cfg(test)]
mod tests {
    use super::PriceTier;
    use crate::config::testing::{bad, good, says};

    #[test]
    fn prices_are_exact_nano_dollars_for_a_million_tokens() {
        let config = good(
            "outbound: {providers: {openai: {}}, prices: [{model: \"m-*\", input: 0.15, output: 0.0375, code_container: 0.03, audio_minute: 0.006}]}\n",
        );
        let price = &config.outbound.expect("open").prices[0];
        assert_eq!((price.input, price.output, price.cached_input), (150_000_000, 37_500_000, None));
        assert_eq!((price.code_container, price.audio_second), (Some(30_000_000_000), Some(100_000)));
    }

    #[test]
    fn a_tier_is_a_row_of_its_own() {
        let rows = "[{model: m, input: 1, output: 2}, {model: m, tier: flex, input: 0.5, output: 1}]";
        let config = good(&format!("outbound: {{providers: {{openai: {{}}}}, prices: {rows}}}\n"));
        assert_eq!(config.outbound.expect("open").prices[1].tier, Some(PriceTier::Flex));
        let twice = "[{model: m, input: 1, output: 1}, {model: m, tier: standard, input: 2, output: 1}]";
        says(&format!("outbound: {{providers: {{openai: {{}}}}, prices: {twice}}}\n"), "1:87", "already a price for `m`");
        says(
            "outbound: {providers: {openai: {}}, prices: [{model: m, tier: fats, input: 1, output: 1}]}\n",
            "1:63",
            "did you mean `fast`?",
        );
    }

    #[test]
    fn a_file_of_prices_is_read_and_its_mistakes_have_their_place() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("prices.yaml");
        let config = format!(
            "outbound: {{providers: {{openai: {{}}}}, prices: [{{model: m, input: 1, output: 1}}], prices_file: '{}'}}\n",
            path.display()
        );
        std::fs::write(&path, "- {model: m, input: 9, output: 9}\n- {model: n, input: 3, output: 4}\n").expect("written");
        let prices = good(&config).outbound.expect("open").prices;
        let seen: Vec<_> = prices.iter().map(|price| (price.model.as_str(), price.input)).collect();
        assert_eq!(seen, [("m", 1_000_000_000), ("n", 3_000_000_000)], "the row in proxy.yaml wins");
        for (text, part) in [
            ("- {model: n, input: 3}\n", "line 1, column 3: "),
            ("- {model: n, input: 3, output: 4}\n- {model: n, input: dear, output: 4}\n", "line 2, column 21: input: `dear`"),
            ("- {model: n, input: 3, output: 4}\n- {model: n, input: 3, output: 4}\n", "two prices for `n`"),
            ("inbound: {}\n", "line 1"),
        ] {
            std::fs::write(&path, text).expect("written");
            let said = bad(&config);
            assert!(said.len() == 1 && said[0].contains(part), "{text}: {said:#?}");
        }
        std::fs::remove_file(&path).expect("removed");
        assert!(bad(&config)[0].contains("cannot read"));
    }

    #[test]
    fn a_model_has_one_price() {
        let prices = "[{model: m, input: 1, output: 1}, {model: m, input: 2, output: 1}]";
        says(&format!("outbound: {{providers: {{openai: {{}}}}, prices: {prices}}}\n"), "1:87", "already a price for `m`");
    }
}
