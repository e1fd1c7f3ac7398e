//! Tests of headers, decisions and spans.

use std::time::{Duration, UNIX_EPOCH};

use http::{Method, Version};
use opentelemetry::{
    Value,
    trace::{SpanKind, Status},
};
use opentelemetry_sdk::trace::SpanData;
use proptest::prelude::*;

use super::*;
use crate::{http1::Fields, usage::Usage};

const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn attribute<'a>(span: &'a SpanData, key: &str) -> Option<&'a Value> {
    span.attributes.iter().find(|kv| kv.key.as_str() == key).map(|kv| &kv.value)
}

fn headers(parents: &[&str], states: &[&str]) -> Fields {
    let mut headers = Fields::new();
    for (name, values) in [("traceparent", parents), ("tracestate", states)] {
        for value in values {
            headers.append(name, value);
        }
    }
    headers
}

fn state(lines: &[&str]) -> Option<String> {
    TraceContext::from_headers(&headers(&[VALID], lines)).expect("valid").state.map(|state| state.to_string())
}

#[test]
fn a_traceparent_is_read_strictly() {
    let context = TraceContext::parse(VALID.as_bytes()).expect("valid");
    assert_eq!((context.trace_id.to_string().as_str(), context.sampled, context.random), ("0af7651916cd43dd8448eb211c80319c", true, false));
    for (value, valid) in [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", true),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03", true),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff", true),
        ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true),
        ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what", true),
        ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01what", false),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what", false),
        ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
        ("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", false),
        ("00-00000000000000000000000000000000-b7ad6b7169203331-01", false),
        ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0", false),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0x", false),
        ("0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
        ("00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01", false),
        ("", false),
    ] {
        assert_eq!(TraceContext::parse(value.as_bytes()).is_some(), valid, "{value}");
    }
    assert!(TraceContext::from_headers(&headers(&[VALID, VALID], &[])).is_none(), "two of them say nothing");
}

#[test]
fn a_tracestate_is_joined_in_one_line_or_left_out() {
    for (lines, expected) in [
        (&["a=1,b=2"] as &[&str], Some("a=1,b=2")),
        (&["a=1", "b=2"], Some("a=1,b=2")),
        (&[" a=1 ,\t, b= 2"], Some("a=1,b= 2")),
        (&["fw529a3039@dt=x/y:z", "0k=v"], Some("fw529a3039@dt=x/y:z,0k=v")),
        (&[""], None),
        (&["a=1,a=2"], None),
        (&["A=1"], None),
        (&["a=b=c"], None),
        (&["a"], None),
        (&["a=1,=2"], None),
        (&["a ="], None),
    ] {
        assert_eq!(state(lines).as_deref(), expected, "{lines:?}");
    }
    let members = |n: usize| (0..n).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
    assert!(state(&[&members(32)]).is_some() && state(&[&members(33)]).is_none());
    let long: Vec<String> = (0..8).map(|n| format!("k{n}={}", "v".repeat(200))).collect();
    let kept = state(&[&long.join(",")]).expect("some");
    assert_eq!(kept, long[..5].join(","), "whole members, the newest");
}

proptest! {
    #[test]
    fn reading_never_panics_and_what_is_read_is_written_again(bytes in proptest::collection::vec(any::<u8>(), 0..80), flip in 0_usize..55, to in any::<u8>()) {
        let _ = TraceContext::parse(&bytes);
        let mut near = VALID.as_bytes().to_vec();
        near[flip] = to;
        if let Some(context) = TraceContext::parse(&near) {
            let again = TraceContext::parse(&context.traceparent()).expect("our own is valid");
            prop_assert_eq!(&again, &context);
            if near.starts_with(b"00") && near[53] == b'0' && near[54] < b'4' {
                prop_assert_eq!(&context.traceparent()[..], &near[..]);
            }
        }
    }

    #[test]
    fn every_context_survives_the_wire(trace in 1_u128.., span in 1_u64.., sampled: bool, random: bool, state in "([a-z][a-z0-9_*/@-]{0,20}=[!-+--<>-~]{1,20})?") {
        let context = TraceContext {
            trace_id: TraceId::from(trace),
            span_id: SpanId::from(span),
            sampled,
            random,
            state: (!state.is_empty()).then(|| state.into()),
        };
        let mut headers = headers(&[VALID], &["old=1"]);
        context.write(&mut headers);
        prop_assert_eq!(TraceContext::from_headers(&headers), Some(context));
    }

    #[test]
    fn a_sampler_keeps_about_its_share(ratio in 0.0_f64..=1.0, seed: u64) {
        let (sampler, chance) = (Sampler::new(ratio), Chance::seeded(seed));
        let sampled = (0..4000).filter(|_| Trace::begin(None, sampler, &chance).context.sampled).count();
        prop_assert!((sampled as f64 / 4000.0 - ratio).abs() < 0.06, "{sampled}");
    }
}

#[test]
fn an_incoming_decision_is_kept_and_a_new_one_follows_the_ratio() {
    let chance = Chance::seeded(1);
    let incoming = TraceContext::parse(VALID.as_bytes()).expect("valid");
    let trace = Trace::begin(Some(incoming.clone()), Sampler::new(0.0), &chance);
    assert!(trace.context.sampled);
    assert_eq!((trace.context.trace_id, trace.parent), (incoming.trace_id, Some(incoming.span_id)));
    assert_ne!(trace.context.span_id, incoming.span_id);
    let unsampled = TraceContext { sampled: false, ..incoming };
    assert!(!Trace::begin(Some(unsampled), Sampler::new(1.0), &chance).context.sampled);
    assert!(Trace::begin(None, Sampler::new(1.0), &chance).context.sampled);
    assert!(!Trace::begin(None, Sampler::new(0.0), &chance).context.sampled);
}

#[test]
fn a_try_is_a_child_under_the_id_that_went_out() {
    let chance = Chance::seeded(2);
    let trace = Trace::begin(TraceContext::parse(VALID.as_bytes()), Sampler::new(1.0), &chance);
    let child = trace.child(&chance);
    let start = ClientStart { method: &Method::POST, scheme: "https", host: "::1", port: 8443, path: "/v1/chat/completions", resend: 2 };
    let at = UNIX_EPOCH + Duration::from_secs(5);
    let mut span = Span::client(&child, trace.context.span_id, &start, at).expect("sampled");
    span.model_call(&GenAi {
        operation: "chat",
        flavor: "openai",
        request_model: "gpt-4o",
        response_model: "gpt-4o-2024-08-06",
        stream: true,
        response_id: "",
    });
    span.usage(&Usage { input: 10, cache_read: 5, cache_write: 1, output: 7, ..Usage::default() });
    span.status(429);
    span.error("again");
    let data = span.end(UNIX_EPOCH);
    assert_eq!(data.end_time, at, "never before the beginning");
    assert_eq!((data.span_context.span_id(), data.parent_span_id), (child.span_id, trace.context.span_id));
    assert_eq!((data.span_kind.clone(), data.name.as_ref()), (SpanKind::Client, "chat gpt-4o"));
    assert!(matches!(data.status, Status::Error { .. }));
    for (key, value) in [
        ("url.full", Value::from("https://[::1]:8443/v1/chat/completions")),
        ("http.request.resend_count", 2.into()),
        ("error.type", "429".into()),
        ("gen_ai.operation.name", "chat".into()),
        ("gen_ai.provider.name", "openai".into()),
        ("gen_ai.request.model", "gpt-4o".into()),
        ("gen_ai.response.model", "gpt-4o-2024-08-06".into()),
        ("gen_ai.usage.input_tokens", 16.into()),
        ("gen_ai.usage.output_tokens", 7.into()),
        ("gen_ai.usage.cache_read.input_tokens", 5.into()),
    ] {
        assert_eq!(attribute(&data, key), Some(&value), "{key}");
    }
}

#[test]
fn a_server_span_names_its_route_and_is_no_error_for_the_clients_mistake() {
    let chance = Chance::seeded(3);
    let method = Method::from_bytes(b"BREW").expect("token");
    let start = ServerStart {
        method: &method,
        tls: true,
        version: Version::HTTP_2,
        host: "shop.example",
        port: 8080,
        path: "/pot",
        client: "10.0.0.1".parse().expect("address"),
        user_agent: Some("x/1"),
    };
    let trace = Trace::begin(None, Sampler::new(1.0), &chance);
    let mut span = Span::server(&trace, &start, UNIX_EPOCH).expect("sampled");
    span.route("inbound", "pots");
    span.status(418);
    let data = span.end(UNIX_EPOCH + Duration::from_secs(1));
    assert_eq!((data.name.as_ref(), &data.status, data.parent_span_id), ("HTTP pots", &Status::Unset, SpanId::INVALID));
    assert_eq!(attribute(&data, "http.request.method"), Some(&"_OTHER".into()));
    assert_eq!(attribute(&data, "http.response.status_code"), Some(&418.into()));
    let unsampled = Trace::begin(None, Sampler::new(0.0), &chance);
    assert!(Span::server(&unsampled, &start, UNIX_EPOCH).is_none());
}
