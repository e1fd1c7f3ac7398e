//! The client's address: that of the peer, or the one that trusted proxies give.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::http1::Fields;

/// The client's address and whether the peer is trusted.
///
/// From a trusted peer, `X-Forwarded-For` is read from its right end: the first address that is no trusted proxy is the client.
/// An unreadable hop ends the walk at the last readable one.
pub fn address(peer: SocketAddr, headers: &Fields, trusted: &[IpNet]) -> (IpAddr, bool) {
    let peer = peer.ip().to_canonical();
    if !is_trusted(peer, trusted) {
        return (peer, false);
    }
    let mut client = peer;
    let lines: Vec<&str> = headers.all("x-forwarded-for").filter_map(|v| v.to_str().ok()).collect();
    'walk: for line in lines.into_iter().rev() {
        for hop in line.rsplit(',') {
            let Some(ip) = parse(hop.trim()) else { break 'walk };
            client = ip;
            if !is_trusted(ip, trusted) {
                break 'walk;
            }
        }
    }
    (client, true)
}

/// Whether `ip` is one of the proxies that are believed.
pub fn is_trusted(ip: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|net| net.contains(&ip))
}

/// Parses a hop as proxies write it: an address, perhaps with a port or brackets.
fn parse(hop: &str) -> Option<IpAddr> {
    let ip = hop.parse::<IpAddr>().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|a| a.ip()));
    ip.or_else(|| hop.trim_start_matches('[').trim_end_matches(']').parse().ok()).map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn only_trusted_peers_are_believed_and_only_up_to_the_first_stranger() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().expect("net")];
        let mut headers = Fields::new();
        headers.append("x-forwarded-for", "6.6.6.6, 1.2.3.4, 10.0.0.7");
        let of = |peer: &str, headers: &Fields| address(peer.parse().expect("peer"), headers, &trusted);
        assert_eq!(of("9.9.9.9:1", &headers), ("9.9.9.9".parse().expect("ip"), false));
        assert_eq!(of("10.0.0.1:1", &headers), ("1.2.3.4".parse().expect("ip"), true));
        headers.insert("x-forwarded-for", "nonsense, 10.0.0.7");
        assert_eq!(of("[::ffff:10.0.0.1]:1", &headers), ("10.0.0.7".parse().expect("ip"), true));
        assert_eq!(of("10.0.0.1:1", &Fields::new()), ("10.0.0.1".parse().expect("ip"), true));
    }
}
