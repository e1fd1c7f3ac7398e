//! How a target is reached: names with several addresses, addresses that swallow everything, name servers that hang.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, mpsc},
    time::Duration,
};

use outrigger::{
    clock::{Clock, Instant},
    config::{Origin, Protocol, TargetTls},
    resolve::{Lookup, Resolver},
    telemetry::metrics::Metrics,
    upstream::{Dial, Dialer, SendError, Stream, Target, TargetTerms, tls::SystemRoots},
};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::world::PATIENCE;

/// A name server that knows one name.
struct Knows(Vec<IpAddr>);

impl Lookup for Knows {
    fn addresses(&self, _: &str) -> io::Result<Vec<SocketAddr>> {
        Ok(self.0.iter().map(|ip| SocketAddr::new(*ip, 0)).collect())
    }
}

/// A name server that says nothing until its other end is dropped.
struct Hangs(Mutex<mpsc::Receiver<()>>);

impl Lookup for Hangs {
    fn addresses(&self, _: &str) -> io::Result<Vec<SocketAddr>> {
        let _ = self.0.lock().recv();
        Err(io::ErrorKind::TimedOut.into())
    }
}

fn hangs() -> (mpsc::Sender<()>, Resolver) {
    let (ends, hangs) = mpsc::channel();
    (ends, Resolver::new(Hangs(Mutex::new(hangs))))
}

async fn dial(resolver: &Resolver, host: &str, port: u16) -> Result<Stream, SendError> {
    let origin = Origin::parse(&format!("http://{host}:{port}")).expect("a URL");
    let terms =
        TargetTerms { origin: &origin, tls: &TargetTls::default(), protocol: Protocol::Auto, keep_idle: PATIENCE, max_connections: 100 };
    let target = Target::new("app".into(), terms, &mut SystemRoots::default()).expect("a target");
    Dialer::new(resolver.clone(), Metrics::new(Clock::system()).worker()).dial(&target, true).await
}

/// A port of `ip` at which SYNs are swallowed: its queue is full.
async fn black_hole(ip: IpAddr, port: u16) -> io::Result<(TcpListener, Vec<TcpStream>)> {
    let socket = if ip.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(SocketAddr::new(ip, port))?;
    let hole = socket.listen(0)?;
    let mut queue = Vec::new();
    while let Ok(stream) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(hole.local_addr()?)).await {
        queue.push(stream?);
    }
    Ok((hole, queue))
}

#[tokio::test]
async fn a_name_with_an_address_that_swallows_everything_is_reached_in_a_blink() {
    for _ in 0..20 {
        let app = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = app.local_addr().expect("bound").port();
        let (ip, hole) = match black_hole(Ipv6Addr::LOCALHOST.into(), port).await {
            Ok(hole) => (Ipv6Addr::LOCALHOST.into(), hole),
            // No IPv6 here, or the port is taken.
            Err(_) => match black_hole(Ipv4Addr::new(127, 0, 0, 2).into(), port).await {
                Ok(hole) => (Ipv4Addr::new(127, 0, 0, 2).into(), hole),
                Err(_) => continue,
            },
        };
        let resolver = Resolver::new(Knows(vec![ip, Ipv4Addr::LOCALHOST.into()]));
        let began = Instant::now();
        assert!(matches!(dial(&resolver, "dual.test", port).await, Ok(Stream::Tcp(_))));
        assert!(began.elapsed() < Duration::from_millis(300), "{:?}", began.elapsed());
        let began = Instant::now();
        assert!(matches!(dial(&resolver, "dual.test", port).await, Ok(Stream::Tcp(_))));
        assert!(began.elapsed() < Duration::from_millis(200), "the second time it is known: {:?}", began.elapsed());
        drop(hole);
        return;
    }
    panic!("no port was free at both addresses");
}

#[tokio::test]
async fn localhost_is_found_at_both_loopback_addresses() {
    let (_ends, resolver) = hangs();
    for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let Ok(app) = TcpListener::bind((ip, 0)).await else { continue };
        let port = app.local_addr().expect("bound").port();
        assert!(dial(&resolver, "localhost", port).await.is_ok(), "{ip}");
    }
    let nobody = { TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port").local_addr().expect("bound").port() };
    let error = dial(&resolver, "localhost", nobody).await.expect_err("nobody listens");
    assert!(error.detail.contains("127.0.0.1:") && error.detail.contains("[::1]:"), "{}", error.detail);
}

#[test]
fn names_that_hang_hold_up_neither_localhost_nor_the_end() {
    let (ends, resolver) = hangs();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let resolver = Arc::new(resolver);
        for n in 0..700 {
            let resolver = resolver.clone();
            tokio::task::spawn_local(async move { dial(&resolver, &format!("dead-{n}.test"), 80).await.map(drop) });
        }
        tokio::task::yield_now().await;
        let app = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        assert!(dial(&resolver, "localhost", app.local_addr().expect("bound").port()).await.is_ok());
    });
    let began = Instant::now();
    drop(runtime);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    drop(ends);
}
