//! What HTTP/1.1 costs for a head and for chunks, each alone: `cargo bench --bench http1`.
//!
//! With `OUTRIGGER_COUNT=plain` or `rich` it runs one exchange a thousand times and nothing else, for an instrument that counts instructions:
//! `valgrind --tool=callgrind`. Times of one machine differ by a third between minutes; counts do not.

#![expect(clippy::expect_used, reason = "a bench that cannot be set up must not run")]

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, criterion_group};
use http::{HeaderMap, HeaderName, HeaderValue};
use outrigger::http1::{Chunks, Fields, Head, Id, Limits, Piece, Scanner, write_chunk, write_last};

/// What a load generator sends: three fields.
const PLAIN: &[u8] = b"GET /k HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: load\r\nAccept: */*\r\n\r\n";

/// What nginx answers: seven fields.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Mon, 30 Nov 2026 06:45:00 GMT\r\nContent-Type: text/plain\r\n\
    Content-Length: 1024\r\nLast-Modified: Mon, 30 Nov 2026 06:00:00 GMT\r\nETag: \"656c0000-400\"\r\nAccept-Ranges: bytes\r\n\r\n";

/// What a browser sends: fifteen fields.
const RICH: &[u8] = b"GET /api/v1/products/12345?sort=price&dir=asc&page=3 HTTP/1.1\r\nHost: shop.example\r\nConnection: keep-alive\r\n\
    sec-ch-ua: \"Chromium\";v=\"130\", \"Not?A_Brand\";v=\"99\"\r\nsec-ch-ua-mobile: ?0\r\nsec-ch-ua-platform: \"Linux\"\r\n\
    Upgrade-Insecure-Requests: 1\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\nSec-Fetch-Site: same-origin\r\n\
    Sec-Fetch-Mode: navigate\r\nReferer: https://shop.example/api/v1/products\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9\r\nCookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n";

/// Both sides of an exchange.
struct Exchange {
    requests: Scanner,
    answers: Scanner,
    head: Head,
    out: Vec<u8>,
}

impl Exchange {
    fn new() -> Self {
        let limits = Limits::default();
        let (requests, answers) = (Scanner::requests(limits), Scanner::answers(limits));
        Self { requests, answers, head: Head::new(), out: Vec::new() }
    }

    fn scan_request(&mut self, bytes: &[u8]) {
        black_box(self.requests.scan(&mut self.head, black_box(bytes)).expect("legal"));
    }

    fn scan_answer(&mut self) {
        black_box(self.answers.scan(&mut self.head, black_box(ANSWER)).expect("legal"));
    }

    /// What a door says about itself and the client. The request stays as it came, for the log and another try.
    fn send_request(&mut self) {
        let came = Fields::from(self.head.clone());
        let mut fields = came.clone();
        fields.remove_hop_by_hop();
        fields.insert(Id::XForwardedFor, "203.0.113.7");
        fields.insert(Id::XForwardedProto, "http");
        fields.insert(Id::XForwardedHost, "shop.example");
        fields.insert(Id::XRequestId, "0123456789abcdef0123456789abcdef");
        fields.append(Id::Via, "1.1 outrigger-01234567");
        self.out.clear();
        fields.write(&mut self.out);
        black_box(&self.out);
    }

    fn send_answer(&mut self) {
        let mut fields = Fields::from(self.head.clone());
        fields.remove_hop_by_hop();
        self.out.clear();
        fields.write(&mut self.out);
        black_box(&self.out);
    }

    fn exchange(&mut self, bytes: &[u8]) {
        self.scan_request(bytes);
        self.send_request();
        self.scan_answer();
        self.send_answer();
    }
}

/// The same fields in a map of the `http` crate, for comparison.
fn map(head: &Head) -> HeaderMap {
    let field = |(name, value): (&[u8], &[u8])| Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?));
    head.iter().filter_map(field).collect()
}

fn heads(c: &mut Criterion) {
    let mut exchange = Exchange::new();
    for (name, bytes) in [("3 fields", PLAIN), ("15 fields", RICH)] {
        c.bench_function(&format!("http1: scan a request of {name}"), |b| b.iter(|| exchange.scan_request(bytes)));
        c.bench_function(&format!("http1: its fields as a map, {name}"), |b| b.iter(|| map(black_box(&exchange.head))));
        c.bench_function(&format!("http1: edit and write a request of {name}"), |b| b.iter(|| exchange.send_request()));
        c.bench_function(&format!("http1: a whole exchange, request of {name}"), |b| b.iter(|| exchange.exchange(bytes)));
    }
    c.bench_function("http1: scan an answer of 7 fields", |b| b.iter(|| exchange.scan_answer()));
    c.bench_function("http1: write an answer of 7 fields", |b| b.iter(|| exchange.send_answer()));
}

fn chunks(c: &mut Criterion) {
    let mut body = Vec::new();
    (0..8).for_each(|_| write_chunk(&mut body, &[b'x'; 200]));
    write_last(&mut body);
    c.bench_function("http1: read 8 chunks of 200 bytes", |b| {
        b.iter(|| {
            let mut passed = 0;
            let found = |piece: Piece<'_>| {
                if let Piece::Run(run) = piece {
                    passed += run.len();
                }
            };
            black_box(Chunks::new().read(black_box(&body), found).expect("legal"));
            passed
        })
    });
}

fn quick() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(20)
}

criterion_group! { name = benches; config = quick(); targets = heads, chunks }

fn main() {
    let bytes = match std::env::var("OUTRIGGER_COUNT").as_deref() {
        Ok("plain") => PLAIN,
        Ok("rich") => RICH,
        _ => {
            benches();
            return Criterion::default().configure_from_args().final_summary();
        }
    };
    let mut exchange = Exchange::new();
    (0..1000).for_each(|_| exchange.exchange(bytes));
}
