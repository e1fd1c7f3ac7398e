//! Sessions as the SDKs describe them, in whole messages and in pieces.

use super::*;
use crate::usage::UsageSource;

fn hear(heard: &mut FromProvider, message: &str, size: usize) -> Option<Told> {
    hear_of(heard, message, size, 0)
}

/// The prompt of a response that begins has `prompt` tokens.
fn hear_of(heard: &mut FromProvider, message: &str, size: usize, prompt: u64) -> Option<Told> {
    let mut told = None;
    for piece in message.as_bytes().chunks(size) {
        told = told.or(heard.feed(Part::Text(piece), &mut || prompt));
    }
    told.or(heard.feed(Part::End, &mut || prompt))
}

const DONE: &str = r#"{"type":"response.done","event_id":"event_1","response":{"object":"realtime.response","id":"resp_1","status":"completed","output":[{"type":"message"}],
 "usage":{"total_tokens":253,"input_tokens":132,"output_tokens":121,"input_token_details":{"text_tokens":119,"audio_tokens":13,"cached_tokens":64},"output_token_details":{"text_tokens":30,"audio_tokens":91}}}}"#;

#[test]
fn a_realtime_response_states_its_usage_however_it_is_cut() {
    for size in [1, 7, 100_000] {
        let mut heard = FromProvider::new();
        assert!(hear(&mut heard, r#"{"type":"session.created","event_id":"e","session":{"type":"realtime","model":"gpt-realtime","audio":{"input":{"transcription":{"model":"whisper-x"}}}}}"#, size).is_none());
        assert_eq!((heard.model(), heard.transcriber(), heard.is_under_way()), (Some("gpt-realtime"), Some("whisper-x"), false));
        for _ in 0..2 {
            assert!(hear(&mut heard, r#"{"type":"response.created","response":{"id":"resp_1","status":"in_progress"}}"#, size).is_none());
            assert!(hear(&mut heard, r#"{"type":"response.output_audio.delta","delta":"AAAA"}"#, size).is_none());
            assert!(heard.is_under_way());
            let Some(Told::Ended(observed)) = hear(&mut heard, DONE, size) else { panic!("it has ended") };
            let usage = observed.usage;
            assert_eq!((usage.input, usage.audio_input, usage.cache_read, usage.output, usage.audio_output), (55, 13, 64, 30, 91));
            assert_eq!((observed.source, observed.model.as_deref()), (UsageSource::Provider, Some("gpt-realtime")));
        }
        let transcript = r#"{"type":"conversation.item.input_audio_transcription.completed","transcript":"hi","usage":{"type":"tokens","input_tokens":22,"output_tokens":9,"total_tokens":31}}"#;
        let Some(Told::Transcribed(observed)) = hear(&mut heard, transcript, size) else { panic!("transcribed") };
        assert_eq!((observed.usage.input, observed.usage.output, observed.model.as_deref()), (22, 9, Some("whisper-x")));
        assert!(heard.finish().is_none());
    }
}

#[test]
fn a_response_of_any_size_states_its_usage() {
    let text = "word ".repeat(60_000);
    let done = format!(
        "{{\n  \"type\": \"response.completed\",\r\n  \"response\": {{\"id\": \"r\", \"model\": \"gpt-5-2026\", \"status\": \"completed\", \
         \"output\": [{{\"type\": \"message\", \"content\": [{{\"text\": \"{text}\"}}]}}], \
         \"usage\": {{\"input_tokens\": 5, \"output_tokens\": 60000, \"total_tokens\": 60005}}}}}}"
    );
    for size in [1_000, usize::MAX] {
        let mut heard = FromProvider::new();
        let Some(Told::Ended(observed)) = hear(&mut heard, &done, size) else { panic!("it has ended") };
        assert_eq!((observed.usage.input, observed.usage.output, observed.model.as_deref()), (5, 60_000, Some("gpt-5-2026")));
        assert!(hear(&mut heard, &done.replace("response.completed", "session.strange"), size).is_none());
        assert!(!heard.is_under_way() && heard.held.is_empty());
    }
}

#[test]
fn an_event_that_says_its_type_last_is_read() {
    let text = "word ".repeat(30_000);
    for text in ["word", text.as_str()] {
        let done = format!(
            r#"{{"response":{{"type":"x","id":"r","model":"gpt-5","status":"completed","output":[{{"type":"message","content":[{{"text":"{text}"}}]}}],"usage":{{"input_tokens":5,"output_tokens":6,"total_tokens":11}}}},"type":"response.completed"}}"#
        );
        let mut heard = FromProvider::new();
        let Some(Told::Ended(observed)) = hear(&mut heard, &done, 1_000) else { panic!("it has ended") };
        assert_eq!((observed.usage.input, observed.usage.output, observed.source), (5, 6, UsageSource::Provider));
    }
}

#[test]
fn what_is_cut_is_estimated_and_an_error_names_what_is_at_fault() {
    let mut heard = FromProvider::new();
    let mut failed = |message: &str| {
        let Some(Told::Failed(failed)) = hear(&mut heard, message, 9) else { panic!("an error") };
        assert!(heard.fail(&failed).is_none(), "nothing is under way");
        (failed.of.as_deref().map(str::to_owned), failed.refuses, failed.is_busy)
    };
    assert_eq!(failed(r#"{"error":{"type":"server_error"},"type":"error"}"#), (None, false, false));
    assert_eq!(failed(r#"{"type":"error","status":400,"error":{"code":"x"}}"#), (None, true, false));
    assert_eq!(failed(r#"{"type":"error","status":429,"error":{"code":"x"}}"#), (None, false, false));
    let busy = r#"{"type":"error","event_id":"own","error":{"type":"invalid_request_error","event_id":"e1",
        "code":"conversation_already_has_active_response"}}"#;
    assert_eq!(failed(busy), (Some("e1".to_owned()), true, true));
    hear_of(&mut heard, r#"{"type":"response.created","response":{"id":"r","model":"gpt-5","status":"in_progress"}}"#, 9, 40);
    hear(&mut heard, r#"{"type":"response.output_text.delta","delta":"eight eight eight"}"#, 9);
    let observed = heard.finish().expect("under way");
    assert_eq!((observed.source, observed.usage.input, observed.model.as_deref()), (UsageSource::Estimated, 40, Some("gpt-5")));
    assert!(observed.usage.output >= 3, "{observed:?}");
    hear(&mut heard, r#"{"type":"response.created","response":{"id":"r"}}"#, 9);
    let Some(Told::Failed(failed)) = hear(&mut heard, r#"{"type":"error","error":{"type":"server_error"}}"#, 9) else { panic!("an error") };
    let observed = heard.fail(&failed).expect("under way");
    assert_eq!((observed.source, observed.error.is_some(), heard.is_under_way()), (UsageSource::Missing, true, false));
}

#[test]
fn what_the_app_asks_for() {
    let mut asked = FromApp::new(Session::Responses);
    let mut ask = |message: &str| {
        message.as_bytes().chunks(5).for_each(|piece| assert!(asked.feed(Part::Text(piece)).is_none()));
        asked.feed(Part::End)
    };
    assert!(ask(r#"{"type":"session.update","session":{}}"#).is_none());
    let create = ask(r#"{"type":"response.create","model":"gpt-5","input":"hello","max_output_tokens":7}"#).expect("a response");
    assert_eq!((create.facts.model.as_deref(), create.facts.max_output), (Some("gpt-5"), Some(7)));
    let message = format!(r#"{{"type":"response.create","input":"{}","model":"gpt-5"}}"#, "x".repeat(100_000));
    let large = ask(&message).expect("a response");
    assert_eq!((large.facts.model.as_deref(), large.facts.estimated_input), (Some("gpt-5"), (message.len() as u64).div_ceil(4)));
    let last =
        ask(r#"{"event_id":"e1","input":[{"type":"message","content":"\"type\":\"x\""}],"type":"response.create"}"#).expect("a response");
    assert_eq!(last.event_id.as_deref(), Some("e1"));
    assert!(ask(r#"{"item":{"type":"response.create"},"type":"conversation.item.create"}"#).is_none());
    let mut asked = FromApp::new(Session::Realtime);
    for _ in 0..2 {
        asked.feed(Part::Text(format!(r#"{{"type":"input_audio_buffer.append","audio":"{}"}}"#, "A".repeat(64_000)).as_bytes()));
        asked.feed(Part::End);
    }
    asked.feed(Part::Text(br#"{"type":"response.create"}"#));
    let create = asked.feed(Part::End).expect("a response");
    assert!((20..40).contains(&create.facts.estimated_input), "{create:?}");
    // The next response reads what the model has said.
    asked.answered(500);
    asked.feed(Part::Text(br#"{"type":"response.create"}"#));
    let next = asked.feed(Part::End).expect("a response");
    assert!((520..560).contains(&next.facts.estimated_input), "{next:?}");
}

#[test]
fn the_last_words_are_an_event() {
    let said: serde_json::Value = serde_json::from_str(&last_words(&Reject::Unmetered("this".into()), "id")).expect("JSON");
    assert_eq!((&said["type"], &said["error"]["code"], &said["status"]), (&"error".into(), &"unmetered".into(), &403.into()));
}
