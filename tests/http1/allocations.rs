//! After the first messages, reading and writing a head allocates nothing.

use outrigger::http1::{
    Chunks, Edits, Framing, Head, Id, Limits, Method, Name, Piece, Scanner, write_answer, write_chunk, write_last, write_request,
};
use tikv_jemalloc_ctl::thread;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const REQUEST: &[u8] =
    b"GET http://shop?a=b HTTP/1.1\r\nHost: shop\r\nConnection: keep-alive, X-Hop, TE\r\nTE: trailers\r\nX-Hop: 1\r\nX-Hop: 2\r\n\
    X-Forwarded-For: 10.0.0.1\r\nAccept: */*\r\nTransfer-Encoding: chunked\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: text/plain\r\nContent-Length: 3, 3\r\nDate: x\r\n\r\n";

/// Memory that lives on from message to message.
#[derive(Default)]
struct Kept {
    head: Head,
    edits: Edits,
    out: Vec<u8>,
}

fn exchange(kept: &mut Kept, requests: &mut Scanner, answers: &mut Scanner, body: &[u8], piece: usize) {
    let Kept { head, edits, out } = kept;
    for piece in REQUEST.chunks(piece) {
        requests.scan(head, piece).expect("legal");
    }
    edits.clear();
    out.clear();
    edits.drop_hop_by_hop(head);
    edits.set(head, Id::Host, head.host().expect("it has one"));
    edits.set(head, Id::XForwardedFor, b"10.0.0.1, 10.0.0.2");
    edits.set(head, Name::new(b"X-Own").expect("a name"), b"1");
    edits.append_with(Id::Via, |out| out.extend_from_slice(b"1.1 me"));
    edits.frame(head, Framing::of_request(head));
    write_request(out, head, edits);
    let mut chunks = Chunks::new();
    let found = |piece: Piece<'_>| {
        if let Piece::Run(run) = piece {
            out.extend_from_slice(run);
        }
    };
    assert_eq!(chunks.read(body, found), Ok(Some(body.len())));
    for piece in ANSWER.chunks(piece) {
        answers.scan(head, piece).expect("legal");
    }
    edits.clear();
    out.clear();
    edits.drop_hop_by_hop(head);
    edits.frame(head, Framing::of_answer(head, Method::Get, false).expect("no switch"));
    write_answer(out, head, edits);
}

#[test]
fn a_head_in_memory_that_is_kept_allocates_nothing() {
    let (mut kept, limits) = (Kept::default(), Limits::default());
    let (mut requests, mut answers) = (Scanner::requests(limits), Scanner::answers(limits));
    let mut body = Vec::new();
    write_chunk(&mut body, b"hello");
    write_last(&mut body);
    let allocated = thread::allocatedp::read().expect("jemalloc counts");
    for piece in [usize::MAX, 1, 7] {
        exchange(&mut kept, &mut requests, &mut answers, &body, piece);
        let before = allocated.get();
        for _ in 0..100 {
            exchange(&mut kept, &mut requests, &mut answers, &body, piece);
        }
        assert_eq!(allocated.get() - before, 0, "bytes in pieces of {piece}");
    }
    // The instrument counts.
    let before = allocated.get();
    drop(std::hint::black_box(vec![0_u8; 100]));
    assert!(allocated.get() - before >= 100);
}
