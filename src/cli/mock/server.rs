//! Connections of the mock: accepts them, serves HTTP/1.1 on them, closes them when idle.

use std::{future::Future, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, task::JoinSet};

use super::{
    api,
    ledger::Ledger,
    wire::{Steer, Transport, Wire},
};

/// Pause after a failed accept (the process may be out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Accepts until `shutdown`; then every connection is cut.
pub(super) async fn run(listener: &TcpListener, ledger: &Arc<Ledger>, shutdown: impl Future<Output = ()>) {
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    // Pieces are small and must not wait for each other; an error here means that the peer is gone.
                    let _ = stream.set_nodelay(true);
                    connections.spawn(serve(stream, ledger.clone()));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

/// Serves one connection to its end.
pub(super) async fn serve(transport: impl Transport, ledger: Arc<Ledger>) {
    ledger.books.lock().connections += 1;
    let steer = Steer::default();
    let wire = TokioIo::new(Wire::new(transport, steer.clone()));
    let mut http = http1::Builder::new();
    // hyper's header timer starts when it waits for a head: it closes idle connections too.
    http.timer(TokioTimer::new()).header_read_timeout(ledger.options.idle_close).half_close(false);
    let service = service_fn(move |request| api::handle(ledger.clone(), steer.clone(), request));
    // The end of a connection concerns the client alone; its requests are in the books.
    let _: Result<(), hyper::Error> = http.serve_connection(wire, service).await;
}
