//! The model of `oracle` over two whole proxies that share a real redis-server and are asked in turn: what one has stored, the
//! other reads, confirms, freshens and writes again.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use outrigger::{
    app::{App as Proxy, Source},
    clock::Clock,
    config::read::{self, Overrides},
    policy::cache::Event,
};
use parking_lot::Mutex;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use tokio::runtime::Runtime;

use crate::{
    oracle::{self, Answer, App, Asked, Habits, Life, Step, Way},
    server::Server,
    world::{Origin, Replica, redis, request},
};

/// Two proxies and the app between them.
struct Both {
    replicas: [Replica; 2],
    turn: usize,
    runtime: Arc<Runtime>,
    /// The model's app, as long as it is lent to the proxies' origin.
    lent: Arc<Mutex<Option<App>>>,
    _origin: Origin,
}

impl Both {
    fn new(habits: &Habits, server: &Server, nth: usize, runtime: &Arc<Runtime>) -> Self {
        let lent: Arc<Mutex<Option<App>>> = Arc::default();
        let borrowed = lent.clone();
        let play = move |request: &http::Request<hyper::body::Incoming>, _| {
            let mut app = borrowed.lock();
            let reply =
                app.as_mut().expect("the test waits for the proxies").answer(request.method(), request.uri().path(), request.headers())?;
            let mut response = Response::builder().status(reply.status);
            for (name, value) in &reply.fields {
                response = response.header(*name, value);
            }
            Some(response.body(Full::new(Bytes::from(reply.body))).expect("a response"))
        };
        let replicas = runtime.block_on(async {
            let origin = Origin::playing(play).await;
            let store = redis(&server.url()).replace("namespace: test", &format!("namespace: test{nth}"));
            let replicas = [start(habits, &origin, &store).await, start(habits, &origin, &store).await];
            for replica in &replicas {
                replica.until_ready().await;
            }
            (replicas, origin)
        });
        Self { replicas: replicas.0, turn: 0, runtime: runtime.clone(), lent, _origin: replicas.1 }
    }
}

async fn start(habits: &Habits, origin: &Origin, store: &str) -> Replica {
    let ttl = if let Life::Forced(seconds) = habits.life { Some(seconds) } else { None };
    let terms = [("ttl", ttl), ("stale_while_revalidate", habits.stale_while_revalidate), ("stale_if_error", habits.stale_if_error)];
    let terms: Vec<String> = terms.iter().filter_map(|(name, seconds)| seconds.map(|seconds| format!("{name}: {seconds}s"))).collect();
    let yaml = format!(
        "inbound: {{listen: \"127.0.0.1:0\", app: \"http://{}\", routes: [{{match: {{path: /**}}, cache: {{{}}}}}]}}\n\
         admin: {{listen: off, probes: off, socket: off}}\ntelemetry: {{log: off}}\nshutdown: {{drain_delay: 0s, deadline: 1s}}\n\
         workers: 1\nstore: {{memory: 8MiB, {store}}}\n",
        origin.addr,
        terms.join(", ")
    );
    let reading = read::parse_reading(&yaml, "random.yaml", &Overrides::default(), &|_| None).unwrap_or_else(|wrong| panic!("{wrong}"));
    Replica(Proxy::start(Source { file: None, overrides: Overrides::default() }, reading).await.expect("starts"))
}

fn now() -> u64 {
    Clock::system().unix_millis() / 1_000
}

impl Way for Both {
    fn ask(&mut self, app: &mut App, asked: &Asked) -> Answer {
        self.turn += 1;
        let replica = &self.replicas[self.turn % 2];
        let fields: Vec<(&str, &str)> = asked.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().expect("text"))).collect();
        app.now = now();
        let spare = App::new(app.habits.clone(), now());
        *self.lent.lock() = Some(std::mem::replace(app, spare));
        let got = self.runtime.block_on(async {
            let got = replica.ask(request(asked.ask.method().as_str(), &asked.ask.path(), &fields, "")).await;
            let landed = |replica: &Replica| {
                let stats = replica.0.shared.cache.stats();
                stats.flights == 0 && stats.memory.in_flight == 0
            };
            crate::world::eventually("landed", || landed(replica)).await;
            got
        });
        *app = self.lent.lock().take().expect("it was lent");
        app.now = now();
        Answer { status: got.status.as_u16(), headers: got.headers, body: got.body.into_bytes() }
    }

    fn overlap(&mut self, app: &mut App, asks: &[Asked], _: &mut dyn FnMut(&mut App, &mut Self)) -> Vec<(u64, Answer)> {
        asks.iter().map(|asked| (app.events(), self.ask(app, asked))).collect()
    }

    fn settle(&mut self, _: &mut App) {}

    fn pass(&mut self, _: &mut App, _: u64) {}

    fn post(&mut self, _: &mut App, _: u8) {}

    fn purge(&mut self, _: bool) {}
}

#[test]
fn whatever_is_asked_of_replicas_each_client_gets_what_it_accepts() {
    let Some(server) = Server::start() else { return };
    let runtime = Arc::new(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime"));
    let mut runner = TestRunner::new(Config { cases: 12, max_shrink_iters: 100, failure_persistence: None, ..Config::default() });
    let (nth, shared) = (Mutex::new(0), Mutex::new(0));
    let done = runner.run(&(oracle::habits(), oracle::steps(60)), |(habits, mut steps)| {
        // What the others hear a moment later is told elsewhere.
        steps.retain(|step| !matches!(step, Step::Post(_) | Step::Purge { .. }));
        *nth.lock() += 1;
        let mut both = Both::new(&habits, &server, *nth.lock(), &runtime);
        let done = oracle::run_with(&habits, &steps, now(), 2, &mut both).map_err(TestCaseError::fail);
        *shared.lock() += both.replicas.iter().map(|replica| replica.events(Event::Hit)).sum::<u64>();
        done
    });
    assert!(done.is_ok(), "{}", done.unwrap_err());
    assert!(*shared.lock() > 20, "the replicas have shared only {} answers", *shared.lock());
}
