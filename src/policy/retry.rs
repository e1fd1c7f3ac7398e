//! stub
use http::StatusCode;
use std::time::Duration;
/// x
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome { Status(StatusCode), Final(StatusCode), Fault(crate::reject::Fault), Timeout(crate::reject::Bound), InStream }
impl Outcome { pub fn as_str(&self) -> &'static str { "x" } pub fn is_failure(&self) -> bool { !matches!(self, Self::Status(s) if !s.is_server_error()) } }
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict { Keep, TryAgain { pause: Duration }, BudgetSpent }
pub struct Retries;
impl Retries { pub fn judge(&mut self, _o: &Outcome, _h: Option<Duration>, _d: Option<tokio::time::Instant>, _n: tokio::time::Instant, _c: &crate::clock::Chance) -> Verdict { Verdict::Keep } }
