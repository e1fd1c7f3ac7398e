//! What a request asks of the limits: its own door's and, for a model call, those of the inbound route that caused it.

use super::{Proxy, exchange::Exchange, live::LiveRoute};
use crate::{
    arrival::Door,
    cause::Join,
    clock::Instant,
    config::{Applies, Unit},
    policy::limits::{Ask, Demand, KeyFacts, Keyed},
    reject::Reject,
    usage::Usage,
};

/// Tokens of output that are reserved where the request sets no bound of its own.
const UNBOUNDED_OUTPUT: u64 = 1024;

/// What a request asks, and in whose name.
pub struct Claims {
    /// Limits of the door and the route; `None`: there are none.
    own: Option<Keyed>,
    tokens: u64,
    nano_usd: u64,
    unpriced: Option<Reject>,
}

impl Claims {
    /// Resolves keys and estimates once.
    pub fn of(exchange: &Exchange, route: &LiveRoute) -> Self {
        let arrival = &*exchange.arrival;
        let call = exchange.call.as_deref();
        let own = (!route.limits.is_empty() && !exchange.is_ours).then(|| {
            route.limits.keyed(&KeyFacts {
                client_ip: arrival.client,
                caller: exchange.caller.as_deref(),
                headers: &arrival.headers,
                query: arrival.uri.query(),
                route: &route.name,
                provider: call.map(|call| &*call.provider),
                model: call.and_then(|call| call.model.as_deref()),
            })
        });
        let mut claims = Self { own, tokens: 0, nano_usd: 0, unpriced: None };
        let Some(call) = call.filter(|call| call.shape.reads_body) else { return claims };
        let Some(facts) = &call.facts else { return claims };
        let output = match call.shape.operation {
            crate::config::Operation::Embeddings => 0,
            _ => facts.max_output.unwrap_or(UNBOUNDED_OUTPUT).saturating_mul(facts.n),
        };
        let usage = Usage { input: facts.estimated_input, output, ..Usage::default() };
        claims.tokens = usage.total();
        let caused_limits = match &call.join {
            Join::Sure(cause) => cause.charge.as_ref(),
            _ => None,
        };
        let refuses = route.limits.refuses_unpriced() || caused_limits.is_some_and(|keyed| keyed.set().refuses_unpriced());
        let counts = route.limits.counts(Unit::NanoUsd) || caused_limits.is_some_and(|keyed| keyed.set().counts(Unit::NanoUsd));
        if counts {
            let model = call.model.as_deref().unwrap_or_default();
            match exchange.worker.live.prices.cost(model, &usage) {
                Some(cost) => claims.nano_usd = cost,
                None if refuses => claims.unpriced = Some(Reject::Unpriced(model.into())),
                None => {}
            }
        }
        claims
    }

    /// The keys that outbound calls reserve against, if a limit counts what they use.
    pub fn spendable(&self) -> Option<&Keyed> {
        self.own.as_ref().filter(|keyed| keyed.set().counts(Unit::Tokens) || keyed.set().counts(Unit::NanoUsd))
    }

    /// Takes what applies at `stage` from all limits at once, or nothing.
    pub async fn admit(&self, proxy: &Proxy, exchange: &mut Exchange, stage: Applies) -> Result<(), Reject> {
        let call = exchange.call.as_deref();
        let mut asks: smallvec::SmallVec<[Ask<'_>; 2]> = smallvec::SmallVec::new();
        if let Some(keyed) = self.own.as_ref().filter(|keyed| keyed.set().applies(stage)) {
            let demand = match exchange.arrival.door {
                Door::Inbound => Demand::arrival(stage),
                Door::Outbound => Demand::call(stage, self.tokens, self.nano_usd),
            };
            asks.push(Ask { keyed, demand });
        }
        if stage == Applies::Misses {
            if let Some(unpriced) = &self.unpriced {
                return Err(unpriced.clone());
            }
            if let Some(Join::Sure(cause)) = call.map(|call| &call.join)
                && let Some(keyed) = &cause.charge
            {
                asks.push(Ask { keyed, demand: Demand::caused(self.tokens, self.nano_usd) });
            }
        }
        if asks.is_empty() {
            return Ok(());
        }
        // Inbound, nothing has been waited for since the arrival; a clock read saved is a clock read saved.
        let now = if exchange.arrival.door == Door::Inbound { exchange.arrival.at } else { Instant::now() };
        let lease = proxy.shared.limits.admit_shared(&asks, now).await.map_err(Reject::Limited)?;
        match &mut exchange.lease {
            Some(held) => held.join(lease),
            held => *held = Some(lease),
        }
        Ok(())
    }
}
