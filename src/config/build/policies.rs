//! Policies of a route, merged over `defaults`: a block that is written replaces the block of the same name.

use std::{sync::Arc, time::Duration};

use super::{Build, Door, names, small};
use crate::config::{
    Access, Backoff, Breaker, BreakerRatio, Cache, CacheBody, Cookies, Fallback, Match, Policies, Provider, Retry, RetryBudget, Timeouts,
    error::{Fault, did_you_mean},
    key,
    scalars::{BodyWord, OrOff, Per, ReplayWord, ToolCallsWord, W},
    written::{self, Root},
};

/// Largest request body that is read for the cache where the file says nothing.
const MAX_REQUEST: u64 = 1 << 20;

impl Build<'_> {
    /// Tags that a cache anywhere in the file gives.
    pub(super) fn collect_tags(&mut self, root: &Root) {
        let inbound = root.inbound.iter().flat_map(|door| std::iter::once(&door.defaults).chain(door.routes.iter().flatten()));
        let outbound = root.outbound.iter().flat_map(|door| std::iter::once(&door.defaults).chain(door.routes.iter().flatten()));
        self.tags = inbound
            .chain(outbound)
            .filter_map(|block| block.cache.as_ref())
            .flat_map(|cache| cache.tags.iter().flatten().map(|tag| tag.0.0.clone()))
            .collect();
    }

    /// What is written in `block`, over `merged`. Limits are the caller's business: they have a place.
    pub(super) fn block_policies(
        &mut self,
        door: Door,
        path: &str,
        block: written::Block,
        mut merged: Policies,
        providers: &[Provider],
    ) -> Policies {
        if let Some(access) = block.access {
            merged.access = Self::access(access);
        }
        if let Some(cache) = block.cache {
            merged.cache = self.cache(door, path, cache);
        }
        merged.purge = self.purge(path, &block.purge);
        if let Some(timeouts) = block.timeouts {
            merged.timeouts = self.timeouts(path, &timeouts);
        }
        if let Some(retry) = block.retry {
            merged.retry = self.retry(path, retry);
        }
        if let Some(breaker) = block.breaker {
            merged.breaker = self.breaker(path, &breaker);
        }
        if self.seen.written(&format!("{path}.fallback")) {
            merged.fallback = self.fallback(path, block.fallback, providers);
        }
        merged
    }

    fn access(written: written::Access) -> Option<Access> {
        let nets = |list: written::Items<W<crate::config::scalars::Nets>>| list.into_iter().flatten().flat_map(|nets| nets.0.0).collect();
        Some(Access { mode: written.mode.0.meant()?, allow: nets(written.allow), deny: nets(written.deny) })
    }

    fn cache(&mut self, door: Door, path: &str, written: written::Cache) -> Option<Cache> {
        let here = format!("{path}.cache");
        let share = written.share.is_some_and(|word| word.0);
        let per_caller = written.per == Some(W(Per::Caller));
        if share && per_caller {
            self.fault(
                self.seen.key(&format!("{here}.per")),
                "`per: caller` conflicts with `share: true`: one keeps callers apart, the other nobody",
            );
        }
        let forced = written.ttl.is_some() || self.seen.broken(&format!("{here}.ttl"));
        if door == Door::Inbound && !forced {
            for (key, set) in [("unsafe", written.r#unsafe == Some(W(true))), ("cookies", written.cookies == Some(W(Cookies::Ignore)))] {
                if set {
                    self.fault(
                        self.seen.key(&format!("{here}.{key}")),
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
                self.fault(self.seen.value(&format!("{here}.body")), "no field is named; write at least one, or `all`");
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

    fn purge(&mut self, path: &str, written: &written::Items<W<crate::config::scalars::Name>>) -> Vec<Arc<str>> {
        let mut out = Vec::new();
        for (n, tag) in written.iter().enumerate().filter_map(|(n, tag)| Some((n, &tag.as_ref()?.0.0))) {
            if !self.tags.contains(tag) {
                let hint = did_you_mean(tag, self.tags.iter().map(String::as_str));
                // A cache that is wrong may give it.
                if !hint.is_empty() || !self.seen.is_broken_anywhere("cache") {
                    let message = format!("no cache gives the tag {}{hint}", crate::config::error::quoted(tag));
                    self.fault(self.seen.value(&format!("{path}.purge[{n}]")), message);
                }
            }
            out.push(Arc::from(tag.as_str()));
        }
        out
    }

    fn timeouts(&mut self, path: &str, written: &written::Timeouts) -> Option<Timeouts> {
        let meant = |word: &Option<W<OrOff<Duration>>>| word.as_ref().and_then(|word| word.0.0);
        let timeouts = Timeouts {
            mode: written.mode.0.meant().unwrap_or_default(),
            connect: written.connect.0.0,
            response_header: meant(&written.response_header),
            first_token: meant(&written.first_token),
            idle: meant(&written.idle),
            total: meant(&written.total),
            per_try: meant(&written.per_try),
        };
        if let (Some(per_try), Some(total)) = (timeouts.per_try, timeouts.total)
            && per_try > total
        {
            self.fault(
                self.seen.value(&format!("{path}.timeouts.per_try")),
                "`per_try` is longer than `total`, so it could never be reached",
            );
        }
        written.mode.0.meant().map(|_| timeouts)
    }

    fn retry(&mut self, path: &str, written: written::Retry) -> Option<Retry> {
        let here = format!("{path}.retry");
        let backoff = match written.backoff {
            written::Backoff::Jitter { base, max } => {
                if base.0 > max.0 && !self.seen.broken(&format!("{here}.backoff")) {
                    self.fault(self.seen.value(&format!("{here}.backoff")), "`base` is longer than `max`");
                }
                Backoff::FullJitter { base: base.0, max: max.0 }
            }
            written::Backoff::Schedule(pauses) => {
                let pauses: Vec<Duration> = pauses.into_iter().flatten().map(|pause| pause.0).collect();
                if pauses.is_empty() && !self.seen.broken(&format!("{here}.backoff")) {
                    self.fault(self.seen.value(&format!("{here}.backoff")), "a schedule needs a pause, such as `[100ms, 1s]`");
                }
                Backoff::Schedule(pauses)
            }
        };
        Some(Retry {
            mode: written.mode.0.meant()?,
            max_retries: small(&written.max_retries),
            on: {
                let mut on = Vec::new();
                for word in written.on.into_iter().flatten() {
                    if !on.contains(&word.0) {
                        on.push(word.0);
                    }
                }
                on
            },
            backoff,
            max_hint: written.max_hint.0,
            budget: RetryBudget { ratio: written.budget.ratio.0.0, min_per_sec: written.budget.min_per_sec.0.0 },
            replay_buffer: written.replay_buffer.0.0,
            any_method: written.any_method.0,
        })
    }

    fn breaker(&mut self, path: &str, written: &written::Breaker) -> Option<Breaker> {
        let here = format!("{path}.breaker");
        let ratio = match &written.ratio {
            written::Ratio::Off(_) => None,
            written::Ratio::On { threshold, window, min_requests } => {
                Some(BreakerRatio { threshold: threshold.0.0, window: window.0, min_requests: small(min_requests) })
            }
        };
        let consecutive = small(&written.consecutive);
        if consecutive == 0 && ratio.is_none() {
            self.fault(
                self.seen.key(&here),
                "this breaker can never open: `consecutive` is 0 and `ratio` is off; to have none, write `mode: off`",
            );
        }
        if written.open.base.0 > written.open.max.0 && !self.seen.broken(&format!("{here}.open")) {
            self.fault(self.seen.value(&format!("{here}.open")), "`base` is longer than `max`");
        }
        Some(Breaker {
            mode: written.mode.0.meant()?,
            consecutive,
            ratio,
            open_base: written.open.base.0,
            open_max: written.open.max.0,
            jitter: written.open.jitter.0.0,
            successes: small(&written.half_open.successes),
        })
    }

    fn fallback(&mut self, path: &str, written: written::Items<written::Fallback>, providers: &[Provider]) -> Vec<Fallback> {
        let mut out = Vec::new();
        let last = written.len().saturating_sub(1);
        for (n, item) in written.into_iter().enumerate().filter_map(|(n, item)| Some((n, item?))) {
            let here = format!("{path}.fallback[{n}]");
            if let Some(respond) = item.respond {
                if n < last {
                    self.fault(self.seen.value(&here), "a static answer never fails: nothing after it would be tried; put it last");
                }
                out.push(Fallback::Respond { status: respond.status.0, body: respond.body, content_type: respond.content_type.0.0 });
            } else if let Some(name) = item.provider {
                let name = name.0.0;
                match providers.iter().position(|provider| *provider.name == *name) {
                    Some(provider) => out.push(Fallback::Provider { provider, model: item.model.map(Arc::from) }),
                    None => self.unknown_provider(&name, &format!("{here}.provider"), providers),
                }
            }
        }
        out
    }

    /// A call is sent on as it is, so a fallback must speak the API of every provider the route can match.
    pub(super) fn check_fallbacks(&mut self, path: &str, matches: &Match, policies: &Policies, providers: &[Provider]) {
        // What a match that is wrong or missing would have left is not known.
        let is_route = path.ends_with(']');
        if self.seen.broken(&format!("{path}.match")) || (is_route && !self.seen.written(&format!("{path}.match"))) {
            return;
        }
        let sound = |provider: &Provider| {
            !self.vague.iter().any(|name| **name == *provider.name) && !self.seen.broken(&format!("outbound.providers.{}", provider.name))
        };
        let can_match = |provider: &&Provider| {
            sound(provider)
                && (matches.providers.is_empty() || matches.providers.contains(&provider.name))
                && (matches.operations.is_empty() || matches.operations.iter().any(|operation| names::offers(provider.api, *operation)))
        };
        let mut faults = Vec::new();
        for (n, fallback) in policies.fallback.iter().enumerate() {
            let Fallback::Provider { provider, .. } = fallback else { continue };
            let Some(target) = providers.get(*provider).filter(|target| sound(target)) else { continue };
            if let Some(other) = providers.iter().filter(can_match).find(|other| other.api != target.api) {
                let message = format!(
                    "`{}` speaks {} and this route can match calls to `{}`, which speaks {}; a call is not translated: \
                     name the providers of the route with `match: {{provider: [...]}}`",
                    target.name, target.api, other.name, other.api
                );
                faults.push(Fault::new(self.seen.value(&format!("{path}.fallback[{n}].provider")), message));
                break;
            }
        }
        self.faults.extend(faults);
    }
}
