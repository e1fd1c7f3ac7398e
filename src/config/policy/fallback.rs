//! `fallback`: what comes after a target that failed.

use std::sync::Arc;

use http::{HeaderValue, StatusCode};
use serde::Deserialize;

use super::{InDefaults, Place, Policy, Rows};
use crate::config::{
    Config, Provider,
    block::provider,
    build::{Build, Door},
    error::Fault,
    scalars::{Field, Name, W, words},
    schema::{
        Elsewhere, Json, Key, Kind, Scalar, Table,
        kinds::{FIELD, NAME, TEXT},
    },
    written::Items,
};

/// What comes after a target that failed.
#[derive(Debug, Clone)]
pub enum Fallback {
    /// Another provider of the same API, or another model.
    Provider {
        /// Index into [`Outbound::providers`](crate::config::Outbound::providers).
        provider: usize,
        /// Replaces the model in the body.
        model: Option<Arc<str>>,
        /// The failures that it is for; empty: all that need not be named.
        on: Vec<FallsOn>,
    },
    /// A static answer.
    #[allow(missing_docs)]
    Respond { status: StatusCode, body: String, content_type: HeaderValue, on: Vec<FallsOn> },
}

/// A failure after which a step of a fallback comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum FallsOn {
    Connect,
    Reset,
    Timeout,
    BreakerOpen,
    Throttled,
    Overloaded,
    QuotaSpent,
    BadKey,
    Transient,
    ContextTooLong,
    NotFound,
}

impl Fallback {
    /// Whether this step comes after such a failure.
    pub fn takes(&self, failure: FallsOn) -> bool {
        let (Self::Provider { on, .. } | Self::Respond { on, .. }) = self;
        if on.is_empty() { !failure.must_be_named() } else { on.contains(&failure) }
    }

    /// The failures that it is written for, in words; empty: none are written.
    pub fn remark(&self) -> String {
        let (Self::Provider { on, .. } | Self::Respond { on, .. }) = self;
        let words: Vec<&str> = on.iter().map(|failure| failure.as_str()).collect();
        if words.is_empty() { String::new() } else { format!(" on {}", words.join(", ")) }
    }
}

impl FallsOn {
    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::BreakerOpen => "breaker_open",
            Self::Throttled => "throttled",
            Self::Overloaded => "overloaded",
            Self::QuotaSpent => "quota_spent",
            Self::BadKey => "bad_key",
            Self::Transient => "transient",
            Self::ContextTooLong => "context_too_long",
            Self::NotFound => "not_found",
        }
    }

    /// Whether a step must name it: the client is at fault, and another model may take the call all the same.
    pub fn must_be_named(self) -> bool {
        matches!(self, Self::ContextTooLong | Self::NotFound)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    provider: Option<W<Name>>,
    model: Option<String>,
    respond: Option<WrittenRespond>,
    #[serde(default)]
    on: Items<W<FallsOn>>,
}

words! {
    FallsOn: "connect" => Self::Connect, "reset" => Self::Reset, "timeout" => Self::Timeout, "breaker_open" => Self::BreakerOpen,
        "throttled" => Self::Throttled, "overloaded" => Self::Overloaded, "quota_spent" => Self::QuotaSpent, "bad_key" => Self::BadKey,
        "transient" => Self::Transient, "context_too_long" => Self::ContextTooLong, "not_found" => Self::NotFound;
}

const FALLS_ON: Kind = Kind::Scalar(&Scalar::new::<FallsOn>(
    "a failure",
    Json::Words(&[
        "connect",
        "reset",
        "timeout",
        "breaker_open",
        "throttled",
        "overloaded",
        "quota_spent",
        "bad_key",
        "transient",
        "context_too_long",
        "not_found",
    ]),
    "context_too_long",
));
const ON: Key = Key::new(
    "on",
    Kind::OneOrMany(&FALLS_ON),
    "The failures that this step is for; the first step that takes a failure follows it. `context_too_long` and `not_found` must be named; \
     filtered content leads nowhere.",
)
.says("every failure but `context_too_long` and `not_found`")
.eg("[context_too_long]");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRespond {
    status: W<StatusCode>,
    body: String,
    content_type: W<Field>,
}

const STATUS: Kind = Kind::Scalar(&Scalar::new::<StatusCode>("a status", Json::Number, "503"));

static RESPOND_TABLE: Table = Table::new(
    "fallback.respond",
    "A static answer.",
    &[
        Key::new("status", STATUS, "Its status.").default("503"),
        Key::new("body", TEXT, "Its body.").default("\"\"").eg("\"The assistant is resting.\""),
        Key::new("content_type", FIELD, "Its content type.").default("text/plain; charset=utf-8").eg("application/json"),
    ],
);
const RESPOND: Key =
    Key::new("respond", Kind::Table(&RESPOND_TABLE), "A static answer; the last of the list.").eg("{status: 503, body: \"Back soon.\"}");
static INBOUND_FALLBACK: Table =
    Table::new("inbound fallback", "What is answered when the app failed.", &[RESPOND, ON]).exactly_one(&[&["respond"]]).foreign(&[
        ("provider", "providers are for outbound routes; here only `respond` can be written"),
        ("model", "models are for outbound routes; here only `respond` can be written"),
    ]);
static OUTBOUND_FALLBACK: Table = Table::new(
    "outbound fallback",
    "What comes next when a call failed before its first byte went to the app; tried in order.",
    &[
        Key::new("provider", NAME, "A provider of the same API.").eg("openai"),
        Key::new("model", TEXT, "The model to ask instead.").eg("gpt-4o-mini"),
        RESPOND,
        ON,
    ],
)
.exactly_one(&[&["provider", "respond"]])
.needs(&[("model", "provider")]);
const INBOUND_KIND: &Kind = &Kind::Table(&INBOUND_FALLBACK);
const OUTBOUND_KIND: &Kind = &Kind::Table(&OUTBOUND_FALLBACK);
const INBOUND: Key = Key::new("fallback", Kind::List(INBOUND_KIND), "What is answered when the app failed.");
const OUTBOUND: Key = Key::new("fallback", Kind::List(OUTBOUND_KIND), "What comes next when the first target failed, in order.");

const ELSEWHERE: &[Elsewhere] =
    &[(&["fallbacks", "context_window_fallbacks", "failover"], "write `fallback: [{provider: openai, model: gpt-4o-mini}]` in a route")];

impl Policy for Vec<Fallback> {
    type Written = Items<Written>;

    const ROWS: Rows = Rows { inbound: Some(INBOUND), outbound: Some(OUTBOUND), defaults: InDefaults::Taken };

    const ELSEWHERE: &'static [Elsewhere] = ELSEWHERE;

    fn build(build: &mut Build<'_>, place: &Place<'_>, written: Self::Written, inherited: &Self) -> Self {
        let list = place.key("fallback");
        if !build.seen.written(&list) {
            return inherited.clone();
        }
        let mut out = Vec::new();
        let last = written.len().saturating_sub(1);
        for (n, item) in written.into_iter().enumerate().filter_map(|(n, item)| Some((n, item?))) {
            let here = format!("{list}[{n}]");
            let on: Vec<FallsOn> = item.on.into_iter().flatten().map(|failure| failure.0).collect();
            if let Some(respond) = item.respond {
                if n < last && on.is_empty() {
                    build.fault(build.seen.value(&here), "a static answer never fails: nothing after it would be tried; put it last");
                }
                out.push(Fallback::Respond { status: respond.status.0, body: respond.body, content_type: respond.content_type.0.0, on });
            } else if let Some(name) = item.provider {
                let name = name.0.0;
                match place.providers.iter().position(|provider| *provider.name == *name) {
                    Some(provider) => out.push(Fallback::Provider { provider, model: item.model.map(Arc::from), on }),
                    None => provider::unknown(build, &name, &format!("{here}.provider"), place.providers),
                }
            }
        }
        if place.door == Door::Outbound {
            speaks_one_api(build, place, &out);
        }
        out
    }

    fn told(&self, config: &Config) -> Vec<String> {
        let providers = config.outbound.as_ref().map_or(&[][..], |door| &door.providers);
        let told = |fallback: &Fallback| match fallback {
            Fallback::Provider { provider, model, .. } => {
                let name = providers.get(*provider).map_or("?", |provider| &*provider.name);
                model.as_ref().map_or_else(|| format!("else {name}"), |model| format!("else {name} {model}"))
            }
            Fallback::Respond { status, .. } => format!("else answer {}", status.as_u16()),
        };
        self.iter().map(|fallback| told(fallback) + &fallback.remark()).collect()
    }
}

/// A call is sent on as it is: a fallback must speak the API of every provider that the route can match.
fn speaks_one_api(build: &mut Build<'_>, place: &Place<'_>, fallbacks: &[Fallback]) {
    let (path, matches, providers) = (place.path, place.matches, place.providers);
    // The providers of a match that is wrong or missing are not known.
    let is_route = path.ends_with(']');
    if build.seen.broken(&format!("{path}.match")) || (is_route && !build.seen.written(&format!("{path}.match"))) {
        return;
    }
    let sound = |provider: &Provider| {
        !build.vague.iter().any(|name| **name == *provider.name) && !build.seen.broken(&format!("outbound.providers.{}", provider.name))
    };
    let can_match = |provider: &&Provider| {
        sound(provider)
            && (matches.providers.is_empty() || matches.providers.contains(&provider.name))
            && (matches.operations.is_empty() || matches.operations.iter().any(|operation| provider::offers(provider.api, *operation)))
    };
    let mut faults = Vec::new();
    for (n, fallback) in fallbacks.iter().enumerate() {
        let Fallback::Provider { provider, .. } = fallback else { continue };
        let Some(target) = providers.get(*provider).filter(|target| sound(target)) else { continue };
        if let Some(other) = providers.iter().filter(can_match).find(|other| other.api != target.api) {
            let message = format!(
                "`{}` speaks {} and this route can match calls to `{}`, which speaks {}; a call is not translated: \
                     name the providers of the route with `match: {{provider: [...]}}`",
                target.name, target.api, other.name, other.api
            );
            faults.push(Fault::new(build.seen.value(&format!("{path}.fallback[{n}].provider")), message));
            break;
        }
    }
    build.faults.extend(faults);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{good, says};

    fn routes(routes: &str) -> String {
        format!("outbound:\n  providers: {{openai: {{}}, anthropic: {{}}}}\n  routes:\n{routes}")
    }

    #[test]
    fn a_fallback_is_a_provider_of_the_same_api_or_a_last_answer() {
        says(
            &routes("    - {match: {operation: chat}, fallback: [{provider: nope}]}\n"),
            "4:56",
            "there is no provider `nope`; there are `openai`, `anthropic`",
        );
        says(&routes("    - {match: {operation: chat}, fallback: [{provider: anthropic}]}\n"), "4:56", "`anthropic` speaks anthropic");
        says(&routes("    - {match: {provider: openai}, fallback: [{respond: {}}, {provider: openai}]}\n"), "4:46", "put it last");
        says(&routes("    - {match: {operation: chat}, fallback: [{model: gpt-4o}]}\n"), "4:45", "needs one of `provider`, `respond`");
        good(&routes("    - {match: {provider: anthropic}, fallback: [{provider: anthropic, model: x}]}\n"));
    }

    #[test]
    fn a_step_says_the_failures_that_it_is_for() {
        let config = good(&routes(
            "    - {match: {provider: openai}, fallback: [{provider: openai, model: long, on: context_too_long}, \
             {respond: {}, on: [throttled]}, {provider: openai, model: x}]}\n",
        ));
        let steps = &config.outbound.expect("open").routes[0].policies.fallback;
        let takes = |failure| steps.iter().map(|step| step.takes(failure)).collect::<Vec<_>>();
        assert_eq!(takes(FallsOn::ContextTooLong), [true, false, false]);
        assert_eq!(takes(FallsOn::Throttled), [false, true, true]);
        assert_eq!(takes(FallsOn::NotFound), [false, false, false]);
        assert_eq!(steps[0].remark(), " on context_too_long");
        says(&routes("    - {match: {provider: openai}, fallback: [{provider: openai, on: filtered}]}\n"), "4:69", "`filtered`");
    }
}
