//! `outrigger usage`: who has spent what, from the ledger of a running proxy; as a table, JSON, CSV, or FOCUS rows for finance.

mod csv;
mod focus;
mod table;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::{
    control::get,
    said::{Common, Failure, Said},
};

/// Characters of a value that are escaped in a query. `+` is not escaped: a question reads `+` as itself.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b':').remove(b'/').remove(b'+').remove(b',');

/// What `usage` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct UsageArgs {
    /// What the sums are told apart by: caller, inbound, outbound, provider, model, tier, outcome, known; several with commas.
    #[arg(long, default_value = "caller")]
    by: String,
    /// Its begin: a length of time before now (`24h`, `7d`), a date, or a date and time.
    #[arg(long, default_value = "24h", value_name = "TIME")]
    since: String,
    /// Its end, in the same words.
    #[arg(long, default_value = "now", value_name = "TIME")]
    until: String,
    /// Parts of time: minute, hour, day, week, month.
    #[arg(long)]
    bucket: Option<String>,
    /// Time zone of dates and parts: `Europe/Berlin`, `UTC`, `+02:00`.
    #[arg(long, default_value = "UTC")]
    tz: String,
    /// Only calls with this: `caller=u-17`, `model=gpt-4o`; given again for one dimension, any of them.
    #[arg(long = "where", value_name = "DIMENSION=NAME")]
    filters: Vec<String>,
    /// How it is written. `focus`: rows of FOCUS v1.2 as CSV, by day (UTC), provider, model and all else.
    #[arg(long, default_value = "table", value_parser = ["table", "json", "csv", "focus"])]
    format: String,
    /// FOCUS: the billing account at the provider.
    #[arg(long, default_value = "default", value_name = "ID")]
    account: String,
    /// FOCUS: the provider's invoice, once there is one.
    #[arg(long, default_value = "", value_name = "ID", hide_default_value = true)]
    invoice: String,
}

/// Most rows of one page.
const PAGE: usize = 2_000;

/// `outrigger usage`.
///
/// # Errors
/// The proxy cannot be reached, or the question is not valid.
pub async fn usage(common: &Common, args: UsageArgs) -> Result<Said, Failure> {
    let is_focus = args.format == "focus";
    // Every dimension that a row of costs shows; times of FOCUS are UTC.
    let by = if is_focus { focus::BY } else { &args.by };
    let bucket = if is_focus { Some(args.bucket.as_deref().unwrap_or("day")) } else { args.bucket.as_deref() };
    let mut query: Vec<(&str, &str)> = vec![("from", &args.since), ("to", &args.until), ("by", by)];
    query.extend(bucket.map(|bucket| ("bucket", bucket)));
    query.extend((!is_focus).then_some(("tz", args.tz.as_str())));
    for filter in &args.filters {
        let pair = filter.split_once('=').ok_or_else(|| format!("`--where {filter}`: write a dimension and a name, as caller=u-17"))?;
        query.push(pair);
    }
    let page = all_pages(common, &query).await?;
    let text = match &*args.format {
        "focus" => focus::rows(&page, &args.account, &args.invoice),
        "csv" => table::csv(&page),
        "json" => format!("{page:#}\n"),
        _ => table::text(&page, bucket.is_some()),
    };
    Ok(Said::new(page, text))
}

/// The answer with the rows of all its pages.
pub(super) async fn all_pages(common: &Common, query: &[(&str, &str)]) -> Result<Value, Failure> {
    let words: Vec<String> = query.iter().map(|(key, value)| format!("{}={}", escaped(key), escaped(value))).collect();
    let path = format!("/api/usage?{}&limit={PAGE}", words.join("&"));
    let mut page = get(common, &path).await?;
    while let Some(cursor) = page["cursor"].as_str().map(str::to_owned) {
        let mut next = get(common, &format!("{path}&cursor={cursor}")).await?;
        page["cursor"] = next["cursor"].take();
        if let (Some(rows), Value::Array(more)) = (page["rows"].as_array_mut(), next["rows"].take()) {
            rows.extend(more);
        }
    }
    Ok(page)
}

/// A word as a query string has it.
pub(super) fn escaped(word: &str) -> String {
    utf8_percent_encode(word, PLAIN).to_string()
}

pub(super) fn rows_of(page: &Value) -> &[Value] {
    page["rows"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn dimensions(page: &Value) -> Vec<&str> {
    page["by"].as_array().map(Vec::as_slice).unwrap_or_default().iter().filter_map(Value::as_str).collect()
}

/// Tokens of a row that cost: `reasoning` is a part of `output`.
fn tokens(row: &Value) -> u64 {
    let all = row["tokens"].as_object().into_iter().flatten();
    all.filter(|(class, _)| *class != "reasoning").filter_map(|(_, tokens)| tokens.as_u64()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_escaped_for_a_query() {
        assert_eq!(escaped("a&b=c d"), "a%26b%3Dc%20d");
        assert_eq!(escaped("+02:00"), "+02:00");
        assert_eq!(escaped("Europe/Berlin"), "Europe/Berlin");
    }
}
