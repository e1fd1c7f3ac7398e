//! After a 101: bytes both ways, as they come, until one side ends.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::exchange::Exchange;

/// Joins the two connections; the exchange ends with them.
pub async fn run(client: OnUpgrade, upstream: OnUpgrade, mut exchange: Box<Exchange>) {
    let (client, upstream) = match futures_util::future::try_join(client, upstream).await {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(%error, "an upgrade came to nothing");
            exchange.tunnelled(0, 0, false);
            return;
        }
    };
    let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
    match tokio::io::copy_bidirectional(&mut client, &mut upstream).await {
        Ok((up, down)) => exchange.tunnelled(up, down, true),
        Err(error) => {
            // A reset is how most WebSockets end; the bytes that passed are not known then.
            tracing::debug!(%error, "a tunnel ended");
            exchange.tunnelled(0, 0, true);
        }
    }
}
