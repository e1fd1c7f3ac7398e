//! What a file of keys and a block of `auth` mean, and every mistake in them.

use super::*;
use crate::config::{
    CallerSource,
    read::{Overrides, load_reading},
    testing::{bad, good, route, says},
};

const HASH: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// The configuration of `yaml` beside a file of keys; `Err`: the mistakes, one a line.
fn with_keys(yaml: &str, keys: &str) -> Result<Config, String> {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("keys.json"), keys).expect("written");
    let file = dir.path().join("proxy.yaml");
    std::fs::write(&file, yaml).expect("written");
    let overrides = Overrides { app: None, memory_limit: Some(512 << 20) };
    load_reading(&file, &overrides, &|_| None).map(|reading| reading.config).map_err(|mistakes| mistakes.to_string())
}

fn keys(rows: &str) -> String {
    format!("{{\"keys\": [{rows}]}}")
}

fn one(more: &str) -> String {
    keys(&format!("{{\"name\": \"web\", \"shows\": \"ork_abcdefgh\", \"sha256\": \"{HASH}\"{more}}}"))
}

const YAML: &str = "inbound:
  app: 3000
  defaults: {auth: {api_keys: {file: keys.json}}}
  routes:
    - {match: {path: /admin}, auth: {scopes: [admin], tiers: gold}}
    - {match: {path: /open}, auth: {anonymous: allow}}
    - {match: {path: /off}, auth: {mode: off}}
";

#[test]
fn a_route_has_the_keys_of_its_door_and_asks_for_more() {
    let row = ", \"caller\": \"ann@shop\", \"tier\": \"gold\", \"scopes\": [\"admin\"], \"expires\": \"2027-01-31T00:00:00Z\"";
    let inbound = with_keys(YAML, &one(row)).expect("good").inbound.expect("open");
    let of = |at: usize| inbound.routes[at].policies.auth.as_ref();
    let key = inbound.fallthrough.auth.as_ref().and_then(|auth| auth.sources.api_keys.as_ref()?.keys.values().next().cloned());
    let key = key.expect("a key");
    assert_eq!((&*key.caller, key.tier.as_deref(), &*key.scopes[0]), ("ann@shop", Some("gold"), "admin"));
    assert!(key.expires.is_some());
    let admin = of(0).expect("named");
    assert!(admin.sources.api_keys.is_some() && admin.guards() && admin.scopes.len() == 1 && admin.tiers.len() == 1);
    assert!(of(1).is_some_and(|auth| auth.anonymous && !auth.guards()) && of(2).is_none());
    assert_eq!(inbound.caller, [CallerSource::Auth(ProofKind::Any), CallerSource::ClientIp], "the caller is the one who was verified");
    assert!(with_keys("inbound: {app: 3000}\n", "").expect("good").inbound.expect("open").caller == [CallerSource::ClientIp]);
}

#[test]
fn the_file_of_keys_is_read_with_every_mistake() {
    for (file, part) in [
        ("{", "no file of keys"),
        (&keys("{\"name\": \"a b\", \"shows\": \"\", \"sha256\": \"\"}"), "is not a name"),
        (&keys("{\"name\": \"a\", \"shows\": \"\", \"sha256\": \"12\"}"), "64 hexadecimal digits"),
        (&keys("{\"name\": \"a\", \"shows\": \"\", \"sha256\": \"ork_abcdefghijkl\"}"), "stands here in clear"),
        (&keys("{\"name\": \"a\", \"key\": \"ork_abc\"}"), "unknown field `key`"),
        (&one(", \"expires\": \"tomorrow\""), "2027-01-31T00:00:00Z"),
        (&one(", \"scopes\": [\"a b\"]"), "neither a scope nor a tier"),
        (&one(", \"caller\": \"\""), "not a name"),
    ] {
        let said = with_keys(YAML, file).expect_err(part);
        assert!(said.contains(part) && said.contains("proxy.yaml:3:"), "{part}: {said}");
    }
    let row = format!("{{\"name\": \"web\", \"shows\": \"\", \"sha256\": \"{HASH}\"}}");
    let twice = with_keys(YAML, &keys(&format!("{row}, {row}"))).expect_err("twice");
    assert!(twice.contains("two keys have the name `web`") && twice.contains("has the hash of another key"), "{twice}");
    assert!(with_keys(YAML, "").is_ok(), "a file without keys lets nobody in");
}

#[test]
fn what_cannot_work_is_said_with_the_cure() {
    says(&route("auth: {}"), "5:7", "names no way of proof");
    says(&route("auth: {api_keys: {file: gone.json}}"), "5:31", "`outrigger key new --file");
    says(&route("auth: {api_keys: {keys: [a]}}"), "5:25", "outrigger key new --file keys.json --name NAME");
    says("inbound: {app: 3000, caller: api_key}\n", "1:30", "write it in `defaults`");
    says("inbound: {app: 3000, auth: {}}\n", "1:22", "written in `defaults`");
    let allows = YAML.replace("anonymous: allow", "anonymous: allow, scopes: [a]");
    assert!(with_keys(&allows, &one("")).is_err_and(|said| said.contains("has no scope and no tier")));
    assert!(good(&route("auth: {mode: off}")).inbound.is_some());
    assert!(good(&route("auth: {forward: {url: 'http://auth.internal/check?a=b'}}")).inbound.is_some());
    says(&route("auth: {forward: {timeout: 1s}}"), "5:14", "url");
    assert_eq!(bad(&route("auth: {scopes: 'a b', api_keys: {file: gone.json, header: 'a b'}}")).len(), 3);
}

#[test]
fn a_door_with_provider_keys_may_ask_for_keys_in_place_of_addresses() {
    let door = |auth: &str| {
        format!(
            "outbound:\n  listen: 0.0.0.0:8081\n  providers: {{openai: {{keys: [sk-1]}}}}\n  defaults: {{auth: {{api_keys: {{file: keys.json}}{auth}}}}}\n"
        )
    };
    assert!(with_keys(&door(""), &one("")).is_ok());
    for open in [", mode: observe", ", anonymous: allow", ", mode: off"] {
        let said = with_keys(&door(open), &one("")).expect_err("anyone could spend them");
        assert!(said.contains("anyone who reaches it could spend them"), "{open}: {said}");
    }
    let but_one = format!("{}  routes: [{{match: {{operation: chat}}, auth: {{mode: off}}}}]\n", door(""));
    assert!(with_keys(&but_one, &one("")).is_err(), "one open route is enough");
}

/// The smallest block of tokens, with something in place of the audience.
fn jwt(keys: &str, rest: &str) -> String {
    route(&format!("auth: {{jwt: {{issuer: 'https://i.example/', {keys}, {rest}}}}}"))
}

const KEYS: &str = "jwks: https://i.example/keys";

#[test]
fn what_is_dangerous_in_tokens_is_refused_with_the_line_that_is_right() {
    assert!(good(&jwt(KEYS, "audience: [a, b]")).inbound.is_some());
    says(&jwt(KEYS, "leeway: 1m"), "5:14", "write `audience: https://this.app`, or `any_audience: true`");
    assert!(good(&jwt(KEYS, "any_audience: true")).inbound.is_some());
    for (text, part) in [
        (jwt(KEYS, "audience: a, algorithms: [RS256, HS256]"), "`HS256` takes a secret, and the keys are public"),
        (jwt("secret: 0123456789abcdef0123456789abcdef", "audience: a, algorithms: RS256"), "`RS256` takes a public key"),
        (jwt("secret: 0123456789abcdef", "audience: a"), "fewer than 32 bytes"),
        (jwt("jwks: http://i.example/keys", "audience: a"), "write https://"),
        (jwt(&format!("{KEYS}, secret: 0123456789abcdef0123456789abcdef"), "audience: a"), "secret"),
        (jwt("jwks_file: gone.json", "audience: a"), "cannot read"),
        (jwt(KEYS, "audience: a, algorithms: none"), "`none` is unknown"),
        (jwt(KEYS, "aud: a, audience: a"), "it is written `audience`"),
        (route("auth: {jwt: {jwks: https://i.example/keys, audience: a}}"), "issuer"),
    ] {
        let said = bad(&text);
        assert!(said.len() == 1 && said[0].contains(part), "{part}: {said:#?}");
    }
    assert!(good(&jwt("jwks: http://127.0.0.1:9/keys", "audience: a")).inbound.is_some(), "nobody stands between");
    says("inbound: {app: 3000, caller: 'jwt:sub'}\n", "1:30", "`auth: {jwt: {...}}`");
    says(&route("auth: {client_cert: '*.clients.example'}"), "5:14", "needs `tls: {client_ca: FILE}`");
}

#[test]
fn a_file_of_an_issuers_keys_has_one_that_verifies() {
    let yaml = "inbound: {app: 3000, defaults: {auth: {jwt: {jwks_file: keys.json, issuer: i, audience: a}}}}\n";
    let ed = "{\"kty\": \"OKP\", \"crv\": \"Ed25519\", \"x\": \"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"";
    assert!(with_keys(yaml, &keys(&format!("{{\"kty\": \"new\"}}, {ed}}}"))).is_ok());
    for (text, part) in [
        ("[]", "it has no list `keys`"),
        ("{", "no set of keys"),
        (&keys(""), "no key in it verifies a signature"),
        (&keys(&format!("{ed}, \"use\": \"enc\"}}")), "no key in it verifies"),
        (&keys(&format!("{ed}, \"key_ops\": [\"sign\"]}}")), "no key in it verifies"),
        (&keys("{\"kty\": \"oct\", \"k\": \"c2VjcmV0\"}"), "no key in it verifies"),
    ] {
        let said = with_keys(yaml, text).expect_err(part);
        assert!(said.contains(part), "{text}: {said}");
    }
}
