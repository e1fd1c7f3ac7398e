//! The policies of a route: one file each in `policy/`, one line each in the list below.
//!
//! A file holds the whole of a policy: its type as meant, its form as written, its rows of the schema, its build with every mistake,
//! the words of other products that lead to it, and its tests. The list joins them: its order is the order in which policies run,
//! are read, are printed and are built.

mod access;
mod app;
mod auth;
mod breaker;
mod cache;
mod compress;
mod cors;
mod csrf;
mod fallback;
mod headers;
pub(super) mod limits;
mod log;
mod privacy;
mod purge;
mod redirect;
mod respond;
mod retry;
mod rewrite;
mod timeouts;
mod validate;

use std::{fmt, sync::Arc};

use serde::{Deserialize, de::DeserializeOwned};

pub use access::{Access, AddressSet, AttackKind, Attacks, BanCause, Bans, Countries, Country, CountryFile};
pub use auth::{ApiKey, ApiKeys, Auth, AuthSources, ForwardAuth, Jwks, JwsAlgorithm, Jwt, JwtKeys, KeyFile, KeyRow, ProofKind};
pub use breaker::{Breaker, BreakerRatio};
pub use cache::{Cache, CacheBody, Cookies, FieldPath};
pub use compress::{AnswerCoding, Compress};
pub use cors::Cors;
pub use csrf::Csrf;
pub use fallback::{Fallback, FallsOn};
pub use headers::{FieldEdits, Headers, Secure, Template, TemplatePart, Variable};
pub use limits::{Algorithm, Applies, AskHook, AskPerson, Degrade, Limit, OnLimit, OnStoreError, Queue, Tier, Tiers, Unit, Unpriced};
pub use log::LogTerms;
pub use privacy::{NameSource, PersonalKind, PersonalPattern, Privacy, PrivacyAction};
pub use redirect::Redirect;
pub use respond::StaticAnswer;
pub use retry::{Backoff, Retry, RetryBudget, RetryOn};
pub use rewrite::Rewrite;
pub use timeouts::Timeouts;
pub use validate::{BodyTerms, Documented, Found, OpenApi, Parameter, ParameterPlace, Schema, SchemaFault, Undocumented, Validate};

use super::{
    Config, Match, Provider,
    block::route::WrittenMatch,
    build::{Build, Door},
    scalars::{Name, W},
    schema::{Advice, Elsewhere, Key},
};

/// Builds the types of a route's policies from the list.
macro_rules! policies {
    ($($(#[$doc:meta])* $name:ident: $meant:ty,)+) => {
        /// Every policy of a route, in the order in which they run. A policy that is not named is absent and does nothing.
        #[derive(Debug, Clone, Default)]
        pub struct Policies {
            $($(#[$doc])* pub $name: $meant,)+
        }

        /// A route, or the defaults of a door, as written. The schema says which keys stand in which.
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(super) struct Block {
            pub(super) name: Option<W<Name>>,
            pub(super) r#match: Option<WrittenMatch>,
            $($name: <$meant as Policy>::Written,)+
        }

        /// The rows of each policy.
        const ROWS: &[Rows] = &[$(<$meant as Policy>::ROWS),+];

        /// The words of other products that lead to each policy.
        pub(super) const ELSEWHERE: &[&[Elsewhere]] = &[$(<$meant as Policy>::ELSEWHERE),+];

        impl Policies {
            /// What a block means, over the policies that it inherits.
            pub(super) fn build(build: &mut Build<'_>, place: &Place<'_>, block: Block, inherited: &Self) -> Self {
                Self { $($name: Policy::build(build, place, block.$name, &inherited.$name),)+ }
            }

            /// Collects what the policies of other blocks ask of this one.
            pub(super) fn look_ahead(build: &mut Build<'_>, block: &Block) {
                $(<$meant as Policy>::look_ahead(build, &block.$name);)+
            }

            /// Finds the mistakes that only the whole configuration shows.
            pub(super) fn check(build: &mut Build<'_>, config: &Config) {
                $(<$meant as Policy>::check(build, config);)+
            }

            /// The policies that are named, in a line, in the order in which they run.
            pub fn told(&self, config: &Config) -> String {
                let told: Vec<String> = [$(Policy::told(&self.$name, config)),+].concat();
                if told.is_empty() { "passes through".to_owned() } else { told.join(", ") }
            }

            /// The name of each policy, and whether the route names it.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, bool)> {
                [$((stringify!($name), !self.$name.is_absent())),+].into_iter()
            }
        }
    };
}

policies! {
    /// CIDR access.
    access: Option<Access>,
    /// Pages of other origins that may use the app.
    cors: Option<Cors>,
    /// What a client must prove.
    auth: Option<Auth>,
    /// Requests that pages of other origins may not make.
    csrf: Option<Csrf>,
    /// What a request may look like.
    validate: Option<Validate>,
    /// Fields of requests and answers.
    headers: Option<Headers>,
    /// Personal data in model calls.
    privacy: Option<Privacy>,
    /// Limits of the route. The limits of a door come first and stand in the door.
    limits: Vec<Limit>,
    /// Where clients are sent in place of the app.
    redirect: Option<Redirect>,
    /// An answer of the route's own in place of the app's.
    respond: Option<StaticAnswer>,
    /// Response cache.
    cache: Option<Cache>,
    /// Tags whose entries are purged after a success.
    purge: Vec<Arc<str>>,
    /// The app that answers; `None`: the one of the door.
    app: Option<Arc<str>>,
    /// The path that the app sees.
    rewrite: Option<Rewrite>,
    /// Time bounds. Absent: none.
    timeouts: Option<Timeouts>,
    /// Retries. Absent: none but the safe reconnect.
    retry: Option<Retry>,
    /// Circuit breaker. Absent: none.
    breaker: Option<Breaker>,
    /// Targets after the first, in order. Empty: none.
    fallback: Vec<Fallback>,
    /// Answers that are compressed.
    compress: Option<Compress>,
    /// Exchanges that have a line in the access log. Absent: all.
    log: Option<LogTerms>,
}

/// Policies that the design names and this version does not have.
pub(super) const PLANNED: &[Advice] = &[
    ("queue", "a limit holds requests in line: write `limits: [{key: caller, concurrency: 5, queue: {max: 100, wait: 10s}}]`"),
    ("concurrency", "it is a limit: write `limits: [{key: caller, concurrency: 5}]`"),
];

/// The advice for what is planned.
pub(super) const NOT_YET: &str = "not supported yet";

/// A policy as it stands in [`Policies`]; its default is absence.
pub(super) trait Policy: Sized {
    /// The form in the file; its default is an absent key.
    type Written: fmt::Debug + Default + DeserializeOwned;

    /// The rows of the schema.
    const ROWS: Rows;

    /// Words of other products, each with the advice for who writes it.
    const ELSEWHERE: &'static [Elsewhere] = &[];

    /// The meaning of what is written at a place; `inherited` is the meaning in the door's `defaults`.
    fn build(build: &mut Build<'_>, place: &Place<'_>, written: Self::Written, inherited: &Self) -> Self;

    /// Collects what other policies ask of this one, before anything is built.
    fn look_ahead(_build: &mut Build<'_>, _written: &Self::Written) {}

    /// Finds the mistakes that only the whole configuration shows.
    fn check(_build: &mut Build<'_>, _config: &Config) {}

    /// The words of `outrigger check` for the policy. Empty: the policy is absent.
    fn told(&self, config: &Config) -> Vec<String>;
}

/// A meaning that can be absent.
trait Absent {
    fn is_absent(&self) -> bool;
}

impl<T> Absent for Option<T> {
    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T> Absent for Vec<T> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

/// The policies of every block of the file, with the block's path.
pub(super) fn policies_of(config: &Config) -> impl Iterator<Item = (String, &Policies)> {
    let inbound = config.inbound.as_ref().map(|door| ("inbound", &door.routes, &door.fallthrough));
    let outbound = config.outbound.as_ref().map(|door| ("outbound", &door.routes, &door.fallthrough));
    [inbound, outbound].into_iter().flatten().flat_map(|(door, routes, fallthrough)| {
        let of_routes = routes.iter().enumerate().map(move |(at, route)| (format!("{door}.routes[{at}]"), &route.policies));
        of_routes.chain([(format!("{door}.defaults"), fallthrough)])
    })
}

/// Where a block of policies stands, with what its policies depend on.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) door: Door,
    /// Path of the block: `inbound.routes[2]`, `inbound.defaults`, `inbound`.
    pub(super) path: &'a str,
    /// Name of the place in the generated names of limits: `inbound/api`.
    pub(super) name: &'a str,
    /// Match of the route; of a door's `defaults`, the match of every request.
    pub(super) matches: &'a Match,
    pub(super) providers: &'a [Provider],
    /// Whether the door believes the headers of some proxy.
    pub(super) trusting: bool,
    /// Whether the door ends TLS.
    pub(super) tls: bool,
}

impl Place<'_> {
    /// Path of a key of the block.
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }
}

/// The rows of a policy: one for each door, because doors differ in what may be written.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    /// In an inbound route. `None`: the policy is not for inbound requests.
    pub(super) inbound: Option<Key>,
    /// In an outbound route. `None`: the policy is not for model calls.
    pub(super) outbound: Option<Key>,
    pub(super) defaults: InDefaults,
}

/// Whether a door's `defaults` take a policy.
#[derive(Clone, Copy)]
pub(super) enum InDefaults {
    Taken,
    /// The advice for who writes it there.
    Refused(&'static str),
}

/// Where rows of policies stand.
#[derive(Clone, Copy)]
enum Spot {
    InboundRoute,
    InboundDefaults,
    OutboundRoute,
    OutboundDefaults,
}

/// The rows of the policies in an inbound route.
pub(super) const INBOUND_ROUTE: [Key; count(Spot::InboundRoute)] = rows(Spot::InboundRoute);
/// The rows of the policies in `inbound.defaults`.
pub(super) const INBOUND_DEFAULTS: [Key; count(Spot::InboundDefaults)] = rows(Spot::InboundDefaults);
/// The rows of the policies in an outbound route.
pub(super) const OUTBOUND_ROUTE: [Key; count(Spot::OutboundRoute)] = rows(Spot::OutboundRoute);
/// The rows of the policies in `outbound.defaults`.
pub(super) const OUTBOUND_DEFAULTS: [Key; count(Spot::OutboundDefaults)] = rows(Spot::OutboundDefaults);
/// The policies that `defaults` do not take.
pub(super) const NOT_IN_DEFAULTS: [Advice; ROWS.len() - count(Spot::InboundDefaults)] = refused();

impl Rows {
    const fn at(self, spot: Spot) -> Option<Key> {
        match (spot, self.defaults) {
            (Spot::InboundDefaults | Spot::OutboundDefaults, InDefaults::Refused(_)) => None,
            (Spot::InboundRoute | Spot::InboundDefaults, _) => self.inbound,
            (Spot::OutboundRoute | Spot::OutboundDefaults, _) => self.outbound,
        }
    }
}

const fn count(spot: Spot) -> usize {
    let (mut found, mut at) = (0, 0);
    while at < ROWS.len() {
        if ROWS[at].at(spot).is_some() {
            found += 1;
        }
        at += 1;
    }
    found
}

const fn rows<const N: usize>(spot: Spot) -> [Key; N] {
    let mut out = [Key::NONE; N];
    let (mut next, mut at) = (0, 0);
    while at < ROWS.len() {
        if let Some(key) = ROWS[at].at(spot) {
            out[next] = key;
            next += 1;
        }
        at += 1;
    }
    out
}

const fn refused<const N: usize>() -> [Advice; N] {
    let mut out = [("", ""); N];
    let (mut next, mut at) = (0, 0);
    while at < ROWS.len() {
        if let (InDefaults::Refused(advice), Some(key)) = (ROWS[at].defaults, ROWS[at].at(Spot::InboundRoute)) {
            out[next] = (key.name, advice);
            next += 1;
        }
        at += 1;
    }
    out
}
