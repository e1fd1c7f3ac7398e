//! The tunnel after a 101: bytes pass both ways, as they come, until both sides have ended.

use tokio::io::{AsyncRead, AsyncWrite};

use super::exchange::Exchange;
use crate::upstream::Tunnel;

/// Joins the two connections. The exchange ends with them.
pub async fn run(mut client: impl AsyncRead + AsyncWrite + Unpin, mut upstream: Tunnel, mut exchange: Box<Exchange>) {
    match tokio::io::copy_bidirectional(&mut client, upstream.stream()).await {
        Ok((up, down)) => exchange.tunnelled(up, down, true),
        Err(error) => {
            // Most WebSockets end with a reset. The number of bytes is not known then.
            tracing::debug!(%error, "a tunnel ended");
            exchange.tunnelled(0, 0, true);
        }
    }
}
