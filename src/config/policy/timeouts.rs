//! `timeouts`: time bounds of a request.

use std::time::Duration;

use serde::Deserialize;

use super::{InDefaults, Place, Policy, Rows};
use crate::config::{
    Config,
    build::Build,
    mode::{MODE_KEY, Mode, ModeWord},
    scalars::{OrOff, W},
    schema::{Elsewhere, Key, Kind, Table, kinds::TIME_OR_OFF},
};

/// Time bounds. `None`: unbounded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Timeouts {
    pub mode: Mode,
    /// To an open connection, TLS included.
    pub connect: Option<Duration>,
    /// From the request fully sent to the response head.
    pub response_header: Option<Duration>,
    /// Streams only: to the first event.
    pub first_token: Option<Duration>,
    /// Between two pieces of a response body.
    pub idle: Option<Duration>,
    /// Over all tries: to the response head of streams and upgrades, to the last byte of other answers.
    pub total: Option<Duration>,
    /// One try, to the response head.
    pub per_try: Option<Duration>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    mode: W<ModeWord>,
    connect: W<OrOff<Duration>>,
    response_header: Option<W<OrOff<Duration>>>,
    first_token: Option<W<OrOff<Duration>>>,
    idle: Option<W<OrOff<Duration>>>,
    total: Option<W<OrOff<Duration>>>,
    per_try: Option<W<OrOff<Duration>>>,
}

static TABLE: Table = Table::new(
    "timeouts",
    "Time bounds. What is not written is unbounded, `connect` aside, which is 5s even without this block; streams never end by an \
     accident of a total.",
    &[
        MODE_KEY,
        Key::new("connect", TIME_OR_OFF, "To an open connection, TLS included: every address of the target's name is tried within it.")
            .within("1ms", "1h")
            .default("5s"),
        Key::new("response_header", TIME_OR_OFF, "From the request fully sent to the head of the response.").within("1ms", "1d").eg("10m"),
        Key::new("first_token", TIME_OR_OFF, "Streams only: to the first event.").within("1ms", "1d").eg("120s"),
        Key::new("idle", TIME_OR_OFF, "Between two pieces of a response body.").within("1ms", "1d").eg("60s"),
        Key::new("per_try", TIME_OR_OFF, "One try, to the head of the response.").within("1ms", "1d").eg("30s"),
        Key::new("total", TIME_OR_OFF, "All tries together; streams: to the head of the response.").within("1ms", "1d").eg("2m"),
    ],
)
.foreign(&[("body_idle", "it is written in the door's `bounds`"), ("header_read", "it is written in the door's `bounds`")]);
const ROW: Key = Key::new("timeouts", Kind::Table(&TABLE), "Time bounds.");

const ELSEWHERE: &[Elsewhere] = &[(
    &[
        "timeout",
        "read_timeout",
        "connect_timeout",
        "proxy_read_timeout",
        "request_timeout",
        "write_timeout",
        "idle_timeout",
        "stream_timeout",
    ],
    "write `timeouts: {connect: 2s, response_header: 10m, idle: 60s}` in a route or in the door's `defaults`",
)];

impl Policy for Option<Timeouts> {
    type Written = Option<Written>;

    const ROWS: Rows = Rows { inbound: Some(ROW), outbound: Some(ROW), defaults: InDefaults::Taken };

    const ELSEWHERE: &'static [Elsewhere] = ELSEWHERE;

    fn build(build: &mut Build<'_>, place: &Place<'_>, written: Self::Written, inherited: &Self) -> Self {
        let Some(written) = written else { return inherited.clone() };
        let here = place.key("timeouts");
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
            build.fault(build.seen.value(&format!("{here}.per_try")), "`per_try` is longer than `total`, so it could never be reached");
        }
        written.mode.0.meant().map(|_| timeouts)
    }

    fn told(&self, _: &Config) -> Vec<String> {
        self.iter().map(|timeouts| format!("timeouts{}", timeouts.mode.remark())).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::config::testing::{good, route, says};

    #[test]
    fn what_is_not_written_is_unbounded_but_for_the_connection() {
        let config = good(&route("timeouts: {idle: 60s, total: off}"));
        let timeouts = config.inbound.expect("open").routes.remove(0).policies.timeouts.expect("named");
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs());
        assert_eq!((seconds(timeouts.connect), seconds(timeouts.idle)), (Some(5), Some(60)));
        assert_eq!((timeouts.total, timeouts.per_try, timeouts.first_token), (None, None, None));
        says(&route("timeouts: {per_try: 2m, total: 1m}"), "5:27", "longer than `total`");
    }
}
