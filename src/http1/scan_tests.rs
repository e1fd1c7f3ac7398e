//! What is accepted and what is refused, by section of RFC 9112; the verdict and the head are the same however the bytes are cut.

use proptest::prelude::*;

use super::super::{Form, Head, Id, Limits, Method, Name, Refusal, Scanner, Version};

const LIMITS: Limits = Limits { bytes: 2000, fields: 20, target: 200 };

/// The verdict on the bytes in pieces of these lengths, the last of which repeats: the head and what is left of the bytes.
fn scan(mut scanner: Scanner, bytes: &[u8], lengths: &[usize]) -> Result<Option<(Head, usize)>, Refusal> {
    let mut head = Head::new();
    let (mut at, mut piece) = (0, 0);
    while at < bytes.len() {
        let length = lengths[piece.min(lengths.len() - 1)].clamp(1, bytes.len() - at);
        piece += 1;
        if let Some(taken) = scanner.scan(&mut head, &bytes[at..at + length])? {
            assert!(!scanner.has_begun() && taken <= length);
            return Ok(Some((head, at + taken)));
        }
        at += length;
    }
    Ok(None)
}

fn whole(scanner: Scanner, bytes: &[u8]) -> Result<Option<(Head, usize)>, Refusal> {
    scan(scanner, bytes, &[usize::MAX])
}

fn request(text: impl AsRef<[u8]>) -> Result<Head, Refusal> {
    let text = text.as_ref();
    let (head, taken) = whole(Scanner::requests(LIMITS), text)?.expect("it is whole");
    assert_eq!(taken, text.len());
    Ok(head)
}

fn answer(text: impl AsRef<[u8]>) -> Result<Head, Refusal> {
    Ok(whole(Scanner::answers(LIMITS), text.as_ref())?.expect("it is whole").0)
}

/// A request with this first line and these fields.
fn with(first: &str, fields: &str) -> Result<Head, Refusal> {
    request(format!("{first}\r\n{fields}\r\n"))
}

fn field(line: &str) -> Result<Head, Refusal> {
    with("POST / HTTP/1.1", &format!("Host: a\r\n{line}\r\n"))
}

/// The verdict and the head are the same in pieces of any length, also cut once at any place.
fn same_in_pieces(scanner: &Scanner, bytes: &[u8]) {
    let told = |lengths: &[usize]| scan(scanner.clone(), bytes, lengths);
    let expected = told(&[usize::MAX]);
    for length in 1..=9 {
        assert_eq!(told(&[length]), expected, "in pieces of {length}: {:?}", String::from_utf8_lossy(bytes));
    }
    for cut in 1..bytes.len() {
        assert_eq!(told(&[cut, usize::MAX]), expected, "cut at {cut}: {:?}", String::from_utf8_lossy(bytes));
    }
}

const BROWSER: &str = "GET /a/b?c=d HTTP/1.1\r\nHost: shop.example:8080\r\nUser-Agent:  Mozilla/5.0 \t\r\nAccept: */*\r\n\
    X-Empty:\r\nx-own: 1\r\nX-Own: 2\r\nCookie: a=b\r\nConnection: keep-alive, x-own, TE\r\nTE: trailers;q=1, gzip\r\n\r\n";

#[test]
fn a_head_is_its_bytes_and_a_table() {
    let (head, taken) = whole(Scanner::requests(LIMITS), format!("{BROWSER}next").as_bytes()).expect("legal").expect("whole");
    assert_eq!((taken, head.bytes()), (BROWSER.len(), BROWSER.as_bytes()));
    assert_eq!(
        (head.method(), head.method_text(), head.target(), head.version()),
        (Method::Get, &b"GET"[..], &b"/a/b?c=d"[..], Version::Http11)
    );
    assert_eq!((head.len(), head.get(Id::Host), head.host()), (9, Some(&b"shop.example:8080"[..]), Some(&b"shop.example:8080"[..])));
    assert_eq!((head.get(Id::UserAgent), head.get(Id::Range)), (Some(&b"Mozilla/5.0"[..]), None));
    let own = Name::new(b"X-OWN").expect("a name");
    assert_eq!(head.all_named(own).collect::<Vec<_>>(), [b"1", b"2"]);
    assert_eq!(head.iter().nth(3), Some((&b"X-Empty"[..], &b""[..])));
    assert!(head.takes_trailers() && head.keeps_alive() && !head.has_several(Id::Host) && head.has_several(Id::Other));
    same_in_pieces(&Scanner::requests(LIMITS), BROWSER.as_bytes());
}

#[test]
fn heads_follow_one_another_in_the_same_memory() {
    let mut scanner = Scanner::requests(LIMITS);
    let mut head = Head::new();
    let both = format!("{BROWSER}GET /second HTTP/1.0\r\n\r\n");
    assert_eq!(scanner.scan(&mut head, both.as_bytes()), Ok(Some(BROWSER.len())));
    let capacity = head.capacity();
    assert_eq!(scanner.scan(&mut head, &both.as_bytes()[BROWSER.len()..]), Ok(Some(both.len() - BROWSER.len())));
    assert_eq!((head.target(), head.len(), head.version(), head.capacity()), (&b"/second"[..], 0, Version::Http10, capacity));
}

#[test]
fn no_value_is_told_in_a_log() {
    let head = field("Authorization: secret").expect("legal");
    let mut fields = super::super::Fields::from(head.clone());
    fields.append(Id::XApiKey, "secret");
    let told = format!("{head:?} {fields:?} {:?}", fields.get(Id::XApiKey));
    assert!(!told.contains("secret") && told.contains("Authorization") && told.contains("x-api-key"), "{told}");
}

/// Section 2.2.
#[test]
fn lines_end_in_cr_lf() {
    for (text, why) in [
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", Refusal::BareLf),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", Refusal::BareLf),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", Refusal::BareLf),
        ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::BareLf),
        ("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", Refusal::BareCr),
        ("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", Refusal::BareCr),
        ("GET /\rx HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::BareCr),
        ("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::BareCr),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Refusal::SpaceAfterStart),
    ] {
        assert_eq!(request(text).err(), Some(why), "{text:?}");
        same_in_pieces(&Scanner::requests(LIMITS), text.as_bytes());
    }
    // Before its line has ended, too.
    same_in_pieces(&Scanner::requests(LIMITS), b"GET /\rx");
    assert_eq!(whole(Scanner::requests(LIMITS), b"GET /\rx").err(), Some(Refusal::BareCr));
    assert!(request("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").is_ok(), "empty lines before a request");
    assert_eq!(request("\r\n".repeat(17)).err(), Some(Refusal::EmptyLines));
    same_in_pieces(&Scanner::requests(LIMITS), "\r\n".repeat(17).as_bytes());
}

/// Sections 2.3 and 3; RFC 9110 section 2.5.
#[test]
fn a_request_line_has_three_parts() {
    for (line, why) in [
        ("GET /", Refusal::RequestLine),
        ("GET  / HTTP/1.1", Refusal::RequestLine),
        ("GET /  HTTP/1.1", Refusal::Version),
        (" GET / HTTP/1.1", Refusal::RequestLine),
        ("G(T / HTTP/1.1", Refusal::RequestLine),
        ("GET / HTTP/1.1 ", Refusal::Version),
        ("GET / http/1.1", Refusal::Version),
        ("GET / HTTP/1", Refusal::Version),
        ("GET / HTTP/1.10", Refusal::Version),
        ("GET / HTTP/1.2", Refusal::MinorVersion),
        ("GET / HTTP/2.0", Refusal::MajorVersion),
        ("PRI * HTTP/2.0", Refusal::MajorVersion),
        ("nonsense", Refusal::RequestLine),
    ] {
        assert_eq!(with(line, "Host: a\r\n").err(), Some(why), "{line}");
        same_in_pieces(&Scanner::requests(LIMITS), format!("{line}\r\nHost: a\r\n\r\n").as_bytes());
    }
    let tls = [0x16, 3, 1, 0, 200, 1];
    assert_eq!(whole(Scanner::requests(LIMITS), &tls).err(), Some(Refusal::Control), "at once");
}

/// Section 3.2.
#[test]
fn a_target_has_one_of_four_forms() {
    for (line, form, path, host) in [
        ("GET /a?b HTTP/1.1", Form::Origin, "/a?b", "h"),
        ("GET //a HTTP/1.1", Form::Origin, "//a", "h"),
        ("GET /a\\b|^{}\"\u{e9}?`? HTTP/1.1", Form::Origin, "/a\\b|^{}\"\u{e9}?`?", "h"),
        ("OPTIONS * HTTP/1.1", Form::Asterisk, "*", "h"),
        ("GET http://a.example:80/b?c HTTP/1.1", Form::Absolute, "/b?c", "a.example:80"),
        ("GET HTTPS://[::1] HTTP/1.1", Form::Absolute, "/", "[::1]"),
        ("GET http://a?b/c HTTP/1.1", Form::Absolute, "/?b/c", "a"),
        ("OPTIONS http://a HTTP/1.1", Form::Absolute, "*", "a"),
        ("OPTIONS http://a/ HTTP/1.1", Form::Absolute, "/", "a"),
        ("CONNECT a:443 HTTP/1.1", Form::Authority, "", "a:443"),
    ] {
        let head = with(line, "Host: h\r\n").expect(line);
        let found = (head.form(), head.path_and_query(), head.host());
        assert_eq!(found, (form, path.as_bytes(), Some(host.as_bytes())), "{line}");
        same_in_pieces(&Scanner::requests(LIMITS), head.bytes());
    }
    for (line, why) in [
        ("GET * HTTP/1.1", Refusal::TargetForm),
        ("GET a:80 HTTP/1.1", Refusal::TargetForm),
        ("GET a/b HTTP/1.1", Refusal::TargetForm),
        ("GET ?a HTTP/1.1", Refusal::TargetForm),
        ("CONNECT / HTTP/1.1", Refusal::TargetForm),
        ("CONNECT a HTTP/1.1", Refusal::TargetForm),
        ("CONNECT http://a:80 HTTP/1.1", Refusal::TargetForm),
        ("GET ftp://h/ HTTP/1.1", Refusal::Scheme),
        ("GET http://u:p@h/ HTTP/1.1", Refusal::UserInfo),
        ("GET http:///a HTTP/1.1", Refusal::Authority),
        ("GET http://a,b/ HTTP/1.1", Refusal::Authority),
        ("GET http://a%41/ HTTP/1.1", Refusal::Authority),
        ("GET /a#b HTTP/1.1", Refusal::Fragment),
        ("GET /a?b#c HTTP/1.1", Refusal::Fragment),
        ("GET /a<b HTTP/1.1", Refusal::TargetByte),
        ("GET /a`b HTTP/1.1", Refusal::TargetByte),
        ("GET /a?b\"c HTTP/1.1", Refusal::TargetByte),
        ("GET /a b HTTP/1.1", Refusal::Version),
        ("GET /a\x01 HTTP/1.1", Refusal::Control),
        ("GET /a\x7f HTTP/1.1", Refusal::Control),
        ("GET /\x16 HTTP/1.1", Refusal::Control),
    ] {
        assert_eq!(with(line, "Host: h\r\n").err(), Some(why), "{line}");
    }
    assert_eq!(request(b"GET /\xe9 HTTP/1.1\r\nHost: a\r\n\r\n").err(), Some(Refusal::TargetByte), "not UTF-8");
}

/// Section 3.2; RFC 9110 section 7.2.
#[test]
fn a_request_has_one_host() {
    assert_eq!(with("GET / HTTP/1.1", "").err(), Some(Refusal::NoHost));
    assert_eq!(with("GET / HTTP/1.1", "Host: a\r\nHost: a\r\n").err(), Some(Refusal::TwoHosts));
    for bad in ["", "u@h", "a, b", "a/b", "a b"] {
        assert_eq!(with("GET / HTTP/1.1", &format!("Host: {bad}\r\n")).err(), Some(Refusal::Host), "{bad}");
    }
    assert!(with("GET / HTTP/1.0", "").is_ok() && with("GET http://a/ HTTP/1.1", "Host:\r\n").is_ok());
    assert_eq!(with("GET http://a/ HTTP/1.1", "").err(), Some(Refusal::NoHost));
    assert_eq!(with("GET http://a/ HTTP/1.0", "Host:\r\n").err(), Some(Refusal::Host));
}

/// Section 5; RFC 9110 sections 5.1 and 5.5.
#[test]
fn a_field_is_a_token_a_colon_and_text() {
    for (line, why) in [
        ("X : a", Refusal::SpaceBeforeColon),
        ("X\t: a", Refusal::SpaceBeforeColon),
        ("X y: a", Refusal::FieldName),
        (": a", Refusal::FieldName),
        ("X(: a", Refusal::FieldName),
        ("\u{e9}: a", Refusal::FieldName),
        ("nonsense", Refusal::NoColon),
        ("X: a\r\n b", Refusal::Fold),
        ("X: a\r\n\tb", Refusal::Fold),
        ("X: a\r\n ", Refusal::Fold),
        ("X: a\0", Refusal::Control),
        ("X: \x0b", Refusal::Control),
        ("X\0: a", Refusal::Control),
        ("X: \x7f", Refusal::Control),
        ("X: a\rb", Refusal::BareCr),
    ] {
        assert_eq!(field(line).err(), Some(why), "{line:?}");
        same_in_pieces(&Scanner::requests(LIMITS), format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n").as_bytes());
    }
    let head = field("!#$%&'*+-.^_`|~09aZ: \t a \t\u{e9}\" \t").expect("legal");
    assert_eq!(head.iter().last(), Some((&b"!#$%&'*+-.^_`|~09aZ"[..], "a \t\u{e9}\"".as_bytes())));
}

/// Sections 6.1 to 6.3.
#[test]
fn the_length_of_a_body_is_certain() {
    for (fields, why) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", Refusal::LengthAndCoding),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0", Refusal::LengthAndCoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Refusal::Coding),
        ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", Refusal::Coding),
        ("Transfer-Encoding: gzip, chunked", Refusal::UnknownCoding),
        ("Transfer-Encoding: chunked, chunked", Refusal::Coding),
        ("Transfer-Encoding: chunked, identity", Refusal::Coding),
        ("Transfer-Encoding: xchunked", Refusal::Coding),
        ("Transfer-Encoding: , chunked", Refusal::Coding),
        ("Transfer-Encoding: \"chunked\"", Refusal::Coding),
        ("Transfer-Encoding: chunked;a=b", Refusal::Coding),
        ("Transfer-Encoding:", Refusal::Coding),
        ("Content-Length: 5, 5", Refusal::LengthList),
        ("Content-Length: 5\r\nContent-Length: 6", Refusal::LengthsDiffer),
        ("Content-Length: +5", Refusal::Length),
        ("Content-Length: -0", Refusal::Length),
        ("Content-Length: 0x5", Refusal::Length),
        ("Content-Length: 5 5", Refusal::Length),
        ("Content-Length:", Refusal::Length),
        ("Content-Length: 18446744073709551616", Refusal::Length),
        ("content_length: 5", Refusal::FramingAlias),
        ("Content.Length: 5", Refusal::FramingAlias),
        ("Transfer~Encoding: chunked", Refusal::FramingAlias),
        ("Connection: upgrade\r\nUpgrade: WebSocket\r\nContent-Length: 3", Refusal::UpgradeWithBody),
        ("Upgrade: websocket\r\nTransfer-Encoding: chunked\r\nConnection: upgrade", Refusal::UpgradeWithBody),
    ] {
        assert_eq!(field(fields).err(), Some(why), "{fields}");
    }
    assert_eq!(field(&format!("Content-Length: {}5", " ".repeat(100))).err(), Some(Refusal::LengthPadded));
    assert_eq!(with("POST / HTTP/1.0", "Transfer-Encoding: chunked\r\n").err(), Some(Refusal::CodingInOldVersion));
    for (fields, length, plain, chunked) in [
        ("Content-Length: 18446744073709551615", Some(u64::MAX), true, false),
        ("Content-Length: 0", Some(0), true, false),
        ("Content-Length: 005", Some(5), false, false),
        ("Content-Length: 5\r\nContent-Length: 5", Some(5), false, false),
        ("Transfer-Encoding: Chunked", None, false, true),
        ("Content-Lengthy: x\r\nContent:Length: y\r\nXontent-Length: z", None, false, false),
    ] {
        let head = field(fields).expect(fields);
        assert_eq!((head.length(), head.length_is_plain(), head.is_chunked()), (length, plain, chunked), "{fields}");
    }
}

/// Section 9.3; RFC 9110 sections 7.6.1, 7.8, 10.1.1.
#[test]
fn what_is_said_of_the_connection_is_known() {
    let facts = |head: Head| (head.keeps_alive(), head.upgrades(), head.upgrades_to_websocket(), head.expects_continue());
    assert_eq!(facts(field("Connection: Close").expect("legal")), (false, false, false, false));
    assert_eq!(facts(field("Connection: x,\tUPGRADE\r\nUpgrade: h2c, WebSocket").expect("legal")), (true, true, true, false));
    assert_eq!(facts(field("Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 3").expect("legal")), (true, true, false, false));
    assert_eq!(facts(field("Upgrade: websocket\r\nContent-Length: 3").expect("legal")), (true, false, false, false));
    assert_eq!(facts(field("Expect: 100-Continue").expect("legal")), (true, false, false, true));
    let old = |fields: &str| with("GET / HTTP/1.0", fields).map(facts);
    assert_eq!(old("Expect: 100-continue\r\n"), Ok((false, false, false, false)));
    assert_eq!(old("Connection: Keep-Alive, Upgrade\r\nUpgrade: websocket\r\n"), Ok((true, false, false, false)));
    assert_eq!(old("Connection: keep-alive, close\r\n"), Ok((false, false, false, false)));
    let many = (0..65).map(|n| format!("x-{n}")).collect::<Vec<_>>().join(",");
    assert_eq!(field(&format!("Connection: {many}")).err(), Some(Refusal::TooManyOptions));
}

/// RFC 6585 section 5, RFC 9110 section 15.5.15.
#[test]
fn a_head_has_bounds() {
    let target = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(length - 1));
    let value = |length: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(length - 32));
    let count = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count - 1));
    for (text, verdict) in [
        (target(200), None),
        (target(201), Some(Refusal::TargetTooLong)),
        (target(5000), Some(Refusal::TargetTooLong)),
        (value(2000), None),
        (value(2001), Some(Refusal::HeadTooLarge)),
        (value(5000), Some(Refusal::HeadTooLarge)),
        (count(20), None),
        (count(21), Some(Refusal::TooManyFields)),
    ] {
        assert_eq!(request(&text).err(), verdict, "{} bytes", text.len());
        for length in [1, 7, 100, 1999, 2000, 2001] {
            let found = scan(Scanner::requests(LIMITS), text.as_bytes(), &[length]).err();
            assert_eq!(found, verdict, "{} bytes in pieces of {length}", text.len());
        }
    }
    let endless = vec![b'a'; 3000];
    assert_eq!(whole(Scanner::answers(LIMITS), &endless).err(), Some(Refusal::HeadTooLarge));
}

/// Section 4.
#[test]
fn an_answer_begins_with_a_status_line() {
    let head = answer("HTTP/1.1 404 Not \u{e9} Found\r\nServer: x\r\n\r\n").expect("legal");
    assert_eq!((head.status(), head.reason(), head.version()), (404, "Not \u{e9} Found".as_bytes(), Version::Http11));
    for (line, status, reason) in [("200 ", 200, ""), ("200", 200, ""), ("999 x", 999, "x")] {
        let head = answer(format!("HTTP/1.0 {line}\r\n\r\n")).expect(line);
        assert_eq!((head.status(), head.reason(), head.version()), (status, reason.as_bytes(), Version::Http10));
        same_in_pieces(&Scanner::answers(LIMITS), head.bytes());
    }
    for (line, why) in [
        ("HTTP/1.1 099 x", Refusal::StatusLine),
        ("HTTP/1.1 20 x", Refusal::StatusLine),
        ("HTTP/1.1 2000", Refusal::StatusLine),
        ("HTTP/1.1  200 OK", Refusal::StatusLine),
        ("HTTP/1.1\t200 OK", Refusal::Version),
        ("SSH-2.0-OpenSSH", Refusal::StatusLine),
        ("ICY 200 OK", Refusal::StatusLine),
        ("", Refusal::StatusLine),
        ("HTTP/1.2 200 OK", Refusal::MinorVersion),
        ("HTTP/2.0 200 OK", Refusal::MajorVersion),
        ("HTTP/1.1 200 O\0K", Refusal::Control),
        ("HTTP/1.1 200 OK\rx", Refusal::BareCr),
    ] {
        let text = format!("{line}\r\nX: y\r\n\r\n");
        assert_eq!(answer(&text).err(), Some(why), "{line}");
        same_in_pieces(&Scanner::answers(LIMITS), text.as_bytes());
    }
}

/// Sections 2.2, 5.2, 6.3: what a target may do that a client may not, and what neither may.
#[test]
fn an_answer_may_end_lines_in_lf_and_repeat_its_length() {
    let text = "HTTP/1.1 200 OK\nX: a\r\nContent-Length: 2, 2\nContent-Length: 2\n\n";
    let head = answer(text).expect("legal");
    assert_eq!((head.reason(), head.length(), head.length_is_plain()), (&b"OK"[..], Some(2), false));
    same_in_pieces(&Scanner::answers(LIMITS), text.as_bytes());
    for (fields, why) in [
        ("X: a\r\n b\r\n", Refusal::Fold),
        ("X : a\r\n", Refusal::SpaceBeforeColon),
        ("X: a\rb\r\n", Refusal::BareCr),
        ("Transfer-Encoding: gzip\r\n", Refusal::Coding),
        ("Content-Length: 2\r\nContent-Length: 3\r\n", Refusal::LengthsDiffer),
        ("Content-Length: 2, \r\n", Refusal::Length),
    ] {
        assert_eq!(answer(format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).err(), Some(why), "{fields:?}");
    }
    assert_eq!(answer("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").err(), Some(Refusal::CodingInOldVersion));
    // Nobody is tricked by these in an answer.
    assert!(answer("HTTP/1.1 200 OK\r\nHost: a\r\nHost: ,\r\ncontent_length: 3\r\n\r\n").is_ok());
}

/// Parts of heads, good and bad.
const PARTS: &[&str] = &[
    "GET / HTTP/1.1",
    "POST /a?b HTTP/1.0",
    "OPTIONS * HTTP/1.1",
    "GET http://a?b HTTP/1.1",
    "HTTP/1.1 200 OK",
    "HTTP/1.1 304",
    "\r\n",
    "\r\n",
    "\r\n",
    "\n",
    "\r",
    "Host: a",
    "Content-Length: 3",
    "Content-Length: 03",
    "Transfer-Encoding: chunked",
    "Connection: close, x",
    "X: y",
    "x:",
    " ",
    "\t",
    "\0",
    ":",
    "caf\u{e9}",
    "Expect: 100-continue",
    "Upgrade: websocket",
    "Connection: upgrade",
    "HTTP/1.1 ",
    "GET ",
];

proptest! {
    #[test]
    fn the_verdict_does_not_depend_on_how_the_bytes_are_cut(
        parts in prop::collection::vec(prop::sample::select(PARTS), 0..24), limit in 2_u32..300, lengths in prop::collection::vec(1_usize..40, 1..6),
    ) {
        let bytes = parts.concat().into_bytes();
        for scanner in [Scanner::requests(Limits { bytes: limit, ..LIMITS }), Scanner::answers(Limits { bytes: limit, ..LIMITS })] {
            let told = |lengths: &[usize]| scan(scanner.clone(), &bytes, lengths);
            prop_assert_eq!(told(&lengths), told(&[usize::MAX]));
            prop_assert_eq!(told(&[1]), told(&[usize::MAX]));
        }
    }
}

/// Nothing panics, and what passes is what it says. `OUTRIGGER_ROUNDS` makes more mutations than the 20,000.
#[test]
fn mutations_never_panic() {
    let seeds: [&[u8]; 3] = [
        BROWSER.as_bytes(),
        b"POST http://a?b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: x, close\r\nX: y\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 5\r\nConnection: a, b\r\nA: b\r\n\r\n",
    ];
    let mut random = fastrand::Rng::with_seed(9112);
    let rounds = std::env::var("OUTRIGGER_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(20_000);
    for round in 0..rounds {
        let mut bytes = seeds[round % seeds.len()].to_vec();
        for _ in 0..random.usize(1..5) {
            let at = random.usize(..bytes.len());
            match random.u8(..4) {
                0 => bytes[at] = random.u8(..),
                1 => bytes[at] = *random.choice(b"\r\n \t:,;#%0\0\x7f".iter()).expect("one"),
                2 => drop(bytes.remove(at)),
                _ => bytes.splice(at..at, seeds[random.usize(..3)][..random.usize(..30)].iter().copied()).for_each(drop),
            }
        }
        for scanner in [Scanner::requests(LIMITS), Scanner::answers(LIMITS)] {
            let lengths = [random.usize(1..80), usize::MAX];
            if let Ok(Some((head, taken))) = scan(scanner, &bytes, &lengths) {
                assert!(bytes[..taken].ends_with(head.bytes()));
                for (name, value) in head.iter() {
                    assert!(!name.is_empty() && value.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f)));
                }
                let _ = (head.path_and_query(), head.host(), head.reason());
            }
        }
    }
}
