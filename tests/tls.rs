//! TLS with clients and with targets, and HTTP/2 towards targets: real sockets, real handshakes, certificates made here.

#[path = "tls/http2.rs"]
mod http2;
#[path = "tls/listener.rs"]
mod listener;
#[path = "tls/target.rs"]
mod target;
#[path = "tls/world.rs"]
mod world;
