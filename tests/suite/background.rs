//! An answer is not the end of the work: what is made in the background is charged once, to the one who began it, when an answer says
//! what it used. What no answer says the cost of does not pass a limit in dollars or tokens.

use http::{Method, Request, StatusCode};
use serde_json::{Value, json};

use crate::world::{Answer, Reply, World, json as post, pass, run, secs, settle};

const RESPONSES: &str = "/scripted/v1/responses";
const JSON: &str = "application/json";
const SSE: &str = "text/event-stream";

const LIMITED: &str = "
outbound:
  providers: {scripted: {api: openai, url: 'http://s.test'}}
  limits: [{name: budget, usd: 3, window: 1h}]
";

fn response(id: &str, status: &str, output: u64) -> Value {
    let usage = (output > 0).then(|| json!({"input_tokens": 1_000, "output_tokens": output, "total_tokens": 1_000 + output}));
    json!({"id": id, "object": "response", "background": true, "model": "o3-deep-research", "status": status, "output": [], "usage": usage})
}

fn reply(body: &Value) -> Reply {
    Reply::ok("").bytes(body.to_string().into_bytes()).header("content-type", JSON)
}

/// Asks for a response in the background, in this caller's name.
async fn ask(world: &World, caller: &str, said: &Value) -> Answer {
    world.app.always(reply(said));
    let body = json!({"model": "o3-deep-research", "input": "hi", "background": true, "max_output_tokens": 20_000});
    let answer = world.caller().ask(post(RESPONSES).header("outrigger-caller", caller), body.to_string()).await;
    settle().await;
    answer
}

async fn poll(world: &World, caller: &str, said: &Value) -> Answer {
    world.app.always(reply(said));
    let path = format!("{RESPONSES}/{}", said["id"].as_str().expect("an id"));
    let answer = world.caller().ask(Request::get(path).header("outrigger-caller", caller), "").await;
    settle().await;
    answer
}

/// Nano-dollars by caller, the largest spender first.
fn spent(world: &World) -> Vec<(String, u64)> {
    let all = world.shared.spend.by_caller();
    all.iter().filter(|(_, spent)| spent.nano_usd > 0).map(|(caller, spent)| (caller.to_string(), spent.nano_usd)).collect()
}

/// 1,000 of input and 50,000 of output, at 10 and 40 dollars a million.
const PRICE: u64 = 2_010_000_000;

#[test]
fn it_is_charged_once_to_the_one_who_began_it() {
    run(async {
        let world = World::new(LIMITED).await;
        assert_eq!(ask(&world, "anna", &response("resp_1", "queued", 0)).await.status, StatusCode::OK);
        assert_eq!(poll(&world, "bert", &response("resp_1", "in_progress", 0)).await.status, StatusCode::OK);
        assert_eq!(spent(&world), [], "nothing is known yet");
        for _ in 0..3 {
            assert_eq!(poll(&world, "bert", &response("resp_1", "completed", 50_000)).await.status, StatusCode::OK);
            assert_eq!(spent(&world), [("anna".to_owned(), PRICE)]);
        }
        let cost = world.count("outrigger_cost_usd_total", &[("provider", "scripted")]);
        assert!((cost - 2.01).abs() < 1e-9, "{cost}");
        let lines = world.log().await;
        let charged: Vec<f64> = lines.iter().filter_map(|line| line["cost_usd"].as_f64()).collect();
        assert_eq!(charged, [2.01], "{lines:#?}");
        // $2.01 of $3 are gone: of two more of $0.80 each, one fits.
        assert_eq!(ask(&world, "anna", &response("resp_2", "queued", 0)).await.status, StatusCode::OK);
        assert_eq!(ask(&world, "anna", &response("resp_3", "queued", 0)).await.status, StatusCode::TOO_MANY_REQUESTS);
    });
}

#[test]
fn what_is_reserved_for_it_stands_until_it_ends() {
    run(async {
        let world = World::new(LIMITED).await;
        // Each may cost $0.80.
        for id in ["a", "b", "c"] {
            assert_eq!(ask(&world, "anna", &response(id, "queued", 0)).await.status, StatusCode::OK, "{id}");
        }
        assert_eq!(ask(&world, "anna", &response("d", "queued", 0)).await.status, StatusCode::TOO_MANY_REQUESTS);
        poll(&world, "anna", &response("b", "in_progress", 0)).await;
        assert_eq!(ask(&world, "anna", &response("d", "queued", 0)).await.status, StatusCode::TOO_MANY_REQUESTS);
        poll(&world, "anna", &response("b", "cancelled", 0)).await;
        assert_eq!(ask(&world, "anna", &response("d", "queued", 0)).await.status, StatusCode::OK, "the cancelled one gave its part back");
        poll(&world, "anna", &response("a", "completed", 100)).await;
        assert_eq!(ask(&world, "anna", &response("e", "queued", 0)).await.status, StatusCode::OK, "and so did the one that used little");
        assert_eq!(ask(&world, "anna", &response("f", "queued", 0)).await.status, StatusCode::TOO_MANY_REQUESTS);
    });
}

#[test]
fn work_from_before_the_start_is_charged_once_and_a_stored_response_not_at_all() {
    run(async {
        let world = World::new(LIMITED).await;
        for _ in 0..2 {
            poll(&world, "bert", &response("from_before", "completed", 50_000)).await;
            assert_eq!(spent(&world), [("bert".to_owned(), PRICE)]);
        }
        let mut stored = response("resp_1", "completed", 100);
        stored["background"] = json!(false);
        ask(&world, "anna", &stored).await;
        let after = spent(&world);
        assert_eq!(after.len(), 2, "made before its answer: charged by it");
        poll(&world, "bert", &stored).await;
        assert_eq!(spent(&world), after);
        let ended = response("resp_2", "completed", 100);
        ask(&world, "anna", &ended).await;
        let after = spent(&world);
        poll(&world, "bert", &ended).await;
        assert_eq!(spent(&world), after, "it had ended when it was answered");
    });
}

#[test]
fn a_stream_that_is_cut_goes_on_and_is_charged_when_it_is_resumed() {
    run(async {
        let world = World::new(LIMITED).await;
        let event = |name: &str, said: &Value| format!("event: {name}\ndata: {}\n\n", json!({"type": name, "response": said}));
        let begun = event("response.created", &response("resp_1", "queued", 0));
        let delta = "event: response.output_text.delta\ndata: {\"delta\":\"hi\"}\n\n";
        let ended = event("response.completed", &response("resp_1", "completed", 50_000));
        let stream = |text: String| Reply::ok("").bytes(text.into_bytes()).header("content-type", SSE);
        world.app.script([stream(format!("{begun}{delta}")), stream(format!("{delta}{ended}")), stream(ended)]);
        let body = json!({"model": "o3-deep-research", "input": "hi", "background": true, "stream": true, "max_output_tokens": 20_000});
        world.caller().ask(post(RESPONSES).header("outrigger-caller", "anna"), body.to_string()).await;
        settle().await;
        assert_eq!(spent(&world), []);
        for _ in 0..2 {
            world.caller().ask(Request::get(format!("{RESPONSES}/resp_1?stream=true&starting_after=1")), "").await;
            settle().await;
            assert_eq!(spent(&world), [("anna".to_owned(), PRICE)]);
        }
    });
}

#[test]
fn what_is_forgotten_keeps_its_reservation_and_is_counted() {
    run(async {
        let world = World::new(&LIMITED.replace("window: 1h", "window: 7d")).await;
        let forgotten = || world.count("outrigger_background_forgotten_total", &[]);
        assert!(world.metrics().contains("outrigger_background_forgotten_total 0\n"), "there from the start");
        ask(&world, "anna", &response("a", "queued", 0)).await;
        assert_eq!((forgotten(), world.shared.works.under_way()), (0.0, 1));
        pass(secs(86_401)).await;
        // Each may cost $0.80 of $3: with the forgotten one, three fit.
        for (id, status) in [("b", StatusCode::OK), ("c", StatusCode::OK), ("d", StatusCode::TOO_MANY_REQUESTS)] {
            assert_eq!(ask(&world, "anna", &response(id, "queued", 0)).await.status, status, "{id}");
        }
        assert_eq!((forgotten(), world.shared.works.under_way()), (1.0, 2));
    });
}

#[test]
fn polls_are_not_answered_from_the_cache() {
    run(async {
        let yaml = "
outbound:
  providers: {scripted: {api: openai, url: 'http://s.test'}}
  defaults: {cache: {ttl: 1h}}
";
        let world = World::new(yaml).await;
        for (asked, status) in ["queued", "in_progress", "completed", "completed"].into_iter().enumerate() {
            assert_eq!(poll(&world, "anna", &response("resp_1", status, 0)).await.json()["status"], status);
            assert_eq!(world.app.asked(), asked + 1);
        }
    });
}

#[test]
fn what_no_answer_says_the_cost_of_does_not_pass_a_limit() {
    run(async {
        let limits = |limit: &str| {
            format!(
                "\noutbound:\n  providers: {{scripted: {{api: openai, url: 'http://s.test'}}}}\n  limits: [{{name: l, window: 1h, {limit}}}]\n"
            )
        };
        for (limit, batch, unknown) in [
            ("usd: 3", 403, 403),
            ("usd: 3, unpriced: allow", 200, 200),
            ("usd: 3, mode: observe", 200, 200),
            ("tokens: 100k", 403, 200),
            ("requests: 100", 200, 200),
        ] {
            let world = World::new(&limits(limit)).await;
            world.app.always(Reply::ok("{\"id\":\"x\"}").header("content-type", JSON));
            for (path, expected) in [
                ("/scripted/v1/batches", batch),
                ("/scripted/v1/messages/batches", batch),
                ("/scripted/v1/videos", batch),
                ("/scripted/v1/responses/compact", batch),
                ("/scripted/v1/rerank", unknown),
                ("/scripted/v1/files", 200),
                ("/scripted/v1/batches/b_1/cancel", 200),
            ] {
                let answer = world.caller().ask(post(path), "{}").await;
                assert_eq!(answer.status.as_u16(), expected, "{limit} {path}: {}", answer.text());
                if expected == 403 {
                    assert_eq!(answer.json()["error"]["code"], "unmetered", "{}", answer.text());
                }
            }
            for (method, path) in
                [(Method::GET, "/scripted/v1/models"), (Method::GET, "/scripted/v1/batches/b_1"), (Method::DELETE, "/scripted/v1/files/f")]
            {
                let answer = world.caller().ask(Request::builder().method(&method).uri(path), "").await;
                assert_eq!(answer.status, StatusCode::OK, "{limit} {method} {path}: {}", answer.text());
            }
        }
    });
}

#[test]
fn a_websocket_to_a_model_does_not_pass_a_limit_in_dollars() {
    run(async {
        for (limits, expected) in [("", StatusCode::SWITCHING_PROTOCOLS), ("  limits: [{usd: 3, window: 1h}]", StatusCode::FORBIDDEN)] {
            let world =
                World::new(&format!("\noutbound:\n  providers: {{scripted: {{api: openai, url: 'http://s.test'}}}}\n{limits}\n")).await;
            world.app.always(Reply::tunnel());
            let request = Request::get("/scripted/v1/realtime?model=gpt-realtime")
                .header("connection", "upgrade")
                .header("upgrade", "websocket")
                .header("sec-websocket-version", "13")
                .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
            assert_eq!(world.caller().open(request, "").await.status, expected, "{limits}");
        }
    });
}

#[test]
fn counting_tokens_costs_nothing() {
    run(async {
        let yaml = "
outbound:
  providers: {scripted: {api: anthropic, url: 'http://s.test'}}
  limits: [{name: budget, usd: 0.01, window: 1h}]
";
        let world = World::new(yaml).await;
        world.app.always(Reply::ok("{\"input_tokens\":14}").header("content-type", JSON));
        let body = json!({"model": "claude-opus-4-1", "messages": [{"role": "user", "content": "word ".repeat(5_000)}]});
        for _ in 0..3 {
            let answer = world.caller().call("/scripted/v1/messages/count_tokens", &body).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        }
        settle().await;
        assert_eq!(spent(&world), []);
    });
}
