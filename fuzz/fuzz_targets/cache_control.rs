//! Cache-Control: lines joined mean the same; a restriction that is added is believed, whatever stands around it.
#![no_main]

mod fields;

use http::{HeaderValue, header::CACHE_CONTROL};
use libfuzzer_sys::fuzz_target;
use outrigger::{
    http1::Fields,
    policy::cache::directives::{MAX_DELTA, RequestDirectives, ResponseDirectives, delta_seconds},
};

/// Whether a quoted string is open at the end: what follows is then part of it, in one line and not in two.
fn open_quote(value: &[u8]) -> bool {
    let (mut open, mut escaped) = (false, false);
    for byte in value {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if open => escaped = true,
            b'"' => open = !open,
            _ => {}
        }
    }
    open
}

fuzz_target!(|input: &[u8]| {
    let mut headers = Fields::new();
    for line in input.split(|byte| *byte == b'\n').take(8) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(CACHE_CONTROL, value);
        }
    }
    let (asked, answered) = (RequestDirectives::of(&headers), ResponseDirectives::of(&headers));
    for lifetime in [answered.max_age, answered.s_maxage, asked.max_age, asked.min_fresh].into_iter().flatten() {
        assert!(lifetime.as_secs() <= MAX_DELTA, "{lifetime:?}");
    }
    if !headers.all(CACHE_CONTROL).any(|value| open_quote(value.as_bytes())) {
        let joined = fields::joined(&headers);
        assert_eq!(RequestDirectives::of(&joined), asked);
        assert_eq!(ResponseDirectives::of(&joined), answered);
    }
    // Another line takes no restriction away, and adds its own.
    headers.append(CACHE_CONTROL, HeaderValue::from_static("no-store, private"));
    let more = ResponseDirectives::of(&headers);
    assert!(more.no_store && more.private);
    assert!((more.no_cache, more.must_revalidate, more.max_age) == (answered.no_cache, answered.must_revalidate, answered.max_age));
    assert!(RequestDirectives::of(&headers).no_store);
    if let Some(delta) = delta_seconds(input) {
        assert!(input.iter().all(u8::is_ascii_digit));
        assert!(delta.as_secs() <= MAX_DELTA);
    }
});
