//! The pages: path, method, listener, and the answer.

mod edits;
mod ledger;
mod limits;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::{
    About, Action, Entrance, MAX_BODY, Purge, READ, Refused, Shared, View, VisitEnd,
    access::{self, Visitor},
    live::Body,
    page, scrape,
};
use crate::config::Role;

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
    /// What the visitor may do.
    WhoAmI,
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
    PlanConfig,
    ApplyConfig,
    RollBack,
    Erase,
    Snapshot,
    Restore,
    ResetLimit,
    RaiseLimit,
    Approve {
        id: String,
        yes: bool,
    },
    LiftBan(String),
    TestAlert(String),
}

/// Every page with its method; the answer to an unknown path lists them.
const LIST: [(&str, &str); 46] = [
    ("GET", "/live"),
    ("GET", "/ready"),
    ("GET", "/metrics"),
    ("GET", "/"),
    ("GET", "/api"),
    ("GET", "/api/live"),
    ("GET", "/health"),
    ("GET", "/api/health"),
    ("GET", "/api/whoami"),
    ("GET", "/api/config"),
    ("GET", "/api/config/history"),
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
    ("GET", "/api/observed?since=1h"),
    ("GET", "/api/approvals"),
    ("GET", "/api/bans"),
    ("GET", "/api/alerts"),
    ("GET", "/api/monitors"),
    ("POST", "/api/reload"),
    ("POST", "/api/config/plan"),
    ("POST", "/api/config/apply"),
    ("POST", "/api/config/rollback"),
    ("POST", "/api/drain"),
    ("POST", "/api/cache/purge"),
    ("POST", "/api/cache/warm"),
    ("POST", "/api/breakers/{name}/open"),
    ("POST", "/api/breakers/{name}/close"),
    ("POST", "/api/limits/reset"),
    ("POST", "/api/limits/raise"),
    ("POST", "/api/ledger/erase"),
    ("POST", "/api/ledger/snapshot"),
    ("POST", "/api/ledger/restore"),
    ("POST", "/api/alerts/{channel}/test"),
    ("POST", "/api/bans/{who}/lift"),
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
            "/api/whoami" => Self::WhoAmI,
            "/api/config" => Self::View(View::Config),
            "/api/config/history" => Self::Ask(About::History),
            "/api/config/plan" => Self::PlanConfig,
            "/api/config/apply" => Self::ApplyConfig,
            "/api/config/rollback" => Self::RollBack,
            "/api/routes" => Self::View(View::Routes),
            "/api/routes/terms" => Self::View(View::Terms),
            "/api/limits" => Self::View(View::Limits),
            "/api/limits/reset" => Self::ResetLimit,
            "/api/limits/raise" => Self::RaiseLimit,
            "/api/breakers" => Self::View(View::Breakers),
            "/api/targets" => Self::View(View::Targets),
            "/api/cache" => Self::View(View::Cache),
            "/api/cache/top" => Self::Top,
            "/api/connections" => Self::View(View::Connections),
            "/api/spend" => Self::View(View::Spend),
            "/api/ledger" => Self::View(View::Ledger),
            "/api/usage" => Self::Ask(About::Usage),
            "/api/errors" => Self::Ask(About::Errors),
            "/api/observed" => Self::Ask(About::Observed),
            "/api/ledger/erase" => Self::Erase,
            "/api/ledger/snapshot" => Self::Snapshot,
            "/api/ledger/restore" => Self::Restore,
            "/api/approvals" => Self::View(View::Approvals),
            "/api/bans" => Self::View(View::Bans),
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
            _ if path.starts_with("/api/bans/") => Self::LiftBan(named(path.strip_prefix("/api/bans/")?.strip_suffix("/lift")?)?),
            _ if path.starts_with("/api/alerts/") => Self::TestAlert(named(path.strip_prefix("/api/alerts/")?.strip_suffix("/test")?)?),
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
    fn is_confidential(&self) -> bool {
        matches!(self, Self::View(View::Config | View::Terms) | Self::Ask(About::History))
    }

    /// Whether the page is not for strangers of a network: a story of a failure tells who asked for what. On this machine it is shown as
    /// other pages are.
    fn tells_a_network(&self, entrance: Entrance) -> bool {
        matches!(self, Self::Ask(About::Errors | About::Observed)) && entrance.is_of_a_network()
    }

    /// What a visitor must be allowed to; `None`: everybody may.
    fn needs(&self) -> Option<Role> {
        match self {
            // The probes listener shows the first three to everybody; the others say how to come in.
            Self::Live | Self::Ready | Self::Metrics | Self::Api | Self::WhoAmI => None,
            page if page.changes() || page.is_confidential() => Some(Role::Operate),
            _ => Some(Role::Read),
        }
    }

    fn changes(&self) -> bool {
        let changes_ledger = matches!(self, Self::Erase | Self::Snapshot | Self::Restore);
        let operates = matches!(self, Self::Reload | Self::Drain | Self::Purge | Self::Warm | Self::ResetLimit | Self::RaiseLimit);
        let edits = matches!(self, Self::PlanConfig | Self::ApplyConfig | Self::RollBack);
        changes_ledger
            || operates
            || edits
            || matches!(self, Self::OpenBreaker(_) | Self::CloseBreaker(_) | Self::Approve { .. } | Self::LiftBan(_) | Self::TestAlert(_))
    }
}

/// A name in a path; `None`: it is empty, or no text.
fn named(part: &str) -> Option<String> {
    let name = percent_encoding::percent_decode_str(part).decode_utf8().ok()?.into_owned();
    Some(name).filter(|name| !name.is_empty())
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
            "/api/live" => {
                let visitor = visitor(request.headers(), entrance, shared);
                return match visitor.may(Role::Read) {
                    true => shared.hub.answer(request.headers()),
                    false => forbidden(shared, &visitor, Role::Read, "this page is shown").map(BodyExt::boxed_unsync),
                };
            }
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
    let visitor = visitor(request.headers(), entrance, shared);
    if let Some(role) = page.needs()
        && (!visitor.may(role) || page.tells_a_network(entrance) && visitor.name.is_none())
    {
        let what = match page {
            _ if page.changes() => "changes are made",
            _ if page.is_confidential() => "the configuration is shown",
            Page::Ask(About::Errors | About::Observed) => "the stories of failures are shown",
            _ => "this page is shown",
        };
        shared.operator.asked(visitor.who(), request.uri().path(), VisitEnd::Forbidden);
        return forbidden(shared, &visitor, role, what);
    }
    let operator = &shared.operator;
    if page.is_confidential() {
        operator.asked(visitor.who(), request.uri().path(), VisitEnd::Shown);
    }
    let action = match page {
        Page::Live => return json_answer(StatusCode::OK, &json!({"status": "live"})),
        Page::Ready => {
            return match operator.ready() {
                Ok(()) => json_answer(StatusCode::OK, &json!({"status": "ready"})),
                Err(reason) => json_answer(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": "not_ready", "reason": reason})),
            };
        }
        Page::WhoAmI => return json_answer(StatusCode::OK, &who_am_i(&visitor, entrance, shared)),
        Page::Metrics => {
            let form = scrape::form(request.headers());
            return respond(scrape::content_type(form), operator.metrics(form));
        }
        Page::Health => {
            let (status, body) = operator.health().answer();
            return json_answer(status, &body);
        }
        Page::Api => {
            let role = visitor.role.map(Role::as_str);
            let mut pages = list(entrance);
            // The page asks for what it finds here: the configuration is named to everybody, so that it can be signed in for.
            pages.retain(|page| {
                visitor.name.is_some() || !entrance.is_of_a_network() || !page.contains("/api/errors") && !page.contains("/api/observed")
            });
            return json_answer(StatusCode::OK, &json!({"name": visitor.name, "role": role, "pages": pages}));
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
        Page::ResetLimit | Page::RaiseLimit => match body(request).await.map(|body| limits::action(&page, &body)) {
            Ok(Ok(action)) => action,
            Ok(Err(why)) => return problem(StatusCode::BAD_REQUEST, &why),
            Err(response) => return response,
        },
        Page::PlanConfig | Page::ApplyConfig | Page::RollBack => {
            match body(request).await.map(|body| edits::action(&page, &body, visitor.who())) {
                Ok(Ok(action)) => action,
                Ok(Err(why)) => return problem(StatusCode::BAD_REQUEST, &why),
                Err(response) => return response,
            }
        }
        Page::Approve { id, yes } => Action::Approve { id, yes },
        Page::LiftBan(who) => Action::LiftBan(who),
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
    let is_question = matches!(action, Action::Plan(_));
    let done = operator.act(action).await;
    match &done {
        _ if is_question => {}
        Ok(_) => {
            operator.asked(visitor.who(), &about, VisitEnd::Done);
            tracing::info!(action = about, who = visitor.who(), "done through the admin door");
        }
        Err(_) => {
            operator.asked(visitor.who(), &about, VisitEnd::Refused);
            tracing::info!(action = about, who = visitor.who(), "refused at the admin door");
        }
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

/// Who asks. The socket is its user's alone: the door takes the user's word.
fn visitor(headers: &HeaderMap, entrance: Entrance, shared: &Shared) -> Visitor {
    match entrance {
        Entrance::Socket(uid) => {
            let name = uid.map_or_else(|| "socket".into(), |uid| format!("socket (user {uid})").into());
            Visitor { name: Some(name), role: Some(Role::Operate) }
        }
        Entrance::Admin(_) | Entrance::Probes => shared.settings.tokens.visitor(headers),
    }
}

fn who_am_i(visitor: &Visitor, entrance: Entrance, shared: &Shared) -> Value {
    json!({
        "name": visitor.name, "role": visitor.role.map(Role::as_str), "can_change": visitor.may(Role::Operate),
        "over": if matches!(entrance, Entrance::Socket(_)) { "socket" } else { "tcp" },
        "reading_needs_token": shared.settings.tokens.guard_reading(),
    })
}

fn forbidden(shared: &Shared, visitor: &Visitor, role: Role, what: &str) -> Response<Full<Bytes>> {
    let socket = match &shared.settings.socket {
        Some(path) => format!("over the socket {}", path.display()),
        None => "over admin.socket, which there is none of".to_owned(),
    };
    let token = match (&visitor.name, role) {
        (Some(name), _) => format!("with a token of the role `operate`; `{name}` may only look"),
        (None, Role::Read) if shared.settings.tokens.any(Role::Read) => {
            "with `Authorization: Bearer TOKEN`, a token of admin.tokens; the request had none, or another".to_owned()
        }
        (None, Role::Operate) if shared.settings.tokens.any(role) => {
            "with `Authorization: Bearer <admin.token>`; the request had none, or another".to_owned()
        }
        (None, _) => "with a bearer token, once admin.token (OUTRIGGER_ADMIN_TOKEN) is set".to_owned(),
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

fn respond(content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
