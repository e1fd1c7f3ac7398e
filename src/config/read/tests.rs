//! The whole reader: what a file means, and what is said of one that is wrong.

use std::time::Duration;

use http::{Method, StatusCode};
use proptest::prelude::*;

use super::*;
use crate::config::{
    Algorithm, Api, Applies, CallerSource, Cookies, Fallback, LogFormat, Mode, OnStoreError, Operation, RetryOn, Unit, Unpriced,
    error::lines,
    testing::{IN, OUT, bad, env, good, limit, overrides, says},
};

#[test]
fn no_file_is_a_transparent_proxy() {
    let app = Overrides { app: Some("3000".into()), ..overrides() };
    let config = without_file(&app, &env).expect("an app is enough").config;
    let inbound = config.inbound.expect("open");
    assert_eq!((inbound.app.to_string().as_str(), inbound.listen.to_string().as_str()), ("http://localhost:3000", "0.0.0.0:8080"));
    assert!(config.outbound.is_none() && inbound.routes.is_empty() && inbound.fallthrough.cache.is_none());
    assert_eq!(config.admin.listen.map(|a| a.to_string()).as_deref(), Some("127.0.0.1:9901"));
    assert_eq!(config.admin.probes.map(|a| a.to_string()).as_deref(), Some("0.0.0.0:9902"));
    assert_eq!((config.store.memory, config.body_budget), (128 << 20, 128 << 20));
    let nothing = without_file(&overrides(), &env).expect_err("no app");
    assert!(nothing.to_string().contains("there is nothing to do"), "{nothing}");
    assert!(without_file(&Overrides { app: Some("x".into()), ..overrides() }, &env).expect_err("no URL").to_string().contains("--app"));
}

#[test]
fn the_bounds_without_a_file_are_those_of_an_empty_door() {
    let app = Overrides { app: Some("3000".into()), ..overrides() };
    let (bare, written) = (without_file(&app, &env).expect("good").config, good("inbound: {app: 3000}\n"));
    assert_eq!(format!("{bare:?}"), format!("{written:?}"));
}

#[test]
fn the_app_of_the_command_line_wins() {
    let app = Overrides { app: Some("http://10.0.0.1:1".into()), ..overrides() };
    let config = parse(IN, "f", &app, &env).expect("good");
    assert_eq!(config.inbound.expect("open").app.to_string(), "http://10.0.0.1:1");
    assert!(parse("inbound: {}\n", "f", &app, &env).is_ok());
    assert!(parse(OUT, "f", &app, &env).expect("good").inbound.is_some());
    says("inbound: {}\n", "1:1", "needs `app`");
}

#[test]
fn the_plan_of_the_file_is_read_as_meant() {
    let config = good(
        "inbound:
  listen: 0.0.0.0:8080
  app: http://127.0.0.1:3000
  trusted_proxies: [private]
  caller: [header:x-user-id, client_ip]
  limits:
    - {key: client_ip, requests: 1000, window: 1m}
  routes:
    - match: {path: /api/products/**, methods: [GET, HEAD]}
      cache: {ttl: 60s, stale_while_revalidate: 5m, tags: [catalog]}
    - match: {path: /api/products/**, methods: [POST, PUT, DELETE]}
      purge: [catalog]
    - match: {path: /chat}
      limits:
        - {name: user-spend, key: caller, usd: 0.50, window: 1h}
outbound:
  listen: 127.0.0.1:8081
  providers:
    openai: {keys: [\"${OPENAI_API_KEY:-}\"]}
    anthropic: {}
    house: {api: openai, url: \"http://models.internal/v1\"}
  limits:
    - {name: budget, key: provider, usd: 25, window: 1d, alert_at: [0.5, 0.8, 1.0]}
  defaults:
    timeouts: {connect: 2s, response_header: 10m, first_token: 120s, idle: 60s}
    retry: {max_retries: 2, backoff: {base: 500ms, max: 8s}}
    breaker: {}
  routes:
    - match: {operation: chat, models: [\"gpt-*\"]}
      cache: {ttl: 1h, mode: observe}
      limits: [{key: caller, tokens: 200k, window: 1m}]
      fallback:
        - {provider: openai, model: gpt-4o-mini}
        - {respond: {status: 503, body: \"The assistant is resting.\"}}
    - match: {operation: embeddings}
      cache: {ttl: 1d}
admin: {listen: 127.0.0.1:9901, probes: 0.0.0.0:9902}
store: {memory: 64MiB}
telemetry: {log: json, otlp: \"${OTEL_EXPORTER_OTLP_ENDPOINT:-}\"}
shutdown: {drain_delay: 5s, deadline: 25s}
",
    );
    let inbound = config.inbound.expect("open");
    assert_eq!(inbound.trusted_proxies.len(), 7);
    assert_eq!(inbound.caller, [CallerSource::Header("x-user-id".parse().expect("valid")), CallerSource::ClientIp]);
    let limit = &inbound.limits[0];
    assert_eq!(&*limit.name, "inbound/client_ip/1000-requests/1m");
    assert_eq!(
        (limit.unit, limit.amount, limit.window, limit.algorithm),
        (Unit::Requests, 1000, Duration::from_secs(60), Algorithm::Sliding)
    );
    assert_eq!((limit.applies, limit.on_store_error, limit.unpriced), (Applies::All, OnStoreError::Local, Unpriced::Allow));
    assert_eq!(&*inbound.routes[0].name, "GET|HEAD /api/products/**");
    assert_eq!(inbound.routes[0].matches.methods, [Method::GET, Method::HEAD]);
    let cache = inbound.routes[0].policies.cache.as_ref().expect("named");
    assert_eq!((cache.ttl, cache.stale_while_revalidate), (Some(Duration::from_secs(60)), Some(Duration::from_secs(300))));
    assert_eq!((cache.cookies, cache.unsafe_, cache.max_body), (Cookies::Bypass, false, 1 << 20));
    assert_eq!(&*inbound.routes[1].policies.purge[0], "catalog");
    let spend = &inbound.routes[2].policies.limits[0];
    assert_eq!((&*spend.name, spend.unit, spend.amount, spend.unpriced), ("user-spend", Unit::NanoUsd, 500_000_000, Unpriced::Refuse));
    assert!(inbound.fallthrough.retry.is_none());

    let outbound = config.outbound.expect("open");
    assert_eq!(outbound.providers.len(), 3);
    assert_eq!((outbound.providers[0].url.to_string().as_str(), outbound.providers[0].keys.len()), ("https://api.openai.com", 1));
    assert_eq!(outbound.providers[0].keys[0].secret.reveal(), "sk-from-env");
    assert_eq!((outbound.providers[1].api, outbound.providers[1].keys.len()), (Api::Anthropic, 0));
    assert_eq!(outbound.providers[2].url.base, "/v1");
    assert_eq!(outbound.limits[0].alert_at, [0.5, 0.8, 1.0]);
    assert_eq!(outbound.limits[0].applies, Applies::Misses);
    let chat = &outbound.routes[0];
    assert_eq!((&*chat.name, chat.matches.operations[0]), ("chat gpt-*", Operation::Chat));
    assert_eq!(chat.policies.limits[0].amount, 200_000);
    assert_eq!(chat.policies.cache.as_ref().map(|c| c.mode), Some(Mode::Observe));
    assert!(matches!(&chat.policies.fallback[0], Fallback::Provider { provider: 0, model: Some(model), .. } if &**model == "gpt-4o-mini"));
    assert!(
        matches!(&chat.policies.fallback[1], Fallback::Respond { status: StatusCode::SERVICE_UNAVAILABLE, body, .. } if body.contains("resting"))
    );
    // `defaults` reach every route and what matches none.
    for policies in [&chat.policies, &outbound.routes[1].policies, &outbound.fallthrough] {
        let timeouts = policies.timeouts.as_ref().expect("from defaults");
        assert_eq!((timeouts.connect, timeouts.total), (Some(Duration::from_secs(2)), None));
        let breaker = policies.breaker.as_ref().expect("from defaults");
        assert_eq!((breaker.consecutive, breaker.successes, breaker.open_max), (5, 2, Duration::from_secs(60)));
        let retry = policies.retry.as_ref().expect("from defaults");
        assert_eq!((retry.max_retries, retry.replay_buffer, retry.any_method), (2, 1 << 20, true));
        assert!(retry.on.contains(&RetryOn::Status(StatusCode::TOO_MANY_REQUESTS)) && !retry.on.contains(&RetryOn::Timeout));
    }
    assert_eq!((config.store.memory, config.telemetry.log), (64 << 20, LogFormat::Json));
    assert_eq!(config.telemetry.otlp, None);
}

#[test]
fn a_block_in_a_route_replaces_the_block_in_defaults() {
    let config = good(
        "inbound:
  app: 3000
  defaults: {breaker: {consecutive: 9}, retry: {max_retries: 3, on: [connect]}}
  routes:
    - match: {path: /a}
      retry: {max_retries: 1}
      breaker: {mode: off}
    - match: {path: /b}
",
    );
    let inbound = config.inbound.expect("open");
    let (a, b) = (&inbound.routes[0].policies, &inbound.routes[1].policies);
    let retry = a.retry.as_ref().expect("its own");
    assert!(retry.max_retries == 1 && retry.on.len() > 1, "not a mixture of the two blocks");
    assert!(a.breaker.is_none() && b.breaker.as_ref().is_some_and(|breaker| breaker.consecutive == 9));
    assert_eq!(b.retry, inbound.fallthrough.retry);
}

#[test]
fn variables_are_typed_by_their_key_and_empty_is_absent() {
    let config = good(
        "inbound: {app: \"http://127.0.0.1:${PORT}\", caller: [\"${EMPTY}\", client_ip]}\nworkers: ${WORKERS:-2}\nstore: {memory: \"${EMPTY}\"}\n",
    );
    let inbound = config.inbound.expect("open");
    assert_eq!((inbound.app.port, inbound.caller.len()), (3100, 1));
    assert_eq!((config.workers.map(std::num::NonZeroUsize::get), config.store.memory), (Some(2), 128 << 20));
    says("inbound: {app: \"${NONE}\"}\n", "1:16", "`NONE` is not set");
    let said = bad(&format!("{IN}workers: ${{BAD}}\n"));
    assert!(said.len() == 1 && said[0].contains("`${BAD}`") && !said[0].contains("hunter2"), "{said:?}");
}

#[test]
fn secrets_come_from_files_and_are_never_printed() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("key"), "sk-file-secret\n").expect("written");
    let file = dir.path().join("proxy.yaml");
    std::fs::write(&file, "outbound: {providers: {openai: {keys: [{file: key}]}}}\nstore: {secret: abc}\n").expect("written");
    let reading = load_reading(&file, &overrides(), &env).expect("good");
    assert_eq!(reading.config.outbound.as_ref().expect("open").providers[0].keys[0].secret.reveal(), "sk-file-secret");
    assert!(!format!("{:?}", reading.config).contains("sk-file-secret"));
    let again = || load_reading(&file, &overrides(), &env).expect("good").fingerprint;
    assert_eq!(again(), reading.fingerprint);
    std::fs::write(dir.path().join("key"), "sk-other\n").expect("written");
    assert_ne!(again(), reading.fingerprint, "a rotated secret is a new content");

    for text in [
        "outbound: {providers: {openai: {keys: [sk-plain-hunter2], nope: 1}}}\n",
        "outbound: {providers: {openai: {kyes: [sk-plain-hunter2]}}}\n",
        "outbound: {providers: {openai: {keys: {a: sk-plain-hunter2}}}}\n",
        "outbound:\n  providers:\n    openai:\n      keys: [sk-plain-hunter2\n",
        "outbound: {providers: {openai: {}}}\nstore: {redis: hunter2-not-a-url, namespace: a b}\n",
        "outbound: {providers: {openai: {}}}\nadmin: {token: \"sk-hunter2\", token: \"sk-hunter2\"}\n",
        "outbound: {providers: {openai: {}}}\ntelemetry: {otlp: 5, otlp_headers: {authorization: Bearer hunter2}}\n",
        "outbound: {providers: {openai: {keys: sk-plain-hunter2: x}}}\n",
    ] {
        let said = parse(text, "f", &overrides(), &env).expect_err("has mistakes").to_string();
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn mistakes_of_shape_have_places_and_cures() {
    says(&format!("{IN}shutdwon: {{}}\n"), "2:1", "unknown key `shutdwon` in the file; did you mean `shutdown`?");
    says("inbound:\n  app: 3000\n  routes:\n    - match: {path: /a}\n      cache: {ttll: 60s}\n", "5:15", "did you mean `ttl`?");
    says(&format!("{IN}shutdown: {{deadline: 60}}\n"), "2:22", "did you mean `60s`");
    says(&format!("{IN}store: {{memory: lots}}\n"), "2:17", "is not a size");
    says(&format!("{IN}workers: many\n"), "2:10", "is not a count");
    says(&format!("{IN}workers: 0\n"), "2:10", "out of range; write 1 to 1024");
    says(&format!("{IN}workers: [2]\n"), "2:10", "`workers` must be a count");
    says("inbound: {app: localhost:3000}\n", "1:16", "http://");
    says("inbound: {app: 3000, listen: 8080}\n", "1:30", "did you mean `0.0.0.0:8080`");
    says("inbound: {app: 3000, trusted_proxies: 10.1.1.1/8}\n", "1:39", "did you mean `10.0.0.0/8`");
    says("inbound: {app: 3000, app: 3001}\n", "1:22", "duplicate key `app`; it is already written at line 1");
    says("inbound: {app: 3000, routes: [{match: {path: api}}]}\n", "1:46", "did you mean `/api`");
    says("inbound: {app: 3000, routes: [{match: {methods: [get]}}]}\n", "1:50", "upper-case: `GET`");
    says("inbound: {app: 3000, routes: [{match: {headers: {\"a b\": x}}}]}\n", "1:50", "is not a header name");
    says("inbound: {app: 3000, routes: [{cache: {}}]}\n", "1:31", "needs `match`");
    says("inbound: {app: 3000, routes: {match: {}}}\n", "1:30", "`routes` must be a list");
    says("inbound: 3000\n", "1:10", "`inbound` must be a block of keys");
    says("- a\n", "1:1", "must be a block of keys");
    says(&format!("{IN}telemetry: {{log: jsn}}\n"), "2:18", "did you mean `json`");
    says("inbound: &a {app: 3000}\nstore: {<<: *a}\n", "2:9", "merge keys (`<<`) are not supported");
}

#[test]
fn mistakes_in_routes_and_what_they_name() {
    let routes = |door: &str, routes: &str| format!("{door}  routes:\n{routes}");
    let inbound = "inbound:\n  app: 3000\n";
    let outbound = "outbound:\n  providers: {openai: {}, anthropic: {}}\n";
    says(
        &routes(inbound, "    - {match: {path: /a, methods: [GET, HEAD]}}\n    - {match: {methods: [HEAD, GET], path: /a}}\n"),
        "5:15",
        "the same match",
    );
    says(
        &routes(inbound, "    - {name: a, match: {path: /a}}\n    - {name: a, match: {path: /b}}\n"),
        "5:14",
        "already a route `a` at line 4",
    );
    says(&routes(inbound, "    - {match: {operation: chat}}\n"), "4:16", "operations are for outbound routes");
    says(&routes(outbound, "    - {match: {provider: opnai}}\n"), "4:26", "did you mean `openai`?");
    says(&routes(outbound, "    - {match: {operation: chat}, cache: {}}\n"), "4:34", "cache needs `ttl`");
}

#[test]
fn dangerous_things_need_to_be_said() {
    let keys = "outbound: {listen: \"0.0.0.0:8081\", providers: {openai: {keys: [sk-x]}}}\n";
    says(keys, "1:20", "`allow: [private]`");
    assert!(parse(&keys.replace("providers", "allow: private, providers"), "f", &overrides(), &env).is_ok());
    says("inbound: {app: 3000, caller: header:x-user}\n", "1:30", "counts only from `trusted_proxies`");
    let reading = parse_reading(&limit("key: header:x-user, requests: 1, window: 1m"), "f", &overrides(), &env).expect("good");
    assert!(reading.notes.len() == 1 && reading.notes[0].message.contains("any client can write"), "{:?}", reading.notes);
    says("inbound: {app: 8080}\n", "1:16", "own inbound listener");
    says("inbound: {app: 3000, listen: \"127.0.0.1:9902\"}\n", "1:30", "listen on the same port 9902");
    says("outbound: {providers: {openai: {url: \"http://127.0.0.1:8081\"}}}\n", "1:38", "own outbound listener");
    says("outbound: {}\n", "1:1", "outbound needs `providers`");
}

#[test]
fn every_mistake_is_reported_in_one_run_with_syntax_errors_too() {
    let said = bad("inbound:\n  ap: 3000\n  caller: [client-ip]\nworkers: 0\nstore: {memory: ${X}}\nshutdown: {deadline: 1}\n");
    let lines: Vec<&str> = said.iter().map(|line| line.split(':').next().unwrap_or("")).collect();
    assert_eq!(lines, ["2", "3", "4", "5", "6"], "{said:#?}");
    assert!(said.iter().any(|line| line.contains("must be quoted")), "{said:#?}");
    // What stands before a syntax error is checked as well, and nothing is said to be missing.
    let said = bad("workers: 0\ninbound:\n  listen: [\n");
    assert!(said.len() == 2 && said[0].contains("out of range") && said[1].contains("not YAML"), "{said:#?}");
}

#[test]
fn a_file_too_large_or_not_text_is_one_mistake() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("proxy.yaml");
    std::fs::write(&file, "# x\n".repeat(300_000)).expect("written");
    assert!(load(&file, &overrides(), &env).expect_err("too large").to_string().contains("larger than 1MiB"));
    std::fs::write(&file, b"a\n\xff").expect("written");
    assert!(load(&file, &overrides(), &env).expect_err("no text").to_string().contains("not UTF-8 (line 2)"));
    assert!(load(&dir.path().join("none"), &overrides(), &env).expect_err("missing").to_string().contains("cannot be read"));
}

#[test]
fn a_byte_order_mark_is_passed_over() {
    assert!(parse(&format!("\u{FEFF}{IN}"), "f", &overrides(), &env).is_ok());
}

/// Every mistake of `text` has a place in it.
fn lies_within(text: &str) -> Result<(), TestCaseError> {
    let Err(mistakes) = parse(text, "f", &overrides(), &env) else { return Ok(()) };
    prop_assert!(!mistakes.is_empty() && !mistakes.to_string().is_empty());
    let lines: Vec<&str> = lines(text).collect();
    for mistake in mistakes.iter() {
        prop_assert!((1..=lines.len() + 1).contains(&mistake.line), "line {} of {:?}: {}", mistake.line, text, mistake.message);
        let length = lines.get(mistake.line - 1).map_or(0, |line| line.chars().count());
        prop_assert!((1..=length + 1).contains(&mistake.column), "column {} of {:?}: {}", mistake.column, text, mistake.message);
    }
    Ok(())
}

/// Found by fuzzing: a CR alone ends a line, and what is shown and masked is the line that the mistake is on.
#[test]
fn a_carriage_return_ends_a_line() {
    let text = "outbound: {providers: {openai: {keys: [hunter2-hunter2-hunter2]}}}\rwrokers: 1\r";
    let mistakes = parse(text, "f", &overrides(), &env).expect_err("a mistake");
    let said = mistakes.to_string();
    assert!(said.contains("f:2:1: ") && said.contains("| wrokers") && !said.contains("hunter2"), "{said}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
        lies_within(&text)?;
    }

    #[test]
    fn no_yaml_like_text_makes_the_reader_panic(lines in prop::collection::vec(
        ("[ \t]{0,6}", "(- )?", "(inbound|outbound|routes|match|limits|cache|keys|store|\\$\\{X\\}|<<|\\*a|&a|!x|é|\"|')", ":? ?",
         "([\\[\\]{}\",'|>#&*!%@`$]|\\$\\{|[0-9a-z:/. -]){0,12}"), 0..12)) {
        let text: String = lines.into_iter().map(|(a, b, c, d, e)| format!("{a}{b}{c}{d}{e}\n")).collect();
        lies_within(&text)?;
    }
}
