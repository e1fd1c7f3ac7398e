//! Keys: their form, where they are found, what a route asks of them, and what is taken out.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderName;

use super::*;
use crate::config::{ApiKey, ApiKeys, Mode};

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn name(name: &'static str) -> HeaderName {
    HeaderName::from_static(name)
}

fn key_of(seed: u8) -> String {
    key::mint([seed; 32])
}

fn sources(fields: &[&'static str], basic: bool) -> AuthSources {
    let row = |name: &str, scopes: &[&str], expires: Option<u64>| ApiKey {
        name: name.into(),
        caller: format!("{name}@shop").into(),
        tier: Some("gold".into()),
        scopes: scopes.iter().map(|scope| Box::from(*scope)).collect(),
        expires: expires.map(|at| NOW + Duration::from_secs(at)),
    };
    let keys = [(1, row("web", &["read", "write"], None)), (2, row("old", &[], Some(0))), (3, row("soon", &[], Some(1)))];
    let keys: HashMap<_, _> = keys.into_iter().map(|(seed, row)| (key::digest(&key_of(seed)), row)).collect();
    AuthSources {
        jwt: None,
        forward: None,
        client_cert: None,
        api_keys: Some(ApiKeys { fields: fields.iter().map(|field| name(field)).collect(), basic, keys }),
    }
}

fn policy(sources: AuthSources) -> Auth {
    Auth { mode: Mode::Enforce, sources: Arc::new(sources), anonymous: false, scopes: Vec::new(), tiers: Vec::new(), pass: false }
}

fn fields(of: &[(&'static str, String)]) -> Fields {
    of.iter().map(|(name, value)| (*name, value)).collect()
}

/// The caller, or why not.
fn looked(sources: &AuthSources, of: &[(&'static str, String)]) -> Result<Option<String>, String> {
    match look(sources, &fields(of), AtHand::alone(NOW)) {
        Looked::Nothing => Ok(None),
        Looked::Good(proof) => Ok(Some(proof.name.to_string())),
        Looked::Bad(why) => Err(why.to_string()),
        _ => Err("not now".into()),
    }
}

#[test]
fn a_key_has_a_prefix_and_a_checksum_and_no_key_is_another() {
    let key = key_of(1);
    assert!(key.starts_with("ork_") && key.len() == 62 && key::is_whole(&key), "{key}");
    assert_ne!(key, key_of(2));
    for at in 0..key.len() {
        let mut other = key.clone().into_bytes();
        other[at] = if other[at] == b'a' { b'b' } else { b'a' };
        let other = String::from_utf8(other).expect("ASCII");
        assert!(!key::is_whole(&other), "{other}");
        assert!(!key::is_whole(&key[..at]), "cut at {at}");
    }
    // SHA-256 of the text: `printf %s KEY | sha256sum`.
    assert_eq!(key::digest("abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
}

#[test]
fn a_key_is_found_where_it_may_stand_and_nowhere_else() {
    let bearer = |text: &str| ("authorization", text.to_owned());
    let usual = sources(&["authorization"], false);
    for (shown, expected) in [
        (vec![bearer(&format!("Bearer {}", key_of(1)))], Ok(Some("web@shop"))),
        (vec![bearer(&format!("bearer  {} ", key_of(1)))], Ok(Some("web@shop"))),
        (vec![], Ok(None)),
        (vec![("x-api-key", key_of(1))], Ok(None)),
        (vec![bearer(&key_of(1))], Ok(None)),
        (vec![bearer("Bearer sk-of-somebody-else")], Ok(None)),
        (vec![bearer("Bearer ork_")], Err("checksum")),
        (vec![bearer(&format!("Bearer {}", key_of(9)))], Err("not known")),
        (vec![bearer(&format!("Bearer {}", key_of(2)))], Err("`old` has expired")),
        (vec![bearer(&format!("Bearer {}", key_of(3)))], Ok(Some("soon@shop"))),
        (vec![bearer(&format!("Bearer {}", key_of(1))), bearer(&format!("Bearer {}", key_of(9)))], Err("two keys")),
        (vec![bearer(&format!("Basic {}", STANDARD.encode(format!("web:{}", key_of(1)))))], Ok(None)),
    ] {
        match (looked(&usual, &shown), expected) {
            (Ok(caller), Ok(expected)) => assert_eq!(caller.as_deref(), expected, "{shown:?}"),
            (Err(why), Err(part)) => assert!(why.contains(part), "{shown:?}: {why}"),
            (other, _) => panic!("{shown:?}: {other:?}"),
        }
    }
    let field = sources(&["x-outrigger-key"], false);
    assert_eq!(looked(&field, &[("x-outrigger-key", key_of(1)), bearer("Bearer sk-app")]), Ok(Some("web@shop".into())));
    assert_eq!(looked(&field, &[bearer(&format!("Bearer {}", key_of(1)))]), Ok(None));
}

#[test]
fn as_a_password_a_key_needs_its_name() {
    let basic = |pair: String| [("authorization", format!("Basic {}", STANDARD.encode(pair)))];
    let sources = sources(&["authorization"], true);
    assert_eq!(looked(&sources, &basic(format!("web:{}", key_of(1)))), Ok(Some("web@shop".into())));
    for wrong in [format!("soon:{}", key_of(1)), "web:hunter2".to_owned(), "web:".to_owned(), format!(":{}", key_of(1))] {
        assert!(looked(&sources, &basic(wrong.clone())).is_err_and(|why| why.contains("not known")), "{wrong}");
    }
    for odd in ["Basic !!!", "Basic d2Vi", "Basic"] {
        assert_eq!(looked(&sources, &[("authorization", odd.to_owned())]), Ok(None), "{odd}");
    }
}

#[test]
fn a_route_asks_for_scopes_and_tiers_and_says_what_is_missing() {
    let proof =
        || look(&sources(&["authorization"], true), &fields(&[("authorization", format!("Bearer {}", key_of(1)))]), AtHand::alone(NOW));
    let of = |scopes: &[&str], tiers: &[&str]| {
        let texts = |list: &[&str]| list.iter().map(|text| Box::from(*text)).collect();
        Auth { scopes: texts(scopes), tiers: texts(tiers), ..policy(sources(&["authorization"], true)) }
    };
    assert!(admit(&of(&["read"], &["silver", "gold"]), proof()).is_ok_and(|proof| proof.is_some()));
    let lacks = admit(&of(&["read", "admin"], &[]), proof()).expect_err("has no such scope");
    assert_eq!((lacks.fault, &*lacks.why), (ProofFault::Insufficient, "the credential of `web@shop` lacks the scope admin (auth.scopes)"));
    assert_eq!(lacks.challenges[0], "Bearer realm=\"outrigger\", error=\"insufficient_scope\", scope=\"read admin\"");
    assert!(admit(&of(&[], &["silver"]), proof()).is_err_and(|lacks| lacks.fault == ProofFault::Insufficient));
    let missing = admit(&of(&[], &[]), Looked::Nothing).expect_err("there is none");
    assert_eq!((missing.fault, missing.challenges.len()), (ProofFault::Missing, 2));
    assert!(missing.why.contains("Authorization: Bearer KEY"), "{}", missing.why);
    let open = Auth { anonymous: true, ..of(&[], &[]) };
    assert_eq!(admit(&open, Looked::Nothing).expect("nobody in particular"), None);
    assert!(admit(&open, Looked::Bad("x".into())).is_err_and(|bad| bad.fault == ProofFault::Invalid), "a bad one never passes");
}

#[test]
fn every_key_is_taken_out_and_nothing_else() {
    let sources = sources(&["authorization", "x-api-key"], false);
    let mut fields = fields(&[
        ("authorization", format!("Bearer {}", key_of(1))),
        ("x-api-key", key_of(9)),
        ("x-other", key_of(1)),
        ("accept", "*/*".into()),
    ]);
    strip(&sources, &mut fields);
    assert_eq!(fields.names().map(|name| name.as_str().to_owned()).collect::<Vec<_>>(), ["x-other", "accept"]);
    let mut of_the_app = Fields::new();
    of_the_app.append("authorization", "Bearer sk-app");
    strip(&sources, &mut of_the_app);
    assert!(of_the_app.has(Id::Authorization), "another's credential stays");
}

#[test]
fn a_certificate_counts_by_its_name_and_behind_a_key() {
    let sources = AuthSources { client_cert: Some(vec![Glob::new("*.clients.example")]), ..sources(&["authorization"], false) };
    let (known, other): (Arc<str>, Arc<str>) = ("a.clients.example".into(), "a.example".into());
    let look = |certificate, fields: &Fields| look(&sources, fields, AtHand { certificate, ..AtHand::alone(NOW) });
    let none = Fields::new();
    assert!(matches!(look(None, &none), Looked::Nothing));
    assert!(matches!(look(Some(&known), &none), Looked::Good(proof) if *proof.name == *known && proof.by == KnownBy::Certificate));
    assert!(matches!(look(Some(&other), &none), Looked::Bad(why) if why.contains("`a.example`, whom auth.client_cert does not name")));
    let keyed = fields(&[("authorization", format!("Bearer {}", key_of(1)))]);
    assert!(matches!(look(Some(&other), &keyed), Looked::Good(proof) if &*proof.name == "web@shop"));
}
