//! One check: a request, a connection or a model call, and what the conditions say of its answer.

use std::{net::SocketAddr, time::Duration};

use http::{HeaderValue, Method, header};
use serde_json::json;

use crate::{
    condition::{Condition, Subject, Verdict},
    config::{Api, Authorities, Monitor, Probe},
    fetch::{Answer, Errand, Failed, Fetch, Peer},
    monitor::Check,
};

/// Most bytes of a body that conditions look at.
const BODY: usize = 256 << 10;

/// Checks; `wall` is the time now, in milliseconds since 1970.
pub(super) async fn check(fetch: &Fetch, monitor: &Monitor, outbound: Option<SocketAddr>, wall: u64) -> Check {
    let within = monitor.timeout;
    let errand = match &monitor.probe {
        Probe::Connect { host, port, tls } => {
            let done = fetch.connect(host, *port, *tls, &Authorities::default(), within).await;
            return judged(monitor, connected(done, wall));
        }
        Probe::Http { method, url, headers, body } => {
            let mut errand = Errand::new(method.clone(), url.reveal());
            errand.headers = headers.clone();
            errand.body = body.clone().into();
            errand
        }
        Probe::Model { provider, api, versioned, model } => match outbound {
            Some(door) => call(door, provider, *api, *versioned, model),
            None => return Check::Down("the outbound door is closed".to_owned()),
        },
    };
    let done = fetch.send(Errand { timeout: within, max_body: BODY, ..errand }).await;
    judged(monitor, answered(done, wall))
}

/// A call of one token through our own door.
fn call(door: SocketAddr, provider: &str, api: Api, versioned: bool, model: &str) -> Errand {
    let host = if door.ip().is_unspecified() { SocketAddr::from(([127, 0, 0, 1], door.port())) } else { door };
    let message = json!([{"role": "user", "content": "ping"}]);
    let (version, path, body) = match api {
        Api::Anthropic => ("v1/", "messages".to_owned(), json!({"model": model, "max_tokens": 1, "messages": message})),
        Api::Gemini => (
            "v1beta/",
            format!("models/{model}:generateContent"),
            json!({"contents": [{"parts": [{"text": "ping"}]}], "generationConfig": {"maxOutputTokens": 1}}),
        ),
        _ => ("v1/", "chat/completions".to_owned(), json!({"model": model, "max_tokens": 1, "messages": message})),
    };
    let mut errand =
        Errand::new(Method::POST, format!("http://{host}/{provider}/{}{path}", if versioned { version } else { "" })).json(&body);
    errand.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if api == Api::Anthropic {
        errand.headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
    }
    errand
}

fn of_peer(peer: &Peer, wall: u64) -> Subject {
    let left = peer.not_after.map(|at| at.saturating_sub(i64::try_from(wall / 1_000).unwrap_or(i64::MAX)));
    Subject { ip: peer.address.map(|at| at.ip().to_string()), connected: peer.address.is_some(), certificate: left, ..Subject::default() }
}

fn connected(done: Result<(Peer, Duration), Failed>, wall: u64) -> (Subject, Option<String>) {
    match done {
        Ok((peer, took)) => (Subject { took, ..of_peer(&peer, wall) }, None),
        Err(error) => (Subject { connected: false, ..of_peer(&error.peer, wall) }, Some(error.to_string())),
    }
}

fn answered(done: Result<Answer, Failed>, wall: u64) -> (Subject, Option<String>) {
    match done {
        Ok(answer) => {
            let subject = of_peer(&answer.peer, wall);
            (
                Subject { status: Some(answer.status.as_u16()), took: answer.took, body: answer.body.to_vec(), connected: true, ..subject },
                None,
            )
        }
        Err(error) => (of_peer(&error.peer, wall), Some(error.to_string())),
    }
}

/// What the conditions say; without any, a connection and a status below 400 are enough.
fn judged(monitor: &Monitor, (subject, error): (Subject, Option<String>)) -> Check {
    if monitor.conditions.is_empty() {
        return match (error, subject.status) {
            (Some(why), _) => Check::Down(why),
            (None, Some(status @ 400..)) => Check::Down(format!("it answered {status}")),
            (None, _) => Check::Up,
        };
    }
    let broken: Vec<(&Condition, String)> = monitor
        .conditions
        .iter()
        .filter_map(|condition| match condition.judge(&subject) {
            Verdict::Holds => None,
            Verdict::Fails(why) => Some((condition, why)),
        })
        .collect();
    let words = |broken: &[(&Condition, String)]| broken.iter().map(|(_, why)| why.as_str()).collect::<Vec<_>>().join("; ");
    match (broken.is_empty(), error) {
        // Where nothing answers no time is too long, and no body too big.
        (true, Some(why)) if !monitor.conditions.iter().any(Condition::is_about_connection) => Check::Down(why),
        (true, _) => Check::Up,
        (false, Some(why)) => Check::Down(format!("{why}: {}", words(&broken))),
        (false, None) if broken.iter().all(|(condition, _)| condition.is_about_time()) => Check::Slow(words(&broken)),
        (false, None) => Check::Down(words(&broken)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, read};

    fn with(conditions: &str) -> Monitor {
        let text = format!(
            "inbound: {{app: 'http://127.0.0.1:3000'}}\nmonitors: {{x: {{url: 'http://h', conditions: [{conditions}]}}, app: off}}\n"
        );
        let config: config::Config = read::parse(&text, "proxy.yaml", &Default::default(), &|_| None).expect("no mistakes");
        config.monitors.expect("named").remove(0)
    }

    #[test]
    fn what_does_not_answer_is_down_whatever_holds_of_nothing() {
        let refused = || (Subject::default(), Some("refused".to_owned()));
        let answered =
            |millis| (Subject { status: Some(200), took: Duration::from_millis(millis), connected: true, ..Subject::default() }, None);
        let quick = with("'[RESPONSE_TIME] < 500'");
        assert_eq!(judged(&quick, refused()), Check::Down("refused".into()), "it took no time");
        assert_eq!(judged(&quick, answered(10)), Check::Up);
        assert!(matches!(judged(&quick, answered(900)), Check::Slow(_)));
        assert_eq!(judged(&with("'len([BODY]) < 10', '[STATUS] != 500'"), refused()), Check::Down("refused".into()));
        assert_eq!(judged(&with("'[CONNECTED] == false'"), refused()), Check::Up, "that is what is wanted");
        assert!(matches!(judged(&with("'[CONNECTED] == true'"), refused()), Check::Down(_)));
        assert!(matches!(judged(&with("'[CONNECTED] == false'"), answered(1)), Check::Down(_)));
        assert_eq!(judged(&with(""), refused()), Check::Down("refused".into()));
    }
}
