//! The parts that are about the process: admin, store, telemetry, shutdown.

use std::{path::PathBuf, sync::Arc};

use super::{Build, quarter, whole};
use crate::config::{Admin, Origin, Redis, Shutdown, Store, Telemetry, written};

/// Where collectors listen for OTLP over gRPC.
const OTLP_GRPC: u16 = 4317;

impl Build<'_> {
    pub(super) fn admin(&mut self, written: written::Admin) -> Admin {
        let listen = written.listen.0.0;
        let token = written.token.map(|token| token.0);
        if let Some(at) = listen
            && !at.ip().is_loopback()
        {
            let unprotected = if token.is_none() { ", and `admin.token` is not set" } else { "" };
            let message = format!(
                "`{at}` shows the state of the proxy to whoever reaches it{unprotected}; `probes` is the listener that may face the network"
            );
            self.note(self.seen.value("admin.listen"), message);
        }
        let socket_is_usual = written.socket.is_none();
        let socket = match written.socket {
            Some(word) => word.0.0,
            None => self.default_socket(listen.map_or(0, |at| at.port())),
        };
        Admin { listen, probes: written.probes.0.0, token, socket, socket_is_usual }
    }

    /// One per admin port, so that two proxies on a machine do not take each other's; none if the port is not known beforehand.
    fn default_socket(&self, port: u16) -> Option<PathBuf> {
        (port != 0).then(|| crate::config::usual_socket(port, self.env))
    }

    pub(super) fn store(&mut self, written: written::Store, memory_limit: Option<u64>) -> Store {
        let timeout = written.timeout.0;
        let namespace = written.namespace.map(|word| word.0.0);
        let encrypt = written.encrypt.is_some_and(|on| on.0);
        if encrypt && written.secret.is_none() && !self.seen.broken("store.secret") {
            let message = "`encrypt` needs `secret`: without one the key would lie in Redis beside what it encrypts";
            self.fault(self.seen.key("store.encrypt"), message);
        }
        let tls = written.redis_tls.map(|tls| self.redis_tls(tls, written.redis.as_ref())).unwrap_or_default();
        let redis = match (written.redis, namespace) {
            (Some(url), Some(namespace)) => Some(Redis { url: url.0.0, namespace: Arc::from(namespace.as_str()), timeout, encrypt, tls }),
            (Some(_), None) => {
                if !self.seen.broken("store.namespace") {
                    let message = "`redis` needs `namespace`, such as `namespace: shop`: without one, two apps on the same Redis would share counters and answers";
                    self.fault(self.seen.key("store.redis"), message);
                }
                None
            }
            (None, _) => None,
        };
        Store {
            memory: written.memory.map_or_else(|| quarter(memory_limit), |size| size.0.0),
            redis,
            secret: written.secret.map(|secret| secret.0),
            max_keys: whole(&written.max_keys),
        }
    }

    pub(super) fn telemetry(&mut self, written: written::Telemetry) -> Telemetry {
        let otlp_headers = written
            .otlp_headers
            .into_iter()
            .filter_map(|(name, value)| {
                let mut value = value?.0.0;
                value.set_sensitive(true);
                Some((name.0, value))
            })
            .collect();
        if written.otlp.as_ref().is_some_and(|url| Origin::parse(&url.0.0).is_ok_and(|origin| origin.port == OTLP_GRPC)) {
            let message = "port 4317 is the collector's for OTLP over gRPC, and this is OTLP over HTTP; write its other port, usually 4318";
            self.fault(self.seen.value("telemetry.otlp"), message);
        }
        Telemetry {
            log: written.log.0,
            otlp: written.otlp.map(|url| url.0.0),
            otlp_headers,
            sample: written.sample.0.0,
            service: written.service,
            otlp_interval: written.interval.0,
        }
    }

    pub(super) fn shutdown(&mut self, written: &written::Shutdown) -> Shutdown {
        let (drain_delay, deadline) = (written.drain_delay.0, written.deadline.0);
        if drain_delay >= deadline {
            let at = if self.seen.written("shutdown.deadline") { "shutdown.deadline" } else { "shutdown.drain_delay" };
            let message = format!(
                "the deadline ({}) must be longer than the drain delay ({}): what is in flight would have no time",
                humantime::format_duration(deadline),
                humantime::format_duration(drain_delay)
            );
            self.fault(self.seen.value(at), message);
        }
        Shutdown { drain_delay, deadline }
    }
}
