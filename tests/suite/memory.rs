//! Memory presses: what is refused, what is no longer begun, and that it ends as soon as the pressure does. The size of the process
//! is said from outside, as time is.

use http::{Request, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{Answer, Client, Reply, World, chat, run, secs};

const MIB: u64 = 1 << 20;

const BOTH: &str = "
memory_limit: 100MiB
inbound: {app: 'http://app.test', defaults: {cache: {ttl: 10s, stale_while_revalidate: 1h}}}
outbound: {providers: {openai: {}, anthropic: {}, gemini: {}}}
";

fn is_refusal(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(answer.header("proxy-status"), "outrigger; error=proxy_internal_response; details=\"overloaded\"");
    assert_eq!(answer.header("connection"), "close");
    assert!(answer.text().contains("memory_limit"), "{}", answer.text());
}

#[test]
fn at_ninety_five_percent_every_door_refuses_in_its_own_words() {
    run(async {
        let world = World::new(BOTH).await;
        world.shared.pressure.note(95 * MIB);
        let answer = world.client().get("/a").await;
        is_refusal(&answer);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.json()["reason"], "overloaded");
        let caller = world.caller();
        let openai = caller.call("/openai/v1/chat/completions", &chat("gpt-4o")).await;
        is_refusal(&openai);
        assert_eq!(openai.json()["error"]["code"], "overloaded");
        let anthropic = caller.call("/anthropic/v1/messages", &chat("claude-sonnet-4-5")).await;
        is_refusal(&anthropic);
        assert_eq!(anthropic.json()["type"], "error");
        let gemini = caller.call("/gemini/v1beta/models/gemini-2.5-flash:generateContent", &chat("")).await;
        is_refusal(&gemini);
        assert_eq!(gemini.json()["error"]["status"], "UNAVAILABLE");
        assert_eq!((world.app.asked(), world.provider("openai").seen().len()), (0, 0));
        assert_eq!(world.count("outrigger_rejects_total", &[("door", "inbound"), ("reason", "overloaded")]), 1.0);
        assert_eq!(world.count("outrigger_rejects_total", &[("door", "outbound"), ("reason", "overloaded")]), 3.0);
        // It is over as soon as the memory is free.
        world.shared.pressure.note(50 * MIB);
        let answer = world.client().get("/a").await;
        assert_eq!((answer.status, answer.header("connection")), (StatusCode::OK, ""));
    });
}

#[test]
fn what_is_in_hand_is_finished() {
    run(async {
        let world = World::new(BOTH).await;
        world.app.script([Reply::paced(secs(1), &["a", "b", "c"])]);
        let opened = world.client().open(Request::get("/slow"), "").await;
        world.shared.pressure.note(99 * MIB);
        let answer = opened.whole().await;
        assert_eq!((answer.status, answer.text(), answer.broken), (StatusCode::OK, "abc", false));
    });
}

#[test]
fn at_ninety_percent_nothing_new_is_cached_and_connections_end_with_their_answers() {
    run(async {
        let world = World::new(BOTH).await;
        let client: Client = world.client();
        client.get("/known").await;
        client.get("/known").await;
        assert_eq!(world.app.asked(), 1);
        world.shared.pressure.note(90 * MIB);
        // What is stored is used.
        let known = client.get("/known").await;
        assert_eq!((known.status, known.header("connection"), world.app.asked()), (StatusCode::OK, "close", 1));
        // What is not stored is not stored now.
        for asked in 2..=3 {
            let new = client.get("/new").await;
            assert_eq!((new.status, new.header("connection"), world.app.asked()), (StatusCode::OK, "close", asked));
        }
        assert_eq!(world.count("outrigger_cache_requests_total", &[("result", "bypass")]), 2.0);
        // A stale answer is used and not brought up to date.
        crate::world::pass(secs(20)).await;
        assert_eq!(client.get("/known").await.status, StatusCode::OK);
        crate::world::settle().await;
        assert_eq!(world.app.asked(), 3);
        // And again once there is room.
        world.shared.pressure.note(10 * MIB);
        client.get("/new").await;
        client.get("/new").await;
        assert_eq!(world.app.asked(), 4);
    });
}

/// What an HTTP/2 connection that begins now may send ahead, beyond the 65,535 bytes that each may (RFC 9113 section 6.9.2).
async fn sends_ahead(world: &World) -> u32 {
    const WINDOW_UPDATE: u8 = 8;
    let mut client = world.client().raw();
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.expect("sent");
    loop {
        let mut head = [0; 9];
        if client.read_exact(&mut head).await.is_err() {
            return 0;
        }
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        client.read_exact(&mut payload).await.expect("all of it");
        if head[3] == WINDOW_UPDATE && head[5..] == [0; 4] {
            return u32::from_be_bytes(payload.try_into().expect("four bytes"));
        }
    }
}

#[test]
fn an_http2_connection_that_begins_at_ninety_percent_may_send_less_ahead() {
    run(async {
        let world = World::new(BOTH).await;
        assert_eq!(sends_ahead(&world).await, (256 << 10) - 65_535, "four streams' worth");
        world.shared.pressure.note(90 * MIB);
        assert!(sends_ahead(&world).await <= 1, "one stream's");
    });
}

#[test]
fn without_a_limit_nothing_is_shed() {
    run(async {
        let world = World::new("memory_limit: 'off'\ninbound: {app: 'http://app.test'}").await;
        world.shared.pressure.note(u64::MAX);
        assert_eq!(world.client().get("/").await.status, StatusCode::OK);
    });
}
