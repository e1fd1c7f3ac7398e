//! Changes of a real proxy's file through its admin door: planned, applied, refused, undone; comments and secrets kept where they are.

use std::{fs, os::unix::fs::PermissionsExt};

use outrigger::cli::client::Client;
use serde_json::{Value, json};

use super::{
    QUICK,
    process::{App, Home, Proxy, block_on, get, run},
    yaml,
};

/// A file with comments, a secret and two tokens.
fn commented(app: &App, home: &Home) -> String {
    let text = yaml(app, "  # what everybody may ask\n  limits: [{name: pace, key: client_ip, requests: 1000, window: 1m}]   # a minute");
    let tokens = "tokens: [{name: ci, role: operate, token: hunter2-operates}, {name: eye, role: read, token: hunter2-looks}]";
    text.replace("socket: SOCKET}", &format!("socket: SOCKET, {tokens}}}"))
        + &format!("store: {{state_dir: {}}}\n", home.text("state"))
        + QUICK
}

fn post(proxy: &Proxy, token: &str, path: &str, body: &Value) -> (u16, Value) {
    let client = Client::tcp(proxy.admin.expect("open")).with_header("authorization", &format!("Bearer {token}"));
    let answer = block_on(client.post(path, body)).expect("an answer");
    (answer.status.as_u16(), answer.json().expect("JSON"))
}

fn ask(proxy: &Proxy, token: &str, path: &str) -> Value {
    let client = Client::tcp(proxy.admin.expect("open")).with_header("authorization", &format!("Bearer {token}"));
    block_on(client.get(path)).expect("an answer").json().expect("JSON")
}

fn text(home: &Home) -> String {
    fs::read_to_string(home.path("proxy.yaml")).expect("readable")
}

const EDIT: &str = "hunter2-operates";

#[test]
fn a_limit_moves_and_moves_back_and_every_other_byte_stays() {
    let app = App::start();
    let home = Home::new("");
    home.write(&commented(&app, &home));
    fs::set_permissions(home.path("proxy.yaml"), fs::Permissions::from_mode(0o640)).expect("set");
    let mut proxy = home.start();
    let before = text(&home);
    let edits = json!([{"op": "limit", "door": "inbound", "limit": "pace", "requests": 1}]);

    let (status, plan) = post(&proxy, EDIT, "/api/config/plan", &json!({ "edits": edits }));
    assert_eq!((status, &plan["check"]["ok"], &plan["restart"]), (200, &json!(true), &Value::Null), "{plan:#}");
    let diff = plan["diff"].as_str().expect("a text");
    assert!(diff.contains("-  limits: [{name: pace, key: client_ip, requests: 1000, window: 1m}]   # a minute\n+  limits:"), "{diff}");
    assert!(!plan.to_string().contains("hunter2"), "{plan:#}");
    assert_eq!(text(&home), before, "a plan writes nothing");

    let apply = json!({"base": plan["base"], "edits": edits, "note": "calm down"});
    assert_eq!(post(&proxy, "hunter2-looks", "/api/config/apply", &apply).0, 403, "who looks changes nothing");
    assert_eq!(text(&home), before);
    let (status, done) = post(&proxy, EDIT, "/api/config/apply", &apply);
    assert_eq!((status, &done["version"], &done["generation"]), (200, &json!(2), &json!(2)), "{done:#}");
    assert_eq!(text(&home), before.replace("requests: 1000", "requests: 1"));
    assert_eq!(fs::metadata(home.path("proxy.yaml")).expect("there").permissions().mode() & 0o777, 0o640);
    get(proxy.inbound, "/");
    assert_eq!(get(proxy.inbound, "/").status.as_u16(), 429, "it is at work");
    let said = proxy.wait_for("the configuration was changed through the admin door");
    assert_eq!((&said["who"], &said["version"]), (&json!("ci"), &json!(2)), "{said}");

    let (status, why) = post(&proxy, EDIT, "/api/config/apply", &apply);
    assert!(status == 409 && why["error"].as_str().is_some_and(|why| why.contains("plan again")), "{why}");

    let socket = home.text("admin.sock");
    let (code, out, _) = run(&["config", "history", "--socket", &socket]);
    assert!(code == Some(0) && out.contains("*2") && out.contains("(calm down)") && out.contains("(the file)"), "{out}");
    let (code, out, complaint) = run(&["config", "rollback", "1", "--socket", &socket]);
    assert_eq!((code, out.as_str()), (Some(0), "at work as version 3\n"), "{complaint}");
    assert_eq!(text(&home), before);
    let history = ask(&proxy, EDIT, "/api/config/history");
    let who: Vec<&Value> = history["versions"].as_array().expect("a list").iter().map(|version| &version["who"]).collect();
    assert!(who[0].as_str().is_some_and(|who| who.starts_with("socket (user ")) && who[1] == "ci", "{history:#}");
    assert_eq!((&history["durable"], &history["versions"][0]["current"]), (&json!(true), &json!(true)));
    assert_eq!(post(&proxy, EDIT, "/api/config/rollback", &json!({"version": 77})).0, 404);
}

#[test]
fn what_a_reload_would_refuse_is_not_written() {
    let app = App::start();
    let home = Home::new("");
    home.write(&commented(&app, &home));
    let proxy = home.start();
    let before = text(&home);
    let base = ask(&proxy, EDIT, "/api/config/history")["base"].clone();
    for (edit, part) in [
        (json!({"op": "set", "path": "inbound.limits[0].window", "value": "soon"}), "soon"),
        (json!({"op": "set", "path": "inbound.limts", "value": []}), "limits"),
        (json!({"op": "set", "path": "workers", "value": 3}), "needs a restart"),
    ] {
        let (status, plan) = post(&proxy, EDIT, "/api/config/plan", &json!({ "edits": [edit] }));
        assert_eq!((status, &plan["check"]["ok"]), (200, &json!(false)), "{plan:#}");
        let (status, why) = post(&proxy, EDIT, "/api/config/apply", &json!({"base": base, "edits": [edit]}));
        assert!(status == 422 && why["error"].as_str().is_some_and(|why| why.contains(part)), "{why:#}");
        assert_eq!(text(&home), before);
    }
    let (status, why) = post(&proxy, EDIT, "/api/config/plan", &json!({"edits": [{"op": "remove", "path": "inbound.nothing"}]}));
    assert!(status == 400 && why["error"].as_str().is_some_and(|why| why.contains("edits[0] (remove inbound.nothing)")), "{why:#}");
    assert_eq!(get(proxy.inbound, "/").status.as_u16(), 200);
}

#[test]
fn whoever_looks_needs_a_token_as_soon_as_there_is_one_for_looking() {
    let app = App::start();
    let home = Home::new("");
    home.write(&commented(&app, &home));
    let proxy = home.start();
    assert_eq!(get(proxy.admin, "/api/routes").status.as_u16(), 403);
    assert_eq!(get(proxy.admin, "/metrics").status.as_u16(), 200);
    let who = ask(&proxy, "hunter2-looks", "/api/whoami");
    assert_eq!((&who["name"], &who["role"], &who["can_change"]), (&json!("eye"), &json!("read"), &json!(false)));
    assert!(ask(&proxy, "hunter2-looks", "/api/routes")["inbound"].is_array());
}

#[test]
fn a_new_route_is_put_where_it_can_match_and_what_stands_in_its_way_is_said() {
    let app = App::start();
    let home = Home::new("");
    home.write(&commented(&app, &home));
    let proxy = home.start();
    let route = |name: &str, methods: &[&str], status: u16| {
        let value = json!({"name": name, "match": {"path": "/a", "methods": methods}, "respond": {"status": status}});
        json!([{"op": "append", "path": "inbound.routes", "value": value}])
    };
    let plan = |edits: &Value| {
        let (status, plan) = post(&proxy, EDIT, "/api/config/plan", &json!({ "edits": edits }));
        assert_eq!((status, &plan["check"]["ok"]), (200, &json!(true)), "{plan:#}");
        plan
    };
    let apply = |edits: &Value| {
        let (status, done) = post(&proxy, EDIT, "/api/config/apply", &json!({"base": plan(edits)["base"], "edits": edits}));
        assert_eq!(status, 200, "{done:#}");
    };
    let wide = route("wide", &["GET", "POST"], 201);
    assert_eq!(plan(&wide)["routes"], json!([]), "nothing is in its way");
    apply(&wide);
    let narrow = route("narrow", &["GET"], 202);
    assert_eq!(plan(&narrow)["routes"], json!([]), "it is asked first");
    apply(&narrow);
    let written = text(&home);
    assert!(written.find("narrow").expect("written") < written.find("wide").expect("written"), "{written}");
    assert_eq!(get(proxy.inbound, "/a").status.as_u16(), 202);
    let mut posts = route("posts", &["POST"], 203);
    assert_eq!(plan(&posts)["routes"], json!([]));
    posts[0]["at"] = 2.into();
    let said = plan(&posts)["routes"].clone();
    assert_eq!((&said[0]["route"], &said[0]["taken_by"]), (&json!("posts"), &json!("wide")), "{said:#}");
    assert!(said[0]["message"].as_str().is_some_and(|why| why.contains("never answers")), "{said:#}");
    let said = plan(&json!([{"op": "append", "path": "inbound.routes", "value": {"name": "host", "match": {"hosts": ["shop.example"]}}}]));
    let said = said["routes"].as_array().expect("a list").clone();
    assert!(said.is_empty(), "a host is asked first, and what it takes away from others is what was asked for: {said:#?}");
    let all =
        plan(&json!([{"op": "append", "path": "inbound.routes", "value": {"name": "gets", "match": {"path": "/**", "methods": ["GET"]}}}]));
    let why = all["routes"][0]["message"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("`wide` takes the requests that match both it and `gets`: its `path` is more specific"), "{all:#}");
}
