//! Another file for the real process: what is said of it, wherever the wish came from.

use super::{
    QUICK,
    process::{App, Home, Proxy, get, metric, run, until},
    yaml,
};

const APPLIED: &str = "outrigger_config_reloads_total{outcome=\"applied\"}";
const REFUSED: &str = "outrigger_config_reloads_total{outcome=\"refused\"}";
const SUCCESSFUL: &str = "outrigger_config_last_reload_successful";
const AT: &str = "outrigger_config_last_reload_success_timestamp_seconds";

/// State and detail of the configuration in `/health`.
fn health(proxy: &Proxy) -> (String, String) {
    let health = get(proxy.admin, "/health").json().expect("JSON");
    let entry = &health["dependencies"]["configuration"];
    (entry["state"].as_str().expect("a state").to_owned(), entry["detail"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn a_refused_file_shows_wherever_the_wish_came_from_until_a_good_one_is_at_work() {
    let app = App::start();
    let home = Home::new(&(yaml(&app, "") + QUICK));
    let proxy = home.start();
    for (series, value) in [(APPLIED, 0.0), (REFUSED, 0.0), (SUCCESSFUL, 1.0)] {
        assert_eq!(metric(proxy.admin, series), Some(value), "{series} at the start");
    }
    let started = metric(proxy.admin, AT).expect("a time");
    assert!(started > 1e9);
    assert_eq!(health(&proxy), ("ok".into(), "generation 1".into()));

    type Ask<'a> = &'a dyn Fn(&Home, &Proxy);
    let by_signal: Ask<'_> = &|_, proxy| proxy.signal("HUP");
    let by_order: Ask<'_> = &|home, _| assert_eq!(run(&["reload", "--socket", &home.text("admin.sock")]).0, Some(1));
    let by_itself: Ask<'_> = &|_, _| {};
    for (at, ask) in [by_signal, by_order, by_itself].into_iter().enumerate() {
        let (refused, applied) = (metric(proxy.admin, REFUSED), metric(proxy.admin, APPLIED));
        home.write(&format!("wrong{at}: 1\n"));
        ask(&home, &proxy);
        until("it is refused", || metric(proxy.admin, REFUSED) > refused);
        assert_eq!(metric(proxy.admin, SUCCESSFUL), Some(0.0));
        let (state, detail) = health(&proxy);
        assert!(state == "degraded" && detail.contains(&format!("wrong{at}")) && detail.contains("serves on"), "{state}: {detail}");
        assert_eq!(get(proxy.inbound, "/").status.as_u16(), 200);

        // Without anybody's word: the file is good again.
        home.write(&(yaml(&app, "") + QUICK));
        until("it is at work", || metric(proxy.admin, APPLIED) > applied);
        assert_eq!((metric(proxy.admin, SUCCESSFUL), health(&proxy).0.as_str()), (Some(1.0), "ok"));
    }
    assert!(metric(proxy.admin, AT) > Some(started));
}
