//! Limits: what is read, and every mistake.

use std::time::Duration;

use super::{written::*, *};
use crate::config::{
    Mode,
    scalars::tests::refused,
    testing::{OUT, good, limit, route, says},
};

#[test]
fn a_key_may_be_a_word_a_list_or_global() {
    let config = good(
        "inbound:\n  app: 3000\n  limits:\n    - {key: [client_ip, route], requests: 2M, window: 1h, algorithm: gcra, burst: 10}\n    - {key: global, tokens: 1k, window: 1d, mode: off}\n    - {requests: 5, window: 1s, algorithm: fixed, mode: observe}\n",
    );
    let limits = config.inbound.expect("open").limits;
    assert_eq!(limits.len(), 2, "`off` is absence");
    assert_eq!((&limits[0].key[..], limits[0].algorithm), (&[KeyPart::ClientIp, KeyPart::Route][..], Algorithm::Gcra { burst: 10 }));
    assert_eq!((limits[1].key.len(), limits[1].mode, limits[1].algorithm), (0, Mode::Observe, Algorithm::Fixed));
}

#[test]
fn mistakes_in_limits() {
    says(&limit("requests: 1"), "4:8", "`requests` has no meaning without `window`");
    says(&limit("window: 1m"), "4:7", "needs one of `requests`, `tokens`, `usd`, `concurrency`");
    says(&limit("requests: 1, tokens: 2, window: 1m"), "4:21", "conflicts with `requests`");
    says(&limit("usd: -1, window: 1m"), "4:13", "must not be negative");
    says(&(limit("usd: 1, window: 1m, algorithm: gcra, burst: 1") + OUT), "4:39", "counts requests only");
    says(&limit("requests: 1, window: 1m, algorithm: gcra"), "4:44", "needs `burst`");
    says(&limit("requests: 1, window: 1m, burst: 3"), "4:33", "`burst` is for");
    says(&limit("requests: 1, window: 1m, key: jwt"), "4:38", "`jwt:CLAIM`");
    says(&limit("requests: 1, window: 1m, key: model"), "4:38", "has no model");
    says(&limit("requests: 1, window: 1m, key: [client_ip, client_ip]"), "4:50", "already part of the key");
    says(&limit("requests: 1, window: 1m, unpriced: allow"), "4:33", "is for a `usd` limit");
    says(&limit("requests: 1, window: 1m, unmetered: allow"), "4:33", "is for a limit on `tokens` or `usd`");
    says(&limit("requests: 1, window: 1m, alert_at: [2]"), "4:44", "out of range");
    says(&limit("requests: 1, window: 1m}\n    - {requests: 1, window: 60s"), "5:7", "the same limit is already written at line 4");
    says(&limit("name: a, requests: 1, window: 1m}\n    - {name: a, requests: 2, window: 60s"), "5:14", "already a limit `a` at line 4");
    says(&limit("mode: off, requests: 0, window: 1m"), "4:29", "out of range");
}

#[test]
fn a_limit_may_count_requests_in_flight_and_hold_requests_in_line() {
    let config = good(&limit("name: busy, concurrency: 5, queue: {max: 100, wait: 10s}"));
    let limit_ = &config.inbound.expect("open").limits[0];
    assert_eq!((limit_.unit, limit_.amount, limit_.window), (Unit::Concurrency, 5, Duration::ZERO));
    assert_eq!(limit_.queue, Some(Queue { max: 100, wait: Duration::from_secs(10) }));
    assert_eq!(&*good(&limit("concurrency: 5")).inbound.expect("open").limits[0].name, "inbound/global/5-concurrency");
    says(&limit("concurrency: 5, window: 1m"), "4:24", "`window` has no meaning beside `concurrency`");
    says(&limit("concurrency: 5, algorithm: fixed"), "4:24", "`algorithm` has no meaning beside `concurrency`");
    says(&limit("concurrency: 5, alert_at: 1"), "4:24", "`alert_at` has no meaning beside `concurrency`");
    says(&limit("concurrency: 5, requests: 5, window: 1m"), "4:8", "conflicts with");
    says(&limit("concurrency: 0"), "4:21", "out of range");
    says(&limit("concurrency: 5, queue: {max: 1}"), "4:24", "needs `wait`");
    says(&(limit("usd: 5, window: 1d, queue: {max: 1, wait: 1s}") + OUT), "4:28", "a queue holds requests until there is room");
    says(&route("queue: {max: 1}"), "5:7", "a limit holds requests in line");
    says(&route("concurrency: 3"), "5:7", "it is a limit");
}

#[test]
fn a_spent_limit_may_act() {
    let of = |act: &str| {
        let text = format!("outbound:\n  providers: {{openai: {{}}}}\n  limits:\n    - {{usd: 1, window: 1d, on_limit: {act}}}\n");
        good(&text).outbound.expect("open").limits[0].on_limit.clone()
    };
    assert_eq!(of("refuse"), OnLimit::Refuse);
    assert_eq!(of("cache_only"), OnLimit::CacheOnly);
    assert_eq!(of("ask"), OnLimit::Ask(AskPerson { wait: Duration::from_secs(600), max: 100, webhook: None }));
    assert_eq!(of("{ask: {wait: 1m}}"), OnLimit::Ask(AskPerson { wait: Duration::from_secs(60), max: 100, webhook: None }));
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    for (url, decides) in [
        ("https://yes.example/ask", true),
        ("http://127.0.0.1:9/ask", true),
        ("http://[::1]:9/ask", true),
        ("http://localhost/ask", true),
        ("http://yes.example/ask", false),
        ("http://10.0.0.9/ask", false),
    ] {
        let asked = of(&format!("{{ask: {{webhook: '{url}', secret: {secret}}}}}"));
        let OnLimit::Ask(AskPerson { webhook: Some(hook), .. }) = &asked else { panic!("{asked:?}") };
        assert_eq!((hook.url.reveal(), hook.secret.reveal(), hook.decides), (url, secret, decides));
        assert!(!format!("{asked:?}").contains("yes.example") && !format!("{asked:?}").contains("whsec_"));
    }
    let model = || "gpt-4o-mini".into();
    assert_eq!(of("{degrade: {model: gpt-4o-mini}}"), OnLimit::Degrade(Degrade { provider: None, model: model() }));
    assert_eq!(
        of("{degrade: {model: gpt-4o-mini, provider: openai}}"),
        OnLimit::Degrade(Degrade { provider: Some("openai".into()), model: model() })
    );
    let outbound = |terms: &str| {
        format!("outbound:\n  providers: {{openai: {{}}}}\n  limits:\n    - {{requests: 1, window: 1m, on_limit: {terms}}}\n")
    };
    says(&outbound("stop"), "4:43", "`refuse`, `cache_only` or `ask`");
    says(&outbound("{degrade: {}}"), "4:44", "needs `model`");
    says(&outbound("{degrade: {model: m}, ask: {}}"), "4:65", "conflicts with");
    says(&outbound("{degrade: {model: m, provider: nobody}}"), "4:74", "nobody");
    says(&outbound("{ask: {webhook: 'https://h/x'}}"), "4:50", "`webhook` has no meaning without `secret`");
    says(&outbound("{ask: {secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw}}"), "4:50", "`secret` has no meaning without `webhook`");
    says(&outbound("{ask: {webhook: 'https://h/x', secret: abc}}"), "4:82", "whsec_");
    says(&outbound("{ask: {webhook: 'h/x', secret: abc}}"), "4:59", "is not a URL");
    says(&outbound("ask, queue: {max: 1, wait: 1s}"), "4:33", "is for a limit without one");
    says(&limit("concurrency: 1, on_limit: ask"), "4:24", "`on_limit` is for what a window counts");
    says(&limit("requests: 1, window: 1m, on_limit: {degrade: {model: m}}"), "4:44", "an inbound request has no model");
    says(&(limit("usd: 1, window: 1m, on_limit: {degrade: {model: m, provider: openai}}") + OUT), "4:59", "leave `provider` out");
}

#[test]
fn amounts_may_go_by_a_tier_of_the_caller() {
    let config = good(
        "inbound:\n  app: 3000\n  trusted_proxies: [private]\n  limits:\n    - {name: plan, key: caller, requests: 10, tier: header:x-plan, tiers: {free: 100, pro: 1k, staff: off}, window: 1h}\n",
    );
    let inbound = config.inbound.expect("open");
    let tiers = inbound.limits[0].tiers.as_ref().expect("written");
    let all: Vec<(&str, Option<u64>)> = tiers.all.iter().map(|tier| (&*tier.name, tier.amount)).collect();
    assert_eq!(all, [("free", Some(100)), ("pro", Some(1_000)), ("staff", None)]);
    assert_eq!(inbound.believed().map(http::HeaderName::as_str).collect::<Vec<_>>(), ["x-plan"], "nobody else may name a tier");

    let text = |tier: &str, tiers: &str| limit(&format!("requests: 1, tier: {tier}, tiers: {tiers}, window: 1m"));
    says(&text("header:x-plan", "{free: 1}"), "4:27", "would never be believed");
    says(&text("client_ip", "{free: 1}"), "4:27", "a client chooses its own `client_ip`");
    says(&text("jwt", "{free: 1}"), "4:27", "`jwt:CLAIM`");
    for source in ["verified", "jwt:plan"] {
        let config = good(&text(source, "{free: 1}"));
        let inbound = config.inbound.expect("open");
        assert_eq!(inbound.limits[0].tiers.as_ref().expect("written").source.written(), source);
    }
    says(&text("model", "{free: 1}"), "4:27", "tiers by model are written in `outbound`");
    says(&text("caller", "{ann: 0}"), "4:48", "lets nobody in");
    says(&text("caller", "{ann: 1.5}"), "4:48", "is not a count");
    says(&text("caller", "{ann: many}"), "4:48", "is not a count");
    says(&limit("requests: 1, tier: caller, window: 1m"), "4:21", "tiers");
    says(&limit("requests: 1, tiers: {ann: 1}, window: 1m"), "4:21", "tier");
    says(&limit("requests: 1, tier: caller, tiers: {ann: 2}, window: 1m, algorithm: gcra, burst: 1"), "4:75", "one pace for all");
    let out = "outbound:\n  providers: {openai: {}}\n  limits:\n    - {usd: 1, tier: header:x-plan, tiers: {free: 1}, window: 1d}\n";
    says(out, "4:22", "known at the inbound door");
}

#[test]
fn an_algorithm_is_one_of_three_words() {
    refused::<AlgorithmWord>("bucket", "`sliding`, `fixed` or `gcra`");
}
