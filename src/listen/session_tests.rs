//! Connections that overstay, and those that do not.

use std::task::Waker;

use http::{HeaderMap, HeaderValue, StatusCode};

use super::*;
use crate::arrival::Interim;

/// None yet, with room for so many bytes that wait to be sent.
fn sessions_of(room: u64) -> Sessions {
    Sessions::new(BodyBudget::new(room))
}

#[test]
fn answers_before_the_answer_wait_within_the_budget_and_a_bound_of_their_own() {
    let hint = HeaderMap::from_iter([(http::header::LINK, HeaderValue::from_str(&"x".repeat(1_000)).expect("a value"))]);
    for (room, heads) in [(4_096, 3), (1 << 20, 63)] {
        let sessions = sessions_of(room);
        let session = sessions.open(BOUNDS);
        session.interims.begin(false);
        // The client reads nothing.
        for _ in 0..100 {
            session.interim(session.request(), StatusCode::EARLY_HINTS, &hint);
        }
        let head = format!("HTTP/1.1 103 Early Hints\r\nlink: {}\r\n\r\n", "x".repeat(1_000));
        assert_eq!(sessions.bodies.used(), (heads * head.len()) as u64);
        let mut sent = Vec::new();
        assert!(session.interims.poll_write(&mut sent, &mut Context::from_waker(Waker::noop())).is_ready());
        assert_eq!((String::from_utf8(sent).expect("text"), sessions.bodies.used()), (head.repeat(heads), 0));
        session.interim(session.request(), StatusCode::EARLY_HINTS, &hint);
        assert!(sessions.bodies.used() > 0);
        drop(session);
        assert_eq!(sessions.bodies.used(), 0, "the client has gone");
    }
}

#[test]
fn a_client_that_takes_nothing_is_ended() {
    let sessions = sessions_of(1 << 20);
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
    let sessions = sessions_of(1 << 20);
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
        // Here there is nothing to be sent.
        waited_for.writing(Some(1));
        sessions.sweep(|why| assert_eq!(why, "min_rate"));
        for (end, session) in ends.iter_mut().zip(all) {
            if *end == 0 && ended(session) {
                *end = second;
            }
        }
    }
    // Half the rate: ten seconds for the five of grace. What sockets may hold is not held against anybody, and no more.
    assert_eq!([ends[0], ends[1], ends[2], ends[3]], [11, 0, 0, 0]);
    assert!((4_190..4_220).contains(&ends[4]), "{ends:?}");
}

#[test]
fn a_client_that_takes_its_requests_back_is_ended() {
    let sessions = sessions_of(1 << 20);
    let (hostile, honest) = (sessions.open(BOUNDS), sessions.open(BOUNDS));
    for session in [&hostile, &honest] {
        session.multiplexes();
    }
    for _ in 0..150 {
        assert!(!ended(&honest));
        drop(hostile.serving());
        drop(honest.serving());
        (0..2).for_each(|_| drop(Outgoing::new(Body::Empty, honest.serving().0)));
    }
    assert!(ended(&hostile) && !ended(&honest));
}

#[test]
fn an_idle_http2_connection_is_told_before_it_ends() {
    let sessions = sessions_of(1 << 20);
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

#[test]
fn a_flaw_counts_from_its_head_on() {
    let session = sessions_of(1 << 20).open(BOUNDS);
    session.distrust(2, Flaw::BareLf);
    assert_eq!([session.serving().1, session.serving().1, session.serving().1], [None, Some(Flaw::BareLf), Some(Flaw::BareLf)]);
}

const BOUNDS: SessionBounds = SessionBounds { head: 2, idle: 5, write: 3, rate: 0 };

fn ended(session: &Session) -> bool {
    session.poll_order(&Context::from_waker(Waker::noop())) == Order::End
}

#[test]
fn a_head_that_does_not_end_ends_the_connection() {
    let sessions = sessions_of(1 << 20);
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
    let sessions = sessions_of(1 << 20);
    let (idle, tunnel) = (sessions.open(BOUNDS), sessions.open(BOUNDS));
    let (serving, _) = idle.serving();
    drop(Outgoing::new(Body::Empty, serving));
    tunnel.upgraded();
    for _ in 0..5 {
        sessions.sweep(|_| {});
        assert!(!ended(&idle));
    }
    sessions.sweep(|_| {});
    assert!(ended(&idle) && !ended(&tunnel));
}
