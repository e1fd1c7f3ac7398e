//! stub
pub fn check(_p: &crate::config::Access, _c: std::net::IpAddr) -> Result<(), crate::reject::Reject> { Ok(()) }
