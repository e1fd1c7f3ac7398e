//! The shared ledger over a real redis-server: added once, whatever happens on the way; asked, erased and bounded like the file.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::*;
use crate::{
    clock::Clock,
    store::ledger::{
        Ledger, Measure, Terms,
        entry::FIXED,
        tests::{DAY, between, entry, spent, terms},
    },
};

/// A redis-server of a test's own.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// `None`, said loudly: there is no redis-server. Where CI is set, that is a failure.
    fn start(port: Option<u16>) -> Option<Self> {
        let free = || TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port();
        let port = port.unwrap_or_else(free);
        let args = ["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", "/tmp"];
        match Command::new("redis-server").args(args).stdout(Stdio::null()).spawn() {
            Ok(child) => {
                while TcpStream::connect(("127.0.0.1", port)).is_err() {
                    std::thread::yield_now();
                }
                Some(Self { child, port })
            }
            Err(error) if std::env::var_os("CI").is_some() => panic!("redis-server does not start: {error}"),
            Err(error) => {
                eprintln!("\n*** SKIPPED: redis-server does not start ({error}); install it to run this test ***\n");
                None
            }
        }
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("kill").success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A plain client of RESP2: one connection a command, a deadline for each.
struct Plain {
    port: u16,
    /// Answers that are thrown away once they are there, as if the connection had broken.
    unheard: Arc<AtomicUsize>,
    sent: Arc<Mutex<Vec<Lua>>>,
}

impl Plain {
    fn command(&self, words: &[&[u8]]) -> Result<Vec<Vec<u8>>, String> {
        let fault = |error: std::io::Error| error.to_string();
        let stream = TcpStream::connect(("127.0.0.1", self.port)).map_err(fault)?;
        stream.set_read_timeout(Some(Duration::from_millis(300))).map_err(fault)?;
        let mut out = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            out.extend_from_slice(word);
            out.extend_from_slice(b"\r\n");
        }
        (&stream).write_all(&out).map_err(fault)?;
        let mut reader = BufReader::new(&stream);
        let mut line = String::new();
        reader.read_line(&mut line).map_err(fault)?;
        let Some(count) = line.strip_prefix('*') else { return Err(line) };
        let mut answer = Vec::new();
        for _ in 0..count.trim().parse::<usize>().map_err(|error| error.to_string())? {
            line.clear();
            reader.read_line(&mut line).map_err(fault)?;
            let size: usize = line.trim_start_matches('$').trim().parse().map_err(|_| line.clone())?;
            let mut word = vec![0; size + 2];
            reader.read_exact(&mut word).map_err(fault)?;
            word.truncate(size);
            answer.push(word);
        }
        Ok(answer)
    }
}

impl Remote for Plain {
    fn key(&self, rest: &str) -> String {
        format!("{{test}}:{rest}")
    }

    fn run(&self, script: Lua, keys: Vec<String>, args: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, String> {
        self.sent.lock().push(script);
        let count = keys.len().to_string();
        let words: Vec<&[u8]> = [b"EVAL".as_slice(), script.source().as_bytes(), count.as_bytes()]
            .into_iter()
            .chain(keys.iter().map(|key| key.as_bytes()))
            .chain(args.iter().map(Vec::as_slice))
            .collect();
        let said = self.command(&words)?;
        let left = self.unheard.load(SeqCst);
        self.unheard.store(left.saturating_sub(1), SeqCst);
        if left > 0 { Err("the connection broke".to_owned()) } else { Ok(said) }
    }
}

/// The present minute: Redis drops what is too old by its own clock.
fn now() -> u32 {
    u32::try_from(Clock::system().unix_millis() / 60_000).expect("in range")
}

/// A replica, and how many answers it will not hear.
fn replica(server: &Server, minute: u32, size: u64) -> (Ledger, Arc<AtomicUsize>) {
    let days = |days: u64| Duration::from_secs(days * 86_400);
    let terms = Terms { keep: [days(10), days(60), days(730)], size, ..terms(None) };
    let ledger = Ledger::new(terms, Clock::fixed(std::time::UNIX_EPOCH + Duration::from_secs(u64::from(minute) * 60)));
    let unheard = Arc::<AtomicUsize>::default();
    ledger.share(Box::new(Plain { port: server.port, unheard: unheard.clone(), sent: Arc::default() }));
    (ledger, unheard)
}

fn count(ledger: &Ledger, minute: u32, caller: &str, nano_usd: u64) {
    ledger.worker().push(entry(minute, caller, "m", nano_usd));
}

#[test]
fn replicas_have_one_book_and_every_batch_counts_once() {
    let Some(server) = Server::start(None) else { return };
    let now = now();
    let begin = now / DAY * DAY - 3 * DAY;
    let (first, unheard) = replica(&server, now, 1 << 30);
    let (second, _) = replica(&server, now, 1 << 30);
    let mut chance = fastrand::Rng::with_seed(5);
    let mut book: Vec<(u32, u32, u64)> = Vec::new();
    for round in 0..6 {
        for _ in 0..150 {
            let call = (chance.u32(begin..=now), chance.u32(0..9), chance.u64(0..1 << 40));
            count(if chance.bool() { &first } else { &second }, call.0, &format!("u-{}", call.1), call.2);
            book.push(call);
        }
        // Batches arrive, and their sender does not hear of it.
        unheard.store(round % 3, SeqCst);
        first.commit();
        second.commit();
        for _ in 0..5 {
            let (a, b) = (chance.u32(begin..=now), chance.u32(begin..=now));
            let (from, to) = (a.min(b), a.max(b) + 1);
            let mut expected = BTreeMap::new();
            let counts = book.iter().filter(|call| (from..to).contains(&call.0));
            counts.for_each(|call| *expected.entry(format!("u-{}", call.1)).or_default() += call.2);
            first.commit();
            second.commit();
            for ledger in [&first, &second] {
                assert_eq!(spent(ledger, &between(from, to, "by=caller")), expected, "round {round}: {from}..{to}");
            }
        }
    }
    let answer = first.ask(&between(begin, now + 1, "by=known")).expect("an answer");
    assert_eq!(answer.total.get(Measure::NanoUsd), book.iter().map(|call| call.2).sum::<u64>());
    assert!(answer.durable && first.state().shared && first.snapshot(std::path::Path::new("/x")).is_err());
    // The first class of tokens is the input: half of the nano-dollars, in these calls.
    let input: u64 = book.iter().map(|call| call.2 / 2).sum();
    assert_eq!((&*answer.classes[0], answer.total.0[FIXED]), ("input", input));
    assert_eq!(answer.known[0].0, answer.total.0);
}

#[test]
fn while_redis_stands_still_or_is_gone_calls_wait_and_the_answer_says_so() {
    let Some(server) = Server::start(None) else { return };
    let begin = now() - 10;
    let (ledger, _) = replica(&server, begin + 5, 1 << 30);
    let day = between(begin, begin + 9, "by=caller");
    count(&ledger, begin + 1, "a", 1);
    ledger.commit();
    server.signal("-STOP");
    count(&ledger, begin + 2, "b", 2);
    ledger.commit();
    let state = ledger.state();
    assert!(state.trouble.is_some() && state.waiting == 1, "{state:?}");
    let answer = ledger.ask(&day).expect("an answer of what waits");
    assert!(answer.total.get(Measure::NanoUsd) == 2 && answer.gaps[0].contains("has only what this process"), "{:?}", answer.gaps);
    count(&ledger, begin + 3, "c", 4);
    server.signal("-CONT");
    // What was sent to the server that stood still arrives now, and counts once with what is sent again.
    while ledger.state().waiting > 0 {
        ledger.commit();
    }
    assert_eq!(spent(&ledger, &day), BTreeMap::from([("a".into(), 1), ("b".into(), 2), ("c".into(), 4)]));
    assert!(ledger.state().trouble.is_none());
    // Killed, and empty when it is back: what was there is gone, what waits is not, and the answer says since when it records.
    let port = server.port;
    drop(server);
    count(&ledger, begin + 4, "d", 8);
    ledger.commit();
    assert!(ledger.state().trouble.is_some());
    let Some(_server) = Server::start(Some(port)) else { return };
    ledger.commit();
    let answer = ledger.ask(&between(begin, begin + 6, "by=caller")).expect("an answer");
    assert_eq!((answer.total.get(Measure::NanoUsd), answer.since), (8, begin + 4));
    assert!(answer.gaps.iter().any(|gap| gap.contains("nothing is recorded before")), "{:?}", answer.gaps);
}

#[test]
fn an_erased_name_is_in_no_key_or_value_and_late_rows_do_not_bring_it_back() {
    let Some(server) = Server::start(None) else { return };
    let now = now();
    let (first, _) = replica(&server, now, 1 << 30);
    let (second, _) = replica(&server, now, 1 << 30);
    let name = "erase-me@example.com";
    let all = between(now - 60, now + 2, "by=caller");
    count(&first, now - 10, name, 1);
    count(&first, now - 10, "stays", 5);
    first.commit();
    // Counted by another replica before the name was erased, and pushed after it.
    count(&second, now - 5, name, 2);
    assert!(first.erase(name).expect("no failure"));
    count(&second, now - 4, name, 4);
    second.commit();
    let plain = Plain { port: server.port, unheard: Arc::default(), sent: Arc::default() };
    let all_of = b"local said = {} for _, key in ipairs(redis.call('KEYS', '*')) do said[#said + 1] = key \
        if redis.call('TYPE', key).ok == 'hash' then for _, word in ipairs(redis.call('HGETALL', key)) do said[#said + 1] = word end end end return said";
    let said = plain.command(&[b"EVAL", all_of, b"0"]).expect("an answer");
    assert!(said.iter().any(|word| word == b"stays"));
    assert!(!said.iter().any(|word| memchr::memmem::find(word, b"erase-me").is_some()), "no byte of the name");
    assert!(!second.erase("nobody").expect("no failure"));
    assert_eq!(spent(&second, &all), BTreeMap::from([("erased".to_owned(), 7), ("stays".to_owned(), 5)]));
}

#[test]
fn a_bucket_that_is_full_adds_up_without_the_caller_and_keys_have_an_end() {
    let Some(server) = Server::start(None) else { return };
    let now = now();
    let (ledger, _) = replica(&server, now, 1);
    (0..200).for_each(|n| count(&ledger, now, &format!("u-{n}"), 1));
    ledger.commit();
    assert_eq!(ledger.state().folded, 200 - 64);
    let plain = Plain { port: server.port, unheard: Arc::default(), sent: Arc::default() };
    let most = b"local most = 0 for _, key in ipairs(redis.call('KEYS', '*:d:*')) do most = math.max(most, redis.call('HLEN', key)) \
        assert(redis.call('PTTL', key) > 0) end return {tostring(most)}";
    assert_eq!(plain.command(&[b"EVAL", most, b"0"]), Ok(vec![b"65".to_vec()]));
}
