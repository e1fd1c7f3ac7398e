//! An answer of the ledger as a table for people, and as CSV.

use serde_json::Value;

use super::{csv, dimensions, rows_of, tokens};
use crate::config::human;

/// Columns of sums in CSV.
const SUMS: [&str; 5] = ["calls", "cost_usd", "saved_usd", "saved_tokens", "unpriced_calls"];

/// As a table: the largest spenders first, or in the order of time.
pub fn text(page: &Value, in_time: bool) -> String {
    let dims = dimensions(page);
    let mut rows: Vec<&Value> = rows_of(page).iter().collect();
    if !in_time {
        rows.sort_by_key(|row| std::cmp::Reverse((nano(&row["cost_usd"]), row["calls"].as_u64())));
    }
    let mut head: Vec<&str> = if in_time { vec!["from"] } else { Vec::new() };
    head.extend(&dims);
    let names = head.len();
    head.extend(["calls", "tokens", "cost usd", "saved usd"]);
    let cells = |row: &Value| -> Vec<String> {
        // Clients choose names: no character of them may control a terminal.
        let word = |key: &&str| match row[*key].as_str().unwrap_or_default() {
            "" => "-".to_owned(),
            text => text.replace(|c: char| c.is_control(), "?"),
        };
        let sums = [
            human::grouped(row["calls"].as_u64().unwrap_or(0)),
            human::grouped(tokens(row)),
            dollars(&row["cost_usd"]),
            dollars(&row["saved_usd"]),
        ];
        head[..names].iter().map(word).chain(sums).collect()
    };
    let mut lines: Vec<Vec<String>> = rows.into_iter().map(cells).collect();
    let mut total = vec![String::new(); names];
    if let Some(first) = total.first_mut() {
        *first = "all".to_owned();
    }
    total.extend(cells(&page["total"]).into_iter().skip(names));
    lines.push(total);
    let head: Vec<String> = head.iter().map(|word| (*word).to_owned()).collect();
    let mut text = aligned(std::iter::once(&head).chain(&lines), names);
    text += &how(page);
    text
}

fn aligned<'a>(lines: impl Iterator<Item = &'a Vec<String>> + Clone, names: usize) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for line in lines.clone() {
        widths.resize(widths.len().max(line.len()), 0);
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in lines {
        for (at, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let pad = " ".repeat(width - cell.chars().count());
            text += &if at < names { format!("{cell}{pad}  ") } else { format!("{pad}{cell}  ") };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// How the figures are known, and what the answer lacks.
fn how(page: &Value) -> String {
    let known = page["known"].as_object().into_iter().flatten().filter(|(_, sums)| sums["calls"].as_u64() > Some(0));
    let known: Vec<String> = known
        .map(|(word, sums)| {
            format!("{word} {} ({} calls)", dollars(&sums["cost_usd"]), human::grouped(sums["calls"].as_u64().unwrap_or(0)))
        })
        .collect();
    let mut text = format!("\n{} to {}", page["from"].as_str().unwrap_or_default(), page["to"].as_str().unwrap_or_default());
    if !known.is_empty() {
        text += &format!("; known: {}", known.join(", "));
    }
    text.push('\n');
    if let Some(unpriced) = page["total"]["unpriced_calls"].as_u64().filter(|calls| *calls > 0) {
        text += &format!("{} calls have no price: they count as nothing\n", human::grouped(unpriced));
    }
    for gap in page["gaps"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        text += &format!("not complete: {gap}\n");
    }
    text
}

/// As CSV, one line a row, with exact figures.
pub fn csv(page: &Value) -> String {
    let dims = dimensions(page);
    let mut classes: Vec<&str> = page["total"]["tokens"].as_object().into_iter().flatten().map(|(class, _)| class.as_str()).collect();
    classes.sort_unstable();
    let tokens: Vec<String> = classes.iter().map(|class| format!("tokens_{class}")).collect();
    let head = ["from", "to"].into_iter().chain(dims.iter().copied()).chain(SUMS).chain(tokens.iter().map(String::as_str));
    let mut text = csv::line(head);
    for row in rows_of(page) {
        let plain = |value: &Value| value.as_str().map_or_else(|| value.as_u64().unwrap_or(0).to_string(), str::to_owned);
        let words = ["from", "to"].into_iter().chain(dims.iter().copied()).chain(SUMS).map(|key| plain(&row[key]));
        let cells: Vec<String> = words.chain(classes.iter().map(|class| plain(&row["tokens"][*class]))).collect();
        text += &csv::line(cells.iter().map(String::as_str));
    }
    text
}

fn nano(dollars: &Value) -> u128 {
    dollars.as_str().and_then(|text| text.replace('.', "").parse().ok()).unwrap_or(0)
}

/// Dollars for people: to the hundredth of a cent; exact where the rounded amount would be 0.
fn dollars(value: &Value) -> String {
    let text = value.as_str().unwrap_or("0.000000000");
    let short = &text[..text.len().saturating_sub(5)];
    if nano(value) > 0 && short.chars().all(|c| c == '0' || c == '.') { text.to_owned() } else { short.to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn page() -> Value {
        let row = |caller: &str, calls: u64, cost: &str| {
            json!({"from": "a", "to": "b", "caller": caller, "calls": calls, "cost_usd": cost, "saved_usd": "0.000000000",
                   "saved_tokens": 0, "unpriced_calls": 0, "tokens": {"input": 1_000, "output": 5, "reasoning": 3}})
        };
        json!({"from": "2026-11-29T00:00:00Z", "to": "2026-11-30T00:00:00Z", "by": ["caller"], "complete": false, "gaps": ["a gap"],
               "known": {"reported": {"calls": 3, "cost_usd": "12.500000001"}, "counted": {"calls": 0, "cost_usd": "0.000000000"}},
               "total": row("", 3, "12.500000001"), "rows": [row("small", 1, "0.000000001"), row("large\u{1b}", 2, "12.500000000")]})
    }

    #[test]
    fn the_largest_spender_comes_first_and_what_lacks_is_said() {
        let text = text(&page(), false);
        let lines: Vec<String> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines,
            [
                "caller calls tokens cost usd saved usd",
                "large? 2 1,005 12.5000 0.0000",
                "small 1 1,005 0.000000001 0.0000",
                "all 3 1,005 12.5000 0.0000",
                "",
                "2026-11-29T00:00:00Z to 2026-11-30T00:00:00Z; known: reported 12.5000 (3 calls)",
                "not complete: a gap",
            ]
        );
    }

    #[test]
    fn csv_has_every_figure() {
        let text = csv(&page());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "from,to,caller,calls,cost_usd,saved_usd,saved_tokens,unpriced_calls,tokens_input,tokens_output,tokens_reasoning"
        );
        assert_eq!(lines[1], "a,b,small,1,0.000000001,0.000000000,0,0,1000,5,3");
    }
}
