//! The claims of a token.

use std::{
    borrow::Cow,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::Value;

use crate::{caller::Claim, config::Jwt};

/// TokenClaims that are told on: of a single value, and not long.
const TOLD: usize = 64;
const LONGEST_TOLD: usize = 256;

/// The claims of a token. No name stands twice.
pub(super) struct TokenClaims(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for TokenClaims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = TokenClaims;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<TokenClaims, A::Error> {
                let mut all: Vec<(String, Value)> = Vec::new();
                while let Some((name, value)) = members.next_entry::<String, Value>()? {
                    // One reader takes the first of two, another the last.
                    if all.iter().any(|(known, _)| *known == name) {
                        return Err(A::Error::custom("a claim stands twice"));
                    }
                    all.push((name, value));
                }
                Ok(TokenClaims(all))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

impl TokenClaims {
    pub(super) fn read(text: &[u8]) -> Result<Self, Cow<'static, str>> {
        serde_json::from_slice(text).map_err(|error| match error.to_string().contains("stands twice") {
            true => "a claim of the token stands twice".into(),
            false => "the token's claims cannot be read".into(),
        })
    }

    /// A claim; `a.b` is `b` in `a`, unless there is a claim of the whole name.
    fn get(&self, path: &str) -> Option<&Value> {
        let own = |name: &str| self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        own(path).or_else(|| {
            let (first, rest) = path.split_once('.')?;
            rest.split('.').try_fold(own(first)?, |value, name| value.get(name))
        })
    }

    /// A claim of a single value, as text.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        self.get(path).and_then(scalar)
    }

    /// The words of a claim: a list, or a text with blanks between them.
    pub(super) fn words(&self, path: &str) -> Vec<String> {
        match self.get(path) {
            Some(Value::String(text)) => text.split_ascii_whitespace().map(str::to_owned).collect(),
            Some(Value::Array(list)) => list.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect(),
            _ => Vec::new(),
        }
    }

    /// The claims of a single value, for whoever asks for one by name.
    pub(super) fn told(&self) -> Arc<[Claim]> {
        let single = self.0.iter().filter_map(|(name, value)| Some((Box::from(name.as_str()), Box::from(scalar(value)?))));
        single.filter(|(name, text): &Claim| name.len() + text.len() <= LONGEST_TOLD).take(TOLD).collect()
    }

    /// Whether the token counts at `wall`; when it no longer does.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) fn check(&self, terms: &Jwt, wall: SystemTime) -> Result<SystemTime, Cow<'static, str>> {
        if !self.get("iss").and_then(Value::as_str).is_some_and(|iss| terms.issuers.iter().any(|known| **known == *iss)) {
            return Err("the token is of another issuer (iss; auth.jwt.issuer)".into());
        }
        if !terms.audiences.is_empty() {
            let is_known = |aud: &str| terms.audiences.iter().any(|known| **known == *aud);
            let is_for_us = match self.get("aud") {
                Some(Value::String(aud)) => is_known(aud),
                Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).any(is_known),
                _ => false,
            };
            if !is_for_us {
                return Err("the token is for another audience (aud; auth.jwt.audience)".into());
            }
        }
        let exp = self.get("exp").and_then(time).ok_or("the token has no end that can be read (exp)")?;
        let ends = exp.checked_add(terms.leeway).unwrap_or(exp);
        if wall >= ends {
            return Err("the token has expired (exp)".into());
        }
        if let Some(nbf) = self.get("nbf") {
            let nbf = time(nbf).ok_or("the token has a beginning that cannot be read (nbf)")?;
            if wall + terms.leeway < nbf {
                return Err("the token is not good yet (nbf)".into());
            }
        }
        for (name, wanted) in &terms.require {
            let has = match (self.get(name), wanted) {
                (None | Some(Value::Null), _) => false,
                (Some(_), None) => true,
                (Some(Value::Array(all)), Some(wanted)) => all.iter().filter_map(scalar).any(|one| *one == **wanted),
                (Some(value), Some(wanted)) => scalar(value).is_some_and(|one| *one == **wanted),
            };
            if !has {
                return Err(format!("the token lacks what is asked of its claim `{name}` (auth.jwt.require)").into());
            }
        }
        Ok(ends)
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(one) => Some(one.to_string()),
        _ => None,
    }
}

/// A number of seconds since 1970, also with a fraction (RFC 7519 section 2).
fn time(value: &Value) -> Option<SystemTime> {
    let seconds = value.as_f64().filter(|seconds| (0.0..1e11).contains(seconds))?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds))
}
