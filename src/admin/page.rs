//! The page at `/`: one HTML document with its style, its script and the chart library inside.
//!
//! The readable source stands in `page/`, with the bundle that `tests/page.sh` makes of it. The document is put together when it is
//! first asked for, and compressed once. Its Content-Security-Policy names the hashes of the style and the script: nothing else in it
//! can run. The same policy stands in the document, for a report that is opened from a file. The document asks for nothing outside its
//! own address.

use std::{fmt::Write as _, io::Write as _, sync::LazyLock};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body_util::{BodyExt, Full};

use super::live::Body;

/// The document around the parts.
const FRAME: &str = include_str!("page/index.html");

/// The style. The chart library's own style is for legends too, which the page has not.
const STYLE: &str = include_str!("page/bundle.css");

/// The licence of the chart library, the library, and the script.
const SCRIPT: [&str; 3] =
    [include_str!("page/vendor/uPlot.LICENSE"), include_str!("page/vendor/uPlot.iife.min.js"), include_str!("page/bundle.js")];

/// The page as it is sent.
struct Page {
    plain: Bytes,
    gzip: Bytes,
    policy: HeaderValue,
}

static PAGE: LazyLock<Page> = LazyLock::new(|| {
    let [licence, library, own] = SCRIPT;
    let script = format!("/*\n{licence}*/\n{library}\n{own}");
    let policy = policy(STYLE, &script);
    let plain = FRAME.replace("{policy}", &policy).replace("{style}", STYLE).replace("{script}", &script);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    // A Vec takes every byte.
    let gzip = gzip.write_all(plain.as_bytes()).and_then(|()| gzip.finish()).unwrap_or_default();
    let header = HeaderValue::from_str(&format!("{policy}; frame-ancestors 'none'"));
    Page { plain: plain.into(), gzip: gzip.into(), policy: header.unwrap_or(HeaderValue::from_static("default-src 'none'")) }
});

/// What the document may do. `frame-ancestors` stands in the header alone: browsers do not read it in a document.
fn policy(style: &str, script: &str) -> String {
    let hash = |text: &str| STANDARD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()));
    let mut policy = String::from("default-src 'none'");
    let _ = write!(policy, "; script-src 'sha256-{}'; style-src 'sha256-{}'", hash(script), hash(style));
    policy.push_str("; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'");
    policy
}

/// The page, compressed if the browser takes that.
pub(super) fn answer(headers: &HeaderMap) -> Response<Body> {
    let takes_gzip = headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| coding.trim().eq_ignore_ascii_case("gzip"));
    let page = &*PAGE;
    let compressed = takes_gzip && !page.gzip.is_empty();
    let body = if compressed { page.gzip.clone() } else { page.plain.clone() };
    let mut response = Response::new(Full::new(body).boxed_unsync());
    let fields = response.headers_mut();
    if compressed {
        fields.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::VARY, "Accept-Encoding"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        fields.insert(name, HeaderValue::from_static(value));
    }
    fields.insert(header::CONTENT_SECURITY_POLICY, page.policy.clone());
    response
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    /// Most bytes of the page, compressed.
    const MOST: usize = 60 * 1024;

    /// The readable parts of the page: name and text.
    fn parts() -> Vec<(String, String)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin/page");
        let files = fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").path()).filter(|path| path.is_file());
        let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
        let read = files.map(|path| (name(&path), fs::read_to_string(&path).expect("text")));
        read.filter(|(name, _)| !name.starts_with("bundle.")).collect()
    }

    #[test]
    fn the_page_is_small_and_whole() {
        let page = &*PAGE;
        assert!(!page.gzip.is_empty() && page.gzip.len() <= MOST, "{} bytes", page.gzip.len());
        let text = std::str::from_utf8(&page.plain).expect("UTF-8");
        for place in ["{policy}", "{style}", "{script}"] {
            assert!(!text.contains(place), "{place} is filled in");
        }
        for part in [STYLE].iter().chain(&SCRIPT) {
            assert!(text.contains(part), "each part is in the page as it stands in the source");
            assert!(!part.contains("</script") && !part.contains("</style") && !part.contains("<!--"), "no part ends its element");
        }
        assert_eq!((FRAME.matches("<script").count(), FRAME.matches("<script type=\"application/json\"").count()), (2, 1));
    }

    #[test]
    fn the_bundle_is_that_of_the_source() {
        let parts = parts();
        let mut bundled = BTreeSet::new();
        for bundle in [STYLE, SCRIPT[2]] {
            let first = bundle.lines().next().expect("a line");
            let (names, said) = first.split_once(" of ").and_then(|(_, said)| said.split_once(": ")).expect("names and a hash");
            let names: Vec<&str> = names.split(' ').collect();
            let text = |name: &&str| &*parts.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("no {name}")).1;
            let source: String = names.iter().map(text).collect();
            let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, source.as_bytes());
            let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(said.trim_end_matches(" */"), hash, "a part has changed since the bundle was made: run tests/page.sh");
            bundled.extend(names);
        }
        let all: BTreeSet<&str> = parts.iter().map(|(name, _)| &**name).filter(|name| *name != "index.html").collect();
        assert_eq!(bundled, all, "every part is in a bundle");
    }

    #[test]
    fn the_page_asks_for_nothing_elsewhere_and_writes_no_markup() {
        for (name, part) in parts() {
            for word in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", " style=\"", " onclick="]
            {
                assert!(!part.contains(word), "{name}: {word}");
            }
            for (at, _) in part.match_indices("//www.").chain(part.match_indices("://")) {
                let address = &part[at.saturating_sub(5)..part.floor_char_boundary(at + 30)];
                // The name of SVG's elements is no address that is asked.
                assert!(address.contains("www.w3.org/2000/svg"), "{name}: {address}");
            }
            assert!(part.lines().count() <= 500, "{name} is longer than 500 lines");
        }
    }

    #[test]
    fn a_browser_gets_it_compressed_and_nothing_else_may_run() {
        let plain = answer(&HeaderMap::new());
        assert!(!plain.headers().contains_key(header::CONTENT_ENCODING));
        let gzip = HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static("br;q=1, gzip"))]);
        assert_eq!(answer(&gzip).headers()[header::CONTENT_ENCODING], "gzip");
        let policy = plain.headers()[header::CONTENT_SECURITY_POLICY].to_str().expect("text").to_owned();
        assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains('*') && policy.ends_with("frame-ancestors 'none'"), "{policy}");
    }
}
