//! Which answers are compressed, in which coding, and what their heads then say. Pure.
//!
//! The rules are those of RFC 9110: a client chooses by `Accept-Encoding` and its weights (section 12.5.3), `no-transform` forbids it
//! (section 7.7), another coding makes another representation, so that a strong tag becomes a weak one (section 8.8.3) and the answer
//! varies (section 12.5.5).

use http::{Method, StatusCode};

use crate::{
    body::accept,
    config::{AnswerCoding, Compress},
    http1::{Fields, Id},
};

/// Fields that tell of the very bytes of the content: another coding would belie them.
const DIGESTS: [&str; 3] = ["content-digest", "content-md5", "digest"];

/// Whether an answer is compressed for some client. `length`: bytes of the body, where they are known.
pub fn varies(policy: &Compress, method: &Method, status: StatusCode, answer: &Fields, length: Option<u64>) -> bool {
    let has_content = *method != Method::CONNECT
        && !status.is_informational()
        && !matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED);
    has_content
        && length.is_none_or(|length| length >= policy.min_size && length > 0)
        && is_listed(policy, answer)
        && !answer.has(Id::ContentRange)
        && is_plain(answer)
        && !must_stay(answer)
        && !DIGESTS.iter().any(|name| answer.has(*name))
}

/// The coding that a client likes best; `None`: the answer as it is.
pub fn chosen(policy: &Compress, request: &Fields) -> Option<AnswerCoding> {
    if !request.has(Id::AcceptEncoding) {
        return None;
    }
    // `*` means codings: it says nothing for an answer as it is.
    let mut best = (None, accept::named(request, b"identity").unwrap_or(0));
    for coding in &policy.codings {
        let weight = accept::weight(request, coding.as_str().as_bytes()).unwrap_or(0);
        if weight > 0 && (weight > best.1 || weight == best.1 && best.0.is_none()) {
            best = (Some(*coding), weight);
        }
    }
    best.0
}

/// Tells every client's cache that the answer depends on what the client accepts.
pub fn vary(answer: &mut Fields) {
    let knows = |value: &str| value.split(',').map(str::trim).any(|name| name == "*" || name.eq_ignore_ascii_case("accept-encoding"));
    if !answer.all(Id::Vary).any(|value| value.to_str().is_ok_and(knows)) {
        answer.append(Id::Vary, "accept-encoding");
    }
}

/// The head of an answer that goes out in `coding`.
pub fn dress(coding: AnswerCoding, answer: &mut Fields) {
    answer.insert(Id::ContentEncoding, coding.as_str());
    answer.remove(Id::ContentLength);
    // A part of these bytes is not a part of the app's.
    answer.remove(Id::AcceptRanges);
    if let Some(tag) = answer.text(Id::Etag).filter(|tag| tag.starts_with('"')) {
        let weak = format!("W/{tag}");
        answer.insert(Id::Etag, weak);
    }
}

fn is_listed(policy: &Compress, answer: &Fields) -> bool {
    let Some(kind) = answer.text(Id::ContentType) else { return false };
    let kind = kind.split(';').next().unwrap_or_default().trim();
    match kind.bytes().any(|b| b.is_ascii_uppercase()) {
        false => policy.types.iter().any(|listed| listed.matches(kind)),
        true => {
            let kind = kind.to_ascii_lowercase();
            policy.types.iter().any(|listed| listed.matches(&kind))
        }
    }
}

fn is_plain(answer: &Fields) -> bool {
    answer.all(Id::ContentEncoding).all(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity"))
}

fn must_stay(answer: &Fields) -> bool {
    let said = |value: &str| value.split(',').any(|directive| directive.trim().eq_ignore_ascii_case("no-transform"));
    answer.all(Id::CacheControl).any(|value| value.to_str().is_ok_and(said))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Glob, Mode};

    fn policy() -> Compress {
        Compress {
            mode: Mode::Enforce,
            codings: vec![AnswerCoding::Zstd, AnswerCoding::Brotli, AnswerCoding::Gzip],
            types: vec![Glob::new("text/html"), Glob::new("application/*+json")],
            min_size: 100,
        }
    }

    fn fields(lines: &[(&'static str, &'static str)]) -> Fields {
        let mut fields = Fields::new();
        for (name, value) in lines {
            fields.append(*name, value);
        }
        fields
    }

    #[test]
    fn the_client_chooses_by_weight_and_the_policy_between_equals() {
        for (asked, expected) in [
            (None, None),
            (Some(""), None),
            (Some("gzip"), Some("gzip")),
            (Some("gzip, br"), Some("br")),
            (Some("gzip, br, zstd"), Some("zstd")),
            (Some("gzip;q=1, br;q=0.5"), Some("gzip")),
            (Some("gzip;q=0"), None),
            (Some("*"), Some("zstd")),
            (Some("*;q=0.1, gzip"), Some("gzip")),
            (Some("zstd;q=0, *"), Some("br")),
            (Some("identity, gzip;q=0.5"), None),
            (Some("identity;q=0.5, gzip"), Some("gzip")),
            (Some("identity;q=0, gzip"), Some("gzip")),
            (Some("deflate"), None),
            (Some("x-gzip"), Some("gzip")),
        ] {
            let asked_fields = asked.map(|value| fields(&[("accept-encoding", value)])).unwrap_or_default();
            assert_eq!(chosen(&policy(), &asked_fields).map(AnswerCoding::as_str), expected, "{asked:?}");
        }
    }

    #[test]
    fn only_what_may_and_gains_is_compressed() {
        let html = ("content-type", "text/html; charset=utf-8");
        for (lines, status, length, expected) in [
            (vec![html], 200, Some(100), true),
            (vec![html], 200, None, true),
            (vec![html], 404, Some(5000), true),
            (vec![html], 200, Some(99), false),
            (vec![html], 206, Some(5000), false),
            (vec![html], 304, None, false),
            (vec![html], 204, None, false),
            (vec![("content-type", "Application/Problem+JSON")], 200, None, true),
            (vec![("content-type", "image/png")], 200, None, false),
            (vec![], 200, None, false),
            (vec![html, ("content-encoding", "gzip")], 200, None, false),
            (vec![html, ("content-encoding", "Identity")], 200, None, true),
            (vec![html, ("cache-control", "max-age=5, No-Transform")], 200, None, false),
            (vec![html, ("cache-control", "max-age=5")], 200, None, true),
            (vec![html, ("content-range", "bytes 0-5/6")], 416, None, false),
            (vec![html, ("content-digest", "sha-256=:x:")], 200, None, false),
            (vec![html, ("repr-digest", "sha-256=:x:")], 200, None, true),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(varies(&policy(), &Method::GET, status, &fields(&lines), length), expected, "{lines:?} {status}");
        }
    }

    #[test]
    fn the_head_tells_the_truth_about_the_coded_bytes() {
        let mut answer = fields(&[("content-length", "5000"), ("etag", "\"a\""), ("accept-ranges", "bytes"), ("vary", "Accept-Encoding")]);
        vary(&mut answer);
        dress(AnswerCoding::Brotli, &mut answer);
        assert_eq!((&answer["content-encoding"], &answer["etag"]), ("br", "W/\"a\""));
        assert!(!answer.has("content-length") && !answer.has("accept-ranges") && answer.all("vary").count() == 1);
        let mut weak = fields(&[("etag", "W/\"a\""), ("vary", "origin")]);
        vary(&mut weak);
        dress(AnswerCoding::Gzip, &mut weak);
        assert_eq!((&weak["etag"], weak.all("vary").count()), ("W/\"a\"", 2));
    }
}
