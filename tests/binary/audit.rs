//! The audit log of a real process: what it says, that it is whole, and that it stays so however the process ends.

use std::{fs, process::Stdio};

use serde_json::Value;

use super::{
    QUICK,
    process::{App, Home, Proxy, get, metric, outrigger, run, until},
};

fn home(app: &App, audit: &str) -> Home {
    let home = Home::new("");
    let keys = home.text("keys.json");
    fs::write(home.path("keys.json"), "").expect("written");
    home.write(&format!(
        "inbound:\n  listen: 127.0.0.1:0\n  app: http://{}\n  routes:\n    - match: {{path: /shut}}\n      access: {{deny: [0.0.0.0/0]}}\n    \
         - match: {{path: /keyed}}\n      auth: {{api_keys: {{file: {keys}}}}}\nadmin: {{listen: 127.0.0.1:0, probes: off, socket: SOCKET}}\n\
         workers: 2\nstore: {{state_dir: {}}}\naudit: {audit}\ntelemetry: {{log: off}}\n{QUICK}",
        app.address,
        home.text("state")
    ));
    home
}

fn verify(home: &Home) -> Value {
    let (_, out, complaint) = run(&["audit", "verify", "--config", &home.text("proxy.yaml"), "--json"]);
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{complaint}"))
}

fn lines(home: &Home) -> Vec<Value> {
    let (code, out, complaint) = run(&["audit", "show", "--config", &home.text("proxy.yaml"), "--last", "1000", "--json"]);
    assert_eq!(code, Some(0), "{complaint}");
    serde_json::from_str::<Value>(&out).expect("JSON")["lines"].as_array().expect("a list").clone()
}

fn events(home: &Home) -> Vec<String> {
    lines(home).iter().map(|line| line["event"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn what_matters_for_security_has_a_line_and_a_change_of_the_file_is_found() {
    let app = App::start();
    let home = home(&app, "{key: a-key-of-sixteen-characters}");
    let mut proxy = home.start();
    let socket = home.text("admin.sock");
    for _ in 0..20 {
        assert_eq!(get(proxy.inbound, "/shut").status.as_u16(), 403);
        assert_eq!(get(proxy.inbound, "/keyed").status.as_u16(), 401);
        assert_eq!(get(proxy.inbound, "/open").status.as_u16(), 200);
    }
    let made = run(&["key", "new", "--name", "web", "--file", &home.text("keys.json")]);
    assert_eq!(made.0, Some(0));
    assert_eq!(run(&["reload", "--socket", &socket]).0, Some(0));
    assert_eq!(run(&["purge", "--tag", "t", "--socket", &socket]).0, Some(0));
    assert_eq!(get(proxy.admin, "/api/config").status.as_u16(), 403);
    proxy.signal("TERM");
    assert_eq!(proxy.exit(), 0);

    let all = lines(&home);
    let of = |event: &str| all.iter().filter(|line| line["event"] == event).cloned().collect::<Vec<_>>();
    let refused = [of("access.refused"), of("auth.refused")];
    for (lines, reason) in refused.iter().zip(["access_denied", "auth_missing"]) {
        let counted: u64 = lines.iter().map(|line| line["more"].as_u64().unwrap_or(1)).sum();
        assert_eq!((lines.len(), counted, lines[0]["address"].as_str()), (2, 20, Some("127.0.0.1")), "{reason}: {lines:?}");
        assert!(lines[0]["reason"] == reason && lines[0]["request_id"].is_string(), "{lines:?}");
    }
    assert!(of("config.loaded").iter().any(|line| line["keys_new"][0] == "web"), "{all:?}");
    assert!(of("cache.purged")[0]["by"].as_str().is_some_and(|who| who.starts_with("socket (user")), "{all:?}");
    assert_eq!(
        (of("admin.forbidden")[0]["what"].as_str(), of("process.started").len(), of("process.ended").len()),
        (Some("/api/config"), 1, 1)
    );
    let text = fs::read_to_string(home.path("state/audit/000001.jsonl")).expect("readable");
    assert!(!text.contains("127.0.0.1"), "a line names no address");

    let found = verify(&home);
    assert_eq!((&found["whole"], &found["keyed_lines"]), (&true.into(), &found["lines"]), "{found:#}");
    fs::write(home.path("state/audit/000001.jsonl"), text.replacen("socket (user", "nobody (user", 1)).expect("written");
    let (code, _, complaint) = run(&["audit", "verify", "--config", &home.text("proxy.yaml")]);
    assert!(code == Some(1) && complaint.contains("000001.jsonl:") && complaint.contains("its hash does not fit"), "{complaint}");
    // The next process does not go on in silence, and serves.
    fs::write(home.path("state/audit/000001.jsonl"), &text[..text.len() / 2]).expect("written");
    let proxy = home.start();
    assert_eq!(get(proxy.inbound, "/open").status.as_u16(), 200);
    until("the damage is said", || get(proxy.admin, "/health").text().contains("the log was changed"));
    assert!(get(proxy.admin, "/metrics").text().contains("outrigger_audit_up 0"));
    assert!(events(&home).contains(&"audit.damaged".to_owned()));
}

#[test]
fn a_process_that_is_killed_at_any_moment_leaves_a_log_that_goes_on() {
    let app = App::start();
    let home = home(&app, "{file_size: 4KiB, files: 1000}");
    let socket = home.text("admin.sock");
    for _ in 0..6 {
        let proxy = home.start();
        // Four purges at once write while the process is killed.
        let purge = || outrigger().args(["purge", "--tag", "t", "--socket", &socket]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let purges: Vec<_> = (0..4).map(|_| purge().expect("runs")).collect();
        until("a purge has come in", || metric(proxy.admin, "outrigger_audit_lines_total").is_some_and(|lines| lines > 1.0));
        proxy.signal("KILL");
        for mut purge in purges {
            purge.wait().expect("its end");
        }
        drop(proxy);
        let found = verify(&home);
        assert_eq!(found["whole"], true, "{found:#}");
    }
    let both = [home.start(), Proxy::start(&["--config", &home.text("proxy.yaml")], &[])];
    for proxy in &both {
        assert_eq!(get(proxy.inbound, "/shut").status.as_u16(), 403);
    }
    until("both have a line", || events(&home).iter().filter(|event| *event == "access.refused").count() == 2);
    drop(both);
    let found = verify(&home);
    assert!(found["whole"] == true && found["files"].as_u64() > Some(1), "{found:#}");
}
