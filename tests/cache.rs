//! The cache as clients, operators and origins see it, over real sockets.

#[path = "cache/collapsed.rs"]
mod collapsed;
#[path = "cache/http.rs"]
mod http_rules;
#[path = "cache/invalidation.rs"]
mod invalidation;
#[path = "cache/load.rs"]
mod load;
#[path = "cache/model.rs"]
mod model;
#[path = "cache/oracle/mod.rs"]
mod oracle;
#[path = "cache/peers.rs"]
mod peers;
#[path = "cache/random.rs"]
mod random;
#[path = "cache/seen.rs"]
mod seen;
#[path = "cache/stale.rs"]
mod stale;
#[path = "cache/variants.rs"]
mod variants;
#[path = "cache/world.rs"]
mod world;
