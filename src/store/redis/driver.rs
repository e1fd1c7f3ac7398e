//! The thread of the store's connection. Nothing else runs on it and nothing can delay an answer: a deadline of 50 ms is kept
//! whatever else the process does.

use std::io;

use tokio::{runtime::Handle, sync::oneshot};

/// The running thread; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Driver {
    handle: Handle,
    _end: oneshot::Sender<()>,
}

impl Driver {
    pub(super) fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new().name("outrigger-store".into()).spawn(move || {
            let _ = runtime.block_on(ended);
            // A plain drop would wait for a name lookup that is under way.
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, _end: end })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}
