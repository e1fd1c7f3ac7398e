//! `access.bans`: who is refused too often stays out for a while; everybody else notices nothing.

use http::{Request, StatusCode};
use outrigger::policy::{auth::key, bans::Who};
use tempfile::NamedTempFile;

use crate::world::{Reply, World, pass, run, secs};

/// A good key.
fn good() -> String {
    key::mint([1; 32])
}

/// The file that knows it.
fn keys() -> NamedTempFile {
    let sha256: String = key::digest(&good()).iter().map(|byte| format!("{byte:02x}")).collect();
    let row = serde_json::json!({"name": "ann", "shows": &good()[..outrigger::config::KeyFile::SHOWN], "sha256": sha256});
    let file = NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), serde_json::json!({"keys": [row]}).to_string()).expect("written");
    file
}

/// A bad credential is refused by the proxy. Clients stand behind a proxy that is believed.
fn yaml(keys: &NamedTempFile, mode: &str) -> String {
    let keys = keys.path().display();
    format!(
        "inbound:\n  app: http://app.test\n  trusted_proxies: [203.0.113.0/24]\n  caller: [header:x-user-id, client_ip]\n  routes:\n    \
         - {{name: api, match: {{path: /api/**}}, auth: {{api_keys: {{file: {keys}}}}}, access: {{bans: {{mode: {mode}, after: 5, window: 1m, for: 10m}}}}}}\n    \
         - {{name: shop, match: {{path: /shop/**}}, access: {{bans: {{after: 3, window: 1m, for: 10m, on: [404], by: [caller]}}}}}}\n    \
         - {{name: open, match: {{path: /open}}}}\n"
    )
}

async fn ask(world: &World, path: &str, from: &str, fields: &[(&'static str, &str)]) -> (u16, String) {
    let mut asked = Request::get(path).header("x-forwarded-for", from);
    for (name, value) in fields {
        asked = asked.header(*name, *value);
    }
    let answer = world.client().ask(asked, "").await;
    let reason =
        if answer.status.is_client_error() && answer.text().starts_with('{') { answer.json()["reason"].to_string() } else { String::new() };
    (answer.status.as_u16(), reason.trim_matches('"').to_owned())
}

/// A key that nobody has made.
fn bad() -> String {
    format!("Bearer {}", key::mint([9; 32]))
}

#[test]
fn five_bad_credentials_put_an_address_out_and_nobody_else() {
    run(async {
        let keys = keys();
        let world = World::new(&yaml(&keys, "enforce")).await;
        for nth in 0..5 {
            assert_eq!(ask(&world, "/api/x", "192.0.2.1", &[("authorization", &bad())]).await, (401, "auth_invalid".into()), "{nth}");
        }
        assert_eq!(ask(&world, "/api/x", "192.0.2.1", &[("authorization", &bad())]).await, (403, "banned".into()));
        assert_eq!(ask(&world, "/api/x", "192.0.2.1", &[]).await.1, "banned", "whatever it shows");
        assert_eq!(ask(&world, "/open", "192.0.2.1", &[]).await.0, 200, "a route without bans asks nobody");
        assert_eq!(ask(&world, "/api/x", "192.0.2.2", &[("authorization", &bad())]).await.1, "auth_invalid", "another address");
        // A reload forgets nothing.
        world.reload(&yaml(&keys, "enforce")).expect("taken");
        assert_eq!(ask(&world, "/api/x", "192.0.2.1", &[("authorization", &bad())]).await.1, "banned");
        assert_eq!(world.count("outrigger_rejects_total", &[("route", "api"), ("reason", "banned")]), 3.0);
        let all = world.shared.bans.list(outrigger::clock::Instant::now());
        assert_eq!((all.len(), all[0].0.to_string(), all[0].1.why, &*all[0].1.route), (1, "192.0.2.1".into(), "auth_invalid", "api"));
        assert!(world.shared.bans.lift(&Who::parse("192.0.2.1").expect("an address")));
        assert_eq!(ask(&world, "/api/x", "192.0.2.1", &[("authorization", &bad())]).await.1, "auth_invalid", "in again");
        for _ in 0..5 {
            ask(&world, "/api/x", "192.0.2.1", &[("authorization", &bad())]).await;
        }
        assert_eq!(ask(&world, "/api/x", "192.0.2.1", &[("authorization", &bad())]).await.1, "banned");
        pass(secs(600)).await;
        assert_ne!(ask(&world, "/api/x", "192.0.2.1", &[("authorization", &bad())]).await.1, "banned", "the time is over");
    });
}

#[test]
fn bans_that_observe_are_told_and_change_nothing() {
    run(async {
        let keys = keys();
        let world = World::new(&yaml(&keys, "observe")).await;
        for _ in 0..7 {
            assert_ne!(ask(&world, "/api/x", "192.0.2.1", &[("authorization", &bad())]).await.1, "banned");
        }
        assert_eq!(world.count("outrigger_gate_observed_total", &[("route", "api"), ("policy", "bans")]), 2.0);
        assert!(world.log().await.iter().any(|line| line["would_refuse"] == "bans"));
    });
}

#[test]
fn a_caller_is_banned_by_the_apps_own_answers() {
    run(async {
        let keys = keys();
        let world = World::new(&yaml(&keys, "enforce")).await;
        world.app.always(Reply::status(404));
        for from in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
            assert_eq!(ask(&world, "/shop/x", from, &[("x-user-id", "u-17")]).await.0, 404);
        }
        assert_eq!(ask(&world, "/shop/x", "192.0.2.4", &[("x-user-id", "u-17")]).await, (403, "banned".into()));
        assert_eq!(ask(&world, "/shop/x", "192.0.2.1", &[("x-user-id", "u-18")]).await.0, 404, "another caller of the same address");
        for _ in 0..5 {
            assert_eq!(ask(&world, "/shop/x", "192.0.2.9", &[]).await.0, 404, "who is known by the address alone is no caller");
        }
    });
}

#[test]
fn a_thousand_guessers_leave_good_callers_alone_and_memory_bounded() {
    run(async {
        let keys = keys();
        let world = World::new(&yaml(&keys, "enforce")).await;
        let connection = &mut world.client().connect().await;
        for round in 0..7 {
            for n in 0..1_000_u32 {
                let from = std::net::Ipv4Addr::from(0xc633_6400 + n).to_string();
                let asked = Request::get("/api/x").header("x-forwarded-for", &from).header("authorization", bad());
                let answer = connection.ask(asked, "").await.expect("an answer");
                let expected = if round < 5 { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN };
                assert_eq!(answer.status, expected, "{from} in round {round}: {}", answer.text());
            }
            assert_eq!(ask(&world, "/api/x", "192.0.2.77", &[("authorization", &format!("Bearer {}", good()))]).await.0, 200);
        }
        let counts = world.shared.bans.counts();
        assert_eq!((counts.enforced_now, counts.counted_now, counts.made), (1_000, 0, 1_000));
        assert_eq!(world.app.asked(), 7, "the app has seen good callers alone");
    });
}

#[test]
fn what_looks_like_an_attack_is_told_or_refused_and_counts_for_a_ban() {
    run(async {
        let yaml = "inbound:\n  app: http://app.test\n  trusted_proxies: [203.0.113.0/24]\n  routes:\n    \
                    - {name: watched, match: {path: /watched/**}, access: {attacks: {}}}\n    \
                    - {name: shut, match: {path: /shut/**}, access: {attacks: {mode: enforce, kinds: [sql, traversal]}, bans: {after: 3, on: [attacks]}}}\n";
        let world = World::new(yaml).await;
        let sql = "x?id=1'%20or%20'1'='1";
        assert_eq!(ask(&world, &format!("/watched/{sql}"), "192.0.2.1", &[]).await.0, 200);
        assert_eq!(world.count("outrigger_gate_observed_total", &[("route", "watched"), ("policy", "attacks")]), 1.0);
        assert_eq!(ask(&world, "/shut/x?q=o'clock", "192.0.2.1", &[]).await.0, 200);
        assert_eq!(ask(&world, "/shut/x?q=%3Cscript%3E", "192.0.2.1", &[]).await.0, 200, "a kind that is not named");
        for _ in 0..3 {
            assert_eq!(ask(&world, &format!("/shut/{sql}"), "192.0.2.1", &[]).await, (403, "attack_refused".into()));
        }
        assert_eq!(ask(&world, "/shut/x", "192.0.2.1", &[]).await, (403, "banned".into()));
        assert_eq!(ask(&world, "/shut/x", "192.0.2.2", &[]).await.0, 200);
        assert_eq!(world.app.asked(), 4);
    });
}
