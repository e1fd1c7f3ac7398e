//! The fields of requests and answers: set by hand, and those that make pages safer. Pure.
//!
//! What the app sets is never weakened: a field that it has set stays as it is. The fields are those of OWASP's Secure Headers project. An
//! unmodified app must keep working: what could break one is only reported by browsers (the Content-Security-Policy, the opener policy of
//! sign-in pop-ups), or is said of documents alone.

use std::borrow::Cow;

use crate::{
    config::{FieldEdits, Headers, Secure, Template, TemplatePart, Variable},
    http1::{Fields, Id, Value},
};

const CSP: &str = "content-security-policy";
const CSP_REPORT_ONLY: &str = "content-security-policy-report-only";
const HSTS: &str = "strict-transport-security";
const FRAME: &str = "x-frame-options";

/// Fields of every answer that has none of the name.
const ALWAYS: [(&str, &str); 2] = [("x-content-type-options", "nosniff"), ("referrer-policy", "strict-origin-when-cross-origin")];
const OPENER: &str = "cross-origin-opener-policy";
const OPENER_REPORT_ONLY: &str = "cross-origin-opener-policy-report-only";
/// Fields of documents that have none of the name. Pictures and scripts of the app may stand in pages of others.
const OF_DOCUMENTS: [(&str, &str); 3] =
    [("cross-origin-resource-policy", "same-origin"), ("origin-agent-cluster", "?1"), ("permissions-policy", "browsing-topics=()")];
/// Fields that tell what an app is made of.
const TELLING: [&str; 4] = ["server", "x-powered-by", "x-aspnet-version", "x-aspnetmvc-version"];

/// Changes the fields of a request as the policy says.
pub fn request<'a>(policy: &Headers, fields: &mut Fields, fill: impl Fn(Variable) -> Cow<'a, str>) {
    edit(&policy.request, fields, fill);
}

/// Changes the fields of an answer as the policy says: first what makes pages safer, then what was set by hand. `tls`: the client came over
/// TLS, to this proxy or to a trusted one before it.
pub fn response<'a>(policy: &Headers, tls: bool, fields: &mut Fields, fill: impl Fn(Variable) -> Cow<'a, str>) {
    if policy.hardens {
        harden(fields);
    }
    if policy.cookies && fields.has(Id::SetCookie) {
        let text = |value: Value<'_>| std::str::from_utf8(value.as_bytes()).map(|cookie| safer_cookie(cookie, tls));
        fields.rewrite(|name, value| if name.id() == Id::SetCookie { text(value).ok().flatten() } else { None });
    }
    if let Some(secure) = &policy.secure {
        terms(secure, tls, fields);
    }
    edit(&policy.response, fields, fill);
}

/// Whether the policy would change the answer to make it safer.
pub fn would_harden(policy: &Headers, tls: bool, fields: &Fields) -> bool {
    let mut safer = fields.clone();
    response(&Headers { response: FieldEdits::default(), ..policy.clone() }, tls, &mut safer, |_| Cow::Borrowed(""));
    safer != *fields
}

fn harden(fields: &mut Fields) {
    for name in TELLING {
        fields.remove(name);
    }
    for (name, value) in ALWAYS {
        fields.add_missing(name, value);
    }
    if is_document(fields) {
        for (name, value) in OF_DOCUMENTS {
            fields.add_missing(name, value);
        }
        if !fields.has(OPENER) {
            // Enforced, it would cut a sign-in pop-up off from the page that opened it.
            fields.add_missing(OPENER_REPORT_ONLY, "same-origin-allow-popups");
        }
        // The newer directive wins in browsers that know it: the older field would only say the same.
        if !fields.all(CSP).any(|policy| policy.to_str().is_ok_and(|policy| policy.contains("frame-ancestors"))) {
            fields.add_missing(FRAME, "SAMEORIGIN");
        }
    }
}

fn terms(secure: &Secure, tls: bool, fields: &mut Fields) {
    if let Some(age) = secure.hsts.filter(|_| tls) {
        fields.add_missing(HSTS, format!("max-age={}", age.as_secs()));
    }
    let name = if secure.csp_enforced { CSP } else { CSP_REPORT_ONLY };
    if let Some(policy) = secure.csp.as_ref().filter(|_| is_document(fields) && !fields.has(CSP)) {
        fields.add_missing(name, policy);
    }
}

fn is_document(fields: &Fields) -> bool {
    let kind = fields.text(Id::ContentType).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("text/html") || kind.eq_ignore_ascii_case("application/xhtml+xml")
}

/// Parts of the names of cookies that sign somebody in: no page has to read them.
const SIGNS_IN: [&str; 6] = ["sess", "sid", "auth", "token", "jwt", "remember"];

/// A cookie with the flags that it lacks; `None`: it lacks none. A page may read its own cookies, such as a language, and tokens against
/// forged requests (`csrftoken`, `XSRF-TOKEN`): those stay readable.
fn safer_cookie(cookie: &str, tls: bool) -> Option<Vec<u8>> {
    let mut attributes = cookie.split(';').map(str::trim);
    let name = attributes.next()?.split('=').next()?.trim().to_ascii_lowercase();
    let has = |flag: &str| {
        attributes.clone().any(|attribute| attribute.split('=').next().is_some_and(|name| name.trim().eq_ignore_ascii_case(flag)))
    };
    let hidden = SIGNS_IN.iter().any(|part| name.contains(part)) && !name.contains("csrf") && !name.contains("xsrf");
    let missing = [(!has("secure") && tls, "; Secure"), (!has("httponly") && hidden, "; HttpOnly"), (!has("samesite"), "; SameSite=Lax")];
    let flags: String = missing.iter().filter(|(lacks, _)| *lacks).map(|(_, flag)| *flag).collect();
    (!flags.is_empty()).then(|| [cookie.trim_end_matches([';', ' ']), &flags].concat().into_bytes())
}

fn edit<'a>(edits: &FieldEdits, fields: &mut Fields, fill: impl Fn(Variable) -> Cow<'a, str>) {
    for name in &edits.remove {
        fields.remove(name);
    }
    for (name, value) in &edits.set {
        fields.insert_with(name, |out| write(value, &fill, out));
    }
    for (name, value) in &edits.add {
        fields.append_with(name, |out| write(value, &fill, out));
    }
}

fn write<'a>(value: &Template, fill: &impl Fn(Variable) -> Cow<'a, str>, out: &mut Vec<u8>) {
    for part in &value.parts {
        match part {
            TemplatePart::Text(text) => out.extend_from_slice(text.as_bytes()),
            TemplatePart::Of(variable) => out.extend_from_slice(fill(*variable).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const OVER_TLS: bool = true;
    const IN_CLEAR: bool = false;

    fn fields(of: &[(&'static str, &'static str)]) -> Fields {
        of.iter().map(|(name, value)| (name, value)).collect()
    }

    fn secure() -> Headers {
        let terms = Secure { csp: Some("default-src 'self'".into()), csp_enforced: false, hsts: Some(Duration::from_secs(60)) };
        Headers { hardens: true, cookies: true, secure: Some(terms), ..Headers::default() }
    }

    fn dressed(tls: bool, of: &[(&'static str, &'static str)]) -> Fields {
        let mut answer = fields(of);
        response(&secure(), tls, &mut answer, |_| Cow::Borrowed(""));
        answer
    }

    /// The passive rules of a ZAP baseline that a proxy can settle: rule, a field, and its value.
    #[test]
    fn a_document_has_what_a_baseline_scan_asks_for() {
        let page = dressed(
            OVER_TLS,
            &[
                ("content-type", "text/html; charset=utf-8"),
                ("server", "gunicorn"),
                ("x-powered-by", "Express"),
                ("set-cookie", "sid=1; Path=/"),
            ],
        );
        for (rule, name, value) in [
            (10_020, "x-frame-options", "SAMEORIGIN"),
            (10_021, "x-content-type-options", "nosniff"),
            (10_035, "strict-transport-security", "max-age=60"),
            (10_038, "content-security-policy-report-only", "default-src 'self'"),
            (10_063, "permissions-policy", "browsing-topics=()"),
            (90_004, "cross-origin-opener-policy-report-only", "same-origin-allow-popups"),
            (90_004, "cross-origin-resource-policy", "same-origin"),
            (10_010, "set-cookie", "sid=1; Path=/; Secure; HttpOnly; SameSite=Lax"),
        ] {
            assert_eq!(&page[name], value, "rule {rule}");
        }
        for (rule, name) in [(10_036, "server"), (10_037, "x-powered-by")] {
            assert!(!page.has(name), "rule {rule}: {name}");
        }
    }

    #[test]
    fn what_the_app_has_set_is_never_weakened() {
        let own = [
            ("content-type", "text/html"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
            ("strict-transport-security", "max-age=63072000; preload"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "cross-origin"),
            ("permissions-policy", "camera=()"),
            ("set-cookie", "__Host-sid=1; Path=/; Secure; HttpOnly; SameSite=Strict"),
        ];
        let page = dressed(OVER_TLS, &own);
        for (name, value) in own {
            assert_eq!(page.all(name).map(|value| value.to_str().expect("text").to_owned()).collect::<Vec<_>>(), [value], "{name}");
        }
        assert!(!page.has(FRAME) && !page.has(CSP_REPORT_ONLY));
    }

    #[test]
    fn an_enforced_policy_stands_beside_one_that_the_app_only_reports() {
        let mut policy = secure();
        policy.secure.as_mut().expect("named").csp_enforced = true;
        let mut page = fields(&[("content-type", "text/html"), (CSP_REPORT_ONLY, "default-src 'none'")]);
        response(&policy, IN_CLEAR, &mut page, |_| Cow::Borrowed(""));
        assert_eq!((&page[CSP], &page[CSP_REPORT_ONLY]), ("default-src 'self'", "default-src 'none'"));
    }

    #[test]
    fn what_is_no_document_has_no_fields_of_documents_and_hsts_stays_with_tls() {
        let data = dressed(IN_CLEAR, &[("content-type", "application/json"), ("set-cookie", "a=1")]);
        for name in [HSTS, CSP_REPORT_ONLY, FRAME, OPENER_REPORT_ONLY, "permissions-policy", "cross-origin-resource-policy"] {
            assert!(!data.has(name), "{name}");
        }
        assert_eq!((&data["x-content-type-options"], &data["set-cookie"]), ("nosniff", "a=1; SameSite=Lax"));
    }

    #[test]
    fn a_cookie_gets_only_the_flags_that_it_lacks() {
        for (cookie, expected) in [
            ("connect.sid=1", Some("connect.sid=1; Secure; HttpOnly; SameSite=Lax")),
            ("locale=de", Some("locale=de; Secure; SameSite=Lax")),
            ("a=1; secure; HTTPONLY; samesite=None", None),
            ("csrftoken=1", Some("csrftoken=1; Secure; SameSite=Lax")),
            ("XSRF-TOKEN=1; Secure; SameSite=Strict", None),
            ("session=secure; Path=/;", Some("session=secure; Path=/; Secure; HttpOnly; SameSite=Lax")),
            ("name=grün", Some("name=grün; Secure; SameSite=Lax")),
        ] {
            assert_eq!(safer_cookie(cookie, true).map(|cookie| String::from_utf8(cookie).expect("text")).as_deref(), expected, "{cookie}");
        }
    }

    #[test]
    fn fields_are_removed_then_set_then_added_and_places_filled() {
        let text = |text: &str| Template { parts: vec![TemplatePart::Text(text.into())] };
        let filled = Template { parts: vec![TemplatePart::Text("u=".into()), TemplatePart::Of(Variable::Caller)] };
        let edits = FieldEdits {
            remove: vec!["x-debug".parse().expect("a name")],
            set: vec![("x-env".parse().expect("a name"), text("prod")), ("x-user".parse().expect("a name"), filled)],
            add: vec![("link".parse().expect("a name"), text("b"))],
        };
        let mut asked = fields(&[("X-Debug", "1"), ("x-env", "dev"), ("X-Env", "dev"), ("link", "a")]);
        request(&Headers { request: edits, ..Headers::default() }, &mut asked, |_| Cow::Borrowed("ann\r\nx-evil: 1"));
        assert!(!asked.has("x-debug") && asked.all("x-env").count() == 1 && asked.all("link").count() == 2);
        assert_eq!((&asked["x-user"], asked.has("x-evil")), ("u=ann  x-evil: 1", false), "no value begins a line of its own");
    }

    #[test]
    fn a_policy_that_observes_knows_whether_it_would_change_something() {
        assert!(would_harden(&secure(), IN_CLEAR, &fields(&[("content-type", "text/html")])));
        let own = dressed(IN_CLEAR, &[("content-type", "text/html")]);
        assert!(!would_harden(&secure(), IN_CLEAR, &own));
    }
}
