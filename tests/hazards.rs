//! What can confuse a proxy, row by row: raw bytes in over a socket, raw bytes out at the origin, raw bytes back.
//!
//! Every test or row names the hazard and where it is known from; `hazards/table.rs` is the table of contents, by number. The proxy
//! is the real one, its listener on port 0.

#[path = "hazards/bounds.rs"]
mod bounds;
#[path = "hazards/caching.rs"]
mod caching;
#[path = "hazards/exchange.rs"]
mod exchange;
#[path = "hazards/faults.rs"]
mod faults;
#[path = "hazards/http2.rs"]
mod http2;
#[path = "hazards/reach.rs"]
mod reach;
#[path = "hazards/requests.rs"]
mod requests;
#[path = "hazards/responses.rs"]
mod responses;
#[path = "hazards/strict.rs"]
mod strict;
#[path = "hazards/table.rs"]
mod table;
#[path = "hazards/trust.rs"]
mod trust;
#[path = "hazards/world.rs"]
mod world;
