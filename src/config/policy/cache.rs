//! `cache`: answers are kept.

use std::{fmt, sync::Arc, time::Duration};

use serde::Deserialize;

use super::{InDefaults, NOT_YET, Place, Policy, Rows};
use crate::config::{
    Config,
    build::{Build, Door},
    error::quoted,
    key::{self, KEYS, KeyPart, KeyWord},
    mode::{MODE_KEY, Mode, ModeWord},
    scalars::{Bytes, Name, Share, W, Word, words},
    schema::{
        Elsewhere, Json, Key, Kind, Scalar, Table,
        kinds::{BOOL, SHARE, SIZE_OF, TAG, TIME_OF},
    },
    written::Items,
};

/// Response cache.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Cache {
    /// A cache that observes keeps keys and no bodies.
    pub mode: Mode,
    /// Forced freshness. `None`: RFC 9111 alone. Model calls always have one.
    pub ttl: Option<Duration>,
    /// RFC 5861 section 3; overrides the origin's.
    pub stale_while_revalidate: Option<Duration>,
    /// RFC 5861 section 4; overrides the origin's.
    pub stale_if_error: Option<Duration>,
    /// Purge tags of every entry.
    pub tags: Vec<Arc<str>>,
    /// Further parts of the key.
    pub key: Vec<KeyPart>,
    pub cookies: Cookies,
    /// Whether forced freshness overrides Set-Cookie, Authorization and `private`.
    pub unsafe_: bool,
    /// Largest answer that is stored, in bytes.
    pub max_body: u64,
    /// What of a POST's body tells entries apart, inbound. `None`: no POST is answered from the cache.
    pub body: Option<CacheBody>,
    /// Largest request body that is read for [`Cache::body`], in bytes.
    pub max_request: u64,
    /// Model calls: one cache for all tenants.
    pub share: bool,
    /// Model calls: each caller has entries of its own.
    pub per_caller: bool,
    /// Model calls: a replayed stream keeps the recorded pauses.
    pub paced: bool,
    /// Model calls: answers that ask for tool calls are stored too.
    pub tool_calls: bool,
    /// Model calls: a call with a higher temperature is not answered from the store.
    pub max_temperature: Option<f64>,
}

/// What of a POST's body tells entries apart. Whoever writes it declares that such a POST only reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheBody {
    /// These fields of its JSON and nothing else of it.
    Fields(Vec<FieldPath>),
    /// All of its JSON.
    All,
    /// A GraphQL request: its document by tokens, and everything beside it. Queries alone are cached: they only read.
    GraphQl,
}

/// A field of a JSON object, or of an object in it: `variables.id`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FieldPath(pub Vec<String>);

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// What forced or heuristic freshness does with requests that carry cookies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Cookies {
    Bypass,
    Ignore,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    mode: W<ModeWord>,
    ttl: Option<W<Duration>>,
    stale_while_revalidate: Option<W<Duration>>,
    stale_if_error: Option<W<Duration>>,
    #[serde(default)]
    tags: Items<W<Name>>,
    #[serde(default)]
    key: Items<W<KeyWord>>,
    cookies: Option<W<Cookies>>,
    r#unsafe: Option<W<bool>>,
    max_body: W<Bytes>,
    share: Option<W<bool>>,
    per: Option<W<Per>>,
    replay: Option<W<ReplayWord>>,
    tool_calls: Option<W<ToolCallsWord>>,
    max_temperature: Option<W<Share>>,
    body: Option<WrittenBody>,
    max_request: Option<W<Bytes>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum WrittenBody {
    Word(W<BodyWord>),
    Fields(Items<W<FieldPath>>),
}

/// The word of `per:`, whose entries are apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Per {
    Tenant,
    Caller,
}

/// The word of `body:` where it is no list of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyWord {
    All,
    GraphQl,
}

/// The word of `replay:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReplayWord {
    Immediate,
    Original,
}

/// The word of `tool_calls:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ToolCallsWord {
    Store,
    Skip,
}

words! {
    Per: "tenant" => Self::Tenant, "caller" => Self::Caller;
    BodyWord: "all" => Self::All, "graphql" => Self::GraphQl;
    ReplayWord: "immediate" => Self::Immediate, "original" => Self::Original;
    ToolCallsWord: "store" => Self::Store, "skip" => Self::Skip;
    Cookies: "bypass" => Self::Bypass, "ignore" => Self::Ignore;
}

impl Word for FieldPath {
    fn word(text: &str) -> Result<Self, String> {
        let names: Vec<String> = text.split('.').map(str::to_owned).collect();
        let is_name =
            |name: &String| !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || "[]*\"'".contains(c));
        if names.iter().all(is_name) {
            return Ok(Self(names));
        }
        Err(format!("{} is not a field; write its name, or names with dots between them, such as `variables.id`", quoted(text)))
    }
}

const BODY: Kind = Kind::Scalar(&Scalar::new::<BodyWord>("`graphql` or `all`", Json::Words(&["graphql", "all"]), "graphql"));
const FIELD_OF_JSON: Kind = Kind::Scalar(&Scalar::new::<FieldPath>("a field of a JSON body", Json::Text, "query"));
const REPLAY: Kind =
    Kind::Scalar(&Scalar::new::<ReplayWord>("`immediate` or `original`", Json::Words(&["immediate", "original"]), "original"));
const TOOL_CALLS: Kind = Kind::Scalar(&Scalar::new::<ToolCallsWord>("`store` or `skip`", Json::Words(&["store", "skip"]), "store"));
const PER: Kind = Kind::Scalar(&Scalar::new::<Per>("`tenant` or `caller`", Json::Words(&["tenant", "caller"]), "caller"));
const COOKIES: Kind = Kind::Scalar(&Scalar::new::<Cookies>("`bypass` or `ignore`", Json::Words(&["bypass", "ignore"]), "ignore"));
const TAGS: Kind = Kind::List(&TAG);

static INBOUND_CACHE: Table = Table::new(
    "inbound cache",
    "Keeps answers of the app. Without `ttl` it follows RFC 9111 alone: what the app allows with Cache-Control.",
    &[
        MODE_KEY,
        Key::new("ttl", TIME_OF, "Keep for this long whatever the app says; not answers with Set-Cookie, nor requests with Authorization.")
            .within("1s", "366d"),
        Key::new("stale_while_revalidate", TIME_OF, "Answer from an entry this much too old while a new one is fetched.")
            .within("0", "366d")
            .eg("5m"),
        Key::new("stale_if_error", TIME_OF, "Answer from an entry this much too old when the app fails.").within("0", "366d").eg("1h"),
        Key::new("tags", TAGS, "Names by which entries are purged.").eg("[catalog]"),
        Key::new("key", KEYS, "What else tells entries apart, beside method, host, path, query and Vary.").eg("[header:accept-language]"),
        Key::new("cookies", COOKIES, "Requests with cookies under `ttl`: pass them by the cache, or ignore the cookies.").default("bypass"),
        Key::new(
            "unsafe",
            BOOL,
            "Let `ttl` override Set-Cookie, Authorization and `private`. Only for answers that are the same for everybody.",
        )
        .default("false"),
        Key::new("max_body", SIZE_OF, "Largest answer kept.").within("1", "1GiB").default("1MiB"),
        Key::new(
            "body",
            Kind::Either(&[BODY, Kind::List(&FIELD_OF_JSON)]),
            "Answers POST too, which says that such a POST only reads. Entries are told apart by these fields of its JSON body and by \
             nothing else of it; by `all` of it; or as `graphql`: the query by its tokens, everything beside it as it is, mutations never.",
        )
        .eg("[query, page.size]"),
        Key::new("max_request", SIZE_OF, "Largest body that is read for `body`; a larger one goes to the app uncached, and is counted.")
            .within("1", "32MiB")
            .says("1MiB"),
    ],
)
.needs(&[("max_request", "body")])
.foreign(&[
    ("methods", "they are written in the route's `match`; `body` says what of a POST counts"),
    ("share", "it is for model calls, in outbound routes"),
    ("per", "it is for model calls; here write `key: caller`"),
]);

static OUTBOUND_CACHE: Table = Table::new(
    "outbound cache",
    "Keeps answers of models to identical calls, streams included. Entries are apart by the credential the app sent.",
    &[
        MODE_KEY,
        Key::new("ttl", TIME_OF, "How long an answer is kept.").within("1s", "366d").required().eg("1h"),
        Key::new("stale_if_error", TIME_OF, "Answer from an entry this much too old when the provider fails.").within("0", "366d").eg("1h"),
        Key::new("tags", TAGS, "Names by which entries are purged.").eg("[answers]"),
        Key::new("key", KEYS, "What else tells calls apart.").eg("[route]"),
        Key::new("share", BOOL, "One cache for all credentials. Only if every tenant may see every answer.").default("false"),
        Key::new("per", PER, "`caller` keeps the entries of the app's users apart too.").default("tenant"),
        Key::new(
            "replay",
            REPLAY,
            "How a recorded stream is given again: at once, or with the pauses between its pieces (a minute in all at most, longer ones faster).",
        )
        .default("immediate"),
        Key::new("tool_calls", TOOL_CALLS, "Answers that ask for tool calls: an app that gets one again acts again.").default("skip"),
        Key::new(
            "max_temperature",
            SHARE,
            "Calls with a higher temperature are not answered from the cache; one that names none is taken for 1, the providers' default.",
        )
        .within("0", "2")
        .eg("0.3"),
        Key::new("max_body", SIZE_OF, "Largest answer kept.").within("1", "1GiB").default("8MiB"),
    ],
)
.foreign(&[("paced", "write `replay: original`"), ("semantic", NOT_YET)]);

const INBOUND: Key = Key::new("cache", Kind::Table(&INBOUND_CACHE), "Keeps answers of the app.");
const OUTBOUND: Key = Key::new("cache", Kind::Table(&OUTBOUND_CACHE), "Keeps answers to identical model calls.");

const ELSEWHERE: &[Elsewhere] = &[(
    &["caching", "cache_params", "cache_ttl", "proxy_cache", "response_cache", "semantic_cache"],
    "write `cache: {ttl: 60s}` in a route or in the door's `defaults`",
)];

/// Largest request body that is read for `body` where the file says nothing.
const MAX_REQUEST: u64 = 1 << 20;

impl Policy for Option<Cache> {
    type Written = Option<Written>;

    const ROWS: Rows = Rows { inbound: Some(INBOUND), outbound: Some(OUTBOUND), defaults: InDefaults::Taken };

    const ELSEWHERE: &'static [Elsewhere] = ELSEWHERE;

    /// Collects the tags that a `purge` may name: those of every cache, whatever its mode.
    fn look_ahead(build: &mut Build<'_>, written: &Self::Written) {
        build.tags.extend(written.iter().flat_map(|cache| cache.tags.iter().flatten().map(|tag| tag.0.0.clone())));
    }

    fn build(build: &mut Build<'_>, place: &Place<'_>, written: Self::Written, inherited: &Self) -> Self {
        let Some(written) = written else { return inherited.clone() };
        let here = place.key("cache");
        let share = written.share.is_some_and(|word| word.0);
        let per_caller = written.per == Some(W(Per::Caller));
        if share && per_caller {
            build.fault(
                build.seen.key(&format!("{here}.per")),
                "`per: caller` conflicts with `share: true`: one keeps callers apart, the other nobody",
            );
        }
        let forced = written.ttl.is_some() || build.seen.broken(&format!("{here}.ttl"));
        if place.door == Door::Inbound && !forced {
            for (key, set) in [("unsafe", written.r#unsafe == Some(W(true))), ("cookies", written.cookies == Some(W(Cookies::Ignore)))] {
                if set {
                    build.fault(
                        build.seen.key(&format!("{here}.{key}")),
                        format!("`{key}` is about forced freshness and has no meaning without `ttl`"),
                    );
                }
            }
        }
        let body = match written.body {
            None => None,
            Some(WrittenBody::Word(W(BodyWord::All))) => Some(CacheBody::All),
            Some(WrittenBody::Word(W(BodyWord::GraphQl))) => Some(CacheBody::GraphQl),
            Some(WrittenBody::Fields(fields)) if fields.is_empty() => {
                build.fault(build.seen.value(&format!("{here}.body")), "no field is named; write at least one, or `all`");
                None
            }
            Some(WrittenBody::Fields(fields)) => Some(CacheBody::Fields(fields.into_iter().flatten().map(|field| field.0).collect())),
        };
        let tags = written.tags.into_iter().flatten().map(|tag| Arc::from(tag.0.0.as_str())).collect();
        let meant = |word: Option<W<Duration>>| word.map(|word| word.0);
        Some(Cache {
            mode: written.mode.0.meant()?,
            ttl: meant(written.ttl),
            stale_while_revalidate: meant(written.stale_while_revalidate),
            stale_if_error: meant(written.stale_if_error),
            tags,
            key: key::parts(written.key),
            cookies: written.cookies.map_or(Cookies::Bypass, |word| word.0),
            unsafe_: written.r#unsafe.is_some_and(|word| word.0),
            max_body: written.max_body.0.0,
            body,
            max_request: written.max_request.map_or(MAX_REQUEST, |size| size.0.0),
            share,
            per_caller,
            paced: written.replay == Some(W(ReplayWord::Original)),
            tool_calls: written.tool_calls == Some(W(ToolCallsWord::Store)),
            max_temperature: written.max_temperature.map(|share| share.0.0),
        })
    }

    fn told(&self, _: &Config) -> Vec<String> {
        let told = |cache: &Cache| {
            let ttl = cache.ttl.map_or_else(|| "as the app allows".to_owned(), |ttl| humantime::format_duration(ttl).to_string());
            format!("cache {ttl}{}", cache.mode.remark())
        };
        self.iter().map(told).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{good, route, says};

    #[test]
    fn what_of_a_post_counts_is_a_word_or_a_list() {
        for (written, meant) in [
            ("graphql", CacheBody::GraphQl),
            ("all", CacheBody::All),
            ("[q, page.size]", CacheBody::Fields(vec![FieldPath(vec!["q".into()]), FieldPath(vec!["page".into(), "size".into()])])),
        ] {
            let yaml = format!("inbound: {{app: 3000, defaults: {{cache: {{body: {written}, max_request: 2MiB}}}}}}\n");
            let policy = good(&yaml).inbound.expect("written").fallthrough.cache.expect("written");
            assert_eq!((policy.body, policy.max_request), (Some(meant), 2 << 20), "{written}");
        }
    }

    #[test]
    fn mistakes_in_a_cache() {
        says(&route("cache: {unsafe: true}"), "5:15", "no meaning without `ttl`");
        says(&route("cache: {body: []}"), "5:21", "no field is named");
        says(&route("cache: {body: grahpql}"), "5:21", "did you mean `graphql`?");
        says(&route("cache: {body: [a..b]}"), "5:22", "such as `variables.id`");
        says(&route("cache: {max_request: 1MiB}"), "5:15", "`body`");
        says(&route("cache: {methods: [POST]}"), "5:15", "written in the route's `match`");
        says(&route("cache: {share: true}"), "5:15", "is for model calls");
        says(
            "outbound: {providers: {openai: {}}, defaults: {cache: {ttl: 1h, share: true, per: caller}}}\n",
            "1:78",
            "conflicts with `share: true`",
        );
    }
}
