//! Tests of collapsed forwarding.

use std::time::SystemTime;

use http::StatusCode;
use http_body_util::BodyExt;

use super::{
    super::{
        freshness::{Freshness, Source},
        vary::Variance,
    },
    *,
};
use crate::{clock::Moment, http1::Fields};

fn head() -> Arc<Head> {
    let fresh = Freshness {
        received: Moment::at(SystemTime::UNIX_EPOCH),
        initial_age: Duration::ZERO,
        lifetime: Duration::from_secs(60),
        overdue: Duration::ZERO,
        source: Source::Explicit,
        no_cache: false,
        stale_while_revalidate: Duration::ZERO,
        stale_if_error: Duration::ZERO,
        may_be_stale: true,
    };
    Arc::new(Head { status: StatusCode::OK, headers: Fields::new(), variance: Variance::default(), fresh, stand_in: false })
}

fn flights(limit: u64) -> (Arc<Flights>, Arc<Budget>) {
    let budget = Budget::new(limit);
    (Flights::new(budget.clone()), budget)
}

fn born(told: u64) -> Born {
    Born { told, home: Arc::new(Home { tags: Vec::new(), route: "r".into(), path: "/p".into(), what: "GET h/p".into() }) }
}

fn leader_of(flights: &Arc<Flights>, largest: u64) -> Option<FlightWriter> {
    match flights.join(Key::numbered(1), largest, |_| true, || born(0)) {
        Joined::Leader(writer) => Some(writer),
        Joined::Follower(_) => None,
    }
}

fn leader(flights: &Arc<Flights>) -> FlightWriter {
    leader_of(flights, 1 << 20).expect("nobody leads")
}

fn follower(flights: &Arc<Flights>) -> FlightReader {
    match flights.join(Key::numbered(1), 1 << 20, |_| true, || born(0)) {
        Joined::Follower(reader) => reader,
        Joined::Leader(_) => panic!("somebody leads"),
    }
}

async fn all(reader: FlightReader) -> Result<Bytes, String> {
    reader.head().await.map_err(|why| format!("{why:?}"))?;
    reader.into_body().collect().await.map(|body| body.to_bytes()).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_thousand_followers_get_what_the_leader_fetches_also_when_the_first_client_leaves() {
    let (flights, budget) = flights(1 << 20);
    tokio::task::LocalSet::new()
        .run_until(async {
            let writer = leader(&flights);
            let first = writer.reader();
            let waiting: Vec<_> = (0..1000).map(|_| tokio::task::spawn_local(all(follower(&flights)))).collect();
            tokio::task::yield_now().await;
            writer.head(head());
            writer.push(b"half ");
            tokio::task::yield_now().await;
            drop(first);
            writer.push(b"and half");
            let (pieces, _) = writer.complete().expect("small");
            assert_eq!(pieces.concat(), b"half and half");
            for one in waiting {
                assert_eq!(one.await.expect("no panic").expect("complete"), "half and half");
            }
        })
        .await;
    assert!(flights.is_empty());
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn joiners_at_every_moment_of_a_stream_get_all_of_it() {
    let (flights, budget) = flights(1 << 20);
    let expected: Vec<u8> = (0..200u16).flat_map(|at| format!("data: {at}\n\n").into_bytes()).collect();
    tokio::task::LocalSet::new()
        .run_until(async {
            let writer = leader(&flights);
            let mut joined = vec![tokio::task::spawn_local(all(follower(&flights)))];
            writer.head(head());
            for at in 0..200u16 {
                joined.push(tokio::task::spawn_local(all(follower(&flights))));
                if at % 3 == 0 {
                    tokio::task::yield_now().await;
                }
                if at % 7 == 0 {
                    drop(follower(&flights).into_body());
                }
                assert!(writer.push(format!("data: {at}\n\n").as_bytes()));
            }
            joined.push(tokio::task::spawn_local(all(follower(&flights))));
            let mut trailers = Fields::new();
            trailers.insert("x-end", "1");
            writer.trailers(trailers);
            assert_eq!(writer.complete().expect("small").0.len(), 200);
            for one in joined {
                assert_eq!(one.await.expect("no panic").expect("complete"), expected);
            }
        })
        .await;
    assert_eq!(budget.used(), 0);
}

#[test]
fn two_runtimes_share_a_flight() {
    let (flights, _) = flights(1 << 20);
    let writer = leader(&flights);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let readers: Vec<FlightReader> = (0..50).map(|_| follower(&flights)).collect();
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
                tokio::task::LocalSet::new().block_on(&runtime, async {
                    let tasks: Vec<_> = readers.into_iter().map(|reader| tokio::task::spawn_local(all(reader))).collect();
                    for task in tasks {
                        assert_eq!(task.await.expect("no panic").expect("complete").len(), 5000);
                    }
                });
            });
        }
        writer.head(head());
        for _ in 0..500 {
            writer.push(b"0123456789");
            std::thread::yield_now();
        }
        writer.complete().expect("small");
    });
}

#[tokio::test]
async fn a_failed_or_private_flight_lets_its_followers_fetch() {
    let (flights, budget) = flights(1 << 20);
    let writer = leader(&flights);
    let reader = follower(&flights);
    writer.private();
    assert_eq!(reader.head().await.expect_err("private"), FallThrough::Private);
    let writer = leader(&flights);
    let (early, reading) = (follower(&flights), follower(&flights));
    drop(writer);
    assert_eq!(early.head().await.expect_err("given up"), FallThrough::Failed);
    assert!(reading.into_body().collect().await.is_err());
    // After the head a failure must break the body, never end it cleanly.
    let writer = leader(&flights);
    let reader = follower(&flights);
    writer.head(head());
    writer.push(b"part");
    writer.fail("upstream broke");
    assert_eq!(all(reader).await.expect_err("broken"), "upstream broke");
    assert!(leader_of(&flights, 1).is_some(), "the key is free again");
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn a_flight_can_end_in_a_stored_response() {
    let (flights, _) = flights(1 << 20);
    let writer = leader(&flights);
    let reader = follower(&flights);
    writer.resolve(head(), &[Bytes::from_static(b"sto"), Bytes::from_static(b"red")], None);
    assert_eq!(all(reader).await.expect("complete"), "stored");
}

#[tokio::test(start_paused = true)]
async fn an_outgrown_flight_waits_for_a_lone_reader_and_holds_little() {
    let (flights, budget) = flights(64 << 20);
    let writer = leader_of(&flights, 100_000).expect("nobody leads");
    let reader = writer.reader();
    writer.head(head());
    let piece = vec![7u8; 50_000];
    let mut body = reader.into_body();
    let pump = async {
        for _ in 0..200 {
            writer.push(&piece);
            assert!(writer.flight.state.lock().pieces.len() <= 8, "the window holds");
            writer.ready().await;
        }
        assert!(flights.is_empty(), "nobody can join any more");
        assert!(writer.complete().is_none(), "and it is not stored");
    };
    let read = async {
        let mut total = 0;
        while let Some(frame) = body.frame().await {
            total += frame.expect("a slow reader that is alone is waited for").into_data().expect("data").len();
            tokio::time::sleep(Duration::from_secs(15)).await;
        }
        total
    };
    let ((), total) = tokio::join!(pump, read);
    assert_eq!(total, 200 * 50_000);
    drop(body);
    assert_eq!(budget.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stuck_reader_is_cut_when_others_wait() {
    let (flights, _) = flights(64 << 20);
    let writer = leader_of(&flights, 100_000).expect("nobody leads");
    let (stuck, reading) = (writer.reader(), writer.reader());
    writer.head(head());
    let piece = vec![7u8; 50_000];
    let began = tokio::time::Instant::now();
    let pump = async {
        for _ in 0..50 {
            writer.push(&piece);
            writer.ready().await;
        }
        writer.complete();
    };
    let ((), read) = tokio::join!(pump, all(reading));
    assert_eq!(read.expect("the other one gets all").len(), 50 * 50_000);
    assert!(began.elapsed() >= PATIENCE && began.elapsed() < 2 * PATIENCE);
    assert!(all(stuck).await.expect_err("cut").contains("too slow"));
}

#[tokio::test]
async fn without_budget_a_flight_streams_but_is_not_stored() {
    let (flights, budget) = flights(1000);
    let writer = leader(&flights);
    let reader = writer.reader();
    writer.head(head());
    assert!(writer.push(&[1; 500]));
    assert!(!writer.push(&[1; 900]));
    assert!(budget.used() <= 1000);
    assert!(writer.complete().is_none());
    assert_eq!(all(reader).await.expect("complete").len(), 1400);
    assert_eq!(budget.used(), 0);
}
