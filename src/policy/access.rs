//! Who may come in: by address, country and program. Pure.

use std::{borrow::Cow, net::IpAddr};

use ipnet::IpNet;

use crate::{
    arrival::Arrival,
    config::{self, Mode},
    http1::Id,
};

/// Why the request may not come in; `None`: it may. What is denied wins; where something is allowed, nothing else is. An IPv4-mapped IPv6
/// address is the IPv4 address.
pub fn refusal(access: &config::Access, address: IpAddr, agent: &str) -> Option<&'static str> {
    let address = address.to_canonical();
    let among = |list: &[IpNet]| list.iter().any(|net| net.contains(&address));
    let is_listed = |set: &Option<std::sync::Arc<config::AddressSet>>| set.as_ref().is_some_and(|set| set.contains(address));
    if among(&access.deny) || is_listed(&access.deny_listed) {
        return Some(ADDRESS);
    }
    let country = access.countries.as_ref().and_then(|countries| countries.file.country(address));
    let of = |list: &[config::Country]| country.is_some_and(|country| list.contains(&country));
    if access.countries.as_ref().is_some_and(|countries| of(&countries.deny)) {
        return Some(COUNTRY);
    }
    let allowed_countries = access.countries.as_ref().map_or(&[][..], |countries| &countries.allow);
    let is_open = access.allow.is_empty() && access.allow_listed.is_none() && allowed_countries.is_empty();
    if !is_open && !among(&access.allow) && !is_listed(&access.allow_listed) && !of(allowed_countries) {
        return Some(if allowed_countries.is_empty() { ADDRESS } else { COUNTRY });
    }
    if !access.deny_agents.is_empty() {
        let agent = if agent.is_empty() { NO_AGENT } else { agent };
        let is_upper = agent.bytes().any(|byte| byte.is_ascii_uppercase());
        let agent: Cow<'_, str> = if is_upper { agent.to_ascii_lowercase().into() } else { agent.into() };
        if access.deny_agents.iter().any(|glob| glob.matches(&agent)) {
            return Some(AGENT);
        }
    }
    None
}

const ADDRESS: &str = "this address is not let in";
const COUNTRY: &str = "this address is of a country that is not let in (access.countries)";
const AGENT: &str = "this program is not let in (access.deny_agents)";

/// A request without `User-Agent`, as access logs write it.
const NO_AGENT: &str = "-";

/// Why a request may not come in by this policy, in whatever mode; `None`: it may.
fn verdict(policy: &config::Access, arrival: &Arrival) -> Option<&'static str> {
    refusal(policy, arrival.client, arrival.header(Id::UserAgent).unwrap_or_default())
}

/// Why a route with this policy does not let the request in; a policy that only observes lets every request in.
pub fn turns_away(policy: Option<&config::Access>, arrival: &Arrival) -> Option<&'static str> {
    policy.filter(|policy| policy.mode == Mode::Enforce).and_then(|policy| verdict(policy, arrival))
}

/// Why a policy that only observes would have refused the request.
pub fn would_refuse(policy: Option<&config::Access>, arrival: &Arrival) -> Option<&'static str> {
    policy.filter(|policy| policy.mode == Mode::Observe).and_then(|policy| verdict(policy, arrival))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Glob;

    fn access(allow: &[&str], deny: &[&str]) -> config::Access {
        let nets = |list: &[&str]| list.iter().map(|net| net.parse().expect("a net")).collect();
        config::Access { allow: nets(allow), deny: nets(deny), ..Default::default() }
    }

    fn allows(access: &config::Access, address: &str) -> bool {
        refusal(access, address.parse().expect("an address"), "").is_none()
    }

    #[test]
    fn deny_wins_and_an_allow_list_is_complete() {
        for (allow, deny, address, expected) in [
            (&[][..], &[][..], "192.0.2.1", true),
            (&["192.0.2.0/24"], &[], "192.0.2.1", true),
            (&["192.0.2.0/24"], &[], "198.51.100.1", false),
            (&["192.0.2.0/24"], &["192.0.2.1/32"], "192.0.2.1", false),
            (&["192.0.2.0/24"], &["192.0.2.1/32"], "192.0.2.2", true),
            (&[], &["2001:db8::/32"], "2001:db8::1", false),
            (&[], &["2001:db8::/32"], "192.0.2.1", true),
            (&["192.0.2.0/24"], &[], "::ffff:192.0.2.1", true),
            (&[], &["192.0.2.1/32"], "::ffff:192.0.2.1", false),
        ] {
            assert_eq!(allows(&access(allow, deny), address), expected, "{address} by {allow:?} {deny:?}");
        }
        let set = |net: &str| Some(std::sync::Arc::new(config::AddressSet::new([net.parse().expect("a net")])));
        let listed = config::Access { allow_listed: set("192.0.2.0/24"), deny_listed: set("192.0.2.7/32"), ..access(&["10.0.0.0/8"], &[]) };
        let told = ["192.0.2.1", "192.0.2.7", "10.0.0.1", "198.51.100.1"].map(|address| allows(&listed, address));
        assert_eq!(told, [true, false, true, false]);
        let nobody = config::Access { allow_listed: Some(std::sync::Arc::default()), ..access(&[], &[]) };
        assert!(!allows(&nobody, "192.0.2.1"), "an empty file lets nobody in");
    }

    #[test]
    fn programs_are_known_by_their_names_whatever_their_case() {
        let access = config::Access { deny_agents: vec![Glob::new("*sqlmap*"), Glob::new("-")], ..access(&[], &[]) };
        let refused = ["SQLMap/1.7", "", "Mozilla/5.0"].map(|agent| refusal(&access, [192, 0, 2, 1].into(), agent).is_some());
        assert_eq!(refused, [true, true, false]);
    }
}
