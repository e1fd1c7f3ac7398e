//! Header lists: lines joined mean the same; a head that passes has one framing; what strict_headers lets pass has plain names.
#![no_main]

mod fields;

use http::{HeaderName, Method, Uri, Version, header};
use libfuzzer_sys::fuzz_target;
use outrigger::{
    fields::{content_length, has_token},
    listen::{client, narrow, strict},
    upstream::headers::{interim, response},
};

fuzz_target!(|input: &[u8]| {
    let headers = fields::fields(input);
    let joined = fields::joined(&headers);
    assert_eq!(content_length(&headers).ok(), content_length(&joined).ok());
    for (name, token) in [(header::CONNECTION, "close"), (header::UPGRADE, "websocket"), (header::TE, "trailers")] {
        assert_eq!(has_token(&headers, name.clone(), token), has_token(&joined, name, token));
    }
    let uri = Uri::from_static("/a");
    for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
        if strict::check(&Method::POST, &uri, version, &headers).is_err() {
            continue;
        }
        let chunked = headers.has(header::TRANSFER_ENCODING);
        let length = content_length(&headers).expect("it was checked");
        assert!(!(chunked && length.is_some()), "one framing");
        assert!(headers.all(header::TRANSFER_ENCODING).count() <= 1);
        assert!(headers.all(header::HOST).count() <= 1);
        assert!(!(chunked && version == Version::HTTP_10));
    }
    if narrow::fields(&headers).is_ok() {
        assert!(headers.names().all(|name| !name.as_str().contains('_')));
        assert!(headers.iter().all(|(_, value)| value.as_bytes().is_ascii()));
    }
    let peer = "10.0.0.1:1".parse().expect("an address");
    let nobody = client::address(peer, &headers, &[]);
    assert_eq!(nobody, (peer.ip(), false), "a stranger is believed nothing");
    let (_, trusted) = client::address(peer, &headers, &["10.0.0.0/8".parse().expect("a net")]);
    assert!(trusted);
    // What goes to a client names nothing of the hop behind us.
    let mut passed = headers.clone();
    let named: Vec<HeaderName> = headers
        .all(header::CONNECTION)
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    if response(&Method::GET, http::StatusCode::OK, &mut passed).is_ok() {
        assert!(!passed.has(header::CONNECTION) && !passed.has("keep-alive") && !passed.has("proxy-connection"));
        let kept = [header::CONTENT_LENGTH, header::CONTENT_TYPE, header::SET_COOKIE];
        assert!(named.iter().all(|name| kept.contains(name) || !passed.has(name) || !is_plain(name)), "{named:?} in {passed:?}");
    }
    let mut early = headers.clone();
    interim(&mut early);
    assert!(!early.has(header::CONTENT_LENGTH) && !early.has(header::TRANSFER_ENCODING));
});

/// Names that a Connection field may take away: extension fields.
fn is_plain(name: &HeaderName) -> bool {
    name.as_str().starts_with("x-")
}
