//! Replicas that agree by one table: who tells of an incident, who reminds, and who tells the end.

use std::collections::HashMap;

use bytes::Bytes;
use parking_lot::Mutex;

use super::*;
use crate::{alert::Item, config::Measure};

/// A store with a clock of its own: the time, whether it is away, the claims; and the book.
#[derive(Default)]
struct Table(Mutex<(u64, bool, HashMap<String, u64>)>, Mutex<HashMap<String, Vec<u8>>>);

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

    fn page(&self) -> Result<parking_lot::MutexGuard<'_, HashMap<String, Vec<u8>>>, StoreError> {
        if self.0.lock().1 { Err(StoreError::Away) } else { Ok(self.1.lock()) }
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

    async fn note(&self, id: &str, text: Vec<u8>) -> Result<(), StoreError> {
        self.page()?.insert(id.to_owned(), text);
        Ok(())
    }

    async fn strike(&self, id: &str) -> Result<bool, StoreError> {
        Ok(self.page()?.remove(id).is_some())
    }

    async fn noted(&self, id: &str) -> Result<bool, StoreError> {
        Ok(self.page()?.contains_key(id))
    }

    async fn book(&self) -> Result<Vec<(String, Bytes)>, StoreError> {
        Ok(self.page()?.iter().map(|(id, text)| (id.clone(), text.clone().into())).collect())
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

/// A notice of the incident.
fn notice(kind: Kind) -> Notice {
    let incident = change(What::Opened).incident;
    let items = vec![Item::of(&incident, None)];
    Notice { id: "n".into(), kind, severity: incident.severity, at: 0, service: "shop".into(), items, more: 0 }
}

/// Tells what has to be told, and notes it in the book.
async fn tell(replica: &Replicas<Table>, said: &[Change]) {
    if said.iter().any(|one| matches!(one.what, What::Opened | What::Worse)) {
        replica.post(&mut vec![notice(Kind::Firing)]).await;
    }
}

/// What somebody is told, or who reminds.
fn is_said(change: &Change) -> bool {
    !matches!(change.what, What::Elsewhere | What::Left)
}

/// One of three replicas that is gone after this second. `told`: whether it still tells what it has to tell.
#[derive(Clone, Copy)]
struct Death {
    after: u64,
    who: usize,
    told: bool,
}

/// Plays changes on three replicas, by second and replica; gives who told what.
async fn play_of(shelf: &Arc<Table>, changes: &[(u64, usize, Change)], death: Option<Death>) -> Vec<(u64, usize, What)> {
    let mut replicas: Vec<Replicas<Table>> = (0..3).map(|_| Replicas::new(Some(shelf.clone()))).collect();
    let mut told = Vec::new();
    for second in 0..1_000 {
        shelf.at(second * 1_000);
        for (at, replica) in replicas.iter_mut().enumerate() {
            let dies = death.filter(|death| death.who == at);
            if dies.is_some_and(|death| second >= death.after) {
                continue;
            }
            let mine = changes.iter().filter(|(when, who, _)| *when == second && *who == at).map(|(.., one)| one.clone()).collect();
            let said = replica.agree(second * 1_000, mine).await;
            if dies.is_none_or(|death| death.told) {
                tell(replica, &said).await;
            }
            told.extend(said.into_iter().filter(is_said).map(|one| (second, at, one.what)));
        }
    }
    told
}

async fn play(shelf: &Arc<Table>, changes: &[(u64, usize, What)], death: Option<Death>) -> Vec<(u64, usize, What)> {
    let changes: Vec<(u64, usize, Change)> = changes.iter().map(|(at, who, what)| (*at, *who, change(*what))).collect();
    play_of(shelf, &changes, death).await
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
    // The one that told has recovered before the others: another reminds in its place, and the last in that one's.
    let taken: Vec<(u64, usize)> = told.iter().filter(|(.., what)| *what == What::Taken).map(|(second, who, _)| (*second, *who)).collect();
    assert!(matches!(taken[..], [(100..=106, 1), (150..=156, 2)]), "{taken:?}");
    let told: Vec<_> = told.into_iter().filter(|(.., what)| *what != What::Taken).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[0], (10, 0, What::Opened));
    assert!(told[1].2 == What::Recovered && (200..225).contains(&told[1].0), "{told:?}");
    assert_eq!(shelf.0.lock().2.keys().collect::<Vec<_>>(), ["alert:over:i"], "nothing else is left");
    assert!(shelf.1.lock().is_empty());
}

#[tokio::test]
async fn another_replica_takes_over_from_one_that_is_gone() {
    let changes = [(10, 0, What::Opened), (11, 1, What::Opened), (200, 1, What::Recovered)];
    let death = Death { after: 30, who: 0, told: true };
    let told = async |death| {
        let told = play(&Arc::new(Table::default()), &changes, Some(death)).await;
        told.into_iter().map(|(_, who, what)| (who, what)).collect::<Vec<_>>()
    };
    assert_eq!(told(death).await, [(0, What::Opened), (1, What::Taken), (1, What::Recovered)]);
    let untold = Death { told: false, ..death };
    assert_eq!(told(untold).await, [(0, What::Opened), (1, What::Opened), (1, What::Recovered)], "nobody was told: it is told now");
}

#[tokio::test]
async fn an_incident_that_only_a_replica_saw_that_is_gone_is_ended_by_another() {
    let shelf = Arc::new(Table::default());
    let death = Death { after: 30, who: 0, told: true };
    let told = play(&shelf, &[(10, 0, What::Opened)], Some(death)).await;
    let [(10, 0, What::Opened), (taken, who, What::Taken), (over, also, What::Recovered)] = told[..] else { panic!("{told:?}") };
    assert!(taken == over && who == also && (330..400).contains(&over), "{told:?}");
    assert!(shelf.1.lock().is_empty());
    assert_eq!(shelf.0.lock().2.keys().collect::<Vec<_>>(), ["alert:over:i"], "who comes back does not tell the end again");
    // Whoever still sees it keeps it open.
    let told = play(&Arc::new(Table::default()), &[(10, 0, What::Opened), (20, 1, What::Opened)], Some(death)).await;
    assert_eq!(told.iter().map(|(.., what)| *what).collect::<Vec<_>>(), [What::Opened, What::Taken]);
}

#[tokio::test]
async fn what_is_back_before_its_end_was_told_goes_on() {
    let changes = [(10, 0, What::Opened), (50, 0, What::Recovered), (60, 0, What::Opened), (90, 0, What::Recovered)];
    let told = play(&Arc::new(Table::default()), &changes, None).await;
    let [(10, 0, What::Opened), (taken, 0, What::Taken), (over, 0, What::Recovered)] = told[..] else { panic!("{told:?}") };
    assert!((60..67).contains(&taken) && (110..120).contains(&over), "{told:?}");
}

#[tokio::test]
async fn what_is_worse_is_told_once_and_the_one_that_reminds_goes_on_with_it() {
    let severe = |what| Change { what, incident: Incident { severity: Severity::Critical, ..change(what).incident } };
    // The second replica sees from the beginning that it is worse than the first has told.
    let from_the_start = [(10, 0, change(What::Opened)), (11, 1, severe(What::Opened)), (40, 0, severe(What::Worse))];
    let told = play_of(&Arc::new(Table::default()), &from_the_start, None).await;
    let [(10, 0, What::Opened), (at, 1, What::Worse)] = told[..] else { panic!("{told:?}") };
    assert!(at <= 17, "{told:?}");
    // The second sees first that it gets worse, and is gone then: the first reminded all the time.
    let later = [(10, 0, change(What::Opened)), (11, 1, change(What::Opened)), (40, 1, severe(What::Worse)), (41, 0, severe(What::Worse))];
    let death = Death { after: 60, who: 1, told: true };
    let told = play_of(&Arc::new(Table::default()), &later, Some(death)).await;
    assert_eq!(told, [(10, 0, What::Opened), (40, 1, What::Worse)]);
}

#[tokio::test]
async fn an_end_that_waited_is_dropped_if_another_sees_the_incident_again_and_who_leaves_takes_its_claims_along() {
    let shelf = Arc::new(Table::default());
    let mut two: Vec<Replicas<Table>> = (0..2).map(|_| Replicas::new(Some(shelf.clone()))).collect();
    let mut end = vec![notice(Kind::Resolved)];
    two[0].post(&mut end).await;
    assert_eq!(end.len(), 1, "it is over");
    let said = two[1].agree(0, vec![change(What::Opened)]).await;
    tell(&two[1], &said).await;
    two[0].post(&mut end).await;
    assert!(end.is_empty());
    assert!(!shelf.1.lock().is_empty());
    two.remove(1).leave().await;
    assert!(shelf.1.lock().is_empty() && !shelf.0.lock().2.keys().any(|key| key.starts_with("alert:is") || key.contains("holder")));
}

#[tokio::test]
async fn an_end_that_was_told_while_redis_was_away_is_not_told_again() {
    let shelf = Arc::new(Table::default());
    let mut one = Replicas::new(Some(shelf.clone()));
    let said = one.agree(0, vec![change(What::Opened)]).await;
    tell(&one, &said).await;
    shelf.0.lock().1 = true;
    let mut told = one.agree(1_000, vec![change(What::Recovered)]).await;
    for second in 2..1_000 {
        shelf.at(second * 1_000);
        shelf.0.lock().1 = second < 60;
        told.extend(one.agree(second * 1_000, Vec::new()).await);
    }
    assert_eq!(told.iter().filter(|one| is_said(one)).map(|one| one.what).collect::<Vec<_>>(), [What::Recovered]);
    assert!(shelf.1.lock().is_empty());
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
            tell(replica, &said).await;
            told.extend(said.into_iter().filter(is_said).map(|one| (second, at, one.what)));
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
