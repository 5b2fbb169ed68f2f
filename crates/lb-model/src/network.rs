//! Networks of addresses.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;

/// A network, `ADDRESS/LENGTH`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(pub IpNet);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(network) = text.parse::<IpNet>() {
            return Ok(Network(network.trunc()));
        }
        text.parse::<IpAddr>()
            .map(|address| Network(address.into()))
            .map_err(|_| "give ADDRESS/LENGTH, such as 10.0.0.0/8, or one address".to_owned())
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

crate::text_setting!(Network, "ADDRESS/LENGTH");
