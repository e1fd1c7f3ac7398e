//! Sound under a limit in dollars: what an answer says is charged to the nano-dollar, and a call whose answer says nothing does not pass.

use http::{StatusCode, request::Builder};
use serde_json::{Value, json};

use crate::world::{Answer, Reply, World, json as post, run, settle};

const AUDIO: &str = "/scripted/v1/audio";

fn yaml(limit: &str) -> String {
    format!(
        "
outbound:
  providers: {{scripted: {{api: openai, url: 'http://s.test'}}}}
  prices: [{{model: house, input: 0, output: 0}}]
  limits: [{{name: budget, window: 1h, {limit}}}]
"
    )
}

/// A form with these fields and a file of `bytes` bytes.
fn form(path: &str, fields: &[(&str, &str)], bytes: usize) -> (Builder, String) {
    let part = |head: &str, value: &str| format!("--xyz\r\nContent-Disposition: form-data; {head}\r\n\r\n{value}\r\n");
    let fields: String = fields.iter().map(|(name, value)| part(&format!("name=\"{name}\""), value)).collect();
    let file = part("name=\"file\"; filename=\"a.mp3\"", &"s".repeat(bytes));
    let request = post(&format!("{AUDIO}/{path}"));
    let mut request = request;
    request.headers_mut().expect("a request").insert("content-type", "multipart/form-data; boundary=xyz".parse().expect("a value"));
    (request, format!("{fields}{file}--xyz--\r\n"))
}

async fn ask(world: &World, (request, body): (Builder, String), reply: Reply) -> Answer {
    world.app.always(reply);
    let answer = world.caller().ask(request, body).await;
    settle().await;
    answer
}

fn said(body: &Value) -> Reply {
    Reply::ok("").bytes(body.to_string().into_bytes()).header("content-type", "application/json")
}

fn spent(world: &World) -> u64 {
    world.shared.spend.by_caller().iter().map(|(_, spent)| spent.nano_usd).sum()
}

#[test]
fn what_an_answer_about_sound_says_is_charged() {
    run(async {
        let seconds = json!({"text": "hi", "usage": {"type": "duration", "seconds": 90}});
        let tokens = json!({"type": "tokens", "input_tokens": 14, "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
            "output_tokens": 101, "total_tokens": 115});
        let tokens = json!({"text": "hi", "usage": tokens});
        let length = json!({"task": "translate", "language": "german", "duration": 89.6, "text": "hi", "segments": []});
        let (verbose, whisper) = (("response_format", "verbose_json"), ("model", "whisper-1"));
        // Another field whose text looks like the model's field.
        let forged = "x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n";
        for (what, call, answer, cost) in [
            ("seconds", form("transcriptions", &[whisper], 10), &seconds, 9_000_000),
            ("tokens", form("transcriptions", &[("model", "gpt-4o-transcribe")], 10), &tokens, 14 * 6_000 + 101 * 10_000),
            (
                "forged",
                form("transcriptions", &[("prompt", forged), ("model", "gpt-4o-transcribe")], 10),
                &tokens,
                14 * 6_000 + 101 * 10_000,
            ),
            ("length", form("transcriptions", &[whisper, verbose], 10), &length, 9_000_000),
            ("translation", form("translations", &[whisper, verbose], 10), &length, 9_000_000),
        ] {
            let world = World::new(&yaml("usd: 3")).await;
            let answer = ask(&world, call, said(answer)).await;
            assert_eq!((answer.status, spent(&world)), (StatusCode::OK, cost), "{what}: {}", answer.text());
        }
        let events = "data: {\"type\":\"speech.audio.delta\",\"audio\":\"AAAA\"}\n\ndata: {\"type\":\"speech.audio.done\",\"usage\":\
            {\"input_tokens\":14,\"output_tokens\":101,\"total_tokens\":115}}\n\n";
        let world = World::new(&yaml("usd: 3")).await;
        let body = json!({"model": "gpt-4o-mini-tts", "voice": "coral", "input": "say something", "stream_format": "sse"}).to_string();
        let reply = Reply::ok(events).header("content-type", "text/event-stream");
        let answer = ask(&world, (post(&format!("{AUDIO}/speech")), body), reply).await;
        assert_eq!((answer.status, spent(&world)), (StatusCode::OK, 14 * 600 + 101 * 12_000), "speech: {}", answer.text());
    });
}

#[test]
fn an_answer_that_says_nothing_of_its_cost_does_not_pass_a_limit() {
    run(async {
        let speech = |model: &str| (post(&format!("{AUDIO}/speech")), json!({"model": model, "input": "hi", "voice": "coral"}).to_string());
        let text = |path: &str, model: &str, format: &str| form(path, &[("response_format", format), ("model", model)], 10);
        for (limit, passes) in [("usd: 3", false), ("tokens: 9000k", false), ("usd: 3, unmetered: allow", true), ("requests: 9", true)] {
            let world = World::new(&yaml(limit)).await;
            for (what, call, remedy) in [
                ("speech", speech("gpt-4o-mini-tts"), "stream_format: sse"),
                ("text", text("transcriptions", "whisper-1", "text"), "response_format: json"),
                ("srt", text("transcriptions", "whisper-1", "srt"), "response_format: json"),
                ("vtt", text("transcriptions", "gpt-4o-transcribe", "vtt"), "response_format: json"),
                ("translation", text("translations", "whisper-1", "json"), "response_format: verbose_json"),
            ] {
                let answer = ask(&world, call, Reply::ok("sound")).await;
                assert_eq!(answer.status.as_u16(), if passes { 200 } else { 403 }, "{limit} {what}: {}", answer.text());
                assert!(passes || answer.text().contains(remedy) && answer.text().contains("unmetered: allow"), "{}", answer.text());
            }
            assert_eq!(spent(&world) > 0, limit.contains("allow"), "{limit}: what is read and passes is charged as estimated");
        }
        let world = World::new(&yaml("usd: 3")).await;
        assert_eq!(ask(&world, text("transcriptions", "house", "srt"), Reply::ok("1")).await.status, StatusCode::OK, "it costs nothing");
    });
}

#[test]
fn the_time_of_a_file_is_reserved() {
    run(async {
        let world = World::new(&yaml("usd: 0.05")).await;
        let answer = json!({"text": "hi", "usage": {"type": "duration", "seconds": 10}});
        let call = |bytes| form("transcriptions", &[("model", "whisper-1")], bytes);
        assert_eq!(ask(&world, call(4_000_000), said(&answer)).await.status, StatusCode::TOO_MANY_REQUESTS, "1,000 seconds: 0.10 dollars");
        assert_eq!(ask(&world, call(400_000), said(&answer)).await.status, StatusCode::OK);
        assert_eq!(spent(&world), 1_000_000);
        // An answer without figures is charged as reserved.
        assert_eq!(ask(&world, call(400_000), said(&json!({"text": "hi"}))).await.status, StatusCode::OK);
        assert_eq!(spent(&world), 11_000_000);
    });
}
