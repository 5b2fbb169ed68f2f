//! What happens to packets for a VIP while all of its reals are down.

use std::{fmt, str::FromStr};

use crate::vip::VipKey;

/// What happens to packets for a VIP while all of its reals are down. Written `drop`, `reset`, or as a VIP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenEmpty {
    /// They are dropped.
    #[default]
    Drop,
    /// TCP is answered with a reset, everything else is dropped.
    Reset,
    /// The reals of this VIP serve them.
    Fallback(VipKey),
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
                "give drop, reset, or the VIP whose reals stand in, such as 10.0.0.2:80/tcp"
                    .to_owned()
            }),
        }
    }
}

crate::text_setting!(WhenEmpty, "`drop`, `reset` or a VIP");

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
