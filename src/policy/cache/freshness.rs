//! How old a response is and how long it is fresh (RFC 9111 section 4.2). Pure arithmetic that never panics, for any clocks and
//! numbers. Ages only grow with time, also when the wall clock is set back.

use std::time::{Duration, SystemTime};

use http::StatusCode;

use super::{
    date,
    directives::{RequestDirectives, ResponseDirectives, delta_seconds},
};
use crate::{
    clock::Moment,
    http1::{Fields, Id},
};

/// Longest heuristic lifetime: 10% of a long unchanged file's age can be months.
pub const HEURISTIC_MAX: Duration = Duration::from_secs(86_400);

/// Where a lifetime comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// The origin said it: `max-age`, `s-maxage`, `Expires`.
    Explicit,
    /// The policy's `ttl`.
    Forced,
    /// 10% of the time since `Last-Modified`.
    Heuristic,
    /// No source; the lifetime is zero.
    Nothing,
}

/// When a response was asked for and came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// When the request was sent.
    pub requested: Moment,
    /// When the response head came.
    pub received: Moment,
}

/// The numbers of one stored response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freshness {
    /// When the response head came, or the 304 that freshened it.
    pub received: Moment,
    /// `corrected_initial_age` of section 4.2.3.
    pub initial_age: Duration,
    /// `freshness_lifetime` of section 4.2.1, on the scale of the age; zero if negative.
    pub lifetime: Duration,
    /// How far `freshness_lifetime` is below zero: `Expires` was this long before `Date`.
    pub overdue: Duration,
    /// Where the lifetime comes from.
    pub source: Source,
    /// Never used without asking the origin.
    pub no_cache: bool,
    /// How long after its lifetime it may be used during a refresh; zero: never.
    pub stale_while_revalidate: Duration,
    /// How long after its lifetime it may be used if the origin fails; zero: never.
    pub stale_if_error: Duration,
    /// Whether it may be used stale because the client says so (`max-stale`).
    pub may_be_stale: bool,
}

/// The policy's terms, beside those of the origin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terms {
    /// Forced lifetime from the moment of receipt; `None`: the origin's lifetime.
    pub forced: Option<Duration>,
    /// Replaces the origin's window.
    pub stale_while_revalidate: Option<Duration>,
    /// Replaces the origin's window.
    pub stale_if_error: Option<Duration>,
}

impl Freshness {
    /// The numbers of a response, from its fields and the policy's terms.
    ///
    /// A policy's stale windows never override `must-revalidate`, `proxy-revalidate`, `no-cache` or the meaning of `s-maxage`.
    /// The origin's own windows beside `s-maxage` count: RFC 5861 was made for that.
    pub fn of(status: StatusCode, headers: &Fields, directives: &ResponseDirectives, terms: Terms, times: Times) -> Self {
        let date = date::of(headers.get(Id::Date)).unwrap_or(times.received.wall);
        let initial_age = initial_age(headers, date, times);
        let (source, lifetime) = match terms.forced {
            Some(ttl) => (Source::Forced, Ok(ttl.saturating_add(initial_age))),
            None => lifetime(status, headers, directives, date),
        };
        let strict = directives.must_revalidate || directives.proxy_revalidate || directives.no_cache;
        let window = |ours: Option<Duration>, theirs: Option<Duration>| match (strict, directives.s_maxage.is_some()) {
            (true, _) => Duration::ZERO,
            (false, true) => theirs.unwrap_or_default(),
            (false, false) => ours.or(theirs).unwrap_or_default(),
        };
        Self {
            received: times.received,
            initial_age,
            lifetime: lifetime.unwrap_or_default(),
            overdue: lifetime.err().unwrap_or_default(),
            source,
            no_cache: directives.no_cache && terms.forced.is_none(),
            stale_while_revalidate: window(terms.stale_while_revalidate, directives.stale_while_revalidate),
            stale_if_error: window(terms.stale_if_error, directives.stale_if_error),
            may_be_stale: !directives.never_stale(),
        }
    }

    /// `current_age` of section 4.2.3.
    pub fn age(&self, now: Moment) -> Duration {
        self.initial_age.saturating_add(now.since(self.received))
    }

    /// Lifetime left; zero once stale.
    pub fn left(&self, now: Moment) -> Duration {
        self.lifetime.saturating_sub(self.age(now))
    }

    /// How long it has been stale; zero while fresh.
    pub fn staleness(&self, now: Moment) -> Duration {
        self.age(now).saturating_add(self.overdue).saturating_sub(self.lifetime)
    }

    /// Whether it is fresh (`freshness_lifetime > current_age`).
    pub fn is_fresh(&self, now: Moment) -> bool {
        self.lifetime > self.age(now)
    }

    /// Remaining lifetime at this age in whole seconds, negative once stale.
    pub fn ttl(&self, age: Duration) -> i64 {
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        match self.lifetime > age {
            true => seconds(self.lifetime - age),
            false => -seconds(age.saturating_add(self.overdue).saturating_sub(self.lifetime)),
        }
    }

    /// The permitted use of the response for a request with the directives `asked`.
    pub fn usable(&self, asked: &RequestDirectives, softly_purged: bool, now: Moment) -> Use {
        let age = self.age(now);
        let left = self.lifetime.saturating_sub(age);
        if self.no_cache || asked.no_cache || asked.max_age.is_some_and(|max| age > max || max.is_zero()) {
            return Use::Validate;
        }
        if self.lifetime > age && !softly_purged {
            return if asked.min_fresh.is_some_and(|wanted| left < wanted) { Use::Validate } else { Use::Fresh };
        }
        if asked.min_fresh.is_some() {
            return Use::Validate;
        }
        let staleness = self.staleness(now);
        if self.may_be_stale && asked.max_stale.is_some_and(|allowed| staleness <= allowed) {
            return Use::Stale;
        }
        if !self.stale_while_revalidate.is_zero() && staleness <= self.stale_while_revalidate && asked.max_age.is_none() {
            return Use::StaleWhileRevalidate;
        }
        Use::Validate
    }

    /// Whether the response may stand in for an origin that fails; `asked` is the request's own window.
    pub fn usable_on_error(&self, asked: Option<Duration>, now: Moment) -> bool {
        let asked = if self.may_be_stale { asked.unwrap_or_default() } else { Duration::ZERO };
        let window = self.stale_if_error.max(asked);
        !self.no_cache && !window.is_zero() && self.staleness(now) <= window
    }

    /// Whether the response is past its lifetime and its stale windows: without a validator it is of no further use.
    pub fn is_beyond_use(&self, now: Moment) -> bool {
        !self.is_fresh(now) && self.staleness(now) > self.stale_while_revalidate.max(self.stale_if_error)
    }
}

/// The permitted use of a stored response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Answer.
    Fresh,
    /// Answer: the client accepts it stale.
    Stale,
    /// Answer, and fetch it anew in the background.
    StaleWhileRevalidate,
    /// Ask the origin first.
    Validate,
}

/// Whether a response of this status may be stored on a heuristic lifetime (RFC 9110 section 15.1).
pub fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// Time from `earlier` to `later`; zero if the clock went back.
pub fn since(earlier: SystemTime, later: SystemTime) -> Duration {
    later.duration_since(earlier).unwrap_or_default()
}

fn initial_age(headers: &Fields, date: SystemTime, times: Times) -> Duration {
    let apparent = since(date, times.received.wall);
    let corrected = age_value(headers).saturating_add(times.received.since(times.requested));
    apparent.max(corrected)
}

/// The `Age` field: its first member counts, as zero if it is no number (RFC 9111 section 5.1).
pub fn age_value(headers: &Fields) -> Duration {
    let first = headers.get(Id::Age).and_then(|value| value.as_bytes().split(|byte| *byte == b',').next());
    first.and_then(|value| delta_seconds(value.trim_ascii())).unwrap_or_default()
}

/// A lifetime, or how far below zero it is.
type Lifetime = Result<Duration, Duration>;

fn lifetime(status: StatusCode, headers: &Fields, said: &ResponseDirectives, date: SystemTime) -> (Source, Lifetime) {
    if let Some(lifetime) = said.s_maxage.or(said.max_age) {
        return (Source::Explicit, Ok(lifetime));
    }
    if !said.targeted && headers.has(Id::Expires) {
        return (Source::Explicit, expires(headers, date));
    }
    if (is_heuristically_cacheable(status) || said.public)
        && let Some(modified) = date::of(headers.get(Id::LastModified))
    {
        return (Source::Heuristic, Ok((since(modified, date) / 10).min(HEURISTIC_MAX)));
    }
    (Source::Nothing, Ok(Duration::ZERO))
}

/// `Expires` minus `Date`; invalid or contradictory values are in the past (sections 4.2.1 and 5.3).
fn expires(headers: &Fields, date: SystemTime) -> Lifetime {
    let mut lines = headers.all(Id::Expires).map(|value| date::parse(value.as_bytes()));
    match (lines.next().flatten(), lines.next()) {
        (Some(at), None) => at.duration_since(date).map_err(|before| before.duration()),
        _ => Ok(Duration::ZERO),
    }
}

#[cfg(test)]
mod tests {

    use proptest::prelude::*;

    use super::*;

    const T0: u64 = 1_700_000_000;

    fn at(offset: i64) -> Moment {
        Moment::at(SystemTime::UNIX_EPOCH + Duration::from_secs(T0.saturating_add_signed(offset)))
    }

    fn headers(lines: &[(&str, String)]) -> Fields {
        let mut map = Fields::new();
        for (name, value) in lines {
            map.append(name, value);
        }
        map
    }

    fn day(offset: i64) -> String {
        httpdate::fmt_http_date(at(offset).wall)
    }

    fn of(status: u16, lines: &[(&str, String)], terms: Terms) -> Freshness {
        let map = headers(lines);
        let times = Times { requested: at(0), received: at(0) };
        Freshness::of(StatusCode::from_u16(status).expect("status"), &map, &ResponseDirectives::of(&map), terms, times)
    }

    #[test]
    fn lifetime_and_age_by_the_rules_of_section_4_2() {
        let date = || ("date", day(0));
        // (what, fields, fresh after 3 s?)
        let table = vec![
            ("nothing", vec![], false),
            ("max-age", vec![("cache-control", "max-age=3600".into())], true),
            ("max-age over", vec![("cache-control", "max-age=2".into())], false),
            ("max-age=0 beats expires", vec![("cache-control", "max-age=0".into()), ("expires", day(3600)), date()], false),
            ("max-age beats past expires", vec![("cache-control", "max-age=9".into()), ("expires", day(-10)), date()], true),
            ("max-age beats bad expires", vec![("cache-control", "max-age=9".into()), ("expires", "0".into()), date()], true),
            ("s-maxage beats max-age", vec![("cache-control", "max-age=0, s-maxage=9".into())], true),
            ("short s-maxage beats max-age", vec![("cache-control", "max-age=3600, s-maxage=1".into())], false),
            ("age", vec![("cache-control", "max-age=3600".into()), ("age", "7200".into())], false),
            ("first age counts", vec![("cache-control", "max-age=3600".into()), ("age", "7200, 0".into())], false),
            ("second age does not", vec![("cache-control", "max-age=3600".into()), ("age", "0, 7200".into())], true),
            ("two age lines", vec![("cache-control", "max-age=3600".into()), ("age", "0".into()), ("age", "7200".into())], true),
            ("huge age", vec![("cache-control", "max-age=3600".into()), ("age", "2147483649".into())], false),
            ("age that is none", vec![("cache-control", "max-age=3600".into()), ("age", "-7200".into())], true),
            ("apparent age", vec![("cache-control", "max-age=3600".into()), ("date", day(-7200))], false),
            ("expires", vec![("expires", day(100)), date()], true),
            ("expires past", vec![("expires", day(-100)), date()], false),
            ("expires now", vec![("expires", day(0)), date()], false),
            ("expires before a fast date", vec![("expires", day(300)), ("date", day(400))], false),
            ("expires invalid", vec![("expires", "0".into()), date()], false),
            ("expires twice", vec![("expires", day(100)), ("expires", day(100)), date()], false),
            ("expires with a bad date", vec![("expires", day(10)), ("date", "foo".into())], true),
            ("expires, fast date, aged", vec![("date", day(10)), ("expires", day(20)), ("age", "15".into())], false),
            ("heuristic", vec![("last-modified", day(-86_400)), date()], true),
            ("heuristic too short", vec![("last-modified", day(-20)), date()], false),
            ("targeted beats expires", vec![("cdn-cache-control", "max-age=0".into()), ("expires", day(100)), date()], false),
            ("targeted", vec![("cdn-cache-control", "max-age=99".into()), ("cache-control", "max-age=1".into())], true),
        ];
        for (what, fields, fresh) in table {
            assert_eq!(of(200, &fields, Terms::default()).is_fresh(at(3)), fresh, "{what}");
        }
    }

    #[test]
    fn heuristics_need_a_status_or_public() {
        let modified = ("last-modified", day(-86_400));
        for (status, expected) in
            [(200, true), (204, true), (404, true), (501, true), (201, false), (403, false), (503, false), (599, false)]
        {
            assert_eq!(of(status, std::slice::from_ref(&modified), Terms::default()).is_fresh(at(1)), expected, "{status}");
        }
        assert!(of(599, &[modified, ("cache-control", "public".into())], Terms::default()).is_fresh(at(1)));
    }

    #[test]
    fn forced_freshness_counts_from_receipt_but_the_age_stays_true() {
        let terms = Terms { forced: Some(Duration::from_secs(60)), ..Terms::default() };
        let forced = of(200, &[("age", "500".into()), ("cache-control", "max-age=1".into())], terms);
        assert_eq!((forced.is_fresh(at(59)), forced.is_fresh(at(60)), forced.age(at(10)).as_secs()), (true, false, 510));
    }

    #[test]
    fn stale_windows_yield_to_the_origin_that_forbids() {
        let terms =
            Terms { stale_if_error: Some(Duration::from_secs(60)), stale_while_revalidate: Some(Duration::from_secs(60)), forced: None };
        for (said, allowed) in [
            ("max-age=2", true),
            ("max-age=2, must-revalidate", false),
            ("max-age=2, proxy-revalidate", false),
            ("max-age=2, no-cache", false),
            ("max-age=2, s-maxage=2", false),
            ("max-age=2, s-maxage=2, stale-if-error=60", true),
        ] {
            let fresh = of(200, &[("cache-control", said.into())], terms);
            assert_eq!(fresh.usable_on_error(None, at(5)), allowed, "{said}");
        }
        let window = of(200, &[("cache-control", "max-age=1, stale-while-revalidate=4".into())], Terms::default());
        let asked = RequestDirectives::default();
        assert_eq!(window.usable(&asked, false, at(3)), Use::StaleWhileRevalidate);
        assert_eq!(window.usable(&asked, false, at(6)), Use::Validate);
    }

    #[test]
    fn what_expired_before_its_date_is_stale_for_as_long() {
        let terms =
            Terms { stale_if_error: Some(Duration::from_secs(60)), stale_while_revalidate: Some(Duration::from_secs(40)), forced: None };
        let fresh = of(200, &[("expires", day(-30)), ("date", day(0))], terms);
        let patient = RequestDirectives { max_stale: Some(Duration::from_secs(35)), ..Default::default() };
        let asked = RequestDirectives::default();
        assert_eq!((fresh.staleness(at(0)).as_secs(), fresh.is_fresh(at(0))), (30, false));
        for (after, in_background, in_need, to_the_patient) in
            [(5, Use::StaleWhileRevalidate, true, Use::Stale), (9, Use::StaleWhileRevalidate, true, Use::StaleWhileRevalidate)]
        {
            assert_eq!(fresh.usable(&asked, false, at(after)), in_background, "{after}");
            assert_eq!(fresh.usable_on_error(None, at(after)), in_need, "{after}");
            assert_eq!(fresh.usable(&patient, false, at(after)), to_the_patient, "{after}");
        }
        assert_eq!(fresh.usable(&asked, false, at(11)), Use::Validate);
        assert!(fresh.usable_on_error(None, at(30)) && !fresh.usable_on_error(None, at(31)));
        assert!(!fresh.is_beyond_use(at(30)) && fresh.is_beyond_use(at(31)));
    }

    #[test]
    fn a_request_narrows_or_widens_what_may_be_used() {
        let fresh = of(200, &[("cache-control", "max-age=1500".into()), ("age", "1000".into())], Terms::default());
        let strict = of(200, &[("cache-control", "max-age=1, must-revalidate".into())], Terms::default());
        let loose = of(200, &[("cache-control", "max-age=1".into())], Terms::default());
        let secs = |n| Some(Duration::from_secs(n));
        let asked = |f: fn(&mut RequestDirectives)| {
            let mut asked = RequestDirectives::default();
            f(&mut asked);
            asked
        };
        assert_eq!(fresh.usable(&asked(|_| {}), false, at(1)), Use::Fresh);
        assert_eq!(fresh.usable(&asked(|_| {}), true, at(1)), Use::Validate, "softly purged");
        assert_eq!(fresh.usable(&asked(|a| a.no_cache = true), false, at(1)), Use::Validate);
        assert_eq!(fresh.usable(&RequestDirectives { max_age: secs(600), ..Default::default() }, false, at(1)), Use::Validate);
        assert_eq!(fresh.usable(&RequestDirectives { max_age: secs(0), ..Default::default() }, false, at(1)), Use::Validate);
        assert_eq!(fresh.usable(&RequestDirectives { min_fresh: secs(1000), ..Default::default() }, false, at(1)), Use::Validate);
        assert_eq!(loose.usable(&RequestDirectives { max_stale: secs(1000), ..Default::default() }, false, at(3)), Use::Stale);
        assert_eq!(loose.usable(&RequestDirectives { max_stale: secs(1), ..Default::default() }, false, at(3)), Use::Validate);
        assert_eq!(strict.usable(&RequestDirectives { max_stale: secs(1000), ..Default::default() }, false, at(3)), Use::Validate);
    }

    proptest! {
        #[test]
        fn ages_never_panic_and_only_grow(
            age in "[0-9]{0,25}", date in 0u64..9_000_000_000, requested in 0u64..9_000_000_000, received in 0u64..9_000_000_000,
            now in 0u64..9_000_000_000, step in 0u64..9_000_000_000, max_age in any::<u64>(), forced in proptest::option::of(any::<u64>()),
        ) {
            let at = |s| Moment::at(SystemTime::UNIX_EPOCH + Duration::from_secs(s));
            let map = headers(&[("age", age), ("date", httpdate::fmt_http_date(at(date).wall)), ("cache-control", format!("max-age={max_age}"))]);
            let terms = Terms { forced: forced.map(Duration::from_secs), ..Terms::default() };
            let times = Times { requested: at(requested), received: at(received) };
            let fresh = Freshness::of(StatusCode::OK, &map, &ResponseDirectives::of(&map), terms, times);
            prop_assert!(fresh.age(at(now + step)) >= fresh.age(at(now)));
            prop_assert!(fresh.left(at(now + step)) <= fresh.left(at(now)));
            prop_assert!(!fresh.is_fresh(at(now + step)) || fresh.is_fresh(at(now)), "what is stale stays stale");
            prop_assert!(fresh.left(at(now)).is_zero() || fresh.staleness(at(now)).is_zero());
            if forced.is_none() && received >= requested { prop_assert!(fresh.age(at(received)) >= at(received).since(at(requested))); }
        }
    }
}
