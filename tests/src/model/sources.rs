//! Rules about the sources of a service's packets.

use std::net::IpAddr;

use lb_common::tables::source_rule::{Rule, SourceKey};

use super::{Model, random::Random};

/// What a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The source is served.
    Allow,
    /// It is refused.
    Deny,
    /// It has a real of its own.
    Real(u16),
}

/// A rule of a service.
#[derive(Clone, Copy, Debug)]
pub struct SourceRule {
    /// The service.
    pub service: u32,
    /// The first address of the sources.
    pub first: IpAddr,
    /// Bits that they have in common.
    pub length: u32,
    /// What becomes of their packets.
    pub verdict: Verdict,
}

/// An address as bits of which the first is the highest.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
        IpAddr::V6(address) => address.into(),
    }
}

impl SourceRule {
    /// The entry of `SOURCE_RULES`.
    #[must_use]
    pub fn record(&self) -> (SourceKey, u32) {
        let rule = match self.verdict {
            Verdict::Allow => Rule::Allow,
            Verdict::Deny => Rule::Deny,
            Verdict::Real(real) => Rule::Real(real),
        };
        let key = SourceKey::new(self.service, bits(self.first).to_be_bytes(), self.length);
        (key, rule.number())
    }

    fn holds(&self, source: IpAddr) -> bool {
        let differ = bits(self.first) ^ bits(source);
        self.length == 0 || differ.leading_zeros() >= self.length
    }
}

/// Rules about a half of the generator's clients, nested in each other, with one of these reals.
pub fn rules(random: &mut Random, service: u32, v4: bool, reals: &[u16]) -> Vec<SourceRule> {
    let (base, length) = if v4 {
        (bits([198, 51, 100, 0].into()), 24)
    } else {
        (0x2001_0DB8_00C0_0000_u128 << 64, 64)
    };
    let rule = |place: u128, more: u32, verdict| {
        let first = base | place << (128 - length - 8);
        let first = if v4 {
            IpAddr::V4(((first >> 96) as u32).into())
        } else {
            IpAddr::V6(first.into())
        };
        SourceRule {
            service,
            first,
            length: length + more,
            verdict,
        }
    };
    vec![
        rule(0x40, 2, Verdict::Deny),
        rule(0x50, 4, Verdict::Allow),
        rule(0x60, 4, Verdict::Real(*random.pick(reals))),
        rule(0x80, 3, Verdict::Real(*random.pick(reals))),
    ]
}

impl Model {
    /// The verdict about a packet's source: that of the longest prefix which holds it.
    pub(super) fn verdict(&self, source: IpAddr, service: u32) -> Verdict {
        let rules = self.testbed.source_rules.iter();
        rules
            .filter(|rule| rule.service == service && rule.holds(source))
            .max_by_key(|rule| rule.length)
            .map_or(Verdict::Allow, |rule| rule.verdict)
    }

    /// The live real that a source has of its own.
    pub(super) fn own_real(&self, source: IpAddr, service: u32) -> Option<u16> {
        match self.verdict(source, service) {
            Verdict::Real(real) if self.serves(real, service) && !self.is_dead(real) => Some(real),
            _ => None,
        }
    }
}
