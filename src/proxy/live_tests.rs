//! Tests of generations: a worker's side is prepared and freed in slices.

use std::{future::Future, pin::pin, task::Context};

use super::*;
use crate::{
    clock::Clock,
    config::read::{self, Overrides},
    resolve::Resolver,
    telemetry::metrics::Metrics,
    upstream::Dialer,
};

/// A request waits for one slice at most.
#[test]
fn a_generation_of_a_thousand_routes_is_prepared_and_freed_in_slices() {
    let routes: String = (0..1_000).map(|at| format!("    - match: {{path: /r{at}}}\n")).collect();
    let text = format!("inbound:\n  app: 'http://127.0.0.1:3000'\n  routes:\n{routes}");
    let overrides = Overrides { memory_limit: Some(512 << 20), ..Overrides::default() };
    let config = Arc::new(read::parse(&text, "f", &overrides, &|_| None).unwrap_or_else(|mistakes| panic!("{mistakes}")));
    let shared = Shared::new(&config, Clock::system());
    let live = |generation| Arc::new(Live::new(generation, config.clone(), &shared).expect("good"));
    let metrics = Metrics::new(Clock::system()).worker();
    let dial: Rc<dyn Dial> = Rc::new(Dialer::new(Resolver::default(), metrics.clone()));
    let earlier = Rc::new(Worker::new(live(1), &metrics, &dial, None));
    let (fresh, slices) = slices(Worker::prepare(live(2), &metrics, &dial, earlier));
    assert_eq!((fresh.inbound.len(), slices), (1_001, 1_001_usize.div_ceil(SLICE)));
    assert_eq!(self::slices(fresh.retire()).1, slices);
}

/// A future's output, and how often the future has yielded.
fn slices<T>(work: impl Future<Output = T>) -> (T, usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let _inside = runtime.enter();
    let (mut work, mut cx) = (pin!(work), Context::from_waker(std::task::Waker::noop()));
    (0..)
        .find_map(|pauses| match work.as_mut().poll(&mut cx) {
            std::task::Poll::Ready(done) => Some((done, pauses)),
            std::task::Poll::Pending => None,
        })
        .expect("it ends")
}
