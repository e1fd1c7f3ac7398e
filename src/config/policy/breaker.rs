//! `breaker`: a target that fails gets no requests for a while.

use super::{InDefaults, Place, Policy, Rows};
use crate::config::{
    Breaker, BreakerRatio,
    build::{Build, small},
    schema, written,
};

impl Policy for Option<Breaker> {
    type Written = Option<written::Breaker>;

    const ROWS: Rows = Rows { inbound: Some(schema::BREAKER), outbound: Some(schema::BREAKER), defaults: InDefaults::Taken };

    fn build(build: &mut Build<'_>, place: &Place<'_>, written: Self::Written, inherited: &Self) -> Self {
        let Some(written) = written else { return inherited.clone() };
        let here = place.key("breaker");
        let ratio = match &written.ratio {
            written::Ratio::Off(_) => None,
            written::Ratio::On { threshold, window, min_requests } => {
                Some(BreakerRatio { threshold: threshold.0.0, window: window.0, min_requests: small(min_requests) })
            }
        };
        let consecutive = small(&written.consecutive);
        if consecutive == 0 && ratio.is_none() {
            build.fault(
                build.seen.key(&here),
                "this breaker can never open: `consecutive` is 0 and `ratio` is off; to have none, write `mode: off`",
            );
        }
        if written.open.base.0 > written.open.max.0 && !build.seen.broken(&format!("{here}.open")) {
            build.fault(build.seen.value(&format!("{here}.open")), "`base` is longer than `max`");
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
}
