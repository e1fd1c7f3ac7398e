//! `cache`: answers are kept.

use std::{sync::Arc, time::Duration};

use super::{InDefaults, Place, Policy, Rows};
use crate::config::{
    Cache, CacheBody, Cookies,
    build::{Build, Door},
    key,
    scalars::{BodyWord, Per, ReplayWord, ToolCallsWord, W},
    schema, written,
};

/// Largest request body that is read for the cache where the file says nothing.
const MAX_REQUEST: u64 = 1 << 20;

impl Policy for Option<Cache> {
    type Written = Option<written::Cache>;

    const ROWS: Rows = Rows { inbound: Some(schema::IN_CACHE), outbound: Some(schema::OUT_CACHE), defaults: InDefaults::Taken };

    /// Tags that a cache gives, whatever its mode, can be purged.
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
            Some(written::CacheBody::Word(W(BodyWord::All))) => Some(CacheBody::All),
            Some(written::CacheBody::Word(W(BodyWord::GraphQl))) => Some(CacheBody::GraphQl),
            Some(written::CacheBody::Fields(fields)) if fields.is_empty() => {
                build.fault(build.seen.value(&format!("{here}.body")), "no field is named; write at least one, or `all`");
                None
            }
            Some(written::CacheBody::Fields(fields)) => {
                Some(CacheBody::Fields(fields.into_iter().flatten().map(|field| field.0).collect()))
            }
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
}
