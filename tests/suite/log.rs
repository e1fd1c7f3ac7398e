//! `log`: which exchanges of a route have a line in the access log.

use http::Request;

use crate::world::{Reply, World, chat, run};

const YAML: &str = "
inbound:
  app: http://app.test
  defaults: {log: {sample: 0.25}}
  routes:
    - {name: probes, match: {path: /healthz}, log: {sample: 0}}
    - {name: images, match: {path: /img/**}, log: {statuses: {404: 0}}}
    - {name: closed, match: {path: /closed}, log: {sample: 0}, access: {allow: [192.0.2.0/24]}}
outbound:
  providers: {openai: {url: http://openai.test}}
  defaults: {log: {sample: 0}}
";

async fn get(world: &World, path: &str, status: u16) {
    world.app.script([Reply::status(status)]);
    assert_eq!(world.client().ask(Request::get(path), "").await.status, status);
}

#[test]
fn what_goes_well_is_left_out_and_failures_have_their_lines() {
    run(async {
        let world = World::new(YAML).await;
        for status in [200, 500, 204, 404] {
            get(&world, "/healthz", status).await;
        }
        let log = world.log().await;
        let statuses: Vec<_> = log.iter().map(|line| line["status"].as_u64()).collect();
        assert_eq!(statuses, [Some(500), Some(404)]);
        assert_eq!(world.count("outrigger_log_left_out_total", &[("door", "inbound"), ("route", "probes")]), 2.0);
        assert_eq!(world.count("outrigger_requests_total", &[("route", "probes")]), 4.0, "every exchange counts");
    });
}

#[test]
fn a_status_decides_before_all_else_and_a_refusal_has_its_line() {
    run(async {
        let world = World::new(YAML).await;
        for status in [404, 200, 403] {
            get(&world, "/img/a.png", status).await;
        }
        assert_eq!(world.client().ask(Request::get("/closed"), "").await.status, 403);
        let log = world.log().await;
        let lines = |route| log.iter().filter(|line| line["route"] == route).count();
        assert_eq!((lines("images"), lines("closed")), (2, 1), "{log:?}");
    });
}

#[test]
fn a_share_is_kept() {
    run(async {
        let world = World::new(YAML).await;
        for _ in 0..400 {
            get(&world, "/", 200).await;
        }
        let kept = world.log().await.len();
        assert!((60..=140).contains(&kept), "{kept} of 400 at 0.25");
        assert_eq!(world.count("outrigger_log_left_out_total", &[]), (400 - kept) as f64);
    });
}

#[test]
fn a_call_that_costs_money_has_its_line() {
    run(async {
        let world = World::new(YAML).await;
        world.caller().call("/openai/v1/chat/completions", &chat("gpt-4o-mini")).await;
        assert_eq!(world.caller().ask(Request::get("/openai/v1/models"), "").await.status, 200);
        let log = world.log().await;
        assert_eq!(log.len(), 1, "{log:?}");
        assert!(log[0]["cost_usd"].as_f64().is_some_and(|cost| cost > 0.0), "{log:?}");
    });
}
