//! An answer is not the end of the work: what is made in the background is charged once, to the one who began it, when an answer says
//! what it used.

use http::{Request, StatusCode};
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
fn what_is_deleted_is_charged_as_it_was_reserved_to_the_one_who_began_it() {
    run(async {
        let world = World::new(LIMITED).await;
        let delete = async |id: &str, status: u16| {
            world.app.always(Reply::status(status).body("{\"deleted\":true}").header("content-type", JSON));
            let request = Request::delete(format!("{RESPONSES}/{id}")).header("outrigger-caller", "bert");
            assert_eq!(world.caller().ask(request, "").await.status.as_u16(), status);
            settle().await;
        };
        ask(&world, "anna", &response("resp_1", "queued", 0)).await;
        delete("resp_1", 404).await;
        assert_eq!(spent(&world), [], "it was not deleted");
        for _ in 0..2 {
            delete("resp_1", 200).await;
            // A prompt of 30 tokens by its length, and 20,000 of output, at 10 and 40 dollars a million.
            assert_eq!(spent(&world).iter().map(|(caller, nano)| (&**caller, nano / 1_000_000)).collect::<Vec<_>>(), [("anna", 800)]);
        }
        delete("nobody_knows_it", 200).await;
        ask(&world, "anna", &response("resp_2", "completed", 100)).await;
        let before = spent(&world);
        delete("resp_2", 200).await;
        assert_eq!(spent(&world), before, "it was charged when it ended");
        assert_eq!(world.shared.works.under_way(), 0);
    });
}

#[test]
fn a_compaction_is_charged_by_its_answer() {
    run(async {
        let world = World::new(LIMITED).await;
        let usage = json!({"input_tokens": 1_000, "output_tokens": 50_000, "total_tokens": 51_000});
        let answer = json!({"id": "resp_1", "object": "response.compaction", "created_at": 1, "output": [], "usage": usage});
        world.app.always(reply(&answer));
        let body = json!({"model": "o3-deep-research", "input": "hi"}).to_string();
        for (status, times) in [(200, 1), (200, 2), (429, 2)] {
            let answer = world.caller().ask(post("/scripted/v1/responses/compact").header("outrigger-caller", "anna"), body.clone()).await;
            assert_eq!(answer.status.as_u16(), status, "{}", answer.text());
            settle().await;
            assert_eq!(spent(&world), [("anna".to_owned(), times * PRICE)]);
        }
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

/// A world whose limits in dollars and tokens are spent, and `anna`'s work under way in it.
async fn spent_with(work: &str) -> World {
    let world = World::new(
        "
outbound:
  providers: {scripted: {api: openai, url: 'http://s.test'}}
  limits:
    - {name: budget, key: caller, usd: 0.85, window: 1h, unpriced: allow}
    - {name: all, usd: 1000, window: 1h, unpriced: allow}
    - {name: words, tokens: 25k, window: 1h}
  routes: [{name: research, match: {operation: responses}}]
",
    )
    .await;
    assert_eq!(ask(&world, "anna", &response(work, "queued", 0)).await.status, StatusCode::OK);
    assert_eq!(ask(&world, "anna", &response("more", "queued", 0)).await.status, StatusCode::TOO_MANY_REQUESTS);
    world
}

/// What is left of a limit for `caller`, in its unit; a limit that was passed leaves nothing.
async fn left(world: &World, limit: &str, caller: &str) -> u64 {
    // Of this path nothing is known: it is asked of the limits, and costs nothing.
    let request = Request::post("/scripted/v1/something/new").header("outrigger-caller", caller);
    let answer = world.caller().ask(request.header("host", "localhost"), "").await;
    let mut states = answer.headers.get_all("ratelimit").iter().flat_map(|field| field.to_str().expect("text").split(", "));
    let state = states.find(|state| state.starts_with(&format!("\"{limit}\""))).expect("the limit's state").to_owned();
    state.split("r=").nth(1).expect("r").split(';').next().expect("a number").parse().expect("a number")
}

/// A poll orders nothing: a limit that is spent does not hide what was paid for.
#[test]
fn no_limit_on_dollars_or_tokens_refuses_a_poll_and_it_settles_for_who_began() {
    run(async {
        let world = spent_with("resp_1").await;
        for caller in ["anna", "bert"] {
            assert_eq!(poll(&world, caller, &response("resp_1", "in_progress", 0)).await.status, StatusCode::OK, "{caller}");
        }
        assert_eq!(poll(&world, "bert", &response("resp_1", "completed", 50_000)).await.status, StatusCode::OK);
        assert_eq!(spent(&world), [("anna".to_owned(), PRICE)], "not the one who asked");
        // More than was reserved: a debt that refuses orders, and still no poll.
        assert_eq!(poll(&world, "anna", &response("resp_1", "completed", 50_000)).await.status, StatusCode::OK);
        assert_eq!(ask(&world, "anna", &response("resp_2", "queued", 0)).await.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!((left(&world, "budget", "anna").await, left(&world, "words", "anna").await), (0, 0));
        assert_eq!(left(&world, "all", "anna").await, 1_000_000_000_000 - PRICE);
        // It stands in the books under the route that ordered it.
        let cost = world.count("outrigger_cost_usd_total", &[("route", "research"), ("model", "o3-deep-research")]);
        assert!((cost - 2.01).abs() < 1e-9, "{}", world.metrics());
        let lines = world.log().await;
        let charged: Vec<_> = lines.iter().filter(|line| line["cost_usd"].is_number()).collect();
        assert_eq!(charged.len(), 1, "{charged:#?}");
        for (field, value) in [("caller", "anna"), ("route", "research"), ("operation", "responses"), ("outcome", "charged_late")] {
            assert_eq!(charged[0][field], value, "{field}: {:#}", charged[0]);
        }
    });
}

#[test]
fn two_polls_at_once_and_a_poll_beside_a_resumed_stream_settle_once() {
    run(async {
        let ended = response("resp_1", "completed", 50_000);
        let event = format!("event: response.completed\ndata: {}\n\n", json!({"type": "response.completed", "response": ended}));
        let stream = || Reply::ok("").bytes(event.clone().into_bytes()).header("content-type", SSE);
        for replies in [[reply(&ended), reply(&ended)], [stream(), reply(&ended)], [reply(&ended), stream()]] {
            let world = spent_with("resp_1").await;
            world.app.script(replies);
            let caller = world.caller();
            let get = |query: &str| caller.ask(Request::get(format!("{RESPONSES}/resp_1{query}")).header("outrigger-caller", "bert"), "");
            let (one, two) = tokio::join!(get("?stream=true&starting_after=7"), get(""));
            assert_eq!((one.status, two.status), (StatusCode::OK, StatusCode::OK));
            settle().await;
            assert_eq!(spent(&world), [("anna".to_owned(), PRICE)]);
            assert_eq!(left(&world, "all", "anna").await, 1_000_000_000_000 - PRICE);
        }
    });
}

#[test]
fn a_work_that_ends_without_figures_is_charged_what_it_read_and_said_and_one_that_failed_nothing() {
    run(async {
        for (path, status, source) in
            [("/cancel", "cancelled", "estimated"), ("", "cancelled", "estimated"), ("", "expired", "estimated"), ("", "failed", "")]
        {
            let world = spent_with("resp_1").await;
            let mut said = response("resp_1", status, 0);
            if status == "failed" {
                said["error"] = json!({"code": "server_error", "message": "it broke"});
            }
            world.app.always(reply(&said));
            for _ in 0..2 {
                let request =
                    if path.is_empty() { Request::get(format!("{RESPONSES}/resp_1")) } else { post(&format!("{RESPONSES}/resp_1{path}")) };
                assert_eq!(world.caller().ask(request.header("outrigger-caller", "bert"), "").await.status, StatusCode::OK, "{status}");
                settle().await;
            }
            let estimated = world.count("outrigger_tokens_total", &[("class", "input"), ("source", "estimated")]);
            let cost: u64 = spent(&world).iter().map(|(_, nano_usd)| nano_usd).sum();
            // The prompt has a token or two, at $10 a million; what the answer says has a few more.
            assert_eq!(
                (estimated > 0.0, (50_000..5_000_000).contains(&cost)),
                (!source.is_empty(), !source.is_empty()),
                "{status}: {cost}"
            );
            assert_eq!(left(&world, "all", "anna").await, 1_000_000_000_000 - cost, "{status}");
            assert!(spent(&world).iter().all(|(caller, _)| caller == "anna"), "{status}");
        }
    });
}

/// The provider knows the id no more: what was reserved stands, and a later answer still settles.
#[test]
fn a_poll_that_finds_nothing_settles_nothing() {
    run(async {
        let world = spent_with("resp_1").await;
        world.app.script([Reply::status(404), Reply::status(500)]);
        for expected in [404, 500] {
            let answer = world.caller().ask(Request::get(format!("{RESPONSES}/resp_1")), "").await;
            assert_eq!(answer.status.as_u16(), expected);
        }
        assert_eq!(ask(&world, "anna", &response("resp_2", "queued", 0)).await.status, StatusCode::TOO_MANY_REQUESTS);
        poll(&world, "bert", &response("resp_1", "completed", 50_000)).await;
        assert_eq!(spent(&world), [("anna".to_owned(), PRICE)]);
    });
}

#[test]
fn work_of_nobody_known_is_charged_to_who_asks_and_to_their_limits_without_refusal() {
    run(async {
        let world = spent_with("resp_1").await;
        for _ in 0..2 {
            assert_eq!(poll(&world, "anna", &response("from_before", "completed", 50_000)).await.status, StatusCode::OK);
            assert_eq!(poll(&world, "bert", &response("from_before", "completed", 50_000)).await.status, StatusCode::OK);
            assert_eq!(spent(&world), [("anna".to_owned(), PRICE)], "the first who asks");
        }
        let reserved = 800_010_000..800_100_000;
        let used = 1_000_000_000_000 - left(&world, "all", "anna").await;
        assert!(reserved.contains(&(used - PRICE)), "{used}: what it came to beside what is reserved for the other");
        assert_eq!(left(&world, "budget", "bert").await, 850_000_000);
    });
}

#[test]
fn a_work_that_is_forgotten_is_charged_what_was_reserved() {
    run(async {
        let world = World::new(LIMITED).await;
        ask(&world, "anna", &response("a", "queued", 0)).await;
        pass(secs(86_400)).await;
        assert_eq!(spent(&world), []);
        // A minute later nobody has asked for anything else.
        pass(secs(61)).await;
        let spent = spent(&world);
        assert!(matches!(&spent[..], [(caller, 800_010_000..800_100_000)] if caller == "anna"), "{spent:?}");
        let lines = world.log().await;
        let late: Vec<_> = lines.iter().filter(|line| line["outcome"] == "charged_late").collect();
        assert_eq!((late.len(), &late[0]["tokens"]["source"], &late[0]["caller"]), (1, &json!("estimated"), &json!("anna")), "{late:#?}");
    });
}

/// A call that is repeated under its idempotency key is answered with the same work.
#[test]
fn a_work_that_is_ordered_twice_reserves_once() {
    run(async {
        let world = World::new(LIMITED).await;
        for _ in 0..4 {
            assert_eq!(ask(&world, "anna", &response("a", "queued", 0)).await.status, StatusCode::OK);
        }
        poll(&world, "anna", &response("a", "completed", 50_000)).await;
        assert_eq!(spent(&world), [("anna".to_owned(), PRICE)]);
    });
}

/// Jobs whose cost no answer says are not ordered under a limit, and asking about them is never refused.
#[test]
fn no_spent_limit_refuses_polls_and_cancels_of_jobs() {
    run(async {
        for (api, limit) in [("openai", "usd: 0.000001"), ("anthropic", "tokens: 1"), ("gemini", "usd: 0.000001"), ("bedrock", "tokens: 1")]
        {
            let world = World::new(&format!(
                "\noutbound:\n  providers: {{scripted: {{api: {api}, url: 'http://s.test'}}}}\n  limits: [{{name: l, window: 1h, {limit}}}]\n"
            ))
            .await;
            world.app.always(Reply::ok("{\"done\":false}").header("content-type", JSON));
            let polls: &[(&str, &str)] = match api {
                "openai" => &[
                    ("GET", "/v1/batches/b_1"),
                    ("POST", "/v1/batches/b_1/cancel"),
                    ("GET", "/v1/videos/v_1"),
                    ("GET", "/v1/videos/v_1/content"),
                    ("DELETE", "/v1/responses/resp_1"),
                ],
                "anthropic" => &[("GET", "/v1/messages/batches/b_1/results"), ("POST", "/v1/messages/batches/b_1/cancel")],
                "gemini" => &[
                    ("GET", "/v1beta/operations/o_1"),
                    ("GET", "/v1beta/models/veo-3/operations/o_1"),
                    ("POST", "/v1beta/batches/b_1:cancel"),
                    ("POST", "/v1/projects/p/locations/l/publishers/google/models/veo-3:fetchPredictOperation"),
                    ("POST", "/v1/projects/p/locations/l/operations/o_1:wait"),
                ],
                _ => &[("GET", "/async-invoke/arn"), ("POST", "/model-invocation-job/arn/stop")],
            };
            for (method, path) in polls {
                let request = Request::builder().method(*method).uri(format!("/scripted{path}")).header("host", "localhost");
                let answer = world.caller().ask(request, if *method == "POST" { "{}" } else { "" }).await;
                assert_eq!(answer.status, StatusCode::OK, "{method} {path}: {}", answer.text());
            }
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

/// A provider that never says what it came to has very likely done the work.
#[test]
fn what_is_forgotten_stays_charged_as_it_was_reserved() {
    run(async {
        let world = World::new(&LIMITED.replace("usd: 3, window: 1h", "usd: 2, window: 30d")).await;
        // Each may cost $0.80 of $2.
        assert_eq!(ask(&world, "anna", &response("a", "queued", 0)).await.status, StatusCode::OK);
        pass(secs(25 * 3_600)).await;
        assert_eq!(ask(&world, "anna", &response("b", "queued", 0)).await.status, StatusCode::OK, "the first is forgotten now");
        assert_eq!(world.shared.works.under_way(), 1);
        assert_eq!(ask(&world, "anna", &response("c", "queued", 0)).await.status, StatusCode::TOO_MANY_REQUESTS);
    });
}
