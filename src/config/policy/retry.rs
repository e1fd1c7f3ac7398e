//! `retry`: a failed request is sent again.

use std::time::Duration;

use super::{InDefaults, Place, Policy, Rows};
use crate::config::{
    Backoff, Retry, RetryBudget,
    build::{Build, small},
    schema, written,
};

impl Policy for Option<Retry> {
    type Written = Option<written::Retry>;

    const ROWS: Rows = Rows { inbound: Some(schema::IN_RETRY), outbound: Some(schema::OUT_RETRY), defaults: InDefaults::Taken };

    fn build(build: &mut Build<'_>, place: &Place<'_>, written: Self::Written, inherited: &Self) -> Self {
        let Some(written) = written else { return inherited.clone() };
        let here = place.key("retry");
        let backoff = match written.backoff {
            written::Backoff::Jitter { base, max } => {
                if base.0 > max.0 && !build.seen.broken(&format!("{here}.backoff")) {
                    build.fault(build.seen.value(&format!("{here}.backoff")), "`base` is longer than `max`");
                }
                Backoff::FullJitter { base: base.0, max: max.0 }
            }
            written::Backoff::Schedule(pauses) => {
                let pauses: Vec<Duration> = pauses.into_iter().flatten().map(|pause| pause.0).collect();
                if pauses.is_empty() && !build.seen.broken(&format!("{here}.backoff")) {
                    build.fault(build.seen.value(&format!("{here}.backoff")), "a schedule needs a pause, such as `[100ms, 1s]`");
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
}
