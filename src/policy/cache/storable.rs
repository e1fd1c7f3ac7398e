//! The responses that a shared cache may store (RFC 9111 section 3), and the fields it stores (section 3.1).

use crate::http1::{Fields, Id};
use std::time::SystemTime;

use http::{Method, StatusCode};

use super::{
    date,
    directives::ResponseDirectives,
    freshness::{Freshness, Source, Terms, Times},
};

/// The facts of the request on which storing depends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asker {
    /// The request had `Authorization`.
    pub authorization: bool,
    /// The request had `Cookie`, which is not in the key and not ignored by the policy.
    pub cookie: bool,
    /// The request said `no-store`.
    pub no_store: bool,
    /// The policy overrides `Set-Cookie`, `Authorization`, `private` and `no-store`.
    pub unsafe_: bool,
}

/// The freshness numbers of a response to GET that may be stored, or the reason why it may not.
///
/// A forced lifetime applies if nothing speaks against sharing; other responses keep their own terms. A response with
/// `Set-Cookie` is stored only on explicit freshness of the origin's (section 7.3).
pub fn judge(status: StatusCode, headers: &Fields, asker: Asker, terms: Terms, times: Times) -> Result<Freshness, &'static str> {
    let said = ResponseDirectives::of(headers);
    let set_cookie = headers.has(Id::SetCookie) || headers.has("set-cookie2");
    if asker.no_store {
        return Err("request no-store");
    }
    if status.is_informational() || matches!(status, StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED) {
        return Err("status");
    }
    if varies_on_everything(headers) {
        return Err("vary *");
    }
    let objection = objection(status, &said, asker);
    let shareable = objection.is_none() && !set_cookie && !asker.authorization && !asker.cookie && !said.no_cache;
    let forced = terms.forced.filter(|_| is_forcible(status) && (asker.unsafe_ || shareable));
    if let (None, Some(objection)) = (forced, objection) {
        return Err(objection);
    }
    let fresh = Freshness::of(status, headers, &said, Terms { forced, ..terms }, times);
    match fresh.source {
        Source::Explicit | Source::Forced => {}
        Source::Heuristic | Source::Nothing if set_cookie => return Err("set-cookie"),
        Source::Heuristic | Source::Nothing if asker.cookie => return Err("cookie"),
        Source::Heuristic => {}
        Source::Nothing => {}
    }
    let validator = has_validator(headers);
    let lives = !fresh.lifetime.is_zero() || !fresh.stale_if_error.is_zero() || !fresh.stale_while_revalidate.is_zero();
    let understood = said.public || fresh.source != Source::Nothing || super::freshness::is_heuristically_cacheable(status);
    if understood && (validator || (lives && !fresh.no_cache)) { Ok(fresh) } else { Err("no freshness") }
}

/// Whether the reason given by [`judge`] lies in what the request carries, whatever the answer is.
pub fn lies_in_request(reason: &str) -> bool {
    matches!(reason, "cookie" | "authorization" | "request no-store")
}

/// Statuses to which a forced lifetime applies: complete successes and permanent redirects, no errors.
fn is_forcible(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 301 | 308)
}

fn objection(status: StatusCode, said: &ResponseDirectives, asker: Asker) -> Option<&'static str> {
    if said.must_understand && !is_understood(status) {
        return Some("must-understand");
    }
    if said.no_store && !said.must_understand {
        return Some("no-store");
    }
    if said.private {
        return Some("private");
    }
    let shared = said.public || said.must_revalidate || said.s_maxage.is_some();
    (asker.authorization && !shared).then_some("authorization")
}

/// Whether the status is one whose caching rules this cache knows (RFC 9110 section 15).
fn is_understood(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300..=303 | 307 | 308 | 400 | 404 | 405 | 410 | 414 | 500..=504)
}

/// Whether the response can be asked about with a conditional request.
pub fn has_validator(headers: &Fields) -> bool {
    headers.has(Id::Etag) || date::of(headers.get(Id::LastModified)).is_some()
}

fn varies_on_everything(headers: &Fields) -> bool {
    headers.all(Id::Vary).any(|line| line.as_bytes().split(|byte| *byte == b',').any(|name| name.trim_ascii() == b"*"))
}

/// Methods whose answers may come from the store.
pub fn is_cacheable_method(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Fields of one connection between caches, beside those of one hop (RFC 9111 section 3.1).
const OF_THE_CONNECTION: [&str; 4] = ["proxy-authenticate", "proxy-authentication-info", "proxy-authorization", "trailer"];

/// The fields to store: without those of one connection, those that `Connection` and `no-cache="..."` list, and `Age`; a `Date`
/// is added where it is missing.
pub fn stored_fields(headers: &Fields, received: SystemTime) -> Fields {
    let mut kept = headers.clone();
    strip_hop_by_hop(&mut kept);
    for name in ResponseDirectives::of(headers).no_cache_fields {
        kept.remove(name);
    }
    kept.remove(Id::Age);
    if !kept.has(Id::Date)
        && let Some(date) = date::format(received)
    {
        kept.insert(Id::Date, date);
    }
    kept.compact()
}

/// Removes the fields of one connection (RFC 9110 section 7.6.1).
pub fn strip_hop_by_hop(headers: &mut Fields) {
    headers.remove_hop_by_hop();
    for name in OF_THE_CONNECTION {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Moment;
    use crate::http1::Name;

    fn map(lines: &[(&'static str, &'static str)]) -> Fields {
        let mut headers = Fields::new();
        for (name, value) in lines {
            headers.append(*name, value);
        }
        headers
    }

    fn judged(status: u16, lines: &[(&'static str, &'static str)], asker: Asker, ttl: Option<u64>) -> Result<Source, &'static str> {
        let now = Moment::at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        let terms = Terms { forced: ttl.map(Duration::from_secs), ..Terms::default() };
        let times = Times { requested: now, received: now };
        judge(StatusCode::from_u16(status).expect("status"), &map(lines), asker, terms, times).map(|fresh| fresh.source)
    }

    const MODIFIED: (&str, &str) = ("last-modified", "Wed, 01 Jan 2020 00:00:00 GMT");

    #[test]
    fn what_a_shared_cache_may_store() {
        let anyone = Asker::default();
        let authorized = Asker { authorization: true, ..anyone };
        let cookie = Asker { cookie: true, ..anyone };
        let cc = |value| ("cache-control", value);
        use Source::{Explicit, Heuristic};
        for (what, status, fields, asker, expected) in [
            ("fresh", 200, vec![cc("max-age=9")], anyone, Ok(Explicit)),
            ("any final status", 599, vec![cc("max-age=9")], anyone, Ok(Explicit)),
            ("nothing said", 200, vec![], anyone, Err("no freshness")),
            ("no-store", 200, vec![cc("max-age=9, no-store")], anyone, Err("no-store")),
            ("private", 200, vec![cc("private, max-age=9")], anyone, Err("private")),
            ("understood", 200, vec![cc("max-age=9, no-store, must-understand")], anyone, Ok(Explicit)),
            ("not understood", 599, vec![cc("max-age=9, no-store, must-understand")], anyone, Err("must-understand")),
            ("not understood without no-store", 599, vec![cc("max-age=9, must-understand")], anyone, Err("must-understand")),
            ("partial", 206, vec![cc("max-age=9")], anyone, Err("status")),
            ("not modified", 304, vec![cc("max-age=9")], anyone, Err("status")),
            ("vary *", 200, vec![cc("max-age=9"), ("vary", "foo, *")], anyone, Err("vary *")),
            ("vary empty and *", 200, vec![cc("max-age=9"), ("vary", ""), ("vary", "*")], anyone, Err("vary *")),
            ("authorization", 200, vec![cc("max-age=9")], authorized, Err("authorization")),
            ("authorization public", 200, vec![cc("max-age=9, public")], authorized, Ok(Explicit)),
            ("authorization must-revalidate", 200, vec![cc("max-age=9, must-revalidate")], authorized, Ok(Explicit)),
            ("authorization s-maxage", 200, vec![cc("s-maxage=9")], authorized, Ok(Explicit)),
            ("set-cookie explicit", 200, vec![cc("max-age=9"), ("set-cookie", "a=b")], anyone, Ok(Explicit)),
            ("set-cookie heuristic", 200, vec![MODIFIED, ("set-cookie", "a=b")], anyone, Err("set-cookie")),
            ("cookie explicit", 200, vec![cc("max-age=9")], cookie, Ok(Explicit)),
            ("cookie heuristic", 200, vec![MODIFIED], cookie, Err("cookie")),
            ("heuristic", 200, vec![MODIFIED], anyone, Ok(Heuristic)),
            ("no-cache with a validator", 200, vec![cc("no-cache"), ("etag", "\"a\"")], anyone, Ok(Source::Nothing)),
            ("no-cache without", 200, vec![cc("no-cache, max-age=9")], anyone, Err("no freshness")),
            ("etag alone", 200, vec![("etag", "\"a\"")], anyone, Ok(Source::Nothing)),
            ("etag alone on an error", 500, vec![("etag", "\"a\"")], anyone, Err("no freshness")),
            ("targeted over no-store", 200, vec![cc("no-store"), ("cdn-cache-control", "max-age=9")], anyone, Ok(Explicit)),
            ("targeted private", 200, vec![cc("max-age=9"), ("cdn-cache-control", "private")], anyone, Err("private")),
        ] {
            assert_eq!(judged(status, &fields, asker, None), expected, "{what}");
        }
        assert_eq!(judged(200, &[cc("max-age=9")], Asker { no_store: true, ..anyone }, None), Err("request no-store"));
    }

    #[test]
    fn a_forced_lifetime_refuses_what_is_not_for_everyone() {
        let anyone = Asker::default();
        let authorized = Asker { authorization: true, ..anyone };
        let cookie = Asker { cookie: true, ..anyone };
        let unsafe_ = Asker { unsafe_: true, authorization: true, cookie: true, ..anyone };
        let cc = |value| ("cache-control", value);
        for (what, status, fields, asker, expected) in [
            ("plain", 200, vec![], anyone, Ok(Source::Forced)),
            ("over max-age", 200, vec![cc("max-age=1")], anyone, Ok(Source::Forced)),
            ("set-cookie", 200, vec![("set-cookie", "a=b")], anyone, Err("no freshness")),
            ("private", 200, vec![cc("private")], anyone, Err("private")),
            ("no-store", 200, vec![cc("no-store")], anyone, Err("no-store")),
            ("authorization", 200, vec![], authorized, Err("authorization")),
            ("cookie", 200, vec![], cookie, Err("cookie")),
            ("cookie, but the origin says so", 200, vec![cc("max-age=1")], cookie, Ok(Source::Explicit)),
            ("an error", 500, vec![], anyone, Err("no freshness")),
            ("not found", 404, vec![], anyone, Err("no freshness")),
            ("unsafe", 200, vec![cc("private, no-store"), ("set-cookie", "a=b")], unsafe_, Ok(Source::Forced)),
            ("unsafe, but partial", 206, vec![], unsafe_, Err("status")),
        ] {
            let got = judged(status, &fields, asker, Some(60));
            if what == "set-cookie" {
                assert!(got.is_err(), "{what}");
            } else {
                assert_eq!(got, expected, "{what}");
            }
        }
    }

    #[test]
    fn stored_fields_hold_no_more_memory_than_they_need() {
        let mut headers = Fields::new();
        headers.insert("a", "value");
        headers.insert("set-cookie", "x".repeat(4096));
        headers.remove(Id::SetCookie);
        let kept = stored_fields(&headers, SystemTime::UNIX_EPOCH);
        assert!(kept.capacity() < 256, "{}", kept.capacity());
        assert_eq!(&kept["a"], "value");
    }

    #[test]
    fn fields_of_the_connection_are_not_stored() {
        let headers = map(&[
            ("connection", "a, b"),
            ("a", "1"),
            ("b", "2"),
            ("c", "3"),
            ("keep-alive", "x"),
            ("te", "x"),
            ("upgrade", "x"),
            ("transfer-encoding", "chunked"),
            ("proxy-authentication-info", "x"),
            ("set-cookie", "a=b"),
            ("age", "7"),
            ("cache-control", "max-age=9, no-cache=\"d\""),
            ("d", "4"),
        ]);
        let kept = stored_fields(&headers, SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        let mut names: Vec<_> = kept.names().map(Name::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["c", "cache-control", "date", "set-cookie"]);
    }
}
