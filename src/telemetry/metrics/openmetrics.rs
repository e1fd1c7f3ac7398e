//! The scrape as OpenMetrics 1.0 (`application/openmetrics-text`): the numbers of the text format, and exemplars, which the text format
//! has no place for. An exemplar names the sampled trace of a bucket's newest value.

use std::{fmt::Write as _, sync::Arc};

use super::{
    Exemplar, Snapshot, Value,
    family::{Kind, Spec},
};
use crate::clock::unix;

/// Writes the families that are scraped, and the end mark.
pub(super) fn render(snapshots: &[Snapshot]) -> String {
    let mut out = String::with_capacity(64 * 1024);
    for snapshot in snapshots.iter().filter(|snapshot| snapshot.spec.scraped()) {
        family(&mut out, snapshot);
    }
    out.push_str("# EOF\n");
    out
}

/// A counter's family is called without `_total` (OpenMetrics 1.0, "Counter").
fn name_of(spec: &Spec) -> &'static str {
    match spec.kind {
        Kind::Counter => spec.name.strip_suffix("_total").unwrap_or(spec.name),
        Kind::Gauge | Kind::Histogram(_) => spec.name,
    }
}

fn family(out: &mut String, snapshot: &Snapshot) {
    let (name, spec) = (name_of(snapshot.spec), snapshot.spec);
    let kind = match spec.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    };
    let _ = writeln!(out, "# TYPE {name} {kind}");
    if let Some(unit) = ["seconds", "bytes", "usd"].into_iter().find(|unit| name.ends_with(&format!("_{unit}"))) {
        let _ = writeln!(out, "# UNIT {name} {unit}");
    }
    out.push_str("# HELP ");
    out.push_str(name);
    out.push(' ');
    escape(out, spec.help);
    out.push('\n');
    for (labels, value) in &snapshot.series {
        match value {
            Value::Number(value) => {
                out.push_str(name);
                if spec.kind == Kind::Counter {
                    out.push_str("_total");
                }
                pairs(out, spec, labels, None);
                out.push(' ');
                number(out, *value);
                out.push('\n');
            }
            Value::Histogram { bounds, buckets, sum, exemplars } => {
                histogram(out, spec, labels, &CountedBuckets { bounds, buckets, sum: *sum, exemplars });
            }
        }
    }
}

struct CountedBuckets<'a> {
    bounds: &'a [u64],
    buckets: &'a [u64],
    sum: f64,
    exemplars: &'a [Option<Exemplar>],
}

fn histogram(out: &mut String, spec: &Spec, labels: &[Arc<str>], counts: &CountedBuckets<'_>) {
    let mut cumulative = 0;
    for (at, count) in counts.buckets.iter().enumerate() {
        cumulative += count;
        let mut bound = String::new();
        match counts.bounds.get(at) {
            Some(raw) => number(&mut bound, *raw as f64 / spec.unit.per_unit()),
            None => bound.push_str("+Inf"),
        }
        let _ = write!(out, "{}_bucket", spec.name);
        pairs(out, spec, labels, Some(&bound));
        let _ = write!(out, " {cumulative}");
        if let Some(Some(exemplar)) = counts.exemplars.get(at) {
            self::exemplar(out, spec, exemplar);
        }
        out.push('\n');
    }
    for (end, value) in [("_count", cumulative as f64), ("_sum", counts.sum)] {
        out.push_str(spec.name);
        out.push_str(end);
        pairs(out, spec, labels, None);
        out.push(' ');
        match end {
            "_count" => drop(write!(out, "{cumulative}")),
            _ => number(out, value),
        }
        out.push('\n');
    }
}

fn exemplar(out: &mut String, spec: &Spec, exemplar: &Exemplar) {
    let _ = write!(out, " # {{trace_id=\"{}\",span_id=\"{}\"}} ", exemplar.span.trace_id, exemplar.span.span_id);
    number(out, exemplar.value as f64 / spec.unit.per_unit());
    let at = unix(exemplar.span.at);
    let _ = write!(out, " {}.{:03}", at.as_secs(), at.subsec_millis());
}

/// `{name="value",…}`; nothing if there is no label.
fn pairs(out: &mut String, spec: &Spec, values: &[Arc<str>], bound: Option<&str>) {
    let known = spec.labels.iter().copied().zip(values.iter().map(|value| &**value));
    for (at, (name, value)) in known.chain(bound.map(|bound| ("le", bound))).enumerate() {
        out.push(if at == 0 { '{' } else { ',' });
        let _ = write!(out, "{name}=\"");
        escape(out, value);
        out.push('"');
    }
    if !spec.labels.is_empty() || bound.is_some() {
        out.push('}');
    }
}

/// A whole number has one decimal: a bound is written the same everywhere (OpenMetrics 1.0, "Considerations: Canonical Numbers").
fn number(out: &mut String, value: f64) {
    let _ = match value {
        _ if value.is_nan() => write!(out, "NaN"),
        _ if value.is_infinite() => write!(out, "{}Inf", if value > 0.0 { "+" } else { "-" }),
        _ => write!(out, "{value:?}"),
    };
}

fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}
