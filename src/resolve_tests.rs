//! The resolver with a scripted name server, on a paused clock.

use std::sync::{
    atomic::{AtomicUsize, Ordering::SeqCst},
    mpsc,
};

use proptest::prelude::*;

use super::*;

/// A name server that answers each question as it is told, when it is told.
struct Scripted {
    asked: Arc<AtomicUsize>,
    answers: Mutex<mpsc::Receiver<Option<&'static str>>>,
}

impl Lookup for Scripted {
    fn addresses(&self, _: &str) -> io::Result<Vec<SocketAddr>> {
        self.asked.fetch_add(1, SeqCst);
        match self.answers.lock().recv() {
            Ok(Some(address)) => Ok(vec![SocketAddr::new(address.parse().expect("an address"), 0)]),
            _ => Err(io::Error::other("no such name")),
        }
    }
}

struct World {
    resolver: Resolver,
    asked: Arc<AtomicUsize>,
    answers: mpsc::Sender<Option<&'static str>>,
}

impl World {
    fn new() -> Self {
        let (answers, script) = mpsc::channel();
        let asked: Arc<AtomicUsize> = Arc::default();
        let resolver = Resolver::new(Scripted { asked: asked.clone(), answers: Mutex::new(script) });
        Self { resolver, asked, answers }
    }

    fn say(&self, answer: Option<&'static str>) {
        self.answers.send(answer).expect("listened to");
    }

    /// Waits for the real thread behind the paused clock.
    async fn until(&self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            tokio::task::yield_now().await;
        }
    }

    fn idle(&self) -> bool {
        self.resolver.0.state.lock().threads == 0
    }

    /// As fast as the name server's thread: the paused clock stands meanwhile.
    async fn resolve(&self) -> Result<(String, Source), Arc<str>> {
        self.busy(false).await
    }

    async fn busy(&self, again: bool) -> Result<(String, Source), Arc<str>> {
        let busy = async {
            loop {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            found = self.resolve_or_wait(again) => found,
            () = busy => unreachable!("it never ends"),
        }
    }

    /// The paused clock goes on while the name server says nothing.
    async fn resolve_or_wait(&self, again: bool) -> Result<(String, Source), Arc<str>> {
        let found = self.resolver.resolve("app.test", 80, again).await?;
        Ok((found.addresses[0].to_string(), found.source))
    }
}

fn ok(text: &str, source: Source) -> Result<(String, Source), Arc<str>> {
    Ok((text.to_owned(), source))
}

#[tokio::test(start_paused = true)]
async fn literals_and_localhost_never_touch_the_resolver() {
    let world = World::new();
    for (host, first, count) in
        [("10.0.0.1", "10.0.0.1:80", 1), ("::1", "[::1]:80", 1), ("localhost", "127.0.0.1:80", 2), ("LocalHost.", "127.0.0.1:80", 2)]
    {
        let found = world.resolver.resolve(host, 80, false).await.expect("addresses");
        assert_eq!((found.addresses[0].to_string().as_str(), found.addresses.len(), found.source), (first, count, Source::Literal));
    }
    assert_eq!(world.asked.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_kept_and_refreshed_ahead_and_a_name_is_asked_for_once_at_a_time() {
    let world = World::new();
    world.say(Some("10.0.0.1"));
    let (one, two, three) = tokio::join!(world.resolve(), world.resolve(), world.resolve());
    assert_eq!((&one, &two, &three), (&ok("10.0.0.1:80", Source::LookedUp), &one, &one));
    assert_eq!(world.asked.load(SeqCst), 1);
    tokio::time::advance(AHEAD).await;
    assert_eq!(world.resolve().await, ok("10.0.0.1:80", Source::Cached));
    assert!(world.idle(), "young enough");
    // A little later the old answer is given, and a new one fetched behind it.
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(world.resolve().await, ok("10.0.0.1:80", Source::Cached));
    assert_eq!(world.resolve().await, ok("10.0.0.1:80", Source::Cached));
    world.say(Some("10.0.0.2"));
    world.until(World::idle).await;
    assert_eq!(world.resolve().await, ok("10.0.0.2:80", Source::Cached));
    assert_eq!(world.asked.load(SeqCst), 2);
    // Too old to be taken unseen.
    tokio::time::advance(FRESH).await;
    world.say(Some("10.0.0.3"));
    assert_eq!(world.resolve().await, ok("10.0.0.3:80", Source::LookedUp));
}

#[tokio::test(start_paused = true)]
async fn the_last_good_answer_outlives_an_outage_but_not_for_ever() {
    let world = World::new();
    world.say(Some("10.0.0.1"));
    world.resolve().await.expect("an address");
    // The name server says no.
    tokio::time::advance(FRESH).await;
    world.say(None);
    assert_eq!(world.resolve().await, ok("10.0.0.1:80", Source::Kept));
    assert_eq!(world.resolve().await, ok("10.0.0.1:80", Source::Kept), "believed for a second: not asked again");
    assert_eq!(world.asked.load(SeqCst), 2);
    // The name server says nothing: half a second, once, then no more.
    tokio::time::advance(FAILED).await;
    let began = Instant::now();
    assert_eq!(world.resolve_or_wait(false).await, ok("10.0.0.1:80", Source::Kept));
    assert_eq!(began.elapsed(), PATIENCE);
    assert_eq!(world.resolve_or_wait(false).await, ok("10.0.0.1:80", Source::Kept));
    assert_eq!(began.elapsed(), PATIENCE);
    world.say(None);
    world.until(World::idle).await;
    tokio::time::advance(OUTAGE).await;
    world.say(None);
    assert_eq!(world.resolve().await, Err("no such name".into()));
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_believed_for_a_second() {
    let world = World::new();
    world.say(None);
    assert_eq!(world.resolve().await, Err("no such name".into()));
    assert_eq!(world.resolve().await, Err("no such name".into()));
    assert_eq!(world.asked.load(SeqCst), 1);
    tokio::time::advance(FAILED + Duration::from_millis(500)).await;
    world.say(Some("10.0.0.1"));
    assert_eq!(world.resolve().await, ok("10.0.0.1:80", Source::LookedUp));
}

#[tokio::test(start_paused = true)]
async fn addresses_that_nobody_answers_at_are_asked_for_again() {
    let world = World::new();
    world.say(Some("10.0.0.1"));
    world.resolve().await.expect("an address");
    world.resolver.doubt("app.test");
    world.say(Some("10.0.0.2"));
    assert_eq!(world.resolve().await, ok("10.0.0.2:80", Source::LookedUp));
    world.say(Some("10.0.0.3"));
    assert_eq!(world.busy(true).await, ok("10.0.0.3:80", Source::LookedUp));
}

/// Any number of dead names holds up a few threads, none of tokio's, and no literal.
#[tokio::test(start_paused = true)]
async fn names_that_hang_take_few_threads() {
    let world = World::new();
    let waiting: Vec<_> = (0..700)
        .map(|n| {
            let resolver = world.resolver.clone();
            tokio::spawn(async move { resolver.resolve(&format!("dead-{n}.test"), 80, false).await })
        })
        .collect();
    world.until(|world| world.resolver.0.state.lock().names.len() == 700).await;
    assert_eq!(world.resolver.0.state.lock().threads, THREADS);
    assert!(world.resolver.resolve("localhost", 80, false).await.is_ok());
    let resolver = world.resolver.clone();
    drop(world.answers);
    for task in waiting {
        assert!(task.await.expect("ended").is_err());
    }
    assert!(resolver.0.state.lock().queue.is_empty());
}

/// A lookup that panics is a failure like others.
#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure() {
    struct Panics;
    impl Lookup for Panics {
        fn addresses(&self, _: &str) -> io::Result<Vec<SocketAddr>> {
            panic!("as told")
        }
    }
    let resolver = Resolver::new(Panics);
    assert!(resolver.resolve("app.test", 80, false).await.is_err());
    tokio::time::advance(Duration::from_secs(5)).await;
    assert!(resolver.resolve("app.test", 80, false).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_address_that_lost_is_tried_last_for_a_while() {
    struct Two;
    impl Lookup for Two {
        fn addresses(&self, _: &str) -> io::Result<Vec<SocketAddr>> {
            Ok(["[2001:db8::1]:0", "192.0.2.1:0"].map(|text| text.parse().expect("an address")).to_vec())
        }
    }
    let resolver = Resolver::new(Two);
    let first = async || resolver.resolve("two.test", 80, false).await.expect("addresses").addresses[0];
    let v6 = first().await;
    assert!(v6.is_ipv6());
    resolver.lost("two.test", v6);
    assert!(first().await.is_ipv4());
    tokio::time::advance(LAME).await;
    assert!(first().await.is_ipv6());
}

proptest! {
    /// Whatever the order of answers, failures and pauses: an address that is given is one that was said, never older than
    /// an hour, and who fails hears why.
    #[test]
    fn what_is_given_was_said(steps in proptest::collection::vec((0u64..4000, proptest::option::of(0u8..4)), 1..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        runtime.block_on(async move {
            const SAID: [&str; 4] = ["10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.3"];
            let world = World::new();
            let mut said: Vec<(Instant, &str)> = Vec::new();
            for (pause, answer) in steps {
                tokio::time::advance(Duration::from_secs(pause)).await;
                let before = world.asked.load(SeqCst);
                let answer = answer.map(|n| SAID[n as usize]);
                world.say(answer);
                let given = world.resolve().await;
                world.until(World::idle).await;
                if world.asked.load(SeqCst) > before {
                    said.extend(answer.map(|answer| (Instant::now(), answer)));
                } else {
                    // Nobody took it: nothing may be left for the next question.
                    let _ = std::mem::take(&mut *world.resolver.0.state.lock());
                    return;
                }
                if let Ok((address, _)) = given {
                    let known = said.iter().rev().find(|(_, one)| address == format!("{one}:80"));
                    assert!(known.is_some_and(|(at, _)| at.elapsed() <= OUTAGE), "{address} of {said:?}");
                }
            }
        });
    }
}
