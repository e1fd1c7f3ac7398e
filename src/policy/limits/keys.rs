//! From a request to the keys of its counters. Values of headers, cookies, queries and credentials leave this file only as keyed
//! hashes: foldhash with a secret of the process for counters in memory, BLAKE3 keyed with the store's secret for shared ones.
//!
//! A part that the request lacks is a value of its own: all requests without the header share one counter. The caller is the
//! exception: an outbound call of an unknown caller is not counted by limits per caller, unless `unattributed: shared` gives all of them one
//! counter, and an inbound one is counted by its address.

use std::{
    hash::{BuildHasher, Hasher},
    net::IpAddr,
    sync::LazyLock,
};

use foldhash::{SharedSeed, quality::SeedableRandomState};

use ipnet::Ipv6Net;

use super::table::Key;
use crate::{
    arrival::Door,
    caller::Proof,
    clock,
    config::KeyPart,
    http1::{Fields, Id},
};

/// The facts of which a limit's key is built. A door sets the facts it knows; the others stay `None`.
#[derive(Debug, Clone, Copy)]
pub struct KeyFacts<'a> {
    /// The client's address.
    pub client_ip: IpAddr,
    /// The caller's name, from a source that can be trusted.
    pub caller: Option<&'a str>,
    /// What the request's credential has proved.
    pub proof: Option<&'a Proof>,
    /// The request's header fields: headers, cookies and credentials are read from them.
    pub headers: &'a Fields,
    /// The query, without `?`.
    pub query: Option<&'a str>,
    /// Whether the peer is a trusted proxy: a trusted proxy's tier is believed.
    pub trusted: bool,
    /// The route's name.
    pub route: &'a str,
    /// Outbound: the provider's name.
    pub provider: Option<&'a str>,
    /// Outbound: the model.
    pub model: Option<&'a str>,
}

/// A taker of the parts of a key.
pub(super) trait Sink {
    /// Takes one part with its length: no two lists of parts look alike.
    fn part(&mut self, kind: u8, value: Option<&[u8]>);
}

/// Feeds the key's parts into `sink`; `false`: the limit is skipped, because its caller is unknown.
///
/// `counts_unknown`: outbound calls of unknown callers are not skipped; they share a value.
pub(super) fn feed(sink: &mut impl Sink, door: Door, parts: &[KeyPart], facts: &KeyFacts<'_>, counts_unknown: bool) -> bool {
    for part in parts {
        match part {
            KeyPart::ClientIp => feed_ip(sink, 1, facts.client_ip),
            KeyPart::Caller => match (facts.caller, door) {
                (Some(caller), _) => sink.part(2, Some(caller.as_bytes())),
                (None, Door::Inbound) => feed_ip(sink, 3, facts.client_ip),
                (None, Door::Outbound) if counts_unknown => sink.part(15, None),
                (None, Door::Outbound) => return false,
            },
            KeyPart::Header(name) => {
                // Several fields of one name are a list: all of them make the value.
                let mut values = facts.headers.all(name);
                sink.part(4, values.next().map(|value| value.as_bytes()));
                values.for_each(|value| sink.part(5, Some(value.as_bytes())));
            }
            KeyPart::Cookie(name) => sink.part(6, cookie(facts.headers, name)),
            KeyPart::Query(name) => sink.part(7, facts.query.and_then(|query| parameter(query, name))),
            KeyPart::ApiKey => match facts.proof {
                // A key counts by its name, wherever it stood, and another credential by whom it names: tokens change every few minutes.
                Some(proof) => sink.part(12, Some(proof.key.as_ref().unwrap_or(&proof.name).as_bytes())),
                None => sink.part(8, credential(facts.headers, facts.query)),
            },
            KeyPart::Route => sink.part(9, Some(facts.route.as_bytes())),
            KeyPart::Provider => sink.part(10, facts.provider.map(str::as_bytes)),
            KeyPart::Model => sink.part(11, facts.model.map(str::as_bytes)),
            KeyPart::Claim(name) => sink.part(13, claim(facts, name)),
            KeyPart::VerifiedTier => sink.part(14, verified_tier(facts)),
        }
    }
    true
}

/// A number for the same key, the same in every process; `None`: the key names nobody, or the request has none of its parts. It says nothing about the values, and whoever
/// chooses a value can foresee it.
pub fn stable(door: Door, parts: &[KeyPart], facts: &KeyFacts<'_>) -> Option<u64> {
    let mut sink = Noted { sink: Shared::new(&[0; 32], &[]), any: false };
    (feed(&mut sink, door, parts, facts, false) && sink.any).then(|| sink.sink.finish() as u64)
}

/// Notes whether any part had a value.
struct Noted<S> {
    sink: S,
    any: bool,
}

impl<S: Sink> Sink for Noted<S> {
    fn part(&mut self, kind: u8, value: Option<&[u8]>) {
        self.any |= value.is_some();
        self.sink.part(kind, value);
    }
}

/// The tier that `source` names. An empty value names none.
pub(super) fn tier<'a>(source: &'a KeyPart, facts: &KeyFacts<'a>) -> Option<&'a [u8]> {
    let named = match source {
        // Several fields of one name give no tier: none of them is known to hold.
        KeyPart::Header(name) if facts.trusted => {
            let mut values = facts.headers.all(name);
            values.next().filter(|_| values.next().is_none()).map(|value| value.as_bytes())
        }
        KeyPart::Caller => facts.caller.map(str::as_bytes),
        KeyPart::Route => Some(facts.route.as_bytes()),
        KeyPart::Provider => facts.provider.map(str::as_bytes),
        KeyPart::Model => facts.model.map(str::as_bytes),
        KeyPart::Claim(name) => claim(facts, name),
        KeyPart::VerifiedTier => verified_tier(facts),
        _ => None,
    };
    named.map(<[u8]>::trim_ascii).filter(|name| !name.is_empty())
}

/// A claim of the verified token.
fn claim<'a>(facts: &KeyFacts<'a>, name: &str) -> Option<&'a [u8]> {
    facts.proof?.claim(name).map(str::as_bytes)
}

/// The tier of the verified credential.
fn verified_tier<'a>(facts: &KeyFacts<'a>) -> Option<&'a [u8]> {
    facts.proof?.tier.as_deref().map(str::as_bytes)
}

/// The same key in words, for people: `caller ann, route chat`. Values that may hold a credential are told apart by digits of `key`.
pub(super) fn words(door: Door, parts: &[KeyPart], facts: &KeyFacts<'_>, key: Key) -> String {
    let hidden = |what: &str, name: &str| format!("{what}{name} #{:08x}", key[0] >> 32);
    let words = parts.iter().map(|part| match (part, facts.caller, door) {
        (KeyPart::Caller, Some(caller), _) => format!("caller {caller}"),
        (KeyPart::Caller, None, Door::Outbound) => "an unknown caller".to_owned(),
        (KeyPart::ClientIp, ..) | (KeyPart::Caller, None, Door::Inbound) => match facts.client_ip.to_canonical() {
            IpAddr::V4(address) => format!("address {address}"),
            IpAddr::V6(address) => format!("address {}", Ipv6Net::new_assert(address, 64).trunc()),
        },
        (KeyPart::Header(name), ..) => hidden("header ", name.as_str()),
        (KeyPart::Cookie(name), ..) => hidden("cookie ", name),
        (KeyPart::Query(name), ..) => hidden("query ", name),
        (KeyPart::ApiKey, ..) => hidden("API key", ""),
        (KeyPart::Route, ..) => format!("route {}", facts.route),
        (KeyPart::Provider, ..) => format!("provider {}", facts.provider.unwrap_or("none")),
        (KeyPart::Model, ..) => format!("model {}", facts.model.unwrap_or("none")),
        (KeyPart::Claim(name), ..) => hidden("claim ", name),
        (KeyPart::VerifiedTier, ..) => hidden("tier", ""),
    });
    words.collect::<Vec<_>>().join(", ")
}

/// The credential a client sent: `Authorization`, else the header names of the model providers, else Google's query parameter.
pub fn credential<'a>(headers: &'a Fields, query: Option<&'a str>) -> Option<&'a [u8]> {
    [Id::Authorization, Id::XApiKey, Id::ApiKey, Id::XGoogApiKey]
        .iter()
        .find_map(|name| headers.get(name))
        .map(|value| value.as_bytes())
        .or_else(|| query.and_then(|query| parameter(query, "key")))
}

/// A cookie's value, as sent (RFC 6265 section 4.2.1).
pub fn cookie<'a>(headers: &'a Fields, name: &str) -> Option<&'a [u8]> {
    headers.all(Id::Cookie).flat_map(|line| line.as_bytes().split(|byte| *byte == b';')).find_map(|pair| {
        let pair = pair.trim_ascii();
        let at = pair.iter().position(|byte| *byte == b'=')?;
        (&pair[..at] == name.as_bytes()).then(|| &pair[at + 1..])
    })
}

/// A query parameter's value, as sent; the name is compared as sent too.
pub fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a [u8]> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value.as_bytes())
    })
}

/// An IPv6 client owns its /64: the key has that prefix alone.
fn feed_ip(sink: &mut impl Sink, kind: u8, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(address) => sink.part(kind, Some(&address.octets())),
        IpAddr::V6(address) => sink.part(kind, Some(&address.octets()[..8])),
    }
}

static SEEDS: LazyLock<[(u64, SharedSeed); 2]> = LazyLock::new(|| [seed(), seed()]);

fn seed() -> (u64, SharedSeed) {
    (u64::from_le_bytes(clock::secret_bytes()), SharedSeed::from_u64(u64::from_le_bytes(clock::secret_bytes())))
}

/// 128 bits that no one outside the process can foresee.
pub(super) struct Local<'s>([foldhash::quality::FoldHasher<'s>; 2]);

impl Local<'static> {
    /// Begins with the limit's own number.
    pub(super) fn new(limit: u64) -> Self {
        let seeds: &'static [(u64, SharedSeed); 2] = &SEEDS;
        let mut hashers = [0, 1].map(|at: usize| SeedableRandomState::with_seed(seeds[at].0, &seeds[at].1).build_hasher());
        hashers.iter_mut().for_each(|hasher| hasher.write_u64(limit));
        Self(hashers)
    }

    /// The key.
    pub(super) fn finish(self) -> Key {
        self.0.map(|hasher| hasher.finish())
    }
}

impl Sink for Local<'_> {
    fn part(&mut self, kind: u8, value: Option<&[u8]>) {
        let tag = u64::from(kind) << 56 | value.map_or(0, |value| value.len() as u64 + 1);
        for hasher in &mut self.0 {
            hasher.write_u64(tag);
            hasher.write(value.unwrap_or_default());
        }
    }
}

/// A key that is the same for every replica with the secret.
pub(super) struct Shared(blake3::Hasher);

impl Shared {
    /// Begins with the limit's identity.
    pub(super) fn new(secret: &[u8; 32], identity: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(secret);
        hasher.update(&(identity.len() as u64).to_le_bytes());
        hasher.update(identity);
        Self(hasher)
    }

    /// The first 128 bits of the hash.
    pub(super) fn finish(self) -> u128 {
        let mut id = [0; 16];
        id.copy_from_slice(&self.0.finalize().as_bytes()[..16]);
        u128::from_be_bytes(id)
    }
}

impl Sink for Shared {
    fn part(&mut self, kind: u8, value: Option<&[u8]>) {
        self.0.update(&[kind]);
        self.0.update(&value.map_or(0, |value| value.len() as u64 + 1).to_le_bytes());
        self.0.update(value.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(door: Door, parts: &[KeyPart], facts: &KeyFacts<'_>) -> Option<Key> {
        let mut sink = Local::new(1);
        feed(&mut sink, door, parts, facts, false).then(|| sink.finish())
    }

    fn facts<'a>(ip: &str, headers: &'a Fields) -> KeyFacts<'a> {
        KeyFacts {
            client_ip: ip.parse().expect("ip"),
            caller: None,
            proof: None,
            headers,
            query: None,
            trusted: false,
            route: "r",
            provider: None,
            model: None,
        }
    }

    #[test]
    fn an_ipv6_client_is_its_64() {
        let none = Fields::new();
        let of = |ip| key(Door::Inbound, &[KeyPart::ClientIp], &facts(ip, &none));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
    }

    #[test]
    fn a_caller_that_is_unknown_is_skipped_outbound_and_an_address_inbound() {
        let none = Fields::new();
        let parts = [KeyPart::Caller];
        assert_eq!(key(Door::Outbound, &parts, &facts("192.0.2.1", &none)), None);
        let anonymous = key(Door::Inbound, &parts, &facts("192.0.2.1", &none));
        assert!(anonymous.is_some());
        assert_ne!(anonymous, key(Door::Inbound, &parts, &facts("192.0.2.2", &none)));
        let named = KeyFacts { caller: Some("192.0.2.1"), ..facts("192.0.2.1", &none) };
        assert_ne!(anonymous, key(Door::Inbound, &parts, &named), "nobody can take an address's counter by his name");
    }

    #[test]
    fn a_claim_and_a_tier_count_only_if_they_are_verified() {
        let none = Fields::new();
        let proof = |claims: &[(&str, &str)], tier: Option<&str>| Proof {
            name: "ann".into(),
            by: crate::caller::KnownBy::Token,
            key: None,
            tier: tier.map(Into::into),
            scopes: [].into(),
            claims: Some(claims.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()),
            copied: [].into(),
        };
        let (one, other) = (proof(&[("org", "o-1")], Some("gold")), proof(&[("org", "o-2")], None));
        let of = |proof| KeyFacts { proof, ..facts("192.0.2.1", &none) };
        let parts = [KeyPart::Claim("org".into())];
        let keys = [Some(&one), Some(&other), None].map(|proof| key(Door::Inbound, &parts, &of(proof)));
        assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
        for (source, proof, named) in [
            (KeyPart::VerifiedTier, Some(&one), Some(&b"gold"[..])),
            (KeyPart::VerifiedTier, Some(&other), None),
            (KeyPart::VerifiedTier, None, None),
            (KeyPart::Claim("org".into()), Some(&one), Some(b"o-1")),
            (KeyPart::Claim("plan".into()), Some(&one), None),
        ] {
            assert_eq!(tier(&source, &of(proof)), named, "{source:?}");
        }
    }

    #[test]
    fn a_request_without_any_part_of_a_key_has_no_number() {
        let none = Fields::new();
        let mut with = Fields::new();
        with.insert("cookie", "sid=1");
        let of = |headers: &Fields| stable(Door::Inbound, &[KeyPart::Cookie("sid".into())], &facts("192.0.2.1", headers));
        assert_eq!(of(&none), None, "strangers must not all go to one member");
        assert!(of(&with).is_some() && of(&with) == of(&with.clone()));
        assert_eq!(stable(Door::Outbound, &[KeyPart::Caller], &facts("192.0.2.1", &none)), None);
    }

    #[test]
    fn a_key_in_words_names_people_and_hides_what_may_be_a_credential() {
        let none = Fields::new();
        let facts = KeyFacts { caller: Some("ann"), provider: Some("openai"), ..facts("2001:db8::1", &none) };
        let of = |parts: &[KeyPart]| words(Door::Inbound, parts, &facts, [0x0123_4567_89ab_cdef, 0]);
        assert_eq!(of(&[KeyPart::Caller, KeyPart::Route, KeyPart::Provider]), "caller ann, route r, provider openai");
        assert_eq!(of(&[KeyPart::ClientIp]), "address 2001:db8::/64");
        let parts = [KeyPart::ApiKey, KeyPart::Cookie("session".into()), KeyPart::Header(http::header::AUTHORIZATION)];
        assert_eq!(of(&parts), "API key #01234567, cookie session #01234567, header authorization #01234567");
        let nobody = KeyFacts { caller: None, ..facts };
        assert_eq!(words(Door::Inbound, &[KeyPart::Caller], &nobody, [0, 0]), "address 2001:db8::/64", "its address stands in for it");
    }

    #[test]
    fn parts_are_read_where_they_stand() {
        let mut headers = Fields::new();
        headers.insert("cookie", "a=1; session=s3cret; b=2");
        headers.insert("x-api-key", "k");
        assert_eq!(cookie(&headers, "session"), Some(&b"s3cret"[..]));
        assert_eq!(cookie(&headers, "sess"), None);
        assert_eq!(parameter("x=1&key=abc&flag", "key"), Some(&b"abc"[..]));
        assert_eq!(parameter("x=1&key=abc&flag", "flag"), Some(&b""[..]));
        assert_eq!(credential(&headers, Some("key=q")), Some(&b"k"[..]));
        assert_eq!(credential(&Fields::new(), Some("key=q")), Some(&b"q"[..]));
    }

    #[test]
    fn no_two_lists_of_parts_look_alike() {
        let of = |parts: &[(u8, Option<&[u8]>)]| {
            let mut sink = Local::new(1);
            parts.iter().for_each(|(kind, value)| sink.part(*kind, *value));
            sink.finish()
        };
        assert_ne!(of(&[(4, Some(b"ab")), (4, Some(b"c"))]), of(&[(4, Some(b"a")), (4, Some(b"bc"))]));
        assert_ne!(of(&[(4, Some(b""))]), of(&[(4, None)]));
    }
}
