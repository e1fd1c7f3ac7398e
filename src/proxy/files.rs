//! The files of batches: what an uploaded file of requests may cost, and which batch a file of results belongs to.
//!
//! The book is bounded, and shared through Redis if there is one: another replica may have passed the upload. A forgotten file of
//! requests is unknown, and a limit on dollars or tokens refuses its batch.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::model::ModelCall;
use crate::{
    provider::{
        Steps,
        batch::{self, Step},
    },
    store::redis::Redis,
};

/// Most files that are remembered.
const MOST: usize = 10_000;
/// How long Redis remembers a file: providers keep files of batches for 30 days.
const REMEMBERED: Duration = Duration::from_secs(30 * 86_400);

/// The book of files. Shared by all workers.
#[derive(Debug, Default)]
pub struct Files {
    inner: Mutex<Remembered>,
    redis: Option<Arc<Redis>>,
}

/// A provider and the id of a file there.
type FileId = (Arc<str>, Box<str>);

#[derive(Debug, Default)]
struct Remembered {
    files: HashMap<FileId, FileKind>,
    /// The oldest first.
    order: VecDeque<FileId>,
}

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileKind {
    /// It has the requests of a batch.
    Requests(Arc<batch::Expected>),
    /// It has the results of this batch.
    ResultsOf(Arc<str>),
}

impl Files {
    /// A book that is shared through `redis`, if given.
    pub fn new(redis: Option<Arc<Redis>>) -> Self {
        Self { inner: Mutex::default(), redis }
    }

    /// Notes a file.
    pub fn note(&self, provider: &Arc<str>, id: &str, known: FileKind) {
        if let Some(redis) = self.shared()
            && let Ok(value) = serde_json::to_vec(&known)
        {
            let (handle, provider, id) = (redis.handle().clone(), provider.clone(), Box::<str>::from(id));
            // Without Redis's answer the file is known to this process alone. The failure counts as the store's error.
            handle.spawn(async move {
                if let Some(key) = key(&redis, &provider, &id).await {
                    let _ = redis.set(&key, Bytes::from(value), REMEMBERED).await;
                }
            });
        }
        let name: FileId = (provider.clone(), id.into());
        let mut inner = self.inner.lock();
        if inner.files.insert(name.clone(), known).is_none() {
            inner.order.push_back(name);
        }
        while inner.files.len() > MOST {
            let Some(oldest) = inner.order.pop_front() else { return };
            inner.files.remove(&oldest);
        }
    }

    /// What is known of a file. Waits for Redis, at most Redis's deadline, if this process does not know it.
    pub async fn known(&self, provider: &Arc<str>, id: &str) -> Option<FileKind> {
        let here = self.inner.lock().files.get(&(provider.clone(), Box::from(id))).cloned();
        match (here, self.shared()) {
            (None, Some(redis)) => {
                let key = key(&redis, provider, id).await?;
                serde_json::from_slice(&redis.get(&key).await.ok()??).ok()
            }
            (here, _) => here,
        }
    }

    /// Redis, unless it is away. A process that has just begun waits for it: another replica may know the file.
    fn shared(&self) -> Option<Arc<Redis>> {
        self.redis.clone().filter(|redis| redis.may_be_up())
    }
}

/// The file's name in Redis, which does not reveal the provider's id; `None`: Redis is away.
async fn key(redis: &Redis, provider: &str, id: &str) -> Option<String> {
    let secret = redis.joined().await.then(|| redis.secret()).flatten()?;
    let mut hasher = blake3::Hasher::new_keyed(&secret);
    hasher.update(&(provider.len() as u64).to_le_bytes()).update(provider.as_bytes()).update(id.as_bytes());
    Some(redis.tagged(&format!("file:2:{}", &hasher.finalize().to_hex()[..32])))
}

/// Finds out what is known of the batch or the file that a call is about. `body`: the call's text, if it was read. `steps`: those of the
/// prices.
pub(super) async fn know(files: &Files, call: &mut ModelCall, body: Option<&[u8]>, steps: &Steps) {
    match (&call.shape.batch, body) {
        (Some(Step::Create), Some(body)) => {
            call.batch = match batch::input_file(body) {
                None => batch::Expected::of_messages(body, steps).map(Arc::new),
                Some(file) => match files.known(&call.provider, &file).await {
                    Some(FileKind::Requests(expected)) => Some(expected),
                    _ => None,
                },
            };
            call.model = call.batch.as_ref().and_then(|batch| batch.model()).map(Arc::from);
        }
        (Some(Step::Content(file)), _) => {
            if let Some(FileKind::ResultsOf(batch)) = files.known(&call.provider, file).await {
                call.results_of = Some(batch);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_file_is_forgotten_first() {
        let (files, provider) = (Files::default(), Arc::from("openai"));
        for id in 0..=MOST {
            files.note(&provider, &id.to_string(), FileKind::ResultsOf("b".into()));
            files.note(&provider, &id.to_string(), FileKind::ResultsOf("c".into()));
        }
        let inner = files.inner.lock();
        assert_eq!((inner.files.len(), inner.order.len()), (MOST, MOST));
        let knows = |id: &str| inner.files.get(&(provider.clone(), id.into())).cloned();
        assert_eq!((knows("0"), knows("1")), (None, Some(FileKind::ResultsOf("c".into()))));
    }
}
