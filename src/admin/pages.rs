//! The pages: path, method, listener, and the answer.

mod ledger;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::{About, Action, Entrance, MAX_BODY, Purge, READ, Refused, Shared, View, access, live::Body, page};

/// The page at a path.
enum Page {
    Health,
    /// What there is, and what the asker may do.
    Api,
    /// As [`Page::Health`], with 200 whatever it says: a browser takes another status for a fault of the page that asks.
    HealthShown,
    Live,
    Ready,
    Metrics,
    View(View),
    /// The question comes from the query.
    Ask(About),
    /// The order comes from the query.
    Top,
    Reload,
    Drain,
    Purge,
    Warm,
    OpenBreaker(String),
    CloseBreaker(String),
    Erase,
    Snapshot,
    Restore,
    Approve {
        id: String,
        yes: bool,
    },
    TestAlert(String),
}

/// Every page with its method; the answer to an unknown path lists them.
const LIST: [(&str, &str); 36] = [
    ("GET", "/live"),
    ("GET", "/ready"),
    ("GET", "/metrics"),
    ("GET", "/"),
    ("GET", "/api"),
    ("GET", "/api/live"),
    ("GET", "/health"),
    ("GET", "/api/health"),
    ("GET", "/api/config"),
    ("GET", "/api/routes"),
    ("GET", "/api/routes/terms"),
    ("GET", "/api/limits"),
    ("GET", "/api/breakers"),
    ("GET", "/api/targets"),
    ("GET", "/api/cache"),
    ("GET", "/api/cache/top?by=time"),
    ("GET", "/api/connections"),
    ("GET", "/api/spend"),
    ("GET", "/api/ledger"),
    ("GET", "/api/usage?by=caller&from=24h"),
    ("GET", "/api/errors?since=15m"),
    ("GET", "/api/approvals"),
    ("GET", "/api/alerts"),
    ("GET", "/api/monitors"),
    ("POST", "/api/reload"),
    ("POST", "/api/drain"),
    ("POST", "/api/cache/purge"),
    ("POST", "/api/cache/warm"),
    ("POST", "/api/breakers/{name}/open"),
    ("POST", "/api/breakers/{name}/close"),
    ("POST", "/api/ledger/erase"),
    ("POST", "/api/ledger/snapshot"),
    ("POST", "/api/ledger/restore"),
    ("POST", "/api/alerts/{channel}/test"),
    ("POST", "/api/approvals/{id}"),
    ("POST", "/api/approvals/{id}/decline"),
];

/// The orders of the keys that save most.
pub(super) const TOP_BY: [&str; 4] = ["time", "usd", "requests", "tokens"];

/// The probes listener has only this many pages, the first of [`LIST`].
const PROBES: usize = 3;

impl Page {
    fn at(path: &str, entrance: Entrance) -> Option<Self> {
        Some(match path {
            "/live" => Self::Live,
            "/ready" => Self::Ready,
            "/metrics" => Self::Metrics,
            _ if entrance == Entrance::Probes => return None,
            "/health" => Self::Health,
            "/api/health" => Self::HealthShown,
            "/api" => Self::Api,
            "/api/config" => Self::View(View::Config),
            "/api/routes" => Self::View(View::Routes),
            "/api/routes/terms" => Self::View(View::Terms),
            "/api/limits" => Self::View(View::Limits),
            "/api/breakers" => Self::View(View::Breakers),
            "/api/targets" => Self::View(View::Targets),
            "/api/cache" => Self::View(View::Cache),
            "/api/cache/top" => Self::Top,
            "/api/connections" => Self::View(View::Connections),
            "/api/spend" => Self::View(View::Spend),
            "/api/ledger" => Self::View(View::Ledger),
            "/api/usage" => Self::Ask(About::Usage),
            "/api/errors" => Self::Ask(About::Errors),
            "/api/ledger/erase" => Self::Erase,
            "/api/ledger/snapshot" => Self::Snapshot,
            "/api/ledger/restore" => Self::Restore,
            "/api/approvals" => Self::View(View::Approvals),
            "/api/monitors" => Self::View(View::Monitors),
            "/api/alerts" => Self::View(View::Alerts),
            "/api/reload" => Self::Reload,
            "/api/drain" => Self::Drain,
            "/api/cache/purge" => Self::Purge,
            "/api/cache/warm" => Self::Warm,
            _ if path.starts_with("/api/approvals/") => {
                let rest = path.strip_prefix("/api/approvals/")?;
                let (id, yes) = rest.strip_suffix("/decline").map_or((rest, true), |id| (id, false));
                if id.is_empty() || id.contains('/') {
                    return None;
                }
                Self::Approve { id: id.to_owned(), yes }
            }
            _ if path.starts_with("/api/alerts/") => {
                let name = path.strip_prefix("/api/alerts/")?.strip_suffix("/test")?;
                let name = percent_encoding::percent_decode_str(name).decode_utf8().ok()?.into_owned();
                Self::TestAlert(Some(name).filter(|name| !name.is_empty())?)
            }
            _ => {
                // a target's name may hold slashes
                let (name, verb) = path.strip_prefix("/api/breakers/")?.rsplit_once('/')?;
                let name = percent_encoding::percent_decode_str(name).decode_utf8().ok()?.into_owned();
                match verb {
                    "open" if !name.is_empty() => Self::OpenBreaker(name),
                    "close" if !name.is_empty() => Self::CloseBreaker(name),
                    _ => return None,
                }
            }
        })
    }

    /// Whether the page shows facts that not every user of this machine should see: places of secrets, other services, access rules.
    fn is_confidential(&self, entrance: Entrance) -> bool {
        // A story of a failure tells who asked for what. It is for this machine alone.
        let tells_a_network = matches!(self, Self::Ask(About::Errors)) && entrance.is_of_a_network();
        tells_a_network || matches!(self, Self::View(View::Config | View::Terms))
    }

    fn changes(&self) -> bool {
        let changes_ledger = matches!(self, Self::Erase | Self::Snapshot | Self::Restore);
        let operates = matches!(self, Self::Reload | Self::Drain | Self::Purge | Self::Warm);
        changes_ledger
            || operates
            || matches!(self, Self::OpenBreaker(_) | Self::CloseBreaker(_) | Self::Approve { .. } | Self::TestAlert(_))
    }
}

/// Answers one request.
pub(super) async fn answer(request: Request<Incoming>, entrance: Entrance, shared: &Shared) -> Response<Body> {
    if let Entrance::Admin(came_to) = entrance
        && !access::believes_host(request.headers(), came_to)
    {
        let why = "the Host header names another host; use localhost, 127.0.0.1 or the listener's own address";
        return problem(StatusCode::MISDIRECTED_REQUEST, why).map(BodyExt::boxed_unsync);
    }
    if matches!(entrance, Entrance::Admin(_)) && access::is_for_another_site(request.headers(), request.uri().path()) {
        let why = "a page of another site made the browser ask; the door answers its own page (Sec-Fetch-Site)";
        let mut response = problem(StatusCode::FORBIDDEN, why).map(BodyExt::boxed_unsync);
        // Each name of a page has connections of its own: they must not hold the door's.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        return response;
    }
    if entrance != Entrance::Probes && request.method() == Method::GET {
        match request.uri().path() {
            "/" => return page::answer(request.headers()),
            "/api/live" => return shared.hub.answer(request.headers()),
            _ => {}
        }
    }
    settled(request, entrance, shared).await.map(BodyExt::boxed_unsync)
}

/// Answers a request whose answer is there at once.
async fn settled(request: Request<Incoming>, entrance: Entrance, shared: &Shared) -> Response<Full<Bytes>> {
    let Some(page) = Page::at(request.uri().path(), entrance) else {
        return not_found(entrance);
    };
    let allowed: &[Method] = if page.changes() { &[Method::POST] } else { &[Method::GET, Method::HEAD] };
    if !allowed.contains(request.method()) {
        let allow = if page.changes() { "POST" } else { "GET, HEAD" };
        let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, &format!("this page answers {allow}"));
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
        return response;
    }
    let operates = entrance == Entrance::Socket || access::has_token(request.headers(), &shared.settings);
    let is_open = !page.changes() && !page.is_confidential(entrance);
    if !is_open && !operates {
        let what = match page {
            _ if page.changes() => "changes are made",
            Page::Ask(About::Errors) => "the stories of failures are shown",
            _ => "the configuration is shown",
        };
        return forbidden(shared, what);
    }
    let operator = &shared.operator;
    let action = match page {
        Page::Live => return json_answer(StatusCode::OK, &json!({"status": "live"})),
        Page::Ready => {
            return match operator.ready() {
                Ok(()) => json_answer(StatusCode::OK, &json!({"status": "ready"})),
                Err(reason) => json_answer(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": "not_ready", "reason": reason})),
            };
        }
        Page::Metrics => return text(operator.metrics()),
        Page::Health => {
            let (status, body) = operator.health().answer();
            return json_answer(status, &body);
        }
        Page::Api => {
            let role = if operates { "operate" } else { "read" };
            let mut pages = list(entrance);
            // The page asks for what it finds here: the configuration is named to everybody, so that it can be signed in for.
            pages.retain(|page| operates || !entrance.is_of_a_network() || !page.contains("/api/errors"));
            return json_answer(StatusCode::OK, &json!({"role": role, "pages": pages}));
        }
        Page::HealthShown => return json_answer(StatusCode::OK, &operator.health().answer().1),
        Page::Top => {
            let by = request.uri().query().map_or(Some(TOP_BY[0]), |query| {
                let by = query.strip_prefix("by=")?;
                TOP_BY.into_iter().find(|word| *word == by)
            });
            return match by {
                Some(by) => json_answer(StatusCode::OK, &operator.view(View::CacheTop(by))),
                None => problem(StatusCode::BAD_REQUEST, "say by what: ?by=time, ?by=usd, ?by=requests or ?by=tokens"),
            };
        }
        Page::View(view) => return json_answer(StatusCode::OK, &operator.view(view)),
        Page::Ask(about) => {
            return match operator.ask(about, ledger::words(request.uri().query().unwrap_or_default())).await {
                Ok(answer) => json_answer(StatusCode::OK, &answer),
                Err(why) => refused(why),
            };
        }
        Page::Reload => Action::Reload,
        Page::Drain => Action::Drain,
        Page::OpenBreaker(name) => Action::OpenBreaker(name),
        Page::CloseBreaker(name) => Action::CloseBreaker(name),
        Page::Erase | Page::Snapshot | Page::Restore => match body(request).await.map(|body| ledger::action(&page, &body)) {
            Ok(Ok(action)) => action,
            Ok(Err(why)) => return problem(StatusCode::BAD_REQUEST, why),
            Err(response) => return response,
        },
        Page::Approve { id, yes } => Action::Approve { id, yes },
        Page::TestAlert(name) => Action::TestAlert(name),
        Page::Purge => match purge(request).await {
            Ok((which, soft)) => Action::Purge { which, soft },
            Err(response) => return response,
        },
        Page::Warm => match warm(request).await {
            Ok(paths) => Action::Warm(paths),
            Err(response) => return response,
        },
    };
    let about = format!("{action:?}");
    let done = operator.act(action).await;
    match &done {
        Ok(_) => tracing::info!(action = about, "done through the admin door"),
        Err(_) => tracing::info!(action = about, "refused at the admin door"),
    }
    match done {
        Ok(done) => json_answer(StatusCode::OK, &done),
        Err(why) => refused(why),
    }
}

fn refused(why: Refused) -> Response<Full<Bytes>> {
    match why {
        Refused::NotFound(why) => problem(StatusCode::NOT_FOUND, &why),
        Refused::Conflict(why) => problem(StatusCode::CONFLICT, &why),
        Refused::Unclear(why) => problem(StatusCode::BAD_REQUEST, &why),
        Refused::Invalid(mistakes) => {
            let error: Vec<&str> = mistakes.iter().map(|mistake| &*mistake.message).collect();
            let mistakes: Vec<Value> = mistakes.iter().map(|mistake| mistake.to_json(None)).collect();
            json_answer(StatusCode::UNPROCESSABLE_ENTITY, &json!({"error": error.join("\n"), "mistakes": mistakes}))
        }
        Refused::File(mistakes) => json_answer(StatusCode::UNPROCESSABLE_ENTITY, &mistakes.to_json()),
    }
}

async fn body(request: Request<Incoming>) -> Result<Bytes, Response<Full<Bytes>>> {
    match tokio::time::timeout(READ, Limited::new(request.into_body(), MAX_BODY).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        _ => Err(problem(StatusCode::BAD_REQUEST, "the body is too large, came too slowly or broke off")),
    }
}

/// The paths in the body; an empty body names none.
async fn warm(request: Request<Incoming>) -> Result<Vec<String>, Response<Full<Bytes>>> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Named {
        paths: Vec<String>,
    }
    let body = body(request).await?;
    if body.is_empty() {
        return Ok(Vec::new());
    }
    let named = serde_json::from_slice(&body).map(|Named { paths }| paths);
    named.map_err(|_| {
        problem(
            StatusCode::BAD_REQUEST,
            r#"say which paths: {"paths": ["/", "/products?page=1"]}; an empty body means those of the configuration"#,
        )
    })
}

async fn purge(request: Request<Incoming>) -> Result<(Purge, bool), Response<Full<Bytes>>> {
    which(&body(request).await?).ok_or_else(|| {
        let why = r#"say which entries: {"tag": ".."}, {"key": ".."}, {"route": ".."}, {"prefix": "/.."} or {"all": true}; with "soft": true they are marked stale"#;
        problem(StatusCode::BAD_REQUEST, why)
    })
}

/// Reads exactly one choice of entries, and perhaps `soft`.
fn which(body: &[u8]) -> Option<(Purge, bool)> {
    let mut said: serde_json::Map<String, Value> = serde_json::from_slice(body).ok()?;
    let soft = said.remove("soft").map_or(Some(false), |soft| soft.as_bool())?;
    let which = serde_json::from_value(Value::Object(said)).ok()?;
    (which != Purge::All(false)).then_some((which, soft))
}

fn not_found(entrance: Entrance) -> Response<Full<Bytes>> {
    json_answer(StatusCode::NOT_FOUND, &json!({"error": "there is no such page", "pages": list(entrance)}))
}

fn list(entrance: Entrance) -> Vec<String> {
    let list = if entrance == Entrance::Probes { &LIST[..PROBES] } else { &LIST[..] };
    list.iter().map(|(method, path)| format!("{method} {path}")).collect()
}

fn forbidden(shared: &Shared, what: &str) -> Response<Full<Bytes>> {
    let socket = match &shared.settings.socket {
        Some(path) => format!("over the socket {}", path.display()),
        None => "over admin.socket, which there is none of".to_owned(),
    };
    let token = match &shared.settings.token {
        Some(_) => "with `Authorization: Bearer <admin.token>`; the request had none, or another".to_owned(),
        None => "with a bearer token, once admin.token (OUTRIGGER_ADMIN_TOKEN) is set".to_owned(),
    };
    problem(StatusCode::FORBIDDEN, &format!("{what} {socket}, or {token}"))
}

fn problem(status: StatusCode, why: &str) -> Response<Full<Bytes>> {
    json_answer(status, &json!({"error": why}))
}

fn json_answer(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = respond("application/json", format!("{body:#}\n"));
    *response.status_mut() = status;
    response
}

fn text(body: String) -> Response<Full<Bytes>> {
    respond("text/plain; version=0.0.4; charset=utf-8", body)
}

fn respond(content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
