//! The addresses that may come in. Pure.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{self, Mode};

/// Whether the lists allow an address. `deny` wins; with an `allow` list, an address that is not on it is denied. An
/// IPv4-mapped IPv6 address is the IPv4 address.
pub fn allows(access: &config::Access, address: IpAddr) -> bool {
    let address = address.to_canonical();
    let among = |list: &[IpNet]| list.iter().any(|net| net.contains(&address));
    !among(&access.deny) && (access.allow.is_empty() || among(&access.allow))
}

/// Whether a route with this policy lets the address in; a policy that only observes lets every address in.
pub fn lets_in(policy: Option<&config::Access>, address: IpAddr) -> bool {
    policy.is_none_or(|policy| policy.mode == Mode::Observe || allows(policy, address))
}

/// Whether a policy that only observes would have refused the address.
pub fn would_refuse(policy: Option<&config::Access>, address: IpAddr) -> bool {
    policy.is_some_and(|policy| policy.mode == Mode::Observe && !allows(policy, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(allow: &[&str], deny: &[&str]) -> config::Access {
        let nets = |list: &[&str]| list.iter().map(|net| net.parse().expect("a net")).collect();
        config::Access { allow: nets(allow), deny: nets(deny), ..Default::default() }
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
            assert_eq!(allows(&access(allow, deny), address.parse().expect("ip")), expected, "{address} by {allow:?} {deny:?}");
        }
    }
}
