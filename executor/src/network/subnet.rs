//! IPv4 subnets: which one the bridge takes, and which address a sandbox gets.
//!
//! Pure: what is in use is handed in.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Subnets to choose from, in order of preference. Docker takes 172.17-31 and 192.168, podman 10.88-10.255 upwards from
/// 10.88 and 10.89: these are rare enough to leave them alone.
const CANDIDATES: [Subnet; 8] = [
    Subnet::new(Ipv4Addr::new(10, 213, 0, 0), 20),
    Subnet::new(Ipv4Addr::new(10, 213, 16, 0), 20),
    Subnet::new(Ipv4Addr::new(10, 213, 32, 0), 20),
    Subnet::new(Ipv4Addr::new(10, 213, 48, 0), 20),
    Subnet::new(Ipv4Addr::new(10, 214, 0, 0), 20),
    Subnet::new(Ipv4Addr::new(172, 30, 208, 0), 20),
    Subnet::new(Ipv4Addr::new(192, 168, 208, 0), 20),
    Subnet::new(Ipv4Addr::new(100, 99, 208, 0), 20),
];

/// An IPv4 network: its first address and the length of its prefix in bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    network: Ipv4Addr,
    prefix: u8,
}

/// A text is not `A.B.C.D/N` with N from 8 to 29 and only zeros behind the prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an IPv4 subnet such as 10.213.0.0/20")]
pub struct BadSubnet(String);

impl Subnet {
    const fn new(network: Ipv4Addr, prefix: u8) -> Self {
        Self { network, prefix }
    }

    /// The subnet of `prefix` bits (at most 32) in which `address` lies.
    pub(crate) fn around(address: Ipv4Addr, prefix: u8) -> Self {
        let prefix = prefix.min(32);
        Self::new(Ipv4Addr::from_bits(address.to_bits() & mask_bits(prefix)), prefix)
    }

    /// The first address: the subnet's name.
    pub fn network(self) -> Ipv4Addr {
        self.network
    }

    /// The length of the prefix in bits.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The mask that belongs to the prefix.
    pub fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(mask_bits(self.prefix))
    }

    /// The bridge's own address: the first host of the subnet.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() + 1)
    }

    /// The last address, which reaches all hosts.
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() | !mask_bits(self.prefix))
    }

    /// Whether the two share an address.
    pub fn overlaps(self, other: Self) -> bool {
        let shorter = mask_bits(self.prefix.min(other.prefix));
        self.network.to_bits() & shorter == other.network.to_bits() & shorter
    }

    /// The next address behind `after` for which `taken` says no; goes around once, never the gateway.
    ///
    /// Going around, and not always the lowest: an address just released may still be in the tables of neighbours.
    pub(crate) fn next_free(self, after: Ipv4Addr, taken: impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        let first = self.gateway().to_bits() + 1;
        let count = self.broadcast().to_bits().checked_sub(first)?;
        let start = after.to_bits().wrapping_add(1).wrapping_sub(first);
        let start = if start < count { start } else { 0 };
        (0..count).map(|step| Ipv4Addr::from_bits(first + (start + step) % count)).find(|address| !taken(*address))
    }

    /// The first subnet of the list that overlaps none of `used`; the default route does not count.
    pub(crate) fn choose(used: &[Self]) -> Option<Self> {
        CANDIDATES
            .into_iter()
            .find(|candidate| !used.iter().any(|other| other.prefix > 0 && candidate.overlaps(*other)))
    }

    /// The list as text, for the error when all are in use.
    pub(crate) fn candidates() -> String {
        CANDIDATES.map(|candidate| candidate.to_string()).join(", ")
    }
}

fn mask_bits(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)
}

impl fmt::Display for Subnet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.network, self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = BadSubnet;

    fn from_str(text: &str) -> Result<Self, BadSubnet> {
        let bad = || BadSubnet(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
        let address: Ipv4Addr = address.parse().map_err(|_| bad())?;
        let prefix: u8 = prefix.parse().map_err(|_| bad())?;
        let subnet = Self::around(address, prefix);
        if !(8..=29).contains(&prefix) || subnet.network != address { Err(bad()) } else { Ok(subnet) }
    }
}

impl TryFrom<String> for Subnet {
    type Error = BadSubnet;

    fn try_from(text: String) -> Result<Self, BadSubnet> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn parses_only_whole_subnets() {
        assert_eq!(subnet("10.88.0.0/16").to_string(), "10.88.0.0/16");
        for bad in ["10.88.0.0", "10.88.0.1/16", "10.88.0.0/33", "10.88.0.0/30", "0.0.0.0/0", "x/16", ""] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
    }

    #[test]
    fn knows_its_addresses() {
        let subnet = subnet("10.213.16.0/20");
        assert_eq!(subnet.gateway(), Ipv4Addr::new(10, 213, 16, 1));
        assert_eq!(subnet.broadcast(), Ipv4Addr::new(10, 213, 31, 255));
        assert_eq!(subnet.mask(), Ipv4Addr::new(255, 255, 240, 0));
    }

    #[test]
    fn chooses_what_nobody_uses() {
        let default = Subnet::around(Ipv4Addr::UNSPECIFIED, 0);
        assert_eq!(Subnet::choose(&[default]), Some(CANDIDATES[0]));
        let host = Subnet::around(Ipv4Addr::new(10, 213, 3, 4), 32);
        assert_eq!(Subnet::choose(&[host]), Some(CANDIDATES[1]));
        assert_eq!(Subnet::choose(&[subnet("10.0.0.0/8")]), Some(CANDIDATES[5]));
        assert_eq!(Subnet::choose(&CANDIDATES), None);
    }

    #[test]
    fn candidates_are_whole_and_apart() {
        for (index, candidate) in CANDIDATES.into_iter().enumerate() {
            assert_eq!(candidate.to_string().parse(), Ok(candidate));
            assert!(CANDIDATES[..index].iter().all(|earlier| !earlier.overlaps(candidate)), "{candidate}");
        }
    }

    #[test]
    fn addresses_go_around_and_run_out() {
        let small = subnet("10.1.2.8/29"); // gateway .9, hosts .10 to .14
        let mut taken = Vec::new();
        let mut after = small.gateway();
        while let Some(address) = small.next_free(after, |address| taken.contains(&address)) {
            taken.push(address);
            after = address;
        }
        assert_eq!(taken.iter().map(|address| address.octets()[3]).collect::<Vec<_>>(), [10, 11, 12, 13, 14]);
        taken.remove(1);
        assert_eq!(small.next_free(after, |address| taken.contains(&address)), Some(Ipv4Addr::new(10, 1, 2, 11)));
        assert_eq!(small.next_free(Ipv4Addr::BROADCAST, |_| false), Some(Ipv4Addr::new(10, 1, 2, 10)));
    }
}
