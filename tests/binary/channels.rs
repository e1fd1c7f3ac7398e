//! Each channel of a real process, received by what knows its vendor's rules: Teams, Discord, PagerDuty, and a mail server with STARTTLS
//! and a login.

use std::fs;

use outrigger::{
    alert::{Hit, Item, Kind, Notice},
    cli::client::Client,
    config::Severity,
    notify::format::{discord, pagerduty, teams},
};
use serde_json::Value;

use super::{
    origin::certificate,
    process::{Home, Proxy, block_on, metric, until},
    sink::{RULES, Sink, app_at, ask, cli, free, yaml},
};

/// A PagerDuty integration's routing key.
const KEY: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn teams_discord_and_pagerduty_get_what_they_publish_after_a_refusal_too() {
    let Some(mut sink) = Sink::start(None) else { return };
    let (app, http) = (free(), sink.http);
    let to = |path: &str| format!("'http://127.0.0.1:{http}{path}'");
    let home = Home::new(&yaml(
        app,
        &format!(
            "alerts:\n  group: 0s\n  runbooks: 'https://wiki.example/alerts'\n  rules: {RULES}\n  channels:\n    teams: {{teams: {}}}\n    discord: {{discord: {}}}\n    \
             oncall: {{pagerduty: {KEY}, pagerduty_url: {}}}\n",
            to("/fail/503/teams"),
            to("/fail/429/discord"),
            to("/fail/500/pagerduty/v2/enqueue"),
        ),
    ));
    let proxy = home.start();
    let event = |line: &Value| serde_json::from_str::<Value>(line["body"].as_str().expect("text")).expect("JSON");
    let firing = event(&sink.wait_for("/pagerduty/v2/enqueue", "trigger", || ask(&proxy)));
    assert_eq!((&firing["payload"]["severity"], &firing["payload"]["class"]), (&"critical".into(), &"error_rate".into()), "{firing:#}");
    assert_eq!(firing["links"][0]["href"], "https://wiki.example/alerts#error_rate", "{firing:#}");
    let card = sink.wait_for("/teams", "CRITICAL", || ask(&proxy));
    let text = card["body"].as_str().expect("text");
    assert!(text.contains("What to do:") && text.contains("\"url\":\"https://wiki.example/alerts#error_rate\""), "{text}");
    sink.wait_for("/discord", "CRITICAL", || ask(&proxy));
    let counted = |channel: &str, outcome: &str| {
        metric(proxy.admin, &format!("outrigger_notices_total{{channel=\"{channel}\",outcome=\"{outcome}\"}}"))
    };
    for channel in ["teams", "discord", "oncall"] {
        until("it was taken at the second try", || (counted(channel, "failed"), counted(channel, "delivered")) == (Some(1.0), Some(1.0)));
        assert_eq!(counted(channel, "lost"), Some(0.0));
    }
    app_at(app);
    let over = event(&sink.wait_for("/pagerduty/v2/enqueue", "resolve", || ask(&proxy)));
    assert_eq!(over["dedup_key"], firing["dedup_key"]);
    sink.wait_for("/teams", "RECOVERED", || ask(&proxy));
    sink.wait_for("/discord", "RECOVERED", || ask(&proxy));
}

/// A notice of `n` incidents with texts that are long and try to break out.
fn notice(kind: Kind, n: usize) -> Notice {
    let item = |at: usize| Item {
        id: format!("{at:016x}"),
        rule: "error_rate".into(),
        subject: format!("inbound route {at} \"<@everyone> [x](http://evil) *b* {}", "y".repeat(if at == 0 { 3_000 } else { 3 })),
        severity: [Severity::Critical, Severity::Warning, Severity::Low][at % 3],
        says: "ä\u{1f525}".repeat(if at == 1 { 9_000 } else { 40 }),
        since: 1_800_000_000_000,
        until: (kind == Kind::Resolved).then_some(1_800_000_090_000),
        hit: Hit { callers: vec![("ann\u{7}<@U1>".into(), 7)], caller_count: 3, routes: Vec::new(), nano_usd: Some(1_230_000_000) },
        advice: "Look here. ".repeat(if at == 2 { 500 } else { 3 }),
        runbook: Some("https://wiki.example/alerts#error_rate".into()).filter(|_| at != 1),
    };
    Notice {
        id: "n-1".into(),
        kind,
        severity: Severity::Critical,
        at: 1_800_000_100_000,
        service: "shop".into(),
        items: (0..n).map(item).collect(),
        more: 2,
    }
}

#[test]
fn no_notice_breaks_the_rules_of_a_vendor() {
    let Some(mut sink) = Sink::start(None) else { return };
    let client =
        Client::tcp(([127, 0, 0, 1], u16::try_from(sink.http).expect("a port")).into()).with_header("content-type", "application/json");
    let mut send = |path: &str, message: &Value| {
        block_on(client.post(path, message)).expect("answers");
        let _ = sink.wait_for(path, "", || {});
    };
    for kind in [Kind::Firing, Kind::Reminder, Kind::Resolved, Kind::Digest, Kind::Test] {
        for n in [1, 2, 20] {
            let notice = notice(kind, n);
            send("/teams", &teams::message(&notice));
            send("/discord", &discord::message(&notice));
            for event in pagerduty::events(&notice, KEY) {
                send("/pagerduty", &event);
            }
        }
    }
}

#[test]
fn a_mail_goes_under_starttls_with_a_login_and_no_password_travels_in_the_clear() {
    let home = Home::new("");
    let (cert, key) = certificate(30);
    fs::write(home.path("cert.pem"), cert).expect("written");
    fs::write(home.path("key.pem"), key).expect("written");
    let cert = home.text("cert.pem");
    let Some(mut sink) = Sink::start_with(None, &[("SINK_CERT", cert.clone()), ("SINK_KEY", home.text("key.pem"))]) else { return };
    let (smtp, secure) = (sink.smtp, sink.secure.expect("it has a certificate"));
    let to = |name: &str, server: &str| {
        format!("    {name}: {{email: {{server: 'smtp://{server}', from: outrigger@example.com, to: oncall@example.com}}}}\n")
    };
    let channels = [
        to("good", &format!("pager:s3cret@127.0.0.1:{secure}")),
        to("wrong", &format!("pager:guess@127.0.0.1:{secure}")),
        to("clear", &format!("pager:s3cret@127.0.0.1:{smtp}")),
        to("other", &format!("pager:s3cret@localhost:{secure}")),
    ];
    home.write(&yaml(free(), &format!("alerts:\n  channels:\n{}", channels.concat())));
    let trusting = Proxy::start(&["--config", &home.text("proxy.yaml")], &[("SSL_CERT_FILE", cert)]);
    let test = |name: &str| cli(&home, &["alerts", "test", name]);
    let said = test("good");
    assert!(said.contains("good (email) has taken the test"), "{said}");
    let mail = sink.wait_for("secure", "TEST", || {});
    assert!(mail["body"].as_str().is_some_and(|text| text.contains("Nothing is wrong")), "{mail:#}");
    sink.wait_for("login", "pager", || {});
    let said = test("wrong");
    assert!(said.contains("535") && !said.contains("guess"), "the server's own words: {said}");
    sink.wait_for("login", "pager", || {});
    for (name, why) in [("clear", "STARTTLS"), ("other", "certificate")] {
        let said = test(name);
        assert!(said.to_lowercase().contains(&why.to_lowercase()), "{name}: {said}");
    }
    assert_eq!((sink.more("login", ""), sink.more("mail", "")), (0, 0), "neither has got a password");
    drop(trusting);
    let proxy = home.start();
    let said = test("good");
    assert!(said.contains("certificate"), "the authority is not known: {said}");
    assert_eq!(sink.more("login", ""), 0);
    drop(proxy);
}
