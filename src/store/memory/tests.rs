//! Tests of the memory tier.

use std::sync::atomic::AtomicBool;

use super::*;

struct Thing {
    weight: u64,
    tags: Vec<Arc<str>>,
    path: String,
    soft: AtomicBool,
}

impl TierKey for u64 {
    const LEAST: Self = 0;
}

impl Stored for Thing {
    fn weight(&self) -> u64 {
        self.weight
    }
    fn tags(&self) -> &[Arc<str>] {
        &self.tags
    }
    fn route(&self) -> &str {
        "route"
    }
    fn path(&self) -> &str {
        &self.path
    }
    fn stored_at(&self) -> Moment {
        NOW
    }
    fn soften(&self) {
        self.soft.store(true, Relaxed);
    }
    fn is_beyond_use(&self, _now: Moment) -> bool {
        self.path == "/old"
    }
}

const NOW: Moment = Moment::at(std::time::UNIX_EPOCH);
const MIB: u64 = 1 << 20;

fn thing(weight: u64, path: &str, tags: &[&str]) -> Arc<Thing> {
    let tags = tags.iter().map(|tag| Arc::from(*tag)).collect();
    Arc::new(Thing { weight, tags, path: path.to_owned(), soft: AtomicBool::new(false) })
}

fn put(memory: &Memory<u64, Thing>, key: u64, thing: Arc<Thing>) -> Result<(), Reason> {
    memory.update(key, NOW, |_| Some(vec![thing]))
}

fn purge(memory: &Memory<u64, Thing>, which: &Which<u64>, soft: bool) -> usize {
    memory.purge(which, soft, NOW, |_| true, &mut || {})
}

fn count(memory: &Memory<u64, Thing>, reason: Reason) -> u64 {
    memory.stats().evicted[reason.index()].0
}

#[test]
fn a_crawl_stays_in_the_budget_and_the_hot_set_survives() {
    let memory = Memory::new(8 * MIB, MIB / 4);
    let hot = 1000u64;
    for key in 0..hot {
        put(&memory, key, thing(2048, "/hot", &["hot"])).expect("fits");
    }
    for _ in 0..3 {
        (0..hot).for_each(|key| drop(memory.get(&key)));
    }
    let mut hits = 0;
    for at in 0..100_000u64 {
        put(&memory, 1_000_000 + at, thing(2048, "/crawl", &["crawl"])).expect("fits");
        hits += u64::from(memory.get(&(at % hot)).is_some());
        if at % 1000 == 0 {
            let stats = memory.stats();
            assert!(stats.bytes <= 6 * MIB, "{} bytes", stats.bytes);
            assert!(stats.tag_pairs <= stats.entries, "the index holds {} pairs for {} entries", stats.tag_pairs, stats.entries);
        }
    }
    assert!(hits >= 95_000, "{hits} of 100000 hits on the hot set");
    let stats = memory.stats();
    assert_eq!(stats.tag_pairs, stats.entries);
    assert_eq!(count(&memory, Reason::Size) + stats.entries, stats.stored);
}

#[test]
fn large_bodies_have_room_and_too_large_ones_are_refused() {
    let memory: Memory<u64, Thing> = Memory::new(64 * MIB, 8 * MIB);
    assert_eq!(memory.quick.num_shards(), 1);
    for key in 0..4 {
        put(&memory, key, thing(8 * MIB, "/", &[])).expect("fits");
    }
    assert_eq!(memory.stats().entries, 4);
    assert_eq!(put(&memory, 9, thing(25 * MIB, "/", &[])), Err(Reason::TooLarge));
    assert!(memory.get(&9).is_none());
    let small: Memory<u64, Thing> = Memory::new(64 * MIB, MIB);
    assert!(small.quick.shard_capacity() >= 4 * MIB);
}

#[test]
fn purges_by_tag_route_prefix_and_key_soft_and_hard() {
    let memory = Memory::new(8 * MIB, MIB);
    put(&memory, 1, thing(10, "/a/1", &["x", "y"])).expect("fits");
    put(&memory, 2, thing(10, "/a/2", &["x"])).expect("fits");
    put(&memory, 3, thing(10, "/b/3", &[])).expect("fits");
    assert_eq!(memory.stats().tag_pairs, 3, "what has no tag is not in the index");
    assert_eq!(purge(&memory, &Which::Tag("x".into()), true), 2);
    assert!(memory.get(&1).expect("soft").variants()[0].soft.load(Relaxed));
    assert_eq!(purge(&memory, &Which::Tag("y".into()), false), 1);
    assert!(memory.get(&1).is_none() && memory.get(&2).is_some());
    assert_eq!(purge(&memory, &Which::Prefix("/a/".into()), false), 1);
    assert_eq!(purge(&memory, &Which::Route("other".into()), false), 0);
    assert_eq!(purge(&memory, &Which::Key(3), false), 1);
    assert_eq!((memory.stats().entries, memory.stats().tag_pairs, count(&memory, Reason::Purged)), (0, 0, 3));
    put(&memory, 4, thing(10, "/old", &["z"])).expect("fits");
    put(&memory, 5, thing(10, "/new", &["z"])).expect("fits");
    assert_eq!(memory.sweep(NOW, &mut || {}), 1);
    assert_eq!(purge(&memory, &Which::All, false), 1);
    assert_eq!(memory.stats().tag_pairs, 0);
}

#[test]
fn variants_are_bounded_and_tags_follow_the_variants() {
    let memory = Memory::new(8 * MIB, MIB);
    for at in 0..100 {
        let new = thing(10, "/", &[&format!("t{at}"), "all"]);
        memory.update(1, NOW, |old| Some([std::slice::from_ref(&new), old].concat())).expect("fits");
    }
    assert_eq!(memory.get(&1).expect("there").variants().len(), MAX_VARIANTS);
    assert_eq!(purge(&memory, &Which::Tag("t0".into()), false), 0, "the oldest is gone");
    assert_eq!(purge(&memory, &Which::Tag("t99".into()), false), 1);
    assert_eq!(memory.get(&1).expect("there").variants().len(), MAX_VARIANTS - 1);
    assert_eq!(purge(&memory, &Which::Tag("all".into()), false), MAX_VARIANTS - 1);
    assert_eq!(memory.stats().tag_pairs, 0);
}

#[test]
fn what_could_not_be_purged_is_not_stored() {
    let memory = Memory::new(64 * 512, 1024);
    let tags: Vec<String> = (0..65).map(|at| at.to_string()).collect();
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    let result = put(&memory, 1, thing(10, "/", &tags));
    assert!(matches!(result, Err(Reason::TagsFull | Reason::TooLarge)), "{result:?}");
    assert_eq!((memory.stats().entries, memory.stats().tag_pairs), (0, 0));
}

#[test]
fn many_threads_leave_the_index_true() {
    let memory = Memory::new(MIB, 16 * 1024);
    std::thread::scope(|scope| {
        for worker in 0..4u64 {
            let memory = &memory;
            scope.spawn(move || {
                for at in 0..5_000u64 {
                    let key = (at * 7 + worker) % 900;
                    put(memory, key, thing(2000, "/", &["a", "b"])).expect("fits");
                    if at % 1000 == 999 {
                        purge(memory, &Which::Tag("a".into()), false);
                    }
                }
            });
        }
    });
    let stats = memory.stats();
    assert_eq!(stats.tag_pairs, 2 * stats.entries);
    assert!(stats.bytes <= MIB - MIB / 4);
}

#[test]
fn a_budget_never_gives_more_than_it_has() {
    let budget = Budget::new(10);
    assert!(budget.reserve(6) && budget.reserve(4) && !budget.reserve(1) && !budget.reserve(u64::MAX));
    budget.release(4);
    assert!(budget.reserve(4));
    assert_eq!(budget.used(), 10);
}
