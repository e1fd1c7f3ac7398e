//! Sockets of a door: one for each worker on one port, which no other process holds.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol, Socket, Type};

/// Binds `address` once for each of `count` workers (SO_REUSEPORT). For port 0 the first socket chooses, the others take its port.
///
/// # Errors
/// The address is not of this machine, may not be taken, or another process listens there: that one would silently get a share of the
/// connections.
pub fn all(mut address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    if address.port() != 0 {
        vacant(address)?;
    }
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = shared(address)?;
        address = socket.local_addr()?;
        sockets.push(socket);
    }
    Ok(sockets)
}

/// Takes `address` alone, until the answer is dropped: an error where another process listens.
///
/// The socket never listens: a client that came meanwhile would be accepted, then reset.
fn vacant(address: SocketAddr) -> io::Result<Socket> {
    let socket = plain(address)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn shared(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = plain(address)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn plain(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    Ok(socket)
}

const BACKLOG: i32 = 4096;

#[cfg(test)]
mod tests {
    use std::{io::ErrorKind, net::TcpStream};

    use super::*;

    fn free() -> SocketAddr {
        // An address of its own: no other test is given its ports.
        TcpListener::bind("127.77.0.1:0").expect("binds").local_addr().expect("an address")
    }

    #[test]
    fn workers_share_a_port_and_another_process_is_refused() {
        let sockets = all("127.0.0.1:0".parse().unwrap(), 3).expect("binds");
        let address = sockets[0].local_addr().unwrap();
        assert!(sockets.iter().all(|socket| socket.local_addr().unwrap() == address));
        assert_eq!(all(address, 1).unwrap_err().kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn a_client_that_comes_while_the_port_is_tried_is_not_accepted() {
        let address = free();
        let tried = vacant(address).expect("nobody listens");
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        drop(tried);
        let _sockets = all(address, 1).expect("the port is free again");
        assert!(TcpStream::connect(address).is_ok());
    }
}
