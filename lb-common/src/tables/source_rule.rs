//! Rules about sources: which clients of a service are refused, and which have a real of their own.

/// A key of [`super::names::SOURCE_RULES`]: of the prefixes that hold a source the longest one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C, align(8))]
pub struct SourceKey {
    /// Bits behind this field that count.
    pub bits: u32,
    /// The service.
    pub service: u32,
    /// Address as it lies in a packet; IPv4 in the first four bytes.
    pub address: [u8; 16],
}

/// Bits of a [`SourceKey`] in front of the address.
pub const SERVICE_BITS: u32 = 32;
/// Bits of a [`SourceKey`] of one address.
pub const ADDRESS_BITS: u32 = SERVICE_BITS + 128;

impl SourceKey {
    /// The key of the sources of a service whose first bits are those of this address.
    #[must_use]
    pub const fn new(service: u32, address: [u8; 16], prefix: u32) -> SourceKey {
        let number = u128::from_be_bytes(address);
        let first = match prefix {
            0 => 0,
            1..128 => number >> (128 - prefix) << (128 - prefix),
            _ => number,
        };
        SourceKey {
            bits: SERVICE_BITS + prefix,
            service,
            address: first.to_be_bytes(),
        }
    }

    /// The key by which a packet's source is looked up; its address as two words that lie in a packet one behind the other.
    #[must_use]
    #[inline(always)]
    pub const fn of_source(service: u32, [first, second]: [u64; 2]) -> SourceKey {
        let [a, b, c, d, e, f, g, h] = first.to_ne_bytes();
        let [i, j, k, l, m, n, o, p] = second.to_ne_bytes();
        SourceKey {
            bits: ADDRESS_BITS,
            service,
            address: [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p],
        }
    }
}

/// What a rule says: a value of [`super::names::SOURCE_RULES`]. It is never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The source is served like any other.
    Allow,
    /// Its packets are dropped.
    Deny,
    /// They go to the real with this index, while it is alive.
    Real(u16),
}

const ALLOW: u32 = 1;
const DENY: u32 = 2;
const REAL: u32 = 3;
const KIND_BITS: u32 = 2;

impl Rule {
    /// The rule as a number.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Rule::Allow => ALLOW,
            Rule::Deny => DENY,
            Rule::Real(real) => (real as u32) << KIND_BITS | REAL,
        }
    }

    /// Whether the rule with this number denies.
    #[must_use]
    #[inline(always)]
    pub const fn denies(number: u32) -> bool {
        number == DENY
    }

    /// The real that the rule with this number names; 0: none.
    #[must_use]
    #[inline(always)]
    pub const fn real_of(number: u32) -> u16 {
        if number & REAL == REAL {
            (number >> KIND_BITS) as u16
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_behind_the_prefix_do_not_count() {
        let key = SourceKey::new(7, [0xFF; 16], 12);
        assert_eq!((key.bits, key.service), (44, 7));
        assert_eq!(key.address[..3], [0xFF, 0xF0, 0]);
        assert_eq!(SourceKey::new(7, [0xFF; 16], 0).address, [0; 16]);
        assert_eq!(SourceKey::new(7, [0xFF; 16], 128).address, [0xFF; 16]);
    }

    #[test]
    fn a_rule_is_a_number_and_back() {
        assert!(Rule::denies(Rule::Deny.number()));
        assert!(!Rule::denies(Rule::Allow.number()));
        assert!(!Rule::denies(Rule::Real(9).number()));
        assert_eq!(Rule::real_of(Rule::Real(4095).number()), 4095);
        assert_eq!(Rule::real_of(Rule::Allow.number()), 0);
        assert_eq!(Rule::real_of(Rule::Deny.number()), 0);
        assert_eq!(Rule::real_of(0), 0);
    }
}
