//! Rules about the sources of a VIP's packets.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;

use crate::vip::RealId;

/// What becomes of packets from a prefix of sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceAction {
    /// They are served like any other.
    Allow,
    /// They are dropped.
    Deny,
    /// They go to this real, while the VIP has it and it is alive.
    Real(RealId),
}

/// A rule about a prefix of sources. Of those that hold a source the longest prefix counts; a source of none is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceRule {
    /// The sources.
    pub prefix: IpNet,
    /// What becomes of their packets.
    pub action: SourceAction,
}

impl SourceRule {
    /// The first address of the prefix as it lies in a packet, IPv4 in the first four bytes.
    #[must_use]
    pub fn octets(&self) -> [u8; 16] {
        match self.prefix.addr() {
            IpAddr::V4(address) => {
                let mut octets = [0; 16];
                octets[..4].copy_from_slice(&address.octets());
                octets
            }
            IpAddr::V6(address) => address.octets(),
        }
    }
}

impl fmt::Display for SourceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.action {
            SourceAction::Allow => write!(f, "{}=allow", self.prefix),
            SourceAction::Deny => write!(f, "{}=deny", self.prefix),
            SourceAction::Real(real) => write!(f, "{}={real}", self.prefix),
        }
    }
}

impl FromStr for SourceRule {
    type Err = String;

    fn from_str(text: &str) -> Result<SourceRule, String> {
        let (prefix, action) = text.split_once('=').ok_or_else(advice)?;
        let prefix: IpNet = match prefix.parse::<IpAddr>() {
            Ok(address) => address.into(),
            Err(_) => prefix.parse().map_err(|_| advice())?,
        };
        if prefix.trunc() != prefix {
            return Err(format!(
                "the address has other bits than those of the prefix; give {}",
                prefix.trunc()
            ));
        }
        let action = match action {
            "allow" => SourceAction::Allow,
            "deny" => SourceAction::Deny,
            real => SourceAction::Real(real.parse().map_err(|_| advice())?),
        };
        Ok(SourceRule { prefix, action })
    }
}

fn advice() -> String {
    "give PREFIX=allow, PREFIX=deny or PREFIX=REAL, such as 10.0.0.0/8=deny or 2001:db8::/32=fd00::7".to_owned()
}

crate::text_setting!(SourceRule, "`PREFIX=allow`, `PREFIX=deny` or `PREFIX=REAL`");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_written_as_they_are_read() {
        for text in [
            "0.0.0.0/0=deny",
            "10.0.0.0/8=allow",
            "192.0.2.1/32=10.1.0.1",
            "192.0.2.0/24=10.1.0.1:8080",
            "::/0=deny",
            "2001:db8::/32=fd00::7",
        ] {
            let rule: SourceRule = text.parse().unwrap();
            assert_eq!(rule.to_string(), text);
        }
        let one: SourceRule = "192.0.2.1=deny".parse().unwrap();
        assert_eq!(one.to_string(), "192.0.2.1/32=deny");
    }

    #[test]
    fn other_texts_are_refused_with_what_to_write() {
        for text in [
            "",
            "10.0.0.0/8",
            "10.0.0.0/33=deny",
            "x=deny",
            "10.0.0.0/8=",
            "=deny",
            "10.0.0.0/8=drop",
        ] {
            let error = text.parse::<SourceRule>().unwrap_err();
            assert!(error.contains("10.0.0.0/8=deny"), "{text}: {error}");
        }
        let error = "10.1.2.3/16=deny".parse::<SourceRule>().unwrap_err();
        assert!(error.contains("give 10.1.0.0/16"), "{error}");
    }
}
