//! Several addresses of one target, which is the app or a provider: the list that may stand in the place of its URL, and the choice
//! among them (`balance`).

use std::{sync::Arc, time::Duration};

use serde::Deserialize;

use crate::config::{
    Breaker, KeyPart, Mode, Origin,
    build::{Build, small},
    error::quoted,
    key::{self, KeyWord},
    scalars::OrOff,
    scalars::{Count, W, Word, words},
    schema::{
        Json, Key, Kind, Scalar, Table,
        kinds::{BOOL, COUNT_OF, TIME_OF, TIME_OR_OFF},
    },
    written::Items,
};

/// One of several addresses of a target.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its name; where none is written its host and port.
    pub name: Arc<str>,
    /// Its URL.
    pub url: Origin,
    /// Its share of the requests, beside the weights of the others; 1 to 100.
    pub weight: u32,
    /// The zone that it stands in.
    pub zone: Option<Arc<str>>,
    /// Whether it serves only where no other member does.
    pub backup: bool,
}

/// The addresses of a target, two at least, and the choice among them.
#[derive(Debug, Clone, PartialEq)]
pub struct Members {
    /// The addresses, in the order of the file.
    pub list: Vec<Member>,
    /// The way of choosing.
    pub choose: Choose,
    /// The proxy's own zone: members of the same zone come first.
    pub zone: Option<Arc<str>>,
    /// The time in which a member that begins to serve comes up to its share. Zero: at once.
    pub slow_start: Duration,
    /// The terms by which a member is left out, where the route has no breaker of its own.
    pub health: Breaker,
}

impl Members {
    /// Every address of a target: the one, or those of its members.
    pub fn urls<'a>(one: &'a Origin, members: Option<&'a Self>) -> impl Iterator<Item = &'a Origin> {
        let several = members.into_iter().flat_map(|members| members.list.iter().map(|member| &member.url));
        members.is_none().then_some(one).into_iter().chain(several)
    }

    /// The members and the choice in words.
    pub fn told(&self) -> String {
        let choose = match &self.choose {
            Choose::LeastLoaded => "least_loaded".to_owned(),
            Choose::InTurn => "in_turn".to_owned(),
            Choose::Sticky(parts) => {
                format!("sticky by {}", parts.iter().map(KeyPart::written).collect::<Vec<_>>().join(", "))
            }
        };
        let one = |member: &Member| match (member.weight, member.backup) {
            (_, true) => format!("{} (backup)", member.name),
            (1, _) => member.name.to_string(),
            (weight, _) => format!("{} (weight {weight})", member.name),
        };
        format!("{} members, {choose}: {}", self.list.len(), self.list.iter().map(one).collect::<Vec<_>>().join(", "))
    }
}

/// The way of choosing a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choose {
    /// Of two taken by chance, the one with less work and shorter answers.
    LeastLoaded,
    /// In turn, by weight.
    InTurn,
    /// The same member for the same key.
    Sticky(Vec<KeyPart>),
}

/// Most members of a target: the choice keeps a bit for each.
const MOST: usize = 64;

/// Name of a member. It stands in names of breakers, after `:`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct MemberName(String);

impl Word for MemberName {
    fn word(text: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if (1..=64).contains(&text.len()) && text.chars().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("{} is not a name of a member; use up to 64 letters, digits and - _ .", quoted(text)))
        }
    }
}

/// The word of `choose`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChooseWord {
    LeastLoaded,
    InTurn,
    Sticky,
}

words! {
    ChooseWord: "least_loaded" => Self::LeastLoaded, "in_turn" => Self::InTurn, "sticky" => Self::Sticky;
}

/// A member as written: the URL alone, or with its name and weight.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(in crate::config) enum Written {
    Plain(W<Origin>),
    Named(Named),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Named {
    url: Option<W<Origin>>,
    name: Option<W<MemberName>>,
    weight: W<Count>,
    zone: Option<W<MemberName>>,
    backup: W<bool>,
}

/// `balance` as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct WrittenBalance {
    choose: W<ChooseWord>,
    #[serde(default)]
    key: Items<W<KeyWord>>,
    zone: Option<W<MemberName>>,
    slow_start: W<OrOff<Duration>>,
    failures: W<Count>,
    rest: W<Duration>,
    longest_rest: W<Duration>,
}

const NAME: Kind = Kind::Scalar(&Scalar::new::<MemberName>("a name of a member", Json::Pattern("^[A-Za-z0-9_.-]{1,64}$"), "blue"));
const ZONE: Kind = Kind::Scalar(&Scalar::new::<MemberName>("a name of a zone", Json::Pattern("^[A-Za-z0-9_.-]{1,64}$"), "eu-west-1a"));
const CHOOSE: Kind = Kind::Scalar(&Scalar::new::<ChooseWord>(
    "`least_loaded`, `in_turn` or `sticky`",
    Json::Words(&["least_loaded", "in_turn", "sticky"]),
    "in_turn",
));

/// The URL of an app: a port is one too.
pub(in crate::config) const APP: Kind = Kind::Scalar(
    &Scalar::new::<Origin>("a URL or a port of this machine", Json::NumberOr(r"^https?://[^ ]+$|^[0-9]+$"), "http://127.0.0.1:3000")
        .no_dollar(),
);

static TABLE: Table = Table::new(
    "member",
    "One of several addresses of the app or of a provider.",
    &[
        Key::new("url", APP, "Its URL."),
        Key::new("name", NAME, "Its name in metrics, log, spans and on the page: `app:blue`.").says("its host and port"),
        Key::new("weight", COUNT_OF, "Its share of the requests, beside the others' weights.").within("1", "100").default("1"),
        Key::new("zone", ZONE, "The zone that it stands in.").eg("eu-west-1a"),
        Key::new("backup", BOOL, "Whether it serves only where no other member does: another region.").default("false").eg("true"),
    ],
)
.at_least_one(&[&["url"]])
.foreign(&[
    ("address", "write `url`"),
    ("host", "write `url`"),
    ("priority", "write `backup: true`"),
    ("tls", "TLS is that of all members"),
]);

const MEMBER: Kind = Kind::Either(&[APP, Kind::Table(&TABLE)]);
/// An address, or a list of addresses.
pub(in crate::config) const ADDRESSES: Kind = Kind::OneOrMany(&MEMBER);

static BALANCE: Table = Table::new(
    "balance",
    "The choice among several addresses. A member that fails is left out for a while; a try that found no connection goes to another \
     member at once. Where all are left out, they are all asked, unless the route has a breaker.",
    &[
        Key::new(
            "choose",
            CHOOSE,
            "`least_loaded`: of two members taken by chance the one with less work under way and shorter waits (peak EWMA). `in_turn`: \
             exactly by weight. `sticky`: the same member for the same `key`.",
        )
        .default("least_loaded"),
        Key::new("key", key::KEYS, "Whose requests stay with one member; with `sticky`.").says("client_ip").eg("caller"),
        Key::new("zone", ZONE, "The proxy's own zone: members there come first, the others where none of them serves.").eg("\"${ZONE:-}\""),
        Key::new("slow_start", TIME_OR_OFF, "The time in which a member that begins to serve again comes up to its share.")
            .within("1s", "1h")
            .default("off")
            .eg("30s"),
        Key::new("failures", COUNT_OF, "Failures in a row that leave a member out; a route's own `breaker` has its own terms.")
            .within("1", "1000")
            .default("3"),
        Key::new("rest", TIME_OF, "How long it is left out at first; doubled each time.").within("100ms", "1h").default("5s"),
        Key::new("longest_rest", TIME_OF, "How long it is left out at most.").within("100ms", "1d").default("60s"),
    ],
)
.foreign(&[
    ("policy", "write `choose`"),
    ("lb_policy", "write `choose`"),
    ("max_fails", "write `failures`"),
    ("fail_timeout", "write `rest`"),
    ("health", "real traffic tells: see `failures` and `rest`; `monitors` adds probes that alert"),
]);

/// The row of `balance`.
pub(in crate::config) const fn balance(name: &'static str) -> Key {
    Key::new(name, Kind::Table(&BALANCE), "The choice among several addresses.").eg("{choose: in_turn}")
}

/// The addresses as written, and the paths of the two keys in the file.
pub(in crate::config) struct Asked<'a> {
    /// The key that holds the addresses.
    pub(in crate::config) urls: &'a str,
    /// The key that holds `balance`.
    pub(in crate::config) balance: &'a str,
    /// Whether members may be told apart by a key of the inbound door's requests only.
    pub(in crate::config) inbound: bool,
}

/// The first URL, and the members, if there are several.
pub(in crate::config) fn build(
    build: &mut Build<'_>,
    asked: &Asked<'_>,
    written: Items<Written>,
    balance: Option<WrittenBalance>,
) -> (Option<Origin>, Option<Members>) {
    let count = written.len();
    let list = members(build, asked.urls, written);
    let first = list.first().map(|member| member.url.clone());
    let several = list.len() > 1;
    if list.is_empty() && build.seen.written(&format!("{}[0]", asked.urls)) && !build.seen.broken(asked.urls) {
        build.fault(build.seen.value(asked.urls), "no address is left");
    }
    if balance.is_some() && count < 2 && !build.seen.broken(asked.urls) {
        let message = format!("there is nothing to choose: `{}` has one address; write a list of several", last(asked.urls));
        build.fault(build.seen.key(asked.balance), message);
    }
    if several && list.iter().all(|member| member.backup) {
        build.fault(build.seen.value(asked.urls), "every member is a `backup`: at least one must be none");
    }
    (first, several.then(|| meant(build, asked, list, balance)))
}

fn members(build: &mut Build<'_>, path: &str, written: Items<Written>) -> Vec<Member> {
    let mut list: Vec<Member> = Vec::new();
    let count = written.len();
    for (n, item) in written.into_iter().enumerate().filter_map(|(n, item)| Some((n, item?))) {
        let at = if count > 1 || build.seen.written(&format!("{path}[0]")) { format!("{path}[{n}]") } else { path.to_owned() };
        let (url, name, weight, zone, backup) = match item {
            Written::Plain(url) => (Some(url), None, 1, None, false),
            Written::Named(Named { url, name, weight, zone, backup }) => (url, name, small(&weight), zone, backup.0),
        };
        let Some(W(url)) = url else { continue };
        let name = name.map_or_else(|| url.authority_with_port(), |name| name.0.0).into();
        if list.iter().any(|member| member.name == name) {
            build.fault(build.seen.value(&at), format!("two members are called {}; give each its own `name`", quoted(&name)));
        }
        if let Some(twin) = list.iter().find(|member| member.url == url && member.name != name) {
            build.fault(
                build.seen.value(&at),
                format!("this address is that of {} too; write it once, with a `weight`", quoted(&twin.name)),
            );
        }
        if list.first().is_some_and(|first| first.url.scheme != url.scheme) {
            build.fault(build.seen.value(&at), "http and https in one list: TLS and its pins hold for all addresses or for none");
        }
        list.push(Member { name, url, weight, zone: zone.map(|zone| zone.0.0.into()), backup });
    }
    if list.len() > MOST {
        build.fault(build.seen.value(path), format!("there are at most {MOST} addresses; these are {}", list.len()));
    }
    list
}

fn meant(build: &mut Build<'_>, asked: &Asked<'_>, list: Vec<Member>, written: Option<WrittenBalance>) -> Members {
    let health = |failures, rest, longest| Breaker {
        mode: Mode::Enforce,
        consecutive: failures,
        ratio: None,
        open_base: rest,
        open_max: longest,
        jitter: 0.2,
        successes: 1,
    };
    let usual = health(3, Duration::from_secs(5), Duration::from_secs(60));
    let Some(written) = written else {
        return Members { list, choose: Choose::LeastLoaded, zone: None, slow_start: Duration::ZERO, health: usual };
    };
    let path = asked.balance;
    let mut key = key::parts(written.key);
    if build.seen.written(&format!("{path}.key")) && written.choose.0 != ChooseWord::Sticky {
        build.fault(build.seen.key(&format!("{path}.key")), "`key` has an effect with `choose: sticky` alone");
    }
    if key.is_empty() {
        key.push(KeyPart::ClientIp);
    }
    let outbound_only = |part: &KeyPart| matches!(part, KeyPart::Provider | KeyPart::Model);
    if let Some(part) = key.iter().find(|part| asked.inbound && outbound_only(part)) {
        build.fault(build.seen.value(&format!("{path}.key")), format!("a request to the app has no `{}`", part.written()));
    }
    if build.seen.written(&format!("{path}.slow_start")) && written.choose.0 != ChooseWord::LeastLoaded {
        build.fault(build.seen.key(&format!("{path}.slow_start")), "`slow_start` has an effect with `choose: least_loaded` alone");
    }
    if written.rest.0 > written.longest_rest.0 {
        build.fault(build.seen.value(&format!("{path}.rest")), "`rest` is longer than `longest_rest`");
    }
    let zone: Option<Arc<str>> = written.zone.map(|zone| zone.0.0.into());
    if let Some(zone) = &zone
        && list.iter().all(|member| member.zone.as_ref() != Some(zone))
    {
        build.note(build.seen.value(&format!("{path}.zone")), format!("no member stands in the zone {}: all are equal", quoted(zone)));
    }
    Members {
        list,
        choose: match written.choose.0 {
            ChooseWord::LeastLoaded => Choose::LeastLoaded,
            ChooseWord::InTurn => Choose::InTurn,
            ChooseWord::Sticky => Choose::Sticky(key),
        },
        zone,
        slow_start: written.slow_start.0.0.unwrap_or_default(),
        health: health(small(&written.failures), written.rest.0, written.longest_rest.0),
    }
}

/// The last word of a path in the file.
fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        scalars::tests::refused,
        testing::{good, says},
    };

    fn app(text: &str) -> (Origin, Option<Members>) {
        let inbound = good(&format!("inbound: {text}\n")).inbound.expect("open");
        (inbound.app, inbound.members)
    }

    #[test]
    fn one_address_is_a_target_and_several_are_members() {
        let (url, members) = app("{app: 3000}");
        assert_eq!((url.port, members), (3000, None));
        let (_, members) = app("{app: [\"http://a:1\"]}");
        assert_eq!(members, None);
        let (first, members) = app("{app: [\"http://a:1\", {url: \"http://b:2\", name: blue, weight: 3, zone: z, backup: true}]}");
        let members = members.expect("several");
        assert_eq!(first.host, "a");
        let told = |member: &Member| (member.name.to_string(), member.weight, member.zone.as_deref() == Some("z"), member.backup);
        assert_eq!(members.list.iter().map(told).collect::<Vec<_>>(), [("a:1".into(), 1, false, false), ("blue".into(), 3, true, true)]);
        assert_eq!((members.choose, members.slow_start, members.health.consecutive), (Choose::LeastLoaded, Duration::ZERO, 3));
    }

    #[test]
    fn the_choice_has_terms() {
        let (_, members) = app("{app: [\"http://a\", \"http://b\"], app_balance: {choose: sticky, key: [caller], failures: 1, rest: 2s}}");
        let members = members.expect("several");
        assert_eq!(members.choose, Choose::Sticky(vec![KeyPart::Caller]));
        assert_eq!((members.health.consecutive, members.health.open_base), (1, Duration::from_secs(2)));
        assert_eq!(members.list[1].name.as_ref(), "b:80");
    }

    #[test]
    fn a_provider_has_members_too() {
        let text = "outbound: {providers: {house: {api: openai, url: [\"http://a/v1\", \"http://b/v1\"], balance: {choose: in_turn}}}}\n";
        let provider = good(text).outbound.expect("open").providers.remove(0);
        let members = provider.members.expect("several");
        assert_eq!((members.choose, provider.url.host.as_str()), (Choose::InTurn, "a"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let text = |rest: &str| format!("inbound: {{app: [\"http://a\", \"http://b\"], app_balance: {rest}}}\n");
        says("inbound: {app: [\"http://a\", \"http://a\"]}\n", "1:29", "two members are called `a:80`");
        says("inbound: {app: 3000, app_balance: {}}\n", "1:22", "`app` has one address");
        says(&text("{choose: stiky}"), "1:64", "did you mean `sticky`");
        says(&text("{key: caller}"), "1:56", "`choose: sticky` alone");
        says(&text("{choose: sticky, key: model}"), "1:77", "has no `model`");
        says(&text("{choose: in_turn, slow_start: 9s}"), "1:73", "`choose: least_loaded` alone");
        says("inbound: {app: [\"http://a\", \"https://b\"]}\n", "1:29", "http and https in one list");
        says("inbound: {app: [{url: \"http://a\", name: x}, {url: \"http://a\", name: y}]}\n", "1:45", "is that of `x` too");
        says("outbound: {providers: {openai: {url: [\"${NO_SUCH:-}\"]}}}\n", "1:38", "no address is left");
        says("inbound: {listen: \"127.0.0.1:80\", app: [\"http://a\", \"http://127.0.0.1:80\"]}\n", "1:40", "own inbound listener");
        says(&text("{rest: 2m}"), "1:62", "longer than `longest_rest`");
        says(&text("{lb_policy: random}"), "1:56", "write `choose`");
        says(
            "inbound: {app: [{url: \"http://a\", backup: true}, {url: \"http://b\", backup: true}]}\n",
            "1:16",
            "every member is a `backup`",
        );
        let many = (0..65).map(|n| format!("\"http://a:{}\"", n + 1)).collect::<Vec<_>>().join(", ");
        says(&format!("inbound: {{app: [{many}]}}\n"), "1:16", "at most 64 addresses; these are 65");
        refused::<MemberName>("a:b", "letters, digits");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_a_name_panic(text in "\\PC{0,40}") {
            let _ = MemberName::word(&text);
        }
    }
}
