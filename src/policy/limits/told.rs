//! What clients are told: refusals, and the header fields that tell the state of limits.
//!
//! Header fields are those of draft-ietf-httpapi-ratelimit-headers-11: `RateLimit-Policy` (`q` quota, `w` window in seconds, `qu`
//! unit; no window for requests in flight) and `RateLimit` (`r` remaining, `t` seconds until the window is free; `t` of a refusal:
//! until the request would pass). Limits that only observe are not shown.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use super::{Asked, alert, rule::Rule, table::Item};
use crate::{
    config::{self, Mode, OnLimit, Unit},
    http1::{Fields, Id, write_number},
    reject::{Limited, Why, ceil_secs},
};

/// The wait told to a client where nobody knows the true wait.
const SOON: Duration = Duration::from_secs(1);
/// The largest integer of a structured field (RFC 9651 section 3.3.1).
const LARGEST: u64 = 999_999_999_999_999;

/// The refusal by the limit with the longest wait, counted. Where limits would rather act, the refusal names the one that acts next. Its
/// fields tell the state of all limits.
pub(super) fn refusal(rules: &[Asked<'_>], items: &[Item<'_>], now: u64) -> Box<Limited> {
    let act = act(rules, items);
    let mut worst: Option<(&Asked<'_>, &Item<'_>)> = None;
    for (asked, item) in rules.iter().zip(items).filter(|(_, item)| item.answer.refused && !item.observe) {
        // A refusal by a limit that would rather act is counted where the limit acts.
        asked.rule.tally.refused.fetch_add(u64::from(act == OnLimit::Refuse), Relaxed);
        alert::refused(asked.rule, asked.whose(item.key), item.answer.used, now);
        if asked.rule.on_limit != act {
            continue;
        }
        let longer = worst.is_none_or(|(_, longest)| match (longest.answer.wait, item.answer.wait) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(longest), Some(wait)) => wait > longest,
        });
        if longer {
            worst = Some((asked, item));
        }
    }
    let states = rules.iter().zip(items).map(|(asked, item)| {
        let until = if item.answer.refused { item.answer.wait.unwrap_or(item.answer.resets) } else { item.answer.resets };
        (&**asked.rule, asked.keys.level, left(asked, item), Duration::from_micros(until))
    });
    let mut headers = Fields::new();
    tell(states, &mut headers);
    let (asked, item) = worst.unwrap_or((&rules[0], &items[0]));
    let remaining = left(asked, item);
    match asked.rule.unit {
        // Nobody knows when a request in flight ends.
        Unit::Concurrency => Box::new(Limited { why: Why::InFlight, ..*limited(asked, Some(SOON), 0, headers) }),
        _ => Box::new(Limited { act, ..*limited(asked, item.answer.wait.map(Duration::from_micros), remaining, headers) }),
    }
}

/// The act of all limits that refuse: the strictest one.
fn act(rules: &[Asked<'_>], items: &[Item<'_>]) -> OnLimit {
    let strictness = |act: &OnLimit| match act {
        OnLimit::Degrade(_) => 0,
        OnLimit::Ask(_) => 1,
        OnLimit::CacheOnly => 2,
        OnLimit::Refuse => 3,
    };
    let refusing = rules.iter().zip(items).filter(|(_, item)| item.answer.refused && !item.observe);
    refusing.map(|(asked, _)| &asked.rule.on_limit).max_by_key(|act| strictness(act)).cloned().unwrap_or_default()
}

fn left(asked: &Asked<'_>, item: &Item<'_>) -> u64 {
    asked.rule.capacity(asked.keys.level, asked.keys.local).saturating_sub(item.answer.used)
}

/// A refusal by one limit.
pub(super) fn limited(asked: &Asked<'_>, retry_after: Option<Duration>, remaining: u64, headers: Fields) -> Box<Limited> {
    let (rule, level) = (asked.rule, asked.rule.level(asked.keys.level));
    Box::new(Limited {
        limit: rule.name.clone(),
        number: rule.number,
        tier: level.tier.clone(),
        unit: rule.unit.as_str(),
        amount: rule.amount(asked.keys.level, asked.keys.local),
        window: rule.window,
        retry_after,
        remaining,
        headers,
        why: Why::Spent,
        act: OnLimit::Refuse,
    })
}

/// A limit's member of `RateLimit-Policy`.
pub(super) fn policy(limit: &config::Limit, amount: u64) -> String {
    let unit = match limit.unit {
        Unit::Requests => "requests",
        Unit::Tokens => "tokens",
        Unit::NanoUsd => "nano-usd",
        Unit::Concurrency => return format!("{};q={};qu=\"concurrent-requests\"", quoted(&limit.name), amount.min(LARGEST)),
    };
    let window = ceil_secs(limit.window).clamp(1, LARGEST);
    format!("{};q={};w={window};qu=\"{unit}\"", quoted(&limit.name), amount.min(LARGEST))
}

/// Adds the fields of the limits that enforce: what is left of each limit, and the time until the limit is free or the request would pass.
pub(super) fn tell<'a>(states: impl Iterator<Item = (&'a Rule, u16, u64, Duration)> + Clone, fields: &mut Fields) {
    let enforced = || states.clone().filter(|(rule, ..)| rule.mode == Mode::Enforce);
    if enforced().next().is_none() {
        return;
    }
    fields.append_plain_with(Id::RatelimitPolicy, |line| {
        for (at, (rule, level, ..)) in enforced().enumerate() {
            line.extend_from_slice(if at > 0 { b", " } else { b"" });
            line.extend_from_slice(rule.level(level).policy.as_bytes());
        }
    });
    fields.append_plain_with(Id::Ratelimit, |line| {
        for (at, (rule, _, left, until)) in enforced().enumerate() {
            line.extend_from_slice(if at > 0 { b", " } else { b"" });
            line.extend_from_slice(rule.quoted.as_bytes());
            line.extend_from_slice(b";r=");
            write_number(line, left.min(LARGEST));
            if rule.unit != Unit::Concurrency {
                line.extend_from_slice(b";t=");
                write_number(line, ceil_secs(until).min(LARGEST));
            }
        }
    });
}

/// A name as a structured-field string: visible ASCII, `\` and `"` escaped; other characters become `?`.
pub(super) fn quoted(name: &str) -> String {
    let mut out = String::from('"');
    for character in name.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            ' '..='~' => out.push(character),
            _ => out.push('?'),
        }
    }
    out.push('"');
    out
}
