//! What the screen shows, from two looks at a running proxy: rates are differences.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

/// One look: the series of `/metrics`, and the pages of the admin door.
#[derive(Debug, Clone, Default)]
pub(super) struct Look {
    /// Each series of the families that the screen shows: family, labels, value.
    pub(super) series: Vec<(String, BTreeMap<String, String>, f64)>,
    pub(super) health: Value,
    pub(super) limits: Value,
    pub(super) breakers: Value,
    pub(super) callers: Value,
    pub(super) targets: Value,
    pub(super) alerts: Value,
}

/// Rates of one door or route.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) requests: f64,
    pub(super) errors: f64,
    /// p50, p95 and p99 in seconds; `None`: there was no request.
    pub(super) quantiles: Option<[f64; 3]>,
}

/// The numbers of a screen.
#[derive(Debug, Clone)]
pub(super) struct Numbers {
    pub(super) doors: Vec<(String, Rates, f64)>,
    /// The busiest first.
    pub(super) routes: Vec<(String, Rates)>,
    /// Model, dollars a minute, tokens a minute; the dearest first.
    pub(super) models: Vec<(String, f64, f64)>,
    /// The proxy's own time to the head of an answer: p50, p95 and p99 in seconds; `None`: there was no request.
    pub(super) own: Option<[f64; 3]>,
    /// Each target with its tries and the time to the head of its answer, the busiest first.
    pub(super) targets: Vec<(String, Rates)>,
    /// Share of lookups that the cache answered; `None`: there was none.
    pub(super) hit_rate: Option<f64>,
    /// Dollars a minute: spent, and saved by the cache.
    pub(super) usd: (f64, f64),
    pub(super) look: Look,
}

const FAMILIES: [&str; 10] = [
    "outrigger_own_duration_seconds_bucket",
    "outrigger_upstream_duration_seconds_bucket",
    "outrigger_tries_total",
    "outrigger_requests_total",
    "outrigger_request_duration_seconds_bucket",
    "outrigger_cache_requests_total",
    "outrigger_cache_saved_usd_total",
    "outrigger_cost_usd_total",
    "outrigger_tokens_total",
    "outrigger_inflight_requests",
];

impl Look {
    /// The series, without a page yet.
    pub(super) fn new(metrics: &str) -> Self {
        let series = metrics.lines().filter(|line| FAMILIES.iter().any(|family| line.starts_with(family))).filter_map(series).collect();
        Self { series, ..Self::default() }
    }

    /// The sum of a family by one label, with those series that `wanted` says.
    fn by(&self, family: &str, label: &str, wanted: impl Fn(&BTreeMap<String, String>) -> bool) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for (_, labels, value) in self.series.iter().filter(|(name, labels, _)| name == family && wanted(labels)) {
            *sums.entry(labels.get(label).cloned().unwrap_or_default()).or_insert(0.0) += value;
        }
        sums
    }
}

/// One line of the text format: family, labels, value.
fn series(line: &str) -> Option<(String, BTreeMap<String, String>, f64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let (family, labels) = series.split_once('{').unwrap_or((series, "}"));
    let mut found = BTreeMap::new();
    let mut rest = labels.strip_suffix('}')?;
    while let Some((name, after)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at,
                (_, '\\') => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    c => value.push(c),
                },
                (_, c) => value.push(c),
            }
        };
        found.insert(name.trim_start_matches(',').to_owned(), value);
        rest = &after[end + 1..];
    }
    Some((family.to_owned(), found, value.parse().ok()?))
}

/// The growth of each sum. A counter that has shrunk begins anew: the proxy was started again.
fn growth(before: &BTreeMap<String, f64>, now: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    now.iter()
        .map(|(key, now)| {
            let before = before.get(key).copied().unwrap_or_default();
            (key.clone(), if *now >= before { now - before } else { *now })
        })
        .collect()
}

impl Numbers {
    /// The numbers of the time between two looks.
    pub(super) fn between(before: &Look, now: Look, time: Duration) -> Self {
        let seconds = time.as_secs_f64().max(0.001);
        let grown = |family: &str, label: &str, wanted: &dyn Fn(&BTreeMap<String, String>) -> bool| {
            growth(&before.by(family, label, wanted), &now.by(family, label, wanted))
        };
        let rates = |label: &str, wanted: &dyn Fn(&BTreeMap<String, String>) -> bool| {
            let requests = grown("outrigger_requests_total", label, wanted);
            let failed = |labels: &BTreeMap<String, String>| {
                wanted(labels) && labels.get("code").is_some_and(|code| code.starts_with('5') || *code == "0" || code == "429")
            };
            let errors = grown("outrigger_requests_total", label, &failed);
            let rows = requests.into_iter().map(|(key, count)| {
                let of_row = |labels: &BTreeMap<String, String>| wanted(labels) && labels.get(label) == Some(&key);
                let buckets = grown("outrigger_request_duration_seconds_bucket", "le", &of_row);
                let errors = errors.get(&key).copied().unwrap_or_default() / seconds;
                let rates = Rates { requests: count / seconds, errors, quantiles: quantiles(&buckets) };
                (key, rates)
            });
            rows.collect::<Vec<_>>()
        };
        let all = |_: &BTreeMap<String, String>| true;
        let inflight = now.by("outrigger_inflight_requests", "door", all);
        let doors = rates("door", &all).into_iter().map(|(door, rates)| {
            let open = inflight.get(&door).copied().unwrap_or_default();
            (door, rates, open)
        });
        let doors = doors.collect();
        let mut routes = Vec::new();
        for door in ["inbound", "outbound"] {
            let of_door = |labels: &BTreeMap<String, String>| labels.get("door").is_some_and(|own| own == door);
            routes.extend(rates("route", &of_door).into_iter().map(|(route, rates)| (format!("{door} {route}"), rates)));
        }
        routes.retain(|(_, rates)| rates.requests > 0.0);
        routes.sort_by(|a, b| b.1.requests.total_cmp(&a.1.requests));
        let usd = grown("outrigger_cost_usd_total", "model", &all);
        let tokens = grown("outrigger_tokens_total", "model", &all);
        let minute = 60.0 / seconds;
        let mut models: Vec<(String, f64, f64)> = tokens
            .iter()
            .filter(|(_, tokens)| **tokens > 0.0)
            .map(|(model, tokens)| (model.clone(), usd.get(model).copied().unwrap_or_default() * minute, tokens * minute))
            .collect();
        models.sort_by(|a, b| b.1.total_cmp(&a.1).then(b.2.total_cmp(&a.2)));
        let lookups = grown("outrigger_cache_requests_total", "result", &all);
        let answered = |words: &[&str]| words.iter().filter_map(|word| lookups.get(*word)).sum::<f64>();
        let hits = answered(&["hit", "stale", "coalesced", "revalidated"]);
        let looked = hits + answered(&["miss"]);
        let saved: f64 = grown("outrigger_cache_saved_usd_total", "door", &all).values().sum();
        let spent: f64 = usd.values().sum();
        let hit_rate = (looked > 0.0).then(|| hits / looked);
        let (own, targets) = times(&grown, seconds);
        Self { doors, routes, models, own, targets, hit_rate, usd: (spent * minute, saved * minute), look: now }
    }

    pub(super) fn to_json(&self) -> Value {
        let row = |rates: &Rates| {
            let [p50, p95, p99] = rates.quantiles.map_or([None; 3], |all| all.map(Some));
            json!({"requests_per_second": rates.requests, "errors_per_second": rates.errors, "p50_seconds": p50, "p95_seconds": p95, "p99_seconds": p99})
        };
        let named = |name: &str, rates: &Rates| {
            let mut row = row(rates);
            row["name"] = name.into();
            row
        };
        json!({
            "doors": self.doors.iter().map(|(name, rates, open)| { let mut row = named(name, rates); row["inflight"] = (*open).into(); row }).collect::<Vec<_>>(),
            "routes": self.routes.iter().map(|(name, rates)| named(name, rates)).collect::<Vec<_>>(),
            "models": self.models.iter().map(|(name, usd, tokens)| json!({"name": name, "usd_per_minute": usd, "tokens_per_minute": tokens})).collect::<Vec<_>>(),
            "own_seconds": self.own.map(|[p50, p95, p99]| json!({"p50": p50, "p95": p95, "p99": p99})),
            "upstream": self.targets.iter().map(|(name, rates)| named(name, rates)).collect::<Vec<_>>(),
            "cache_hit_rate": self.hit_rate, "usd_per_minute": self.usd.0, "saved_usd_per_minute": self.usd.1,
            "health": self.look.health, "limits": self.look.limits, "breakers": self.look.breakers["breakers"], "callers": self.look.callers["rows"],
            "targets": self.look.targets["targets"], "incidents": self.look.alerts["incidents"],
        })
    }
}

/// The growth of a family between two looks, by a label.
type Grown<'a> = dyn Fn(&str, &str, &dyn Fn(&BTreeMap<String, String>) -> bool) -> BTreeMap<String, f64> + 'a;

/// The proxy's own times, and those of each target that was tried.
fn times(grown: &Grown<'_>, seconds: f64) -> (Option<[f64; 3]>, Vec<(String, Rates)>) {
    let own = quantiles(&grown("outrigger_own_duration_seconds_bucket", "le", &|_| true));
    let tries = grown("outrigger_tries_total", "target", &|_| true);
    let failed = grown("outrigger_tries_total", "target", &|labels| labels.get("outcome").is_some_and(|outcome| outcome != "ok"));
    let of = |(target, count): (String, f64)| {
        let mine = |labels: &BTreeMap<String, String>| labels.get("target") == Some(&target);
        let quantiles = quantiles(&grown("outrigger_upstream_duration_seconds_bucket", "le", &mine));
        let errors = failed.get(&target).copied().unwrap_or_default() / seconds;
        (target, Rates { requests: count / seconds, errors, quantiles })
    };
    let mut targets: Vec<_> = tries.into_iter().filter(|(_, count)| *count > 0.0).map(of).collect();
    targets.sort_by(|a, b| b.1.requests.total_cmp(&a.1.requests));
    (own, targets)
}

/// p50, p95 and p99 of counts by upper bounds, linear within a bucket.
fn quantiles(buckets: &BTreeMap<String, f64>) -> Option<[f64; 3]> {
    let mut counts: Vec<(f64, f64)> = buckets.iter().filter_map(|(bound, count)| Some((bound.parse::<f64>().ok()?, *count))).collect();
    counts.sort_by(|a, b| a.0.total_cmp(&b.0));
    let all = counts.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
    let at = |share: f64| {
        let rank = share * all;
        let nth = counts.iter().position(|(_, count)| *count >= rank).unwrap_or(counts.len() - 1);
        let (below, before) = nth.checked_sub(1).map_or((0.0, 0.0), |below| counts[below]);
        let (bound, count) = counts[nth];
        // Beyond the last bound nothing is known but the bound.
        if bound.is_infinite() { below } else { below + (bound - below) * (rank - before) / (count - before).max(f64::MIN_POSITIVE) }
    };
    Some([at(0.5), at(0.95), at(0.99)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(requests: u32, failed: u32, dollars: f64) -> Look {
        let text = format!(
            "# HELP outrigger_requests_total x\noutrigger_requests_total{{door=\"inbound\",route=\"a\\\"b,c\",code=\"200\",cache=\"none\"}} {requests}\n\
             outrigger_requests_total{{door=\"inbound\",route=\"a\\\"b,c\",code=\"502\",cache=\"none\"}} {failed}\n\
             outrigger_request_duration_seconds_bucket{{door=\"inbound\",route=\"a\\\"b,c\",le=\"0.1\"}} {}\n\
             outrigger_request_duration_seconds_bucket{{door=\"inbound\",route=\"a\\\"b,c\",le=\"0.2\"}} {requests}\n\
             outrigger_request_duration_seconds_bucket{{door=\"inbound\",route=\"a\\\"b,c\",le=\"+Inf\"}} {requests}\n\
             outrigger_cache_requests_total{{door=\"inbound\",route=\"r\",result=\"hit\"}} {requests}\n\
             outrigger_cache_requests_total{{door=\"inbound\",route=\"r\",result=\"miss\"}} {requests}\n\
             outrigger_cost_usd_total{{route=\"r\",provider=\"p\",model=\"m\"}} {dollars}\n\
             outrigger_tokens_total{{route=\"r\",provider=\"p\",model=\"m\",class=\"input\",source=\"reported\"}} {requests}\n\
             outrigger_own_duration_seconds_bucket{{door=\"inbound\",route=\"r\",le=\"0.001\"}} {requests}\n\
             outrigger_own_duration_seconds_bucket{{door=\"inbound\",route=\"r\",le=\"+Inf\"}} {requests}\n\
             outrigger_tries_total{{target=\"app\",outcome=\"ok\"}} {requests}\n\
             outrigger_tries_total{{target=\"app\",outcome=\"timeout\"}} {failed}\n\
             outrigger_upstream_duration_seconds_bucket{{target=\"app\",le=\"0.2\"}} {requests}\n\
             outrigger_upstream_duration_seconds_bucket{{target=\"app\",le=\"+Inf\"}} {requests}\n\
             outrigger_inflight_requests{{door=\"inbound\"}} 3\n",
            requests / 2
        );
        Look::new(&text)
    }

    #[test]
    fn rates_are_the_growth_between_two_looks() {
        let now = Numbers::between(&look(100, 0, 1.0), look(300, 20, 1.5), Duration::from_secs(2));
        assert_eq!((now.doors[0].0.as_str(), now.doors[0].2), ("inbound", 3.0));
        let rates = &now.doors[0].1;
        assert_eq!((rates.requests, rates.errors), (110.0, 10.0));
        assert_eq!(now.routes[0].0, "inbound a\"b,c");
        let [p50, p95, _] = rates.quantiles.expect("requests");
        assert!((p50 - 0.1).abs() < 1e-9 && (p95 - 0.19).abs() < 1e-9, "{p50} {p95}");
        assert_eq!((now.hit_rate, now.usd.0), (Some(0.5), 15.0));
        assert_eq!(now.models, [("m".to_owned(), 15.0, 6000.0)]);
        assert!(now.own.is_some_and(|[p50, ..]| (p50 - 0.0005).abs() < 1e-9), "{:?}", now.own);
        let (name, app) = &now.targets[0];
        assert_eq!((name.as_str(), app.requests, app.errors), ("app", 110.0, 10.0));
        assert!(app.quantiles.is_some_and(|[p50, ..]| (p50 - 0.1).abs() < 1e-9), "{app:?}");
    }

    #[test]
    fn a_proxy_that_was_started_again_counts_from_zero_and_silence_has_no_quantiles() {
        let now = Numbers::between(&look(100, 0, 1.0), look(10, 0, 0.5), Duration::from_secs(1));
        assert_eq!((now.doors[0].1.requests, now.usd.0), (10.0, 30.0));
        let still = Numbers::between(&look(100, 0, 1.0), look(100, 0, 1.0), Duration::from_secs(1));
        assert_eq!((still.doors[0].1.quantiles, still.hit_rate, still.routes.len()), (None, None, 0));
    }
}
