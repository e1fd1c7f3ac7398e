//! Sets of keys that verify signatures (RFC 7517), and the algorithms for which each one counts.

use jsonwebtoken::{
    Algorithm as A, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk},
};
use serde_json::Value;

use crate::config::scalars::{Word, one_of};

/// An algorithm of signatures (RFC 7518 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JwsAlgorithm(A);

impl JwsAlgorithm {
    /// All that count anywhere; `none` is not among them.
    pub const ALL: [Self; 12] = [
        Self(A::RS256),
        Self(A::RS384),
        Self(A::RS512),
        Self(A::PS256),
        Self(A::PS384),
        Self(A::PS512),
        Self(A::ES256),
        Self(A::ES384),
        Self(A::EdDSA),
        Self(A::HS256),
        Self(A::HS384),
        Self(A::HS512),
    ];
    /// Their words, in the same order.
    pub const WORDS: [&str; 12] =
        ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256", "HS384", "HS512"];

    /// The algorithm of this name; `None`: it counts nowhere.
    pub fn named(word: &str) -> Option<Self> {
        Self::WORDS.iter().position(|known| *known == word).map(|at| Self::ALL[at])
    }

    /// Its name.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().position(|known| *known == self).map_or("", |at| Self::WORDS[at])
    }

    /// Whether who can verify can sign, too.
    pub fn is_shared(self) -> bool {
        matches!(self.0, A::HS256 | A::HS384 | A::HS512)
    }
}

impl Word for JwsAlgorithm {
    fn word(text: &str) -> Result<Self, String> {
        let choices: Vec<(&str, Self)> = Self::WORDS.into_iter().zip(Self::ALL).collect();
        one_of(text, &choices)
    }
}

/// A set of keys.
pub struct Jwks {
    keys: Vec<SigningKey>,
    /// A hash of its text: what another set has verified has to be verified again.
    pub version: [u8; 32],
}

/// One key. It counts for the algorithms of its own kind alone: a public key is never taken for a secret.
struct SigningKey {
    id: Option<Box<str>>,
    algorithms: Vec<A>,
    key: DecodingKey,
}

impl std::fmt::Debug for Jwks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jwks").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

/// Most keys of a set.
const MOST: usize = 100;

impl Jwks {
    /// Reads a set. Keys for other uses and of unknown kinds are passed over (RFC 7517 section 5); so are shared secrets, which have no place in
    /// a set that is published.
    ///
    /// # Errors
    /// The text is no set, or no key in it verifies a signature.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let set: Value = serde_json::from_slice(text).map_err(|error| format!("no set of keys: {error}"))?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or("no set of keys: it has no list `keys`")?;
        let keys: Vec<SigningKey> = keys.iter().take(MOST).filter_map(SigningKey::of).collect();
        if keys.is_empty() {
            return Err("no key in it verifies a signature: RSA, EC (P-256, P-384) or OKP (Ed25519) with `use: sig`".into());
        }
        Ok(Self { keys, version: *blake3::hash(text).as_bytes() })
    }

    /// The set of one shared secret.
    pub(super) fn of_secret(secret: &[u8]) -> Self {
        let algorithms = vec![A::HS256, A::HS384, A::HS512];
        let version = blake3::derive_key("outrigger jwt secret v1", secret);
        Self { keys: vec![SigningKey { id: None, algorithms, key: DecodingKey::from_secret(secret) }], version }
    }

    /// Whether one of the keys may have signed a token of this algorithm and key id. A token without an id may be signed by any.
    pub fn knows(&self, algorithm: JwsAlgorithm, id: Option<&str>) -> bool {
        self.fitting(algorithm, id).next().is_some()
    }

    /// Whether one of the keys has signed `message`. `signature` is in base64url.
    pub fn verifies(&self, algorithm: JwsAlgorithm, id: Option<&str>, message: &[u8], signature: &str) -> bool {
        let verifies = |key: &SigningKey| jsonwebtoken::crypto::verify(signature, message, &key.key, algorithm.0).unwrap_or(false);
        self.fitting(algorithm, id).any(verifies)
    }

    fn fitting(&self, algorithm: JwsAlgorithm, id: Option<&str>) -> impl Iterator<Item = &SigningKey> {
        self.keys.iter().filter(move |key| {
            key.algorithms.contains(&algorithm.0) && id.zip(key.id.as_deref()).is_none_or(|(asked, known)| asked == known)
        })
    }
}

impl SigningKey {
    /// A key that verifies signatures; `None`: it does not, or nobody here knows how.
    fn of(value: &Value) -> Option<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        if text("use").is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let operations = value.get("key_ops").and_then(Value::as_array);
        if operations.is_some_and(|all| !all.iter().any(|one| one == "verify")) {
            return None;
        }
        let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
        let kind: &[A] = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => &[A::RS256, A::RS384, A::RS512, A::PS256, A::PS384, A::PS512],
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => &[A::ES256],
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => &[A::ES384],
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => &[A::EdDSA],
            _ => return None,
        };
        let algorithms = match text("alg") {
            // RFC 7517 section 4.4: the key is for this one.
            Some(alg) => kind.iter().copied().filter(|one| JwsAlgorithm(*one).word() == alg).collect(),
            None => kind.to_vec(),
        };
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        Some(Self { id: text("kid").map(Box::from), algorithms, key })
    }
}
