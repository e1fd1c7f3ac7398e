//! What the proxy says about itself: numbers that add up, one line per exchange, and traces that go on.

use http::{Request, StatusCode};

use crate::world::{Reply, World, chat, json, run, secs};

const BOTH: &str = "
inbound:
  app: http://app.test
  routes: [{name: shop, match: {path: /shop/**}}, {name: shut, match: {path: /shut}, access: {deny: [0.0.0.0/0]}}]
outbound: {providers: {openai: {url: 'http://o.test'}}}
";

#[test]
fn every_request_is_counted_once_by_door_route_and_status() {
    run(async {
        let world = World::new(BOTH).await;
        world.app.script([Reply::ok("x"), Reply::status(404), Reply::status(500)]);
        for _ in 0..3 {
            world.client().get("/shop/1").await;
        }
        world.client().get("/shut").await;
        world.caller().call("/nobody/v1", &chat("m")).await;
        let of = |door, route, code| world.count("outrigger_requests_total", &[("door", door), ("route", route), ("code", code)]);
        assert_eq!([of("inbound", "shop", "200"), of("inbound", "shop", "404"), of("inbound", "shop", "500")], [1.0; 3]);
        assert_eq!(of("inbound", "shut", "403"), 1.0);
        assert_eq!(world.count("outrigger_requests_total", &[]), 5.0);
        assert_eq!(world.count("outrigger_rejects_total", &[("route", "shut"), ("reason", "access_denied")]), 1.0);
        assert_eq!(world.count("outrigger_rejects_total", &[("door", "outbound"), ("reason", "no_route")]), 1.0);
        assert_eq!(world.count("outrigger_request_duration_seconds_count", &[("route", "shop")]), 3.0);
    });
}

#[test]
fn time_is_told_apart_the_whole_the_upstreams_and_our_own() {
    run(async {
        let world = World::new(BOTH).await;
        world.app.script([Reply::paced(secs(1), &["a", "b"]).after(secs(3))]);
        world.client().get("/shop/1").await;
        assert_eq!(world.count("outrigger_request_duration_seconds_sum", &[("route", "shop")]).round(), 5.0);
        assert_eq!(world.count("outrigger_upstream_duration_seconds_sum", &[("target", "app")]).round(), 3.0);
        assert!(world.count("outrigger_own_duration_seconds_sum", &[("route", "shop")]) < 0.01);
    });
}

#[test]
fn an_exchange_is_one_line_of_json_with_what_happened() {
    run(async {
        let world = World::new(BOTH).await;
        world.app.script([Reply::ok("four").after(secs(1))]);
        world.client().ask(Request::post("/shop/1?token=hush&q=a"), "12345").await;
        world.client().get("/shut").await;
        let lines = world.log().await;
        assert_eq!(lines.len(), 2);
        let line = &lines[0];
        let told = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        assert_eq!(
            [told("door"), told("route"), told("method"), told("host"), told("path"), told("target"), told("client_ip"), told("outcome")],
            ["inbound", "shop", "POST", "shop.example", "/shop/1?token=***&q=a", "app", "203.0.113.7", "complete"]
        );
        assert_eq!(
            ["status", "tries", "bytes_in", "bytes_out", "duration_ms", "upstream_ms"].map(|name| line[name].as_u64()),
            [Some(200), Some(1), Some(5), Some(4), Some(1_000), Some(1_000)],
            "{line:#}"
        );
        assert_eq!(told("timestamp"), "2027-01-15T08:00:00.000Z");
        assert!(!line.to_string().contains("hush"), "{line:#}");
        assert_eq!(world.app.only().header("x-request-id"), told("request_id"));
        assert_eq!(
            (lines[1]["status"].as_u64(), lines[1]["reason"].as_str(), lines[1]["outcome"].as_str()),
            (Some(403), Some("access_denied"), Some("rejected"))
        );
    });
}

#[test]
fn a_line_tells_why_tries_were_made_again_and_which_limit_refused() {
    run(async {
        let world = World::new(
            "{inbound: {app: 'http://app.test', routes: [{match: {path: /a}, retry: {max_retries: 2, backoff: [1ms]}},
              {match: {path: /b}, limits: [{name: few, key: client_ip, requests: 1, window: 1m}]}]}}",
        )
        .await;
        world.app.script([Reply::status(503), Reply::status(502)]);
        world.client().get("/a").await;
        for _ in 0..2 {
            world.client().get("/b").await;
        }
        let lines = world.log().await;
        assert_eq!(
            (&lines[0]["tries"], &lines[0]["thrown_away"]),
            (&serde_json::json!(3), &serde_json::json!(["status_5xx", "status_5xx"])),
            "{:#}",
            lines[0]
        );
        assert_eq!((&lines[2]["reason"], &lines[2]["limit"]), (&serde_json::json!("limited"), &serde_json::json!("few")), "{:#}", lines[2]);
    });
}

#[test]
fn a_call_is_joined_to_the_request_that_caused_it() {
    run(async {
        let world = World::new(BOTH).await;
        world.client().get("/shop/1").await;
        let baggage = world.app.only().header("baggage").to_owned();
        let asked = json("/openai/v1/chat/completions").header("baggage", baggage);
        assert_eq!(world.caller().ask(asked, chat("gpt-4o").to_string()).await.status, StatusCode::OK);
        let lines = world.log().await;
        assert_eq!(lines[1]["cause"], lines[0]["request_id"], "{:#}", lines[1]);
    });
}

#[test]
fn a_trace_passes_untouched_where_otlp_is_off_and_goes_on_where_it_is_on() {
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    run(async {
        let world = World::new(BOTH).await;
        world.client().ask(Request::get("/shop/1").header("traceparent", PARENT).header("tracestate", "a=1"), "").await;
        world.client().get("/shop/1").await;
        let seen = world.app.seen();
        assert_eq!((seen[0].header("traceparent"), seen[0].header("tracestate"), seen[1].header("traceparent")), (PARENT, "a=1", ""));
    });
    run(async {
        let world = World::new(&format!("{BOTH}telemetry: {{otlp: 'http://127.0.0.1:9'}}\n")).await;
        world.client().ask(Request::get("/shop/1").header("traceparent", PARENT).header("tracestate", "a=1"), "").await;
        world.client().get("/shop/1").await;
        let seen = world.app.seen();
        let (begin, rest) = seen[0].header("traceparent").split_at(36);
        assert_eq!(begin, &PARENT[..36], "the trace is the same");
        assert!(rest.len() == 19 && rest != &PARENT[36..] && rest.ends_with("-01"), "the span is ours: {rest}");
        assert_eq!(seen[0].header("tracestate"), "a=1");
        assert_eq!(seen[1].header("traceparent").len(), 55, "a trace begins here");
        let asked = json("/openai/v1/chat/completions").header("traceparent", seen[0].header("traceparent"));
        world.caller().ask(asked, chat("gpt-4o").to_string()).await;
        let outbound = world.provider("openai").seen()[0].header("traceparent").expect("continued").to_owned();
        assert!(outbound.starts_with(&PARENT[..36]) && outbound != seen[0].header("traceparent"));
    });
}

#[test]
fn server_timing_is_told_where_it_is_switched_on() {
    run(async {
        let yaml = |on: bool| {
            format!(
                "inbound: {{app: 'http://app.test', server_timing: {on}, routes: [\
                 {{match: {{path: /kept}}, cache: {{ttl: 60s}}}}, {{match: {{path: /**}}, retry: {{backoff: [1s]}}}}]}}"
            )
        };
        let world = World::new(&yaml(true)).await;
        world.app.script([Reply::ok("x").after(secs(2)), Reply::status(503), Reply::ok("x").header("server-timing", "db;dur=1")]);
        let timing = |answer: &crate::world::Answer| {
            answer.headers.get_all("server-timing").iter().map(|value| value.to_str().expect("text").to_owned()).collect::<Vec<_>>()
        };
        let asked = timing(&world.client().get("/kept").await);
        // Timers of the paused clock are a millisecond coarse.
        assert!(asked.len() == 1 && asked[0].starts_with("outrigger;dur=") && asked[0].contains(", upstream;dur=200"), "{asked:?}");
        assert!(asked[0].ends_with(", tries;desc=1, cache;desc=miss"), "{asked:?}");
        crate::world::settle().await;
        assert_eq!(timing(&world.client().get("/kept").await), ["outrigger;dur=0.000, cache;desc=hit"]);
        let again = timing(&world.client().get("/other").await);
        assert_eq!(again[0], "db;dur=1", "what the app says stays");
        assert!(again[1].contains("tries;desc=2") && !again[1].contains("cache"), "{again:?}");
        let world = World::new(&yaml(false)).await;
        assert_eq!(world.client().get("/kept").await.header("server-timing"), "");
    });
}
