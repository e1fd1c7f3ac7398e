//! Codings and languages: who gets which, whatever the app does with its entity tags, and the model of `oracle` through a whole
//! proxy.

use std::{sync::Arc, time::Duration};

use http::Method;
use outrigger::{clock::Clock, policy::cache::Purge, store::memory::Which};
use parking_lot::Mutex;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use crate::{
    oracle::{self, App, Asked, Habits, Life, Reply, Way},
    world::{Act, Seen, World, answer, said},
};

const PLAIN: &str = "{match: {path: /**}, cache: {}}";
const TEXT: &str = "hello hello hello";
/// What stands for gzip; nobody here decodes it.
const GZIP: &str = "\u{1f}\u{8b} hello";
const MODIFIED: &str = "Wed, 01 Jan 2020 00:00:00 GMT";

/// An app that gzips for whoever asks for it, and says 304 to any condition that it hears.
#[derive(Clone, Copy)]
struct Gzips {
    vary: bool,
    plain_tag: &'static str,
    gzip_tag: &'static str,
    tag_in_304: Option<&'static str>,
    hears: &'static str,
    age: &'static str,
}

/// nginx with `gzip on` and `gzip_vary on`: the tag of what was coded is the weak form of the other, and a 304 says the strong one.
const NGINX: Gzips =
    Gzips { vary: true, plain_tag: "\"x\"", gzip_tag: "W/\"x\"", tag_in_304: Some("\"x\""), hears: "if-none-match", age: "0" };

impl Gzips {
    fn play(self) -> impl Fn(&Seen) -> Act {
        move |seen| {
            let gzip = seen.header("accept-encoding").is_some_and(|accepted| accepted.split(", ").any(|coding| coding == "gzip"));
            let mut fields = vec![("cache-control", "max-age=60"), ("age", self.age)];
            if self.vary {
                fields.push(("vary", "Accept-Encoding"));
            }
            if seen.header(self.hears).is_some() {
                fields.extend(self.tag_in_304.map(|tag| ("etag", tag)));
                return answer(304, &fields, "");
            }
            fields.extend([("etag", if gzip { self.gzip_tag } else { self.plain_tag }), ("last-modified", MODIFIED)]);
            if gzip {
                fields.push(("content-encoding", "gzip"));
            }
            answer(200, &fields, if gzip { GZIP } else { TEXT })
        }
    }
}

#[tokio::test]
async fn nobody_gets_a_coding_that_another_client_asked_for() {
    let shared = Gzips { gzip_tag: "\"x\"", ..NGINX };
    for (what, app) in [
        ("nginx", NGINX),
        ("nginx without gzip_vary", Gzips { vary: false, ..NGINX }),
        ("Express: one weak tag", Gzips { plain_tag: "W/\"x\"", tag_in_304: Some("W/\"x\""), ..NGINX }),
        ("Starlette: one strong tag", shared),
        ("a 304 without a tag", Gzips { tag_in_304: None, ..NGINX }),
        ("If-Modified-Since alone", Gzips { tag_in_304: None, hears: "if-modified-since", ..shared }),
        ("all of it stale at once", Gzips { age: "90", ..NGINX }),
        ("stale, and one strong tag", Gzips { age: "90", ..shared }),
    ] {
        let world = World::new(PLAIN, "", app.play()).await;
        for _ in 0..2 {
            for accepted in ["gzip", "", "identity", "br", "gzip;q=0", "gzip"] {
                let fields = [("accept-encoding", accepted)];
                let got = world.get("/f", if accepted.is_empty() { &[] } else { &fields }).await;
                let gzip = got.header("content-encoding").is_some();
                // Where nothing is said to vary, what is plain is for all.
                assert!(gzip == (accepted == "gzip") || (!gzip && !app.vary), "{what}, `{accepted}`: {}", said(&got));
                assert_eq!(got.text(), if gzip { GZIP } else { TEXT }, "{what}, `{accepted}`");
            }
        }
    }
}

#[tokio::test]
async fn a_coded_answer_is_shared_by_those_who_accept_it_and_a_plain_one_by_all() {
    let world = World::new(PLAIN, "", Gzips { vary: false, ..NGINX }.play()).await;
    for (accepted, asked) in [("gzip", 1), ("br, gzip", 1), ("*", 1), ("br", 2), ("identity", 2)] {
        world.get("/f", &[("accept-encoding", accepted)]).await;
        assert_eq!(world.origin.count(), asked, "{accepted}");
    }
}

#[tokio::test]
async fn a_weak_tag_stays_weak_and_no_range_is_spliced() {
    let world = World::new(PLAIN, "", Gzips { age: "90", ..NGINX }.play()).await;
    let gzip = ("accept-encoding", "gzip");
    assert_eq!(world.get("/f", &[gzip]).await.header("etag"), Some("W/\"x\""));
    let confirmed = world.get("/f", &[gzip]).await;
    assert_eq!((confirmed.header("etag"), confirmed.text().as_str()), (Some("W/\"x\""), GZIP));
    assert!(said(&confirmed).contains("fwd-status=304"), "{}", said(&confirmed));
    for condition in ["\"x\"", "W/\"x\"", MODIFIED] {
        let whole = world.get("/f", &[gzip, ("range", "bytes=2-"), ("if-range", condition)]).await;
        assert_eq!((whole.status.as_u16(), whole.text().as_str()), (200, GZIP), "{condition}");
    }
    let part = world.get("/f", &[("range", "bytes=2-"), ("if-range", "\"x\"")]).await;
    assert_eq!(part.header("content-encoding"), None);
    assert!(part.text() == TEXT || part.text() == TEXT[2..], "{}", part.text());
}

#[tokio::test]
async fn head_revives_no_old_text() {
    for (fields, keeps) in [
        (&[][..], false),
        (&[("etag", "\"new\"")], false),
        (&[("content-length", "3")], false),
        (&[("etag", "\"old\"")], true),
        (&[("etag", "\"old\""), ("age", "90")], false),
    ] {
        let world = World::new("{match: {path: /**}, cache: {stale_if_error: 1h}}", "", move |seen| {
            let life = ("cache-control", "max-age=60");
            match (&seen.method, seen.nth) {
                (&Method::HEAD, _) => answer(200, &[&[life], fields].concat(), ""),
                (_, 0) => answer(200, &[life, ("age", "61"), ("etag", "\"old\"")], "old"),
                _ => answer(200, &[life, ("etag", "\"new\"")], "new"),
            }
        })
        .await;
        assert_eq!(world.get("/page", &[]).await.text(), "old");
        world.send(Method::HEAD, "/page", &[]).await;
        assert_eq!(world.get("/page", &[]).await.text() == "old", keeps, "{fields:?}");
    }
}

/// RFC 9111 section 4.3.5.
#[tokio::test]
async fn head_that_tells_of_another_answer_ends_what_is_stored() {
    for (fields, stays) in [(&[("etag", "\"old\"")][..], true), (&[("etag", "\"new\"")], false), (&[("content-length", "4")], false)] {
        let world = World::new(PLAIN, "", move |seen| {
            let life = ("cache-control", "max-age=60");
            match (&seen.method, seen.nth) {
                (&Method::HEAD, _) => answer(200, &[&[life], fields].concat(), ""),
                (_, 0) => answer(200, &[life, ("etag", "\"old\"")], "old"),
                _ => answer(200, &[life, ("etag", "\"new\"")], "new"),
            }
        })
        .await;
        assert_eq!(world.get("/page", &[]).await.text(), "old");
        world.send(Method::HEAD, "/page", &[("cache-control", "no-cache")]).await;
        assert_eq!(world.get("/page", &[]).await.text() == "old", stays, "{fields:?}");
    }
}

/// A whole proxy. Its clock cannot be moved: answers are born old instead.
struct Proxied {
    runtime: tokio::runtime::Runtime,
    world: World,
    /// The model's app, as long as it is lent to the proxy's origin.
    lent: Arc<Mutex<Option<App>>>,
}

impl Proxied {
    fn new(habits: &Habits) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let window = |name, seconds: Option<u64>| seconds.map(|seconds| format!("{name}: {seconds}s"));
        let ttl = if let Life::Forced(seconds) = habits.life { Some(seconds) } else { None };
        let terms = [
            window("ttl", ttl),
            window("stale_while_revalidate", habits.stale_while_revalidate),
            window("stale_if_error", habits.stale_if_error),
        ];
        let terms: Vec<String> = terms.into_iter().flatten().collect();
        let routes = format!("{{match: {{path: /**}}, cache: {{{}}}}}", terms.join(", "));
        let lent: Arc<Mutex<Option<App>>> = Arc::default();
        let borrowed = lent.clone();
        let play = move |seen: &Seen| {
            let mut app = borrowed.lock();
            let app = app.as_mut().expect("the test waits for the proxy");
            match app.answer(&seen.method, &seen.path, &seen.headers) {
                None => Act::Close,
                Some(Reply { status, fields, body }) => {
                    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
                    answer(status, &fields, body)
                }
            }
        };
        let world = runtime.block_on(World::new(&routes, "", play));
        Self { runtime, world, lent }
    }

    /// Lends the app to the proxy's origin while something is done; what was done in the background is done then, too.
    fn with<T>(&self, app: &mut App, work: impl Future<Output = T>) -> T {
        app.now = now();
        let spare = App::new(app.habits.clone(), now());
        *self.lent.lock() = Some(std::mem::replace(app, spare));
        let done = self.runtime.block_on(async {
            let done = work.await;
            self.world.until_landed().await;
            done
        });
        *app = self.lent.lock().take().expect("it was lent");
        app.now = now();
        done
    }
}

fn now() -> u64 {
    Clock::system().unix_millis() / 1_000
}

impl Way for Proxied {
    fn ask(&mut self, app: &mut App, asked: &Asked) -> oracle::Answer {
        let fields: Vec<(&str, &str)> = asked.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().expect("text"))).collect();
        let got = self.with(app, self.world.send(asked.ask.method(), &asked.ask.path(), &fields));
        oracle::Answer { status: got.status.as_u16(), headers: got.headers.clone(), body: got.body.to_vec() }
    }

    fn overlap(&mut self, app: &mut App, asks: &[Asked], meanwhile: &mut dyn FnMut(&mut App, &mut Self)) -> Vec<(u64, oracle::Answer)> {
        // One after the other: what the cache by itself does at once is in `random`.
        let Some((leader, others)) = asks.split_first() else { return Vec::new() };
        let mut answers = vec![(app.events(), self.ask(app, leader))];
        meanwhile(app, self);
        answers.extend(others.iter().map(|asked| (app.events(), self.ask(app, asked))));
        answers
    }

    fn settle(&mut self, _: &mut App) {}

    fn pass(&mut self, _: &mut App, _: u64) {}

    fn post(&mut self, app: &mut App, path: u8) {
        self.with(app, self.world.send(Method::POST, &format!("/{path}"), &[]));
    }

    fn purge(&mut self, soft: bool) {
        self.world.app.shared.cache.purge(&Purge { which: Which::All, soft }, Clock::system().moment());
    }
}

#[test]
fn whatever_is_asked_of_a_whole_proxy_each_gets_what_it_accepts() {
    let cases = Config::default().cases.max(60) / 2;
    let mut runner = TestRunner::new(Config { cases, max_shrink_iters: 200, failure_persistence: None, ..Config::default() });
    let done = runner.run(&(oracle::habits(), oracle::steps(40)), |(habits, steps)| {
        let slack = Duration::from_secs(2).as_secs();
        oracle::run_with(&habits, &steps, now(), slack, &mut Proxied::new(&habits)).map_err(TestCaseError::fail)
    });
    assert!(done.is_ok(), "{}", done.unwrap_err());
}
