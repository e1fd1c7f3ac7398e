//! The breaker by example, against a reference model, and under threads.

use proptest::prelude::*;

use super::*;
use crate::config::BreakerRatio;

fn terms() -> config::Breaker {
    config::Breaker {
        mode: Mode::Enforce,
        consecutive: 5,
        ratio: Some(BreakerRatio { threshold: 0.5, window: Duration::from_secs(10), min_requests: 20 }),
        open_base: Duration::from_secs(5),
        open_max: Duration::from_secs(60),
        jitter: 0.0,
        successes: 2,
    }
}

const FAILURE: Outcome = Outcome::Failure { retry_after: None };
const THROTTLED: Outcome = Outcome::Throttled { retry_after: None };

struct Bench {
    breaker: Arc<Breaker>,
    chance: Chance,
    now: Instant,
}

impl Bench {
    fn new(terms: config::Breaker) -> Self {
        let now = Instant::now();
        Self { breaker: Arc::new(Breaker::new(terms, now)), chance: Chance::seeded(1), now }
    }

    fn permit(&self) -> Result<Permit, Open> {
        self.breaker.permit(self.now)
    }

    fn attempt(&self, outcome: Outcome) {
        let _ = self.turned_by(outcome);
    }

    fn turned_by(&self, outcome: Outcome) -> Option<State> {
        self.permit().expect("a permit").settle(outcome, self.now, &self.chance)
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn opens(&self, seconds: u64) {
        assert_eq!(self.permit().expect_err("open").retry_after, Some(Duration::from_secs(seconds)));
    }
}

#[tokio::test(start_paused = true)]
async fn five_failures_open_it_and_two_probes_close_it() {
    let mut bench = Bench::new(terms());
    (0..4).for_each(|_| bench.attempt(FAILURE));
    bench.attempt(Outcome::Success);
    (0..4).for_each(|_| bench.attempt(FAILURE));
    assert_eq!(bench.breaker.state(), State::Closed, "a success between starts the count anew");
    assert_eq!(bench.turned_by(FAILURE), Some(State::Open), "who turns it is told");
    bench.opens(5);
    bench.wait(5);
    let probe = bench.permit().expect("the first probe");
    assert_eq!(probe.kind, Kind::Probe);
    bench.opens(1);
    probe.settle(Outcome::Success, bench.now, &bench.chance);
    assert_eq!(bench.breaker.state(), State::HalfOpen);
    assert_eq!(bench.turned_by(Outcome::Success), Some(State::Closed));
    assert_eq!(bench.turned_by(Outcome::Success), None);
    assert_eq!(bench.breaker.snapshot(&"t".into(), bench.now).transitions, [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn open_time_doubles_to_its_max_and_starts_over_after_recovery() {
    let mut bench = Bench::new(terms());
    (0..5).for_each(|_| bench.attempt(FAILURE));
    for seconds in [5, 10, 20, 40, 60, 60] {
        bench.opens(seconds);
        bench.wait(seconds);
        bench.attempt(THROTTLED);
    }
    bench.wait(60);
    (0..2).for_each(|_| bench.attempt(Outcome::Success));
    (0..5).for_each(|_| bench.attempt(FAILURE));
    bench.opens(5);
}

#[tokio::test(start_paused = true)]
async fn retry_after_lengthens_the_open_time_up_to_its_max() {
    let bench = Bench::new(config::Breaker { consecutive: 1, ..terms() });
    bench.attempt(Outcome::Failure { retry_after: Some(Duration::from_secs(30)) });
    bench.opens(30);
    let bench = Bench::new(config::Breaker { consecutive: 1, ..terms() });
    bench.attempt(Outcome::Failure { retry_after: Some(Duration::from_secs(3_600)) });
    bench.opens(60);
    let bench = Bench::new(config::Breaker { consecutive: 1, ..terms() });
    bench.attempt(Outcome::Failure { retry_after: Some(Duration::from_secs(1)) });
    bench.opens(5);
}

#[tokio::test(start_paused = true)]
async fn throttled_answers_count_in_the_share_only() {
    let bench = Bench::new(terms());
    (0..19).for_each(|_| bench.attempt(THROTTLED));
    assert_eq!(bench.breaker.state(), State::Closed);
    bench.attempt(Outcome::Success);
    assert_eq!(bench.breaker.state(), State::Open, "19 of 20");
}

#[tokio::test(start_paused = true)]
async fn late_results_and_cancelled_probes_change_nothing() {
    let mut bench = Bench::new(terms());
    let late: Vec<_> = (0..3).map(|_| bench.permit().expect("closed")).collect();
    (0..5).for_each(|_| bench.attempt(FAILURE));
    bench.wait(5);
    drop(bench.permit().expect("a probe whose client leaves"));
    assert_eq!(bench.breaker.state(), State::HalfOpen);
    for permit in late {
        permit.settle(FAILURE, bench.now, &bench.chance);
    }
    assert_eq!(bench.breaker.state(), State::HalfOpen);
    assert_eq!(bench.permit().expect("the probe came back").kind, Kind::Probe);
}

#[tokio::test(start_paused = true)]
async fn observing_refuses_nothing_and_counts_everything() {
    let mut bench = Bench::new(config::Breaker { mode: Mode::Observe, ..terms() });
    (0..5).for_each(|_| bench.attempt(FAILURE));
    assert_eq!(bench.breaker.state(), State::Open);
    for _ in 0..3 {
        let permit = bench.permit().expect("observed");
        assert_eq!(permit.kind, Kind::Observed);
        permit.settle(FAILURE, bench.now, &bench.chance);
    }
    assert_eq!(bench.breaker.snapshot(&"t".into(), bench.now).refused, 3);
    bench.wait(5);
    (0..2).for_each(|_| bench.attempt(Outcome::Success));
    assert_eq!(bench.breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn by_hand_it_stays_open_until_it_is_closed() {
    let mut bench = Bench::new(terms());
    bench.breaker.open(bench.now);
    bench.wait(3_600);
    assert_eq!(bench.permit().expect_err("open").retry_after, None, "nobody knows for how long");
    assert!(bench.breaker.snapshot(&"t".into(), bench.now).forced);
    bench.breaker.close(bench.now);
    bench.attempt(Outcome::Success);
}

#[tokio::test(start_paused = true)]
async fn breakers_live_on_with_new_terms() {
    let (breakers, chance, now) = (Breakers::default(), Chance::seeded(1), Instant::now());
    let name: Arc<str> = "openai".into();
    let first = breakers.get(&name, &terms(), 1, now);
    assert!(Arc::ptr_eq(&first, &breakers.get(&name, &terms(), 1, now)));
    (0..5).for_each(|_| first.permit(now).expect("closed").settle(FAILURE, now, &chance).map_or((), drop));
    let second = breakers.get(&name, &config::Breaker { consecutive: 3, ..terms() }, 1, now);
    assert!(second.permit(now).is_err(), "still open");
    assert_eq!(breakers.snapshot(now)[0].transitions, [0, 0, 1]);
    breakers.retain(2, |name| name != "openai", |name| name != "openai");
    assert!(breakers.find("openai").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_request_of_an_older_generation_changes_nothing() {
    let (breakers, now) = (Breakers::default(), Instant::now());
    let (name, gone): (Arc<str>, Arc<str>) = ("openai".into(), "gone".into());
    let other = config::Breaker { consecutive: 3, ..terms() };
    breakers.retain(2, |_| true, |_| true);
    let newest = breakers.get(&name, &other, 2, now);
    assert!(Arc::ptr_eq(&newest, &breakers.get(&name, &terms(), 1, now)), "its terms are not put back");
    assert!(Arc::ptr_eq(&newest, &breakers.get(&name, &other, 2, now)));
    breakers.get(&gone, &terms(), 1, now);
    assert!(breakers.find("gone").is_none(), "what is gone does not come back");
}

#[test]
fn only_one_of_many_threads_gets_the_probe() {
    let bench = Bench::new(terms());
    (0..5).for_each(|_| bench.attempt(FAILURE));
    let (breaker, later) = (&bench.breaker, bench.now + Duration::from_secs(5));
    let permits: usize = std::thread::scope(|scope| {
        let askers: Vec<_> = (0..8).map(|_| scope.spawn(move || breaker.permit(later).ok())).collect();
        let permits: Vec<_> = askers.into_iter().filter_map(|asker| asker.join().expect("no panic")).collect();
        permits.len()
    });
    assert_eq!(permits, 1);
}

/// The breaker written for clarity, not for speed: every event is kept.
struct Model {
    terms: config::Breaker,
    state: State,
    generation: u64,
    until: Duration,
    opened: u32,
    probing: bool,
    successes: u32,
    in_a_row: u32,
    events: Vec<(Duration, bool)>,
}

impl Model {
    fn turn(&mut self, to: State) {
        self.state = to;
        self.generation += 1;
        (self.probing, self.successes, self.in_a_row) = (false, 0, 0);
        self.events.clear();
    }

    fn permit(&mut self, now: Duration) -> Option<(u64, bool)> {
        match self.state {
            State::Closed => return Some((self.generation, false)),
            State::Open if now < self.until => return None,
            State::Open => self.turn(State::HalfOpen),
            State::HalfOpen if self.probing => return None,
            State::HalfOpen => {}
        }
        self.probing = true;
        Some((self.generation, true))
    }

    fn trip(&mut self, now: Duration, asked: Option<Duration>) {
        let open = self.terms.open_base.mul_f64(2_f64.powi(self.opened as i32)).min(self.terms.open_max);
        self.until = now + open.max(asked.unwrap_or_default().min(self.terms.open_max));
        self.opened += 1;
        self.turn(State::Open);
    }

    fn settle(&mut self, (generation, probe): (u64, bool), outcome: Outcome, now: Duration) {
        if generation != self.generation {
            return;
        }
        let (bad, asked) = match outcome {
            Outcome::Failure { retry_after } | Outcome::Throttled { retry_after } => (true, retry_after),
            _ => (false, None),
        };
        if probe {
            self.probing = false;
            match outcome {
                Outcome::Cancelled => {}
                _ if bad => self.trip(now, asked),
                _ => {
                    self.successes += 1;
                    if self.successes >= self.terms.successes {
                        self.opened = 0;
                        self.turn(State::Closed);
                    }
                }
            }
            return;
        }
        match outcome {
            Outcome::Cancelled => return,
            Outcome::Success => self.in_a_row = 0,
            Outcome::Failure { .. } => self.in_a_row += 1,
            Outcome::Throttled { .. } => {}
        }
        self.events.push((now, bad));
        let ratio = self.terms.ratio.expect("these terms have one");
        let bucket = |at: Duration| at.as_nanos() / (ratio.window.as_nanos() / 10);
        let live: Vec<_> = self.events.iter().filter(|(at, _)| bucket(*at) + 10 > bucket(now)).collect();
        let failures = live.iter().filter(|(_, bad)| *bad).count();
        let share = live.len() >= ratio.min_requests as usize && failures as f64 >= ratio.threshold * live.len() as f64;
        let in_a_row = matches!(outcome, Outcome::Failure { .. }) && self.in_a_row >= self.terms.consecutive;
        if in_a_row || share && failures > 0 {
            self.trip(now, asked);
        }
    }
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => Just(Outcome::Success),
        3 => prop::option::weighted(0.2, (0..90_u64).prop_map(Duration::from_secs)).prop_map(|retry_after| Outcome::Failure { retry_after }),
        1 => Just(THROTTLED),
        1 => Just(Outcome::Cancelled),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Tries overlap: each step begins a try or ends one under way.
    #[test]
    fn it_does_what_the_model_does(
        consecutive in 1..6_u32,
        steps in prop::collection::vec((0..4_000_u64, any::<bool>(), any::<prop::sample::Index>(), outcomes()), 1..300),
    ) {
        let ratio = BreakerRatio { threshold: 0.5, window: Duration::from_secs(10), min_requests: 8 };
        let terms = config::Breaker { consecutive, ratio: Some(ratio), ..terms() };
        let mut bench = Bench::new(terms.clone());
        let start = bench.now;
        let mut model = Model {
            terms, state: State::Closed, generation: 0, until: Duration::ZERO, opened: 0,
            probing: false, successes: 0, in_a_row: 0, events: Vec::new(),
        };
        let mut under_way = Vec::new();
        for (pause, begin, which, outcome) in steps {
            bench.now += Duration::from_millis(pause / 4);
            let now = bench.now - start;
            if begin || under_way.is_empty() {
                let (mine, its) = (bench.permit(), model.permit(now));
                prop_assert_eq!(mine.is_ok(), its.is_some());
                if let (Ok(mine), Some(its)) = (mine, its) {
                    prop_assert_eq!(mine.kind == Kind::Probe, its.1);
                    under_way.push((mine, its));
                }
            } else {
                let (mine, its) = under_way.swap_remove(which.index(under_way.len()));
                match outcome {
                    Outcome::Cancelled => drop(mine),
                    outcome => mine.settle(outcome, bench.now, &bench.chance).map_or((), drop),
                }
                model.settle(its, outcome, now);
            }
            prop_assert_eq!(bench.breaker.state(), model.state);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_is_held_open_with_all_its_breakers_those_to_come_included() {
    let (breakers, now) = (Breakers::default(), Instant::now());
    let get = |name: &str| breakers.get(&name.into(), &terms(), 1, now);
    let open = |name: &str| get(name).permit(now).err();
    let names = |names: Vec<Arc<str>>| names.iter().map(ToString::to_string).collect::<Vec<_>>();

    assert!(breakers.hold("openai", now).is_empty(), "before any call");
    let shown = breakers.snapshot(now);
    assert_eq!((&*shown[0].name, shown[0].state, shown[0].forced, shown[0].retry_after), ("openai", State::Open, true, None));
    let refused = open("openai/gpt-4o").expect("held open");
    assert_eq!(refused.retry_after, None, "nobody knows for how long");
    assert!(open("openai@chat").is_some() && open("openai-eu").is_none() && open("anthropic/x").is_none());

    assert_eq!(names(breakers.release("openai/gpt-4o", now)), ["openai/gpt-4o"]);
    assert!(open("openai/gpt-4o").is_none() && open("openai/gpt-4o@chat").is_none() && open("openai/other").is_some());
    assert_eq!(names(breakers.release("openai", now)), ["openai/gpt-4o", "openai/gpt-4o@chat", "openai/other", "openai@chat"]);
    assert!(["openai", "openai/gpt-4o", "openai/other", "openai/new", "openai@chat"].iter().all(|name| open(name).is_none()));

    breakers.hold("openai/gpt-4o", now);
    assert!(open("openai/gpt-4o").is_some() && open("openai/other").is_none());
    breakers.hold("openai", now + Duration::from_secs(600));
    breakers.release("openai", now);
    assert!(open("openai/gpt-4o").is_none(), "the whole target includes it");
    breakers.hold("gone", now);
    breakers.retain(2, |name| name != "gone", |name| name != "gone");
    assert!(!breakers.snapshot(now).iter().any(|breaker| &*breaker.name == "gone"));
}
