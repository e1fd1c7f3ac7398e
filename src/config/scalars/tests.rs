//! Every kind of word: what is read, what is refused, and the cure the refusal names.

use proptest::prelude::*;

use super::*;

/// The word is refused, and the message has the hint.
pub(in crate::config) fn refused<T: Word + fmt::Debug>(text: &str, hint: &str) {
    let said = T::word(text).expect_err(text);
    assert!(said.contains(hint), "{text}: {said}");
}

#[test]
fn listen_addresses_name_the_likely_one() {
    assert!(SocketAddr::word("0.0.0.0:8080").is_ok() && SocketAddr::word("[::]:8080").is_ok());
    refused::<SocketAddr>("8080", "`0.0.0.0:8080`");
    refused::<SocketAddr>(":8080", "`127.0.0.1:8080`");
    refused::<SocketAddr>("localhost:80", "did you mean `127.0.0.1:80`");
    refused::<SocketAddr>("x", "address:port");
    refused::<OrOff<SocketAddr>>("of", "or `off`");
    assert_eq!(OrOff::<SocketAddr>::word("off"), Ok(OrOff(None)));
}

#[test]
fn an_origin_may_be_a_port() {
    assert_eq!(Origin::word("3000").map(|o| o.to_string()), Ok("http://localhost:3000".into()));
    refused::<Origin>("0", "not a port");
    refused::<Origin>("99999", "from 1 to 65535");
    refused::<Origin>("localhost:3000", "http://");
}

#[test]
fn cidr_lists_know_two_words() {
    assert_eq!(Nets::word("private").map(|n| n.0.len()), Ok(PRIVATE.len()));
    assert_eq!(Nets::word("loopback").map(|n| n.0.len()), Ok(LOOPBACK.len()));
    assert_eq!(Nets::word("10.1.2.3").map(|n| n.0[0].prefix_len()), Ok(32));
    refused::<Nets>("10.1.2.3/8", "did you mean `10.0.0.0/8`");
    refused::<Nets>("privat", "did you mean `private`");
    refused::<Nets>("10.0.0.0/33", "is not a CIDR");
}

#[test]
fn a_status_has_a_range_and_a_truth_two_words() {
    refused::<StatusCode>("99", "200 to 599");
    refused::<bool>("yes", "`true` nor `false`");
}

#[test]
fn names_hosts_and_urls() {
    refused::<Name>("a b", "is not a name");
    refused::<Host>("https://a", "is not a host name");
    refused::<Host>("a:80", "has a port");
    refused::<RedisUrl>("localhost:6379", "redis://host:6379");
    refused::<Secret>("a\nb", "control character");
    refused::<Field>("a\nb", "header value");
}

#[test]
fn a_refused_secret_is_not_quoted() {
    for said in [Secret::word("hunter2\n").expect_err("control"), RedisUrl::word("hunter2").expect_err("no scheme")] {
        assert!(!said.contains("hunter2"), "{said}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_a_word_panic(text in "\\PC{0,40}") {
        let _ = (SocketAddr::word(&text), Origin::word(&text), Nets::word(&text), Host::word(&text), RedisUrl::word(&text));
        let _ = (Name::word(&text), HeaderName::word(&text), StatusCode::word(&text));
    }
}
