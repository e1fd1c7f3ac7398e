//! Reading a head into memory that is kept allocates nothing; its fields take that memory over, and are written from it. Nor do the heads
//! of one request after the other, whose memory is lent by the thread.

use outrigger::http1::{Chunks, Fields, Head, Id, Limits, Piece, Scanner, write_chunk, write_last};
use tikv_jemalloc_ctl::thread;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const REQUEST: &[u8] =
    b"GET http://shop?a=b HTTP/1.1\r\nHost: shop\r\nConnection: keep-alive, X-Hop, TE\r\nTE: trailers\r\nX-Hop: 1\r\nX-Hop: 2\r\n\
    X-Forwarded-For: 10.0.0.1\r\nAccept: */*\r\nTransfer-Encoding: chunked\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: text/plain\r\nContent-Length: 3, 3\r\nDate: x\r\n\r\n";

/// Reads a request with its chunks, and an answer.
fn read(head: &mut Head, out: &mut Vec<u8>, requests: &mut Scanner, answers: &mut Scanner, body: &[u8], piece: usize) {
    for piece in REQUEST.chunks(piece) {
        requests.scan(head, piece).expect("legal");
    }
    out.clear();
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
}

#[test]
fn a_head_in_memory_that_is_kept_allocates_nothing_and_its_fields_take_it_over() {
    let (mut head, mut out, limits) = (Head::new(), Vec::new(), Limits::default());
    let (mut requests, mut answers) = (Scanner::requests(limits), Scanner::answers(limits));
    let mut body = Vec::new();
    write_chunk(&mut body, b"hello");
    write_last(&mut body);
    let allocated = thread::allocatedp::read().expect("jemalloc counts");
    for piece in [usize::MAX, 1, 7] {
        read(&mut head, &mut out, &mut requests, &mut answers, &body, piece);
        let before = allocated.get();
        for _ in 0..100 {
            read(&mut head, &mut out, &mut requests, &mut answers, &body, piece);
        }
        assert_eq!(allocated.get() - before, 0, "bytes in pieces of {piece}");
    }
    out.reserve(4096);
    let before = allocated.get();
    let mut fields = Fields::from(head);
    fields.remove_hop_by_hop();
    fields.remove(Id::Server);
    fields.write(&mut out);
    assert_eq!(allocated.get() - before, 0, "nothing is added");
    // The instrument counts.
    let before = allocated.get();
    drop(std::hint::black_box(vec![0_u8; 100]));
    assert!(allocated.get() - before >= 100);
}

/// One request on its way: read, copied for the target with fields of our own, written.
fn pass(scanner: &mut Scanner, out: &mut Vec<u8>) {
    let mut head = Head::new();
    assert_eq!(scanner.scan(&mut head, REQUEST), Ok(Some(REQUEST.len())));
    let came = Fields::from(head);
    let mut goes = came.with_more(448, 8);
    goes.remove_hop_by_hop();
    goes.append_plain(Id::Via, "1.1 outrigger");
    goes.insert(Id::XForwardedFor, "10.0.0.1, 10.0.0.2");
    out.clear();
    goes.write(out);
}

#[test]
fn the_heads_of_one_request_after_the_other_allocate_nothing() {
    let (mut scanner, mut out) = (Scanner::requests(Limits::default()), Vec::with_capacity(4096));
    // The names in `Connection` that are not known are gathered in memory of their own.
    let beside = "x-hop,".len() as u64 * 2;
    pass(&mut scanner, &mut out);
    let allocated = thread::allocatedp::read().expect("jemalloc counts");
    let before = allocated.get();
    for _ in 0..100 {
        pass(&mut scanner, &mut out);
    }
    assert!(allocated.get() - before <= 100 * beside.next_power_of_two(), "{} bytes", allocated.get() - before);
}
