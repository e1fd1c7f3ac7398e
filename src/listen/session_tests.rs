//! Tests of connections that overstay, and of others that do not.

use super::*;

#[test]
fn a_client_that_takes_nothing_is_ended() {
    let sessions = Sessions::default();
    let (slow, quick) = (sessions.open(BOUNDS), sessions.open(BOUNDS));
    let _requests = [&slow, &quick].map(|session| {
        session.writing(None);
        session.serving()
    });
    for _ in 0..4 {
        assert!(!ended(&slow));
        sessions.sweep(|_| {});
        quick.writing(Some(1));
    }
    sessions.sweep(|_| {});
    assert!(ended(&slow) && !ended(&quick));
}

#[test]
fn a_client_that_takes_less_than_the_least_rate_is_ended_and_never_for_what_it_may_have_taken() {
    let sessions = Sessions::default();
    let bounds = SessionBounds { write: 1_000_000, rate: 1_000, ..BOUNDS };
    let [slow, even, waited_for, grpc, fast_then_slow] = std::array::from_fn(|_| sessions.open(bounds));
    let all = [&slow, &even, &waited_for, &grpc, &fast_then_slow];
    let _requests = all.map(Session::serving);
    grpc.unhurried();
    fast_then_slow.writing(Some(1 << 30));
    let mut ends = [0; 5];
    for second in 1..=6_000 {
        for (session, taken) in [(&slow, 500), (&even, 1_000), (&grpc, 0), (&fast_then_slow, 1)] {
            session.writing(Some(taken));
            session.writing(None);
        }
        // This connection has nothing to send.
        waited_for.writing(Some(1));
        sessions.sweep(|why| assert_eq!(why, "min_rate"));
        for (end, session) in ends.iter_mut().zip(all) {
            if *end == 0 && ended(session) {
                *end = second;
            }
        }
    }
    // At half the rate, the five seconds of grace last ten. Bytes that sockets may hold do not count against a client, and no
    // others are free.
    assert_eq!([ends[0], ends[1], ends[2], ends[3]], [11, 0, 0, 0]);
    assert!((4_190..4_220).contains(&ends[4]), "{ends:?}");
}

#[test]
fn a_client_that_takes_its_requests_back_is_ended() {
    let sessions = Sessions::default();
    let (hostile, honest) = (sessions.open(BOUNDS), sessions.open(BOUNDS));
    for session in [&hostile, &honest] {
        session.multiplexes();
    }
    for _ in 0..150 {
        assert!(!ended(&honest));
        drop(hostile.serving());
        drop(honest.serving());
        (0..2).for_each(|_| drop(Outgoing::new(Body::Empty, honest.serving())));
    }
    assert!(ended(&hostile) && !ended(&honest));
}

#[test]
fn an_idle_http2_connection_is_told_before_it_ends() {
    let sessions = Sessions::default();
    let session = sessions.open(BOUNDS);
    session.multiplexes();
    let order = || session.poll_order(&Context::from_waker(Waker::noop()));
    let orders: Vec<Order> = (0..8)
        .map(|_| {
            sessions.sweep(|_| {});
            order()
        })
        .collect();
    use Order::{End, Finish, GoOn};
    assert_eq!(orders, [GoOn, GoOn, GoOn, GoOn, GoOn, Finish, Finish, End]);
}

const BOUNDS: SessionBounds = SessionBounds { head: 2, idle: 5, write: 3, rate: 0 };

fn ended(session: &Session) -> bool {
    session.poll_order(&Context::from_waker(Waker::noop())) == Order::End
}

#[test]
fn a_head_that_does_not_end_ends_the_connection() {
    let sessions = Sessions::default();
    let (slow, busy) = (sessions.open(BOUNDS), sessions.open(BOUNDS));
    let _request = busy.serving();
    for _ in 0..3 {
        assert!(!ended(&slow));
        sessions.sweep(|_| {});
    }
    assert!(ended(&slow) && !ended(&busy));
}

#[test]
fn an_idle_connection_ends_later_and_a_tunnel_never() {
    let sessions = Sessions::default();
    let (idle, tunnel) = (sessions.open(BOUNDS), sessions.open(BOUNDS));
    drop(Outgoing::new(Body::Empty, idle.serving()));
    tunnel.upgraded();
    for _ in 0..5 {
        sessions.sweep(|_| {});
        assert!(!ended(&idle));
    }
    sessions.sweep(|_| {});
    assert!(ended(&idle) && !ended(&tunnel));
}
