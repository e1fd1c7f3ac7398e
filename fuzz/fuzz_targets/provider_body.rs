//! Bodies of providers, whole and streamed, of every API: what is observed does not depend on how they are cut; splices change
//! what they say they change; canonical JSON is canonical.
#![no_main]

mod cut;

use bytes::Bytes;
use http::{StatusCode, header};
use libfuzzer_sys::fuzz_target;
use outrigger::{
    config::{Api, Operation},
    http1::Fields,
    provider::{Meter, Observed, canonical, classify, read, with_include_usage, with_model},
};

const CALLS: [(Api, Operation); 9] = [
    (Api::OpenAi, Operation::Chat),
    (Api::OpenAi, Operation::Completions),
    (Api::OpenAi, Operation::Responses),
    (Api::OpenAi, Operation::Embeddings),
    (Api::OpenAi, Operation::Images),
    (Api::Anthropic, Operation::Messages),
    (Api::Gemini, Operation::Chat),
    (Api::Bedrock, Operation::Chat),
    (Api::Plain, Operation::Other),
];
const TYPES: [&str; 3] = ["application/json", "text/event-stream", "application/vnd.amazon.eventstream"];

fn observe(call: (Api, Operation), headers: &Fields, pieces: &[&[u8]]) -> (Observed, bool) {
    let mut meter = Meter::new(call.0, call.1, headers);
    for piece in pieces {
        meter.feed(piece);
    }
    let mid = meter.mid_event();
    (meter.finish(true, 7), mid)
}

fuzz_target!(|input: &[u8]| {
    let Some((body, pieces)) = cut::cut(input) else { return };
    for call in CALLS {
        for content_type in TYPES {
            for coding in ["", "gzip"] {
                let mut headers = Fields::new();
                headers.insert(header::CONTENT_TYPE, content_type);
                if !coding.is_empty() {
                    headers.insert(header::CONTENT_ENCODING, coding);
                }
                let whole = observe(call, &headers, &[body]);
                assert_eq!(observe(call, &headers, &pieces), whole, "{call:?} {content_type} {coding}");
            }
        }
        let _ = classify(call.0, StatusCode::TOO_MANY_REQUESTS, &Fields::new(), body);
        let Ok(facts) = read(call.0, call.1, body) else { continue };
        let bytes = Bytes::copy_from_slice(body);
        if let Some(other) = with_model(&bytes, "other-model") {
            let after = read(call.0, call.1, &other).expect("still a body");
            assert_eq!(after.model.as_deref(), Some("other-model"), "{call:?}");
            assert_eq!(
                (after.stream, after.max_output, after.n, after.has_tools),
                (facts.stream, facts.max_output, facts.n, facts.has_tools)
            );
        }
        if call.0 == Api::OpenAi
            && let Some(asking) = with_include_usage(&bytes)
        {
            let after = read(call.0, call.1, &asking).expect("still a body");
            assert!(after.include_usage && after.model == facts.model && after.stream == facts.stream, "{call:?}");
        }
    }
    if let Some(first) = canonical(body) {
        assert_eq!(canonical(&first).as_ref(), Some(&first), "canonical JSON is its own canonical form");
    }
});
