//! `timeouts`: time bounds of a request.

use std::time::Duration;

use super::{InDefaults, Place, Policy, Rows};
use crate::config::{
    Timeouts,
    build::Build,
    scalars::{OrOff, W},
    schema, written,
};

impl Policy for Option<Timeouts> {
    type Written = Option<written::Timeouts>;

    const ROWS: Rows = Rows { inbound: Some(schema::TIMEOUTS), outbound: Some(schema::TIMEOUTS), defaults: InDefaults::Taken };

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
}
