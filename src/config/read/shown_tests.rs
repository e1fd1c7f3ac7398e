//! What is shown of a configuration: no secret, and what its reader should know.

use super::*;

fn overrides() -> Overrides {
    Overrides { memory_limit: Some(512 << 20), ..Overrides::default() }
}

/// `/api/config` shows it so, and logs may.
#[test]
fn a_configuration_that_is_printed_shows_no_secret() {
    let text = "inbound:\n  app: 'http://127.0.0.1:3000'\n  routes: [{match: {headers: {x-api-key: hunter2}}}]\n\
                outbound: {providers: {openai: {keys: [sk-hunter2]}}}\nadmin: {token: token-of-hunter2}\n\
                store: {redis: 'redis://:hunter2@r', namespace: n, secret: hunter2hunter2hunter2hunter2hunter2}\n\
                telemetry: {otlp: 'http://c:4318', otlp_headers: {authorization: Bearer hunter2}}\n";
    let config = parse(text, "f", &overrides(), &|_| None).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let shown = format!("{config:#?}");
    assert!(shown.contains("x-api-key") && !shown.contains("hunter2"), "{shown}");
    let refused =
        parse("telemetry: {otlp: 'http://me:hunter2@c:4318'}\n", "f", &overrides(), &|_| None).expect_err("a credential in a URL");
    assert!(refused.to_string().contains("user information") && !refused.to_string().contains("hunter2"), "{refused}");
}

#[test]
fn an_admin_door_that_faces_the_network_is_said_and_more_so_without_a_token() {
    let note = |admin: &str| {
        let text = format!("inbound: {{app: 'http://127.0.0.1:3000'}}\nadmin: {{{admin}}}\n");
        let reading = parse_reading(&text, "f", &overrides(), &|_| None).expect("good");
        reading.notes.into_iter().map(|note| note.message).collect::<String>()
    };
    let (bare, with_token) = (note("listen: 0.0.0.0:9901"), note("listen: 0.0.0.0:9901, token: token-of-16-bytes"));
    assert!(bare.contains("to whoever reaches it") && bare.contains("`admin.token` is not set"), "{bare}");
    assert!(with_token.contains("to whoever reaches it") && !with_token.contains("not set"), "{with_token}");
    assert_eq!(note("listen: 127.0.0.1:9901"), "");
}
