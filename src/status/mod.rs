//! The public status page: one HTML page without a script, its JSON and badges, on a listener of its own or below a path of the inbound
//! door.
//!
//! Everything is rendered ahead ([`Site`]) and served from memory: the page answers while the app is down, and costs the proxy nothing
//! but bytes. It shows names, states, times and figures; no address, no reason and no caller.

mod badge;
mod page;

use std::{collections::BTreeMap, convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore};

pub use page::{Row, render};

/// Most connections at once; further ones wait in the backlog.
const CONNECTIONS: usize = 256;
/// Time for a request's head.
const READ: Duration = Duration::from_secs(10);

/// All that is served, by path.
#[derive(Debug, Default)]
pub struct Site(BTreeMap<String, Page>);

/// One answer.
#[derive(Debug)]
struct Page {
    kind: &'static str,
    body: Bytes,
    etag: HeaderValue,
}

impl Site {
    /// Adds an answer at a path.
    pub fn put(&mut self, path: impl Into<String>, kind: &'static str, body: String) {
        let hash = blake3::hash(body.as_bytes()).to_hex();
        let etag = HeaderValue::try_from(format!("\"{}\"", &hash[..24])).unwrap_or(HeaderValue::from_static("\"-\""));
        self.0.insert(path.into(), Page { kind, body: Bytes::from(body), etag });
    }

    /// Answers one request. `path` is below the page's own: `/` is the page.
    pub fn answer(&self, method: &Method, path: &str, if_none_match: Option<&str>) -> Response<Full<Bytes>> {
        if method != Method::GET && method != Method::HEAD {
            let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD");
            refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        let Some(page) = self.0.get(path) else { return plain(StatusCode::NOT_FOUND, "there is no such page") };
        let known = if_none_match.is_some_and(|all| {
            let own = page.etag.to_str().unwrap_or_default();
            all.split(',').any(|one| one.trim() == "*" || one.trim().trim_start_matches("W/") == own)
        });
        let mut answer = match known {
            true => Response::new(Full::default()),
            false => Response::new(Full::new(page.body.clone())),
        };
        if known {
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let fields = answer.headers_mut();
        fields.insert(header::ETAG, page.etag.clone());
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=10, stale-if-error=86400"));
        fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if !known {
            fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(page.kind));
            fields.insert(header::CONTENT_SECURITY_POLICY, page::POLICY.clone());
        }
        answer
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

/// Serves `site` until the process ends. The listener is bound by the caller.
pub async fn serve(listener: TcpListener, site: Arc<ArcSwap<Site>>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let tcp = match listener.accept().await {
            Ok((tcp, _)) => tcp,
            Err(error) => {
                // Most likely no descriptor is left: an immediate retry would only burn CPU.
                tracing::warn!(%error, "the status page cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let site = site.clone();
        tokio::spawn(async move {
            let answer = service_fn(|request: Request<Incoming>| {
                let site = site.load();
                let known = request.headers().get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
                let answer = site.answer(request.method(), request.uri().path(), known);
                async move { Ok::<_, Infallible>(answer) }
            });
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(READ).max_buf_size(16 * 1024);
            if let Err(error) = server.serve_connection(TokioIo::new(tcp), answer).await {
                tracing::debug!(%error, "a connection to the status page broke");
            }
            drop(permit);
        });
    }
}

/// Binds the page's listener.
///
/// # Errors
/// The address cannot be listened on.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_validated_by_its_tag_and_nothing_else_is_there() {
        let mut site = Site::default();
        site.put("/", "text/html; charset=utf-8", "<p>up".into());
        let get = |path: &str, tag: Option<&str>| site.answer(&Method::GET, path, tag);
        let whole = get("/", None);
        let tag = whole.headers()[header::ETAG].to_str().expect("text");
        assert!(whole.headers()[header::CONTENT_SECURITY_POLICY].to_str().is_ok_and(|policy| policy.starts_with("default-src 'none'")));
        assert_eq!(get("/", Some(tag)).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(get("/", Some("\"other\"")).status(), StatusCode::OK);
        assert_eq!(get("/admin", None).status(), StatusCode::NOT_FOUND);
        assert_eq!(site.answer(&Method::POST, "/", None).status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
