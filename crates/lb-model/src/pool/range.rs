//! Ranges of addresses that a pool gives to its instances.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;

use crate::{network::Network, vip::check_unicast};

/// Addresses of one network, one for each instance: `FIRST-LAST/LENGTH`, such as `10.70.0.11-10.70.0.99/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
    prefix: u8,
}

impl AddressRange {
    /// The address of the instance with this number, from 1; `None` past the end.
    #[must_use]
    pub fn nth(&self, number: u32) -> Option<IpAddr> {
        let offset = u128::from(number.checked_sub(1)?);
        let address = bits(self.first).checked_add(offset)?;
        (address <= bits(self.last)).then(|| like(self.first, address))
    }

    /// The number of an address, from 1; `None` if it is none of the range, or too far from its beginning.
    #[must_use]
    pub fn number_of(&self, address: IpAddr) -> Option<u32> {
        let is_own = self.contains(address);
        let offset = bits(address)
            .checked_sub(bits(self.first))
            .filter(|_| is_own)?;
        u32::try_from(offset).ok()?.checked_add(1)
    }

    /// The part that begins with this number, from 1, and has `count` addresses; `None` past the end.
    #[must_use]
    pub fn part(&self, number: u32, count: u32) -> Option<Self> {
        let last = number.checked_add(count.checked_sub(1)?)?;
        Some(AddressRange {
            first: self.nth(number)?,
            last: self.nth(last)?,
            prefix: self.prefix,
        })
    }

    /// How many addresses it has.
    #[must_use]
    pub fn len(&self) -> u128 {
        bits(self.last) - bits(self.first) + 1
    }

    /// False: it has an address at least.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// The first address.
    #[must_use]
    pub const fn first(&self) -> IpAddr {
        self.first
    }

    /// The last address.
    #[must_use]
    pub const fn last(&self) -> IpAddr {
        self.last
    }

    /// The network whose addresses these are.
    #[must_use]
    pub fn network(&self) -> IpNet {
        IpNet::new(self.first, self.prefix).map_or_else(|_| self.first.into(), |net| net.trunc())
    }

    /// Whether the networks of the two have addresses in common: a station in both could not tell them apart.
    #[must_use]
    pub fn shares_network(&self, other: &Self) -> bool {
        Network(self.network()).overlaps(&Network(other.network()))
    }

    /// Length of the network's prefix.
    #[must_use]
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether the address is one of the range.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4()
            && (bits(self.first)..=bits(self.last)).contains(&bits(address))
    }

    /// Whether the address is of the same network.
    #[must_use]
    pub fn is_neighbour(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4()
            && network(address, self.prefix) == network(self.first, self.prefix)
    }

    /// Whether the two have an address in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.first.is_ipv4() == other.first.is_ipv4()
            && bits(self.first) <= bits(other.last)
            && bits(other.first) <= bits(self.last)
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The address of the same family with these bits.
fn like(family: IpAddr, bits: u128) -> IpAddr {
    match family {
        // The caller keeps within the family's range.
        IpAddr::V4(_) => IpAddr::V4(u32::try_from(bits).unwrap_or(u32::MAX).into()),
        IpAddr::V6(_) => IpAddr::V6(bits.into()),
    }
}

fn network(address: IpAddr, prefix: u8) -> u128 {
    let host = width(address) - prefix;
    bits(address).checked_shr(host.into()).unwrap_or_default()
}

const fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl FromStr for AddressRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "give FIRST-LAST/LENGTH, such as 10.70.0.11-10.70.0.99/24";
        let (ends, prefix) = text.rsplit_once('/').ok_or(FORM)?;
        let (first, last) = ends.split_once('-').ok_or(FORM)?;
        let range = AddressRange {
            first: first.parse().map_err(|_| FORM)?,
            last: last.parse().map_err(|_| FORM)?,
            prefix: prefix.parse().map_err(|_| FORM)?,
        };
        if range.first.is_ipv4() != range.last.is_ipv4() {
            return Err("first and last address are of different families".to_owned());
        }
        if !(1..=width(range.first)).contains(&range.prefix) {
            return Err(format!(
                "the length of the prefix is 1 to {}",
                width(range.first)
            ));
        }
        if bits(range.first) > bits(range.last) {
            return Err("the first address is above the last".to_owned());
        }
        if !range.is_neighbour(range.last) {
            return Err(format!(
                "first and last address are not of one network with a prefix of {} bits",
                range.prefix
            ));
        }
        for end in [range.first, range.last] {
            check_unicast(end).map_err(|error| error.to_string())?;
        }
        Ok(range)
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}/{}", self.first, self.last, self.prefix)
    }
}

crate::text_setting!(AddressRange, "`FIRST-LAST/LENGTH`");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_has_an_address() {
        let range: AddressRange = "10.70.0.11-10.70.0.13/24".parse().unwrap();
        assert_eq!(range.len(), 3);
        assert_eq!(range.nth(0), None);
        assert_eq!(range.nth(1), Some("10.70.0.11".parse().unwrap()));
        assert_eq!(range.nth(3), Some("10.70.0.13".parse().unwrap()));
        assert_eq!(range.nth(4), None);
        assert!(range.contains("10.70.0.12".parse().unwrap()));
        assert!(!range.contains("10.70.0.14".parse().unwrap()));
        assert!(range.is_neighbour("10.70.0.1".parse().unwrap()));
        assert!(!range.is_neighbour("10.70.1.1".parse().unwrap()));
        let six: AddressRange = "2001:db8::10-2001:db8::1f/64".parse().unwrap();
        assert_eq!(six.nth(16), Some("2001:db8::1f".parse().unwrap()));
        assert_eq!(six.nth(17), None);
        assert_eq!(six.to_string(), "2001:db8::10-2001:db8::1f/64");
    }

    #[test]
    fn a_range_has_parts() {
        let range: AddressRange = "10.70.0.11-10.70.0.16/24".parse().unwrap();
        let part = |number, count| Some(range.part(number, count)?.to_string());
        assert_eq!(part(1, 4).as_deref(), Some("10.70.0.11-10.70.0.14/24"));
        assert_eq!(part(6, 1).as_deref(), Some("10.70.0.16-10.70.0.16/24"));
        assert_eq!((part(5, 4), part(1, 0), part(0, 1)), (None, None, None));
        for number in 1..=6 {
            assert_eq!(range.number_of(range.nth(number).unwrap()), Some(number));
        }
        assert_eq!(range.number_of("10.70.0.17".parse().unwrap()), None);
        assert_eq!(range.number_of("2001:db8::1".parse().unwrap()), None);
    }

    #[test]
    fn ranges_overlap_or_not() {
        let range = |text: &str| text.parse::<AddressRange>().unwrap();
        let one = range("10.0.0.10-10.0.0.19/24");
        assert!(one.overlaps(&range("10.0.0.19-10.0.0.30/24")));
        assert!(!one.overlaps(&range("10.0.0.20-10.0.0.30/24")));
        assert!(!one.overlaps(&range("2001:db8::1-2001:db8::2/64")));
        assert!(one.shares_network(&range("10.0.1.1-10.0.1.9/16")));
        assert!(!one.shares_network(&range("10.0.1.1-10.0.1.9/24")));
        assert!(!one.shares_network(&range("2001:db8::1-2001:db8::2/64")));
        assert_eq!(one.network().to_string(), "10.0.0.0/24");
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for bad in [
            "",
            "10.0.0.1",
            "10.0.0.1-10.0.0.2",
            "10.0.0.2-10.0.0.1/24",
            "10.0.0.1-10.0.1.1/24",
            "10.0.0.1-2001:db8::1/24",
            "10.0.0.1-10.0.0.2/33",
            "10.0.0.1-10.0.0.2/0",
            "127.0.0.1-127.0.0.2/8",
            "224.0.0.1-224.0.0.2/24",
        ] {
            assert!(bad.parse::<AddressRange>().is_err(), "{bad}");
        }
    }
}
