//! Spans with ids of our own, under the names of the OpenTelemetry semantic conventions (HTTP v1.41; GenAI v1.41.1).
//!
//! The names are constants of ours: the conventions crate has deprecated its GenAI ones. Spans exist for sampled traces alone.
//! Query strings are not recorded: they may hold credentials.

use std::{borrow::Cow, net::IpAddr, str::FromStr, time::SystemTime};

use http::{Method, Version};
use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId, TraceFlags, Value,
    trace::{SpanContext, SpanKind, Status, TraceState},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::{Trace, TraceContext};
use crate::{telemetry::metrics::VERSION, usage::Usage};

/// A span that has begun. The tracer gets it at its end.
#[derive(Debug)]
pub struct Span(Box<SpanData>);

/// The facts known at the beginning of an exchange.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct ServerStart<'a> {
    pub method: &'a Method,
    /// Whether the client spoke TLS to us.
    pub tls: bool,
    pub version: Version,
    /// The host the client meant, without port.
    pub host: &'a str,
    /// Port of the listener.
    pub port: u16,
    /// As sent, without query.
    pub path: &'a str,
    pub client: IpAddr,
    pub user_agent: Option<&'a str>,
}

/// The facts known at the beginning of a try.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct ClientStart<'a> {
    pub method: &'a Method,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Host of the target.
    pub host: &'a str,
    pub port: u16,
    /// As sent to the target, without query.
    pub path: &'a str,
    /// 0 for the first try.
    pub resend: u32,
}

/// The facts of a model call.
#[derive(Debug, Clone, Copy)]
pub struct GenAi<'a> {
    /// `gen_ai.operation.name`: `chat`, `text_completion`, `embeddings`, `generate_content`.
    pub operation: &'a str,
    /// `gen_ai.provider.name`, by wire format: `openai`, `anthropic`, `gcp.gemini`, `aws.bedrock`.
    pub flavor: &'a str,
    /// As asked for; empty if unknown.
    pub request_model: &'a str,
    /// As answered; empty if unknown.
    pub response_model: &'a str,
    /// Whether the answer streams.
    pub stream: bool,
    /// Id of the answer; empty if unknown.
    pub response_id: &'a str,
}

impl Span {
    /// The exchange's span; `None` where the trace is not sampled.
    pub fn server(trace: &Trace, start: &ServerStart<'_>, at: SystemTime) -> Option<Self> {
        let mut span = Self::new(&trace.context, trace.parent, true, SpanKind::Server, at)?;
        span.method(start.method);
        span.set("url.scheme", if start.tls { "https" } else { "http" });
        span.set("url.path", start.path.to_owned());
        span.set("server.address", start.host.to_owned());
        span.set("server.port", i64::from(start.port));
        span.set("client.address", start.client.to_string());
        span.set("network.protocol.version", version(start.version));
        if let Some(agent) = start.user_agent {
            span.set("user_agent.original", agent.to_owned());
        }
        Some(span)
    }

    /// One try's span, under the id that went out in its `traceparent`; `None` where the trace is not sampled.
    pub fn client(context: &TraceContext, parent: SpanId, start: &ClientStart<'_>, at: SystemTime) -> Option<Self> {
        let mut span = Self::new(context, Some(parent), false, SpanKind::Client, at)?;
        span.method(start.method);
        let host = if start.host.contains(':') { Cow::from(format!("[{}]", start.host)) } else { start.host.into() };
        let url = match (start.scheme, start.port) {
            ("http", 80) | ("https", 443) => format!("{}://{host}{}", start.scheme, start.path),
            (scheme, port) => format!("{scheme}://{host}:{port}{}", start.path),
        };
        span.set("url.full", url);
        span.set("server.address", start.host.to_owned());
        span.set("server.port", i64::from(start.port));
        if start.resend > 0 {
            span.set("http.request.resend_count", i64::from(start.resend));
        }
        Some(span)
    }

    /// An attribute.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        self.0.attributes.push(KeyValue::new(key, value));
    }

    /// The route that was matched; part of a server span's name.
    pub fn route(&mut self, door: &str, route: &str) {
        let method = self.0.name.split(' ').next().unwrap_or_default().to_owned();
        self.0.name = format!("{method} {route}").into();
        self.set("outrigger.door", door.to_owned());
        self.set("outrigger.route", route.to_owned());
    }

    /// The status of the answer. For a client span 400 and above are errors, for a server span 500 and above (HTTP conventions, "Status").
    pub fn status(&mut self, code: u16) {
        self.set("http.response.status_code", i64::from(code));
        let from = if self.0.span_kind == SpanKind::Server { 500 } else { 400 };
        if code >= from {
            self.error(&code.to_string());
        }
    }

    /// The span failed; `kind` is a status code or one low-cardinality word. The first kind stays.
    pub fn error(&mut self, kind: &str) {
        if self.0.status == Status::Unset {
            self.set("error.type", kind.to_owned());
            self.0.status = Status::Error { description: Cow::Borrowed("") };
        }
    }

    /// Makes it a model call's span: name and attributes of the GenAI conventions.
    pub fn model_call(&mut self, call: &GenAi<'_>) {
        self.0.name = match call.request_model {
            "" => call.operation.to_owned().into(),
            model => format!("{} {model}", call.operation).into(),
        };
        self.set("gen_ai.operation.name", call.operation.to_owned());
        self.set("gen_ai.provider.name", call.flavor.to_owned());
        for (key, value) in [
            ("gen_ai.request.model", call.request_model),
            ("gen_ai.response.model", call.response_model),
            ("gen_ai.response.id", call.response_id),
        ] {
            if !value.is_empty() {
                self.set(key, value.to_owned());
            }
        }
        if call.stream {
            self.set("gen_ai.request.stream", true);
        }
    }

    /// The tokens of the model call; input includes tokens read from and written to the provider's cache.
    pub fn usage(&mut self, usage: &Usage) {
        self.set("gen_ai.usage.input_tokens", count(usage.total_input()));
        self.set("gen_ai.usage.output_tokens", count(usage.total_output()));
        let rare = [
            (
                "gen_ai.usage.cache_read.input_tokens",
                usage.cache_read.saturating_add(usage.audio_cache_read).saturating_add(usage.image_cache_read),
            ),
            ("gen_ai.usage.cache_creation.input_tokens", usage.cache_write.saturating_add(usage.cache_write_1h)),
            ("gen_ai.usage.reasoning.output_tokens", usage.reasoning),
        ];
        for (key, tokens) in rare.into_iter().filter(|(_, tokens)| *tokens > 0) {
            self.set(key, count(tokens));
        }
    }

    /// The cost of the model call. No convention has a name for it.
    pub fn cost(&mut self, nano_usd: u64) {
        self.set("outrigger.cost_usd", nano_usd as f64 / 1e9);
    }

    /// Ends at `at`, which is never before the beginning.
    pub(in crate::telemetry) fn end(mut self, at: SystemTime) -> SpanData {
        self.0.end_time = at.max(self.0.start_time);
        *self.0
    }

    fn new(context: &TraceContext, parent: Option<SpanId>, remote: bool, kind: SpanKind, at: SystemTime) -> Option<Self> {
        if !context.sampled {
            return None;
        }
        let flags = TraceFlags::new(1 | u8::from(context.random) << 1);
        let state = context.state.as_deref().and_then(|state| TraceState::from_str(state).ok()).unwrap_or_default();
        Some(Self(Box::new(SpanData {
            span_context: SpanContext::new(context.trace_id, context.span_id, flags, false, state),
            parent_span_id: parent.unwrap_or(SpanId::INVALID),
            parent_span_is_remote: remote && parent.is_some(),
            span_kind: kind,
            name: Cow::Borrowed(""),
            start_time: at,
            end_time: at,
            attributes: Vec::with_capacity(16),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::builder("outrigger").with_version(VERSION).build(),
        })))
    }

    /// The name of an HTTP span begins with the method; an unknown method is `_OTHER`: it comes from a client.
    fn method(&mut self, method: &Method) {
        const KNOWN: [Method; 9] = [
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::HEAD,
            Method::OPTIONS,
            Method::PATCH,
            Method::CONNECT,
            Method::TRACE,
        ];
        if let Some(known) = KNOWN.iter().find(|known| *known == method) {
            self.0.name = known.as_str().to_owned().into();
            self.set("http.request.method", known.as_str().to_owned());
        } else {
            self.0.name = Cow::Borrowed("HTTP");
            self.set("http.request.method", "_OTHER");
            self.set("http.request.method_original", method.as_str().to_owned());
        }
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

fn count(tokens: u64) -> i64 {
    i64::try_from(tokens).unwrap_or(i64::MAX)
}
