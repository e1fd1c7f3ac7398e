//! The book as a text that outlives the process: who pays for the works that go on, and which works are paid. The limits' reservations and
//! keys are not kept: limits in memory begin anew with the process. A charge finds its keys by the caller's and the route's names.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{BATCH, Book, Said, name};
use crate::{
    clock::Instant,
    config::Operation,
    policy::limits::Lease,
    provider::{Due, session::Session},
    proxy::{
        model::FLAVORS,
        payer::{Payer, Payers},
        pledge::{Order, Pledge},
    },
};

/// The form of the text. Another form is not read.
const FORMAT: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    format: u32,
    open: Vec<OpenWork>,
    paid: Vec<Paid>,
}

#[derive(Debug, Serialize, Deserialize)]
struct OpenWork {
    provider: String,
    id: String,
    /// Seconds since 1970.
    since: u64,
    operation: String,
    flavor: String,
    /// Nano-dollars.
    expected_cost: Option<u64>,
    said: Said,
}

#[derive(Debug, Serialize, Deserialize)]
struct Paid {
    provider: String,
    id: String,
    since: u64,
}

/// Why a kept book cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is no text of a book.
    #[error("it is not a book of works: {0}")]
    Text(#[from] serde_json::Error),
    /// A newer or older version has written it.
    #[error("its format is {0}, this version reads {FORMAT}")]
    Format(u32),
}

impl Kept {
    fn read(text: &[u8]) -> Result<Self, Unreadable> {
        let kept: Self = serde_json::from_slice(text)?;
        if kept.format == FORMAT { Ok(kept) } else { Err(Unreadable::Format(kept.format)) }
    }
}

/// Whether a caller of this name pays for an open work of a kept book. A text that is no book names nobody.
pub fn pays(text: &[u8], name: &str) -> bool {
    Kept::read(text).is_ok_and(|kept| kept.open.iter().any(|open| open.said.caller.as_deref() == Some(name)))
}

/// The moment of `since`, in seconds since 1970, on the clock of this process. A moment before the clock's begin: the present.
fn began(since: u64, now: Instant, seconds: u64) -> Instant {
    now.checked_sub(Duration::from_secs(seconds.saturating_sub(since))).unwrap_or(now)
}

impl Book {
    /// A number that changes with the book.
    pub fn version(&self) -> u64 {
        self.here.version().wrapping_add(self.batches.version())
    }

    /// Waits until the book may have changed. For one waiter.
    pub async fn changed(&self) {
        self.news.notified().await;
    }

    /// Tells [`changed`](Self::changed) that the book may have changed.
    pub fn changes(&self) {
        self.news.notify_one();
    }

    /// The book as a text. `seconds`: the present, since 1970. `None`: Redis keeps the book.
    pub fn kept(&self, now: Instant, seconds: u64) -> Option<Vec<u8>> {
        if self.redis.is_some() {
            return None;
        }
        let mut kept = Kept { format: FORMAT, open: Vec::new(), paid: Vec::new() };
        for works in [&self.here, &self.batches] {
            works.each(|provider, id, at, pledge| {
                let (provider, id) = (provider.to_owned(), id.to_owned());
                let since = seconds.saturating_sub(now.saturating_duration_since(at).as_secs());
                let Some(pledge) = pledge else { return kept.paid.push(Paid { provider, id, since }) };
                let order = &pledge.order;
                kept.open.push(OpenWork {
                    provider,
                    id,
                    since,
                    operation: order.operation.to_owned(),
                    flavor: order.flavor.to_owned(),
                    expected_cost: order.expected_cost,
                    said: Said { reserved: Vec::new(), ..Said::of(pledge) },
                });
            });
        }
        serde_json::to_vec(&kept).ok()
    }

    /// Takes over a book that another process has kept. Works that are known already stay as they are.
    ///
    /// # Errors
    /// The text is no book, or has another format.
    pub fn take_over(&self, text: &[u8], now: Instant, seconds: u64) -> Result<(), Unreadable> {
        let kept = Kept::read(text)?;
        let at = |since| began(since, now, seconds);
        self.take_charged(kept.paid, now, seconds);
        for open in kept.open {
            let order = Order {
                provider: open.provider.into(),
                model: open.said.model.as_deref().map(Arc::from),
                route: open.said.route.as_str().into(),
                inbound: open.said.inbound.as_deref().map(Arc::from),
                flavor: flavor(&open.flavor),
                operation: operation(&open.operation),
                unattributed: open.said.unattributed,
                expected: open.said.expected(),
                expected_cost: open.expected_cost,
            };
            let payers = Payers::led_by(Payer::kept(open.said.caller.map(Arc::from), open.said.claimed)).0;
            let (provider, id) = (order.provider.clone(), open.id.into_boxed_str());
            let pledge = Pledge { payers, lease: None, order, id: id.clone() };
            // Nothing is too old here that a sweep would not find a minute later.
            let _ = self.part(&id).0.begin_at(&provider, &id, pledge, at(open.since));
        }
        self.changes();
        Ok(())
    }

    /// Gives Redis what this process has taken over; `false`: Redis is away, and has a part of it at most. What Redis has already stays.
    pub async fn hand_over(&self, now: Instant) -> bool {
        let Some(redis) = self.redis.clone().filter(|redis| redis.is_up()) else { return false };
        let mut all = Vec::new();
        for works in [&self.here, &self.batches] {
            works.each(|provider, id, at, pledge| {
                let said = pledge.map(Said::of);
                if said.as_ref().is_none_or(|said| said.kept) {
                    all.push((provider.to_owned(), id.to_owned(), now.saturating_duration_since(at), said));
                }
            });
        }
        for (provider, id, age, said) in all {
            let Some(work) = name(&redis, &provider, &id).await else { return false };
            let [promised, charged] = self.part(&id).1;
            let said = said.map(|said| serde_json::to_vec(&said).unwrap_or_default().into());
            let is_done = match said {
                Some(said) => redis.work_begins(&work, said, promised.saturating_sub(age)).await.is_ok(),
                None => redis.work_ends(&work, charged).await.is_ok(),
            };
            if !is_done {
                return false;
            }
        }
        true
    }

    /// Whether Redis keeps the book.
    pub fn is_in_redis(&self) -> bool {
        self.redis.is_some()
    }

    /// Takes over the charged works alone of a book that another process keeps.
    ///
    /// # Errors
    /// As [`take_over`](Self::take_over).
    pub fn take_over_charged(&self, text: &[u8], now: Instant, seconds: u64) -> Result<(), Unreadable> {
        self.take_charged(Kept::read(text)?.paid, now, seconds);
        self.changes();
        Ok(())
    }

    fn take_charged(&self, all: Vec<Paid>, now: Instant, seconds: u64) {
        for paid in all {
            let at = began(paid.since, now, seconds);
            if let Due::From(pledge) = self.part(&paid.id).0.end(&paid.provider.into(), &paid.id, at) {
                // The other process has charged the work, and its limits. What is reserved here stands for the charge.
                pledge.lease.into_iter().for_each(Lease::keep);
            }
        }
    }

    /// Takes a caller's name out of what Redis knows of this process's open works; `false`: Redis is away, and still has some of the name.
    /// Works that other replicas have begun are theirs to tell. Before [`erase`](Self::erase): after it nothing tells whose works they were.
    pub async fn erase_in_redis(&self, caller: &str) -> bool {
        let Some(redis) = self.redis.clone() else { return true };
        let mut notes = Vec::new();
        for works in [&self.here, &self.batches] {
            works.each(|provider, id, _, pledge| {
                let said = pledge.map(Said::of).filter(|said| said.caller.as_deref() == Some(caller));
                // The reservation is under the caller's keys: it stands, and nobody corrects it.
                notes.extend(said.map(|said| (provider.to_owned(), id.to_owned(), Said { caller: None, reserved: Vec::new(), ..said })));
            });
        }
        for (provider, id, said) in notes {
            let Some(work) = name(&redis, &provider, &id).await else { return false };
            if redis.work_says(&work, &serde_json::to_vec(&said).unwrap_or_default()).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Takes a caller's name out of the book. The caller's works are charged to nobody by name. Gives whether there were any.
    pub fn erase(&self, name: &str) -> bool {
        let forget = |pledge: &mut Pledge| {
            let leader = pledge.payers.leader();
            let is_theirs = leader.caller.as_deref() == Some(name);
            if is_theirs {
                pledge.payers = Payers::led_by(if leader.kept { Payer::kept(None, leader.claimed) } else { Payer::named(None) }).0;
                // The reservation is under the caller's keys.
                pledge.lease.take().into_iter().for_each(Lease::keep);
            }
            is_theirs
        };
        let [here, batches] = [&self.here, &self.batches].map(|works| works.each_payer(forget));
        self.changes();
        here || batches
    }
}

fn operation(word: &str) -> &'static str {
    let sessions = [Session::Realtime, Session::Responses].map(Session::as_str);
    let known = Operation::ALL.iter().map(|(_, word)| *word).chain(sessions).chain([BATCH.trim_end_matches(':')]);
    known.into_iter().find(|known| *known == word).unwrap_or("other")
}

fn flavor(word: &str) -> &'static str {
    FLAVORS.into_iter().find(|known| *known == word).unwrap_or("_OTHER")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{proxy::book::Owed, usage::Usage};

    fn pledge(id: &str, caller: &str) -> Pledge {
        let order = Order {
            provider: "openai".into(),
            model: Some("gpt-4o".into()),
            route: "chat".into(),
            inbound: None,
            flavor: "openai",
            operation: "batch",
            unattributed: false,
            expected: Usage { input: 5, output: 7, ..Usage::default() },
            expected_cost: Some(11),
        };
        Pledge { payers: Payers::led_by(Payer::named(Some(caller.into()))).0, lease: None, order, id: id.into() }
    }

    #[test]
    fn the_next_process_knows_who_pays_what_is_paid_and_how_old_it_is() {
        let (book, now) = (Book::default(), crate::clock::Clock::system().now());
        let later = now + Duration::from_secs(86_400);
        let version = book.version();
        for (id, at) in [("batch:1", now), ("batch:2", now), ("batch:3", later)] {
            book.begin(id, pledge(id, if id == "batch:2" { "bert" } else { "anna" }), at).expect("new");
        }
        assert_ne!(book.version(), version);
        book.begin("resp_1", pledge("resp_1", "anna"), later).expect("new");
        book.end_here(&"openai".into(), "batch:3", later);
        let text = book.kept(later, 1_800_000_000).expect("no Redis");

        let next = Book::default();
        // The clock of this process began a moment ago.
        let start = later + Duration::from_secs(100);
        next.take_over(&text, start, 1_800_000_100).expect("readable");
        let provider = Arc::from("openai");
        assert!(matches!(next.end_here(&provider, "batch:3", start), Owed::Here(Due::Nothing)), "paid already");
        let Owed::Here(Due::From(pledge)) = next.end_here(&provider, "batch:1", start) else { panic!("known") };
        assert_eq!(pledge.payers.leader().name(), "anna");
        let order = &pledge.order;
        assert_eq!((order.operation, order.flavor, order.expected_cost, order.expected.output), ("batch", "openai", Some(11), 7));
        assert_eq!(next.sweep(start + Duration::from_secs(86_000)).len(), 0);
        assert_eq!(next.sweep(start + Duration::from_secs(86_400)).len(), 1, "the response");
        let old = next.sweep(now + Duration::from_secs(30 * 86_400 + 1));
        assert_eq!((old.len(), old[0].payers.leader().name()), (1, "bert"));

        for text in ["", "{}", r#"{"format":2,"open":[],"paid":[]}"#] {
            assert!(next.take_over(text.as_bytes(), start, 1).is_err(), "{text}");
        }
        assert_eq!(["bert", "anna", "carl"].map(|name| pays(&text, name)), [true, true, false]);
        assert!(book.erase("bert") && !book.erase("bert"));
        let text = String::from_utf8(book.kept(later, 1_800_000_000).expect("no Redis")).expect("text");
        assert!(text.contains("anna") && !text.contains("bert"), "{text}");
    }
}
