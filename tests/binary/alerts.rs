//! Alerts of a real process, received by what would receive them: the library of Standard Webhooks, Slack's own models, a mail server,
//! an Alertmanager.

use std::{
    env, fs,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use outrigger::cli::client::Client;
use serde_json::Value;

use super::{
    process::{Home, block_on, get, metric, try_get, until},
    sink::{RULES, SECRET, Sink, app_at, app_until, ask, cli, free, missing, yaml},
};

#[test]
fn an_outage_and_its_end_are_told_in_every_form() {
    let Some(mut sink) = Sink::start(None) else { return };
    let app = free();
    let manager = Alertmanager::start();
    let (http, smtp) = (sink.http, sink.smtp);
    let alertmanager = manager.as_ref().map(|manager| format!("am: {{alertmanager: 'http://{}'}}, ", manager.at)).unwrap_or_default();
    let home = Home::new(&yaml(
        app,
        &format!(
            "alerts:\n  group: 0s\n  rules: {RULES}\n  heartbeat: {{url: 'http://127.0.0.1:{http}/beat', every: 5s}}\n  channels: {{{alertmanager}\
             hook: {{webhook: 'http://127.0.0.1:{http}/hook', secret: {SECRET}}}, away: {{webhook: 'http://127.0.0.1:{http}/away', secret: {SECRET}}}, \
             team: {{slack: 'http://127.0.0.1:{http}/slack/secretpart'}}, \
             mail: {{email: {{server: 'smtp://127.0.0.1:{smtp}', from: outrigger@example.com, to: oncall@example.com}}}}}}\n"
        ),
    ));
    let proxy = home.start();
    sink.wait_for("/beat", "", || {});
    let hook = sink.wait_for("/hook", "alert.firing", || ask(&proxy));
    let body: Value = serde_json::from_str(hook["body"].as_str().expect("text")).expect("JSON");
    let incident = &body["data"]["incidents"][0];
    assert_eq!((&incident["rule"], &incident["severity"]), (&"error_rate".into(), &"critical".into()), "{body:#}");
    assert_eq!(incident["callers"][0]["name"], "ann", "{body:#}");
    assert!(incident["what_to_do"].as_str().is_some_and(|text| text.contains("outrigger_rejects_total")), "{incident:#}");
    assert_eq!(incident["runbook"], Value::Null, "there is none to open");
    sink.wait_for("/slack/secretpart", "CRITICAL", || ask(&proxy));
    let mail = sink.wait_for("mail", "CRITICAL", || ask(&proxy));
    assert!(mail["body"].as_str().is_some_and(|text| text.contains("What to do:")), "{mail:#}");
    let late = sink.wait_for("/away", "alert.firing", || ask(&proxy));
    assert_eq!(late["id"], hook["id"], "one notice, one id");
    let said = cli(&home, &["alerts"]);
    assert!(said.contains("critical  error_rate") && said.contains("team"), "{said}");
    assert!(!said.contains("secretpart") && !get(proxy.admin, "/api/alerts").text().contains("secretpart"));
    assert_eq!(metric(proxy.admin, "outrigger_alerts_open{severity=\"critical\"}"), Some(1.0));
    if let Some(manager) = &manager {
        until("the Alertmanager has the alert", || manager.alerts().iter().any(|one| one["labels"]["alertname"] == "outrigger_error_rate"));
    }
    app_at(app);
    let over = sink.wait_for("/hook", "alert.resolved", || ask(&proxy));
    assert_ne!(over["id"], hook["id"]);
    sink.wait_for("mail", "RECOVERED", || ask(&proxy));
    if let Some(manager) = &manager {
        until("the alert is over", || manager.alerts().is_empty());
    }
    let shown = get(proxy.admin, "/api/alerts").json().expect("JSON");
    let recent = &shown["recent"][0];
    assert!(recent["rule"] == "error_rate" && recent["until"].is_string(), "{shown:#}");
    let team = shown["channels"].as_array().and_then(|all| all.iter().find(|one| one["name"] == "team")).expect("the channel");
    assert!(team["delivered_at"].is_string() && team["failed_at"].is_null(), "{team:#}");
    let said = cli(&home, &["alerts", "test", "team"]);
    assert!(said.contains("team (slack) has taken the test"), "{said}");
    sink.wait_for("/slack/secretpart", "TEST", || {});
}

#[test]
fn a_notice_outlives_its_receiver_and_the_process() {
    let at = free();
    let home = Home::new("");
    let yaml = yaml(
        free(),
        &format!(
            "store: {{state_dir: {}}}\nalerts: {{group: 0s, rules: {RULES}, channels: {{hook: {{webhook: 'http://{at}/hook', secret: {SECRET}}}}}}}\n",
            home.text("state")
        ),
    );
    home.write(&yaml);
    let proxy = home.start();
    until("a notice waits and is written", || {
        ask(&proxy);
        let file = fs::read_to_string(home.path("state/notices-0.json")).unwrap_or_default();
        file.contains("error_rate") && metric(proxy.admin, "outrigger_notices_total{channel=\"hook\",outcome=\"failed\"}") > Some(0.0)
    });
    proxy.signal("KILL");
    drop(proxy);
    let written = fs::read_to_string(home.path("state/notices-0.json")).expect("a file");
    assert!(!written.contains("whsec_") && !written.contains(&at.to_string()), "no credential is in it");
    let Some(mut sink) = Sink::start(Some(at.port())) else { return };
    let proxy = home.start();
    let hook = sink.wait_for("/hook", "alert.firing", || {});
    assert!(written.contains(hook["id"].as_str().expect("an id")), "the notice of the process before: {hook:#}");
    until("nothing waits", || metric(proxy.admin, "outrigger_notices_waiting{channel=\"hook\"}") == Some(0.0));
}

#[test]
fn a_broken_app_is_an_event_that_sentrys_own_parser_reads() {
    let Some(mut sink) = Sink::start(None) else { return };
    let dsn = format!("http://secretpart@127.0.0.1:{}/7", sink.http);
    let home = Home::new(&yaml(free(), &format!("sentry: {{dsn: '{dsn}', environment: staging, release: shop@1}}\n")));
    let proxy = home.start();
    let told = sink.wait_for("/api/7/envelope/", "staging", || ask(&proxy));
    let body = told["body"].as_str().expect("text");
    let envelope = sentry_types::protocol::v7::Envelope::from_slice(body.as_bytes()).expect("an envelope");
    let event = envelope.event().expect("an event");
    assert_eq!(
        (event.release.as_deref(), event.tags["reason"].as_str(), event.tags["priority"].as_str()),
        (Some("shop@1"), "connect_failed", "P1")
    );
    assert!(event.breadcrumbs.iter().any(|crumb| crumb.message.as_deref() == Some("app: connect_failed")), "{event:#?}");
    assert!(!body.contains("/chat") && !body.contains("\"ann\"") && !body.contains("secretpart"), "{body}");
    until("it is counted", || metric(proxy.admin, "outrigger_sentry_events_total{outcome=\"sent\"}") > Some(0.0));
}

#[test]
fn a_stopped_app_is_an_incident_an_alert_and_a_line_of_the_status_page_and_its_downtime_is_right() {
    let app = free();
    let listening = app_until(app);
    let home = Home::new(&yaml(
        app,
        &format!(
            "store: {{state_dir: STATE}}\nstatus_page: {{listen: 127.0.0.1:0, title: Shop}}\n\
             monitors: {{app: {{url: 'tcp://{app}', every: 1s, timeout: 500ms}}}}\nalerts: {{group: 0s, rules: {{no_traffic: off}}}}\n"
        ),
    ));
    let written = fs::read_to_string(home.path("proxy.yaml")).expect("a file").replace("STATE", &home.text("state"));
    home.write(&written);
    let proxy = home.start();
    let page = proxy.status_page;
    let monitor = || get(proxy.admin, "/api/monitors").json().expect("JSON")["monitors"][0].clone();
    until("the app is up", || monitor()["state"] == "up");
    let stopped = now();
    drop(listening);
    until("an incident", || monitor()["state"] == "down");
    // Two checks, a second apart, and a moment.
    assert!(stopped.elapsed() < Duration::from_millis(3_500), "{:?}", stopped.elapsed());
    until("an alert", || get(proxy.admin, "/api/alerts").text().contains("\"monitor\""));
    until("the page says it", || get(page, "/").text().contains("Everything is down"));
    let shown = get(page, "/");
    assert_eq!(shown.status.as_u16(), 200, "it answers while the app is down");
    assert!(!shown.text().contains(&app.to_string()), "no address is shown");
    assert!(get(page, "/badge/app.svg").text().contains("app: down"));
    let since = monitor()["since"].as_str().map(str::to_owned).expect("it began");
    until("five seconds are over", || stopped.elapsed() > Duration::from_secs(5));
    let listening = app_until(app);
    let started = stopped.elapsed();
    until("it has recovered", || monitor()["state"] == "up");
    let now = monitor();
    let days = now["days"].as_array().expect("a list");
    assert!(days.len() == 90 && days[0].is_null() && days[89].as_f64().is_some_and(|share| share < 1.0), "{now:#}");
    assert!(now["past"][0]["from"] == since.as_str() && now["past"][0]["to"].is_string(), "{now:#}");
    let down = monitor()["down_seconds_7d"].as_f64().expect("a number");
    assert!((down - started.as_secs_f64()).abs() <= 1.5, "{down} against {started:?}");
    until("the page says it too", || get(page, "/status.json").text().contains("\"state\": \"up\""));
    let week = get(page, "/status.json").json().expect("JSON")["monitors"][0]["7d"]["down_seconds"].as_f64().expect("a number");
    assert!((week - down).abs() < 0.001);
    let tag = get(page, "/").header("etag").map(str::to_owned).expect("a tag");
    assert_eq!(
        block_on(Client::tcp(page.expect("open")).with_header("if-none-match", &tag).get("/")).expect("answers").status.as_u16(),
        304
    );
    // The history outlives the process.
    proxy.signal("TERM");
    let mut proxy = proxy;
    assert_eq!(proxy.exit(), 0);
    let proxy = home.start();
    until("the incident of the process before is there", || get(proxy.status_page, "/status.json").text().contains(&since));
    drop(listening);
}

#[expect(clippy::disallowed_methods, reason = "a real process takes real time")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

/// A real Alertmanager.
struct Alertmanager {
    child: Child,
    at: SocketAddr,
    _home: tempfile::TempDir,
}

impl Alertmanager {
    /// `None`: it is not installed, which was said aloud.
    fn start() -> Option<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        let found = env::split_paths(&path)
            .flat_map(|dir| [dir.join("prometheus-alertmanager"), dir.join("alertmanager")])
            .find(|file| file.is_file());
        let Some(program) = found else {
            missing("prometheus-alertmanager");
            return None;
        };
        let home = tempfile::tempdir().expect("a directory");
        let config = home.path().join("alertmanager.yml");
        fs::write(&config, "route: {receiver: none}\nreceivers: [{name: none}]\n").expect("written");
        let at = free();
        let mut command = Command::new(program);
        command.arg(format!("--config.file={}", config.display())).arg(format!("--storage.path={}", home.path().display()));
        command.arg(format!("--web.listen-address={at}")).arg("--cluster.listen-address=").stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("starts");
        let manager = Self { child, at, _home: home };
        until("the Alertmanager is ready", || try_get(Some(at), "/-/ready").is_ok_and(|answer| answer.status.is_success()));
        Some(manager)
    }

    /// Its active alerts.
    fn alerts(&self) -> Vec<Value> {
        let answer = get(Some(self.at), "/api/v2/alerts?active=true");
        answer.json().expect("JSON").as_array().cloned().unwrap_or_default()
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_webhook_is_told_of_a_held_request_until_it_takes_it_and_its_answer_may_decide() {
    let Some(mut sink) = Sink::start(None) else { return };
    let app = free();
    app_at(app);
    let http = sink.http;
    let limit = |name: &str, path: &str| {
        format!(
            "    - match: {{path: /{name}}}\n      limits: [{{name: {name}, key: caller, requests: 1, window: 1h, on_limit: {{ask: {{wait: 20s, \
             webhook: 'http://127.0.0.1:{http}{path}', secret: {SECRET}}}}}}}]\n"
        )
    };
    let routes = [("yes", "/hook/allow"), ("no", "/hook/refuse"), ("late", "/away/ask")].map(|(name, path)| limit(name, path)).concat();
    let home = Home::new(&yaml(app, "").replacen("admin:", &format!("  routes:\n{routes}admin:"), 1));
    let proxy = home.start();
    let client = || Client::tcp(proxy.inbound.expect("open")).with_header("x-user-id", "ann");
    let status = |path: &str| block_on(client().get(path)).expect("answers").status.as_u16();
    for path in ["/yes", "/no", "/late"] {
        assert_eq!(status(path), 200, "the first of its hour");
    }
    assert_eq!(status("/yes"), 200, "the webhook has said yes");
    assert_eq!(status("/no"), 429, "the webhook has said no");
    let held = thread::spawn({
        let client = client();
        move || block_on(client.get("/late")).expect("answers").status.as_u16()
    });
    let told = sink.wait_for("/away/ask", "limit.ask", || {});
    let body: Value = serde_json::from_str(told["body"].as_str().expect("text")).expect("JSON");
    let data = &body["data"];
    assert_eq!((&data["caller"], &data["limit"], &data["route"]), (&"ann".into(), &"late".into(), &"/late".into()), "{body:#}");
    assert_eq!((&data["what"], &data["terms"]), (&"GET /late".into(), &"1 request per hour".into()), "{body:#}");
    let id = data["id"].as_str().expect("an id");
    assert_eq!(data["answer"]["command"], format!("outrigger approve {id}"));
    assert!(data["until"].as_str() > body["timestamp"].as_str(), "{body:#}");
    cli(&home, &["approve", id]);
    assert_eq!(held.join().expect("ends"), 200, "the admin door has said yes");
    let counted = |limit: &str, outcome: &str| {
        metric(proxy.admin, &format!("outrigger_limit_webhooks_total{{door=\"inbound\",limit=\"{limit}\",outcome=\"{outcome}\"}}"))
    };
    until("the letters are counted", || counted("late", "delivered") == Some(1.0));
    assert_eq!((counted("yes", "allow"), counted("no", "refuse"), counted("late", "failed")), (Some(1.0), Some(1.0), Some(2.0)));
    sink.wait_for("/hook/allow", "GET /yes", || {});
    sink.wait_for("/hook/refuse", "GET /no", || {});
}
