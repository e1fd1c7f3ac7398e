//! The numbers of connections and requests of a door, over all workers, and of connections by address. A client without a place
//! gets a 503 before the connection is closed.

use std::{
    cell::Cell,
    collections::HashMap,
    io::Write as _,
    net::{IpAddr, Ipv6Addr},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    clock::{Clock, http_date},
    http1::Id,
    reject::Reject,
};

/// The connections of one door. Shared by all workers.
#[derive(Debug, Default)]
pub struct Census {
    open: AtomicUsize,
    /// Requests in hand.
    requests: AtomicUsize,
    /// Filled if there is a bound per address; at most as many entries as connections.
    by_ip: Mutex<HashMap<IpAddr, usize, foldhash::fast::RandomState>>,
}

/// An open connection's place.
#[derive(Debug)]
pub struct Seat {
    census: Arc<Census>,
    ip: Option<IpAddr>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// `max_connections` are open.
    Door,
    /// `max_connections_per_ip` are open from there.
    Address,
    /// All descriptors but the reserve are in use.
    Descriptors,
}

impl Census {
    /// A place for a connection from `ip`, within `most` and `per_ip` (IPv6: per /64).
    pub fn enter(self: &Arc<Self>, ip: IpAddr, most: usize, per_ip: Option<usize>) -> Result<Seat, Full> {
        if self.open.fetch_add(1, Relaxed) >= most {
            self.open.fetch_sub(1, Relaxed);
            return Err(Full::Door);
        }
        let mut seat = Seat { census: self.clone(), ip: None };
        if let Some(per_ip) = per_ip {
            let ip = network(ip);
            let mut by_ip = self.by_ip.lock();
            let open = by_ip.entry(ip).or_default();
            if *open >= per_ip {
                drop(by_ip);
                return Err(Full::Address);
            }
            *open += 1;
            seat.ip = Some(ip);
        }
        Ok(seat)
    }
}

impl Census {
    /// A place for one more request, if fewer than `most` are in hand. Give it back with [`Census::ended`].
    pub fn begin(&self, most: usize) -> bool {
        let fits = self.requests.fetch_add(1, Relaxed) < most;
        if !fits {
            self.ended();
        }
        fits
    }

    /// A request that had a place has ended.
    pub fn ended(&self) {
        self.requests.fetch_sub(1, Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.census.open.fetch_sub(1, Relaxed);
        if let Some(ip) = self.ip {
            let mut by_ip = self.census.by_ip.lock();
            if let Some(open) = by_ip.get_mut(&ip) {
                *open -= 1;
                if *open == 0 {
                    by_ip.remove(&ip);
                }
            }
        }
    }
}

/// The network of a client: one IPv6 address usually comes with its whole /64.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

/// Tells clients that there is no place. At most [`AT_ONCE`] are told at a time; further connections are closed without an answer.
#[derive(Debug, Default)]
pub struct Refusal {
    busy: Cell<usize>,
}

const AT_ONCE: usize = 64;
/// Time for the client to read the answer and close: a close from this side could overtake the answer as a reset.
const LINGER: Duration = Duration::from_secs(1);

impl Refusal {
    /// Answers 503 on `stream` and closes it.
    pub fn say(this: &Rc<Self>, mut stream: TcpStream, full: Full) {
        if full == Full::Descriptors {
            // The descriptor is one of the reserve: there is no time to wait for the client.
            let _ = stream.try_write(&answer(full));
            return;
        }
        if this.busy.get() >= AT_ONCE {
            return;
        }
        this.busy.set(this.busy.get() + 1);
        let this = this.clone();
        tokio::task::spawn_local(async move {
            let said = async {
                stream.write_all(&answer(full)).await?;
                stream.shutdown().await?;
                let mut rest = [0; 1024];
                while stream.read(&mut rest).await? > 0 {}
                Ok::<(), std::io::Error>(())
            };
            // A client that does not read the answer is no error.
            let _ = tokio::time::timeout(LINGER, said).await;
            this.busy.set(this.busy.get() - 1);
        });
    }
}

fn answer(full: Full) -> Vec<u8> {
    let why = match full {
        Full::Door => "the listener has as many connections as it may (max_connections)",
        Full::Address => "this address has as many connections as it may (max_connections_per_ip)",
        Full::Descriptors => "the process has as many connections as it has file descriptors for (ulimit -n)",
    };
    let (mut head, body) = Reject::Overloaded(why.into()).into_response(None).into_parts();
    let body = match body {
        crate::body::Body::Full(bytes) => bytes,
        _ => bytes::Bytes::new(),
    };
    head.headers.insert(Id::Date, http_date(Clock::system().wall()));
    head.headers.insert(Id::Connection, "close");
    let mut out = Vec::new();
    head.write(&mut out);
    // Writing to a Vec cannot fail.
    let _ = write!(out, "content-length: {}\r\n\r\n", body.len());
    out.extend_from_slice(&body);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_by_door_and_by_network_and_given_back() {
        let census = Arc::new(Census::default());
        let ip = |text: &str| text.parse().expect("ip");
        let enter = |text| census.enter(ip(text), 3, Some(1));
        let first = enter("2001:db8::1").expect("a place");
        assert_eq!(enter("2001:db8::2").expect_err("the same /64"), Full::Address);
        let second = enter("10.0.0.1").expect("a place");
        assert_eq!(enter("::ffff:10.0.0.1").expect_err("the same address"), Full::Address);
        let third = enter("10.0.0.2").expect("a place");
        assert_eq!(enter("10.0.0.3").expect_err("full"), Full::Door);
        drop((first, second, third));
        assert_eq!(census.open.load(Relaxed), 0);
        assert!(census.by_ip.lock().is_empty());
        assert!(enter("10.0.0.1").is_ok());
    }
}
