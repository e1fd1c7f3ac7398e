//! A WebSocket to a model passes unchanged. What its events state is charged at once, and a spent limit ends it.
//!
//! The scripted provider echoes: the app of these tests sends the provider's events itself.

use flate2::{Compress, Compression, FlushCompress};
use http::{Request, StatusCode};
use outrigger::body::websocket::{Part, Reader};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{Opened, Reply, World, pass, run, secs, settle};

const RESPONSES: &str = "/scripted/v1/responses";

fn yaml(limits: &str) -> String {
    format!("\noutbound:\n  providers: {{scripted: {{api: openai, url: 'http://s.test'}}}}\n{limits}\n")
}

const LIMITED: &str = "  limits: [{name: budget, usd: 3, window: 1h}]";

/// A text frame as a client sends it.
fn frame(text: &[u8], first: u8) -> Vec<u8> {
    let mask = [7, 0, 250, 3];
    let mut out = vec![first];
    match text.len() {
        short @ ..126 => out.push(0x80 | short as u8),
        long => {
            out.push(0x80 | 126);
            out.extend_from_slice(&u16::try_from(long).expect("short enough").to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    out.extend(text.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    out
}

struct Socket {
    io: Box<dyn Duplex>,
    _opened: Opened,
    sent: Vec<u8>,
    /// Where the last frame begins.
    last: usize,
}

trait Duplex: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Duplex for T {}

fn upgrade(path: &str) -> http::request::Builder {
    Request::get(path)
        .header("host", "localhost")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("outrigger-caller", "anna")
}

async fn open(world: &World, path: &str) -> Socket {
    let opened = world.caller().open(upgrade(path), "").await;
    assert_eq!(opened.status, StatusCode::SWITCHING_PROTOCOLS);
    let (io, opened) = opened.upgraded().await;
    Socket { io: Box::new(io), _opened: opened, sent: Vec::new(), last: 0 }
}

impl Socket {
    async fn send(&mut self, bytes: &[u8]) {
        self.last = self.sent.len();
        self.sent.extend_from_slice(bytes);
        self.io.write_all(bytes).await.expect("open");
        settle().await;
    }

    async fn say(&mut self, message: &Value) {
        self.send(&frame(message.to_string().as_bytes(), 0x81)).await;
    }

    /// What comes back before the end, behind the echo.
    async fn last(mut self) -> Vec<u8> {
        let mut all = Vec::new();
        self.io.read_to_end(&mut all).await.expect("a clean end");
        // A session may end before the echo of the last frame.
        let same = if all.starts_with(&self.sent) { self.sent.len() } else { self.last };
        assert!(all.starts_with(&self.sent[..same]), "no byte changes");
        all.split_off(same)
    }
}

fn create() -> Value {
    json!({"type": "response.create", "model": "o3-deep-research", "input": "hi", "max_output_tokens": 20_000})
}

fn created() -> Value {
    json!({"type": "response.created", "response": {"id": "resp_1", "model": "o3-deep-research", "status": "in_progress"}})
}

fn completed(output: u64) -> Value {
    let usage = json!({"input_tokens": 1_000, "output_tokens": output, "total_tokens": 1_000 + output});
    json!({"type": "response.completed", "response": {"id": "resp_1", "model": "o3-deep-research", "status": "completed", "usage": usage}})
}

/// The prompt of [`create`], one token.
const PROMPT: u64 = 10_000;

/// 1,000 of input and 50,000 of output, at 10 and 40 dollars a million.
const PRICE: u64 = 2_010_000_000;

fn spent(world: &World) -> Vec<(String, u64)> {
    let all = world.shared.spend.by_caller();
    all.iter().filter(|(_, spent)| spent.nano_usd > 0).map(|(caller, spent)| (caller.to_string(), spent.nano_usd)).collect()
}

/// The error event and the close frame of a refused session.
fn refusal(last: &[u8]) -> (Value, u16, String) {
    let (mut said, mut reader, mut close) = (Vec::new(), Reader::new(None), None);
    for (at, byte) in last.iter().enumerate() {
        if reader.is_between_messages() && *byte == 0x88 {
            close = Some(&last[at..]);
        }
        reader.feed(&[*byte], |part| {
            if let Part::Text(text) = part {
                said.extend_from_slice(text);
            }
        });
    }
    let close = close.expect("a close frame");
    let reason = String::from_utf8(close[4..].to_vec()).expect("text");
    assert_eq!(usize::from(close[1]), close.len() - 2);
    (serde_json::from_slice(&said).unwrap_or_default(), u16::from_be_bytes([close[2], close[3]]), reason)
}

#[test]
fn each_response_is_charged_at_once_and_a_spent_limit_ends_the_session() {
    run(async {
        let world = World::new(&yaml(LIMITED)).await;
        world.app.always(Reply::tunnel());
        let mut socket = open(&world, RESPONSES).await;
        for event in [create(), created(), completed(25_000)] {
            assert_eq!(spent(&world), []);
            socket.say(&event).await;
        }
        assert_eq!(spent(&world), [("anna".to_owned(), PRICE / 2 + 5_000_000)]);
        for event in [create(), created(), completed(50_000)] {
            socket.say(&event).await;
        }
        assert_eq!(spent(&world), [("anna".to_owned(), PRICE * 3 / 2 + 5_000_000)]);
        let (event, code, reason) = refusal(&socket.last().await);
        assert_eq!((&event["type"], &event["error"]["code"], code), (&json!("error"), &json!("insufficient_quota"), 1008));
        assert!(reason.contains("the limit `budget` of $3 per hour"), "{reason}");
        assert_eq!(world.caller().open(upgrade(RESPONSES), "").await.status, StatusCode::TOO_MANY_REQUESTS);
        let lines = world.log().await;
        let line = lines.iter().find(|line| line["status"] == 101).expect("its line");
        assert_eq!((&line["limit"], &line["cost_usd"], &line["caller"]), (&json!("budget"), &json!(3.02), &json!("anna")), "{line:#}");
    });
}

#[test]
fn what_is_asked_for_is_reserved_and_given_back_when_it_is_refused() {
    run(async {
        let world = World::new(&yaml(LIMITED)).await;
        world.app.always(Reply::tunnel());
        let mut socket = open(&world, RESPONSES).await;
        // Each may cost $0.80 of $3.
        for _ in 0..3 {
            socket.say(&create()).await;
        }
        socket.say(&json!({"type": "error", "status": 400, "error": {"code": "invalid"}})).await;
        socket.say(&create()).await;
        socket.say(&create()).await;
        let (_, code, reason) = refusal(&socket.last().await);
        assert_eq!((code, reason.contains("budget")), (1008, true));
        // None has begun. The first event of the oldest may have been on its way: its prompt is charged.
        settle().await;
        let cost = spent(&world)[0].1;
        assert_eq!(cost, PROMPT);
        assert!(has_room_for(&world, 3).await, "the rest is given back");
    });
}

/// The event with the app's id of it.
fn named(id: &str, mut event: Value) -> Value {
    event["event_id"] = id.into();
    event
}

fn refused(id: &str) -> Value {
    json!({"type": "error", "event_id": "own", "error": {"type": "invalid_request_error", "event_id": id, "code": "x"}})
}

/// Whether a limit of $3 has room for so many responses that may cost $0.80 each: a session with one more is closed.
async fn has_room_for(world: &World, count: usize) -> bool {
    let refused = world.limit("budget").1;
    let mut socket = open(world, RESPONSES).await;
    for _ in 0..count {
        socket.say(&create()).await;
    }
    drop(socket);
    settle().await;
    world.limit("budget").1 == refused
}

#[test]
fn an_error_is_about_the_event_that_it_names_and_not_about_the_response_under_way() {
    run(async {
        let world = World::new(&yaml(LIMITED)).await;
        world.app.always(Reply::tunnel());
        let mut socket = open(&world, RESPONSES).await;
        for event in [named("e1", create()), created(), named("e2", create()), refused("e2")] {
            socket.say(&event).await;
        }
        assert_eq!(spent(&world), [], "the first response goes on");
        assert!(has_room_for(&world, 2).await, "the second one's reservation is given back");
        socket.say(&completed(50_000)).await;
        assert_eq!(spent(&world), [("anna".to_owned(), PRICE + PROMPT)]);
        for event in [named("e3", create()), created(), refused("e3")] {
            socket.say(&event).await;
        }
        assert_eq!(spent(&world), [("anna".to_owned(), PRICE + PROMPT)], "an error before any content costs nothing");
        assert!(has_room_for(&world, 1).await && !has_room_for(&world, 2).await);
    });
}

#[test]
fn an_error_about_another_event_of_a_realtime_session_gives_nothing_back() {
    run(async {
        let world = World::new(&yaml(LIMITED)).await;
        world.app.always(Reply::tunnel());
        let mut socket = open(&world, "/scripted/v1/realtime?model=o3-deep-research").await;
        socket.say(&named("s1", json!({"type": "session.update", "session": {}}))).await;
        socket.say(&named("e1", create())).await;
        socket.say(&refused("s1")).await;
        assert!(has_room_for(&world, 2).await, "$0.80 of $3 are held");
        assert!(!has_room_for(&world, 3).await, "$0.80 of $3 are held");
        socket.say(&refused("e1")).await;
        assert!(has_room_for(&world, 3).await, "given back");
        // Without an id: the request that came while a response was under way.
        let busy = json!({"type": "error", "error": {"type": "invalid_request_error", "code": "conversation_already_has_active_response"}});
        for event in [create(), created(), create(), busy] {
            socket.say(&event).await;
        }
        assert!(has_room_for(&world, 2).await && !has_room_for(&world, 3).await);
        drop(socket);
        settle().await;
    });
}

#[test]
fn a_request_is_seen_wherever_its_type_stands_and_no_prompt_is_free() {
    run(async {
        let words = "word ".repeat(2_000);
        let prompt = 2_000 * 10_000;
        // Members are written in the order of the alphabet: the type of the item comes first.
        let asks = json!({"input": [{"type": "message", "role": "user", "content": words}], "model": "o3-deep-research", "type": "response.create"});
        let said =
            json!({"item": {"type": "message", "content": [{"text": words, "type": "input_text"}]}, "type": "conversation.item.create"});
        for (path, event) in [(RESPONSES, asks), ("/scripted/v1/realtime?model=o3-deep-research", said)] {
            for begins in [true, false] {
                let world = World::new(&yaml("")).await;
                world.app.always(Reply::tunnel());
                let mut socket = open(&world, path).await;
                socket.say(&event).await;
                if begins {
                    // A Realtime provider begins a response by itself, when the speaker pauses.
                    socket.say(&created()).await;
                }
                drop(socket);
                settle().await;
                let cost = spent(&world).first().map_or(0, |(_, cost)| *cost);
                let asked = begins || path == RESPONSES;
                assert!(cost <= 2 * prompt && (cost >= prompt) == asked, "{path} {begins}: {cost}");
            }
        }
    });
}

#[test]
fn a_session_has_one_place_in_flight_until_it_ends_and_the_next_one_waits_in_line() {
    run(async {
        let world = World::new(&yaml(
            "  limits: [{name: busy, key: provider, concurrency: 1, queue: {max: 1, wait: 1m}}, {name: budget, usd: 3, window: 1h}]",
        ))
        .await;
        world.app.always(Reply::tunnel());
        let mut socket = open(&world, RESPONSES).await;
        for event in [create(), created(), completed(1_000), create()] {
            socket.say(&event).await;
        }
        let (caller, began) = (world.caller(), tokio::time::Instant::now());
        let next = tokio::task::spawn_local(async move { caller.open(upgrade(RESPONSES), "").await });
        pass(secs(20)).await;
        assert!(!next.is_finished(), "the first session is open");
        drop(socket);
        assert_eq!(next.await.expect("answered").status, StatusCode::SWITCHING_PROTOCOLS);
        assert!((secs(20)..secs(21)).contains(&began.elapsed()), "{:?}", began.elapsed());
        assert_eq!(world.limit("busy").1, 0);
    });
}

#[test]
fn a_session_that_is_cut_is_estimated() {
    run(async {
        let world = World::new(&yaml("")).await;
        world.app.always(Reply::tunnel());
        let mut socket = open(&world, RESPONSES).await;
        socket.say(&create()).await;
        socket.say(&created()).await;
        socket.say(&json!({"type": "response.output_text.delta", "delta": "eight words of about four letters each, yes"})).await;
        assert_eq!(spent(&world), []);
        drop(socket);
        settle().await;
        let cost = spent(&world)[0].1;
        assert!((300_000..1_500_000).contains(&cost), "a prompt of 25 tokens or so and an answer of 10: {cost}");
        assert!(world.count("outrigger_tokens_total", &[("source", "estimated")]) > 0.0);
    });
}

#[test]
fn compressed_events_are_read_with_and_without_context_takeover() {
    run(async {
        for (extension, takeover) in
            [("permessage-deflate", true), ("permessage-deflate; client_no_context_takeover; server_no_context_takeover", false)]
        {
            let world = World::new(&yaml("")).await;
            world.app.always(Reply::tunnel().header("sec-websocket-extensions", extension));
            let mut socket = open(&world, RESPONSES).await;
            let mut state = Compress::new(Compression::best(), false);
            for times in 1..4 {
                for event in [create(), created(), completed(50_000)] {
                    let mut out = Vec::with_capacity(4_096);
                    state.compress_vec(event.to_string().as_bytes(), &mut out, FlushCompress::Sync).expect("compressed");
                    out.truncate(out.len() - 4);
                    if !takeover {
                        state.reset();
                    }
                    let (first, rest) = out.split_at(out.len() / 2);
                    socket.send(&frame(first, 0x41)).await;
                    socket.send(&frame(rest, 0x80)).await;
                }
                assert_eq!(spent(&world), [("anna".to_owned(), times * PRICE)], "{extension}");
            }
        }
    });
}

#[test]
fn what_cannot_be_read_does_not_pass_a_limit() {
    run(async {
        for (limits, closes) in [(LIMITED, true), ("", false), ("  limits: [{name: budget, usd: 3, window: 1h, unmetered: allow}]", false)]
        {
            let world = World::new(&yaml(limits)).await;
            world.app.always(Reply::tunnel().header("sec-websocket-extensions", "x-own"));
            let mut socket = open(&world, RESPONSES).await;
            settle().await;
            if closes {
                let (event, code, _) = refusal(&socket.last().await);
                assert_eq!((&event["error"]["code"], code), (&json!("unmetered"), 1008));
            } else {
                socket.say(&completed(50_000)).await;
                assert_eq!(world.count("outrigger_unmetered_calls_total", &[("provider", "scripted")]), 1.0);
            }
        }
    });
}

#[test]
fn a_model_without_a_price_is_refused_before_the_session_or_in_it() {
    run(async {
        let world = World::new(&yaml(LIMITED)).await;
        world.app.always(Reply::tunnel());
        let answer = world.caller().open(upgrade("/scripted/v1/realtime?model=house"), "").await.whole().await;
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (StatusCode::FORBIDDEN, &json!("unpriced_model")));
        let mut socket = open(&world, RESPONSES).await;
        socket.say(&json!({"type": "response.create", "model": "house", "input": "hi"})).await;
        assert_eq!(refusal(&socket.last().await).0["error"]["code"], "unpriced_model");
    });
}

#[test]
fn the_limit_of_the_request_that_caused_it_ends_a_session() {
    run(async {
        let world = World::new(
            "
inbound:
  app: http://app.test
  routes: [{name: chat, match: {path: /chat}, limits: [{name: user, key: client_ip, usd: 2, window: 1h}]}]
outbound: {providers: {scripted: {api: openai, url: 'http://s.test'}}}
",
        )
        .await;
        world.client().get("/chat").await;
        let baggage = world.app.only().header("baggage").to_owned();
        world.app.always(Reply::tunnel());
        let opened = world.caller().open(upgrade(RESPONSES).header("baggage", baggage), "").await;
        let (io, opened) = opened.upgraded().await;
        let mut socket = Socket { io: Box::new(io), _opened: opened, sent: Vec::new(), last: 0 };
        for event in [create(), created(), completed(50_000)] {
            socket.say(&event).await;
        }
        assert!(refusal(&socket.last().await).2.contains("`user`"));
        assert_eq!(world.client().get("/chat").await.status, StatusCode::TOO_MANY_REQUESTS);
    });
}
