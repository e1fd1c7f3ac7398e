//! What a cache is for: hit rates, and a budget that holds whatever is asked.

use outrigger::clock::Chance;

use crate::world::{Lasting, World, answer};

const CACHED: &str = "{match: {path: /**}, cache: {ttl: 1h}}";

fn is_hit(status: &str) -> bool {
    status.contains("; hit")
}

#[tokio::test]
async fn repeated_questions_are_mostly_hits() {
    let world = World::new(CACHED, "", |_| answer(200, &[], "x")).await;
    let mut client = Lasting::to(world.inbound).await;
    let (mut hits, asked) = (0, 400);
    for nth in 0..asked {
        // Every question comes four times, apart from each other.
        hits += u32::from(is_hit(&client.get(&format!("/question/{}", nth % (asked / 4))).await.1));
    }
    assert!(hits * 100 > asked * 50, "{hits} of {asked}");
    assert_eq!(hits, asked / 4 * 3, "everything fits, so everything is found");
}

#[tokio::test]
async fn a_zipf_workload_that_fits_is_answered_from_the_store() {
    const OBJECTS: usize = 500;
    const ASKED: u32 = 5000;
    let world = World::new(CACHED, "", |_| answer(200, &[], vec![b'x'; 2048])).await;
    let mut client = Lasting::to(world.inbound).await;
    let chance = Chance::seeded(7);
    let mut sums: Vec<f64> = (1..=OBJECTS).map(|rank| 1.0 / rank as f64).collect();
    (1..OBJECTS).for_each(|at| sums[at] += sums[at - 1]);
    let mut hits = 0;
    for _ in 0..ASKED {
        let point = chance.unit() * sums[OBJECTS - 1];
        let object = sums.partition_point(|sum| *sum < point);
        hits += u32::from(is_hit(&client.get(&format!("/object/{object}")).await.1));
    }
    assert!(f64::from(hits) / f64::from(ASKED) > 0.8, "{hits} of {ASKED}");
    assert!(world.origin.count() <= OBJECTS, "each is fetched once");
}

#[tokio::test]
async fn a_crawl_stays_within_the_budget_and_leaves_the_hot_set_alone() {
    const HOT: usize = 100;
    const CRAWLED: usize = 12_000;
    const BODY: usize = 2048;
    let world = World::new(CACHED, "", |_| answer(200, &[], vec![b'x'; BODY])).await;
    let mut client = Lasting::to(world.inbound).await;
    let ask_hot = async |client: &mut Lasting, times: usize| {
        let mut hits = 0;
        for nth in 0..times {
            hits += usize::from(is_hit(&client.get(&format!("/hot/{}", nth % HOT)).await.1));
        }
        hits as f64 / times as f64
    };
    ask_hot(&mut client, HOT * 3).await;
    let before = ask_hot(&mut client, HOT * 2).await;
    let (mut during, mut rounds, mut largest) = (0.0, 0, 0);
    for nth in 0..CRAWLED {
        let (status, said, body) = client.get(&format!("/crawl/{nth}")).await;
        assert!(status.is_success() && !is_hit(&said) && body.len() == BODY);
        let memory = world.app.shared.cache.stats().memory;
        largest = largest.max(memory.bytes + memory.in_flight);
        assert!(memory.bytes + memory.in_flight <= memory.budget, "{memory:?}");
        if nth % 1000 == 999 {
            during += ask_hot(&mut client, HOT).await;
            rounds += 1;
        }
    }
    let during = during / f64::from(rounds);
    assert!(before - during < 0.05, "the hot set's hit rate fell from {before} to {during}");
    world.until_landed().await;
    let memory = world.app.shared.cache.stats().memory;
    assert!(CRAWLED * BODY > 2 * memory.budget as usize, "the crawl is larger than the budget");
    assert!(largest > memory.budget / 2, "the budget is used: {largest}");
    let gone: u64 = memory.evicted.iter().map(|(count, _)| count).sum();
    assert_eq!(memory.stored, gone + memory.entries, "everything is accounted for: {memory:?}");
}
