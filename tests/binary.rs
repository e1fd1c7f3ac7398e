//! The real process: arguments, files, sockets, signals, exit codes. What a request meets inside is in `tests/suite`.

#[path = "binary/alerts.rs"]
mod alerts;
#[path = "binary/audit.rs"]
mod audit;
#[path = "binary/channels.rs"]
mod channels;
#[path = "binary/dashboards.rs"]
mod dashboards;
#[path = "binary/edits.rs"]
mod edits;
#[path = "binary/incidents.rs"]
mod incidents;
#[path = "binary/init.rs"]
mod init;
#[path = "binary/ledger.rs"]
mod ledger;
#[path = "binary/logs.rs"]
mod logs;
#[path = "binary/means.rs"]
mod means;
#[path = "binary/origin.rs"]
mod origin;
#[path = "binary/probes.rs"]
mod probes;
#[path = "binary/process.rs"]
mod process;
#[path = "binary/reloads.rs"]
mod reloads;
#[path = "binary/rules.rs"]
mod rules;
#[path = "binary/series.rs"]
mod series;
#[path = "redis/server.rs"]
mod server;
#[path = "binary/sink.rs"]
mod sink;
#[path = "binary/status.rs"]
mod status;
#[path = "binary/stop.rs"]
mod stop;
#[path = "binary/sums.rs"]
mod sums;
#[path = "binary/verbs.rs"]
mod verbs;
#[path = "binary/works.rs"]
mod works;

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use process::{App, Home, Proxy, get, has, mode, outrigger, run, try_get};

/// Doors on any port, and an app.
fn yaml(app: &App, rest: &str) -> String {
    format!(
        "inbound:\n  listen: 127.0.0.1:0\n  app: http://{}\n{rest}\noutbound:\n  listen: 127.0.0.1:0\n  providers: {{openai: {{}}}}\n\
         admin: {{listen: 127.0.0.1:0, probes: 127.0.0.1:0, socket: SOCKET}}\nworkers: 2\n",
        app.address
    )
}

const QUICK: &str = "shutdown: {drain_delay: 0s, deadline: 10s}\n";

#[expect(clippy::disallowed_methods, reason = "a real process takes real time")]
fn now() -> Instant {
    Instant::now()
}

#[test]
fn an_app_on_the_command_line_is_all_it_takes() {
    let app = App::start();
    // Only the ports are said, so that tests do not meet.
    let home = Home::new("inbound: {listen: 127.0.0.1:0}\nadmin: {listen: 127.0.0.1:0, probes: off, socket: SOCKET}\n");
    let port = app.address.port().to_string();
    let proxy = Proxy::start(&["--config", &home.text("proxy.yaml"), "--app", &port], &[]);
    let answer = get(proxy.inbound, "/a?b");
    assert_eq!((answer.status.as_u16(), answer.text().as_str(), answer.header("x-app")), (200, "hello", Some("1")));
    assert_eq!((proxy.outbound, proxy.probes), (None, None), "what is not named is not opened");
    let line = proxy.logged();
    assert_eq!((line["door"].as_str(), line["status"].as_u64(), line["path"].as_str()), (Some("inbound"), Some(200), Some("/a?b")));
}

#[test]
fn the_shipped_file_serves_both_doors_and_says_how_it_is() {
    let app = App::start();
    let shipped = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("proxy.yaml")).expect("shipped");
    let mut moved = shipped.clone();
    for (usual, any) in [
        ("listen: 0.0.0.0:8080", "listen: 127.0.0.1:0"),
        ("listen: 127.0.0.1:8081", "listen: 127.0.0.1:0"),
        ("listen: 127.0.0.1:9901", "listen: 127.0.0.1:0\n  socket: SOCKET"),
        ("probes: 0.0.0.0:9902", "probes: 127.0.0.1:0"),
    ] {
        assert_eq!(moved.matches(usual).count(), 1, "{usual}");
        moved = moved.replace(usual, any);
    }
    let home = Home::new(&moved);
    let port = app.address.port().to_string();
    let mut proxy = Proxy::start(&["--config", &home.text("proxy.yaml")], &[("APP_PORT", port)]);

    assert_eq!(get(proxy.inbound, "/").text(), "hello");
    let unknown = get(proxy.outbound, "/nobody/v1/chat/completions");
    assert_eq!(unknown.status.as_u16(), 404);
    assert!(unknown.text().contains("openai") && unknown.text().contains("anthropic"), "{}", unknown.text());
    for (path, status) in [("/live", 200), ("/ready", 200), ("/metrics", 200), ("/health", 404), ("/api/config", 404)] {
        assert_eq!(get(proxy.probes, path).status.as_u16(), status, "probes: {path}");
    }
    let health = get(proxy.admin, "/health");
    assert_eq!((health.status.as_u16(), health.json().expect("JSON")["status"].as_str()), (200, Some("healthy")));
    for page in ["config", "routes", "limits", "breakers", "connections"] {
        assert!(get(proxy.admin, &format!("/api/{page}")).json().expect("JSON").is_object(), "{page}");
    }
    assert_eq!(mode(&home.path("admin.sock")), 0o600);

    let metrics = get(proxy.admin, "/metrics").text();
    assert!(metrics.contains("outrigger_requests_total{door=\"inbound\",route=\"default\",code=\"200\",cache=\"none\"} 1\n"), "{metrics}");
    if has("promtool") {
        let mut promtool = std::process::Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool");
        promtool.stdin.take().expect("piped").write_all(metrics.as_bytes()).expect("read");
        let said = promtool.wait_with_output().expect("its end");
        assert!(said.status.success() && said.stderr.is_empty(), "{}", String::from_utf8_lossy(&said.stderr));
    }

    let probes = proxy.probes.expect("open").to_string();
    assert_eq!(run(&["health", "--probes", &probes]).0, Some(0));
    let began = now();
    let (code, said, complaint) = run(&["drain", "--socket", &home.text("admin.sock")]);
    assert_eq!((code, said.contains("draining")), (Some(0), true), "{complaint}");
    proxy.wait_for("draining");
    assert_eq!(run(&["health", "--probes", &probes]).0, Some(1));
    assert_eq!(proxy.exit(), 0);
    assert!((5..25).contains(&began.elapsed().as_secs()), "the shipped drain_delay is 5 s, its deadline 25 s: {:?}", began.elapsed());
    assert!(!home.path("admin.sock").exists(), "it takes its socket with it");
}

#[test]
fn an_app_that_cannot_be_reached_is_said_by_health_and_not_by_ready() {
    let gone = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let home = Home::new(&format!(
        "inbound: {{listen: 127.0.0.1:0, app: 'http://{gone}'}}\nadmin: {{listen: 127.0.0.1:0, probes: 127.0.0.1:0, socket: SOCKET}}\n"
    ));
    let proxy = Proxy::start(&["--config", &home.text("proxy.yaml")], &[]);
    assert_eq!(get(proxy.admin, "/health").status.as_u16(), 200, "nobody has asked for anything yet");
    let refused = get(proxy.inbound, "/");
    assert!(refused.status.as_u16() == 502 && refused.text().contains("connect_failed"), "{}", refused.text());
    let health = get(proxy.admin, "/health");
    assert_eq!(health.status.as_u16(), 503, "{}", health.text());
    assert!(health.text().contains("could not be reached"), "{}", health.text());
    assert_eq!(get(proxy.probes, "/ready").status.as_u16(), 200, "the proxy itself can take requests");
}

#[test]
fn check_says_every_mistake_in_one_run() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs/bad/ten-mistakes.yaml");
    let text = fs::read_to_string(&file).expect("readable");
    let expected: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# expect: ")).collect();
    let (code, said, complaint) = run(&["check", &file.display().to_string()]);
    assert_eq!((code, said.as_str(), expected.len()), (Some(1), "", 10));
    for mistake in expected {
        assert!(complaint.contains(mistake), "not said: {mistake}\n{complaint}");
    }
    let (code, _, again) = run(&["run", "--config", &file.display().to_string()]);
    assert_eq!(code, Some(1));
    assert!(again.contains("10 mistakes"), "a start says the same: {again}");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("proxy.yaml");
    let (code, said, complaint) = run(&["check", &shipped.display().to_string()]);
    assert_eq!((code, complaint.as_str()), (Some(0), ""));
    assert!(said.contains("good") && said.contains("openai"), "{said}");
}

#[test]
fn a_start_that_fails_says_why_and_exits_with_1() {
    let app = App::start();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let home = Home::new(&format!(
        "inbound: {{listen: '{address}', app: 'http://{}'}}\nadmin: {{listen: off, probes: off, socket: SOCKET}}\n",
        app.address
    ));
    let (code, _, said) = run(&["run", "--config", &home.text("proxy.yaml")]);
    assert_eq!(code, Some(1));
    assert!(said.contains(&address) && said.contains("inbound"), "{said}");
    let (code, _, said) = run(&["run", "--config", &home.text("nowhere.yaml")]);
    assert_eq!(code, Some(1));
    assert!(said.contains("nowhere.yaml"), "{said}");
    assert_eq!(
        outrigger().arg("run").current_dir(home.path("")).arg("--app").arg("not a port").output().expect("runs").status.code(),
        Some(1)
    );
}

#[test]
fn sighup_and_changed_content_reload_and_a_bad_file_keeps_what_runs() {
    let app = App::start();
    let shut = |path: &str| yaml(&app, &format!("  routes: [{{match: {{path: {path}}}, access: {{deny: [0.0.0.0/0]}}}}]"));
    let home = Home::new(&shut("/a"));
    let mut proxy = home.start();
    let status = |proxy: &Proxy, path: &str| get(proxy.inbound, path).status.as_u16();
    assert_eq!((status(&proxy, "/a"), status(&proxy, "/b")), (403, 200));

    home.write(&shut("/b"));
    proxy.signal("HUP");
    proxy.wait_for("was reloaded");
    assert_eq!((status(&proxy, "/a"), status(&proxy, "/b")), (200, 403));

    home.write(&shut("b"));
    proxy.signal("HUP");
    let said = proxy.wait_for("not reloaded");
    assert!(said["message"].as_str().expect("text").contains("must begin with `/`"), "{said}");
    assert_eq!((status(&proxy, "/a"), status(&proxy, "/b")), (200, 403), "the running one is kept");

    home.write(&shut("/b").replace("workers: 2", "workers: 3"));
    proxy.signal("HUP");
    assert!(proxy.wait_for("not reloaded")["message"].as_str().expect("text").contains("restart"));

    // No signal: the content is looked at.
    home.write(&shut("/c"));
    proxy.wait_for("was reloaded");
    assert_eq!((status(&proxy, "/b"), status(&proxy, "/c")), (200, 403));
    let (code, said, complaint) = run(&["reload", "--socket", &home.text("admin.sock")]);
    assert_eq!(code, Some(0), "{said}{complaint}");
    let metrics = get(proxy.admin, "/metrics").text();
    assert!(metrics.contains("outrigger_config_reloads_total{outcome=\"applied\"}"), "{metrics}");
    assert!(metrics.contains("outrigger_config_reloads_total{outcome=\"refused\"}"), "{metrics}");
}

#[test]
fn sigterm_fails_readiness_first_then_finishes_what_is_in_flight_and_leaves_with_0() {
    let app = App::start();
    let home = Home::new(&(yaml(&app, "") + "shutdown: {drain_delay: 1s, deadline: 20s}\n"));
    let mut proxy = home.start();
    let inbound = proxy.inbound;
    let held = thread::spawn(move || get(inbound, "/hold"));
    app.wait_for("/hold");
    let began = now();
    proxy.watch();
    proxy.signal("TERM");
    proxy.wait_for("draining");
    assert_eq!(get(proxy.probes, "/ready").status.as_u16(), 503);
    assert_eq!(get(proxy.probes, "/live").status.as_u16(), 200);
    let late = get(inbound, "/late");
    assert_eq!((late.status.as_u16(), late.header("connection")), (200, Some("close")), "still accepting, but go elsewhere next time");
    assert!(began.elapsed() < Duration::from_secs(1), "within the delay");

    // Every try is a connection that is made or refused; the delay ends them.
    while try_get(inbound, "/later").is_ok() {
        assert!(began.elapsed() < Duration::from_secs(15), "the door is never shut");
    }
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    assert!(proxy.runs() && !held.is_finished(), "what is in flight is waited for");
    assert_eq!(get(proxy.outbound, "/nobody").status.as_u16(), 404, "the app may still call its providers");
    app.let_go();
    assert_eq!(held.join().expect("an answer").text(), "hello");
    assert_eq!(proxy.exit(), 0);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[test]
fn idle_connections_do_not_hold_it_up() {
    let app = App::start();
    let home = Home::new(&(yaml(&app, "") + QUICK));
    let mut proxy = home.start();
    let mut idle = TcpStream::connect(proxy.inbound.expect("open")).expect("connects");
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    let mut answer = [0; 4096];
    assert!(idle.read(&mut answer).expect("an answer") > 0);
    let silent = TcpStream::connect(proxy.inbound.expect("open")).expect("connects");
    let began = now();
    proxy.signal("TERM");
    assert_eq!(proxy.exit(), 0);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    drop(silent);
    assert_eq!(idle.read(&mut answer).expect("closed"), 0);
}

#[test]
fn changes_need_the_socket_or_a_token() {
    let app = App::start();
    let with_token = yaml(&app, "").replace("socket: SOCKET", "socket: SOCKET, token: secret-of-the-test") + QUICK;
    let (open, closed) = (Home::new(&with_token), Home::new(&(yaml(&app, "") + QUICK)));
    let post = |proxy: &Proxy, token: &str| {
        let client = outrigger::cli::client::Client::tcp(proxy.admin.expect("open"));
        let client = if token.is_empty() { client } else { client.with_header("authorization", &format!("Bearer {token}")) };
        process::block_on(client.post("/api/drain", &serde_json::json!({}))).expect("an answer").status.as_u16()
    };
    let mut proxy = closed.start();
    assert_eq!(post(&proxy, "secret-of-the-test"), 403, "without a token nothing changes over TCP");
    proxy.signal("TERM");
    assert_eq!(proxy.exit(), 0);

    let mut proxy = open.start();
    assert!([401, 403].contains(&post(&proxy, "")) && [401, 403].contains(&post(&proxy, "another")));
    assert_eq!(get(proxy.inbound, "/").status.as_u16(), 200);
    assert_eq!(post(&proxy, "secret-of-the-test"), 200);
    assert_eq!(proxy.exit(), 0);
}

#[test]
fn what_is_listed_is_asked_for_at_the_start_and_what_a_file_names_on_demand() {
    let app = App::start();
    let warm = "  defaults: {cache: {ttl: 1h}}\n  warm: {paths: [/first], headers: {host: shop.example}, rate: 100}";
    let home = Home::new(&(yaml(&app, warm) + QUICK));
    let mut proxy = home.start();
    app.wait_for("GET /first ");
    fs::write(home.path("more.txt"), "# after the campaign\n/second?page=2\n").expect("written");
    let order = |file: &str| run(&["warm", "--json", "--socket", &home.text("admin.sock"), &home.text(file)]);
    let (code, said, _) = order("more.txt");
    assert!(code == Some(0) && said.contains("\"queued\": 1"), "{said}");
    app.wait_for("GET /second?page=2 ");
    fs::write(home.path("wrong.txt"), "no-slash\n").expect("written");
    let (code, said, _) = order("wrong.txt");
    assert!(code == Some(1) && said.contains("`no-slash` is not a path"), "{said}");
    proxy.signal("TERM");
    assert_eq!(proxy.exit(), 0);
}
