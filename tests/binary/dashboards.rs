//! The dashboards' queries, answered by a real Prometheus that scrapes a real proxy under traffic.

use std::{
    env, fs,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{
        Condvar, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
};

use outrigger::cli::client::Client;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{
    origin::{Asked, Reply, serve},
    process::{Home, Proxy, block_on, get, try_get, until},
    sink::{free, missing},
};

/// What does not happen in this test, by a part of the query, and why. Every other query has an answer.
const ABSENT: [(&str, &str); 12] = [
    ("outrigger_retry_budget_exhausted_total", "more than a fifth of many tries would have to fail"),
    ("outrigger_cache_evictions_total", "the cache is not full"),
    ("outrigger_store_up", "there is no Redis"),
    ("outrigger_store_errors_total", "there is no Redis"),
    ("outrigger_limit_store_spared_total", "there is no Redis"),
    ("outrigger_otlp_exports_total", "there is no collector"),
    ("outrigger_limit_evictions_total", "a hundred thousand keys would be needed"),
    ("outrigger_ledger_folded_calls_total", "the ledger's disk would have to be away"),
    ("outrigger_ledger_other_calls_total", "ten thousand callers would be needed"),
    ("outrigger_limit_held_requests", "no limit asks somebody"),
    ("outrigger_log_dropped_total", "the log is read"),
    ("outrigger_pool_connections", "what is open at the moment of a scrape is chance"),
];

/// A real Prometheus.
struct Prometheus {
    child: Child,
    at: SocketAddr,
    _home: tempfile::TempDir,
}

impl Prometheus {
    /// Scrapes this address each second. `None`: it is not installed, which was said aloud.
    fn start(target: SocketAddr) -> Option<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        let Some(program) = env::split_paths(&path).map(|dir| dir.join("prometheus")).find(|file| file.is_file()) else {
            missing("prometheus");
            return None;
        };
        let home = tempfile::tempdir().expect("a directory");
        let config = home.path().join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs: [{{job_name: outrigger, static_configs: [{{targets: ['{target}']}}]}}]\n"
        );
        fs::write(&config, text).expect("written");
        let at = free();
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", home.path().join("data").display()));
        let child = command.arg(format!("--web.listen-address={at}")).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        let this = Self { child, at, _home: home };
        until("Prometheus is ready", || try_get(Some(at), "/-/ready").is_ok_and(|answer| answer.status.is_success()));
        Some(this)
    }

    /// Whether a query has a finite value now. An error of the query is a failure of the test.
    fn answers(&self, query: &str) -> bool {
        let encoded = utf8_percent_encode(query, NON_ALPHANUMERIC);
        let answer = get(Some(self.at), &format!("/api/v1/query?query={encoded}"));
        let said = answer.json().expect("JSON");
        assert_eq!(said["status"], "success", "{query}: {said:#}");
        let values = said["data"]["result"].as_array().expect("a vector").iter().filter_map(|row| row["value"][1].as_str());
        values.filter_map(|value| value.parse::<f64>().ok()).any(f64::is_finite)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The queries of all panels, with Grafana's variables filled in.
fn queries() -> Vec<(String, String)> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/grafana/dashboards/outrigger.json")).expect("a dashboard");
    let board: Value = serde_json::from_str(&text).expect("JSON");
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let filled = |query: &str| {
        let query = query.replace("$__rate_interval", "20s").replace("$__range", "1m");
        query.replace("$job", ".+").replace("$instance", ".+")
    };
    let of = |panel: &Value| {
        let title = panel["title"].as_str().unwrap_or_default().to_owned();
        list(&panel["targets"]).iter().filter_map(|target| Some((title.clone(), filled(target["expr"].as_str()?)))).collect::<Vec<_>>()
    };
    let panels: Vec<Value> = list(&board["panels"]);
    panels.iter().chain(panels.iter().flat_map(|row| row["panels"].as_array()).flatten()).flat_map(of).collect()
}

/// The app: some pages fail, and some wait until somebody asks for `/go`.
#[derive(Default)]
struct Pages {
    /// How often `/go` was asked for.
    gone: Mutex<u64>,
    changed: Condvar,
}

impl Pages {
    fn answer(&self, asked: &Asked) -> Reply {
        let mut gone = self.gone.lock().expect("unpoisoned");
        match asked.line.as_str() {
            "get /fail" => return (503, "no".into()),
            "get /go" => {
                *gone += 1;
                self.changed.notify_all();
            }
            line if line.starts_with("get /slow") => {
                let before = *gone;
                let _held = self.changed.wait_while(gone, |gone| *gone == before).expect("unpoisoned");
            }
            _ => {}
        }
        (200, "hello".into())
    }
}

/// A provider: every fifth call fails, some are streams.
fn provider(asked: &Asked, calls: &AtomicU64) -> Reply {
    let body: Value = serde_json::from_str(&asked.body).expect("JSON");
    let usage = json!({"prompt_tokens": 1_000, "completion_tokens": 10, "total_tokens": 1_010});
    // The fallback goes to another model, which answers.
    let even = body["messages"][0]["content"].as_str().is_some_and(|text| text.ends_with(['0', '2', '4', '6', '8']));
    if calls.fetch_add(1, SeqCst) % 5 == 4 || (even && body["model"] == "nobody-knows-it") {
        return (503, "{}".into());
    }
    let base = json!({"id": "c", "object": "chat.completion", "created": 1, "model": body["model"]});
    let with = |more: Value| {
        let mut whole = base.clone();
        whole.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        whole
    };
    if body["stream"] == true {
        let event = |more: Value| format!("data: {}\n\n", with(more));
        let chunk =
            json!({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": null}]});
        let end =
            json!({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage});
        return (200, format!("{}{}data: [DONE]\n\n", event(chunk), event(end)));
    }
    let choice = json!({"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"});
    (200, with(json!({"choices": [choice], "usage": usage})).to_string())
}

fn yaml(app: SocketAddr, provider: SocketAddr, receiver: SocketAddr, state: &str) -> String {
    format!(
        "inbound:
  listen: 127.0.0.1:0
  app: http://{app}
  defaults: {{csrf: {{mode: observe}}, retry: {{max_retries: 1, backoff: {{base: 10ms, max: 20ms}}}}, breaker: {{consecutive: 1000}}}}
  routes:
    - {{name: shelf, match: {{path: /shelf/**}}, cache: {{ttl: 1h}}}}
    - {{name: few, match: {{path: /few}}, limits: [{{name: few, key: client_ip, requests: 3, window: 1m, alert_at: [0.5]}}]}}
    - {{name: line, match: {{path: /slow}}, limits: [{{name: line, key: global, concurrency: 1, queue: {{max: 20, wait: 10s}}}}]}}
    - {{name: hurry, match: {{path: /slow/hurry}}, timeouts: {{response_header: 1ms}}}}
    - {{name: near, match: {{path: /near}}, access: {{mode: observe, allow: [10.0.0.0/8]}}}}
    - {{name: form, match: {{path: /form}}, csrf: {{}}}}
outbound:
  listen: 127.0.0.1:0
  providers:
    house: {{api: openai, url: 'http://{provider}/v1'}}
    spare: {{api: openai, url: 'http://{provider}/v1'}}
  routes:
    - match: {{operation: chat, models: [gpt-4o]}}
      limits: [{{name: spent, key: provider, usd: 0.00001, window: 1m, on_limit: {{degrade: {{model: gpt-4o-mini}}}}}}]
    - match: {{operation: chat, models: [gpt-4o-mini]}}
      cache: {{ttl: 1m}}
      retry: {{max_retries: 1, backoff: {{base: 10ms, max: 20ms}}}}
      breaker: {{consecutive: 1000}}
      fallback: [{{provider: spare, model: gpt-4o-mini}}]
    - match: {{operation: chat}}
      fallback: [{{provider: spare, model: gpt-4o-mini}}]
admin: {{listen: 127.0.0.1:0, probes: 127.0.0.1:0, socket: SOCKET}}
shutdown: {{drain_delay: 0s, deadline: 10s}}
store: {{state_dir: {state}}}
telemetry: {{errors: {{keep: 5}}}}
sentry: {{dsn: 'http://key@{receiver}/7'}}
monitors: {{app: {{url: 'http://{app}/', every: 1s}}, away: {{url: 'tcp://127.0.0.1:9', every: 1s}}}}
alerts: {{channels: {{team: {{webhook: 'http://{receiver}/hook'}}}}, group: 0s}}
"
    )
}

/// One round of traffic.
fn traffic(proxy: &Proxy, round: u64) {
    let inbound = Client::tcp(proxy.inbound.expect("open"));
    let line: Vec<_> = (0..3)
        .map(|_| {
            let client = inbound.clone();
            thread::spawn(move || drop(block_on(client.get("/slow"))))
        })
        .collect();
    let fresh = format!("/shelf/{round}");
    for path in [fresh.as_str(), &fresh, "/fail", "/few", "/slow/hurry", "/near", "/other"] {
        let _ = block_on(inbound.get(path));
    }
    let elsewhere = inbound.clone().with_header("origin", "http://evil.example").with_header("sec-fetch-site", "cross-site");
    for path in ["/form", "/other"] {
        let _ = block_on(elsewhere.post(path, &json!({})));
    }
    let outbound = Client::tcp(proxy.outbound.expect("open"));
    let ask = |model: &str, text: &str, stream: bool| {
        let body = json!({"model": model, "stream": stream, "max_tokens": 20, "messages": [{"role": "user", "content": text}]});
        let _ = block_on(outbound.post("/house/chat/completions", &body));
    };
    let text = format!("round {round}");
    for (model, stream) in
        [("gpt-4o-mini", false), ("gpt-4o-mini", false), ("gpt-4o-mini", true), ("gpt-4o", false), ("nobody-knows-it", false)]
    {
        ask(model, &text, stream);
    }
    while !line.iter().all(thread::JoinHandle::is_finished) {
        let _ = block_on(inbound.get("/go"));
    }
}

#[test]
fn every_panel_is_answered_by_a_prometheus_that_scrapes_a_proxy_at_work() {
    let calls = AtomicU64::new(0);
    let pages = Pages::default();
    let (app, provider) = (serve(move |asked| pages.answer(asked)), serve(move |asked| provider(asked, &calls)));
    let receiver = serve(|_| (200, "{}".into()));
    let home = Home::new("");
    home.write(&yaml(app, provider, receiver, &home.text("state")));
    let proxy = home.start();
    let Some(prometheus) = Prometheus::start(proxy.probes.expect("open")) else { return };
    let mut left: Vec<(String, String)> =
        queries().into_iter().filter(|(_, query)| !ABSENT.iter().any(|(part, _)| query.contains(part))).collect();
    assert!(left.len() > 50, "{}", left.len());
    for round in 0..60 {
        traffic(&proxy, round);
        if round % 5 == 0 {
            proxy.signal("HUP");
        }
        let seen = format!("count_over_time(up[10m]) > {round}");
        until("Prometheus has looked after the round", || prometheus.answers(&seen));
        left.retain(|(_, query)| !prometheus.answers(query));
        if left.is_empty() {
            return;
        }
    }
    panic!("{} queries have no answer: {left:#?}", left.len());
}
