//! `access.bans`: clients that are refused too often stay out for a while.

use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use crate::config::{
    build::small,
    error::quoted,
    mode::{MODE_KEY, Mode, ModeWord},
    scalars::{Count, Nets, W, Word, words},
    schema::{
        Json, Key, Kind, Scalar, Table,
        kinds::{COUNT_OF, NETS, TIME_OF},
    },
    written::Items,
};

/// Who stays out, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct Bans {
    /// Whether they stay out, or are only counted.
    pub mode: Mode,
    /// Refusals that make a ban.
    pub after: u32,
    /// The time in which they count together.
    pub window: Duration,
    /// How long a ban lasts.
    pub time: Duration,
    /// What counts as a refusal.
    pub on: Vec<BanCause>,
    /// Whether addresses are banned.
    pub by_address: bool,
    /// Whether callers are banned.
    pub by_caller: bool,
    /// Addresses that are never banned.
    pub never: Vec<IpNet>,
    /// A number of these terms: refusals by the same terms count together, on whatever route.
    pub id: u64,
}

/// An answer that counts towards a ban.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BanCause {
    /// A bad credential; not an absent one.
    Auth,
    /// `access` has refused.
    Access,
    /// The request looks like an attack, and was refused.
    Attacks,
    /// `csrf` or `cors` has refused.
    Csrf,
    /// `validate` has refused.
    Validate,
    /// A limit has refused.
    Limits,
    /// An answer with this status, whoever made it.
    Status(u16),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BanKey {
    Address,
    Caller,
}

words! {
    BanKey: "client_ip" => Self::Address, "caller" => Self::Caller;
}

impl Word for BanCause {
    fn word(text: &str) -> Result<Self, String> {
        Ok(match text {
            "auth" => Self::Auth,
            "access" => Self::Access,
            "attacks" => Self::Attacks,
            "csrf" => Self::Csrf,
            "validate" => Self::Validate,
            "limits" => Self::Limits,
            _ => match text.parse() {
                Ok(status @ 400..=499) => Self::Status(status),
                _ => return Err(format!("{} counts towards no ban; write {CAUSES}", quoted(text))),
            },
        })
    }
}

const CAUSES: &str = "auth, access, attacks, csrf, validate, limits, or a status from 400 to 499";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    mode: W<ModeWord>,
    after: W<Count>,
    window: W<Duration>,
    r#for: W<Duration>,
    #[serde(default)]
    on: Items<W<BanCause>>,
    #[serde(default)]
    by: Items<W<BanKey>>,
    #[serde(default)]
    never: Items<W<Nets>>,
}

const CAUSE: Kind = Kind::Scalar(&Scalar::new::<BanCause>(
    "`auth`, `access`, `attacks`, `csrf`, `validate`, `limits` or a status of 400 to 499",
    Json::NumberOr("^(auth|access|attacks|csrf|validate|limits)$"),
    "auth",
));
const BAN_KEY: Kind = Kind::Scalar(&Scalar::new::<BanKey>("`client_ip` or `caller`", Json::Words(&["client_ip", "caller"]), "client_ip"));

static TABLE: Table = Table::new(
    "access.bans",
    "Who is refused too often stays out for a while: 403 with the reason `banned`. Shared by replicas that share a Redis. `outrigger bans` shows \
     and lifts them.",
    &[
        MODE_KEY,
        Key::new("after", COUNT_OF, "Refusals that make a ban.").within("1", "10000").default("20"),
        Key::new("window", TIME_OF, "The time in which they count together.").within("1s", "1d").default("1m"),
        Key::new("for", TIME_OF, "How long a ban lasts.").within("1s", "30d").default("15m"),
        Key::new(
            "on",
            Kind::OneOrMany(&CAUSE),
            "What counts: `auth` (bad credentials, not absent ones), `access`, `attacks`, `csrf` (and `cors`), `validate`, `limits`; a number is an answer \
             with this status, the app's too.",
        )
        .default("[auth]"),
        Key::new("by", Kind::OneOrMany(&BAN_KEY), "Who is banned: the address (IPv6: its /64), the caller, or both.").default("[client_ip]"),
        Key::new("never", Kind::OneOrMany(&NETS), "Addresses that are never banned. A load balancer that is not in `trusted_proxies` is one.")
            .default("[private]"),
    ],
);

/// The row of the block.
pub(super) const ROW: Key =
    Key::new("bans", Kind::Table(&TABLE), "Who is refused too often stays out for a while.").eg("{after: 20, window: 1m, for: 15m}");

/// What is meant; `None`: it is off. `within`: the mode of the policy around it.
pub(super) fn build(written: Written, within: Mode) -> Option<Bans> {
    let mode = written.mode.0.meant()?;
    let mode = if within == Mode::Observe { Mode::Observe } else { mode };
    let by: Vec<BanKey> = written.by.into_iter().flatten().map(|key| key.0).collect();
    let mut bans = Bans {
        mode,
        after: small(&written.after),
        window: written.window.0,
        time: written.r#for.0,
        on: written.on.into_iter().flatten().map(|cause| cause.0).collect(),
        by_address: by.contains(&BanKey::Address),
        by_caller: by.contains(&BanKey::Caller),
        never: written.never.into_iter().flatten().flat_map(|nets| nets.0.0).collect(),
        id: 0,
    };
    let hash = blake3::hash(format!("{bans:?}").as_bytes());
    bans.id = hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    Some(bans)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        Access,
        scalars::tests::refused,
        testing::{good, route, says},
    };

    fn access(text: &str) -> Access {
        good(&route(text)).inbound.expect("open").routes.remove(0).policies.access.expect("named")
    }

    #[test]
    fn a_ban_has_terms_and_defaults() {
        let bans = access("access: {bans: {}}").bans.expect("named");
        assert_eq!((bans.after, bans.window, bans.time), (20, Duration::from_secs(60), Duration::from_secs(900)));
        assert!(bans.on == [BanCause::Auth] && bans.by_address && !bans.by_caller && bans.mode == Mode::Enforce);
        assert!(bans.never.iter().any(|net| net.contains(&std::net::IpAddr::from([10, 0, 0, 1]))));
        let other = access("access: {bans: {after: 3, on: [limits, 404], by: [caller], never: 192.0.2.0/24}}").bans.expect("named");
        assert!(other.on == [BanCause::Limits, BanCause::Status(404)] && other.by_caller && !other.by_address && other.id != bans.id);
        assert_eq!(access("access: {mode: observe, bans: {}}").bans.expect("named").mode, Mode::Observe, "the whole policy observes");
        assert!(access("access: {deny: loopback, bans: {mode: off}}").bans.is_none());
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        refused::<BanCause>("500", "400 to 499");
        refused::<BanCause>("login", "auth, access");
        says(&route("access: {bans: {after: 0}}"), "5:30", "out of range");
        says("outbound: {providers: {openai: {}}, defaults: {access: {deny: loopback, bans: {}}}}\n", "1:73", "the app itself");
    }
}
