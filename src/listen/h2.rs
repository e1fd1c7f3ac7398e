//! HTTP/2 with clients: after ALPN, or in clear text with prior knowledge (RFC 9113 section 3.3).
//!
//! The h2 crate checks frames. This module sets its bounds, and gives a request the fields that it would have in HTTP/1.1.

use std::{future::Future, pin::pin, rc::Rc, time::Duration};

use http::{HeaderMap, Uri};
use hyper::{rt::Executor, server::conn::http2};
use hyper_util::rt::TokioTimer;

use crate::{
    body::stop::Stop,
    config::Bounds,
    http1::{Fields, Id, Value},
    message::Response,
    pressure::Level,
    reject::Reject,
};

/// Streams run on the connection's own worker, and see its stop.
#[derive(Debug, Clone)]
pub struct Local(Rc<Stop>);

impl<F: Future + 'static> Executor<F> for Local {
    fn execute(&self, task: F) {
        let stop = self.0.clone();
        tokio::task::spawn_local(async move {
            stop.woken(pin!(task)).await;
        });
    }
}

/// A server with tight bounds. No bound is left to a default: hyper's defaults are not stable. `level`: a connection that
/// begins while memory is short gets a smaller window.
pub fn builder(bounds: &Bounds, level: Level, stop: &Rc<Stop>) -> http2::Builder<Local> {
    let mut builder = http2::Builder::new(Local(stop.clone()));
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(bounds.max_head)
        .max_frame_size(16 << 10)
        // An unread stream holds at most its window; all streams of a connection hold at most the connection's.
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(if level == Level::Easy { CONNECTION_WINDOW } else { STREAM_WINDOW })
        .max_send_buf_size(64 << 10)
        // Bounds streams that a client resets before they are looked at (CVE-2023-44487), or makes this side reset (CVE-2025-8671).
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(100)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    builder
}

const MAX_STREAMS: u32 = 100;
const STREAM_WINDOW: u32 = 64 << 10;
/// Four streams at full speed. A client can make a connection hold 256 KiB: ten thousand such connections are 2.5 GiB, and
/// `memory_limit` notices them in time.
const CONNECTION_WINDOW: u32 = 4 * STREAM_WINDOW;
/// A client that does not answer a ping within this time is gone.
const PING: Duration = Duration::from_secs(20);

/// Gives the fields their HTTP/1.1 form: one Cookie line (RFC 9113 section 8.2.3), `Host` only beside an equal `:authority`.
pub fn flatten(uri: &Uri, headers: &mut Fields) -> Result<(), Reject> {
    let crumbs: Vec<&[u8]> = headers.all(Id::Cookie).map(Value::as_bytes).collect();
    if crumbs.len() > 1 {
        let cookie = crumbs.join(&b"; "[..]);
        headers.insert(Id::Cookie, cookie);
    }
    match (uri.authority(), headers.get(Id::Host)) {
        (Some(authority), Some(host)) if !authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes()) => {
            Err(Reject::BadRequest("Host differs from :authority".into()))
        }
        (None, None) => Err(Reject::BadRequest("neither :authority nor Host".into())),
        _ => Ok(()),
    }
}

/// An answer as hyper sends it. HTTP/2 has no reason phrase.
pub fn response<B>(response: Response<B>) -> http::Response<B> {
    let (head, body) = response.into_parts();
    let mut response = http::Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = HeaderMap::from(&head.headers);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crumbs_become_one_line_and_host_must_agree() {
        let mut headers = Fields::new();
        for crumb in ["a=1", "b=2", "c=3"] {
            headers.append(Id::Cookie, crumb);
        }
        let uri = Uri::from_static("http://a.example/");
        assert!(flatten(&uri, &mut headers).is_ok());
        assert_eq!(headers.all(Id::Cookie).collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
        headers.insert(Id::Host, "A.example");
        assert!(flatten(&uri, &mut headers).is_ok());
        headers.insert(Id::Host, "b.example");
        assert!(flatten(&uri, &mut headers).is_err());
        assert!(flatten(&Uri::from_static("/"), &mut Fields::new()).is_err());
    }
}
