//! One notice for several replicas, agreed in a real Redis; without Redis each tells.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use outrigger::{admin::State, clock::Instant};
use tokio::net::TcpListener;

use super::{
    server::Server,
    world::{Origin, PATIENCE, Replica, eventually, redis},
};

/// A webhook that keeps every notice.
#[derive(Clone, Default)]
struct Hook(Arc<Mutex<Vec<String>>>);

impl Hook {
    async fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let hook = self.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let hook = hook.clone();
                let take = service_fn(move |request: http::Request<Incoming>| {
                    let hook = hook.clone();
                    async move {
                        let body = request.into_body().collect().await?.to_bytes();
                        hook.0.lock().expect("unpoisoned").push(String::from_utf8_lossy(&body).into_owned());
                        Ok::<_, hyper::Error>(Response::new(Full::<Bytes>::default()))
                    }
                });
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tcp), take));
            }
        });
        format!("http://{address}/hook")
    }

    /// Notices that a monitor is down.
    fn of(&self, target: &str) -> usize {
        let notices = self.0.lock().expect("unpoisoned");
        notices.iter().filter(|body| body.contains("alert.firing") && body.contains(target)).count()
    }
}

/// The sum of a family's series that have this in their labels.
fn sum(replica: &Replica, family: &str, with: &str) -> f64 {
    let text = replica.metrics();
    let lines = text.lines().filter(|line| line.starts_with(family) && line.contains(with));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Notices that a replica has made.
fn made(replica: &Replica) -> f64 {
    sum(replica, "outrigger_notices_total", "delivered") + sum(replica, "outrigger_notices_waiting", "team")
}

/// A server that both replicas watch. It is down when this is dropped.
struct Watched(SocketAddr, tokio::task::JoinHandle<()>);

impl Watched {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        Self(address, tokio::spawn(async move { while listener.accept().await.is_ok() {} }))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.1.abort();
    }
}

async fn until_seen(replicas: &[Replica], incidents: f64) {
    for replica in replicas {
        eventually("the incident is open at each", || sum(replica, "outrigger_alerts_open", "") == incidents).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_incident_of_two_replicas_is_one_notice_and_two_while_redis_is_away() {
    let Some(server) = Server::start() else { return };
    let (origin, hook) = (Origin::start().await, Hook::default());
    let (alpha, beta, gamma) = (Watched::start().await, Watched::start().await, Watched::start().await);
    let monitor = |name: &str, at: &Watched| format!("  {name}: {{url: 'tcp://{}', every: 1s}}\n", at.0);
    let more = format!(
        "alerts: {{group: 0s, channels: {{team: {{webhook: '{}'}}}}}}\nmonitors:\n  app: 'off'\n  house: 'off'\n{}{}{}",
        hook.start().await,
        monitor("alpha", &alpha),
        monitor("beta", &beta),
        monitor("gamma", &gamma),
    );
    let mut replicas = Vec::new();
    for _ in 0..2 {
        let replica = Replica::start_with(&origin, &redis(&server.url()), &more).await;
        replica.until_ready().await;
        replicas.push(replica);
    }
    for (nth, (target, watched)) in [("alpha", alpha), ("beta", beta)].into_iter().enumerate() {
        drop(watched);
        until_seen(&replicas, (nth + 1) as f64).await;
        eventually("it is told", || hook.of(target) > 0).await;
    }
    assert_eq!((hook.of("alpha"), hook.of("beta")), (1, 1), "{:#?}", hook.0);
    assert_eq!(replicas.iter().map(made).sum::<f64>(), 2.0, "no replica has another one waiting");

    server.kill();
    for replica in &replicas {
        let began = Instant::now();
        while replica.health().0 == State::Ok {
            assert!(began.elapsed() < PATIENCE, "Redis is seen to be away");
            let _ = replica.ask_at(replica.0.addresses.inbound.expect("open"), super::world::request("GET", "/limited", &[], "")).await;
            tokio::time::timeout(Duration::from_millis(10), std::future::pending::<()>()).await.unwrap_err();
        }
    }
    drop(gamma);
    eventually("each tells by itself", || hook.of("gamma") == 2).await;
    assert_eq!(replicas[0].get("/c/x").await.status, StatusCode::OK, "requests are none the worse");
}
