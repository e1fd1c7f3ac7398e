//! The traffic of purges: this replica's records are written into the journal, the records of others are heard, and lost
//! messages are noticed.

use std::{
    sync::{Weak, atomic::Ordering},
    time::Duration,
};

use tokio::sync::mpsc;

use super::{
    super::known::{Known, PREFIXES, Record, Stamp},
    Cache, EVERYTHING, JOURNAL, Tier,
};
use crate::{
    clock::Clock,
    store::redis::{
        Notice, Notices, Redis,
        journal::{self, Told},
    },
};

const RETRY: Duration = Duration::from_millis(200);
/// Longest wait for our own record to come back; a gap in the messages is noticed by then.
const HEARD: Duration = Duration::from_secs(2);
/// Pause between two checks for lost messages. One check a second is nothing to a Redis, and bounds the harm of a lost message.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Hears the records of all replicas, for as long as the cache lives.
pub(super) async fn hear(cache: Weak<Cache>, redis: Weak<Redis>, mut notices: Notices, clock: Clock) {
    // The stamp up to which memory is purged.
    let mut purged = None;
    // The journal's stamp at the last check, if no message has carried it.
    let mut unheard = None;
    loop {
        let notice = match tokio::time::timeout(LOOK_EVERY, notices.recv()).await {
            Ok(Some(notice)) => notice,
            Ok(None) => return,
            Err(_) => {
                let before = unheard.take();
                unheard = unheard_of(&redis, purged).await;
                if unheard.is_none() || unheard != before {
                    continue;
                }
                // Messages get lost on this subscription: a new one is needed.
                unheard = None;
                let Some(redis) = redis.upgrade() else { return };
                if let Ok(anew) = redis.journal_notices(JOURNAL) {
                    notices = anew;
                }
                Notice::Gap
            }
        };
        let told = match &notice {
            Notice::Message(message) => journal::told(message),
            Notice::Gap => None,
        };
        if let Some(Told { id, number, message }) = told
            && let Some(at) = purged.filter(|at: &Stamp| at.id == id && number <= at.number + 1)
        {
            if number == at.number + 1 {
                let Some(cache) = cache.upgrade() else { return };
                // An unreadable record comes from a later version, and can be about anything.
                let record = Record::decode(&message).unwrap_or(EVERYTHING);
                cache.obey(&record, clock.moment());
                purged = cache.tier.as_ref().and_then(|tier| tier.hear(number, &record));
            }
            continue;
        }
        if let Some(tier) = cache.upgrade().and_then(|cache| cache.tier.clone()) {
            tier.forget();
        }
        let Some(journal) = read_journal(&redis).await else { return };
        let Some(cache) = cache.upgrade() else { return };
        let Some(tier) = &cache.tier else { return };
        let known = Known::new(journal);
        if purged != Some(known.stamp()) {
            cache.obey(&EVERYTHING, clock.moment());
        }
        purged = Some(known.stamp());
        tier.learn(known);
    }
}

/// The number of the journal's last record, where that is later than what was heard.
async fn unheard_of(redis: &Weak<Redis>, heard: Option<Stamp>) -> Option<Stamp> {
    let (heard, redis) = (heard?, redis.upgrade()?);
    if !redis.is_up() {
        return None;
    }
    let (id, number) = redis.journal_head(JOURNAL).await.ok()??;
    (id != heard.id || number > heard.number).then_some(Stamp { id, number })
}

async fn read_journal(redis: &Weak<Redis>) -> Option<journal::Journal> {
    loop {
        if let Ok(journal) = redis.upgrade()?.journal(JOURNAL).await {
            return Some(journal);
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Writes this replica's records into the journal, one after the other, and tries each until it is written.
pub(super) async fn speak(tier: Weak<Tier>, mut waiting: mpsc::Receiver<Record>) {
    while let Some(mut record) = waiting.recv().await {
        loop {
            let Some(tier) = tier.upgrade() else { return };
            if tier.overflowed.swap(false, Ordering::AcqRel) {
                record = EVERYTHING;
            }
            let before = tier.stamp();
            let said = tier.redis.journal_append(JOURNAL, &record.about(), PREFIXES, &record.encode()).await;
            if let Ok(number) = said {
                // Redis is asked again only after this replica, too, has heard of the purge.
                let heard = |now: &Option<Stamp>| now.is_some_and(|now| now.number >= number || before.is_some_and(|b| b.id != now.id));
                let _ = tokio::time::timeout(HEARD, tier.heard.subscribe().wait_for(heard)).await;
                tier.unsaid.fetch_sub(1, Ordering::AcqRel);
                break;
            }
            drop(tier);
            tokio::time::sleep(RETRY).await;
        }
    }
}
