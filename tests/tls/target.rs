//! TLS with targets: whose certificates are believed, what is shown to them, and what is said when it fails.

use rcgen::CertificateParams;

use super::world::{Ca, Files, Origin, Pair, Secure, ask, leaf, start, start_outbound};

const BOTH: &[&[u8]] = &[b"h2", b"http/1.1"];

fn secure(pair: Pair) -> Option<Secure> {
    Some(Secure { pair, alpn: BOTH, clients: None })
}

#[tokio::test]
async fn a_targets_certificate_is_verified_and_a_failure_says_what_would_help() {
    let (ca, other, files) = (Ca::new("root"), Ca::new("other"), Files::new());
    files.write("ca.crt", &ca.pem);
    files.write("other.crt", &other.pem);
    let good = Origin::start(secure(ca.plain(&["localhost"])), 100).await;
    let expired = ca.issue(&["localhost"], |params: &mut CertificateParams| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let expired = Origin::start(secure(expired), 100).await;
    let early = ca.issue(&["localhost"], |params: &mut CertificateParams| params.not_before = rcgen::date_time_ymd(2090, 1, 1));
    let early = Origin::start(secure(early), 100).await;
    let named = Origin::start(secure(ca.plain(&["models.test", "spare.test"])), 100).await;
    for (origin, tls, said) in [
        (&good, "{ca: ca.crt}", "ok"),
        (&good, "{ca: other.crt}", "authority that is not known here (CN=root); write the authority's file in `ca`"),
        (&expired, "{ca: ca.crt}", "expired on Wed, 01 Jan 2020"),
        (&early, "{ca: ca.crt}", "is not valid before"),
        (
            &named,
            "{ca: ca.crt}",
            "is not for `localhost` but for models.test, spare.test; write `server_name: models.test` if that is right",
        ),
        (&named, "{ca: ca.crt, server_name: models.test}", "ok"),
        (&named, "{ca: ca.crt, server_name: models.test, system_roots: true, min_version: 1.3}", "ok"),
    ] {
        let port = origin.address.port();
        let proxy = start_outbound(&files, &format!("url: 'https://localhost:{port}', tls: {tls}")).await;
        let (status, headers, body) = ask(&proxy, "/house/").await;
        assert!(body.contains(said), "{tls}: {body}");
        if said != "ok" {
            assert_eq!(status, 502);
            assert!(headers["proxy-status"].to_str().expect("text").contains("tls_"), "{headers:?}");
            proxy.metric("outrigger_pool_connects_total{target=\"house\",outcome=\"tls\"} 1").await;
            // A client of the app hears nothing of it.
            let proxy = start(&files, &format!("  app: https://localhost:{port}\n  app_tls: {tls}\n")).await;
            let (status, _, body) = ask(&proxy, "/").await;
            assert_eq!(status, 502);
            assert!(body.contains("app: it cannot be reached") && !body.contains("localhost") && !body.contains("certificate"), "{body}");
        }
    }
}

/// A certificate that no authority has signed, as `openssl req -x509` makes it (`ca`) or as others do.
fn self_signed(names: &[&str], ca: bool) -> Pair {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.not_after = rcgen::date_time_ymd(if ca { 2090 } else { 2020 }, 1, 1);
    if ca {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    }
    let key = rcgen::KeyPair::generate().expect("a key");
    Pair { cert: params.self_signed(&key).expect("signed").pem(), key: key.serialize_pem() }
}

fn pin_in(body: &str) -> String {
    let at = body.find("sha256/").unwrap_or_else(|| panic!("no pin in {body}"));
    body[at..].chars().take_while(|c| !matches!(c, '\\' | '"')).collect()
}

#[tokio::test]
async fn a_self_signed_certificate_is_pinned_by_what_the_error_says() {
    let files = Files::new();
    files.write("ca.crt", &Ca::new("root").pem);
    // Other names, other dates: the key alone counts.
    for pair in [self_signed(&["elsewhere.test"], true), self_signed(&["elsewhere.test"], false), self_signed(&[], true)] {
        files.write("its.crt", &pair.cert);
        let origin = Origin::start(secure(pair), 100).await;
        let port = origin.address.port();
        let house = async |tls: &str| {
            let proxy = Box::pin(start_outbound(&files, &format!("url: 'https://localhost:{port}', tls: {tls}"))).await;
            ask(&proxy, "/house/").await
        };
        let (status, _, body) = house("{ca: ca.crt}").await;
        assert_eq!(status, 502);
        assert!(body.contains("is signed by itself alone") || body.contains("expired on"), "{body}");
        assert!(body.contains("; if it is the right one, write `pin: "), "{body}");
        let pin = pin_in(&body);
        for tls in [format!("{{pin: '{pin}'}}"), format!("{{pin: ['{OTHER}', '{pin}'], min_version: 1.3}}")] {
            let (status, _, body) = house(&tls).await;
            assert_eq!((status.as_u16(), body.as_str()), (200, "ok"), "{tls}");
        }
        // With an authority beside it, both must hold.
        assert_eq!(house(&format!("{{pin: '{pin}', ca: ca.crt}}")).await.0, 502);
        let (status, _, body) = house(&format!("{{pin: '{OTHER}'}}")).await;
        assert_eq!(status, 502);
        assert!(body.contains("is not the one that is pinned; if it was changed on purpose, write `pin: "), "{body}");
        assert_eq!(pin_in(&body), pin);
    }
}

/// Nobody's key.
const OTHER: &str = "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

#[tokio::test]
async fn a_pin_and_an_authority_must_both_hold_and_a_new_pin_needs_new_connections() {
    let (ca, files) = (Ca::new("root"), Files::new());
    files.write("ca.crt", &ca.pem);
    let pair = ca.plain(&["localhost"]);
    let pin = outrigger::config::Pin::of(&leaf(&pair).into()).expect("readable");
    let origin = Origin::start(secure(pair), 100).await;
    let text = |pin: &str| format!("  app: https://localhost:{}\n  app_tls: {{ca: ca.crt, pin: '{pin}'}}\n", origin.address.port());
    let proxy = start(&files, &text(&pin.to_string())).await;
    assert_eq!(ask(&proxy, "/").await.0, 200);
    let file = files.path().join("proxy.yaml");
    let changed = std::fs::read_to_string(&file).expect("written").replace(&pin.to_string(), OTHER);
    files.write("proxy.yaml", &changed);
    assert_eq!(proxy.app.reload(false).await, Ok(true));
    assert_eq!(ask(&proxy, "/").await.0, 502);
}

#[tokio::test]
async fn a_target_that_asks_is_shown_our_certificate() {
    let (ca, files) = (Ca::new("root"), Files::new());
    files.write("ca.crt", &ca.pem);
    files.pair("ours", &ca.plain(&["outrigger.test"]));
    let origin = Origin::start(Some(Secure { pair: ca.plain(&["localhost"]), alpn: BOTH, clients: Some(ca.pem.clone()) }), 100).await;
    let app = format!("  app: https://localhost:{}\n", origin.address.port());
    let proxy = start(&files, &format!("{app}  app_tls: {{ca: ca.crt, cert: ours.crt, key: ours.key}}\n")).await;
    assert_eq!(ask(&proxy, "/").await.0, 200);
    let proxy = start(&files, &format!("{app}  app_tls: {{ca: ca.crt}}\n")).await;
    assert_eq!(ask(&proxy, "/").await.0, 502);
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn a_connection_of_other_terms_is_not_used_after_a_reload() {
    let (ca, files) = (Ca::new("root"), Files::new());
    files.write("ca.crt", &ca.pem);
    let origin = Origin::start(secure(ca.plain(&["localhost"])), 100).await;
    let proxy = start(&files, &format!("  app: https://localhost:{}\n  app_tls: {{ca: ca.crt}}\n", origin.address.port())).await;
    for _ in 0..2 {
        assert_eq!(ask(&proxy, "/").await.0, 200);
    }
    // The authority is no longer believed: what was agreed on under it must not go on.
    files.write("ca.crt", &Ca::new("another").pem);
    assert_eq!(proxy.app.reload(false).await, Ok(true));
    assert_eq!(ask(&proxy, "/").await.0, 502);
    assert_eq!(origin.seen().iter().map(|seen| seen.connection).collect::<Vec<_>>(), [0, 0]);
}

#[test]
fn terms_that_cannot_apply_are_mistakes() {
    let (ca, files) = (Ca::new("root"), Files::new());
    files.write("ca.crt", &ca.pem);
    for (inbound, said) in [
        ("{app: http://127.0.0.1:1, app_tls: {ca: ca.crt}}", "is not https"),
        ("{app: https://127.0.0.1:1, app_tls: {insecure: true}}", "there is no way to leave out verification"),
        ("{app: https://127.0.0.1:1, app_tls: {system_roots: false}}", "`system_roots` needs `ca` or `pin`"),
        ("{app: https://127.0.0.1:1, app_tls: {pin: 'AA:BB'}}", "is not a pin: `sha256/`"),
        ("{app: https://127.0.0.1:1, app_tls: {pin: sha256/abcd}}", "the error of a refused certificate says the pin of its key"),
        ("{app: https://127.0.0.1:1, app_tls: {server_name: \"a b\"}}", "is not a host name or address"),
        ("{app: https://127.0.0.1:1, app_tls: {cert: ca.crt}}", "`key`"),
        ("{app: https://127.0.0.1:1, app_protocol: h2}", "`http2`"),
    ] {
        let file = files.write("proxy.yaml", &format!("inbound: {inbound}\n"));
        let mistakes = outrigger::config::read::load(&file, &Default::default(), &|_| None).expect_err(inbound).to_string();
        assert!(mistakes.contains(said), "{inbound}: {mistakes}");
    }
}

#[test]
fn tls_to_redis_needs_a_url_that_asks_for_it_and_files_that_hold_what_they_should() {
    let files = Files::new();
    files.pair("c", &Ca::new("root").plain(&["redis"]));
    let read = |store: &str| {
        let file = files.write("proxy.yaml", &format!("inbound: {{app: 3000}}\nstore: {{{store}}}\n"));
        outrigger::config::read::load_reading(&file, &Default::default(), &|_| None)
    };
    for (store, said) in [
        ("redis: \"rediss://r\", namespace: n, redis_tls: {ca: nowhere.pem}", "cannot read `"),
        ("redis: \"rediss://r\", namespace: n, redis_tls: {cert: c.crt}", "`cert` has no meaning without `key`"),
        ("redis: \"redis://r:6379\", namespace: n, redis_tls: {}", "begin the URL with `rediss://`"),
        ("redis_tls: {}", "`redis`"),
    ] {
        let mistakes = read(store).expect_err(store).to_string();
        assert!(mistakes.contains(said) && mistakes.contains(":2:"), "{store}: {mistakes}");
    }
    let good = "redis: \"rediss://r\", namespace: n, redis_tls: {ca: c.crt, cert: c.crt, key: c.key}";
    let reading = read(good).expect("good");
    let tls = reading.config.store.redis.expect("configured").tls;
    assert!(tls.ca.is_some() && tls.identity.is_some());
    files.pair("c", &Ca::new("root").plain(&["redis"]));
    assert_ne!(read(good).expect("good").fingerprint, reading.fingerprint, "new files are a new configuration");
}
