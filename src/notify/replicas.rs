//! One notice for all replicas: an incident is told by the replica that claims it first, in the Redis that they share.
//!
//! Keys of an incident: `told` is claimed by the replica that tells. `open` is renewed by every replica that sees the incident: the
//! incident is over when nobody renews it, and whoever then removes `told` tells the end. `holder` is the replica that reminds: if it
//! goes, another takes its place. `is` is claimed for each severity. `over` says for a day that the end was told: a replica that was
//! away meanwhile does not tell it again. While Redis is away each replica tells by itself: twice is better than never.
//!
//! The book holds each incident that somebody was told of, until its end is told. Who takes an incident over looks into it: one that
//! stands there is told already, any other is told now. An incident of the book that no replica sees any more, because the only one
//! that saw it is gone, is ended by one of those that are left.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::shelf::Shelf;
use crate::{
    alert::{Change, Incident, Kind, Notice, OpenIncident, What},
    config::Severity,
    store::StoreError,
};

/// How long a claim holds without being renewed.
const CLAIM: Duration = Duration::from_secs(90);
/// How long an incident counts as open without being renewed.
const OPEN: Duration = Duration::from_secs(20);
/// How long a severity, or an end, stays told.
const DAY: Duration = Duration::from_secs(86_400);
/// Time between two renewals, in milliseconds.
const RENEW: u64 = 5_000;

/// How long Redis is asked again whether somebody still sees an incident, in milliseconds. Then each tells the end.
const GRACE: u64 = 5_000;
/// Time between two looks at the book, in milliseconds.
const SWEEP: u64 = 30_000;
/// How long nobody must have seen an incident of the book until another replica tells its end, in milliseconds: who saw it may come back.
const ORPHAN: u64 = 5 * 60_000;

/// An incident that this replica sees.
#[derive(Debug)]
struct Seen {
    incident: Incident,
    /// Whether this replica reminds.
    mine: bool,
    /// Whether another one tells, and perhaps of a lesser severity: that is looked at with the next renewal, when the other one has
    /// claimed the severity that it tells.
    compared: bool,
    renewed: u64,
}

/// This replica among the others.
#[derive(Debug)]
pub struct Replicas<S> {
    shelf: Option<Arc<S>>,
    seen: BTreeMap<String, Seen>,
    /// Incidents that are over here, and since when.
    over: Vec<(u64, Incident)>,
    /// Incidents of the book that nobody sees, and since when.
    orphans: BTreeMap<String, u64>,
    /// Ends that were told while Redis was away: the book does not know them yet.
    unstruck: BTreeSet<String>,
    swept: u64,
}

impl<S: Shelf> Replicas<S> {
    /// Alone, if there is no shelf.
    pub fn new(shelf: Option<Arc<S>>) -> Self {
        Self { shelf, seen: BTreeMap::new(), over: Vec::new(), orphans: BTreeMap::new(), unstruck: BTreeSet::new(), swept: 0 }
    }

    /// Goes on with the incidents of a process before. `now` is steady time in milliseconds. Those whose end another replica has told
    /// meanwhile are left out.
    pub async fn resume(&mut self, now: u64, open: Vec<OpenIncident>) -> Vec<OpenIncident> {
        let Some(shelf) = self.shelf.clone() else {
            return open.into_iter().map(|one| OpenIncident { elsewhere: false, ..one }).collect();
        };
        let (mut goes_on, mut away) = (Vec::new(), false);
        for mut one in open {
            let id = one.incident.id.clone();
            // Redis is asked until it does not answer: a start does not wait for it again and again.
            match if away { Err(StoreError::Away) } else { shelf.has(&key("over", &id)).await } {
                Ok(true) => continue,
                Ok(false) => one.elsewhere = !take_on(&*shelf, &one).await,
                Err(_) => away = true,
            }
            self.seen.insert(id, Seen { incident: one.incident.clone(), mine: !one.elsewhere, compared: true, renewed: now });
            goes_on.push(one);
        }
        goes_on
    }

    /// Lets through the changes that this replica tells. `now` is steady time in milliseconds.
    pub async fn agree(&mut self, now: u64, changes: Vec<Change>) -> Vec<Change> {
        let Some(shelf) = self.shelf.clone() else { return changes };
        let mut told = Vec::new();
        for change in changes {
            let id = change.incident.id.clone();
            match change.what {
                What::Opened => {
                    let before = self.over.len();
                    self.over.retain(|(_, incident)| incident.id != id);
                    // What is back before its end was told goes on.
                    let mine = before == self.over.len() && claim(&*shelf, &change.incident).await;
                    // An error is told by the next command too; the claim decides.
                    let _ = shelf.renew(&key("open", &id), OPEN).await;
                    self.seen.insert(id, Seen { incident: change.incident.clone(), mine, compared: mine, renewed: now });
                    told.push(Change { what: if mine { What::Opened } else { What::Elsewhere }, ..change });
                }
                What::Worse => {
                    let first = claim_severity(&*shelf, &change.incident).await;
                    if let Some(seen) = self.seen.get_mut(&id) {
                        seen.incident = change.incident.clone();
                        seen.compared = true;
                    }
                    told.push(Change { what: if first { What::Worse } else { What::Elsewhere }, ..change });
                }
                What::Recovered => {
                    // Whoever still sees it reminds from now on.
                    if self.seen.remove(&id).is_some_and(|seen| seen.mine) {
                        let _ = shelf.remove(&key("holder", &id)).await;
                    }
                    told.push(Change { what: What::Left, incident: change.incident.clone() });
                    self.over.push((now, change.incident));
                }
                What::Elsewhere | What::Taken | What::Left => told.push(change),
            }
        }
        self.renew(&*shelf, now, &mut told).await;
        self.end(&*shelf, now, &mut told).await;
        if self.swept + SWEEP <= now {
            self.swept = now;
            self.sweep(&*shelf, now, &mut told).await;
        }
        told
    }

    /// Notes in the book what is told by these notices, and takes the ends out of them that are no ends any more: while they waited,
    /// another replica has seen the incident again, and tells of it.
    pub async fn post(&self, notices: &mut Vec<Notice>) {
        let Some(shelf) = self.shelf.as_deref() else { return };
        for notice in notices.iter_mut() {
            let mut goes_on = Vec::new();
            for item in &notice.items {
                match notice.kind {
                    Kind::Firing | Kind::Reminder => {
                        let text = self.seen.get(&item.id).and_then(|seen| serde_json::to_vec(&seen.incident).ok());
                        if let Some(text) = text {
                            // While Redis is away nobody can look into the book either.
                            let _ = shelf.note(&item.id, text).await;
                        }
                    }
                    Kind::Resolved if shelf.has(&key("open", &item.id)).await == Ok(true) => goes_on.push(item.id.clone()),
                    _ => {}
                }
            }
            notice.items.retain(|item| !goes_on.contains(&item.id));
            notice.severity = notice.items.iter().map(|item| item.severity).max().unwrap_or(notice.severity);
        }
        notices.retain(|notice| !notice.items.is_empty());
    }

    /// Nothing is watched here any more, and whoever this replica told was told so: others are free to tell of it anew.
    pub async fn leave(self) {
        let Some(shelf) = self.shelf.as_deref() else { return };
        for (id, _) in self.seen.iter().filter(|(_, seen)| seen.mine) {
            let _ = shelf.strike(id).await;
            forget(shelf, id).await;
        }
    }

    /// Renews what is open, and takes over from replicas that are gone.
    async fn renew(&mut self, shelf: &S, now: u64, told: &mut Vec<Change>) {
        for (id, seen) in self.seen.iter_mut().filter(|(_, seen)| seen.renewed + RENEW <= now) {
            seen.renewed = now;
            // While Redis is away nothing can be renewed, and nothing is lost by it.
            let _ = shelf.renew(&key("open", id), OPEN).await;
            let _ = shelf.renew(&key("told", id), CLAIM).await;
            if seen.mine {
                let _ = shelf.renew(&key("holder", id), CLAIM).await;
            } else if let Ok(true) = shelf.claim(&key("holder", id), CLAIM).await {
                seen.mine = true;
                // The one that is gone may not have told anybody.
                let what = if shelf.noted(id).await == Ok(false) { What::Opened } else { What::Taken };
                told.push(Change { what, incident: seen.incident.clone() });
            }
            if !seen.compared
                && let Ok(first) = shelf.claim(&severity_key(id, seen.incident.severity), DAY).await
            {
                seen.compared = true;
                told.extend(first.then(|| Change { what: What::Worse, incident: seen.incident.clone() }));
            }
        }
    }

    /// Tells the end of what nobody sees any more.
    async fn end(&mut self, shelf: &S, now: u64, told: &mut Vec<Change>) {
        let open = u64::try_from(OPEN.as_millis()).unwrap_or_default();
        let mut waits = Vec::new();
        for (since, incident) in std::mem::take(&mut self.over) {
            if since + open > now {
                waits.push((since, incident));
                continue;
            }
            let last = match shelf.has(&key("open", &incident.id)).await {
                Ok(true) => {
                    waits.push((since, incident));
                    continue;
                }
                Ok(false) => shelf.remove(&key("told", &incident.id)).await.unwrap_or(true),
                // An answer that is late once is no reason for each to tell.
                Err(_) if since + open + GRACE > now => {
                    waits.push((since, incident));
                    continue;
                }
                Err(_) => true,
            };
            if last {
                let _ = shelf.renew(&key("over", &incident.id), DAY).await;
                if shelf.strike(&incident.id).await.is_err() {
                    self.unstruck.insert(incident.id.clone());
                }
            }
            forget(shelf, &incident.id).await;
            told.push(Change { what: if last { What::Recovered } else { What::Elsewhere }, incident });
        }
        self.over = waits;
    }

    /// Ends the incidents of the book that nobody has seen for long: whoever saw them is gone.
    async fn sweep(&mut self, shelf: &S, now: u64, told: &mut Vec<Change>) {
        let Ok(book) = shelf.book().await else { return };
        self.orphans.retain(|id, _| book.iter().any(|(noted, _)| noted == id));
        self.unstruck.retain(|id| book.iter().any(|(noted, _)| noted == id));
        for (id, text) in book {
            let here = self.seen.contains_key(&id) || self.over.iter().any(|(_, over)| over.id == id);
            if here || shelf.has(&key("open", &id)).await != Ok(false) {
                self.orphans.remove(&id);
                continue;
            }
            if self.unstruck.remove(&id) {
                let _ = shelf.strike(&id).await;
                continue;
            }
            if *self.orphans.entry(id.clone()).or_insert(now) + ORPHAN > now {
                continue;
            }
            self.orphans.remove(&id);
            // Of those that are left the first tells.
            if shelf.strike(&id).await != Ok(true) {
                continue;
            }
            let Ok(incident) = serde_json::from_slice::<Incident>(&text) else { continue };
            let _ = shelf.renew(&key("over", &id), DAY).await;
            let _ = shelf.remove(&key("told", &id)).await;
            forget(shelf, &id).await;
            let says = format!("the replica that saw it is gone, and no other sees it (it said: {})", incident.says);
            told.push(Change { what: What::Taken, incident: incident.clone() });
            told.push(Change { what: What::Recovered, incident: Incident { says, ..incident } });
        }
    }
}

/// Forgets who reminds of an incident, and which severities were told.
async fn forget<S: Shelf>(shelf: &S, id: &str) {
    let _ = shelf.remove(&key("holder", id)).await;
    for severity in Severity::ALL {
        let _ = shelf.remove(&severity_key(id, severity)).await;
    }
}

fn key(what: &str, id: &str) -> String {
    format!("alert:{what}:{id}")
}

fn severity_key(id: &str, severity: Severity) -> String {
    format!("alert:is:{}:{id}", severity.as_str())
}

/// Goes on with an incident in the eyes of the others; gives whether this replica reminds.
async fn take_on<S: Shelf>(shelf: &S, one: &OpenIncident) -> bool {
    let id = &one.incident.id;
    // Who has claimed an incident and told nobody yet still has to.
    let own = one.at.is_none() && !one.elsewhere;
    // The claim may be this replica's own, from before: then it ends, and whoever is first takes it.
    let claimed = shelf.claim(&key("holder", id), CLAIM).await.unwrap_or(!one.elsewhere);
    // An error is told by the next command too.
    let _ = shelf.renew(&key("open", id), OPEN).await;
    let _ = shelf.renew(&key("told", id), CLAIM).await;
    claimed || own
}

async fn claim<S: Shelf>(shelf: &S, incident: &Incident) -> bool {
    let claimed = shelf.claim(&key("told", &incident.id), CLAIM).await;
    if let Err(error) = &claimed {
        tracing::warn!(%error, "Redis is away: the replicas cannot agree who tells of an incident, and each tells by itself");
    }
    let mine = claimed.unwrap_or(true);
    let _ = shelf.remove(&key("over", &incident.id)).await;
    if mine {
        claim_severity(shelf, incident).await;
        let _ = shelf.renew(&key("holder", &incident.id), CLAIM).await;
    }
    mine
}

/// Whether nobody has told of this severity yet.
async fn claim_severity<S: Shelf>(shelf: &S, incident: &Incident) -> bool {
    shelf.claim(&severity_key(&incident.id, incident.severity), DAY).await.unwrap_or(true)
}

#[cfg(test)]
mod tests;
