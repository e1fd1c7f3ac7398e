//! What no edit names is written as it came; what one names is written once, in its place.

use proptest::prelude::*;

use super::{
    super::{Framing, Id, Limits, Name, Scanner},
    *,
};

fn request(text: impl AsRef<[u8]>) -> Head {
    scan(Scanner::requests(Limits::default()), text.as_ref())
}

fn answer(text: impl AsRef<[u8]>) -> Head {
    scan(Scanner::answers(Limits::default()), text.as_ref())
}

fn scan(mut scanner: Scanner, text: &[u8]) -> Head {
    let mut head = Head::new();
    assert_eq!(scanner.scan(&mut head, text), Ok(Some(text.len())), "{}", String::from_utf8_lossy(text));
    head
}

fn written(head: &Head, edits: &Edits) -> String {
    let mut out = Vec::new();
    if head.status() == 0 {
        write_request(&mut out, head, edits)
    } else {
        write_answer(&mut out, head, edits)
    }
    String::from_utf8(out).expect("text")
}

/// A request with these fields behind its Host, edited: the fields, without the first line.
fn edited(fields: &str, edit: impl FnOnce(&mut Edits, &Head)) -> String {
    let head = request(format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
    let mut edits = Edits::new();
    edit(&mut edits, &head);
    let text = written(&head, &edits);
    text.strip_prefix("GET / HTTP/1.1\r\n").and_then(|text| text.strip_suffix("\r\n")).expect("a head").to_owned()
}

const UNTOUCHED: &str = "Host: h\r\nx-A:  1 \t\r\nX-a:\r\nAccept: */*\r\n";

fn name(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).expect("a name")
}

#[test]
fn without_edits_a_head_is_written_as_it_came() {
    for text in ["GET /a?b HTTP/1.1\r\n", "OPTIONS * HTTP/1.1\r\n", "CONNECT a:1 HTTP/1.1\r\n", "odd~ /%2f\\ HTTP/1.1\r\n"] {
        let text = format!("{text}{UNTOUCHED}\r\n");
        assert_eq!(written(&request(&text), &Edits::new()), text);
    }
    for text in ["HTTP/1.1 200 OK\r\nx-A:  1 \r\n\r\n", "HTTP/1.1 404 \r\n\r\n"] {
        assert_eq!(written(&answer(text), &Edits::new()), text);
    }
    let mut out = Vec::new();
    let bytes = b"HTTP/1.1 200 \xe9\r\nX: \xff\r\n\r\n";
    write_answer(&mut out, &answer(bytes), &Edits::new());
    assert_eq!(out, bytes, "not UTF-8");
}

/// RFC 9112 sections 2.2, 2.3, 3.2, 4.
#[test]
fn version_form_and_line_ends_become_our_own() {
    for (text, is) in [
        ("GET / HTTP/1.0\r\nX: y\r\n\r\n", "GET / HTTP/1.1\r\nX: y\r\n\r\n"),
        ("GET http://a/b?c HTTP/1.1\r\nHost: a\r\n\r\n", "GET /b?c HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("GET http://a?c HTTP/1.1\r\nHost: a\r\n\r\n", "GET /?c HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
    ] {
        assert_eq!(written(&request(text), &Edits::new()), is);
    }
    for (text, is) in [
        ("HTTP/1.0 200 OK\r\nX: y\r\n\r\n", "HTTP/1.1 200 OK\r\nX: y\r\n\r\n"),
        ("HTTP/1.1 304\r\nX: y\r\n\r\n", "HTTP/1.1 304 \r\nX: y\r\n\r\n"),
        ("HTTP/1.1 200 OK\nX:  y\nZ: a\r\n\n", "HTTP/1.1 200 OK\r\nX: y\r\nZ: a\r\n\r\n"),
    ] {
        assert_eq!(written(&answer(text), &Edits::new()), is);
    }
    let ragged = answer("HTTP/1.1 200 OK\nX: y\nServer: a\nZ: b\n\n");
    let mut edits = Edits::new();
    edits.set(&ragged, Id::Server, b"us");
    edits.drop_field(0);
    assert_eq!(written(&ragged, &edits), "HTTP/1.1 200 OK\r\nserver: us\r\nZ: b\r\n\r\n");
}

#[test]
fn fields_are_dropped_set_and_added() {
    let all = "Accept: a\r\nX-A: 1\r\nAccept: b\r\nx-a: 2\r\nX-B: 3\r\n";
    assert_eq!(edited(all, |edits, _| edits.drop(Id::Accept)), "Host: h\r\nX-A: 1\r\nx-a: 2\r\nX-B: 3\r\n");
    assert_eq!(edited(all, |edits, head| edits.set(head, Id::Accept, b"c")), "Host: h\r\naccept: c\r\nX-A: 1\r\nx-a: 2\r\nX-B: 3\r\n");
    let twice = |edits: &mut Edits, head: &Head| {
        edits.set(head, name("X-a"), b"9");
        edits.set(head, name("x-A"), b"8");
    };
    assert_eq!(edited(all, twice), "Host: h\r\nAccept: a\r\nx-A: 8\r\nAccept: b\r\nX-B: 3\r\n");
    assert_eq!(edited("", |edits, head| edits.set(head, Id::Via, b"v")), "Host: h\r\nvia: v\r\n");
    let both = |edits: &mut Edits, head: &Head| {
        edits.append(Id::Via, b"1");
        edits.append(name("X-New"), b"");
        edits.append(Id::Via, b"2");
        edits.set(head, name("X-New"), b"3");
    };
    assert_eq!(edited("", both), "Host: h\r\nvia: 1\r\nvia: 2\r\nX-New: 3\r\n");
    let last = |edits: &mut Edits, head: &Head| {
        edits.drop_field(5);
        edits.drop_field(1);
        edits.drop_field(5);
        edits.replace_field(head, 3, b"c");
        edits.replace_field(head, 99, b"nothing");
    };
    assert_eq!(edited(all, last), "Host: h\r\nX-A: 1\r\nAccept: c\r\nx-a: 2\r\n");
    let nothing = |edits: &mut Edits, _: &Head| {
        edits.drop(Id::Other);
        edits.append(Id::Other, b"x");
        edits.drop(Id::Range);
    };
    assert_eq!(edited(all, nothing), format!("Host: h\r\n{all}"));
    let dropped_again = |edits: &mut Edits, head: &Head| {
        edits.set(head, Id::Accept, b"c");
        edits.drop(Id::Accept);
    };
    assert_eq!(edited("Accept: a\r\n", dropped_again), "Host: h\r\n");
}

#[test]
fn what_will_be_written_can_be_asked() {
    let head = request("GET / HTTP/1.1\r\nHost: h\r\nVia: a\r\nVia: b\r\n\r\n");
    let mut edits = Edits::new();
    assert_eq!(edits.get(&head, Id::Via), Some(&b"a"[..]));
    edits.drop_field(1);
    assert_eq!(edits.get(&head, Id::Via), Some(&b"b"[..]));
    edits.set_with(&head, Id::Via, |out| out.extend_from_slice(b"c"));
    assert_eq!((edits.get(&head, Id::Via), edits.get(&head, Id::Age)), (Some(&b"c"[..]), None));
    edits.drop(Id::Via);
    assert_eq!(edits.get(&head, Id::Via), None);
    edits.clear();
    assert_eq!(edits.get(&head, Id::Via), Some(&b"a"[..]));
}

/// RFC 9112 section 11.1: response splitting.
#[test]
fn no_value_begins_a_line() {
    let text = edited("", |edits, head| edits.set(head, name("X-V"), b"a\r\nSet-Cookie: b\0\x7f\tc"));
    assert_eq!(text, "Host: h\r\nX-V: a  Set-Cookie: b  \tc\r\n");
    let head = request("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    let mut edits = Edits::new();
    edits.set_target(b"/a b\r\n#<\xc3\xa9");
    assert_eq!(written(&head, &edits), "GET /a%20b%0D%0A%23%3C\u{e9} HTTP/1.1\r\nHost: h\r\n\r\n");
}

/// RFC 9110 section 7.6.1.
#[test]
fn what_belongs_to_one_hop_goes() {
    let fields = "Connection: keep-alive, X-Secret, host, authorization, accept, X-Late\r\nx-secret: 1\r\nX-Secrets: 2\r\nAuthorization: k\r\n\
        TE: trailers\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nTrailer: x\r\nAccept: a\r\nx-late: 1\r\n\
        Transfer-Encoding: chunked\r\n";
    let left = "Host: h\r\nX-Secrets: 2\r\nAuthorization: k\r\nTrailer: x\r\n";
    assert_eq!(edited(fields, |edits, head| edits.drop_hop_by_hop(head)), left);
    // Nobody takes away what is set afterwards.
    let set = |edits: &mut Edits, head: &Head| {
        edits.drop_hop_by_hop(head);
        edits.set(head, name("X-Secret"), b"ours");
        edits.append(Id::Te, b"trailers");
        edits.frame(head, Framing::Chunked);
    };
    let all =
        "Host: h\r\nX-Secret: ours\r\nX-Secrets: 2\r\nAuthorization: k\r\nTrailer: x\r\nTransfer-Encoding: chunked\r\nte: trailers\r\n";
    assert_eq!(edited(fields, set), all);
}

/// RFC 9112 section 6, RFC 9110 section 8.6.
#[test]
fn one_framing_is_said() {
    for (fields, framing, is) in [
        ("Content-Length: 5\r\n", Framing::Length(5), "Content-Length: 5\r\n"),
        ("Content-Length: 05\r\nX: y\r\nContent-Length: 5\r\n", Framing::Length(5), "content-length: 5\r\nX: y\r\n"),
        ("X: y\r\n", Framing::Length(0), "X: y\r\ncontent-length: 0\r\n"),
        ("Content-Length: 5\r\n", Framing::Length(7), "content-length: 7\r\n"),
        ("Content-Length: 5\r\n", Framing::Chunked, "transfer-encoding: chunked\r\n"),
        ("Transfer-Encoding: CHUNKED\r\n", Framing::Chunked, "Transfer-Encoding: CHUNKED\r\n"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Framing::Chunked, "Transfer-Encoding: chunked\r\n"),
        ("Transfer-Encoding: chunked\r\n", Framing::Length(18_446_744_073_709_551_615), "content-length: 18446744073709551615\r\n"),
        ("", Framing::UntilClose, ""),
        ("Content-Length: 5\r\n", Framing::Tunnel, ""),
        ("Content-Length: 5, 5\r\n", Framing::None, "content-length: 5\r\n"),
        ("Content-Length: 5\r\n", Framing::None, "Content-Length: 5\r\n"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Framing::None, ""),
    ] {
        let head = answer(format!("HTTP/1.1 200 OK\r\n{fields}\r\n"));
        let mut edits = Edits::new();
        edits.drop_hop_by_hop(&head);
        edits.frame(&head, framing);
        edits.frame(&head, framing);
        assert_eq!(written(&head, &edits), format!("HTTP/1.1 200 OK\r\n{is}\r\n"), "{fields} as {framing:?}");
    }
    for status in [100, 103, 204] {
        let head = answer(format!("HTTP/1.1 {status} x\r\nContent-Length: 5\r\n\r\n"));
        let mut edits = Edits::new();
        edits.frame(&head, Framing::None);
        assert_eq!(written(&head, &edits), format!("HTTP/1.1 {status} x\r\n\r\n"));
    }
}

/// RFC 9110 section 6.5.1.
#[test]
fn trailers_are_written_without_what_must_not_stand_there() {
    let mut chunks = super::super::Chunks::new();
    let bytes = b"0\r\nX-Sum: 1\r\nConnection: x\r\nContent-Length: 7\r\nHost: a\r\nTrailer: b\r\nTE: c\r\nETag: \"d\"\r\n\r\n";
    assert_eq!(chunks.read(bytes, |_| ()), Ok(Some(bytes.len())));
    let mut out = Vec::new();
    write_trailers(&mut out, chunks.trailers().expect("trailers"), &mut Edits::new());
    assert_eq!(String::from_utf8_lossy(&out), "0\r\nX-Sum: 1\r\nETag: \"d\"\r\n\r\n");
}

fn field() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("Accept: a".to_owned()),
        Just("x-1:".to_owned()),
        Just("X-2:\tb ".to_owned()),
        Just("Content-Length: 3".to_owned()),
        Just("Connection: x-1, close".to_owned()),
        "[a-zA-Z-]{1,12}: ?[ -~]{0,30}".prop_filter("no framing", |line| {
            let name = Id::of(line.split(':').next().unwrap_or_default().as_bytes());
            !matches!(name, Id::Host | Id::ContentLength | Id::TransferEncoding | Id::Upgrade)
        }),
    ]
}

#[derive(Debug, Clone)]
enum Edit {
    Drop(Id),
    DropField(usize),
    Set(Id, String),
    SetNamed(&'static str, String),
    Append(Id, String),
    Hops,
}

fn edit() -> impl Strategy<Value = Edit> {
    let id = || prop::sample::select(vec![Id::Accept, Id::Via, Id::Connection, Id::ContentLength, Id::Host]);
    prop_oneof![
        id().prop_map(Edit::Drop),
        (0_usize..12).prop_map(Edit::DropField),
        (id(), "[a-z]{0,3}").prop_map(|(id, value)| Edit::Set(id, value)),
        (prop::sample::select(vec!["x-1", "X-2"]), "[a-z]{0,3}").prop_map(|(name, value)| Edit::SetNamed(name, value)),
        (id(), "[a-z]{0,3}").prop_map(|(id, value)| Edit::Append(id, value)),
        Just(Edit::Hops),
    ]
}

proptest! {
    #[test]
    fn what_was_scanned_is_written(fields in prop::collection::vec(field(), 0..12)) {
        let lines: String = fields.iter().map(|line| format!("{line}\r\n")).collect();
        let text = format!("GET /a HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        prop_assert_eq!(written(&request(&text), &Edits::new()), text);
        let text = format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
        prop_assert_eq!(written(&answer(&text), &Edits::new()), text);
    }

    /// Edits do to the bytes what they would do to a list of lines.
    #[test]
    fn edits_do_what_a_list_would(fields in prop::collection::vec(field(), 0..10), edits in prop::collection::vec(edit(), 0..8), lf: bool) {
        let end = if lf { "\n" } else { "\r\n" };
        let head = answer(format!("HTTP/1.1 200 OK{end}{}{end}", fields.iter().map(|line| format!("{line}{end}")).collect::<String>()));
        let id = |line: &str| Id::of(line.split(':').next().unwrap_or_default().as_bytes());
        // Lines with the index of the field they are or stand for.
        let mut list: Vec<(usize, String)> = head
            .iter()
            .zip(&fields)
            .map(|((name, value), line)| {
                let ragged = format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value));
                if lf { ragged } else { line.clone() }
            })
            .enumerate()
            .collect();
        let nominated: Vec<Vec<u8>> = head.members(Id::Connection).map(<[u8]>::to_ascii_lowercase).collect();
        let mut own = Edits::new();
        // What a proxy leaves out first is also left out first here.
        let mut ordered: Vec<Edit> = edits.iter().filter(|edit| matches!(edit, Edit::Hops)).take(1).cloned().collect();
        ordered.extend(edits.into_iter().filter(|edit| !matches!(edit, Edit::Hops)));
        let set = |list: &mut Vec<(usize, String)>, line: String| {
            let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
            let is = |other: &str| other.split(':').next().unwrap_or_default().eq_ignore_ascii_case(&name);
            let place = (0..fields.len()).find(|index| is(&fields[*index])).unwrap_or(usize::MAX);
            list.retain(|(_, other)| !is(other));
            let at = list.partition_point(|(other, _)| *other <= place);
            list.insert(at, (place, line));
        };
        for edit in ordered {
            match edit {
                Edit::Drop(which) => {
                    own.drop(which);
                    list.retain(|(_, line)| id(line) != which);
                }
                // A line of our own in a field's place stays.
                Edit::DropField(index) if index < fields.len() && !list.iter().any(|(at, line)| *at == index && line.contains(": own")) => {
                    own.drop_field(index);
                    list.retain(|(at, _)| *at != index);
                }
                Edit::DropField(_) => {}
                Edit::Set(which, value) => {
                    own.set(&head, which, format!("own{value}").as_bytes());
                    set(&mut list, format!("{}: own{value}", which.name()));
                }
                Edit::SetNamed(named, value) => {
                    own.set(&head, name(named), format!("own{value}").as_bytes());
                    set(&mut list, format!("{named}: own{value}"));
                }
                Edit::Append(which, value) => {
                    own.append(which, value.as_bytes());
                    list.push((usize::MAX, format!("{}: {value}", which.name())));
                }
                Edit::Hops => {
                    own.drop_hop_by_hop(&head);
                    list.retain(|(_, line)| {
                        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase().into_bytes();
                        let known = Id::of(&name);
                        let gone = super::super::HOP_BY_HOP.has(known) && known.is_known()
                            || nominated.contains(&name) && !(known.is_known() && super::super::ESSENTIAL.has(known));
                        !gone
                    });
                }
            }
        }
        let expected: String = list.iter().map(|(_, line)| format!("{line}\r\n")).collect();
        prop_assert_eq!(written(&head, &own), format!("HTTP/1.1 200 OK\r\n{expected}\r\n"));
    }
}
