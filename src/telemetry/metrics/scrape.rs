//! The scrape: our table is one collector of the prometheus crate, and the crate sorts and writes the text.

use std::{collections::HashMap, sync::Arc};

use prometheus::{
    Registry, TextEncoder,
    core::{Collector, Desc},
    proto,
};

use super::{
    Inner, Snapshot, Value,
    family::{FAMILIES, Kind},
};

/// A registry whose one collector is the whole table.
pub(super) fn registry(inner: Arc<Inner>) -> Registry {
    let registry = Registry::new();
    let scraped = FAMILIES.iter().filter(|spec| spec.scraped());
    let desc = |spec: &super::Spec| {
        let labels = spec.labels.iter().map(|label| (*label).to_owned()).collect();
        Desc::new(spec.name.to_owned(), spec.help.to_owned(), labels, HashMap::new())
    };
    match scraped.map(desc).collect::<prometheus::Result<Vec<_>>>().and_then(|descs| registry.register(Box::new(Table { descs, inner }))) {
        Ok(()) => {}
        Err(error) => tracing::error!(%error, "metrics cannot be scraped"),
    }
    registry
}

/// Prometheus text format 0.0.4; an encoding error becomes a comment in it.
pub(super) fn render(registry: &Registry) -> String {
    TextEncoder::new().encode_to_string(&registry.gather()).unwrap_or_else(|error| format!("# {error}\n"))
}

struct Table {
    descs: Vec<Desc>,
    inner: Arc<Inner>,
}

impl Collector for Table {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        self.inner.gather(&|_| true).iter().filter(|snapshot| snapshot.spec.scraped()).map(family).collect()
    }
}

fn family(snapshot: &Snapshot) -> proto::MetricFamily {
    let mut family = proto::MetricFamily::default();
    family.set_name(snapshot.spec.name.to_owned());
    family.set_help(snapshot.spec.help.to_owned());
    family.set_field_type(match snapshot.spec.kind {
        Kind::Counter => proto::MetricType::COUNTER,
        Kind::Gauge => proto::MetricType::GAUGE,
        Kind::Histogram(_) => proto::MetricType::HISTOGRAM,
    });
    family.set_metric(snapshot.series.iter().map(|(labels, value)| metric(snapshot, labels, value)).collect());
    family
}

fn metric(snapshot: &Snapshot, values: &[Arc<str>], value: &Value) -> proto::Metric {
    let pair = |(name, value): (&&str, &Arc<str>)| {
        let mut pair = proto::LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value(value.to_string());
        pair
    };
    let mut metric = proto::Metric::from_label(snapshot.spec.labels.iter().zip(values).map(pair).collect());
    match value {
        Value::Number(number) if snapshot.spec.kind == Kind::Counter => {
            let mut counter = proto::Counter::default();
            counter.set_value(*number);
            metric.set_counter(counter);
        }
        Value::Number(number) => {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(*number);
            metric.set_gauge(gauge);
        }
        Value::Histogram { bounds, buckets, sum, .. } => {
            let mut cumulative = 0;
            let mut out = Vec::with_capacity(bounds.len());
            for (bound, count) in bounds.iter().zip(buckets) {
                cumulative += count;
                let mut bucket = proto::Bucket::default();
                bucket.set_upper_bound(*bound as f64 / snapshot.spec.unit.per_unit());
                bucket.set_cumulative_count(cumulative);
                out.push(bucket);
            }
            let mut histogram = proto::Histogram::default();
            histogram.set_bucket(out);
            histogram.set_sample_sum(*sum);
            histogram.set_sample_count(buckets.iter().sum());
            metric.set_histogram(histogram);
        }
    }
    metric
}
