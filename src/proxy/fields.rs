//! The policy `headers` on the way: the places of its values are filled from the exchange.

use std::borrow::Cow;

use super::{ask::Ask, exchange::Exchange};
use crate::{
    config::{Headers, Mode, Template, TemplatePart, Variable},
    http1::{Fields, Id},
    policy::headers,
};

/// The fields of a request to a target, as the route says.
pub fn of_request(ask: &Ask, fields: &mut Fields) {
    if let Some(policy) = policy(ask).filter(|policy| policy.mode == Mode::Enforce && !policy.request.is_empty()) {
        headers::request(policy, fields, |variable| fill(ask, variable));
    }
}

/// The fields of an answer to a client, as the route says.
pub fn of_response(exchange: &Exchange, fields: &mut Fields) {
    let ask = &*exchange.ask;
    let Some(policy) = policy(ask) else { return };
    let tls = ask.arrival.tls || ask.arrival.trusted && ask.arrival.header(Id::XForwardedProto) == Some("https");
    match policy.mode {
        Mode::Enforce => headers::response(policy, tls, fields, |variable| fill(ask, variable)),
        Mode::Observe if headers::would_harden(policy, tls, fields) => ask.cells().policies.gate_observed("headers"),
        Mode::Observe => {}
    }
}

fn policy(ask: &Ask) -> Option<&Headers> {
    ask.route()?.policies.headers.as_ref()
}

/// A text whose places the exchange fills.
pub fn filled(ask: &Ask, template: &Template) -> String {
    let part = |part: &TemplatePart| match part {
        TemplatePart::Text(text) => text.clone(),
        TemplatePart::Of(variable) => fill(ask, *variable).into_owned(),
    };
    template.parts.iter().map(part).collect()
}

fn fill(ask: &Ask, variable: Variable) -> Cow<'_, str> {
    match variable {
        Variable::Caller => ask.caller_name().unwrap_or_default().into(),
        Variable::RequestId => ask.request_id().to_string().into(),
        Variable::ClientIp => ask.arrival.client.to_string().into(),
        Variable::ClientCert => ask.arrival.certificate.as_ref().map_or("", |certificate| &certificate.name).into(),
        Variable::Host => ask.arrival.host().into(),
        Variable::Route => ask.route_name().to_string().into(),
        Variable::Uri => ask.arrival.uri.path_and_query().map_or("/", |uri| uri.as_str()).into(),
        Variable::Path => ask.arrival.path().into(),
        Variable::Query => ask.arrival.uri.query().map(|query| format!("?{query}")).unwrap_or_default().into(),
        Variable::Rest => match ask.route().and_then(|route| route.path.as_ref()) {
            Some(pattern) => pattern.rest(ask.arrival.path()).into(),
            None => ask.arrival.path().into(),
        },
        Variable::TraceId => ask.trace().map(|trace| trace.context.trace_id.to_string()).unwrap_or_default().into(),
    }
}
