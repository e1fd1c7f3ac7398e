//! Notices on a clock of its own: what is told together, what waits, and what is told at last.

use super::*;
use crate::config::Measure;

/// 2027-01-15T08:00:00Z, a Friday.
const BEGIN: u64 = 1_800_000_000_000;
const HOUR: u64 = 3_600_000;

fn terms() -> Terms {
    Terms {
        group: 2_000,
        remind: Some(4 * HOUR),
        quiet: vec![Quiet { from: 22 * 60, to: 7 * 60, days: Vec::new() }],
        digest: Some(9 * 60),
        tz: TimeZone::UTC,
        service: "shop".into(),
        runbooks: None,
        instance: "i".into(),
    }
}

fn change(what: What, subject: &str, severity: Severity, at: u64) -> Change {
    let incident = Incident {
        id: subject.into(),
        rule: "breaker".into(),
        of: Measure::Breaker,
        subject: subject.into(),
        severity,
        since: at,
        until: (what == What::Recovered).then_some(at),
        says: "s".into(),
    };
    Change { what, incident }
}

/// Every second from `from` on; the changes come at their seconds.
fn play(dispatch: &mut Dispatch, from: u64, seconds: u64, changes: &[(u64, Change)]) -> Vec<(u64, Kind, usize)> {
    let mut told = Vec::new();
    for second in 0..seconds {
        let now = from + second * 1_000;
        let due = changes.iter().filter(|(at, _)| *at == second).map(|(_, change)| change.clone()).collect();
        told.extend(dispatch.step(now, due).into_iter().map(|notice| (second, notice.kind, notice.items.len() + notice.more)));
    }
    told
}

#[test]
fn what_begins_together_is_told_together_and_a_long_incident_again() {
    let mut dispatch = Dispatch::new(terms());
    let changes: Vec<(u64, Change)> = (0..30)
        .map(|n| (10 + n % 2, change(What::Opened, &format!("s{n}"), Severity::Critical, BEGIN)))
        .chain((0..30).map(|n| (5 * 3_600, change(What::Recovered, &format!("s{n}"), Severity::Critical, BEGIN))))
        .collect();
    let told = play(&mut dispatch, BEGIN, 6 * 3_600, &changes);
    let again = 4 * 3_600 + 12;
    let over = 5 * 3_600 + 2;
    assert_eq!(
        told,
        [
            (12, Kind::Firing, 20),
            (12, Kind::Firing, 10),
            (again, Kind::Reminder, 30),
            (over, Kind::Resolved, 20),
            (over, Kind::Resolved, 10)
        ]
    );
}

#[test]
fn a_quiet_night_hears_of_critical_incidents_alone_and_the_morning_of_what_is_left() {
    let mut dispatch = Dispatch::new(terms());
    let night = BEGIN + 14 * HOUR;
    let changes = [
        (60, change(What::Opened, "gone by morning", Severity::Warning, night)),
        (90, change(What::Opened, "bad", Severity::Critical, night)),
        (120, change(What::Opened, "stays", Severity::Warning, night)),
        (3_600, change(What::Recovered, "gone by morning", Severity::Warning, night)),
    ];
    let told = play(&mut dispatch, night, 12 * 3_600, &changes);
    let nine = 9 * 3_600;
    assert_eq!(told[0], (92, Kind::Firing, 1));
    assert!(told.contains(&(nine, Kind::Firing, 1)), "at the end of the quiet hours: {told:?}");
    assert!(told.contains(&(11 * 3_600, Kind::Digest, 1)), "{told:?}");
    assert!(told.iter().all(|(at, kind, _)| *at >= nine || *kind != Kind::Firing || *at == 92));
}

#[test]
fn what_waits_for_the_morning_or_the_digest_is_told_to_nobody() {
    let mut dispatch = Dispatch::new(terms());
    let night = BEGIN + 15 * HOUR;
    let changes = [Severity::Low, Severity::Warning, Severity::Critical]
        .map(|severity| (0, change(What::Opened, severity.as_str(), severity, night)));
    play(&mut dispatch, night, 60, &changes);
    assert_eq!(dispatch.told().map(|incident| &*incident.id).collect::<Vec<_>>(), ["critical"]);
    play(&mut dispatch, night + 60_000, 8 * 3_600, &[]);
    assert_eq!(dispatch.told().map(|incident| &*incident.id).collect::<Vec<_>>(), ["critical", "warning"]);
}

#[test]
fn low_incidents_are_told_once_a_day() {
    let mut dispatch = Dispatch::new(terms());
    let changes = [
        (10, change(What::Opened, "a", Severity::Low, BEGIN)),
        (900, change(What::Recovered, "a", Severity::Low, BEGIN)),
        (20, change(What::Opened, "b", Severity::Low, BEGIN)),
    ];
    let told = play(&mut dispatch, BEGIN, 30 * 3_600, &changes);
    assert_eq!(told, [(3_600, Kind::Digest, 2), (25 * 3_600, Kind::Digest, 1)]);
}

#[test]
fn there_are_never_more_than_ten_notices_in_a_minute() {
    let mut dispatch = Dispatch::new(terms());
    let changes: Vec<(u64, Change)> = (0..600).map(|n| (n, change(What::Opened, &format!("s{n}"), Severity::Critical, BEGIN))).collect();
    let told = play(&mut dispatch, BEGIN, 700, &changes);
    for minute in 0..11 {
        assert!(told.iter().filter(|(at, ..)| at / 60 == minute).count() <= BURST);
    }
    assert_eq!(told.iter().map(|(_, _, n)| n).sum::<usize>(), 600, "each is told");
}

#[test]
fn a_process_goes_on_where_the_one_before_has_ended() {
    let night = BEGIN + 15 * HOUR;
    let mut before = Dispatch::new(terms());
    let changes = [
        (0, change(What::Opened, "bad", Severity::Critical, night)),
        (0, change(What::Opened, "waits for the morning", Severity::Warning, night)),
        (0, change(What::Opened, "over", Severity::Low, night)),
        (5, change(What::Recovered, "over", Severity::Low, night)),
        (10, change(What::Elsewhere, "is told by another", Severity::Critical, night)),
    ];
    assert_eq!(play(&mut before, night, 11, &changes), [(2, Kind::Firing, 1)]);
    let text = serde_json::to_string(&before.carry()).expect("writes");
    let carry: Carry = serde_json::from_str(&text).expect("reads");
    assert_eq!(carry, before.carry());
    let mut after = Dispatch::new(terms());
    after.resume(night + 60_000, carry);
    let over = [(30, change(What::Recovered, "bad", Severity::Critical, night))];
    let told = play(&mut after, night + 60_000, 11 * 3_600, &over);
    assert_eq!(told[0], (32, Kind::Resolved, 1), "the end is told, the beginning is not: {told:?}");
    assert_eq!(told[1], (8 * 3_600 - 60, Kind::Firing, 1), "{told:?}");
    assert_eq!(told[2], (10 * 3_600 - 60, Kind::Digest, 1), "{told:?}");
}

/// Every second from `from` on, with the ids of each notice.
fn ids(dispatch: &mut Dispatch, from: u64, seconds: u64, changes: &[(u64, Change)]) -> Vec<(u64, Kind, Vec<String>)> {
    let mut told = Vec::new();
    for second in 0..seconds {
        let due = changes.iter().filter(|(at, _)| *at == second).map(|(_, change)| change.clone()).collect();
        for notice in dispatch.step(from + second * 1_000, due) {
            assert_eq!((notice.items.len() <= LONGEST, notice.more), (true, 0));
            told.push((second, notice.kind, notice.items.into_iter().map(|item| item.id).collect()));
        }
    }
    told
}

#[test]
fn a_storm_is_told_whole_the_worst_first_and_each_end_of_it() {
    let mut dispatch = Dispatch::new(Terms { remind: None, digest: None, quiet: Vec::new(), ..terms() });
    let severity = |n: usize| if n.is_multiple_of(10) { Severity::Critical } else { Severity::Warning };
    let name = |n: usize| format!("s{n:04}");
    let of = |what, from: u64| (0..1_000).map(move |n| (from, change(what, &name(n), severity(n), BEGIN)));
    let late = (5, change(What::Opened, "late and critical", Severity::Critical, BEGIN));
    let changes: Vec<(u64, Change)> = of(What::Opened, 0).chain([late]).chain(of(What::Recovered, 1_000)).collect();
    let told = ids(&mut dispatch, BEGIN, 3_000, &changes);
    for second in 0..3_000 {
        let minute = told.iter().filter(|(at, ..)| (second..second + 60).contains(at)).count();
        assert!(minute <= BURST, "{minute} in the minute from {second}");
    }
    let all = |kind: Kind| {
        let ids: Vec<&String> = told.iter().filter(|(_, of, _)| *of == kind).flat_map(|(.., ids)| ids).collect();
        (ids.len(), ids.into_iter().collect::<BTreeSet<_>>().len())
    };
    assert_eq!((all(Kind::Firing), all(Kind::Resolved)), ((1_001, 1_001), (1_000, 1_000)), "each once");
    let first: Vec<&String> = told.iter().take(5).flat_map(|(.., ids)| ids).collect();
    assert!(first.len() == 100 && first.iter().all(|id| id.ends_with('0')), "the critical ones: {first:?}");
    let at = |id: &str| told.iter().find(|(.., ids)| ids.iter().any(|other| other == id)).map(|(at, ..)| *at);
    assert_eq!(at("late and critical"), Some(5), "there is room for what is critical");
}

#[test]
fn what_is_not_sent_yet_is_not_told() {
    let mut dispatch = Dispatch::new(Terms { remind: None, digest: None, quiet: Vec::new(), ..terms() });
    let changes: Vec<(u64, Change)> = (0..300).map(|n| (0, change(What::Opened, &format!("s{n:03}"), Severity::Critical, BEGIN))).collect();
    assert_eq!(ids(&mut dispatch, BEGIN, 10, &changes).len(), BURST);
    let untold: Vec<String> = dispatch.carry().open.into_iter().filter(|one| one.at.is_none()).map(|one| one.incident.id).collect();
    assert_eq!(untold.len(), 300 - BURST * LONGEST);
    // One of those goes before anybody was told: nobody is told of its end, and the others are told in the next minute.
    let over = [(0, change(What::Recovered, &untold[0], Severity::Critical, BEGIN))];
    let told = ids(&mut dispatch, BEGIN + 10_000, 120, &over);
    assert!(told.iter().all(|(at, kind, ids)| *kind == Kind::Firing && *at >= 52 && !ids.contains(&untold[0])), "{told:?}");
    assert_eq!(told.iter().map(|(.., ids)| ids.len()).sum::<usize>(), untold.len() - 1);
}

#[test]
fn an_incident_that_is_back_before_its_end_was_told_has_never_ended() {
    let evening = BEGIN + 13 * HOUR;
    let (night, morning) = (2 * 3_600, 10 * 3_600);
    let begin = |what| (0, change(what, "x", Severity::Warning, evening));
    let over = (night, change(What::Recovered, "x", Severity::Warning, evening));
    let play_on = |back: Change| {
        let mut dispatch = Dispatch::new(Terms { remind: None, digest: None, ..terms() });
        let end = Change { what: What::Recovered, ..back.clone() };
        let changes = [begin(What::Opened), over.clone(), (night + 600, back), (morning + 3_600, end)];
        play(&mut dispatch, evening, 13 * 3_600, &changes)
    };
    let told = |kinds: &[(u64, Kind)]| kinds.iter().map(|(at, kind)| (*at, *kind, 1)).collect::<Vec<_>>();
    let end = (morning + 3_602, Kind::Resolved);
    assert_eq!(play_on(change(What::Opened, "x", Severity::Warning, evening)), told(&[(2, Kind::Firing), end]));
    // The same where another replica tells that it is back.
    assert_eq!(play_on(change(What::Elsewhere, "x", Severity::Warning, evening)), told(&[(2, Kind::Firing), end]));
    // It is worse than it was: that is told in the night.
    let worse = (night + 602, Kind::Firing);
    assert_eq!(play_on(change(What::Opened, "x", Severity::Critical, evening)), told(&[(2, Kind::Firing), worse, end]));
    // A process that begins with both, the end and the incident that is back, sees one that goes on.
    let mut before = Dispatch::new(terms());
    play(&mut before, evening, night + 1, &[begin(What::Opened), over]);
    let mut carry = before.carry();
    let incident = change(What::Opened, "x", Severity::Warning, evening).incident;
    carry.open.push(OpenIncident { incident, at: None, elsewhere: false });
    let mut after = Dispatch::new(Terms { remind: None, digest: None, ..terms() });
    after.resume(evening + (night + 60) * 1_000, carry);
    assert_eq!(play(&mut after, evening + (night + 60) * 1_000, 12 * 3_600, &[]), []);
}

#[test]
fn another_replica_tells_and_the_digest_has_what_is_low() {
    let mut dispatch = Dispatch::new(terms());
    let changes = [
        (0, change(What::Elsewhere, "low", Severity::Low, BEGIN)),
        (60, change(What::Recovered, "low", Severity::Low, BEGIN)),
        // Told by another, and handed on before anybody was told: the other one tells.
        (100, change(What::Opened, "left", Severity::Critical, BEGIN)),
        (101, change(What::Left, "left", Severity::Critical, BEGIN)),
        // Another one reminds; this one tells that it is worse, and does not remind.
        (200, change(What::Elsewhere, "worse", Severity::Warning, BEGIN)),
        (300, change(What::Worse, "worse", Severity::Critical, BEGIN)),
    ];
    let told = play(&mut dispatch, BEGIN, 6 * 3_600, &changes);
    assert_eq!(told, [(302, Kind::Firing, 1), (3_600, Kind::Digest, 1)]);
}
