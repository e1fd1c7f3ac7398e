//! Outrigger: a sidecar reverse proxy for AI apps.
//!
//! # The way of a request
//!
//! ```text
//! accept -> arrival -> route (path; then operation and model) -> access, cors, auth, csrf, validate
//!        -> limits that count every request -> redirect, respond -> cache: hit? -> limits that count only misses
//!        -> for each target (fallback): for each try (retry): breaker permit -> timeout -> upstream
//!        -> tap: usage, first token, cache fill -> dress -> compression -> the last byte: settle, metrics, span, log
//! ```
//!
//! The modules below stand in that order. Each may import only from those further down ([`mod@body`], [`config`], [`clock`],
//! [`fields`], [`message`] and [`pressure`] are near the bottom, [`http1`] is below all). A test checks it.

pub mod app;
pub mod cli;

pub mod admin;
pub mod listen;

pub mod proxy;

pub mod route;

pub mod cause;
pub mod notify;
pub mod policy;
pub mod provider;
pub mod status;
pub mod upstream;

pub mod alert;
pub mod audit;
pub mod monitor;
pub mod sentry;
pub mod store;
pub mod telemetry;

pub mod arrival;
pub mod caller;
pub mod fetch;
pub mod reject;
pub mod usage;

pub mod body;
pub mod resolve;

pub mod clock;
pub mod config;
pub mod fields;
pub mod message;
pub mod pressure;

pub mod condition;
pub mod http1;
pub mod in_place;
pub mod underway;
