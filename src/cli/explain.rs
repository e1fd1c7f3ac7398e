//! `outrigger explain METHOD URL`: the route of a request, the policies that apply with their numbers, and the cache key part
//! by part. No request is sent: the file and the arguments are enough.

mod given;
mod refusal;
mod target;
mod understood;
mod which;
mod who;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use http::{HeaderName, HeaderValue, Method, Version};
use serde::Serialize;

use self::{
    given::{body, door, field},
    understood::Understood,
};
use super::said::{Failure, Said};
use crate::{
    app::terms::{Applied, applied},
    arrival::{Arrival, Door, PeerText},
    clock::Instant,
    config::{
        Config, Limit, Policies, Route,
        read::{self, Overrides},
    },
    http1::{Fields, Id},
    listen::client,
    policy::cache::{CacheQuery, directives::RequestDirectives, graphql::Persisted, key, plan},
    policy::cors,
    proxy::{
        cache_key::{Asked, KeyParts},
        cached::asked_ttl,
        declared::{self, Declared},
        gate, privacy,
    },
    reject::Reject,
    route::{Precedence, Query, Table, why_not},
};

/// What `explain` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct ExplainArgs {
    /// The configuration file.
    #[arg(long, short, env = "OUTRIGGER_CONFIG", default_value = "proxy.yaml")]
    pub config: PathBuf,
    /// GET, POST ...
    pub method: Method,
    /// As the client writes it: `http://127.0.0.1:8081/openai/v1/chat/completions`, or a path alone.
    pub url: String,
    /// A request field, `name: value`; may be repeated.
    #[arg(long = "header", short = 'H', value_parser = field)]
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The request's body; `@file` reads a file, `@-` standard input.
    #[arg(long, short)]
    pub data: Option<String>,
    /// The door, where the URL does not tell: its port, or a first path segment that is a provider's name.
    #[arg(long, value_parser = door)]
    pub door: Option<Door>,
    /// The address that the request comes from.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub from: IpAddr,
}

/// Explains with the environment of this process.
///
/// # Errors
/// The file has mistakes, the body cannot be read, or the proxy would refuse the request before any route.
pub fn said(args: &ExplainArgs) -> Result<Said, Failure> {
    let config = read::load(&args.config, &Overrides::default(), &|name| std::env::var(name).ok())?;
    let explained = explain(args, &body(args.data.as_deref())?, &config)?;
    let json = serde_json::to_value(&explained).map_err(|error| error.to_string())?;
    Ok(Said::new(json, explained.to_string()))
}

/// The proxy's treatment of a request.
#[derive(Debug, Serialize)]
pub struct Explained {
    request: String,
    door: &'static str,
    door_because: String,
    target: String,
    /// The addresses of the target, if there are several.
    members: Option<String>,
    client: String,
    caller: Option<String>,
    call: Option<Call>,
    route: String,
    candidates: Vec<Candidate>,
    policies: Vec<Applied>,
    /// The refusal that the proxy would answer, whatever the other fields say.
    refused: Option<String>,
    #[serde(flatten)]
    key: CacheKey,
}

/// The model call in a request of the outbound door.
#[derive(Debug, Serialize)]
struct Call {
    provider: String,
    /// Why it is that provider, if the path names none.
    chosen: Option<String>,
    /// The places that follow where it fails, of the model's name.
    then: Vec<String>,
    api: String,
    operation: &'static str,
    /// How the provider bills it.
    billed: String,
    model: Option<String>,
    stream: bool,
    estimated_input_tokens: Option<u64>,
    /// The bound in the request.
    max_output_tokens: Option<u64>,
    /// The number that limits reserve.
    expected_output_tokens: Option<u64>,
    /// The dollars that limits reserve for this call, exact.
    price_usd: Option<String>,
    /// The cost at the rates of a call of this size.
    price: Option<String>,
}

/// A route that was looked at.
#[derive(Debug, Serialize)]
struct Candidate {
    route: String,
    answers: bool,
    because: String,
}

/// The cache key, or the reason why there is none.
#[derive(Debug, Default, Serialize)]
struct CacheKey {
    cache_key: Option<String>,
    cache_key_parts: Vec<(String, String)>,
    /// Why there is no key, or why it cannot be shown.
    cache_key_note: Option<String>,
}

/// The parts of a configuration that apply to a door's requests.
struct Place<'a> {
    routes: &'a [Route],
    fallthrough: &'a Policies,
    limits: &'a [Limit],
    listen: SocketAddr,
}

/// Explains one request.
///
/// # Errors
/// In words: the door is not open, the URL is not valid, no provider has that name, or the path matches two routes.
pub fn explain(args: &ExplainArgs, body: &[u8], config: &Config) -> Result<Explained, String> {
    let url = refusal::url(&args.url)?;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let (door, door_because) = which::door(args, &url, path, config)?;
    let place = place(door, config)?;
    let mut headers: Fields = args.headers.iter().cloned().collect();
    let host = url.authority().map_or_else(|| format!("localhost:{}", place.listen.port()), |authority| authority.as_str().to_owned());
    headers.add_missing(Id::Host, host);
    let peer = SocketAddr::new(args.from, 0);
    let trusted_nets = config.inbound.as_ref().filter(|_| door == Door::Inbound).map_or(&[][..], |inbound| &inbound.trusted_proxies);
    let (client, trusted) = client::address(peer, &headers, trusted_nets);
    let arrival = Arrival {
        door,
        peer,
        peer_text: PeerText::new(peer),
        tls: false,
        certificate: None,
        client,
        trusted,
        method: args.method.clone(),
        uri: path.parse().map_err(|error| format!("`{path}` is not a path: {error}"))?,
        version: Version::HTTP_11,
        headers,
        at: Instant::now(),
        interim: None,
    };
    refusal::before_route(&arrival, config).map_err(refused)?;
    let understood = if door == Door::Outbound { Some(Understood::of(&arrival, body, config)?) } else { None };
    // The provider's own name for the model stands in what is sent.
    let body = understood.as_ref().and_then(|call| call.renamed.as_deref()).unwrap_or(body);
    let query = Query {
        path: understood.as_ref().map_or(arrival.path(), |call| call.rest.split('?').next().unwrap_or_default()),
        method: &arrival.method,
        host: arrival.host(),
        headers: &arrival.headers,
        provider: understood.as_ref().map(|call| &*call.provider),
        operation: understood.as_ref().map(|call| call.shape.operation),
        model: understood.as_ref().and_then(|call| call.model.as_deref()),
    };
    let table = Table::new(place.routes.iter().enumerate().map(|(at, route)| (route.matches.clone(), at)));
    let asks_pages = |at: &Option<&usize>| at.map_or(place.fallthrough, |at| &place.routes[*at].policies).cors.is_some();
    let by = |method: &Method| table.find_unambiguous(&Query { method, ..query });
    let speaker = if door == Door::Inbound { gate::of_preflight(&arrival, by, asks_pages).map_err(refused)? } else { None };
    // The method of the request behind a preflight, if its route answers the preflight.
    let behind = speaker.filter(|at| gate::answers(at.map_or(place.fallthrough, |at| &place.routes[*at].policies)));
    let behind = behind.and_then(|_| cors::asked_method(&arrival.headers));
    let query = Query { method: behind.as_ref().unwrap_or(query.method), ..query };
    let found = match door {
        Door::Inbound => table.find_unambiguous(&query).map_err(refused)?,
        Door::Outbound => table.find(&query),
    };
    let default_name: Arc<str> = "default".into();
    let (name, policies, methods) = found.map_or((&default_name, place.fallthrough, &[][..]), |at| {
        let route = &place.routes[*at];
        (&route.name, &route.policies, &route.matches.methods[..])
    });
    let proof = who::proof(policies, &arrival);
    let who = who::name(config, &arrival, proof.as_ref(), args.from);
    let declared = policies.cache.as_ref().filter(|policy| declared::applies(policy, door, &args.method)).and_then(|policy| {
        let persisted = Persisted::default();
        Some(Declared::of(policy.body.as_ref()?, &arrival.headers, body, &persisted))
    });
    let call = understood.as_ref().map(|call| call.asked(body));
    let (proof, auth) = (proof.as_ref(), policies.auth.as_ref());
    let asked = Asked {
        arrival: &arrival,
        caller: who.as_deref(),
        proof,
        auth,
        route: name,
        app: policies.app.as_ref(),
        call,
        declared: declared.as_ref(),
    };
    let sent = policies.privacy.as_ref().and_then(|policy| privacy::leaves(policy, body)).map(String::into_bytes);
    Ok(Explained {
        request: format!("{} {}", args.method, args.url),
        door: door.as_str(),
        door_because,
        target: understood.as_ref().map_or_else(
            || config.inbound.as_ref().map(|inbound| target::of(policies, inbound, path)).unwrap_or_default(),
            |call| call.target.clone(),
        ),
        members: target::members(config, policies, understood.as_ref().map(|call| &*call.provider)),
        client: client.to_string(),
        caller: who.as_deref().map(str::to_owned),
        call: understood.as_ref().map(|call| call.shown(&arrival.headers, config)),
        route: name.to_string(),
        candidates: candidates(&table, place.routes, found.copied(), &query),
        refused: refusal::after_route(&asked, place.limits, policies, behind.is_some(), config).map(refused),
        policies: applied(door, place.limits, policies, methods, Some(&asked), config),
        // The cache sees what leaves.
        key: cache_key(
            &Asked { call: understood.as_ref().map(|call| call.asked(sent.as_deref().unwrap_or(body))), ..asked },
            policies,
            config,
        ),
    })
}

/// The refusal in words.
fn refused(reject: Reject) -> String {
    format!("{}: {}", reject.status(), reject.detail())
}

fn place(door: Door, config: &Config) -> Result<Place<'_>, String> {
    let place = match door {
        Door::Inbound => config.inbound.as_ref().map(|door| Place {
            routes: &door.routes,
            fallthrough: &door.fallthrough,
            limits: &door.limits,
            listen: door.listen,
        }),
        Door::Outbound => config.outbound.as_ref().map(|door| Place {
            routes: &door.routes,
            fallthrough: &door.fallthrough,
            limits: &door.limits,
            listen: door.listen,
        }),
    };
    place.ok_or_else(|| format!("the file does not open the {} door: it has no `{}` block", door.as_str(), door.as_str()))
}

impl Call {
    /// Its most tokens and cost, in words.
    fn figures(&self) -> Option<String> {
        let Some(input) = self.estimated_input_tokens else {
            return (self.price_usd.as_deref() == Some("0")).then(|| "costs nothing, so no limit on tokens or dollars is asked".to_owned());
        };
        let output = match (self.max_output_tokens, self.expected_output_tokens) {
            (_, Some(0)) => "none out".to_owned(),
            (Some(_), Some(most)) => format!("at most {most} out"),
            (_, Some(expected)) => format!("{expected} out are expected, because it sets no bound"),
            (_, None) => return Some("costs nothing, so no limit on tokens or dollars is asked".to_owned()),
        };
        Some(match (&self.price_usd, &self.price) {
            (Some(cost), Some(price)) => format!("about {input} tokens in, {output}: ${cost} are reserved ({price})"),
            _ => format!("about {input} tokens in, {output}; no price is known"),
        })
    }
}

/// Every route of the door, the most specific first, and why it matches or not.
fn candidates(table: &Table<usize>, routes: &[Route], found: Option<usize>, query: &Query<'_>) -> Vec<Candidate> {
    let winner = table.rows().find(|(_, at)| Some(*at) == found).map(|(matches, _)| Precedence::of(matches));
    let mut all: Vec<Candidate> = table
        .rows()
        .map(|(matches, at)| {
            let answers = Some(*at) == found;
            let because = match (why_not(matches, query), &winner) {
                (Some("models"), _) if query.model.is_none() => "models: the request names none".to_owned(),
                (Some(condition), _) => format!("{condition}: does not match"),
                (None, Some(winner)) if !answers => match winner.decided_by(&Precedence::of(matches)) {
                    Some(condition) => format!("would match too, but is less specific: {condition}"),
                    None => "would match too, but stands later in the file".to_owned(),
                },
                (None, _) => "the most specific that matches".to_owned(),
            };
            Candidate { route: routes[*at].name.to_string(), answers, because }
        })
        .collect();
    let because = if found.is_some() { "only where no route matches" } else { "no route matches" };
    all.push(Candidate { route: "default".into(), answers: found.is_none(), because: because.into() });
    all
}

fn cache_key(asked: &Asked<'_>, policies: &Policies, config: &Config) -> CacheKey {
    let none = |why: String| CacheKey { cache_key_note: Some(why), ..CacheKey::default() };
    let Some(policy) = &policies.cache else { return none("no cache policy applies".into()) };
    let parts = match KeyParts::of(asked, policy) {
        Ok(parts) => parts,
        Err(reason) => return none(reason.to_owned()),
    };
    // Without a secret in the file this process cannot make the proxy's keys: it shows the parts alone.
    let secret = config.store.hash_key();
    let ttl = asked.call.as_ref().and_then(|_| asked_ttl(asked.arrival).ok().flatten());
    let said = RequestDirectives::of(&asked.arrival.headers);
    let (bypass, carried, (key, parts)) = parts.query(asked.arrival, asked.route, |query| {
        let query = CacheQuery { ttl, ..query };
        let known = key::explain(&secret.unwrap_or_default(), &query);
        (plan::bypasses(policy, &query, &said), plan::carried(policy, &query, &said), known)
    });
    match bypass {
        Some("method") => return none(format!("{} is not answered from the cache", asked.arrival.method)),
        Some(reason) => return none(reason.to_owned()),
        None => {}
    }
    let note = match (secret, &config.store.redis) {
        _ if carried == Some("cookie") => Some("only where the app says that its answer is for all: the request has a cookie"),
        _ if carried.is_some() => Some("only where the app says that its answer is for all: the request has credentials"),
        (Some(_), _) => None,
        (None, None) => Some("the key itself is known only with `store.secret`: without one every process makes a secret of its own"),
        (None, Some(_)) => Some("the key itself is known only with `store.secret`: without one it is made with a secret that Redis holds"),
    };
    CacheKey {
        cache_key: secret.map(|_| key.to_string()),
        cache_key_parts: parts.into_iter().map(|part| (part.name, part.value)).collect(),
        cache_key_note: note.map(str::to_owned),
    }
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.request)?;
        writeln!(f, "door      {} ({})", self.door, self.door_because)?;
        writeln!(f, "target    {}", self.target)?;
        self.members.iter().try_for_each(|members| writeln!(f, "          one of {members}"))?;
        writeln!(f, "client    {}, caller {}", self.client, self.caller.as_deref().unwrap_or("unknown"))?;
        if let Some(call) = &self.call {
            let model = call.model.as_deref().unwrap_or("not named");
            let stream = if call.stream { ", streamed" } else { "" };
            writeln!(f, "call      {} of {} (speaks {}), model {model}{stream}", call.operation, call.provider, call.api)?;
            call.chosen.iter().try_for_each(|why| writeln!(f, "          {}: {why}", call.provider))?;
            call.then.iter().try_for_each(|then| writeln!(f, "          then {then}"))?;
            writeln!(f, "billed    {}", call.billed)?;
            call.figures().iter().try_for_each(|figures| writeln!(f, "          {figures}"))?;
        }
        writeln!(f, "\nroute     {}", self.route)?;
        for candidate in &self.candidates {
            writeln!(f, "  {} {:<38} {}", if candidate.answers { '*' } else { ' ' }, candidate.route, candidate.because)?;
        }
        writeln!(
            f,
            "{}\npolicies{}",
            self.refused.as_ref().map(|refused| format!("answer    {refused}\n")).unwrap_or_default(),
            if self.policies.is_empty() { "  none: it passes through" } else { ", in the order in which they run" }
        )?;
        for policy in &self.policies {
            let observes = if policy.mode == "observe" { "(observes only) " } else { "" };
            writeln!(f, "  {:<9} {observes}{}", policy.policy, policy.terms)?;
        }
        write!(f, "{}", self.key)
    }
}

impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cache_key, cache_key_parts, cache_key_note: note } = self;
        if cache_key_parts.is_empty() {
            return writeln!(f, "\ncache key none: {}", note.as_deref().unwrap_or_default());
        }
        writeln!(f, "\ncache key {}", cache_key.as_deref().unwrap_or("of these parts"))?;
        let mut parts = cache_key_parts.iter();
        while let Some((name, value)) = parts.next() {
            match parts.as_slice().first() {
                // The key keeps name and value as two parts, because neither can then be mistaken for the other; a person reads
                // them as one.
                Some((next, of_it)) if name == "header" && next == "value" => {
                    writeln!(f, "  {value:<9} {of_it}")?;
                    parts.next();
                }
                _ => writeln!(f, "  {name:<9} {value}")?,
            }
        }
        note.iter().try_for_each(|note| writeln!(f, "  ({note})"))
    }
}

#[cfg(test)]
mod tests;
