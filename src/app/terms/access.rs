//! Whom `access` lets in, as `outrigger explain` and the admin door tell it.

use super::{Asked, Terms};
use crate::{
    config::{Access, Mode},
    http1::Id,
    policy::access,
};

/// The terms of the policy.
pub(super) fn terms(policy: &Access, asked: Option<&Asked<'_>>) -> Terms {
    let list = |nets: &[ipnet::IpNet]| nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let mut terms = Terms::default();
    if !policy.allow.is_empty() {
        terms.add("allow", list(&policy.allow));
    }
    if !policy.deny.is_empty() {
        terms.add("deny", list(&policy.deny));
    }
    for (word, set) in [("allow_files", &policy.allow_listed), ("deny_files", &policy.deny_listed)] {
        if let Some(set) = set {
            terms.add(word, format!("{} ranges of addresses", set.ranges()));
        }
    }
    if let Some(countries) = &policy.countries {
        for (word, list) in [("allow countries", &countries.allow), ("deny countries", &countries.deny)] {
            if !list.is_empty() {
                terms.add(word, list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
            }
        }
    }
    if !policy.deny_agents.is_empty() {
        terms.add("deny agents", policy.deny_agents.iter().map(|glob| glob.as_str()).collect::<Vec<_>>().join(" "));
    }
    if let Some(attacks) = &policy.attacks {
        let kinds = attacks.kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(" ");
        terms.add("attacks", format!("{kinds}{}", if policy.mode == Mode::Enforce { attacks.mode.remark() } else { "" }));
    }
    if let Some(bans) = &policy.bans {
        let time = |time| humantime::format_duration(time).to_string();
        let who = match (bans.by_address, bans.by_caller) {
            (true, true) => "addresses and callers",
            (false, true) => "callers",
            _ => "addresses",
        };
        let remark = if policy.mode == Mode::Enforce { bans.mode.remark() } else { "" };
        terms.add("bans", format!("{who} after {} refusals in {} for {}{remark}", bans.after, time(bans.window), time(bans.time)));
    }
    if let Some(asked) = asked {
        let arrival = asked.arrival;
        let country = policy.countries.as_ref().and_then(|countries| countries.file.country(arrival.client));
        let of = country.map(|country| format!(" ({country})")).unwrap_or_default();
        let word = match access::refusal(policy, arrival.client, arrival.header(Id::UserAgent).unwrap_or_default()) {
            None => "is let in".to_owned(),
            Some(why) if why.contains("address") => "is refused".to_owned(),
            Some(_) => "is refused for its User-Agent".to_owned(),
        };
        terms.add("this address", format!("{word}{of}"));
    }
    terms
}
