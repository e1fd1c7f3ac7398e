//! The part of the store that replicas agree by: claims that end by themselves, and the book of what somebody was told.

use std::{sync::LazyLock, time::Duration};

use bytes::Bytes;

use crate::store::{
    StoreError,
    redis::{Redis, Script},
};

/// How long the book outlives its last entry.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

static BOOK: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("shelf.lua")));

/// The part of the store that replicas agree by.
pub trait Shelf: Send + Sync {
    /// Stores a value unless there is one; gives whether it was stored.
    fn claim(&self, key: &str, ttl: Duration) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Stores a value.
    fn renew(&self, key: &str, ttl: Duration) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Whether there is a value.
    fn has(&self, key: &str) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Removes a value; gives whether there was one.
    fn remove(&self, key: &str) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Notes in the book that somebody was told of the incident with this id.
    fn note(&self, id: &str, text: Vec<u8>) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Strikes an incident out of the book; gives whether it stood there.
    fn strike(&self, id: &str) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Whether an incident stands in the book.
    fn noted(&self, id: &str) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// The whole book: ids and texts.
    fn book(&self) -> impl Future<Output = Result<Vec<(String, Bytes)>, StoreError>> + Send;
}

impl Shelf for Redis {
    async fn claim(&self, key: &str, ttl: Duration) -> Result<bool, StoreError> {
        self.set_new(&self.key(key), Bytes::from_static(b"1"), ttl).await
    }

    async fn renew(&self, key: &str, ttl: Duration) -> Result<(), StoreError> {
        self.set(&self.key(key), Bytes::from_static(b"1"), ttl).await
    }

    async fn has(&self, key: &str) -> Result<bool, StoreError> {
        Ok(self.get(&self.key(key)).await?.is_some())
    }

    async fn remove(&self, key: &str) -> Result<bool, StoreError> {
        Ok(self.delete(&[self.key(key)]).await? > 0)
    }

    async fn note(&self, id: &str, text: Vec<u8>) -> Result<(), StoreError> {
        let life = KEPT.as_millis().to_string().into_bytes();
        ask(self, &[b"note".to_vec(), id.into(), text, life]).await.map(drop)
    }

    async fn strike(&self, id: &str) -> Result<bool, StoreError> {
        Ok(is_one(&ask(self, &[b"strike".to_vec(), id.into()]).await?))
    }

    async fn noted(&self, id: &str) -> Result<bool, StoreError> {
        Ok(is_one(&ask(self, &[b"has".to_vec(), id.into()]).await?))
    }

    async fn book(&self) -> Result<Vec<(String, Bytes)>, StoreError> {
        let rows = ask(self, &[b"all".to_vec()]).await?;
        Ok(rows.chunks_exact(2).map(|row| (String::from_utf8_lossy(&row[0]).into_owned(), row[1].clone())).collect())
    }
}

async fn ask(redis: &Redis, words: &[Vec<u8>]) -> Result<Vec<Bytes>, StoreError> {
    redis.run(&BOOK, &[redis.tagged("alert:book")], words).await
}

fn is_one(answer: &[Bytes]) -> bool {
    answer.first().is_some_and(|n| &**n == b"1")
}
