//! Tests of stored responses and their binary form.

use std::time::UNIX_EPOCH;

use http::{HeaderName, HeaderValue};
use http_body_util::BodyExt;
use proptest::prelude::*;

use super::{super::freshness::Source, *};
use crate::http1::Fields;

fn now() -> Moment {
    Moment::at(UNIX_EPOCH + Duration::from_millis(1_700_000_000_123))
}

fn entry(pieces: &[&[u8]], pauses: Option<Vec<u32>>) -> Entry {
    let now = now();
    let mut headers = Fields::new();
    headers.append("set-cookie", "a=b");
    headers.append("set-cookie", HeaderValue::from_bytes(b"c=\xff").expect("obs-text"));
    Entry::new(NewEntry {
        status: StatusCode::OK,
        headers,
        body: pieces.iter().map(|piece| Bytes::copy_from_slice(piece)).collect(),
        trailers: None,
        pauses: pauses.map(Arc::from),
        dated: true,
        fresh: Freshness {
            received: now,
            initial_age: Duration::from_millis(1500),
            lifetime: Duration::from_secs(60),
            overdue: Duration::from_secs(7),
            source: Source::Forced,
            no_cache: false,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::MAX,
            may_be_stale: true,
        },
        variance: Variance {
            fields: vec![(HeaderName::from_static("foo"), Some(Box::from(&b"1"[..]))), (HeaderName::from_static("bar"), None)],
        },
        route: Arc::from("r"),
        path: Box::from("/p?q"),
        what: Arc::from("GET h/p"),
        took_millis: 1234,
        tags: Box::new([Arc::from("t")]),
        savings: Some(Savings { usage: Usage { input: 7, output: 300, ..Usage::default() }, nano_usd: u64::MAX }),
        stored_at: now,
    })
}

fn assert_same(a: &Entry, b: &Entry) {
    assert_eq!((a.status, &a.headers, &a.body, &a.trailers, &a.pauses), (b.status, &b.headers, &b.body, &b.trailers, &b.pauses));
    assert_eq!((&a.fresh, &a.variance, &a.route, &a.path, &a.tags), (&b.fresh, &b.variance, &b.route, &b.path, &b.tags));
    assert_eq!((&a.what, a.took_millis, a.dated), (&b.what, b.took_millis, b.dated));
    assert_eq!((a.savings, a.stored_at, a.len, a.is_softly_purged()), (b.savings, b.stored_at, b.len, b.is_softly_purged()));
}

#[tokio::test]
async fn parts_are_the_bytes_asked_for() {
    let stored = entry(&[b"012", b"", b"3456", b"789"], None);
    let whole = b"0123456789";
    for first in 0..10usize {
        for last in first..10 {
            let part = stored.part(first as u64, last as u64).collect().await.expect("no errors").to_bytes();
            assert_eq!(part, whole[first..=last], "{first}-{last}");
        }
    }
    assert_eq!(stored.whole(false).collect().await.expect("no errors").to_bytes(), &whole[..]);
    assert!(matches!(entry(&[b"one"], None).whole(false), Body::Full(_)));
}

#[tokio::test(start_paused = true)]
async fn a_paced_replay_keeps_the_pauses_and_an_immediate_one_does_not() {
    let stored = entry(&[b"a", b"b", b"c"], Some(vec![0, 500, 1500]));
    let began = tokio::time::Instant::now();
    assert_eq!(stored.whole(false).collect().await.expect("no errors").to_bytes(), "abc");
    assert_eq!(began.elapsed(), Duration::ZERO);
    let mut body = stored.whole(true);
    for expected in [0, 500, 2000] {
        body.frame().await.expect("a piece").expect("no errors");
        assert_eq!(began.elapsed().as_millis(), expected);
    }
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_long_stream_is_replayed_faster_in_proportion() {
    let stored = entry(&[b"a", b"b", b"c"], Some(vec![0, 60_000, 180_000]));
    let began = tokio::time::Instant::now();
    let mut body = stored.whole(true);
    for expected in [0, 15, 60] {
        body.frame().await.expect("a piece").expect("no errors");
        assert_eq!(began.elapsed().as_secs(), expected);
    }
}

#[test]
fn an_age_travels_with_the_entry_and_no_clock_makes_it_less() {
    let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3_600));
    let stored = entry(&[b"x"], None);
    let age = stored.fresh.initial_age;
    let written = now().after(minute);
    // The writer's clock was set back meanwhile: the written age stays the same.
    for writers in [written, written.with_wall(written.wall - hour)] {
        let bytes = stored.encode(writers);
        for (passed, expected) in [(Duration::ZERO, minute), (minute, 2 * minute)] {
            let reader = Moment::at(UNIX_EPOCH + minute).with_wall(writers.wall + passed);
            let read = Entry::decode(&bytes, reader).expect("whole");
            assert_eq!(read.fresh.age(reader), age + expected);
            assert_eq!(read.fresh.age(reader.after(minute).with_wall(UNIX_EPOCH)), age + expected + minute);
        }
        // A reader whose clock is behind takes the entry as just written.
        let behind = Moment::at(writers.wall - hour);
        assert_eq!(Entry::decode(&bytes, behind).expect("whole").fresh.age(behind), age);
    }
}

#[test]
fn another_version_is_nothing() {
    let mut bytes = entry(&[b"x"], None).encode(now());
    bytes[0] = super::super::codec::VERSION + 1;
    assert!(Entry::decode(&bytes, now()).is_none());
    assert!(Entry::decode(&[], now()).is_none());
}

#[test]
fn the_weight_counts_everything_large() {
    let light = entry(&[b"x"], None).weight();
    let heavy = entry(&[&[0; 10_000], &[0; 10_000]], None).weight();
    assert!(heavy >= light + 19_999, "{light} {heavy}");
    assert!(light > size_of::<Entry>() as u64);
}

proptest! {
    #[test]
    fn encoding_round_trips(
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..6), paced in any::<bool>(), soft in any::<bool>(),
        trailer in proptest::option::of("[a-z]{1,8}"), value in proptest::collection::vec(0x20u8..0x7f, 0..20), age in any::<u32>(),
    ) {
        let slices: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let mut stored = entry(&slices, paced.then(|| vec![3; pieces.len()]));
        stored.fresh.initial_age = Duration::from_micros(u64::from(age));
        stored.trailers = trailer.map(|name| {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a token");
            Fields::from_iter([(name, HeaderValue::from_bytes(&value).expect("visible"))])
        });
        if soft { stored.soften(); }
        let back = Entry::decode(&stored.encode(now()), now()).expect("what was encoded is decoded");
        assert_same(&stored, &back);
    }

    #[test]
    fn any_bytes_decode_or_do_not(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Entry::decode(&bytes, now());
        if let Some(first) = bytes.first_mut() { *first = super::super::codec::VERSION; }
        let _ = Entry::decode(&bytes, now());
    }

    #[test]
    fn a_damaged_entry_never_panics(at in any::<proptest::sample::Index>(), bit in 0u8..8, cut in any::<proptest::sample::Index>()) {
        let mut bytes = entry(&[b"some", b"body"], Some(vec![1, 2])).encode(now());
        let whole = bytes.len();
        let damaged = at.index(whole);
        bytes[damaged] ^= 1 << bit;
        let _ = Entry::decode(&bytes, now());
        bytes[damaged] ^= 1 << bit;
        let cut = cut.index(whole);
        prop_assert!(Entry::decode(&bytes[..cut], now()).is_none(), "a cut entry is no entry");
    }
}
