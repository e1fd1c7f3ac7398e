//! Answers before the answer, and who is told them.

use http::header;
use tokio::io::{AsyncReadExt, DuplexStream};

use super::*;
use crate::{
    body::room::BodyBudget,
    http1::Fields,
    listen::session::{SessionBounds, Sessions},
};

fn wire(budget: &std::sync::Arc<BodyBudget>) -> (Rc<Wire>, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let session = Sessions::default().open(SessionBounds { head: 2, idle: 5, write: 3, rate: 0 });
    (Wire::new(Box::new(ours), session, budget.room()), theirs)
}

#[tokio::test]
async fn answers_before_the_answer_wait_within_the_budget_and_a_bound_of_their_own() {
    let hint = Fields::from_iter([(header::LINK, &"x".repeat(1_000))]);
    let head = format!("HTTP/1.1 103 Early Hints\r\nlink: {}\r\n\r\n", "x".repeat(1_000));
    for (room, heads) in [(4_096, 3), (1 << 20, 63)] {
        let budget = BodyBudget::new(room);
        let (wire, mut client) = wire(&budget);
        let request = wire.begin(Coming::Ended, Expects::Nothing, true);
        // The client reads nothing.
        for _ in 0..100 {
            wire.interim(request, StatusCode::EARLY_HINTS, &hint);
        }
        assert_eq!(budget.used(), (heads * head.len()) as u64);
        std::future::poll_fn(|cx| wire.poll_write(cx)).await.expect("the client is there");
        assert_eq!(budget.used(), 0);
        wire.interim(request, StatusCode::EARLY_HINTS, &hint);
        wire.interim(request.wrapping_add(1), StatusCode::EARLY_HINTS, &hint);
        assert_eq!(budget.used(), head.len() as u64, "another request's is dropped");
        drop(wire);
        assert_eq!(budget.used(), 0, "the client has gone");
        let mut sent = String::new();
        client.read_to_string(&mut sent).await.expect("text");
        assert_eq!(sent, head.repeat(heads));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_is_told_to_go_on_by_the_target_or_after_a_while() {
    for by_target in [true, false] {
        let (wire, mut client) = wire(&BodyBudget::new(1 << 20));
        let request = wire.begin(Coming::Length(2), Expects::OfTarget, true);
        let began = tokio::time::Instant::now();
        let mut body = Incoming::new(wire.clone(), request);
        let reads =
            async { http_body_util::BodyExt::frame(&mut body).await.expect("a piece").expect("in order").into_data().expect("data") };
        let talks = async {
            if by_target {
                wire.interim(request, StatusCode::CONTINUE, &Fields::new());
            }
            let mut told = [0; CONTINUE.len()];
            client.read_exact(&mut told).await.expect("told");
            assert_eq!(told, *CONTINUE);
            tokio::io::AsyncWriteExt::write_all(&mut client, b"hi").await.expect("sent");
        };
        let drives = std::future::poll_fn(|cx| {
            let _ = wire.session.poll_order(cx);
            wire.poll_write(cx).map(|_| ()).is_pending();
            Poll::<()>::Pending
        });
        let (piece, ()) = tokio::select! {
            done = async { tokio::join!(reads, talks) } => done,
            () = drives => unreachable!("it drives for ever"),
        };
        assert_eq!((&piece[..], began.elapsed() >= PATIENCE), (&b"hi"[..], !by_target));
    }
}
