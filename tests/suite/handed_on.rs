//! Work that an earlier process has begun, from the book that it has kept: also the limits count its end, as the limits of who began it.

use http::{Request, StatusCode};
use serde_json::{Value, json};

use crate::world::{Answer, Reply, World, json as post, pass, run, secs, settle};

const RESPONSES: &str = "/scripted/v1/responses";

fn yaml(usd: u32) -> String {
    format!(
        "\noutbound:\n  providers: {{scripted: {{api: openai, url: 'http://s.test'}}}}\n  \
         limits: [{{name: budget, key: caller, usd: {usd}, window: 30d}}]\n"
    )
}

fn says(world: &World, status: &str, usage: &Value) {
    let body = json!({"id": "resp_1", "object": "response", "background": true, "model": "o3-deep-research", "status": status, "output": [], "usage": usage});
    world.app.always(Reply::ok("").bytes(body.to_string().into_bytes()).header("content-type", "application/json"));
}

/// Orders work for at most $0.80, in this caller's name.
async fn order(world: &World, caller: &str) -> Answer {
    says(world, "queued", &Value::Null);
    let body = json!({"model": "o3-deep-research", "input": "hi", "background": true, "max_output_tokens": 20_000});
    let answer = world.caller().ask(post(RESPONSES).header("outrigger-caller", caller), body.to_string()).await;
    settle().await;
    answer
}

/// The process after the one in which anna has ordered work.
async fn next(yaml: &str) -> World {
    let before = World::new(yaml).await;
    assert_eq!(order(&before, "anna").await.status, StatusCode::OK);
    let now = tokio::time::Instant::now();
    let text = before.shared.works.kept(now, 1_800_000_000).expect("no Redis");
    let next = World::new(yaml).await;
    next.shared.works.take_over(&text, now, 1_800_000_000).expect("a book");
    next
}

/// Nano-dollars by caller.
fn spent(world: &World) -> Vec<(String, u64)> {
    let all = world.shared.spend.by_caller();
    all.iter().filter(|(_, spent)| spent.nano_usd > 0).map(|(caller, spent)| (caller.to_string(), spent.nano_usd)).collect()
}

#[test]
fn the_budget_of_who_began_it_is_charged_by_the_poll_that_tells_its_end() {
    run(async {
        let world = next(&yaml(2)).await;
        // 1,000 of input and 50,000 of output, at 10 and 40 dollars a million.
        says(&world, "completed", &json!({"input_tokens": 1_000, "output_tokens": 50_000, "total_tokens": 51_000}));
        let poll = Request::get(format!("{RESPONSES}/resp_1")).header("outrigger-caller", "bert");
        assert_eq!(world.caller().ask(poll, "").await.status, StatusCode::OK);
        settle().await;
        assert_eq!(spent(&world), [("anna".to_owned(), 2_010_000_000)]);
        assert_eq!(order(&world, "anna").await.status, StatusCode::TOO_MANY_REQUESTS, "$2.01 of her $2 are gone");
        assert_eq!(order(&world, "bert").await.status, StatusCode::OK, "who polls has spent nothing");
    });
}

#[test]
fn the_budget_of_who_began_it_is_charged_when_it_is_forgotten() {
    run(async {
        let world = next(&yaml(1)).await;
        pass(secs(25 * 3_600)).await;
        assert_eq!(world.shared.works.under_way(), 0);
        assert_eq!(spent(&world).len(), 1);
        assert_eq!(order(&world, "anna").await.status, StatusCode::TOO_MANY_REQUESTS, "$0.80 of her $1 are gone");
        assert_eq!(order(&world, "bert").await.status, StatusCode::OK);
    });
}

#[test]
fn a_caller_who_was_erased_is_charged_nowhere() {
    run(async {
        let world = next(&yaml(1)).await;
        assert!(world.shared.works.erase("anna"));
        pass(secs(25 * 3_600)).await;
        assert_eq!(spent(&world).iter().filter(|(caller, _)| caller == "anna").count(), 0);
        assert_eq!(order(&world, "anna").await.status, StatusCode::OK);
    });
}
