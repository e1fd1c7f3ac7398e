//! Limits: what is read, and every mistake.

use super::*;
use crate::config::{
    scalars::tests::refused,
    testing::{OUT, good, limit, says},
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
    says(&limit("requests: 1"), "4:7", "needs `window`");
    says(&limit("window: 1m"), "4:7", "needs one of `requests`, `tokens`, `usd`");
    says(&limit("requests: 1, tokens: 2, window: 1m"), "4:21", "conflicts with `requests`");
    says(&limit("usd: -1, window: 1m"), "4:13", "must not be negative");
    says(&(limit("usd: 1, window: 1m, algorithm: gcra, burst: 1") + OUT), "4:39", "counts requests only");
    says(&limit("requests: 1, window: 1m, algorithm: gcra"), "4:44", "needs `burst`");
    says(&limit("requests: 1, window: 1m, burst: 3"), "4:33", "`burst` is for");
    says(&limit("requests: 1, window: 1m, key: jwt:sub"), "4:38", "JWT keys are not supported yet");
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
fn an_algorithm_is_one_of_three_words() {
    refused::<AlgorithmWord>("bucket", "`sliding`, `fixed` or `gcra`");
}
