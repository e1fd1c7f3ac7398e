//! `auth` in words: the ways of proof, what a route asks for, and what a request has proved.

use super::Terms;
use crate::{
    clock::Clock,
    config::{Auth, Glob, JwtKeys},
    policy::auth::{self, AtHand, Looked},
    proxy::cache_key::Asked,
};

/// The policy's terms; with a request, also what it proves. No credential is shown.
pub(super) fn terms(policy: &Auth, asked: Option<&Asked<'_>>) -> Terms {
    let mut terms = Terms::default();
    if let Some(keys) = &policy.sources.api_keys {
        let fields = keys.fields.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let basic = if keys.basic { ", also as a password" } else { "" };
        terms.add("api keys", format!("{} in {fields}{basic}", keys.keys.len()));
    }
    if let Some(jwt) = &policy.sources.jwt {
        let keys = match &jwt.keys {
            JwtKeys::Url { url, .. } => format!("by the keys at {url}"),
            JwtKeys::File(_) => "by the keys of a file".to_owned(),
            JwtKeys::Secret(_) => "by a shared secret".to_owned(),
        };
        let audiences = if jwt.audiences.is_empty() { "anybody".to_owned() } else { jwt.audiences.join(" ") };
        terms.add("tokens", format!("of {} for {audiences}, {keys}", jwt.issuers.join(" ")));
        terms.add("algorithms", jwt.algorithms.iter().map(|one| one.word()).collect::<Vec<_>>().join(" "));
        terms.add("caller claim", &jwt.caller);
    }
    if let Some(names) = &policy.sources.client_cert {
        terms.add("client certificates", names.iter().map(Glob::as_str).collect::<Vec<_>>().join(" "));
    }
    if let Some(forward) = &policy.sources.forward {
        terms.add("service", &forward.url);
    }
    if policy.anonymous {
        terms.add("anonymous", "passes");
    }
    for (name, list) in [("scopes", &policy.scopes), ("tiers", &policy.tiers)] {
        if !list.is_empty() {
            terms.add(name, list.join(" "));
        }
    }
    terms.add("credential", if policy.pass { "is passed on" } else { "is taken out" });
    if let Some(asked) = asked {
        terms.add("this request", shown(policy, asked));
    }
    terms
}

fn shown(policy: &Auth, asked: &Asked<'_>) -> String {
    match auth::look(&policy.sources, &asked.arrival.headers, AtHand::alone(Clock::system().wall())) {
        Looked::Nothing => "shows no credential".to_owned(),
        Looked::AskService | Looked::Away => "shows no credential that is judged here; the running proxy asks the service".to_owned(),
        Looked::Denied(why) => format!("is refused: {why}"),
        Looked::NeedsKeys => "shows a token; the running proxy asks its issuer for the keys".to_owned(),
        Looked::Bad(why) => format!("is refused: {why}"),
        Looked::Good(proof) => {
            let key = proof.key.as_ref().map(|key| format!(" by the key `{key}`")).unwrap_or_default();
            let tier = proof.tier.as_ref().map(|tier| format!(", tier {tier}")).unwrap_or_default();
            let scopes = if proof.scopes.is_empty() { String::new() } else { format!(", scopes {}", proof.scopes.join(" ")) };
            format!("proves that `{}` sends it{key}{tier}{scopes}", proof.name)
        }
    }
}
