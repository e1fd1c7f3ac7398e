//! What policies in `observe` would have refused is told: which request, and why.

use http::Request;
use outrigger::telemetry::observed::ObservedFilter;
use serde_json::Value;

use crate::world::{World, run};

const YAML: &str = "
inbound:
  app: http://app.test
  trusted_proxies: [203.0.113.0/24]
  caller: [header:x-user-id, client_ip]
  limits: [{name: pace, mode: observe, key: caller, requests: 2, window: 1m}]
  routes:
    - {name: forms, match: {path: /forms}, csrf: {mode: observe}, access: {mode: observe, deny: [192.0.2.9]}}
    - {name: typed, match: {path: /typed}, validate: {mode: observe, methods: [GET]}}
    - {name: open, match: {path: /open}}
";

fn found(world: &World, pairs: &[(&str, &str)]) -> Vec<Value> {
    let filter = ObservedFilter::read(pairs.iter().copied(), world.shared.clock.unix_millis()).expect("read");
    world.shared.observed.find(&filter)["observed"].as_array().expect("rows").clone()
}

fn by(row: &Value) -> Vec<&str> {
    row["would_refuse"].as_array().expect("reasons").iter().map(|by| by["policy"].as_str().expect("a name")).collect()
}

#[test]
fn each_request_that_would_have_been_refused_is_named_with_every_reason() {
    run(async {
        let world = World::new(YAML).await;
        let ask = async |method: &str, path: &str, from: &str, user: &str| {
            let asked = Request::builder().method(method).uri(path).header("x-forwarded-for", from).header("x-user-id", user);
            assert_eq!(world.client().ask(asked.header("sec-fetch-site", "cross-site"), "").await.status.as_u16(), 200);
        };
        ask("GET", "/open?token=secret", "192.0.2.1", "ann").await;
        assert!(found(&world, &[]).is_empty(), "nothing is kept of a request that nobody would have refused");
        ask("POST", "/forms?token=secret", "192.0.2.9", "ann").await;
        ask("DELETE", "/typed", "192.0.2.1", "bob").await;
        ask("GET", "/open", "192.0.2.1", "ann").await;
        let all = found(&world, &[]);
        assert_eq!(all.iter().map(by).collect::<Vec<_>>(), [vec!["pace"], vec!["validate"], vec!["access", "csrf"]]);
        let first = &all[2];
        assert_eq!(
            (&first["route"], &first["caller"], &first["address"], &first["method"]),
            (&"forms".into(), &"ann".into(), &"192.0.2.9".into(), &"POST".into())
        );
        assert_eq!((&first["path"], &first["status"]), (&"/forms".into(), &200.into()));
        assert!(
            first["would_refuse"][1]["why"].as_str().is_some_and(|why| why.contains("another site") || why.contains("cross-site")),
            "{first:#}"
        );
        assert!(!format!("{all:?}").contains("secret"), "no query is kept");
        assert_eq!(found(&world, &[("policy", "csrf"), ("caller", "ann")]).len(), 1);
        assert_eq!(found(&world, &[("route", "typed")]).len(), 1);
        assert_eq!(world.shared.observed.erase("ann"), 2);
        assert_eq!(found(&world, &[]).len(), 1);
    });
}
