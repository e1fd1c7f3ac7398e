//! `access`: who may come in, by address.

use super::{InDefaults, Place, Policy, Rows};
use crate::config::{
    Access,
    build::Build,
    scalars::{Nets, W},
    schema,
    written::{self, Items},
};

impl Policy for Option<Access> {
    type Written = Option<written::Access>;

    const ROWS: Rows = Rows { inbound: Some(schema::ACCESS), outbound: Some(schema::ACCESS), defaults: InDefaults::Taken };

    fn build(_: &mut Build<'_>, _: &Place<'_>, written: Self::Written, inherited: &Self) -> Self {
        let Some(written) = written else { return inherited.clone() };
        let nets = |list: Items<W<Nets>>| list.into_iter().flatten().flat_map(|nets| nets.0.0).collect();
        Some(Access { mode: written.mode.0.meant()?, allow: nets(written.allow), deny: nets(written.deny) })
    }
}
