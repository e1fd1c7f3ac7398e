//! Fields against a list of pairs that does the same: order, case, bytes and counts never differ.

use proptest::prelude::*;

use super::*;
use crate::http1::{Limits, Scanner};

fn scanned(text: &str) -> Fields {
    let (mut scanner, mut head) = (Scanner::requests(Limits::default()), Head::new());
    let whole = format!("GET / HTTP/1.1\r\nHost: a\r\n{text}\r\n");
    assert_eq!(scanner.scan(&mut head, whole.as_bytes()), Ok(Some(whole.len())), "{whole:?}");
    Fields::from(head)
}

fn written(fields: &Fields) -> String {
    let mut out = Vec::new();
    fields.write(&mut out);
    String::from_utf8(out).expect("text")
}

#[test]
fn what_nobody_changes_goes_on_byte_for_byte() {
    let mut fields = scanned("X-Odd:1\r\nACCEPT:   a;q=1,b\r\nx-odd: 2\r\nEmpty:\r\n");
    assert_eq!(written(&fields), "Host: a\r\nX-Odd:1\r\nACCEPT:   a;q=1,b\r\nx-odd: 2\r\nEmpty:\r\n");
    fields.insert("X-ODD", "3");
    fields.append(Id::Via, "1.1 me");
    fields.remove(Id::Accept);
    assert_eq!(written(&fields), "Host: a\r\nX-ODD: 3\r\nEmpty:\r\nvia: 1.1 me\r\n");
    assert_eq!(written(&fields.compact()), written(&fields));
    assert!(fields.compact() == fields && fields.compact().capacity() < fields.capacity());
}

#[test]
fn blanks_behind_a_value_and_bare_line_feeds_are_mended() {
    let (mut scanner, mut head) = (Scanner::answers(Limits::default()), Head::new());
    let text = b"HTTP/1.1 200 OK\nA: 1 \nB:2\n\n";
    assert_eq!(scanner.scan(&mut head, text), Ok(Some(text.len())));
    assert_eq!(written(&Fields::from(head)), "A: 1\r\nB:2\r\n");
}

#[test]
fn no_value_begins_a_line_and_no_odd_name_is_written() {
    let mut fields = Fields::new();
    fields.insert("x", "a\r\nset-cookie: b\0");
    fields.append("not a name", "1");
    fields.append("", "1");
    fields.insert("bad\r\nname", "1");
    assert_eq!(written(&fields), "x: a  set-cookie: b \r\n");
    assert!(!fields.has("not a name") && fields.len() == 1);
}

/// RFC 9110 section 7.6.1.
#[test]
fn what_belongs_to_one_hop_goes_and_what_says_what_the_message_is_stays() {
    for (fields, left) in [
        ("Connection: close\r\nKeep-Alive: x\r\nTE: a\r\nA: 1\r\n", "A: 1\r\n"),
        ("Connection: X-Own, ,x-b\r\nCONNECTION: accept\r\nx-own: 1\r\nX-B: 2\r\nAccept: 3\r\nX-Bc: 4\r\n", "X-Bc: 4\r\n"),
        ("Connection: host, cookie, cache-control\r\nCookie: 1\r\nCache-Control: a\r\n", "Cookie: 1\r\nCache-Control: a\r\n"),
        ("Proxy-Connection: x\r\nHTTP2-Settings: y\r\nUpgrade: h2c\r\n", ""),
    ] {
        let mut fields = scanned(fields);
        fields.remove_hop_by_hop();
        assert_eq!(written(&fields), format!("Host: a\r\n{left}"));
    }
}

#[test]
fn numbers_are_written_without_zeros_before_them() {
    for number in [0, 7, 10, 1_000_000, u64::MAX] {
        let mut fields = Fields::new();
        fields.insert_number(Id::Age, number);
        assert_eq!(fields.text(Id::Age), Some(&*number.to_string()));
    }
}

#[test]
fn a_value_is_text_or_not() {
    let fields = scanned("A: \u{e9}\r\nB: a\tb\r\n");
    assert_eq!((fields.text("a"), fields.text("b"), fields.text("c")), (None, Some("a\tb"), None));
    assert_eq!(fields.get("a").map(Value::len), Some(2));
}

#[derive(Debug, Clone)]
enum Change {
    Insert(usize, String),
    Append(usize, String),
    Remove(usize),
    Retain(char),
    Compact,
}

/// Known names and others, in several cases; each group of two is one name.
const NAMES: [&str; 8] = ["Host", "HOST", "x-a", "X-A", "Etag", "etag", "X-Bee", "x-beE"];

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        (0..NAMES.len(), "[a-c]{0,3}").prop_map(|(name, value)| Change::Insert(name, value)),
        (0..NAMES.len(), "[a-c]{0,3}").prop_map(|(name, value)| Change::Append(name, value)),
        (0..NAMES.len()).prop_map(Change::Remove),
        proptest::char::range('a', 'c').prop_map(Change::Retain),
        Just(Change::Compact),
    ];
    proptest::collection::vec(change, 0..20)
}

proptest! {
    #[test]
    fn fields_are_a_list_of_pairs(changes in changes()) {
        let mut fields = scanned("X-a: 1\r\nETAG: 2\r\n");
        let mut list: Vec<(&str, String)> = vec![("Host", "a".into()), ("X-a", "1".into()), ("ETAG", "2".into())];
        for change in changes {
            match change {
                Change::Insert(name, value) => {
                    let name = NAMES[name];
                    fields.insert(name, &value);
                    match list.iter().position(|(other, _)| other.eq_ignore_ascii_case(name)) {
                        Some(place) => {
                            let behind = list.split_off(place + 1);
                            list[place] = (name, value);
                            list.extend(behind.into_iter().filter(|(other, _)| !other.eq_ignore_ascii_case(name)));
                        }
                        None => list.push((name, value)),
                    }
                }
                Change::Append(name, value) => {
                    fields.append(NAMES[name], &value);
                    list.push((NAMES[name], value));
                }
                Change::Remove(name) => {
                    let before = list.len();
                    list.retain(|(other, _)| !other.eq_ignore_ascii_case(NAMES[name]));
                    prop_assert_eq!(fields.remove(NAMES[name]), list.len() < before);
                }
                Change::Retain(first) => {
                    fields.retain(|_, value| value.as_bytes().first() != Some(&(first as u8)));
                    list.retain(|(_, value)| !value.starts_with(first));
                }
                Change::Compact => fields = fields.compact(),
            }
            let same: Vec<(String, &str)> = fields.iter().map(|(name, value)| (name.as_str().to_owned(), value.to_str().expect("text"))).collect();
            // A known name that is set is written as the house writes it.
            prop_assert_eq!(same.len(), list.len());
            for ((name, value), (other, same)) in same.iter().zip(&list) {
                prop_assert!(name.eq_ignore_ascii_case(other) && value == same, "{:?} {:?}", name, other);
            }
            for name in NAMES {
                let values: Vec<&str> = list.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect();
                prop_assert_eq!(fields.all(name).map(|value| value.to_str().expect("text")).collect::<Vec<_>>(), values.clone());
                prop_assert_eq!(fields.get(name).map(|value| value.to_str().expect("text")), values.first().copied());
                prop_assert_eq!(fields.has(name), !values.is_empty());
            }
        }
    }
}
