//! What becomes of packets for a VIP when all of its reals are dead.

use std::{fmt, str::FromStr};

use lb_model::vip::VipKey;
use serde::{Deserialize, Serialize};

/// What becomes of packets for a VIP when all of its reals are dead. Written `drop`, `reset`, or as a VIP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum WhenEmpty {
    /// They are dropped.
    #[default]
    Drop,
    /// TCP is answered with a reset, all else is dropped.
    Reset,
    /// The reals of this VIP serve them.
    Fallback(VipKey),
}

impl WhenEmpty {
    /// What the data plane is told: a fallback's reals are in the ring.
    #[must_use]
    pub const fn in_tables(self) -> lb_dataplane::WhenEmpty {
        match self {
            WhenEmpty::Drop | WhenEmpty::Fallback(_) => lb_dataplane::WhenEmpty::Drop,
            WhenEmpty::Reset => lb_dataplane::WhenEmpty::Reset,
        }
    }
}

impl fmt::Display for WhenEmpty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WhenEmpty::Drop => f.write_str("drop"),
            WhenEmpty::Reset => f.write_str("reset"),
            WhenEmpty::Fallback(vip) => vip.fmt(f),
        }
    }
}

impl FromStr for WhenEmpty {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "drop" => Ok(WhenEmpty::Drop),
            "reset" => Ok(WhenEmpty::Reset),
            _ => text.parse().map(WhenEmpty::Fallback).map_err(|_| {
                format!(
                    "{text:?} is none of the ways; write drop, reset, or the VIP whose reals stand in, as 10.0.0.2:80/tcp"
                )
            }),
        }
    }
}

impl TryFrom<String> for WhenEmpty {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<WhenEmpty> for String {
    fn from(what: WhenEmpty) -> String {
        what.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for text in ["drop", "reset", "10.0.0.2:80/tcp", "[2001:db8::2]:0/udp"] {
            assert_eq!(text.parse::<WhenEmpty>().unwrap().to_string(), text);
        }
        let error = "sorry".parse::<WhenEmpty>().unwrap_err();
        assert!(error.contains("drop, reset"), "{error}");
    }
}
