//! Who gets no answer: pages of other sites, and a network that asks for the stories of failures.

use super::*;

const NO_CORS: [(&str, &str); 3] = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "empty")];

#[tokio::test]
async fn a_page_of_another_site_fills_no_place_and_counts_no_flow() {
    let world = World::new(None).await;
    for path in ["/api/live", "/metrics", "/api/errors", "/health", "/"] {
        let mut headers = vec![("host", "a.localhost:9901")];
        headers.extend(NO_CORS);
        let (status, headers, body) = world.admin(Method::GET, path, &headers).await;
        assert_eq!((status, &headers["connection"]), (StatusCode::FORBIDDEN, &"close".parse().expect("a value")), "{path}");
        assert!(body.contains("another site"), "{body}");
    }
    assert!(world.fake.watched.lock().is_empty(), "no flow is counted");
    let link = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
    assert_eq!(world.admin(Method::GET, "/", &link).await.0, StatusCode::OK, "a link leads to the page");
    assert_eq!(world.admin(Method::GET, "/api/limits", &[("sec-fetch-site", "same-origin")]).await.0, StatusCode::OK);
}

/// The answer of a door that a connection reached at `came_to`.
async fn at(came_to: &str, path: &str, headers: &[(&str, &str)]) -> (StatusCode, String) {
    let operator = Arc::new(Fake::default());
    let token = Token { name: "admin".into(), role: Role::Operate, token: Secret::new("s3cret") };
    let settings = Settings { tokens: access::Tokens::new(&[token]), socket: None };
    let shared = Arc::new(Shared { hub: live::Hub::new(operator.clone()), operator, settings });
    let (near, far) = tokio::io::duplex(1 << 16);
    tokio::spawn(connection(far, Entrance::Admin(came_to.parse().expect("address")), shared));
    let (mut sender, connection) = client_http1::handshake(TokioIo::new(near)).await.expect("handshake");
    tokio::spawn(connection);
    let mut request = Request::builder().uri(path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(Full::<Bytes>::default()).expect("request")).await.expect("answer");
    let status = response.status();
    let body = response.into_body().collect().await.expect("body").to_bytes();
    (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
}

#[tokio::test]
async fn the_stories_of_failures_are_told_to_a_network_with_the_token_alone() {
    let token = [("authorization", "Bearer s3cret")];
    for (came_to, headers, expected) in [
        ("127.0.0.1:9901", &[] as &[_], StatusCode::OK),
        ("[::1]:9901", &[], StatusCode::OK),
        ("[::ffff:127.0.0.1]:9901", &[], StatusCode::OK),
        ("10.0.0.7:9901", &[], StatusCode::FORBIDDEN),
        ("[fd00::7]:9901", &[], StatusCode::FORBIDDEN),
        ("10.0.0.7:9901", &token, StatusCode::OK),
    ] {
        let (status, body) = at(came_to, "/api/errors?since=15m", headers).await;
        assert_eq!(status, expected, "{came_to} {body}");
        assert!(status == StatusCode::OK || body.contains("stories of failures"), "{body}");
        let listed = at(came_to, "/api", headers).await.1.contains("/api/errors");
        assert_eq!(listed, expected == StatusCode::OK, "the page asks for nothing that is refused");
        assert_eq!(at(came_to, "/api/limits", headers).await.0, StatusCode::OK);
    }
}
