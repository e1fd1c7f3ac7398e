//! Who may come in, by what a request can prove. Pure.
//!
//! A credential is looked for source by source. The first that is shown decides: a bad one is refused, whatever else the request
//! shows. What a request proves is told apart from what its route asks: [`look`] finds the first, [`admit`] decides on the second.

mod claims;
pub mod forward;
pub mod issuer;
mod jwt;
pub mod key;
pub mod slow;

use std::{borrow::Cow, sync::Arc, time::Duration};

pub use jwt::{AtHand, VerifiedTokens};

use http::HeaderName;

use crate::{
    caller::{KnownBy, Proof},
    config::{Auth, AuthSources, ForwardAuth, Glob, human},
    fields::claims::folds_to,
    http1::{Fields, Id},
    reject::{ProofFault, Unproved},
};

/// What the credentials of a request are worth.
#[derive(Debug)]
pub enum Looked {
    /// There is none.
    Nothing,
    /// They prove this.
    Good(Proof),
    /// Nothing is shown that is judged here: the service has to be asked.
    AskService,
    /// The service that decides gives no answer.
    Away,
    /// Whoever sends the request may not do this. The text says why.
    Denied(Cow<'static, str>),
    /// A token names a key that is not known here: the issuer has to be asked first.
    NeedsKeys,
    /// They are not good. The text says why, and shows nothing of them.
    Bad(Cow<'static, str>),
}

/// Looks at the credentials of a request.
pub fn look(sources: &AuthSources, fields: &Fields, at_hand: AtHand<'_>) -> Looked {
    let by_key = sources.api_keys.as_ref().map_or(Looked::Nothing, |keys| key::look(keys, fields, at_hand.wall));
    let shown = match (by_key, &sources.jwt) {
        (Looked::Nothing, Some(terms)) => jwt::look(terms, fields, at_hand),
        (shown, _) => shown,
    };
    match (shown, &sources.client_cert, at_hand.certificate) {
        (Looked::Nothing, Some(names), Some(name)) => certificate(names, name),
        (Looked::Nothing, ..) if sources.forward.is_some() => Looked::AskService,
        (shown, ..) => shown,
    }
}

/// Looks at the name of a verified certificate. It is shown whenever the connection has one.
fn certificate(names: &[Glob], name: &Arc<str>) -> Looked {
    if !names.iter().any(|known| known.matches(name)) {
        return Looked::Bad(format!("the client's certificate is of `{name}`, whom auth.client_cert does not name").into());
    }
    let (scopes, name) = (Arc::default(), name.clone());
    Looked::Good(Proof { name, by: KnownBy::Certificate, key: None, tier: None, scopes, claims: None, copied: Arc::default() })
}

/// Whether the route lets the request in; what the request has proved.
///
/// # Errors
/// The refusal, with the challenges that say what would be right.
pub fn admit(policy: &Auth, looked: Looked) -> Result<Option<Proof>, Unproved> {
    let refused = |fault, why: Cow<'static, str>, hint: &str| Unproved { fault, why, challenges: challenges(policy, hint) };
    let proof = match looked {
        Looked::Nothing if policy.anonymous => return Ok(None),
        Looked::Nothing => return Err(refused(ProofFault::Missing, missing(&policy.sources).into(), "")),
        Looked::AskService | Looked::Away => {
            return Err(refused(ProofFault::Unknown, "the service that decides here gives no answer (auth.forward)".into(), ""));
        }
        Looked::Denied(why) => return Err(refused(ProofFault::Insufficient, why, ", error=\"insufficient_scope\"")),
        Looked::NeedsKeys => {
            return Err(refused(
                ProofFault::Unknown,
                "the keys of the token's issuer cannot be had now: nobody can say whether it is good".into(),
                "",
            ));
        }
        Looked::Bad(why) => return Err(refused(ProofFault::Invalid, why, ", error=\"invalid_token\"")),
        Looked::Good(proof) => proof,
    };
    let lacks: Vec<&str> = policy.scopes.iter().filter(|scope| !proof.scopes.contains(scope)).map(|scope| &**scope).collect();
    if !lacks.is_empty() {
        let why = format!("the credential of `{}` lacks the scope {} (auth.scopes)", proof.name, lacks.join(" "));
        let wanted = policy.scopes.join(" ");
        return Err(refused(ProofFault::Insufficient, why.into(), &format!(", error=\"insufficient_scope\", scope=\"{wanted}\"")));
    }
    if !policy.tiers.is_empty() && !proof.tier.as_ref().is_some_and(|tier| policy.tiers.iter().any(|wanted| **wanted == **tier)) {
        let why = format!("the credential of `{}` has none of the tiers {} (auth.tiers)", proof.name, policy.tiers.join(" "));
        return Err(refused(ProofFault::Insufficient, why.into(), ", error=\"insufficient_scope\""));
    }
    Ok(Some(proof))
}

/// The refusal of an address that has shown too many bad credentials.
pub fn slowed(wait: Duration) -> Unproved {
    let why = format!("too many bad credentials came from this address; it may try again in {}", human::wait(wait));
    Unproved { fault: ProofFault::Slowed(wait), why: why.into(), challenges: Vec::new() }
}

/// Takes the credentials of these sources out of a request's fields, and what only the service that decides may set.
pub fn strip(sources: &AuthSources, fields: &mut Fields) {
    strip_said(sources, fields);
    if let Some(keys) = &sources.api_keys {
        key::strip(keys, fields);
    }
    if sources.jwt.is_some() {
        jwt::strip(fields);
    }
}

/// Takes out what only the service that decides may set, in every spelling that an app may take for it.
pub fn strip_said(sources: &AuthSources, fields: &mut Fields) {
    if let Some(terms) = sources.forward.as_ref().filter(|terms| !terms.copy.is_empty()) {
        fields.retain(|name, _| !terms.copy.iter().any(|own| folds_to(name.as_str(), own.as_str())));
    }
}

fn missing(sources: &AuthSources) -> String {
    let mut ways = Vec::new();
    if let Some(keys) = &sources.api_keys {
        ways.extend(keys.fields.iter().map(|field| match Id::of(field.as_str().as_bytes()) {
            Id::Authorization => "`Authorization: Bearer KEY`".to_owned(),
            _ => format!("`{field}: KEY`"),
        }));
        ways.extend(keys.basic.then(|| "`Authorization: Basic` with the name of a key and the key".to_owned()));
    }
    ways.extend(sources.jwt.is_some().then(|| "`Authorization: Bearer TOKEN`".to_owned()));
    ways.extend(sources.client_cert.is_some().then(|| "a client certificate".to_owned()));
    let names = |terms: &ForwardAuth| terms.send.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>();
    ways.extend(sources.forward.iter().flat_map(names));
    format!("the request shows no credential that this route takes: {} (auth)", ways.join(", or "))
}

/// The values of `WWW-Authenticate`; `hint` is what is wrong (RFC 6750 section 3).
fn challenges(policy: &Auth, hint: &str) -> Vec<String> {
    let mut all = Vec::new();
    let keys = policy.sources.api_keys.as_ref();
    let is_bearer = |field: &HeaderName| Id::of(field.as_str().as_bytes()) == Id::Authorization;
    if policy.sources.jwt.is_some() || keys.is_some_and(|keys| keys.fields.iter().any(is_bearer)) {
        all.push(format!("Bearer realm=\"outrigger\"{hint}"));
    } else if let Some(field) = keys.and_then(|keys| keys.fields.first()) {
        all.push(format!("ApiKey realm=\"outrigger\", header=\"{field}\"{hint}"));
    }
    if keys.is_some_and(|keys| keys.basic) {
        all.push("Basic realm=\"outrigger\", charset=\"UTF-8\"".to_owned());
    }
    all
}

#[cfg(test)]
mod tests;
