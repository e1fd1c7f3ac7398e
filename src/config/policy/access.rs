//! `access`: who may come in, by address.

use ipnet::IpNet;
use serde::Deserialize;

use super::{InDefaults, Place, Policy, Rows};
use crate::config::{
    Config,
    build::Build,
    mode::{MODE_KEY, Mode, ModeWord},
    scalars::{Nets, W},
    schema::{Elsewhere, Key, Kind, Table, kinds::NETS},
    written::Items,
};

/// The addresses that may come in. `deny` wins over `allow`; an empty `allow` is everybody.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct Access {
    pub mode: Mode,
    pub allow: Vec<IpNet>,
    pub deny: Vec<IpNet>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    mode: W<ModeWord>,
    #[serde(default)]
    allow: Items<W<Nets>>,
    #[serde(default)]
    deny: Items<W<Nets>>,
}

static TABLE: Table = Table::new(
    "access",
    "Who may come in, by address; `deny` wins. Beyond a trusted proxy the address is the client's.",
    &[
        MODE_KEY,
        Key::new("allow", Kind::OneOrMany(&NETS), "Only these; without it, everybody who is not denied.").eg("[private]"),
        Key::new("deny", Kind::OneOrMany(&NETS), "Never these.").eg("[192.0.2.0/24]"),
    ],
)
.at_least_one(&[&["allow", "deny"]]);
const ROW: Key = Key::new("access", Kind::Table(&TABLE), "Who may come in, by address.");

const ELSEWHERE: &[Elsewhere] = &[(
    &["ip_allow", "ip_deny", "allowlist", "denylist", "whitelist", "blacklist", "ip_filter", "ip_restriction", "acl", "allowed_ips"],
    "write `access: {allow: [private]}` in a route or in the door's `defaults`",
)];

impl Policy for Option<Access> {
    type Written = Option<Written>;

    const ROWS: Rows = Rows { inbound: Some(ROW), outbound: Some(ROW), defaults: InDefaults::Taken };

    const ELSEWHERE: &'static [Elsewhere] = ELSEWHERE;

    fn build(_: &mut Build<'_>, _: &Place<'_>, written: Self::Written, inherited: &Self) -> Self {
        let Some(written) = written else { return inherited.clone() };
        let nets = |list: Items<W<Nets>>| list.into_iter().flatten().flat_map(|nets| nets.0.0).collect();
        Some(Access { mode: written.mode.0.meant()?, allow: nets(written.allow), deny: nets(written.deny) })
    }

    fn told(&self, _: &Config) -> Vec<String> {
        self.iter().map(|access| format!("access{}", access.mode.remark())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{good, route, says};

    #[test]
    fn a_list_is_one_net_or_many_and_one_list_is_needed() {
        let config = good(&route("access: {allow: private, deny: [192.0.2.0/24, 198.51.100.1], mode: observe}"));
        let access = config.inbound.expect("open").routes.remove(0).policies.access.expect("named");
        assert_eq!((access.mode, access.deny.len()), (Mode::Observe, 2));
        assert!(access.allow.len() > 1 && access.deny[1].prefix_len() == 32);
        says(&route("access: {}"), "5:7", "needs `allow` or `deny`");
    }

    #[test]
    fn a_mode_that_is_off_removes_what_defaults_say() {
        let config = good(
            "inbound: {app: 3000, defaults: {access: {deny: loopback}}, routes: [{match: {}, access: {deny: loopback, mode: off}}]}\n",
        );
        let inbound = config.inbound.expect("open");
        assert!(inbound.fallthrough.access.is_some() && inbound.routes[0].policies.access.is_none());
    }
}
