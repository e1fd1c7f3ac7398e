//! Model calls that no caller is known for: skipped by limits per caller, counted together, or refused.

use http::{Request, StatusCode};

use crate::world::{World, chat, json as post, run};

const CHAT: &str = "/openai/v1/chat/completions";

fn yaml(word: &str) -> String {
    format!(
        "
outbound:
  providers: {{openai: {{url: 'http://o.test'}}}}
  limits: [{{name: each, key: caller, requests: 2, window: 1h}}]
  {word}
"
    )
}

#[test]
fn they_are_skipped_or_share_a_counter_or_are_refused() {
    run(async {
        for (word, statuses) in [
            ("", [200, 200, 200]),
            ("unattributed: skip", [200, 200, 200]),
            ("unattributed: shared", [200, 200, 429]),
            ("unattributed: refuse", [403, 403, 403]),
        ] {
            let world = World::new(&yaml(word)).await;
            for status in statuses {
                let answer = world.caller().ask(post(CHAT), chat("gpt-4o").to_string()).await;
                assert_eq!(answer.status.as_u16(), status, "{word}: {}", answer.text());
                assert!(status != 403 || answer.text().contains("unattributed: refuse"), "{}", answer.text());
            }
            for status in [200, 200, 429] {
                let named = post(CHAT).header("outrigger-caller", "ann");
                let answer = world.caller().ask(named, chat("gpt-4o").to_string()).await;
                assert_eq!(answer.status.as_u16(), status, "{word}: ann has a counter of her own: {}", answer.text());
            }
            let models = world.caller().ask(Request::get("/openai/v1/models").header("host", "localhost"), "").await;
            assert_ne!(models.status, StatusCode::FORBIDDEN, "{word}: it costs nothing");
        }
    });
}
