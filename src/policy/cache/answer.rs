//! Answers made from a stored response: 304 if the client has it, 206 or 416 for a range, no body for HEAD.

use std::sync::Arc;

use http::StatusCode;

use super::{
    HitInfo,
    entry::Entry,
    range::{self, Part},
    status, validate,
};
use crate::{
    body::Body,
    clock::Moment,
    http1::{Fields, Id},
    message::Response,
};

/// The `Cache-Status` of an answer.
#[derive(Debug, Clone)]
pub(super) enum Mark {
    /// From the store: the origin was not asked.
    Hit(HitInfo),
    /// The origin was asked: the answer gets this member.
    Forwarded(String),
}

/// The answer to a request with the fields `request`.
pub(super) fn answer(entry: &Arc<Entry>, request: &Fields, head: bool, paced: bool, mark: Mark, now: Moment) -> Response<Body> {
    let conditional = entry.status == StatusCode::OK;
    let mut response = if conditional && validate::client_has(request, &entry.headers, entry.fresh.received.wall) {
        shaped(StatusCode::NOT_MODIFIED, validate::not_modified_fields(&entry.headers), Body::Empty)
    } else if head {
        let mut headers = with_room(entry);
        if !headers.has(Id::ContentLength) {
            headers.insert_number(Id::ContentLength, entry.len);
        }
        shaped(entry.status, headers, Body::Empty)
    } else {
        match if conditional { range::part(request, &entry.headers, entry.dated, entry.len) } else { Part::Whole } {
            Part::Whole => shaped(entry.status, with_room(entry), entry.whole(paced)),
            Part::Bytes(first, last) => {
                let mut headers = with_room(entry);
                headers.insert_number(Id::ContentLength, last - first + 1);
                content_range(&mut headers, &format!("bytes {first}-{last}/{}", entry.len));
                shaped(StatusCode::PARTIAL_CONTENT, headers, entry.part(first, last))
            }
            Part::Unsatisfiable => {
                let mut headers = validate::not_modified_fields(&entry.headers);
                content_range(&mut headers, &format!("bytes */{}", entry.len));
                shaped(StatusCode::RANGE_NOT_SATISFIABLE, headers, Body::Empty)
            }
        }
    };
    match mark {
        Mark::Hit(info) => status::mark_hit(response.headers_mut(), info.ttl, info.age),
        Mark::Forwarded(member) => {
            response.headers_mut().append(status::CACHE_STATUS, member);
            status::mark_age(response.headers_mut(), entry.fresh.age(now));
        }
    }
    response
}

/// The stored fields, with room for `Age`, `Cache-Status`, the limits' fields and a request id.
fn with_room(entry: &Entry) -> Fields {
    entry.headers.with_more(384, 6)
}

fn shaped(status: StatusCode, headers: Fields, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn content_range(headers: &mut Fields, text: &str) {
    headers.insert(Id::ContentRange, text);
}
