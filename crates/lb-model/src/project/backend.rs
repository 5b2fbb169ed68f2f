//! The servers behind a load balancer.

use std::{fmt, net::IpAddr, str::FromStr};

use lb_common::limits::MAX_WEIGHT;

use crate::{
    dns::{MAX_DOMAIN, MAX_LABEL},
    intent::DEFAULT_WEIGHT,
    vip::check_unicast,
};

/// The address of a server, or its name in DNS.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostName {
    /// An address.
    Address(IpAddr),
    /// A name, in lower case and without a final dot.
    Name(String),
}

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return match check_unicast(address) {
                Ok(()) => Ok(HostName::Address(address)),
                Err(error) => Err(error.to_string()),
            };
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let is_label = |label: &str| {
            (1..=MAX_LABEL).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // The last label of a name is no number (RFC 3696); 10.0.0.256 is a mistake.
        let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
        let fits = name.len() <= MAX_DOMAIN
            && name.split('.').all(is_label)
            && !name.rsplit('.').next().is_some_and(is_number);
        if fits {
            Ok(HostName::Name(name))
        } else {
            Err(
                "neither an address nor a name; give one such as 10.0.0.7 or web.example.com"
                    .to_owned(),
            )
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostName::Address(address) => address.fmt(f),
            HostName::Name(name) => f.pad(name),
        }
    }
}

impl HostName {
    /// Splits `HOST`, `HOST:PORT` or `[ADDRESS]:PORT` into the text of the host and the port. The host is not checked.
    #[must_use]
    pub fn split_port(text: &str) -> (&str, Option<u16>) {
        let is_whole = text.parse::<HostName>().is_ok();
        let parts = text.rsplit_once(':').filter(|_| !is_whole);
        match parts.and_then(|(host, port)| Some((host, port.parse().ok()?))) {
            Some((host, port)) => {
                let inner = host
                    .strip_prefix('[')
                    .and_then(|host| host.strip_suffix(']'));
                (inner.unwrap_or(host), Some(port))
            }
            None => (text, None),
        }
    }

    /// The host with a port, as in a URL.
    #[must_use]
    pub fn with_port(&self, port: u16) -> String {
        match self {
            HostName::Address(IpAddr::V6(address)) => format!("[{address}]:{port}"),
            host => format!("{host}:{port}"),
        }
    }
}

crate::text_setting!(HostName, "address or name");

crate::settings! {
    /// A server behind a load balancer.
    #[derive(Eq)]
    pub struct Backend {
        /// Its address, or its name in DNS, whose addresses all count; they are looked up again when their time to live is over.
        address: HostName;
        /// Its port. Default: `backend_port` of the load balancer.
        port: Option<u16> = None, 1..=65_535;
        /// Share of the traffic relative to the other backends.
        weight: u32 = DEFAULT_WEIGHT, 0..=MAX_WEIGHT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_addresses_or_names() {
        for (text, read) in [
            ("10.0.0.7", "10.0.0.7"),
            ("2001:db8::7", "2001:db8::7"),
            ("Web.Example.com.", "web.example.com"),
            ("db_1", "db_1"),
            ("1a.2b", "1a.2b"),
        ] {
            assert_eq!(text.parse::<HostName>().unwrap().to_string(), read);
        }
        for bad in [
            "",
            ".",
            "10.0.0.256",
            "a..b",
            "-a",
            "a-",
            "a b",
            "a/b",
            "a:80",
            "224.0.0.1",
            "0.0.0.0",
        ] {
            assert!(bad.parse::<HostName>().is_err(), "{bad}");
        }
        let six: HostName = "2001:db8::7".parse().unwrap();
        assert_eq!(six.with_port(80), "[2001:db8::7]:80");
    }
}
