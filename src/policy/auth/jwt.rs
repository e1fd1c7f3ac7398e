//! Tokens of an issuer: JWT (RFC 7519) in the compact form of JWS (RFC 7515). Pure.
//!
//! The issuer's set decides which key verifies what: a header that names a key elsewhere (`jku`, `x5u`, `jwk`) is not asked. What a token says
//! counts once its signature is verified; a claim that rules a token out is looked at before, because a signature is the dear part.

use std::{borrow::Cow, cell::RefCell, sync::Arc, time::SystemTime};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::Value as Json;

use super::{Looked, claims::TokenClaims};
use crate::{
    caller::{KnownBy, Proof},
    config::{Jwks, JwsAlgorithm, Jwt, JwtKeys, KeyFile},
    http1::{Fields, Id, Value},
};

/// Longest token, in bytes.
const LONGEST: usize = 8 << 10;
/// Longest name of a caller, tier or scope, in bytes.
const LONGEST_NAME: usize = 256;

/// What is at hand for a look at credentials.
#[derive(Clone, Copy)]
pub struct AtHand<'a> {
    /// The time.
    pub wall: SystemTime,
    /// Gives the set of the issuer's URL, if it has come.
    pub set: &'a dyn Fn() -> Option<Arc<Jwks>>,
    /// The name of the client's verified certificate.
    pub certificate: Option<&'a Arc<str>>,
    /// Tokens that were verified before.
    pub tokens: Option<&'a RefCell<VerifiedTokens>>,
    /// Whether the issuer has nothing newer: a key that is not known now is not known.
    pub last: bool,
}

impl AtHand<'_> {
    /// Nothing but the time.
    pub fn alone(wall: SystemTime) -> Self {
        Self { wall, set: &|| None, certificate: None, tokens: None, last: false }
    }
}

/// What a verified token proves, and how long.
#[derive(Debug)]
struct Verified {
    proof: Proof,
    ends: SystemTime,
    version: [u8; 32],
    weight: u32,
}

/// Verified tokens, by their hash: a signature is verified once. Bounded in bytes; the token itself is not kept.
pub struct VerifiedTokens(quick_cache::unsync::Cache<[u8; 32], Arc<Verified>, ByWeight>);

#[derive(Clone)]
struct ByWeight;

impl quick_cache::Weighter<[u8; 32], Arc<Verified>> for ByWeight {
    fn weight(&self, _: &[u8; 32], verified: &Arc<Verified>) -> u64 {
        verified.weight.into()
    }
}

impl Default for VerifiedTokens {
    /// 4 MiB.
    fn default() -> Self {
        const BYTES: u64 = 4 << 20;
        const USUAL: usize = 1 << 10;
        Self(quick_cache::unsync::Cache::with_weighter(BYTES as usize / USUAL, BYTES, ByWeight))
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Json>,
}

/// Looks for a bearer token that is no key of this proxy.
pub fn look(terms: &Jwt, fields: &Fields, at_hand: AtHand<'_>) -> Looked {
    let mut lines = fields.all(Id::Authorization);
    let Some(token) = lines.next().and_then(bearer) else { return Looked::Nothing };
    if lines.next().is_some() {
        return Looked::Bad("the request has two lines of `Authorization`".into());
    }
    let set = match &terms.keys {
        JwtKeys::File(set) | JwtKeys::Secret(set) => Some(set.clone()),
        JwtKeys::Url { .. } => (at_hand.set)(),
    };
    let Some(set) = set else { return Looked::NeedsKeys };
    let hash = hash(terms, token);
    if let Some(tokens) = at_hand.tokens
        && let Some(known) = tokens.borrow().0.get(&hash)
        && known.version == set.version
        && at_hand.wall < known.ends
    {
        return Looked::Good(known.proof.clone());
    }
    match verify(terms, &set, token, at_hand) {
        Ok(Some(verified)) => {
            let proof = verified.proof.clone();
            if let Some(tokens) = at_hand.tokens {
                tokens.borrow_mut().0.insert(hash, Arc::new(verified));
            }
            Looked::Good(proof)
        }
        Ok(None) => Looked::NeedsKeys,
        Err(why) => Looked::Bad(why),
    }
}

/// Takes the token out of the fields.
pub fn strip(fields: &mut Fields) {
    fields.retain(|name, value| !(name.id() == Id::Authorization && bearer(value).is_some()));
}

/// The token of a bearer field; `None`: it holds another credential.
fn bearer(value: Value<'_>) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.trim().split_once(' ')?;
    let token = token.trim_start();
    (scheme.eq_ignore_ascii_case("bearer") && !token.starts_with(KeyFile::PREFIX)).then_some(token)
}

fn hash(terms: &Jwt, token: &str) -> [u8; 32] {
    let mut hash = blake3::Hasher::new();
    hash.update(&terms.number.to_le_bytes());
    hash.update(token.as_bytes());
    *hash.finalize().as_bytes()
}

/// What the token proves; `None`: it names a key that is not known, and the issuer may have it.
///
/// # Errors
/// Why it counts for nothing.
fn verify(terms: &Jwt, set: &Jwks, token: &str, at_hand: AtHand<'_>) -> Result<Option<Verified>, Cow<'static, str>> {
    if token.len() > LONGEST {
        return Err(format!("the token is longer than {LONGEST} bytes").into());
    }
    let mut parts = token.split('.');
    let (Some(head), Some(payload), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err("the token is no JWT: it has not three parts".into());
    };
    let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| "the token is no JWT: a part is not base64url");
    let (head, body) = (decoded(head)?, decoded(payload)?);
    let header: Header = serde_json::from_slice(&head).map_err(|_| "the token's header cannot be read")?;
    let algorithm = algorithm(terms, &header)?;
    let claims = TokenClaims::read(&body)?;
    let ends = claims.check(terms, at_hand.wall)?;
    let id = header.kid.as_deref();
    if !set.knows(algorithm, id) {
        return match (&terms.keys, at_hand.last) {
            (JwtKeys::Url { .. }, false) => Ok(None),
            _ => Err("the token is signed with a key that its issuer does not publish".into()),
        };
    }
    let message = &token.as_bytes()[..token.len() - signature.len() - 1];
    if !set.verifies(algorithm, id, message, signature) {
        return Err("the token's signature is wrong".into());
    }
    let proof = prove(terms, &claims)?;
    let weight = u32::try_from(512 + body.len()).unwrap_or(u32::MAX);
    Ok(Some(Verified { proof, ends, version: set.version, weight }))
}

/// The token's algorithm, if it counts here.
fn algorithm(terms: &Jwt, header: &Header) -> Result<JwsAlgorithm, Cow<'static, str>> {
    if header.crit.is_some() {
        return Err("the token asks for an extension that is not known here (crit)".into());
    }
    // Other kinds of tokens are signed with the same keys: logout tokens, proofs of possession, security events (RFC 8725 section 3.11).
    let kind = header.typ.as_deref().unwrap_or("JWT");
    let kind = kind.get(..12).filter(|begin| begin.eq_ignore_ascii_case("application/")).map_or(kind, |_| &kind[12..]);
    if !["jwt", "at+jwt"].iter().any(|known| kind.eq_ignore_ascii_case(known)) {
        return Err("the token is of another kind than JWT or at+jwt (typ)".into());
    }
    let counts = JwsAlgorithm::named(&header.alg).filter(|algorithm| terms.algorithms.contains(algorithm));
    counts.ok_or_else(|| "the token's algorithm does not count here (auth.jwt.algorithms)".into())
}

/// What the claims of a verified token say.
fn prove(terms: &Jwt, claims: &TokenClaims) -> Result<Proof, Cow<'static, str>> {
    let fits = |text: &String| (1..=LONGEST_NAME).contains(&text.len()) && !text.chars().any(char::is_control);
    let name = claims.text(&terms.caller).filter(fits);
    let name = name.ok_or_else(|| format!("the token has no claim `{}` that names its caller (auth.jwt.caller)", terms.caller))?;
    let tier = terms.tier.as_ref().and_then(|claim| claims.text(claim)).filter(fits);
    let scopes = claims.words(&terms.scopes).into_iter().filter(fits).map(Into::into).collect();
    Ok(Proof {
        name: name.into(),
        by: KnownBy::Token,
        key: None,
        tier: tier.map(Into::into),
        scopes,
        claims: Some(claims.told()),
        copied: Arc::default(),
    })
}
