//! Cross-origin reads (the Fetch standard, section 3.3): the answers to preflights, and the fields that let a page read an answer. Pure.

use http::{Method, header};

use crate::{
    config::{Cors, WebOrigin},
    http1::{Fields, Id},
};

const ASKS_PRIVATE: &str = "access-control-request-private-network";
const ALLOW_PRIVATE: &str = "access-control-allow-private-network";
/// Fields of answers that belong to this policy: the app's own would stand beside them, and browsers refuse two.
const OWN: [header::HeaderName; 6] = [
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
];

/// The method that a preflight asks for.
pub fn asked_method(headers: &Fields) -> Option<Method> {
    Method::from_bytes(headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?.as_bytes()).ok()
}

/// The fields that answer a preflight.
///
/// # Errors
/// The page may not send its request; the text says which key of the policy would let it.
pub fn preflight(policy: &Cors, asked: &Fields) -> Result<Fields, String> {
    let origin = asked.text(Id::Origin).unwrap_or_default();
    if !allows(policy, origin) {
        return Err(format!("pages of {} may not use this (cors.origins)", shown(origin)));
    }
    let method = asked.text(header::ACCESS_CONTROL_REQUEST_METHOD).unwrap_or_default();
    if !policy.methods.iter().any(|allowed| allowed == method) {
        return Err(format!("pages may not use the method {} here (cors.methods)", shown(method)));
    }
    let requested = || crate::fields::members(asked, header::ACCESS_CONTROL_REQUEST_HEADERS).filter(|name| !name.is_empty());
    if let Some(allowed) = &policy.headers
        && let Some(odd) = requested().find(|name| !allowed.iter().any(|allowed| allowed.as_str().as_bytes().eq_ignore_ascii_case(name)))
    {
        return Err(format!("pages may not send the field {} here (cors.headers)", shown(&String::from_utf8_lossy(odd))));
    }
    let mut fields = Fields::new();
    let_in(policy, origin, &mut fields);
    fields.append(header::ACCESS_CONTROL_ALLOW_METHODS, joined(policy.methods.iter().map(Method::as_str)));
    let allowed = requested().map(|name| String::from_utf8_lossy(name).into_owned()).collect::<Vec<_>>();
    if !allowed.is_empty() {
        // The fields that were asked for: `*` would not take `Authorization`.
        fields.append(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed.join(", "));
    }
    fields.insert_number(header::ACCESS_CONTROL_MAX_AGE, policy.max_age.as_secs());
    if policy.private_network && asked.get(ASKS_PRIVATE).is_some_and(|asks| asks == "true") {
        fields.append(ALLOW_PRIVATE, "true");
    }
    fields.append(Id::Vary, "origin, access-control-request-method, access-control-request-headers");
    Ok(fields)
}

/// Gives an answer the fields by which a page may read it, in place of the app's own. `origin`: the page's. `exposed`: fields of the proxy that
/// the page may read too.
pub fn dress(policy: &Cors, origin: Option<&str>, exposed: &str, answer: &mut Fields) {
    for name in &OWN {
        answer.remove(name);
    }
    if !is_for_all(policy) {
        // Also without an origin: a cache would give the answer to a page.
        answer.append(Id::Vary, "origin");
    }
    // Where every page gets the same answer, one that was asked for by no page gets it too: a cache gives it to pages later.
    let origin = if is_for_all(policy) { Some("*") } else { origin.filter(|origin| allows(policy, origin)) };
    if let Some(origin) = origin {
        let_in(policy, origin, answer);
        answer.append(header::ACCESS_CONTROL_EXPOSE_HEADERS, joined(policy.expose.iter().map(header::HeaderName::as_str).chain([exposed])));
    }
}

/// Whether the page of this origin may read answers.
pub fn allows(policy: &Cors, origin: &str) -> bool {
    policy.origins.iter().any(|allowed| allowed.matches(origin))
}

fn let_in(policy: &Cors, origin: &str, fields: &mut Fields) {
    fields.append(header::ACCESS_CONTROL_ALLOW_ORIGIN, if is_for_all(policy) { "*" } else { origin });
    if policy.credentials {
        fields.append(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
    }
}

/// Whether every page gets the same answer.
fn is_for_all(policy: &Cors) -> bool {
    !policy.credentials && policy.origins.contains(&WebOrigin::Any)
}

fn joined<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(", ")
}

/// A word of a client in a message: cut, without control characters.
fn shown(word: &str) -> String {
    const LONGEST: usize = 100;
    let plain: String = word.chars().filter(|c| c.is_ascii_graphic() && !matches!(c, '"' | '`')).take(LONGEST).collect();
    format!("`{plain}`")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Mode;

    fn policy(origins: &[WebOrigin], credentials: bool) -> Cors {
        Cors {
            mode: Mode::Enforce,
            origins: origins.to_vec(),
            methods: vec![Method::GET, Method::PUT],
            headers: None,
            expose: vec![header::ETAG],
            credentials,
            max_age: Duration::from_secs(600),
            private_network: false,
        }
    }

    fn app() -> WebOrigin {
        WebOrigin::exactly("https", "app.example")
    }

    fn fields(of: &[(&'static str, &'static str)]) -> Fields {
        of.iter().map(|(name, value)| (name, value)).collect()
    }

    fn asks(origin: &'static str, method: &'static str, headers: &'static str) -> Fields {
        fields(&[("origin", origin), ("access-control-request-method", method), ("access-control-request-headers", headers)])
    }

    #[test]
    fn a_preflight_is_answered_for_what_it_asks() {
        let answer = preflight(&policy(&[app()], true), &asks("https://app.example", "PUT", "authorization,x-a")).expect("allowed");
        for (name, value) in [
            ("access-control-allow-origin", "https://app.example"),
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-methods", "GET, PUT"),
            ("access-control-allow-headers", "authorization, x-a"),
            ("access-control-max-age", "600"),
        ] {
            assert_eq!(&answer[name], value, "{name}");
        }
        assert!(answer["vary"].contains("origin") && !answer.has(ALLOW_PRIVATE));
    }

    #[test]
    fn a_preflight_is_refused_with_the_key_that_would_let_it() {
        let mut policy = policy(&[app()], false);
        policy.headers = Some(vec![header::CONTENT_TYPE]);
        for (asked, key) in [
            (asks("https://evil.example", "PUT", ""), "cors.origins"),
            (asks("https://app.example", "DELETE", ""), "cors.methods"),
            (asks("https://app.example", "put", ""), "cors.methods"),
            (asks("https://app.example", "PUT", "content-type, x-odd"), "cors.headers"),
            (asks("null", "PUT", ""), "cors.origins"),
        ] {
            let error = preflight(&policy, &asked).expect_err("refused");
            assert!(error.contains(key), "{error}");
        }
        assert!(preflight(&policy, &asks("https://app.example", "PUT", "Content-Type")).is_ok());
    }

    #[test]
    fn a_private_network_is_opened_only_where_the_policy_says_so() {
        let mut asked = asks("https://app.example", "GET", "");
        asked.append(ASKS_PRIVATE, "true");
        let mut policy = policy(&[app()], false);
        assert!(!preflight(&policy, &asked).expect("allowed").has(ALLOW_PRIVATE));
        policy.private_network = true;
        assert_eq!(&preflight(&policy, &asked).expect("allowed")[ALLOW_PRIVATE], "true");
    }

    #[test]
    fn the_policy_owns_the_answers_fields() {
        let of_app = &[("access-control-allow-origin", "*"), ("access-control-allow-credentials", "true"), ("vary", "accept")];
        let mut answer = fields(of_app);
        dress(&policy(&[app()], false), Some("https://app.example"), "retry-after", &mut answer);
        assert_eq!(
            answer.all("access-control-allow-origin").map(|value| value.to_str().expect("text")).collect::<Vec<_>>(),
            ["https://app.example"]
        );
        assert!(
            !answer.has("access-control-allow-credentials") && answer["access-control-expose-headers"].starts_with("etag, retry-after")
        );
        for origin in [None, Some("https://evil.example"), Some("null")] {
            let mut answer = fields(of_app);
            dress(&policy(&[app()], false), origin, "retry-after", &mut answer);
            assert!(!answer.has("access-control-allow-origin"), "{origin:?}");
            assert_eq!(answer.all("vary").count(), 2, "{origin:?}: a cache must not mix pages");
        }
        let mut answer = fields(&[]);
        dress(&policy(&[WebOrigin::Any], false), None, "retry-after", &mut answer);
        assert_eq!((&answer["access-control-allow-origin"], answer.has("vary")), ("*", false));
    }
}
