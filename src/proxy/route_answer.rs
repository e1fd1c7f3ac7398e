//! Answers of a route's own, `redirect` and `respond`: the app is not asked.

use http::header;

use super::{exchange::Exchange, fields, live::LiveRoute};
use crate::{body::Body, config::Mode, http1::Id, message::Response};

/// The route's own answer, if it has one and does not only observe.
pub fn of(exchange: &Exchange, route: &LiveRoute) -> Option<Response<Body>> {
    let observed = |name: &str| {
        exchange.ask.cells().policies.gate_observed(name);
        None
    };
    if let Some(redirect) = &route.policies.redirect {
        if redirect.mode == Mode::Observe {
            return observed("redirect");
        }
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = redirect.status;
        response.headers_mut().insert(Id::Location, same_host(&fields::filled(&exchange.ask, &redirect.to)));
        return Some(response);
    }
    let answer = route.policies.respond.as_ref()?;
    if answer.mode == Mode::Observe {
        return observed("respond");
    }
    let mut response = Response::new(Body::full(answer.body.clone()));
    *response.status_mut() = answer.status;
    response.headers_mut().insert(header::CONTENT_TYPE, answer.content_type.clone());
    Some(response)
}

/// A place that is no URL is a path, and stays on its host: browsers read `//host` and `/\host` as another one.
fn same_host(place: &str) -> String {
    match place.starts_with("https://") || place.starts_with("http://") {
        true => place.to_owned(),
        // Empty, it would mean the same page again.
        false => format!("/{}", place.trim_start_matches(['/', '\\'])),
    }
}
