//! The model of `oracle` against the cache by itself, on a clock that only the test moves.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;
use outrigger::{
    body::Body,
    clock::{Clock, Instant, Moment},
    config::{self, Mode},
    http1::Fields,
    message::Response,
    policy::cache::{Cache, CacheQuery, Decision, Fill, Follower, Lookup, Purge, Recorder, Worth},
    store::memory::Which,
};
use proptest::prelude::*;

use crate::oracle::{self, Answer, App, Asked, Habits, Life, Reply, Way};

const BEGIN: u64 = 1_800_000_000;

/// The cache, and what is under way.
struct Alone {
    cache: Arc<Cache>,
    policy: config::Cache,
    route: Arc<str>,
    /// Seconds by which the wall clock is set wrong.
    wrong: i64,
    /// Background fetches that were put off.
    later: Vec<(Box<Fill>, Asked)>,
}

/// A look-up, as far as it can go without the app.
enum Found {
    Answer(Response<Body>),
    Fetch(Box<Fill>),
    Follower(Box<Follower>),
}

/// What the app's answer to a fetch came to.
enum Fetched {
    Answer(Response<Body>),
    /// The head has come, the body is to come.
    Coming(Recorder, Reply),
}

impl Alone {
    fn new(habits: &Habits) -> Self {
        let window = |seconds: Option<u64>| seconds.map(Duration::from_secs);
        let policy = config::Cache {
            mode: Mode::Enforce,
            ttl: if let Life::Forced(seconds) = habits.life { Some(Duration::from_secs(seconds)) } else { None },
            stale_while_revalidate: window(habits.stale_while_revalidate),
            stale_if_error: window(habits.stale_if_error),
            tags: Vec::new(),
            key: Vec::new(),
            cookies: config::Cookies::Bypass,
            unsafe_: false,
            max_body: 1 << 20,
            share: false,
            per_caller: false,
            paced: false,
            tool_calls: false,
            max_temperature: None,
            body: None,
            max_request: 1 << 20,
        };
        Self { cache: Cache::new(8 << 20, 1 << 20, [1; 32]), policy, route: "r".into(), wrong: 0, later: Vec::new() }
    }

    fn now(&self, app: &App) -> Moment {
        Moment::at(at(app.now)).with_wall(at(app.now.saturating_add_signed(self.wrong)))
    }

    fn query<'a>(&'a self, method: &'a Method, path: &'a str, headers: &'a Fields) -> CacheQuery<'a> {
        let (scheme, host, path_and_query) = ("http", "h", path);
        CacheQuery {
            route: &self.route,
            method,
            scheme,
            host,
            path_and_query,
            headers,
            extra: &[],
            model: None,
            ttl: None,
            proved: false,
            body: None,
        }
    }

    fn look_up(&mut self, app: &mut App, asked: &Asked) -> Found {
        let (method, path) = (asked.ask.method(), asked.ask.path());
        let headers = Fields::from(&asked.headers);
        let found = self.cache.look_up(&self.policy, self.query(&method, &path, &headers), self.now(app));
        match found {
            Lookup::Hit(response, _) => Found::Answer(response),
            Lookup::Stale { response, revalidate, .. } => {
                if let Some(fill) = revalidate {
                    if asked.ask.later {
                        self.later.push((fill, asked.clone()));
                    } else {
                        self.fetch_all(app, fill, asked);
                    }
                }
                Found::Answer(response)
            }
            Lookup::Revalidate(fill) | Lookup::Miss(fill) => Found::Fetch(fill),
            Lookup::Join(join) => Found::Follower(join),
            other => panic!("nothing else was asked for: {other:?}"),
        }
    }

    /// Sends a fetch to the app, as far as the head of its answer.
    fn fetch(&mut self, app: &mut App, mut fill: Box<Fill>, asked: &Asked) -> Fetched {
        loop {
            let mut headers = Fields::from(&asked.headers);
            fill.request_headers(&mut headers);
            let Some(reply) = app.answer(&asked.ask.method(), &asked.ask.path(), &HeaderMap::from(&headers)) else {
                let instead = fill.on_failure(self.now(app)).map(|(response, _)| response);
                return Fetched::Answer(instead.unwrap_or_else(|| whole(&Reply { status: 502, fields: Vec::new(), body: Vec::new() })));
            };
            let head = whole(&reply);
            match fill.on_head(head.status(), head.headers(), self.now(app)) {
                Decision::Store(recorder) => return Fetched::Coming(recorder, reply),
                Decision::NotModified(response, _) | Decision::Stale(response, _) => return Fetched::Answer(response),
                Decision::PassThrough(_) => return Fetched::Answer(head),
                Decision::Refetch(again) => fill = again,
            }
        }
    }

    fn finish(&self, app: &App, fetched: Fetched) -> Response<Body> {
        match fetched {
            Fetched::Answer(response) => response,
            Fetched::Coming(mut recorder, reply) => {
                let (first, rest) = reply.body.split_at(reply.body.len() / 2);
                for piece in [first, rest] {
                    recorder.data(&Bytes::copy_from_slice(piece), Instant::now());
                }
                recorder.complete(self.now(app), Worth::Store(None));
                whole(&reply)
            }
        }
    }

    fn fetch_all(&mut self, app: &mut App, fill: Box<Fill>, asked: &Asked) -> Response<Body> {
        let fetched = self.fetch(app, fill, asked);
        self.finish(app, fetched)
    }

    fn go_on(&mut self, app: &mut App, found: Found, asked: &Asked) -> Answer {
        let response = match found {
            Found::Answer(response) => response,
            Found::Fetch(fill) => self.fetch_all(app, fill, asked),
            Found::Follower(join) => match wait(join.respond(Clock::fixed(at(app.now)))) {
                Ok((response, _)) => response,
                Err((_, fill)) => self.fetch_all(app, fill, asked),
            },
        };
        read(response)
    }
}

impl Way for Alone {
    fn ask(&mut self, app: &mut App, asked: &Asked) -> Answer {
        // Only what `overlap` begins is waited for; what was put off is under way for ever.
        let mut found = self.look_up(app, asked);
        if let Found::Follower(_) = found {
            self.settle(app);
            found = self.look_up(app, asked);
        }
        self.go_on(app, found, asked)
    }

    fn overlap(&mut self, app: &mut App, asks: &[Asked], meanwhile: &mut dyn FnMut(&mut App, &mut Self)) -> Vec<(u64, Answer)> {
        self.settle(app);
        let Some((leader, others)) = asks.split_first() else { return Vec::new() };
        let begun = app.events();
        let held = match self.look_up(app, leader) {
            Found::Fetch(fill) => Ok(self.fetch(app, fill, leader)),
            found => Err(found),
        };
        let (before, after) = others.split_at(others.len() / 2);
        let mut found: Vec<(u64, Found)> = before.iter().map(|asked| (app.events(), self.look_up(app, asked))).collect();
        meanwhile(app, self);
        found.extend(after.iter().map(|asked| (app.events(), self.look_up(app, asked))).collect::<Vec<_>>());
        // Who joined a background fetch would wait for ever.
        self.settle(app);
        let led = match held {
            Ok(fetched) => read(self.finish(app, fetched)),
            Err(found) => self.go_on(app, found, leader),
        };
        let others = found.into_iter().zip(others).map(|((begun, found), asked)| (begun, self.go_on(app, found, asked)));
        std::iter::once((begun, led)).chain(others).collect()
    }

    fn settle(&mut self, app: &mut App) {
        for (fill, asked) in std::mem::take(&mut self.later) {
            self.fetch_all(app, fill, &asked);
        }
    }

    fn pass(&mut self, app: &mut App, seconds: u64) {
        app.now += seconds;
    }

    fn post(&mut self, app: &mut App, path: u8) {
        let (path, none) = (format!("/{path}"), Fields::new());
        self.cache.invalidate(self.query(&Method::POST, &path, &none), StatusCode::OK, &none, self.now(app));
    }

    fn purge(&mut self, soft: bool) {
        self.cache.purge(&Purge { which: Which::All, soft }, Moment::at(SystemTime::UNIX_EPOCH));
    }

    fn set_clock(&mut self, wrong: i64) {
        self.wrong = wrong;
    }
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn whole(reply: &Reply) -> Response<Body> {
    let mut response = Response::new(Body::full(reply.body.clone()));
    *response.status_mut() = StatusCode::from_u16(reply.status).expect("a status");
    *response.headers_mut() = reply.fields.iter().map(|(name, value)| (*name, value)).collect();
    response
}

fn read(response: Response<Body>) -> Answer {
    let (head, body) = response.into_parts();
    let body = wait(body.collect()).expect("a whole body").to_bytes().to_vec();
    Answer { status: head.status.as_u16(), headers: HeaderMap::from(&head.headers), body }
}

/// Everything is there already.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(2_000), max_shrink_iters: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_client_gets_bytes_that_it_accepts_and_that_one_fresh_answer_had(habits in oracle::habits(), steps in oracle::steps(40)) {
        let done = oracle::run(&habits, &steps, BEGIN, &mut Alone::new(&habits));
        prop_assert!(done.is_ok(), "{}", done.unwrap_err());
    }
}
