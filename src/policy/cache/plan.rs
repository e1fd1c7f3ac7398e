//! The demands of the policy and the request on the store, and the stored response that the request selects.

use std::{sync::Arc, time::Duration};

use super::{
    CacheQuery,
    directives::RequestDirectives,
    entry::Entry,
    freshness::{Source, Terms},
    status::Forward,
    storable::{self, Asker},
};
use crate::{
    config, fields,
    http1::{Fields, Id},
    store::memory::Slot,
};

/// Most bytes of a request in words.
const LONGEST_WHAT: usize = 200;

/// The policy and the request as far as a look-up needs them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) observe: bool,
    pub(super) model: bool,
    /// A POST that only reads: its answer gets no heuristic lifetime.
    pub(super) post: bool,
    pub(super) asker: Asker,
    pub(super) terms: Terms,
    pub(super) max_body: u64,
    pub(super) paced: bool,
    pub(super) asked_stale_if_error: Option<Duration>,
}

/// Where a new entry belongs.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) tags: Vec<Arc<str>>,
    pub(super) route: Arc<str>,
    pub(super) path: Box<str>,
    pub(super) what: Arc<str>,
}

impl Home {
    pub(super) fn of(policy: &config::Cache, query: &CacheQuery<'_>) -> Self {
        Self { tags: policy.tags.clone(), route: query.route.clone(), path: query.path_and_query.into(), what: Self::what(query) }
    }

    /// The request in words, for people; bounded, and without possible secrets.
    fn what(query: &CacheQuery<'_>) -> Arc<str> {
        let mut what = match &query.model {
            Some(model) => format!("{} {} {}", model.provider, model.operation, model.model),
            None => {
                let method = if query.body.is_some() { query.method.as_str() } else { "GET" };
                format!("{method} {}{}", query.host, query.path_and_query.split('?').next().unwrap_or_default())
            }
        };
        if what.len() > LONGEST_WHAT {
            what.truncate(what.floor_char_boundary(LONGEST_WHAT));
        }
        what.into()
    }
}

impl Plan {
    pub(super) fn of(policy: &config::Cache, query: &CacheQuery<'_>, asked: &RequestDirectives) -> Self {
        let cookie_is_cared_for =
            policy.cookies == config::Cookies::Ignore || policy.key.iter().any(|part| matches!(part, config::KeyPart::Cookie(_)));
        let asker = Asker {
            authorization: query.proved || query.headers.has(Id::Authorization),
            cookie: query.headers.has(Id::Cookie) && !cookie_is_cared_for,
            no_store: asked.no_store,
            unsafe_: policy.unsafe_,
        };
        let terms = Terms {
            forced: policy.ttl.map(|most| query.ttl.map_or(most, |asked| asked.min(most))),
            stale_while_revalidate: policy.stale_while_revalidate,
            stale_if_error: policy.stale_if_error,
        };
        Self {
            observe: policy.mode == config::Mode::Observe,
            model: query.model.is_some(),
            post: query.body.is_some(),
            asker,
            terms,
            max_body: policy.max_body,
            paced: policy.paced,
            asked_stale_if_error: asked.stale_if_error,
        }
    }

    /// Whether a response whose freshness comes from `source` may answer this request.
    pub(super) fn admits(&self, source: Source) -> bool {
        let asker = self.asker;
        self.model
            || match source {
                Source::Explicit => true,
                Source::Forced => (!asker.authorization || asker.unsafe_) && !asker.cookie,
                Source::Heuristic | Source::Nothing => !asker.cookie,
            }
    }
}

/// Which stored response a request selects.
pub(super) enum Selected {
    Entry(Arc<Entry>),
    /// No response, and why.
    None(Forward),
}

/// The newest variant for the request (RFC 9111 section 4.1). A variant for other requests is never selected, not even for
/// validation: the client may not accept its coding or language.
pub(super) fn select(slot: Option<&Slot<Entry>>, plan: &Plan, request: &Fields) -> Selected {
    let Some(slot) = slot else { return Selected::None(Forward::UriMiss) };
    let mut matching = slot.variants().iter().filter(|entry| entry.variance.matches(request, &entry.headers)).peekable();
    if matching.peek().is_none() {
        return Selected::None(Forward::VaryMiss);
    }
    match matching.find(|entry| plan.admits(entry.fresh.source)) {
        Some(entry) => Selected::Entry(entry.clone()),
        None => Selected::None(Forward::Miss),
    }
}

static OF_GET: [Id; 6] = [Id::Range, Id::IfRange, Id::IfMatch, Id::IfNoneMatch, Id::IfModifiedSince, Id::IfUnmodifiedSince];

/// Why a request bypasses the cache, whatever is stored and whatever the answer is.
pub fn bypasses(policy: &config::Cache, query: &CacheQuery<'_>, asked: &RequestDirectives) -> Option<&'static str> {
    by_policy(policy, query).or(asked.no_store.then_some("request no-store"))
}

/// The part of a request for which it bypasses the cache, unless the answer says that it is for all: its cookies or credentials.
pub fn carried(policy: &config::Cache, query: &CacheQuery<'_>, asked: &RequestDirectives) -> Option<&'static str> {
    let Plan { asker, model, .. } = Plan::of(policy, query, asked);
    match (model, asker) {
        (true, _) => None,
        (_, Asker { authorization: true, unsafe_: false, .. }) => Some("authorization"),
        (_, Asker { cookie: true, .. }) => Some("cookie"),
        _ => None,
    }
}

fn by_policy(policy: &config::Cache, query: &CacheQuery<'_>) -> Option<&'static str> {
    if query.model.is_some() {
        if query.ttl == Some(Duration::ZERO) {
            return Some("request outrigger-cache-ttl 0");
        }
        return policy.ttl.is_none().then_some("no ttl");
    }
    if query.body.is_some() {
        // Conditions and ranges are not for POST (RFC 9110 sections 13 and 14.2): a client that sends them means something else.
        return OF_GET.iter().any(|name| query.headers.has(name)).then_some("conditional or range POST");
    }
    if !storable::is_cacheable_method(query.method) {
        return Some("method");
    }
    if fields::announce_body(query.headers) {
        // The body could choose the answer, and is in no key.
        return Some("request body");
    }
    query.headers.has(Id::Upgrade).then_some("upgrade")
}
