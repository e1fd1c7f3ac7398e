//! Several apps behind one door: which one a route asks, and that nothing of one is taken for another's.

use http::{Request, StatusCode};
use outrigger::policy::breaker::State;

use crate::world::{Failing, Reply, World, run};

const YAML: &str = "
inbound:
  app: http://app.test
  apps:
    api: http://api.test/base
    web: {url: [{url: 'http://web-1.test', name: one, weight: 3}, {url: 'http://web-2.test', name: two}], balance: {choose: in_turn}}
  defaults: {breaker: {consecutive: 2}}
  routes:
    - {name: by-host, match: {hosts: [web.example]}, app: web}
    - {name: by-path, match: {path: /api/**}, app: api, rewrite: {strip_prefix: /api}}
    - {name: beta, match: {path: /page, headers: {x-beta: '1'}}, app: api, cache: {ttl: 1h}}
    - {name: page, match: {path: /page}, cache: {ttl: 1h}}
";

async fn get(world: &World, path: &str, fields: &[(&'static str, &str)]) -> (StatusCode, String) {
    let mut asked = Request::get(path);
    for (name, value) in fields {
        asked = asked.header(*name, *value);
    }
    let answer = world.client().ask(asked, "").await;
    (answer.status, answer.text().to_owned())
}

#[test]
fn a_route_asks_its_own_app_by_host_or_path_and_an_app_with_weights_by_them() {
    run(async {
        let world = World::new(YAML).await;
        for _ in 0..8 {
            assert_eq!(get(&world, "/x", &[("host", "web.example")]).await.0, StatusCode::OK);
        }
        let served = |target: &str| world.dials.member(target).seen().len();
        assert_eq!((served("web:one"), served("web:two"), world.app.asked()), (6, 2, 0));
        get(&world, "/api/orders?a=1", &[]).await;
        let seen = world.dials.member("api").only();
        assert_eq!((seen.target.as_str(), seen.header("x-forwarded-prefix")), ("/base/orders?a=1", "/api"));
        get(&world, "/other", &[]).await;
        assert_eq!(world.app.asked(), 1, "every other request");
        assert_eq!(world.count("outrigger_tries_total", &[("target", "api"), ("outcome", "ok")]), 1.0);
        assert_eq!(world.count("outrigger_tries_total", &[("target", "web:one"), ("outcome", "ok")]), 6.0);
        assert!(world.log().await.iter().any(|line| line["target"] == "api" && line["route"] == "by-path"));
    });
}

#[test]
fn each_app_has_a_breaker_of_its_own() {
    run(async {
        let world = World::new(YAML).await;
        world.dials.fail("api", [Failing::Refused; 2]);
        for _ in 0..2 {
            assert_eq!(get(&world, "/api/x", &[]).await.0, StatusCode::BAD_GATEWAY);
        }
        assert_eq!((world.breaker("api"), world.breaker("app")), (Some(State::Open), None));
        assert_eq!(get(&world, "/api/x", &[]).await.0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(get(&world, "/other", &[]).await.0, StatusCode::OK);
    });
}

#[test]
fn a_kept_answer_of_one_app_is_not_anothers() {
    run(async {
        let world = World::new(YAML).await;
        world.app.always(Reply::ok("the page"));
        world.dials.member("api").always(Reply::ok("the beta"));
        for _ in 0..2 {
            assert_eq!(get(&world, "/page", &[("host", "shop.example")]).await.1, "the page");
            assert_eq!(get(&world, "/page", &[("host", "shop.example"), ("x-beta", "1")]).await.1, "the beta");
        }
        assert_eq!((world.app.asked(), world.dials.member("api").seen().len()), (1, 1));
    });
}

#[test]
fn a_reload_moves_a_route_to_another_app() {
    run(async {
        let world = World::new(YAML).await;
        world.reload(&YAML.replace("match: {path: /api/**}, app: api", "match: {path: /api/**}, app: web")).expect("taken");
        get(&world, "/api/x", &[]).await;
        assert_eq!((world.dials.member("api").seen().len(), world.dials.member("web:one").seen().len()), (0, 1));
    });
}
