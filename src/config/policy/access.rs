//! `access`: who may come in, by address, country and program.

mod attacks;
mod bans;
mod countries;
mod lists;

use std::{path::PathBuf, sync::Arc};

use ipnet::IpNet;
use serde::Deserialize;

pub use attacks::{AttackKind, Attacks};
pub use bans::{BanCause, Bans};
pub use countries::{Countries, Country, CountryFile};
pub use lists::AddressSet;

use super::{InDefaults, Place, Policy, Rows};
use crate::config::{
    Config, Glob,
    build::Build,
    mode::{MODE_KEY, Mode, ModeWord},
    scalars::{Nets, W},
    schema::{
        Elsewhere, Json, Key, Kind, Scalar, Table, join,
        kinds::{GLOB, NETS},
    },
    written::Items,
};

/// Who may come in. What is denied wins over what is allowed; where nothing is allowed, everybody is.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct Access {
    pub mode: Mode,
    pub allow: Vec<IpNet>,
    pub deny: Vec<IpNet>,
    /// The addresses of the files of `allow_files`; `None`: there is no file.
    pub allow_listed: Option<Arc<AddressSet>>,
    /// The addresses of the files of `deny_files`.
    pub deny_listed: Option<Arc<AddressSet>>,
    pub countries: Option<Countries>,
    /// Programs by their `User-Agent`, in lower case.
    pub deny_agents: Vec<Glob>,
    pub attacks: Option<Attacks>,
    pub bans: Option<Bans>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    mode: W<ModeWord>,
    #[serde(default)]
    allow: Items<W<Nets>>,
    #[serde(default)]
    deny: Items<W<Nets>>,
    #[serde(default)]
    allow_files: Items<W<PathBuf>>,
    #[serde(default)]
    deny_files: Items<W<PathBuf>>,
    countries: Option<countries::Written>,
    #[serde(default)]
    deny_agents: Items<W<Glob>>,
    #[serde(default)]
    attacks: Option<attacks::Written>,
    #[serde(default)]
    bans: Option<bans::Written>,
}

/// Largest file of addresses.
const MAX_FILE: u64 = 64 << 20;

const FILE: Kind = Kind::Scalar(&Scalar::new::<PathBuf>("a file", Json::Text, "blocked.txt"));

const KEYS: [Key; 7] = [
    MODE_KEY,
    Key::new("allow", Kind::OneOrMany(&NETS), "Only these; without it, everybody who is not denied.").eg("[private]"),
    Key::new("deny", Kind::OneOrMany(&NETS), "Never these.").eg("[192.0.2.0/24]"),
    Key::new("allow_files", Kind::OneOrMany(&FILE), "Files with one net or address a line, as `allow`. A change in one is a reload.")
        .eg("[offices.txt]"),
    Key::new("deny_files", Kind::OneOrMany(&FILE), "The same, as `deny`: a block list, however long.").eg("[blocked.txt]"),
    Key::new("countries", Kind::Table(&countries::TABLE), "Who may come in, by country.").eg("{file: GeoLite2-Country.mmdb, deny: [XX]}"),
    Key::new(
        "deny_agents",
        Kind::OneOrMany(&GLOB),
        "Programs that may not, by `User-Agent`, whatever its case; `-` is a request without one.",
    )
    .eg("[\"*sqlmap*\", \"*masscan*\"]"),
];
const INBOUND_OWN: [Key; 2] = [attacks::ROW, bans::ROW];

static INBOUND_TABLE: Table = Table::new(
    "access",
    "Who may come in: by address, country and program. What is denied wins; where something is allowed, nothing else is. Beyond a trusted \
     proxy the address is the client's.",
    &join::<Key, { KEYS.len() + INBOUND_OWN.len() }>(&KEYS, &INBOUND_OWN),
)
.at_least_one(&[&["allow", "deny", "allow_files", "deny_files", "countries", "deny_agents", "attacks", "bans"]]);
static OUTBOUND_TABLE: Table = Table::new(
    "outbound access",
    "Who may come in: by address, country and program. What is denied wins; where something is allowed, nothing else is.",
    &KEYS,
)
.at_least_one(&[&["allow", "deny", "allow_files", "deny_files", "countries", "deny_agents"]])
.foreign(&[
    ("attacks", "attacks are looked for at the inbound door: here the client is the app itself"),
    ("bans", "bans are for the inbound door: here the client is the app itself"),
]);
const TEXT: &str = "Who may come in, by address, country and program.";
const INBOUND: Key = Key::new("access", Kind::Table(&INBOUND_TABLE), TEXT);
const OUTBOUND: Key = Key::new("access", Kind::Table(&OUTBOUND_TABLE), TEXT);

const ELSEWHERE: &[Elsewhere] = &[
    (
        &["ip_allow", "ip_deny", "allowlist", "denylist", "whitelist", "blacklist", "ip_filter", "ip_restriction", "acl", "allowed_ips"],
        "write `access: {allow: [private]}` in a route or in the door's `defaults`",
    ),
    (
        &["ban", "fail2ban", "autoban", "throttle_bans"],
        "write `access: {bans: {after: 20, window: 1m, for: 15m}}` in a route or in the door's `defaults`",
    ),
];

impl Policy for Option<Access> {
    type Written = Option<Written>;

    const ROWS: Rows = Rows { inbound: Some(INBOUND), outbound: Some(OUTBOUND), defaults: InDefaults::Taken };

    const ELSEWHERE: &'static [Elsewhere] = ELSEWHERE;

    fn build(build: &mut Build<'_>, place: &Place<'_>, written: Self::Written, inherited: &Self) -> Self {
        let Some(written) = written else { return inherited.clone() };
        let nets = |list: Items<W<Nets>>| list.into_iter().flatten().flat_map(|nets| nets.0.0).collect();
        let here = place.key("access");
        let allow_listed = listed(build, &format!("{here}.allow_files"), written.allow_files);
        let deny_listed = listed(build, &format!("{here}.deny_files"), written.deny_files);
        let countries = written.countries.and_then(|countries| countries::build(build, &format!("{here}.countries"), countries));
        let deny_agents = written.deny_agents.into_iter().flatten().map(|glob| Glob::new(glob.0.as_str().to_ascii_lowercase())).collect();
        let (allow, deny) = (nets(written.allow), nets(written.deny));
        let mode = written.mode.0.meant()?;
        let attacks = written.attacks.and_then(|attacks| attacks::build(attacks, mode));
        let bans = written.bans.and_then(|bans| bans::build(bans, mode));
        Some(Access { mode, allow, deny, allow_listed, deny_listed, countries, deny_agents, attacks, bans })
    }

    fn told(&self, _: &Config) -> Vec<String> {
        self.iter().map(|access| format!("access{}", access.mode.remark())).collect()
    }
}

/// The addresses of files.
fn listed(build: &mut Build<'_>, here: &str, files: Items<W<PathBuf>>) -> Option<Arc<AddressSet>> {
    let files: Vec<PathBuf> = files.into_iter().flatten().map(|file| file.0).collect();
    if files.is_empty() {
        return None;
    }
    let mut all = Vec::new();
    for (nth, file) in files.iter().enumerate() {
        // The only item of a list may stand without one.
        let nth = format!("{here}[{nth}]");
        let at = build.seen.value(if build.seen.written(&nth) { &nth } else { here });
        let shown = build.files.path(file).display().to_string();
        let read = build.files.read(file, MAX_FILE).map_err(|why| vec![why]);
        match read.and_then(|bytes| {
            lists::nets(&String::from_utf8_lossy(&bytes)).map_err(|wrong| wrong.iter().map(|why| format!("`{shown}`, {why}")).collect())
        }) {
            Ok(nets) if nets.is_empty() => build.note(at, format!("`{shown}` has no address")),
            Ok(nets) => all.extend(nets),
            Err(wrong) => wrong.into_iter().for_each(|why| build.fault(at, why)),
        }
    }
    Some(Arc::new(AddressSet::new(all)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{bad, good, route, says};

    #[test]
    fn a_list_is_one_net_or_many_and_one_list_is_needed() {
        let config = good(&route("access: {allow: private, deny: [192.0.2.0/24, 198.51.100.1], mode: observe}"));
        let access = config.inbound.expect("open").routes.remove(0).policies.access.expect("named");
        assert_eq!((access.mode, access.deny.len()), (Mode::Observe, 2));
        assert!(access.allow.len() > 1 && access.deny[1].prefix_len() == 32);
        says(&route("access: {}"), "5:7", "needs `allow`");
    }

    #[test]
    fn files_of_addresses_and_countries_are_read_and_their_mistakes_are_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = |name: &str, bytes: &[u8]| {
            std::fs::write(dir.path().join(name), bytes).expect("written");
            dir.path().join(name).display().to_string()
        };
        let (good_list, bad_list) = (file("a.txt", b"192.0.2.0/24\n"), file("b.txt", b"192.0.2.0/24\nnonsense\n"));
        let countries = file("c.mmdb", include_bytes!("../../../tests/configs/countries.mmdb"));
        let text = format!("access: {{deny_files: {good_list}, countries: {{file: {countries}, deny: [FR]}}, deny_agents: '*SqlMap*'}}");
        let access = good(&route(&text)).inbound.expect("open").routes.remove(0).policies.access.expect("named");
        assert!(access.deny_listed.is_some_and(|set| set.contains([192, 0, 2, 7].into())) && access.deny_agents[0].matches("a sqlmap/1"));
        let known = access.countries.expect("named").file;
        let of = |address: &str| known.country(address.parse().expect("an address")).map(|country| country.to_string());
        for (address, country) in [
            ("192.0.2.1", Some("DE")),
            ("::ffff:192.0.2.1", Some("DE")),
            ("2001:db8:1::1", Some("DE")),
            ("198.51.100.1", Some("FR")),
            ("203.0.113.1", Some("US")),
            ("127.0.0.1", None),
        ] {
            assert_eq!(of(address).as_deref(), country, "{address}");
        }
        let told = |text: String, part: &str| {
            let said = bad(&route(&text));
            assert!(said.len() == 1 && said[0].starts_with("5:") && said[0].contains(part), "{said:?}");
        };
        told(format!("access: {{deny_files: [{good_list}, {bad_list}]}}"), "line 2: `nonsense`");
        told(format!("access: {{countries: {{file: {good_list}, deny: [FR]}}}}"), "is no MMDB file");
        told(format!("access: {{countries: {{file: {countries}, deny: [Fr]}}}}"), "is not a country");
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
