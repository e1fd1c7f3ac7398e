//! Limits that an operator changes while they count: a counter that begins anew, an amount that is larger for a while.

use http::{Request, StatusCode};
use outrigger::{clock::Instant, policy::limits::ByHand};

use crate::world::{World, pass, run, secs};

const YAML: &str = "
inbound:
  app: http://app.test
  trusted_proxies: [203.0.113.7/32]
  caller: [header:x-user-id]
  limits:
    - {name: each, key: caller, requests: 2, window: 1h}
    - {name: all, requests: 100, window: 1h}
    - {name: pace, key: caller, requests: 100, window: 1h, algorithm: gcra, burst: 50}
";
const TWICE: ByHand = ByHand::Raise { percent: 200, time: secs(600) };

/// How many of five requests of a user pass.
async fn passed(world: &World, user: &str) -> usize {
    let mut passed = 0;
    for _ in 0..5 {
        let answer = world.client().ask(Request::get("/").header("x-user-id", user), "").await;
        passed += usize::from(answer.status == StatusCode::OK);
    }
    passed
}

fn order(world: &World, limit: Option<&str>, who: Option<&str>, order: ByHand) -> Result<Vec<(String, bool)>, String> {
    let done = world.shared.limits.by_hand(limit, who, order, Instant::now())?;
    Ok(done.into_iter().map(|one| (one.limit.to_string(), one.counted)).collect())
}

#[test]
fn a_counter_begins_anew_and_no_other_does() {
    run(async {
        let world = World::new(YAML).await;
        assert_eq!((passed(&world, "anna").await, passed(&world, "bert").await), (2, 2));
        assert_eq!(order(&world, Some("each"), Some("anna"), ByHand::Reset), Ok(vec![("each".into(), true)]));
        assert_eq!((passed(&world, "anna").await, passed(&world, "bert").await), (2, 0));
        assert_eq!(order(&world, Some("each"), Some("carl"), ByHand::Reset), Ok(vec![("each".into(), false)]));
        // Without a limit's name: every limit that has a counter of hers.
        assert_eq!(order(&world, None, Some("anna"), ByHand::Reset), Ok(vec![("each".into(), true), ("pace".into(), true)]));
        assert_eq!(order(&world, Some("all"), None, ByHand::Reset), Ok(vec![("all".into(), true)]));
    });
}

#[test]
fn an_amount_is_larger_for_a_while_for_one_or_for_all() {
    run(async {
        let world = World::new(YAML).await;
        assert_eq!(order(&world, Some("each"), Some("anna"), TWICE), Ok(vec![("each".into(), true)]));
        let first = world.client().ask(Request::get("/").header("x-user-id", "anna"), "").await;
        assert!(first.header("ratelimit").contains("\"each\";r=3;"), "a client is told what holds: {}", first.header("ratelimit"));
        assert_eq!((passed(&world, "anna").await, passed(&world, "bert").await), (3, 2));
        let raised = world.shared.limits.raised(Instant::now());
        assert_eq!((raised.len(), raised[0].who.as_deref(), raised[0].percent, raised[0].left <= secs(600)), (1, Some("anna"), 200, true));
        let near = world.shared.limits.near(Instant::now());
        let anna = near.iter().find(|one| one.limit.as_ref() == "each" && one.who.as_deref() == Some("caller anna")).expect("near");
        assert_eq!((anna.used, anna.amount), (4, 4), "what is told is what holds");
        pass(secs(601)).await;
        assert!(world.shared.limits.raised(Instant::now()).is_empty());
        assert_eq!(passed(&world, "anna").await, 0, "the raise has ended, the use of the hour has not");
        assert_eq!(order(&world, Some("each"), None, TWICE), Ok(vec![("each".into(), true)]));
        assert_eq!((passed(&world, "bert").await, passed(&world, "carl").await), (2, 4), "every counter of the limit");
        // It lives on over a reload, as the counter does.
        world.reload(&YAML.replace("burst: 50", "burst: 60")).expect("good");
        assert_eq!(passed(&world, "dora").await, 4);
    });
}

#[test]
fn an_order_that_means_nothing_says_why() {
    run(async {
        let world = World::new(YAML).await;
        for (limit, who, what, why) in [
            (None, None, ByHand::Reset, "say which limit, or whose counter"),
            (Some("nope"), None, ByHand::Reset, "there is no limit `nope`; there are: "),
            (Some("each"), None, ByHand::Reset, "`each` has a counter for each key: say whose"),
            (Some("all"), Some("anna"), ByHand::Reset, "`all` counts everybody together"),
            (Some("each"), Some("a, b"), TWICE, ""),
            (Some("pace"), Some("anna"), TWICE, "`pace` paces (gcra)"),
        ] {
            match order(&world, limit, who, what) {
                Err(said) => assert!(said.contains(why), "{said}"),
                Ok(_) => assert_eq!(who, Some("a, b"), "a name may have a comma where the key has one part"),
            }
        }
    });
}
