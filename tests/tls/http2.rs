//! HTTP/2 towards targets: one connection for many, more when streams run out, what was refused is sent again, and nothing leaks.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;
use http::{Response, Version};
use http_body_util::Full;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use super::world::{Ca, Files, Origin, PATIENCE, Secure, ask, start, start_outbound};

fn connections(origin: &Origin) -> usize {
    origin.seen().iter().map(|seen| seen.connection).collect::<std::collections::HashSet<_>>().len()
}

/// An origin whose answers wait until all of them are asked for.
async fn gathered(secure: Option<Secure>, most: u32, all: usize) -> Origin {
    let (came, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    Origin::answering(secure, most, move |_| {
        let (came, gate) = (came.clone(), gate.clone());
        async move {
            if came.fetch_add(1, Relaxed) + 1 == all {
                gate.add_permits(all);
            }
            gate.acquire().await.expect("open").forget();
            Response::new(Full::<Bytes>::from("ok"))
        }
    })
    .await
}

async fn many(proxy: &Arc<super::world::Proxy>, count: usize) {
    let asked: Vec<_> = (0..count)
        .map(|n| {
            let proxy = proxy.clone();
            tokio::spawn(async move { ask(&proxy, &format!("/{n}")).await })
        })
        .collect();
    for answer in asked {
        let answer = tokio::time::timeout(PATIENCE, answer).await.expect("in time").expect("no panic");
        assert_eq!((answer.0.as_u16(), answer.2.as_str()), (200, "ok"), "{answer:?}");
    }
}

#[tokio::test]
async fn cold_requests_share_one_connection_and_open_another_when_streams_run_out() {
    for (most, needed) in [(100, 1), (10, 5)] {
        let origin = gathered(None, most, 50).await;
        let files = Files::new();
        let proxy = Arc::new(start(&files, &format!("  app: http://{}\n  app_protocol: http2\n", origin.address)).await);
        many(&proxy, 50).await;
        assert_eq!(connections(&origin), needed, "{most} streams each");
        for seen in origin.seen() {
            assert_eq!(seen.version, Version::HTTP_2);
            assert_eq!(seen.uri.authority().map(|a| a.as_str()), Some("app.test"), "{seen:?}");
            assert!(!seen.headers.contains_key("host"));
        }
        proxy.metric("outrigger_pool_connections{target=\"app\",state=\"active\"} 0").await;
        // Kept for a while, then closed.
        proxy.metric("outrigger_pool_connections{target=\"app\",state=\"idle\"} 0").await;
    }
}

#[tokio::test]
async fn over_tls_the_target_chooses_and_can_be_told() {
    let (ca, files) = (Ca::new("root"), Files::new());
    files.write("ca.crt", &ca.pem);
    let secure = |alpn| Some(Secure { pair: ca.plain(&["localhost"]), alpn, clients: None });
    const BOTH: &[&[u8]] = &[b"h2", b"http/1.1"];
    const OLD: &[&[u8]] = &[b"http/1.1"];
    for (alpn, protocol, version) in [
        (BOTH, "auto", Some(Version::HTTP_2)),
        (BOTH, "http1", Some(Version::HTTP_11)),
        (OLD, "auto", Some(Version::HTTP_11)),
        (&[], "auto", Some(Version::HTTP_11)),
        (&[], "http2", None),
    ] {
        let origin = Origin::start(secure(alpn), 100).await;
        let app = format!("  app: https://localhost:{}\n  app_tls: {{ca: ca.crt}}\n  app_protocol: {protocol}\n", origin.address.port());
        let proxy = Arc::new(start(&files, &app).await);
        match version {
            None => {
                let house = format!("url: 'https://localhost:{}', tls: {{ca: ca.crt}}, protocol: {protocol}", origin.address.port());
                let (status, _, body) = ask(&start_outbound(&files, &house).await, "/house/").await;
                assert!(status == 502 && body.contains("does not offer HTTP/2 (ALPN)"), "{body}");
            }
            Some(version) => {
                many(&proxy, 20).await;
                assert!(origin.seen().iter().all(|seen| seen.version == version), "{protocol}: {:?}", origin.seen());
                if version == Version::HTTP_2 {
                    assert_eq!(connections(&origin), 1);
                }
            }
        }
    }
}

const SETTINGS: u8 = 4;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// One frame: kind, stream.
async fn next(stream: &mut TcpStream) -> Option<(u8, u32)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    stream.read_exact(&mut vec![0; length]).await.ok()?;
    Some((head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]])))
}

/// A target that speaks frames: `refuse` is what it sends for the first request; later ones get 200 (indexed field 8) at once.
async fn frames(refuse: fn(u32) -> Vec<u8>) -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                stream.read_exact(&mut [0; 24]).await.ok()?;
                stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.ok()?;
                while let Some((kind, of)) = next(&mut stream).await {
                    if kind == HEADERS {
                        let answer = if count.fetch_add(1, Relaxed) == 0 { refuse(of) } else { frame(HEADERS, 5, of, &[0x88]) };
                        stream.write_all(&answer).await.ok()?;
                    }
                }
                Some(())
            });
        }
    });
    (address, asked)
}

#[tokio::test]
async fn what_a_target_has_not_looked_at_is_sent_again() {
    // REFUSED_STREAM (7), and GOAWAY with a last stream below ours and no error (RFC 9113 sections 8.7 and 6.8).
    let refused: fn(u32) -> Vec<u8> = |of| frame(RST_STREAM, 0, of, &7u32.to_be_bytes());
    let going: fn(u32) -> Vec<u8> = |_| frame(GOAWAY, 0, 0, &[0; 8]);
    for (refuse, name) in [(refused, "REFUSED_STREAM"), (going, "GOAWAY")] {
        let (address, asked) = frames(refuse).await;
        let proxy = start(&Files::new(), &format!("  app: http://{address}\n  app_protocol: http2\n")).await;
        let (status, _, body) = ask(&proxy, "/").await;
        assert_eq!((status.as_u16(), asked.load(Relaxed)), (200, 2), "{name}: {body}");
    }
    // Whatever else it says, the request may have been acted on.
    let failed: fn(u32) -> Vec<u8> = |of| frame(RST_STREAM, 0, of, &2u32.to_be_bytes());
    let (address, asked) = frames(failed).await;
    let proxy = start(&Files::new(), &format!("  app: http://{address}\n  app_protocol: http2\n")).await;
    assert_eq!((ask(&proxy, "/").await.0.as_u16(), asked.load(Relaxed)), (502, 1));
}

#[tokio::test]
async fn a_target_that_ends_each_connection_at_once_is_an_error_and_no_loop() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let opened = Arc::new(AtomicUsize::new(0));
    let count = opened.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Relaxed);
            drop(stream);
        }
    });
    let proxy = start(&Files::new(), &format!("  app: http://{address}\n  app_protocol: http2\n")).await;
    let (status, ..) = tokio::time::timeout(PATIENCE, ask(&proxy, "/")).await.expect("no loop");
    assert_eq!(status, 502);
    assert!(opened.load(Relaxed) < 20, "{}", opened.load(Relaxed));
    proxy.metric("outrigger_pool_connections{target=\"app\",state=\"active\"} 0").await;
}

#[tokio::test]
async fn a_client_that_leaves_resets_its_stream_alone() {
    let origin = gathered(None, 100, 3).await;
    let proxy = Arc::new(start(&Files::new(), &format!("  app: http://{}\n  app_protocol: http2\n", origin.address)).await);
    let leaving = tokio::spawn({
        let proxy = proxy.clone();
        async move { ask(&proxy, "/leaves").await }
    });
    let staying = tokio::spawn({
        let proxy = proxy.clone();
        async move { ask(&proxy, "/stays").await }
    });
    tokio::time::timeout(PATIENCE, async {
        while origin.seen().len() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("both are asked");
    leaving.abort();
    assert_eq!(ask(&proxy, "/third").await.0, 200);
    assert_eq!(staying.await.expect("no panic").0, 200);
    assert_eq!(connections(&origin), 1);
    proxy.metric("outrigger_inflight_requests{door=\"inbound\"} 0").await;
    proxy.metric("outrigger_pool_connections{target=\"app\",state=\"active\"} 0").await;
}

#[tokio::test]
async fn readers_that_do_not_read_hold_up_nobody_else_on_their_connection() {
    const SLOW: usize = 30;
    // More than any socket between them takes.
    let large = Bytes::from(vec![b'x'; 64 << 20]);
    let origin = Origin::answering(None, 100, move |seen| {
        let body = if seen.uri.path() == "/slow" { large.clone() } else { Bytes::from_static(b"xx") };
        async move { Response::new(Full::from(body)) }
    })
    .await;
    let proxy = start(&Files::new(), &format!("  app: http://{}\n  app_protocol: http2\n", origin.address)).await;
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        let mut stream = TcpStream::connect(proxy.address).await.expect("listening");
        stream.write_all(b"GET /slow HTTP/1.1\r\nHost: app.test\r\n\r\n").await.expect("sent");
        // The answer has begun; the rest is not read.
        stream.read_exact(&mut [0; 64]).await.expect("a head");
        slow.push(stream);
    }
    for _ in 0..20 {
        let answer = tokio::time::timeout(PATIENCE, ask(&proxy, "/quick")).await.expect("not held up");
        assert_eq!((answer.0.as_u16(), answer.2.as_str()), (200, "xx"));
    }
    assert_eq!(connections(&origin), 1);
    drop(slow);
    proxy.metric("outrigger_pool_connections{target=\"app\",state=\"active\"} 0").await;
}

#[tokio::test]
async fn an_answer_that_is_reset_half_way_is_visibly_cut() {
    // HEADERS with status 200, DATA, then: RST_STREAM of NO_ERROR, of CANCEL; GOAWAY without an error, below the stream.
    fn half(of: u32, end: &[u8]) -> Vec<u8> {
        [&frame(HEADERS, 4, of, &[0x88])[..], &frame(0, 0, of, b"half"), end].concat()
    }
    let none: fn(u32) -> Vec<u8> = |of| half(of, &frame(RST_STREAM, 0, of, &[0; 4]));
    let cancel: fn(u32) -> Vec<u8> = |of| half(of, &frame(RST_STREAM, 0, of, &8u32.to_be_bytes()));
    let away: fn(u32) -> Vec<u8> = |of| half(of, &frame(GOAWAY, 0, 0, &[0; 8]));
    let whole: fn(u32) -> Vec<u8> = |of| half(of, &frame(0, 1, of, b""));
    for (answer, name, ends) in [(none, "NO_ERROR", false), (cancel, "CANCEL", false), (away, "GOAWAY", false), (whole, "END_STREAM", true)]
    {
        let (address, _) = frames(answer).await;
        let proxy = start(&Files::new(), &format!("  app: http://{address}\n  app_protocol: http2\n")).await;
        let mut stream = TcpStream::connect(proxy.address).await.expect("listening");
        stream.write_all(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await.expect("sent");
        let mut said = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("an end");
        let said = String::from_utf8_lossy(&said);
        assert_eq!(said.ends_with("\r\n0\r\n\r\n"), ends, "{name}: {said}");
        proxy.metric("outrigger_pool_connections{target=\"app\",state=\"active\"} 0").await;
    }
}

/// As many connections as there may be: requests wait for a stream of one, and no other is opened.
#[tokio::test]
async fn requests_wait_for_a_stream_where_no_connection_may_be_opened() {
    let origin = Origin::start(None, 2).await;
    let files = Files::new();
    let app = format!("  app: http://{}\n  app_protocol: http2\n  app_max_connections: 1\n", origin.address);
    let proxy = Arc::new(start(&files, &app).await);
    many(&proxy, 50).await;
    assert_eq!(connections(&origin), 1);
    proxy.metric("outrigger_pool_waiting_requests{target=\"app\"} 0").await;
}
