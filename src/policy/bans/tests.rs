//! Bans over time, their bounds, and what counts.

use std::{net::IpAddr, sync::Arc, time::Duration};

use super::*;
use crate::config::BanCause;

fn terms() -> config::Bans {
    config::Bans {
        mode: Mode::Enforce,
        after: 3,
        window: Duration::from_secs(80),
        time: Duration::from_secs(600),
        on: vec![BanCause::Auth, BanCause::Status(404)],
        by_address: true,
        by_caller: false,
        never: vec!["10.0.0.0/8".parse().expect("a net")],
        id: 1,
    }
}

fn fresh() -> Bans {
    let clock = Clock::system();
    Bans::new(clock, None, Arc::new(Audit::new(clock)))
}

fn refuse(bans: &Bans, terms: &config::Bans, address: IpAddr, reason: &'static str) {
    let offence = Offence { status: 401, reason: Some(reason), address, caller: None, route: &"api".into() };
    bans.count(terms, &offence, Instant::now());
}

async fn pass(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

const BAD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

#[tokio::test(start_paused = true)]
async fn three_in_a_window_are_out_and_then_in_again() {
    let (bans, terms) = (fresh(), terms());
    let is_out = |address: IpAddr| bans.address_is_out(&terms, address, Instant::now());
    refuse(&bans, &terms, BAD, "auth_invalid");
    refuse(&bans, &terms, BAD, "auth_slowed");
    pass(81).await;
    refuse(&bans, &terms, BAD, "auth_invalid");
    assert_eq!(is_out(BAD), None, "the first two are older than the window");
    refuse(&bans, &terms, BAD, "auth_invalid");
    pass(69).await;
    refuse(&bans, &terms, BAD, "auth_invalid");
    assert_eq!(is_out(BAD), Some((Mode::Enforce, Duration::from_secs(600))));
    assert_eq!(is_out([192, 0, 2, 2].into()), None);
    pass(599).await;
    // Who is out is not kept out by asking again.
    for _ in 0..10 {
        refuse(&bans, &terms, BAD, BANNED);
    }
    assert!(is_out(BAD).is_some());
    pass(1).await;
    assert_eq!(is_out(BAD), None);
    assert_eq!((bans.counts().made, bans.counts().enforced_now), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn only_what_is_named_counts_and_who_is_spared_is_never_out() {
    let (bans, terms) = (fresh(), terms());
    let spared: IpAddr = [10, 0, 0, 1].into();
    for _ in 0..20 {
        refuse(&bans, &terms, BAD, "auth_missing");
        refuse(&bans, &terms, BAD, "limited");
        refuse(&bans, &terms, spared, "auth_invalid");
    }
    assert_eq!((bans.counts().made, bans.counts().counted_now), (0, 0));
    let offence = Offence { status: 404, reason: None, address: BAD, caller: None, route: &"api".into() };
    (0..3).for_each(|_| bans.count(&terms, &offence, Instant::now()));
    assert!(bans.address_is_out(&terms, BAD, Instant::now()).is_some(), "the app's own 404");
    assert!(bans.lift(&Who::of(BAD)) && !bans.lift(&Who::of(BAD)));
    assert!(bans.address_is_out(&terms, BAD, Instant::now()).is_none());
}

#[tokio::test(start_paused = true)]
async fn terms_that_observe_put_nobody_out() {
    let bans = fresh();
    let observing = config::Bans { mode: Mode::Observe, id: 2, ..terms() };
    (0..3).for_each(|_| refuse(&bans, &observing, BAD, "auth_invalid"));
    let mode = |terms: &config::Bans| bans.address_is_out(terms, BAD, Instant::now()).map(|(mode, _)| mode);
    assert_eq!((mode(&observing), mode(&terms())), (Some(Mode::Observe), Some(Mode::Observe)), "also where a route enforces");
    (0..3).for_each(|_| refuse(&bans, &terms(), BAD, "auth_invalid"));
    assert_eq!((mode(&observing), mode(&terms())), (Some(Mode::Observe), Some(Mode::Enforce)));
    assert_eq!((bans.counts().observed, bans.counts().made), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn callers_are_banned_by_name_and_neighbours_of_a_net_together() {
    let bans = fresh();
    let by_caller = config::Bans { by_address: false, by_caller: true, ..terms() };
    let (name, other): (Arc<str>, Arc<str>) = ("u-17".into(), "u-18".into());
    let offence = Offence { status: 404, reason: None, address: BAD, caller: Some(&name), route: &"api".into() };
    (0..3).for_each(|_| bans.count(&by_caller, &offence, Instant::now()));
    let is_out = |name| bans.caller_is_out(&by_caller, name, Instant::now()).is_some();
    assert!(is_out(&name) && !is_out(&other) && bans.address_is_out(&terms(), BAD, Instant::now()).is_none());
    let of = |text: &str| Who::of(text.parse().expect("an address"));
    assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
    assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    for who in [of("2001:db8::1"), of("::ffff:192.0.2.1"), Who::Caller("a b".into())] {
        assert_eq!(Who::parse(&who.to_string()), Some(who));
    }
    assert_eq!(Who::parse("nobody"), None);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_addresses_is_bounded() {
    let bans = fresh();
    let terms = config::Bans { after: 2, ..terms() };
    let address = |n: u32| IpAddr::from((0x2000_0000 + n).to_be_bytes());
    for n in 0..200_000_u32 {
        refuse(&bans, &terms, address(n), "auth_invalid");
    }
    assert!(bans.counts().counted_now <= 1 << 15, "{}", bans.counts().counted_now);
    for n in 0..100_000_u32 {
        refuse(&bans, &terms, address(n), "auth_invalid");
        refuse(&bans, &terms, address(n), "auth_invalid");
    }
    let counts = bans.counts();
    assert!(counts.enforced_now <= table::MOST_BANS && counts.enforced_now > table::MOST_BANS / 2, "{counts:?}");
    assert!(counts.forgotten > 0);
    assert!(bans.address_is_out(&terms, address(99_999), Instant::now()).is_some(), "the newest is out");
}
