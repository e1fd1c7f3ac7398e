//! Messages between replicas. Redis forgets a message without a listener: every gap becomes a notice.

use std::{
    sync::{Arc, Weak, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use fred::{
    clients::SubscriberClient,
    interfaces::{ClientLike, EventInterface, PubsubInterface},
};
use tokio::{
    sync::{broadcast::error::RecvError, mpsc},
    time::{interval, timeout},
};

use super::{Operation, Redis};
use crate::store::StoreError;

/// Messages that wait for a slow reader; the next one becomes a gap.
const WAITING: usize = 1_024;

/// A message, or a gap between messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A message.
    Message(Bytes),
    /// Messages may have been missed before this point (also the first notice of every subscription).
    Gap,
}

/// The notices of one channel; dropping it ends the subscription.
pub type Notices = mpsc::Receiver<Notice>;

/// Listens on `channel`.
pub(super) fn open(store: &Arc<Redis>, channel: String) -> Result<Notices, StoreError> {
    let mut builder = store.builder();
    // Every new connection asks for the subscription again, and nothing waits for that: it may take its time.
    builder.with_performance_config(|performance| performance.default_command_timeout = Duration::from_secs(1));
    let client = builder.build_subscriber_client().map_err(|error| StoreError::Refused(error.details().to_owned()))?;
    let (notices, heard) = mpsc::channel(WAITING);
    store.driver.handle().spawn(listen(Arc::downgrade(store), client, channel, notices));
    Ok(heard)
}

async fn listen(store: Weak<Redis>, client: SubscriberClient, channel: String, notices: mpsc::Sender<Notice>) {
    let (mut messages, mut connected) = (client.message_rx(), client.reconnect_rx());
    client.connect();
    let mut tick = interval(Duration::from_secs(1));
    let (mut connected_once, mut subscribed, mut missed) = (false, false, true);
    loop {
        tokio::select! {
            message = messages.recv() => match message {
                Ok(message) => {
                    let bytes = message.value.into_bytes().unwrap_or_default();
                    missed |= notices.try_send(Notice::Message(bytes)).is_err();
                }
                Err(RecvError::Lagged(_)) => missed = true,
                Err(RecvError::Closed) => break,
            },
            event = connected.recv() => match event {
                Ok(_) | Err(RecvError::Lagged(_)) => (connected_once, subscribed) = (true, false),
                Err(RecvError::Closed) => break,
            },
            _ = tick.tick() => {}
            () = notices.closed() => break,
        }
        if connected_once && !subscribed {
            let Some(store) = store.upgrade() else { break };
            match timeout(Duration::from_secs(1), client.subscribe(channel.as_str())).await {
                Ok(Ok(())) => (subscribed, missed) = (true, true),
                _ => {
                    store.errors[Operation::Subscribe as usize].fetch_add(1, Relaxed);
                }
            }
        } else if store.strong_count() == 0 {
            break;
        }
        if subscribed && missed && notices.try_send(Notice::Gap).is_ok() {
            missed = false;
        }
    }
    let _ = timeout(Duration::from_secs(1), client.quit()).await;
}
