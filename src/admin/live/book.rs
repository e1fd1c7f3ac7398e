//! The series that the viewers know, and the JSON of snapshots and ticks.
//!
//! A series gets a number when it is first seen. A snapshot has every series with its labels; a tick has the numbers of those whose
//! value has changed. Numbers are never used again while the book lives.
//!
//! ```text
//! snapshot: {"v":1, "at":ms, "up":s, "generation":n, "version":"..", "families":[[name, labels, bounds|null]..],
//!            "series":[[id, family, [label..], value]..], "minutes":[[s, requests, errors, ms, hits, lookups]..]}
//! tick:     {"at":ms, "up":s, "generation":n, "new":[[id, family, [label..], value]..], "set":[[id, value]..],
//!            "gone":[id..], "flows":[[door, caller, cause, route, target, operation, model, key,
//!            requests, errors, refused, cached, tokens, nano_usd, micros]..]}
//! ```
//! The value of a histogram is `[sum, count..]`, one count per bound and one above; in `set` it is `[sum, bucket, count, ..]` with the
//! buckets that have changed. Sums and bounds are in the exposed unit.

use std::{collections::HashMap, fmt::Write as _, sync::Arc};

use super::{Minutes, Numbers};
use crate::telemetry::{
    flows::{Flow, Sums},
    metrics::{FAMILIES, Family, Kind, MAX_VALUE, VERSION, Value},
};

/// Label values, in the order of the labels.
type Labels = Arc<[Arc<str>]>;

/// Every series that the viewers know.
#[derive(Default)]
pub(super) struct Book {
    ids: HashMap<(Family, Labels), usize, foldhash::fast::RandomState>,
    series: Vec<Series>,
    ticks: u64,
    at: u64,
    up: u64,
    generation: u64,
}

struct Series {
    family: Family,
    labels: Labels,
    value: Value,
    /// The tick in which it was last seen; `None`: it is gone.
    seen: Option<u64>,
}

impl Book {
    /// Takes in the numbers of now; gives what has changed.
    pub(super) fn tick(&mut self, now: &Numbers) -> String {
        self.ticks += 1;
        (self.at, self.up, self.generation) = (now.at, now.uptime.as_secs(), now.generation);
        let (mut new, mut set) = (String::new(), String::new());
        for snapshot in &now.families {
            for (labels, value) in &snapshot.series {
                let key = (snapshot.spec.family, Arc::from(&labels[..]));
                match self.ids.get(&key) {
                    Some(id) => {
                        let series = &mut self.series[*id];
                        series.seen = Some(self.ticks);
                        if series.value != *value {
                            changed(&mut set, *id, &series.value, value);
                            series.value = value.clone();
                        }
                    }
                    None => {
                        let series = Series { family: key.0, labels: key.1.clone(), value: value.clone(), seen: Some(self.ticks) };
                        whole(&mut new, self.series.len(), &series);
                        self.ids.insert(key, self.series.len());
                        self.series.push(series);
                    }
                }
            }
        }
        let mut gone = String::new();
        for (id, series) in self.series.iter_mut().enumerate() {
            if series.seen.is_some_and(|seen| seen < self.ticks) {
                series.seen = None;
                self.ids.remove(&(series.family, series.labels.clone()));
                comma(&mut gone);
                let _ = write!(gone, "{id}");
            }
        }
        let mut flows = String::new();
        now.flows.iter().for_each(|(flow, sums)| write_flow(&mut flows, flow, sums));
        format!("{{{},\"new\":[{new}],\"set\":[{set}],\"gone\":[{gone}],\"flows\":[{flows}]}}", self.head())
    }

    /// Everything that is known.
    pub(super) fn snapshot(&self, minutes: &Minutes) -> String {
        let mut families = String::new();
        for spec in FAMILIES {
            comma(&mut families);
            let bounds = match spec.kind {
                Kind::Histogram(bounds) => numbers(bounds.iter().map(|bound| *bound as f64 / spec.unit.per_unit())),
                _ => "null".to_owned(),
            };
            let _ = write!(families, "[{},{},{bounds}]", text(spec.name), texts(spec.labels.iter().copied()));
        }
        let mut series = String::new();
        for (id, one) in self.series.iter().enumerate().filter(|(_, one)| one.seen.is_some()) {
            whole(&mut series, id, one);
        }
        let mut past = String::new();
        for (second, window) in minutes {
            comma(&mut past);
            let millis = window.nanos / 1_000_000;
            let _ = write!(past, "[{second},{},{},{millis},{},{}]", window.requests, window.errors, window.hits, window.lookups);
        }
        format!(
            "{{\"v\":1,{},\"version\":{},\"families\":[{families}],\"series\":[{series}],\"minutes\":[{past}]}}",
            self.head(),
            text(VERSION)
        )
    }

    fn head(&self) -> String {
        format!("\"at\":{},\"up\":{},\"generation\":{}", self.at, self.up, self.generation)
    }
}

fn comma(out: &mut String) {
    if !out.is_empty() {
        out.push(',');
    }
}

fn number(out: &mut String, value: f64) {
    // A float without a fraction is written without one; JSON has no infinity.
    let _ = match value {
        value if !value.is_finite() => write!(out, "null"),
        value if value.fract() == 0.0 && value.abs() < 9e15 => write!(out, "{}", value as i64),
        value => write!(out, "{value}"),
    };
}

fn numbers(values: impl Iterator<Item = f64>) -> String {
    let mut out = String::from("[");
    for (at, value) in values.enumerate() {
        if at > 0 {
            out.push(',');
        }
        number(&mut out, value);
    }
    out.push(']');
    out
}

/// A text as JSON, cut like a label.
fn text(text: &str) -> String {
    let cut = if text.len() <= MAX_VALUE { text } else { &text[..text.floor_char_boundary(MAX_VALUE)] };
    serde_json::Value::from(cut).to_string()
}

fn texts<'a>(all: impl Iterator<Item = &'a str>) -> String {
    format!("[{}]", all.map(text).collect::<Vec<_>>().join(","))
}

fn whole(out: &mut String, id: usize, series: &Series) {
    comma(out);
    let _ = write!(out, "[{id},{},{},", series.family as usize, texts(series.labels.iter().map(|label| &**label)));
    match &series.value {
        Value::Number(value) => number(out, *value),
        Value::Histogram { buckets, sum, .. } => {
            out.push_str(&numbers(std::iter::once(*sum).chain(buckets.iter().map(|count| *count as f64))));
        }
    }
    out.push(']');
}

fn changed(out: &mut String, id: usize, before: &Value, now: &Value) {
    comma(out);
    let _ = write!(out, "[{id},");
    match (before, now) {
        (Value::Histogram { buckets: before, .. }, Value::Histogram { buckets, sum, .. }) => {
            out.push('[');
            number(out, *sum);
            for (at, (count, _)) in buckets.iter().zip(before).enumerate().filter(|(_, (count, before))| count != before) {
                let _ = write!(out, ",{at},{count}");
            }
            out.push(']');
        }
        (_, Value::Number(value)) => number(out, *value),
        (_, Value::Histogram { .. }) => out.push_str("null"),
    }
    out.push(']');
}

fn write_flow(out: &mut String, flow: &Flow, sums: &Sums) {
    comma(out);
    let _ = write!(out, "[{}", text(flow.door.as_str()));
    for name in [flow.caller.as_deref(), flow.cause.as_deref(), Some(&*flow.route), flow.target.as_deref(), Some(flow.operation)] {
        let _ = write!(out, ",{}", name.map_or("null".to_owned(), text));
    }
    let _ = write!(out, ",{}", flow.model.as_deref().map_or("null".to_owned(), text));
    let _ = write!(out, ",{}", flow.key.map_or("null".to_owned(), |key| key.to_string()));
    let Sums { requests, errors, refused, cached, tokens, nano_usd, micros } = sums;
    let _ = write!(out, ",{requests},{errors},{refused},{cached},{tokens},{nano_usd},{micros}]");
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use serde_json::{Value as Json, json};

    use super::*;
    use crate::{arrival::Door, telemetry::metrics::Snapshot};

    fn numbers_of(series: &[(Family, &[&str], Value)]) -> Numbers {
        let mut families: Vec<Snapshot> = Vec::new();
        for (family, labels, value) in series {
            let labels = labels.iter().map(|label| Arc::from(*label)).collect();
            families.push(Snapshot { spec: family.spec(), series: BTreeMap::from([(labels, value.clone())]) });
        }
        Numbers { at: 5, uptime: Duration::from_secs(7), generation: 2, families, ..Numbers::default() }
    }

    fn buckets(counts: [u64; 3], sum: f64) -> Value {
        Value::Histogram { bounds: &[1, 2], buckets: counts.to_vec(), sum, exemplars: Vec::new() }
    }

    fn read(text: &str) -> Json {
        serde_json::from_str(text).expect("JSON")
    }

    #[test]
    fn a_tick_tells_what_has_changed_and_a_snapshot_everything() {
        let mut book = Book::default();
        let own: &[&str] = &["inbound", "<script>\""];
        let first = [(Family::Inflight, &["inbound"][..], Value::Number(1.0)), (Family::OwnDuration, own, buckets([1, 0, 0], 0.5))];
        let tick = read(&book.tick(&numbers_of(&first)));
        assert_eq!(
            tick["new"],
            json!([[0, Family::Inflight as usize, ["inbound"], 1], [1, Family::OwnDuration as usize, own, [0.5, 1, 0, 0]]])
        );
        assert_eq!((&tick["set"], &tick["at"], &tick["up"], &tick["generation"]), (&json!([]), &json!(5), &json!(7), &json!(2)));
        assert_eq!(read(&book.tick(&numbers_of(&first)))["set"], json!([]), "nothing has changed");
        let second = [(Family::Inflight, &["inbound"][..], Value::Number(f64::NAN)), (Family::OwnDuration, own, buckets([1, 0, 4], 9.0))];
        assert_eq!(read(&book.tick(&numbers_of(&second)))["set"], json!([[0, null], [1, [9, 2, 4]]]));
        let tick = read(&book.tick(&numbers_of(&second[1..])));
        assert_eq!((&tick["gone"], &tick["new"]), (&json!([0]), &json!([])));
        let window = crate::telemetry::metrics::Window { requests: 4, errors: 1, nanos: 3_000_000, hits: 1, lookups: 2 };
        let snapshot = read(&book.snapshot(&vec![(60, window)]));
        assert_eq!(snapshot["series"], json!([[1, Family::OwnDuration as usize, own, [9, 1, 0, 4]]]));
        assert_eq!(snapshot["minutes"], json!([[60, 4, 1, 3, 1, 2]]));
        assert_eq!(snapshot["families"][Family::Inflight as usize], json!(["outrigger_inflight_requests", ["door"], null]));
        assert_eq!(snapshot["families"][Family::OwnDuration as usize][2][0], json!(1e-5), "bounds in seconds");
        let tick = read(&book.tick(&numbers_of(&first)));
        assert_eq!(tick["new"][0][0], json!(2), "a series that comes back is a new one");
    }

    #[test]
    fn a_flow_has_its_names_and_sums() {
        let flow = Flow {
            door: Door::Outbound,
            caller: Some("é".repeat(100).into()),
            cause: None,
            route: "chat".into(),
            target: Some("openai".into()),
            operation: "chat",
            model: Some("m".into()),
            key: Some(1),
        };
        let sums = Sums { requests: 1, errors: 2, refused: 3, cached: 4, tokens: 5, nano_usd: 6, micros: 7 };
        let numbers = Numbers { flows: HashMap::from_iter([(flow, sums)]), ..Numbers::default() };
        let tick = read(&Book::default().tick(&numbers));
        let caller = "é".repeat(MAX_VALUE / 2);
        assert_eq!(tick["flows"], json!([["outbound", caller, null, "chat", "openai", "chat", "m", 1, 1, 2, 3, 4, 5, 6, 7]]));
    }
}
