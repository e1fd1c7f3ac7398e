//! Joins: sure ones, claims and none; and no call is ever joined to another caller's exchange.

use proptest::prelude::*;

use super::*;
use crate::http1::Fields;

const MINUTE: Duration = Duration::from_secs(60);

struct Table {
    causes: Arc<Causes<u32>>,
    worker: WorkerCauses<u32>,
    start: Instant,
}

impl Table {
    fn new() -> Self {
        let start = Instant::now();
        let causes = Causes::new(start);
        Self { worker: causes.worker(), causes, start }
    }

    /// So many milliseconds after the table began.
    fn at(&self, millis: u64) -> Instant {
        self.start + Duration::from_millis(millis)
    }

    fn begin(&self, caller: &str, given: Option<&str>, trace_id: Option<u128>, millis: u64) -> Running<u32> {
        let given = given.map(|id| RequestId::Given(id.into()));
        let begin = Begin { request_id: given.as_ref(), caller: Some(&caller.into()), route: &"chat".into(), charge: Some(&1), trace_id };
        self.worker.begin(&begin, self.at(millis))
    }

    fn join(&self, headers: &Fields, millis: u64) -> Join<u32> {
        self.causes.join(headers, false, MINUTE, self.at(millis))
    }

    /// The id that a provider sees in the place of `id`.
    fn derived(&self, id: &RequestId) -> RequestId {
        RequestId::Own(self.causes.deriving.hash(id.text(&mut [0; 32]).as_bytes()))
    }

    /// The join of a call with these fields, in a word or two.
    fn told(&self, fields: &[(&'static str, &str)], millis: u64) -> String {
        tell(&self.join(&of(fields), millis))
    }
}

fn of(fields: &[(&'static str, &str)]) -> Fields {
    fields.iter().map(|(name, value)| (name, value)).collect()
}

fn tell(join: &Join<u32>) -> String {
    let name = |cause: &Cause<u32>| cause.caller.as_deref().unwrap_or("nobody").to_owned();
    match join {
        Join::Sure(cause) => name(cause),
        Join::Claim(cause) => format!("claim {}", name(cause)),
        Join::Said(caller) => format!("said {caller}"),
        Join::Unattributed => "-".into(),
    }
}

fn baggage(running: &Running<u32>) -> String {
    let mut headers = Fields::new();
    announce(&mut headers, running.token);
    headers["baggage"].to_owned()
}

fn parent(trace_id: u128) -> String {
    format!("00-{trace_id:032x}-00000000000000ff-01")
}

#[test]
fn a_token_is_found_in_baggage_and_as_a_request_id() {
    let table = Table::new();
    let running = table.begin("alice", None, None, 0);
    assert_eq!(running.request_id, RequestId::Own(running.token), "the token is the request id");
    let id = running.request_id.to_string();
    let dashed = format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]);
    for fields in [("baggage", &*format!("k=v, {} ;p=1", baggage(&running))), ("x-request-id", &*id), ("x-request-id", &*dashed)] {
        let join = table.join(&of(&[fields]), 5);
        assert_eq!(tell(&join), "alice", "{fields:?}");
        let cause = join.sure().expect("sure");
        assert_eq!((&cause.request_id, cause.charge, &*cause.route), (&Some(running.request_id.clone()), Some(1), "chat"));
    }
}

#[test]
fn a_join_is_sure_until_join_within_after_the_end_then_a_claim_then_nothing() {
    // How long it ran, and whether its id was given: the bound is the same.
    for (ran, given) in [(0, None), (400, None), (700, None), (90_000, None), (7, Some("lb")), (3_600_000, Some("lb"))] {
        let table = Table::new();
        let running = table.begin("alice", given, None, 0);
        let text = baggage(&running);
        let fields = [("baggage", &*text)];
        assert_eq!(table.told(&fields, ran), "alice", "while it runs");
        running.end(table.at(ran));
        assert_eq!(table.told(&fields, ran + 60_000), "alice", "{ran}");
        assert_eq!(table.told(&fields, ran + 61_000), "claim alice", "{ran}");
        table.causes.sweep(MINUTE, table.at(ran + 590_000));
        assert_eq!(table.told(&fields, ran + 590_000), "claim alice", "{ran}");
        drop(running);
        table.worker.sweep(table.at(ran + 590_000));
        table.causes.sweep(MINUTE, table.at(ran + 1_300_000));
        assert_eq!(table.told(&fields, ran + 1_300_000), "-", "{ran}");
        let census = table.causes.census();
        assert_eq!((census.payees, census.running, census.ended, census.names), (0, 0, 0, 0), "all is forgotten");
    }
}

#[test]
fn whoever_runs_for_hours_is_joined_and_its_calls_add_up() {
    let table = Table::new();
    let running = table.begin("alice", Some("lb-1"), Some(7), 0);
    let text = baggage(&running);
    let hours = 9 * 3_600_000;
    table.worker.sweep(table.at(hours));
    table.causes.sweep(MINUTE, table.at(hours));
    for fields in [("baggage", &*text), ("x-request-id", "lb-1"), ("traceparent", &*parent(7))] {
        let join = table.join(&of(&[fields]), hours);
        assert_eq!(tell(&join), "alice", "{fields:?}");
        let cause = join.sure().expect("sure");
        assert_eq!(cause.request_id, Some(RequestId::Given("lb-1".into())));
        cause.spend(5);
    }
    assert_eq!((running.spent(), running.end(table.at(hours)), running.end(table.at(hours))), (15, 15, 0));
}

#[test]
fn the_first_sure_way_of_joining_counts_and_a_claim_only_where_there_is_no_other() {
    let table = Table::new();
    let old = table.begin("old", None, Some(1), 0);
    let stale = baggage(&old);
    drop(old);
    let now = 300_000;
    let [a, b, c] =
        ["ann", "bob", "cy"].map(|caller| table.begin(caller, Some(&format!("id-{caller}")), Some(u128::from(caller.as_bytes()[0])), now));
    let told = |fields: &[(&'static str, &str)]| tell(&table.causes.join(&of(fields), true, MINUTE, table.at(now)));
    let (baggage, said, trace) = (("baggage", &*baggage(&a)), ("outrigger-caller", "dan"), ("traceparent", &*parent(u128::from(b'c'))));
    assert_eq!(told(&[baggage, ("x-request-id", "id-bob"), said, trace]), "ann");
    assert_eq!(told(&[("x-request-id", "id-bob"), said, trace]), "bob");
    assert_eq!(told(&[said, trace]), "said dan");
    assert_eq!(told(&[trace]), "cy");
    assert_eq!(told(&[("baggage", &stale), ("x-request-id", "id-bob")]), "bob");
    assert_eq!(told(&[("baggage", &stale), said]), "said dan");
    assert_eq!(told(&[("baggage", &stale), trace]), "cy");
    assert_eq!(told(&[("baggage", &stale), ("x-request-id", "nobody's")]), "claim old");
    assert_eq!(told(&[("outrigger-caller", ""), ("x-request-id", "nobody's")]), "-");
    assert_eq!(table.told(&[said], now), "-", "from elsewhere nobody may say who it is");
    drop((b, c));
}

#[test]
fn a_call_in_the_name_of_somebody_stands_in_that_ones_books() {
    let said: Join<u32> = Join::Said("dan".into());
    assert_eq!((said.caller().map(|caller| &**caller), said.is_unattributed(), said.cause().is_none()), (Some("dan"), false, true));
    let table = Table::new();
    let running = table.begin("alice", None, None, 0);
    let text = baggage(&running);
    drop(running);
    let claim = table.join(&of(&[("baggage", &text)]), 120_000);
    assert_eq!((claim.caller(), claim.recorded_caller().map(|caller| &**caller)), (None, Some("alice")), "it enforces nothing");
    assert_eq!((claim.sure().is_none(), claim.is_unattributed()), (true, false));
}

#[test]
fn a_name_that_two_payees_have_joins_neither_and_one_that_one_payee_has_joins_that_one() {
    let table = Table::new();
    let (first, second) = (table.begin("ann", Some("x"), Some(9), 0), table.begin("ann", Some("x"), Some(9), 0));
    let join = table.join(&of(&[("x-request-id", "x")]), 1);
    assert_eq!((tell(&join).as_str(), join.sure().expect("sure").request_id.clone()), ("ann", Some(RequestId::Given("x".into()))));
    let join = table.join(&of(&[("traceparent", &parent(9))]), 1);
    assert_eq!((tell(&join).as_str(), join.sure().expect("sure").request_id.clone()), ("ann", None), "whose of the two is not known");
    join.sure().expect("sure").spend(3);
    assert_eq!((first.spent(), second.spent()), (0, 0));
    let mallory = table.begin("mallory", Some("x"), Some(9), 0);
    assert_eq!(table.told(&[("x-request-id", "x")], 1), "-");
    assert_eq!(table.told(&[("traceparent", &parent(9))], 1), "-");
    assert_eq!(table.told(&[("baggage", &baggage(&mallory))], 1), "mallory");
    assert_eq!(table.told(&[("baggage", &baggage(&first))], 1), "ann");
}

#[test]
fn a_token_is_known_as_one_and_cannot_be_taken_over() {
    let table = Table::new();
    let alice = table.begin("alice", None, None, 0);
    let id = alice.request_id.to_string();
    assert!(table.causes.is_token(&id) && table.causes.is_token(&id.to_uppercase()));
    for other in ["lb-1", "0123456789abcdef0123456789abcdef", &Table::new().begin("alice", None, None, 0).request_id.to_string()] {
        assert!(!table.causes.is_token(other), "{other}");
    }
    // A client that gets the id all the same does not take over its meaning.
    let mallory = table.begin("mallory", Some(&id), None, 0);
    assert_eq!(table.told(&[("x-request-id", &id)], 1), "alice");
    assert_eq!(table.told(&[("baggage", &baggage(&mallory))], 1), "mallory");
}

#[test]
fn a_request_id_that_was_printed_before_it_began_is_found_too() {
    let table = Table::new();
    let early = RequestId::fresh();
    let begin = Begin { request_id: Some(&early), caller: None, route: &"chat".into(), charge: None, trace_id: None };
    let running = table.worker.begin(&begin, table.at(0));
    assert_eq!(running.request_id, early);
    for fields in [("x-request-id", &*early.to_string()), ("baggage", &*baggage(&running))] {
        let join = table.join(&of(&[fields]), 1);
        let found = join.sure().expect("sure").request_id.as_ref().map(RequestId::to_string);
        assert_eq!((tell(&join).as_str(), found), ("nobody", Some(early.to_string())));
    }
}

#[test]
fn what_is_forged_joins_nothing() {
    let (table, other) = (Table::new(), Table::new());
    let running = table.begin("alice", Some("lb-1"), None, 0);
    let theirs = other.begin("alice", None, None, 0);
    for forged in ["outrigger=1", "outrigger=zz", "outrigger=00000000000000000000000000000001", "outrigger", &baggage(&theirs)] {
        assert_eq!(table.told(&[("baggage", forged)], 1), "-", "{forged}");
    }
    for forged in ["lb-2", "LB-1", "", &theirs.request_id.to_string(), &table.derived(&running.request_id).to_string()] {
        assert_eq!(table.told(&[("x-request-id", forged)], 1), "-", "{forged}");
    }
    // A token from the future: no clock of ours made it.
    let text = baggage(&table.begin("alice", None, None, 100_000));
    assert_eq!(table.told(&[("baggage", &text)], 1), "-");
}

#[test]
fn neither_token_nor_given_id_leaves_and_what_leaves_joins_nothing() {
    let table = Table::new();
    let (own, given) = (table.begin("alice", None, None, 0), table.begin("bob", Some("lb-77"), None, 0));
    let id = own.request_id.to_string();
    let mut headers = of(&[
        ("baggage", &format!("a=1,{},b={}", baggage(&own), id.to_uppercase())),
        ("x-request-id", &id),
        ("x-correlation-id", "lb-77"),
        ("x-client-request-id", "lb-78"),
        ("traceparent", &format!("00-{id}-00000000000000ff-01")),
        ("x-trace", &format!("req_{id}/{}", given.token)),
        ("outrigger-caller", "alice"),
        ("authorization", "Bearer lb-77"),
        ("user-agent", "lb-77"),
    ]);
    let told = table.causes.conceal(&mut headers).expect("an id was replaced");
    let derived = told.to_string();
    assert_eq!(told, table.derived(&own.request_id), "always the same");
    assert_eq!(&headers["x-request-id"], derived);
    assert_eq!(&headers["baggage"], format!("a=1,b={derived}"));
    assert_eq!(&headers["traceparent"], format!("00-{derived}-00000000000000ff-01"));
    assert_eq!(&headers["x-correlation-id"], table.derived(&RequestId::Given("lb-77".into())).to_string());
    assert_eq!((&headers["x-client-request-id"], &headers["user-agent"], &headers["authorization"]), ("lb-78", "lb-77", "Bearer lb-77"));
    assert!(!headers.has("outrigger-caller"));
    assert!(headers.iter().all(|(_, value)| !value.to_str().expect("text").to_lowercase().contains(&id)), "{headers:?}");
    for value in [&derived, &headers["x-correlation-id"]] {
        assert_eq!(table.told(&[("x-request-id", value), ("baggage", &format!("outrigger={value}"))], 1), "-");
    }
    assert_eq!(table.causes.conceal(&mut headers), None, "there is nothing left to replace");
    let mut plain = of(&[("x-request-id", "0123456789abcdef0123456789abcdef")]);
    assert_eq!((table.causes.conceal(&mut plain), plain.len()), (None, 1));
}

#[test]
fn where_every_payee_is_in_use_a_new_one_finds_no_room_and_is_counted() {
    let start = Instant::now();
    let causes: Arc<Causes<u32>> = Causes::with_room(start, 16 * 400);
    let worker = causes.worker();
    let begin = |at: u32| {
        let caller: Arc<str> = at.to_string().into();
        let begin = Begin { request_id: None, caller: Some(&caller), route: &"chat".into(), charge: None, trace_id: None };
        worker.begin(&begin, start + Duration::from_secs(u64::from(at)))
    };
    let running: Vec<_> = (0..200).map(begin).collect();
    let told: Vec<String> = running
        .iter()
        .map(|running| tell(&causes.join(&of(&[("baggage", &baggage(running))]), false, MINUTE, start + Duration::from_secs(200))))
        .collect();
    for (at, told) in told.iter().enumerate() {
        assert!(*told == at.to_string() || told == "-", "{at} is {told}");
    }
    let turned_away = told.iter().filter(|told| *told == "-").count();
    let census = causes.census();
    assert!(turned_away > 100, "{turned_away}");
    assert_eq!((census.turned_away, census.payees_forgotten, census.payees), (turned_away as u64, 0, 200 - turned_away));
    assert_eq!(census.running, 200, "it runs all the same");
}

#[test]
fn workers_on_threads_of_their_own_make_tokens_that_differ_and_find_each_other_s() {
    let start = Instant::now();
    let causes: Arc<Causes<u32>> = Causes::new(start);
    let at = |nth: u64| start + Duration::from_micros(50 * nth);
    let work = |thread: u64| {
        let worker = causes.worker();
        let mut made = Vec::new();
        for nth in 0..10_000 {
            // Callers that all threads share, and more than a worker remembers.
            let caller = ((nth * 31 + thread) % 400) as u32;
            let name: Arc<str> = caller.to_string().into();
            let begin = Begin { request_id: None, caller: Some(&name), route: &"r".into(), charge: Some(&caller), trace_id: None };
            let running = worker.begin(&begin, at(nth));
            made.push((running.token, caller));
            running.end(at(nth + 40));
        }
        made
    };
    let made: Vec<(u128, u32)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|thread| scope.spawn(move || work(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    let different: std::collections::HashSet<u128> = made.iter().map(|(token, _)| *token).collect();
    assert_eq!(different.len(), made.len());
    assert_eq!((causes.census().payees, causes.census().running), (400, 0));
    for (token, caller) in made.iter().step_by(7) {
        let join = causes.join(&of(&[("baggage", &format!("outrigger={token:032x}"))]), false, MINUTE, at(20_000));
        assert_eq!(join.sure().expect("sure").charge, Some(*caller));
    }
}

proptest! {
    #[test]
    fn no_change_of_a_token_joins_anybody(at in 0..128u32, more in 0..128u32, callers in 1..50usize) {
        let table = Table::new();
        let running: Vec<_> = (0..callers).map(|at| table.begin(&at.to_string(), None, None, 0)).collect();
        for (at_caller, running) in running.iter().enumerate() {
            prop_assert_eq!(table.told(&[("baggage", &baggage(running))], 1), at_caller.to_string());
            let one = running.token ^ (1 << at);
            for changed in [one, if more == at { one } else { one ^ (1 << more) }] {
                let text = format!("{changed:032x}");
                prop_assert_eq!(table.told(&[("baggage", &format!("outrigger={text}")), ("x-request-id", &text)], 1), "-");
            }
        }
    }

    /// Exchanges of many callers come and go over a table that is much too small for them, on several workers. Every join is
    /// true, and an exchange that runs or ended a short time ago is never a claim.
    #[test]
    fn what_is_joined_is_always_the_right_one(
        steps in prop::collection::vec((0..30u32, 0..3usize, 0..20_000u64, any::<bool>()), 1..150),
    ) {
        let start = Instant::now();
        let causes: Arc<Causes<u32>> = Causes::with_room(start, 16 * 600);
        let workers = [causes.worker(), causes.worker(), causes.worker()];
        let (mut passed, mut all) = (Duration::ZERO, Vec::new());
        for (caller, worker, millis, ends) in steps {
            passed += Duration::from_millis(millis);
            let now = start + passed;
            let name: Arc<str> = caller.to_string().into();
            let begin = Begin { request_id: None, caller: Some(&name), route: &"r".into(), charge: Some(&caller), trace_id: None };
            let running = workers[worker].begin(&begin, now);
            let text = baggage(&running);
            let running = if ends { running.end(now); None } else { Some(running) };
            all.push((caller, passed, text, running));
            for (caller, begun, text, running) in &all {
                match causes.join(&of(&[("baggage", text)]), false, MINUTE, now) {
                    Join::Sure(cause) => {
                        prop_assert_eq!((cause.charge, cause.caller.as_deref()), (Some(*caller), Some(&*caller.to_string())));
                        prop_assert!(running.is_some() || passed - *begun <= MINUTE + Duration::from_secs(1));
                    }
                    Join::Claim(cause) => {
                        prop_assert_eq!(cause.charge, Some(*caller));
                        prop_assert!(running.is_none() && passed - *begun > MINUTE);
                    }
                    _ => prop_assert!(running.is_none() || causes.census().turned_away > 0),
                }
            }
            causes.sweep(MINUTE, now);
        }
    }
}
