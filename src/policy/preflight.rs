//! Browsers' preflights, and refusals that a page may read. Pure.
//!
//! A page of another origin asks with OPTIONS whether it may send its request (the Fetch standard, section 3.2). Such a
//! preflight is the browser's own. It uses up no limit: a page would otherwise get half of the limit.

use http::{Method, header};

use crate::http1::{Fields, Id, Value};

/// The fields of a refusal that a page may read, beside status and body.
pub const EXPOSED: &str = "retry-after, ratelimit, ratelimit-policy, proxy-status, x-request-id";

/// Whether a request is a browser's preflight.
pub fn is_preflight(method: &Method, headers: &Fields) -> bool {
    *method == Method::OPTIONS && headers.has(Id::Origin) && headers.has(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Lets the page at `origin` read a refusal of ours: without these fields a browser shows the page only "network error". Only
/// refusals get the fields. A refusal holds nothing secret: a request without credentials gets the same, and credentials are
/// not allowed. A refused preflight stays refused: its status is no success.
pub fn let_read(refusal: &mut Fields, origin: Option<Value<'_>>) {
    let Some(origin) = origin else { return };
    refusal.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    refusal.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    refusal.append(Id::Vary, "origin");
}

#[cfg(test)]
mod tests {

    use super::*;

    fn headers(of: &[(&'static str, &'static str)]) -> Fields {
        of.iter().map(|(name, value)| (name, value)).collect()
    }

    #[test]
    fn a_preflight_has_an_origin_and_a_method_it_asks_for() {
        let asked = headers(&[("origin", "https://a.test"), ("access-control-request-method", "POST")]);
        assert!(is_preflight(&Method::OPTIONS, &asked));
        assert!(!is_preflight(&Method::POST, &asked));
        assert!(!is_preflight(&Method::OPTIONS, &headers(&[("origin", "https://a.test")])));
        assert!(!is_preflight(&Method::OPTIONS, &headers(&[("access-control-request-method", "POST")])));
    }

    #[test]
    fn a_refusal_can_be_read_by_the_page_that_asked_and_never_with_credentials() {
        let mut refusal = Fields::new();
        let asked = headers(&[("origin", "https://a.test")]);
        let_read(&mut refusal, None);
        assert!(refusal.is_empty(), "nobody asked from a page");
        let_read(&mut refusal, asked.get(Id::Origin));
        assert_eq!(&refusal[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://a.test");
        assert_eq!(&refusal[Id::Vary], "origin");
        assert!(refusal[header::ACCESS_CONTROL_EXPOSE_HEADERS].contains("retry-after"));
        assert!(!refusal.has(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
    }
}
