//! Policies in words and numbers for a person: those of a route, or those that apply to one request.

mod access;
mod answers;
mod auth;
mod privacy;
mod validate;

use std::{
    fmt::{self, Display},
    time::Duration,
};

use http::{HeaderName, Method};
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{
    arrival::Door,
    config::{
        Algorithm, Applies, Backoff, Breaker, Cache, CacheBody, Config, Cookies, Cors, Csrf, Fallback, Headers, KeyPart, Limit, Mode,
        OnLimit, OnStoreError, Policies, Retry, RetryOn, Timeouts, Unit, Unpriced, human,
    },
    http1::Id,
    policy::{preflight, rewrite},
    provider::Prices,
    proxy::cache_key::{Asked, part_of},
};

/// A policy that applies.
#[derive(Debug, Serialize)]
pub struct Applied {
    /// Its key in `proxy.yaml`.
    pub policy: &'static str,
    /// `enforce` or `observe`.
    pub mode: &'static str,
    /// Its numbers.
    pub terms: Terms,
}

/// Names and values in the order of output. A repeated name adds to its values: no JSON object has a key twice.
#[derive(Debug, Default)]
pub struct Terms(Vec<(&'static str, Vec<String>)>);

impl Terms {
    fn of(name: &'static str, value: impl Display) -> Self {
        let mut terms = Self::default();
        terms.add(name, value);
        terms
    }

    fn add(&mut self, name: &'static str, value: impl Display) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value.to_string()),
            None => self.0.push((name, vec![value.to_string()])),
        }
    }

    fn time(&mut self, name: &'static str, value: Option<Duration>) {
        if let Some(value) = value {
            self.add(name, humantime::format_duration(value));
        }
    }
}

impl Display for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.0.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
        for (at, (name, value)) in all.enumerate() {
            write!(f, "{}{name} {value}", if at == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl Serialize for Terms {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, values) in &self.0 {
            match &values[..] {
                // A sequence is a list, also with one member.
                [value] if *name != THEN => map.serialize_entry(name, value)?,
                values => map.serialize_entry(name, values)?,
            }
        }
        map.end()
    }
}

/// The targets of `fallback`, in order.
const THEN: &str = "then";

/// Every policy of a route, in the order in which they run. With a request: those that apply to it, and what they see of it.
pub fn applied(
    door: Door,
    of_door: &[Limit],
    policies: &Policies,
    methods: &[Method],
    asked: Option<&Asked<'_>>,
    config: &Config,
) -> Vec<Applied> {
    let mut all = Vec::new();
    let mut add = |policy, mode: Mode, terms| all.push(Applied { policy, mode: word(mode), terms });
    if let Some(policy) = &policies.access {
        add("access", policy.mode, access::terms(policy, asked));
    }
    if let Some(policy) = &policies.cors {
        add("cors", policy.mode, cors_terms(policy, asked));
    }
    if let Some(policy) = &policies.auth {
        add("auth", policy.mode, auth::terms(policy, asked));
    }
    if let Some(policy) = &policies.csrf {
        add("csrf", policy.mode, csrf_terms(policy));
    }
    if let Some(policy) = &policies.validate {
        add("validate", policy.mode, validate::terms(policy));
    }
    if let Some(policy) = &policies.headers {
        add("headers", policy.mode, headers_terms(policy));
    }
    if let Some(policy) = &policies.privacy {
        add("privacy", policy.mode, privacy::terms(policy, asked));
    }
    for (place, one) in of_door.iter().map(|one| ("the door", one)).chain(policies.limits.iter().map(|one| ("the route", one))) {
        let mut terms = limit(one, place, door, asked, config);
        if let Some(why) = asked.and_then(|asked| passed_over(one, door, methods, asked, config)) {
            terms.add("this request", format!("is not counted: {why}"));
        }
        add("limits", one.mode, terms);
    }
    if let Some(policy) = &policies.redirect {
        add("redirect", policy.mode, Terms::of("status", policy.status.as_u16()));
    }
    if let Some(policy) = &policies.respond {
        add("respond", policy.mode, Terms::of("status", policy.status.as_u16()));
    }
    if let Some(policy) = &policies.cache {
        add("cache", policy.mode, cache(policy, door));
    }
    if !policies.purge.is_empty() {
        let mut terms = Terms::default();
        terms.add("tags", policies.purge.join(" "));
        add("purge", Mode::Enforce, terms);
    }
    if let Some(policy) = &policies.rewrite {
        let path = asked.and_then(|asked| rewrite::path(policy, asked.arrival.path()));
        add("rewrite", policy.mode, path.map_or_else(Terms::default, |path| Terms::of("the app sees", path)));
    }
    if let Some(policy) = &policies.timeouts {
        add("timeouts", policy.mode, timeouts(policy));
    }
    if let Some(policy) = &policies.retry {
        add("retry", policy.mode, retry(policy));
    }
    if let Some(policy) = &policies.breaker {
        add("breaker", policy.mode, breaker(policy));
    }
    if !policies.fallback.is_empty() {
        let mut terms = Terms::default();
        policies.fallback.iter().for_each(|one| terms.add(THEN, fallback(one, config)));
        if door == Door::Outbound {
            terms.add(
                "hides",
                "a key that the provider refuses, the app's own too: the process log and `outrigger errors` name it (bad_key)",
            );
        }
        add("fallback", Mode::Enforce, terms);
    }
    if let Some(policy) = &policies.compress {
        add("compress", policy.mode, answers::compress(policy));
    }
    if let Some(policy) = &policies.log {
        add("log", Mode::Enforce, answers::log(policy));
    }
    all
}

fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Observe => "observe",
    }
}

fn cors_terms(policy: &Cors, asked: Option<&Asked<'_>>) -> Terms {
    let joined = |words: Vec<String>| words.join(" ");
    let mut terms = Terms::default();
    terms.add("origins", joined(policy.origins.iter().map(ToString::to_string).collect()));
    terms.add("methods", joined(policy.methods.iter().map(ToString::to_string).collect()));
    match &policy.headers {
        None => terms.add("headers", "every field"),
        Some(names) => terms.add("headers", joined(names.iter().map(ToString::to_string).collect())),
    }
    if policy.credentials {
        terms.add("credentials", "may be sent");
    }
    let preflight = asked.is_some_and(|asked| preflight::is_preflight(&asked.arrival.method, &asked.arrival.headers));
    if preflight && policy.mode == Mode::Enforce {
        terms.add("this request", "is a browser's preflight: the proxy answers it");
    }
    terms
}

fn csrf_terms(policy: &Csrf) -> Terms {
    let mut terms = Terms::default();
    if !policy.trusted.is_empty() {
        terms.add("trusted origins", policy.trusted.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
    }
    if !policy.exempt.is_empty() {
        terms.add("exempt", policy.exempt.iter().map(|path| path.as_str().to_owned()).collect::<Vec<_>>().join(" "));
    }
    terms
}

fn headers_terms(policy: &Headers) -> Terms {
    let names = |list: Vec<&HeaderName>| list.into_iter().map(HeaderName::as_str).collect::<Vec<_>>().join(" ");
    let mut terms = Terms::default();
    if policy.hardens {
        terms.add("secure", "fields that the app does not set are added");
    }
    if let Some(csp) = policy.secure.as_ref().and_then(|secure| secure.csp.as_ref()) {
        terms.add("csp", csp);
    }
    for (word, edits) in [("request", &policy.request), ("response", &policy.response)] {
        let changed = edits.remove.iter().chain(edits.set.iter().chain(&edits.add).map(|(name, _)| name)).collect::<Vec<_>>();
        if !changed.is_empty() {
            terms.add(word, names(changed));
        }
    }
    terms
}

/// Why a limit does not count this request.
fn passed_over(limit: &Limit, door: Door, methods: &[Method], asked: &Asked<'_>, config: &Config) -> Option<&'static str> {
    let arrival = asked.arrival;
    let preflight = preflight::is_preflight(&arrival.method, &arrival.headers);
    if door == Door::Inbound {
        return (preflight && !methods.contains(&Method::OPTIONS)).then_some("it is a browser's preflight");
    }
    if limit.key.contains(&KeyPart::Caller) && asked.caller.is_none() && !limit.counts_unknown {
        return Some("its caller is unknown (the running proxy knows it where an inbound request caused the call)");
    }
    let call = asked.call.as_ref().filter(|_| matches!(limit.unit, Unit::Tokens | Unit::NanoUsd))?;
    if call.shape.orders_nothing() && !arrival.headers.has(Id::Upgrade) {
        let poll = "it orders nothing; what the work has used that it asks about is charged to who began it";
        return Some(if call.shape.is_free() { "no provider bills it" } else { poll });
    }
    let prices = config.outbound.as_ref().map_or(&[][..], |outbound| &outbound.prices);
    let free = limit.unit == Unit::NanoUsd && call.model.is_some_and(|model| Prices::new(prices).is_free(model));
    free.then_some("its model is priced 0")
}

fn limit(limit: &Limit, place: &str, door: Door, asked: Option<&Asked<'_>>, config: &Config) -> Terms {
    let mut terms = Terms::default();
    terms.add("name", &limit.name);
    let (tier, amount) = tier_of(limit, door, asked);
    match amount {
        Some(amount) => terms.add("amount", human::limit(limit.unit, amount, limit.window)),
        None => terms.add("amount", "none: the limit does not count this tier"),
    }
    if let Some(tiers) = &limit.tiers {
        let all = tiers.all.iter().map(|tier| &*tier.name).collect::<Vec<_>>().join(", ");
        let tier = match (asked, tier) {
            (None, _) => all,
            (Some(_), None) => format!("none of {all}: the limit's own amount holds"),
            (Some(_), Some(tier)) => format!("{tier} (of {all})"),
        };
        terms.add("tier", tier);
    }
    let parts: Vec<String> = limit.key.iter().map(|part| key_part(part, asked)).collect();
    terms.add("key", if parts.is_empty() { "one counter for all".to_owned() } else { parts.join(" ") });
    terms.add("written on", place);
    if limit.unit == Unit::Concurrency {
        terms.add("held", "until the last byte of the answer, counted by each replica for itself");
    } else if let Algorithm::Gcra { burst } = limit.algorithm {
        terms.add("algorithm", format!("gcra with a burst of {burst}"));
    } else {
        terms.add("algorithm", if limit.algorithm == Algorithm::Fixed { "fixed" } else { "sliding" });
    }
    terms.add(
        "counts",
        match (door, limit.unit, limit.applies) {
            (Door::Inbound, Unit::Tokens | Unit::NanoUsd, _) => "what the model calls that this request causes use",
            (_, _, Applies::All) => "every request",
            (_, _, Applies::Misses) => "what the cache does not answer",
        },
    );
    match &limit.on_limit {
        OnLimit::Refuse => {}
        OnLimit::CacheOnly => terms.add("once spent", "only stored answers pass"),
        OnLimit::Degrade(to) => {
            let provider = to.provider.as_deref().map(|name| format!("{name} ")).unwrap_or_default();
            terms.add("once spent", format!("calls go to {provider}{}", to.model));
        }
        OnLimit::Ask(ask) => {
            let wait = humantime::format_duration(ask.wait);
            terms.add(
                "once spent",
                format!("a person is asked; {} wait, each at most {wait}", human::amount(Unit::Requests, ask.max.into())),
            );
            if let Some(hook) = &ask.webhook {
                let host = hook.url.reveal().parse::<http::Uri>().ok().and_then(|url| Some(url.host()?.to_owned())).unwrap_or_default();
                let word = if hook.decides { "is told, and may decide" } else { "is told, and decides nothing" };
                terms.add("webhook", format!("{host} {word}"));
            }
        }
    }
    if let Some(queue) = limit.queue {
        terms.add(
            "queue",
            format!("{} wait, each at most {}", human::amount(Unit::Requests, queue.max.into()), humantime::format_duration(queue.wait)),
        );
    }
    if limit.unit == Unit::NanoUsd && limit.unpriced == Unpriced::Refuse {
        terms.add("a model without a price", "is refused");
    }
    if door == Door::Outbound && matches!(limit.unit, Unit::Tokens | Unit::NanoUsd) {
        let word = if limit.unmetered == Unpriced::Refuse { "is refused" } else { "passes uncounted" };
        terms.add("work without a stated cost", word);
    }
    if !limit.alert_at.is_empty() {
        terms.add("alert at", limit.alert_at.iter().map(|share| format!("{}%", share * 100.0)).collect::<Vec<_>>().join(" "));
    }
    if config.store.redis.is_some() {
        terms.add(
            "without the store",
            match limit.on_store_error {
                OnStoreError::Local => "counts in this process",
                OnStoreError::Allow => "admits",
                OnStoreError::Deny => "refuses",
            },
        );
    }
    terms
}

/// The request's tier and the tier's amount; without a request: the limit's own amount. An amount of `None`: the limit does not count the tier.
fn tier_of<'a>(limit: &'a Limit, door: Door, asked: Option<&Asked<'_>>) -> (Option<&'a str>, Option<u64>) {
    let (Some(tiers), Some(asked)) = (&limit.tiers, asked) else { return (None, Some(limit.amount)) };
    let (_, named) = part_of(&tiers.source, asked);
    let believed = !matches!(tiers.source, KeyPart::Header(_)) || door == Door::Inbound && asked.arrival.trusted;
    let found = tiers.all.iter().find(|tier| believed && *tier.name == *named.trim());
    found.map_or((None, Some(limit.amount)), |tier| (Some(&tier.name), tier.amount))
}

/// A part with its value, if there is a request; credentials are masked.
fn key_part(part: &KeyPart, asked: Option<&Asked<'_>>) -> String {
    let Some(asked) = asked else { return part.written() };
    let (name, value) = part_of(part, asked);
    match part {
        _ if value.is_empty() => format!("{name}=(none)"),
        KeyPart::ApiKey | KeyPart::Cookie(_) => format!("{name}=(hashed)"),
        _ => format!("{name}={value}"),
    }
}

fn cache(policy: &Cache, door: Door) -> Terms {
    let mut terms = Terms::default();
    match policy.ttl {
        Some(ttl) => terms.add("ttl", humantime::format_duration(ttl)),
        None => terms.add("ttl", "as the answer's own fields say (RFC 9111)"),
    }
    terms.time("stale_while_revalidate", policy.stale_while_revalidate);
    terms.time("stale_if_error", policy.stale_if_error);
    terms.add("max_body", bytesize::ByteSize(policy.max_body));
    if !policy.tags.is_empty() {
        terms.add("tags", policy.tags.join(" "));
    }
    match door {
        Door::Inbound => {
            match &policy.body {
                None => {}
                Some(CacheBody::All) => terms.add("POST by", "all of its JSON body"),
                Some(CacheBody::GraphQl) => terms.add("POST by", "its GraphQL document and all beside it"),
                Some(CacheBody::Fields(fields)) => {
                    terms.add("POST by", fields.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
                }
            }
            if policy.cookies == Cookies::Ignore {
                terms.add("cookies", "ignore");
            }
            if policy.unsafe_ {
                terms.add("unsafe", true);
            }
        }
        Door::Outbound => {
            let tenant = match (policy.share, policy.per_caller) {
                (true, _) => "everybody",
                (false, true) => "one credential and caller",
                (false, false) => "one credential",
            };
            terms.add("shared by", tenant);
            terms.add("tool calls", if policy.tool_calls { "stored" } else { "not stored" });
            if let Some(most) = policy.max_temperature {
                terms.add("max_temperature", most);
            }
            terms.add("replay of streams", if policy.paced { "original" } else { "immediate" });
        }
    }
    terms
}

fn timeouts(policy: &Timeouts) -> Terms {
    let mut terms = Terms::default();
    terms.time("connect", policy.connect);
    terms.time("response_header", policy.response_header);
    terms.time("first_token", policy.first_token);
    terms.time("idle", policy.idle);
    terms.time("per_try", policy.per_try);
    terms.time("total", policy.total);
    terms
}

fn retry(policy: &Retry) -> Terms {
    let mut terms = Terms::default();
    terms.add("max_retries", policy.max_retries);
    let on = policy.on.iter().map(|on| match on {
        RetryOn::Connect => "connect".to_owned(),
        RetryOn::Reset => "reset".to_owned(),
        RetryOn::Timeout => "timeout".to_owned(),
        RetryOn::Status(status) => status.as_str().to_owned(),
    });
    terms.add("on", on.collect::<Vec<_>>().join(" "));
    match &policy.backoff {
        Backoff::FullJitter { base, max } => {
            terms.add("backoff", format!("0 to {}, doubling up to {}", humantime::format_duration(*base), humantime::format_duration(*max)))
        }
        Backoff::Schedule(pauses) => {
            terms.add("backoff", pauses.iter().map(|one| humantime::format_duration(*one).to_string()).collect::<Vec<_>>().join(", then "));
        }
    }
    terms.add("longest Retry-After waited for", humantime::format_duration(policy.max_hint));
    terms.add("budget", format!("{}% of requests, at least {} a second", policy.budget.ratio * 100.0, policy.budget.min_per_sec));
    terms
}

fn breaker(policy: &Breaker) -> Terms {
    let mut terms = Terms::default();
    if policy.consecutive > 0 {
        terms.add("opens after", format!("{} failures in a row", policy.consecutive));
    }
    if let Some(ratio) = &policy.ratio {
        let window = humantime::format_duration(ratio.window);
        terms.add("or at", format!("{}% failures of at least {} requests in {window}", ratio.threshold * 100.0, ratio.min_requests));
    }
    let (base, max) = (humantime::format_duration(policy.open_base), humantime::format_duration(policy.open_max));
    terms.add("open", format!("{base}, doubling up to {max}"));
    terms.add("closes after", format!("{} successful probes", policy.successes));
    terms
}

fn fallback(one: &Fallback, config: &Config) -> String {
    let told = match one {
        Fallback::Provider { provider, model, .. } => {
            let name = config.outbound.as_ref().and_then(|door| door.providers.get(*provider)).map_or("?", |provider| &*provider.name);
            model.as_ref().map_or_else(|| name.to_owned(), |model| format!("{name} with {model}"))
        }
        Fallback::Respond { status, body, .. } => format!("answer {} with {} bytes of its own", status.as_u16(), body.len()),
    };
    told + &one.remark()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read::{self, Overrides};

    #[test]
    fn without_a_request_the_numbers_of_a_route_are_told_and_no_value() {
        let text = "{inbound: {app: 3000, trusted_proxies: [private], caller: [header:x-user-id], \
                    limits: [{name: all, key: [client_ip, caller], requests: 5, window: 1m, tier: header:x-plan, tiers: {free: 2}}], \
                    routes: [{match: {path: /a}, access: {allow: [10.0.0.0/8]}, cache: {ttl: 60s, mode: observe}}]}}";
        let config = read::parse(text, "proxy.yaml", &Overrides::default(), &|_| None).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let door = config.inbound.as_ref().expect("a door");
        let all = applied(Door::Inbound, &door.limits, &door.routes[0].policies, &[], None, &config);
        let told = serde_json::to_value(&all).expect("JSON");
        let terms = |at: usize| &told[at]["terms"];
        assert_eq!((terms(0)["allow"].as_str(), terms(0).get("this address")), (Some("10.0.0.0/8"), None));
        assert_eq!((terms(1)["key"].as_str(), terms(1)["tier"].as_str()), (Some("client_ip caller"), Some("free")));
        assert_eq!((terms(1)["written on"].as_str(), terms(1)["amount"].as_str()), (Some("the door"), Some("5 requests per minute")));
        assert_eq!((told[2]["policy"].as_str(), told[2]["mode"].as_str()), (Some("cache"), Some("observe")));
    }
}
