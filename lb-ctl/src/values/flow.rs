//! A flow as text: `tcp 198.51.100.7:40000 -> 10.0.0.1:80`.

use std::{fmt, net::SocketAddr, str::FromStr};

use lb_model::vip::Protocol;

/// A flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The client. It has the same family as [`Self::destination`].
    pub source: SocketAddr,
    /// The VIP.
    pub destination: SocketAddr,
}

/// The form of a flow.
const FORM: &str = "write a flow as PROTOCOL SOURCE -> DESTINATION, for example \
    \"tcp 198.51.100.7:40000 -> 10.0.0.1:80\" or \"udp [2001:db8::7]:5000 -> [2001:db8::1]:53\"";

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} -> {}",
            self.protocol, self.source, self.destination
        )
    }
}

impl FromStr for Flow {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (protocol, ends) = text.trim().split_once(char::is_whitespace).ok_or(FORM)?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            other => {
                return Err(format!(
                    "`{other}`: the protocol must be tcp, udp or sctp; {FORM}"
                ));
            }
        };
        let (source, destination) = ends.split_once("->").ok_or(FORM)?;
        let end = |text: &str| -> Result<SocketAddr, String> {
            text.trim()
                .parse()
                .map_err(|_| format!("`{}` is not an address with a port; {FORM}", text.trim()))
        };
        let (source, destination) = (end(source)?, end(destination)?);
        if source.is_ipv4() != destination.is_ipv4() {
            return Err(format!(
                "{source} and {destination} have different families"
            ));
        }
        Ok(Flow {
            protocol,
            source,
            destination,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_flows() {
        for (text, protocol, source, destination) in [
            (
                "tcp 198.51.100.7:40000 -> 10.0.0.1:80",
                Protocol::Tcp,
                "198.51.100.7:40000",
                "10.0.0.1:80",
            ),
            (
                "udp 198.51.100.7:1->10.0.0.1:53",
                Protocol::Udp,
                "198.51.100.7:1",
                "10.0.0.1:53",
            ),
            (
                "  tcp  [2001:db8::7]:1  ->  [2001:db8::1]:443 ",
                Protocol::Tcp,
                "[2001:db8::7]:1",
                "[2001:db8::1]:443",
            ),
        ] {
            let flow = Flow {
                protocol,
                source: source.parse().unwrap(),
                destination: destination.parse().unwrap(),
            };
            assert_eq!(text.parse(), Ok(flow), "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, part) in [
            ("", "write a flow as"),
            ("tcp", "write a flow as"),
            ("tcp 198.51.100.7:1 10.0.0.1:80", "write a flow as"),
            (
                "icmp 198.51.100.7:1 -> 10.0.0.1:80",
                "must be tcp, udp or sctp",
            ),
            (
                "tcp 198.51.100.7 -> 10.0.0.1:80",
                "`198.51.100.7` is not an address with a port",
            ),
            (
                "tcp 198.51.100.7:1 -> 10.0.0.1:65536",
                "`10.0.0.1:65536` is not an address",
            ),
            (
                "tcp 198.51.100.7:1 -> [2001:db8::1]:80",
                "different families",
            ),
        ] {
            let error = text.parse::<Flow>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
