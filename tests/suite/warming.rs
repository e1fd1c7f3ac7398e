//! Warming: what is listed is stored as a client's request would store it, gently, at nobody's cost.

use std::rc::Rc;

use http::{StatusCode, Uri};
use outrigger::proxy::warm;
use tokio::sync::mpsc;

use crate::world::{Client, Failing, Reply, World, ms, pass, run, secs, settle};

const YAML: &str = "
inbound:
  app: http://app.test
  caller: client_ip
  limits: [{name: few, key: client_ip, requests: 3, window: 1h}]
  routes:
    - {match: {path: /shop/**}, cache: {ttl: 1h}}
  warm:
    paths: [/shop/a, \"/shop/b?page=2\", /shop/c, /shop/d, /other]
    headers: {host: shop.example}
    rate: 10
    concurrency: 2
    wait: 30s
";

/// What wants more of the world's proxy.
fn begin(world: &World) -> mpsc::Sender<Uri> {
    let (want, wanted) = mpsc::channel(warm::WAITING);
    tokio::task::spawn_local(warm::run(Rc::clone(&world.proxy), wanted));
    want
}

fn warmed(world: &World, outcome: &str) -> f64 {
    world.count("outrigger_cache_warmed_total", &[("outcome", outcome)])
}

#[test]
fn what_is_listed_is_a_hit_for_the_first_client_and_costs_nobody_a_limit() {
    run(async {
        let world = World::new(YAML).await;
        let _want = begin(&world);
        pass(secs(2)).await;
        assert_eq!((warmed(&world, "stored"), warmed(&world, "not_stored"), warmed(&world, "failed")), (4.0, 1.0, 0.0));
        assert_eq!(world.limit("few").0, 0, "no request was charged");
        let client = world.client();
        for path in ["/shop/a", "/shop/b?page=2", "/shop/d"] {
            let answer = client.get(path).await;
            assert_eq!(answer.status, StatusCode::OK);
            assert!(answer.header("cache-status").contains("; hit"), "{path}");
        }
        assert_eq!(world.app.asked(), 5);
    });
}

#[test]
fn the_rate_is_kept_and_few_are_under_way_at_once() {
    run(async {
        let world = World::new(YAML).await;
        world.app.always(Reply::ok("slow").after(secs(1)));
        let _want = begin(&world);
        // The first goes alone; then two at once, each a second long.
        pass(ms(500)).await;
        assert_eq!(world.app.asked(), 1);
        pass(ms(1_000)).await;
        assert_eq!(world.app.asked(), 3);
        pass(ms(1_000)).await;
        assert_eq!(world.app.asked(), 5);
        let fast = World::new(YAML).await;
        let _want = begin(&fast);
        pass(ms(150)).await;
        assert_eq!(fast.app.asked(), 2, "ten a second");
    });
}

#[test]
fn an_app_that_is_not_up_yet_is_waited_for_and_one_that_never_comes_is_given_up() {
    run(async {
        let world = World::new(YAML).await;
        world.dials.fail("app", vec![Failing::Refused; 5]);
        let _want = begin(&world);
        // It asks after 0.2, 0.6, 1.4, 3 and 6.2 s.
        pass(secs(5)).await;
        assert_eq!((warmed(&world, "failed"), world.app.asked()), (0.0, 0), "it waits");
        pass(secs(7)).await;
        assert_eq!((warmed(&world, "stored"), warmed(&world, "failed")), (4.0, 0.0));

        let never = World::new(YAML).await;
        never.dials.fail("app", vec![Failing::Refused; 1_000]);
        let _want = begin(&never);
        pass(secs(40)).await;
        assert_eq!(warmed(&never, "failed"), 5.0);
    });
}

#[test]
fn more_is_warmed_on_demand_and_what_is_fresh_is_left_alone() {
    run(async {
        let world = World::new(YAML).await;
        let want = begin(&world);
        pass(secs(2)).await;
        want.send(Uri::from_static("/shop/a")).await.expect("running");
        want.send(Uri::from_static("/shop/new")).await.expect("running");
        pass(secs(1)).await;
        assert_eq!((warmed(&world, "hit"), warmed(&world, "stored")), (1.0, 5.0));
        settle().await;
    });
}

#[test]
fn a_busy_door_comes_first() {
    run(async {
        let world = World::new(&YAML.replace("requests: 3", "requests: 1000")).await;
        world.app.always(Reply::ok("slow").after(secs(5)));
        let client = world.client();
        let work = |client: Client| async move { client.get("/work").await.status };
        let busy: Vec<_> = (0..16).map(|_| tokio::task::spawn_local(work(client.clone()))).collect();
        settle().await;
        let _want = begin(&world);
        pass(secs(4)).await;
        assert_eq!(world.app.asked(), 16, "warming waits");
        for one in busy {
            assert_eq!(one.await.expect("no panic"), StatusCode::OK);
        }
        pass(ms(100)).await;
        assert_eq!(world.app.asked(), 17);
    });
}
