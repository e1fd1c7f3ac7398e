//! Tests against an in-process collector over real sockets: the collector must decode exactly the numbers and spans recorded.

mod lines;

use std::{
    convert::Infallible,
    io::{self, Read},
    net::SocketAddr,
    sync::atomic::AtomicU16,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::{metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{KeyValue as Pair, any_value},
    metrics::v1::{Metric, exemplar, metric::Data, number_data_point},
};
use parking_lot::Mutex;
use prost::Message;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};

use super::*;
use crate::{
    arrival::Door,
    clock::{Chance, Clock},
    config::LogFormat,
    resolve::Lookup,
    telemetry::{
        metrics::{CacheOutcome, Finished, ModelCall},
        trace::{ClientStart, GenAi, Sampler, ServerStart, Span, Trace, TraceContext},
    },
    usage::{Usage, UsageSource},
};

/// Requests received: path, headers, decoded body.
type Seen = Arc<Mutex<Vec<(String, http::HeaderMap, Vec<u8>)>>>;

#[derive(Clone, Default)]
struct Collector {
    seen: Seen,
    connections: Arc<AtomicU16>,
    /// The status answered instead of 200; 0: 200.
    status: Arc<AtomicU16>,
}

impl Collector {
    async fn start(&self, tls: Option<tokio_rustls::TlsAcceptor>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let port = listener.local_addr().expect("address").port();
        let collector = self.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                collector.connections.fetch_add(1, Ordering::Relaxed);
                match &tls {
                    None => drop(tokio::spawn(collector.clone().serve(tcp))),
                    Some(tls) => {
                        if let Ok(io) = tls.accept(tcp).await {
                            tokio::spawn(collector.clone().serve(io));
                        }
                    }
                }
            }
        });
        port
    }

    async fn serve(self, io: impl AsyncRead + AsyncWrite + Unpin + 'static) {
        let answer = service_fn(|request: Request<Incoming>| {
            let collector = self.clone();
            async move { Ok::<_, Infallible>(collector.answer(request).await) }
        });
        let _ = http1::Builder::new().serve_connection(TokioIo::new(io), answer).await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let mut decoded = Vec::new();
        assert_eq!(parts.headers["content-encoding"], "gzip");
        GzDecoder::new(&body[..]).read_to_end(&mut decoded).expect("gzip");
        let mut response = Response::new(Full::default());
        match self.status.load(Ordering::Relaxed) {
            0 => self.seen.lock().push((parts.uri.path().to_owned(), parts.headers, decoded)),
            status => *response.status_mut() = StatusCode::from_u16(status).expect("status"),
        }
        response
    }

    fn bodies(&self, path: &str) -> Vec<Vec<u8>> {
        self.seen.lock().iter().filter(|(at, _, _)| at == path).map(|(_, _, body)| body.clone()).collect()
    }

    fn metric(&self, base: &str, name: &str) -> Metric {
        let bodies = self.bodies(&format!("{base}/v1/metrics"));
        let request = ExportMetricsServiceRequest::decode(&bodies.last().expect("exported")[..]).expect("decodes");
        let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
        metrics.iter().find(|metric| metric.name == name).unwrap_or_else(|| panic!("{name} in {metrics:?}")).clone()
    }
}

fn config(endpoint: String) -> config::Telemetry {
    config::Telemetry {
        log: LogFormat::Off,
        otlp: Some(endpoint),
        otlp_logs: config::SentLogs::Off,
        otlp_headers: vec![(HeaderName::from_static("x-tenant"), HeaderValue::from_static("blue"))],
        sample: 1.0,
        service: "shop-sidecar".into(),
        otlp_interval: Duration::from_secs(3600),
        errors: config::FailureBounds { keep: 0, bytes: 0 },
    }
}

fn text(pairs: &[Pair], key: &str) -> String {
    let value = pairs.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.clone()).and_then(|value| value.value);
    match value {
        Some(any_value::Value::StringValue(text)) => text,
        other => format!("{other:?}"),
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn exports(metrics: &Metrics, signal: &str, outcome: &str) -> u64 {
    metrics.shared().counter(Family::OtlpExports, &[signal, outcome]).get()
}

fn client_start(method: &Method) -> ClientStart<'_> {
    ClientStart { method, scheme: "https", host: "api.openai.com", port: 443, path: "/v1/chat/completions", resend: 0 }
}

#[tokio::test]
async fn a_trace_of_both_doors_and_the_metrics_arrive() {
    let collector = Collector::default();
    let port = collector.start(None).await;
    let metrics = Metrics::new(Clock::system());
    let config = config(format!("http://127.0.0.1:{port}/base/"));
    let otlp =
        Otlp::start(&config, config.otlp.as_deref().expect("set"), &metrics, &Handle::current(), &Resolver::default()).expect("starts");

    let chance = Chance::seeded(5);
    let at = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let inbound = Trace::begin(None, Sampler::new(1.0), &chance);
    let start = ServerStart {
        method: &Method::POST,
        tls: false,
        version: Version::HTTP_11,
        host: "shop",
        port: 8080,
        path: "/chat",
        client: "10.1.2.3".parse().expect("address"),
        user_agent: None,
    };
    let mut server = Span::server(&inbound, &start, at).expect("sampled");
    server.route("inbound", "chat");
    // the app passes our header on; the outbound door continues from it
    let passed = TraceContext::parse(&inbound.child(&chance).traceparent());
    let outbound = Trace::begin(passed.clone(), Sampler::new(0.0), &chance);
    let sent = outbound.child(&chance);
    let mut call = Span::client(&sent, outbound.context.span_id, &client_start(&Method::POST), at).expect("sampled");
    call.model_call(&GenAi { operation: "chat", flavor: "openai", request_model: "m", response_model: "", stream: false, response_id: "" });
    otlp.tracer.end(call, at + Duration::from_millis(900));
    otlp.tracer.end(Span::server(&outbound, &start, at).expect("sampled"), at + Duration::from_secs(1));
    otlp.tracer.end(server, at + Duration::from_secs(2));

    let worker = metrics.worker();
    worker.request_cells(Door::Inbound, "chat").finish(&Finished {
        code: 200,
        cache: CacheOutcome::None,
        total: Duration::from_secs(2),
        own: None,
        reject: None,
        broken: false,
        at: Instant::now(),
        span: inbound.within(|| at),
    });
    worker.model_call(&ModelCall {
        route: "r",
        provider: "house",
        flavor: "openai",
        operation: "chat",
        model: "m",
        usage: Usage { input: 100, output: 20, ..Usage::default() },
        source: UsageSource::Provider,
        cost: Some(2_500_000_000),
        duration: Duration::from_millis(900),
        first_token: None,
        error: None,
        unattributed: false,
        span: None,
    });
    metrics.register(Family::BreakerState, Box::new(|| vec![(vec!["house".into()], 2.0)]));
    assert!(otlp.shutdown(soon()).await);

    let traces = collector.bodies("/base/v1/traces");
    let traces = ExportTraceServiceRequest::decode(&traces.concat()[..]).expect("decodes");
    let resource = traces.resource_spans[0].resource.as_ref().expect("resource");
    assert_eq!(text(&resource.attributes, "service.name"), "shop-sidecar");
    let spans = &traces.resource_spans[0].scope_spans[0].spans;
    assert_eq!(spans.len(), 3);
    assert!(spans.iter().all(|span| span.trace_id == inbound.context.trace_id.to_bytes()), "one trace");
    let call = spans.iter().find(|span| span.name == "chat m").expect("the model call");
    assert_eq!(call.span_id, sent.span_id.to_bytes(), "the id that went out in traceparent");
    assert_eq!(call.parent_span_id, outbound.context.span_id.to_bytes());
    assert_eq!((call.kind, call.end_time_unix_nano - call.start_time_unix_nano), (3, 900_000_000));
    assert_eq!(text(&call.attributes, "gen_ai.provider.name"), "openai");
    let from_app = spans.iter().find(|span| span.span_id == outbound.context.span_id.to_bytes()).expect("the outbound exchange");
    assert_eq!(from_app.parent_span_id, passed.expect("valid").span_id.to_bytes());
    assert!(spans.iter().any(|span| span.name == "POST chat" && span.parent_span_id.is_empty()));

    let Some(Data::Histogram(duration)) = collector.metric("/base", "outrigger.request_duration").data else { panic!("a histogram") };
    let point = &duration.data_points[0];
    assert_eq!((point.count, point.sum, text(&point.attributes, "route").as_str()), (1, Some(2.0), "chat"));
    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
    assert_eq!(point.exemplars.len(), 1, "the trace of the one request");
    let exemplar = &point.exemplars[0];
    assert_eq!((&exemplar.trace_id[..], &exemplar.span_id[..]), (&spans[0].trace_id[..], &inbound.context.span_id.to_bytes()[..]));
    assert_eq!((exemplar.value, exemplar.time_unix_nano), (Some(exemplar::Value::AsDouble(2.0)), 1_700_000_000_000_000_000));
    let bucket = point.bucket_counts.iter().position(|count| *count == 1).expect("one");
    assert!(point.explicit_bounds[bucket - 1] < 2.0 && 2.0 <= point.explicit_bounds[bucket]);
    assert!(point.start_time_unix_nano > 0 && point.start_time_unix_nano <= point.time_unix_nano);
    let Some(Data::Histogram(tokens)) = collector.metric("/base", "gen_ai.client.token.usage").data else { panic!("a histogram") };
    let sums: Vec<_> = tokens.data_points.iter().map(|p| (text(&p.attributes, "gen_ai.token.type"), p.sum)).collect();
    assert_eq!(sums, [("input".to_owned(), Some(100.0)), ("output".to_owned(), Some(20.0))]);
    assert_eq!(collector.metric("/base", "gen_ai.client.operation.duration").unit, "s");
    let Some(Data::Sum(cost)) = collector.metric("/base", "outrigger.cost_usd").data else { panic!("a sum") };
    assert!(cost.is_monotonic && cost.data_points[0].value == Some(number_data_point::Value::AsDouble(2.5)));
    let Some(Data::Gauge(breaker)) = collector.metric("/base", "outrigger.breaker_state").data else { panic!("a gauge") };
    assert_eq!(breaker.data_points[0].value, Some(number_data_point::Value::AsDouble(2.0)));

    let authority = format!("127.0.0.1:{port}");
    assert!(collector.seen.lock().iter().all(|(_, headers, _)| headers["x-tenant"] == "blue" && headers["host"] == *authority));
    assert_eq!((exports(&metrics, "traces", "ok"), exports(&metrics, "metrics", "ok")), (1, 1));
}

#[tokio::test]
async fn https_is_verified_and_the_connection_is_kept() {
    let cert = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("certificate");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(cert.signing_key.serialize_der()));
    let server = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.cert.der().clone()], key)
        .expect("certificate");
    let collector = Collector::default();
    let port = collector.start(Some(tokio_rustls::TlsAcceptor::from(Arc::new(server)))).await;
    let origin = Origin::parse(&format!("https://localhost:{port}")).expect("valid");
    let client = |roots| {
        OtlpClient::new(origin.clone(), Vec::new(), EXPORT_TIMEOUT, Handle::current(), Resolver::default(), Some(roots)).expect("client")
    };

    let mut roots = rustls::RootCertStore::empty();
    roots.add(cert.cert.der().clone()).expect("root");
    let trusting = client(roots);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    io::Write::write_all(&mut gzip, b"x").expect("written");
    let body = Bytes::from(gzip.finish().expect("gzip"));
    for _ in 0..3 {
        trusting.post("/v1/metrics", Some("gzip"), body.clone()).await.expect("accepted");
    }
    assert_eq!((collector.bodies("/v1/metrics").len(), collector.connections.load(Ordering::Relaxed)), (3, 1));
    let strange = client(rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
    assert!(strange.post("/v1/metrics", Some("gzip"), body).await.is_err(), "an unknown certificate is refused");
}

#[tokio::test]
async fn a_collector_that_says_no_is_counted() {
    let collector = Collector::default();
    collector.status.store(400, Ordering::Relaxed);
    let port = collector.start(None).await;
    let metrics = Metrics::new(Clock::system());
    let config = config(format!("http://127.0.0.1:{port}"));
    let otlp =
        Otlp::start(&config, config.otlp.as_deref().expect("set"), &metrics, &Handle::current(), &Resolver::default()).expect("starts");
    let trace = Trace::begin(None, Sampler::new(1.0), &Chance::seeded(1));
    let span = Span::client(&trace.context, trace.context.span_id, &client_start(&Method::POST), SystemTime::UNIX_EPOCH);
    otlp.tracer.end(span.expect("sampled"), SystemTime::UNIX_EPOCH);
    otlp.shutdown(soon()).await;
    assert_eq!((exports(&metrics, "traces", "error"), exports(&metrics, "metrics", "error")), (1, 1));
}

#[tokio::test]
async fn a_collector_that_never_answers_does_not_hold_up_the_end_and_the_queue_is_bounded() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let metrics = Metrics::new(Clock::system());
    let config = config(format!("http://{}", listener.local_addr().expect("address")));
    let otlp =
        Otlp::start(&config, config.otlp.as_deref().expect("set"), &metrics, &Handle::current(), &Resolver::default()).expect("starts");
    let trace = Trace::begin(None, Sampler::new(1.0), &Chance::seeded(1));
    for _ in 0..spans::MAX_QUEUE + 2000 {
        let span = Span::client(&trace.context, trace.context.span_id, &client_start(&Method::POST), SystemTime::UNIX_EPOCH);
        otlp.tracer.end(span.expect("sampled"), SystemTime::UNIX_EPOCH);
    }
    // one batch is under way and no longer queued
    assert!(exports(&metrics, "traces", "dropped") >= 1000);
    let before = Instant::now();
    assert!(!otlp.shutdown(before + Duration::from_millis(300)).await);
    assert!(before.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_runtime_that_is_gone_is_an_error_and_no_panic() {
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let origin = Origin::parse("http://127.0.0.1:9").expect("valid");
    let client = OtlpClient::new(origin, Vec::new(), EXPORT_TIMEOUT, runtime.handle().clone(), Resolver::default(), None).expect("client");
    drop(runtime);
    let later = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    assert!(later.block_on(client.post("/v1/traces", None, Bytes::new())).is_err());
}

#[test]
fn an_endpoint_that_is_no_url_is_refused() {
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let config = config("collector:4318".into());
    let metrics = runtime.block_on(async { Metrics::new(Clock::system()) });
    let error = Otlp::start(&config, "collector:4318", &metrics, runtime.handle(), &Resolver::default()).expect_err("no scheme");
    assert!(error.to_string().contains("http://"), "{error}");
}

/// A name server that never answers.
#[derive(Clone, Default)]
struct Silent {
    asked: Arc<AtomicU16>,
    ends: Arc<Mutex<()>>,
}

impl Lookup for Silent {
    fn addresses(&self, _: &str) -> io::Result<Vec<SocketAddr>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        drop(self.ends.lock());
        Err(io::Error::other("the test is over"))
    }
}

#[test]
fn a_name_server_that_hangs_takes_one_thread_of_its_own_and_holds_up_no_end() {
    // The runtime has one blocking thread: a task that hangs on it is noticed.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().expect("a runtime");
    let server = Silent::default();
    let hold = server.ends.clone();
    let hold = hold.lock();
    let names = Resolver::new(server.clone());
    runtime.block_on(async {
        let config = config("http://collector.test:4318".into());
        let metrics = Metrics::new(Clock::system());
        let otlp = Otlp::start(&config, "http://collector.test:4318", &metrics, &Handle::current(), &names).expect("starts");
        let origin = Origin::parse("http://collector.test:4318").expect("an endpoint");
        let client =
            OtlpClient::new(origin, Vec::new(), Duration::from_millis(20), Handle::current(), names.clone(), None).expect("a client");
        for _ in 0..5 {
            let error = client.post("/v1/metrics", None, Bytes::new()).await.expect_err("no address");
            assert!(error.to_string().contains("no answer in 20ms"), "{error}");
        }
        assert_eq!(server.asked.load(Ordering::Relaxed), 1, "one question for all");
        tokio::task::spawn_blocking(|| ()).await.expect("the thread is free");
        // An export may take far longer than this.
        let begun = Instant::now();
        assert!(!otlp.shutdown(begun + Duration::from_millis(100)).await, "the last export found no address");
        assert!(begun.elapsed() < EXPORT_TIMEOUT / 2, "{:?}", begun.elapsed());
    });
    drop(hold);
}
