//! A connection becomes arrivals.

mod client;
mod session;
mod strict;
