//! `auth` in words: the ways of proof, what a route asks for, and what a request has proved.

use super::Terms;
use crate::{
    config::Auth,
    policy::auth::{self, Looked},
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
    match auth::look(&policy.sources, &asked.arrival.headers, crate::clock::Clock::system().wall()) {
        Looked::Nothing => "shows no credential".to_owned(),
        Looked::Bad(why) => format!("is refused: {why}"),
        Looked::Good(proof) => {
            let key = proof.key.as_ref().map(|key| format!(" by the key `{key}`")).unwrap_or_default();
            let tier = proof.tier.as_ref().map(|tier| format!(", tier {tier}")).unwrap_or_default();
            let scopes = if proof.scopes.is_empty() { String::new() } else { format!(", scopes {}", proof.scopes.join(" ")) };
            format!("proves that `{}` sends it{key}{tier}{scopes}", proof.name)
        }
    }
}
