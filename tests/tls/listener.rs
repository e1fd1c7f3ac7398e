//! TLS with clients: versions, names, client certificates, new certificates without a dropped connection.

use http::StatusCode;
use rcgen::CertificateParams;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::world::{Ca, Files, Origin, Wishes, connect, get, http1, http2, leaf, shown, start, whole, with_uri};

#[tokio::test]
async fn both_versions_of_http_pass_and_the_app_knows_that_it_was_https() {
    let (ca, files, origin) = (Ca::new("root"), Files::new(), Origin::start(None, 100).await);
    files.pair("tls", &ca.plain(&["app.test"]));
    let proxy = start(&files, &format!("  tls: {{cert: tls.crt, key: tls.key}}\n  app: http://{}\n", origin.address)).await;
    let roots = Some(&ca);

    let stream = connect(proxy.address, "app.test", Wishes { roots, alpn: &[b"http/1.1"], ..Wishes::default() }).await.expect("TLS");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let answer = whole(http1(stream).await.send_request(get("/one")).await.expect("an answer")).await;
    assert_eq!((answer.0, answer.2.as_str()), (StatusCode::OK, "ok"));

    let stream = connect(proxy.address, "app.test", Wishes { roots, alpn: &[b"h2", b"http/1.1"], ..Wishes::default() }).await.expect("TLS");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let answer = whole(http2(stream).await.send_request(get("https://app.test/two")).await.expect("an answer")).await;
    assert_eq!((answer.0, answer.2.as_str()), (StatusCode::OK, "ok"));

    for seen in origin.seen() {
        assert_eq!(seen.headers["x-forwarded-proto"], "https", "{seen:?}");
        assert_eq!(seen.headers["host"], "app.test");
        assert!(!seen.headers.contains_key("x-forwarded-client-cert"));
    }
    proxy.metric("outrigger_tls_handshakes_total{door=\"inbound\",outcome=\"ok\"} 2").await;
}

#[tokio::test]
async fn the_name_asked_for_chooses_the_certificate_and_an_unknown_one_gets_the_first() {
    let (ca, files, origin) = (Ca::new("root"), Files::new(), Origin::start(None, 100).await);
    let pairs = [ca.plain(&["first.test"]), ca.plain(&["*.second.test", "second.test"])];
    files.pair("a", &pairs[0]);
    files.pair("b", &pairs[1]);
    let tls = "  tls: {cert: a.crt, key: a.key, more: [{cert: b.crt, key: b.key}]}\n";
    let proxy = start(&files, &format!("{tls}  app: http://{}\n", origin.address)).await;
    for (name, pair) in [("first.test", 0), ("x.second.test", 1), ("second.test", 1)] {
        let stream = connect(proxy.address, name, Wishes { roots: Some(&ca), ..Wishes::default() }).await.expect(name);
        assert!(shown(&stream) == leaf(&pairs[pair]), "{name}");
    }
    for name in ["third.test", "x.y.second.test"] {
        let error = connect(proxy.address, name, Wishes { roots: Some(&ca), ..Wishes::default() }).await.expect_err(name).to_string();
        assert!(error.contains("first.test"), "the first certificate, which is not for {name}: {error}");
    }
}

#[tokio::test]
async fn older_versions_are_refused() {
    let (ca, files, origin) = (Ca::new("root"), Files::new(), Origin::start(None, 100).await);
    files.pair("tls", &ca.plain(&["app.test"]));
    for (least, version, good) in
        [("\"1.2\"", &rustls::version::TLS12, true), ("1.3", &rustls::version::TLS12, false), ("1.3", &rustls::version::TLS13, true)]
    {
        let tls = format!("  tls: {{cert: tls.crt, key: tls.key, min_version: {least}}}\n");
        let proxy = start(&files, &format!("{tls}  app: http://{}\n", origin.address)).await;
        let stream = connect(proxy.address, "app.test", Wishes { roots: Some(&ca), version: Some(version), ..Wishes::default() }).await;
        assert_eq!(stream.is_ok(), good, "{least} {version:?}");
        if !good {
            proxy.metric("outrigger_tls_handshakes_total{door=\"inbound\",outcome=\"failed\"} 1").await;
        }
    }
}

#[tokio::test]
async fn a_clients_certificate_is_its_name_and_nobody_can_claim_one() {
    let (ca, stranger, files) = (Ca::new("clients"), Ca::new("stranger"), Files::new());
    let origin = Origin::start(None, 100).await;
    files.pair("tls", &ca.plain(&["app.test"]));
    files.write("clients.crt", &ca.pem);
    let rest = format!(
        "  app: http://{}\n  caller: [client_cert, client_ip]\n  limits: [{{key: caller, requests: 1, window: 1h}}]\n",
        origin.address
    );
    let proxy = start(&files, &format!("  tls: {{cert: tls.crt, key: tls.key, client_ca: clients.crt}}\n{rest}")).await;

    let alice = ca.issue(&["ignored.test"], with_uri("spiffe://test/alice"));
    let bob = ca.issue(&["bob.test"], |_| {});
    for (who, status) in [(&alice, 200), (&bob, 200), (&alice, 429)] {
        let stream =
            connect(proxy.address, "app.test", Wishes { roots: Some(&ca), shows: Some(who), ..Wishes::default() }).await.expect("TLS");
        let mut request = get("/");
        request.headers_mut().insert("x-forwarded-client-cert", "URI=spiffe://test/root".parse().expect("value"));
        let answer = whole(http1(stream).await.send_request(request).await.expect("an answer")).await;
        assert_eq!(answer.0, status);
    }
    let seen = origin.seen();
    let claims: Vec<Vec<&str>> = seen
        .iter()
        .map(|seen| seen.headers.get_all("x-forwarded-client-cert").iter().map(|v| v.to_str().expect("text")).collect())
        .collect();
    assert_eq!(claims.len(), 2);
    assert!(
        claims[0].len() == 1 && claims[0][0].starts_with("Hash=") && claims[0][0].contains(";URI=\"spiffe://test/alice\""),
        "{claims:?}"
    );
    assert!(claims[1].len() == 1 && claims[1][0].contains(";DNS=\"bob.test\""), "{claims:?}");

    // A handshake of TLS 1.3 ends for the client before the server has looked at its certificate: the first read tells.
    let foreign = stranger.issue(&[], with_uri("spiffe://test/alice"));
    let expired = ca.issue(&[], |params: &mut CertificateParams| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    for shows in [None, Some(&foreign), Some(&expired)] {
        let refused = match connect(proxy.address, "app.test", Wishes { roots: Some(&ca), shows, ..Wishes::default() }).await {
            Err(error) => error,
            Ok(mut stream) => stream.read_u8().await.expect_err("refused"),
        };
        assert!(refused.to_string().contains("certificate") || refused.to_string().contains("alert"), "{refused}");
    }
    assert_eq!(origin.seen().len(), 2);
    let proxy =
        start(&files, &format!("  tls: {{cert: tls.crt, key: tls.key, client_ca: clients.crt, client_auth: request}}\n{rest}")).await;
    let stream = connect(proxy.address, "app.test", Wishes { roots: Some(&ca), ..Wishes::default() }).await.expect("TLS");
    assert_eq!(http1(stream).await.send_request(get("/")).await.expect("an answer").status(), 200);
    assert!(!origin.seen()[2].headers.contains_key("x-forwarded-client-cert"));
}

#[tokio::test]
async fn a_new_certificate_serves_new_connections_and_open_ones_stay() {
    let (ca, files, origin) = (Ca::new("root"), Files::new(), Origin::start(None, 100).await);
    let pairs = [ca.plain(&["app.test"]), ca.plain(&["app.test"])];
    files.pair("tls", &pairs[0]);
    let proxy = start(&files, &format!("  tls: {{cert: tls.crt, key: tls.key}}\n  app: http://{}\n", origin.address)).await;
    let connected = || connect(proxy.address, "app.test", Wishes { roots: Some(&ca), ..Wishes::default() });
    let stream = connected().await.expect("TLS");
    assert!(shown(&stream) == leaf(&pairs[0]));
    let mut old = http1(stream).await;
    assert_eq!(whole(old.send_request(get("/")).await.expect("an answer")).await.0, 200);

    // Files are replaced one after the other: half a rotation is refused and changes nothing.
    files.write("tls.crt", &pairs[1].cert);
    let refused = proxy.app.reload(false).await.expect_err("half a rotation");
    let refused = refused.to_string();
    assert!(refused.contains("does not belong to the certificate") && refused.contains("3:"), "{refused}");
    assert!(shown(&connected().await.expect("TLS")) == leaf(&pairs[0]));
    files.write("tls.key", &pairs[1].key);
    assert_eq!(proxy.app.reload(false).await, Ok(true), "only the files have changed");
    assert_eq!(proxy.app.reload(false).await, Ok(false));
    assert!(shown(&connected().await.expect("TLS")) == leaf(&pairs[1]));
    // The admin door shows the configuration so: by file and names, without bytes of certificates or keys.
    let shown = format!("{:?}", proxy.app.live().config);
    assert!(
        shown.contains("tls.crt") && shown.contains("app.test") && !shown.contains("CertificateDer") && !shown.contains("0x"),
        "{shown}"
    );
    old.ready().await.expect("open");
    assert_eq!(whole(old.send_request(get("/")).await.expect("an answer")).await.0, 200);
    proxy.metric("outrigger_connections{door=\"inbound\"} 1").await;
}

#[tokio::test]
async fn clear_text_on_a_tls_port_is_told_so_and_silence_is_ended() {
    let (ca, files, origin) = (Ca::new("root"), Files::new(), Origin::start(None, 100).await);
    files.pair("tls", &ca.plain(&["app.test"]));
    let rest = "  bounds: {header_read: 1s}\n";
    let proxy = start(&files, &format!("  tls: {{cert: tls.crt, key: tls.key}}\n  app: http://{}\n{rest}", origin.address)).await;
    let mut stream = TcpStream::connect(proxy.address).await.expect("listening");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("sent");
    let mut said = String::new();
    let _ = stream.read_to_string(&mut said).await;
    assert!(said.starts_with("HTTP/1.1 400 ") && said.ends_with("\r\n\r\nThis listener speaks TLS: use https://\n"), "{said}");
    let length = said.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()).expect("a length");
    assert_eq!(said.split("\r\n\r\n").nth(1).map(|body| body.len().to_string()).as_deref(), Some(length));

    let mut silent = TcpStream::connect(proxy.address).await.expect("listening");
    assert_eq!(silent.read(&mut [0; 8]).await.unwrap_or(0), 0, "ended");
    proxy.metric("outrigger_tls_handshakes_total{door=\"inbound\",outcome=\"timeout\"} 1").await;
    proxy.metric("outrigger_connections{door=\"inbound\"} 0").await;
    assert!(origin.seen().is_empty());
}

#[test]
fn what_cannot_work_is_said_with_its_place() {
    let (ca, files) = (Ca::new("root"), Files::new());
    let (good, other) = (ca.plain(&["a.test"]), ca.plain(&["b.test"]));
    files.pair("good", &good);
    files.pair("other", &other);
    files.write("empty.crt", "");
    files.write("encrypted.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIGj\n-----END ENCRYPTED PRIVATE KEY-----\n");
    for (tls, said) in [
        ("{cert: none.crt, key: good.key}", "cannot read `"),
        ("{cert: good.crt, key: other.key}", "does not belong to the certificate"),
        ("{cert: empty.crt, key: good.key}", "holds no certificate"),
        ("{cert: good.crt, key: good.crt}", "holds no private key"),
        ("{cert: good.crt, key: encrypted.key}", "is encrypted"),
        ("{cert: good.crt}", "`key`"),
        ("{cert: good.crt, key: good.key, min_version: 1.1}", "did you mean `1.2`?"),
        ("{cert: good.crt, key: good.key, client_ca: empty.crt}", "holds no certificate"),
        ("{cert: good.crt, key: good.key, client_auth: request}", "needs `client_ca`"),
        ("{cert: good.crt, key: good.key, more: [{cert: other.crt, key: good.key}]}", "does not belong"),
    ] {
        let file = files.write("proxy.yaml", &format!("inbound:\n  app: http://127.0.0.1:1\n  tls: {tls}\n"));
        let mistakes = outrigger::config::read::load(&file, &Default::default(), &|_| None).expect_err(tls).to_string();
        assert!(mistakes.contains(said) && mistakes.contains("proxy.yaml:3:"), "{tls}: {mistakes}");
        assert!(!mistakes.contains("PRIVATE KEY-----\nM"));
    }
    let file = files.write("proxy.yaml", "inbound:\n  app: http://127.0.0.1:1\n  caller: [client_cert]\n");
    let mistakes = outrigger::config::read::load(&file, &Default::default(), &|_| None).expect_err("no authority").to_string();
    assert!(mistakes.contains("`client_cert` needs `tls: {client_ca: FILE}`"), "{mistakes}");
    assert!(files.path().exists());
}

#[test]
fn check_says_when_a_certificate_runs_out() {
    let (ca, files) = (Ca::new("root"), Files::new());
    files.pair("tls", &ca.issue(&["a.test"], |params| params.not_after = rcgen::date_time_ymd(2020, 1, 2)));
    files.pair("later", &ca.issue(&["b.test"], |params| params.not_after = rcgen::date_time_ymd(2090, 1, 2)));
    let tls = "{cert: tls.crt, key: tls.key, more: [{cert: later.crt, key: later.key}]}";
    let file = files.write("proxy.yaml", &format!("inbound:\n  app: http://127.0.0.1:1\n  tls: {tls}\n"));
    let report = outrigger::cli::check::check(&file, &Default::default(), &|_| None).expect("good");
    assert!(report.contains("EXPIRED on Thu, 02 Jan 2020") && report.contains("runs out on Mon, 02 Jan 2090"), "{report}");
    assert!(report.contains("a.test") && report.contains("b.test"));
}
