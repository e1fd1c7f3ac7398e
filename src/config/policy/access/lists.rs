//! Lists of addresses in files: one net or address a line, `#` and `;` begin a remark.

use std::net::IpAddr;

use ipnet::IpNet;

/// Mistakes of a file that are told.
const TOLD: usize = 5;

/// Many addresses. A question costs as much as two searches, however long the list is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressSet {
    /// First and last of each range, ascending, without overlaps.
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl AddressSet {
    /// The addresses of these nets.
    pub fn new(nets: impl IntoIterator<Item = IpNet>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for net in nets {
            match net {
                IpNet::V4(net) => v4.push((u32::from(net.network()), u32::from(net.broadcast()))),
                IpNet::V6(net) => v6.push((u128::from(net.network()), u128::from(net.broadcast()))),
            }
        }
        Self {
            v4: merged(v4, |last, next| last.checked_add(1).is_none_or(|beyond| next <= beyond)),
            v6: merged(v6, |last, next| last.checked_add(1).is_none_or(|beyond| next <= beyond)),
        }
    }

    /// Whether the address is among them. An IPv4-mapped IPv6 address is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => among(&self.v4, u32::from(address)),
            IpAddr::V6(address) => among(&self.v6, u128::from(address)),
        }
    }

    /// Ranges that are left after joining neighbours.
    pub fn ranges(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ranges() == 0
    }
}

fn among<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
    let behind = ranges.partition_point(|(first, _)| *first <= address);
    behind > 0 && address <= ranges[behind - 1].1
}

fn merged<T: Ord + Copy>(mut ranges: Vec<(T, T)>, touches: impl Fn(T, T) -> bool) -> Vec<(T, T)> {
    ranges.sort_unstable();
    let mut out: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match out.last_mut() {
            Some((_, end)) if touches(*end, first) => *end = (*end).max(last),
            _ => out.push((first, last)),
        }
    }
    out
}

/// The nets of a file.
///
/// # Errors
/// Lines that are neither a net nor an address, at most six remarks.
pub(super) fn nets(text: &str) -> Result<Vec<IpNet>, Vec<String>> {
    let (mut nets, mut wrong) = (Vec::new(), Vec::new());
    for (nth, line) in text.lines().enumerate() {
        let word = line.split(['#', ';']).next().unwrap_or_default().trim();
        if word.is_empty() {
            continue;
        }
        match word.parse::<IpNet>().or_else(|_| word.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()))) {
            Ok(net) => nets.push(net.trunc()),
            Err(_) => wrong.push(format!("line {}: `{word}` is neither an address nor a net such as 192.0.2.0/24", nth + 1)),
        }
    }
    if wrong.is_empty() {
        return Ok(nets);
    }
    if wrong.len() > TOLD {
        let more = wrong.len() - TOLD;
        wrong.truncate(TOLD);
        wrong.push(format!("{more} more mistakes"));
    }
    Err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_its_nets_have_and_joins_neighbours() {
        let text = "# bad ones\n192.0.2.0/25\n192.0.2.128/25 ; the other half\n10.0.0.1\n\n2001:db8::/32\n::ffff:198.51.100.7\n255.255.255.255\n0.0.0.0/32\n";
        let set = AddressSet::new(nets(text).expect("good"));
        assert_eq!(set.ranges(), 6);
        for (address, is_in) in [
            ("192.0.2.0", true),
            ("192.0.2.255", true),
            ("192.0.3.0", false),
            ("192.0.1.255", false),
            ("::ffff:192.0.2.9", true),
            ("10.0.0.1", true),
            ("10.0.0.2", false),
            ("198.51.100.7", true),
            ("2001:db8:ffff::1", true),
            ("2001:db9::", false),
            ("255.255.255.255", true),
            ("0.0.0.0", true),
            ("0.0.0.1", false),
        ] {
            assert_eq!(set.contains(address.parse().expect("an address")), is_in, "{address}");
        }
        assert!(!AddressSet::default().contains([0, 0, 0, 0].into()));
    }

    #[test]
    fn what_is_no_net_is_told_by_line() {
        let wrong = nets("10.0.0.1\n300.0.0.1\nexample.com # a name\n").expect_err("wrong");
        assert!(wrong.len() == 2 && wrong[0].starts_with("line 2: `300.0.0.1`") && wrong[1].starts_with("line 3"), "{wrong:?}");
    }
}
