//! An exchange that tests of its line, of failures and of exports begin with.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, UNIX_EPOCH},
};

use http::Method;

use super::{ExchangeOutcome, Record};
use crate::arrival::Door;

/// A GET that the app has answered with 200.
pub fn record() -> Record<'static> {
    Record {
        at: UNIX_EPOCH + Duration::from_millis(1_709_164_800_007),
        request_id: "r-1",
        trace_id: None,
        span_id: None,
        door: Door::Inbound,
        route: "api",
        caller: "",
        client: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 255)),
        method: &Method::GET,
        host: "shop.example",
        path: "/a",
        query: "",
        status: 200,
        reason: None,
        detail: "",
        limit: "",
        would_refuse: "",
        cache: "none",
        target: "app",
        key: "",
        tries: 1,
        thrown_away: &[],
        fallback: "",
        total: Duration::from_micros(1_500),
        upstream: None,
        first_byte: None,
        first_token: None,
        bytes_in: 0,
        bytes_out: 12,
        provider: "",
        operation: "",
        model: "",
        asked_model: "",
        stream: None,
        tokens: None,
        cost: None,
        cause: "",
        sent_request_id: "",
        outcome: ExchangeOutcome::Complete,
    }
}
