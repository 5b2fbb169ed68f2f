//! Networks of addresses, and names of interfaces.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;

use crate::settings::FieldError;

/// The longest name of an interface, in bytes.
const MAX_INTERFACE: usize = 15;

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

impl Network {
    /// Whether the two have an address in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.0.contains(&other.0) || other.0.contains(&self.0)
    }
}

/// Checks the name of an interface.
///
/// # Errors
/// It is none; the field has no name.
pub fn check_interface(name: &str) -> Result<(), FieldError> {
    let odd = |c: char| c.is_whitespace() || matches!(c, '/' | ':' | '\0');
    if (1..=MAX_INTERFACE).contains(&name.len()) && !name.contains(odd) {
        return Ok(());
    }
    let advice =
        "not the name of an interface; it has 1 to 15 characters, none of them a space, / or :";
    Err(FieldError::new("", format!("{name:?}"), advice))
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

crate::text_setting!(Network, "ADDRESS/LENGTH");
