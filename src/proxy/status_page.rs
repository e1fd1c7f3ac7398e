//! The status page below a path of the inbound door. The app never sees that path, and the answer comes from memory: it is there while the
//! app is down. No policy of a route holds there: the page is public.

use std::sync::Arc;

use arc_swap::Guard;

use super::live::LiveDoor;
use crate::{
    arrival::Arrival,
    body::Body,
    http1::Id,
    message::{AnswerHead, Response},
    status::Site,
};

/// The answer; `None`: the request is for the app. `site` is asked for only if the request is for the page.
pub fn answer(door: &LiveDoor, arrival: &Arrival, site: impl FnOnce() -> Guard<Arc<Site>>) -> Option<Response<Body>> {
    let below = arrival.path().strip_prefix(&**door.status_page.as_ref()?)?;
    let path = match below {
        "" => "/",
        below if below.starts_with('/') => below,
        _ => return None,
    };
    let (head, body) = site().answer(&arrival.method, path, arrival.header(Id::IfNoneMatch)).into_parts();
    let mut answer = AnswerHead { status: head.status, ..AnswerHead::default() };
    for (name, value) in &head.headers {
        answer.headers.append(name, value.as_bytes());
    }
    Some(Response::from_parts(answer, Body::full(body.into_inner().unwrap_or_default())))
}
