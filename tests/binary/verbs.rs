//! Every verb with `--json`: what it says is JSON, one document, and no object in it has a key twice.

use std::{
    fmt, fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{
    QUICK,
    process::{App, Home, get, outrigger, run},
    yaml,
};

/// A JSON value that no object in it has a key twice; `serde_json::Value` keeps the last of them.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Anything;
        impl<'de> Visitor<'de> for Anything {
            type Value = Strict;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Strict, A::Error> {
                let mut map = Map::new();
                while let Some((key, Strict(value))) = entries.next_entry::<String, Strict>()? {
                    if map.insert(key.clone(), value).is_some() {
                        return Err(A::Error::custom(format!("the key `{key}` is there twice")));
                    }
                }
                Ok(Strict(Value::Object(map)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Strict, A::Error> {
                let mut list = Vec::new();
                while let Some(Strict(value)) = items.next_element()? {
                    list.push(value);
                }
                Ok(Strict(Value::Array(list)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Strict, E> {
                Ok(Strict(text.into()))
            }

            fn visit_bool<E>(self, word: bool) -> Result<Strict, E> {
                Ok(Strict(word.into()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Strict, E> {
                Ok(Strict(number.into()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Strict, E> {
                Ok(Strict(number.into()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Strict, E> {
                Ok(Strict(number.into()))
            }

            fn visit_unit<E>(self) -> Result<Strict, E> {
                Ok(Strict(Value::Null))
            }
        }
        deserializer.deserialize_any(Anything)
    }
}

fn strict(text: &str) -> Value {
    match serde_json::from_str::<Strict>(text) {
        Ok(Strict(value)) => value,
        Err(error) => panic!("{error}\n{text}"),
    }
}

/// What the verb says; it must come out well, or not, as `well` says.
fn said(line: &[&str], well: bool) -> Value {
    let (code, out, complaint) = run(line);
    assert_eq!(code, Some(i32::from(!well)), "{line:?}: {out}{complaint}");
    assert_eq!(complaint, "", "{line:?}: with --json everything goes to standard output");
    let value = strict(&out);
    assert_eq!(value["error"].is_string(), !well, "{line:?}: {out}");
    value
}

#[test]
fn the_strict_reader_is_strict() {
    assert!(serde_json::from_str::<Strict>(r#"{"a": [{"b": 1, "c": null, "b": 2}]}"#).is_err());
    assert_eq!(strict(r#"{"a": [1, -1, 0.5, "x", true, null, {}]}"#)["a"][2], 0.5);
}

#[test]
fn every_verb_says_one_document_of_json() {
    let app = App::start();
    let home = Home::new(&format!(
        "inbound:\n  listen: 127.0.0.1:0\n  app: http://{}\n  routes: [{{match: {{path: /c}}, cache: {{ttl: 1h, tags: [t]}}, purge: [t]}}]\n\
         outbound:\n  listen: 127.0.0.1:0\n  providers: {{openai: {{}}, groq: {{}}}}\n  defaults: {{breaker: {{}}}}\n  \
         limits: [{{name: budget, key: provider, usd: 25, window: 1d}}]\n  \
         routes: [{{match: {{operation: chat, provider: openai}}, retry: {{}}, cache: {{ttl: 1h}}, fallback: [{{provider: groq, model: x}}, \
         {{provider: openai, model: gpt-4o-mini}}, {{respond: {{status: 503}}}}]}}]\n\
         admin: {{listen: 127.0.0.1:0, probes: 127.0.0.1:0, socket: SOCKET}}\nworkers: 1\nshutdown: {{drain_delay: 0s, deadline: 10s}}\n",
        app.address
    ));
    fs::write(home.path("bad.yaml"), "inbund: {}\ninbound: {app: 3000, listen: 80}\n").expect("written");
    let mut proxy = home.start();
    let (file, bad, socket) = (home.text("proxy.yaml"), home.text("bad.yaml"), home.text("admin.sock"));
    let probes = proxy.probes.expect("open").to_string();
    let call = r#"{"model":"gpt-4o","max_tokens":5,"messages":[]}"#;

    assert_eq!(said(&["check", &file, "--json"], true)["outbound"]["limits"][0]["amount"], "$25 per day");
    let wrong = said(&["check", &bad, "--json"], false);
    assert_eq!((wrong["mistakes"].as_array().map(Vec::len), &wrong["mistakes"][0]["line"]), (Some(2), &1.into()));
    let explained = said(&["explain", "-c", &file, "--json", "POST", "/openai/v1/chat/completions", "-d", call], true);
    let fallback = explained["policies"].as_array().expect("a list").last().expect("the last")["terms"]["then"].clone();
    assert_eq!(fallback.as_array().map(Vec::len), Some(3), "{explained:#}");
    let written = home.text("written.yaml");
    let port = app.address.port().to_string();
    assert_eq!(said(&["init", "--app", &port, "--config", &written, "--json"], true)["answers"], true);
    said(&["init", "--app", &port, "--config", &written, "--json"], false);
    said(&["explain", "-c", &file, "--json", "GET", "/c"], true);
    said(&["explain", "-c", &bad, "--json", "GET", "/c"], false);
    assert!(said(&["schema", "--json"], true)["$defs"].is_object());
    assert!(said(&["reference", "--json"], true)["markdown"].as_str().is_some_and(|text| text.contains("`max_retries`")));

    // Before the verb and behind it, in any order.
    said(&["--json", "health", "--probes", &probes], true);
    said(&["--json", "--socket", &socket, "breaker", "status"], true);
    said(&["breaker", "status", "--socket", &socket, "--json"], true);
    assert_eq!(said(&["breaker", "--json", "open", "openai", "--socket", &socket], true)["by_hand"], true);
    said(&["breaker", "open", "nobody", "--socket", &socket, "--json"], false);
    said(&["breaker", "close", "openai", "--socket", &socket, "--json"], true);
    assert!(said(&["top", "--every", "0.1", "--socket", &socket, "--json"], true)["doors"].is_array());
    said(&["top", "--by", "usd", "--socket", &socket, "--json"], true);
    assert_eq!(said(&["approve", "--socket", &socket, "--json"], true)["held"].as_array().map(Vec::len), Some(0));
    assert_eq!(said(&["limits", "--key", "openai", "--socket", &socket, "--json"], true)["limits"][0]["name"], "budget");
    let raise = ["limits", "--key", "openai", "--raise", "2x", "--for", "1h", "--socket", &socket, "--json"];
    assert_eq!(said(&raise, true)["done"][0]["limit"], "budget");
    assert_eq!(said(&["limits", "--socket", &socket, "--json"], true)["raised"][0]["times"], 2.0);
    assert_eq!(said(&["limits", "--key", "openai", "--reset", "--socket", &socket, "--json"], true)["done"][0]["counted"], false);
    said(&["limits", "--limit", "nope", "--reset", "--socket", &socket, "--json"], false);
    said(&["approve", "nobody", "--decline", "--socket", &socket, "--json"], false);
    assert_eq!(said(&["bans", "list", "--socket", &socket, "--json"], true)["bans"].as_array().map(Vec::len), Some(0));
    assert_eq!(said(&["observed", "--since", "1h", "--socket", &socket, "--json"], true)["found"], 0);
    said(&["observed", "--since", "soon", "--socket", &socket, "--json"], false);
    said(&["bans", "lift", "192.0.2.1", "--socket", &socket, "--json"], false);
    said(&["purge", "--tag", "t", "--socket", &socket, "--json"], true);
    said(&["purge", "--key", "no-key", "--socket", &socket, "--json"], false);
    let nonsense = said(&["purge", "--route", "nonsense", "--socket", &socket, "--json"], false);
    assert!(nonsense["error"].as_str().is_some_and(|why| why.contains("there is no route `nonsense`; those with a cache: ")), "{nonsense}");
    fs::write(home.path("paths.txt"), "/c\n").expect("written");
    assert_eq!(said(&["warm", &home.text("paths.txt"), "--socket", &socket, "--json"], true)["queued"], 1);
    said(&["warm", "--socket", &socket, "--json"], false);
    assert_eq!(said(&["reload", "--socket", &socket, "--json"], true)["reloaded"], true);
    let good = fs::read_to_string(home.path("proxy.yaml")).expect("readable");
    home.write("inbund: {}\n");
    said(&["config", "history", "--socket", &socket, "--json"], true);
    said(&["config", "plan", "--set", "workers=2", "--socket", &socket, "--json"], false);
    let refused = said(&["reload", "--socket", &socket, "--json"], false);
    assert!(refused["error"].as_str().is_some_and(|error| error.contains("proxy.yaml:1:1: unknown key `inbund`")), "{refused}");
    home.write(&good);
    assert_eq!(said(&["usage", "--by", "caller,model", "--since", "1h", "--socket", &socket, "--json"], true)["total"]["calls"], 0);
    said(&["usage", "--by", "colour", "--socket", &socket, "--json"], false);
    get(proxy.outbound, "/nobody/v1/chat/completions");
    let errors = said(&["errors", "--status", "4xx", "--since", "1h", "--socket", &socket, "--json"], true);
    assert_eq!((&errors["failures"][0]["reason"], &errors["failures"][0]["kind"]), (&"no_route".into(), &"refused".into()), "{errors:#}");
    said(&["errors", "--status", "many", "--socket", &socket, "--json"], false);
    said(&["alerts", "--socket", &socket, "--json"], true);
    said(&["alerts", "runbook", "error_rate", "--json"], true);
    said(&["alerts", "runbook", "nothing", "--json"], false);
    said(&["alerts", "test", "nobody", "--socket", &socket, "--json"], false);
    assert_eq!(said(&["advise", "--since", "1h", "--socket", &socket, "--json"], true)["advice"][0]["saves_usd"], Value::Null);
    said(&["erase", "nobody", "--socket", &socket, "--json"], false);
    let copy = home.text("copy.redb");
    assert!(said(&["ledger", "snapshot", &copy, "--socket", &socket, "--json"], true)["bytes"].as_u64() > Some(0));
    said(&["ledger", "restore", &copy, "--socket", &socket, "--json"], false);
    assert_eq!(said(&["drain", "--json", "--socket", &socket], true)["draining"], true);
    assert_eq!(proxy.exit(), 0);
    said(&["drain", "--json", "--socket", &socket], false);
    said(&["health", "--json", "--probes", &probes], false);

    let keys = home.text("keys.json");
    assert_eq!(said(&["key", "new", "--name", "web", "--scope", "read", "--file", &keys, "--json"], true)["name"], "web");
    said(&["key", "new", "--name", "web", "--file", &keys, "--json"], false);
    assert_eq!(said(&["key", "list", "--file", &keys, "--json"], true)["keys"][0]["scopes"][0], "read");
    assert_eq!(said(&["key", "revoke", "web", "--file", &keys, "--json"], true)["revoked"], "web");
    said(&["key", "revoke", "web", "--file", &keys, "--json"], false);
    said(&["audit", "verify", "--config", &home.text("proxy.yaml"), "--json"], false);
    said(&["audit", "show", "--dir", &home.text("nowhere"), "--json"], false);
    assert_eq!(said(&["demo", "--once", "--json"], true)["as_expected"], true);
    mock();
    // The process log is JSON whatever is asked; so is what ends it.
    let (code, out, complaint) = run(&["run", "--json", "--config", &home.text("nothing.yaml")]);
    assert_eq!((code, out.as_str()), (Some(1), ""), "{complaint}");

    let (_, help, _) = run(&["--help"]);
    let verbs = help.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("a list of verbs");
    let verbs: Vec<&str> =
        verbs.lines().filter(|line| !line.starts_with("     ")).filter_map(|line| line.split_whitespace().next()).collect();
    let tried = [
        "run",
        "check",
        "init",
        "explain",
        "key",
        "demo",
        "mock",
        "prices",
        "health",
        "drain",
        "reload",
        "config",
        "purge",
        "top",
        "errors",
        "observed",
        "usage",
        "advise",
        "ledger",
        "erase",
        "warm",
        "breaker",
        "limits",
        "approve",
        "bans",
        "alerts",
        "audit",
        "schema",
        "reference",
    ];
    assert_eq!(verbs, [&tried[..], &["help"]].concat(), "a new verb needs a line here");
}

/// The mock says a line when it listens and a line when it ends.
fn mock() {
    let mut child = outrigger().args(["mock", "--json", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let first = strict(&lines.next().expect("a line"));
    assert!(first["listening"].as_str().is_some_and(|at| at.starts_with("127.0.0.1:")), "{first}");
    // Its signal handler begins with the first poll after that line; SIGINT before it would only end it without its last line.
    let listening = first["listening"].as_str().and_then(|at| at.parse().ok());
    get(listening, "/mock/books");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill").success());
    assert_eq!(strict(&lines.next().expect("a line"))["billed"]["requests"], 0);
    assert!(child.wait().expect("its end").success());
}

#[test]
fn errors_of_a_running_proxy_print_as_check_prints_them() {
    let app = App::start();
    let home = Home::new(&format!(
        "inbound: {{listen: 127.0.0.1:0, app: 'http://{}'}}\nadmin: {{listen: 127.0.0.1:0, probes: 'off', socket: SOCKET}}\nshutdown: {{drain_delay: 0s}}\n",
        app.address
    ));
    let proxy = home.start();
    home.write("inbund: {}\ninbound: {app: 3000, listen: 80}\n");
    let (checked, reloaded) = (run(&["check", &home.text("proxy.yaml")]), run(&["reload", "--socket", &home.text("admin.sock")]));
    assert_eq!((checked.0, reloaded.0), (Some(1), Some(1)));
    assert!(checked.2.contains("2 mistakes"), "{}", checked.2);
    assert_eq!(reloaded.2, checked.2, "the same text, line by line");
    drop(proxy);
}

#[test]
fn with_an_app_on_the_command_line_the_file_beside_it_is_read_all_the_same() {
    let app = App::start();
    let home = Home::new(
        "inbound:\n  listen: 127.0.0.1:0\n  app: http://127.0.0.1:9\n  limits: [{name: one, requests: 1, window: 1h}]\n\
         admin: {listen: 127.0.0.1:0, probes: 'off', socket: SOCKET}\n",
    );
    let port = app.address.port().to_string();
    let mut command = outrigger();
    command.current_dir(home.path("")).args(["run", "--app", &port]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = Killed(command.spawn().expect("starts"));
    let mut lines = BufReader::new(child.0.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let serving = lines.find(|line| line.contains("\"serving\"")).expect("it serves");
    let inbound = strict(&serving)["inbound"].as_str().and_then(|address| address.parse().ok());
    assert_eq!(get(inbound, "/").text(), "hello", "the app of the command line wins");
    assert_eq!(get(inbound, "/").status.as_u16(), 429, "the limit of the file holds");
}

/// Ends with the test.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_refused_reload_says_what_check_says_of_the_same_file() {
    let app = App::start();
    let home = Home::new(&(yaml(&app, "") + QUICK));
    let _proxy = home.start();
    home.write("inbund: {}\ninbound: {app: 3000, listen: 80}\n");
    let (file, socket) = (home.text("proxy.yaml"), home.text("admin.sock"));
    let refused = said(&["reload", "--json", "--socket", &socket], false);
    assert_eq!(refused, said(&["check", "--json", &file], false));
    let first = &refused["mistakes"][0];
    assert_eq!((&first["value"], &first["hint"]), (&"inbund".into(), &"did you mean `inbound`?".into()), "{refused:#}");
    let text = |line: &[&str]| {
        let (code, out, complaint) = run(line);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{complaint}");
        complaint
    };
    assert_eq!(text(&["reload", "--socket", &socket]), text(&["check", &file]));
}

#[test]
fn an_empty_variable_is_an_absent_one() {
    let home = Home::new("outbound: {providers: {house: {api: openai, url: 'http://models.internal/v1'}}}\n");
    let with_empty = |line: &[&str]| {
        let mut command = outrigger();
        command.args(line).current_dir(home.path(".")).env("XDG_RUNTIME_DIR", home.path("."));
        let output = command.envs(["OUTRIGGER_SOCKET", "OUTRIGGER_CONFIG", "OUTRIGGER_LOG"].map(|name| (name, ""))).output().expect("runs");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code(), said)
    };
    let (code, said) = with_empty(&["check"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the app's base URL ends in /house, without /v1: the url has it"), "{said}");
    let (_, said) = with_empty(&["reload"]);
    assert!(said.contains(home.text(".").trim_end_matches('.')), "the usual socket was looked for: {said}");
}
