//! A journal of records that all replicas must know, in order and without loss: numbered, kept in Redis in bounded room, and
//! published at once.
//!
//! A record is about a slot (one of a fixed number), a text (the last few are kept), or everything. Redis keeps for each the
//! number of its last record: a reader who knows everything up to a number can tell what has changed since, however much it
//! missed. A reader who reads the whole journal after a gap in the messages has missed nothing.
//!
//! A journal costs one hash of as many small fields as there are slots. An `id` tells a journal from a later one under the same
//! name (Redis was emptied): numbers of different journals cannot be compared.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::Bytes;
use fred::{
    clients::{Client, WithOptions},
    interfaces::{ClientLike as _, HashesInterface},
    types::{Value, config::Options},
};

use super::{Notices, Operation, Redis, Script, scripts, subscribe};
use crate::{clock, store::StoreError};

static APPEND: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("journal.lua")));
/// The whole journal takes longer than a value, and no request waits for it.
const READ_DEADLINE: Duration = Duration::from_secs(2);

/// The subject of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// A slot, by the name of its field: a letter other than `p` and a number.
    Slot(String),
    /// A text.
    Text(String),
    /// Everything.
    All,
}

/// A published record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The journal's id.
    pub id: u64,
    /// The record's number; the first is 1.
    pub number: u64,
    /// The record's message.
    pub message: Bytes,
}

/// The journal as it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Journal {
    /// Tells the journal from a later one under the same name.
    pub id: u64,
    /// Number of the last record.
    pub number: u64,
    /// Number of the last record about everything.
    pub all: u64,
    /// Number of the last record about each slot, by the name of its field.
    pub slots: HashMap<String, u64>,
    /// The kept texts with the numbers of their records, in no order.
    pub texts: Vec<(u64, String)>,
}

impl Redis {
    /// Appends a record to the journal `name`, which keeps `texts` texts, and publishes `message` to its
    /// [listeners](Self::journal_notices). Works in a full Redis too. Gives the record's number. Without an answer the record
    /// may have been written; a second record with the same content does no harm.
    pub async fn journal_append(&self, name: &str, about: &About, texts: u32, message: &[u8]) -> Result<u64, StoreError> {
        let client = self.client()?;
        let (kind, what) = match about {
            About::Slot(field) => ("slot", field.as_str()),
            About::Text(text) => ("text", text.as_str()),
            About::All => ("all", ""),
        };
        let id = format!("{:016x}", clock::unguessable_id() as u64);
        let args = [
            id.as_str().into(),
            kind.into(),
            what.into(),
            Value::Integer(i64::from(texts)),
            self.key(name).into(),
            Value::Bytes(Bytes::copy_from_slice(message)),
        ];
        let keys = [self.tagged(name)];
        let work = scripts::send::<u64>(&client, &APPEND, &keys, args.into_iter());
        self.finish(Operation::Publish, work).await
    }

    /// The whole journal; a missing one is created empty.
    pub async fn journal(&self, name: &str) -> Result<Journal, StoreError> {
        let client = self.patient()?;
        let key = self.tagged(name);
        let offer = format!("{:016x}", clock::unguessable_id() as u64);
        let work = async {
            let _: i64 = client.hsetnx(key.as_str(), "id", offer).await?;
            client.hgetall::<HashMap<String, String>, _>(key.as_str()).await
        };
        let fields = self.finish_within(READ_DEADLINE, Operation::Get, work).await?;
        read(fields).ok_or_else(|| StoreError::Refused(format!("`{key}` does not hold a journal; delete it")))
    }

    /// The journal's id, and the number of its last record.
    pub async fn journal_head(&self, name: &str) -> Result<Option<(u64, u64)>, StoreError> {
        let client = self.patient()?;
        let key = self.tagged(name);
        let work = client.hmget::<(Option<String>, Option<u64>), _, _>(key.as_str(), vec!["id", "number"]);
        let (id, number) = self.finish_within(READ_DEADLINE, Operation::Get, work).await?;
        Ok(id.and_then(|id| u64::from_str_radix(&id, 16).ok()).map(|id| (id, number.unwrap_or(0))))
    }

    /// The records of the journal `name` from now on, and its gaps, as [`Self::subscribe`] gives them. Read messages with [`told`].
    pub fn journal_notices(self: &Arc<Self>, name: &str) -> Result<Notices, StoreError> {
        subscribe::open(self, self.key(name))
    }

    fn patient(&self) -> Result<WithOptions<Client>, StoreError> {
        let options = Options { timeout: Some(READ_DEADLINE), ..self.options() };
        self.client().map(|client| Client::with_options(&client, &options))
    }
}

/// Reads a journal's message; `None` if it is none.
pub fn told(message: &Bytes) -> Option<Told> {
    let mut parts = message.splitn(3, |byte| *byte == b' ');
    let id = u64::from_str_radix(std::str::from_utf8(parts.next()?).ok()?, 16).ok()?;
    let number = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    Some(Told { id, number, message: message.slice_ref(parts.next()?) })
}

fn read(fields: HashMap<String, String>) -> Option<Journal> {
    let mut journal = Journal::default();
    for (field, value) in fields {
        match field.as_str() {
            "id" => journal.id = u64::from_str_radix(&value, 16).ok()?,
            "number" => journal.number = value.parse().ok()?,
            "all" => journal.all = value.parse().ok()?,
            "texts" => {}
            _ if field.starts_with('p') => {
                let (number, text) = value.split_once(':')?;
                journal.texts.push((number.parse().ok()?, text.to_owned()));
            }
            _ => {
                journal.slots.insert(field, value.parse().ok()?);
            }
        }
    }
    (journal.id != 0).then_some(journal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_fields_are_read_or_refused() {
        let good = Bytes::from_static(b"00000000000000ff 12 t a tag with blanks");
        assert_eq!(told(&good), Some(Told { id: 255, number: 12, message: Bytes::from_static(b"t a tag with blanks") }));
        for bad in ["", "x 1 t", "ff x t", "ff 1"] {
            assert_eq!(told(&Bytes::from(bad)), None, "{bad}");
        }
        let fields = |list: &[(&str, &str)]| list.iter().map(|(field, value)| ((*field).to_owned(), (*value).to_owned())).collect();
        let journal = read(fields(&[("id", "a"), ("number", "7"), ("all", "2"), ("t3", "7"), ("p0", "5:h/a:b"), ("texts", "1")]));
        let slots = HashMap::from([("t3".to_owned(), 7)]);
        assert_eq!(journal, Some(Journal { id: 10, number: 7, all: 2, slots, texts: vec![(5, "h/a:b".to_owned())] }));
        assert_eq!(read(fields(&[("number", "7")])), None);
        assert_eq!(read(fields(&[("id", "a"), ("t3", "seven")])), None);
    }
}
