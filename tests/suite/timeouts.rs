//! Every time bound: when its time begins, what it ends, and what it leaves alone.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body::Frame;

use crate::world::{Answer, Failing, Reply, World, chat, json, ms, pass, run, secs, upload};

const CHAT: &str = "/openai/v1/chat/completions";

fn inbound(timeouts: &str) -> String {
    format!("inbound: {{app: 'http://app.test', defaults: {{timeouts: {timeouts}}}}}")
}

fn outbound(timeouts: &str) -> String {
    format!("outbound: {{providers: {{openai: {{url: 'http://o.test'}}}}, defaults: {{timeouts: {timeouts}}}}}")
}

fn is(answer: &Answer, reason: &str, millis: u64) {
    assert_eq!((answer.status, answer.json()["reason"].as_str()), (StatusCode::GATEWAY_TIMEOUT, Some(reason)), "{}", answer.text());
    assert!((ms(millis)..ms(millis + 20)).contains(&answer.took), "{reason}: {:?}", answer.took);
}

#[test]
fn nothing_is_bounded_where_nothing_is_said() {
    run(async {
        let world = World::new("inbound: {app: 'http://app.test'}").await;
        world.app.script([Reply::ok("late").after(secs(3_000))]);
        assert_eq!(world.client().get("/").await.text(), "late");
    });
}

#[test]
fn connect_bounds_the_connection() {
    run(async {
        let world = World::new(&inbound("{connect: 2s}")).await;
        world.dials.fail("app", [Failing::Hang]);
        is(&world.client().get("/").await, "connect_timeout", 2_000);
        assert_eq!(world.count("outrigger_timeouts_total", &[("target", "app"), ("bound", "connect")]), 1.0);
        assert_eq!(world.client().get("/").await.status, StatusCode::OK);
    });
}

#[test]
fn a_connection_is_bounded_where_nothing_is_said_and_by_a_policy_that_observes() {
    run(async {
        for yaml in ["inbound: {app: 'http://app.test'}", &inbound("{mode: observe, connect: 1s}")] {
            let world = World::new(yaml).await;
            world.dials.fail("app", [Failing::Hang]);
            is(&world.client().get("/").await, "connect_timeout", 5_000);
        }
        let world = World::new(&inbound("{connect: off, per_try: 60s}")).await;
        world.dials.fail("app", [Failing::Hang]);
        is(&world.client().get("/").await, "per_try_timeout", 60_000);
    });
}

#[test]
fn response_header_counts_from_the_request_fully_sent() {
    run(async {
        let world = World::new(&inbound("{response_header: 5s}")).await;
        world.app.script([Reply::hang()]);
        is(&world.client().get("/").await, "response_header_timeout", 5_000);
        pass(ms(1)).await;
        assert_eq!(world.app.abandoned(), 1, "the app's connection is let go");

        let (send, body) = upload();
        let client = world.client();
        let (slow, ()) = futures_util::join!(client.send(Request::post("/").body(body).expect("a request")), async {
            for _ in 0..20 {
                send.send(Ok(Frame::data(Bytes::from("piece")))).await.expect("taken");
                pass(secs(1)).await;
            }
            drop(send);
        });
        assert_eq!(slow.status, StatusCode::OK, "an upload of 20 s is not the app's slowness");
    });
}

#[test]
fn a_body_that_was_read_first_is_fully_sent_when_it_is_sent() {
    run(async {
        let yaml = "
outbound:
  providers: {openai: {url: 'http://o.test'}}
  defaults: {timeouts: {response_header: 5s}}
  routes: [{match: {models: ['gpt-*']}}]
";
        let world = World::new(yaml).await;
        world.provider("openai").script(["hang"]);
        let answer = world.caller().call(CHAT, &chat("gpt-4o")).await;
        assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
        assert!((ms(5_000)..ms(5_020)).contains(&answer.took), "{:?}", answer.took);
    });
}

#[test]
fn idle_ends_a_body_that_falls_silent_and_no_other() {
    run(async {
        let world = World::new(&inbound("{idle: 3s}")).await;
        world.app.script([Reply::paced(ms(2_900), &["a", "b", "c"]), Reply::paced(secs(1), &["a", "b"]).stalls()]);
        let slow = world.client().get("/").await;
        assert_eq!((slow.text(), slow.broken), ("abc", false));
        let silent = world.client().get("/").await;
        assert_eq!((silent.text(), silent.broken), ("ab", true), "a broken answer does not look whole");
        assert!((ms(5_000)..ms(5_020)).contains(&silent.took), "{:?}", silent.took);
        assert_eq!(world.log().await[1]["outcome"], "upstream_broken");
    });
}

#[test]
fn a_slow_reader_is_not_a_silent_app() {
    run(async {
        let world = World::new(&inbound("{idle: 3s}")).await;
        world.app.always(Reply::endless());
        let mut opened = world.client().open(Request::get("/"), "").await;
        for _ in 0..10 {
            pass(secs(10)).await;
            opened.next().await.expect("more").expect("unbroken");
        }
    });
}

#[test]
fn total_spans_all_tries_and_per_try_each_of_them() {
    run(async {
        let retrying = "retry: {max_retries: 5, on: [timeout, 503], backoff: [1s], budget: {min_per_sec: 100}}";
        let world =
            World::new(&format!("inbound: {{app: 'http://app.test', defaults: {{timeouts: {{per_try: 2s, total: 7s}}, {retrying}}}}}"))
                .await;
        world.app.script([Reply::hang(), Reply::ok("second")]);
        let answer = world.client().get("/").await;
        assert_eq!(answer.text(), "second");
        assert!((ms(3_000)..ms(3_020)).contains(&answer.took), "{:?}", answer.took);
        world.app.always(Reply::hang());
        let answer = world.client().get("/").await;
        assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
        assert!(answer.took <= ms(7_020), "{:?}", answer.took);
    });
}

#[test]
fn total_ends_a_plain_body_but_no_event_stream_and_no_tunnel() {
    run(async {
        let world = World::new(&inbound("{total: 5s}")).await;
        let events = &["data: 1\n\n"; 20];
        world.app.script([
            Reply::paced(secs(1), &["x"; 20]),
            Reply::paced(secs(1), events).header("content-type", "text/event-stream; charset=utf-8"),
            Reply::hang(),
        ]);
        let plain = world.client().get("/").await;
        assert!(plain.broken && plain.took < ms(5_020), "{:?}", plain.took);
        let stream = world.client().get("/").await;
        assert!(!stream.broken && stream.body.len() == 9 * 20, "{:?}", stream.took);
        is(&world.client().get("/").await, "total_timeout", 5_000);
    });
}

#[test]
fn first_token_bounds_a_stream_up_to_its_first_content() {
    run(async {
        let world = World::new(&outbound("{first_token: 4s}")).await;
        let mut body = chat("gpt-4o");
        body["stream"] = true.into();
        world.provider("openai").script(["stall-after=0"]);
        let silent = world.caller().call(CHAT, &body).await;
        assert_eq!(silent.status, StatusCode::GATEWAY_TIMEOUT, "{}", silent.text());
        assert!(silent.json()["error"].is_object(), "{}", silent.text());
        assert!((ms(4_000)..ms(4_020)).contains(&silent.took), "{:?}", silent.took);
        assert_eq!(world.count("outrigger_timeouts_total", &[("bound", "first_token")]), 1.0);
        // Slow afterwards, and slow without a stream, are other things.
        world.provider("openai").script(["rate=1;tokens=10"]);
        assert!(!world.caller().call(CHAT, &body).await.broken);
        world.provider("openai").script(["slow=20s"]);
        assert_eq!(world.caller().call(CHAT, &chat("gpt-4o")).await.status, StatusCode::OK);
    });
}

#[test]
fn a_streamed_call_that_falls_silent_ends_with_an_error_event() {
    run(async {
        let world = World::new(&outbound("{idle: 4s}")).await;
        let mut body = chat("gpt-4o");
        body["stream"] = true.into();
        world.provider("openai").script(["stall-after=3"]);
        let answer = world.caller().ask(json(CHAT), body.to_string()).await;
        let last = answer.text().trim_end().rsplit("data: ").next().expect("an event");
        assert!(last.contains("\"error\"") && !answer.text().contains("[DONE]"), "{}", answer.text());
        assert!(answer.broken, "never a clean end of a broken stream");
    });
}
