//! One notice for all replicas: an incident is told by the replica that claims it first, in the Redis that they share.
//!
//! Keys of an incident: `told` is claimed by the replica that tells. `open` is renewed by every replica that sees the incident: the
//! incident is over when nobody renews it, and whoever then removes `told` tells the end. `holder` is the replica that reminds: if it
//! goes, another takes its place. `is` is claimed for each severity. `over` says for a day that the end was told: a replica that was
//! away meanwhile does not tell it again. While Redis is away each replica tells by itself: twice is better than never.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    alert::{Change, Incident, OpenIncident, What},
    store::{StoreError, redis::Redis},
};

/// How long a claim holds without being renewed.
const CLAIM: Duration = Duration::from_secs(90);
/// How long an incident counts as open without being renewed.
const OPEN: Duration = Duration::from_secs(20);
/// How long a severity, or an end, stays told.
const DAY: Duration = Duration::from_secs(86_400);
/// Time between two renewals, in milliseconds.
const RENEW: u64 = 5_000;

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
}

/// An incident that this replica sees.
#[derive(Debug)]
struct Seen {
    incident: Incident,
    mine: bool,
    renewed: u64,
}

/// This replica among the others.
#[derive(Debug)]
pub struct Replicas<S> {
    shelf: Option<Arc<S>>,
    seen: BTreeMap<String, Seen>,
    /// Incidents that are over here, and since when.
    over: Vec<(u64, Incident)>,
}

impl<S: Shelf> Replicas<S> {
    /// Alone, if there is no shelf.
    pub fn new(shelf: Option<Arc<S>>) -> Self {
        Self { shelf, seen: BTreeMap::new(), over: Vec::new() }
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
            self.seen.insert(id, Seen { incident: one.incident.clone(), mine: !one.elsewhere, renewed: now });
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
                    self.over.retain(|(_, incident)| incident.id != id);
                    let mine = claim(&*shelf, &change.incident).await;
                    // An error is told by the next command too; the claim decides.
                    let _ = shelf.renew(&key("open", &id), OPEN).await;
                    self.seen.insert(id, Seen { incident: change.incident.clone(), mine, renewed: now });
                    told.push(Change { what: if mine { What::Opened } else { What::Elsewhere }, ..change });
                }
                What::Worse => {
                    let mine = claim_severity(&*shelf, &change.incident).await;
                    if let Some(seen) = self.seen.get_mut(&id) {
                        seen.incident = change.incident.clone();
                    }
                    told.push(Change { what: if mine { What::Worse } else { What::Elsewhere }, ..change });
                }
                What::Recovered => {
                    self.seen.remove(&id);
                    self.over.push((now, change.incident));
                }
                What::Elsewhere | What::Taken => told.push(change),
            }
        }
        self.renew(&*shelf, now, &mut told).await;
        self.end(&*shelf, now, &mut told).await;
        told
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
                told.push(Change { what: What::Taken, incident: seen.incident.clone() });
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
                Err(_) => true,
            };
            if last {
                let _ = shelf.renew(&key("over", &incident.id), DAY).await;
            }
            let _ = shelf.remove(&key("holder", &incident.id)).await;
            for severity in crate::config::Severity::ALL {
                let _ = shelf.remove(&severity_key(&incident.id, severity)).await;
            }
            told.push(Change { what: if last { What::Recovered } else { What::Elsewhere }, incident });
        }
        self.over = waits;
    }
}

fn key(what: &str, id: &str) -> String {
    format!("alert:{what}:{id}")
}

fn severity_key(id: &str, severity: crate::config::Severity) -> String {
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
    claim_severity(shelf, incident).await;
    if mine {
        let _ = shelf.renew(&key("holder", &incident.id), CLAIM).await;
    }
    mine
}

/// Whether nobody has told of this severity yet.
async fn claim_severity<S: Shelf>(shelf: &S, incident: &Incident) -> bool {
    shelf.claim(&severity_key(&incident.id, incident.severity), DAY).await.unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use parking_lot::Mutex;

    use super::*;
    use crate::config::{Measure, Severity};

    /// A store with a clock of its own.
    #[derive(Default)]
    struct Table(Mutex<(u64, bool, HashMap<String, u64>)>);

    impl Table {
        fn at(&self, now: u64) {
            let mut table = self.0.lock();
            table.0 = now;
            table.2.retain(|_, until| *until > now);
        }

        fn put(&self, key: &str, ttl: Duration, only_new: bool) -> Result<bool, StoreError> {
            let mut table = self.0.lock();
            if table.1 {
                return Err(StoreError::Away);
            }
            let until = table.0 + ttl.as_millis() as u64;
            if only_new && table.2.contains_key(key) {
                return Ok(false);
            }
            table.2.insert(key.to_owned(), until);
            Ok(true)
        }
    }

    impl Shelf for Table {
        async fn claim(&self, key: &str, ttl: Duration) -> Result<bool, StoreError> {
            self.put(key, ttl, true)
        }

        async fn renew(&self, key: &str, ttl: Duration) -> Result<(), StoreError> {
            self.put(key, ttl, false).map(drop)
        }

        async fn has(&self, key: &str) -> Result<bool, StoreError> {
            if self.0.lock().1 { Err(StoreError::Away) } else { Ok(self.0.lock().2.contains_key(key)) }
        }

        async fn remove(&self, key: &str) -> Result<bool, StoreError> {
            if self.0.lock().1 { Err(StoreError::Away) } else { Ok(self.0.lock().2.remove(key).is_some()) }
        }
    }

    fn change(what: What) -> Change {
        let incident = Incident {
            id: "i".into(),
            rule: "redis".into(),
            of: Measure::Redis,
            subject: "redis".into(),
            severity: Severity::Warning,
            since: 0,
            until: None,
            says: String::new(),
        };
        Change { what, incident }
    }

    /// Plays changes on three replicas, by second and replica; gives who told what.
    async fn play(shelf: &Arc<Table>, changes: &[(u64, usize, What)], dies: Option<(u64, usize)>) -> Vec<(u64, usize, What)> {
        let mut replicas: Vec<Replicas<Table>> = (0..3).map(|_| Replicas::new(Some(shelf.clone()))).collect();
        let mut told = Vec::new();
        for second in 0..400 {
            shelf.at(second * 1_000);
            for (at, replica) in replicas.iter_mut().enumerate() {
                if dies.is_some_and(|(when, who)| who == at && second >= when) {
                    continue;
                }
                let mine = changes.iter().filter(|(when, who, _)| *when == second && *who == at).map(|(.., what)| change(*what)).collect();
                let said = replica.agree(second * 1_000, mine).await;
                told.extend(said.into_iter().filter(|one| !matches!(one.what, What::Elsewhere)).map(|one| (second, at, one.what)));
            }
        }
        told
    }

    #[tokio::test]
    async fn three_replicas_tell_the_beginning_once_and_the_end_once_when_the_last_has_recovered() {
        let shelf = Arc::new(Table::default());
        let changes = [
            (10, 0, What::Opened),
            (11, 1, What::Opened),
            (12, 2, What::Opened),
            (100, 0, What::Recovered),
            (150, 1, What::Recovered),
            (200, 2, What::Recovered),
        ];
        let told = play(&shelf, &changes, None).await;
        // The one that told has recovered before the others: another reminds in its place.
        let told: Vec<_> = told.into_iter().filter(|(.., what)| *what != What::Taken).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(told[0], (10, 0, What::Opened));
        assert!(told[1].2 == What::Recovered && (200..225).contains(&told[1].0), "{told:?}");
        assert_eq!(shelf.0.lock().2.keys().collect::<Vec<_>>(), ["alert:over:i"], "nothing else is left");
    }

    #[tokio::test]
    async fn another_replica_takes_over_from_one_that_is_gone() {
        let changes = [(10, 0, What::Opened), (11, 1, What::Opened), (200, 1, What::Recovered)];
        let told = play(&Arc::new(Table::default()), &changes, Some((30, 0))).await;
        assert_eq!(
            told.iter().map(|(_, who, what)| (*who, *what)).collect::<Vec<_>>(),
            [(0, What::Opened), (1, What::Taken), (1, What::Recovered)]
        );
    }

    #[tokio::test]
    async fn without_redis_each_tells_for_itself() {
        let shelf = Arc::new(Table::default());
        shelf.0.lock().1 = true;
        let changes = [(10, 0, What::Opened), (11, 1, What::Opened), (50, 0, What::Recovered), (60, 1, What::Recovered)];
        assert_eq!(play(&shelf, &changes, None).await.len(), 4);
        let mut alone = Replicas::<Table>::new(None);
        assert_eq!(alone.agree(0, vec![change(What::Recovered)]).await.len(), 1);
    }

    fn open(at: Option<u64>, elsewhere: bool) -> Vec<OpenIncident> {
        vec![OpenIncident { incident: change(What::Opened).incident, at, elsewhere }]
    }

    /// A replica that goes on at `second` with what it had.
    async fn resumed(shelf: &Arc<Table>, second: u64, open: Vec<OpenIncident>) -> (Replicas<Table>, Vec<OpenIncident>) {
        shelf.at(second * 1_000);
        let mut replica = Replicas::new(Some(shelf.clone()));
        let goes_on = replica.resume(second * 1_000, open).await;
        (replica, goes_on)
    }

    /// What these replicas tell in these seconds; the first two changes come in the first second.
    async fn go_on(
        shelf: &Arc<Table>,
        replicas: &mut [Replicas<Table>],
        seconds: std::ops::Range<u64>,
        first: What,
    ) -> Vec<(u64, usize, What)> {
        let mut told = Vec::new();
        for second in seconds.clone() {
            shelf.at(second * 1_000);
            for (at, replica) in replicas.iter_mut().enumerate() {
                let mine = if second == seconds.start { vec![change(first)] } else { Vec::new() };
                let said = replica.agree(second * 1_000, mine).await;
                told.extend(said.into_iter().filter(|one| !matches!(one.what, What::Elsewhere)).map(|one| (second, at, one.what)));
            }
        }
        told
    }

    #[tokio::test]
    async fn a_replica_that_was_away_tells_neither_the_beginning_nor_the_end_again() {
        let shelf = Arc::new(Table::default());
        let mut two: Vec<Replicas<Table>> = (0..2).map(|_| Replicas::new(Some(shelf.clone()))).collect();
        let told = go_on(&shelf, &mut two, 0..10, What::Opened).await;
        assert_eq!(told, [(0, 0, What::Opened)]);
        // The first is killed and comes back: it reminds no more than before, and one of them tells the end.
        let (back, goes_on) = resumed(&shelf, 10, open(Some(0), false)).await;
        assert_eq!(goes_on.len(), 1);
        two[0] = back;
        let told = go_on(&shelf, &mut two, 11..60, What::Recovered).await;
        assert_eq!(told.iter().map(|(.., what)| *what).collect::<Vec<_>>(), [What::Recovered], "{told:?}");
        // One that was away all the time comes back after the end.
        assert!(resumed(&shelf, 3_600, open(Some(0), true)).await.1.is_empty());
    }

    #[tokio::test]
    async fn the_end_is_told_after_all_replicas_were_away_and_an_untold_claim_is_kept() {
        let shelf = Arc::new(Table::default());
        let mut all = Vec::new();
        for elsewhere in [false, true] {
            let (replica, goes_on) = resumed(&shelf, 7_200, open(Some(0), elsewhere)).await;
            assert_eq!(goes_on[0].elsewhere, elsewhere, "the first reminds");
            all.push(replica);
        }
        let told = go_on(&shelf, &mut all, 7_201..7_300, What::Recovered).await;
        assert_eq!(told.iter().map(|(.., what)| *what).collect::<Vec<_>>(), [What::Recovered], "{told:?}");
        let shelf = Arc::new(Table::default());
        let mut one = [Replicas::new(Some(shelf.clone()))];
        go_on(&shelf, &mut one, 0..1, What::Opened).await;
        let (_, goes_on) = resumed(&shelf, 2, open(None, false)).await;
        assert!(!goes_on[0].elsewhere, "it was claimed before the kill, and nobody was told");
        shelf.0.lock().1 = true;
        assert!(!resumed(&shelf, 3, open(Some(0), false)).await.1[0].elsewhere, "without Redis each goes on as before");
    }
}
