//! Outbound: a call whose path names no provider goes where its model's name leads. From here on it is a call to that provider: body, path,
//! cache key, prices, limits and books have the provider's own model; the app's word for it stands in the log as `asked_model`.

use std::sync::Arc;

use bytes::Bytes;
use http::header;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::{
    NOT_LET_IN,
    ask::Ask,
    auth,
    exchange::Exchange,
    live::{Live, LiveDoor, LiveRoute},
    model::{ModelCall, query},
};
use crate::{
    arrival::Arrival,
    body::Body,
    config::{Api, Fallback, ModelAim, Outbound, names_version},
    message::Response,
    policy::access,
    provider::{self, choice},
    reject::Reject,
    route::Query,
};

/// How a call got its provider whose path names none.
#[derive(Debug, Clone, Default)]
pub struct ByModel {
    /// The app's word for the model, if another one is asked for.
    pub asked: Option<Arc<str>>,
    /// The provider for whom the app's own credential is meant: an index into the live providers.
    pub owner: Option<usize>,
    /// The places that follow the first one, then the route's own fallback; empty: the route's own alone.
    pub(super) rest: Vec<Fallback>,
    /// The answer of the proxy's own: what models there are.
    listed: Option<Value>,
}

/// The API of a path that begins with a version, and a provider that speaks it: until the model is known the call is one to that.
///
/// # Errors
/// No provider speaks the API.
pub(super) fn provisional(live: &Live, arrival: &Arrival) -> Result<usize, Reject> {
    let api = api_of(arrival);
    let outbound = outbound(live)?;
    let any = || live.providers.iter().position(|provider| provider.api == api);
    outbound.models.default_of(&outbound.providers, api).or_else(any).ok_or_else(|| {
        let known: Vec<String> = live.providers.iter().map(|provider| format!("`{}` ({})", provider.name, provider.api)).collect();
        Reject::NoModel(format!("this path speaks {api}, and no provider does; there are {}", known.join(", ")).into())
    })
}

/// Whether a path's first segment says that the path names no provider.
pub(super) fn is_bare(first: &str) -> bool {
    names_version(first)
}

/// The API in whose shape a refusal is told before the call is understood; `None`: the path names no API.
pub(super) fn told_in(arrival: &Arrival, first: &str) -> Option<Api> {
    is_bare(first).then(|| api_of(arrival))
}

fn api_of(arrival: &Arrival) -> Api {
    choice::api_of(&arrival.method, arrival.path(), arrival.headers.has(choice::ANTHROPIC))
}

fn outbound(live: &Live) -> Result<&Outbound, Reject> {
    live.config.outbound.as_ref().ok_or_else(|| Reject::NotFound("this door is not open".into()))
}

/// Refuses a call before its body is read, if it would be refused whichever provider its model leads to.
///
/// # Errors
/// No route lets the address in, or each asks for a proof that the request does not bring.
pub(super) fn before_body(ask: &Ask, door: &LiveDoor, call: &ModelCall) -> Result<(), Reject> {
    let mut routes: Vec<&LiveRoute> = Vec::new();
    for provider in ask.worker.live.providers.iter().filter(|provider| provider.api == call.shape.api) {
        let asked = Query { provider: Some(&provider.name), ..query(&ask.arrival, call) };
        routes.extend(door.table.possible(&asked).map(|at| &door.routes[*at]));
    }
    routes.push(&door.routes[door.fallthrough()]);
    if routes.iter().all(|route| access::turns_away(route.policies.access.as_ref(), &ask.arrival).is_some()) {
        return Err(Reject::Forbidden(NOT_LET_IN.into()));
    }
    auth::before_body(ask, routes.into_iter())
}

/// Gives the call to the provider that its model leads to, and the provider's own name for the model to its body, path or query. `body`: the
/// bytes as they came, empty if the call has none to read.
///
/// # Errors
/// Nothing takes the call, or the model's name cannot be changed where it stands.
pub(super) fn settle(live: &Live, arrival: &Arrival, call: &mut ModelCall, body: Bytes) -> Result<Bytes, Reject> {
    let outbound = outbound(live)?;
    let api = call.shape.api;
    let mut by = ByModel { owner: outbound.models.owner_of(&outbound.providers, api), ..ByModel::default() };
    let lists = choice::listing(&arrival.method, arrival.path());
    by.listed = match &lists {
        None => None,
        Some(None) => Some(choice::model_list(outbound, api)),
        Some(Some(name)) => choice::listed_model(outbound, api, name),
    };
    if by.listed.is_some() {
        call.by_model = Some(Arc::new(by));
        return Ok(body);
    }
    let asked: Option<Arc<str>> = lists.flatten().map(Arc::from).or_else(|| call.model.clone());
    let choice = provider::choose(outbound, api, asked.as_deref()).map_err(|why| Reject::NoModel(why.into()))?;
    call.provider_at = choice.provider;
    call.provider = live.providers[choice.provider].name.clone();
    let follows = |aim: &ModelAim| Fallback::Provider {
        provider: aim.provider,
        // The app's own word, where the first place asks for another.
        model: aim.model.clone().or_else(|| choice.model.as_ref().and(asked.clone())),
        on: Vec::new(),
    };
    by.rest = choice.rest.iter().map(follows).collect();
    let body = match &choice.model {
        None => body,
        Some(model) => {
            by.asked = asked;
            renamed(call, body, model)?
        }
    };
    call.by_model = Some(Arc::new(by));
    Ok(body)
}

/// The call with another name for its model, wherever the name stands.
fn renamed(call: &mut ModelCall, body: Bytes, model: &Arc<str>) -> Result<Bytes, Reject> {
    let cannot = || Reject::BadRequest("the model's name cannot be changed where it stands in this request".into());
    let (path, query) = call.rest.split_at(call.rest.find('?').unwrap_or(call.rest.len()));
    if call.shape.model_in_path.is_some() {
        let path = provider::with_model_in_path(call.shape.api, path, model).ok_or_else(cannot)?;
        call.rest = format!("{path}{query}");
        call.shape.model_in_path = Some(model.to_string());
    } else if call.facts.is_some() {
        let text = call.text.take().unwrap_or(body);
        let renamed = provider::with_model(&text, model).ok_or_else(cannot)?;
        if let Some(facts) = &mut call.facts {
            facts.model = Some(model.to_string());
        }
        call.rewritten.set(true);
        call.model = Some(model.clone());
        return Ok(renamed);
    } else if let Some(start) = path.find("/models/").filter(|_| call.model.is_none()) {
        call.rest = format!("{}/models/{}{query}", &path[..start], segments(model).ok_or_else(cannot)?);
        return Ok(body);
    } else {
        let named = |pair: &&str| matches!(pair.split('=').next(), Some("model" | "deployment"));
        let pairs = query.trim_start_matches('?').split('&').filter(|pair| !named(pair)).map(str::to_owned);
        let model = format!("model={}", utf8_percent_encode(model, NON_ALPHANUMERIC));
        call.rest = format!("{path}?{}", std::iter::once(model).chain(pairs).collect::<Vec<_>>().join("&"));
    }
    call.model = Some(model.clone());
    Ok(body)
}

/// A model's name as segments of a path. It was decoded, so that it may hold anything; `None`: a segment would lead elsewhere.
fn segments(model: &str) -> Option<String> {
    /// The characters that RFC 3986 section 3.3 allows in a segment.
    const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'@').remove(b':');
    let segments = model.split('/');
    let written = segments.map(|segment| (!matches!(segment, "" | "." | "..")).then(|| utf8_percent_encode(segment, SEGMENT).to_string()));
    Some(written.collect::<Option<Vec<_>>>()?.join("/"))
}

/// The proxy's own answer: the models that there are, or one of them.
pub(super) fn answer(exchange: &Exchange) -> Option<Response<Body>> {
    let listed = exchange.ask.call()?.by_model.as_ref()?.listed.as_ref()?;
    let mut response = Response::new(Body::full(listed.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, "application/json");
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::segments;

    #[test]
    fn a_decoded_name_stays_a_name_in_a_path() {
        assert_eq!(segments("org/gpt-4.1:free").as_deref(), Some("org/gpt-4.1:free"));
        assert_eq!(segments("a?b#c d\r\nx: y").as_deref(), Some("a%3Fb%23c%20d%0D%0Ax:%20y"));
        assert_eq!((segments("../files"), segments("a/./b"), segments("a//b")), (None, None, None));
    }
}
