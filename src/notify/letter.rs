//! A signed message that is posted again and again until it is taken, nobody wants it any more, or its time is over.

use std::{sync::Arc, time::Duration};

use http::Method;
use serde::Deserialize;
use serde_json::Value;

use super::standard;
use crate::{
    clock::{self, Clock, Instant},
    config::AskHook,
    fetch::{Answer, Errand},
};

/// The pause after the first failed try; each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause that nobody has asked for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Longest error of a receiver that is told.
const SHOWN: usize = 300;

/// The message.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Where it goes, and what signs it.
    pub hook: Arc<AskHook>,
    /// Its id: the same for each try, so that a receiver can drop what it has.
    pub id: String,
    /// Its body: `type`, `timestamp`, `data`.
    pub body: Value,
}

/// The end of a letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It was taken. The answer's decision, as it is written; `None`: it has none.
    Taken(Option<bool>),
    /// It will never be taken; in words.
    Refused(String),
    /// Its time is over. The last failure in words.
    Late(String),
    /// Nobody wants it any more.
    Unwanted,
}

/// Posts a letter for at most `within`. `send` sends one errand; `wanted` is asked before each try; `failed` hears of each try that was
/// not taken.
pub async fn post<F: Future<Output = Result<Answer, String>>>(
    letter: &Letter,
    within: Duration,
    clock: Clock,
    send: impl Fn(Errand) -> F,
    wanted: impl Fn() -> bool,
    failed: impl Fn(&str),
) -> Fate {
    let (begun, mut pause) = (Instant::now(), FIRST_PAUSE);
    loop {
        if !wanted() {
            return Fate::Unwanted;
        }
        let mut errand = Errand::new(Method::POST, letter.hook.url.reveal()).json(&letter.body);
        errand.timeout = errand.timeout.min(within.saturating_sub(begun.elapsed()));
        standard::seal(&mut errand, Some(&letter.hook.secret), &letter.id, clock::unix(clock.wall()).as_secs());
        let (asked_pause, why) = match send(errand).await {
            Ok(answer) if answer.status.is_success() => return Fate::Taken(decision(&answer.body)),
            Ok(answer) => {
                let said: String = String::from_utf8_lossy(&answer.body).chars().filter(|c| !c.is_control()).take(SHOWN).collect();
                let why = format!("it answered {}{}{said}", answer.status.as_u16(), if said.is_empty() { "" } else { ": " });
                if !matches!(answer.status.as_u16(), 408 | 425 | 429 | 500..=599) {
                    failed(&why);
                    return Fate::Refused(why);
                }
                (answer.retry_after(clock.wall()), why)
            }
            Err(why) => (None, why),
        };
        failed(&why);
        // Half of the pause is chance: letters that failed together do not come again together.
        let chance = (clock::unguessable_id() % 1_000) as f64 / 2_000.0;
        let pause_now = asked_pause.unwrap_or(pause.mul_f64(0.5 + chance)).max(FIRST_PAUSE / 2);
        pause = (pause * 2).min(LONGEST_PAUSE);
        if begun.elapsed().saturating_add(pause_now) >= within {
            return Fate::Late(why);
        }
        tokio::time::sleep(pause_now).await;
    }
}

/// The decision in an answer: `{"decision": "allow"}` or `{"decision": "refuse"}`. Anything else decides nothing.
fn decision(body: &[u8]) -> Option<bool> {
    #[derive(Deserialize)]
    struct Decided {
        decision: String,
    }
    let decided: Decided = serde_json::from_slice(body).ok()?;
    match decided.decision.as_str() {
        "allow" => Some(true),
        "refuse" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        time::SystemTime,
    };

    use http::{HeaderMap, HeaderValue, StatusCode, header};
    use serde_json::json;

    use super::*;
    use crate::{config::Secret, fetch::Peer};

    const WITHIN: Duration = Duration::from_secs(600);

    fn letter() -> Letter {
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let hook = AskHook { url: Secret::new("https://yes.example/ask"), secret, decides: true };
        Letter { hook: Arc::new(hook), id: "ask_1".into(), body: json!({"type": "limit.ask"}) }
    }

    fn answer(status: u16, body: &'static str) -> Result<Answer, String> {
        let status = StatusCode::from_u16(status).expect("a status");
        Ok(Answer { status, headers: HeaderMap::new(), body: body.into(), took: Duration::ZERO, peer: Peer::default() })
    }

    /// Posts to a receiver that answers this way, one answer a try; gives the fate, the tries with their times, and the failures told.
    async fn posted(within: Duration, answers: Vec<Result<Answer, String>>) -> (Fate, Vec<(u64, Errand)>, usize) {
        let (begun, left) = (Instant::now(), RefCell::new(answers.into_iter()));
        let (tries, told) = (RefCell::new(Vec::new()), Cell::new(0));
        let send = |errand: Errand| {
            tries.borrow_mut().push((begun.elapsed().as_secs(), errand));
            let next = left.borrow_mut().next().unwrap_or_else(|| answer(503, "later"));
            async { next }
        };
        let clock = Clock::fixed(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let fate = post(&letter(), within, clock, send, || true, |_| told.set(told.get() + 1)).await;
        (fate, tries.into_inner(), told.get())
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_posted_until_it_is_taken_under_one_id_and_a_fresh_signature() {
        let mut held = answer(429, "");
        if let Ok(answer) = &mut held {
            answer.headers.insert(header::RETRY_AFTER, HeaderValue::from_static("90"));
        }
        let (fate, tries, told) = posted(WITHIN, vec![Err("nobody listens".into()), held, answer(204, "")]).await;
        assert_eq!((fate, tries.len(), told), (Fate::Taken(None), 3, 2));
        assert!(tries[1].0 < 2 && (90..93).contains(&tries[2].0), "{:?}", tries.iter().map(|(at, _)| at).collect::<Vec<_>>());
        let field = |at: usize, name: &str| tries[at].1.headers[name].to_str().expect("text").to_owned();
        assert_eq!((field(0, standard::ID), field(2, standard::ID)), ("ask_1".into(), "ask_1".into()));
        let (first, last) = (field(0, standard::TIMESTAMP), field(2, standard::TIMESTAMP));
        assert_ne!(first, last, "a receiver refuses an old time");
        let secret = letter().hook.secret.clone();
        let signed = standard::sign(&secret, "ask_1", last.parse().expect("seconds"), &tries[2].1.body);
        assert_eq!(Some(field(2, standard::SIGNATURE)), signed);
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_with_its_time_and_with_a_refusal() {
        let (fate, tries, told) = posted(Duration::from_secs(60), Vec::new()).await;
        assert_eq!(fate, Fate::Late("it answered 503: later".into()));
        assert!(told == tries.len() && (5..10).contains(&told), "growing pauses: {told}");
        assert!(tries.iter().all(|(at, errand)| *at < 60 && errand.timeout <= Duration::from_secs(60 - at)), "no try outlives the hold");
        let (fate, tries, _) = posted(WITHIN, vec![answer(410, "gone\u{1b}")]).await;
        assert_eq!((fate, tries.len()), (Fate::Refused("it answered 410: gone".into()), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_told_of_what_is_decided_already() {
        let (tries, clock) = (Cell::new(0), Clock::fixed(SystemTime::UNIX_EPOCH));
        let send = |_| {
            tries.set(tries.get() + 1);
            async { answer(500, "") }
        };
        let fate = post(&letter(), WITHIN, clock, send, || tries.get() < 2, |_| ()).await;
        assert_eq!((fate, tries.get()), (Fate::Unwanted, 2));
    }

    #[test]
    fn a_decision_is_one_of_two_words() {
        assert_eq!(decision(br#"{"decision": "allow", "by": "ann"}"#), Some(true));
        assert_eq!(decision(br#"{"decision": "refuse"}"#), Some(false));
        for nothing in ["", "allow", r#"{"decision": "Allow"}"#, r#"{"decision": true}"#, r#"{"allow": true}"#, r#"{"decision": "allow"}x"#]
        {
            assert_eq!(decision(nothing.as_bytes()), None, "{nothing}");
        }
    }
}
