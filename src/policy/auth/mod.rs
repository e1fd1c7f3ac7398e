//! Who may come in, by what a request can prove. Pure.
//!
//! A credential is looked for source by source. The first that is shown decides: a bad one is refused, whatever else the request
//! shows. What a request proves is told apart from what its route asks: [`look`] finds the first, [`admit`] decides on the second.

pub mod key;

use std::{borrow::Cow, time::SystemTime};

use crate::{
    caller::Proof,
    config::{Auth, AuthSources},
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
    /// They are not good. The text says why, and shows nothing of them.
    Bad(Cow<'static, str>),
}

/// Looks at the credentials of a request, at `wall`.
pub fn look(sources: &AuthSources, fields: &Fields, wall: SystemTime) -> Looked {
    let by_key = sources.api_keys.as_ref().map_or(Looked::Nothing, |keys| key::look(keys, fields, wall));
    match by_key {
        Looked::Nothing => Looked::Nothing,
        shown => shown,
    }
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

/// Takes the credentials of these sources out of a request's fields.
pub fn strip(sources: &AuthSources, fields: &mut Fields) {
    if let Some(keys) = &sources.api_keys {
        key::strip(keys, fields);
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
    format!("the request shows no credential that this route takes: {} (auth)", ways.join(", or "))
}

/// The values of `WWW-Authenticate`; `hint` is what is wrong (RFC 6750 section 3).
fn challenges(policy: &Auth, hint: &str) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(keys) = &policy.sources.api_keys {
        let bearer = keys.fields.iter().any(|field| Id::of(field.as_str().as_bytes()) == Id::Authorization);
        if bearer {
            all.push(format!("Bearer realm=\"outrigger\"{hint}"));
        } else if let Some(field) = keys.fields.first() {
            all.push(format!("ApiKey realm=\"outrigger\", header=\"{field}\"{hint}"));
        }
        if keys.basic {
            all.push("Basic realm=\"outrigger\", charset=\"UTF-8\"".to_owned());
        }
    }
    all
}

#[cfg(test)]
mod tests;
