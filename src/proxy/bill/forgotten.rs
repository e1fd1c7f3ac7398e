//! Works that nobody asks about any more. No answer will state their usage: each is charged as it was reserved, marked as estimated.
//!
//! A work is forgotten when it is too old, or when there are too many. A day for a background response, 30 days for a batch: providers keep
//! no answer for longer.

use std::{net::SocketAddr, rc::Rc};

use http::{Method, Uri, Version};

use super::{super::Proxy, Bill, late::Late};
use crate::{
    arrival::{Arrival, Door, PeerText},
    clock::Instant,
    http1::Fields,
    proxy::{
        ask::{Ask, Origin},
        payer::{Payer, Payers},
        pledge::Pledge,
    },
    telemetry::metrics::Family,
};

impl Bill {
    /// Forgets a work.
    pub(super) fn forget(&self, pledge: Pledge) {
        tracing::warn!(
            provider = %pledge.order.provider,
            operation = pledge.order.operation,
            "work is forgotten, because no answer has told its end: it is charged what was reserved for it"
        );
        self.ask.proxy.telemetry.metrics.counter(Family::BackgroundForgotten, &[]).inc();
        let late = Late::forgotten(self, pledge);
        if self.ask.proxy.shared.works.is_shared() {
            self.ask.proxy.late.put(late);
        }
    }
}

/// Forgets the works that are too old, whoever has begun them. Call once a minute.
pub fn sweep(proxy: &Rc<Proxy>, now: Instant) {
    for pledge in proxy.shared.works.sweep(now) {
        Bill::of_proxy(proxy, &pledge).forget(pledge);
    }
}

impl Bill {
    /// The bill of a charge that no request makes.
    fn of_proxy(proxy: &Rc<Proxy>, pledge: &Pledge) -> Self {
        let peer = SocketAddr::from(([127, 0, 0, 1], 0));
        let arrival = Arrival {
            door: Door::Outbound,
            peer,
            peer_text: PeerText::new(peer),
            tls: false,
            certificate: None,
            client: peer.ip(),
            trusted: false,
            method: Method::GET,
            uri: Uri::from_static("/"),
            version: Version::HTTP_11,
            headers: Fields::new(),
            at: Instant::now(),
            interim: None,
        };
        let ask = Ask::of(proxy, proxy.worker(), arrival, Origin::Refresh);
        let payers = Payers::led_by(Payer::named(None)).0;
        let mut bill = Self::open(ask, payers, None, pledge.order.provider.clone(), None);
        bill.settled = true;
        bill
    }
}
