//! `outrigger prices`: the prices that hold, and what would be charged for a usage record or an answer, line by line.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::said::{Failure, Said};
use crate::{
    config::{Api, Operation, Price, human, read},
    http1::{Fields, Id},
    provider::{
        Meter, Observed, Prices,
        price::{Line, Receipt, Row, usd},
    },
    usage::{Terms, Tier, UsageSource},
};

/// Bytes of the largest answer that is read.
const MOST: u64 = 64 << 20;

/// What `prices` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct PricesArgs {
    /// A model: its rows alone, the deciding one first.
    #[arg(conflicts_with = "usage")]
    model: Option<String>,
    /// The configuration file whose prices win; `proxy.yaml` in this directory, if there is one.
    #[arg(long, short, env = "OUTRIGGER_CONFIG")]
    config: Option<PathBuf>,
    /// A file with a usage record or a whole answer, streamed or not; `-` reads standard input. Says what would be charged for it.
    #[arg(long, value_name = "FILE", requires = "api")]
    usage: Option<PathBuf>,
    /// The wire format of the answer.
    #[arg(long, value_parser = ["openai", "anthropic", "gemini", "bedrock"])]
    api: Option<String>,
    /// What was called [default: as the answer looks].
    #[arg(long, value_parser = ["chat", "completions", "responses", "embeddings", "images", "audio", "messages"])]
    operation: Option<String>,
    /// The model that was asked for; needed where the answer does not name one.
    #[arg(long = "model", value_name = "MODEL", id = "asked")]
    asked: Option<String>,
    /// The tier that was asked for; the answer's own wins.
    #[arg(long, value_parser = ["standard", "flex", "batch", "fast", "ultrafast"])]
    tier: Option<String>,
}

/// `outrigger prices`.
///
/// # Errors
/// The configuration has mistakes, the file cannot be read or states no usage, or the model has no price.
pub fn said(args: &PricesArgs) -> Result<Said, Failure> {
    let prices = Prices::new(&configured(args.config.as_deref())?);
    match &args.usage {
        None => listed(&prices, args.model.as_deref()),
        Some(file) => charged(&prices, args, &content(file)?),
    }
}

/// The prices of the configuration; none without a file.
pub(super) fn configured(file: Option<&Path>) -> Result<Vec<Price>, Failure> {
    let usual = Path::new("proxy.yaml");
    let Some(file) = file.or_else(|| usual.exists().then_some(usual)) else { return Ok(Vec::new()) };
    let config = read::load(file, &read::Overrides::default(), &|name| std::env::var(name).ok())?;
    Ok(config.outbound.map(|outbound| outbound.prices).unwrap_or_default())
}

fn content(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = match file.as_os_str() == "-" {
        true => std::io::stdin().take(MOST + 1).read_to_end(&mut bytes),
        false => std::fs::File::open(file).and_then(|file| file.take(MOST + 1).read_to_end(&mut bytes)),
    };
    let shown = file.display();
    read.map_err(|error| format!("cannot read `{shown}`: {error}"))?;
    if bytes.len() as u64 > MOST {
        return Err(format!("`{shown}` is larger than 64MiB").into());
    }
    Ok(bytes)
}

/// The rows, as a table.
fn listed(prices: &Prices, model: Option<&str>) -> Result<Said, Failure> {
    let mut rows = prices.rows(model);
    if model.is_none() {
        // The operator's rows first, then page by page.
        rows.sort_by(|one, other| (one.as_of, one.source, &one.model).cmp(&(other.as_of, other.source, &other.model)));
    }
    if let (Some(model), true) = (model, rows.is_empty()) {
        return Err(unpriced(model));
    }
    let mut text = "US dollars for a million tokens; fees for a thousand units.\n".to_owned();
    let width = rows.iter().map(|row| row.model.chars().count()).max().unwrap_or(0).max(5);
    text += &format!("{:<width$} {:>9} {:>9} {:>9} {:>9} {:>9}  more\n", "model", "input", "cached", "write", "long", "output");
    for row in &rows {
        text += &row_text(row, width);
    }
    Ok(Said::new(json!({ "prices": rows.iter().map(Row::to_json).collect::<Vec<_>>() }), text))
}

fn row_text(row: &Row, width: usize) -> String {
    let short = |rates: &[u64]| rates[..5].iter().map(|rate| format!("{:>9}", human::usd(*rate))).collect::<Vec<_>>().join(" ");
    let mut more: Vec<String> = Vec::new();
    if !row.tier.is_empty() {
        more.push(format!("tier {}", row.tier));
    }
    // Sound and pictures cost the same as text unless the row says so.
    let [input, cached, .., output] = [row.rates[0], row.rates[1], row.rates[2], row.rates[4]];
    for (what, [own_input, own_cached, own_output]) in
        [("sound", [row.rates[5], row.rates[6], row.rates[7]]), ("pictures", [row.rates[8], row.rates[9], row.rates[10]])]
    {
        if [own_input, own_cached, own_output] != [input, cached, output] {
            more.push(format!("{what} {}/{}/{}", human::usd(own_input), human::usd(own_cached), human::usd(own_output)));
        }
    }
    if let Some((above, long)) = &row.long {
        more.push(format!("above {above} in: {}/{}/{}", human::usd(long[0]), human::usd(long[1]), human::usd(long[4])));
    }
    more.extend(row.factors.iter().map(|(name, factor)| format!("{name} x{factor}")));
    more.extend(row.fees.iter().map(|(name, fee)| format!("{name} {}", human::usd(*fee))));
    more.push(format!("{} {}", row.source, row.as_of).trim_end().to_owned());
    format!("{:<width$} {}  {}\n", row.model, short(&row.rates), more.join("; "))
}

/// What would be charged for an answer.
fn charged(prices: &Prices, args: &PricesArgs, text: &[u8]) -> Result<Said, Failure> {
    let mut observed = observed(args, text)?;
    let tier = Tier::ALL.into_iter().find(|tier| Some(tier.as_str()) == args.tier.as_deref());
    observed.terms = observed.terms.or(Terms { tier: tier.unwrap_or_default(), ..Terms::default() });
    let asked = args.asked.as_deref();
    let Some(model) = observed.model.clone().or_else(|| args.asked.clone()) else {
        return Err("the answer does not name its model: say it with --model".to_owned().into());
    };
    let receipt = prices.receipt(asked, &observed).ok_or_else(|| unpriced(&model))?;
    let (tier, source) = (observed.terms.tier.as_str(), observed.source.as_str());
    let mut json = receipt.to_json();
    json["model"] = Value::from(model);
    json["tier"] = Value::from(tier);
    json["regional"] = Value::from(observed.terms.regional);
    json["source"] = Value::from(source);
    Ok(Said::new(json, receipt_text(&receipt, &observed)))
}

fn receipt_text(receipt: &Receipt, observed: &Observed) -> String {
    let width = receipt.lines.iter().map(|line| line.model.chars().count()).max().unwrap_or(0).max(5);
    let mut text = format!("{:<width$} {:<18} {:>12} {:>22} {:>20}  rule\n", "model", "what", "quantity", "dollars for", "dollars");
    for line in &receipt.lines {
        text += &line_text(line, width);
    }
    let how = match observed.source {
        UsageSource::Provider => "as the provider states it",
        _ => "estimated: the provider states no final figures",
    };
    text + &format!("{:<width$} {:<18} {:>12} {:>22} {:>20}  {how}\n", "total", "", "", "", usd(receipt.nano_usd))
}

fn line_text(line: &Line, width: usize) -> String {
    let per = format!("{} / {}", human::usd(line.rate), if line.is_fee { "1000" } else { "million" });
    // An answer names its model: no character of it may control a terminal.
    let model = line.model.replace(|c: char| c.is_control(), "?");
    format!("{model:<width$} {:<18} {:>12} {per:>22} {:>20}  {}\n", line.what, line.quantity, line.usd(), line.rule)
}

/// The meter's reading of an answer, else of a usage record alone.
fn observed(args: &PricesArgs, text: &[u8]) -> Result<Observed, Failure> {
    let api = match args.api.as_deref() {
        Some("anthropic") => Api::Anthropic,
        Some("gemini") => Api::Gemini,
        Some("bedrock") => Api::Bedrock,
        _ => Api::OpenAi,
    };
    let operation = args.operation.as_deref().and_then(operation).unwrap_or_else(|| looks(api, text));
    let mut headers = Fields::new();
    let is_json_or_text = text.trim_ascii_start().first().is_none_or(|byte| matches!(byte, b'{' | b'[' | b'd' | b'e' | b':'));
    if api == Api::Bedrock && !is_json_or_text {
        headers.insert(Id::ContentType, "application/vnd.amazon.eventstream");
    }
    let meter = |text: &[u8]| {
        let mut meter = Meter::new(api, operation, &headers);
        meter.feed(text);
        meter.finish(true, 0)
    };
    let seen = meter(text);
    if seen.source == UsageSource::Provider {
        return Ok(seen);
    }
    let member = if api == Api::Gemini { "usageMetadata" } else { "usage" };
    let wrapped = [format!("{{\"{member}\":").as_bytes(), text, b"}"].concat();
    let record = meter(&wrapped);
    match (record.source, seen.source, seen.error) {
        (UsageSource::Provider, ..) => Ok(record),
        (_, _, Some(error)) => Err(format!("this is an error ({}), which costs nothing", error.as_str()).into()),
        (_, UsageSource::Estimated, _) => Ok(seen),
        _ => Err("this is neither an answer nor a usage record of the API that --api names".to_owned().into()),
    }
}

fn operation(word: &str) -> Option<Operation> {
    Some(match word {
        "chat" => Operation::Chat,
        "completions" => Operation::Completions,
        "responses" => Operation::Responses,
        "embeddings" => Operation::Embeddings,
        "images" => Operation::Images,
        "audio" => Operation::Audio,
        "messages" => Operation::Messages,
        _ => return None,
    })
}

/// The operation whose answer the text looks like.
fn looks(api: Api, text: &[u8]) -> Operation {
    let has = |word: &[u8]| memchr::memmem::find(text, word).is_some();
    match api {
        Api::Anthropic => Operation::Messages,
        Api::OpenAi if has(b"\"response\"") || has(b"response.completed") => Operation::Responses,
        Api::OpenAi if has(b"\"embedding\"") => Operation::Embeddings,
        Api::OpenAi if has(b"\"b64_json\"") => Operation::Images,
        Api::OpenAi if has(b"\"duration\"") || has(b"transcript.text") => Operation::Audio,
        _ => Operation::Chat,
    }
}

fn unpriced(model: &str) -> Failure {
    format!("`{model}` has no price: write one under `outbound.prices`").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(api: &str, asked: Option<&str>) -> PricesArgs {
        PricesArgs {
            model: None,
            config: None,
            usage: None,
            api: Some(api.to_owned()),
            operation: None,
            asked: asked.map(str::to_owned),
            tier: None,
        }
    }

    #[test]
    fn a_record_or_an_answer_line_by_line() {
        let prices = Prices::new(&[]);
        for (api, asked, text, usd) in [
            (
                "openai",
                Some("gpt-4o"),
                r#"{"prompt_tokens":1000,"completion_tokens":10,"prompt_tokens_details":{"cached_tokens":400}}"#,
                "0.002100000",
            ),
            (
                "openai",
                None,
                r#"{"object":"response","model":"gpt-5-nano","service_tier":"flex","usage":{"input_tokens":1001,"output_tokens":1,"input_tokens_details":{"cached_tokens":1}}}"#,
                "0.000025203",
            ),
            ("anthropic", Some("claude-sonnet-4-6"), r#"{"input_tokens":10,"output_tokens":10,"inference_geo":"us"}"#, "0.000198000"),
            (
                "gemini",
                Some("gemini-2.5-flash"),
                r#"{"promptTokenCount":100,"candidatesTokenCount":10,"totalTokenCount":110}"#,
                "0.000055000",
            ),
            ("bedrock", Some("eu.anthropic.claude-haiku-4-5-v1:0"), r#"{"inputTokens":100,"outputTokens":10}"#, "0.000150000"),
            ("openai", Some("whisper-1"), r#"{"text":"hi","usage":{"type":"duration","seconds":90}}"#, "0.009000000"),
        ] {
            let said = charged(&prices, &args(api, asked), text.as_bytes()).unwrap_or_else(|failure| panic!("{text}: {failure}"));
            let json = said.json.expect("a document");
            assert_eq!((json["usd"].as_str(), json["source"].as_str()), (Some(usd), Some("provider")), "{text}: {json:#}");
        }
        let said = charged(&prices, &args("openai", Some("gpt-5-nano")), br#"{"prompt_tokens":3,"completion_tokens":1}"#).expect("priced");
        assert!(said.text.contains("0.000000150  list price 2026-11"), "{}", said.text);
    }

    #[test]
    fn what_has_no_price_or_no_usage_says_so() {
        let prices = Prices::new(&[]);
        for (api, asked, text, part) in [
            ("openai", Some("unheard-of"), r#"{"prompt_tokens":3,"completion_tokens":1}"#, "`unheard-of` has no price"),
            ("openai", None, r#"{"prompt_tokens":3,"completion_tokens":1}"#, "--model"),
            ("openai", Some("gpt-4o"), "<html>", "neither an answer nor a usage record"),
            ("openai", Some("gpt-4o"), r#"{"error":{"message":"no","code":"rate_limit_exceeded"}}"#, "this is an error"),
        ] {
            let failure = charged(&prices, &args(api, asked), text.as_bytes()).expect_err(text);
            assert!(failure.to_string().contains(part), "{text}: {failure}");
        }
        assert!(listed(&prices, Some("unheard-of")).is_err());
        let said = listed(&prices, Some("openai/gpt-4o-2024-05-13")).expect("listed");
        assert!(said.text.lines().nth(2).is_some_and(|line| line.starts_with("gpt-4o-2024-05-13")), "{}", said.text);
    }
}
