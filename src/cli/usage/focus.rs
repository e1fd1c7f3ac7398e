//! Rows of FOCUS v1.2, the FinOps Open Cost and Usage Specification (focus.finops.org), as CSV: every mandatory column, and columns of our
//! own that begin with `x_`.
//!
//! A row is the cost of one caller's calls on one route to one model in one day. Costs are list prices: billed, effective, contracted
//! and list cost are the same figure, because the proxy knows no discount. The priced amount is tokens. A row without tokens is
//! priced by requests.

use serde_json::Value;

use super::{csv, rows_of, tokens};

/// The dimensions of a row.
pub const BY: &str = "caller,inbound,outbound,provider,model,tier,known";

/// The mandatory columns of the specification, in the order of the alphabet, then recommended ones and our own.
const COLUMNS: [&str; 33] = [
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ContractedCost",
    "EffectiveCost",
    "InvoiceIssuerName",
    "ListCost",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "ServiceCategory",
    "ServiceName",
    "ChargeFrequency",
    "ConsumedQuantity",
    "ConsumedUnit",
    "InvoiceId",
    "ServiceSubcategory",
    "x_Caller",
    "x_InboundRoute",
    "x_OutboundRoute",
    "x_Model",
    "x_Tier",
    "x_Known",
    "x_Calls",
];

/// The answer as rows. Rows that cost nothing and used nothing are left out: nobody is charged for them.
pub fn rows(page: &Value, account: &str, invoice: &str) -> String {
    let mut text = csv::line(COLUMNS);
    for row in rows_of(page) {
        let cost = row["cost_usd"].as_str().unwrap_or("0.000000000");
        let used = tokens(row);
        if used == 0 && cost.chars().all(|c| c == '0' || c == '.') {
            continue;
        }
        let word = |key: &str| row[key].as_str().unwrap_or_default();
        let or = |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
        let (quantity, unit) = if used > 0 { (used, "Tokens") } else { (row["calls"].as_u64().unwrap_or(0), "Requests") };
        // A decimal, as the specification wants it.
        let quantity = format!("{quantity}.0");
        let (begin, end) = month(word("from"));
        let provider = or(word("provider"), "unknown");
        let model = or(word("model"), "unknown");
        let cells = [
            cost.to_owned(),
            account.to_owned(),
            String::new(),
            "USD".to_owned(),
            end,
            begin,
            "Usage".to_owned(),
            String::new(),
            format!("{model} for {}", or(word("caller"), "unattributed")),
            word("to").to_owned(),
            word("from").to_owned(),
            cost.to_owned(),
            cost.to_owned(),
            provider.clone(),
            cost.to_owned(),
            quantity.clone(),
            unit.to_owned(),
            provider.clone(),
            provider.clone(),
            "AI and Machine Learning".to_owned(),
            format!("{provider} API"),
            "Usage-Based".to_owned(),
            quantity,
            unit.to_owned(),
            invoice.to_owned(),
            "Generative AI".to_owned(),
            word("caller").to_owned(),
            word("inbound").to_owned(),
            word("outbound").to_owned(),
            model,
            or(word("tier"), "default"),
            word("known").to_owned(),
            row["calls"].as_u64().unwrap_or(0).to_string(),
        ];
        debug_assert_eq!(cells.len(), COLUMNS.len());
        text += &csv::line(cells.iter().map(String::as_str));
    }
    text
}

/// The begin of the month of a time in UTC, and that of the next month.
fn month(time: &str) -> (String, String) {
    let part = |range: std::ops::Range<usize>| time.get(range).and_then(|digits| digits.parse::<u32>().ok());
    let (Some(year), Some(month)) = (part(0..4), part(5..7)) else { return (time.to_owned(), time.to_owned()) };
    let next = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    (format!("{year:04}-{month:02}-01T00:00:00Z"), format!("{:04}-{:02}-01T00:00:00Z", next.0, next.1))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_has_every_column_and_a_call_that_cost_nothing_is_none() {
        let row = |cost: &str, tokens: Value| {
            json!({"from": "2026-12-31T00:00:00Z", "to": "2027-01-01T00:00:00Z", "caller": "u, 1", "inbound": "/chat", "outbound": "chat",
                   "provider": "openai", "model": "gpt-4o", "tier": "", "known": "reported", "calls": 3, "cost_usd": cost, "tokens": tokens})
        };
        let page = json!({"rows": [row("0.250000000", json!({"input": 7, "reasoning": 3})), row("0.000000000", json!({})), row("1.000000000", json!({}))]});
        let text = rows(&page, "acct", "INV-7");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(
            lines[1],
            "0.250000000,acct,,USD,2027-01-01T00:00:00Z,2026-12-01T00:00:00Z,Usage,,\"gpt-4o for u, 1\",2027-01-01T00:00:00Z,\
             2026-12-31T00:00:00Z,0.250000000,0.250000000,openai,0.250000000,7.0,Tokens,openai,openai,AI and Machine Learning,openai API,\
             Usage-Based,7.0,Tokens,INV-7,Generative AI,\"u, 1\",/chat,chat,gpt-4o,default,reported,3"
        );
        assert!(lines[2].contains(",3.0,Requests,"), "{}", lines[2]);
        assert!(COLUMNS[..21].is_sorted());
    }
}
