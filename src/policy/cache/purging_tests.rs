//! Purges of many entries, half-way.

use std::sync::Arc;

use http::{Method, StatusCode};

use super::{
    super::{
        CacheQuery, Decision, Lookup, Worth,
        tests::{at, policy},
    },
    *,
};
use crate::{
    config,
    http1::{Fields, Id},
    store::memory::SLICE,
};

/// More than one slice, and much more than are taken out at once.
const MANY: usize = 4 * SLICE;

struct World {
    cache: Arc<Cache>,
    policy: config::Cache,
    route: Arc<str>,
}

impl World {
    /// A cache with `count` fresh entries: `/many/0` and so on, all with the tag `all`, in the route `r`.
    fn with(count: usize) -> Self {
        let policy = config::Cache { tags: vec![Arc::from("all")], ..policy() };
        let world = Self { cache: Cache::new(64 << 20, 1 << 20, [1; 32]), policy, route: Arc::from("r") };
        (0..count).for_each(|number| assert!(world.fetch(number)));
        assert_eq!(world.left(), count);
        world
    }

    fn query<'a>(&'a self, method: &'a Method, path: &'a str, extra: &'a [(&'a str, &'a str)], headers: &'a Fields) -> CacheQuery<'a> {
        CacheQuery {
            route: &self.route,
            method,
            scheme: "http",
            host: "h",
            path_and_query: path,
            headers,
            extra,
            model: None,
            ttl: None,
            proved: false,
            body: None,
        }
    }

    fn ask_for(&self, path: &str, extra: &[(&str, &str)]) -> Lookup {
        self.cache.look_up(&self.policy, self.query(&Method::GET, path, extra, &Fields::new()), at(1))
    }

    fn ask(&self, number: usize) -> Lookup {
        self.ask_for(&format!("/many/{number}"), &[])
    }

    fn is_hit(&self, number: usize) -> bool {
        matches!(self.ask(number), Lookup::Hit(..))
    }

    fn fetch_for(&self, path: &str, extra: &[(&str, &str)]) -> bool {
        let (Lookup::Miss(fill) | Lookup::Revalidate(fill)) = self.ask_for(path, extra) else { panic!("not stored yet") };
        let mut headers = Fields::new();
        headers.insert(Id::CacheControl, "max-age=60");
        let Decision::Store(recorder) = fill.on_head(StatusCode::OK, &headers, at(1)) else { panic!("storable") };
        recorder.complete(at(1), Worth::Store(None))
    }

    fn fetch(&self, number: usize) -> bool {
        self.fetch_for(&format!("/many/{number}"), &[])
    }

    fn left(&self) -> usize {
        self.cache.stats().memory.entries as usize
    }
}

fn purges() -> [Which<Key>; 4] {
    [Which::Tag(Arc::from("all")), Which::Route(Arc::from("r")), Which::Prefix("/many/".into()), Which::All]
}

#[test]
fn a_purge_of_many_entries_counts_at_once_and_takes_them_out_in_slices() {
    for which in purges() {
        for soft in [false, true] {
            let world = World::with(MANY);
            let purge = Purge { which: which.clone(), soft };
            assert_eq!(world.cache.purge_soon(&purge, at(1)), 0, "{which:?}");
            assert_eq!(world.left(), MANY, "{which:?}: they are still in memory");
            // A requested entry is taken out there, and the others answer no request.
            assert!(!world.is_hit(0), "{which:?}, soft {soft}: from before the purge");
            // An answer fetched after the purge is for later requests.
            assert!(world.fetch(1) && world.is_hit(1), "{which:?}, soft {soft}");
            let (mut left, mut slices) = (world.left(), 0);
            let finished = world.cache.finish_purges_in_slices(at(1), &mut || {
                assert!(left - world.left() <= SLICE, "{which:?}: {left} to {} entries in one slice", world.left());
                slices += 1;
                assert!(!world.is_hit(MANY - slices) && world.is_hit(1), "{which:?}, soft {soft}, after slice {slices}");
                left = world.left();
            });
            assert!(slices >= 3, "{which:?}: {slices} slices");
            assert!(finished > MANY - 2 * slices - 3 && finished < MANY, "{which:?}, soft {soft}: {finished}");
            assert!(world.cache.open.is_empty());
            assert_eq!((0..MANY).filter(|number| world.is_hit(*number)).collect::<Vec<_>>(), [1], "{which:?}, soft {soft}");
            assert_eq!(world.left(), if soft { MANY } else { 1 });
        }
    }
}

#[test]
fn whoever_may_wait_is_told_how_many_were_purged() {
    for which in purges() {
        let world = World::with(MANY);
        assert_eq!(world.cache.purge(&Purge { which: which.clone(), soft: true }, at(1)), MANY, "{which:?}");
        assert_eq!(world.cache.purge(&Purge { which: which.clone(), soft: false }, at(1)), MANY, "{which:?}");
        assert_eq!((world.left(), world.cache.open.is_empty()), (0, true));
    }
}

#[tokio::test]
async fn a_purge_that_is_told_again_while_it_is_under_way_waits_for_its_end() {
    let (open, purge) = (Open::default(), Purge { which: Which::All, soft: false });
    let first = OpenPurge { number: 1, purge: purge.clone(), taken: true };
    open.add(1, purge.clone(), true);
    open.add(2, purge.clone(), false);
    open.wanted.notified().await;
    assert_eq!(open.take(), None);
    open.close(&first);
    open.wanted.notified().await;
    assert_eq!(open.take(), Some(OpenPurge { number: 2, purge, taken: true }));
}

#[test]
fn few_entries_are_taken_out_at_once() {
    let world = World::with(FEW);
    assert_eq!(world.cache.purge_soon(&Purge { which: Which::Tag(Arc::from("all")), soft: false }, at(1)), FEW);
    assert_eq!((world.left(), world.cache.open.is_empty()), (0, true));
}

#[test]
fn a_change_of_a_uri_with_very_many_entries_keeps_nobody_waiting() {
    let world = World::with(0);
    let who = |number: usize| number.to_string();
    for number in 0..MANY {
        assert!(world.fetch_for("/page", &[("cookie:who", &who(number))]));
    }
    assert!(world.fetch_for("/other", &[("cookie:who", "1")]));
    let none = Fields::new();
    let removed = world.cache.invalidate(world.query(&Method::POST, "/page", &[], &none), StatusCode::OK, &none, at(1));
    assert_eq!((removed, world.left()), (0, MANY + 1));
    assert!((0..MANY).all(|number| !matches!(world.ask_for("/page", &[("cookie:who", &who(number))]), Lookup::Hit(..))));
    assert!(matches!(world.ask_for("/other", &[("cookie:who", "1")]), Lookup::Hit(..)));
    world.cache.finish_purges(at(1));
    assert_eq!(world.left(), 1);
}

#[test]
fn more_open_purges_than_are_compared_with_become_one_of_everything() {
    let world = World::with(1);
    let prefix = |number: usize| Purge { which: Which::Prefix(format!("/{number}/")), soft: false };
    for number in (0..MOST_OPEN).flat_map(|number| [number, number]) {
        world.cache.purge_soon(&prefix(number), at(1));
    }
    assert!(world.is_hit(0));
    assert_eq!(world.cache.open.purges.read().len(), MOST_OPEN);
    world.cache.purge_soon(&prefix(MOST_OPEN), at(1));
    assert!(!world.is_hit(0));
    assert_eq!(world.cache.open.purges.read().len(), 1);
    assert!(world.fetch(0) && world.is_hit(0));
    // A purge in the foreground at that moment still works, and the purge of everything is not lost.
    for number in 0..MOST_OPEN {
        world.cache.purge_soon(&prefix(number), at(1));
    }
    assert_eq!(world.cache.purge(&Purge { which: Which::Route(Arc::from("other")), soft: false }, at(1)), 0);
    assert!(!world.is_hit(0));
    world.cache.finish_purges(at(1));
    assert_eq!((world.left(), world.cache.open.is_empty()), (0, true));
}

#[tokio::test]
async fn whoever_finishes_purges_is_called() {
    let world = World::with(1);
    world.cache.purge_soon(&Purge { which: Which::All, soft: false }, at(1));
    world.cache.until_purges_wait().await;
    assert_eq!(world.cache.finish_purges(at(1)), 1);
}
