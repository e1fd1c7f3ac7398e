//! A target has no more connections than it may: who finds none waits in turn, for a while and not in any number.

use http::{Request, StatusCode};

use crate::world::{Answer, Failing, Reply, World, chat, ms, pass, run, secs};

fn app(rest: &str) -> String {
    format!("inbound: {{app: 'http://app.test', app_max_connections: {rest}}}")
}

fn is_full(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.text());
    assert_eq!(answer.json()["reason"], "connections_full");
    assert_eq!(answer.header("retry-after"), "1");
    assert!(answer.header("proxy-status").contains("error=connection_limit_reached"), "{:?}", answer.headers);
}

fn waiting(world: &World) -> f64 {
    world.count("outrigger_pool_waiting_requests", &[("target", "app")])
}

#[test]
fn who_finds_no_connection_waits_for_one_in_turn() {
    run(async {
        let world = World::new(&app("1")).await;
        world.app.script([Reply::ok("one").after(secs(1)), Reply::ok("two").after(secs(1)), Reply::ok("three")]);
        let client = world.client();
        let first = client.get("/1");
        let second = async {
            pass(ms(10)).await;
            client.get("/2").await
        };
        let third = async {
            pass(ms(20)).await;
            assert_eq!(waiting(&world), 1.0);
            client.get("/3").await
        };
        let (first, second, third) = futures_util::join!(first, second, third);
        assert_eq!((first.text(), second.text(), third.text()), ("one", "two", "three"));
        assert!((ms(1_980)..ms(2_020)).contains(&second.took), "{:?}", second.took);
        assert_eq!((world.app.connections(), waiting(&world)), (1, 0.0), "the same connection served all");
    });
}

#[test]
fn no_more_wait_than_may() {
    run(async {
        let world = World::new(&app("1")).await;
        world.app.script([Reply::ok("slow").after(secs(1))]);
        let client = world.client();
        let all = futures_util::future::join_all((0..1_027).map(|n| {
            let client = client.clone();
            async move { client.get(&format!("/{n}")).await }
        }));
        let all = all.await;
        let (good, refused): (Vec<_>, Vec<_>) = all.iter().partition(|answer| answer.status == StatusCode::OK);
        assert_eq!((good.len(), refused.len()), (1_025, 2));
        for answer in refused {
            is_full(answer);
            assert!(answer.took < ms(5), "{:?}", answer.took);
        }
        assert_eq!(world.count("outrigger_pool_connects_total", &[("target", "app"), ("outcome", "full")]), 2.0);
        assert_eq!((world.app.connections(), waiting(&world)), (1, 0.0));
    });
}

#[test]
fn nobody_waits_longer_than_for_a_connection_and_who_leaves_makes_room() {
    run(async {
        let world = World::new(&app("2, defaults: {timeouts: {connect: 2s}, breaker: {consecutive: 1}}")).await;
        world.app.script([Reply::ok("one").after(secs(10)), Reply::ok("two").after(secs(3)), Reply::ok("three")]);
        let client = world.client();
        let leaves = async {
            pass(ms(10)).await;
            let asked = tokio::time::timeout(ms(100), client.get("/leaves")).await;
            assert!(asked.is_err(), "it waits");
        };
        let waits = async {
            pass(ms(20)).await;
            client.get("/waits").await
        };
        let late = async {
            pass(ms(1_500)).await;
            client.get("/late").await
        };
        let (one, two, (), waits, late) = futures_util::join!(client.get("/1"), client.get("/2"), leaves, waits, late);
        assert_eq!((one.text(), two.text(), late.text()), ("one", "two", "three"));
        is_full(&waits);
        assert!((ms(1_990)..ms(2_010)).contains(&waits.took), "{:?}", waits.took);
        assert_eq!(world.count("outrigger_timeouts_total", &[("target", "app")]), 0.0);
        assert_eq!(client.get("/again").await.status, StatusCode::OK, "the breaker has not heard of it");
        assert_eq!(waiting(&world), 0.0);
    });
}

#[test]
fn a_worker_gives_up_an_idle_connection_where_others_wait_for_its_place() {
    run(async {
        let world = World::new(&app("1")).await;
        let (here, elsewhere) = (world.client(), world.client_elsewhere());
        for client in [&here, &elsewhere, &here] {
            let answer = client.get("/").await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
            assert!(answer.took <= ms(1_010), "{:?}", answer.took);
        }
        world.app.script([Reply::ok("slow").after(secs(2))]);
        let (slow, other) = futures_util::join!(here.get("/"), async {
            pass(ms(1_500)).await;
            elsewhere.get("/").await
        });
        assert_eq!((slow.text(), other.status), ("slow", StatusCode::OK));
        assert!((ms(495)..ms(510)).contains(&other.took), "the place is given on at once: {:?}", other.took);
    });
}

#[test]
fn a_tunnel_keeps_its_place_and_a_broken_connection_does_not() {
    run(async {
        let world = World::new(&app("1, defaults: {timeouts: {connect: 1s}}")).await;
        world.app.script([Reply::close(), Reply::tunnel(), Reply::ok("after")]);
        let client = world.client();
        assert_eq!(client.post("/breaks", "x").await.status, StatusCode::BAD_GATEWAY);
        let upgrade = Request::get("/").header("connection", "upgrade").header("upgrade", "websocket");
        let opened = client.open(upgrade, "").await;
        assert_eq!(opened.status, StatusCode::SWITCHING_PROTOCOLS);
        let tunnel = opened.upgraded().await;
        is_full(&client.get("/while").await);
        drop(tunnel);
        pass(ms(10)).await;
        assert_eq!(client.get("/").await.text(), "after");
    });
}

#[test]
fn a_fallback_is_asked_where_a_provider_is_full() {
    run(async {
        let world = World::new(
            "outbound: {providers: {openai: {url: 'http://o.test', max_connections: 1}, house: {api: openai, url: 'http://h.test'}}, \
             defaults: {timeouts: {connect: 1s}, retry: {}, fallback: [{provider: house}]}}",
        )
        .await;
        let caller = world.caller();
        let ask = async || caller.call("/openai/v1/chat/completions", &chat("gpt-4o")).await;
        world.provider("openai").script(["slow=10s"]);
        let (slow, other) = futures_util::join!(ask(), async {
            pass(ms(10)).await;
            ask().await
        });
        assert_eq!((slow.status, other.status), (StatusCode::OK, StatusCode::OK));
        assert_eq!((world.provider("openai").seen().len(), world.provider("house").seen().len()), (1, 1));
        assert!((ms(990)..ms(1_010)).contains(&other.took), "one wait, no retries: {:?}", other.took);
    });
}

/// Whoever opens a connection that others wait for may come to grief: they hear of it.
#[test]
fn a_panic_while_a_connection_is_opened_leaves_nobody_waiting() {
    run(async {
        let world = World::new("inbound: {app: 'http://app.test', app_protocol: http2}").await;
        world.dials.fail("app", [Failing::Panic]);
        let client = world.client();
        let (one, two) = futures_util::join!(client.post("/", "1"), client.post("/", "2"));
        for answer in [one, two] {
            assert_eq!((answer.status, answer.took < secs(6)), (StatusCode::BAD_GATEWAY, true), "{}", answer.text());
        }
    });
}
